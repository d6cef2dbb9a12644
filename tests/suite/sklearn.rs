//! The aggregates beside scikit-learn, where python3 has it; a notice says where it has not.

use std::io::Write;
use std::process::{Command, Stdio};

use arrow::array::AsArray;
use arrow::datatypes::Float64Type;
use outskirt::index::IndexKind;
use outskirt::sql::session::Session;

use super::fixture::calibrated;

const PYTHON: &str = "
import sys
from sklearn.metrics import roc_auc_score, roc_curve
rows = [line.split(',') for line in sys.stdin.read().split()]
score, ood = [float(r[0]) for r in rows], [int(r[1]) for r in rows]
fpr, tpr, _ = roc_curve(ood, score, drop_intermediate=False)  # OOD positive
print(roc_auc_score(ood, score), min((f + 1 - t) / 2 for f, t in zip(fpr, tpr)))
# ID positive, at the first threshold that accepts 95 % of them
fpr, tpr, _ = roc_curve([1 - o for o in ood], [-s for s in score], drop_intermediate=False)
print(next(f for f, t in zip(fpr, tpr) if t >= 0.95))
";

#[tokio::test]
async fn auroc_and_error_rates_equal_scikit_learn() {
    let has = Command::new("python3").args(["-c", "import sklearn"]).stderr(Stdio::null()).status();
    if !has.is_ok_and(|status| status.success()) {
        writeln!(std::io::stderr(), "skipped: python3 has no scikit-learn").unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), IndexKind::Exact).await;
    let session = Session::open(&store).await.unwrap();
    // scores with many ties, in classes that overlap
    let rows: Vec<(f64, bool)> = (0..1000u32)
        .map(|i| {
            let ood = i % 5 == 0;
            (f64::from(i.wrapping_mul(2_654_435_761) >> 26) / 64.0 + if ood { 0.3 } else { 0.0 }, ood)
        })
        .collect();
    let values: Vec<String> = rows.iter().map(|(score, ood)| format!("({score:?}, {ood})")).collect();
    let query = format!(
        "SELECT auroc(s, o), detection_error(s, o), fpr_at_tpr(s, o) FROM (VALUES {}) AS t(s, o)",
        values.join(", ")
    );
    let batches = session.sql(&query).await.unwrap().collect().await.unwrap();
    let ours: Vec<f64> = (0..3).map(|at| batches[0].column(at).as_primitive::<Float64Type>().value(0)).collect();

    let input = folder.path().join("rows.csv");
    let text: Vec<String> = rows.iter().map(|(score, ood)| format!("{score:?},{}", u8::from(*ood))).collect();
    std::fs::write(&input, text.join("\n")).unwrap();
    let run =
        Command::new("python3").args(["-c", PYTHON]).stdin(std::fs::File::open(&input).unwrap()).output().unwrap();
    let said = String::from_utf8(run.stdout).unwrap();
    let theirs: Vec<f64> = said.split_whitespace().map(|number| number.parse().unwrap()).collect();
    assert_eq!(theirs.len(), 3, "{}", String::from_utf8_lossy(&run.stderr));
    assert!((ours[0] - theirs[0]).abs() < 1e-12, "AUROC {ours:?}, {theirs:?}");
    assert!((ours[1] - theirs[1]).abs() < 1e-12, "detection error {ours:?}, {theirs:?}");
    // ours counts OOD scores strictly below the threshold, as the reference does: ties with it are not accepted
    assert!(ours[2] <= theirs[2] && theirs[2] - ours[2] < 0.05, "FPR95 {ours:?}, {theirs:?}");
}
