//! Answers with a few hits of each group.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::query::callback::Callback;
use crate::search::Hit;

/// What `k` counts.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Hits.
    Hits,
    /// Groups.
    Groups,
}

/// The option to group hits.
pub(crate) struct Groups<'a> {
    /// The largest number of hits of one group.
    pub(crate) max_hits: usize,
    pub(crate) wanted: Wanted,
    /// Returns the group of an item.
    pub(crate) group: Callback<'a, u64>,
}

impl Groups<'_> {
    /// Keeps those of the sorted hits that belong to the answer for `k`. Returns whether the answer
    /// is full, so that no farther hit could join it.
    pub(crate) fn keep(&self, hits: &mut Vec<Hit>, k: usize) -> Result<bool> {
        let mut counts: HashMap<u64, usize> = HashMap::new();
        let mut kept = Vec::with_capacity(hits.len());
        for hit in hits.drain(..) {
            let group = (self.group)(hit.id).map_err(Error::Callback)?;
            let has_room = match self.wanted {
                Wanted::Hits => kept.len() < k,
                Wanted::Groups => counts.len() < k || counts.contains_key(&group),
            };
            let count = if has_room { counts.entry(group).or_default() } else { continue };
            if *count < self.max_hits {
                *count += 1;
                kept.push(hit);
            }
        }
        *hits = kept;
        Ok(match self.wanted {
            Wanted::Hits => hits.len() >= k,
            Wanted::Groups => {
                counts.len() >= k && counts.values().all(|count| *count >= self.max_hits)
            }
        })
    }
}
