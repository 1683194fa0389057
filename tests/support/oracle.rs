//! Answers by brute force, in double precision, and what answers of an index have to keep.

use std::collections::{HashMap, HashSet};

use rand::RngExt;
use spinney::roaring::RoaringBitmap;
use spinney::{Hit, Metric, Nns, Reader};

use super::{Items, Rng};

/// The distance of two vectors as `Metric` defines it.
pub fn reference(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    let pairs = || a.iter().zip(b).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    let dot = |a: &[f32], b: &[f32]| {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
    };
    match metric {
        Metric::Euclidean => pairs().map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt(),
        Metric::Cosine => 1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(),
        Metric::DotProduct => dot(a, b),
        Metric::Manhattan => pairs().map(|(a, b)| (a - b).abs()).sum(),
        _ => pairs().map(|(a, b)| f64::from(u8::from(a != b))).sum(),
    }
}

/// Whether a distance is the reference but for rounding.
pub fn is_close(metric: Metric, got: f64, expected: f64) -> bool {
    // Sums whose terms cancel: their error has the size of the terms.
    let cancels = matches!(metric, Metric::Cosine | Metric::DotProduct);
    let smallest = f64::from(f32::from_bits(1)) + if cancels { 1e-12 } else { 0.0 };
    (got - expected).abs() <= 1e-6 * expected.abs() + smallest
}

/// What hits are sorted by, before their ids.
pub fn score(metric: Metric, distance: f32) -> f32 {
    (if metric == Metric::DotProduct { -distance } else { distance }) + 0.0
}

/// An item with its reference distance from a query.
#[derive(Copy, Clone, Debug)]
pub struct Ranked {
    pub id: u32,
    pub distance: f64,
}

/// All items, the nearest first, ties by id.
pub fn ranked(metric: Metric, items: &Items, query: &[f32]) -> Vec<Ranked> {
    let one =
        |(id, row): (&u32, &Vec<f32>)| Ranked { id: *id, distance: reference(metric, row, query) };
    let mut ranked: Vec<Ranked> = items.iter().map(one).collect();
    let key = |r: &Ranked| score(metric, r.distance as f32);
    ranked.sort_by(|a, b| key(a).total_cmp(&key(b)).then(a.id.cmp(&b.id)));
    ranked
}

/// A question, to be put to an index and to the oracle.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    pub k: usize,
    pub search_k: Option<usize>,
    pub oversampling: Option<f32>,
    pub filter: Option<RoaringBitmap>,
    pub exclude: Option<u32>,
    pub exact: bool,
}

impl Ask {
    pub fn new(k: usize) -> Self {
        Self { k, ..Self::default() }
    }

    /// Sets everything but `k` and the item to exclude.
    pub fn apply<'a>(&'a self, mut nns: Nns<'a>) -> Nns<'a> {
        nns = self.search_k.into_iter().fold(nns, Nns::search_k);
        nns = self.oversampling.into_iter().fold(nns, Nns::oversampling);
        nns = self.filter.iter().fold(nns, Nns::filter);
        if self.exact { nns.exact() } else { nns }
    }

    /// The items that may be in the answer, the nearest first.
    pub fn matching(&self, ranked: &[Ranked]) -> Vec<Ranked> {
        let admits = |id| {
            self.exclude != Some(id)
                && self.filter.as_ref().is_none_or(|filter| filter.contains(id))
        };
        ranked.iter().copied().filter(|r| admits(r.id)).collect()
    }

    /// Fails unless the answer has as many items as it should, each once and matching, sorted, with
    /// their distances.
    pub fn check(&self, metric: Metric, ranked: &[Ranked], hits: &[Hit]) {
        let matching = self.matching(ranked);
        assert_eq!(hits.len(), self.k.min(matching.len()), "{metric}: number of hits for {self:?}");
        let distances: HashMap<u32, f64> = matching.iter().map(|r| (r.id, r.distance)).collect();
        let mut seen = HashSet::new();
        for hit in hits {
            assert!(seen.insert(hit.id), "{metric}: item {} comes twice for {self:?}", hit.id);
            let expected = distances.get(&hit.id).copied();
            let expected =
                expected.unwrap_or_else(|| panic!("{metric}: {hit:?} does not match {self:?}"));
            let close = is_close(metric, f64::from(hit.distance), expected);
            assert!(close, "{metric}: {hit:?}, and the distance is {expected}, for {self:?}");
        }
        let keys: Vec<(f32, u32)> =
            hits.iter().map(|hit| (score(metric, hit.distance), hit.id)).collect();
        assert!(keys.is_sorted(), "{metric}: not sorted for {self:?}: {hits:?}");
    }

    /// Fails unless the answer has the nearest items; which of those at equal distances, does not
    /// matter.
    pub fn check_nearest(&self, metric: Metric, ranked: &[Ranked], hits: &[Hit]) {
        self.check(metric, ranked, hits);
        for (i, (hit, best)) in hits.iter().zip(self.matching(ranked)).enumerate() {
            let close = is_close(metric, f64::from(hit.distance), best.distance);
            assert!(
                close,
                "{metric}: hit {i} is {hit:?}, and the oracle has {best:?}, for {self:?}"
            );
        }
    }

    /// Fails unless the answer is that of the oracle, ties broken by id.
    pub fn check_exact(&self, metric: Metric, ranked: &[Ranked], hits: &[Hit]) {
        self.check_nearest(metric, ranked, hits);
        let matching = self.matching(ranked);
        let distances: HashMap<u32, f32> =
            matching.iter().map(|r| (r.id, r.distance as f32)).collect();
        for (i, (hit, best)) in hits.iter().zip(&matching).enumerate() {
            // References that differ by rounding alone may be sorted in another way.
            let same = hit.id == best.id || distances[&hit.id] != best.distance as f32;
            assert!(
                same,
                "{metric}: hit {i} is {hit:?}, and the oracle has {best:?}, for {self:?}"
            );
        }
    }
}

/// How many of the `k` nearest were found; items at the distance of the last one count.
pub fn recall(metric: Metric, ranked: &[Ranked], hits: &[Hit], k: usize) -> f64 {
    let Some(last) = ranked.get(k.min(ranked.len()).wrapping_sub(1)) else {
        return 1.0;
    };
    // Two ulps of room, because the last one's distance may be rounded in another way.
    let worst = score(metric, last.distance as f32);
    let worst = worst + worst.abs() * 2.0 * f32::EPSILON;
    let good = hits.iter().filter(|hit| score(metric, hit.distance) <= worst).count();
    good as f64 / k.min(ranked.len()) as f64
}

#[track_caller]
pub fn assert_items(reader: &Reader<'_>, items: &Items) {
    let shown = reader.items().unwrap().map(Result::unwrap);
    assert!(shown.eq(items.iter().map(|(id, row)| (*id, row.clone()))), "the items are others");
}

/// Numbers of hits to ask an index of `n` items for.
pub fn ks(n: usize) -> [usize; 8] {
    [0, 1, 10, n.saturating_sub(1), n, n + 1, 1 << 32, usize::MAX]
}

/// Filters for a ranked index: nothing, unknown ids only, 1%, 50%, the farthest 55%, all, all and
/// unknown ids, every id at both ends, one item.
pub fn sets(rng: &mut Rng, ranked: &[Ranked]) -> Vec<RoaringBitmap> {
    let known: RoaringBitmap = ranked.iter().map(|r| r.id).collect();
    let unknown: RoaringBitmap =
        (0..500).map(|_| rng.random::<u32>()).filter(|id| !known.contains(*id)).collect();
    let mut share = |p: f64| known.iter().filter(|_| rng.random_bool(p)).collect::<RoaringBitmap>();
    let (few, half) = (share(0.01), share(0.5));
    let far = ranked.iter().skip(ranked.len() * 45 / 100).map(|r| r.id).collect();
    let more = &known | &unknown;
    let mut ends = RoaringBitmap::new();
    ends.insert_range(0..70_000);
    ends.insert_range(u32::MAX - 70_000..=u32::MAX);
    let one = known.iter().next().into_iter().collect();
    vec![RoaringBitmap::new(), unknown, few, half, far, known, more, ends, one]
}
