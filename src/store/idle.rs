//! What a store keeps between calls, and when it lets go.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::error::Result;
use crate::store::handle::Inner;
use crate::store::snapshot::Lanes;

/// The transactions of the last snapshot, with what their readers remember.
#[derive(Default)]
pub(crate) struct Kept {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    lanes: Option<Arc<Lanes>>,
    /// Whether a thread watches over them.
    is_watched: bool,
}

/// After so long without a search, pages of an older commit are let go.
const IDLE: Duration = Duration::from_secs(1);
/// After so long without a search, everything is.
const LONG_IDLE: Duration = Duration::from_secs(60);

impl Kept {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The transactions of the newest commit: those that are kept, if they are.
    pub(crate) fn newest(&self, store: &Arc<Inner>) -> Result<Arc<Lanes>> {
        let newest = store.environment.last_commit();
        {
            let mut state = self.lock();
            if let Some(lanes) = state.lanes.as_ref().filter(|lanes| lanes.commit() == newest) {
                return Ok(lanes.clone());
            }
            // The old ones end before the new ones begin: reader slots may be few.
            state.lanes = None;
        }
        // Beginning a transaction may wait for who clears what is kept.
        let lanes = Arc::new(Lanes::open(store)?);
        let mut state = self.lock();
        match &state.lanes {
            Some(others) if others.commit() >= lanes.commit() => return Ok(others.clone()),
            _ => state.lanes = Some(lanes.clone()),
        }
        if !state.is_watched {
            let watched = Arc::downgrade(store);
            let thread = std::thread::Builder::new().name("spinney-idle".to_owned());
            // Without a thread, what is kept is let go at the next call.
            state.is_watched = thread.spawn(move || watch(&watched)).is_ok();
        }
        Ok(lanes)
    }

    /// Lets go of what nobody uses.
    pub(crate) fn clear(&self) {
        self.lock().lanes = None;
    }

    /// Lets go of what has been idle for too long. Whether anything is still kept.
    fn tidy(&self, newest: usize) -> bool {
        let mut state = self.lock();
        let is_stale = |lanes: &Arc<Lanes>| {
            let limit = if lanes.commit() == newest { LONG_IDLE } else { IDLE };
            Arc::strong_count(lanes) == 1 && lanes.idle() >= limit
        };
        if state.lanes.as_ref().is_some_and(is_stale) {
            state.lanes = None;
        }
        state.is_watched = state.lanes.is_some();
        state.is_watched
    }
}

fn watch(store: &Weak<Inner>) {
    loop {
        std::thread::sleep(IDLE / 2);
        let Some(store) = store.upgrade() else { return };
        if !store.environment.kept.tidy(store.environment.last_commit()) {
            return;
        }
    }
}
