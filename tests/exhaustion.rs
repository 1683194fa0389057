//! Laws of exhaustion: when the map, the disk or a table of LMDB is full, the error says what to
//! do. The last commit stands, and what failed works once there is room.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::Path;

use spinney::heed::{self, EnvFlags, RwTxn};
use spinney::{BuildOptions, Database, Error, IndexOptions, Metric, Reader, Snapshot, Writer};
use support::process::{command, given_folder, limited, run, say};
use support::raw::*;
use support::*;

const DIMS: usize = 6;

type Operation<'a> = (&'a str, &'a dyn Fn(&Store, &mut RwTxn<'_>, &Writer) -> Result<(), Error>);

fn options() -> IndexOptions {
    IndexOptions::new(DIMS, Metric::Euclidean)
}

/// Whatever fails for want of pages, the transaction cannot be committed, and the last commit
/// stands.
#[test]
fn no_transaction_in_which_the_map_was_full_can_be_committed() {
    let operations: [Operation<'_>; 9] = [
        ("add_item", &|_, wtxn, writer| {
            (3000..3400).try_for_each(|id| writer.add_item(wtxn, id, &[1.0; DIMS]))
        }),
        ("add_items", &|_, wtxn, writer| {
            writer.add_items(wtxn, &Vec::from_iter(3000..3400), &[1.0; 400 * DIMS])
        }),
        ("del_item", &|_, wtxn, writer| {
            (700..1000).try_for_each(|id| writer.del_item(wtxn, id).map(|_| ()))
        }),
        ("clear", &|_, wtxn, writer| writer.clear(wtxn)),
        ("build", &|_, wtxn, writer| {
            writer.build(wtxn, &BuildOptions::default().rebuild(true)).map(|_| ())
        }),
        ("calibrate", &|_, wtxn, writer| writer.calibrate(wtxn, &[1.0; 20 * DIMS]).map(|_| ())),
        ("delete_index", &|store, wtxn, _| store.db.delete_index(wtxn, 0).map(|_| ())),
        ("open_or_create", &|store, wtxn, _| {
            (1..40).try_for_each(|index| {
                Writer::open_or_create(wtxn, store.db, index, &options()).map(|_| ())
            })
        }),
        ("repair", &|store, wtxn, _| {
            store.raw.0.delete(wtxn, &key(0, RECORD, 0, 0))?;
            Writer::repair(wtxn, store.db, 0, &options(), &BuildOptions::default()).map(|_| ())
        }),
    ];
    for (name, operation) in operations {
        let mut failures = 0;
        for pages in [0, 1, 2, 3, 5, 8, 12, 20] {
            let store = planted(Metric::Euclidean, DIMS);
            let before = store.raw.all(&store.env.read_txn().unwrap());
            let used = store.env.info().last_page_number + 1;
            let store = store.reopen(4096 * (used + pages));
            let mut wtxn = store.env.write_txn().unwrap();
            let writer = Writer::open(&wtxn, store.db, 0).unwrap();
            let Err(error) = operation(&store, &mut wtxn, &writer) else { continue };
            failures += 1;
            assert!(matches!(error, Error::MapFull), "{name}, {pages} pages: {error}");
            // Whatever is tried next in it, fails, too.
            assert!(writer.add_item(&mut wtxn, 1, &[1.0; DIMS]).is_err());
            assert!(wtxn.commit().is_err(), "{name}, {pages} pages: committed");
            assert!(
                store.raw.all(&store.env.read_txn().unwrap()) == before,
                "{name}, {pages} pages"
            );
            let store = store.reopen(64 << 20);
            let mut wtxn = store.env.write_txn().unwrap();
            let writer = Writer::open(&wtxn, store.db, 0).unwrap();
            operation(&store, &mut wtxn, &writer).unwrap();
            wtxn.commit().unwrap();
        }
        assert!(failures > 0, "{name} found room each time");
    }
}

#[test]
fn too_many_databases_are_told() {
    let dir = tempfile::tempdir().unwrap();
    for tables in 0..3 {
        let env = open_env_with(dir.path(), 1 << 20, tables, EnvFlags::empty());
        let names = ["a", "b", "c"].map(|name| Database::open_or_create_named(&env, name));
        for (i, opened) in names.iter().enumerate() {
            match opened {
                Ok(_) => assert!(i < tables as usize),
                Err(error) => {
                    assert!(i >= tables as usize && matches!(error, Error::DbsFull), "{i}: {error}")
                }
            }
        }
        drop(names);
        env.prepare_for_closing().wait();
    }
}

#[test]
fn too_many_readers_are_told() {
    let store = Store::new();
    let mut wtxn = store.env.write_txn().unwrap();
    Writer::open_or_create(&mut wtxn, store.db, 0, &options()).unwrap();
    wtxn.commit().unwrap();
    let readers: Vec<_> = std::iter::from_fn(|| store.env.read_txn().ok()).collect();
    assert!(readers.len() > 100);
    assert!(matches!(Snapshot::open(&store.env, store.db, 0), Err(Error::ReadersFull)));
    assert!(matches!(Database::open(&store.env), Err(Error::ReadersFull)));
    assert!(matches!(store.env.read_txn().map_err(Error::from), Err(Error::ReadersFull)));
    drop(readers);
    assert!(Snapshot::open(&store.env, store.db, 0).unwrap().is_empty());
}

/// Adds items until the environment has so many bytes.
fn grow(path: &Path, bytes: usize) {
    let env = open_env(path, 64 << 20);
    let db = Database::open_or_create(&env).unwrap();
    while (env.real_disk_size().unwrap() as usize) < bytes {
        let mut wtxn = env.write_txn().unwrap();
        let writer = Writer::open_or_create(&mut wtxn, db, 0, &options()).unwrap();
        let first = writer.len(&wtxn).unwrap() as u32;
        (first..first + 1000)
            .for_each(|id| writer.add_item(&mut wtxn, id, &[id as f32; DIMS]).unwrap());
        wtxn.commit().unwrap();
    }
}

#[test]
#[allow(unsafe_code)]
fn a_map_that_another_process_enlarged_is_told() {
    if let Some(path) = given_folder() {
        return grow(&path, 2 << 20);
    }
    let dir = tempfile::tempdir().unwrap();
    let env = open_env(dir.path(), 1 << 20);
    let db = Database::open_or_create(&env).unwrap();
    run(command("a_map_that_another_process_enlarged_is_told", dir.path()));
    assert!(matches!(Database::open(&env), Err(Error::MapResized)));
    assert!(matches!(Database::open_or_create(&env), Err(Error::MapResized)));
    assert!(matches!(Snapshot::open(&env, db, 0), Err(Error::MapResized)));
    assert!(matches!(env.write_txn().map_err(Error::from), Err(Error::MapResized)));
    // SAFETY: no transaction is alive, and the environment is in the hands of one thread.
    unsafe { env.resize(0).unwrap() };
    assert!(Snapshot::open(&env, db, 0).unwrap().len() > 1000);
}

/// Adds items until the disk is full, and looks at what is left.
fn fill_disk(path: &Path) {
    let add = |env: &heed::Env<heed::WithoutTls>, db, count| -> Result<(), Error> {
        let mut wtxn = env.write_txn()?;
        let writer = Writer::open_or_create(&mut wtxn, db, 0, &options())?;
        let first = writer.len(&wtxn)? as u32;
        (first..first + count).try_for_each(|id| writer.add_item(&mut wtxn, id, &[1.0; DIMS]))?;
        writer.build(&mut wtxn, &BuildOptions::default())?;
        Ok(wtxn.commit()?)
    };
    let env = open_env(path, 64 << 20);
    let (error, committed) = match Database::open_or_create(&env) {
        Err(error) => (error, 0),
        Ok(db) => {
            let mut committed = 0;
            let error = loop {
                match add(&env, db, 100) {
                    Ok(()) => committed += 100,
                    Err(error) => break error,
                }
            };
            let rtxn = env.read_txn().unwrap();
            match Reader::open(&rtxn, db, 0) {
                Ok(reader) => {
                    assert_eq!(reader.len(), committed);
                    assert_sound(&reader, "when the disk is full");
                }
                Err(error) => assert!(
                    committed == 0 && matches!(error, Error::IndexNotFound { .. }),
                    "{error}"
                ),
            }
            (error, committed)
        }
    };
    assert!(matches!(error, Error::DiskFull(_)), "{error}: {error:?}");
    say(committed);
}

/// The greatest size of a file stands for that of the disk: it needs no rights, and fails in the
/// same two ways.
#[test]
fn a_full_disk_is_told_and_keeps_the_last_commit() {
    let test = "a_full_disk_is_told_and_keeps_the_last_commit";
    if let Some(path) = given_folder() {
        return fill_disk(&path);
    }
    let mut most = 0;
    // In blocks of 512 bytes, and thus in the midst of pages, too.
    for blocks in (24..120).chain((120..400).step_by(13)) {
        let dir = tempfile::tempdir().unwrap();
        let limits = format!("trap '' XFSZ; ulimit -f {blocks}");
        let limited = limited(&limits, &command(test, dir.path()));
        let committed: u64 = run(limited).pop().unwrap().parse().unwrap();
        most = most.max(committed);
        // There is room again.
        let env = open_env(dir.path(), 64 << 20);
        let db = Database::open_or_create(&env).unwrap();
        let mut wtxn = env.write_txn().unwrap();
        let writer = Writer::open_or_create(&mut wtxn, db, 0, &options()).unwrap();
        assert_eq!(writer.len(&wtxn).unwrap(), committed);
        writer.add_item(&mut wtxn, u32::MAX, &[1.0; DIMS]).unwrap();
        writer.build(&mut wtxn, &BuildOptions::default()).unwrap();
        wtxn.commit().unwrap();
        assert_sound(
            &Reader::open(&env.read_txn().unwrap(), db, 0).unwrap(),
            "when there is room again",
        );
    }
    assert!(most >= 300, "no more than {most} items were committed");
}
