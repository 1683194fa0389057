//! Searching: choose a plan, gather candidates, rerank them by exact distance, merge what is pending.

pub(crate) mod calibration;
pub(crate) mod candidates;
pub(crate) mod effort;
pub(crate) mod exact;
pub(crate) mod filter;
pub(crate) mod items;
pub(crate) mod pending;
pub(crate) mod scratch;
pub(crate) mod traversal;

use std::time::{Duration, Instant};

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
use crate::sketch::space::Space;
use crate::tree::nodes::Nodes;
use effort::Effort;
use exact::Nearest;
use items::Items;
use pending::Pending;
use scratch::Scratch;
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
    /// Bytes of the nodes and of the vectors that were read. Of a leaf that a filter restricts, only those of the blocks
    /// of sketches that it left count.
    pub bytes: u64,
    /// Time from the call until the query was ready to be compared with sketches.
    pub preparing: Duration,
    /// Time for descending through branches and scanning leaves.
    pub scanning: Duration,
    /// Time for comparing vectors exactly, and for sorting the answer.
    pub comparing: Duration,
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

    /// Its nodes in a snapshot, of which it will remember as many as `most` of each kind: a power of two, or 0.
    pub(crate) fn nodes<'t>(&self, of: (Database, &'t RoTxn<'t>, ItemOf), most: usize) -> Nodes<'t> {
        Nodes::new(of, self.leaf, self.branch, most)
    }

    /// The layouts that the record gives the nodes of a forest in this space.
    pub(crate) fn new(space: Space, record: &Record) -> Self {
        let leaf = leaf_layout(space.metric, space.width, record.sketch_bits);
        let branch = branch_layout(space.metric, space.width, record.branch_bits);
        Self { space, leaf, branch }
    }
}

/// The forest as one snapshot has it.
#[derive(Copy, Clone)]
pub(crate) struct Planted<'a, 't> {
    pub(crate) forest: &'a Forest,
    pub(crate) nodes: &'a Nodes<'t>,
}

/// The index that is searched.
#[derive(Copy, Clone)]
pub(crate) struct Target<'a, 't> {
    pub(crate) items: &'a Items<'t>,
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
    /// Whether the time of each phase is to be told.
    pub(crate) is_timed: bool,
}

impl Request<'_> {
    /// Whether this item may be in the answer.
    pub(crate) fn admits(&self, id: u32) -> bool {
        self.exclude != Some(id) && self.filter.is_none_or(|filter| filter.contains(id))
    }
}

/// An index as a reader holds it: the parts of it that searches share are computed at the first one.
pub(crate) trait Parts<'t> {
    /// The forest, or `None` if the index was never built.
    fn planted(&self) -> Result<Option<Planted<'_, 't>>>;
    /// The pending marks.
    fn pending(&self) -> Result<&Pending>;
}

/// Answers a request: the nearest `k` items that it admits, nearest first.
pub(crate) fn search<'t>(
    target: Target<'_, 't>,
    parts: &impl Parts<'t>,
    query: ItemRef<'_>,
    request: &Request<'_>,
) -> Result<(Vec<Hit>, Searched)> {
    let record = target.record;
    let admitted = request.filter.map_or(record.items, |filter| filter.len().min(record.items));
    let k = request.k.min(usize::try_from(admitted).unwrap_or(usize::MAX));
    if k == 0 {
        return Ok((Vec::new(), Searched::default()));
    }
    let mut clock = Clock::start(request.is_timed);
    let request = &Request { k, ..*request };
    let effort = Effort::new(request, record, target.items.of.metric, admitted);
    let mut nearest = Nearest::new(target, query, k);
    let is_small = record.items <= EXACT_ITEMS || request.filter.is_some_and(|filter| filter.len() <= EXACT_FILTER);
    let is_exact = request.is_exact
        || request.recall >= 1.0 && request.search_k.is_none()
        || is_small
        || effort.rerank as u64 >= record.indexed / 2;
    let planted = if is_exact { None } else { parts.planted()? };
    let Some(planted) = planted else {
        nearest.compare_all(request)?;
        let scanned_exactly = nearest.compared;
        let mut searched = Searched { scanned_exactly, bytes: nearest.bytes(), ..Searched::default() };
        let hits = nearest.into_hits();
        searched.comparing = clock.lap();
        return Ok((hits, searched));
    };
    let pending = parts.pending()?;
    Scratch::with(|scratch| {
        let forest = planted.forest;
        scratch.prepared.prepare(&forest.space, &query, forest.leaf, forest.branch);
        let preparing = clock.lap();
        let mut traversal = Traversal::new(target, planted, pending, request, scratch, effort.rerank);
        traversal.run(effort)?;
        let mut searched = traversal.searched();
        (searched.preparing, searched.scanning) = (preparing, clock.lap());
        nearest.compare_known(scratch.candidates.ids())?;
        searched.reranked = nearest.compared;
        nearest.compare_known(pending.live.iter().filter(|id| request.admits(*id)))?;
        searched.scanned_exactly = nearest.compared - searched.reranked;
        searched.bytes += nearest.bytes();
        let hits = nearest.into_hits();
        searched.comparing = clock.lap();
        Ok((hits, searched))
    })
}

/// Measures the phases of a search, if somebody wants to know.
struct Clock(Option<Instant>);

impl Clock {
    fn start(is_wanted: bool) -> Self {
        Self(is_wanted.then(Instant::now))
    }

    /// The time since the last lap.
    fn lap(&mut self) -> Duration {
        let Some(before) = &mut self.0 else { return Duration::ZERO };
        let now = Instant::now();
        now - std::mem::replace(before, now)
    }
}
