//! The exact answers, and how many of them a search found.

use std::path::Path;

use bench_kit::Result;
use bench_kit::files::Neighbours;
use rayon::ThreadPool;
use rayon::prelude::*;
use spinney::{Hit, Metric, Reader};

use crate::queries::Queries;
use crate::store::{INDEX, Store};

/// How far beyond the k-th true distance a hit may lie, relatively, and count as tied with it.
const TIE: f32 = 1e-6;

/// The `k` nearest items of each query, and their distances.
pub struct Truth {
    k: usize,
    larger_is_nearer: bool,
    /// Whether distances are those of other vectors than the store keeps. They say nothing of hits
    /// then.
    is_rounded: bool,
    ids: Vec<u32>,
    distances: Vec<f32>,
}

/// What a file of answers has to fit.
pub struct Expected {
    pub train_rows: usize,
    pub test_rows: usize,
    /// How many of the test rows are used.
    pub queries: usize,
    pub k: usize,
    pub metric: Metric,
    /// Whether the store keeps the vectors otherwise than they were given.
    pub is_rounded: bool,
}

impl Truth {
    /// Reads an `.ibin` file.
    pub fn read(path: &Path, expected: &Expected) -> Result<Self> {
        Self::new(&Neighbours::read(path)?, expected)
            .map_err(|error| format!("{}: {error}", path.display()).into())
    }

    fn new(file: &Neighbours, expected: &Expected) -> Result<Self> {
        if file.rows() != expected.test_rows {
            let (test_rows, got) = (expected.test_rows, file.rows());
            return Err(format!(
                "expected a row for each of the {test_rows} test vectors, got {got}"
            )
            .into());
        }
        if file.row_len() < expected.k {
            let (k, got) = (expected.k, file.row_len());
            return Err(format!("expected at least k = {k} neighbours a row, got {got}").into());
        }
        let (ids, distances) = file.first(expected.queries, expected.k);
        if let Some(id) = ids.iter().find(|&&id| id as usize >= expected.train_rows) {
            return Err(format!(
                "expected ids below {} (the train vectors), got {id}",
                expected.train_rows
            )
            .into());
        }
        if let Some(distance) = distances.iter().find(|distance| !distance.is_finite()) {
            return Err(format!("expected finite distances, got {distance}").into());
        }
        Ok(Self {
            k: expected.k,
            larger_is_nearer: expected.metric == Metric::DotProduct,
            is_rounded: expected.is_rounded,
            ids,
            distances,
        })
    }

    /// Finds the answers by the library's exact search, a share of the queries on each thread of
    /// `pool`.
    pub fn compute(
        store: &Store,
        queries: &Queries,
        k: usize,
        pool: &ThreadPool,
    ) -> spinney::Result<Self> {
        let Store { env, db } = store;
        let answer = |share: &[f32]| -> spinney::Result<Vec<Hit>> {
            // A read transaction of its own: one cannot be used from several threads at once.
            let rtxn = env.read_txn()?;
            let reader = Reader::open(&rtxn, *db, INDEX)?;
            let mut hits = Vec::new();
            for query in share.chunks_exact(queries.dims()) {
                hits.extend(reader.nns(k).exact().by_vector(query)?);
            }
            Ok(hits)
        };
        let share_len = 8 * queries.dims();
        let shares: Vec<Vec<Hit>> = pool.install(|| {
            let shares = queries.values().par_chunks(share_len);
            shares.map(answer).collect::<spinney::Result<_>>()
        })?;
        let rtxn = env.read_txn()?;
        let hits = shares.iter().flatten();
        Ok(Self {
            k,
            larger_is_nearer: Reader::open(&rtxn, *db, INDEX)?.metric() == Metric::DotProduct,
            is_rounded: false,
            ids: hits.clone().map(|hit| hit.id).collect(),
            distances: hits.map(|hit| hit.distance).collect(),
        })
    }

    /// Hits that are among the first k true neighbours of this query, or as near as the k-th of
    /// them.
    pub fn right(&self, query: usize, hits: &[Hit]) -> usize {
        let row = query * self.k..(query + 1) * self.k;
        let (ids, distances) = (&self.ids[row.clone()], &self.distances[row]);
        let kth = distances[self.k - 1];
        let slack = TIE * kth.abs();
        let is_right = |hit: &&Hit| {
            let is_tied = match self.larger_is_nearer {
                true => hit.distance >= kth - slack,
                false => hit.distance <= kth + slack,
            };
            ids.contains(&hit.id) || is_tied && !self.is_rounded
        };
        hits.iter().take(self.k).filter(is_right).count()
    }

    pub fn k(&self) -> usize {
        self.k
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth(larger_is_nearer: bool, distances: [f32; 2]) -> Truth {
        let ids = vec![4, 5];
        Truth { k: 2, larger_is_nearer, is_rounded: false, ids, distances: distances.to_vec() }
    }

    fn hits(hits: [(u32, f32); 2]) -> [Hit; 2] {
        hits.map(|(id, distance)| Hit { id, distance })
    }

    #[test]
    fn ties_count() {
        let near = truth(false, [1.0, 2.0]);
        assert_eq!(near.right(0, &hits([(4, 1.0), (9, 2.0)])), 2);
        assert_eq!(near.right(0, &hits([(4, 1.0), (9, 2.1)])), 1);
        assert_eq!(near.right(0, &hits([(5, 2.5), (9, 2.5)])), 1);
        let large = truth(true, [-1.0, -2.0]);
        assert_eq!(large.right(0, &hits([(9, -2.0), (8, -2.000_001)])), 2);
        assert_eq!(large.right(0, &hits([(9, -2.1), (8, -3.0)])), 0);
        let rounded = Truth { is_rounded: true, ..near };
        assert_eq!(rounded.right(0, &hits([(4, 1.0), (9, 2.0)])), 1);
    }

    #[test]
    fn files_have_to_fit() -> Result<()> {
        let file: Vec<u8> = [2u32, 3, 0, 1, 2, 3, 4, 5]
            .into_iter()
            .chain([0.5f32, 1.0, 1.5, 0.25, 0.5, 0.75].map(f32::to_bits))
            .flat_map(u32::to_le_bytes)
            .collect();
        let file = Neighbours::parse(&file)?;
        let expected = |train_rows, test_rows, k| Expected {
            train_rows,
            test_rows,
            queries: 2,
            k,
            metric: Metric::Euclidean,
            is_rounded: false,
        };
        let truth = Truth::new(&file, &expected(6, 2, 2))?;
        assert_eq!(truth.ids, [0, 1, 3, 4]);
        assert_eq!(truth.distances, [0.5, 1.0, 0.25, 0.5]);
        assert!(Truth::new(&file, &expected(5, 2, 3)).is_err(), "an id beyond the train vectors");
        assert!(Truth::new(&file, &expected(6, 3, 3)).is_err(), "a test vector without a row");
        assert!(Truth::new(&file, &expected(6, 2, 4)).is_err(), "rows shorter than k");
        Ok(())
    }
}
