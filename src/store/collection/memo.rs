//! Sets that filters mean, as a snapshot remembers them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use roaring::RoaringBitmap;

use crate::store::collection::labels::Op;

/// Bytes of sets and filters that are remembered of one commit, at most.
const MAX_BYTES: u64 = 64 << 20;
/// Bytes of memory that a set takes beside its ids and its filter.
const BESIDE: u64 = 192;

/// The sets that filters mean in one commit.
#[derive(Default)]
#[allow(unreachable_pub, reason = "the sealed trait is, too")]
pub struct Memo(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// By the number of the collection.
    sets: HashMap<u16, HashMap<Vec<Op>, Arc<RoaringBitmap>>>,
    bytes: u64,
}

impl Memo {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, collection: u16, filter: &[Op]) -> Option<Arc<RoaringBitmap>> {
        self.lock().sets.get(&collection)?.get(filter).cloned()
    }

    pub(crate) fn put(&self, collection: u16, filter: &[Op], set: &Arc<RoaringBitmap>) {
        let of_labels =
            filter.iter().map(|op| if let Op::One(label) = op { label.len() } else { 0 });
        let of_filter = (size_of_val(filter) + of_labels.sum::<usize>()) as u64;
        let bytes = set.serialized_size() as u64 + of_filter + BESIDE;
        if bytes > MAX_BYTES {
            return;
        }
        let mut known = self.lock();
        if known.bytes + bytes > MAX_BYTES {
            *known = Known::default();
        }
        let is_new = known
            .sets
            .entry(collection)
            .or_default()
            .insert(filter.to_vec(), set.clone())
            .is_none();
        if is_new {
            known.bytes += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_no_items_count_for_what_they_take() {
        let (memo, none) = (Memo::default(), Arc::default());
        let mut most = 0;
        for label in 0..1_000_000 {
            memo.put(7, &[Op::One(label.to_string())], &Arc::clone(&none));
            most = most.max(memo.lock().sets[&7].len());
        }
        // The list, its label, the set and their place in the map.
        let least = size_of::<(Vec<Op>, Op, Arc<RoaringBitmap>, RoaringBitmap)>();
        assert!(most * least <= MAX_BYTES as usize, "{most} of {least} bytes");
    }
}
