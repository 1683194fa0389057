//! One query on one index. Bounds and groups read more hits until there are enough.

use crate::error::Result;
use crate::format::item::ItemRef;
use crate::metric::Metric;
use crate::query::groups::Groups;
use crate::search::paged::Stream;
use crate::search::request::{Options, Request};
use crate::search::session::Searcher;
use crate::search::{Hit, SearchStats};

/// The `k` of the first search within a distance: few items may lie within it, so it begins small.
const FIRST_WITHIN: usize = 64;

/// Finds the hits of one query, sorted.
pub(crate) fn search_once(
    searcher: &dyn Searcher,
    groups: Option<&Groups<'_>>,
    query: ItemRef<'_>,
    request: &Request<'_>,
) -> Result<(Vec<Hit>, SearchStats)> {
    let Options { within, beyond, is_exact, .. } = request.options;
    // An exact search leaves out what is too near by itself.
    let beyond = beyond.filter(|_| !is_exact || groups.is_some());
    let may_be_many = within.is_some() && request.k > FIRST_WITHIN;
    if groups.is_none() && beyond.is_none() && !may_be_many {
        return searcher.search(query, request);
    }
    let options = Options { beyond: None, ..request.options };
    let request = &Request { options, ..*request };
    let metric = searcher.spec().metric;
    let mut stream = Stream::new(&query);
    let mut hits: Vec<Hit> = Vec::new();
    let mut count = if may_be_many { FIRST_WITHIN } else { request.k };
    loop {
        let found = searcher.next(&mut stream, request, count)?;
        // A hit that is too far ends it: those that follow are farther, up to the recall.
        let mut is_over =
            found.is_empty() || stream.stats().is_partial || request.interrupt.has_fired();
        for hit in found {
            is_over |= !is_within(&hit, within, metric);
            if is_within(&hit, within, metric) && is_beyond(&hit, beyond, metric) {
                hits.push(hit);
            }
        }
        sort(&mut hits, metric);
        let is_full = match groups {
            Some(groups) => groups.keep(&mut hits, request.k)?,
            None => hits.len() >= request.k,
        };
        if is_over || is_full {
            if groups.is_none() {
                hits.truncate(request.k);
            }
            return Ok((hits, stream.stats()));
        }
        count = count.saturating_mul(2);
    }
}

/// Whether a hit is within the outer bound, if there is one.
pub(super) fn is_within(hit: &Hit, within: Option<f32>, metric: Metric) -> bool {
    within.is_none_or(|within| metric.is_within(hit.distance, within))
}

/// Whether a hit is beyond the inner bound, if there is one.
pub(super) fn is_beyond(hit: &Hit, beyond: Option<f32>, metric: Metric) -> bool {
    beyond.is_none_or(|beyond| metric.is_within(beyond, hit.distance))
}

/// Sorts hits, the nearest first and equally near ones by id.
pub(super) fn sort(hits: &mut [Hit], metric: Metric) {
    hits.sort_unstable_by(|a, b| {
        let order = a.distance.total_cmp(&b.distance);
        let order = if metric.larger_is_nearer() { order.reverse() } else { order };
        order.then(a.id.cmp(&b.id))
    });
}
