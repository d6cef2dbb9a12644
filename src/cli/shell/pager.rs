//! Tables by the user's pager: `$PAGER`, or `less` with what wide tables need.

use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};

use datafusion::execution::SendableRecordBatchStream;

use crate::cli::output::{Output, Printed};
use crate::error::{Error, Result};

/// Print rows into a pager, and wait until it is left. Whoever has seen enough ends the statement.
pub(super) async fn show(mut output: Output, rows: SendableRecordBatchStream) -> Result<Printed> {
    let pager = std::env::var("PAGER").unwrap_or_default();
    let pager = if pager.trim().is_empty() { "less -FRSX".to_owned() } else { pager };
    let failed = || Error::io("run", Path::new(&pager));
    let mut child = Command::new("sh").args(["-c", &pager]).stdin(Stdio::piped()).spawn().map_err(failed())?;
    let printed = match child.stdin.take() {
        Some(mut input) => output.print_to(rows, &mut input).await,
        None => Ok(Printed::default()),
    };
    child.wait().map_err(failed())?;
    match printed {
        Err(Error::Output { source }) if source.kind() == ErrorKind::BrokenPipe => Ok(Printed::default()),
        printed => printed,
    }
}
