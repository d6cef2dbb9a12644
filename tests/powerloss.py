#!/usr/bin/env python3
"""What a power cut leaves of every command that writes: `make powerloss` (needs strace).

Each command runs once under strace on a copy of a small database. After every call that changed a name, wrote or synced, the
database is put together as a cut at that moment may leave it, in three ways:

    in order   all that was done so far is there: what a kill leaves
    torn       all names are there, and files that were not synced are empty
    synced     names whose folder was not synced are as they were, and files that were not synced are empty

Each such database must pass `outskirt verify` and hold the images and columns of before or of after; one in which the command
has ended, those of after. Exit status 1 where it does not.

    python3 tests/powerloss.py PROGRAM [WORD …]     only commands that have one of the words
"""
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CALLS = "openat,creat,open,write,pwrite64,writev,pwritev,ftruncate,rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir,mkdir,mkdirat,fsync,fdatasync"
QUERY = "SELECT id, dataset, split, uri, label, content_hash FROM images ORDER BY id"


def run(program, db, *arguments, check=True):
    done = subprocess.run([program, "--db", str(db), *arguments], capture_output=True, text=True, check=False)
    if check and done.returncode:
        sys.exit(f"{' '.join(arguments)}: {done.stderr}")
    return done


def calls(text):
    """The calls of a trace in the order in which they ended: name and arguments."""
    begun = {}
    for line in text.splitlines():
        found = re.match(r"(\d+) +(.*)", line)
        process, call = found[1], found[2]
        if call.endswith("<unfinished ...>"):
            begun[process] = call.removesuffix("<unfinished ...>").rstrip()
            continue
        resumed = re.match(r"<\.\.\. \w+ resumed>(.*)", call)
        if resumed:
            call = begun.pop(process, "") + resumed[1]
        found = re.match(r"(\w+)\((.*)\) += (-?\d+)", call)
        if found and int(found[3]) >= 0:
            yield found[1], found[2]


class Disk:
    """Names and what became of their files. A file is a list: its content's age, whether that is synced, its last name."""

    def __init__(self, root):
        self.root = str(root)
        files = [path for path in root.rglob("*")]
        self.now = {str(path): ["old", True, str(path)] if path.is_file() else "folder" for path in files}
        self.now[self.root] = "folder"
        self.synced = dict(self.now)
        self.made = set()

    def inside(self, path):
        return path.startswith(self.root + "/")

    def step(self, call, arguments):
        """Take a call; whether it changed anything."""
        paths = [path for path in re.findall(r'"((?:[^"\\]|\\.)*)"', arguments)]
        opened = re.match(r"\d+<([^>]*)>", arguments)
        if call in ("openat", "open", "creat"):
            path = paths[0]
            if not self.inside(path) or "O_CREAT" not in arguments and "O_TRUNC" not in arguments or path in self.now:
                return False
            self.now[path] = ["new", False, path]
        elif call in ("write", "pwrite64", "writev", "pwritev", "ftruncate"):
            file = self.now.get(opened[1]) if opened else None
            if not isinstance(file, list):
                return False
            was = list(file)
            file[:2] = ["new", False]
            return was != file
        elif call in ("fsync", "fdatasync"):
            path = opened[1]
            if path != self.root and not self.inside(path):
                return False
            if isinstance(self.now.get(path), list):
                self.now[path][1] = True
                return True
            # the names of a folder
            for name in [name for name in self.synced if os.path.dirname(name) == path and name not in self.now]:
                del self.synced[name]
            for name, file in self.now.items():
                if os.path.dirname(name) == path:
                    self.synced[name] = file
        elif call.startswith("rename"):
            if not self.inside(paths[0]):
                return False
            self.now[paths[1]] = self.now.pop(paths[0])
            self.call_last(paths[1])
        elif call.startswith("link"):
            if not self.inside(paths[1]):
                return False
            self.now[paths[1]] = self.now[paths[0]]
            self.call_last(paths[1])
        elif call.startswith("unlink") or call == "rmdir":
            return self.now.pop(paths[0], None) is not None
        elif call.startswith("mkdir"):
            if not self.inside(paths[0]):
                return False
            self.now.setdefault(paths[0], "folder")
        else:
            return False
        return True

    def call_last(self, path):
        if self.now[path][0] == "new":
            self.now[path][2] = path

    def left(self, way):
        """What a cut leaves: by path, `folder`, `empty`, or the age of its content and the name that this has in the end."""
        names = self.now if way != "synced" else self.synced
        left = {}
        for name, file in names.items():
            parent = os.path.dirname(name)
            if name != self.root and way == "synced" and parent != self.root and parent not in names:
                continue
            if file == "folder":
                left[name] = "folder"
            else:
                age, is_synced, last = file
                left[name] = f"{age}:{last}" if is_synced or way == "in order" else "empty"
        return left


def rebuild(left, root, before, after, to):
    shutil.rmtree(to, ignore_errors=True)
    for name in sorted(left):
        place = to / os.path.relpath(name, root)
        if left[name] == "folder":
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if left[name] == "empty":
            place.touch()
            continue
        age, last = left[name].split(":", 1)
        source = (after if age == "new" else before) / os.path.relpath(last, root)
        if not source.is_file():
            place.touch()
        else:
            shutil.copyfile(source, place)


def content(db):
    """What tells two databases apart: names and bytes."""
    digest = hashlib.sha256()
    for path in sorted(db.rglob("*")):
        digest.update(f"{path.relative_to(db)}\0{path.is_file()}\0".encode())
        if path.is_file():
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.digest()


def state(program, db):
    done = run(program, db, "sql", QUERY, "--format", "csv", check=False)
    return done.stdout if done.returncode == 0 else f"error: {done.stderr}"


def cut(program, name, command, base, folder):
    """All cuts of a command; how many were looked at, and what was wrong."""
    db = folder / "traced.db"
    shutil.rmtree(db, ignore_errors=True)
    shutil.copytree(base, db)
    before = state(program, db)
    disk, trace = Disk(db), folder / "trace"
    # what it removes stays, so that there is something to put together
    kept = "inject=unlink,unlinkat,rmdir:retval=0"
    traced = ["strace", "-f", "-y", "-s", "4096", "-e", f"trace={CALLS}", "-e", kept, "-o", str(trace), program, "--db", str(db), *command]
    done = subprocess.run(traced, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name}: {done.stderr}")
    after = state(program, db)
    seen, wrong, looked = {}, [], 0
    moments = [call for call in calls(trace.read_text(encoding="utf-8", errors="replace"))]
    for place, (call, arguments) in enumerate(moments):
        if disk.step(call, arguments):
            for way in ("in order", "torn", "synced"):
                left = disk.left(way)
                seen.setdefault(tuple(sorted(left.items())), (place, way, left))
    ended = tuple(sorted(disk.left("synced").items()))
    seen.setdefault(ended, (len(moments), "synced", disk.left("synced")))
    tried = set()
    for key, (place, way, left) in seen.items():
        again = folder / "cut.db"
        rebuild(left, db, base, db, again)
        # files whose bytes did not change make no other state
        known = (content(again), key == ended)
        if known in tried:
            continue
        tried.add(known)
        looked += 1
        found = state(program, again)
        checked = run(program, again, "verify", check=False)
        if checked.returncode:
            # what is derived may be missing or cut, and is made anew
            run(program, again, "verify", "--repair", check=False)
            checked = run(program, again, "verify", check=False)
        call = f"{moments[place][0]}({moments[place][1][:120]})" if place < len(moments) else "its end"
        uris = found.count("\n")
        if found not in (before, after) and not (name == "ingest" and before.count("\n") <= uris <= after.count("\n")):
            wrong.append(f"{name}, {way}, after {call}: {found.splitlines()[0]} and {uris} lines")
        elif key == ended and found != after:
            wrong.append(f"{name} has ended, and a cut takes it back")
        elif checked.returncode:
            wrong.append(f"{name}, {way}, after {call}: {checked.stderr.strip()}")
    return looked, wrong


def main(program, words):
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder).resolve()
        for split, count in (("train", 40), ("val", 24), ("new", 8)):
            for at in range(count):
                place = folder / "pictures" / split / f"class{at % 3}"
                place.mkdir(parents=True, exist_ok=True)
                pixels = bytes((at * 37 + x * (1 + at % 5)) % 256 for x in range(16 * 16 * 3))
                (place / f"{at}.ppm").write_bytes(b"P6 16 16 255\n" + pixels)
        base = folder / "base.db"
        ingest = lambda split: ["ingest", str(folder / "pictures" / split), "--dataset", "d", "--split", split, "--backbone", "demo_shapes"]
        run(program, base, *ingest("train"))
        run(program, base, *ingest("val"))
        run(program, base, "bank", "create", "b", "--backbone", "demo_shapes", "--where", "split = 'train'", "--k", "3")
        run(program, base, "bank", "calibrate", "b", "--where", "split = 'val'")
        run(program, base, "sql", "UPDATE images SET split = 'gone' WHERE id % 9 = 1; DELETE FROM images WHERE id % 11 = 2")
        version = run(program, base, "sql", "SELECT max(version_before) FROM curation_log", "--format", "csv").stdout.split()[1]
        commands = {
            "ingest": ingest("new"),
            "delete": ["delete", "--where", "id % 5 = 0"],
            "update": ["sql", "UPDATE images SET label = 'x' WHERE id % 5 = 0"],
            "insert": ["sql", "INSERT INTO images (dataset, split, uri, width, height, content_hash) VALUES ('d', 's', 'u', 1, 1, 'c')"],
            "alter": ["sql", "ALTER TABLE images ADD COLUMN camera TEXT"],
            "refresh": ["bank", "refresh", "b"],
            "calibrate": ["bank", "calibrate", "b", "--where", "split = 'val'"],
            "create": ["bank", "create", "c", "--backbone", "demo_shapes", "--where", "split = 'train'", "--k", "3", "--index", "hnsw"],
            "score": ["score", "b"],
            "optimize": ["optimize"],
            "restore": ["restore", "--version", version],
            "undo": ["undo"],
            "embed": ["embed", "--backbone", "demo_shapes", "--with-logits"],
            "drop": ["bank", "drop", "b"],
            "view": ["sql", "CREATE VIEW v AS SELECT id FROM images"],
        }
        states = faults = 0
        for name, command in commands.items():
            if words and name not in words:
                continue
            looked, wrong = cut(program, name, command, base, folder)
            print(f"{name}: {looked} different states after a cut, {len(wrong)} wrong", flush=True)
            states, faults = states + looked, faults + len(wrong)
            for line in wrong[:8]:
                print(f"  {line}", flush=True)
    print(f"{states} states, {faults} wrong")
    return faults > 0


if __name__ == "__main__":
    if not shutil.which("strace"):
        sys.exit("this needs strace: apt install strace")
    sys.exit(main(str(Path(sys.argv[1]).resolve()), sys.argv[2:]))
