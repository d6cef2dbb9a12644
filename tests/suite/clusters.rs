//! Queries on a cluster that runs in the test: rows and scores are those of the session alone, to the bit.

#![expect(clippy::print_stdout, reason = "what was compared")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use outskirt::bank;
use outskirt::cluster::{Client, Executor, ExecutorOptions, Scheduler, Security, SecurityFiles, Stage};
use outskirt::index::{IndexKind, Storage};
use outskirt::sql::session::Session;
use outskirt::store::Store;

use super::fixture::{calibrated, circle, outskirt, rows};

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
    // pages are for those who have it
    for (token, status) in [("0123456789abcdef", 200), ("0123456789abcdeF", 401), ("", 401)] {
        let (found, text) = page(&address, "/metrics", &format!("Authorization: Bearer {token}\r\n")).await;
        assert_eq!((found, text.contains("outskirt_executors")), (status, status == 200), "{text}");
        assert!(!text.contains("0123456789abcdef"), "{text}");
    }
    // where others hear, a token alone is not enough
    let error = Scheduler::start("0.0.0.0:0".parse().unwrap(), &own).await.unwrap_err().to_string();
    assert!(error.contains("can be reached from other machines") && error.contains("--tls-authority"), "{error}");
    let error = Client::connect("127.0.0.1:9", &own).await.unwrap_err().to_string();
    assert!(error.contains("no scheduler of a cluster is at http://127.0.0.1:9"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bank_in_shards_gives_the_scores_of_one_in_one_piece_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), IndexKind::Exact).await;
    for shards in [3, 12] {
        let name = format!("shards{shards}");
        bank::create(&store, &bank::BankSpec { name: name.clone(), ..circle(IndexKind::Sharded(shards)) })
            .await
            .unwrap();
        bank::calibrate(&store, &name, "dataset = 'id' AND split = 'val'", None).await.unwrap();
    }
    let cluster = Cluster::start(2).await;
    let (alone, together) = (Session::open(&store).await.unwrap(), cluster.session(&store).await);
    let mut wrong = 0;
    for query in [
        "SELECT id, knn_ood_score(toy, 'BANK') AS s FROM images ORDER BY id",
        "SELECT id, uri, label, knn_ood_score(toy, 'BANK', 39, id) AS s FROM images WHERE toy IS NOT NULL ORDER BY id",
        "SELECT * FROM (SELECT *, knn_ood_score(toy, 'BANK') AS s FROM images WHERE id % 3 > 0) ORDER BY id",
        "SELECT id, knn_ood_score(toy, 'BANK') AS s FROM images WHERE knn_ood_score(toy, 'BANK') > 0.05 ORDER BY s DESC, id",
        "SELECT id FROM images WHERE knn_ood_score(toy, 'BANK') BETWEEN 0.01 AND 0.04 ORDER BY id",
        "SELECT id, knn_ood_score(toy, 'BANK') AS s FROM images ORDER BY s DESC, id LIMIT 7",
        "SELECT id, knn_ood_score(toy, 'BANK') AS s FROM images ORDER BY s, id LIMIT 7",
        "SELECT count(*) FROM images WHERE is_ood(toy, 'BANK', 0.95)",
        "SELECT count(*), min(knn_ood_score(toy, 'BANK')), max(knn_ood_score(toy, 'BANK')) FROM images",
        "SELECT split, auroc(knn_ood_score(toy, 'BANK'), dataset = 'ood') FROM images GROUP BY split ORDER BY split",
        // two scores of a row; over a join; within an expression
        "SELECT id, knn_ood_score(toy, 'BANK') - knn_ood_score(toy, 'circle', 7) AS s FROM images ORDER BY id",
        "SELECT id, knn_ood_score(toy, 'BANK'), knn_ood_score(toy, 'BANK', 3) AS s FROM images ORDER BY id",
        "SELECT a.id, knn_ood_score(b.toy, 'BANK') AS s FROM images a JOIN images b ON a.id = b.id + 1 ORDER BY a.id",
        "SELECT id, CASE WHEN id % 2 = 0 THEN knn_ood_score(toy, 'BANK') END FROM images ORDER BY id",
        "SELECT id, knn_neighbors(toy, 'BANK', 6, id) FROM images WHERE toy IS NOT NULL ORDER BY id",
        "SELECT id FROM images WHERE id > (SELECT avg(id) FROM images) AND knn_ood_score(toy, 'BANK') > 0.02 ORDER BY id",
    ] {
        let expected = rows(&alone, &query.replace("BANK", "circle")).await.unwrap();
        for name in ["shards3", "shards12"] {
            let found = rows(&together, &query.replace("BANK", name)).await;
            if found.as_ref() != Ok(&expected) {
                println!("{name}: {query}\n  {expected:?}\n  {found:?}");
                wrong += 1;
            }
        }
    }
    assert_eq!(wrong, 0, "queries give other rows than one machine does");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn score_keeps_what_a_cluster_has_computed() {
    let folder = tempfile::tempdir().unwrap();
    drop(calibrated(folder.path(), IndexKind::Exact).await);
    let cluster = Cluster::start(2).await;
    let address = cluster.address();
    let (said, _) =
        outskirt(folder.path(), &["score", "circle", "--cluster", &address, "--into", "far"]).await.unwrap();
    assert_eq!(said.trim(), "bank circle: 90 scores written to images.far (k = 5, version 3), 0 were up to date");
    outskirt(folder.path(), &["score", "circle", "--into", "near"]).await.unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let session = Session::open(&store).await.unwrap();
    let same =
        "SELECT count(*) FILTER (WHERE far = near AND far_version = near_version), count(far), count(*) FROM images";
    assert_eq!(rows(&session, same).await.unwrap(), ["90|90|91"]);
    // only what is not there is asked for
    let line = ["score", "circle", "--cluster", &address, "--into", "later", "--where"];
    let (said, _) = outskirt(folder.path(), &[&line[..], &["id <= 10"]].concat()).await.unwrap();
    assert!(said.contains("10 scores written"), "{said}");
    let (said, _) = outskirt(folder.path(), &[&line[..], &["id > 3"]].concat()).await.unwrap();
    assert!(said.contains("80 scores written") && said.contains("7 were up to date"), "{said}");
    let session = Session::open(&store).await.unwrap();
    assert_eq!(rows(&session, "SELECT count(*) FROM images WHERE later = near").await.unwrap(), ["90"]);
}

/// What a server answers to a GET: the status, and the text.
async fn page(address: &str, path: &str, headers: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let host = if headers.starts_with("Host") { String::new() } else { format!("Host: {address}\r\n") };
    let asked = format!("GET {path} HTTP/1.1\r\n{host}Connection: close\r\n{headers}\r\n");
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn how_far_a_query_is_and_what_executors_have_done_can_be_seen() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), IndexKind::Exact).await;
    let cluster = Cluster::start(1).await;
    let session = Session::open(&store).await.unwrap();
    let client = Client::connect(&cluster.address(), &Security::default()).await.unwrap();
    client.attach(&session, 5, 16);
    let told: Arc<Mutex<Vec<Vec<Stage>>>> = Arc::default();
    let hears = Arc::clone(&told);
    client.watch(move |progress| hears.lock().unwrap().push(progress.stages.clone()));
    let query = "SELECT split, max(knn_ood_score(toy, 'circle')), count(*) FROM images GROUP BY split";
    rows(&session, query).await.unwrap();
    let told = told.lock().unwrap().clone();
    assert!(told.last().unwrap().is_empty(), "it is over: {told:?}");
    let known = told.iter().filter(|stages| !stages.is_empty());
    assert!(known.clone().count() > 0, "nothing was told");
    for stages in known {
        assert!(stages.iter().all(|stage| stage.done + stage.running <= stage.tasks && stage.tasks > 0), "{stages:?}");
    }
    let (status, metrics) = page(&cluster.executors[0].address().to_string(), "/metrics", "").await;
    assert_eq!(status, 200);
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} in {metrics}")).parse::<u64>().unwrap()
    };
    assert_eq!(value("outskirt_rows_scored_total"), 90);
    assert!(value("outskirt_distances_total{step=\"computed\"}") >= 90 * 5);
    assert!(value("outskirt_tasks_total{result=\"done\"}") >= 5);
    assert_eq!(value("outskirt_tasks_total{result=\"failed\"}"), 0);
    assert_eq!((value("outskirt_banks"), value("outskirt_slots"), value("outskirt_tasks_running")), (1, 2, 0));
    assert!(value("outskirt_bank_bytes") > 0 && value("outskirt_given_bytes_total") > 0);
    let (_, metrics) = page(&cluster.address(), "/metrics", "").await;
    assert!(metrics.contains("outskirt_executors 1\n"), "{metrics}");
    assert!(metrics.contains("outskirt_queries_total{result=\"done\"} 1\n"), "{metrics}");
    let (_, jobs) = page(&cluster.address(), "/api/jobs", "").await;
    assert!(jobs.contains("\"status\":\"Completed\""), "{jobs}");
    let (_, about) = page(&cluster.address(), "/", "").await;
    assert!(about.contains("/api/executors"), "{about}");
    for address in [cluster.address(), cluster.executors[0].address().to_string()] {
        let (status, text) = page(&address, "/api/nothing", "").await;
        assert_eq!((status, text.trim()), (404, "no such page: / says which there are"));
    }
    let (status, _) = page(&cluster.address(), "/metrics", "Host: evil.example\r\n").await;
    assert_eq!(status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cluster_with_tls_is_for_those_who_know_its_authority_and_token() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), IndexKind::Exact).await;
    let fixture = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name);
    let token = folder.path().join("token");
    std::fs::write(&token, "0123456789abcdef").unwrap();
    let files = |certificate: Option<(PathBuf, PathBuf)>, authority: &str| {
        let files = SecurityFiles { token: Some(token.clone()), certificate, authority: Some(fixture(authority)) };
        Security::read(&files).unwrap()
    };
    let own = Some((fixture("certificate.pem"), fixture("key.pem")));
    let server = files(own, "authority.pem");
    let scheduler = Scheduler::start("127.0.0.1:0".parse().unwrap(), &server).await.unwrap();
    let address = scheduler.address().to_string();
    let options = ExecutorOptions {
        listen: "127.0.0.1:0".parse().unwrap(),
        host: "localhost".into(),
        slots: 2,
        memory: 1 << 28,
        folder: folder.path().join("executor"),
    };
    let executor = Executor::start(&address, &options, &server).await.unwrap();
    // one whose certificate is for other names: queries would fail that had rows there
    let elsewhere =
        ExecutorOptions { listen: "127.0.0.2:0".parse().unwrap(), host: "127.0.0.2".into(), ..options.clone() };
    let error = Executor::start(&address, &elsewhere, &server).await.unwrap_err().to_string();
    assert!(error.contains("cannot be reached at 127.0.0.2:"), "{error}");
    assert!(error.contains("its certificate is for another name"), "{error}");
    let (alone, together) = (Session::open(&store).await.unwrap(), Session::open(&store).await.unwrap());
    Client::connect(&address, &files(None, "authority.pem")).await.unwrap().attach(&together, 3, 16);
    let query = "SELECT id, knn_ood_score(toy, 'circle') AS s FROM images ORDER BY s DESC, id LIMIT 30";
    assert_eq!(rows(&together, query).await.unwrap(), rows(&alone, query).await.unwrap());
    // another authority, and none
    let error = Client::connect(&address, &files(None, "other-authority.pem")).await.unwrap_err().to_string();
    assert!(error.contains("its certificate is not of the authority that --tls-authority names"), "{error}");
    let plain = SecurityFiles { token: Some(token.clone()), ..SecurityFiles::default() };
    let error = Client::connect(&address, &Security::read(&plain).unwrap()).await.unwrap_err().to_string();
    assert!(error.contains("--tls-authority names who signed its certificate"), "{error}");
    // a key that is another certificate's is said before anybody listens
    let pair = Some((fixture("certificate.pem"), fixture("other-key.pem")));
    let error =
        Security::read(&SecurityFiles { certificate: pair, ..SecurityFiles::default() }).unwrap_err().to_string();
    assert!(error.contains("other-key.pem do not go together: the key is another certificate's"), "{error}");
    // nor does anybody listen with a certificate that the others would not believe
    let own = Some((fixture("certificate.pem"), fixture("key.pem")));
    let authority = Some(fixture("other-authority.pem"));
    let strange = SecurityFiles { certificate: own, authority, ..SecurityFiles::default() };
    let error = Security::read(&strange).unwrap_err().to_string();
    assert!(error.contains("certificate.pem: its certificate is not of the authority"), "{error}");
    executor.stop().await;
    scheduler.stop().await;
}

/// The units that are to be copied: systemd would say nothing of an option that the program does not have before it starts it.
#[test]
fn the_commands_of_the_units_are_commands_of_the_program() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/cluster");
    let environment = std::fs::read_to_string(folder.join("executor.env")).unwrap();
    let values = environment.lines().filter_map(|line| line.split_once('='));
    for unit in ["outskirt-scheduler.service", "outskirt-executor.service"] {
        let text = std::fs::read_to_string(folder.join(unit)).unwrap().replace("\\\n", " ");
        let line = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap().to_owned();
        let filled = values.clone().fold(line, |line, (name, value)| line.replace(&format!("${{{name}}}"), value));
        let filled = filled.replace("${CREDENTIALS_DIRECTORY}", "/run/credentials");
        assert!(!filled.contains('$'), "{filled}");
        let parsed = <outskirt::cli::Cli as clap::Parser>::try_parse_from(filled.split_whitespace());
        assert!(parsed.is_ok(), "{filled}: {}", parsed.unwrap_err());
    }
}

/// Of more rows than a test takes a sample is drawn: the same one however the rows are divided.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn samples_are_the_same_on_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    // no two of them are equal
    let vector = |row: u64| Some(vec![row as f32, ((row * 7919) % 1009) as f32, ((row * 31) % 577) as f32, 500.0]);
    let image = |row: u64| (if row.is_multiple_of(2) { "a" } else { "b" }, "train", vector(row));
    let images: Vec<_> = (0..6000).map(image).collect();
    let store = super::fixture::database(folder.path(), 4, &images).await;
    let cluster = Cluster::start(1).await;
    let alone = Session::open(&store).await.unwrap();
    let together = Session::open(&store).await.unwrap();
    Client::connect(&cluster.address(), &Security::default()).await.unwrap().attach(&together, 5, 1000);
    for test in ["mmd_test", "classifier_two_sample_auroc"] {
        let query = format!("SELECT {test}(toy, dataset = 'a') FROM images");
        assert_eq!(rows(&together, &query).await.unwrap(), rows(&alone, &query).await.unwrap(), "{test}");
    }
}
