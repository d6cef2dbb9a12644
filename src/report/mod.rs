//! A page that people open: what lies outside a bank, how far, how sure that is, and the pictures.
//!
//! [`report`] asks a session and gives the facts ([`Report`], which serde writes as JSON); [`page`] makes of them one file of
//! HTML that asks nothing of any network. [`explain`] does it for one image, and [`answer`] says what the rows of a named query mean. Rows are counted before anything is drawn, so the page's size follows
//! [`Question::max_images`], not the number of images. Not for the numbers themselves: they are those of [`crate::statistics`],
//! [`mod@crate::evaluate`] and SQL, and each sentence says the SQL that gives it.

mod answers;
mod charts;
mod explain;
mod facts;
mod gather;
mod html;
mod levels;
mod moved;
mod pictures;
mod scored;
mod verdicts;
mod words;

pub use answers::answer;
pub use explain::{Decision, Explained, Which, explain};
pub use facts::{
    Asked, BankFacts, Copies, Embeddings, Group, HeldOut, Level, NearCopies, Neighbor, Period, Picture, Report, Series,
    Set, Thumbnail, Verdict,
};
pub use gather::{Question, report};
pub use html::{explained_page, page};
pub(crate) use words::{count, percent};
