//! Queries with their true neighbours, and searches under the clock.

use std::rc::Rc;
use std::time::Instant;

use bench_kit::Result;
use bench_kit::store::{INDEX, Store};
use spinney::heed::RoTxn;
use spinney::{Hit, Metric, Nns, Reader, SearchStats, Snapshot};

/// True neighbours of each query.
const NEIGHBOURS: usize = 100;
/// A hit may lie this part of the last true distance beyond it, and still be tied with it.
const TIE: f32 = 1e-6;

/// Items, spread evenly over the index, that a reader is asked for before it is measured: at most.
const OTHERS: usize = 20_000;

/// Queries that are no items, and how far their nearest items are.
#[derive(Clone)]
pub struct Queries {
    pub dims: usize,
    pub metric: Metric,
    pub values: Vec<f32>,
    distances: Vec<Vec<f32>>,
    /// What is asked before: the vectors of items.
    others: Rc<[f32]>,
}

impl Queries {
    /// The first `most` rows, with their neighbours by exact search.
    pub fn new(store: &Store, rows: &[f32], most: usize) -> Result<Self> {
        let mut snapshot = Snapshot::open(&store.env, store.db, INDEX)?;
        let dims = snapshot.dims();
        let values = rows[..rows.len().min(most * dims)].to_vec();
        let answers = snapshot.nns(NEIGHBOURS).exact().by_vectors(&values)?;
        let distances =
            answers.iter().map(|hits| hits.iter().map(|hit| hit.distance).collect()).collect();
        let metric = snapshot.metric();
        drop(snapshot);
        let rtxn = store.env.read_txn()?;
        let reader = Reader::open(&rtxn, store.db, INDEX)?;
        let step = usize::try_from(reader.len())?.div_ceil(OTHERS).max(1);
        let ids = reader.ids()?.step_by(step).collect::<spinney::Result<Vec<_>>>()?;
        let vectors =
            ids.iter().map(|id| reader.item_vector(*id)).collect::<spinney::Result<Vec<_>>>()?;
        let others = vectors.into_iter().flatten().flatten().collect();
        Ok(Self { dims, metric, values, distances, others })
    }

    /// A reader that has answered many other searches: it knows where nodes are, and most of the
    /// items if they are few.
    pub fn reader<'t>(
        &self,
        store: &Store,
        rtxn: &'t RoTxn<'_>,
        setting: Setting,
    ) -> Result<Reader<'t>> {
        let reader = Reader::open(rtxn, store.db, INDEX)?;
        for other in self.others.chunks_exact(self.dims) {
            std::hint::black_box(reader.nns(setting.k).recall(setting.recall).by_vector(other)?);
        }
        Ok(reader)
    }

    pub fn len(&self) -> usize {
        self.distances.len()
    }

    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.dims)
    }

    /// Every second query, from the one with this number on.
    pub fn half(&self, first: usize) -> Self {
        let values = self.rows().skip(first).step_by(2).flatten().copied().collect();
        let distances = self.distances.iter().skip(first).step_by(2).cloned().collect();
        Self { values, distances, others: Rc::clone(&self.others), ..*self }
    }

    /// The part of the `k` nearest items of query `i` that is among its hits.
    fn recall(&self, i: usize, k: usize, hits: &[Hit]) -> f64 {
        let distances = &self.distances[i];
        let Some(last) = distances.get(k.min(distances.len()).wrapping_sub(1)) else { return 1.0 };
        let right = match self.metric {
            Metric::DotProduct => {
                hits.iter().filter(|hit| hit.distance >= last - TIE * last.abs()).count()
            }
            _ => hits.iter().filter(|hit| hit.distance <= last + TIE * last.abs()).count(),
        };
        right as f64 / k.min(distances.len()) as f64
    }
}

/// The options of searches.
#[derive(Copy, Clone, Debug)]
pub struct Setting {
    pub k: usize,
    pub recall: f32,
}

/// One search each for some queries: means, and times in microseconds.
#[derive(Clone, Debug)]
pub struct Measured {
    pub recall: f64,
    pub mean_us: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub sketches: f64,
    pub reranked: f64,
    pub bytes: f64,
    /// Preparing, scanning, comparing.
    pub phases_us: [f64; 3],
}

impl Measured {
    /// The mean of each figure.
    pub fn mean<'m>(all: impl Iterator<Item = &'m Self> + Clone) -> Self {
        let of = |figure: fn(&Self) -> f64| {
            let (sum, count) =
                all.clone().fold((0.0, 0.0), |(sum, count), one| (sum + figure(one), count + 1.0));
            sum / count
        };
        Self {
            recall: of(|one| one.recall),
            mean_us: of(|one| one.mean_us),
            p50_us: of(|one| one.p50_us),
            p99_us: of(|one| one.p99_us),
            sketches: of(|one| one.sketches),
            reranked: of(|one| one.reranked),
            bytes: of(|one| one.bytes),
            phases_us: [
                of(|one| one.phases_us[0]),
                of(|one| one.phases_us[1]),
                of(|one| one.phases_us[2]),
            ],
        }
    }
}

/// The recall of a setting, without a clock.
pub fn recall(reader: &Reader<'_>, queries: &Queries, setting: Setting) -> Result<f64> {
    let mut sum = 0.0;
    for (i, row) in queries.rows().enumerate() {
        sum += queries.recall(
            i,
            setting.k,
            &reader.nns(setting.k).recall(setting.recall).by_vector(row)?,
        );
    }
    Ok(sum / queries.len() as f64)
}

/// Asks all queries, `passes` times, one after the other.
///
/// Each pass has a reader that has answered many other searches. So none is timed that the reader
/// has seen. Its process has, and knows the pages of what it found, as of most items by then. The
/// time of each is the median of its passes. One more pass counts what it did, as the clock within
/// a search takes time, too.
pub fn measure(
    store: &Store,
    queries: &Queries,
    setting: Setting,
    passes: usize,
) -> Result<Measured> {
    let Setting { k, recall: target } = setting;
    let rtxn = store.env.read_txn()?;
    let mut reader = Reader::open(&rtxn, store.db, INDEX)?;
    let recall = recall(&reader, queries, setting)?;
    let mut times: Vec<Vec<f64>> = vec![Vec::with_capacity(passes); queries.len()];
    for _ in 0..passes {
        reader = queries.reader(store, &rtxn, setting)?;
        for (times, row) in times.iter_mut().zip(queries.rows()) {
            let start = Instant::now();
            std::hint::black_box(reader.nns(k).recall(target).by_vector(row)?);
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    let mut all = SearchStats::default();
    reader.nns(k).recall(target).report(&mut all).by_vectors(&queries.values)?;
    let each = |sum: f64| sum / queries.len() as f64;
    let mut times: Vec<f64> = times.into_iter().map(|mut times| median(&mut times)).collect();
    times.sort_unstable_by(f64::total_cmp);
    Ok(Measured {
        recall,
        mean_us: each(times.iter().sum()),
        p50_us: times[times.len() / 2],
        p99_us: times[times.len() * 99 / 100],
        sketches: each(all.sketches as f64),
        reranked: each((all.reranked + all.scanned_exactly) as f64),
        bytes: each(all.bytes as f64),
        phases_us: [all.preparing, all.scanning, all.comparing]
            .map(|phase| each(phase.as_secs_f64() * 1e6)),
    })
}

/// A search without options for 10 neighbours.
pub fn usual<'r>(reader: &'r Reader<'_>) -> Nns<'r> {
    reader.nns(10)
}

pub fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}
