//! `outskirt completions`.

use clap_complete::Shell;

use super::console::Console;
use crate::error::Result;

/// Print a script that makes a shell complete commands and options
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  outskirt completions bash > ~/.local/share/bash-completion/completions/outskirt
  outskirt completions zsh > \"${fpath[1]}/_outskirt\"
  outskirt completions fish > ~/.config/fish/completions/outskirt.fish")]
pub struct Args {
    /// Which shell
    shell: Shell,
}

pub(super) fn run(args: &Args, mut command: clap::Command, console: &mut Console<'_>) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "outskirt", &mut script);
    console.bytes(&script)?;
    console.flush()
}
