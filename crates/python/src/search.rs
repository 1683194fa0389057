//! Searches in one reader, or shared among threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use spinney::rayon::ThreadPool;
use spinney::{Error, Example, Hits, Index, Reader, SearchStats, StoreSnapshot};

use crate::arrays::{self, Rows};
use crate::core::Core;
use crate::errors::raised;
use crate::how::How;

/// What to search for.
pub(crate) enum Wanted {
    Vectors(Rows),
    /// Items, which are left out themselves; and whether it is one.
    Items(Vec<u32>, bool),
    Any(Vec<Given>),
    Like {
        positive: Vec<Given>,
        negative: Vec<Given>,
    },
}

/// An example.
pub(crate) enum Given {
    Item(u32),
    Vector(Vec<f32>),
}

/// The hits of one or several searches.
pub(crate) struct Found {
    /// Of each search; none for what is no item.
    pub(crate) hits: Vec<Option<Hits>>,
    pub(crate) is_one: bool,
    /// How many columns an array of them has.
    pub(crate) width: usize,
    /// Whether a search was stopped before it was done.
    pub(crate) is_partial: bool,
    pub(crate) stats: SearchStats,
}

/// How often signals are looked after.
const PAUSE: Duration = Duration::from_millis(50);

impl Given {
    /// Ids and vectors, or one of them.
    pub(crate) fn list(values: &Bound<'_, PyAny>, dims: usize) -> PyResult<Vec<Self>> {
        if arrays::is_id(values) {
            return Ok(vec![Self::Item(arrays::id(values)?)]);
        }
        let mut given = Vec::new();
        for value in values.try_iter()? {
            let value = value?;
            given.push(if arrays::is_id(&value) {
                Self::Item(arrays::id(&value)?)
            } else {
                Self::Vector(Rows::of(&value, dims, false)?.data)
            });
        }
        Ok(given)
    }

    fn example(&self) -> Example<'_> {
        match self {
            Self::Item(id) => Example::Item(*id),
            Self::Vector(vector) => Example::Vector(vector),
        }
    }
}

impl Wanted {
    fn count(&self) -> usize {
        match self {
            Self::Vectors(rows) => rows.count,
            Self::Items(ids, _) => ids.len(),
            Self::Any(_) | Self::Like { .. } => 1,
        }
    }

    fn is_one(&self) -> bool {
        match self {
            Self::Vectors(rows) => rows.is_one,
            Self::Items(_, is_one) => *is_one,
            Self::Any(_) | Self::Like { .. } => true,
        }
    }
}

fn examples(given: &[Given]) -> Vec<Example<'_>> {
    given.iter().map(Given::example).collect()
}

/// A search: what for, how many hits, and how.
pub(crate) struct Question {
    pub(crate) wanted: Wanted,
    pub(crate) k: usize,
    pub(crate) how: How,
}

impl Question {
    /// The answer to one of the searches.
    fn answer(
        &self,
        reader: &Reader<'_>,
        row: usize,
        stop: Option<&AtomicBool>,
    ) -> Result<(Option<Hits>, SearchStats), Error> {
        let mut stats = SearchStats::default();
        // Of what has not begun there are no hits.
        if row > 0 && self.how.is_stopped(stop) {
            return Ok((None, stats));
        }
        let nns = self.how.for_items(reader.nns(self.k), stop);
        let nns = if self.how.is_reported { nns.report(&mut stats) } else { nns };
        let hits = match &self.wanted {
            Wanted::Vectors(rows) => match rows.iter().nth(row) {
                Some(vector) => Some(nns.by_vector(vector).map_err(|error| at_row(error, row))?),
                None => None,
            },
            Wanted::Items(ids, _) => match ids.get(row) {
                Some(id) => nns.by_item(*id)?,
                None => None,
            },
            Wanted::Any(given) => Some(nns.by_any(&examples(given))?),
            Wanted::Like { positive, negative } => {
                Some(nns.by_examples(&examples(positive), &examples(negative))?)
            }
        };
        Ok((hits, stats))
    }

    fn found(&self, reader_len: u64, answers: Vec<(Option<Hits>, SearchStats)>) -> Found {
        let width = self.k.min(usize::try_from(reader_len).unwrap_or(usize::MAX));
        let mut all = SearchStats::default();
        for (_, stats) in &answers {
            all.add(stats);
        }
        let hits: Vec<_> = answers.into_iter().map(|(hits, _)| hits).collect();
        let is_partial = self.how.is_stopped(None) || hits.iter().flatten().any(Hits::is_partial);
        Found { hits, is_one: self.wanted.is_one(), width, is_partial, stats: all }
    }

    /// One search after the other, until `stop` is set.
    pub(crate) fn ask(&self, reader: &Reader<'_>, stop: &AtomicBool) -> Result<Found, Error> {
        let count = self.wanted.count();
        let flag = (count > 1).then_some(stop);
        let mut answers = Vec::with_capacity(count);
        let mut looked = Instant::now();
        for row in 0..count {
            if looked.elapsed() > PAUSE {
                let look = Python::attach(|py| py.check_signals());
                look.map_err(|error| Error::Callback(Box::new(error)))?;
                looked = Instant::now();
            }
            answers.push(self.answer(reader, row, flag)?);
        }
        Ok(self.found(reader.len(), answers))
    }

    /// Searches in a snapshot, by several threads if there is more than one search.
    pub(crate) fn ask_snapshot(
        &self,
        py: Python<'_>,
        core: &Core,
        snapshot: &StoreSnapshot,
        index: &Index,
    ) -> PyResult<Found> {
        let (count, stop) = (self.wanted.count(), AtomicBool::new(false));
        let threads = self.how.threads.unwrap_or(core.threads);
        if count < 2 || threads < 2 {
            let asked = py.detach(|| snapshot.with_reader(index, |reader| self.ask(reader, &stop)));
            return asked.map_err(|error| raised(py, error));
        }
        let pool = core.pool(py, threads)?;
        in_pool(py, &pool, &stop, || {
            let len = snapshot.with_reader(index, |reader| Ok::<_, Error>(reader.len()))?;
            let answers =
                snapshot.each(index, count, |reader, row| self.answer(reader, row, Some(&stop)))?;
            Ok(self.found(len, answers))
        })
    }
}

/// Works in the pool, while the caller looks after signals.
pub(crate) fn in_pool<R: Send>(
    py: Python<'_>,
    pool: &ThreadPool,
    stop: &AtomicBool,
    work: impl FnOnce() -> Result<R, Error> + Send,
) -> PyResult<R> {
    let (sender, receiver) = channel();
    let (answer, interrupt) = py.detach(move || {
        pool.in_place_scope(|scope| {
            // Who waits hears of it, or the scope tells of the panic.
            scope.spawn(move |_| drop(sender.send(work())));
            let mut interrupt = None;
            loop {
                match receiver.recv_timeout(PAUSE) {
                    Err(RecvTimeoutError::Timeout) => {}
                    answer => break (answer.ok(), interrupt),
                }
                if let Err(error) = Python::attach(|py| py.check_signals()) {
                    stop.store(true, Ordering::Relaxed);
                    interrupt = interrupt.or(Some(error));
                }
            }
        })
    });
    if let Some(error) = interrupt {
        return Err(error);
    }
    let ended = || pyo3::exceptions::PyRuntimeError::new_err("the threads of the batch have ended");
    answer.ok_or_else(ended)?.map_err(|error| raised(py, error))
}

/// Says which row of several.
fn at_row(error: Error, row: usize) -> Error {
    match error {
        Error::NonFinite { .. }
        | Error::ZeroVector
        | Error::NormOverflow { .. }
        | Error::NotABit { .. }
            if row > 0 =>
        {
            Error::Row { row, id: u32::try_from(row).unwrap_or(u32::MAX), source: Box::new(error) }
        }
        error => error,
    }
}
