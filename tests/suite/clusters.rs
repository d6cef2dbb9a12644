//! Queries on a cluster that runs in the test: rows and scores are those of the session alone, to the bit.

#![expect(clippy::print_stdout, reason = "what was compared")]

use std::path::Path;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use outskirt::cluster::{Client, Executor, ExecutorOptions, Scheduler, Security, SecurityFiles};
use outskirt::index::{IndexKind, Storage};
use outskirt::sql::session::Session;
use outskirt::store::Store;

use super::fixture::calibrated;

/// A scheduler and executors of this process.
struct Cluster {
    scheduler: Scheduler,
    executors: Vec<Executor>,
    folder: tempfile::TempDir,
}

impl Cluster {
    async fn start(executors: usize) -> Self {
        let scheduler = Scheduler::start("127.0.0.1:0".parse().unwrap(), &Security::default()).await.unwrap();
        let mut cluster = Self { scheduler, executors: Vec::new(), folder: tempfile::tempdir().unwrap() };
        for _ in 0..executors {
            cluster.add().await;
        }
        cluster
    }

    async fn add(&mut self) {
        let options = ExecutorOptions {
            listen: "127.0.0.1:0".parse().unwrap(),
            host: "127.0.0.1".into(),
            slots: 2,
            memory: 1 << 30,
            folder: self.folder.path().into(),
        };
        let executor = Executor::start(&self.address(), &options, &Security::default()).await.unwrap();
        self.executors.push(executor);
    }

    fn address(&self) -> String {
        self.scheduler.address().to_string()
    }

    /// A session whose queries it runs, in small parts.
    async fn session(&self, store: &Store) -> Session {
        let session = Session::open(store).await.unwrap();
        Client::connect(&self.address(), &Security::default()).await.unwrap().attach(&session, 5, 16);
        session
    }
}

/// The rows of the last statement, as text.
async fn rows(session: &Session, text: &str) -> Result<Vec<String>, String> {
    let batches: Vec<RecordBatch> =
        async { session.execute(text).await?.try_collect().await.map_err(outskirt::Error::from) }
            .await
            .map_err(|error: outskirt::Error| error.to_string())?;
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in &batches {
        let columns: Vec<_> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        rows.extend(
            (0..batch.num_rows())
                .map(|row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|")),
        );
    }
    Ok(rows)
}

/// The statements of the files of `tests/slt` that read and must succeed.
fn queries() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slt");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut queries = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        for record in text.split("\n\n") {
            let lines: Vec<&str> = record.lines().filter(|line| !line.starts_with('#')).collect();
            let Some(first) = lines.first().filter(|first| first.starts_with("query ")) else { continue };
            if first.contains("error") {
                continue;
            }
            let statement: Vec<&str> = lines[1..].iter().copied().take_while(|line| *line != "----").collect();
            if ["SELECT", "WITH"].iter().any(|word| statement[0].starts_with(word)) {
                queries.push(statement.join("\n"));
            }
        }
    }
    queries
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cluster_gives_the_rows_of_one_machine_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), IndexKind::Hnsw(Storage::F32)).await;
    let cluster = Cluster::start(2).await;
    let (alone, together) = (Session::open(&store).await.unwrap(), cluster.session(&store).await);
    let (mut same, mut refused, mut wrong) = (0, Vec::new(), Vec::new());
    for query in queries() {
        // what a file sets up before is not there: both say so
        let Ok(mut expected) = rows(&alone, &query).await else { continue };
        match rows(&together, &query).await {
            Ok(mut found) => {
                // without an order rows come in any
                expected.sort();
                found.sort();
                if found == expected { same += 1 } else { wrong.push((query, expected, found)) }
            }
            Err(error) => refused.push((query, error)),
        }
    }
    println!("{same} queries have the same rows, {} are refused, {} have others", refused.len(), wrong.len());
    for (query, error) in &refused {
        println!("refused: {query}\n  {error}");
    }
    for (query, expected, found) in &wrong {
        println!("WRONG: {query}\n  {expected:?}\n  {found:?}");
    }
    assert!(wrong.is_empty());
    // DataFusion 54 plans a scalar subquery as a join there, whose column may have the name of another
    let is_named = |error: &str| error.starts_with("a cluster cannot run this query") || error.contains("be ambiguous");
    assert!(same > 100 && refused.len() < 6 && refused.iter().all(|(_, error)| is_named(error)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_partitions_tell_each_other_on_one_machine_is_not_lost_on_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), IndexKind::Exact).await;
    let cluster = Cluster::start(2).await;
    let (alone, together) = (Session::open(&store).await.unwrap(), cluster.session(&store).await);
    for query in [
        "SELECT count(*), count(b.id), sum(a.id) FROM images a LEFT JOIN images b ON a.id < b.id - 60",
        "SELECT count(*), count(a.id), count(b.id) FROM images a FULL JOIN images b ON a.id < b.id - 85",
        "SELECT count(*), sum(a.id) FROM images a WHERE EXISTS (SELECT 1 FROM images b WHERE a.id > b.id + 50)",
        "SELECT count(*), sum(a.id) FROM images a WHERE NOT EXISTS (SELECT 1 FROM images b WHERE a.id > b.id + 50)",
        "SELECT count(*) FROM images a, images b WHERE a.id % 7 = b.id % 5",
        "SELECT id, knn_ood_score(toy, 'circle') AS s FROM images ORDER BY s DESC, id LIMIT 7",
        "SELECT id, knn_ood_score(toy, 'circle') AS s FROM images ORDER BY s, id LIMIT 7",
        "SELECT split, count(*), avg(knn_ood_score(toy, 'circle')) > 0 FROM images GROUP BY split ORDER BY split",
        "SELECT count(*) FROM images WHERE is_ood(toy, 'circle', 0.9) OR id = 3",
        "SELECT count(*) FROM images WHERE label NOT IN ('a', 'b') OR label IS NULL",
        "SELECT count(DISTINCT label), max(id) FROM images WHERE id < 50 AND toy IS NOT NULL",
        "SELECT id, row_number() OVER (PARTITION BY split ORDER BY id) AS n FROM images ORDER BY id",
        "SELECT id FROM images WHERE id IN (SELECT max(id) FROM images GROUP BY split) UNION ALL SELECT 1 ORDER BY 1",
        "SELECT count(*), count(uri) FROM images LIMIT 3",
        "SELECT a.id FROM images a JOIN images b USING (id) WHERE a.id > (SELECT avg(id) FROM images) ORDER BY a.id LIMIT 5",
    ] {
        assert_eq!(rows(&together, query).await, rows(&alone, query).await, "{query}");
    }
    // errors are said in the same words
    for query in [
        "SELECT CAST(uri AS INT) FROM images WHERE id = 7",
        "SET outskirt.search = 'hnsw'; SELECT knn_ood_score(toy, 'circle') FROM images",
        "SET outskirt.search = 'exact'; SELECT 1 / (id - 5) FROM images",
    ] {
        assert_eq!(rows(&together, query).await.unwrap_err(), rows(&alone, query).await.unwrap_err(), "{query}");
    }
    // the session's own work stays here, and what a cluster cannot do is said by name
    assert_eq!(rows(&together, "SELECT 1 + 1").await.unwrap(), ["2"]);
    let plan = rows(&together, "EXPLAIN SELECT id FROM images WHERE id < 5").await.unwrap().join("\n");
    assert!(plan.contains("RecipeScan: images@"), "{plan}");
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("rows.csv");
    std::fs::write(&file, "id\n1\n2\n").unwrap();
    let join = format!("SELECT count(*) FROM images JOIN '{}' AS f ON images.id = f.id", file.display());
    let refused = rows(&together, &join).await.unwrap_err();
    assert!(refused.starts_with("a cluster cannot run this query: it has a file of this machine"), "{refused}");
    let beside = tempfile::tempdir().unwrap();
    let copied = beside.path().join("copied.csv");
    let copy = format!("COPY (SELECT id FROM images WHERE id <= 10) TO '{}'", copied.display());
    assert_eq!(rows(&together, &copy).await.unwrap(), ["10"]);
    assert_eq!(std::fs::read_to_string(copied).unwrap().lines().count(), 11);
    rows(&together, "UPDATE images SET label = 'seen' WHERE id < 4").await.unwrap();
    assert_eq!(rows(&together, "SELECT count(*) FROM images WHERE label = 'seen'").await.unwrap(), ["3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn executors_come_and_go_and_without_a_scheduler_there_is_an_error_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), IndexKind::Exact).await;
    let mut cluster = Cluster::start(1).await;
    let together = cluster.session(&store).await;
    let query = "SELECT sum(knn_ood_score(toy, 'circle')) > 0, count(*) FROM images";
    let expected = rows(&Session::open(&store).await.unwrap(), query).await.unwrap();
    assert_eq!(rows(&together, query).await.unwrap(), expected);
    cluster.executors.remove(0).stop().await;
    let error = rows(&together, query).await.unwrap_err();
    assert!(error.starts_with("the cluster has no executor at the moment"), "{error}");
    cluster.add().await;
    assert_eq!(rows(&together, query).await.unwrap(), expected);
    // whoever waits no longer takes his query with him
    let many =
        "SELECT sum((a.id + b.id * c.id + d.id * e.id) % 7) FROM images a, images b, images c, images d, images e";
    let waiting = tokio::time::timeout(std::time::Duration::from_secs(2), rows(&together, many)).await;
    assert!(waiting.is_err(), "{waiting:?}");
    assert_eq!(rows(&together, query).await.unwrap(), expected);
    let Cluster { scheduler, executors, folder: _folder } = cluster;
    scheduler.stop().await;
    let start = std::time::Instant::now();
    let error = rows(&together, query).await.unwrap_err();
    assert!(error.contains("the scheduler of the cluster does not answer any more"), "{error}");
    assert!(start.elapsed() < std::time::Duration::from_secs(10));
    drop(executors);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bank_that_is_behind_is_said_or_refused_on_a_cluster_too() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), IndexKind::Exact).await;
    let cluster = Cluster::start(1).await;
    let change = "UPDATE images SET split = 'gone' WHERE split = 'train' AND id % 2 = 0";
    rows(&Session::open(&store).await.unwrap(), change).await.unwrap();
    for query in [
        "SELECT max(knn_ood_score(toy, 'circle')) FROM images",
        "SELECT max(CASE WHEN id > 3 THEN knn_lid(toy, 'circle') END) FROM images",
    ] {
        let together = cluster.session(&store).await;
        rows(&together, query).await.unwrap();
        let notices = together.banks().notices();
        assert!(notices.iter().any(|notice| notice.starts_with("bank circle follows images up to")), "{notices:?}");
        let refused = rows(&together, &format!("SET outskirt.stale_bank = 'error'; {query}")).await.unwrap_err();
        assert!(refused.starts_with("bank circle follows images up to"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_cannot_be_reached_is_not_taken_in() {
    let cluster = Cluster::start(0).await;
    let options = ExecutorOptions {
        listen: "127.0.0.1:0".parse().unwrap(),
        host: "nobody.invalid".into(),
        slots: 1,
        memory: 1 << 28,
        folder: cluster.folder.path().into(),
    };
    let error = Executor::start(&cluster.address(), &options, &Security::default()).await.unwrap_err().to_string();
    assert!(error.contains("it cannot be reached at nobody.invalid:"), "{error}");
    assert_eq!(std::fs::read_dir(cluster.folder.path()).unwrap().count(), 0, "nothing is left");
    for (address, why) in [
        ("127.0.0.1", "it is HOST:PORT"),
        ("ftp://127.0.0.1:1", "it begins with http:// or https://"),
        ("https://127.0.0.1:1", "takes --tls-authority"),
        ("http://key@127.0.0.1:1", "it is HOST:PORT"),
    ] {
        let error = Client::connect(address, &Security::default()).await.unwrap_err().to_string();
        assert!(error.contains("is no address of a scheduler") && error.contains(why), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cluster_with_a_token_lets_in_those_who_have_it() {
    let folder = tempfile::tempdir().unwrap();
    let token = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        SecurityFiles { token: Some(path), ..SecurityFiles::default() }
    };
    let own = Security::read(&token("own", "0123456789abcdef\n")).unwrap();
    let other = Security::read(&token("other", "0123456789abcdeF")).unwrap();
    let short = Security::read(&token("short", "secret")).unwrap_err().to_string();
    assert!(short.contains("holds no token") && !short.contains("secret"), "{short}");
    let scheduler = Scheduler::start("127.0.0.1:0".parse().unwrap(), &own).await.unwrap();
    let address = scheduler.address().to_string();
    for security in [&other, &Security::default()] {
        let error = Client::connect(&address, security).await.unwrap_err().to_string();
        assert!(error.contains("the token is not the cluster's"), "{error}");
    }
    Client::connect(&address, &own).await.unwrap();
    // where others hear, a token alone is not enough
    let error = Scheduler::start("0.0.0.0:0".parse().unwrap(), &own).await.unwrap_err().to_string();
    assert!(error.contains("can be reached from other machines") && error.contains("--tls-authority"), "{error}");
    let error = Client::connect("127.0.0.1:9", &own).await.unwrap_err().to_string();
    assert!(error.contains("no scheduler of a cluster answers at http://127.0.0.1:9"), "{error}");
}
