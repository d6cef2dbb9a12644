//! Databases in a bucket, by the program, on a server that runs in the test.

use std::process::Command;
use std::time::Duration;

use super::bucket_machine::{DATABASE, Machine};
use super::bucket_server::{BucketServer, Fault};

/// What is about times and places, left out.
fn plain(said: &str) -> String {
    let numbers = |word: &str| word.chars().any(|c| c.is_ascii_digit()) && word.contains(['.', ':', '/']);
    said.lines()
        .map(|line| line.split_once(" rows/s").map_or(line, |(line, _)| line.rsplit_once(", ").unwrap().0))
        .map(|line| line.split_whitespace().filter(|word| !numbers(word)).collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn a_database_in_a_bucket_does_what_one_in_a_folder_does() {
    let server = BucketServer::start();
    let machine = Machine::of(&server);
    let here = machine.folder.path().join("here.db");
    let here = here.to_str().unwrap();
    let (file, more) = (machine.vectors("v.csv", 0..300), machine.vectors("w.csv", 290..330));
    let ingest = machine.ingest(&file);
    let lines: Vec<Vec<&str>> = vec![
        ingest,
        vec!["bank", "create", "b", "--backbone", "net", "--where", "split = 'train'", "--k", "3", "--index", "hnsw"],
        vec!["bank", "calibrate", "b", "--where", "split = 'val'"],
        vec![
            "sql",
            "SELECT id, uri, round(knn_ood_score(net, 'b'), 6) AS s FROM images ORDER BY s DESC, id LIMIT 5",
            "--format",
            "csv",
        ],
        vec!["sql", "UPDATE images SET label = 'seen' WHERE id < 100"],
        machine.ingest(&more),
        vec!["curate", "tag", "--where", "id > 310", "--set", "camera=7", "--yes"],
        vec!["delete", "--where", "id > 320"],
        vec!["undo"],
        vec!["score", "b"],
        vec!["sql", "SELECT count(*), sum(b_score), max(camera) FROM images", "--format", "csv"],
        vec!["sql", "SELECT count(*) FROM images@5", "--format", "csv"],
        vec!["bank", "list"],
        vec!["history"],
        vec!["optimize", "--keep", "1day"],
        vec!["verify"],
        vec!["explain", "7", "--bank", "b"],
        vec!["bank", "drop", "b"],
    ];
    for line in lines {
        let [there, here] = [DATABASE, here].map(|db| machine.run(db, &line));
        assert!(there.status.success() && here.status.success(), "{line:?}: {there:?}");
        if line[0] == "optimize" {
            continue; // sizes are of files, and young versions stay in a bucket
        }
        let text = |bytes: &[u8]| plain(&String::from_utf8_lossy(bytes));
        assert_eq!((text(&there.stdout), text(&there.stderr)), (text(&here.stdout), text(&here.stderr)), "{line:?}");
    }
    // nothing but tables and what whoever died would leave
    let mut folders: Vec<String> =
        server.keys().iter().filter_map(|key| key.split('/').nth(4).map(str::to_owned)).collect();
    folders.dedup();
    folders.retain(|folder| !folder.ends_with(".lance"));
    assert_eq!(folders, ["locks"], "{:?}", server.keys());
    // another machine sees the same, with the index files that this one has made; and one that cannot reach it says so in a line
    let other = Machine::of(&server);
    machine.says(DATABASE, &["bank", "create", "c", "--backbone", "net", "--where", "split = 'train'", "--k", "3"]);
    let scores = "SELECT sum(knn_ood_score(net, 'c')) AS s, count(*) AS n FROM images";
    assert_eq!(other.csv(DATABASE, scores), machine.csv(DATABASE, scores));
    assert!(other.csv(DATABASE, scores).ends_with(",330\n"));
    assert_eq!(server.requests("GET /pets/data/shop.db/indexes/c.exact"), 1, "fetched once, and not made");
    let lost =
        other.command(DATABASE, &["sql", "SELECT 1"]).env("AWS_ENDPOINT", "http://127.0.0.1:9").output().unwrap();
    let said = String::from_utf8_lossy(&lost.stderr).into_owned();
    let why = "cannot read s3://pets/data/shop.db: no answer from its host";
    assert!(!lost.status.success() && said.lines().count() == 1 && said.contains(why), "{said}");
    for (db, why) in [
        ("s3://pets", "is no place of a database: it is not s3://BUCKET/PATH"),
        ("s3://pets/none.db", "no database at s3://pets/none.db"),
        ("gs://pets/shop.db", "gs"),
        ("s3:/pets/shop.db", "it is not s3://BUCKET/PATH"),
        ("s3://pets/data/../shop.db", "'..' is no part of it"),
        ("s3://pets//shop.db", "'' is no part of it"),
        (
            "s3://key:secret@pets/shop.db?x=1",
            "s3://pets/shop.db?x=1 is no place of a database: 'shop.db?x=1' is no part",
        ),
        ("s3://pets/data/shop.db/images.lance", "it lies inside a table"),
    ] {
        let refused = other.run(db, &["sql", "SELECT 1"]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(why) && said.lines().count() == 1, "{db}: {said}");
        assert!(!said.contains("secret"), "{said}");
    }
    for (name, value, why) in [
        ("AWS_ENDPOINT", "127.0.0.1:9", "AWS_ENDPOINT is '127.0.0.1:9': it begins with http:// or https://"),
        ("OUTSKIRT_LEASE", "1e9", "OUTSKIRT_LEASE is '1e9': it is a number of seconds from 1 to 600"),
        ("AWS_ALLOW_HTTP", "false", "AWS_ALLOW_HTTP=true allows that"),
    ] {
        let refused = other.command(DATABASE, &["delete", "--where", "id = 1"]).env(name, value).output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(why) && said.lines().count() == 1, "{name}: {said}");
    }
}

#[test]
fn one_machine_writes_to_a_bucket_at_a_time() {
    let server = BucketServer::start();
    let machines = [Machine::of(&server), Machine::of(&server)];
    let files = [machines[0].vectors("v.csv", 0..60), machines[1].vectors("w.csv", 60..120)];
    let lines = [0, 1].map(|at| [&machines[at].ingest(&files[at])[..], &["--wait", "60"]].concat());
    let running = [0, 1].map(|at| machines[at].start(DATABASE, &lines[at]));
    for child in running {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let rows =
        machines[0].csv(DATABASE, "SELECT count(*) AS n, count(DISTINCT id) AS ids, max(id) AS last FROM images");
    assert_eq!(rows, "n,ids,last\n120,120,120\n");
}

#[test]
fn a_writer_that_is_killed_is_seen_to_be_gone_by_its_machine() {
    let server = BucketServer::start();
    let machine = Machine::of(&server);
    let (file, more) = (machine.vectors("v.csv", 0..60), machine.vectors("w.csv", 60..90));
    machine.says(DATABASE, &machine.ingest(&file));
    let mut killed = machine.while_it_writes(&machine.ingest(&more));
    killed.kill().unwrap();
    killed.wait().unwrap();
    machine.says(DATABASE, &[&["--wait", "0"], &machine.ingest(&more)[..]].concat());
    assert_eq!(machine.csv(DATABASE, "SELECT count(*) AS n, max(id) AS last FROM images"), "n,last\n90,90\n");
    assert!(machine.says(DATABASE, &["history"]).contains("takeover after a writer that was taken for dead"));
}

#[test]
fn a_writer_that_was_taken_for_dead_commits_nothing() {
    let server = BucketServer::start();
    let machine = Machine { lease: 6, ..Machine::of(&server) };
    let files = [0..30, 30..60, 60..90].map(|rows| machine.vectors(&format!("{}.csv", rows.start), rows));
    machine.says(DATABASE, &machine.ingest(&files[0]));
    let manifests = "PUT /pets/data/shop.db/images.lance/_versions";
    let before = server.requests(manifests);
    // it stops just before its commit, for longer than its lease
    let stopped = machine.while_it_writes(&machine.ingest(&files[1]));
    let signal =
        |name: &str| assert!(Command::new("kill").args([name, &stopped.id().to_string()]).status().unwrap().success());
    signal("-STOP");
    assert_eq!(server.requests(manifests), before);
    let other = Machine::of(&server);
    let refused = other.run(DATABASE, &["--wait", "0", "delete", "--where", "id = 1"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    let whose = "another program is writing to s3://pets/data/shop.db";
    assert!(!refused.status.success() && said.contains(whose) && said.contains("lease is over in"), "{said}");
    other.says(DATABASE, &[&["--wait", "30"], &other.ingest(&files[2])[..]].concat());
    signal("-CONT");
    let output = stopped.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && said.contains("another program has taken the writer's place"), "{said}{out}");
    let rows = "SELECT count(*) AS n, count(DISTINCT id) AS ids, count(*) FILTER (WHERE uri LIKE '/pictures/4_.png') AS its FROM images";
    assert_eq!(machine.csv(DATABASE, rows), "n,ids,its\n60,60,0\n");
    // and again it does
    machine.says(DATABASE, &machine.ingest(&files[1]));
    assert_eq!(machine.csv(DATABASE, rows), "n,ids,its\n90,90,10\n");
}

#[test]
fn answers_that_are_lost_late_or_refused_lose_nothing() {
    let server = BucketServer::start();
    let machine = Machine::of(&server);
    let files = [0..30, 30..60].map(|rows| machine.vectors(&format!("{}.csv", rows.start), rows));
    machine.says(DATABASE, &machine.ingest(&files[0]));
    // a commit whose answer is lost is found, and not made twice
    server.fails("PUT", "images.lance/_versions", 1, Fault::Lost);
    server.fails("PUT", "curation_log.lance/_versions", 1, Fault::Lost);
    server.fails("PUT", "locks/write", 1, Fault::Lost);
    server.fails("PUT", "", 3, Fault::Refused(503));
    server.fails("GET", "", 5, Fault::Refused(500));
    server.fails("GET", "images.lance", 2, Fault::Cut);
    server.fails("GET", "list-type", 1, Fault::Slow(Duration::from_millis(700)));
    machine.says(DATABASE, &machine.ingest(&files[1]));
    let left = server.site.lock().unwrap().faults.iter().filter(|fault| fault.2 > 0).count();
    assert_eq!(left, 0, "all of them happened");
    let rows = "SELECT count(*) AS n, count(DISTINCT id) AS ids FROM images";
    assert_eq!(machine.csv(DATABASE, rows), "n,ids\n60,60\n");
    let history = machine.says(DATABASE, &["history"]);
    assert!(!history.contains("not recorded") && history.lines().count() == 3, "{history}");
    // what stays so is one line, and nothing is half there
    server.fails("PUT", "", usize::MAX, Fault::Refused(403));
    let refused = machine.run(DATABASE, &["sql", "DELETE FROM images WHERE id < 10"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.lines().count() == 1 && said.contains("403"), "{said}");
    // a setting that is none is said to readers too
    let nonsense = machine.command(DATABASE, &["sql", rows]).env("OUTSKIRT_LEASE", "soon").output().unwrap();
    assert!(String::from_utf8_lossy(&nonsense.stderr).contains("OUTSKIRT_LEASE is 'soon'"), "{nonsense:?}");
    // who may only read reads
    assert_eq!(machine.csv(DATABASE, rows), "n,ids\n60,60\n");
    server.site.lock().unwrap().faults.clear();
    let before = server.requests("");
    assert_eq!(machine.csv(DATABASE, rows), "n,ids\n60,60\n");
    let asked = server.requests("") - before;
    assert!(asked < 60, "{asked} requests for a SELECT");
}

#[test]
fn a_copy_goes_on_where_it_was_and_is_the_same_database() {
    let server = BucketServer::start();
    let machine = Machine::of(&server);
    let folder = |name: &str| machine.folder.path().join(name).to_str().unwrap().to_owned();
    let (here, back) = (folder("here.db"), folder("back.db"));
    let file = machine.vectors("v.csv", 0..200);
    machine.says(&here, &machine.ingest(&file));
    machine.says(&here, &["bank", "create", "b", "--backbone", "net", "--where", "split = 'train'", "--k", "3"]);
    machine.says(&here, &["delete", "--where", "id < 20"]);
    // it breaks off, and is no database yet
    server.fails("PUT", "banks.lance", 1, Fault::Refused(403));
    let broken = machine.run(&here, &["copy", &here, DATABASE]);
    let said = String::from_utf8_lossy(&broken.stderr).into_owned();
    assert!(!broken.status.success() && said.contains("403") && said.lines().count() == 1, "{said}");
    for line in [&["sql", "SELECT 1"][..], &machine.ingest(&file)] {
        let refused = machine.run(DATABASE, line);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        let why =
            format!("{DATABASE} holds the beginning of a copy of {here}: 'outskirt copy {here} {DATABASE}' goes on");
        assert!(!refused.status.success() && said.contains(&why), "{said}");
    }
    let other = machine.run(&here, &["copy", &back, DATABASE]);
    assert!(String::from_utf8_lossy(&other.stderr).contains("no database at"), "{other:?}");
    let copied = machine.says(&here, &["copy", &here, DATABASE]);
    assert!(copied.contains(" files copied and read back, ") && copied.contains(" were there"), "{copied}");
    machine.says(&here, &["copy", DATABASE, &back]);
    let over = machine.run(&here, &["copy", &here, &back]);
    assert!(String::from_utf8_lossy(&over.stderr).contains("nothing is copied to"), "{over:?}");
    let scores = "SELECT id, uri, knn_ood_score(net, 'b') AS s FROM images ORDER BY s DESC, id";
    let here_scores = machine.csv(&here, scores);
    assert_eq!(here_scores.lines().count(), 182);
    for db in [DATABASE, &back] {
        assert_eq!(machine.csv(db, scores), here_scores);
        machine.says(db, &["undo"]);
        assert_eq!(machine.csv(db, "SELECT count(*) AS n FROM images"), "n\n200\n");
        machine.says(db, &["verify"]);
    }
}
