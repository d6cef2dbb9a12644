#!/usr/bin/env python3
"""Chosen faults, put in one after the other: `make mutants`. Each must make a test fail.

A mutant is a file, a text in it that stands there once, what it becomes, and the tests that should see it. The checkout is
copied first and stays as it is. Those of the package `exact` take some seconds each, the others a build of the program.

    python3 tests/mutants.py [--target FOLDER] [WORD …]     only those whose description has one of the words
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXACT = ["-p", "outskirt-exact", "--lib"]
LIB = ["--lib"]
SUITE = ["--test", "suite"]

# description, file under src/, text, what it becomes, where its tests are, their names
MUTANTS = [
    ("exact: estimate 1/20 of its slack", "exact/slack.rs", "Path::Avx512Vnni => centroid + ESTIMATE * U,", "Path::Avx512Vnni => (centroid + ESTIMATE * U) / 20.0,", EXACT, "slack"),
    ("exact: estimate half its slack", "exact/slack.rs", "Path::Avx512Vnni => centroid + ESTIMATE * U,", "Path::Avx512Vnni => (centroid + ESTIMATE * U) / 2.0,", EXACT, "slack"),
    ("exact: norms half their slack", "exact/slack.rs", "2.0 * product + 4.0 * NORM +", "2.0 * product + 2.0 * NORM +", EXACT, "slack"),
    ("exact: no slack of a tail", "exact/slack.rs", "tail: up(centroid + TAIL * U),", "tail: 0.0,", EXACT, "slack"),
    ("exact: tail 0.6 of its slack", "exact/slack.rs", "tail: up(centroid + TAIL * U),", "tail: up(0.6 * (centroid + TAIL * U)),", EXACT, "slack"),
    ("exact: limit 1 % too small where cells are left out", "exact/search.rs", "let (least, most) = ((cell.low - tau)", "let tau = tau * 0.99;\n        let (least, most) = ((cell.low - tau)", EXACT, ""),
    ("exact: limit 1 % too small where rows are left out", "exact/scan/avx512.rs", "let tau = best.tau();", "let tau = best.tau() * 0.99;", EXACT, ""),
    ("exact: centroid 0.7 of its slack", "exact/slack.rs", "centroid: up(centroid),", "centroid: up(centroid * 0.7),", EXACT, "slack"),
    ("exact: head 0.75 of its slack", "exact/slack.rs", "head: up(2.0 * projection + HEAD * U),", "head: up(0.75 * (2.0 * projection + HEAD * U)),", EXACT, "slack"),
    ("exact: no slack of the head in products", "exact/slack.rs", "self.head * (y + z) + self.defect", "0.0 * self.head * (y + z) + self.defect", EXACT, "slack"),
    ("exact: defect 1/5 of its slack", "exact/slack.rs", "defect: up(defect.unwrap_or(0.0)),", "defect: up(0.2 * defect.unwrap_or(0.0)),", EXACT, "slack"),
    ("exact: distance 0.9 of its slack", "exact/slack.rs", "distance: up(gamma(distance_roundings(path, d)) + EVALUATION * U),", "distance: up(0.9 * (gamma(distance_roundings(path, d)) + EVALUATION * U)),", EXACT, "slack"),
    ("exact: window of one error", "exact/search.rs", "let window = 2.0 * best.error;", "let window = 1.0 * best.error;", EXACT, ""),
    ("exact: floor a third of its slack", "exact/best.rs", "c * c * (1.0 - error)", "c * c * (1.0 - 0.3 * error)", EXACT, ""),
    ("exact: ceiling a third of its slack", "exact/best.rs", "beyond * beyond * (1.0 + error)", "beyond * beyond * (1.0 + 0.3 * error)", EXACT, ""),
    ("exact: radius a third of its slack", "exact/slack.rs", "pub(crate) const RADIUS: f32 = 6.0", "pub(crate) const RADIUS: f32 = 2.0", EXACT, "slack"),
    ("exact: no slack of three sums", "exact/slack.rs", "const SUM_OF_THREE: f64 = 6.0;", "const SUM_OF_THREE: f64 = 0.0;", EXACT, "slack"),
    ("exact: no slack of the head's parts", "exact/slack.rs", "const HEAD: f64 = 4.0 + 4.0 + 8.0 + 16.0;", "const HEAD: f64 = 0.0;", EXACT, "slack"),
    ("exact: no slack of estimates' parts", "exact/slack.rs", "const ESTIMATE: f64 = 2.0 + 4.0 + 4.0 + 6.0;", "const ESTIMATE: f64 = 0.0;", EXACT, "slack"),
    ("exact: codes' norms without headroom", "exact/slack.rs", "(1.0 - HEADROOM * gamma(code_roundings(lines) + 2.0)) as f32", "(1.0 - 0.0 * HEADROOM * gamma(code_roundings(lines) + 2.0)) as f32", EXACT, "slack"),
    ("thresholds: halves round up", "statistics/thresholds.rs", ".round_ties_even()", ".round()", LIB, "thresholds"),
    ("thresholds: all may lie above", "statistics/thresholds.rs", "above.min(n.saturating_sub(1))", "above.min(n)", LIB, "thresholds"),
    ("thresholds: p-values leave ties out", "statistics/thresholds.rs", "|&calibration| calibration < score", "|&calibration| calibration <= score", LIB, "thresholds"),
    ("thresholds: limits of p-values not strict", "statistics/thresholds.rs", "if strictly { value < p } else { value <= p }", "value <= p", LIB, "thresholds"),
    ("thresholds: Benjamini-Hochberg from the first", "statistics/thresholds.rs", "enumerate().rev().find(held)", "enumerate().find(held)", LIB, "thresholds"),
    ("metrics: FPR counts ties", "statistics/metrics.rs", "score < threshold", "score <= threshold", LIB, "metrics"),
    ("metrics: ties one by one", "statistics/metrics.rs", "scores.chunk_by(|a, b| a.0 == b.0)", "scores.chunks(1)", LIB, "metrics"),
    ("metrics: precision 1 where nothing is accepted", "statistics/metrics.rs", "if tp + fp > 0.0 { tp / (tp + fp) } else { 0.0 }", "if tp + fp > 0.0 { tp / (tp + fp) } else { 1.0 }", LIB, "metrics"),
    ("planner: a bound rounded up", "sql/planner/bounds.rs", "if f64::from(rounded) <= c { rounded } else { rounded.next_down() }", "rounded", LIB, "bounds"),
    ("planner: >= taken for >", "sql/planner/bounds.rs", "if f64::from(rounded) < c { rounded } else { rounded.next_down() }", "rounded", LIB, "bounds"),
    ("planner: the wider of two bounds", "sql/planner/bounds.rs", "lower: self.lower.max(other.lower)", "lower: self.lower.min(other.lower)", LIB, "bounds"),
    ("sidecar: any checksum", "index/sidecar.rs", "if checksum(path)? != found.checksum {", "if false {", LIB, "sidecar"),
    ("sidecar: any bank", "index/sidecar.rs", "}) != *wanted {", "}) != *wanted && false {", LIB, "sidecar"),
    ("sidecar: any format", "index/sidecar.rs", "if found.format != FORMAT {", "if false {", LIB, "sidecar"),
    ("refresh: changed rows are not seen", "bank/changes.rs", "(Some(before), Some(now)) if before != now =>", "(Some(before), Some(now)) if before != now && false =>", SUITE, "refresh::"),
    ("refresh: removed rows are not seen", "bank/changes.rs", "touched.extend(ids(store, &old_fragments, None).await?.difference(&there));", "", SUITE, "refresh::"),
    ("refresh: versions of one chain only", "bank/changes.rs", "false => \"true\".into(),", "false => format!(\"_row_last_updated_at_version > {}\", from.follows()),", SUITE, "history:: follow:: refresh::"),
    ("refresh: a bank below k", "bank/refresh.rs", "if bank.row_count < bank.k {", "if false {", SUITE, "refresh:: follow::"),
    ("refresh: files are never made anew", "bank/refresh.rs", "None => true,", "None => false,", SUITE, "refresh:: upkeep::"),
    ("migration: any record", "store/migrate.rs", "Some(found) if *found != known.checksum() => {", "Some(found) if *found != known.checksum() && false => {", SUITE, "migrations::"),
    ("migration: a newer schema", "store/migrate.rs", "if found > NEWEST {", "if false {", SUITE, "refusals::a_database_of_a_newer"),
    ("ids: restored versions forget the largest", "store/change.rs", "let mut largest = self.largest_id_before_restores().await?;", "let mut largest = 0;", SUITE, "history::"),
    ("history: undo takes the same change twice", "curate/undo.rs", "Some(version) => at = version,", "Some(_) => at = event.before,", LIB, "undo"),
    ("identity: deletions are forgotten", "ingest/known.rs", "if self.deleted.contains(&(uri, content)) {", "if false {", SUITE, "identity::"),
    ("identity: links are other images", "image/source/real.rs", "let real = fs::canonicalize(folder).unwrap_or_else(|_| folder.into());", "let real = folder.to_path_buf();", LIB, "real"),
    ("planner: keys stay expressions", "sql/planner/keys.rs", "if !is_refused(key) {", "if true {", SUITE, "slt"),
]

# killed by no test, and why that is no missing test
NAMED = {}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--target", help="build folder; of the checkout's own where it is left out")
    arguments.add_argument("words", nargs="*")
    given = arguments.parse_args()
    target = given.target or os.environ.get("CARGO_TARGET_DIR") or ROOT / "target"
    environment = dict(os.environ, CARGO_TARGET_DIR=str(Path(target).resolve()), RUST_BACKTRACE="0")
    if (ROOT / ".deps").is_dir():
        environment.setdefault("PROTOC", str(ROOT / ".deps/bin/protoc"))
        environment.setdefault("LIBTORCH", str(ROOT / ".deps/libtorch"))
    chosen = [mutant for mutant in MUTANTS if not given.words or any(word in mutant[0] for word in given.words)]
    survived = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "checkout"
        shutil.copytree(ROOT, copy, symlinks=True, ignore=shutil.ignore_patterns(".git", "target", "outskirt-demo", ".deps"))
        (copy / ".deps").symlink_to(ROOT / ".deps")
        for name, file, text, becomes, place, tests in chosen:
            path = copy / "src" / file
            source = path.read_text(encoding="utf-8")
            if source.count(text) != 1:
                sys.exit(f"{name}: '{text}' stands {source.count(text)} times in src/{file}, and should once")
            path.write_text(source.replace(text, becomes), encoding="utf-8")
            command = ["cargo", "test", "--locked", *place, "--", *tests.split()]
            done = subprocess.run(command, cwd=copy, env=environment, text=True, capture_output=True, check=False)
            path.write_text(source, encoding="utf-8")
            output = done.stdout + done.stderr
            failed = re.findall(r"^test (\S+) \.\.\. FAILED", output, re.M)
            if "could not compile" in output:
                sys.exit(f"{name}: it does not compile\n{output[-2000:]}")
            if done.returncode == 0:
                survived.append(name)
            seen = f"killed by {len(failed)}: {failed[0] if failed else 'the process'}" if done.returncode else "SURVIVED"
            print(f"{name}: {seen}", flush=True)
    unnamed = [name for name in survived if name not in NAMED]
    print(f"{len(chosen) - len(survived)} of {len(chosen)} killed")
    return bool(unnamed)


if __name__ == "__main__":
    sys.exit(main())
