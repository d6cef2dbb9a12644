//! DataFusion over a database: the functions, what the planner knows about them, and sessions.
//!
//! [`functions`] has one SQL function per file; [`planner`] takes scores out of expressions into a plan node that knows which
//! rows and bounds matter; [`session`] puts tables, views, functions and settings together and carries changes of `images`
//! out; [`queries`] are the named queries, whose texts lie in the folder `sql/` at the top of the repository; [`networks`]
//! are the backbones that `embed` can name. `location` is what a file's name means, `memory` what queries may take of it, and `spill` where the rest goes. [`catalog`] lists what a session knows, and [`cancel`] lets a query be dropped in
//! the middle. Not for what a score is: that is [`crate::bank`]'s.

pub mod cancel;
pub mod catalog;
pub mod functions;
mod location;
mod memory;
pub mod networks;
pub mod planner;
pub mod policy;
pub mod queries;
pub mod session;
mod spill;
pub(crate) mod tokens;
