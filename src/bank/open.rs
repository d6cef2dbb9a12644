//! A bank opened for search: its exact index or its graph loaded, or its rows left where they are.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::derived::{Derived, fetch, make_here};
use super::graph::{build_hnsw, check_graph_memory, hnsw_path, hnsw_sidecar, load_hnsw, save_hnsw, tune};
use super::rows::read_whole;
use super::runtime::{ReadProgress, block_on_own_runtime, on_own_thread};
use super::sharded::Sharded;
use super::shards::counted;
use super::stream::Streamed;
use super::{Definition, exact, find};
use crate::error::{Error, Result};
use crate::index::vectors::Vectors;
use crate::index::{
    self, Device, Exact, Found, Hnsw, IndexKind, Kth, Neighbor, NeighborIndex, Processor, Quality, Question, Search,
    SearchOptions, Sidecar, check_device,
};
use crate::store::Store;
use crate::store::memory;

/// A bank ready to be searched.
#[derive(Debug)]
pub struct Bank {
    definition: Definition,
    ids: Arc<[u64]>,
    index: Box<dyn NeighborIndex>,
    notice: Option<String>,
    /// Where it lies in shards: the same as the index.
    sharded: Option<Arc<Sharded>>,
}

impl Bank {
    /// Open a bank for one kind of search, within the memory limit of the options, or else the memory that there is. An
    /// index file that is missing or damaged is made anew, and [`Self::notice`] says so.
    pub async fn open(store: &Store, definition: Definition, options: SearchOptions) -> Result<Self> {
        Self::open_watched(store, &definition, options, &Arc::default()).await
    }

    async fn open_watched(
        store: &Store,
        bank: &Definition,
        options: SearchOptions,
        watch: &Arc<OnceLock<ReadProgress>>,
    ) -> Result<Self> {
        let is_sharded = matches!(bank.index_kind()?, IndexKind::Sharded(_));
        match (options.kind, options.device) {
            (Search::Hnsw, _) => Self::open_hnsw(store, bank.clone()).await,
            (Search::Exact, Device::Cuda) if is_sharded => {
                Err(Error::OnlyOnProcessor { what: "a search of a bank in shards" })
            }
            (Search::Exact, Device::Cuda) => {
                check_device(options.device)?;
                Self::lay_out(store, bank, options).await
            }
            (Search::Exact, Device::Cpu) => {
                // a tenth is left to everybody else
                let available = || memory::available().map(|bytes| bytes / 10 * 9);
                let limit = options.memory_limit.0.or_else(available).unwrap_or(u64::MAX);
                if is_sharded {
                    return Self::open_shards(store, bank, options, limit, watch).await;
                }
                Self::open_exact(store, bank, options, limit, watch).await
            }
        }
    }

    /// A bank whose shards are opened when they are asked.
    async fn open_shards(
        store: &Store,
        bank: &Definition,
        options: SearchOptions,
        limit: u64,
        watch: &Arc<OnceLock<ReadProgress>>,
    ) -> Result<Self> {
        let (place, watch) = (store.place().to_owned(), Arc::clone(watch));
        let opens = move |shard: &Definition, options| {
            let opened = on_own_thread(&shard.name, || open_within(&place, shard, options, &watch))?;
            Ok((Arc::from(opened.index), opened.notice))
        };
        Ok(Self::of_shards(bank, Sharded::new(bank, counted(store, bank).await?, limit, options, Box::new(opens))))
    }

    /// A bank in shards for whoever only looks: no file is made, and of a shard whose file is broken the rows are read.
    pub(super) fn in_shards(store: &Store, bank: &Definition, shards: Vec<Definition>, broken: Vec<String>) -> Self {
        let (place, options) = (store.place().to_owned(), SearchOptions::default());
        let limit = memory::available().map_or(u64::MAX, |bytes| bytes / 10 * 9);
        let opens = move |shard: &Definition, options| {
            let open = async |store: Store| match broken.contains(&shard.name) {
                true => Self::lay_out(&store, shard, options).await,
                false => Self::load_exact(&store, shard).await,
            };
            let opened = on_own_thread(&shard.name, || block_on_own_runtime(&place, open))?;
            Ok((Arc::from(opened.index), None))
        };
        Self::of_shards(bank, Sharded::new(bank, shards, limit, options, Box::new(opens)))
    }

    fn of_shards(bank: &Definition, sharded: Sharded) -> Self {
        let sharded = Arc::new(sharded);
        let index = Box::new(Arc::clone(&sharded));
        Self { definition: bank.clone(), ids: Arc::default(), index, notice: None, sharded: Some(sharded) }
    }

    /// A bank out of its exact index; where there is none that fits, one is made, or the bank laid out for this session.
    async fn open_exact(
        store: &Store,
        bank: &Definition,
        options: SearchOptions,
        limit: u64,
        watch: &Arc<OnceLock<ReadProgress>>,
    ) -> Result<Self> {
        let opened = |(exact, ids), notice| Self { notice, ..Self::of_exact(bank, exact, ids) };
        let streamed = |notice| -> Result<Self> {
            let index = Box::new(Streamed::new(store.place(), bank, limit, options, watch)?);
            Ok(Self { definition: bank.clone(), ids: Arc::default(), index, notice, sharded: None })
        };
        fetch(store, bank, Derived::Exact).await;
        // a bank of an earlier version of the program has none yet: nothing is wrong with it
        let missing = !exact::exact_path(store, bank).exists();
        let reason = match exact::load(store, bank, options.instructions, limit).await {
            Ok(Some(found)) => return Ok(opened(found, None)),
            Ok(None) => return streamed(None),
            Err(reason) => reason,
        };
        let mut notice = None;
        if find(store, bank.bank()).await?.table_version == bank.table_version {
            // a reader makes the file where it may: not beside a writer, nor without the right to
            let made = match store.lock_files() {
                Ok(lock) => make_here(store, &lock, bank, &[Derived::Exact]).await,
                Err(unmade) => Err(unmade),
            };
            match made {
                Ok(()) => {
                    let notice = (!missing).then(|| format!("{reason}; rebuilt"));
                    return match exact::load(store, bank, options.instructions, limit).await? {
                        Some(found) => Ok(opened(found, notice)),
                        None => streamed(notice),
                    };
                }
                Err(unmade) => notice = (!missing).then(|| format!("{reason}; rebuilt in memory only ({unmade})")),
            }
        }
        match Exact::bytes(bank.row_count, bank.dimension) <= limit {
            true => Ok(Self { notice, ..Self::lay_out(store, bank, options).await? }),
            false => streamed(notice),
        }
    }

    /// The bank out of its exact index, all of it in memory.
    pub(super) async fn load_exact(store: &Store, bank: &Definition) -> Result<Self> {
        let found = exact::load(store, bank, SearchOptions::default().instructions, u64::MAX).await?;
        let (exact, ids) = found.ok_or(Error::NeedsMemory { what: "an exact index" })?;
        Ok(Self::of_exact(bank, exact, ids))
    }

    fn of_exact(bank: &Definition, exact: Exact, ids: Vec<u64>) -> Self {
        let ids: Arc<[u64]> = ids.into();
        let index = Box::new(Processor::new(exact, Arc::clone(&ids)));
        Self { definition: bank.clone(), ids, index, notice: None, sharded: None }
    }

    /// A bank laid out in memory from its rows, for this session.
    pub(super) async fn lay_out(store: &Store, bank: &Definition, options: SearchOptions) -> Result<Self> {
        let needed = Exact::bytes(bank.row_count, bank.dimension);
        memory::check(
            &format!("bank '{}' in f32", bank.name),
            needed,
            "exact search on the processor reads a larger one from its file",
        )?;
        let mut rows = read_whole(store, bank).await?;
        let index = index::exact(rows.vectors, &rows.ids, bank.k, options)?;
        rows.ids.sort_unstable();
        Ok(Self { definition: bank.clone(), ids: rows.ids.into(), index, notice: None, sharded: None })
    }

    async fn open_hnsw(store: &Store, definition: Definition) -> Result<Self> {
        if !definition.index_kind()?.has_graph() {
            return Err(Error::NoHnsw { bank: definition.name });
        }
        check_graph_memory(&definition, false)?;
        let wanted = hnsw_sidecar(&definition)?;
        let loaded = async || -> Result<(Hnsw, Option<Quality>)> {
            let found = wanted.verify(&hnsw_path(store, &definition))?;
            let mut hnsw = load_hnsw(store, &definition, &found).await?;
            let quality = match found.quality {
                Some(quality) => Some(quality),
                // one of an earlier version of the program
                None => tune(store, &definition, &mut hnsw).await.ok(),
            };
            Ok((hnsw, quality))
        };
        fetch(store, &definition, Derived::Graph).await;
        let mut notices = Vec::new();
        let (index, quality) = match loaded().await {
            Ok(loaded) => loaded,
            Err(reason) => {
                let mut hnsw = build_hnsw(&definition, &read_whole(store, &definition).await?)?;
                let quality = tune(store, &definition, &mut hnsw).await.ok();
                let current = find(store, &definition.name).await?;
                notices.push(if current.table_version == definition.table_version {
                    // a reader repairs the file where it may: not beside a writer, nor without the right to
                    let saved =
                        store.lock_files().and_then(|lock| save_hnsw(store, &definition, &hnsw, quality, &lock));
                    match saved {
                        Ok(()) => format!("{reason}; rebuilt"),
                        Err(unsaved) => format!("{reason}; rebuilt in memory only ({unsaved})"),
                    }
                } else {
                    let (name, version) = (&definition.name, definition.table_version);
                    format!("bank {name}@{version}: the graph of this version was built for this session")
                });
                (hnsw, quality)
            }
        };
        if let Some(quality) = quality.filter(|quality| !quality.is_enough()) {
            let (name, percent) = (&definition.name, 100.0 * quality.recall);
            notices.push(format!(
                "bank {name}: its graph finds {percent:.1} % of the k-th distances: SET outskirt.search = 'exact'"
            ));
        }
        let notice = (!notices.is_empty()).then(|| notices.join("; "));
        Ok(Self { definition, ids: Arc::default(), index: Box::new(index), notice, sharded: None })
    }

    /// A graph as its file has it, brought up to the bank.
    pub(super) async fn load_hnsw(store: &Store, bank: &Definition, found: &Sidecar) -> Result<Self> {
        let index = load_hnsw(store, bank, found).await?;
        Ok(Self { definition: bank.clone(), ids: Arc::default(), index: Box::new(index), notice: None, sharded: None })
    }

    /// The bank's row in `banks`.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// `images.id` of its rows, ascending; empty where only a graph was loaded, or rows stay in the table.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// What happened while opening that its user should know.
    pub fn notice(&self) -> Option<String> {
        self.sharded.as_ref().map_or_else(|| self.notice.clone(), |sharded| sharded.notice())
    }

    /// How it is searched, in words.
    pub fn describe(&self) -> String {
        self.index.describe()
    }

    /// Bytes that it holds in the main memory, about.
    pub fn bytes(&self) -> u64 {
        self.index.bytes()
    }

    /// How many queries are worth asking at once.
    pub fn at_once(&self) -> usize {
        self.index.at_once()
    }

    /// Distance of each normalised query (n×d) to its k-th nearest row, in [0, 2].
    pub fn kth_distances(&self, queries: Vectors<'_>, k: usize) -> Result<Vec<f32>> {
        let found = self.find(queries, Question::all(k))?;
        Ok(found.kth.into_iter().map(Kth::distance).collect())
    }

    /// What is asked about each normalised query (n×d).
    pub fn find(&self, queries: Vectors<'_>, question: Question<'_>) -> Result<Found> {
        self.check_k(question.k, question.excluded.is_some())?;
        let found = self.index.find(queries, question)?;
        // a bank has more rows than k: without a ceiling each query has a k-th distance
        if question.ceiling.is_none() && found.kth.contains(&Kth::Beyond) {
            return Err(Error::TooFewFound { bank: self.definition.name.clone(), k: question.k });
        }
        Ok(found)
    }

    /// The k nearest rows of each query, nearest first; a query's own row is left out where `own` has its id.
    pub fn nearest(&self, queries: Vectors<'_>, k: usize, own: Option<&[Option<u64>]>) -> Result<Vec<Vec<Neighbor>>> {
        self.check_k(k, own.is_some())?;
        self.index.nearest(queries, k, own)
    }

    /// How many shards it lies in; `None` where it lies in one piece.
    #[cfg(feature = "cluster")]
    pub(crate) fn shards(&self) -> Option<usize> {
        self.sharded.as_ref().map(|sharded| sharded.count())
    }

    /// The distances of each query to its k nearest rows of one shard, as far as they lie within `ceiling`; fewer where there are not
    /// so many. Of all shards together, the k-th is the k-th of the bank.
    #[cfg(feature = "cluster")]
    pub(crate) fn near_in_shard(
        &self,
        number: usize,
        queries: Vectors<'_>,
        k: usize,
        ceiling: Option<f32>,
        own: Option<&[Option<u64>]>,
    ) -> Result<(Vec<Vec<f32>>, index::Work)> {
        self.check_k(k, own.is_some())?;
        let missing =
            || Error::BankUnreadable { bank: self.definition.name.clone(), reason: "it has no shards".into() };
        let Some(shard) = self.sharded.as_ref().ok_or_else(missing)?.shard(number)? else {
            return Ok((vec![Vec::new(); queries.len()], index::Work::default()));
        };
        let ceiling = ceiling.map(index::Bound::All);
        let (near, work) = shard.nearest_within(queries, Question { k, floor: None, ceiling, excluded: own })?;
        Ok((
            near.into_iter().map(|near| near.into_iter().map(|(distance, _)| distance as f32).collect()).collect(),
            work,
        ))
    }

    /// The mean over each query's k nearest rows of: its k-th distance divided by theirs (among the bank's others).
    pub fn density_ratios(&self, queries: Vectors<'_>, k: usize, own: Option<&[Option<u64>]>) -> Result<Vec<f32>> {
        self.check_k(k, own.is_some())?;
        self.index.density_ratios(queries, k, own)
    }

    fn check_k(&self, k: usize, leaves_out: bool) -> Result<()> {
        self.definition.check_k_of(k as i128, leaves_out).map(|_| ())
    }
}

/// Open a bank for exact search from an executor's thread, within the memory that there is; the graph is not asked for.
pub(super) fn open_exact(store: &Store, definition: &Definition) -> Result<Bank> {
    let options = SearchOptions::default();
    on_own_thread(&definition.name, || open_within(store.place(), definition, options, &Arc::default()))
}

/// Open a bank from any thread that is not an executor's own.
pub(super) fn open_within(
    folder: &Path,
    definition: &Definition,
    options: SearchOptions,
    watch: &Arc<OnceLock<ReadProgress>>,
) -> Result<Bank> {
    block_on_own_runtime(folder, async |store| Bank::open_watched(&store, definition, options, watch).await)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{Bound, Work};

    /// Finds nothing, whatever it is asked.
    #[derive(Debug)]
    struct Empty;

    impl NeighborIndex for Empty {
        fn find(&self, queries: Vectors<'_>, question: Question<'_>) -> Result<Found> {
            let kth = (0..queries.len()).map(|query| question.answer(query, None)).collect();
            Ok(Found { kth, work: Work::default() })
        }

        fn nearest(&self, _: Vectors<'_>, _: usize, _: Option<&[Option<u64>]>) -> Result<Vec<Vec<Neighbor>>> {
            Ok(Vec::new())
        }

        fn describe(&self) -> String {
            "empty".into()
        }
    }

    #[test]
    fn fewer_than_k_rows_without_a_ceiling_are_an_error_and_no_score() {
        let definition = Definition {
            name: "b".into(),
            backbone: "toy".into(),
            sha256: String::new(),
            predicate: "true".into(),
            k: 1,
            alpha: 1.0,
            seed: 0,
            index_kind: "exact".into(),
            table_version: 1,
            row_count: 5,
            dimension: 2,
            created_at: String::new(),
            checked_version: None,
        };
        let bank = Bank { definition, ids: Arc::default(), index: Box::new(Empty), notice: None, sharded: None };
        let queries = Vectors::new(&[1.0, 0.0], 2);
        let error = bank.kth_distances(queries, 3).unwrap_err().to_string();
        assert!(error.starts_with("bank 'b': a search found fewer than k = 3 neighbours"), "{error}");
        // beyond a ceiling there need not be any
        let found = bank.find(queries, Question::within(3, Bound::All(0.5))).unwrap();
        assert_eq!(found.kth, [Kth::Beyond]);
    }
}
