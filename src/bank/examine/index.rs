//! A bank's exact index examined: its file, its rows against the table, its distances against brute force.

use super::finding::{Finding, State};
use crate::bank::changes::churn_of;
use crate::bank::derived::{Derived, Part, make};
use crate::bank::origin::at_origin;
use crate::bank::rows::{draw, read_whole};
use crate::bank::{Bank, Definition, exact};
use crate::error::{Error, Result};
use crate::index::vectors::{Rows, Vectors};
use crate::index::{Exact, Origin, Search, kth_distances_brute};
use crate::schema;
use crate::store::memory;
use crate::store::{Store, WriteLock};

/// How far distances of exact search may be from brute force, kept scores from both, and a graph's below them.
pub(super) const TOLERANCE: f32 = 1e-5;

/// The bank's index, its rows and its distances; and the bank, opened where it is well.
pub(super) async fn examine_index(
    store: &Store,
    bank: &Definition,
    sample: usize,
    lock: Option<&WriteLock>,
) -> (Vec<Finding>, Option<Bank>) {
    let finding = |what: &str, state| Finding { subject: format!("{what} {}", bank.name), state };
    if let Err(error) = check_memory(bank) {
        return (vec![finding("bank", State::Broken(error.to_string()))], None);
    }
    let (index, is_whole) = exact_index(store, bank, bank, lock).await;
    let mut findings = vec![finding("index of", index)];
    match compare(store, bank, sample, is_whole).await {
        Ok((facts, exact)) => {
            findings.push(finding("bank", tagged(store, bank, lock).await.or(State::Well(facts))));
            (findings, Some(exact))
        }
        Err(error) => {
            findings.push(finding("bank", State::Broken(error.to_string())));
            (findings, None)
        }
    }
}

/// Refuse what there is no memory for: the index held in f32, or else all rows, twice for a moment, that it is compared with.
pub(super) fn check_memory(bank: &Definition) -> Result<()> {
    let needed = Exact::bytes(bank.row_count, bank.dimension).max(8 * (bank.row_count * bank.dimension) as u64);
    memory::check(&format!("verifying bank '{}'", bank.name), needed, "do it on a larger machine")
}

/// The bank read and searched, out of its index where that is whole, its distances from sampled images compared with
/// brute force.
async fn compare(store: &Store, bank: &Definition, sample: usize, is_whole: bool) -> Result<(String, Bank)> {
    check_column(store, bank).await?;
    let k = bank.check_k(bank.k as i128)?;
    let queries = sampled(store, bank, sample).await?;
    let truth = {
        let rows = read_whole(store, bank).await?.vectors.to_values();
        kth_distances_brute(Vectors::new(&rows, bank.dimension), Vectors::new(&queries, bank.dimension), k)
    };
    let opened = match is_whole {
        true => Bank::load_exact(store, bank).await?,
        false => Bank::lay_out(store, bank, Search::Exact.into()).await?,
    };
    let facts = compared(&opened, &queries, &truth)?;
    Ok((facts, opened))
}

/// Refuse a bank whose backbone's column is gone, or another's.
pub(super) async fn check_column(store: &Store, bank: &Definition) -> Result<()> {
    let columns = store.embedding_columns().await?;
    if columns.iter().any(|column| column.backbone == bank.backbone && column.sha256 == bank.sha256) {
        return Ok(());
    }
    let known = columns.into_iter().map(|column| column.backbone).collect();
    Err(Error::NoEmbeddings { name: bank.backbone.clone(), known })
}

/// What an opened bank finds at its k beside what comparing every row finds.
pub(super) fn compared(opened: &Bank, queries: &[f32], truth: &[f32]) -> Result<String> {
    let bank = opened.definition();
    let found = opened.kth_distances(Vectors::new(queries, bank.dimension), bank.k)?;
    let off = largest(truth.iter().zip(&found).map(|(a, b)| (a - b).abs()));
    if !within(off) {
        let reason = format!("exact search is off by {off:.1e} from comparing every row, on {} images", truth.len());
        return Err(Error::BankUnreadable { bank: bank.name.clone(), reason });
    }
    let (rows, version, count, k) = (bank.row_count, bank.follows(), truth.len(), bank.k);
    let as_brute_force = if off == 0.0 { "equal".into() } else { format!("within {off:.0e} of") };
    Ok(format!("{rows} rows in version {version}; {count} distances at k = {k} {as_brute_force} brute force"))
}

/// Whether the version that the bank is read from is kept.
pub(super) async fn tagged(store: &Store, bank: &Definition, lock: Option<&WriteLock>) -> State {
    tagged_or(store, bank, lock).await.unwrap_or_else(|error| State::Broken(error.to_string()))
}

async fn tagged_or(store: &Store, bank: &Definition, lock: Option<&WriteLock>) -> Result<State> {
    let tags = store.tags(schema::IMAGES).await?;
    if tags.iter().any(|(tag, version)| bank.owns(tag) && *version == bank.follows()) {
        return Ok(State::Well(String::new()));
    }
    let facts = format!("nothing keeps version {} of images from being pruned", bank.follows());
    if lock.is_none() {
        return Ok(State::Derived(facts));
    }
    store.tag(schema::IMAGES, &bank.tag(), bank.follows()).await?;
    Ok(State::Mended(format!("{facts}; tagged")))
}

/// The exact index as it lies on disk: all of it is read, and compared with its checksums. Whether it is whole, too.
pub(super) async fn exact_index(
    store: &Store,
    whole: &Definition,
    bank: &Definition,
    lock: Option<&WriteLock>,
) -> (State, bool) {
    let check = async || -> Result<String> {
        let (_, origin) = exact::find(store, bank)?;
        let base = at_origin(store, bank, &origin).await?;
        // not kept: there is to be room for the rows that it is compared with
        drop(Bank::load_exact(store, bank).await?);
        let changed = 100.0 * churn_of(store, bank, &base).await?;
        Ok(format!("checksums right; made from version {}, {changed:.1} % changed since", base.table_version))
    };
    let reason = match check().await {
        Ok(facts) => return (State::Well(facts), true),
        Err(reason) => reason,
    };
    let missing = !exact::exact_path(store, bank).exists();
    let Some(lock) = lock else {
        let none = || State::Well("none yet: the next search makes it".into());
        let state = match ahead(store, bank, exact::find(store, bank).map(|(_, origin)| origin)).await {
            _ if missing => none(),
            Some(facts) => State::Behind(facts),
            None => State::Derived(reason.to_string()),
        };
        return (state, false);
    };
    let mended = async {
        make(store, lock, whole, &[Part { of: bank.clone(), which: Derived::Exact }]).await?;
        check().await
    };
    match mended.await {
        Ok(facts) => (State::Mended(format!("{reason}; built anew: {facts}")), true),
        Err(error) => (State::Broken(format!("{reason}; building it anew: {error}")), false),
    }
}

/// What to say of a file that was made for a later version than the bank's: a refresh was ended before its last step.
pub(super) async fn ahead(store: &Store, bank: &Definition, origin: Result<Origin>) -> Option<String> {
    let (made, follows) = (origin.ok()?.table_version, bank.table_version);
    let latest = store.version(schema::IMAGES).await.ok()?;
    (follows < made && made <= latest).then(|| {
        format!("made for version {made}, where a refresh was interrupted; the bank is at {follows}: the next search or refresh makes it anew")
    })
}

/// Normalised embeddings of some images in the bank's version, rows of the bank or not.
pub(super) async fn sampled(store: &Store, bank: &Definition, sample: usize) -> Result<Vec<f32>> {
    let rows: Rows = draw(store, bank, Some(bank.follows()), "true", sample).await?;
    Ok(rows.to_values())
}

/// Not for NaN.
pub(super) fn within(difference: f32) -> bool {
    difference <= TOLERANCE
}

pub(super) fn largest(values: impl Iterator<Item = f32>) -> f32 {
    values.fold(0.0, |most, value| if value.is_nan() { f32::NAN } else { most.max(value) })
}
