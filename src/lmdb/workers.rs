//! Work over the snapshot of an open write transaction, by all threads of the current rayon pool.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, TryLockError};

use heed::{RoTxn, RwTxn, WithoutTls};

use crate::error::{Error, Result};
use crate::lmdb::tasks;
use crate::progress::{BuildPhase, Progress, ProgressCallback};

/// Read transactions nested in a write transaction, one for each worker: LMDB lets none be used by
/// two at once. They take no reader slots, and nothing can be written while they live.
pub(crate) struct Workers<'t> {
    own: RoTxn<'t, WithoutTls>,
    txns: Vec<RoTxn<'t, WithoutTls>>,
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
    pub(crate) fn new(wtxn: &'t RwTxn<'_>, progress: Option<ProgressCallback<'t>>) -> Result<Self> {
        let txns = (0..rayon::current_num_threads())
            .map(|_| wtxn.nested_read_txn())
            .collect::<heed::Result<_>>()?;
        Ok(Self { own: wtxn.nested_read_txn()?, txns, reports: Reports::new(progress) })
    }

    /// A transaction for the calling thread.
    pub(crate) fn own(&self) -> &RoTxn<'t, WithoutTls> {
        &self.own
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
            let results = run(&mut self.txns, inputs.len(), |txn, task| {
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
        run(&mut self.txns, tasks, work)
    }
}

fn run<R: Send>(
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
