//! Which files of tables and arrays paths stand for: folders are looked through, and wildcards matched.

use std::fs;
use std::path::{Path, PathBuf};

use super::batches::is_table;
use super::plan::expand;
use super::{address, archive, remote};
use crate::error::{Error, Result};
use crate::schema;

/// The files that paths stand for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TableFiles {
    /// Tables and arrays: those of a folder by name, whatever is below it.
    pub files: Vec<PathBuf>,
    /// Files of folders that are none.
    pub others: usize,
    /// The first of them.
    pub first_other: Option<PathBuf>,
}

/// Find the tables and arrays that `paths` name. A file that is named is taken whatever it is called; of a folder those whose
/// names end as such files do, and not what is hidden. A folder of LanceDB is its one table.
///
/// Errors: wildcards that match nothing; a folder without tables, or of LanceDB with several; folders that cannot be read.
pub fn table_files(paths: &[PathBuf]) -> Result<TableFiles> {
    let mut found = TableFiles::default();
    for path in paths.iter().map(|path| expand(path)).collect::<Result<Vec<_>>>()?.into_iter().flatten() {
        let before = found.files.len();
        match path.to_str().filter(|text| address::is_address(text)) {
            Some(text) if text.ends_with('/') => {
                let bad = |error: String| Error::BadPattern { pattern: address::shown(text), reason: error };
                for file in remote::list(text).map_err(|error| bad(error.to_string()))? {
                    found.take(file.into());
                }
            }
            None if path.is_dir() && !is_table(&path) => found.look_through(&path, false)?,
            _ => found.files.push(path.clone()),
        }
        if found.files.len() == before {
            return Err(Error::BadArchive { path, reason: "it holds no tables and no arrays".into() });
        }
    }
    Ok(found)
}

impl TableFiles {
    fn take(&mut self, file: PathBuf) {
        if is_table(&file) {
            return self.files.push(file);
        }
        self.others += 1;
        self.first_other.get_or_insert(file);
    }

    fn look_through(&mut self, folder: &Path, is_below: bool) -> Result<()> {
        let read = Error::io("read", folder);
        let entries = fs::read_dir(folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>()).map_err(read)?;
        let mut paths: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
        paths.retain(|path| path.file_name().is_some_and(|name| !archive::is_hidden(name)));
        paths.sort();
        // a database of Outskirt's is not what it is made from
        if tables_are_ours(&paths) && is_below {
            return Ok(());
        }
        let is_lance = |path: &&PathBuf| path.is_dir() && is_table(path);
        let tables: Vec<String> = paths.iter().filter(is_lance).map(|path| path.display().to_string()).collect();
        if tables.len() > 1 {
            let reason = format!("it is a folder of LanceDB with several tables: name one of {}", tables.join(", "));
            return Err(Error::BadArchive { path: folder.into(), reason });
        }
        for path in paths {
            if path.is_dir() && !is_table(&path) {
                self.look_through(&path, true)?;
            } else {
                self.take(path);
            }
        }
        Ok(())
    }
}

fn tables_are_ours(paths: &[PathBuf]) -> bool {
    let ours = format!("{}.lance", schema::SCHEMA_MIGRATIONS);
    paths.iter().any(|path| path.file_name().is_some_and(|name| name == ours.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_wildcards_stand_for_their_tables() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["b/2.parquet", "b/10.npy", "a.csv", "b/.hidden.npy", "b/notes.txt", "c.lance/data/x"] {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            fs::write(at(name), b"").unwrap();
        }
        let of = |paths: &[&str]| table_files(&paths.iter().map(|path| at(path)).collect::<Vec<_>>());
        let found = of(&[""]).unwrap();
        assert_eq!(found.files, ["a.csv", "b/10.npy", "b/2.parquet", "c.lance"].map(at));
        assert_eq!((found.others, found.first_other), (1, Some(at("b/notes.txt"))));
        assert_eq!(of(&["b/*.npy", "b/notes.txt"]).unwrap().files, ["b/10.npy", "b/notes.txt"].map(at));
        assert!(of(&["b/*.arrow"]).unwrap_err().to_string().contains("nothing there matches it"));
        fs::create_dir_all(at("outskirt.db/schema_migrations.lance")).unwrap();
        fs::create_dir_all(at("outskirt.db/images.lance")).unwrap();
        assert_eq!(of(&[""]).unwrap().files.len(), 4, "a database lies in the folder");
        fs::create_dir_all(at("d.lance")).unwrap();
        let error = of(&[""]).unwrap_err().to_string();
        assert!(error.contains("several tables: name one of") && error.contains("d.lance"), "{error}");
        fs::create_dir(at("empty")).unwrap();
        assert!(of(&["empty"]).unwrap_err().to_string().contains("it holds no tables and no arrays"));
        assert_eq!(of(&["missing.npy"]).unwrap().files, [at("missing.npy")], "reading it says so");
    }
}
