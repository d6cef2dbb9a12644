//! Plots as text, and what named queries end in: beside the rows, which stay as they are for programs.

use std::path::Path;
use std::process::Command;

use clap::Parser;
use outskirt::cli::{Cli, Console, run};
use outskirt::index::IndexKind;
use unicode_width::UnicodeWidthStr;

use super::fixture::{calibrated, outskirt};

/// What a command prints on a terminal of so many columns.
async fn on_terminal(db: &Path, columns: usize, line: &[&str]) -> (String, String) {
    let line = ["outskirt", "--db", db.to_str().unwrap()].into_iter().chain(line.iter().copied());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    run(Cli::parse_from(line), &mut Console::new(&mut out, &mut err).on_terminal().of_width(columns)).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(out), text(err))
}

const CALIBRATE: [&str; 5] = ["bank", "calibrate", "circle", "--where", "dataset = 'id' AND split = 'val'"];
const EVALUATE: [&str; 6] =
    ["evaluate", "circle", "--id", "dataset = 'id' AND split = 'test'", "--ood", "dataset = 'ood'"];
const HISTOGRAM: [&str; 4] = ["query", "score_histogram", "-p", "width=0.2"];

/// The lines of a plot: those after the blank one.
fn plot(text: &str) -> Vec<&str> {
    text.split_once("\n\n").map_or(Vec::new(), |(_, plot)| plot.trim_end().lines().collect())
}

#[tokio::test]
async fn plots_fit_the_terminal_and_stay_out_of_what_is_piped() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    calibrated(db, IndexKind::Exact).await;
    for columns in [40, 80, 200] {
        let (text, _) = on_terminal(db, columns, &CALIBRATE).await;
        let lines = plot(&text);
        assert!(lines.iter().all(|line| line.width() <= columns), "{columns}: {text}");
        assert!(lines[0].starts_with("calibration: 20 images, 5.0 % above"), "{text}");
        assert!(lines.iter().any(|line| line.contains("threshold at 95 % TPR")), "{text}");
        let (text, _) = on_terminal(db, columns, &EVALUATE).await;
        let lines = plot(&text);
        assert!(lines.iter().all(|line| line.width() <= columns), "{columns}: {text}");
        assert!(lines.iter().any(|line| line.starts_with("ood: 10 images, 100 % above")), "{text}");
        let (text, _) = on_terminal(db, columns, &HISTOGRAM).await;
        assert!(text.lines().all(|line| line.width() <= columns), "{columns}: {text}");
        let bar = |line: &str| line.chars().filter(|c| "#█▉▊▋▌▍▎▏".contains(*c)).count();
        assert!(text.lines().skip(1).all(|line| bar(line) > 0) && text.lines().count() == 4, "{text}");
    }
    // nothing of it goes down a pipe, nor into formats for programs on a terminal
    for line in [&CALIBRATE[..], &EVALUATE, &HISTOGRAM] {
        let (piped, _) = outskirt(db, line).await.unwrap();
        let never = on_terminal(db, 200, &[line, &["--plot", "never"]].concat()).await.0;
        assert!(plot(&piped).is_empty() && plot(&never).is_empty(), "{piped}{never}");
    }
    for line in [&EVALUATE[..], &HISTOGRAM] {
        for format in ["csv", "json"] {
            let line = [line, &["--format", format]].concat();
            assert_eq!(on_terminal(db, 40, &line).await.0, outskirt(db, &line).await.unwrap().0);
            let error = outskirt(db, &[&line[..], &["--plot", "always"]].concat()).await.unwrap_err();
            assert!(error.contains(&format!("--format {format} is for programs, and has no plot")), "{error}");
        }
    }
    // unless they are asked for
    let (asked, _) = outskirt(db, &[&EVALUATE[..], &["--plot", "ascii"]].concat()).await.unwrap();
    let lines = plot(&asked);
    assert!(lines.len() > 15 && lines.iter().all(|line| line.is_ascii() && line.len() <= 80), "{asked}");
}

#[tokio::test]
async fn a_terminal_without_unicode_gets_ascii() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    calibrated(db, IndexKind::Exact).await;
    let drawn = |locale: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outskirt"));
        command.env_remove("LC_CTYPE").env_remove("LANG").env("LC_ALL", locale).arg("--db").arg(db);
        let output = command.args(EVALUATE).args(["--plot", "always"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        plot(&String::from_utf8(output.stdout).unwrap()).join("\n")
    };
    let (plain, full) = (drawn("C"), drawn("C.UTF-8"));
    assert!(plain.is_ascii() && plain.contains('#') && plain.contains('|'), "{plain}");
    assert!(full.contains('█') && full.contains('│'), "{full}");
    assert_eq!(plain.lines().count(), full.lines().count());
}

#[tokio::test]
async fn calibration_check_and_drift_end_in_a_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    calibrated(db, IndexKind::Exact).await;
    // the verdict is beside the rows in every format, so that these can be read by programs
    for format in ["table", "csv", "json"] {
        let ask =
            async |line: &[&str]| outskirt(db, &[&["query"], line, &["--format", format]].concat()).await.unwrap();
        let (rows, said) = ask(&["calibration_check", "-p", "where=dataset = 'id' AND split = 'test'"]).await;
        assert!(!rows.contains("calibration"), "{rows}");
        assert_eq!(
            said,
            "The calibration holds, as far as 20 images can tell: of 20 held-out ID images 5.0 % have a p-value of at most 0.05, where 5 % \
             are expected (p = 1.00).\n"
        );
        let (_, said) = ask(&["calibration_check", "-p", "where=dataset = 'ood'"]).await;
        assert!(said.starts_with("The calibration does not hold, and calls too many images OOD: of 10"), "{said}");
        // of images that made it no calibration can be wrong
        let (_, said) = ask(&["calibration_check", "-p", "where=dataset = 'id' AND split = 'val'"]).await;
        assert!(said.contains("20 of the held-out ID images calibrated it"), "{said}");
        let (_, said) = ask(&["drift", "-p", "before=split = 'train'", "-p", "after=dataset = 'ood'"]).await;
        assert!(said.contains("40 of the earlier images lie in the bank: their scores are too low"), "{said}");
        let (rows, said) = ask(&["drift", "-p", "before=split = 'val'", "-p", "after=dataset = 'ood'"]).await;
        assert!(!rows.contains("Drift:"), "{rows}");
        assert!(said.starts_with("Drift: the later images have moved away from bank circle: AUROC 1.00 (0."), "{said}");
        assert!(said.ends_with("where 0.5 is no drift; 20 before, 10 after.\n"), "{said}");
        let (_, said) = ask(&["drift", "-p", "before=split = 'val'", "-p", "after=false"]).await;
        assert_eq!(said, "There is nothing to compare: 20 images before, 0 images after.\n");
        let (_, said) = ask(&["drift", "-p", "before=split = 'val'", "-p", "after=true"]).await;
        assert!(said.contains("20 of the images are of both sides: they are counted as later ones alone"), "{said}");
    }
    // and it is what the report says
    let report = ["report", "--bank", "circle", "--id", "dataset = 'ood'", "--format", "json"];
    let (report, _) = outskirt(db, &report).await.unwrap();
    let (_, said) = outskirt(db, &["query", "calibration_check", "-p", "where=dataset = 'ood'"]).await.unwrap();
    assert!(report.contains(said.trim_end()), "{said}\n{report}");
    // a query of one's own of that name says nothing
    let own = db.with_extension("drift.sql");
    std::fs::write(&own, "-- Which?\nSELECT 1 AS compared;").unwrap();
    let (_, said) = outskirt(db, &["query", own.to_str().unwrap()]).await.unwrap();
    std::fs::remove_file(&own).unwrap();
    assert_eq!(said, "");
}
