//! Transactions that run out of map.

use std::path::Path;

use spinney::heed::RwTxn;
use spinney::{Error, Metric, Writer};

use crate::support::*;
use crate::{DIMS, Fixture, ITEMS, MAP_BYTES, options};

const PAGE: usize = 4096;

/// Adds and deletes, then builds. Returns in what step the map was full.
fn adds_and_builds(
    writer: &Writer,
    wtxn: &mut RwTxn<'_>,
    rng: &mut Rng,
) -> Result<(), &'static str> {
    let full = |step: &'static str, error: Error| {
        assert!(matches!(error, Error::MapFull), "{step}: {error}");
        step
    };
    for id in 0..300 {
        let vector = clustered_row(writer.metric(), DIMS, rng);
        writer
            .add_item(wtxn, ITEMS as u32 / 2 + 3 * id, &vector)
            .map_err(|error| full("add", error))?;
        writer.del_item(wtxn, 5 * id).map_err(|error| full("delete", error))?;
    }
    writer.build(wtxn, &options().trees(3)).map_err(|error| full("build", error))?;
    Ok(())
}

/// The same transaction under a map of so many bytes. With the store comes the step that failed.
fn work(dir: &Path, map_bytes: usize, seed: &Seed) -> Result<Store, (&'static str, Store)> {
    let store = Store::at(dir, map_bytes);
    let mut wtxn = store.env.write_txn().unwrap();
    let writer = Writer::open(&wtxn, store.db, 0).unwrap();
    let failed = adds_and_builds(&writer, &mut wtxn, &mut seed.rng(0)).err();
    // LMDB refuses to commit after a failure; a commit may itself need pages that are not there.
    let is_committed = if failed.is_some() && (map_bytes / PAGE).is_multiple_of(2) {
        wtxn.abort();
        false
    } else {
        wtxn.commit().is_ok()
    };
    match failed {
        None if is_committed => Ok(store),
        _ => {
            assert!(!is_committed, "a transaction that failed was committed");
            Err((failed.unwrap_or("commit"), store))
        }
    }
}

/// Under maps of every size from "nothing more fits" to "it fits".
#[test]
fn a_full_map_loses_nothing() {
    let seed = Seed::new(91);
    let base = Fixture::new(Metric::Euclidean, seed.number());
    base.commit_build(&options());
    let used = |store: &Store| (store.env.info().last_page_number + 1) * PAGE;
    let (old, start) = (base.store.content(), used(&base.store));
    let data = base.store.env.path().join("data.mdb");

    let fresh = || {
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(&data, dir.path().join("data.mdb")).unwrap();
        dir
    };
    let dir = fresh();
    let complete = work(dir.path(), MAP_BYTES, &seed)
        .map_err(|(step, _)| step)
        .expect("the large map is large enough");
    let (expected, end) = (complete.content(), used(&complete));
    complete.close();

    let mut failures: Vec<&str> = Vec::new();
    let mut successes = 0;
    for map_bytes in (start..end + 3 * PAGE).step_by(PAGE) {
        let dir = fresh();
        let (step, store) = match work(dir.path(), map_bytes, &seed) {
            Ok(store) => {
                store.content().assert_same(&expected, "the map was large enough");
                store.close();
                successes += 1;
                continue;
            }
            Err(failure) => failure,
        };
        failures.push(step);
        let what = format!("{step} under a map of {} pages", map_bytes / PAGE);
        store.content().assert_same(&old, &what);
        let store = if failures.len().is_multiple_of(2) {
            store.close();
            Store::at(dir.path(), MAP_BYTES)
        } else {
            store.resize(MAP_BYTES);
            store
        };
        store.content().assert_same(&old, &format!("{what}, larger map"));
        store.close();
        let retried = work(dir.path(), MAP_BYTES, &seed)
            .map_err(|(step, _)| step)
            .expect("the large map is large enough");
        retried.content().assert_same(&expected, &format!("{what}, tried again"));
        retried.close();
    }
    let count = |step| failures.iter().filter(|failed| **failed == step).count();
    let counts = ["add", "delete", "build", "commit"].map(|step| (step, count(step)));
    println!("full in {counts:?}, {successes} successes");
    assert!(
        count("add") > 0 && count("build") > 0 && successes > 0,
        "{counts:?}, {successes} successes"
    );
}
