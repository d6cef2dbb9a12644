//! What somebody types into the shell: lines, and what Tab makes of them; where a statement ends; commands, as they are read.
//!
//! Not for what a statement or a command does: that is [`super::shell`]'s.

pub(super) mod commands;
mod complete;
mod lines;
pub(super) mod statement;

pub use complete::Names;
pub use lines::{Line, Lines};
