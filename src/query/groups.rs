//! At most so many hits of each group.

use std::collections::HashMap;

use crate::search::Hit;

pub(crate) struct Groups<'a> {
    pub(crate) most: usize,
    pub(crate) group: Box<dyn Fn(u32) -> u64 + 'a>,
}

impl Groups<'_> {
    /// Drops the hits whose groups have had as many as they may.
    pub(crate) fn keep(&self, hits: &mut Vec<Hit>) {
        let mut counts: HashMap<u64, usize> = HashMap::new();
        hits.retain(|hit| {
            let count = counts.entry((self.group)(hit.id)).or_default();
            *count += 1;
            *count <= self.most
        });
    }
}
