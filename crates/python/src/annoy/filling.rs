//! An index that is being filled: rows in memory, and what was built or flushed before.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use spinney::rayon::ThreadPool;
use spinney::{BuildOptions, BuildStats, Error, Index, ProgressCallback, WriteTxn};

use crate::annoy::folder::{Folder, parent};
use crate::annoy::metric::{Metric, is_zero};
use crate::annoy::ours::{Facts, Ours};

/// Bytes of vectors after which an index that is built in a file writes them there.
const FLUSH: usize = 64 << 20;
/// Bytes of vectors that are handed over at once.
const CHUNK: usize = 8 << 20;

/// Items that wait for a build.
#[derive(Default)]
pub(crate) struct Filling {
    /// Where the vector of an item begins; `None` if the item was deleted.
    places: HashMap<u32, Option<usize>>,
    vectors: Vec<f32>,
    /// One more than the highest id.
    pub(crate) items: u64,
    /// What was there before.
    base: Option<Arc<Ours>>,
    /// Where the index goes when it is built.
    pub(crate) target: Option<PathBuf>,
}

/// What a build was asked for.
pub(crate) struct Build {
    pub(crate) metric: Metric,
    pub(crate) dims: usize,
    pub(crate) trees: u32,
    pub(crate) seed: Option<u64>,
    pub(crate) pool: Arc<ThreadPool>,
}

impl Filling {
    /// What a built index has, to be built again.
    pub(crate) fn of(base: Arc<Ours>) -> Self {
        Self { items: base.facts.items, base: Some(base), ..Self::default() }
    }

    /// To be built in a file, beside which the vectors wait.
    pub(crate) fn in_file(target: PathBuf, metric: Metric, dims: usize) -> Result<Self, Error> {
        let folder = Folder::within(parent(&target));
        let folder = folder.map_err(|source| Error::File { path: target.clone(), source })?;
        let base = Some(Arc::new(Ours::create(Arc::new(folder), metric, dims)?));
        Ok(Self { target: Some(target), base, ..Self::default() })
    }

    /// Adds a vector, or puts it in the place of an earlier one.
    pub(crate) fn add(&mut self, id: u32, vector: &[f32]) -> Result<(), Error> {
        let known = self.places.get(&id).copied().flatten();
        let kept = known.and_then(|at| self.vectors.get_mut(at..at.checked_add(vector.len())?));
        if let Some(kept) = kept {
            kept.copy_from_slice(vector);
        } else {
            self.places.insert(id, Some(self.vectors.len()));
            self.vectors.extend_from_slice(vector);
        }
        self.items = self.items.max(u64::from(id) + 1);
        if self.target.is_some() && self.vectors.len() * size_of::<f32>() >= FLUSH {
            self.flush(vector.len())?;
        }
        Ok(())
    }

    /// Whether the item was there.
    pub(crate) fn delete(&mut self, id: u32) -> Result<bool, Error> {
        let was_there = self.contains(id)?;
        self.places.insert(id, None);
        Ok(was_there)
    }

    fn contains(&self, id: u32) -> Result<bool, Error> {
        match (self.places.get(&id), &self.base) {
            (Some(place), _) => Ok(place.is_some()),
            (None, Some(base)) => Ok(base.vector(id)?.is_some()),
            (None, None) => Ok(false),
        }
    }

    pub(crate) fn vector(&self, id: u32, dims: usize) -> Result<Option<Vec<f32>>, Error> {
        match (self.places.get(&id), &self.base) {
            (Some(place), _) => Ok(place.and_then(|at| self.row(at, dims)).map(<[f32]>::to_vec)),
            (None, Some(base)) => base.vector(id),
            (None, None) => Ok(None),
        }
    }

    /// The ids of all items, ascending.
    pub(crate) fn ids(&self) -> Result<Vec<u32>, Error> {
        let mut ids = match &self.base {
            Some(base) => base.ids()?,
            None => Default::default(),
        };
        for (&id, place) in &self.places {
            if place.is_some() {
                ids.insert(id);
            } else {
                ids.remove(id);
            }
        }
        Ok(ids.into_iter().collect())
    }

    fn row(&self, at: usize, dims: usize) -> Option<&[f32]> {
        self.vectors.get(at..at.checked_add(dims)?)
    }

    fn flush(&mut self, dims: usize) -> Result<(), Error> {
        let Some(base) = &self.base else { return Ok(()) };
        let metric = base.metric;
        let (changed, ()) =
            base.change(|txn, index, facts| self.write(txn, index, facts, metric, dims))?;
        self.base = Some(Arc::new(changed));
        self.places.clear();
        self.vectors.clear();
        Ok(())
    }

    /// Writes all that has changed.
    fn write(
        &self,
        txn: &mut WriteTxn<'_>,
        index: &Index,
        facts: &mut Facts,
        metric: Metric,
        dims: usize,
    ) -> Result<(), Error> {
        let mut places: Vec<(u32, Option<usize>)> =
            self.places.iter().map(|(&id, &place)| (id, place)).collect();
        places.sort_unstable();
        let (mut ids, mut rows) = (Vec::new(), Vec::new());
        for (id, place) in places {
            let row = place.and_then(|at| self.row(at, dims));
            match row {
                Some(row) if metric == Metric::Angular && is_zero(row) => {
                    index.del_item(txn, id)?;
                    facts.zeros.insert(id);
                }
                Some(row) => {
                    facts.zeros.remove(id);
                    ids.push(id);
                    rows.extend_from_slice(row);
                }
                None => {
                    index.del_item(txn, id)?;
                    facts.zeros.remove(id);
                }
            }
            if rows.len() * size_of::<f32>() >= CHUNK {
                index.add_items(txn, &ids, &rows)?;
                ids.clear();
                rows.clear();
            }
        }
        index.add_items(txn, &ids, &rows)?;
        facts.items = facts.items.max(self.items);
        Ok(())
    }

    /// Builds. `self` is as it was, so that an error loses nothing.
    pub(crate) fn build(
        &self,
        wanted: &Build,
        progress: ProgressCallback<'_>,
    ) -> Result<(Ours, BuildStats), Error> {
        let base = match &self.base {
            None => {
                let folder = Folder::temporary().map_err(spinney::heed::Error::Io)?;
                Arc::new(Ours::create(Arc::new(folder), wanted.metric, wanted.dims)?)
            }
            Some(base) if base.is_sealed => Arc::new(base.to_edit()?),
            Some(base) => Arc::clone(base),
        };
        base.change(|txn, index, facts| {
            self.write(txn, index, facts, wanted.metric, wanted.dims)?;
            facts.trees = wanted.trees;
            build(wanted, progress, |options| index.build(txn, options))
        })
    }
}

/// Builds with the options that were asked for.
pub(crate) fn build(
    wanted: &Build,
    progress: ProgressCallback<'_>,
    build: impl FnOnce(&BuildOptions<'_>) -> Result<BuildStats, Error>,
) -> Result<BuildStats, Error> {
    let options = BuildOptions::default().thread_pool(&wanted.pool).progress(progress);
    match wanted.seed {
        Some(seed) => build(&options.seed(seed)),
        None => build(&options),
    }
}
