#!/usr/bin/env python3
"""Chosen faults, each of which must make a test fail: `make mutants`.

A mutant is an expression of the source, between « and » in a text that stands once in its file, and what it becomes. All are
built at once: a copy of the checkout has `if crate::mutant(N) { becomes } else { original }` in each place, and the variable
OUTSKIRT_MUTANT chooses one for the tests that should see it (programs that tests start inherit it). The copy is kept in the
target folder, so that a second run compiles what changed.

    python3 tests/mutants.py [--target FOLDER] [--all] [WORD …]

Only those whose description has one of the words; `--all` runs all tests of the library beside a mutant's own.
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXACT, LIB, SUITE = "exact", "lib", "suite"
# a mutant may never end
LONGEST = 600
SWITCH = """
/// Whether this fault was asked for.
#[inline(always)]
pub(crate) fn mutant(number: usize) -> bool {
    static CHOSEN: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *CHOSEN.get_or_init(|| {
        std::env::var("OUTSKIRT_MUTANT").ok().and_then(|text| text.parse().ok()).unwrap_or(usize::MAX)
    }) == number
}
"""

# description, file under src/, text with the expression, what it becomes, where its tests are, their names
MUTANTS = [
    ("exact: estimate 1/20 of its slack", "exact/slack.rs", "Path::Avx512Vnni => «centroid + ESTIMATE * U»,", "(centroid + ESTIMATE * U) / 20.0", EXACT, "slack"),
    ("exact: estimate half its slack", "exact/slack.rs", "Path::Avx512Vnni => «centroid + ESTIMATE * U»,", "(centroid + ESTIMATE * U) / 2.0", EXACT, "slack"),
    ("exact: norms half their slack", "exact/slack.rs", "2.0 * product + «4.0 * NORM» +", "2.0 * NORM", EXACT, "slack"),
    ("exact: no slack of a tail", "exact/slack.rs", "tail: up(«centroid + TAIL * U»),", "0.0", EXACT, "slack"),
    ("exact: tail 0.6 of its slack", "exact/slack.rs", "tail: up(«centroid + TAIL * U»),", "0.6 * (centroid + TAIL * U)", EXACT, "slack"),
    ("exact: limit 1 % too small where cells are left out", "exact/search.rs", "let (least, most) = «((cell.low - tau).max(0.0), tau + cell.high)»;", "((cell.low - tau * 0.99).max(0.0), tau * 0.99 + cell.high)", EXACT, "slack"),
    ("exact: limit 1 % too small where rows are left out", "exact/scan/avx512.rs", "let tau = «best.tau()»;", "best.tau() * 0.99", EXACT, "slack"),
    ("exact: centroid 0.7 of its slack", "exact/slack.rs", "centroid: up(«centroid»),", "centroid * 0.7", EXACT, "slack"),
    ("exact: head 0.75 of its slack", "exact/slack.rs", "head: up(«2.0 * projection + HEAD * U»),", "0.75 * (2.0 * projection + HEAD * U)", EXACT, "slack"),
    ("exact: no slack of the head in products", "exact/slack.rs", "«self.head * (y + z)» + self.defect", "0.0", EXACT, "slack"),
    ("exact: defect 1/5 of its slack", "exact/slack.rs", "defect: up(«defect.unwrap_or(0.0)»),", "0.2 * defect.unwrap_or(0.0)", EXACT, "slack"),
    ("exact: distance 0.9 of its slack", "exact/slack.rs", "distance: up(«gamma(distance_roundings(path, d)) + EVALUATION * U»),", "0.9 * (gamma(distance_roundings(path, d)) + EVALUATION * U)", EXACT, "slack"),
    ("exact: window of one error", "exact/search.rs", "let window = «2.0 * best.error»;", "best.error", EXACT, "slack"),
    ("exact: floor a third of its slack", "exact/best.rs", "c * c * (1.0 - «error»)", "0.3 * error", EXACT, "slack"),
    ("exact: ceiling a third of its slack", "exact/best.rs", "beyond * beyond * (1.0 + «error»)", "0.3 * error", EXACT, "slack"),
    ("exact: radius of a cell a third of its slack", "exact/layout.rs", "low: least.sqrt() * (1.0 - «RADIUS»)", "RADIUS / 3.0", EXACT, "slack"),
    ("exact: radius of the limit a third of its slack", "exact/best.rs", "self.limit.max(0.0).sqrt() * (1.0 + «RADIUS»)", "RADIUS / 3.0", EXACT, "slack"),
    ("exact: no slack of three sums", "exact/slack.rs", "2.0 * product + «SUM_OF_THREE * U»;", "0.0", EXACT, "slack"),
    ("exact: no slack of the head's parts", "exact/slack.rs", "2.0 * projection + «HEAD» * U", "0.0", EXACT, "slack"),
    ("exact: no slack of estimates' parts", "exact/slack.rs", "centroid + «ESTIMATE» * U,", "0.0", EXACT, "slack"),
    ("exact: distances of surrogates are taken for right", "exact/slack.rs", "Metric::Euclidean => («1.0 + BALL», 0.0)", "0.0", EXACT, "blurs"),
    ("exact: inner products of surrogates are taken for right", "exact/slack.rs", "Metric::InnerProduct => (0.0, «BLUR_OF_PRODUCT»)", "0.0", EXACT, "blurs"),
    ("exact: cosines of surrogates are taken for right", "exact/slack.rs", "Metric::Cosine => («2.0», ", "0.0", EXACT, "blurs"),
    ("exact: ranges without a blur", "exact/slack.rs", "((figure + self.flat).sqrt() + «self.root»).powi(2)", "0.0", EXACT, "lookup"),
    ("exact: counts without a blur", "exact/slack.rs", "let root = (figure - self.flat).max(0.0).sqrt() - «self.root»;", "0.0", EXACT, "lookup"),
    ("exact: queries' surrogates have norms of one", "exact/scan/matrix.rs", "let half = queries.halves.as_ref().map_or(1.0, |halves| «halves[query as usize]»);", "1.0", EXACT, "lookup"),
    ("exact: a bitmap is not looked at", "exact/originals.rs", "self.allowed.is_none_or(|allowed| «allowed.contains(number.0 as usize)»)", "true", EXACT, "lookup"),
    ("exact: a wish to stop is forgotten", "exact/lookup.rs", "if «stop.seen()» { Err(Error::Cancelled) }", "false", EXACT, "lookup"),
    ("exact: queries far out are taken for near", "exact/surrogate.rs", "let is_inside = «self.metric != Metric::Euclidean || square <= 1.0»;", "true", EXACT, "lookup"),
    ("exact: codes' norms without headroom", "exact/slack.rs", "(1.0 - «HEADROOM» * gamma(code_roundings(lines) + 2.0)) as f32", "0.0", EXACT, "slack"),
    ("thresholds: halves round up", "statistics/thresholds.rs", "«(n as f64 - tpr * n as f64).round_ties_even()».max(0.0)", "(n as f64 - tpr * n as f64).round()", LIB, "thresholds"),
    ("thresholds: all may lie above", "statistics/thresholds.rs", ".max(0.0) as usize;\n    above.min(«n.saturating_sub(1)»)", "n", LIB, "thresholds"),
    ("thresholds: a rate that one score too few holds", "statistics/thresholds.rs", "«(1.0 - tpr) * n as f64 >= 1.0 - 1e-9»", "(1.0 - tpr) * (n + 1) as f64 >= 1.0 - 1e-9", LIB, "thresholds"),
    ("thresholds: a rate without its hair of room", "statistics/thresholds.rs", "(1.0 / (1.0 - tpr) - «1e-9»).ceil()", "0.0", LIB, "thresholds"),
    ("thresholds: a discovery rate without its hair of room", "statistics/thresholds.rs", "(1.0 / fdr - «1e-9»).ceil()", "0.0", LIB, "thresholds"),
    ("thresholds: p-values leave ties out", "statistics/thresholds.rs", "|&calibration| «calibration < score»", "calibration <= score", LIB, "thresholds"),
    ("thresholds: p-values can be 0", "statistics/thresholds.rs", "«(1 + ascending.len() - below)» as f64", "(ascending.len() - below)", LIB, "thresholds"),
    ("thresholds: limits of p-values not strict", "statistics/thresholds.rs", "«if strictly { value < p } else { value <= p }»", "value <= p", LIB, "thresholds"),
    ("thresholds: no score of 0 under a limit of 1", "statistics/thresholds.rs", "None => «-1.0»,", "0.0", LIB, "thresholds"),
    ("thresholds: Benjamini-Hochberg from the first", "statistics/thresholds.rs", "«ascending.iter().enumerate().rev().find(held)»", "ascending.iter().enumerate().find(held)", LIB, "thresholds"),
    ("thresholds: Benjamini-Hochberg without its hair of room", "statistics/thresholds.rs", "* (1.0 + «1e-12»)", "0.0", LIB, "thresholds"),
    ("thresholds: equal neighbours have a dimension", "statistics/thresholds.rs", "if «f64::from(nearest[0]) >= farthest» {", "false", LIB, "thresholds"),
    ("metrics: FPR counts ties", "statistics/metrics.rs", "«score < threshold»", "score <= threshold", LIB, "metrics"),
    ("metrics: ties one by one", "statistics/metrics.rs", "scores.chunk_by(|a, b| «a.0 == b.0»)", "false", LIB, "metrics"),
    ("metrics: AUROC upside down", "statistics/metrics.rs", "|&(tp, fp)| «(1.0 - tp / id, 1.0 - fp / ood)»", "(1.0 - fp / ood, 1.0 - tp / id)", LIB, "metrics"),
    ("metrics: precision 1 where nothing is accepted", "statistics/metrics.rs", "if tp + fp > 0.0 { tp / (tp + fp) } else { «0.0» }", "1.0", LIB, "metrics"),
    ("metrics: precision 1 where nothing is rejected", "statistics/metrics.rs", "if rejected > 0.0 { rejected_ood / rejected } else { «0.0» }", "1.0", LIB, "metrics"),
    ("metrics: an error of one side", "statistics/metrics.rs", "«(1.0 - tp / id + fp / ood) / 2.0»", "(1.0 - tp / id).max(fp / ood)", LIB, "metrics"),
    ("planner: a bound rounded up", "sql/planner/bounds.rs", "«if f64::from(rounded) <= c { rounded } else { rounded.next_down() }»", "rounded", LIB, "bounds"),
    ("planner: >= taken for >", "sql/planner/bounds.rs", "«if f64::from(rounded) < c { rounded } else { rounded.next_down() }»", "rounded", LIB, "bounds"),
    ("planner: the wider of two bounds", "sql/planner/bounds.rs", "lower: «self.lower.max(other.lower)»", "self.lower.min(other.lower)", LIB, "bounds"),
    ("planner: the wider of two upper bounds", "sql/planner/bounds.rs", "Some(«a.min(b)»)", "a.max(b)", LIB, "bounds"),
    ("planner: one upper bound is none", "sql/planner/bounds.rs", "(a, b) => «a.or(b)»,", "a.and(b)", LIB, "bounds"),
    ("planner: < taken for <=", "sql/planner/bounds.rs", "Self { lower: None, upper: Some(Score(«below(c)»)) }", "at_most(c)", LIB, "bounds"),
    ("planner: > taken for >=", "sql/planner/bounds.rs", "Self { lower: Some(Score(«at_most(c)»)), upper: None }", "below(c)", LIB, "bounds"),
    ("planner: a bound of -0.0", "sql/planner/bounds.rs", "(«c + 0.0») as f32", "c", LIB, "bounds"),
    ("planner: the first of an order without their ties", "sql/planner/bounds.rs", "=> «Bounds::from(f64::from(-worst))»,", "Bounds::above(f64::from(-worst))", LIB, "bounds"),
    ("planner: an order of fewer rows is bounded", "sql/planner/bounds.rs", "let full = «self.best.len() >= self.top.rows»;", "true", LIB, "bounds"),
    ("planner: keys stay expressions", "sql/planner/keys.rs", "if «!is_refused(key)» {", "true", SUITE, "slt"),
    ("sidecar: any checksum", "index/sidecar.rs", "if «checksum(path)? != found.checksum» {", "false", LIB, "sidecar"),
    ("sidecar: any bank", "index/sidecar.rs", "if «(Self { table_version: wanted.table_version, rows: wanted.rows, ..self.clone() }) != *wanted» {", "false", LIB, "sidecar"),
    ("sidecar: any format", "index/sidecar.rs", "if «found.format != FORMAT» {", "false", SUITE, "faults::a_damaged_index_is"),
    ("sidecar: any options", "index/sidecar.rs", "if «found.options != self.options» {", "false", SUITE, "faults::a_damaged_index_is"),
    ("refresh: changed rows are not seen", "bank/changes.rs", "(Some(before), Some(now)) if «before != now» =>", "false", SUITE, "refresh::a_changed"),
    ("refresh: removed rows are not seen", "bank/changes.rs", "touched.extend(«ids(store, &old_fragments, None).await?».difference(&there));", "there.clone()", SUITE, "refresh::a_bank_that_is_behind"),
    ("refresh: versions of one chain only", "bank/changes.rs", "false => «\"true\".into()»,", "format!(\"_row_last_updated_at_version > {}\", from.follows())", SUITE, "history::a_wrong_delete"),
    ("refresh: a changed row counts once", "bank/changes.rs", "«2 * self.changed.len()»", "self.changed.len()", LIB, "bank::changes"),
    ("refresh: changed rows stay in an index as they were", "bank/changes.rs", "changes.removed = «difference.removed.union(&difference.changed).copied().collect()»;", "difference.removed.iter().copied().collect()", SUITE, "refresh::a_changed"),
    ("refresh: rows that are not sampled", "bank/changes.rs", "if «is_sampled(id, bank.alpha, bank.seed)» {", "true", SUITE, "refresh::any_history"),
    ("refresh: another number of rows is taken", "bank/changes.rs", "if «difference.after != bank.row_count» {", "false", SUITE, "refresh::a_bank"),
    ("refresh: a bank below k", "bank/refresh.rs", "if «bank.row_count < bank.k» {", "false", SUITE, "refresh::a_bank_that_is_behind"),
    ("refresh: another network's embeddings", "bank/refresh.rs", "if «!columns.iter().any(|column| column.backbone == before.backbone && column.sha256 == before.sha256)» {", "false", SUITE, "refresh::a_bank_does_not_follow"),
    ("refresh: files are never made anew", "bank/refresh.rs", "None => «true»,", "false", SUITE, "refresh::an_index_file_that_is_not_there"),
    ("refresh: files are never old", "bank/refresh.rs", "=> «difference.churn() > MOST_CHURN»,", "false", SUITE, "refresh::index_files_that_a_killed"),
    ("migration: any record", "store/migrate.rs", "Some(found) if «*found != known.checksum()» => {", "false", SUITE, "migrations::a_database_that_other"),
    ("migration: a record without its checksum", "store/migrate.rs", "None if «has_checksums» =>", "false", SUITE, "migrations::a_database_that_other"),
    ("migration: another file of that number", "store/migrate.rs", "if «row.name != known.name» {", "false", SUITE, "migrations::a_database_that_other"),
    ("migration: a newer schema", "store/migrate.rs", "if «found > NEWEST» {", "false", SUITE, "refusals::a_database_of_a_newer"),
    ("migration: tables of others are removed", "store/migrate.rs", "if «!is_ours && left.is_none()» {", "false", SUITE, "refusals::files_of_a_half refusals::a_table_of"),
    ("migration: rows of others are ours", "store/migrate.rs", "None if «rows > 0» =>", "false", SUITE, "refusals::a_table_of"),
    ("migration: recorded twice", "store/migrate.rs", "if «migration.version > after» {\n            applied", "true", LIB, "migrat"),
    ("ids: restored versions forget the largest", "store/change.rs", "let (recorded, version) = «self.recorded_largest_id().await?»;", "(0, None)", SUITE, "history::an_id_given"),
    ("ids: a deleted one is given again", "store/change.rs", "largest = «largest.max(manifest.config.get(LARGEST_ID).and_then(|text| text.parse().ok()).unwrap_or(0))»;", "largest", SUITE, "history::an_id_given identity::deleted changes::"),
    ("history: undo takes the same change twice", "curate/undo.rs", "Some(version) if change.verb == UNDO => at = «version»,", "{ let _ = version; event.before }", LIB, "undo"),
    ("history: undo stops at what optimize did", "curate/undo.rs", "_ if «change.is_of_storage()» =>", "false", LIB, "undo"),
    ("lookup: changed fragments are not read again", "identity.rs", "filter(|piece| «seen.get(&piece.id) != Some(&piece.state)»)", "!seen.contains_key(&piece.id)", LIB, "identity"),
    ("lookup: rows that went stay", "identity.rs", "if «!kept.contains(&key.value())» {", "false", LIB, "identity"),
    ("lookup: folders that moved are not seen", "identity.rs", "is_some_and(|state| «state.folders_moved()»)", "false", LIB, "identity"),
    ("identity: deletions are forgotten", "ingest/known.rs", "if «self.deleted.contains(&(uri, content))» || self", "false", SUITE, "identity::deleted_images"),
    ("identity: a changed file is left alone", "ingest/known.rs", "if «row.content != content» {", "false", SUITE, "identity::a_replaced_file"),
    ("identity: links are other images", "image/source/real.rs", "let real = «fs::canonicalize(folder).unwrap_or_else(|_| folder.into())»;", "std::path::PathBuf::from(folder)", LIB, "real"),
]

# killed by no test, and why that is no missing test
NAMED = {
    "refresh: another number of rows is taken": "an index that is opened with another number of rows is refused once more (bank/exact.rs)",
}


def chosen_places(places):
    """By file: a start, an end and the mutants that stand there, innermost first."""
    spans = {}
    wrong = []
    for number, (name, file, text, becomes, _, _) in places:
        before, inside, after = re.fullmatch(r"(.*)«(.*)»(.*)", text, re.S).groups()
        source = (ROOT / "src" / file).read_text(encoding="utf-8")
        whole = before + inside + after
        if source.count(whole) != 1:
            wrong.append(f"{name}: '{whole}' stands {source.count(whole)} times in src/{file}, and should once")
            continue
        start = source.index(whole) + len(before)
        spans.setdefault(file, {}).setdefault((start, start + len(inside)), []).append((number, becomes))
    if wrong:
        sys.exit("\n".join(wrong))
    return spans


def switched(source, spans, start=0, end=None):
    """A part of a source with its mutants behind switches."""
    end = len(source) if end is None else end
    inner = [span for span in spans if start <= span[0] and span[1] <= end and span != (start, end)]
    outer = [span for span in inner if not any(other != span and other[0] <= span[0] and span[1] <= other[1] for other in inner)]
    text, at = "", start
    for span in sorted(outer):
        body = switched(source, spans, *span)
        for number, becomes in spans[span]:
            body = f"(if crate::mutant({number}) {{ {becomes} }} else {{ {body} }})"
        text += source[at:span[0]] + body
        at = span[1]
    return text + source[at:end]


def copy(copied, spans):
    """The checkout with all mutants; files that are as they were keep their time, so that cargo leaves them alone."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True, capture_output=True, check=True)
    wanted = set()
    for name in listed.stdout.splitlines():
        source, target = ROOT / name, copied / name
        if not source.is_file():
            continue
        wanted.add(target)
        content = source.read_bytes()
        file = name.removeprefix("src/")
        if file in spans:
            content = switched(content.decode(), spans[file]).encode()
        if name in ("src/lib.rs", "src/exact/lib.rs"):
            content += SWITCH.encode()
        if not target.is_file() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    for path in [path for path in copied.rglob("*") if path.is_file() and path not in wanted]:
        path.unlink()
    if (ROOT / ".deps").is_dir() and not (copied / ".deps").exists():
        (copied / ".deps").symlink_to(ROOT / ".deps")


def build(copied, environment, kinds):
    """The tests' binaries: by kind, program and folder."""
    packages = [["-p", "outskirt-exact", "--lib"]] if EXACT in kinds else []
    targets = [flag for kind, flags in ((LIB, ["--lib"]), (SUITE, ["--test", "suite"])) if kind in kinds for flag in flags]
    packages += [["-p", "outskirt", *targets]] if targets else []
    found = {}
    for package in packages:
        command = ["cargo", "test", "--locked", "--no-run", "--message-format=json", *package]
        done = subprocess.run(command, cwd=copied, env=environment, text=True, stdout=subprocess.PIPE, check=False)
        messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode:
            errors = [message["message"]["rendered"] for message in messages if message.get("message", {}).get("level") == "error"]
            sys.exit("it does not compile\n" + "\n".join(errors))
        for message in messages:
            if message.get("executable") and message["profile"]["test"]:
                kind = SUITE if "test" in message["target"]["kind"] else EXACT if "exact" in message["target"]["name"] else LIB
                found[kind] = (message["executable"], Path(message["manifest_path"]).parent)
    return found


def run(binary, names, environment):
    """Whether tests pass; a failed one, or why there is none."""
    program, folder = binary
    # what cargo would say to tests that ask
    environment = dict(environment, CARGO_MANIFEST_DIR=str(folder))
    try:
        done = subprocess.run([program, *names], cwd=folder, env=environment, text=True, capture_output=True, timeout=LONGEST, check=False)
    except subprocess.TimeoutExpired:
        return False, f"no end in {LONGEST} s"
    failed = re.findall(r"^test (\S+)(?: - should panic)? \.\.\. FAILED", done.stdout, re.M)
    if "running 0 tests" in done.stdout:
        sys.exit(f"no test is named {names}")
    return done.returncode == 0, failed[0] if failed else f"the process ended with {done.returncode}"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--target", help="build folder; of the checkout's own where it is left out")
    arguments.add_argument("--all", action="store_true", help="all tests of the library beside a mutant's own")
    arguments.add_argument("words", nargs="*")
    given = arguments.parse_args()
    target = Path(given.target or os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve()
    environment = dict(os.environ, CARGO_TARGET_DIR=str(target), RUST_BACKTRACE="0")
    environment.setdefault("RUST_MIN_STACK", "8388608")
    # a wrapper that does nothing: cargo keeps what it builds with one apart from the checkout's own
    environment["RUSTC_WORKSPACE_WRAPPER"] = shutil.which("env")
    chosen = [(number, mutant) for number, mutant in enumerate(MUTANTS) if not given.words or any(word in mutant[0] for word in given.words)]
    copied = target / "mutants"
    # all of them, whatever was chosen: the build stays the same
    copy(copied, chosen_places(list(enumerate(MUTANTS))))
    kinds = {mutant[4] for _, mutant in chosen} | ({LIB} if given.all else set())
    start = time.monotonic()
    binaries = build(copied, environment, kinds)
    print(f"built in {time.monotonic() - start:.0f} s", flush=True)
    survived = []
    for number, (name, _, _, _, kind, tests) in chosen:
        start = time.monotonic()
        mutated = dict(environment, OUTSKIRT_MUTANT=str(number))
        passes, failed = run(binaries[kind], tests.split(), mutated)
        if passes and given.all and kind != EXACT:
            passes, failed = run(binaries[LIB], [], mutated)
        if passes:
            survived.append(name)
        said = ("NAMED" if name in NAMED else "SURVIVED") if passes else f"killed by {failed}"
        print(f"{name}: {said} ({time.monotonic() - start:.0f} s)", flush=True)
    print(f"{len(chosen) - len(survived)} of {len(chosen)} killed")
    for name in survived:
        print(f"  not killed: {name}{': ' + NAMED[name] if name in NAMED else ''}")
    return any(name not in NAMED for name in survived)


if __name__ == "__main__":
    sys.exit(main())
