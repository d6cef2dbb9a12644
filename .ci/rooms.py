#!/usr/bin/env python3
"""The rooms of src/, who uses whom, and that nobody uses himself by a detour: `make rooms`, and first in `make test`.

A room is a folder or file at the top of src/; src/exact, src/kernels and src/libtorch are packages, and rooms to the others. They are
printed by floor, the top one first, each with the rooms it uses and how many arrows lead there. An arrow goes from a file
that names something to the file that defines it, through every `use` on the way; a mod.rs that only declares its children
and passes on what they define has none. Exit status 1 where rooms, or files and folders inside one, use each other in a
circle: its arrows are listed, with the names. Left out: comments, strings, tests. Not seen: calls of methods (but their
type is named somewhere). Sources are read as rustfmt leaves them.
"""
import re
import sys
from collections import defaultdict
from pathlib import Path

SRC = Path(__file__).resolve().parent.parent / "src"
PACKAGES = {"outskirt_exact": "exact", "outskirt_kernels": "kernels", "outskirt_libtorch": "libtorch"}
TEXT = re.compile(r"""//[^\n]*|/\*.*?\*/|\bb?r(\#*)".*?"\1|b?"(?:\\.|[^"\\])*"|b?'(?:\\.[^'\n]*|[^'\\\n])'""", re.S)
TESTS = re.compile(r"^( *)#\[cfg\((?:all\()?test\b[^\n]*\n(?:\1#[^\n]*\n)*\1(?:[^\n]*;|.*?\n\1[\])}]+;?)$", re.S | re.M)
INLINE = re.compile(r"^( *)(?:pub[^\n]*)?mod \w+ \{\n.*?\n\1\}$", re.S | re.M)
USE = re.compile(r"\b(pub(?:\([^)]*\))? )?use ([\w\s:{},*]+);")  # not an element of that name in a page
NAME = re.compile(r"(?<![.\w])(?<!::)(?<!fn )([A-Za-z]\w*(?:::[A-Za-z]\w*)*)(\(?)")


def imports(tree):
    """`a::{b, c as d}` as (b, a::b), (d, a::c)."""
    while "{" in tree:
        tree = re.sub(r"((?:\w+::)*)\{([^{}]*)\}", lambda found: ",".join(
            found[1] + part.strip() for part in found[2].split(",") if part.strip()), tree)
    for part in tree.split(","):
        path, _, name = part.strip().partition(" as ")
        path = tuple(path.removesuffix("::self").split("::"))
        yield name or path[-1], path


class File:
    """One file: its child modules, the paths that it brings in and those that it names. Inline modules are part of it."""

    def __init__(self, place, path):
        text = place.read_text(encoding="utf-8")
        self.place, self.path, self.lines, self.named = place, path, text.count("\n"), []
        self.about = (re.findall(r"^//! #? ?(.*)", text, re.M) + [""])[0].split(". ")[0].strip(" .:")
        text = TESTS.sub("", TEXT.sub("", text))
        text = INLINE.sub(lambda module: re.sub(r"(?<!::)\bsuper::", "self::", module[0]), text)
        self.children, self.bound = re.findall(r"\bmod (\w+);", text), {}
        for use in USE.finditer(text):  # what is passed on (`pub use`) counts where the rest of the file names it
            brought = {name: self.absolute(where) for name, where in imports(use[2]) if where != ("self", name)}
            self.bound.update(brought)
            self.named += [] if use[1] else brought.values()
        for name, called in NAME.findall(USE.sub("", text)):
            if called or "::" in name or name[0].isupper():
                self.named.append(self.absolute(tuple(name.split("::"))))

    def absolute(self, where):
        """A path from the top. One that begins with none of `crate`, … lies in this file, until `defined` looks."""
        where = ("crate", PACKAGES[where[0]]) + where[1:] if where[0] in PACKAGES else where
        at = () if where[0] in ("crate", "outskirt") else self.path
        while where and where[0] in ("crate", "outskirt", "self", "super"):
            at, where = at[:-1] if where[0] == "super" else at, where[1:]
        return at + where


class Package:
    """A crate's files by the paths of their modules, and its arrows: (from, to) → names."""

    def __init__(self, folder, others=()):
        self.files, self.arrows = {}, defaultdict(set)
        self.load(folder / "lib.rs", ())
        if (folder / "main.rs").exists():
            self.files[("main",)] = File(folder / "main.rs", ("main",))
            self.files[()].children.append("main")
        for room in others:  # what is inside another package is looked at by itself
            self.files[(room,)] = other = File(folder / room / "lib.rs", (room,))
            other.children, other.bound, other.named = [], {}, []
            self.files[()].children.append(room)
        for file in self.files.values():
            for to, name in (self.defined((), where) for where in file.named):
                if name and to != file.path:
                    self.arrows[file.path, to].add(name)

    def load(self, place, path):
        self.files[path] = File(place, path)
        for child in self.files[path].children:
            alone = place.with_name(f"{child}.rs")
            self.load(alone if alone.exists() else place.with_name(child) / "mod.rs", (*path, child))

    def defined(self, at, where):
        """The file that defines what a path names, and the name there; no name: a module, or not ours."""
        while where:
            file, name = self.files[at], where[0]
            if name in file.bound and (len(where) == 1 or name not in file.children):
                brought = file.bound[name]
                head = brought[len(at)] if brought[:len(at)] == at and len(brought) > len(at) else None
                foreign = head and head not in file.children and (head == name or head not in file.bound)
                return (at, None) if foreign else self.defined((), brought + where[1:])
            if name not in file.children:
                return at, name
            at, where = at + (name,), where[1:]
        return at, None

    def inside(self, folder):
        """The arrows between what lies in one folder: (from, to) → [(file, file, names)]."""
        within, depth = defaultdict(list), len(folder)
        for (a, b), names in sorted(self.arrows.items()):
            ends = tuple((path + ("mod.rs",))[depth] for path in (a, b) if path[:depth] == folder)
            if len(set(ends)) == 2:
                within[ends].append((self.files[a].place, self.files[b].place, ", ".join(sorted(names))))
        return within


def circles(arrows):
    """The sets of nodes that reach each other."""
    below = {a: {b for start, b in arrows if start == a} for pair in arrows for a in pair}
    for middle, a in ((middle, a) for middle in below for a in below):
        below[a] |= below[middle] if middle in below[a] else set()
    return sorted({tuple(sorted(b for b in below[a] if a in below[b])) for a in below if a in below[a]})


def show(house, packages):
    arrows, level = house.inside(()), {path[0]: 0 for path in house.files if path}
    rings = circles(arrows)
    for _ in list(level):
        for a, b in arrows:
            level[a] = level[a] if any({a, b} <= set(ring) for ring in rings) else max(level[a], level[b] + 1)
    for room in sorted(level, key=lambda room: (-level[room], room)):
        all_files = packages[room].files.items() if room in packages else house.files.items()
        files = [file for path, file in all_files if room in packages or path[:1] == (room,)]
        uses = sorted((-len(found), b) for (a, b), found in arrows.items() if a == room)
        print(f"{level[room]}  {room}: {files[0].about}\n     {len(files)} files, {sum(file.lines for file in files):,} lines;",
              "uses", ", ".join(f"{b} {-count}" for count, b in uses) or "no other")


def main():
    packages, failed = {room: Package(SRC / room) for room in PACKAGES.values()}, 0
    house = Package(SRC, packages)
    show(house, packages)
    for package in [house, *packages.values()]:
        for folder in sorted({path[:depth] for path in package.files for depth in range(len(path) + 1)}):
            for ring in circles(arrows := package.inside(folder)):
                failed += 1
                print(f"\ncircle in src/{package.files[folder].place.parent.relative_to(SRC)}: {', '.join(ring)}")
                for source, to, names in sum((found for pair, found in arrows.items() if set(pair) <= set(ring)), []):
                    print(f"  {source.relative_to(SRC)} → {to.relative_to(SRC)}: {names}")
    print(f"\n{failed or 'no'} circles among rooms, files and folders")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
