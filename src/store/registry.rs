//! The stores that are open in this process, by their files.
//!
//! LMDB's locks belong to the process, so that a file that is opened twice in one is not locked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::error::{Error, Result};
use crate::store::environment::Environment;
use crate::store::files::{Files, Identity};
use crate::store::options::StoreOptions;
use crate::store::store::Inner;
use crate::store::tables::Tables;

static OPEN: Mutex<BTreeMap<Identity, Weak<Inner>>> = Mutex::new(BTreeMap::new());

/// The store of these files: the one that is open, or a new one.
pub(crate) fn open(files: Files, options: &StoreOptions) -> Result<Arc<Inner>> {
    // Held to the end, so that two threads cannot open one file at once.
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    open.retain(|_, store| store.strong_count() > 0);
    if let Some(store) = find(&open, &files)? {
        return same_use(store, options);
    }
    files.prepare(options)?;
    let environment = Environment::open(files, options)?;
    let tables = Tables::open(&environment)?;
    let identity = environment.files.identity()?;
    let store = Arc::new(Inner { environment, tables });
    if let Some(identity) = identity {
        open.insert(identity, Arc::downgrade(&store));
    }
    Ok(store)
}

/// Whether a store of these files is open in this process.
pub(crate) fn is_open(files: &Files) -> Result<bool> {
    let open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(find(&open, files)?.is_some())
}

fn find(open: &BTreeMap<Identity, Weak<Inner>>, files: &Files) -> Result<Option<Arc<Inner>>> {
    Ok(files.identity()?.and_then(|identity| open.get(&identity)).and_then(Weak::upgrade))
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
