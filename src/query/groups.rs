//! At most so many hits of each group.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::query::callback::Callback;
use crate::search::Hit;

pub(crate) struct Groups<'a> {
    pub(crate) most: usize,
    pub(crate) group: Callback<'a, u64>,
}

impl Groups<'_> {
    /// Drops the hits whose groups have had as many as they may.
    pub(crate) fn keep(&self, hits: &mut Vec<Hit>) -> Result<()> {
        let mut counts: HashMap<u64, usize> = HashMap::new();
        let mut kept = Vec::with_capacity(hits.len());
        for hit in hits.drain(..) {
            let count = counts.entry((self.group)(hit.id).map_err(Error::Callback)?).or_default();
            *count += 1;
            if *count <= self.most {
                kept.push(hit);
            }
        }
        *hits = kept;
        Ok(())
    }
}
