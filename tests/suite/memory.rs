//! Banks under `outskirt.memory_limit`: in memory, their codes in memory, or read from the table each time.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float32Type, UInt64Type};
use outskirt::bank::{self, BankSpec};
use outskirt::index::{IndexKind, Instructions};
use outskirt::sql::session::Session;

use crate::fixture::{Image, TOY, database};

const D: usize = 64;

/// A number in −0.5..0.5 for a place in a table.
fn number(row: usize, j: usize) -> f32 {
    let mut x = (row * D + j) as u64 ^ 0x9e37_79b9_7f4a_7c15;
    for factor in [0xbf58_476d_1ce4_e5b9_u64, 0x94d0_49bb_1331_11eb] {
        x = (x ^ (x >> 30)).wrapping_mul(factor);
    }
    (x >> 40) as f32 / (1u64 << 24) as f32 - 0.5
}

async fn scores(session: &Session, limit: &str) -> Vec<f32> {
    session.sql(&format!("SET outskirt.memory_limit = '{limit}'")).await.unwrap().collect().await.unwrap();
    let query = format!("SELECT knn_ood_score({TOY}, 'big') FROM images WHERE split = 'test' ORDER BY id");
    let batches: Vec<RecordBatch> = session.sql(&query).await.unwrap().collect().await.unwrap();
    batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Float32Type>().values().to_vec()).collect()
}

/// Neighbours of rows of the bank itself and of others, each without its own entry.
async fn neighbours(session: &Session) -> Vec<String> {
    let query = format!(
        "SELECT knn_neighbors({TOY}, 'big', 5, id), round(knn_ood_score({TOY}, 'big', 7, id), 4) FROM images \
         WHERE id % 4000 = 1 OR id > 40040 ORDER BY id"
    );
    let batches: Vec<RecordBatch> = session.sql(&query).await.unwrap().collect().await.unwrap();
    let lists = batches.iter().flat_map(|batch| batch.column(0).as_list::<i32>().iter().flatten().collect::<Vec<_>>());
    let ids = lists.map(|list| format!("{:?}", list.as_struct().column(0).as_primitive::<UInt64Type>().values()));
    let scores = batches.iter().flat_map(|batch| batch.column(1).as_primitive::<Float32Type>().values().to_vec());
    ids.chain(scores.map(|score| score.to_string())).collect()
}

#[tokio::test]
async fn scores_are_the_same_however_little_memory_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let image = |row: usize| -> Image {
        let split = if row < 40_000 { "train" } else { "test" };
        // around twenty centres
        let embedding = (0..D).map(|j| number(1_000_000 + row % 20, j) + 0.2 * number(row, j)).collect();
        ("drawn", split, Some(embedding))
    };
    let rows: Vec<Image> = (0..40_050).map(image).collect();
    let store = database(&folder.path().join("db"), D, &rows).await;
    let spec = BankSpec {
        name: "big".into(),
        backbone: TOY.into(),
        predicate: "split = 'train'".into(),
        k: 50,
        alpha: 1.0,
        seed: 0,
        index: IndexKind::Exact,
    };
    bank::create(&store, &spec).await.unwrap();
    let session = Session::open(&store).await.unwrap();
    let whole = scores(&session, "unlimited").await;
    assert_eq!(whole.len(), 50);
    assert!(session.banks().notices().is_empty());
    let near = neighbours(&session).await;
    assert_eq!(near.len(), 2 * 21);
    assert!(!near[0].starts_with("[1,"), "the row itself is left out");

    // codes in memory, rows in their file; then not even the codes
    let path = async || {
        let query = format!("EXPLAIN ANALYZE SELECT knn_ood_score({TOY}, 'big') FROM images WHERE split = 'test'");
        let batches: Vec<RecordBatch> = session.sql(&query).await.unwrap().collect().await.unwrap();
        arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string()
    };
    for (limit, words) in [("8MB", "rows in their file"), ("3MB", "streamed in blocks of")] {
        assert_eq!(whole, scores(&session, limit).await, "{limit}");
        assert_eq!(near, neighbours(&session).await, "{limit}");
        // without codes there is nothing that could be kept in memory instead
        let words = if Instructions::detect() == Instructions::Avx512Vnni { words } else { "streamed in blocks of" };
        let plan = path().await;
        assert!(plan.contains(words), "{limit}: {plan}");
    }
    assert!(session.banks().notices().is_empty());

    // a row that cannot be read makes no score
    let file = folder.path().join("db/indexes/big.exact");
    let bytes = std::fs::read(&file).unwrap();
    let mut damaged = bytes.clone();
    damaged[8192..10_000_000].iter_mut().for_each(|byte| *byte ^= 1);
    std::fs::write(&file, damaged).unwrap();
    if Instructions::detect() == Instructions::Avx512Vnni {
        let session = Session::open(&store).await.unwrap();
        session.sql("SET outskirt.memory_limit = '8MB'").await.unwrap().collect().await.unwrap();
        let query = format!("SELECT sum(knn_ood_score({TOY}, 'big')) FROM images");
        let error = session.sql(&query).await.unwrap().collect().await.unwrap_err().to_string();
        assert!(error.contains("rows are damaged") && error.contains("verify --repair"), "{error}");
    }
    // all of it in memory: what is damaged is seen when it is opened, and made anew
    let session = Session::open(&store).await.unwrap();
    assert_eq!(whole, scores(&session, "unlimited").await);
    let [notice] = session.banks().notices().try_into().unwrap();
    assert!(notice.contains("rows are damaged; rebuilt"), "{notice}");
    assert!(std::fs::read(&file).unwrap() == bytes, "the same file again");
}
