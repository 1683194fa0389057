//! A search that goes on: the next nearest neighbours, page by page.
//!
//! When the hits of one search have run out, a new search finds at least twice as many. So all of
//! them together take about twice as long as the last one. Each hit comes once. An item that the
//! first searches miss comes with a later page.

use roaring::RoaringBitmap;

use crate::error::Result;
use crate::format::item::ItemRef;
use crate::math::scored::Scored;
use crate::search::knn::{admitted, search};
use crate::search::request::Request;
use crate::search::session::Session;
use crate::search::{Hit, SearchStats};
use crate::vector::CheckedVector;

/// A search that can go on, and the hits that it has in hand.
pub(crate) struct Stream {
    query: CheckedVector<'static>,
    /// Found and not given yet, the nearest last.
    ready: Vec<Scored>,
    given: usize,
    /// The `k` of the last search.
    last_k: usize,
    /// All hits of all searches.
    found: RoaringBitmap,
    /// Whether there are no more.
    is_exhausted: bool,
    stats: SearchStats,
}

impl Stream {
    pub(crate) fn new(query: &ItemRef<'_>) -> Self {
        Self {
            query: CheckedVector::of_item(query),
            ready: Vec::new(),
            given: 0,
            last_k: 0,
            found: RoaringBitmap::new(),
            is_exhausted: false,
            stats: SearchStats::default(),
        }
    }

    /// The statistics of all searches so far.
    pub(crate) fn stats(&self) -> SearchStats {
        self.stats
    }

    /// The next `count` hits; fewer only if there are no more, or if the search was stopped.
    pub(crate) fn next(
        &mut self,
        session: &Session<'_>,
        request: &Request<'_>,
        count: usize,
    ) -> Result<Vec<Hit>> {
        let metric = session.spec().metric;
        let admitted = usize::try_from(admitted(session, request)).unwrap_or(usize::MAX);
        let count = count.min(admitted.saturating_sub(self.given));
        self.stats.is_partial = false;
        while self.ready.len() < count && !self.is_exhausted && !self.stats.is_partial {
            let k = (self.given + count).max(self.last_k.saturating_mul(2));
            let (hits, stats) = search(session, self.query.as_item(), &Request { k, ..*request })?;
            self.stats.add(&stats);
            self.is_exhausted = hits.len() < k && !stats.is_partial;
            self.last_k = k;
            let new = hits.into_iter().filter(|hit| self.found.insert(hit.id));
            self.ready.extend(new.map(|hit| Scored::from_hit(hit, metric)));
            self.ready.sort_unstable_by(|a, b| b.cmp(a));
        }
        let ready = (0..count).map_while(|_| self.ready.pop());
        let hits: Vec<Hit> = ready.map(|ranked| ranked.into_hit(metric)).collect();
        self.given += hits.len();
        Ok(hits)
    }
}
