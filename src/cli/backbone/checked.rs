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
    let (dimension, [norm, _]) = (checked.measured.dimension, checked.norms);
    format!("{architecture}, {dimension} numbers per image (norm {norm:.4}), {classes}, {milliseconds:.1} ms per image")
}

/// Say what was left out of the weights, and what makes the embeddings suspicious.
pub(super) fn print_doubts(checked: &Checked, console: &mut Console<'_>) -> Result<()> {
    checked.notes.iter().try_for_each(|note| console.notice(note))?;
    if checked.has_zero() {
        console.notice(format!(
            "the embedding of a test picture is zero (norms {} and {}): it has no direction and would be refused; is this the \
             right layer, and were the weights trained?",
            checked.norms[0], checked.norms[1]
        ))?;
    }
    if let Some(reason) = &checked.looks_like_logits {
        console.notice(format!(
            "this looks like logits and not like an embedding: {reason}; an embedding is what the classifier gets \
             (--output 'logits, embedding' is for modules that give both)"
        ))?;
    }
    match checked.likeness {
        Some(likeness) if checked.is_suspicious() => console.notice(format!(
            "a slope of colours and a chequerboard have nearly the same embedding (cosine {likeness:.6}): is this the right \
             layer, and were the weights trained?"
        )),
        _ => Ok(()),
    }
}
