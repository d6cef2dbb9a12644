//! A machine that works on databases in a bucket, by the program.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::bucket_server::{BucketServer, Fault};

/// A machine: its folders, and the bucket that it reaches.
pub struct Machine<'s> {
    pub server: &'s BucketServer,
    pub folder: tempfile::TempDir,
    pub lease: u64,
}

pub const DATABASE: &str = "s3://pets/data/shop.db";

impl<'s> Machine<'s> {
    pub fn of(server: &'s BucketServer) -> Self {
        Self { server, folder: tempfile::tempdir().unwrap(), lease: 30 }
    }

    pub fn command(&self, db: &str, line: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outskirt"));
        command
            .args(["--db", db])
            .args(line)
            .env("AWS_ENDPOINT", &self.server.url)
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_SKIP_SIGNATURE", "true")
            .env("OUTSKIRT_CACHE", self.folder.path().join("cache"))
            .env("OUTSKIRT_LEASE", self.lease.to_string())
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, db: &str, line: &[&str]) -> Output {
        self.command(db, line).output().unwrap()
    }

    /// What it says; it must succeed.
    pub fn says(&self, db: &str, line: &[&str]) -> String {
        let output = self.run(db, line);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{line:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn csv(&self, db: &str, query: &str) -> String {
        self.says(db, &["sql", query, "--format", "csv"])
    }

    pub fn start(&self, db: &str, line: &[&str]) -> Child {
        self.command(db, line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// So many vectors on a circle, in a file.
    pub fn vectors(&self, name: &str, rows: std::ops::Range<usize>) -> PathBuf {
        let mut text = String::from("uri,split,v\n");
        for row in rows {
            let angle = row as f64 * 0.01;
            let split = ["train", "val", "test"][row % 3];
            text += &format!("/pictures/{row}.png,{split},\"[{}, {}, 0.1]\"\n", angle.cos(), angle.sin());
        }
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn ingest<'l>(&self, file: &'l Path) -> Vec<&'l str> {
        let file = file.to_str().unwrap();
        vec!["ingest", file, "--embedding-column", "v", "--dataset", "d", "--backbone", "net", "--model-version", "1"]
    }

    /// Begin a change, and come back while its first file is being put.
    pub fn while_it_writes(&self, line: &[&str]) -> Child {
        let data = "PUT /pets/data/shop.db/images.lance/data";
        let seen = self.server.requests(data);
        self.server.fails("PUT", "images.lance/data", 1, Fault::Slow(Duration::from_millis(1500)));
        let child = self.start(DATABASE, line);
        let start = Instant::now();
        while self.server.requests(data) == seen {
            assert!(start.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(10));
        }
        child
    }
}
