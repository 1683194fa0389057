//! Many searches on several threads.

use std::sync::atomic::{AtomicBool, Ordering};

use numpy::{IntoPyArray, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use spinney::Error;
use spinney::rayon::prelude::*;

use crate::annoy::state::Source;
use crate::annoy::{AnnoyIndex, args, walk};
use crate::arrays::Rows;
use crate::search::in_pool;

/// The hits of each row, the nearest first.
type Hits = Vec<Vec<(u32, f64)>>;

pub(crate) fn nns<'py>(
    vectors: &Bound<'py, PyAny>,
    of: &AnnoyIndex,
    n: i32,
    search_k: i32,
) -> PyResult<Bound<'py, PyTuple>> {
    let py = vectors.py();
    let rows = Rows::of(vectors, of.dims, false)?;
    let mut checked = Vec::with_capacity(rows.count);
    for row in rows.iter() {
        checked.push(args::prepared(py, row.to_vec(), of.metric)?);
    }
    let rows: Vec<&[f32]> = checked.iter().map(Vec::as_slice).collect();
    let source = of.shared.source(py)?;
    let hits = match source {
        Some(source) if !rows.is_empty() => found(py, of, &source, &rows, n, search_k)?,
        _ => Vec::new(),
    };
    // There may be fewer items than hits were asked for.
    let width = hits.iter().map(Vec::len).max().unwrap_or(0);
    let (mut ids, mut distances) =
        (vec![-1i64; rows.len() * width], vec![f64::NAN; rows.len() * width]);
    let places = ids.chunks_exact_mut(width.max(1)).zip(distances.chunks_exact_mut(width.max(1)));
    for (hits, (ids, distances)) in hits.iter().zip(places) {
        for ((hit, id), distance) in hits.iter().zip(ids).zip(distances) {
            (*id, *distance) = (i64::from(hit.0), hit.1);
        }
    }
    let shape = [rows.len(), width];
    let ids = ids.into_pyarray(py).reshape(shape)?.into_any();
    let distances = distances.into_pyarray(py).reshape(shape)?.into_any();
    PyTuple::new(py, [ids, distances])
}

fn found(
    py: Python<'_>,
    of: &AnnoyIndex,
    source: &Source,
    rows: &[&[f32]],
    n: i32,
    search_k: i32,
) -> PyResult<Hits> {
    let stop = AtomicBool::new(false);
    let pool = of.threads(std::thread::available_parallelism().map_or(1, usize::from))?;
    let count = usize::try_from(n).unwrap_or(usize::MAX);
    in_pool(py, &pool, &stop, || match source {
        Source::Annoys(file) => {
            let answer = |row: &&[f32]| {
                if stop.load(Ordering::Relaxed) {
                    return Vec::new();
                }
                walk::nearest(file, row, n, search_k)
            };
            Ok(rows.par_iter().map(answer).collect())
        }
        Source::Ours(ours) => match of.effort(n, search_k, ours.facts.trees as usize) {
            Some(effort) => ours.nearest_each(rows, count, effort, &stop),
            None => Ok::<Hits, Error>(Vec::new()),
        },
    })
}
