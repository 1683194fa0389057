//! An index in one transaction, with what its searches share.

use std::borrow::Cow;
use std::cell::OnceCell;

use crate::error::Result;
use crate::forest::open::{Forest, OpenForest};
use crate::format::record::Record;
use crate::index_spec::IndexSpec;
use crate::kernel::simd::{self, Level};
use crate::lmdb::items::{Items, MAX_CACHED_ITEMS};
use crate::lmdb::nodes::MAX_CACHED_NODES;
use crate::lmdb::pending::Pending;
use crate::lmdb::view::View;

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

    /// A session that caches at most this many items, a power of two or 0, and nodes of each kind.
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
