//! What a crash, a clock, a key or a host can do to a database in a bucket: nothing that is committed is lost, nothing is there twice,
//! and what is refused is one line that says what to do.
//!
//! `OUTSKIRT_KILLS=1008` runs the long form of the kill test (`make faults`), with a quarter as many kills.

#![expect(clippy::print_stdout, reason = "what was done")]

use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use super::bucket_machine::{DATABASE, Machine};
use super::bucket_server::{BucketServer, Fault, Held};

/// Kills where nothing else is asked for.
const KILLS: usize = 8;

/// A command, what it runs on, and what its database holds that must not depend on interruptions.
struct Operation {
    name: &'static str,
    template: usize,
    line: Vec<String>,
    /// Requests of it that change something, where nothing comes between.
    changes: usize,
    before: Vec<String>,
    truth: Vec<String>,
}

fn words(line: &[String]) -> Vec<&str> {
    line.iter().map(String::as_str).collect()
}

/// What the database holds; nothing where there is none.
fn state(machine: &Machine<'_>) -> Vec<String> {
    // the first that fails is the last: there is no bank, or no database
    let queries = [
        "SELECT id, uri, split, label FROM images ORDER BY id",
        "SELECT name, row_count FROM banks ORDER BY name",
        "SELECT bank, k, array_length(scores) FROM calibrations",
        "SET outskirt.stale_bank = 'ignore'",
        "SELECT id, knn_ood_score(net, 'b') FROM images ORDER BY id",
        "SELECT id, b_score FROM images ORDER BY id",
    ];
    let said = machine.run(DATABASE, &["sql", &queries.join("; SELECT 0 AS next; "), "--format", "csv"]);
    String::from_utf8(said.stdout).unwrap().split("next\n0\n").map(str::to_owned).collect()
}

#[test]
fn a_process_killed_at_any_request_leaves_what_it_found_or_what_it_was_to_do() {
    let kills = std::env::var("OUTSKIRT_KILLS").map_or(KILLS, |text| text.parse::<usize>().unwrap() / 4);
    let server = BucketServer::start();
    let machine = Machine::of(&server);
    let (file, more) = (machine.vectors("v.csv", 0..150), machine.vectors("w.csv", 140..200));
    let owned = |line: &[&str]| line.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let (first, second) = (owned(&machine.ingest(&file)), owned(&machine.ingest(&more)));
    let says = |line: &[&str]| machine.says(DATABASE, line);
    let mut templates: Vec<Held> = vec![server.held()];
    machine.says(DATABASE, &machine.ingest(&file));
    says(&["bank", "create", "b", "--backbone", "net", "--where", "split = 'train'", "--k", "3", "--index", "hnsw"]);
    says(&["bank", "calibrate", "b", "--where", "split = 'val'"]);
    says(&["score", "b"]);
    templates.push(server.held());
    says(&["delete", "--where", "id % 5 = 1"]);
    templates.push(server.held());
    let lines = [
        ("ingest into nothing", 0, first),
        ("ingest", 1, second),
        ("delete", 1, owned(&["delete", "--where", "id % 3 = 1"])),
        ("update", 1, owned(&["sql", "UPDATE images SET label = 'x' WHERE id % 5 = 0"])),
        ("calibrate", 1, owned(&["bank", "calibrate", "b", "--where", "split = 'test'"])),
        ("refresh", 2, owned(&["bank", "refresh", "b"])),
        ("score", 2, owned(&["score", "b"])),
        ("optimize", 2, owned(&["optimize"])),
        ("undo", 2, owned(&["undo"])),
    ];
    let operations: Vec<Operation> = lines
        .into_iter()
        .map(|(name, template, line)| {
            server.hold(&templates[template]);
            let before = state(&machine);
            server.hold(&templates[template]);
            machine.says(DATABASE, &words(&line));
            let (_, changes) = server.changes();
            Operation { name, template, line, changes, before, truth: state(&machine) }
        })
        .collect();
    let mut random = 7_u64;
    let (mut silent, mut whole) = (0, 0);
    for round in 0..kills {
        let operation = &operations[round % operations.len()];
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (at, is_done) = (1 + (random >> 33) as usize % operation.changes, random >> 62 & 1 == 1);
        let what = format!("{}, request {at} of {}, done: {is_done}", operation.name, operation.changes);
        server.hold(&templates[operation.template]);
        server.stops_at(at, is_done);
        let mut child = machine.start(DATABASE, &words(&operation.line));
        let start = Instant::now();
        while !server.changes().0 && child.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < Duration::from_secs(60), "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
        silent += usize::from(server.changes().0);
        child.kill().unwrap();
        child.wait().unwrap();
        server.goes_on();
        // a request that was under way is done, or it is not
        std::thread::sleep(Duration::from_millis(20));
        let found = state(&machine);
        let rows = |state: &[String]| state[0].clone();
        let is_one = [&operation.before, &operation.truth].iter().any(|known| rows(known) == rows(&found));
        let is_within = operation.name.starts_with("ingest") && found[0].starts_with(operation.before[0].trim_end());
        assert!(is_one || is_within, "{what}: {} lines", found[0].lines().count());
        let is_undone = operation.name == "undo" && rows(&found) == rows(&operation.truth);
        whole += usize::from(rows(&found) == rows(&operation.truth));
        if !is_undone {
            // a second one would take back the change before
            machine.says(DATABASE, &words(&operation.line));
        }
        let after = state(&machine);
        for (found, truth) in after.iter().zip(&operation.truth) {
            let differing = found.lines().zip(truth.lines()).find(|(a, b)| a != b);
            assert!(
                found == truth,
                "{what}: {} and {} lines, {differing:?}",
                found.lines().count(),
                truth.lines().count()
            );
        }
        machine.says(DATABASE, &["verify"]);
    }
    println!("{kills} kills, {silent} in the midst of a request, {whole} with all rows there");
    assert!(silent * 2 > kills);
}

#[test]
fn clocks_that_are_off_by_an_hour_change_nothing() {
    for ahead in [3600, -3600] {
        let server = BucketServer::start();
        server.site.lock().unwrap().ahead = ahead;
        let machines = [(); 2].map(|()| Machine { lease: 8, ..Machine::of(&server) });
        let files = [0..30, 30..60, 60..90].map(|rows| machines[0].vectors(&format!("{}.csv", rows.start), rows));
        machines[0].says(DATABASE, &machines[0].ingest(&files[0]));
        let stopped = machines[0].while_it_writes(&machines[0].ingest(&files[1]));
        let signal = |name: &str| {
            assert!(Command::new("kill").args([name, &stopped.id().to_string()]).status().unwrap().success());
        };
        signal("-STOP");
        // it is held for some seconds, and no longer
        let refused = machines[1].run(DATABASE, &["--wait", "0", "delete", "--where", "id = 1"]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains("lease is over in"), "{said}");
        machines[1].says(DATABASE, &[&["--wait", "20"], &machines[1].ingest(&files[2])[..]].concat());
        signal("-CONT");
        assert!(!stopped.wait_with_output().unwrap().status.success());
        let rows = "SELECT count(*) AS n, count(DISTINCT id) AS ids FROM images";
        assert_eq!(machines[0].csv(DATABASE, rows), "n,ids\n60,60\n", "{ahead}");
        machines[0].says(DATABASE, &["optimize"]);
        assert_eq!(machines[1].csv(DATABASE, rows), "n,ids\n60,60\n", "{ahead}");
    }
}

#[test]
fn what_a_bucket_refuses_is_one_line_that_says_what_to_do() {
    let server = BucketServer::start();
    let machine = Machine::of(&server);
    let files = [0..30, 30..60].map(|rows| machine.vectors(&format!("{}.csv", rows.start), rows));
    machine.says(DATABASE, &machine.ingest(&files[0]));
    let rows = "SELECT count(*) AS n FROM images";
    for (code, what) in [
        ("ExpiredToken", "the key has expired; get a new one"),
        ("RequestTimeTooSkewed", "the clock of this machine is wrong"),
        ("SignatureDoesNotMatch", "is not what the server knows"),
        ("AccessDenied", "may not do that in this bucket"),
    ] {
        // at once, and in the midst of a commit
        for (method, path) in [("GET", ""), ("PUT", "images.lance/_versions")] {
            server.fails(method, path, usize::MAX, Fault::Denied(code, "so it is"));
            let refused = machine.run(DATABASE, &machine.ingest(&files[1]));
            let said = String::from_utf8_lossy(&refused.stderr).into_owned();
            let lines = said.lines().filter(|line| !line.starts_with("embedding")).count();
            assert!(!refused.status.success() && said.contains(what) && lines == 1, "{code}, {method}: {said}");
            server.site.lock().unwrap().faults.clear();
            assert_eq!(machine.csv(DATABASE, rows), "n\n30\n", "{code}, {method}");
        }
    }
    // whoever accepts and never answers is given up soon
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let start = Instant::now();
    let refused = machine.command(DATABASE, &["sql", rows]).env("AWS_ENDPOINT", url).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("no answer from its host") && said.lines().count() == 1,
        "{said}"
    );
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    // what is wrong here is not said of the bucket
    for (name, value, why) in [
        ("OUTSKIRT_CACHE_BYTES", "abc", "OUTSKIRT_CACHE_BYTES is 'abc': it is a number of bytes"),
        ("OUTSKIRT_CACHE", "/dev/null/x", "the cache of this machine for s3://pets/data/shop.db cannot be used"),
        ("AWS_PROFILE", "nobody", "AWS_PROFILE is 'nobody', and neither"),
    ] {
        let refused = machine.command(DATABASE, &["sql", rows]).env(name, value).output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(why) && said.lines().count() == 1, "{name}: {said}");
    }
    // a place inside a database is none for another
    let inside = format!("{DATABASE}/more.db");
    let refused = machine.run(&inside, &machine.ingest(&files[1]));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains(&format!("lies inside the database at {DATABASE}")), "{said}");
}
