//! An index in one transaction, with what its searches share.

use std::borrow::Cow;
use std::cell::OnceCell;

use crate::error::{Error, Result};
use crate::forest::open::{Forest, OpenForest};
use crate::format::item::ItemRef;
use crate::format::record::Record;
use crate::index_spec::IndexSpec;
use crate::kernel::simd::{self, Level};
use crate::key::Key;
use crate::lmdb::items::{Items, MAX_CACHED_ITEMS};
use crate::lmdb::nodes::MAX_CACHED_NODES;
use crate::lmdb::pending::Pending;
use crate::lmdb::view::View;
use crate::search::knn::search;
use crate::search::paged::Stream;
use crate::search::request::Request;
use crate::search::rerank::Scorer;
use crate::search::{Hit, SearchStats};
use crate::vector::is_as_added;

/// An index in one transaction, with what its searches share.
///
/// The forest and the pending marks are read by the first search that needs them.
pub(crate) struct Session<'t> {
    pub(crate) items: Items<'t>,
    pub(crate) record: Record,
    pub(crate) simd: Level,
    max_cached_nodes: usize,
    forest: OnceCell<Option<OpenForest<'t>>>,
    pending: OnceCell<Cow<'t, Pending>>,
}

impl<'t> Session<'t> {
    /// A session with the usual cache of nodes and items.
    pub(crate) fn new(view: View<'t>, record: Record) -> Self {
        Self::with_cache(view, record, MAX_CACHED_ITEMS, MAX_CACHED_NODES)
    }

    /// A session that caches at most this many items, and nodes of each kind: powers of two or 0.
    pub(crate) fn with_cache(
        view: View<'t>,
        record: Record,
        max_cached_items: usize,
        max_cached_nodes: usize,
    ) -> Self {
        Self {
            items: Items::new(view, max_cached_items),
            record,
            simd: simd::detect(),
            max_cached_nodes,
            forest: OnceCell::new(),
            pending: OnceCell::new(),
        }
    }

    /// Uses a forest that has been read before.
    pub(crate) fn with_forest(mut self, forest: &'t Forest) -> Self {
        let open = OpenForest::new(self.items.view, Cow::Borrowed(forest), self.max_cached_nodes);
        self.forest = OnceCell::from(Some(open));
        self
    }

    /// Uses these pending marks instead of the stored ones.
    pub(crate) fn with_pending(mut self, pending: &'t Pending) -> Self {
        self.pending = OnceCell::from(Cow::Borrowed(pending));
        self
    }

    pub(crate) fn view(&self) -> View<'t> {
        self.items.view
    }

    pub(crate) fn spec(&self) -> IndexSpec {
        self.items.view.spec
    }

    /// The forest, or `None` if the index was never built.
    pub(crate) fn forest(&self) -> Result<Option<&OpenForest<'t>>> {
        let read = || {
            if self.record.trees == 0 {
                return Ok(None);
            }
            let forest = Forest::read(self.view(), &self.record)?;
            Ok(Some(OpenForest::new(self.view(), Cow::Owned(forest), self.max_cached_nodes)))
        };
        Ok(get_or_try(&self.forest, read)?.as_ref())
    }

    /// The pending marks: those of the snapshot, or the given ones.
    pub(crate) fn pending(&self) -> Result<&Pending> {
        let read = || match self.record.pending {
            0 => Ok(Cow::Owned(Pending::default())),
            _ => Pending::read(self.view()).map(Cow::Owned),
        };
        Ok(get_or_try(&self.pending, read)?)
    }
}

fn get_or_try<T>(cell: &OnceCell<T>, read: impl FnOnce() -> Result<T>) -> Result<&T> {
    match cell.get() {
        Some(value) => Ok(value),
        None => {
            let value = read()?;
            Ok(cell.get_or_init(|| value))
        }
    }
}

/// What queries need of a session, without the lifetime of its transaction.
pub(crate) trait Searcher {
    fn spec(&self) -> IndexSpec;
    /// The item to search with, if it exists.
    fn query_item(&self, id: u32) -> Result<Option<ItemRef<'_>>>;
    /// A stored item as a hit, with its distance to `query`.
    fn compare(&self, query: ItemRef<'_>, id: u32) -> Result<Hit>;
    /// One search: see [`search`].
    fn search(&self, query: ItemRef<'_>, request: &Request<'_>) -> Result<(Vec<Hit>, SearchStats)>;
    /// The next hits of a stream: see [`Stream::next`].
    fn next(&self, stream: &mut Stream, request: &Request<'_>, count: usize) -> Result<Vec<Hit>>;
}

impl Searcher for Session<'_> {
    fn spec(&self) -> IndexSpec {
        Session::spec(self)
    }

    fn query_item(&self, id: u32) -> Result<Option<ItemRef<'_>>> {
        let (item, spec) = (self.items.find(id)?, self.spec());
        // Otherwise a wrong norm here would be reported as damage of the items compared with it.
        if item.is_none_or(|item| is_as_added(&item, spec.metric)) {
            return Ok(item);
        }
        let what = "the norm of the item is not that of its components";
        Err(Error::corrupted(Key::item(spec.index, id), what))
    }

    fn compare(&self, query: ItemRef<'_>, id: u32) -> Result<Hit> {
        let scorer = Scorer { spec: self.spec(), simd: self.simd, query };
        Ok(scorer.rank(id, &self.items.get(id)?)?.into_hit(self.spec().metric))
    }

    fn search(&self, query: ItemRef<'_>, request: &Request<'_>) -> Result<(Vec<Hit>, SearchStats)> {
        search(self, query, request)
    }

    fn next(&self, stream: &mut Stream, request: &Request<'_>, count: usize) -> Result<Vec<Hit>> {
        stream.next(self, request, count)
    }
}
