//! Session options: `SET outskirt.search = 'exact' | 'hnsw'`, and where and how exact search runs.

use std::any::Any;
use std::fmt::Display;
use std::str::FromStr;

use datafusion::common::{DataFusionError, Result, config_err, exec_err};
use datafusion::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};

use crate::error::Error;
use crate::index::{Device, Instructions, MemoryLimit, Search, SearchOptions, Stale};

/// [`Instructions`] by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Processor(Instructions);

impl Default for Processor {
    fn default() -> Self {
        Self(Instructions::detect())
    }
}

impl std::fmt::Display for Processor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.name())
    }
}

impl std::str::FromStr for Processor {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let available = Instructions::available();
        let found = available.iter().find(|known| known.name() == name);
        found.map(|known| Self(*known)).ok_or_else(|| Error::UnknownInstructions {
            name: name.into(),
            known: available.iter().map(|known| known.name().into()).collect(),
        })
    }
}

/// What `SET outskirt.…` sets, and `SHOW outskirt.…` shows.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    search: Search,
    device: Device,
    memory_limit: MemoryLimit,
    instructions: Processor,
    stale_bank: Stale,
    /// Whether a plan is only shown: no setting of the user's.
    explains: bool,
}

// by hand: DataFusion's macro for it leaves the prefix out of `entries`, and SHOW would find nothing
impl ExtensionOptions for Settings {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        fn read<T: FromStr<Err = Error>>(value: &str) -> Result<T> {
            value.parse().map_err(|error| DataFusionError::External(Box::new(error)))
        }
        match key {
            "search" => self.search = read(value)?,
            "device" => self.device = read(value)?,
            "memory_limit" => self.memory_limit = read(value)?,
            "instructions" => self.instructions = read(value)?,
            "stale_bank" => self.stale_bank = read(value)?,
            _ => {
                let known: Vec<String> = self.entries().into_iter().map(|entry| entry.key).collect();
                return config_err!("no setting outskirt.{key}: there are {}", known.join(", "));
            }
        }
        Ok(())
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        let entry = |name: &str, value: &dyn Display, description| ConfigEntry {
            key: format!("{}.{name}", Self::PREFIX),
            value: Some(value.to_string()),
            description,
        };
        vec![
            entry(
                "search",
                &self.search,
                "How the k-th neighbour is found: 'exact', or 'hnsw' for banks that keep a graph (approximate)",
            ),
            entry("device", &self.device, "Where exact search runs: 'cpu', or 'cuda' for an NVIDIA GPU"),
            entry(
                "memory_limit",
                &self.memory_limit,
                "Memory a bank may take, such as '2GB', or 'unlimited': a larger one is read from its table block by block, once for each batch of rows, on the processor",
            ),
            entry(
                "instructions",
                &self.instructions,
                "Instructions that exact search uses: the fastest of this processor, unless set to slower ones",
            ),
            entry(
                "stale_bank",
                &self.stale_bank,
                "What is done with a bank that is behind its table: 'notice', 'error' or 'ignore'",
            ),
        ]
    }
}

impl ConfigExtension for Settings {
    const PREFIX: &'static str = "outskirt";
}

/// Say that what is planned with these options is only shown.
pub(crate) fn explain(options: &mut ConfigOptions) {
    if let Some(settings) = options.extensions.get_mut::<Settings>() {
        settings.explains = true;
    }
}

/// Whether what is planned is only shown: then nothing that takes long is computed for it.
pub(crate) fn explains(options: &ConfigOptions) -> bool {
    options.extensions.get::<Settings>().is_some_and(|settings| settings.explains)
}

/// How the session searches.
pub(crate) fn search(options: &ConfigOptions) -> Result<SearchOptions> {
    match options.extensions.get::<Settings>() {
        Some(settings) => Ok(SearchOptions {
            kind: settings.search,
            device: settings.device,
            memory_limit: settings.memory_limit,
            instructions: settings.instructions.0,
            stale: settings.stale_bank,
        }),
        // never a fallback: a filter that ran elsewhere, without the session's options, would ignore SET
        None => exec_err!("the session has no outskirt settings: add them with SessionConfig::with_option_extension"),
    }
}
