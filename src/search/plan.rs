//! Which way to answer a request: by comparing all that it admits, or by the forest.

use super::effort::Effort;
use super::request::Request;
use super::{EXACT_ITEMS, layout_of_leaves};
use crate::database::ItemOf;
use crate::format::BLOCK;
use crate::format::item::item_bytes;
use crate::format::record::Record;

/// How to answer.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) enum Choice {
    /// Compare all items that are admitted.
    Exact,
    /// Search the forest. When it has been given up, compare all.
    Forest(Effort),
}

/// Nanoseconds for looking up an item, for looking at an entry of a leaf and asking the filter, and for what a search costs
/// whatever its effort; bytes that come from memory in a nanosecond. Rough guesses: only
/// their ratios matter, and the `filters` bench of the peers prints where they choose badly.
const ITEM_NS: f64 = 120.0;
const ENTRY_NS: f64 = 2.5;
const SEARCH_NS: f64 = 8_000.0;
const BYTES_PER_NS: f64 = 8.0;
/// The part of the time of comparing all that a search through the forest may take before it is given up: a filter of which
/// nothing is near the query then costs little more than if all had been compared at once.
const TRIED: f64 = 0.3;

#[expect(clippy::cast_precision_loss, reason = "estimates")]
impl Choice {
    /// The way that takes least, by estimate, for a request that admits at most so many items.
    pub(crate) fn new(request: &Request<'_>, record: &Record, of: ItemOf, admitted: u64) -> Self {
        let mut effort = Effort::new(request, record, of.metric);
        let wants_all = request.is_exact || request.recall >= 1.0 && request.search_k.is_none();
        if wants_all || record.trees == 0 || record.items <= EXACT_ITEMS || effort.rerank as u64 >= record.indexed / 2 {
            return Self::Exact;
        }
        if request.filter.allowed.is_none() {
            return Self::Forest(effort);
        }
        let item_ns = ITEM_NS + item_bytes(of.dims, of.metric) as f64 / BYTES_PER_NS;
        let exact_ns = admitted as f64 * item_ns;
        let part = admitted as f64 / record.items as f64;
        let block = layout_of_leaves(of, record).block_bytes() as f64 / BYTES_PER_NS;
        // Of a block of sketches with one that is admitted, all are read.
        let entry_ns = ENTRY_NS + (BLOCK as f64 * part).min(1.0) * block / BLOCK as f64;
        let copies = f64::from(record.trees) * f64::from(1 + record.spill);
        let entries = effort.entries_for(part).min(copies * record.indexed as f64);
        let forest_ns = SEARCH_NS + entries * entry_ns + effort.rerank as f64 * item_ns;
        let tried_ns = TRIED * exact_ns;
        if request.search_k.is_none() && forest_ns > tried_ns {
            return Self::Exact;
        }
        // Who says how much to search gets it.
        if request.search_k.is_none() {
            effort.most_entries = tried_ns / ENTRY_NS;
        }
        Self::Forest(effort)
    }
}
