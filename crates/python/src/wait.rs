//! Long work on another thread, while the caller looks after signals and progress.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBool;
use spinney::rayon::ThreadPoolBuilder;
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
    answers: Mutex<Receiver<()>>,
    stop: Arc<AtomicBool>,
}

/// Where the caller waits.
pub(crate) struct Waiter<R> {
    events: Receiver<Event<R>>,
    answers: Sender<()>,
    stop: Arc<AtomicBool>,
}

pub(crate) fn pair<R>() -> (Ticker<R>, Waiter<R>) {
    let ((sender, events), (answers, receiver)) = (channel(), channel());
    let stop = Arc::new(AtomicBool::new(false));
    let ticker = Ticker { events: sender, answers: Mutex::new(receiver), stop: Arc::clone(&stop) };
    (ticker, Waiter { events, answers, stop })
}

impl<R> Ticker<R> {
    /// For [`BuildOptions::progress`](spinney::BuildOptions::progress). Waits for the caller, who
    /// may end the work: else it could be committed before the caller has said so.
    pub(crate) fn report(&self, progress: &Progress) -> ControlFlow<()> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody may wait any more: `stop` tells.
        if self.events.send(Event::Progress(*progress)).is_ok() {
            let _ = answers.recv();
        }
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
    /// Waits until the work is done or given up. Its result is lost.
    pub(crate) fn wait_for_end(self) {
        drop(self.answers);
        while let Ok(Event::Progress(_)) = self.events.recv() {}
    }

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
            let is_progress = matches!(event, Ok(Event::Progress(_)));
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
            let asked = asked.and_then(|goes_on| py.check_signals().map(|()| goes_on));
            if !matches!(asked, Ok(true)) {
                self.stop.store(true, Ordering::Relaxed);
                raised = raised.or(asked.err());
            }
            if is_progress {
                // The work waits for it.
                let _ = self.answers.send(());
            }
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
        let result = beside_global_pool(|| work(&ticker));
        ticker.done(result.unwrap_or_else(Err));
    })?;
    waiter.wait(py, progress)?.map_err(|error| raised(py, error))
}

/// The process that imported the module.
static IMPORTED_BY: OnceLock<u32> = OnceLock::new();

/// Tells that this process imports the module.
pub(crate) fn imported() {
    IMPORTED_BY.get_or_init(std::process::id);
}

/// Writes. In a forked child the threads of rayon's global pool are gone, and work would wait for
/// them for ever: there it has threads of its own.
pub(crate) fn beside_global_pool<R: Send>(work: impl FnOnce() -> R + Send) -> Result<R, Error> {
    if IMPORTED_BY.get() == Some(&std::process::id()) {
        return Ok(work());
    }
    let pool = ThreadPoolBuilder::new().build();
    pool.map(|pool| pool.install(work)).map_err(|error| Error::Callback(Box::new(error)))
}

/// Whether the function wants the work to go on.
fn told(call: &Bound<'_, PyAny>, at: &Progress) -> PyResult<bool> {
    let answer = call.call1((at.phase.to_string(), at.done, at.total))?;
    Ok(!answer.is(PyBool::new(call.py(), false)))
}
