//! A search that goes on: the next nearest neighbours, again and again.
//!
//! It keeps what a single search throws away: every estimate of the leaves it has scanned, every exact distance it has
//! computed, and where the descent has come to. To give the next `count` hits after `given` ones, it brings the search to
//! the effort that the `given + count` nearest take, and gives the nearest of what it has compared and not given yet. So
//! nothing comes twice, and in the end everything has come once; an item that is found late comes late.
//!
//! With a filter, how deep a search has to go is told by what it leaves out ([`super::depth`]), which is not kept. So a search
//! for at least twice as many hits begins anew when those of the one before have run out: all of them together take about as
//! long as the last one twice.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use roaring::RoaringBitmap;

use super::candidates::{id_of, packed};
use super::effort::Effort;
use super::exact::{Measure, Nearest, Ranked, compare_all};
use super::pending::Pending;
use super::plan::Choice;
use super::request::{LAST_COMPARED, Request};
use super::run::{admitted, search};
use super::scratch::Scratch;
use super::traversal::{Ended, Sink, Traversal};
use super::{Hit, Parts, Plan, Planted, Searched, Target};
use crate::database::ItemOf;
use crate::error::Result;
use crate::format::item::{ItemRef, OwnedItem, item_bytes};

/// Candidates that are compared before it is looked whether these are enough.
const COMPARED_AT_ONCE: usize = LAST_COMPARED;

/// Where a search has come to.
pub(crate) struct Stream {
    query: OwnedItem,
    scratch: Box<Scratch>,
    is_begun: bool,
    /// Whether the descent through the forest has begun.
    is_descending: bool,
    /// Whether the forest has nothing more.
    is_exhausted: bool,
    /// Estimates and ids of what was scanned and not compared, nearest first; an item may be here twice.
    pool: Pool,
    /// Compared and not given yet.
    ready: BinaryHeap<Reverse<Ranked>>,
    given: usize,
    /// Hits that the last search with a filter was to find, and all hits of those searches.
    sought: usize,
    found: RoaringBitmap,
    searched: Searched,
}

/// Candidates that have not been compared.
#[derive(Default)]
struct Pool {
    heap: BinaryHeap<Reverse<u64>>,
    compared: RoaringBitmap,
}

impl Sink for Pool {
    fn threshold(&self) -> f32 {
        f32::INFINITY
    }

    fn offer(&mut self, id: u32, estimate: f32) {
        self.heap.push(Reverse(packed(id, estimate)));
    }
}

impl Pool {
    /// The next best candidates that have not come yet.
    fn take(&mut self, most: usize, out: &mut Vec<u32>) {
        out.clear();
        while out.len() < most
            && let Some(Reverse(candidate)) = self.heap.pop()
        {
            let id = id_of(candidate);
            if self.compared.insert(id) {
                out.push(id);
            }
        }
        out.sort_unstable();
    }
}

impl Stream {
    pub(crate) fn new(query: &ItemRef<'_>) -> Self {
        Self {
            query: OwnedItem::new(query),
            scratch: Box::default(),
            is_begun: false,
            is_descending: false,
            is_exhausted: false,
            pool: Pool::default(),
            ready: BinaryHeap::new(),
            given: 0,
            sought: 0,
            found: RoaringBitmap::new(),
            searched: Searched::default(),
        }
    }

    /// What has been done so far.
    pub(crate) fn searched(&self, of: ItemOf) -> Searched {
        if self.sought > 0 {
            return self.searched;
        }
        let compared = self.searched.reranked + self.searched.scanned_exactly;
        let bytes = self.searched.bytes + compared * item_bytes(of.dims, of.metric) as u64;
        Searched { bytes, ..self.searched }
    }

    /// The next `count` hits; fewer only if there are no more, or if the search was stopped.
    pub(crate) fn next<'t>(
        &mut self,
        target: Target<'_, 't>,
        parts: &impl Parts<'t>,
        request: &Request<'_>,
        count: usize,
    ) -> Result<Vec<Hit>> {
        let admitted = usize::try_from(admitted(target, request)).unwrap_or(usize::MAX);
        let count = count.min(admitted.saturating_sub(self.given));
        if count == 0 {
            return Ok(Vec::new());
        }
        self.searched.is_partial = false;
        let wanted = self.given + count;
        let request = &Request { k: wanted, ..*request };
        let of = target.items.of;
        // Who says how much to search gets it, with a filter, too.
        if !request.filter.is_none() && request.search_k.is_none() {
            self.search_anew(target, parts, request)?;
            return Ok(self.give(count, of));
        }
        if !self.is_begun {
            self.is_begun = true;
            if Choice::new(request, target.record, of, admitted as u64) == Choice::Exact {
                self.compare_all(target, request)?;
            }
        }
        if !self.is_exhausted {
            match parts.planted()? {
                Some(planted) => self.go_on(target, parts, planted, request)?,
                None => self.compare_all(target, request)?,
            }
        }
        Ok(self.give(count, of))
    }

    /// The nearest of what is ready.
    fn give(&mut self, count: usize, of: ItemOf) -> Vec<Hit> {
        let ready = (0..count).map_while(|_| self.ready.pop());
        let hits: Vec<Hit> = ready.map(|Reverse(ranked)| ranked.into_hit(of.metric)).collect();
        self.given += hits.len();
        hits
    }

    /// Searches from the beginning, for more and more hits, until there are enough that have not been given.
    fn search_anew<'t>(&mut self, target: Target<'_, 't>, parts: &impl Parts<'t>, request: &Request<'_>) -> Result<()> {
        let metric = target.items.of.metric;
        while self.given + self.ready.len() < request.k && !self.is_exhausted && !self.searched.is_partial {
            let k = request.k.max(self.sought.saturating_mul(2));
            let (hits, did) = search(target, parts, self.query.as_item(), &Request { k, ..*request })?;
            self.searched.add(&did);
            self.is_exhausted = hits.len() < k && !did.is_partial;
            self.sought = k;
            let new = hits.into_iter().filter(|hit| self.found.insert(hit.id));
            self.ready.extend(new.map(|hit| Reverse(Ranked::of(hit, metric))));
        }
        Ok(())
    }

    fn compare_all(&mut self, target: Target<'_, '_>, request: &Request<'_>) -> Result<()> {
        let measure = Measure { of: target.items.of, level: target.level, query: self.query.as_item() };
        let mut all = Nearest::new(usize::MAX, f32::INFINITY);
        self.searched.is_partial = compare_all(target, &measure, request, &mut all)?;
        self.searched.scanned_exactly += all.compared;
        self.searched.plan = self.searched.plan.max(Plan::Exact);
        self.ready = all.into_ranked().map(Reverse).collect();
        self.is_exhausted = true;
        Ok(())
    }

    /// Brings the search to the effort of the request, and beyond until there are hits enough.
    fn go_on<'t>(
        &mut self,
        target: Target<'_, 't>,
        parts: &impl Parts<'t>,
        planted: Planted<'_, 't>,
        request: &Request<'_>,
    ) -> Result<()> {
        let (pending, forest) = (parts.pending()?, planted.forest);
        if !self.is_descending {
            self.scratch.prepared.prepare(&forest.space, &self.query.as_item(), forest.leaf, forest.branch);
            self.searched.scanned_exactly += self.compare(target, request, pending.live_in(request))?;
            Traversal::begin(target, planted, pending, request, &mut self.scratch);
            self.is_descending = true;
        }
        let effort = Effort::new(request, target.record, target.items.of.metric);
        loop {
            let ended = self.scan(target, (planted, pending), request, &effort)?;
            self.compare_some(target, request, effort.rerank)?;
            self.is_exhausted = ended == Ended::Exhausted && self.pool.heap.is_empty();
            // What waits in the pool may all be copies of what has been compared.
            let is_enough = self.given + self.ready.len() >= request.k;
            if is_enough || ended != Ended::Enough || self.searched.is_partial {
                return Ok(());
            }
        }
    }

    /// Scans leaves until the effort is met and the pool has enough.
    fn scan<'t>(
        &mut self,
        target: Target<'_, 't>,
        (planted, pending): (Planted<'_, 't>, &Pending),
        request: &Request<'_>,
        effort: &Effort,
    ) -> Result<Ended> {
        let copies = usize::from(target.record.trees) * (1 + usize::from(target.record.spill));
        let compared = usize::try_from(self.pool.compared.len()).unwrap_or(usize::MAX);
        let missing = effort.rerank.saturating_sub(compared).saturating_mul(copies);
        let mut traversal = Traversal::go_on(target, planted, pending, request, &mut self.scratch);
        let ended = traversal.run(effort, &mut self.pool, |pool| pool.heap.len() >= missing)?;
        let before = self.searched;
        self.searched = traversal.searched();
        (self.searched.reranked, self.searched.scanned_exactly) = (before.reranked, before.scanned_exactly);
        self.searched.plan = before.plan.max(Plan::Forest);
        self.searched.is_partial |= before.is_partial || ended == Ended::Stopped;
        Ok(ended)
    }

    /// Compares the best candidates until so many have been, and there are hits enough.
    fn compare_some(&mut self, target: Target<'_, '_>, request: &Request<'_>, rerank: usize) -> Result<()> {
        let mut ids = Vec::new();
        loop {
            let compared = usize::try_from(self.pool.compared.len()).unwrap_or(usize::MAX);
            let missing = rerank.saturating_sub(compared).max(request.k.saturating_sub(self.given + self.ready.len()));
            if missing == 0 {
                return Ok(());
            }
            self.searched.is_partial |= compared > 0 && request.stop.is_due();
            if self.searched.is_partial && compared > 0 {
                return Ok(());
            }
            self.pool.take(missing.min(COMPARED_AT_ONCE), &mut ids);
            if ids.is_empty() {
                return Ok(());
            }
            self.searched.reranked += self.compare(target, request, ids.iter().copied())?;
        }
    }

    fn compare(
        &mut self,
        target: Target<'_, '_>,
        request: &Request<'_>,
        ids: impl Iterator<Item = u32>,
    ) -> Result<u64> {
        let measure = Measure { of: target.items.of, level: target.level, query: self.query.as_item() };
        let before = self.ready.len();
        let ready = &mut self.ready;
        let stopped = measure.rank_known(target.items, ids, request.stop, |ranked| ready.push(Reverse(ranked)))?;
        self.searched.is_partial |= stopped;
        Ok((self.ready.len() - before) as u64)
    }
}
