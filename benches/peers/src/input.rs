//! The rows, the queries, and what counts as a right answer.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::{fs, thread};

use bench_kit::args::count;
use bench_kit::clap::{self, Args};
use bench_kit::files::{Neighbours, VectorFile};
use bench_kit::sets::SetName;
use spinney::Metric;

use crate::Result;

/// How far beyond the k-th true distance an item may lie, relatively, and count as tied with it.
pub const TIE: f64 = 1e-6;

/// Which rows of which set.
#[derive(Clone, Debug, Args)]
pub struct SetArgs {
    /// The folder of the sets
    #[arg(long, value_name = "DIR", env = "SPINNEY_DATA")]
    pub data: PathBuf,
    /// The data set
    #[arg(long, value_name = "NAME")]
    pub set: SetName,
    /// The first N train rows only
    #[arg(long, value_name = "N", value_parser = count::<usize>)]
    pub items: Option<usize>,
    /// The first N test rows only
    #[arg(long, value_name = "N", value_parser = count::<usize>)]
    pub queries: Option<usize>,
}

/// Rows of single precision.
pub struct Rows {
    pub dims: usize,
    pub metric: Metric,
    pub values: Vec<f32>,
    /// Of each row.
    lengths: Vec<f64>,
}

impl Rows {
    pub fn new(dims: usize, metric: Metric, values: Vec<f32>) -> Self {
        let lengths = values.chunks_exact(dims).map(|row| product(row, row).sqrt()).collect();
        Self { dims, metric, values, lengths }
    }

    /// Reads what [`write`] wrote.
    pub fn read(path: &Path, dims: usize, metric: Metric) -> Result<Self> {
        let bytes = fs::read(path)?;
        let values =
            bytes.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
        Ok(Self::new(dims, metric, values))
    }

    #[expect(clippy::len_without_is_empty, reason = "a set has rows")]
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    pub fn row(&self, number: usize) -> &[f32] {
        &self.values[number * self.dims..(number + 1) * self.dims]
    }

    pub fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.dims)
    }

    /// The distance of a row to a query, in double precision.
    pub fn distance(&self, number: usize, queries: &Rows, query: usize) -> f64 {
        let (row, point) = (self.row(number), queries.row(query));
        match self.metric {
            Metric::Cosine => {
                1.0 - product(row, point) / (self.lengths[number] * queries.lengths[query])
            }
            _ => sum(row, point, |a, b| (a - b) * (a - b)).sqrt(),
        }
    }
}

fn product(left: &[f32], right: &[f32]) -> f64 {
    sum(left, right, |a, b| a * b)
}

/// The sum of a term over two rows; in lanes, so that the compiler may compute several at once.
fn sum(left: &[f32], right: &[f32], term: impl Fn(f64, f64) -> f64) -> f64 {
    let ((left, left_rest), (right, right_rest)) = (left.as_chunks::<8>(), right.as_chunks::<8>());
    let mut lanes = [0.0; 8];
    for (left, right) in left.iter().zip(right) {
        for i in 0..8 {
            lanes[i] += term(left[i].into(), right[i].into());
        }
    }
    let rest =
        left_rest.iter().zip(right_rest).map(|(left, right)| term((*left).into(), (*right).into()));
    lanes.iter().sum::<f64>() + rest.sum::<f64>()
}

/// What every store gets, and what its answers are held against.
pub struct Input {
    pub items: Rows,
    pub items_in_file: usize,
    pub queries: Rows,
    pub k: usize,
    /// Whether the exact answers were computed here.
    pub is_computed: bool,
    /// For each query the largest distance that counts as right.
    limits: Vec<f64>,
}

impl Input {
    /// How many of these items are as near to a query as its k-th neighbour; k at most.
    pub fn right(&self, query: usize, mut ids: Vec<u32>) -> usize {
        ids.sort_unstable();
        ids.dedup();
        let distances =
            ids.iter().map(|&id| self.items.distance(id as usize, &self.queries, query));
        distances.filter(|distance| *distance <= self.limits[query]).count().min(self.k)
    }
}

/// The items and the queries of the set, and how many items its file has.
pub fn read_set(args: &SetArgs) -> Result<(Rows, Rows, usize)> {
    let (set, metric) = (args.set, args.set.metric());
    let (items, items_in_file) = read(set.open(&args.data, "train")?, metric, args.items)?;
    let (queries, _) = read(set.open(&args.data, "test")?, metric, args.queries)?;
    if items.dims != queries.dims {
        return Err(
            format!("expected queries of {} dimensions, got {}", items.dims, queries.dims).into()
        );
    }
    Ok((items, queries, items_in_file))
}

/// Reads the set and writes `items.f32`, `queries.f32` and `learn.f32` into `folder`: the rows, and
/// queries that are not asked.
pub fn prepare(args: &SetArgs, k: usize, learn: usize, folder: &Path) -> Result<Input> {
    let (items, mut queries, items_in_file) = read_set(args)?;
    if learn >= queries.len() {
        let rows = queries.len();
        return Err(format!("--learn: expected fewer than the queries, {rows}, got {learn}").into());
    }
    let learn = queries.values.split_off((queries.len() - learn) * queries.dims);
    queries = Rows::new(queries.dims, queries.metric, queries.values);
    if k > items.len() {
        return Err(format!(
            "--k: expected at most the number of items, {}, got {}",
            items.len(),
            k
        )
        .into());
    }
    let is_computed = items.len() < items_in_file;
    let farthest = match is_computed {
        true => compute(&items, &queries, k)?,
        false => read_truth(&args.data.join(args.set.name()).join("truth.ibin"), queries.len(), k)?,
    };
    let single =
        |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    write(&folder.join("items.f32"), items.iter().map(single))?;
    write(&folder.join("queries.f32"), queries.iter().map(single))?;
    write(&folder.join("learn.f32"), std::iter::once(single(&learn)))?;
    let limits = farthest.iter().map(|distance| distance * (1.0 + TIE)).collect();
    Ok(Input { items, items_in_file, queries, k, is_computed, limits })
}

/// At most `limit` rows of a file, and how many it has.
fn read(mut file: VectorFile, metric: Metric, limit: Option<usize>) -> Result<(Rows, usize)> {
    let values = file.read(limit.unwrap_or(usize::MAX))?;
    Ok((Rows::new(file.dims(), metric, values), file.rows()))
}

fn write(path: &Path, parts: impl Iterator<Item = Vec<u8>>) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for part in parts {
        file.write_all(&part)?;
    }
    Ok(file.flush()?)
}

/// The distance of the k-th neighbour of each query.
fn read_truth(path: &Path, queries: usize, k: usize) -> Result<Vec<f64>> {
    let file = Neighbours::read(path)?;
    let (rows, row_len) = (file.rows(), file.row_len());
    if rows < queries || row_len < k {
        let path = path.display();
        return Err(format!(
            "{path}: expected {k} neighbours of {queries} queries, got {rows} x {row_len}"
        )
        .into());
    }
    let (_, distances) = file.first(queries, k);
    Ok(distances.chunks_exact(k).map(|row| row[k - 1].into()).collect())
}

/// The same by comparing every item, a share of the queries on each thread.
fn compute(items: &Rows, queries: &Rows, k: usize) -> Result<Vec<f64>> {
    let threads = thread::available_parallelism()?.get();
    let share = queries.len().div_ceil(threads);
    let answer = |query: usize| {
        let mut distances: Vec<f64> =
            (0..items.len()).map(|item| items.distance(item, queries, query)).collect();
        *distances.select_nth_unstable_by(k - 1, f64::total_cmp).1
    };
    let mut farthest = vec![0.0; queries.len()];
    thread::scope(|scope| {
        for (number, farthest) in farthest.chunks_mut(share).enumerate() {
            scope.spawn(move || {
                for (query, farthest) in (number * share..).zip(farthest) {
                    *farthest = answer(query);
                }
            });
        }
    });
    Ok(farthest)
}
