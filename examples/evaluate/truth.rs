//! The exact answers, and how many of them a search found.

use std::error::Error;
use std::fs;
use std::path::Path;

use rayon::ThreadPool;
use rayon::prelude::*;
use spinney::{Hit, Metric, Reader};

use crate::queries::Queries;
use crate::store::{INDEX, Store};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How far beyond the k-th true distance a hit may lie, relatively, and count as tied with it.
const TIE: f32 = 1e-6;

/// The `k` nearest items of each query, and their distances.
pub struct Truth {
    k: usize,
    larger_is_nearer: bool,
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
}

impl Truth {
    /// Reads an `.ibin` file: u32 n, u32 k, then n x k u32 ids, then n x k f32 distances.
    pub fn read(path: &Path, expected: &Expected) -> Result<Self> {
        fs::read(path)
            .map_err(Into::into)
            .and_then(|bytes| Self::parse(&bytes, expected))
            .map_err(|error| format!("{}: {error}", path.display()).into())
    }

    fn parse(bytes: &[u8], expected: &Expected) -> Result<Self> {
        let (words, rest) = bytes.as_chunks::<4>();
        let [rows, row_len, words @ ..] = words else {
            return Err("the file ends inside its header".into());
        };
        let rows = usize::try_from(u32::from_le_bytes(*rows))?;
        let row_len = usize::try_from(u32::from_le_bytes(*row_len))?;
        let cells = rows.saturating_mul(row_len);
        if !rest.is_empty() || words.len() != cells.saturating_mul(2) {
            return Err(format!(
                "the header promises {rows} rows of {row_len} ids and distances: expected {} bytes, got {}",
                cells.saturating_mul(8).saturating_add(8),
                bytes.len()
            )
            .into());
        }
        if rows != expected.test_rows {
            return Err(format!(
                "expected a row for each of the {} test vectors, got {rows}",
                expected.test_rows
            )
            .into());
        }
        if row_len < expected.k {
            return Err(format!(
                "expected at least k = {} neighbours a row, got {row_len}",
                expected.k
            )
            .into());
        }

        let (ids, distances) = words.split_at(cells);
        let first_k = |cells: &[[u8; 4]]| -> Vec<[u8; 4]> {
            let rows = cells.chunks_exact(row_len).take(expected.queries);
            rows.flat_map(|row| &row[..expected.k]).copied().collect()
        };
        let ids: Vec<u32> = first_k(ids).into_iter().map(u32::from_le_bytes).collect();
        let distances: Vec<f32> = first_k(distances).into_iter().map(f32::from_le_bytes).collect();
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
            ids: hits.clone().map(|hit| hit.id).collect(),
            distances: hits.map(|hit| hit.distance).collect(),
        })
    }

    /// Hits that are among the first k true neighbours of query number `query`, or as near as the
    /// k-th of them.
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
            is_tied || ids.contains(&hit.id)
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
        Truth { k: 2, larger_is_nearer, ids: vec![4, 5], distances: distances.to_vec() }
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
    }

    #[test]
    fn files_are_checked() {
        let file: Vec<u8> = [2u32, 3, 0, 1, 2, 3, 4, 5]
            .into_iter()
            .chain([0.5f32, 1.0, 1.5, 0.25, 0.5, 0.75].map(f32::to_bits))
            .flat_map(u32::to_le_bytes)
            .collect();
        let expected = |train_rows, test_rows, k| Expected {
            train_rows,
            test_rows,
            queries: 2,
            k,
            metric: Metric::Euclidean,
        };
        let truth = Truth::parse(&file, &expected(6, 2, 2));
        assert_eq!(
            truth.ok().map(|truth| (truth.ids, truth.distances)),
            Some((vec![0, 1, 3, 4], vec![0.5, 1.0, 0.25, 0.5]))
        );
        assert!(Truth::parse(&file, &expected(5, 2, 3)).is_err(), "an id beyond the train vectors");
        assert!(Truth::parse(&file, &expected(6, 3, 3)).is_err(), "a test vector without a row");
        assert!(Truth::parse(&file, &expected(6, 2, 4)).is_err(), "rows shorter than k");
        for length in 0..file.len() {
            assert!(Truth::parse(&file[..length], &expected(6, 2, 2)).is_err(), "{length} bytes");
        }
    }
}
