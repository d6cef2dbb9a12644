//! Where a file really is, so that every spelling of its path is the same image.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::address;

/// Folders and where they really are: without symbolic links, `.` and `..`. A file keeps its own name: where it is a link
/// itself, that is what it is called, whatever lies behind it.
#[derive(Debug, Default)]
pub struct Folders {
    real: HashMap<PathBuf, PathBuf>,
}

impl Folders {
    /// The absolute path of a file; where its folder is not there, as it is written.
    pub fn path(&mut self, path: &Path) -> PathBuf {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
        let (Some(folder), Some(name)) = (absolute.parent(), absolute.file_name()) else {
            return fs::canonicalize(&absolute).unwrap_or(absolute);
        };
        self.real(folder).join(name)
    }

    /// Where a folder, of an absolute path, really is; as it is written where it is not there.
    pub fn real(&mut self, folder: &Path) -> &Path {
        if !self.real.contains_key(folder) {
            let real = fs::canonicalize(folder).unwrap_or_else(|_| folder.into());
            self.real.insert(folder.into(), real);
        }
        &self.real[folder]
    }

    /// The folders that were asked for, and where they really are.
    pub fn known(&self) -> impl Iterator<Item = (&Path, &Path)> {
        self.real.iter().map(|(folder, real)| (folder.as_path(), real.as_path()))
    }

    /// The same of the uri of an image, which may lie inside a file. Addresses, and names of the user's own that are no
    /// absolute paths, are as they are.
    pub fn uri(&mut self, uri: &str) -> String {
        if address::is_address(uri) || !uri.starts_with('/') {
            return uri.into();
        }
        let (file, inside) = uri.find("!/").map_or((uri, ""), |at| uri.split_at(at));
        format!("{}{inside}", self.path(Path::new(file)).to_string_lossy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_path_is_the_same_image() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("real/cat")).unwrap();
        fs::write(root.join("real/cat/1.png"), b"x").unwrap();
        std::os::unix::fs::symlink(root.join("real"), root.join("link")).unwrap();
        std::os::unix::fs::symlink(root.join("real/cat/1.png"), root.join("real/cat/alias.png")).unwrap();
        let (mut folders, root) = (Folders::default(), root.to_str().unwrap());
        for spelled in ["real/cat/1.png", "link/cat/1.png", "real/./cat/../cat//1.png", "link/../real/cat/1.png"] {
            assert_eq!(folders.uri(&format!("{root}/{spelled}")), format!("{root}/real/cat/1.png"), "{spelled}");
        }
        // a link is a name of its own, such as git-annex gives each file
        assert_eq!(folders.uri(&format!("{root}/link/cat/alias.png")), format!("{root}/real/cat/alias.png"));
        let inside = format!("{root}/link/cat/a.tar!/x/../1.png");
        assert_eq!(folders.uri(&inside), format!("{root}/real/cat/a.tar!/x/../1.png"));
        assert_eq!(folders.uri("https://host/link/../1.png"), "https://host/link/../1.png");
        assert_eq!(folders.uri("/gone/folder/1.png"), "/gone/folder/1.png");
        assert_eq!(folders.uri("img_001"), "img_001", "a name is the same from every folder");
    }
}
