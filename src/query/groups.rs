//! A few hits of each group.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::query::callback::Callback;
use crate::search::Hit;

/// How the hits of an answer are counted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// So many hits in all.
    Hits,
    /// So many groups.
    Groups,
}

/// The group of each item, and how many hits of a group an answer has at most.
pub(crate) struct Groups<'a> {
    pub(crate) max_hits: usize,
    pub(crate) wanted: Wanted,
    pub(crate) group: Callback<'a, u64>,
}

impl Groups<'_> {
    /// Leaves the hits that an answer for `k` has, of these, which are sorted. Whether none that
    /// are farther would join them.
    pub(crate) fn keep(&self, hits: &mut Vec<Hit>, k: usize) -> Result<bool> {
        let mut counts: HashMap<u64, usize> = HashMap::new();
        let mut kept = Vec::with_capacity(hits.len());
        for hit in hits.drain(..) {
            let group = (self.group)(hit.id).map_err(Error::Callback)?;
            let is_room = match self.wanted {
                Wanted::Hits => kept.len() < k,
                Wanted::Groups => counts.len() < k || counts.contains_key(&group),
            };
            let count = if is_room { counts.entry(group).or_default() } else { continue };
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
