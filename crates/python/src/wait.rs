//! Long work on another thread, while the caller looks after signals and progress.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBool;
use spinney::{Error, Progress};

use crate::errors::raised;

/// How often signals are looked after.
const PAUSE: Duration = Duration::from_millis(50);

enum Event<R> {
    Progress(Progress),
    Done(R),
}

/// What the work has of its caller.
pub(crate) struct Ticker<R> {
    events: Sender<Event<R>>,
    stop: Arc<AtomicBool>,
}

/// Where the caller waits.
pub(crate) struct Waiter<R> {
    events: Receiver<Event<R>>,
    pub(crate) stop: Arc<AtomicBool>,
}

pub(crate) fn pair<R>() -> (Ticker<R>, Waiter<R>) {
    let ((sender, receiver), stop) = (channel(), Arc::new(AtomicBool::new(false)));
    (Ticker { events: sender, stop: Arc::clone(&stop) }, Waiter { events: receiver, stop })
}

impl<R> Ticker<R> {
    /// For [`BuildOptions::progress`](spinney::BuildOptions::progress).
    pub(crate) fn report(&self, progress: &Progress) -> ControlFlow<()> {
        // Nobody may wait any more: `stop` tells.
        let _ = self.events.send(Event::Progress(*progress));
        if self.stop.load(Ordering::Relaxed) {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// Set when the caller wants the work to end.
    pub(crate) fn stop(&self) -> &AtomicBool {
        &self.stop
    }

    pub(crate) fn done(&self, result: R) {
        // As above.
        let _ = self.events.send(Event::Done(result));
    }
}

impl<R: Send> Waiter<R> {
    /// Waits for the result. A signal, `False` or an exception of `progress` asks the work to stop;
    /// an exception goes on when it has.
    pub(crate) fn wait(
        &mut self,
        py: Python<'_>,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<R> {
        let mut raised = None;
        loop {
            let events = &mut self.events;
            let event = py.detach(move || events.recv_timeout(PAUSE));
            let asked = match event {
                Ok(Event::Done(result)) => return raised.map_or(Ok(result), Err),
                Ok(Event::Progress(at)) => match progress {
                    Some(call) if raised.is_none() => told(call, &at),
                    _ => Ok(true),
                },
                Err(RecvTimeoutError::Timeout) => Ok(true),
                Err(RecvTimeoutError::Disconnected) => {
                    let ended = PyRuntimeError::new_err("the thread that did the work has ended");
                    return Err(raised.unwrap_or(ended));
                }
            };
            let error = match asked.and_then(|goes_on| py.check_signals().map(|()| goes_on)) {
                Ok(true) => continue,
                Ok(false) => None,
                Err(error) => Some(error),
            };
            self.stop.store(true, Ordering::Relaxed);
            raised = raised.or(error);
        }
    }
}

/// Does the work on a thread of its own, and waits for it.
pub(crate) fn on_thread<T: Send + 'static>(
    py: Python<'_>,
    progress: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(&Ticker<Result<T, Error>>) -> Result<T, Error> + Send + 'static,
) -> PyResult<T> {
    let (ticker, mut waiter) = pair();
    std::thread::Builder::new().name("spinney".into()).spawn(move || {
        let result = work(&ticker);
        ticker.done(result);
    })?;
    waiter.wait(py, progress)?.map_err(|error| raised(py, error))
}

/// Whether the function wants the work to go on.
fn told(call: &Bound<'_, PyAny>, at: &Progress) -> PyResult<bool> {
    let answer = call.call1((at.phase.to_string(), at.done, at.total))?;
    Ok(!answer.is(PyBool::new(call.py(), false)))
}
