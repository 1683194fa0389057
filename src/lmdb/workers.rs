//! Work over one snapshot, by all threads of the current rayon pool: that of an open write
//! transaction, or one that is committed.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, TryLockError};

use heed::{Env, RoTxn, RwTxn, WithoutTls};

use crate::error::{Error, Result};
use crate::lmdb::tasks;
use crate::progress::{BuildPhase, Progress, ProgressCallback};

/// Read transactions of one snapshot, one for each worker: LMDB lets none be used by two at once.
pub(crate) struct Workers<'t> {
    /// For the calling thread.
    pub(crate) own: RoTxn<'t, WithoutTls>,
    pub(crate) txns: Vec<RoTxn<'t, WithoutTls>>,
    pub(crate) reports: Reports<'t>,
}

/// Tasks of which no more than `at_once` are in memory, with their results.
#[derive(Copy, Clone)]
pub(crate) struct Batches {
    pub(crate) phase: BuildPhase,
    pub(crate) tasks: usize,
    pub(crate) at_once: usize,
}

impl<'t> Workers<'t> {
    /// With transactions nested in a write transaction. They take no reader slots, and nothing can
    /// be written while they live.
    pub(crate) fn new(wtxn: &'t RwTxn<'_>, progress: Option<ProgressCallback<'t>>) -> Result<Self> {
        let txns = (0..rayon::current_num_threads())
            .map(|_| wtxn.nested_read_txn())
            .collect::<heed::Result<_>>()?;
        Ok(Self { own: wtxn.nested_read_txn()?, txns, reports: Reports::new(progress) })
    }

    /// With transactions of the newest snapshot, for so many threads. Each takes a reader slot.
    pub(crate) fn of_snapshot(
        env: &'t Env<WithoutTls>,
        threads: usize,
        progress: Option<ProgressCallback<'t>>,
    ) -> Result<Self> {
        let (own, txns) = open_all(threads + 1, || Ok(env.read_txn()?))?;
        Ok(Self { own, txns, reports: Reports::new(progress) })
    }

    /// Reports progress of work that is not done by [`Workers::map`]; from any thread.
    pub(crate) fn poll(&self, phase: BuildPhase, done: u64, total: u64) -> Result<()> {
        self.reports.make(phase, done, total)
    }

    /// Runs `work` for each of `0..tasks` and returns the results in order. Reports progress after
    /// each task, and when all are done. A task that ends during another report is not reported.
    ///
    /// The order in which tasks run depends on the threads; the results do not.
    pub(crate) fn map<R: Send>(
        &mut self,
        phase: BuildPhase,
        tasks: usize,
        work: impl Fn(&RoTxn<'_>, usize) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        let mut results = Vec::with_capacity(tasks);
        let keep = |result| {
            results.push(result);
            Ok(())
        };
        self.stream(
            Batches { phase, tasks, at_once: tasks },
            Ok,
            |rtxn, task| work(rtxn, *task),
            keep,
        )?;
        Ok(results)
    }

    /// As [`Workers::map`] for tasks that are not all in memory at once. `input` makes
    /// each from its number, and `take` gets each result. Both are called in order, by the calling
    /// thread.
    pub(crate) fn stream<I: Sync, R: Send>(
        &mut self,
        Batches { phase, tasks, at_once }: Batches,
        mut input: impl FnMut(usize) -> Result<I>,
        work: impl Fn(&RoTxn<'_>, &I) -> Result<R> + Sync,
        mut take: impl FnMut(R) -> Result<()>,
    ) -> Result<()> {
        let (done, total) = (AtomicU64::new(0), tasks as u64);
        let reports = &self.reports;
        reports.begin(phase);
        let poll = || reports.make(phase, done.fetch_add(1, Ordering::SeqCst) + 1, total);
        for first in (0..tasks).step_by(at_once.max(1)) {
            let inputs = (first..tasks.min(first.saturating_add(at_once.max(1))))
                .map(&mut input)
                .collect::<Result<Vec<I>>>()?;
            let results = share(&mut self.txns, inputs.len(), |txn, task| {
                work(txn, &inputs[task]).and_then(|result| poll().map(|()| result))
            })?;
            results.into_iter().try_for_each(&mut take)?;
        }
        // The last task may have ended while another report was being made.
        if tasks > 0 {
            self.poll(phase, total, total)?;
        }
        Ok(())
    }

    /// As [`Workers::map`] without reports, for work that is a small part of a phase.
    pub(crate) fn share<R: Send>(
        &mut self,
        tasks: usize,
        work: impl Fn(&RoTxn<'_>, usize) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        share(&mut self.txns, tasks, work)
    }
}

/// Opens `count` transactions of one snapshot: one, and the others.
///
/// If a newer snapshot appears, all earlier transactions are dropped: LMDB opens no older ones.
pub(crate) fn open_all<'e>(
    count: usize,
    mut open: impl FnMut() -> Result<RoTxn<'e, WithoutTls>>,
) -> Result<(RoTxn<'e, WithoutTls>, Vec<RoTxn<'e, WithoutTls>>)> {
    let (mut newest, mut others) = (open()?, Vec::with_capacity(count));
    while others.len() + 1 < count {
        let txn = open()?;
        if txn.id() == newest.id() {
            others.push(txn);
        } else {
            others.clear();
            newest = txn;
        }
    }
    Ok((newest, others))
}

/// Runs `work` for each of `0..count`, shared among the transactions. Returns the results in order.
pub(crate) fn share<R: Send>(
    txns: &mut [RoTxn<'_, WithoutTls>],
    count: usize,
    work: impl Fn(&RoTxn<'_>, usize) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    tasks::share(txns, count, |txn, tasks| tasks.work_off(|task| work(txn, task)))
}

/// Reports to the user, one at a time, and none after the one that ended the build.
pub(crate) struct Reports<'a> {
    progress: Option<ProgressCallback<'a>>,
    /// Held while the callback runs; poisoned by a callback that panics.
    made: Mutex<Made>,
}

/// What was reported, and whether the callback cancelled.
#[derive(Default)]
struct Made {
    last: Option<(BuildPhase, u64)>,
    cancelled: bool,
}

impl<'a> Reports<'a> {
    fn new(progress: Option<ProgressCallback<'a>>) -> Self {
        Self { progress, made: Mutex::default() }
    }

    /// A phase that comes again, in the next tree, starts from nothing.
    fn begin(&self, phase: BuildPhase) {
        if let Ok(mut made) = self.made.try_lock()
            && matches!(made.last, Some((last, _)) if last == phase)
        {
            made.last = None;
        }
    }

    /// Calls the callback, unless a later step was reported or another report is being made.
    ///
    /// Waiting for the other report could wait for ever: this thread may be within it, if the
    /// callback uses the same rayon pool. Once the callback has cancelled or panicked, every
    /// later report fails.
    pub(crate) fn make(&self, phase: BuildPhase, done: u64, total: u64) -> Result<()> {
        let Some(callback) = self.progress else { return Ok(()) };
        let mut made = match self.made.try_lock() {
            Ok(made) => made,
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Poisoned(_)) => return Err(Error::Cancelled),
        };
        if made.cancelled {
            return Err(Error::Cancelled);
        }
        if matches!(made.last, Some((last, before)) if last == phase && before >= done) {
            return Ok(());
        }
        made.last = Some((phase, done));
        match callback(&Progress { phase, done, total }) {
            ControlFlow::Break(()) => {
                made.cancelled = true;
                Err(Error::Cancelled)
            }
            ControlFlow::Continue(()) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lmdb::database::{Database, temporary};
    use crate::{IndexOptions, Metric, Writer};

    #[test]
    fn commits_in_between_make_all_open_again() {
        let (_folder, env) = temporary(4);
        let db = Database::open_or_create(&env).unwrap();
        let mut wtxn = env.write_txn().unwrap();
        let options = IndexOptions::new(1, Metric::Euclidean);
        let writer = Writer::open_or_create(&mut wtxn, db, 0, &options).unwrap();
        wtxn.commit().unwrap();
        for commits_before in [&[][..], &[1], &[3], &[1, 2, 3], &[3, 6, 7, 8]] {
            let mut opened = 0;
            let mut last = 0;
            let open = || {
                if commits_before.contains(&opened) {
                    let mut wtxn = env.write_txn().unwrap();
                    writer.add_item(&mut wtxn, 0, &[opened as f32]).unwrap();
                    wtxn.commit().unwrap();
                }
                opened += 1;
                let txn = env.read_txn()?;
                last = txn.id();
                Ok(txn)
            };
            // There are no more reader slots than that, so that none is lost.
            let (newest, others) = open_all(4, open).unwrap();
            assert_eq!(others.len(), 3);
            assert!(others.iter().chain([&newest]).all(|txn| txn.id() == last));
            let after_the_last = commits_before.last().copied().unwrap_or(0);
            assert_eq!(opened, after_the_last + 4);
        }
        assert!(matches!(open_all(5, || Ok(env.read_txn()?)), Err(crate::Error::ReadersFull)));
    }
}
