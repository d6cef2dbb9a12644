//! How a bank is searched: what `SET outskirt.…` chooses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use outskirt_exact::Path as Instructions;

use crate::error::{Error, Result};

/// What a bank is searched with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Search {
    /// Every vector is compared, or proven too far: the default.
    #[default]
    Exact,
    /// A usearch HNSW graph: approximate.
    Hnsw,
}

/// What a bank keeps beside the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum IndexKind {
    /// Nothing but the exact index.
    #[default]
    Exact,
    /// A usearch HNSW graph, with its vectors in this form.
    Hnsw(Storage),
    /// The exact index in so many parts, each in a file of its own: of a bank that is larger than a machine.
    Sharded(u32),
}

/// Shards of a bank, at most.
const MOST_SHARDS: u32 = 4096;

/// How a graph holds its vectors: the smaller, the less memory and the rougher its distances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// 4 bytes per number. The k-th distance can only be too large: a missed neighbour is replaced by a farther one.
    #[default]
    F32,
    /// 2 bytes per number: bfloat16, whose distances are off by less than 1 %.
    Bf16,
    /// 1 byte per number, in equal steps up to the largest number of the bank.
    I8,
}

/// Where exact search runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Device {
    /// On the processor.
    #[default]
    Cpu,
    /// On an NVIDIA GPU, through libtorch.
    Cuda,
}

/// Bytes that a bank may take in memory; `None`: 90 % of those that are free when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MemoryLimit(pub Option<u64>);

/// What is done with a bank that is behind its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Stale {
    /// It is used, and a notice says so.
    #[default]
    Notice,
    /// The query fails.
    Error,
    /// It is used.
    Ignore,
}

/// All of it. Exact results do not depend on these, only time and memory do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SearchOptions {
    /// Exact, or by a graph.
    pub kind: Search,
    /// Processor or GPU, for exact search.
    pub device: Device,
    /// Above it a bank's rows stay in its index file, or it is read from its table block by block for each batch of queries.
    pub memory_limit: MemoryLimit,
    /// Instructions of the processor.
    pub instructions: Instructions,
    /// Whether a bank may be behind its table.
    pub stale: Stale,
}

impl Default for SearchOptions {
    fn default() -> Self {
        Self {
            kind: Search::default(),
            device: Device::default(),
            memory_limit: MemoryLimit::default(),
            instructions: Instructions::detect(),
            stale: Stale::default(),
        }
    }
}

impl From<Search> for SearchOptions {
    fn from(kind: Search) -> Self {
        Self { kind, ..Self::default() }
    }
}

/// The one table of names of each choice.
const SEARCHES: [(&str, Search); 2] = [("exact", Search::Exact), ("hnsw", Search::Hnsw)];
const KINDS: [(&str, IndexKind); 4] = [
    ("exact", IndexKind::Exact),
    ("hnsw", IndexKind::Hnsw(Storage::F32)),
    ("hnsw-bf16", IndexKind::Hnsw(Storage::Bf16)),
    ("hnsw-i8", IndexKind::Hnsw(Storage::I8)),
];
const STALE: [(&str, Stale); 3] = [("notice", Stale::Notice), ("error", Stale::Error), ("ignore", Stale::Ignore)];
const DEVICES: [(&str, Device); 2] = [("cpu", Device::Cpu), ("cuda", Device::Cuda)];

fn find<T: Copy>(what: &'static str, name: &str, known: &[(&str, T)]) -> Result<T> {
    let found = known.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, value)| *value).ok_or_else(|| Error::UnknownSetting {
        what,
        name: name.into(),
        known: known.iter().map(|(name, _)| (*name).into()).collect(),
    })
}

fn name_of<T: PartialEq>(value: &T, known: &'static [(&'static str, T)]) -> &'static str {
    known.iter().find(|(_, known)| known == value).map_or("", |(name, _)| name)
}

impl fmt::Display for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(self, &SEARCHES))
    }
}

impl FromStr for Search {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        find("outskirt.search", name, &SEARCHES)
    }
}

impl IndexKind {
    /// Whether there is a graph.
    pub fn has_graph(self) -> bool {
        matches!(self, Self::Hnsw(_))
    }
}

impl fmt::Display for IndexKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sharded(shards) => write!(f, "sharded-{shards}"),
            other => f.write_str(name_of(other, &KINDS)),
        }
    }
}

impl FromStr for IndexKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let shards = name.strip_prefix("sharded-").and_then(|shards| shards.parse::<u32>().ok());
        if let Some(kind) = shards.filter(|shards| (2..=MOST_SHARDS).contains(shards)).map(Self::Sharded)
            && kind.to_string() == name
        {
            return Ok(kind);
        }
        find("an index", name, &KINDS).map_err(|error| match error {
            Error::UnknownSetting { what, name, mut known } => {
                known.push(format!("sharded-2 to sharded-{MOST_SHARDS}"));
                Error::UnknownSetting { what, name, known }
            }
            other => other,
        })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(self, &DEVICES))
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        find("outskirt.device", name, &DEVICES)
    }
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(self, &STALE))
    }
}

impl FromStr for Stale {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        find("outskirt.stale_bank", name, &STALE)
    }
}

/// Powers of ten and of two, as people write them.
const UNITS: [(&str, u64); 8] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("b", 1),
];

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("unlimited"),
            Some(bytes) => {
                // the largest unit that leaves a whole number, so that what is shown can be typed
                let unit =
                    UNITS.iter().filter(|(_, size)| bytes > 0 && bytes.is_multiple_of(*size)).max_by_key(|u| u.1);
                let (name, size) = unit.unwrap_or(&("b", 1));
                let name = name.to_uppercase().replace('I', "i");
                write!(f, "{}{name}", bytes / size)
            }
        }
    }
}

impl FromStr for MemoryLimit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::BadMemoryLimit { text: text.into() };
        let lower = text.trim().to_ascii_lowercase();
        if lower == "unlimited" {
            return Ok(Self(None));
        }
        let (name, size) = UNITS.into_iter().find(|(name, _)| lower.ends_with(name)).ok_or_else(bad)?;
        let number: f64 = lower[..lower.len() - name.len()].trim().parse().map_err(|_| bad())?;
        if !(number.is_finite() && number > 0.0) {
            return Err(bad());
        }
        Ok(Self(Some((number * size as f64) as u64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_limits_read_as_they_are_written() {
        let read = |text: &str| text.parse::<MemoryLimit>().map(|limit| limit.to_string()).map_err(|e| e.to_string());
        for (text, shown) in
            [("2GB", "2GB"), ("1.5 gb", "1500MB"), ("512MiB", "512MiB"), ("1024b", "1KiB"), ("unlimited", "unlimited")]
        {
            assert_eq!(read(text).as_deref(), Ok(shown));
            assert_eq!(shown.parse::<MemoryLimit>().unwrap(), text.parse().unwrap());
        }
        for text in ["", "2", "GB", "-1GB", "0MB", "nanGB", "2 apples"] {
            assert!(read(text).unwrap_err().contains("'2GB'"), "{text}");
        }
    }
}
