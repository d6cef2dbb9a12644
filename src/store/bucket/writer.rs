//! The one writer's place in a bucket.
//!
//! Each writer has a number, one more than the last: whoever puts the object of the next number first, where none is, is the writer.
//! He puts it again every third of the lease; once the lease is over by the clock of the bucket, another one may take the next
//! number. What a writer who was taken for dead has under way is refused: every commit asks first whether anybody has a later number
//! ([`super::commits`]), and whoever takes over makes a version of `images`, so that a commit that was asked for before that finds
//! its version taken, and asks again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::StreamExt;
use object_store::ObjectStore;
use serde::{Deserialize, Serialize};

use super::objects::{Bucket, is_over};
use super::renewed::Renewed;
use super::variables::{LONGEST_LEASE, lease};
use crate::error::{Error, Result};

const FOLDER: &str = "locks/write";

/// What an object says.
#[derive(Debug, Serialize, Deserialize)]
struct Place {
    /// `None` where it was given back.
    holder: Option<String>,
    /// The process, so that others of its machine can tell whether it is there.
    #[serde(default)]
    process: Option<Process>,
    /// How long it is held without being put again.
    seconds: u64,
}

/// A process of a machine: never two have the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Process {
    /// The machine since it was started, and the numbers of processes that are seen there.
    machine: String,
    number: u32,
    /// When it began, in the machine's ticks.
    began: String,
}

impl Process {
    fn of(number: u32) -> Option<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let numbers = std::fs::read_link("/proc/self/ns/pid").ok()?;
        let state = std::fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
        // the 22nd word; the second, in brackets, may hold others
        let began = state.rsplit_once(')')?.1.split_whitespace().nth(19)?.to_owned();
        Some(Self { machine: format!("{} {}", boot.trim(), numbers.display()), number, began })
    }

    /// Whether it is one of this machine, and gone.
    fn is_dead(&self) -> bool {
        let here = Self::of(std::process::id()).map(|this| this.machine);
        here.as_ref() == Some(&self.machine) && Self::of(self.number).as_ref() != Some(self)
    }
}

/// Proof of being the one writer of a bucket's database, given back on drop.
#[derive(Debug)]
pub(in crate::store) struct BucketLock {
    held: Arc<Held>,
    took_over: bool,
}

#[derive(Debug)]
pub(super) struct Held {
    address: String,
    number: u64,
    renewed: Mutex<Renewed>,
    seconds: u64,
}

/// Who writes in this process, by the address of the database: commits are made by connections that were opened before.
static WRITERS: Mutex<BTreeMap<String, Weak<Held>>> = Mutex::new(BTreeMap::new());

fn writers() -> MutexGuard<'static, BTreeMap<String, Weak<Held>>> {
    WRITERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The writer of this process.
pub(super) fn current(address: &str) -> Option<Arc<Held>> {
    writers().get(address).and_then(Weak::upgrade)
}

fn name(number: u64) -> String {
    format!("{FOLDER}/{number:010}")
}

impl Held {
    /// Whether this process is still the writer: nobody has a later number.
    pub(super) async fn is_writer(&self, bucket: &Bucket) -> object_store::Result<bool> {
        if !self.renewed.lock().unwrap_or_else(PoisonError::into_inner).is_held() {
            return Ok(false);
        }
        let (folder, mine) = (bucket.key(FOLDER), bucket.key(&name(self.number)));
        Ok(bucket.store.list_with_offset(Some(&folder), &mine).next().await.transpose()?.is_none())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // the number stays, so that the next is another one
        let free = Place { holder: None, process: None, seconds: self.seconds };
        let renewed = self.renewed.get_mut().unwrap_or_else(PoisonError::into_inner);
        renewed.end(serde_json::to_string(&free).ok());
        let mut writers = writers();
        if writers.get(&self.address).is_some_and(|known| known.strong_count() == 0) {
            writers.remove(&self.address);
        }
    }
}

impl BucketLock {
    /// Take it, or say at once that another program has it.
    pub(in crate::store) async fn take(bucket: &Bucket) -> Result<Self> {
        let seconds = lease()?.as_secs();
        loop {
            let (places, now) = bucket.list_timed(FOLDER).await?;
            let number = |name: &str| name.rsplit('/').next()?.parse::<u64>().ok();
            let last = places.iter().filter_map(|place| Some((number(&place.name)?, place))).max_by_key(|(at, _)| *at);
            let (mut last_number, mut took_over) = (0, false);
            if let Some((at, object)) = last {
                last_number = at;
                // it may be gone by now: then there is a next one
                let Some(text) = bucket.get(&object.name).await? else { continue };
                // of what nobody understands the time is ours
                let place =
                    serde_json::from_slice(&text).unwrap_or(Place { holder: Some("?".into()), process: None, seconds });
                if let Some(holder) = place.holder {
                    let held = Duration::from_secs(place.seconds).min(LONGEST_LEASE);
                    let is_dead = place.process.is_some_and(|process| process.is_dead());
                    if !is_dead && !is_over(object.written, now, held) {
                        let left =
                            held.saturating_sub((now - object.written).to_std().unwrap_or_default()).as_secs() + 1;
                        let holder =
                            format!("{holder}, whose lease is over in {left} s where it is not there any more");
                        let (uri, lock) =
                            (bucket.address(), PathBuf::from(format!("{}/{}", bucket.address(), object.name)));
                        return Err(Error::Locked { uri, lock, holder: Some(holder), waited: Duration::ZERO });
                    }
                    took_over = true;
                }
            }
            let (mine, place) = (
                name(last_number + 1),
                Place { holder: Some(myself()), process: Process::of(std::process::id()), seconds },
            );
            let text = serde_json::to_string(&place).unwrap_or_default();
            if !bucket.create(&mine, text.clone()).await? {
                continue; // another one was first
            }
            let renewed = Renewed::begin(bucket, mine.clone(), text, true, Duration::from_secs(seconds))?;
            let held = Arc::new(Held {
                address: bucket.address(),
                number: last_number + 1,
                renewed: Mutex::new(renewed),
                seconds,
            });
            writers().insert(bucket.address(), Arc::downgrade(&held));
            // nobody needs them; what stays is removed by the next
            let older = places.into_iter().map(|place| place.name).filter(|name| *name < mine);
            let _ = bucket.remove(older).await;
            return Ok(Self { held, took_over });
        }
    }

    /// The number of a writer who may have taken the place of one that is not dead.
    pub(in crate::store) fn took_over(&self) -> Option<u64> {
        self.took_over.then_some(self.held.number)
    }
}

/// Who this is, for whoever waits: `outskirt, process 1234 of host`.
fn myself() -> String {
    let read = |path| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).ok();
    let name = read("/proc/self/comm").unwrap_or_else(|| "a program".into());
    let host = read("/proc/sys/kernel/hostname").map(|host| format!(" of {host}")).unwrap_or_default();
    format!("process {}{host}, {name}", std::process::id())
}
