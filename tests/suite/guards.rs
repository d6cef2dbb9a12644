//! Faults of DataFusion 54 that Outskirt guards against. Each of these tests fails when DataFusion answers right by itself,
//! and says which guard can go then.

use arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::SessionContext;

const TABLES: &str = "
CREATE TABLE pictures (id INT, label TEXT) AS VALUES (1,'a'),(2,'b'),(3,'c'),(4,NULL);
CREATE TABLE keep (label TEXT) AS VALUES ('a'),(NULL);
CREATE TABLE ring (label TEXT) AS VALUES ('a');
CREATE TABLE s (id INT, g TEXT) AS VALUES (1,'b'),(2,'a'),(3,'c'),(4,'a'),(5,'b');
CREATE TABLE scores (g TEXT, x INT) AS VALUES ('a',1),('b',NULL),('c',3) ";

/// What DataFusion by itself gives: rows, cells separated by blanks; or its error.
async fn bare(query: &str) -> String {
    let context = SessionContext::new();
    for statement in TABLES.split(';') {
        context.sql(statement).await.unwrap().collect().await.unwrap();
    }
    let rows = async { context.sql(query).await?.collect().await };
    match rows.await {
        Err(error) => error.to_string(),
        Ok(rows) => {
            let table = pretty_format_batches(&rows).unwrap().to_string();
            let lines = table.lines().filter(|line| line.starts_with('|')).skip(1);
            lines
                .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned())
                .collect::<Vec<_>>()
                .join("; ")
        }
    }
}

/// The fault as it is: a right answer means that the guard can go, any other that the fault has changed.
async fn is_still_wrong(query: &str, wrong: &str, right: &str, guard: &str) {
    let found = bare(query).await;
    assert_ne!(found, right, "DataFusion answers right now: {guard} can go ({query})");
    assert!(found.contains(wrong), "the fault that {guard} guards against is another now: {found} ({query})");
}

#[tokio::test]
async fn a_filter_beside_not_in_removes_the_nulls_that_decide() {
    let query = "SELECT count(*) FROM pictures WHERE label <> 'x' AND label NOT IN (SELECT label FROM keep)";
    is_still_wrong(query, "2", "0", "sql/planner/not_in.rs").await;
}

#[tokio::test]
async fn not_in_within_or_ignores_nulls() {
    let query = "SELECT count(*) FROM pictures WHERE label NOT IN (SELECT label FROM ring) OR id = 1";
    is_still_wrong(query, "4", "3", "sql/planner/not_in.rs").await;
}

#[tokio::test]
async fn order_is_lost_beside_a_scalar_subquery() {
    let query = "SELECT id FROM s WHERE id > (SELECT min(id) FROM s) ORDER BY g DESC, id";
    is_still_wrong(query, "2; 3; 4; 5", "3; 5; 2; 4", "sql/planner/order.rs").await;
}

#[tokio::test]
async fn groups_without_a_value_are_dropped_before_a_limit() {
    let query = "SELECT g, max(x) AS m FROM scores GROUP BY g ORDER BY m DESC NULLS FIRST LIMIT 2";
    is_still_wrong(query, "c 3; a 1", "b; c 3", "enable_topk_aggregation = false in sql/session").await;
}

#[tokio::test]
async fn distinct_over_sorted_rows_with_a_limit_is_an_internal_error() {
    let query = "SELECT count(*) FROM (SELECT DISTINCT g, count(*) OVER (PARTITION BY g) FROM scores LIMIT 30)";
    is_still_wrong(
        query,
        "Ordering direction required",
        "3",
        "enable_distinct_aggregation_soft_limit = false in sql/session",
    )
    .await;
}

#[tokio::test]
async fn a_column_beside_an_unnested_struct_is_lost() {
    let query = "SELECT t.l, b.label FROM (SELECT a.label AS l, unnest(make_array(named_struct('id', a.id, 'd', 1.0))) AS n
                 FROM pictures a WHERE a.id < 3) t JOIN pictures b ON b.id = t.n['id'] WHERE t.n['d'] > 0 ORDER BY b.id";
    let guard = "enable_leaf_expression_pushdown = false in sql/session";
    is_still_wrong(query, "No field named t.l", "a a; b b", guard).await;
}

#[tokio::test]
async fn a_function_inside_a_key_is_taken_for_no_order() {
    let query =
        "SELECT id, row_number() OVER (ORDER BY length(label) > 0, id) AS r FROM pictures WHERE id < 3 ORDER BY id";
    is_still_wrong(query, "does not satisfy order requirements", "1   1; 2   2", "sql/planner/keys.rs").await;
}

#[tokio::test]
async fn is_distinct_from_swallows_what_follows() {
    let query = "SELECT count(*) FROM pictures WHERE label IS DISTINCT FROM 'a' AND id < 3";
    is_still_wrong(query, "Utf8 AND Boolean", "1", "sql/session/statement.rs").await;
}

#[tokio::test]
async fn a_constant_on_the_left_is_another_condition() {
    let guard = "sql/planner/sides.rs";
    is_still_wrong("SELECT id FROM s WHERE id >= 2 AND '2' < id ORDER BY id", "2; 3; 4; 5", "3; 4; 5", guard).await;
    is_still_wrong("SELECT id FROM s WHERE id = 2 AND '2' = id", "", "2", guard).await;
}
