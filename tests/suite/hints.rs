//! What is wrong with a statement is one line that says what to write, whichever rows there are.

use outskirt::index::IndexKind;
use outskirt::sql::session::Session;

use super::fixture::{calibrated, outskirt};

#[tokio::test]
async fn an_error_says_what_to_write() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), IndexKind::Exact).await;
    let session = Session::open(&store).await.unwrap();
    let error = async |text: &str| {
        let statement = session.parse(text).unwrap().pop_front().unwrap();
        match session.run(statement).await {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{text} runs"),
        }
    };
    let score = "knn_ood_score(toy, 'circle')";
    for (text, said) in [
        // every label is NULL here: what is wrong does not depend on the rows
        ("SELECT id FROM images WHERE label = 3", "label is text and 3 is a number: compare texts, with '…'"),
        ("SELECT id FROM images WHERE 3 < label", "label is text and 3 is a number"),
        ("SELECT id FROM images WHERE label IN (1, 2)", "label is text and 1 is a number"),
        ("SELECT id FROM images WHERE uri BETWEEN 1 AND 2", "uri is text and 1 is a number"),
        ("SELECT a.id FROM images a JOIN images b ON a.label = b.width", "is text and"),
        ("SELECT CASE WHEN label = 3 THEN 1 END FROM images", "label is text and 3 is a number"),
        ("SELECT CASE label WHEN 3 THEN 1 END FROM images", "label is text and 3 is a number"),
        ("SELECT imagse.id FROM images", "there is no table 'imagse' in this query: did you mean images?"),
        ("SELECT lable FROM images", "there is no column 'lable': did you mean label?"),
        ("DELETE FROM images WHERE label = 3", "label is text and 3 is a number"),
        ("UPDATE images SET split = 'x' WHERE label <> 3", "label is text and 3 is a number"),
        (
            "SELECT id FROM images WHERE row_number() OVER (ORDER BY id) < 3",
            "row_number() in WHERE: rows are filtered before",
        ),
        ("DELETE FROM images WHERE row_number() OVER (ORDER BY id) < 3", "write QUALIFY instead of WHERE"),
        (
            "SELECT avg(is_ood(toy, 'circle')) FROM images",
            "avg takes numbers, and is given true and false: write avg(CAST(… AS INT))",
        ),
        ("SELECT * FROM imgaes", "unknown table 'imgaes': did you mean images?"),
        ("SELECT * FROM something", "unknown table 'something': known are backbones, banks,"),
        ("SELECT labl FROM images", "there is no column 'labl': did you mean label?"),
        ("SELECT i.contenthash FROM images i", "there is no column 'contenthash': did you mean content_hash?"),
        (
            "SELECT camera FROM images",
            "there is no column 'camera': there are bytes, content_hash, dataset, height, id,",
        ),
        ("SELECT max(id) FROM images GROUP BY dataset HAVING max(label) = 3", "is text and 3 is a number"),
        ("SELECT a.id FROM images a LEFT JOIN images b ON a.id = b.id AND b.label = 3", "is text and 3 is a number"),
        ("SELECT id FROM images WHERE label NOT IN (1, 2)", "label is text and 1 is a number"),
        ("UPDATE images SET split = CASE WHEN label = 3 THEN 'x' END", "label is text and 3 is a number"),
        (
            "SELECT id, (SELECT b.id FROM images b WHERE b.id > a.id) FROM images a",
            "would have the name id: give one another",
        ),
        (
            "SELECT id FROM images a ORDER BY (SELECT max(b.id) FROM images b WHERE b.id < a.id)",
            "write it as a JOIN, such as",
        ),
        (
            "SELECT id, EXISTS (SELECT 1 FROM images b WHERE b.id = a.id) AS e FROM images a",
            "write it as a JOIN, such as",
        ),
        ("SELECT nope", "there is no column 'nope': the query reads no table"),
        ("SELECT 1, 1", "two columns of the result would have the name Int64(1): give one another with AS"),
    ] {
        let found = error(text).await;
        assert!(found.contains(said) && !found.contains('\n') && found.len() < 400, "{text}: {found}");
    }
    let alias = format!("SELECT id, {score} AS score FROM images WHERE score > 1");
    let found = error(&alias).await;
    assert!(found.starts_with("'score' names a column of the result, which WHERE and HAVING do not see"), "{found}");
    // predicates of commands say the same
    let create = ["bank", "create", "b", "--backbone", "toy", "--k", "5", "--where", "label = 3"];
    let error = outskirt(folder.path(), &create).await.unwrap_err();
    assert!(error.contains("label is text and 3 is a number"), "{error}");
}

#[tokio::test]
async fn what_the_hints_say_works() {
    let folder = tempfile::tempdir().unwrap();
    calibrated(folder.path(), IndexKind::Exact).await;
    let csv = async |text: &str| outskirt(folder.path(), &["sql", text, "--format", "csv"]).await.map(|(rows, _)| rows);
    let score = "knn_ood_score(toy, 'circle')";
    for (text, rows) in [
        ("SELECT count(*) AS n FROM images WHERE label = '3'", "n\n0\n"),
        ("SELECT count(*) AS n FROM images WHERE CAST(width AS TEXT) = '32' AND '32' = width", "n\n91\n"),
        ("SELECT id FROM images QUALIFY row_number() OVER (ORDER BY id DESC) < 3 ORDER BY id", "id\n90\n91\n"),
        ("SELECT avg(CAST(is_ood(toy, 'circle') AS INT)) > 0.1 AS share FROM images", "share\ntrue\n"),
        (&format!("SELECT count(*) AS n FROM (SELECT id, {score} AS score FROM images) WHERE score > 1"), "n\n10\n"),
        // labels of the nearest rows, and nothing else of them
        (
            "SELECT i.split FROM (SELECT unnest(knn_neighbors(toy, 'circle', 2)) AS n FROM images WHERE id = 1) t \
             JOIN images i ON i.id = t.n['id']",
            "split\ntrain\ntrain\n",
        ),
        // the optimiser lost t.own
        (
            "SELECT t.own, i.split FROM (SELECT split AS own, unnest(knn_neighbors(toy, 'circle', 2)) AS n FROM images \
             WHERE id = 61) t JOIN images i ON i.id = t.n['id'] WHERE t.n['distance'] >= 0",
            "own,split\ntest,train\ntest,train\n",
        ),
    ] {
        assert_eq!(csv(text).await.as_deref(), Ok(rows), "{text}");
    }
    // QUALIFY in a predicate
    let twins = "id IN (SELECT id FROM images QUALIFY row_number() OVER (PARTITION BY dataset ORDER BY id) > 1)";
    let (summary, _) = outskirt(folder.path(), &["delete", "--where", twins, "--dry-run"]).await.unwrap();
    assert!(summary.contains("88"), "{summary}");
    // a condition that begins with a minus sign
    let (summary, _) =
        outskirt(folder.path(), &["delete", "--where", "-1 < id AND id < 3", "--dry-run"]).await.unwrap();
    assert!(summary.contains('2'), "{summary}");
}
