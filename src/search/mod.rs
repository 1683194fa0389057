//! Searching: choose a plan, gather candidates, rerank them by exact distance, merge what is pending.

pub(crate) mod calibration;
pub(crate) mod candidates;
pub(crate) mod effort;
pub(crate) mod exact;
pub(crate) mod filter;
pub(crate) mod pending;
pub(crate) mod traversal;

use heed::RoTxn;
use roaring::RoaringBitmap;

use crate::database::{Database, ItemOf};
use crate::error::{Error, Result};
use crate::format::Key;
use crate::format::item::ItemRef;
use crate::format::node::Layout;
use crate::format::record::Record;
use crate::kernel::Level;
use crate::sketch::encode::{branch_layout, leaf_layout};
use crate::sketch::query::Prepared;
use crate::sketch::space::Space;
use effort::Effort;
use exact::Nearest;
use pending::Pending;
use traversal::Traversal;

/// Indexes of at most this many items are scanned exactly: that takes less time than a descent.
pub(crate) const EXACT_ITEMS: u64 = 1_000;
/// Filters of at most this many ids are scanned exactly, one look-up for each.
const EXACT_FILTER: u64 = 1_000;

/// One answer of a search.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Hit {
    /// The item.
    pub id: u32,
    /// Its exact distance to the query; [`Metric`](crate::Metric) says what the number means.
    pub distance: f32,
}

/// What a search did: see [`Nns::report`](crate::Nns::report).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Searched {
    /// Branches whose sketches were scanned.
    pub branches: u64,
    /// Sketches scanned in branches.
    pub branch_sketches: u64,
    /// Leaves whose sketches were scanned.
    pub leaves: u64,
    /// Sketches scanned in leaves; an item is counted in each leaf and tree in which it was met.
    pub sketches: u64,
    /// Vectors that were compared exactly because of their sketches.
    pub reranked: u64,
    /// Vectors that were compared exactly without a sketch: pending items, small filters, exact searches.
    pub scanned_exactly: u64,
}

/// The forest as queries need it: what is computed from the record and the origin alone.
#[derive(Debug)]
pub(crate) struct Forest {
    pub(crate) space: Space,
    pub(crate) leaf: Layout,
    pub(crate) branch: Layout,
}

impl Forest {
    /// Reads the origin and prepares the space of a built index: O(dims).
    pub(crate) fn read(db: Database, rtxn: &RoTxn<'_>, of: ItemOf, record: &Record) -> Result<Self> {
        let key = Key::origin(of.index);
        let bytes = db.get(rtxn, key)?.unwrap_or_default();
        let origin = bytemuck::try_cast_slice(bytes).ok().and_then(|floats: &[f32]| floats.get(..of.dims));
        let origin = origin.ok_or_else(|| Error::corrupted(key, "the origin is missing or too short"))?;
        Ok(Self::new(Space::new(of.metric, origin.to_vec(), record.seed), record))
    }

    /// The layouts that the record gives the nodes of a forest in this space.
    pub(crate) fn new(space: Space, record: &Record) -> Self {
        let leaf = leaf_layout(space.metric, space.width, record.sketch_bits);
        let branch = branch_layout(space.metric, space.width, record.branch_bits);
        Self { space, leaf, branch }
    }
}

/// The index that is searched.
#[derive(Copy, Clone)]
pub(crate) struct Target<'a> {
    pub(crate) db: Database,
    pub(crate) rtxn: &'a RoTxn<'a>,
    pub(crate) of: ItemOf,
    pub(crate) record: &'a Record,
    pub(crate) level: Level,
}

/// What is asked for.
#[derive(Copy, Clone)]
pub(crate) struct Request<'a> {
    pub(crate) k: usize,
    pub(crate) recall: f32,
    pub(crate) search_k: Option<usize>,
    pub(crate) oversampling: Option<f32>,
    pub(crate) filter: Option<&'a RoaringBitmap>,
    pub(crate) exclude: Option<u32>,
    pub(crate) is_exact: bool,
}

impl Request<'_> {
    /// Whether this item may be in the answer.
    pub(crate) fn admits(&self, id: u32) -> bool {
        self.exclude != Some(id) && self.filter.is_none_or(|filter| filter.contains(id))
    }
}

/// An index as a reader holds it: the parts of it that searches share are computed at the first one.
pub(crate) trait Snapshot {
    /// The forest, or `None` if the index was never built.
    fn forest(&self) -> Result<Option<&Forest>>;
    /// The pending marks.
    fn pending(&self) -> Result<&Pending>;
}

/// Answers a request: the nearest `k` items that it admits, nearest first.
pub(crate) fn search(
    target: Target<'_>,
    snapshot: &impl Snapshot,
    query: ItemRef<'_>,
    request: &Request<'_>,
) -> Result<(Vec<Hit>, Searched)> {
    let record = target.record;
    let admitted = request.filter.map_or(record.items, |filter| filter.len().min(record.items));
    let k = request.k.min(usize::try_from(admitted).unwrap_or(usize::MAX));
    let mut searched = Searched::default();
    if k == 0 {
        return Ok((Vec::new(), searched));
    }
    let request = &Request { k, ..*request };
    let effort = Effort::new(request, record, target.of.metric, admitted);
    let mut nearest = Nearest::new(target, query, k);
    let is_small = record.items <= EXACT_ITEMS || request.filter.is_some_and(|filter| filter.len() <= EXACT_FILTER);
    let is_exact = request.is_exact
        || request.recall >= 1.0 && request.search_k.is_none()
        || is_small
        || effort.rerank as u64 >= record.indexed / 2;
    let forest = if is_exact { None } else { snapshot.forest()? };
    let Some(forest) = forest else {
        nearest.compare_all(request)?;
        searched.scanned_exactly = nearest.compared;
        return Ok((nearest.into_hits(), searched));
    };
    let pending = snapshot.pending()?;
    let prepared = Prepared::new(&forest.space, &query, forest.leaf, forest.branch);
    let mut traversal = Traversal::new(target, forest, pending, request, prepared);
    let candidates = traversal.run(effort)?;
    searched = traversal.searched();
    nearest.compare_known(candidates.into_ids())?;
    searched.reranked = nearest.compared;
    nearest.compare_known(pending.live.iter().filter(|id| request.admits(*id)))?;
    searched.scanned_exactly = nearest.compared - searched.reranked;
    Ok((nearest.into_hits(), searched))
}
