//! The stores that are open in this process, by their files.
//!
//! LMDB's locks belong to the process, so that a file that is opened twice in one is not locked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::store::environment::Environment;
use crate::store::files::{Files, Identity};
use crate::store::handle::Inner;
use crate::store::live::after;
use crate::store::options::StoreOptions;
use crate::store::tables::Tables;

static REGISTRY: Mutex<Registry> =
    Mutex::new(Registry { open: BTreeMap::new(), claimed: BTreeSet::new() });

struct Registry {
    open: BTreeMap<Identity, Weak<Inner>>,
    /// Files that are being replaced.
    claimed: BTreeSet<Identity>,
}

/// Files that nobody in this process can open until this is dropped.
pub(crate) struct Claim(Vec<Identity>);

fn registry() -> MutexGuard<'static, Registry> {
    // Every change is one statement, so that a panic leaves nothing half-done.
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The store of these files: the one that is open, or a new one.
pub(crate) fn open(files: Files, options: &StoreOptions) -> Result<Arc<Inner>> {
    // Held to the end, so that two threads cannot open one file at once.
    let mut registry = registry();
    registry.open.retain(|_, store| store.strong_count() > 0);
    if let Some(store) = registry.find(&files)? {
        return same_use(store, options);
    }
    let store = Arc::new(open_alone(files, options)?);
    if let Some(identity) = store.environment.files.identity()? {
        registry.open.insert(identity, Arc::downgrade(&store));
    }
    Ok(store)
}

/// Opens a store that this process will not find by its path.
pub(crate) fn open_alone(files: Files, options: &StoreOptions) -> Result<Inner> {
    files.prepare(options)?;
    let environment = Environment::open(files, options)?;
    let tables = Tables::open(&environment)?;
    Ok(Inner { environment, tables })
}

/// Whether a store of these files is open in this process.
pub(crate) fn is_open(files: &Files) -> Result<bool> {
    Ok(registry().find(files)?.is_some())
}

/// Takes a store out of the hands of this process, and keeps others from opening it again. Waits
/// for other handles as long as the store is patient.
pub(crate) fn claim(mut store: Arc<Inner>) -> Result<(Inner, Claim)> {
    let end = after(store.environment.options.patience);
    loop {
        let mut registry = registry();
        match Arc::try_unwrap(store) {
            Ok(store) => {
                let claim = Claim(Vec::from_iter(store.environment.files.identity()?));
                registry.claimed.extend(claim.0.iter().cloned());
                return Ok((store, claim));
            }
            Err(held) => store = held,
        }
        drop(registry);
        if Instant::now() >= end {
            let by = "other handles or snapshots of this process";
            return Err(Error::InUse(store.environment.files.path.clone(), by));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Claim {
    /// Another file that is to take the place of the first.
    pub(crate) fn also(&mut self, file: Identity) {
        registry().claimed.insert(file.clone());
        self.0.push(file);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut registry = registry();
        self.0.iter().for_each(|file| _ = registry.claimed.remove(file));
    }
}

impl Registry {
    fn find(&self, files: &Files) -> Result<Option<Arc<Inner>>> {
        let Some(identity) = files.identity()? else { return Ok(None) };
        if self.claimed.contains(&identity) {
            return Err(Error::InUse(files.path.clone(), "a compaction in this process"));
        }
        let found = self.open.get(&identity).and_then(Weak::upgrade);
        // A child of the process that opened a sealed file opens it for itself.
        Ok(found.filter(|store| {
            let environment = &store.environment;
            !environment.options.sealed || environment.check_process().is_ok()
        }))
    }
}

/// An error if the store is used for other things than it was opened for.
fn same_use(store: Arc<Inner>, options: &StoreOptions) -> Result<Arc<Inner>> {
    let opened = &store.environment.options;
    let differs = |name, differs: bool| differs.then_some(name);
    let option = differs("read_only", opened.read_only != options.read_only)
        .or(differs("sealed", opened.sealed != options.sealed))
        .or(differs("durability", opened.durability != options.durability));
    match option {
        Some(option) => Err(Error::OpenOtherwise(option)),
        None => Ok(store),
    }
}
