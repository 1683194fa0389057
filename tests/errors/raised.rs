//! Errors as they are raised, each with what its message has to say.

use std::ops::ControlFlow;

use spinney::heed::{self, EnvOpenOptions, MdbError, RwTxn};
use spinney::{BuildOptions, Database, Error, IndexOptions, Metric, Reader, Storage, Writer};

use crate::support::raw::*;
use crate::support::*;

/// Errors of queries of index 0 (cosine) and of index 1 (Hamming).
fn raised_by_queries(store: &Store, wtxn: &RwTxn<'_>) -> Vec<(Error, Vec<&'static str>)> {
    let open = |index| Reader::open(wtxn, store.db, index).unwrap();
    let (floats, bits) = (open(0), open(1));
    vec![
        (
            floats.nns(1).by_any(&[7u32.into()]).unwrap_err(),
            vec!["no item 7", "check the id", "or search by its vector"],
        ),
        (
            bits.nns(1).by_mean(&[1u32.into()]).unwrap_err(),
            vec!["a mean of examples", "hamming metric", "search by each of the vectors"],
        ),
        (
            floats.nns(1).by_vectors(&[1.0; 4]).unwrap_err(),
            vec![
                "rows of 3 numbers",
                "4 numbers are no whole number of rows",
                "pass a multiple of 3",
            ],
        ),
        (
            floats
                .nns(1)
                .try_filter_fn(|_| Err::<bool, _>("away"))
                .by_vector(&[1.0, 2.0, 3.0])
                .unwrap_err(),
            vec!["has failed", "away", "search again"],
        ),
        (
            floats.nns(1).exact().search_k(100).by_vector(&[1.0; 3]).unwrap_err(),
            vec!["search_k does not go together with exact", "misses none", "leave out one"],
        ),
        (
            floats
                .nns(1)
                .try_filter_fn(|_| Err("the table is closed"))
                .by_vector(&[1.0; 3])
                .unwrap_err(),
            vec!["given to the search has failed", "the table is closed", "search again"],
        ),
    ]
}

/// Errors of operations on a sound index, each with what its message has to say.
pub fn raised_by_input() -> Vec<(Error, Vec<&'static str>)> {
    let store = Store::new();
    let mut wtxn = store.env.write_txn().unwrap();
    let writer = create(&store, &mut wtxn, 3, Metric::Cosine);
    let bits =
        Writer::open_or_create(&mut wtxn, store.db, 1, &IndexOptions::new(2, Metric::Hamming))
            .unwrap();
    writer.add_item(&mut wtxn, 1, &[1.0, 2.0, 3.0]).unwrap();
    let stop = |_: &spinney::Progress| ControlFlow::Break(());
    let reopen = |wtxn: &mut RwTxn<'_>, index, options: IndexOptions| {
        Writer::open_or_create(wtxn, store.db, index, &options).unwrap_err()
    };
    bits.add_item(&mut wtxn, 1, &[1.0, 0.0]).unwrap();
    let mut cases = vec![
        (
            writer.add_item(&mut wtxn, 1, &[1.0; 4]).unwrap_err(),
            vec!["3 dimensions", "one of 4", "pass a slice of 3"],
        ),
        (
            writer.add_items(&mut wtxn, &[1, 2], &[1.0; 7]).unwrap_err(),
            vec!["2 ids of 3", "matrix of 6", "got 7", "pass one row"],
        ),
        (
            writer.add_items(&mut wtxn, &[5, 9], &[1.0, 1.0, 1.0, 1.0, f32::NAN, 1.0]).unwrap_err(),
            vec!["row 1", "item 9", "component 1", "NaN", "replace it"],
        ),
        (
            writer.add_item(&mut wtxn, 1, &[1.0, f32::NEG_INFINITY, 0.0]).unwrap_err(),
            vec!["component 1", "-inf", "replace it or leave"],
        ),
        (
            writer.add_item(&mut wtxn, 1, &[0.0; 3]).unwrap_err(),
            vec!["is zero", "leave the vector out"],
        ),
        (
            writer.add_item(&mut wtxn, 1, &[3e30, 4e30, 0.0]).unwrap_err(),
            vec!["4.99999", "e30", "1.152921504606847e18", "scale the vectors down"],
        ),
        (
            bits.add_item(&mut wtxn, 1, &[1.0, 0.5]).unwrap_err(),
            vec!["component 1", "0.5", "pass exactly 0.0 or 1.0"],
        ),
        (
            Writer::open(&wtxn, store.db, 77).unwrap_err(),
            vec!["no index 77", "`Writer::open_or_create`", "check the number"],
        ),
        (
            reopen(&mut wtxn, 0, IndexOptions::new(3, Metric::Hamming)),
            vec!["index 0", "metric cosine", "got hamming", "open it with cosine"],
        ),
        (
            reopen(&mut wtxn, 0, IndexOptions::new(4, Metric::Cosine)),
            vec!["index 0", "with 3 dimensions", "got 4", "open it with 3"],
        ),
        (
            reopen(&mut wtxn, 0, IndexOptions::new(3, Metric::Cosine).storage(Storage::I8)),
            vec!["index 0", "as f32", "asked for i8", "leave the storage out", "`Writer::convert`"],
        ),
        (
            reopen(&mut wtxn, 2, IndexOptions::new(65_537, Metric::Cosine)),
            vec!["1 to 65536", "got 65537", "choose a number"],
        ),
        (
            writer.build(&mut wtxn, &BuildOptions::default().progress(&stop)).unwrap_err(),
            vec!["cancelled", "searches see nothing of it", "call it again"],
        ),
        (
            writer.build(&mut wtxn, &BuildOptions::default().trees(17)).unwrap_err(),
            vec!["trees", "1 to 16", "got 17", "choose a value"],
        ),
    ];
    cases.extend(raised_by_queries(&store, &wtxn));
    assert_eq!(writer.item_vector(&wtxn, 1).unwrap().unwrap(), [1.0, 2.0, 3.0]);
    assert_eq!((writer.len(&wtxn).unwrap(), writer.pending_len(&wtxn).unwrap()), (1, 1));
    assert_eq!(store.db.indexes(&wtxn).unwrap(), [0, 1]);
    cases
}

/// Errors of LMDB and of stored bytes.
pub fn raised_by_storage() -> Vec<(Error, Vec<&'static str>)> {
    let store = Store::with_map_size(1 << 20);
    let raw = store.raw;
    let mut wtxn = store.env.write_txn().unwrap();
    let writer = create(&store, &mut wtxn, 2, Metric::Euclidean);
    raw.put(&mut wtxn, key(0, ITEM, 0, 9), &[7; 5]);
    let corrupted = writer.item_vector(&wtxn, 9).unwrap_err();
    let mut record = raw.get(&wtxn, key(0, RECORD, 0, 0));
    record[8] = 9;
    raw.put(&mut wtxn, key(0, RECORD, 0, 0), &record);
    let newer = writer.len(&wtxn).unwrap_err();
    let full =
        Writer::open_or_create(&mut wtxn, store.db, 1, &IndexOptions::new(4096, Metric::Euclidean))
            .and_then(|writer| {
                (0..1000).try_for_each(|id| writer.add_item(&mut wtxn, id, &[1.0; 4096]))
            });
    drop(wtxn);
    let dir = tempfile::tempdir().unwrap();
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    #[allow(unsafe_code)]
    // SAFETY: the folder is this test's alone.
    let env = unsafe { options.map_size(1 << 20).open(dir.path()).unwrap() };
    vec![
        (
            corrupted,
            vec!["item 9 of index 0", "damaged", "`Reader::verify`", "`Writer::repair`", "backup"],
        ),
        (newer, vec!["format version 9", "up to 3", "update the program"]),
        (
            full.unwrap_err(),
            vec![
                "map is full",
                "cannot be committed",
                "enlarge the map",
                "run the transaction again",
            ],
        ),
        (
            Database::open_or_create(&env).unwrap_err(),
            vec!["another named database", "larger", "`EnvOpenOptions::max_dbs`"],
        ),
        (raised_by_a_second_reader(), vec!["LMDB refused", "MDB_BAD_RSLOT"]),
        (
            of_lmdb(MdbError::ReadersFull),
            vec!["slots", "end some", "max_readers", "clear_stale_readers"],
        ),
        (
            of_lmdb(MdbError::MapResized),
            vec!["another process", "`Env::resize(0)`", "begin the transaction again"],
        ),
        (of_disk(28), vec!["did not take", "No space left", "drop this transaction", "make room"]),
        (
            raised_by_a_temporary_file(),
            vec!["temporary file", "missing", "make room", "`BuildOptions::temp_dir`", "memory"],
        ),
    ]
}

fn of_lmdb(error: MdbError) -> Error {
    heed::Error::from(error).into()
}

pub fn of_disk(number: i32) -> Error {
    heed::Error::from(std::io::Error::from_raw_os_error(number)).into()
}

/// Two read transactions in one thread of an environment that has one for each.
#[allow(unsafe_code)]
fn raised_by_a_second_reader() -> Error {
    let dir = tempfile::tempdir().unwrap();
    // SAFETY: the folder is this test's alone.
    let env = unsafe { EnvOpenOptions::new().open(dir.path()).unwrap() };
    let _first = env.read_txn().unwrap();
    Database::open(&env).unwrap_err()
}

/// A build in several commits while which the index is cleared.
fn raised_by_another_build() -> Error {
    let store = Store::with_map_size(1 << 20);
    let writer = store.create_index(2, Metric::Euclidean);
    let mut wtxn = store.env.write_txn().unwrap();
    writer.add_item(&mut wtxn, 1, &[1.0, 2.0]).unwrap();
    wtxn.commit().unwrap();
    let clear = |_: &spinney::Progress| {
        let mut wtxn = store.env.write_txn().unwrap();
        writer.clear(&mut wtxn).unwrap();
        wtxn.commit().unwrap();
        ControlFlow::Continue(())
    };
    let options = BuildOptions::default().progress(&clear);
    writer.build_in_commits(&store.env, &options).unwrap_err()
}

/// A build that needs a temporary file in a folder that is not there.
fn raised_by_a_temporary_file() -> Error {
    let store = Store::new();
    let mut wtxn = store.env.write_txn().unwrap();
    let writer = create(&store, &mut wtxn, 20, Metric::Euclidean);
    let ids: Vec<u32> = (0..4_000).collect();
    let rows = clustered_rows(Metric::Euclidean, 20, ids.len(), &mut Seed::new(85).rng(0));
    writer.add_items(&mut wtxn, &ids, &rows).unwrap();
    let missing = tempfile::tempdir().unwrap().path().join("missing");
    writer.build(&mut wtxn, &BuildOptions::default().memory(0).temp_dir(&missing)).unwrap_err()
}

/// Errors of opening, and of handles that are of another environment.
pub fn raised_by_opening() -> Vec<(Error, Vec<&'static str>)> {
    let (store, other) = (Store::new(), Store::new());
    let mut wtxn = store.env.write_txn().unwrap();
    store.raw.0.clear(&mut wtxn).unwrap();
    store.raw.0.put(&mut wtxn, b"theirs", b"an entry").unwrap();
    wtxn.commit().unwrap();
    let rtxn = other.env.read_txn().unwrap();
    let cut = tempfile::tempdir().unwrap();
    let env = open_env(cut.path(), 1 << 20);
    Database::open_or_create(&env).unwrap();
    let file = std::fs::File::options().write(true).open(cut.path().join("data.mdb")).unwrap();
    env.prepare_for_closing().wait();
    file.set_len(8192).unwrap();
    let env = open_env(cut.path(), 1 << 20);
    vec![
        (
            Database::open(&store.env).unwrap_err(),
            vec!["\"spinney\"", "somebody else", "Choose another name"],
        ),
        (
            store.db.indexes(&rtxn).unwrap_err(),
            vec!["another environment", "closed", "Open the database in"],
        ),
        (
            Database::open(&env).unwrap_err(),
            vec!["has 8192 bytes", "takes 16384", "Write nothing", "a whole copy"],
        ),
        (
            raised_by_another_build(),
            vec!["taken the place", "call `build_in_commits` again", "no other build"],
        ),
    ]
}
