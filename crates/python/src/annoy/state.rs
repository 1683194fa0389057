//! What an `AnnoyIndex` is at a time, and how it becomes something else.
//!
//! The lock is held for moments alone, and by threads that have the interpreter: a process that
//! forks never leaves it locked to its child. Who takes long takes the state out meanwhile.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::exceptions::{PyException, PyOSError};
use pyo3::prelude::*;
use spinney::{Error, heed};

use crate::annoy::args::{refused, unable};
use crate::annoy::file::AnnoyFile;
use crate::annoy::filling::Filling;
use crate::annoy::folder::{Folder, parent, unused};
use crate::annoy::metric::Metric;
use crate::annoy::ours::{Ours, file_error};
use crate::errors::raised;

/// How long to wait before another look at who is at work.
const PAUSE: Duration = Duration::from_millis(1);

pub(crate) enum State {
    Filling(Arc<Filling>),
    Ready(Ready),
    /// A thread of this process has taken it out, and what can be searched meanwhile.
    Busy(Option<Source>, u32),
}

/// An index that can be searched.
#[derive(Clone)]
pub(crate) struct Ready {
    pub(crate) source: Source,
    /// The file it was loaded from.
    pub(crate) loaded: Option<PathBuf>,
    /// Whether it was built in its file, which need not be saved.
    pub(crate) is_in_file: bool,
}

/// Where items are.
#[derive(Clone)]
pub(crate) enum Source {
    Ours(Arc<Ours>),
    Annoys(Arc<AnnoyFile>),
}

impl Default for State {
    fn default() -> Self {
        Self::Filling(Arc::default())
    }
}

impl State {
    pub(crate) fn source(&self) -> Option<&Source> {
        match self {
            Self::Filling(_) => None,
            Self::Ready(ready) => Some(&ready.source),
            Self::Busy(source, _) => source.as_ref(),
        }
    }

    fn source_mut(&mut self) -> Option<&mut Source> {
        match self {
            Self::Filling(_) => None,
            Self::Ready(ready) => Some(&mut ready.source),
            Self::Busy(source, _) => source.as_mut(),
        }
    }
}

impl Ready {
    pub(crate) fn built(ours: Ours, is_in_file: bool) -> Self {
        Self { source: Source::Ours(Arc::new(ours)), loaded: None, is_in_file }
    }

    /// Opens a file of ours or of Annoy's.
    pub(crate) fn load(
        py: Python<'_>,
        path: &Path,
        metric: Metric,
        dims: usize,
        prefault: bool,
    ) -> PyResult<Self> {
        let opened = py.detach(|| Source::open(path, metric, dims, None, prefault));
        let loaded = std::path::absolute(path).ok();
        let source = opened.map_err(|error| refused(py, error))?;
        Ok(Self { source, loaded, is_in_file: false })
    }
}

/// Whether a file begins as LMDB's do: with page 0, and a number of its own.
fn is_ours(path: &Path) -> io::Result<bool> {
    let mut head = Vec::new();
    fs::File::open(path)?.take(20).read_to_end(&mut head)?;
    let (page, magic) = (head.get(..8), head.get(16..20));
    Ok(page == Some(&[0; 8]) && magic == Some(&0xBEEF_C0DE_u32.to_le_bytes()))
}

impl Source {
    /// Opens a file, which a folder of ours may keep.
    pub(crate) fn open(
        path: &Path,
        metric: Metric,
        dims: usize,
        folder: Option<Arc<Folder>>,
        prefault: bool,
    ) -> Result<Self, Error> {
        let failed = |source| file_error(path, source);
        if is_device(path) {
            // To open a pipe would be to wait for who writes it.
            return Err(failed(io::Error::new(ErrorKind::InvalidData, "Unable to get size")));
        }
        let is_ours = is_ours(path).map_err(failed)?;
        if prefault {
            let mut file = fs::File::open(path).map_err(failed)?;
            io::copy(&mut file, &mut io::sink()).map_err(failed)?;
        }
        if is_ours {
            return Ours::open(path, metric, dims, folder).map(|ours| Self::Ours(Arc::new(ours)));
        }
        AnnoyFile::open(path, metric, dims).map(|file| Self::Annoys(Arc::new(file))).map_err(failed)
    }

    /// Writes a file beside its place, syncs and renames it.
    pub(crate) fn copy_to(&self, path: &Path) -> Result<(), Error> {
        if is_device(path) {
            return self.write_to(path).map_err(|error| heed::Error::Io(error).into());
        }
        let file = match self {
            Self::Ours(ours) => return ours.copy_to(path),
            Self::Annoys(file) => file,
        };
        let folder = parent(path);
        let part = unused(folder, "part", |part| {
            let mut new = fs::File::create_new(part)?;
            let written = new.write_all(file.bytes()).and_then(|()| new.sync_all());
            written.inspect_err(|_| drop(fs::remove_file(part)))
        });
        let placed = part.and_then(|part| {
            fs::rename(&part, path).inspect_err(|_| drop(fs::remove_file(&part)))?;
            fs::File::open(folder)?.sync_all()
        });
        placed.map_err(|error| file_error(path, error))
    }

    /// Writes what a file would have into a device or a pipe, which nothing may take the place of.
    fn write_to(&self, path: &Path) -> io::Result<()> {
        let mut device = fs::OpenOptions::new().write(true).open(path)?;
        match self {
            Self::Annoys(file) => device.write_all(file.bytes()),
            Self::Ours(ours) => {
                let folder = Folder::temporary()?;
                let copy = folder.join("copy");
                ours.copy_to(&copy).map_err(io::Error::other)?;
                io::copy(&mut fs::File::open(&copy)?, &mut device).map(drop)
            }
        }
    }

    pub(crate) fn items(&self) -> u64 {
        match self {
            Self::Ours(ours) => ours.facts.items,
            Self::Annoys(file) => file.items as u64,
        }
    }

    pub(crate) fn file_bytes(&self) -> u64 {
        match self {
            Self::Ours(ours) => ours.file_bytes(),
            Self::Annoys(file) => file.bytes().len() as u64,
        }
    }

    pub(crate) fn trees(&self) -> usize {
        match self {
            Self::Ours(ours) => ours.facts.trees as usize,
            Self::Annoys(file) => file.roots.len(),
        }
    }

    /// The vector of an item; `None` for a hole.
    pub(crate) fn vector(&self, id: u32) -> Result<Option<Vec<f32>>, Error> {
        match self {
            Self::Ours(ours) => ours.vector(id),
            Self::Annoys(file) => {
                let is_item = file.item(id).is_some_and(|node| node.descendants() != 0);
                Ok(if is_item { file.vector(id) } else { None })
            }
        }
    }

    /// The ids of all items, ascending.
    pub(crate) fn ids(&self) -> Result<Vec<u32>, Error> {
        match self {
            Self::Ours(ours) => Ok(ours.ids()?.into_iter().collect()),
            Self::Annoys(file) => {
                let ids = 0..u32::try_from(file.items).unwrap_or(u32::MAX);
                let is_item = |id: &u32| file.item(*id).is_some_and(|n| n.descendants() == 1);
                Ok(ids.filter(is_item).collect())
            }
        }
    }
}

/// The state of one index, which threads share.
#[derive(Default)]
pub(crate) struct Shared(Mutex<State>);

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is searched now. A child of the process that opened a file opens it again.
    pub(crate) fn source(&self, py: Python<'_>) -> PyResult<Option<Source>> {
        let mut state = self.lock();
        let Some(source) = state.source_mut() else { return Ok(None) };
        if let Source::Ours(ours) = source
            && !ours.is_of_this_process()
        {
            let own = ours.reopen().map_err(|error| raised(py, error))?;
            *source = Source::Ours(Arc::new(own));
        }
        Ok(Some(source.clone()))
    }

    /// Takes the state out, once nobody else is at work. Give it back.
    pub(crate) fn take(&self, py: Python<'_>) -> PyResult<Taken<'_>> {
        loop {
            {
                let mut state = self.lock();
                match &*state {
                    State::Busy(_, process) if *process != std::process::id() => {
                        return Err(raised(py, Error::Forked { parent: *process }));
                    }
                    State::Busy(..) => {}
                    _ => {
                        let busy = State::Busy(state.source().cloned(), std::process::id());
                        let state = std::mem::replace(&mut *state, busy);
                        return Ok(Taken { shared: self, state });
                    }
                }
            }
            py.check_signals()?;
            py.detach(|| std::thread::sleep(PAUSE));
        }
    }
}

/// A state that was taken out. It goes back when this is dropped.
pub(crate) struct Taken<'s> {
    shared: &'s Shared,
    pub(crate) state: State,
}

impl Taken<'_> {
    /// The items to be built. Annoy's error if they were built already.
    pub(crate) fn filling(&mut self, what: &str) -> PyResult<&mut Arc<Filling>> {
        match &mut self.state {
            State::Filling(filling) => Ok(filling),
            _ => Err(PyException::new_err(what.to_owned())),
        }
    }

    /// What can be saved. Annoy's error if nothing can.
    pub(crate) fn ready(&self) -> PyResult<Ready> {
        match &self.state {
            State::Ready(ready) => Ok(ready.clone()),
            _ => Err(PyOSError::new_err("You can't save an index that hasn't been built")),
        }
    }

    /// An index that can be changed after it was built: a copy of a file that stays as it is.
    pub(crate) fn editable(&mut self, py: Python<'_>) -> PyResult<Arc<Ours>> {
        let State::Ready(ready) = &mut self.state else {
            return Err(PyException::new_err("the index is not built yet"));
        };
        let ours = match &ready.source {
            Source::Ours(ours) => Arc::clone(ours),
            Source::Annoys(_) => {
                return Err(PyException::new_err(
                    "You can't change a file of Annoy's: make one of ours of it with spinney.annoy.convert",
                ));
            }
        };
        if !ours.is_of_this_process() {
            let own = ours.reopen().map_err(|error| raised(py, error))?;
            ready.source = Source::Ours(Arc::new(own));
            return self.editable(py);
        }
        if !ours.is_sealed {
            return Ok(ours);
        }
        let copy = py.detach(|| ours.to_edit()).map_err(|error| refused(py, error))?;
        let copy = Arc::new(copy);
        *ready = Ready { source: Source::Ours(Arc::clone(&copy)), loaded: None, is_in_file: false };
        Ok(copy)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.shared.lock() = std::mem::take(&mut self.state);
    }
}

/// Whether there is something at a path that is neither a file nor a folder.
fn is_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir())
}

/// An error unless a file can be made at this path.
pub(crate) fn check_place(py: Python<'_>, path: &Path) -> PyResult<()> {
    if is_device(path) {
        return Err(PyOSError::new_err(format!("Unable to truncate: {path:?} is no file")));
    }
    match fs::OpenOptions::new().write(true).open(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(unable(py, "Unable to open", &error))
        }
        _ => Ok(()),
    }
}
