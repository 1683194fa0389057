//! Rows in clusters, and an index of them.

use rand::RngExt;
use spinney::heed::RwTxn;
use spinney::roaring::RoaringBitmap;
use spinney::{BuildMethod, BuildOptions, Error, Metric, Nns, Reader, SearchStats, Writer};

use crate::support::*;
use crate::{ITEMS, KS};

pub const DIMS: usize = 48;
/// Directions in which rows vary around their centre, and how many centres there are.
const LATENT: usize = 12;
const CENTRES: usize = 40;

/// Where rows come from: clusters of unequal size, each spread along few directions. Rows are one
/// after the other.
pub struct Source {
    metric: Metric,
    centres: Vec<f32>,
    bases: Vec<f32>,
    pub rng: Rng,
}

impl Source {
    pub fn new(metric: Metric, seed: &Seed) -> Self {
        let mut rng = seed.rng(0);
        let (centres, bases) =
            (normal(CENTRES * DIMS, &mut rng), normal(4 * LATENT * DIMS, &mut rng));
        Self { metric, centres, bases, rng }
    }

    pub fn rows(&mut self, count: usize) -> Vec<f32> {
        let mut rows = normal(count * DIMS, &mut self.rng);
        for row in rows.chunks_exact_mut(DIMS) {
            let skewed = self.rng.random::<f32>() * self.rng.random::<f32>();
            let centre = ((skewed * CENTRES as f32) as usize).min(CENTRES - 1);
            let middle = &self.centres[centre * DIMS..];
            row.iter_mut().zip(middle).for_each(|(x, centre)| *x = centre + 0.1 * *x);
            let basis = self.bases[centre % 4 * LATENT * DIMS..].chunks_exact(DIMS);
            for (weight, direction) in normal(LATENT, &mut self.rng).into_iter().zip(basis) {
                row.iter_mut().zip(direction).for_each(|(x, y)| *x += 0.25 * weight * y);
            }
        }
        if self.metric == Metric::Hamming {
            rows.iter_mut().for_each(|x| *x = f32::from(u8::from(*x > 0.0)));
        }
        rows
    }

    /// Rows half way between two of the source, mostly of different clusters.
    pub fn between(&mut self, count: usize) -> Vec<f32> {
        self.rows(count).iter().zip(self.rows(count)).map(|(a, b)| 0.5 * (a + b)).collect()
    }

    /// Rows off those of the source, some by little and others by several times their spread.
    pub fn far(&mut self, count: usize) -> Vec<f32> {
        let mut rows = self.rows(count);
        for row in rows.chunks_exact_mut(DIMS) {
            let off = self.rng.random_range(0.0..5.0f32);
            let by = normal(DIMS, &mut self.rng);
            row.iter_mut().zip(by).for_each(|(x, by)| *x += off * by);
        }
        rows
    }
}

/// Nearly normal numbers: sums of uniform ones.
fn normal(count: usize, rng: &mut Rng) -> Vec<f32> {
    (0..count)
        .map(|_| (0..6).map(|_| rng.random_range(-1.0..1.0f32)).sum::<f32>() / 2f32.sqrt())
        .collect()
}

/// A query with the distances of its true neighbours.
pub type Asked = (Vec<f32>, Vec<f32>);

pub struct World {
    pub store: Store,
    pub writer: Writer,
}

impl World {
    pub fn empty(metric: Metric) -> Self {
        let store = Store::with_map_size(256 << 20);
        let writer = store.create_index(DIMS, metric);
        Self { store, writer }
    }

    /// A world of so many items from a source, built in bulk.
    pub fn of(source: &mut Source, count: usize) -> Self {
        let world = Self::empty(source.metric);
        world.add(0, &source.rows(count));
        assert_eq!(
            world.build(),
            if count == 0 { BuildMethod::Nothing } else { BuildMethod::Bulk }
        );
        world
    }

    pub fn write<R>(&self, work: impl FnOnce(&Writer, &mut RwTxn<'_>) -> R) -> R {
        let mut wtxn = self.store.env.write_txn().unwrap();
        let done = work(&self.writer, &mut wtxn);
        wtxn.commit().unwrap();
        done
    }

    /// Adds rows under the ids from one on.
    pub fn add(&self, from: usize, rows: &[f32]) {
        let ids: Vec<u32> = (from as u32..).take(rows.len() / DIMS).collect();
        self.write(|writer, wtxn| writer.add_items(wtxn, &ids, rows).unwrap());
    }

    pub fn build(&self) -> BuildMethod {
        self.write(|writer, wtxn| writer.build(wtxn, &BuildOptions::default()).unwrap().method)
    }

    pub fn calibrate(&self, queries: &[f32]) -> Result<bool, Error> {
        self.write(|writer, wtxn| writer.calibrate(wtxn, queries))
    }

    pub fn read<R>(&self, work: impl FnOnce(&Reader<'_>) -> R) -> R {
        let rtxn = self.store.env.read_txn().unwrap();
        work(&Reader::open(&rtxn, self.store.db, 0).unwrap())
    }

    /// Asks for the true neighbours of queries.
    pub fn ask(&self, queries: &[f32], filter: Option<&RoaringBitmap>) -> Vec<Asked> {
        let exact = |reader: &Reader<'_>, query: &[f32]| {
            let hits = admit(reader.nns(KS[2]), filter).exact().by_vector(query).unwrap();
            (query.to_vec(), hits.iter().map(|hit| hit.distance).collect())
        };
        self.read(|reader| queries.chunks_exact(DIMS).map(|query| exact(reader, query)).collect())
    }

    /// What is reached for `k` neighbours when a recall is aimed at.
    pub fn recall(
        &self,
        asked: &[Asked],
        k: usize,
        target: f32,
        filter: Option<&RoaringBitmap>,
    ) -> Reached {
        let sign = if self.writer.metric() == Metric::DotProduct { -1.0 } else { 1.0 };
        let (mut found, mut sketches) = (0, 0);
        self.read(|reader| {
            for (query, distances) in asked {
                let mut searched = SearchStats::default();
                let hits = admit(reader.nns(k), filter)
                    .recall(target)
                    .report(&mut searched)
                    .by_vector(query)
                    .unwrap();
                assert!(
                    filter.is_none_or(|filter| hits.iter().all(|hit| filter.contains(hit.id))),
                    "filtered out"
                );
                assert!(
                    searched.sketches > 0 || searched.is_out_of_reach,
                    "the forest was not searched: {searched:?}"
                );
                found += hits
                    .iter()
                    .filter(|hit| sign * hit.distance <= sign * distances[k - 1])
                    .count();
                // Comparing all takes more than any scan.
                sketches +=
                    if searched.sketches == 0 { 2 * ITEMS as u64 } else { searched.sketches };
            }
        });
        Reached {
            recall: found as f64 / (k * asked.len()) as f64,
            sketches: sketches as f64 / asked.len() as f64,
        }
    }
}

/// What searches of some queries have reached.
#[derive(Copy, Clone, Debug)]
pub struct Reached {
    pub recall: f64,
    /// Sketches that a query scans.
    pub sketches: f64,
}

pub fn admit<'a>(nns: Nns<'a>, filter: Option<&'a RoaringBitmap>) -> Nns<'a> {
    filter.into_iter().fold(nns, Nns::filter)
}
