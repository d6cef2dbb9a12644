//! The shell, on lines that are there already: what they print, and that it goes on.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use futures::future::BoxFuture;
use outskirt::cli::{Cli, Console, Line, Lines, Names, run};
use outskirt::index::IndexKind;
use outskirt::sql::session::Session;

use super::fixture::calibrated;

/// What the shell printed: (results, everything else).
async fn shell(db: &Path, arguments: &[&str], lines: impl Lines) -> Result<(String, String), String> {
    let line = ["outskirt", "--db", db.to_str().unwrap(), "sql"].into_iter().chain(arguments.iter().copied());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let result = run(Cli::parse_from(line), &mut Console::new(&mut out, &mut err).typed(lines).on_terminal()).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    result.map(|()| (text(out), text(err))).map_err(|error| error.to_string())
}

fn typed(text: &str) -> impl Lines + use<> {
    text.lines().map(|line| Line::Text(line.to_owned())).collect::<Vec<_>>().into_iter()
}

/// Lines in CSV, without timing.
async fn plain(db: &Path, text: &str) -> (String, String) {
    let (out, err) = shell(db, &["--format", "csv"], typed(&format!("\\timing off\n{text}"))).await.unwrap();
    let notices: Vec<&str> = err.lines().skip(2).collect();
    (out, notices.join("\n"))
}

#[tokio::test]
async fn statements_end_with_a_semicolon_lines_later_or_many_in_one() {
    let folder = tempfile::tempdir().unwrap();
    calibrated(folder.path(), IndexKind::Exact).await;
    let text = "SELECT count(*) AS n -- not; here\nFROM images\nWHERE dataset = 'id;'\n  OR dataset = 'ood'\n;\n\n-- a comment\n\
                SELECT 1 AS a; SELECT 2 AS b; SELECT\n3 AS c;";
    let (out, err) = plain(folder.path(), text).await;
    assert_eq!((out.as_str(), err.as_str()), ("n\n10\na\n1\nb\n2\nc\n3\n", ""));
}

#[tokio::test]
async fn ctrl_c_forgets_what_was_typed_and_ctrl_d_ends() {
    let folder = tempfile::tempdir().unwrap();
    calibrated(folder.path(), IndexKind::Exact).await;
    let text = |text: &str| Line::Text(text.into());
    let lines = [text("SELECT 'half"), Line::Interrupt, text("SELECT 7 AS n;"), Line::End, text("SELECT 8 AS n;")];
    let (out, _) = shell(folder.path(), &["--format", "csv"], lines.into_iter()).await.unwrap();
    assert_eq!(out, "n\n7\n");
}

#[tokio::test]
async fn an_error_is_one_line_and_the_shell_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    calibrated(folder.path(), IndexKind::Exact).await;
    let text = "SELEC 1;\nSELECT nothing FROM images;\nSELECT knn_ood_score(toy, 'cifar') FROM images;\n\\nonsense\n\
                \\format xml\n\\d nothing\n\\i nothing.sql\nSELECT 1 AS still;";
    let (out, err) = plain(folder.path(), text).await;
    assert_eq!(out, "still\n1\n");
    let errors: Vec<&str> = err.lines().collect();
    assert_eq!(errors.len(), 7, "{err}");
    assert!(errors.iter().all(|line| line.starts_with("error: ")), "{err}");
    for (at, part) in [
        (0, "SELEC"),
        (2, "unknown bank 'cifar': known are circle"),
        (3, "unknown command '\\nonsense': \\? lists the commands"),
        (4, "the shell prints table, csv, json, not 'xml'"),
        (
            5,
            "unknown table 'nothing': known are backbones, banks, calibrations, curation_log, deletions, images, rejects",
        ),
        (6, "no such file or folder: nothing.sql"),
    ] {
        assert!(errors[at].contains(part), "{}", errors[at]);
    }
}

#[tokio::test]
async fn tables_columns_functions_and_banks_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    calibrated(db, IndexKind::Exact).await;
    let (out, _) = plain(db, "CREATE VIEW far AS SELECT * FROM images WHERE is_ood(toy, 'circle');\n\\d").await;
    let table = "name               kind   rows\nbackbones          table     0\nbanks              table     1\n";
    assert!(
        out.starts_with(table) && out.contains("\nfar                view\nimages             table    91\n"),
        "{out}"
    );

    let (out, _) = plain(db, "\\d images;").await;
    let line = |name: &str| out.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    assert!(line("id ").contains("UInt64") && line("id ").ends_with("not null"), "{out}");
    assert!(line("toy").contains("FixedSizeList") && line("toy").ends_with("embeddings of toy"), "{out}");

    let (out, err) = plain(db, "\\df").await;
    for function in ["knn_ood_score", "is_ood", "knn_ood_threshold", "auroc", "fpr_at_tpr"] {
        assert!(out.lines().any(|line| line.starts_with(function)), "{function}: {out}");
    }
    assert!(!out.contains("array_") && err.contains("\\df * lists them"), "{out}{err}");
    let (out, _) = plain(db, "\\df *array*append*").await;
    assert!(out.lines().any(|line| line.starts_with("array_append(") && line.contains("scalar")), "{out}");

    let (out, _) = plain(db, "\\banks").await;
    assert!(out.lines().nth(1).is_some_and(|line| line.starts_with("circle  toy       5    40")), "{out}");
    let (out, _) = plain(db, "\\?").await;
    assert!(["\\d ", "\\df ", "\\banks", "\\timing", "\\format", "\\i ", "\\q"].iter().all(|name| out.contains(name)));
}

#[tokio::test]
async fn formats_and_timing_can_be_changed_and_files_run() {
    let folder = tempfile::tempdir().unwrap();
    calibrated(folder.path(), IndexKind::Exact).await;
    let file = folder.path().join("my queries.sql");
    std::fs::write(&file, "SELECT 1 AS a;\nSELECT 2 AS b; -- the end").unwrap();
    let text = format!(
        "SELECT 0 AS n;\n\\format json\nSELECT 0 AS n;\n\\timing\n\\i {}\n\\format table\nSELECT 0 AS n;\n\\q\nSELECT 9 AS n;",
        file.display()
    );
    let (out, err) = shell(folder.path(), &["--format", "csv"], typed(&text)).await.unwrap();
    let table = "+---+\n| n |\n+---+\n| 0 |\n+---+\n";
    assert_eq!(out, format!("n\n0\n{{\"n\":0}}\n{{\"a\":1}}\n{{\"b\":2}}\n{table}"));
    let notices: Vec<&str> = err.lines().collect();
    assert!(notices[0].starts_with("outskirt ") && notices[0].ends_with("\\? for help"), "{err}");
    assert!(notices[1].starts_with("1 row, 0.") && notices[1].ends_with(" s"), "{err}");
    let expected = ["rows are printed as json", notices[3], "timing is off", "rows are printed as table"];
    assert_eq!(notices[2..], expected);
}

#[tokio::test]
async fn a_command_is_heard_within_a_statement_but_not_in_its_quotes() {
    let folder = tempfile::tempdir().unwrap();
    calibrated(folder.path(), IndexKind::Exact).await;
    let text = "SELECT length('\n\\q\n') AS n\n\\format json\n;\nSELECT 1\n\\q\n;";
    let (out, err) = plain(folder.path(), text).await;
    assert_eq!((out.as_str(), err.as_str()), ("{\"n\":4}\n", "rows are printed as json"));
}

#[tokio::test]
async fn words_that_people_try_leave_or_help() {
    let folder = tempfile::tempdir().unwrap();
    calibrated(folder.path(), IndexKind::Exact).await;
    for word in ["exit", "quit;", "\\q"] {
        assert_eq!(plain(folder.path(), &format!("{word}\nSELECT 1;")).await.0, "");
    }
    assert!(plain(folder.path(), "help").await.0.contains("\\banks"));
}

#[tokio::test]
async fn the_shell_prints_no_bytes() {
    let folder = tempfile::tempdir().unwrap();
    calibrated(folder.path(), IndexKind::Exact).await;
    let error = shell(folder.path(), &["--format", "parquet"], typed("SELECT 1;")).await.unwrap_err();
    assert_eq!(error, "the shell prints table, csv, json, not 'parquet': run 'outskirt sql QUERY --format' for files");
}

/// Ctrl-C a while after each statement begins.
struct Impatient<L>(L);

impl<L: Lines> Lines for Impatient<L> {
    fn next_line(&mut self, before: &str, names: &Arc<Names>) -> outskirt::Result<Line> {
        self.0.next_line(before, names)
    }

    fn interrupted(&mut self) -> outskirt::Result<BoxFuture<'static, ()>> {
        // a thread, as the runtime's own clock waits while all its threads compute
        let (tell, told) = futures::channel::oneshot::channel();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(1));
            let _ = tell.send(());
        });
        Ok(Box::pin(async {
            let _ = told.await;
        }))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_cancels_the_query_and_the_shell_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    calibrated(folder.path(), IndexKind::Exact).await;
    let slow = "SELECT count(*) AS n FROM range(1000000) AS a, range(1000000) AS b WHERE a.value * b.value % 7 = 3;";
    let start = Instant::now();
    let lines = Impatient(typed(&format!("{slow}\nSELECT 1 AS quick;")));
    let (out, err) = shell(folder.path(), &["--format", "csv"], lines).await.unwrap();
    assert_eq!(out, "quick\n1\n");
    let notices: Vec<&str> = err.lines().collect();
    assert!(notices[1..3] == ["", "cancelled"] && notices[3].starts_with("1 row"), "{err}");
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn tab_completes_names_of_the_session() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), IndexKind::Exact).await;
    let session = Session::open(&store).await.unwrap();
    let made = session.context().sql("CREATE VIEW \"Odd\" AS SELECT id AS number FROM images").await.unwrap();
    made.collect().await.unwrap();
    let names = Names::of(&session).await.unwrap();
    let complete = |before: &str, line: &str| {
        let (start, found) = names.complete(before, line, line.len());
        (line[start..].to_owned(), found)
    };
    for (before, line, word, expected) in [
        ("", "SELECT * FROM im", "im", &["images"][..]),
        ("", "SELECT * FROM O", "O", &["\"Odd\""]),
        ("", "SELECT * FROM \"od", "\"od", &["\"Odd\""]),
        ("SELECT *\nFROM\n", "ba", "ba", &["backbones", "banks"]),
        ("", "select content", "content", &["content_hash"]),
        ("", "SELECT CONTENT", "CONTENT", &["content_hash"]),
        ("", "SELECT knn_ood_", "knn_ood_", &["knn_ood_pvalue", "knn_ood_score", "knn_ood_threshold"]),
        ("", "SELECT i.cont", "cont", &["content_hash"]),
        ("", "SELECT banks.k", "k", &["k"]),
        ("", "SELECT * FROM images wher", "wher", &["where"]),
        ("", "SELECT * FROM images WHER", "WHER", &["WHERE"]),
        ("", "SELECT is_ood(toy, 'cir", "cir", &["circle"]),
        ("SELECT 'a',\n", "is_ood(toy, '", "", &["circle"]),
        ("", "SELECT 'a' AS knn_ood_t", "knn_ood_t", &["knn_ood_threshold"]),
        ("", "SET outskirt.se", "outskirt.se", &["outskirt.search"]),
        ("", "\\t", "t", &["timing"]),
        ("", "\\d im", "im", &["images"]),
        ("", "\\format ", "", &["table", "csv", "json"]),
        ("", "SELECT größ", "größ", &[]),
        ("", "", "", &[]),
    ] {
        let (found_word, mut found) = complete(before, line);
        let mut expected: Vec<String> = expected.iter().map(|name| name.to_string()).collect();
        found.sort();
        expected.sort();
        assert_eq!((found_word.as_str(), &found), (word, &expected), "{before}{line}");
    }
    // in the middle of a line, only what is before the cursor counts
    assert_eq!(names.complete("", "SELECT content FROM images", 14), (7, vec!["content_hash".to_owned()]));
}

/// What the shell printed on a terminal of so many columns.
async fn wide(db: &Path, columns: usize, text: &str) -> (String, String) {
    let cli = Cli::parse_from(["outskirt", "--db", db.to_str().unwrap(), "sql"]);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut console = Console::new(&mut out, &mut err).typed(typed(text)).on_terminal().of_width(columns);
    run(cli, &mut console).await.unwrap();
    drop(console);
    (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

#[tokio::test]
async fn tables_fit_the_terminal_and_say_what_they_leave_out() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    calibrated(db, IndexKind::Exact).await;
    let (out, err) = wide(db, 80, "SELECT * FROM images;").await;
    assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
    assert!(err.contains(" columns fit the line: \\x shows all, and so does \\pager on"), "{err}");
    let (out, err) = wide(db, 80, "SELECT * FROM range(250) AS r(n);\n\\rows 3\nSELECT * FROM range(250) AS r(n);\n\\rows all\nSELECT * FROM range(250) AS r(n);").await;
    assert_eq!(out.lines().filter(|line| line.starts_with("| ")).count(), 100 + 3 + 250 + 3, "{out}");
    assert!(err.contains("100 of 250 rows are printed: ") && err.contains("3 of 250 rows are printed: "), "{err}");
    assert!(err.contains("\n250 rows, ") && err.contains("\ntables have all rows\n"), "{err}");
    let (out, _) = wide(db, 80, "\\x\nSELECT id, label, uri FROM images WHERE id = 7;\n\\x off\nSELECT 1 AS n;").await;
    let row = "-[ row 1 ]------------------------------\nid    | 7\nlabel | NULL\nuri   | /pictures/6.png\n";
    assert_eq!(out, format!("{row}+---+\n| n |\n+---+\n| 1 |\n+---+\n"));
}

#[tokio::test]
async fn rows_go_into_a_file_where_they_are_wanted_there() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    calibrated(&db, IndexKind::Exact).await;
    let file = folder.path().join("out [1].csv");
    let text = format!("\\o '{0}'\nSELECT * FROM range(200) AS r(n);\n\\o\nSELECT 1 AS n;\n\\o {0}", file.display());
    let (out, err) = plain(&db, &text).await;
    assert_eq!(out, "n\n1\n");
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 201);
    assert!(err.contains("is there already, and \\o writes over nothing"), "an old file is not written over: {err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_shell_says_when_the_database_has_moved_on() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    let (store, _) = calibrated(db, IndexKind::Exact).await;
    let version = store.version(outskirt::schema::IMAGES).await.unwrap();
    let count = "SELECT count(*) AS n FROM images;";
    // somebody else deletes a row after the shell has begun
    let other = Session::open(&store).await.unwrap();
    let delete = other.parse("DELETE FROM images WHERE id = 1").unwrap().pop_front().unwrap();
    let mut delete = Some(delete);
    let lines = format!("{count}\n{count}\n\\refresh\n{count}");
    let mut lines = lines.lines().map(|line| Line::Text(line.to_owned())).collect::<Vec<_>>().into_iter();
    let runtime = tokio::runtime::Handle::current();
    let script = std::iter::from_fn(move || {
        if lines.len() == 3
            && let Some(delete) = delete.take()
        {
            std::thread::scope(|scope| {
                scope.spawn(|| runtime.block_on(async { drop(other.run(delete).await.unwrap()) }));
            });
        }
        lines.next()
    });
    let (out, err) = shell(db, &["--format", "csv"], script).await.unwrap();
    assert_eq!(out, "n\n91\nn\n91\nn\n90\n");
    let notice =
        format!("images is at version {} by now, and this shell reads version {version}: \\refresh", version + 1);
    assert_eq!(err.matches(&notice).count(), 1, "{err}");
}

#[tokio::test]
async fn statements_on_standard_input_run_as_they_arrive() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    calibrated(db, IndexKind::Exact).await;
    let cli = Cli::parse_from(["outskirt", "--db", db.to_str().unwrap(), "sql", "--format", "csv"]);
    let text = "\u{feff}SELECT 1 AS a; SELECT ';' AS b\n;\n-- no; more\nSELECT 3 AS c;\nSELEC 4;\nSELECT 5 AS e";
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let error = run(cli, &mut Console::new(&mut out, &mut err).reading(text.as_bytes())).await.unwrap_err();
    assert!(error.to_string().contains("SELEC"), "{error}");
    assert_eq!(String::from_utf8(out).unwrap(), "a\n1\nb\n;\nc\n3\n", "what came before the error has run");
}
