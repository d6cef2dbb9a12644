//! What a command reads does not grow with what was there before.

use std::fs;
use std::path::Path;

use outskirt::index::IndexKind;
use outskirt::schema;
use outskirt::sql::session::Session;
use outskirt::store::Store;

use crate::fixture::{calibrated, outskirt};

/// Spoil the manifests of all versions of all tables, but the latest and those that banks keep; and count them.
async fn spoil_older_versions(store: &Store) -> usize {
    let mut spoiled = 0;
    for table in schema::TABLES {
        let kept: Vec<u64> = store.tags(table).await.unwrap().into_iter().map(|(_, version)| version).collect();
        let latest = store.version(table).await.unwrap();
        for version in store.versions(table).await.unwrap() {
            if version != latest && !kept.contains(&version) {
                let name = format!("{table}.lance/_versions/{:020}.manifest", u64::MAX - version);
                fs::write(store.folder().join(name), "not a manifest").unwrap();
                spoiled += 1;
            }
        }
    }
    spoiled
}

#[tokio::test]
async fn no_command_reads_versions_that_it_is_not_asked_about() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    let (store, _) = calibrated(db, IndexKind::Exact).await;
    let session = Session::open(&store).await.unwrap();
    for change in 0..12 {
        let update = format!("UPDATE images SET label = 'v{change}' WHERE id = {}", 50 + change);
        for statement in session.parse(&update).unwrap() {
            session.run(statement).await.unwrap();
        }
    }
    drop(session);
    let commands: [&[&str]; 5] = [
        &["sql", "SELECT count(*) FROM images", "--format", "csv"],
        &[
            "sql",
            "SELECT id, knn_ood_score(toy, 'circle'), knn_ood_pvalue(toy, 'circle') FROM images",
            "--format",
            "csv",
        ],
        &["sql", "SELECT count(*) FROM curation_log", "--format", "csv"],
        &["bank", "list"],
        &["history"],
    ];
    let answers = async |db: &Path| {
        let mut answers = Vec::new();
        for command in commands {
            answers.push(outskirt(db, command).await.unwrap());
        }
        answers
    };
    let before = answers(db).await;
    assert!(spoil_older_versions(&store).await > 24);
    assert_eq!(answers(db).await, before);
}
