//! Which way to answer a request: by comparing all that it admits, or by the forest.

use crate::forest::open::layout_of_leaves;
use crate::format::item::item_bytes;
use crate::format::record::Record;
use crate::index_spec::IndexSpec;
use crate::kernel::layout::BLOCK;
use crate::search::EXACT_ITEMS;
use crate::search::budget::{Budget, Goal};
use crate::search::request::Request;

/// How to answer.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) enum Choice {
    /// Compare all items that are admitted, as that takes less, or as nothing else reaches the
    /// recall.
    Exact { is_out_of_reach: bool },
    /// Search the forest.
    Forest(Budget),
}

/// Nanoseconds for looking up an item, for asking a filter about an entry, and for what every search
/// costs; bytes that come from memory in a nanosecond. Only their ratios matter: docs/trials.md,
/// "costs of plans".
const ITEM_NS: f64 = 60.0;
const ENTRY_NS: f64 = 16.0;
const SEARCH_NS: f64 = 20_000.0;
const BYTES_PER_NS: f64 = 8.0;
/// Where a filter admits a part p of all, a search looks at p^-0.4 times as many entries.
const FILTERED_ENTRIES_POWER: f64 = 0.4;

/// What the two ways take, by estimate, in nanoseconds.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Costs {
    item: f64,
    /// Of the sketches of one entry.
    sketch: f64,
    /// Of comparing all that is admitted.
    pub(crate) exact: f64,
    admitted: f64,
}

#[expect(clippy::cast_precision_loss, reason = "estimates")]
impl Costs {
    /// For a request that admits at most so many items.
    pub(crate) fn new(record: &Record, spec: IndexSpec, admitted: u64) -> Self {
        let item = ITEM_NS + item_bytes(spec) as f64 / BYTES_PER_NS;
        let sketch =
            layout_of_leaves(spec, record).block_bytes() as f64 / BYTES_PER_NS / BLOCK as f64;
        Self { item, sketch, exact: admitted as f64 * item, admitted: admitted as f64 }
    }

    /// Entries that half the time of comparing all is enough for, if the filter admits this part of
    /// them.
    pub(crate) fn entries_for(&self, part: f64) -> f64 {
        0.5 * self.exact / self.forest(1.0, part, 0.0)
    }

    /// Of looking at so many entries, of which the filter admits a part, and of comparing so many
    /// items.
    pub(crate) fn forest(&self, entries: f64, part: f64, compared: f64) -> f64 {
        // Of a block of sketches with one that is admitted, all are read.
        let asked = if part < 1.0 { ENTRY_NS } else { 0.0 };
        let entry = asked + (BLOCK as f64 * part).min(1.0) * self.sketch;
        entries * entry + compared.min(self.admitted) * self.item
    }
}

#[expect(clippy::cast_precision_loss, reason = "estimates")]
impl Choice {
    /// The way that takes least, by estimate, for a request that admits at most so many items.
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
        let part = costs.admitted / record.items as f64;
        let copies = f64::from(record.trees) * f64::from(1 + record.spill);
        let entries = match budget.goal {
            Goal::Admitted(wanted) => wanted / part,
            _ => budget.entries * part.powf(-FILTERED_ENTRIES_POWER),
        };
        let entries = entries.min(copies * record.indexed as f64);
        let whole = SEARCH_NS + costs.forest(entries, part, budget.rerank as f64);
        // It would give up on the way.
        let is_too_deep =
            part < 1.0 && request.options.search_k.is_none() && entries > costs.entries_for(part);
        let is_exact = is_too_deep || whole > costs.exact;
        if is_exact { Self::Exact { is_out_of_reach: false } } else { Self::Forest(budget) }
    }
}
