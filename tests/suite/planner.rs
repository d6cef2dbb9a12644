//! What the planner makes of scores: the plans that EXPLAIN shows, how often a score is computed, and that rows which
//! are dropped early are those that comparing every score would drop.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float32Type, UInt64Type};
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, collect};
use outskirt::bank::{self, BankSpec};
use outskirt::index::IndexKind;
use outskirt::sql::planner::ScoreExec;
use outskirt::sql::session::Session;
use outskirt::store::Store;

use super::fixture::{Image, TOY, calibrated, circle, database};

const SCORE: &str = "knn_ood_score(toy, 'circle')";

/// What a condition says of a score.
type Passes = Box<dyn Fn(f32) -> bool>;

/// 6,000 images around 30 directions, some far from all of them; the first half is the bank.
async fn clusters(folder: &Path) -> Store {
    let mut state = 5u64;
    let mut unit = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let centres: Vec<Vec<f32>> = (0..30).map(|_| (0..16).map(|_| unit()).collect()).collect();
    let rows: Vec<Image> = (0..6000)
        .map(|i| {
            let far = i >= 3000 && i % 10 == 0;
            let noise = if far { 2.0 } else { 0.2 };
            let embedding = centres[i % 30].iter().map(|c| c + noise * unit()).collect();
            let split = if i < 3000 {
                "train"
            } else if i < 4000 {
                "val"
            } else {
                "test"
            };
            // every 97th test image was not embedded
            (if far { "ood" } else { "id" }, split, (i < 4000 || i % 97 != 0).then_some(embedding))
        })
        .collect();
    let store = database(folder, 16, &rows).await;
    bank::create(&store, &BankSpec { k: 10, ..circle(IndexKind::Exact) }).await.unwrap();
    bank::calibrate(&store, "circle", "split = 'val' AND dataset = 'id'", None).await.unwrap();
    store
}

async fn rows(session: &Session, query: &str) -> Vec<RecordBatch> {
    session.sql(query).await.unwrap().collect().await.unwrap_or_else(|error| panic!("{query}: {error}"))
}

/// Ids, and scores where the query gives any.
async fn found(session: &Session, query: &str) -> Vec<(u64, Option<f32>)> {
    let mut found = Vec::new();
    for batch in rows(session, query).await {
        let ids = batch.column(0).as_primitive::<UInt64Type>().values().to_vec();
        let scores: Vec<Option<f32>> = match batch.num_columns() {
            1 => vec![None; ids.len()],
            _ => batch.column(1).as_primitive::<Float32Type>().iter().collect(),
        };
        found.extend(ids.into_iter().zip(scores));
    }
    found
}

/// What one kind of node counted, over all nodes of that kind in the plan.
async fn counted(session: &Session, query: &str, counter: &str) -> usize {
    fn sum(plan: &Arc<dyn ExecutionPlan>, counter: &str) -> usize {
        let here = match plan.is::<ScoreExec>() {
            true => plan.metrics().and_then(|metrics| metrics.sum_by_name(counter)).map_or(0, |value| value.as_usize()),
            false => 0,
        };
        here + plan.children().into_iter().map(|child| sum(child, counter)).sum::<usize>()
    }
    let frame = session.sql(query).await.unwrap();
    let (context, plan) = (Arc::new(frame.task_ctx()), frame.create_physical_plan().await.unwrap());
    collect(Arc::clone(&plan), context).await.unwrap();
    sum(&plan, counter)
}

async fn explained(session: &Session, query: &str) -> String {
    let batches = rows(session, &format!("EXPLAIN {query}")).await;
    batches[0].column(1).as_string::<i32>().iter().flatten().collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn filters_become_bounds_below_which_cheap_filters_lie() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), IndexKind::Exact).await;
    let session = Session::open(&store).await.unwrap();
    let plan = explained(&session, &format!("SELECT uri FROM images WHERE {SCORE} > 0.5 AND dataset = 'ood'")).await;
    for part in [
        "KnnOodScore: bank=circle@",
        "k=5, embedding=images.toy, keep=score > 0.5, score not needed",
        "full_filters=[images.dataset = Utf8(\"ood\")]",
        "ScoreExec: bank=circle@",
        "full_filter=dataset = Utf8(\"ood\")",
    ] {
        assert!(plan.contains(part), "{part}: {plan}");
    }
    for (condition, keep) in [
        (format!("{SCORE} < 0.25"), "keep=score <= 0.24999999"),
        (format!("{SCORE} >= 0.25"), "keep=score > 0.24999999"),
        (format!("0.25 >= {SCORE}"), "keep=score <= 0.25"),
        (format!("{SCORE} BETWEEN 0.25 AND 0.5"), "keep=0.24999999 < score <= 0.5"),
        (format!("{SCORE} > 0.25 AND {SCORE} > 0.5"), "keep=score > 0.5"),
        ("is_ood(toy, 'circle')".into(), "keep=score > 0.0210"),
        ("NOT is_ood(toy, 'circle')".into(), "keep=score <= 0.0210"),
        ("knn_ood_pvalue(toy, 'circle') <= 0.05".into(), "keep=score > 0.03"),
        (format!("{SCORE} > knn_ood_threshold('circle')"), "keep=score > 0.0210"),
    ] {
        let plan = explained(&session, &format!("SELECT id FROM images WHERE {condition}")).await;
        assert!(plan.contains(keep) && !plan.contains("FilterExec"), "{condition}: {plan}");
    }
    // what a CASE or an OR may never ask is not computed for every row
    for condition in [format!("dataset = 'ood' OR {SCORE} > 0.5"), format!("CASE WHEN id = 81 THEN {SCORE} > 1 END")] {
        let plan = explained(&session, &format!("SELECT id FROM images WHERE {condition}")).await;
        assert!(!plan.contains("ScoreExec"), "{condition}: {plan}");
    }
}

#[tokio::test]
async fn an_order_with_a_limit_stops_the_search() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), IndexKind::Exact).await;
    let session = Session::open(&store).await.unwrap();
    for (query, stop) in [
        (format!("SELECT uri, {SCORE} AS s FROM images ORDER BY s DESC LIMIT 3"), "stop=largest 3 scores"),
        (format!("SELECT uri FROM images ORDER BY {SCORE} LIMIT 3 OFFSET 2"), "stop=smallest 5 scores"),
        (
            "SELECT * FROM (SELECT i.uri, knn_ood_score(i.toy, 'circle') AS s FROM images AS i) AS q \
                  WHERE s > 0.5 ORDER BY s DESC, uri LIMIT 3"
                .into(),
            "keep=score > 0.5, stop=largest 3 scores",
        ),
    ] {
        let plan = explained(&session, &query).await;
        assert!(plan.contains(stop), "{query}: {plan}");
    }
    // a filter between the scores and the limit would be cheated
    let query = format!("SELECT id FROM (SELECT id, {SCORE} AS s FROM images) WHERE s * s > 0.01 ORDER BY s LIMIT 3");
    assert!(!explained(&session, &query).await.contains("stop="), "{query}");
}

#[tokio::test]
async fn a_score_is_computed_once_per_row() {
    let folder = tempfile::tempdir().unwrap();
    let store = clusters(folder.path()).await;
    let session = Session::open(&store).await.unwrap();
    let rows = 2000 - (4000..6000).filter(|i| i % 97 == 0).count();
    for query in [
        format!("SELECT {SCORE} FROM images WHERE split = 'test'"),
        format!(
            "SELECT {SCORE} AS s, 2 * {SCORE} FROM images WHERE {SCORE} > 0.2 AND split = 'test' ORDER BY {SCORE} DESC"
        ),
        format!(
            "SELECT {SCORE} AS s FROM images WHERE {SCORE} > 0.2 AND {SCORE} * 2 < id AND split = 'test' ORDER BY s"
        ),
        format!(
            "SELECT dataset, avg({SCORE}), max({SCORE}) FROM images WHERE split = 'test' AND {SCORE} > 0.1 GROUP BY 1"
        ),
        "SELECT i.id, knn_ood_score(i.toy, 'circle') AS s FROM images AS i JOIN images AS j ON i.id = j.id \
                 WHERE knn_ood_score(i.toy, 'circle') > 0.3 AND i.split = 'test'"
            .into(),
        format!("SELECT id, rank() OVER (ORDER BY {SCORE}) FROM images WHERE split = 'test' AND {SCORE} < 1.5"),
        "SELECT id, knn_ood_score(toy, 'circle') FROM images WHERE is_ood(toy, 'circle') AND split = 'test'".into(),
    ] {
        assert_eq!(counted(&session, &query, "rows_scored").await, rows, "{query}");
    }
}

#[tokio::test]
async fn what_is_dropped_early_is_what_comparing_drops() {
    let folder = tempfile::tempdir().unwrap();
    let store = clusters(folder.path()).await;
    let session = Session::open(&store).await.unwrap();
    let all = found(&session, &format!("SELECT id, {SCORE} FROM images")).await;
    assert_eq!(all.len(), 6000);
    let calibration = bank::list_calibrations(&store).await.unwrap().remove(0);
    let threshold = calibration.threshold(0.95).unwrap();
    let calibration = calibration.scores;
    let kept = |keep: &dyn Fn(f32) -> bool| -> Vec<(u64, Option<f32>)> {
        let mut kept: Vec<_> = all.iter().copied().filter(|(_, score)| score.is_some_and(keep)).collect();
        kept.sort_by_key(|(id, _)| *id);
        kept
    };
    let one = all[4500].1.unwrap();
    let conditions: Vec<(String, Passes)> = vec![
        (format!("{SCORE} > 0.3"), Box::new(|s| f64::from(s) > 0.3)),
        (format!("{SCORE} < 0.3"), Box::new(|s| f64::from(s) < 0.3)),
        (format!("{SCORE} >= {}", f64::from(one)), Box::new(move |s| s >= one)),
        (format!("{SCORE} <= {}", f64::from(one)), Box::new(move |s| s <= one)),
        (format!("{SCORE} BETWEEN 0.2 AND 0.4"), Box::new(|s| (0.2..=0.4).contains(&f64::from(s)))),
        (
            format!("{SCORE} > 0.2 AND {SCORE} * {SCORE} < 0.16"),
            Box::new(|s| f64::from(s) > 0.2 && f64::from(s * s) < 0.16),
        ),
        ("is_ood(toy, 'circle')".into(), Box::new(move |s| s > threshold)),
        ("NOT is_ood(toy, 'circle')".into(), Box::new(move |s| s <= threshold)),
        (
            "knn_ood_pvalue(toy, 'circle') < 0.03".into(),
            Box::new(move |s| outskirt::statistics::thresholds::pvalue(&calibration, s) < 0.03),
        ),
        (format!("{SCORE} > 5"), Box::new(|_| false)),
        (format!("{SCORE} >= 0"), Box::new(|_| true)),
    ];
    for (condition, keep) in &conditions {
        let expected = kept(keep);
        let told = found(&session, &format!("SELECT id, {SCORE} FROM images WHERE {condition} ORDER BY id")).await;
        assert_eq!(told, expected, "{condition}");
        let ids = found(&session, &format!("SELECT id FROM images WHERE {condition} ORDER BY id")).await;
        assert!(ids.iter().map(|(id, _)| id).eq(expected.iter().map(|(id, _)| id)), "{condition}");
        let count = rows(&session, &format!("SELECT count(*) FROM images WHERE {condition}")).await;
        assert_eq!(count[0].column(0).as_primitive::<arrow::datatypes::Int64Type>().value(0), expected.len() as i64);
    }
    for (order, limit) in
        [("DESC", 1), ("DESC", 20), ("ASC", 20), ("DESC", 5999), ("ASC NULLS FIRST", 30), ("DESC NULLS FIRST", 30)]
    {
        let mut expected = all.clone();
        let (down, nulls_first) = (order.starts_with("DESC"), order.ends_with("FIRST"));
        expected.sort_by(|a, b| {
            let by_score = a.1.unwrap_or(9.0).total_cmp(&b.1.unwrap_or(9.0));
            let nulls = a.1.is_none().cmp(&b.1.is_none());
            let nulls = if nulls_first { nulls.reverse() } else { nulls };
            nulls.then(if down { by_score.reverse() } else { by_score }).then(a.0.cmp(&b.0))
        });
        expected.truncate(limit);
        let query = format!("SELECT id, {SCORE} AS s FROM images ORDER BY s {order}, id LIMIT {limit}");
        assert_eq!(found(&session, &query).await, expected, "{query}");
    }
    // most rows stop early, and few distances are computed
    let query = format!("SELECT id FROM images WHERE split = 'test' ORDER BY {SCORE} DESC LIMIT 5");
    let (scored, stopped) =
        (counted(&session, &query, "rows_scored").await, counted(&session, &query, "rows_stopped_early").await);
    assert!(scored == 1980 && stopped > scored * 2 / 3, "{stopped} of {scored}");
}

#[tokio::test]
async fn joins_that_pad_or_hide_a_side_do_not_lend_its_scores() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), IndexKind::Exact).await;
    let session = Session::open(&store).await.unwrap();
    // where nothing is joined, the embedding is another one, and not NULL
    let embedding = "coalesce(b.toy, arrow_cast([1.0, 0.0, 0.0], 'FixedSizeList(3, Float32)'))";
    let query = format!(
        "SELECT a.id, knn_ood_score({embedding}, 'circle', 1) FROM images AS a LEFT JOIN \
         (SELECT * FROM images AS b WHERE knn_ood_score({embedding}, 'circle', 1) > 1) AS b ON a.id = b.id \
         WHERE a.id IN (2, 90) ORDER BY 1"
    );
    let found = found(&session, &query).await;
    assert!(found[0] == (2, Some(0.0)) && found[1].1.unwrap() > 1.0, "{found:?}");
    for (join, count) in [("LEFT SEMI", 10), ("LEFT ANTI", 81)] {
        let query =
            format!("SELECT id, {SCORE} FROM images {join} JOIN (SELECT * FROM images WHERE {SCORE} > 1) USING (id)");
        let rows: usize = rows(&session, &query).await.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, count, "{join}");
    }
    let query = format!(
        "SELECT round({SCORE}, 1) > 1, {SCORE} > 1, count(*) FROM images GROUP BY ROLLUP ({SCORE} > 1, round({SCORE}, 1) > 1)"
    );
    assert!(!rows(&session, &query).await.is_empty());
}

#[tokio::test]
async fn a_plan_that_is_reset_gives_the_same_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = clusters(folder.path()).await;
    let session = Session::open(&store).await.unwrap();
    let frame =
        session.sql(&format!("SELECT id, {SCORE} AS s FROM images ORDER BY s DESC, id LIMIT 20")).await.unwrap();
    let (context, plan) = (Arc::new(frame.task_ctx()), frame.create_physical_plan().await.unwrap());
    let once = collect(Arc::clone(&plan), Arc::clone(&context)).await.unwrap();
    assert_eq!(once.iter().map(RecordBatch::num_rows).sum::<usize>(), 20);
    // the best scores of the first run are forgotten with it
    let again = collect(reset_plan_states(plan).unwrap(), context).await.unwrap();
    assert_eq!(again, once);
}

#[tokio::test]
async fn explain_analyze_tells_what_the_search_did() {
    let folder = tempfile::tempdir().unwrap();
    let store = clusters(folder.path()).await;
    let session = Session::open(&store).await.unwrap();
    let batches =
        rows(&session, &format!("EXPLAIN ANALYZE SELECT id FROM images WHERE {SCORE} > 0.3 AND split = 'test'")).await;
    let plan: String = batches[0].column(1).as_string::<i32>().iter().flatten().collect();
    let line = plan.lines().find(|line| line.contains("ScoreExec")).unwrap();
    for part in [
        "bank=circle@",
        "k=10",
        "keep=score > 0.29999998",
        "search=[exact, ",
        "rows_scored=1.98 K",
        "rows_stopped_early=",
        "distances_estimated=",
        "distances_computed=",
        "output_rows=",
        "elapsed_compute=",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

#[tokio::test]
async fn a_bank_can_be_asked_for_at_another_version() {
    let folder = tempfile::tempdir().unwrap();
    let (store, bank) = calibrated(folder.path(), IndexKind::Exact).await;
    let session = Session::open(&store).await.unwrap();
    let now = bank.table_version;
    let lock = store.lock().await.unwrap();
    store.delete(&lock, "images", "id <= 10").await.unwrap();
    drop(lock);
    let session_later = Session::open(&store).await.unwrap();
    let nearest =
        |version: u64| format!("SELECT id, knn_ood_score([1, 0, 0], 'circle@{version}', 1) FROM images WHERE id = 81");
    let same = found(&session, &nearest(now)).await;
    assert_eq!(same, [(81, Some(0.0))]);
    assert_eq!(found(&session_later, &nearest(now)).await, same, "the bank stands for its version");
    // without the ten at 0° … 4.5° the nearest lies at 5°
    let (_, later) = found(&session_later, &nearest(now + 1)).await[0];
    assert!((later.unwrap() - 2.0 * 2.5f32.to_radians().sin()).abs() < 1e-6, "{later:?}");
    let query = format!("SELECT is_ood({TOY}, 'circle@{}') FROM images", now + 1);
    let error = session_later.sql(&query).await.unwrap_err().to_string();
    assert!(error.contains("bank 'circle' is not calibrated for k = 5"), "{error}");
}
