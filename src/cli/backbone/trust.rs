//! `outskirt backbone trust`.

use std::path::Path;

use crate::backbone::{self, TORCHSCRIPT, Trusted};
use crate::cli::console::Console;
use crate::error::{Error, Result};

/// Arguments of `backbone trust`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A TorchScript module is code: it does what its author wants, with your rights. So it runs once you
have said so, on this machine and for every database: its sha256 is a line of outskirt/trusted in
$XDG_CONFIG_HOME (~/.config where that is not set). 'backbone add' trusts the module that it is
given. Weights of every other architecture are read without executing anything in them.

Example:
  outskirt backbone trust downloaded/module.toml")]
pub struct Args {
    /// A name that 'backbone list' shows, a manifest's path, or the sha256 of a module
    name: String,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let is_sha256 = args.name.len() == 64 && args.name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (sha256, name) = if is_sha256 {
        (args.name, String::from("a module"))
    } else {
        let manifest = backbone::find_in(db, &args.name).await?.manifest;
        if manifest.architecture != TORCHSCRIPT {
            let architecture = manifest.architecture;
            let name = manifest.name;
            return console
                .line(format!("{name}: a {architecture}, whose weights are read without executing anything"));
        }
        (manifest.sha256, manifest.name)
    };
    remember(&sha256, &name, console)?;
    console.line(format!("{name} is trusted: sha256 {}", sha256.to_ascii_lowercase()))
}

/// Write it into the user's file.
pub(super) fn remember(sha256: &str, name: &str, console: &Console<'_>) -> Result<()> {
    let file = console.trusted_file().ok_or(Error::NoTrustedFile)?;
    Trusted::write(file, sha256, name)
}
