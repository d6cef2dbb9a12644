//! What the environment sets of databases in buckets.

use std::time::Duration;

use crate::error::{Error, Result};

/// How long whoever dies holds what he held.
const LEASE: Duration = Duration::from_secs(30);
/// Nobody is waited for longer.
pub(super) const LONGEST_LEASE: Duration = Duration::from_secs(600);
/// The variable that sets another time, in seconds.
const LEASE_VARIABLE: &str = "OUTSKIRT_LEASE";
/// Bytes that the caches of all databases take together.
const MOST: u64 = 50_000_000_000;
/// The variable that sets another number.
const MOST_VARIABLE: &str = "OUTSKIRT_CACHE_BYTES";

/// How long whoever dies holds what he held, as the environment says.
///
/// Errors: a number that is none.
pub(super) fn lease() -> Result<Duration> {
    let Ok(found) = std::env::var(LEASE_VARIABLE) else { return Ok(LEASE) };
    let most = LONGEST_LEASE.as_secs();
    match found.trim().parse() {
        Ok(seconds) if (1..=most).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => {
            let wanted = format!("a number of seconds from 1 to {most}");
            Err(Error::BadVariable { name: LEASE_VARIABLE, found, wanted })
        }
    }
}

/// Bytes that the caches of all databases may take together, as the environment says.
///
/// Errors: a number that is none.
pub(super) fn cache_bytes() -> Result<u64> {
    let Ok(found) = std::env::var(MOST_VARIABLE) else { return Ok(MOST) };
    found.trim().parse().map_err(|_| Error::BadVariable {
        name: MOST_VARIABLE,
        found,
        wanted: "a number of bytes, as 50000000000".into(),
    })
}
