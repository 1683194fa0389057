//! Errors of stores and of buffers as they are raised, each with what its message has to say.

use std::path::PathBuf;
use std::time::Duration;

use spinney::heed::types::Str;
use spinney::{Document, Error, IndexOptions, Metric, Reads, Result, Store, StoreOptions};

use crate::support::open_env;

type Raised = (Error, Vec<&'static str>);

/// Errors of opening a store and of copies of it.
fn raised_by_files() -> Vec<Raised> {
    let dir = tempfile::tempdir().unwrap();
    let (path, file) = (dir.path().join("store"), dir.path().join("file"));
    std::fs::write(&file, "no store").unwrap();
    let store = open_patiently(&Store::options(), &path);
    let read_only = Store::options().read_only(true);
    let elsewhere = open_env(dir.path(), 1 << 20);
    let open = |options: &StoreOptions, path: &PathBuf| options.open(path).unwrap_err();
    let copy = dir.path().join("copy");
    store.backup(&copy).unwrap();
    let mut raised = vec![
        (open(&Store::options(), &file.join("in it")), vec!["file", "look after the path"]),
        (
            open(&Store::options().create(false), &dir.path().join("none")),
            vec!["there is no file", "none", "with `create`"],
        ),
        (
            // Which no test can have.
            Error::RemoteFileSystem(path.clone(), "nfs4".to_owned()),
            vec!["nfs4", "move it to a disk", "`StoreOptions::allow_remote`"],
        ),
        (open(&read_only, &path), vec!["another value of read_only", "close the other handles"]),
        (
            open(&Store::options(), &dir.path().to_owned()),
            vec!["not by a store", "close it, or use it through"],
        ),
        (store.backup(&file).unwrap_err(), vec!["file", "there already", "name a path"]),
        (store.clone().compact().unwrap_err(), vec!["in use by other handles", "try again"]),
        (
            Error::DamagedCopy(copy, "what is wrong".to_owned()),
            vec!["copy", "(what is wrong)", "take another", "`Store::repair`"],
        ),
    ];
    drop((store, elsewhere));
    let store = open_patiently(&read_only, &path);
    let refused = store.write(|_| Ok::<_, Error>(()));
    raised.push((refused.unwrap_err(), vec!["for reading alone", "without `read_only`"]));
    raised
}

fn open_patiently(options: &StoreOptions, path: &PathBuf) -> Store {
    options.clone().patience(Duration::from_millis(10)).open(path).unwrap()
}

/// Errors of documents.
fn raised_by_documents() -> Vec<Raised> {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let docs = store.collection("docs", &IndexOptions::new(1, Metric::Euclidean)).unwrap();
    store.write(|txn| docs.put(txn, "a", &Document::new([1.0]))).unwrap();
    let scoped = docs.scoped("tenant").unwrap();
    let overwritten = store.write(|txn| scoped.put(txn, "a", &Document::new([2.0])));
    let missing = docs.search(&store, 1).by_any(&["b".into()]);
    let many = store.write(|txn| docs.put_many(txn, [("c", Document::new([1.0, 2.0]))]));
    vec![
        (overwritten.unwrap_err(), vec!["\"a\"", "outside this scope", "choose another key"]),
        (missing.unwrap_err(), vec!["\"b\"", "check the key"]),
        (many.unwrap_err(), vec!["\"c\"", "1 dimensions", "pass a slice"]),
        // Which needs a feature.
        (Error::Json("no number".into()), vec!["no number", "ask for"]),
    ]
}

/// Errors of names and transactions.
fn raised_by_use() -> Vec<Raised> {
    let dir = tempfile::tempdir().unwrap();
    let options = Store::options().map_size(1 << 20).map_limit(64 << 20);
    let store = open_patiently(&options, &dir.path().to_owned());
    let index_options = IndexOptions::new(2, Metric::Euclidean);
    let index = store.index("a", &index_options).unwrap();
    store.index("b", &index_options).unwrap();
    let nested = store.write(|_| store.write(|_| Ok::<_, Error>(())));
    let within = store.write(|_| store.table::<Str, Str>("mine").map(|_| ()));
    let busy = store.write(|_| {
        std::thread::scope(|scope| {
            let write = || store.write_within(Duration::ZERO, |_| Ok::<_, Error>(()));
            scope.spawn(write).join().unwrap()
        })
    });
    let snapshot = store.snapshot().unwrap();
    let in_use =
        store.write(|txn| (0..50_000).try_for_each(|id| index.add_item(txn, id, &[1.0; 2])));
    drop(snapshot);
    let damaged = store.write(|txn| {
        let catalog = catalog(&store)?;
        catalog.put(txn.as_heed_mut(), "bad", "x")?;
        Ok::<_, Error>(())
    });
    damaged.unwrap();
    let short = store.with_reader(&index, |reader| {
        reader.nns(2).by_vectors_into(&[1.0; 4], &mut [0; 3], &mut [0.0; 4])
    });
    vec![
        (short.unwrap_err(), vec!["2 queries for 2 hits", "4 places, got 3", "pass `k` places"]),
        (nested.unwrap_err(), vec!["within `Store::write`", "use the transaction"]),
        (within.unwrap_err(), vec!["opening a table", "before `Store::write`"]),
        (busy.unwrap_err(), vec!["for all of", "try again, or wait longer"]),
        (in_use.unwrap_err(), vec!["has to grow", "1 transactions", "drop snapshots"]),
        (store.rename("a", "b").unwrap_err(), vec!["\"b\" is taken", "rename what has it"]),
        (store.rename("x", "y").unwrap_err(), vec!["the name \"x\"", "`Store::indexes`"]),
        (store.indexes().unwrap_err(), vec!["the catalog", "\"bad\"", "go back to a backup"]),
        // Which take another process, and 65,536 indexes.
        (Error::Forked { parent: 7 }, vec!["by process 7", "open stores after the fork"]),
        (Error::NumbersFull, vec!["all 65,536 numbers", "delete some"]),
    ]
}

/// The table of names, which the host should leave alone.
fn catalog(store: &Store) -> Result<spinney::heed::Database<'static, Str, Str>> {
    let env = store.env();
    let opened = env.open_databases_and_commit(env.read_txn()?, |opener, rtxn| {
        let table = opener.open_database(rtxn, Some("spinney catalog"))?;
        Ok::<_, Error>(spinney::heed::CommitOrAbort::<_, ()>::Commit(table.unwrap()))
    });
    Ok(opened?.unwrap_commit())
}

pub fn raised_by_stores() -> Vec<Raised> {
    [raised_by_files(), raised_by_use(), raised_by_documents()].into_iter().flatten().collect()
}
