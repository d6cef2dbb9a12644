//! TorchScript modules that may run. A module is code, and whoever gives away a database gives its manifests along: so it
//! is trusted once, by its SHA-256, in a file of the user's own outside of any database.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use super::architecture::TORCHSCRIPT;
use super::checkpoint::Manifest;
use crate::error::{Error, Result};
use crate::regular;

/// No list of modules is longer.
const MAX_BYTES: u64 = 16 << 20;

/// The modules that may run, by the SHA-256 of their files; by default none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trusted {
    sha256: BTreeSet<String>,
}

impl Trusted {
    /// These modules.
    pub fn modules(sha256: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        Self { sha256: sha256.into_iter().map(|sha256| sha256.as_ref().to_ascii_lowercase()).collect() }
    }

    /// The modules that a file lists, one a line: its SHA-256, and what the user calls it. None where there is no file.
    ///
    /// Errors: a file that cannot be read.
    pub fn read(file: &Path) -> Result<Self> {
        let text = match regular::read_text(file, MAX_BYTES).map_err(Error::io("read", file)) {
            Ok(text) => text,
            Err(Error::MissingPath { .. }) => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        Ok(Self::modules(text.lines().filter_map(|line| line.split_whitespace().next())))
    }

    /// Write a module into such a file, which is made where there is none.
    ///
    /// Errors: a file that cannot be written.
    pub fn write(file: &Path, sha256: &str, name: &str) -> Result<()> {
        if Self::read(file)?.has(sha256) {
            return Ok(());
        }
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        let line = format!("{}  {name}\n", sha256.to_ascii_lowercase());
        let list = std::fs::OpenOptions::new().create(true).append(true).open(file);
        let written = list.and_then(|mut list| list.write_all(line.as_bytes()).and_then(|()| list.sync_all()));
        written.map_err(Error::io("write", file))
    }

    /// Whether a module is among them.
    pub fn has(&self, sha256: &str) -> bool {
        self.sha256.contains(&sha256.to_ascii_lowercase())
    }

    /// Refuse a manifest whose weights are code that is not trusted. Weights of every other architecture are read without
    /// executing anything in them.
    pub(super) fn check(&self, manifest: &Manifest) -> Result<()> {
        if manifest.architecture != TORCHSCRIPT || self.has(&manifest.sha256) {
            return Ok(());
        }
        Err(Error::NotTrusted { backbone: manifest.name.clone(), sha256: manifest.sha256.to_ascii_lowercase() })
    }
}
