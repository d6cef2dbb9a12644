//! The command line, which a wheel has as well: `outskirt`, or `python -m outskirt`.

use std::io::{IsTerminal, Write};

use clap::Parser;
use outskirt::cli::{Cli, Console, run};
use pyo3::prelude::*;

use crate::runtime::runtime;

/// Run a command; its exit status.
#[pyfunction]
pub(crate) fn main(py: Python<'_>, arguments: Vec<String>) -> PyResult<u8> {
    let runtime = runtime(py)?;
    // Ctrl-C is the command's, as in the program
    py.detach(|| {
        let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
        let cli = match Cli::try_parse_from(arguments) {
            Ok(cli) => cli,
            Err(error) => {
                let _ = error.print();
                return Ok(u8::try_from(error.exit_code()).unwrap_or(2));
            }
        };
        let mut console = Console::new(&mut out, &mut err);
        if std::io::stdout().is_terminal() {
            console = console.on_terminal();
        }
        let done = runtime.block_on(run(cli, &mut console));
        drop(console);
        Ok(match done {
            Ok(()) => 0,
            Err(outskirt::Error::Output { source }) if source.kind() == std::io::ErrorKind::BrokenPipe => 0,
            Err(error) => {
                let _ = writeln!(err, "error: {error}");
                2
            }
        })
    })
}
