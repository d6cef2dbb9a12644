//! What a session may reach and run, beside reading the database: a value that is given when it is opened.
//!
//! The shell's session may do what its user may: read and write files, embed what lies at any path or address. What
//! answers others, anything behind a port above all, is opened *confined*: everything that is not named is refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use url::Url;

use super::location::{Location, path};
use crate::backbone::Trusted;
use crate::error::{Error, Result};

/// What a session may reach and run.
///
/// The default is the shell's, without any TorchScript module: in SQL, code runs where the user has said so.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    trusted: Trusted,
    confinement: Option<Arc<Confinement>>,
}

/// What a confined session may do beyond reading the tables and views of its database and calling functions on them.
/// The default is nothing.
///
/// Files and addresses are what `FROM 'file'`, `CREATE EXTERNAL TABLE` and `embed` read. A folder stands for all below
/// it, where symbolic links in a path have been followed; of links below a folder that is read as a whole, nothing is
/// known. An address is compared as it is given: where its server redirects to, the session follows.
///
/// ```
/// use outskirt::backbone::Trusted;
/// use outskirt::sql::policy::{Confinement, Policy};
///
/// let confinement = Confinement {
///     read_folders: vec!["/srv/pictures".into()],
///     backbones: vec!["demo_shapes".into()],
///     ..Confinement::default()
/// };
/// let policy = Policy::confined(confinement, Trusted::default());
/// # let _ = policy;
/// ```
///
/// Not for: how much memory, time or disk a query takes (`outskirt.memory_limit`, [`cancel`](crate::sql::cancel)), who may
/// see which rows, and what goes past the session to [`Session::context`](crate::sql::session::Session::context).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confinement {
    /// Folders whose files may be read.
    pub read_folders: Vec<PathBuf>,
    /// Folders into which `COPY TO` may write, and, where it may change data, `INSERT INTO 'file'`.
    pub write_folders: Vec<PathBuf>,
    /// Addresses that may be read: what lies at them, and below them (`https://host/pictures`, `s3://bucket`).
    pub addresses: Vec<String>,
    /// Backbones that `embed` may name.
    pub backbones: Vec<String>,
    /// Earlier versions of tables (`images@12`), which hold what was deleted since.
    pub versions: bool,
    /// INSERT, UPDATE, DELETE, TRUNCATE and ALTER TABLE, of `images`.
    pub changes: bool,
    /// CREATE and DROP: views, which stay in the database, and tables of the session.
    pub definitions: bool,
    /// SET and RESET. Limits of memory are settings too.
    pub settings: bool,
}

impl Policy {
    /// Whatever the process may do; of TorchScript modules these may run.
    pub fn open(trusted: Trusted) -> Self {
        Self { trusted, confinement: None }
    }

    /// What is named, and nothing else.
    pub fn confined(confinement: Confinement, trusted: Trusted) -> Self {
        Self { trusted, confinement: Some(Arc::new(confinement)) }
    }

    /// The TorchScript modules that may run.
    pub fn trusted(&self) -> &Trusted {
        &self.trusted
    }

    pub(super) fn is_confined(&self) -> bool {
        self.confinement.is_some()
    }

    fn check(&self, allows: impl Fn(&Confinement) -> bool, what: &str, missing: &'static str) -> Result<()> {
        match &self.confinement {
            Some(confinement) if !allows(confinement) => Err(Error::Confined { what: what.into(), missing }),
            _ => Ok(()),
        }
    }

    /// Refuse a change of data.
    pub(super) fn check_change(&self, what: &str) -> Result<()> {
        self.check(|confinement| confinement.changes, what, "may not change data")
    }

    /// Refuse an earlier version of a table.
    pub(super) fn check_version(&self, what: &str) -> Result<()> {
        self.check(|confinement| confinement.versions, what, "may not read earlier versions of tables")
    }

    /// Refuse a definition.
    pub(super) fn check_definition(&self, what: &str) -> Result<()> {
        self.check(|confinement| confinement.definitions, what, "may not define or drop anything")
    }

    /// Refuse a setting.
    pub(super) fn check_setting(&self, what: &str) -> Result<()> {
        self.check(|confinement| confinement.settings, what, "may not change settings")
    }

    /// Refuse a backbone.
    pub(super) fn check_backbone(&self, name: &str) -> Result<()> {
        let is_named = |confinement: &Confinement| confinement.backbones.iter().any(|known| known == name);
        self.check(is_named, name, "this backbone is not among those that it may use")
    }

    /// Refuse a file or folder as SQL names it, to be read.
    pub(super) fn check_read(&self, location: &str) -> Result<()> {
        let found = Location::of(location);
        let allows = |confinement: &Confinement| match &found {
            Ok(found) => found.paths().all(|path| lies_in(path, &confinement.read_folders)),
            Err(_) => confinement.has_address(location),
        };
        self.check(allows, location, "it is not among the folders and addresses that it may read")
    }

    /// Refuse a file or folder as SQL names it, to be written.
    pub(super) fn check_write(&self, location: &str) -> Result<()> {
        let allows =
            |confinement: &Confinement| path(location).is_ok_and(|path| lies_in(&path, &confinement.write_folders));
        self.check(allows, location, "it is not in a folder that it may write into")
    }

    /// Refuse a picture by its uri.
    pub(super) fn check_picture(&self, uri: &str) -> Result<()> {
        let Some(confinement) = &self.confinement else { return Ok(()) };
        let is_allowed = if crate::image::is_address(uri) {
            confinement.has_address(uri)
        } else {
            // the file that holds it, whichever `!/` it is that ends that file's name
            let files = uri.match_indices("!/").map(|(at, _)| &uri[..at]).chain([uri]);
            files.map(Path::new).all(|path| lies_in(path, &confinement.read_folders))
        };
        let what = crate::image::shown(uri);
        self.check(|_| is_allowed, &what, "it is not among the folders and addresses that it may read")
    }
}

impl Confinement {
    fn has_address(&self, address: &str) -> bool {
        let Some(address) = normal(address) else { return false };
        self.addresses.iter().filter_map(|known| normal(known)).any(|known| {
            let below = address.strip_prefix(known.trim_end_matches('/'));
            below.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#', '!']))
        })
    }
}

/// An address without `.` and `..`, its host in lower case. One with a user's name is none.
fn normal(address: &str) -> Option<String> {
    let url = Url::parse(address).ok().filter(|url| url.username().is_empty() && url.password().is_none())?;
    // S3's keys are not resolved by those who read them
    let climbs = url.path_segments().is_some_and(|mut parts| parts.any(|part| part == ".."));
    (!climbs && url.host_str().is_some()).then(|| url.into())
}

fn lies_in(path: &Path, folders: &[PathBuf]) -> bool {
    let path = resolved(path);
    let climbs = path.components().any(|part| part == std::path::Component::ParentDir);
    !climbs && folders.iter().any(|folder| path.starts_with(resolved(folder)))
}

/// A path without links, as far as it exists.
pub(super) fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
    for existing in absolute.ancestors() {
        if let (Ok(whole), Ok(rest)) = (existing.canonicalize(), absolute.strip_prefix(existing)) {
            return whole.join(rest);
        }
    }
    absolute
}
