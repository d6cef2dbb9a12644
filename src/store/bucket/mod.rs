//! A database in a bucket of S3, or of what speaks like it.
//!
//! Tables are objects below `s3://bucket/path`, as Lance writes them: a commit is a manifest that is put where none is (a conditional
//! put), so it is there whole or not at all, and of two only one. In place of locks there are objects that whoever holds them puts
//! again and again ([`renewed`]): one for the writer ([`writer`]), one for each reader ([`readers`]). Whether one is old is told by
//! the clock of the bucket alone. Files that are derived lie on this machine, in a folder of the cache, and as objects for others
//! ([`shared`]).

mod commits;
mod objects;
mod readers;
mod renewed;
mod shared;
mod variables;
mod writer;

pub(super) use self::commits::{reading, writing};
pub(super) use self::objects::{Bucket, is_address, refused};
pub(super) use self::readers::{Pins, pinned, young};
pub use self::shared::{CacheUse, cache_use};
pub(super) use self::writer::BucketLock;
