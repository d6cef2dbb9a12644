//! What is printed of a backbone that has embedded test pictures.

use crate::backbone::Checked;
use crate::cli::console::Console;
use crate::error::Result;

/// What its network gives, and how fast.
pub(super) fn describe(architecture: &str, checked: &Checked) -> String {
    let classes = match checked.measured.classes {
        Some(classes) => format!("{classes} classes"),
        None => "no classifier".into(),
    };
    let milliseconds = 1e3 * checked.forward.as_secs_f64();
    let (dimension, norm) = (checked.measured.dimension, checked.norm);
    format!("{architecture}, {dimension} numbers per image (norm {norm:.4}), {classes}, {milliseconds:.1} ms per image")
}

/// Say that two pictures that have nothing in common look the same to it, where they do.
pub(super) fn print_likeness(checked: &Checked, console: &mut Console<'_>) -> Result<()> {
    if !checked.is_suspicious() {
        return Ok(());
    }
    console.notice(format!(
        "a slope of colours and a chequerboard have nearly the same embedding (cosine {:.6}): is this the right layer, and \
         were the weights trained?",
        checked.likeness
    ))
}
