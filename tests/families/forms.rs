//! Radii, groups, pages and filters: how many of the true answers a search finds, and how many
//! there are.

use std::collections::HashMap;

use spinney::roaring::RoaringBitmap;
use spinney::{Metric, Nns, Reader};

use super::truth::{is_as_near, smallest};

/// A query, with the scores of all items in no order.
pub struct Asked<'a> {
    pub metric: Metric,
    pub query: &'a [f32],
    pub scores: Vec<(f64, u32)>,
}

/// How many were found, of how many.
pub type Found = (usize, usize);

impl Asked<'_> {
    /// The distance that has this score.
    fn distance(&self, score: f64) -> f32 {
        (if self.metric == Metric::DotProduct { -score } else { score }) as f32
    }

    /// Those of a search's hits that are no farther than a score.
    fn near(&self, search: Nns<'_>, score: f64) -> usize {
        let hits = search.by_vector(self.query).unwrap();
        hits.iter().filter(|hit| is_as_near(self.metric, hit.distance, score)).count()
    }

    /// All within the distance of the `n`-th.
    pub fn within(&self, search: Nns<'_>, n: usize) -> Found {
        let (farthest, _) = smallest(self.scores.clone(), n)[n - 1];
        let distance = self.distance(farthest);
        let is_within = |score: f64| match self.metric {
            Metric::DotProduct => self.distance(score) >= distance,
            _ => self.distance(score) <= distance,
        };
        let count = self.scores.iter().filter(|(score, _)| is_within(*score)).count();
        let hits = search.within(distance).by_vector(self.query).unwrap();
        assert!(
            hits.iter().all(|hit| is_as_near(self.metric, hit.distance, farthest)),
            "a hit is beyond the distance"
        );
        (hits.len().min(count), count)
    }

    /// The nearest `k` items with at most `most` of each group. A group's hits are compared with
    /// its own nearest items.
    pub fn per_group(
        &self,
        search: Nns<'_>,
        k: usize,
        most: usize,
        group: &dyn Fn(u32) -> u64,
    ) -> Found {
        let mut best: HashMap<u64, Vec<f64>> = HashMap::new();
        let mut kept = Vec::new();
        for (score, id) in smallest(self.scores.clone(), usize::MAX) {
            let scores = best.entry(group(id)).or_default();
            if scores.len() < most {
                scores.push(score);
                kept.push(score);
            }
        }
        kept.truncate(k);
        let farthest = kept[kept.len() - 1];
        let hits = search.per_group(most, group).by_vector(self.query).unwrap();
        assert_eq!(hits.len(), kept.len(), "k hits, or {most} of each group");
        let mut seen: HashMap<u64, usize> = HashMap::new();
        let right = hits.iter().filter(|hit| {
            let rank = seen.entry(group(hit.id)).or_default();
            *rank += 1;
            assert!(*rank <= most, "{rank} hits of a group");
            let bound = best[&group(hit.id)][*rank - 1].min(farthest);
            is_as_near(self.metric, hit.distance, bound)
        });
        (right.count(), kept.len())
    }

    /// The items of the first so many pages of `search`, of `k` each.
    pub fn pages(&self, search: Nns<'_>, k: usize, pages: usize) -> Found {
        let count = self.scores.len().min(k * pages);
        let (farthest, _) = smallest(self.scores.clone(), count)[count - 1];
        let mut search = search.pages(self.query).unwrap();
        let hits: Vec<_> = (0..pages).flat_map(|_| search.next_page().unwrap()).collect();
        assert_eq!(hits.len(), count, "{pages} pages of {k}");
        (hits.iter().filter(|hit| is_as_near(self.metric, hit.distance, farthest)).count(), count)
    }

    /// The nearest `k` items of a filter: by their ids, or by a predicate.
    pub fn filtered(
        &self,
        search: Nns<'_>,
        k: usize,
        allowed: &RoaringBitmap,
        is_predicate: bool,
    ) -> Found {
        let admitted: Vec<(f64, u32)> =
            self.scores.iter().copied().filter(|(_, id)| allowed.contains(*id)).collect();
        let count = admitted.len().min(k);
        let (farthest, _) = smallest(admitted, count)[count - 1];
        let near = match is_predicate {
            true => self.near(search.filter_fn(|id| allowed.contains(id)), farthest),
            false => self.near(search.filter(allowed), farthest),
        };
        (near.min(count), count)
    }

    /// The nearest `k` items.
    pub fn plain(&self, search: Nns<'_>, k: usize) -> Found {
        let (farthest, _) = smallest(self.scores.clone(), k)[k - 1];
        (self.near(search, farthest), k)
    }

    /// The items of an even part of all, nearest to the query or farthest from it.
    pub fn part(&self, one_in: usize, is_near: bool) -> RoaringBitmap {
        let sorted = smallest(self.scores.clone(), usize::MAX);
        let count = sorted.len() / one_in;
        let from = if is_near { 0 } else { sorted.len() - count };
        sorted[from..][..count].iter().map(|(_, id)| *id).collect()
    }
}

/// A way to ask, and what is found.
pub type Form = (&'static str, fn(&Reader<'_>, &Asked<'_>) -> Found);

/// Ids that are as good as drawn: so many in a hundred.
pub fn at_random(ids: impl Iterator<Item = u32>, percent: u32) -> RoaringBitmap {
    ids.filter(|id| (id.wrapping_mul(0x9E37_79B9) >> 16) % 100 < percent).collect()
}

/// What is asked of some families at the default target.
pub const FORMS: &[Form] = &[
    ("within the 10th", |reader, asked| asked.within(reader.nns(usize::MAX), 10)),
    ("within the 300th", |reader, asked| asked.within(reader.nns(usize::MAX), 300)),
    ("within the 2,000th", |reader, asked| asked.within(reader.nns(usize::MAX), 2_000)),
    ("1 of each of 500 groups, k 200", |reader, asked| {
        asked.per_group(reader.nns(200), 200, 1, &|id| u64::from(id % 500))
    }),
    ("10 of each of 7 groups, k 60", |reader, asked| {
        asked.per_group(reader.nns(60), 60, 10, &|id| u64::from(id % 7))
    }),
    ("10 pages of 50", |reader, asked| asked.pages(reader.nns(50), 50, 10)),
    ("40 pages of 50", |reader, asked| asked.pages(reader.nns(50), 50, 40)),
    ("a random fifth, k 10", |reader, asked| filtered(reader, asked, 10, 20, false)),
    ("a random fifth, k 100", |reader, asked| filtered(reader, asked, 100, 20, false)),
    ("a random tenth, k 100", |reader, asked| filtered(reader, asked, 100, 10, false)),
    ("a random half, k 10", |reader, asked| filtered(reader, asked, 10, 50, false)),
    ("random nine tenths, k 10", |reader, asked| filtered(reader, asked, 10, 90, false)),
    ("a predicate of a fifth, k 10", |reader, asked| filtered(reader, asked, 10, 20, true)),
    ("the nearest tenth, k 10", |reader, asked| {
        asked.filtered(reader.nns(10), 10, &asked.part(10, true), false)
    }),
    ("the farthest tenth, k 10", |reader, asked| {
        asked.filtered(reader.nns(10), 10, &asked.part(10, false), false)
    }),
    ("the farthest fifth, k 100", |reader, asked| {
        asked.filtered(reader.nns(100), 100, &asked.part(5, false), false)
    }),
    ("a predicate of the farthest fifth, k 10", |reader, asked| {
        asked.filtered(reader.nns(10), 10, &asked.part(5, false), true)
    }),
];

fn filtered(
    reader: &Reader<'_>,
    asked: &Asked<'_>,
    k: usize,
    percent: u32,
    is_predicate: bool,
) -> Found {
    let allowed = at_random(asked.scores.iter().map(|(_, id)| *id), percent);
    asked.filtered(reader.nns(k), k, &allowed, is_predicate)
}
