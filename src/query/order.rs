//! The order of hits, and the bounds of their distances.

use crate::metric::Metric;
use crate::search::Hit;

/// Whether a hit is within a distance, if there is one.
pub(super) fn is_within(hit: &Hit, within: Option<f32>, metric: Metric) -> bool {
    within.is_none_or(|within| metric.is_within(hit.distance, within))
}

/// Whether a hit is beyond the inner bound, if there is one.
pub(super) fn is_beyond(hit: &Hit, beyond: Option<f32>, metric: Metric) -> bool {
    beyond.is_none_or(|beyond| metric.is_within(beyond, hit.distance))
}

/// Sorts hits, the nearest first and equally near ones by id.
pub(crate) fn sort(hits: &mut [Hit], metric: Metric) {
    hits.sort_unstable_by(|a, b| metric.nearer_first(a.distance, b.distance).then(a.id.cmp(&b.id)));
}
