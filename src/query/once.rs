//! One query on one index. Bounds and groups read more hits until there are enough.

use crate::error::Result;
use crate::format::item::{ItemRef, item_bytes};
use crate::query::groups::Groups;
use crate::query::order::{is_beyond, is_within, sort};
use crate::search::interrupt::{Interrupt, WorkCount};
use crate::search::paged::Stream;
use crate::search::request::{Options, Request};
use crate::search::searcher::Searcher;
use crate::search::{Hit, SearchStats};
use crate::vector::CheckedVector;

/// The `k` of the first search within a distance: few items may lie within it, so it begins small.
const FIRST_WITHIN: usize = 64;

/// What the hits of one query have to keep together, and beside those of others.
#[derive(Copy, Clone, Default)]
pub(crate) struct Rules<'a> {
    pub(crate) groups: Option<&'a Groups<'a>>,
    /// All queries of the search, if there are several: hits are beyond a distance to each of them.
    pub(crate) queries: &'a [CheckedVector<'static>],
}

/// Finds the hits of one query, sorted.
pub(crate) fn search_once(
    searcher: &dyn Searcher,
    Rules { groups, queries }: Rules<'_>,
    query: ItemRef<'_>,
    request: &Request<'_>,
) -> Result<(Vec<Hit>, SearchStats)> {
    let Options { within, beyond, is_exact, .. } = request.options;
    let may_be_many = within.is_some() && request.k > FIRST_WITHIN;
    // A search that compares all leaves out by itself what is too near or too far.
    let is_at_once = if is_exact {
        beyond.is_none() || queries.len() < 2
    } else {
        beyond.is_none() && !may_be_many
    };
    if groups.is_none() && is_at_once {
        return searcher.search(query, request);
    }
    let options = Options { beyond: None, ..request.options };
    let request = &Request { options, ..*request };
    let metric = searcher.spec().metric;
    let mut stream = Stream::new(&query);
    let others = Others { searcher, queries, beyond, compared: WorkCount::default() };
    let mut hits: Vec<Hit> = Vec::new();
    let mut count = if may_be_many { FIRST_WITHIN } else { request.k };
    loop {
        let found = searcher.next(&mut stream, request, count)?;
        // A hit that is too far ends it: those that follow are farther, up to the recall.
        let mut is_over =
            found.is_empty() || stream.stats().is_partial || request.interrupt.has_fired();
        for hit in found {
            is_over |= !is_within(&hit, within, metric);
            if is_within(&hit, within, metric)
                && is_beyond(&hit, beyond, metric)
                && others.are_beyond(&hit, request.interrupt)?
            {
                hits.push(hit);
            }
        }
        is_over |= request.interrupt.has_fired();
        sort(&mut hits, metric);
        let (mut answer, is_full) = match groups {
            Some(groups) => groups.answer(&mut hits, request.k)?,
            None => (Vec::new(), hits.len() >= request.k),
        };
        if is_over || is_full {
            if groups.is_none() {
                hits.truncate(request.k);
                answer = hits;
            }
            let mut stats = stream.stats();
            stats.reranked += others.compared.all();
            stats.bytes += others.compared.all() * item_bytes(searcher.spec()) as u64;
            return Ok((answer, stats));
        }
        count = count.saturating_mul(2);
    }
}

/// Comparisons of hits with all queries of a search, as each hit may be too near to one of them.
struct Others<'a> {
    searcher: &'a dyn Searcher,
    queries: &'a [CheckedVector<'static>],
    beyond: Option<f32>,
    compared: WorkCount,
}

impl Others<'_> {
    /// Whether a hit is beyond the distance to all queries. After a stop, a few hits are compared.
    fn are_beyond(&self, hit: &Hit, interrupt: Interrupt<'_>) -> Result<bool> {
        if self.beyond.is_none() || self.queries.len() < 2 {
            return Ok(true);
        }
        if !self.compared.may_grow() {
            return Ok(false);
        }
        for query in self.queries {
            interrupt.count(&self.compared);
            let other = self.searcher.compare(query.as_item(), hit.id)?;
            if !is_beyond(&other, self.beyond, self.searcher.spec().metric) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
