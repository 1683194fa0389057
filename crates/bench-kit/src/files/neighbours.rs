//! `.ibin` files of exact answers, all little-endian: u32 n, u32 k, then n rows of k u32 ids, then
//! n rows of k f32 distances.

use std::fs;
use std::path::Path;

use super::{FileError, Problem, take};

/// The nearest neighbours of each query, nearest first.
#[derive(Debug)]
pub struct Neighbours {
    row_len: usize,
    ids: Vec<u32>,
    distances: Vec<f32>,
}

impl Neighbours {
    /// Reads a whole file.
    ///
    /// # Errors
    /// [`Problem::ShortHeader`], [`Problem::Header`] for a file without neighbours,
    /// [`Problem::Size`], or [`Problem::Io`].
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let bytes = fs::read(path).map_err(Problem::from);
        bytes.and_then(|bytes| Self::parse(&bytes)).map_err(|problem| problem.of(path))
    }

    /// As [`Neighbours::read`], of the bytes of a file.
    ///
    /// # Errors
    /// All but [`Problem::Io`].
    pub fn parse(mut bytes: &[u8]) -> Result<Self, Problem> {
        let got = bytes.len() as u64;
        let rows: u64 = u32::from_le_bytes(take(&mut bytes)?).into();
        let row_len = u32::from_le_bytes(take(&mut bytes)?);
        if rows == 0 || row_len == 0 {
            let got = format!("{rows} x {row_len}");
            return Err(Problem::Header { expected: "at least one neighbour", got });
        }
        let expected = (rows * u64::from(row_len)).saturating_mul(8).saturating_add(8);
        if expected != got {
            return Err(Problem::Size { rows, row_len: row_len.into(), expected, got });
        }
        let (words, _) = bytes.as_chunks::<4>();
        let (ids, distances) = words.split_at(words.len() / 2);
        Ok(Self {
            row_len: row_len as usize,
            ids: ids.iter().copied().map(u32::from_le_bytes).collect(),
            distances: distances.iter().copied().map(f32::from_le_bytes).collect(),
        })
    }

    /// How many queries there are.
    pub fn rows(&self) -> usize {
        self.ids.len() / self.row_len
    }

    /// How many neighbours each query has.
    pub fn row_len(&self) -> usize {
        self.row_len
    }

    /// The first `k` neighbours of the first `rows` queries: ids and distances, row after row.
    /// What the file does not have is left out.
    pub fn first(&self, rows: usize, k: usize) -> (Vec<u32>, Vec<f32>) {
        let k = k.min(self.row_len);
        let ids = self.ids.chunks_exact(self.row_len).take(rows);
        let distances = self.distances.chunks_exact(self.row_len).take(rows);
        (
            ids.flat_map(|row| &row[..k]).copied().collect(),
            distances.flat_map(|row| &row[..k]).copied().collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Vec<u8> {
        let header_and_ids = [2u32, 3, 0, 1, 2, 3, 4, 5].into_iter();
        let distances = [0.5f32, 1.0, 1.5, 0.25, 0.5, 0.75].map(f32::to_bits);
        header_and_ids.chain(distances).flat_map(u32::to_le_bytes).collect()
    }

    #[test]
    fn answers_are_read() {
        let neighbours = Neighbours::parse(&file()).unwrap();
        assert_eq!((neighbours.rows(), neighbours.row_len()), (2, 3));
        assert_eq!(neighbours.first(2, 2), (vec![0, 1, 3, 4], vec![0.5, 1.0, 0.25, 0.5]));
        assert_eq!(neighbours.first(1, 9), (vec![0, 1, 2], vec![0.5, 1.0, 1.5]));
    }

    #[test]
    fn a_size_that_differs_from_the_header_is_refused() {
        let mut file = file();
        for length in 0..file.len() {
            let problem = Neighbours::parse(&file[..length]).unwrap_err();
            let is_told = match length {
                0..8 => matches!(problem, Problem::ShortHeader),
                _ => {
                    matches!(problem, Problem::Size { expected: 56, got: g, .. } if g == length as u64)
                }
            };
            assert!(is_told, "{length} bytes: {problem:?}");
        }
        file[..8].fill(255);
        assert!(matches!(Neighbours::parse(&file), Err(Problem::Size { expected: u64::MAX, .. })));
        file[4..8].fill(0);
        assert!(matches!(Neighbours::parse(&file), Err(Problem::Header { .. })));
    }
}
