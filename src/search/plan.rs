//! The choice between searching the forest and comparing all items, by their costs.

use crate::forest::open::layout_of_leaves;
use crate::format::item::item_bytes;
use crate::format::record::Record;
use crate::index_spec::IndexSpec;
use crate::kernel::layout::BLOCK;
use crate::search::EXACT_ITEMS;
use crate::search::budget::{Budget, Goal};
use crate::search::request::Request;

/// How to answer a request.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) enum Choice {
    /// Compare all items that the request admits: that costs less, or the forest does not reach the
    /// recall.
    Exact { is_out_of_reach: bool },
    /// Search the forest.
    Forest(Budget),
}

/// Nanoseconds for looking up an item. Of these costs only the ratios matter: docs/trials.md,
/// "costs of plans".
const ITEM_NS: f64 = 60.0;
/// Nanoseconds for checking an entry against a filter.
const FILTER_NS: f64 = 16.0;
/// Nanoseconds that every search of the forest costs.
const SEARCH_NS: f64 = 20_000.0;
/// Bytes read from memory in a nanosecond.
const BYTES_PER_NS: f64 = 8.0;
/// With a filter of selectivity s, a search scans s^-0.4 times as many entries: docs/trials.md,
/// "choices that were not swept".
const FILTERED_ENTRIES_POWER: f64 = 0.4;
/// A search of the forest may take this part of the time of comparing all. Then it gives up:
/// docs/trials.md, "costs of plans".
const GIVE_UP_PART: f64 = 0.5;

/// The expected costs of both ways, in nanoseconds.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Costs {
    /// Of comparing one item.
    item: f64,
    /// Of scanning one sketch.
    sketch: f64,
    /// Of comparing all items that the request admits.
    pub(crate) exact: f64,
    /// The number of these items.
    admitted: f64,
}

#[expect(clippy::cast_precision_loss, reason = "estimates")]
impl Costs {
    /// For a request that admits at most this many items.
    pub(crate) fn new(record: &Record, spec: IndexSpec, admitted: u64) -> Self {
        let item = ITEM_NS + item_bytes(spec) as f64 / BYTES_PER_NS;
        let sketch =
            layout_of_leaves(spec, record).block_bytes() as f64 / BYTES_PER_NS / BLOCK as f64;
        Self { item, sketch, exact: admitted as f64 * item, admitted: admitted as f64 }
    }

    /// How many entries a search may scan before it gives up, if the filter has this selectivity.
    pub(crate) fn entries_for(&self, selectivity: f64) -> f64 {
        GIVE_UP_PART * self.exact / self.forest(1.0, selectivity, 0.0)
    }

    /// The cost of scanning `entries`, of which a filter admits some, and of comparing items.
    pub(crate) fn forest(&self, entries: f64, selectivity: f64, compared: f64) -> f64 {
        let filter = if selectivity < 1.0 { FILTER_NS } else { 0.0 };
        // A block is scanned whole if it holds one admitted entry.
        let entry = filter + (BLOCK as f64 * selectivity).min(1.0) * self.sketch;
        entries * entry + compared.min(self.admitted) * self.item
    }
}

#[expect(clippy::cast_precision_loss, reason = "estimates")]
impl Choice {
    /// The way that is expected to cost less.
    pub(crate) fn new(request: &Request<'_>, record: &Record, costs: &Costs) -> Self {
        let wants_all = request.options.is_exact
            || request.options.recall >= 1.0 && request.options.search_k.is_none();
        if wants_all || record.trees == 0 || record.items <= EXACT_ITEMS {
            return Self::Exact { is_out_of_reach: false };
        }
        let budget = Budget::new(request, record);
        if budget.is_out_of_reach {
            return Self::Exact { is_out_of_reach: true };
        }
        let selectivity = costs.admitted / record.items as f64;
        let copies = f64::from(record.trees) * f64::from(1 + record.spill);
        let entries = match budget.goal {
            Goal::Admitted(wanted) => wanted / selectivity,
            _ => budget.entries * selectivity.powf(-FILTERED_ENTRIES_POWER),
        };
        let entries = entries.min(copies * record.indexed as f64);
        let whole = SEARCH_NS + costs.forest(entries, selectivity, budget.rerank as f64);
        // The search would give up on the way, so it should not begin.
        let would_give_up = selectivity < 1.0
            && request.options.search_k.is_none()
            && entries > costs.entries_for(selectivity);
        let is_exact = would_give_up || whole > costs.exact;
        if is_exact { Self::Exact { is_out_of_reach: false } } else { Self::Forest(budget) }
    }
}
