//! Numbered tasks, shared among workers on the threads of the current rayon pool.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rayon::prelude::*;

use crate::error::Result;

/// What became of some of the tasks, by their numbers.
pub(crate) type Done<R> = Vec<(usize, Result<R>)>;

/// Tasks that are handed out in the order of their numbers, to whoever asks.
pub(crate) struct Tasks {
    next: AtomicUsize,
    stop: AtomicBool,
    count: usize,
}

impl Tasks {
    /// Does tasks until none is left or any worker's has failed. Tasks that were handed out are
    /// finished in any case. So the first task that fails is always among them.
    pub(crate) fn work_off<R>(&self, mut work: impl FnMut(usize) -> Result<R>) -> Done<R> {
        let mut done = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let task = self.next.fetch_add(1, Ordering::Relaxed);
            if task >= self.count {
                break;
            }
            let result = work(task);
            if result.is_err() {
                self.stop.store(true, Ordering::Relaxed);
            }
            done.push((task, result));
        }
        done
    }
}

/// Shares the tasks `0..count` among the workers. Returns the results in order, or the error of the
/// first task that failed.
///
/// Which worker gets which tasks depends on the threads; the results do not.
pub(crate) fn share<W: Send, R: Send>(
    workers: &mut [W],
    count: usize,
    work: impl Fn(&mut W, &Tasks) -> Done<R> + Sync,
) -> Result<Vec<R>> {
    let tasks = Tasks { next: AtomicUsize::new(0), stop: AtomicBool::new(false), count };
    let mut done = match workers {
        // A single task is not worth waking another thread.
        [worker] => work(worker, &tasks),
        [worker, ..] if count <= 1 => work(worker, &tasks),
        workers => workers.par_iter_mut().flat_map_iter(|worker| work(worker, &tasks)).collect(),
    };
    done.sort_unstable_by_key(|(task, _)| *task);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn results_come_in_order_and_the_first_error_wins() {
        for threads in [1, 2, 8] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let run = |count: usize, fails: &(dyn Fn(usize) -> bool + Sync)| {
                let work = |task| {
                    if fails(task) { Err(Error::option("task", "", task)) } else { Ok(task) }
                };
                pool.install(|| {
                    share(&mut vec![(); threads], count, |(), tasks| tasks.work_off(work))
                })
            };
            for count in [0, 1, 2, 1000] {
                assert_eq!(run(count, &|_| false).unwrap(), (0..count).collect::<Vec<_>>());
            }
            for _ in 0..100 {
                let failed = run(1000, &|task| task >= 123);
                assert!(matches!(failed, Err(Error::InvalidOption { got, .. }) if got == "123"));
            }
        }
    }
}
