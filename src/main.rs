//! The program `outskirt`: parse, run, exit code. Everything else is in the library.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use outskirt::cli::{Cli, Console, run};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr());
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(err, "error: cannot start: {error}");
            return ExitCode::from(2);
        }
    };
    let program = std::env::args().next().unwrap_or_else(|| "outskirt".into());
    let mut console = Console::new(&mut out, &mut err).called(program);
    match runtime.block_on(run(cli, &mut console)) {
        Ok(()) => ExitCode::SUCCESS,
        // whoever read our output has seen enough
        Err(outskirt::Error::Output { source }) if source.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(err, "error: {error}");
            ExitCode::from(2)
        }
    }
}
