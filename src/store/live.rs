//! The transactions of this process that are open in an environment.
//!
//! LMDB lets the map move only while there are none, and leaves it to its user to know. So each is
//! counted here from before it begins until after it has ended.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// Counts open transactions, and keeps new ones out while the map moves.
#[derive(Debug, Default)]
pub(crate) struct Live {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// When each began, and the commit it reads; no commit for those that read none.
    open: BTreeMap<u64, (Instant, Option<usize>)>,
    is_moving: bool,
}

/// An open transaction, counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    live: Arc<Live>,
    number: u64,
}

/// The oldest of the open transactions that read a commit.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Oldest {
    pub(crate) age: Duration,
    pub(crate) commit: usize,
}

/// When so much time will have passed, which may be without end.
pub(crate) fn after(time: Duration) -> Instant {
    const LONG: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    Instant::now() + time.min(LONG)
}

/// How often transactions that are kept for later are ended while the map has to move.
pub(crate) const PAUSE: Duration = Duration::from_millis(5);

impl Live {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is one statement, so that a panic leaves nothing half-done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a transaction that is about to begin. Waits while the map moves.
    pub(crate) fn enter(self: &Arc<Self>) -> Counted {
        let mut state = self.lock();
        while state.is_moving {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        self.count(&mut state)
    }

    /// As [`enter`](Self::enter), for who has a transaction already. `None` while the map moves: it
    /// waits for that one, which must not wait for the map.
    pub(crate) fn enter_again(self: &Arc<Self>) -> Option<Counted> {
        let mut state = self.lock();
        (!state.is_moving).then(|| self.count(&mut state))
    }

    fn count(self: &Arc<Self>, state: &mut State) -> Counted {
        let number = state.next;
        state.next += 1;
        state.open.insert(number, (Instant::now(), None));
        Counted { live: self.clone(), number }
    }

    /// Looks at the map, which is not moved meanwhile.
    pub(crate) fn still<R>(&self, look: impl FnOnce() -> R) -> R {
        let mut state = self.lock();
        while state.is_moving {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        look()
    }

    /// Runs `work` while no transaction is open. `let_go` ends those that are kept for later;
    /// others are waited for, up to `patience`. Those may be kept for later, too, when they have
    /// served: so it is called again and again.
    pub(crate) fn alone<R>(
        &self,
        patience: Duration,
        let_go: impl Fn(),
        work: impl FnOnce() -> Result<R>,
    ) -> Result<R> {
        let end = after(patience);
        let mut state = self.lock();
        while state.is_moving {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_moving = true;
        let _moving = Moving(self);
        drop(state);
        loop {
            let_go();
            state = self.lock();
            if state.open.is_empty() {
                break;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let transactions = state.open.len();
                drop(state);
                return Err(Error::MapInUse { transactions });
            }
            drop(self.changed.wait_timeout(state, left.min(PAUSE)));
        }
        drop(state);
        work()
    }

    pub(crate) fn oldest(&self) -> Option<Oldest> {
        let state = self.lock();
        state
            .open
            .values()
            .find_map(|(since, commit)| Some(Oldest { age: since.elapsed(), commit: (*commit)? }))
    }
}

/// Lets transactions begin again, also after a panic.
struct Moving<'a>(&'a Live);

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        self.0.lock().is_moving = false;
        self.0.changed.notify_all();
    }
}

impl Counted {
    /// Notes which commit the transaction reads.
    pub(crate) fn reads(&self, commit: usize) {
        if let Some((_, reads)) = self.live.lock().open.get_mut(&self.number) {
            *reads = Some(commit);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.live.lock().open.remove(&self.number);
        self.live.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_moves_alone_or_not_at_all() {
        let live = Arc::new(Live::default());
        let one = live.enter();
        one.reads(7);
        assert_eq!(live.oldest().map(|oldest| oldest.commit), Some(7));
        let refused = live.alone(Duration::from_millis(5), || {}, || Ok(()));
        assert!(matches!(refused, Err(Error::MapInUse { transactions: 1 })));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| live.alone(Duration::from_secs(60), || {}, || Ok(3)));
            drop(one);
            assert_eq!(waiting.join().unwrap().unwrap(), 3);
        });
        assert!(live.oldest().is_none());
        drop(live.enter());
        let again = live.alone(Duration::ZERO, || {}, || Ok(live.enter_again().is_some()));
        assert!(!again.unwrap() && live.enter_again().is_some());
    }
}
