//! The program `outskirt`: parse, run, exit code. Everything else is in the library.

use std::env;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use outskirt::cli::{Cli, Console, Terminal, run};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr());
    // planners recurse, and threads begin with a quarter of what this one has
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(8 << 20).build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(err, "error: cannot start: {error}");
            return ExitCode::from(2);
        }
    };
    let program = env::args().next().unwrap_or_else(|| "outskirt".into());
    let mut console = Console::new(&mut out, &mut err).called(program).trusting(trusted_file());
    if std::io::stdout().is_terminal() {
        console = console.on_terminal();
    }
    if std::io::stdin().is_terminal() {
        console = console.typed(Terminal::new(history_file()));
    }
    let done = runtime.block_on(run(cli, &mut console));
    drop(console);
    // what was cancelled may not have come to its end: nobody waits for it
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // whoever read our output has seen enough
        Err(outskirt::Error::Output { source }) if source.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(err, "error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Where the shell keeps what was typed: `$XDG_STATE_HOME`, which is `~/.local/state` where it is not set.
fn history_file() -> Option<PathBuf> {
    user_folder("XDG_STATE_HOME", ".local/state").map(|state| state.join("outskirt/history"))
}

/// Where it is written which TorchScript modules may run: `$XDG_CONFIG_HOME`, which is `~/.config` where it is not set.
fn trusted_file() -> Option<PathBuf> {
    user_folder("XDG_CONFIG_HOME", ".config").map(|config| config.join("outskirt/trusted"))
}

fn user_folder(variable: &str, usual: &str) -> Option<PathBuf> {
    let set = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    set(variable).or_else(|| Some(set("HOME")?.join(usual)))
}
