//! What lies at `http://`, `https://` and `s3://` addresses. The only file of this room that names `object_store`.
//!
//! A file is read in one of three ways: as a stream from its beginning (archives), by blocks of a few MiB wherever they
//! are asked for (what has its directory at its end), and whole, several at a time (single pictures). Requests that fail
//! are repeated, and a stream that breaks goes on where it was, as far as `object_store` can. Credentials and
//! endpoints of S3 come from the environment (`AWS_*`), and stay out of the table and of messages: see [`shown`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::http::HttpBuilder;
use object_store::path::Path as Key;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore};
use url::Url;

use super::address::{authority, refusal, s3, shown};
use super::format::{Fault, MAX_FILE_BYTES, too_large};
use super::wait::{start, wait};
use crate::cloud::{self, Connected, Failure, retries};
use crate::error::{Error, Result};
use crate::image::decode::{self, HEAD};

/// Bytes asked for together, of a file that is not read from its beginning, …
const BLOCK: u64 = 8 << 20;
/// … of which so many are kept.
const KEPT: usize = 4;
/// A file is held in memory up to this, where its server does not give parts of it.
const WHOLE: u64 = 256 << 20;
/// Pictures asked for at the same time.
pub(super) const AHEAD: usize = 16;
/// A larger one is read when its turn comes.
const AHEAD_BYTES: u64 = 16 << 20;
/// Hosts that are asked for something before anything is read.
const PROBED: usize = 8;
/// How often a picture whose download broke off is asked for.
const ATTEMPTS: usize = 3;
const NO_LIST: &str = "a web server does not say what it holds: name its files one by one, or in a list (.txt, or .csv, \
                       .jsonl or .parquet with a column uri)";
/// The addresses that one with wildcards stands for, or itself.
pub(super) fn expand(text: &str) -> Result<Vec<PathBuf>> {
    let bad = |reason: String| Error::BadPattern { pattern: shown(text), reason };
    if let Some(reason) = refusal(text) {
        return Err(bad(reason));
    }
    let Some((bucket, pattern)) = s3(text) else {
        let url = Url::parse(text).map_err(|error| bad(error.to_string()))?;
        return if url.path().ends_with('/') || url.path().contains(['*', '[']) {
            Err(bad(NO_LIST.into()))
        } else {
            Ok(vec![text.into()])
        };
    };
    let Some(wild) = pattern.find(['*', '?', '[']) else { return Ok(vec![text.into()]) };
    let matcher = glob::Pattern::new(pattern.trim_end_matches('/')).map_err(|error| bad(error.to_string()))?;
    let options = glob::MatchOptions { require_literal_separator: true, ..Default::default() };
    let folder = pattern[..wild].rsplit_once('/').map_or("", |(folder, _)| folder);
    let listed = list(&format!("s3://{bucket}/{folder}")).map_err(|error| bad(error.to_string()))?;
    let mut found = BTreeSet::new();
    for address in &listed {
        let (_, key) = s3(address).unwrap_or_default();
        // a pattern may name a folder above the file
        let above = key.match_indices('/').map(|(at, _)| (&key[..at], "/"));
        let matching = above.chain([(key, "")]).find(|(key, _)| matcher.matches_with(key, options));
        found.extend(matching.map(|(key, end)| (parts(key), end)));
    }
    let found: Vec<PathBuf> =
        found.into_iter().map(|(key, end)| format!("s3://{bucket}/{}{end}", key.join("/")).into()).collect();
    if found.is_empty() { Err(bad("nothing there matches it".into())) } else { Ok(found) }
}

/// By these, keys sort as folders are read: by name, files and folders alike.
fn parts(key: &str) -> Vec<String> {
    key.split('/').map(String::from).collect()
}

/// The addresses of all that lies in a folder of S3, at any depth, in the order in which a folder is read.
pub(super) fn list(folder: &str) -> io::Result<Vec<String>> {
    let (bucket, key) = s3(folder).unwrap_or_default();
    let Address { store, key } = Address::of(&format!("s3://{bucket}/{key}"))?;
    let keys = async move {
        let prefix = (!key.as_ref().is_empty()).then_some(&key);
        store.list(prefix).map_ok(|object| object.location.to_string()).try_collect::<Vec<_>>().await
    };
    let mut keys = wait(keys)?.map_err(|error| Failure::of(&error).into_io())?;
    keys.sort_by_cached_key(|key| parts(key));
    Ok(keys.into_iter().map(|key| format!("s3://{bucket}/{key}")).collect())
}

/// A store, and what is asked of it.
#[derive(Clone)]
struct Address {
    store: Arc<dyn ObjectStore>,
    key: Key,
}

impl Address {
    fn of(text: &str) -> io::Result<Self> {
        if let Some(reason) = refusal(text) {
            return Err(io::Error::other(reason));
        }
        if let Some((bucket, key)) = s3(text) {
            return Ok(Self { store: self::bucket(bucket)?, key: Key::parse(key).map_err(io::Error::other)? });
        }
        // the whole address is the store, and no name is put after it: a query stays what it is
        let mut url = Url::parse(text).map_err(io::Error::other)?;
        url.set_fragment(None);
        let store = HttpBuilder::new().with_url(url).with_http_connector(Connected::shared()?).with_retry(retries());
        Ok(Self { store: Arc::new(store.build().map_err(io::Error::other)?), key: Key::default() })
    }

    async fn get(&self, range: Option<std::ops::Range<u64>>) -> object_store::Result<object_store::GetResult> {
        let range = range.map(GetRange::Bounded);
        self.store.get_opts(&self.key, GetOptions { range, ..GetOptions::default() }).await
    }
}

fn broken(read: u64, error: &object_store::Error) -> io::Error {
    let reason = Failure::of(error).reason;
    io::Error::other(format!("the download broke off after {read} bytes: {reason}; run this again to go on"))
}

/// A bucket, opened once.
fn bucket(name: &str) -> io::Result<Arc<dyn ObjectStore>> {
    static BUCKETS: Mutex<BTreeMap<String, Arc<dyn ObjectStore>>> = Mutex::new(BTreeMap::new());
    let mut buckets = BUCKETS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = buckets.get(name) {
        return Ok(Arc::clone(known));
    }
    let store: Arc<dyn ObjectStore> = Arc::new(cloud::bucket(name)?);
    buckets.insert(name.into(), Arc::clone(&store));
    Ok(store)
}

/// A file from its beginning.
pub(super) fn open(text: &str) -> io::Result<Stream> {
    let address = Address::of(text)?;
    let found = wait(async move { address.get(None).await })?.map_err(|error| Failure::of(&error).into_io())?;
    Ok(Stream { body: Some(found.into_stream()), chunk: Bytes::new(), read: 0 })
}

pub(super) struct Stream {
    /// `None` after its end.
    body: Option<BoxStream<'static, object_store::Result<Bytes>>>,
    chunk: Bytes,
    read: u64,
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            let Some(mut body) = self.body.take() else { return Ok(0) };
            match wait(async move { (body.next().await, body) })? {
                (Some(Ok(chunk)), body) => (self.chunk, self.body) = (chunk, Some(body)),
                (Some(Err(error)), _) => return Err(broken(self.read, &error)),
                (None, _) => return Ok(0),
            }
        }
        let length = into.len().min(self.chunk.len());
        into[..length].copy_from_slice(&self.chunk.split_to(length));
        self.read += length as u64;
        Ok(length)
    }
}

/// A file that is read anywhere.
#[derive(Clone)]
pub(super) struct Blocks {
    address: Address,
    length: u64,
    /// Length of a block.
    block: u64,
    /// What the server calls this state of the file.
    tag: Option<String>,
    /// The last blocks read, the latest last.
    kept: Arc<Mutex<VecDeque<(u64, Bytes)>>>,
    at: u64,
}

impl Blocks {
    pub(super) fn open(text: &str) -> io::Result<Self> {
        let address = Address::of(text)?;
        let asked = address.clone();
        let first = wait(async move {
            let found = match asked.get(Some(0..BLOCK)).await {
                Err(error) if Failure::of(&error).no_ranges => asked.get(None).await,
                other => other,
            };
            let found = found.map_err(|error| Failure::of(&error).into_io())?;
            let (length, tag) = (found.meta.size, found.meta.e_tag.clone());
            if found.range.end - found.range.start > BLOCK.max(WHOLE) {
                return Err(io::Error::other("its server does not give parts of a file: download it first"));
            }
            let bytes = found.bytes().await.map_err(|error| broken(0, &error))?;
            Ok((length, tag, bytes))
        })??;
        let (length, tag, bytes) = first;
        let block = if bytes.len() as u64 == length { length.max(1) } else { BLOCK };
        let kept = Arc::new(Mutex::new(VecDeque::from([(0, bytes)])));
        Ok(Self { address, length, block, tag, kept, at: 0 })
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The same file, read from there.
    pub(super) fn from(&self, at: u64) -> Self {
        Self { at, ..self.clone() }
    }

    /// These bytes, or as many of them as there are.
    pub(super) fn part(&self, start: u64, length: usize) -> io::Result<Bytes> {
        let end = self.length.min(start.saturating_add(length as u64));
        let mut found = Vec::new();
        let mut at = start;
        while at < end {
            let from = at / self.block * self.block;
            let block = self.block_at(from)?;
            let part = block.slice((at - from) as usize..block.len().min((end - from) as usize));
            if part.len() as u64 == end - start {
                return Ok(part);
            }
            at += part.len() as u64;
            found.extend_from_slice(&part);
        }
        Ok(found.into())
    }

    fn block_at(&self, start: u64) -> io::Result<Bytes> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, block)) = kept.iter().find(|(at, _)| *at == start) {
            return Ok(block.clone());
        }
        let (address, range) = (self.address.clone(), start..self.length.min(start + self.block));
        let wanted = range.end - range.start;
        let (tag, bytes) = wait(async move {
            let found = address.get(Some(range)).await.map_err(|error| broken(start, &error))?;
            let tag = found.meta.e_tag.clone();
            Ok::<_, io::Error>((tag, found.bytes().await.map_err(|error| broken(start, &error))?))
        })??;
        if tag != self.tag || bytes.len() as u64 != wanted {
            return Err(io::Error::other("it changed while it was read: run this again"));
        }
        kept.push_back((start, bytes.clone()));
        if kept.len() > KEPT {
            kept.pop_front();
        }
        Ok(bytes)
    }
}

impl Read for Blocks {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.length || into.is_empty() {
            return Ok(0);
        }
        let left = self.block - self.at % self.block;
        let bytes = self.part(self.at, into.len().min(left as usize))?;
        into[..bytes.len()].copy_from_slice(&bytes);
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }
}

impl Seek for Blocks {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// Whether something lies there.
pub(super) fn exists(text: &str) -> bool {
    wait(head(text.to_owned())).is_ok_and(|found| found.is_ok())
}

/// What tells whether a file has changed, where its server says something.
pub(super) fn state(text: &str) -> Option<String> {
    let ObjectMeta { size, e_tag, last_modified, .. } = wait(head(text.to_owned())).ok()?.ok()?;
    (e_tag.is_some() || last_modified.timestamp() != 0).then(|| format!("{size} {e_tag:?} {last_modified}"))
}

async fn head(text: String) -> Result<ObjectMeta, Failure> {
    let address = Address::of(&text).map_err(|error| Failure::plain(error.to_string()))?;
    let options = GetOptions { head: true, ..GetOptions::default() };
    let found = address.store.get_opts(&address.key, options).await;
    found.map(|found| found.meta).map_err(|error| Failure::of(&error))
}

/// Ask the first hosts of these addresses for something.
///
/// Errors: none of them answers.
pub(super) fn probe<'a>(addresses: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut hosts = BTreeSet::new();
    let firsts = addresses.filter(|address| hosts.insert(authority(address).to_owned())).take(PROBED);
    let asked: Vec<_> = firsts.map(|address| (address, start(head(address.to_owned())))).collect();
    let mut failed = None;
    for (address, answer) in asked {
        match answer.map(|answer| answer.recv()) {
            Ok(Ok(Err(Failure { lost: true, reason, .. }))) => {
                failed.get_or_insert(Error::Unreachable { address: shown(address), reason });
            }
            _ => return Ok(()), // what else is wrong, reading will say
        }
    }
    failed.map_or(Ok(()), Err)
}

/// `None` for one that is too large to be read ahead.
type Picture = Result<Option<Vec<u8>>, Failure>;

/// Pictures that were asked for, in their order.
#[derive(Default)]
pub(super) struct Ahead {
    asked: VecDeque<(String, Receiver<Picture>)>,
    /// How many in a row had no answer.
    lost: usize,
}

impl Ahead {
    /// Ask for the next pictures; the first of them are those that were asked for before.
    pub(super) fn ask<'a>(&mut self, next: impl Iterator<Item = &'a str>) {
        for text in next.take(AHEAD).skip(self.asked.len()) {
            // without threads, `read` will say so
            if let Ok(receiver) = start(picture(text.to_owned(), AHEAD_BYTES)) {
                self.asked.push_back((text.to_owned(), receiver));
            }
        }
    }

    /// The next picture. One that is not there says nothing of the others; when many in a row have no answer, the
    /// network is gone.
    pub(super) fn read(&mut self, text: &str) -> Result<Vec<u8>, Fault> {
        let now = || start(picture(text.to_owned(), u64::MAX)).map_err(|error| Fault::Lost(error.to_string()));
        let mut asked = match self.asked.pop_front() {
            Some((asked, receiver)) if asked == text => receiver,
            _ => {
                self.asked.clear();
                now()?
            }
        }
        .recv();
        if let Ok(Ok(None)) = asked {
            asked = now()?.recv();
        }
        match asked {
            Ok(Ok(bytes)) => {
                self.lost = 0;
                Ok(bytes.unwrap_or_default())
            }
            Ok(Err(Failure { lost: true, reason, .. })) if self.lost + 1 >= AHEAD => Err(Fault::Lost(reason)),
            Ok(Err(failure)) => {
                self.lost = if failure.lost { self.lost + 1 } else { 0 };
                Err(Fault::Image(failure.reason))
            }
            Err(_) => Err(Fault::Lost("the thread that reads it died".into())),
        }
    }
}

async fn picture(text: String, most: u64) -> Picture {
    let address = Address::of(&text).map_err(|error| Failure::plain(error.to_string()))?;
    let mut attempt = 1;
    loop {
        let found = address.get(None).await.map_err(|error| Failure::of(&error))?;
        if found.meta.size > MAX_FILE_BYTES {
            return Err(Failure::plain(too_large(found.meta.size)));
        }
        if found.meta.size > most {
            return Ok(None);
        }
        let (mut body, mut bytes) = (found.into_stream(), Vec::new());
        let ended = loop {
            match body.next().await {
                Some(Ok(chunk)) => {
                    let is_head = bytes.len() < HEAD;
                    bytes.extend_from_slice(&chunk);
                    if is_head
                        && bytes.len() >= HEAD
                        && let Some(reason) = decode::refusal(&bytes)
                    {
                        return Err(Failure::plain(reason));
                    }
                }
                Some(Err(error)) => break Err(error),
                None => break Ok(()),
            }
        };
        match ended {
            Ok(()) => return Ok(Some(bytes)),
            Err(error) if attempt == ATTEMPTS => {
                return Err(Failure::plain(format!("the download broke off: {}", Failure::of(&error).reason)));
            }
            Err(_) => attempt += 1,
        }
    }
}
