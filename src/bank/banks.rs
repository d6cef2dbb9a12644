//! The banks of a session: each is opened, and each calibration found, once.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

#[cfg(feature = "cluster")]
use super::Snapshot;
use super::gaussian::Classes;
use super::once::Once;
use super::open::{Bank, open_within};
use super::rows::at_version;
use super::runtime::{ReadProgress, block_on_own_runtime, on_own_thread};
use super::{Calibration, Definition, gaussian, guide, list};
use crate::error::{Error, Result};
use crate::index::{SearchOptions, Stale};
use crate::schema;
use crate::statistics::gaussian::Gaussian;
use crate::statistics::guidance::Guide;
use crate::store::{Lease, Pin, Store};

/// The banks and calibrations of a database as they were when a session began, opened on first use.
#[derive(Debug)]
pub struct Banks {
    folder: PathBuf,
    definitions: Vec<Arc<Definition>>,
    /// Of other versions than the banks' own, found so far.
    versions: Mutex<HashMap<(String, u64), Arc<Definition>>>,
    /// Read when the first of them is asked for, …
    calibrations: OnceLock<Vec<Calibration>>,
    /// … as they were in this version of their table.
    calibrations_version: u64,
    /// The version of `images` that the session sees.
    images: AtomicU64,
    /// What happened besides opening.
    notices: Mutex<BTreeSet<String>>,
    opened: Once<(String, u64, SearchOptions), Bank>,
    gaussians: Once<(String, u64, Classes), Gaussian>,
    guides: Once<(String, u64), Guide>,
    watch: Arc<OnceLock<ReadProgress>>,
    /// What it reads later is not pruned.
    pins: Mutex<Vec<Pin>>,
    lease: Option<Lease>,
    /// Told how many bytes the opened banks hold, whenever that has changed.
    account: OnceLock<Account>,
}

/// Somebody who counts the memory that banks hold.
struct Account(Box<dyn Fn(u64) + Send + Sync>);

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Account")
    }
}

impl Banks {
    /// Read the definitions; no calibration and no vector is read yet. The versions that they stand for are kept as long as
    /// the value lives.
    pub async fn load(store: &Store) -> Result<Self> {
        let lock = store.read_lock().await?;
        let definitions: Vec<Arc<Definition>> = list(store).await?.into_iter().map(Arc::new).collect();
        let calibrations_version = store.version(schema::CALIBRATIONS).await?;
        let mut pinned = vec![(schema::CALIBRATIONS.into(), calibrations_version)];
        pinned.extend(definitions.iter().flat_map(|bank| versions_of(bank)));
        Ok(Self {
            folder: store.place().into(),
            definitions,
            versions: Mutex::default(),
            calibrations: OnceLock::new(),
            calibrations_version,
            images: store.version(schema::IMAGES).await?.into(),
            notices: Mutex::default(),
            opened: Once::default(),
            gaussians: Once::default(),
            guides: Once::default(),
            watch: Arc::default(),
            pins: vec![store.lease().pin(&lock, pinned)?].into(),
            lease: Some(store.lease().clone()),
            account: OnceLock::new(),
        })
    }

    /// No banks at all.
    pub(crate) fn none() -> Self {
        Self {
            folder: PathBuf::new(),
            definitions: Vec::new(),
            versions: Mutex::default(),
            calibrations: OnceLock::from(Vec::new()),
            calibrations_version: 0,
            images: AtomicU64::new(0),
            notices: Mutex::default(),
            opened: Once::default(),
            gaussians: Once::default(),
            guides: Once::default(),
            watch: Arc::default(),
            pins: Mutex::default(),
            lease: None,
            account: OnceLock::new(),
        }
    }

    /// What they are, in plain values.
    #[cfg(feature = "cluster")]
    pub(crate) fn snapshot(&self) -> Snapshot {
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut versions: Vec<Definition> = versions.values().map(|bank| Definition::clone(bank)).collect();
        versions.sort_by(|a, b| (&a.name, a.table_version).cmp(&(&b.name, b.table_version)));
        Snapshot {
            place: self.folder.clone(),
            definitions: self.definitions.iter().map(|bank| Definition::clone(bank)).collect(),
            versions,
            calibrations_version: self.calibrations_version,
        }
    }

    /// The banks that another program means, for as long as that one keeps their versions from being pruned; nothing is read yet.
    #[cfg(feature = "cluster")]
    pub(crate) fn of(snapshot: Snapshot) -> Self {
        let versions = snapshot.versions.into_iter();
        let versions = versions.map(|bank| ((bank.name.clone(), bank.table_version), Arc::new(bank)));
        Self {
            folder: snapshot.place,
            definitions: snapshot.definitions.into_iter().map(Arc::new).collect(),
            versions: Mutex::new(versions.collect()),
            calibrations: OnceLock::new(),
            calibrations_version: snapshot.calibrations_version,
            ..Self::none()
        }
    }

    /// The names of all banks.
    pub fn names(&self) -> Vec<String> {
        self.definitions.iter().map(|bank| bank.name.clone()).collect()
    }

    /// A bank's definition by name, or by name and version of `images`: `cifar10`, `cifar10@12`.
    pub fn definition(&self, name: &str) -> Result<Arc<Definition>> {
        let (bare, version) = match name.split_once('@') {
            Some((bare, version)) => (bare, Some(version)),
            None => (name, None),
        };
        let found = self
            .definitions
            .iter()
            .find(|bank| bank.name == bare)
            .ok_or_else(|| Error::UnknownBank { name: bare.into(), known: self.names() })?;
        let Some(version) = version else { return Ok(Arc::clone(found)) };
        let version = version.parse::<u64>().map_err(|_| Error::BadBankVersion { name: name.into() })?;
        if version == found.table_version {
            return Ok(Arc::clone(found));
        }
        let key = (bare.to_owned(), version);
        let known = self.versions.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let definition = Arc::new(on_own_thread(bare, || {
            block_on_own_runtime(&self.folder, async |store| {
                let lock = store.read_lock().await?;
                let definition = at_version(&store, found, version).await?;
                if let Some(lease) = &self.lease {
                    let pin = lease.pin(&lock, versions_of(&definition).into())?;
                    self.pins.lock().unwrap_or_else(PoisonError::into_inner).push(pin);
                }
                Ok(definition)
            })
        })?);
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&definition));
        Ok(definition)
    }

    /// A bank's calibration at k: of its version, or, where it was refreshed since, of the version before, with a notice.
    pub fn calibration(&self, bank: &Definition, k: usize) -> Result<&Calibration> {
        let of_bank = |found: &&Calibration| found.bank == bank.name && found.k == k;
        let found = self.calibrations()?.iter().filter(of_bank).find(|found| {
            found.table_version == bank.table_version
                || found.table_version < bank.table_version && self.is_current(bank)
        });
        let found = found.ok_or_else(|| Error::NotCalibrated { bank: bank.name.clone(), k })?;
        if found.table_version != bank.table_version {
            let (name, before, now) = (&bank.name, found.table_version, bank.table_version);
            self.add_notice(format!(
                "bank {name} was calibrated at version {before} and is at {now}: 'outskirt bank refresh {name} --calibrate' measures it again"
            ));
        }
        Ok(found)
    }

    /// All calibrations; an error is told, and the next who asks reads again.
    fn calibrations(&self) -> Result<&[Calibration]> {
        if let Some(read) = self.calibrations.get() {
            return Ok(read);
        }
        let version = self.calibrations_version;
        let read = on_own_thread(schema::CALIBRATIONS, || {
            block_on_own_runtime(&self.folder, async |store| {
                store.read_rows_at(schema::CALIBRATIONS, Some(version)).await
            })
        })?;
        Ok(self.calibrations.get_or_init(|| read))
    }

    /// Whether this is the bank as it stands, and not another version of it.
    fn is_current(&self, bank: &Definition) -> bool {
        self.definitions.iter().any(|known| **known == *bank)
    }

    /// The version of `images` that the session sees.
    pub(crate) fn images_seen(&self) -> u64 {
        self.images.load(Ordering::Relaxed)
    }

    /// The session sees another version of `images` from now on.
    pub(crate) fn see_images(&self, version: u64) {
        self.images.store(version, Ordering::Relaxed);
    }

    /// Something to tell whoever uses the session.
    pub(crate) fn add_notice(&self, notice: String) {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).insert(notice);
    }

    /// Refuse a bank that is behind its table, or say so.
    pub(crate) fn check_fresh(&self, bank: &Definition, options: SearchOptions) -> Result<()> {
        let images = self.images.load(Ordering::Relaxed);
        if bank.follows() >= images || !self.is_current(bank) {
            return Ok(());
        }
        let (name, follows) = (bank.name.clone(), bank.follows());
        let stale = Error::StaleBank { bank: name, follows, images };
        match options.stale {
            Stale::Error => Err(stale),
            Stale::Notice => {
                self.add_notice(stale.to_string());
                Ok(())
            }
            Stale::Ignore => Ok(()),
        }
    }

    /// The opened bank. The first caller reads it; others wait for that. What could not be read is tried again by the next
    /// who asks.
    ///
    /// Called from SQL functions, which are synchronous and may run on any executor: the reading has a thread
    /// and a runtime of its own, so it cannot block the one it is called from.
    pub fn open(&self, definition: &Definition, options: SearchOptions) -> Result<Arc<Bank>> {
        self.check_fresh(definition, options)?;
        let key = (definition.name.clone(), definition.table_version, options);
        let mut now = false;
        let bank = self.opened.get(key, || {
            now = true;
            on_own_thread(&definition.name, || open_within(&self.folder, definition, options, &self.watch))
        });
        self.tell_account(now);
        bank.map_err(|reason| unreadable(definition, reason))
    }

    /// The Gaussians of a bank. The first caller fits them, as [`Self::open`] reads a bank.
    pub fn gaussian(&self, definition: &Definition, by: Classes, options: SearchOptions) -> Result<Arc<Gaussian>> {
        self.check_fresh(definition, options)?;
        let gaussian = self.gaussians.get((definition.name.clone(), definition.table_version, by), || {
            let fit = async |store: Store| gaussian::fit(&store, definition, by).await;
            on_own_thread(&definition.name, || block_on_own_runtime(&self.folder, fit))
        });
        gaussian.map_err(|reason| unreadable(definition, reason))
    }

    /// The rows of a bank weighed by their logits. The first caller reads them, as [`Self::open`] reads a bank.
    pub fn guide(&self, definition: &Definition, options: SearchOptions) -> Result<Arc<Guide>> {
        self.check_fresh(definition, options)?;
        let mut now = false;
        let guide = self.guides.get((definition.name.clone(), definition.table_version), || {
            now = true;
            let read = async |store: Store| guide::read(&store, definition).await;
            on_own_thread(&definition.name, || block_on_own_runtime(&self.folder, read))
        });
        self.tell_account(now);
        guide.map_err(|reason| unreadable(definition, reason))
    }

    /// Bytes that the banks opened so far hold in the main memory, about.
    pub fn bytes(&self) -> u64 {
        let opened: u64 = self.opened.values().iter().map(|bank| bank.bytes()).sum();
        opened + self.guides.values().iter().map(|guide| guide.bytes()).sum::<u64>()
    }

    /// How many banks have been opened.
    #[cfg(feature = "cluster")]
    pub(crate) fn opened(&self) -> usize {
        self.opened.values().len()
    }

    /// Where something has been read just now.
    fn tell_account(&self, now: bool) {
        if now && let Some(account) = self.account.get() {
            account.0(self.bytes());
        }
    }

    /// Be told how many bytes that is whenever another bank was opened. Once only.
    pub(crate) fn account(&self, account: impl Fn(u64) + Send + Sync + 'static) {
        let _ = self.account.set(Account(Box::new(account)));
    }

    /// Be told how far reading a bank above the memory limit has come: its name, rows read, all rows. Once only.
    pub fn watch(&self, watch: impl Fn(&str, usize, usize) + Send + Sync + 'static) {
        // a second watch is not an error: the first stays
        let _ = self.watch.set(ReadProgress::new(watch));
    }

    /// What the user should know of the banks used so far.
    pub fn notices(&self) -> Vec<String> {
        let banks = self.opened.values();
        let of_banks = banks.iter().filter_map(|bank| bank.notice());
        let notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        of_banks.chain(notices.iter().cloned()).collect()
    }
}

/// The versions of `images` that a bank is read from.
fn versions_of(bank: &Definition) -> [(String, u64); 2] {
    [bank.table_version, bank.follows()].map(|version| (schema::IMAGES.into(), version))
}

fn unreadable(bank: &Definition, reason: String) -> Error {
    Error::BankUnreadable { bank: bank.name.clone(), reason }
}
