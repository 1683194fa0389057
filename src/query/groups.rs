//! Answers with a few hits of each group.

use std::collections::{HashMap, HashSet};

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
    /// The only groups that count, if they are known beforehand.
    pub(crate) among: Option<HashSet<u64>>,
    pub(crate) group: Callback<'a, u64>,
    /// What is counted once, by its nearest hit, whatever its group: the document of an item.
    pub(crate) unit: Option<Callback<'a, u64>>,
}

/// A group of hits found so far.
struct FoundGroup {
    hits: usize,
    /// Whether it is one of those that the answer has.
    is_chosen: bool,
}

impl Groups<'_> {
    /// The option that asked for them.
    pub(crate) fn option(&self) -> &'static str {
        match self.wanted {
            Wanted::Hits => "per_group",
            Wanted::Groups => "groups",
        }
    }

    pub(crate) fn group_of(&self, id: u32) -> Result<u64> {
        (self.group)(id).map_err(Error::Callback)
    }

    /// The answer for `k` that these sorted hits give, and whether none that are farther would
    /// join it. Of the hits it leaves as many of each group as an answer may need.
    ///
    /// A hit that is found late may bring any group among the nearest, with its other hits.
    pub(crate) fn answer(&self, hits: &mut Vec<Hit>, k: usize) -> Result<(Vec<Hit>, bool)> {
        let counts_groups = self.wanted == Wanted::Groups;
        let mut all: HashMap<u64, FoundGroup> = HashMap::new();
        let (mut kept, mut answer) = (Vec::with_capacity(hits.len()), Vec::new());
        let mut units = HashSet::new();
        for hit in hits.drain(..) {
            if let Some(unit) = &self.unit
                && !units.insert(unit(hit.id).map_err(Error::Callback)?)
            {
                continue;
            }
            let group = self.group_of(hit.id)?;
            if self.among.as_ref().is_some_and(|among| !among.contains(&group)) {
                continue;
            }
            let is_chosen = !counts_groups || all.len() < k;
            let counted = all.entry(group).or_insert(FoundGroup { hits: 0, is_chosen });
            if counted.hits >= self.max_hits {
                continue;
            }
            counted.hits += 1;
            kept.push(hit);
            if counted.is_chosen && (counts_groups || answer.len() < k) {
                answer.push(hit);
            }
        }
        *hits = kept;
        let is_full = if counts_groups {
            all.len() >= k
                && all.values().all(|counted| !counted.is_chosen || counted.hits >= self.max_hits)
        } else {
            answer.len() >= k
        };
        Ok((answer, is_full))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hits of two groups, odd and even ids, at the distances of their ids.
    fn answer(groups: &Groups<'_>, hits: &mut Vec<Hit>, more: &[u32]) -> (Vec<u32>, bool) {
        hits.extend(more.iter().map(|id| Hit { id: *id, distance: *id as f32 }));
        hits.sort_by_key(|hit| hit.id);
        let (answer, is_full) = groups.answer(hits, 1).unwrap();
        (answer.iter().map(|hit| hit.id).collect(), is_full)
    }

    #[test]
    fn a_group_whose_nearest_hit_is_found_late_has_its_other_hits() {
        let group = Box::new(|id| Ok(u64::from(id % 2)));
        let mut groups =
            Groups { max_hits: 3, wanted: Wanted::Groups, among: None, group, unit: None };
        let mut hits = Vec::new();
        assert_eq!(answer(&groups, &mut hits, &[4, 5, 7, 9, 10]), (vec![4, 10], false));
        assert_eq!(answer(&groups, &mut hits, &[3]), (vec![3, 5, 7], true));
        assert_eq!(hits.iter().map(|hit| hit.id).collect::<Vec<_>>(), [3, 4, 5, 7, 10]);
        groups.among = Some(HashSet::from([0]));
        assert_eq!(answer(&groups, &mut hits, &[12]), (vec![4, 10, 12], true));
        // 4 and 10 are of one unit, and so are 12 and 13.
        groups.unit = Some(Box::new(|id| Ok(u64::from(id / 12))));
        assert_eq!(answer(&groups, &mut hits, &[13]), (vec![4, 12], false));
    }
}
