//! A question in any form, and what the oracle knows of its answers.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;

use rand::RngExt;
use rand::seq::IndexedRandom;
use spinney::roaring::RoaringBitmap;
use spinney::{Example, Hit, Hits, Metric, Nns, Reader, Result};

use crate::support::*;

/// An example that owns its vector.
#[derive(Clone, Debug)]
pub enum Given {
    Item(u32),
    Vector(Vec<f32>),
}

impl Given {
    pub fn as_example(&self) -> Example<'_> {
        match self {
            Self::Item(id) => Example::Item(*id),
            Self::Vector(vector) => Example::Vector(vector),
        }
    }

    fn vector<'a>(&'a self, items: &'a Items) -> &'a Vec<f32> {
        match self {
            Self::Item(id) => &items[id],
            Self::Vector(vector) => vector,
        }
    }
}

/// What is searched for.
#[derive(Clone, Debug)]
pub enum What {
    Vector(Vec<f32>),
    Item(u32),
    Any(Vec<Given>),
    Mean(Vec<Given>),
    Examples(Vec<Given>, Vec<Given>),
}

impl What {
    fn all(&self) -> Vec<&Given> {
        match self {
            Self::Any(given) | Self::Mean(given) => given.iter().collect(),
            Self::Examples(positive, negative) => positive.iter().chain(negative).collect(),
            _ => Vec::new(),
        }
    }

    fn excluded(&self) -> Vec<u32> {
        let of_examples = self.all().into_iter().filter_map(|given| match given {
            Given::Item(id) => Some(*id),
            Given::Vector(_) => None,
        });
        of_examples.chain(if let Self::Item(id) = self { Some(*id) } else { None }).collect()
    }

    /// The points to which distances are, in the precision of queries.
    fn points(&self, metric: Metric, items: &Items) -> Vec<Vec<f32>> {
        match self {
            Self::Vector(vector) => vec![vector.clone()],
            Self::Item(id) => vec![items[id].clone()],
            Self::Any(given) => given.iter().map(|given| given.vector(items).clone()).collect(),
            Self::Mean(positive) => vec![rounded(&mean(metric, items, positive))],
            Self::Examples(positive, negative) if negative.is_empty() => {
                vec![rounded(&mean(metric, items, positive))]
            }
            Self::Examples(positive, negative) => {
                let pairs =
                    mean(metric, items, positive).into_iter().zip(mean(metric, items, negative));
                vec![rounded(&pairs.map(|(p, n)| p + (p - n)).collect::<Vec<_>>())]
            }
        }
    }

    /// Whether the point is computed, so that the crate and the oracle may round it in different
    /// ways.
    fn is_computed(&self) -> bool {
        matches!(self, Self::Mean(_) | Self::Examples(..))
    }
}

fn rounded(point: &[f64]) -> Vec<f32> {
    point.iter().map(|x| *x as f32).collect()
}

fn mean(metric: Metric, items: &Items, given: &[Given]) -> Vec<f64> {
    let rows: Vec<Vec<f64>> = given
        .iter()
        .map(|given| {
            let row = given.vector(items);
            let norm = row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
            let norm = if metric == Metric::Cosine { norm } else { 1.0 };
            row.iter().map(|x| f64::from(*x) / norm).collect()
        })
        .collect();
    (0..rows[0].len())
        .map(|d| rows.iter().map(|row| row[d]).sum::<f64>() / rows.len() as f64)
        .collect()
}

/// How hard is searched.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Effort {
    Usual,
    /// As few sketches and comparisons as can be asked for.
    Least,
    Recall(u8),
    Exact,
    Parallel,
}

impl Effort {
    pub fn is_exact(self) -> bool {
        matches!(self, Self::Exact | Self::Parallel | Self::Recall(100))
    }
}

/// How a search may be stopped that is not.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Patience {
    Endless,
    FarDeadline,
    Callback,
    Both,
}

/// At most so many hits of each group; the group of an item is its id, scattered, modulo `groups`.
#[derive(Copy, Clone, Debug)]
pub struct PerGroup {
    pub most: usize,
    pub groups: u64,
    /// Whether `k` counts groups, not hits.
    pub is_k_groups: bool,
}

impl PerGroup {
    pub fn group(self, id: u32) -> u64 {
        (u64::from(id).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % self.groups
    }
}

/// A question in any form, to be put to an index and to the oracle.
#[derive(Clone, Debug)]
pub struct Question {
    pub k: usize,
    pub what: What,
    pub filter: Option<RoaringBitmap>,
    /// What `filter_fn` is given, as a set.
    pub admits: Option<RoaringBitmap>,
    pub within: Option<f32>,
    pub beyond: Option<f32>,
    pub per_group: Option<PerGroup>,
    pub effort: Effort,
}

impl Question {
    pub fn new(k: usize, what: What) -> Self {
        Self {
            k,
            what,
            filter: None,
            admits: None,
            within: None,
            beyond: None,
            per_group: None,
            effort: Effort::Usual,
        }
    }

    /// Sets everything but what is searched for.
    pub fn apply<'a>(&'a self, reader: &'a Reader<'_>) -> Nns<'a> {
        let mut nns = reader.nns(self.k);
        nns = self.filter.iter().fold(nns, Nns::filter);
        nns = self.admits.iter().fold(nns, |nns, set| nns.filter_fn(|id| set.contains(id)));
        nns = self.within.into_iter().fold(nns, Nns::within);
        nns = self.beyond.into_iter().fold(nns, Nns::beyond);
        nns = match self.per_group {
            Some(per) if per.is_k_groups => nns.groups(per.most, move |id| per.group(id)),
            Some(per) => nns.per_group(per.most, move |id| per.group(id)),
            None => nns,
        };
        match self.effort {
            Effort::Usual => nns,
            Effort::Least => nns.search_k(1).oversampling(1.0),
            Effort::Recall(percent) => nns.recall(f32::from(percent) / 100.0),
            Effort::Exact => nns.exact(),
            Effort::Parallel => nns.exact().parallel(),
        }
    }

    fn is_k_groups(&self) -> bool {
        self.per_group.is_some_and(|per| per.is_k_groups)
    }

    /// Searches for what is searched for.
    pub fn put(&self, nns: Nns<'_>) -> Result<Hits> {
        match &self.what {
            What::Vector(vector) => nns.by_vector(vector),
            What::Item(id) => nns.by_item(*id).map(|answer| answer.expect("the item exists")),
            What::Any(given) => nns.by_any(&examples(given)),
            What::Mean(given) => nns.by_mean(&examples(given)),
            What::Examples(positive, negative) => {
                nns.by_examples(&examples(positive), &examples(negative))
            }
        }
    }

    pub fn ask(&self, reader: &Reader<'_>) -> Hits {
        self.put(self.apply(reader)).unwrap()
    }

    pub fn ask_until(&self, reader: &Reader<'_>, callback: impl Fn() -> ControlFlow<()>) -> Hits {
        self.put(self.apply(reader).cancel(callback)).unwrap()
    }

    /// The whole answer, from a search that could have been stopped.
    pub fn ask_with(&self, reader: &Reader<'_>, patience: Patience) -> Hits {
        let later = || std::time::Instant::now() + std::time::Duration::from_secs(3600);
        let on = || ControlFlow::Continue(());
        let found = match patience {
            Patience::Endless => return self.ask(reader),
            Patience::FarDeadline => self.put(self.apply(reader).deadline(later())),
            Patience::Callback => self.put(self.apply(reader).cancel(on)),
            Patience::Both => self.put(self.apply(reader).cancel(on).deadline(later())),
        };
        let found = found.unwrap();
        assert!(!found.is_partial(), "nothing stopped {self:?}");
        found
    }

    /// What the oracle knows.
    pub fn oracle(&self, metric: Metric, items: &Items) -> Oracle {
        let mut nearest: BTreeMap<u32, Ranked> = BTreeMap::new();
        for point in self.what.points(metric, items) {
            for ranked in ranked(metric, items, &point) {
                let known = nearest.entry(ranked.id).or_insert(ranked);
                if oriented(metric, ranked.distance) < oriented(metric, known.distance) {
                    *known = ranked;
                }
            }
        }
        let slack = nearest.values().map(|ranked| ranked.distance.abs()).fold(0.0, f64::max);
        let slack = if self.what.is_computed() { 1e-6 * slack } else { 0.0 };
        let mut matching: Vec<Ranked> = nearest.into_values().collect();
        matching.sort_by(|a, b| {
            let score = |ranked: &Ranked| score(metric, ranked.distance as f32);
            score(a).total_cmp(&score(b)).then(a.id.cmp(&b.id))
        });
        let excluded = self.what.excluded();
        matching.retain(|ranked| {
            let id = ranked.id;
            !excluded.contains(&id)
                && [&self.filter, &self.admits].into_iter().flatten().all(|set| set.contains(id))
        });
        Oracle { metric, matching, slack }
    }
}

/// A distance, or its negative where the largest comes first.
fn oriented(metric: Metric, distance: f64) -> f64 {
    if metric == Metric::DotProduct { -distance } else { distance }
}

/// The items that match a question, whatever their distance and group, the nearest first.
pub struct Oracle {
    metric: Metric,
    pub matching: Vec<Ranked>,
    /// Room for the rounding of a computed point.
    slack: f64,
}

impl Oracle {
    fn is_close(&self, got: f32, expected: f64) -> bool {
        let got = f64::from(got);
        is_close(self.metric, got, expected)
            || (got - expected).abs() <= 1e-5 * expected.abs().min(self.slack * 1e5)
            || (got - expected).abs() <= self.slack
    }

    /// A distance that lies clearly between those of two items. The first of them is the `rank`-th
    /// or one of the next.
    pub fn radius(&self, rank: usize) -> f32 {
        let distances: Vec<f64> = self.matching.iter().map(|ranked| ranked.distance).collect();
        for pair in distances.get(rank..).unwrap_or_default().windows(2) {
            let (gap, size) = ((pair[1] - pair[0]).abs(), pair[0].abs().max(pair[1].abs()));
            if gap > 1e-5 * size + 4.0 * self.slack {
                return ((pair[0] + pair[1]) / 2.0) as f32;
            }
        }
        // Beyond the last one.
        let last = distances.last().copied().unwrap_or(0.0);
        let beyond = oriented(self.metric, last) + 0.01 * last.abs() + 0.01;
        oriented(self.metric, beyond) as f32
    }

    /// What matches and lies between the bounds.
    fn between(&self, question: &Question) -> Vec<Ranked> {
        let mut between = self.matching.clone();
        between.retain(|ranked| {
            let distance = ranked.distance as f32;
            is_within(self.metric, distance, question.within)
                && is_beyond(self.metric, distance, question.beyond)
        });
        between
    }

    /// The exact answer, ties by id.
    pub fn answer(&self, question: &Question) -> Vec<Ranked> {
        let mut counts: HashMap<u64, usize> = HashMap::new();
        let mut answer = self.between(question);
        let is_k_groups = question.is_k_groups();
        if let Some(per) = question.per_group {
            answer.retain(|ranked| {
                let group = per.group(ranked.id);
                if is_k_groups && counts.len() >= question.k && !counts.contains_key(&group) {
                    return false;
                }
                let count = counts.entry(group).or_default();
                *count += 1;
                *count <= per.most
            });
        }
        if !is_k_groups {
            answer.truncate(question.k);
        }
        answer
    }

    /// Fails unless there are as many groups as there should be, each with all its hits.
    fn check_groups(&self, question: &Question, per: PerGroup, hits: &[Hit]) {
        let sizes = |ids: &mut dyn Iterator<Item = u32>| {
            let mut sizes: HashMap<u64, usize> = HashMap::new();
            ids.for_each(|id| *sizes.entry(per.group(id)).or_default() += 1);
            sizes
        };
        let all = sizes(&mut self.between(question).iter().map(|ranked| ranked.id));
        let got = sizes(&mut hits.iter().map(|hit| hit.id));
        let (found, expected) = (got.len(), question.k.min(all.len()));
        assert_eq!(found, expected, "{}: number of groups for {question:?}", self.metric);
        for (group, count) in got {
            let expected = per.most.min(all[&group]);
            assert_eq!(count, expected, "{}: hits of {group} for {question:?}", self.metric);
        }
    }

    /// Fails unless all hits match, come once, are sorted, near enough, not too many of a group,
    /// with their distances.
    pub fn check_hits(&self, question: &Question, hits: &[Hit]) {
        let distances: HashMap<u32, f64> =
            self.matching.iter().map(|r| (r.id, r.distance)).collect();
        let (mut seen, mut counts) = (HashSet::new(), HashMap::new());
        let most = if question.is_k_groups() { usize::MAX } else { question.k };
        assert!(hits.len() <= most, "{}: {} hits for {question:?}", self.metric, hits.len());
        for hit in hits {
            assert!(
                seen.insert(hit.id),
                "{}: item {} comes twice for {question:?}",
                self.metric,
                hit.id
            );
            let expected = distances.get(&hit.id).copied();
            let expected = expected
                .unwrap_or_else(|| panic!("{}: {hit:?} does not match {question:?}", self.metric));
            let close = self.is_close(hit.distance, expected);
            assert!(
                close,
                "{}: {hit:?}, and the distance is {expected}, for {question:?}",
                self.metric
            );
            let near = is_within(self.metric, hit.distance, question.within);
            assert!(near, "{}: {hit:?} is too far for {question:?}", self.metric);
            let far = is_beyond(self.metric, hit.distance, question.beyond);
            assert!(far, "{}: {hit:?} is too near for {question:?}", self.metric);
            if let Some(per) = question.per_group {
                let count = counts.entry(per.group(hit.id)).or_insert(0);
                *count += 1;
                assert!(
                    *count <= per.most,
                    "{}: {hit:?} is one too many of its group for {question:?}",
                    self.metric
                );
            }
        }
        let few = !question.is_k_groups() || counts.len() <= question.k;
        assert!(few, "{}: {} groups for {question:?}", self.metric, counts.len());
        let keys: Vec<(f32, u32)> =
            hits.iter().map(|hit| (score(self.metric, hit.distance), hit.id)).collect();
        assert!(keys.is_sorted(), "{}: not sorted for {question:?}: {hits:?}", self.metric);
    }

    /// Fails unless the whole answer is as it should be: how many hits, and, from an exact search,
    /// which.
    pub fn check(&self, question: &Question, hits: &[Hit]) {
        self.check_hits(question, hits);
        let answer = self.answer(question);
        let is_exact = question.effort.is_exact();
        let is_whole = question.within.is_none() || is_exact;
        if let Some(per) = question.per_group.filter(|per| is_whole && per.is_k_groups) {
            self.check_groups(question, per, hits);
        } else if is_whole {
            let (got, expected) = (hits.len(), answer.len());
            assert_eq!(got, expected, "{}: number of hits for {question:?}", self.metric);
        }
        if !is_exact {
            return;
        }
        let distances: HashMap<u32, f32> =
            self.matching.iter().map(|r| (r.id, r.distance as f32)).collect();
        for (i, (hit, best)) in hits.iter().zip(&answer).enumerate() {
            let close = self.is_close(hit.distance, best.distance);
            // References that differ by rounding alone may be sorted in another way.
            let same =
                self.slack > 0.0 || hit.id == best.id || distances[&hit.id] != best.distance as f32;
            assert!(
                close && same,
                "{}: hit {i} is {hit:?}, the oracle has {best:?}, for {question:?}",
                self.metric
            );
        }
    }

    /// The part of the exact answer that was found; items as near as the farthest of it count.
    pub fn recall(&self, question: &Question, hits: &[Hit]) -> f64 {
        let answer = self.answer(question);
        let Some(last) = answer.last() else { return 1.0 };
        let good = hits.iter().filter(|hit| {
            let (got, worst) = (f64::from(hit.distance), last.distance);
            oriented(self.metric, got) <= oriented(self.metric, worst)
                || self.is_close(hit.distance, worst)
        });
        good.count().min(answer.len()) as f64 / answer.len() as f64
    }
}

fn examples(given: &[Given]) -> Vec<Example<'_>> {
    given.iter().map(Given::as_example).collect()
}

pub fn is_within(metric: Metric, distance: f32, within: Option<f32>) -> bool {
    within.is_none_or(|within| score(metric, distance) <= score(metric, within))
}

pub fn is_beyond(metric: Metric, distance: f32, beyond: Option<f32>) -> bool {
    beyond.is_none_or(|beyond| score(metric, distance) >= score(metric, beyond))
}

/// Anything that can be searched for.
pub fn any_what(rng: &mut Rng, metric: Metric, items: &Items, form: usize) -> What {
    let ids: Vec<u32> = items.keys().copied().collect();
    let dims = items.values().next().map_or(DIMS, Vec::len);
    let vector = |rng: &mut Rng| match ids.choose(rng) {
        Some(id) if rng.random_bool(0.2) => items[id].clone(),
        Some(id) if rng.random_bool(0.7) => near(rng, metric, &items[id]),
        _ => uniform(rng, metric, dims),
    };
    let some = |rng: &mut Rng| {
        let one = |rng: &mut Rng| match ids.choose(rng) {
            Some(id) if rng.random_bool(0.5) => Given::Item(*id),
            _ => Given::Vector(vector(rng)),
        };
        (0..rng.random_range(1..4)).map(|_| one(rng)).collect::<Vec<_>>()
    };
    match form % FORMS {
        1 if !ids.is_empty() => What::Item(*ids.choose(rng).unwrap()),
        2 => What::Any(some(rng)),
        3 if metric != Metric::Hamming => What::Mean(some(rng)),
        4 if metric != Metric::Hamming => {
            What::Examples(some(rng), if rng.random_bool(0.2) { vec![] } else { some(rng) })
        }
        _ => What::Vector(vector(rng)),
    }
}

pub const FORMS: usize = 5;
pub const DIMS: usize = 12;
