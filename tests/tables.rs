//! Whose an LMDB table is: those of others are refused and stay as they are, ours open, and a
//! handle writes in its own alone.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::unwrap_used,
    clippy::panic
)]
#![allow(clippy::expect_used)]
#![allow(
    deprecated,
    reason = "flags that heed sets by comparators; tables of other programs have them"
)]

mod support;

use std::path::Path;

use rand::RngExt;
use spinney::heed::types::Bytes;
use spinney::heed::{
    self, CommitOrAbort, DatabaseFlags, EnvFlags, EnvOpenOptions, RoTxn, RwTxn, WithTls,
};
use spinney::{BuildOptions, Database, Error, IndexOptions, Metric, Reader, Writer};
use support::*;

const MAP_SIZE: usize = 16 << 20;
/// The key of the mark.
const MARK: [u8; 2] = [0, 0];

type Env = heed::Env<heed::WithoutTls>;
type Table = heed::Database<'static, Bytes, Bytes>;
type Content = Vec<(Vec<u8>, Vec<u8>)>;

fn environment(path: &Path, tables: u32, flags: EnvFlags) -> Env {
    open_env_with(path, MAP_SIZE, tables, flags)
}

fn table(env: &Env, name: Option<&str>, flags: DatabaseFlags) -> Table {
    let created = env.create_databases_and_commit(env.write_txn().unwrap(), |opener, wtxn| {
        let mut options = opener.database_options().types::<Bytes, Bytes>();
        name.into_iter().for_each(|name| _ = options.name(name));
        options.flags(flags).create(wtxn).map(CommitOrAbort::<_, ()>::Commit)
    });
    let created: Result<_, heed::Error> = created;
    created.unwrap().commit().unwrap()
}

fn fill(env: &Env, table: Table, entries: &[(&[u8], &[u8])]) {
    let mut wtxn = env.write_txn().unwrap();
    entries.iter().for_each(|(key, value)| table.put(&mut wtxn, key, value).unwrap());
    wtxn.commit().unwrap();
}

fn content(rtxn: &RoTxn<'_>, table: Table) -> Content {
    let entries = table.iter(rtxn).unwrap().move_through_duplicate_values().map(Result::unwrap);
    entries.map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

fn options() -> IndexOptions {
    IndexOptions::new(2, Metric::Euclidean)
}

/// An index of so many items, built.
fn index(env: &Env, db: Database, number: u16, items: u32) {
    let mut wtxn = env.write_txn().unwrap();
    let writer = Writer::open_or_create(&mut wtxn, db, number, &options()).unwrap();
    (0..items).for_each(|id| writer.add_item(&mut wtxn, id, &[id as f32, 1.0]).unwrap());
    writer.build(&mut wtxn, &BuildOptions::default()).unwrap();
    wtxn.commit().unwrap();
}

fn nearest(env: &Env, db: Database, number: u16, to: f32) -> u32 {
    let rtxn = env.read_txn().unwrap();
    Reader::open(&rtxn, db, number).unwrap().nns(1).by_vector(&[to, 1.0]).unwrap()[0].id
}

/// The table without its mark: what versions before it wrote.
fn unmark(env: &Env, name: &str) {
    let raw = table(env, Some(name), DatabaseFlags::empty());
    let mut wtxn = env.write_txn().unwrap();
    assert!(raw.delete(&mut wtxn, &MARK).unwrap(), "there is a mark");
    wtxn.commit().unwrap();
}

#[test]
fn tables_of_others_are_refused_and_unchanged() {
    let orders = [
        DatabaseFlags::empty(),
        DatabaseFlags::DUP_SORT,
        DatabaseFlags::DUP_SORT | DatabaseFlags::DUP_FIXED,
        DatabaseFlags::DUP_SORT | DatabaseFlags::REVERSE_DUP,
        DatabaseFlags::DUP_SORT | DatabaseFlags::DUP_FIXED | DatabaseFlags::INTEGER_DUP,
        DatabaseFlags::REVERSE_KEY,
        DatabaseFlags::INTEGER_KEY,
    ];
    // Keys of 8 bytes, which all of these orders take: some begin as those of an index do.
    let keys: [&[u8]; 4] = [&[0; 8], &[0, 0, 6, 0, 0, 0, 0, 7], b"a record", &[0xFF; 8]];
    for flags in orders {
        for keys in [&keys[..], &keys[..1], &[]] {
            let entries: Vec<(&[u8], &[u8])> =
                keys.iter().map(|key| (*key, &b"theirs\0\0"[..])).collect();
            if flags.is_empty() && entries.is_empty() {
                continue;
            }
            let dir = tempfile::tempdir().unwrap();
            let env = environment(dir.path(), 2, EnvFlags::empty());
            let theirs = table(&env, Some("spinney"), flags);
            fill(&env, theirs, &entries);
            let before = content(&env.read_txn().unwrap(), theirs);
            for opened in [Database::open(&env), Database::open_or_create(&env).map(Some)] {
                let is_refused = matches!(&opened, Err(Error::ForeignTable { name, what }) if name == "spinney" && !what.is_empty());
                assert!(is_refused, "{flags:?}, {} entries: {opened:?}", entries.len());
            }
            assert_eq!(content(&env.read_txn().unwrap(), theirs), before, "{flags:?}");
            // No slot is lost to it.
            let ours = Database::open_or_create_named(&env, "ours").unwrap();
            index(&env, ours, 0, 3);
            assert_eq!(nearest(&env, ours, 0, 2.0), 2);
        }
    }
}

#[test]
fn keys_of_any_length_are_those_of_others() {
    let seed = Seed::new(31);
    let mut rng = seed.rng(0);
    let dir = tempfile::tempdir().unwrap();
    let env = environment(dir.path(), 1, EnvFlags::NO_SYNC);
    let theirs = table(&env, Some("spinney"), DatabaseFlags::empty());
    for _ in 0..200 {
        let mut keys: Vec<Vec<u8>> =
            (0..rng.random_range(1..20)).map(|_| vec![0; rng.random_range(1..30)]).collect();
        keys.iter_mut()
            .flatten()
            .for_each(|byte| *byte = rng.random_range(0..4) * rng.random_range(0..64));
        let values: [&[u8]; 3] = [b"spinney\0", b"", b"spinney"];
        let entries: Vec<(&[u8], &[u8])> =
            keys.iter().map(|key| (&key[..], values[rng.random_range(0..3)])).collect();
        let mut wtxn = env.write_txn().unwrap();
        theirs.clear(&mut wtxn).unwrap();
        wtxn.commit().unwrap();
        fill(&env, theirs, &entries);
        let before = content(&env.read_txn().unwrap(), theirs);
        assert!(matches!(Database::open(&env), Err(Error::ForeignTable { .. })), "{before:?}");
        assert!(
            matches!(Database::open_or_create(&env), Err(Error::ForeignTable { .. })),
            "{before:?}"
        );
        assert_eq!(content(&env.read_txn().unwrap(), theirs), before);
    }
}

/// The unnamed database holds the names of the others, and may hold entries of the host, too.
#[test]
fn an_entry_of_the_unnamed_database_is_no_table() {
    let dir = tempfile::tempdir().unwrap();
    let env = environment(dir.path(), 2, EnvFlags::empty());
    let unnamed = table(&env, None, DatabaseFlags::empty());
    fill(&env, unnamed, &[(b"spinney", b"an entry of the host"), (b"another", b"one")]);
    assert!(matches!(Database::open(&env), Err(Error::ForeignTable { .. })));
    assert!(matches!(Database::open_or_create(&env), Err(Error::ForeignTable { .. })));
    let ours = Database::open_or_create_named(&env, "ours").unwrap();
    index(&env, ours, 0, 3);
    assert_eq!(
        unnamed.get(&env.read_txn().unwrap(), b"spinney").unwrap(),
        Some(&b"an entry of the host"[..])
    );
    // Where its keys are numbers or have many values, it can hold no names.
    for flags in [DatabaseFlags::INTEGER_KEY, DatabaseFlags::DUP_SORT] {
        let dir = tempfile::tempdir().unwrap();
        let env = environment(dir.path(), 2, EnvFlags::empty());
        fill(&env, table(&env, None, flags), &[(&[7; 8], b"theirs")]);
        assert!(Database::open(&env).unwrap().is_none());
        let refused = Database::open_or_create(&env);
        assert!(matches!(refused, Err(Error::ForeignTable { .. })), "{flags:?}: {refused:?}");
    }
}

#[test]
fn names_that_lmdb_cannot_have_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let env = environment(dir.path(), 2, EnvFlags::empty());
    for name in ["", "spin\0ney", &"n".repeat(512)] {
        let refused = [
            Database::open_named(&env, name),
            Database::open_or_create_named(&env, name).map(Some),
        ];
        for refused in refused {
            assert!(
                matches!(refused, Err(Error::InvalidOption { name: "name", .. })),
                "{name:?}: {refused:?}"
            );
        }
    }
    Database::open_or_create_named(&env, &"n".repeat(511)).unwrap();
}

#[test]
fn an_empty_table_is_taken_over_when_one_is_to_be_created() {
    let dir = tempfile::tempdir().unwrap();
    let env = environment(dir.path(), 1, EnvFlags::empty());
    let raw = table(&env, Some("spinney"), DatabaseFlags::empty());
    assert!(Database::open(&env).unwrap().is_none());
    let db = Database::open_or_create(&env).unwrap();
    let marked = content(&env.read_txn().unwrap(), raw);
    assert_eq!(marked.len(), 1);
    assert_eq!(
        (&marked[0].0[..], &marked[0].1[..8], marked[0].1.len()),
        (&MARK[..], &b"spinney\0"[..], 22)
    );
    index(&env, db, 0, 3);
    index(&env, db, u16::MAX, 3);
    assert_eq!(db.indexes(&env.read_txn().unwrap()).unwrap(), [0, u16::MAX]);
    // Neither opening it again nor what happens to indexes touches the mark.
    let again = Database::open_or_create(&env).unwrap();
    let mut wtxn = env.write_txn().unwrap();
    assert!(again.delete_index(&mut wtxn, 0).unwrap());
    Writer::repair(&mut wtxn, db, u16::MAX, &options(), &BuildOptions::default()).unwrap();
    Writer::repair(&mut wtxn, db, 0, &options(), &BuildOptions::default()).unwrap();
    assert!(
        db.delete_index(&mut wtxn, 0).unwrap() && db.delete_index(&mut wtxn, u16::MAX).unwrap()
    );
    wtxn.commit().unwrap();
    assert_eq!(content(&env.read_txn().unwrap(), raw), marked);
}

/// Values are read in place as arrays of numbers.
#[test]
fn values_lie_where_numbers_may() {
    let dir = tempfile::tempdir().unwrap();
    let env = environment(dir.path(), 1, EnvFlags::empty());
    let db = Database::open_or_create(&env).unwrap();
    index(&env, db, 0, 500);
    let raw = table(&env, Some("spinney"), DatabaseFlags::empty());
    let rtxn = env.read_txn().unwrap();
    for (key, value) in
        raw.iter(&rtxn).unwrap().map(Result::unwrap).filter(|(key, _)| key.len() == 8)
    {
        assert_eq!(value.as_ptr().addr() % 8, 0, "{key:02x?}");
    }
}

#[test]
fn older_tables_open_and_are_marked_when_they_may_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let env = environment(dir.path(), 1, EnvFlags::empty());
    let db = Database::open_or_create(&env).unwrap();
    index(&env, db, 5, 300);
    index(&env, db, 600, 10);
    unmark(&env, "spinney");
    env.prepare_for_closing().wait();

    let env = environment(dir.path(), 1, EnvFlags::READ_ONLY);
    for db in [Database::open(&env).unwrap().unwrap(), Database::open_or_create(&env).unwrap()] {
        assert_eq!((nearest(&env, db, 5, 123.0), nearest(&env, db, 600, 7.0)), (123, 7));
    }
    env.prepare_for_closing().wait();

    let env = environment(dir.path(), 1, EnvFlags::empty());
    let raw = table(&env, Some("spinney"), DatabaseFlags::empty());
    // A damaged record does not make it somebody else's.
    let record = [0, 5, 0, 0, 0, 0, 0, 0];
    let before = content(&env.read_txn().unwrap(), raw);
    fill(&env, raw, &[(&record, &[0; 1024])]);
    let old = Database::open(&env).unwrap().unwrap();
    assert_eq!(nearest(&env, old, 600, 7.0), 7);
    assert!(matches!(Reader::open(&env.read_txn().unwrap(), old, 5), Err(Error::Corrupted { .. })));
    let kept = &before.iter().find(|(key, _)| *key == record).unwrap().1;
    fill(&env, raw, &[(&record, kept)]);
    // What a handle without a mark does is found by one that has set it, and the other way round.
    index(&env, old, 7, 20);
    assert_eq!(content(&env.read_txn().unwrap(), raw)[0], before[0], "nothing was added");
    let marked = Database::open_or_create(&env).unwrap();
    index(&env, marked, 8, 20);
    for db in [old, marked] {
        assert_eq!(
            (nearest(&env, db, 7, 3.0), nearest(&env, db, 8, 4.0), nearest(&env, db, 5, 299.0)),
            (3, 4, 299)
        );
    }
    let after = content(&env.read_txn().unwrap(), raw);
    assert_eq!((&after[0].0[..], &after[0].1[..8]), (&MARK[..], &b"spinney\0"[..]));
    assert!(before.iter().all(|entry| after.contains(entry)));
    // Without indexes it is nobody's, but for those who had opened it before.
    let mut wtxn = env.write_txn().unwrap();
    for index in [5, 7, 8, 600] {
        assert!(old.delete_index(&mut wtxn, index).unwrap());
    }
    wtxn.commit().unwrap();
    unmark(&env, "spinney");
    assert!(Database::open(&env).unwrap().is_none());
    index(&env, old, 7, 20);
    assert_eq!(nearest(&env, old, 7, 3.0), 3);
}

#[test]
fn a_damaged_mark_is_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let env = environment(dir.path(), 1, EnvFlags::empty());
    index(&env, Database::open_or_create(&env).unwrap(), 0, 30);
    let raw = table(&env, Some("spinney"), DatabaseFlags::empty());
    for damaged in [
        &b""[..],
        b"spinney\0",
        b"Spinney\x000123456789abcd",
        b"spinney\x000123456789abcd0123456789abcdef",
    ] {
        fill(&env, raw, &[(&MARK, damaged)]);
        assert_eq!(nearest(&env, Database::open(&env).unwrap().unwrap(), 0, 4.0), 4);
        assert_eq!(nearest(&env, Database::open_or_create(&env).unwrap(), 0, 4.0), 4);
        assert_eq!(content(&env.read_txn().unwrap(), raw)[0].1.len(), 22);
    }
}

/// What a stale handle is tried with.
fn refuse_all(db: Database, writer: Writer, wtxn: &mut RwTxn<'_>, what: &str) {
    let build = BuildOptions::default();
    let results = [
        Writer::open_or_create(wtxn, db, 0, &options()).err(),
        Writer::open_or_create(wtxn, db, 9, &options()).err(),
        Writer::open(wtxn, db, 0).err(),
        Reader::open(wtxn, db, 0).err(),
        Writer::repair(wtxn, db, 0, &options(), &build).err(),
        db.delete_index(wtxn, 0).err(),
        db.indexes(wtxn).err(),
        writer.add_item(wtxn, 1, &[1.0, 2.0]).err(),
        writer.add_items(wtxn, &[1], &[1.0, 2.0]).err(),
        writer.del_item(wtxn, 1).err(),
        writer.clear(wtxn).err(),
        writer.build(wtxn, &build).err(),
        writer.calibrate(wtxn, &[1.0, 2.0]).err(),
        writer.contains_item(wtxn, 1).err(),
        writer.item_vector(wtxn, 1).err(),
        writer.len(wtxn).err(),
        writer.pending_len(wtxn).err(),
    ];
    for (i, error) in results.iter().enumerate() {
        assert!(matches!(error, Some(Error::OtherEnvironment)), "{what}, call {i}: {error:?}");
    }
}

/// A handle of an environment that is closed, and a writer.
fn stale(keep: impl FnOnce(&Env)) -> (Database, Writer) {
    let dir = tempfile::tempdir().unwrap();
    let env = environment(dir.path(), 3, EnvFlags::empty());
    let db = Database::open_or_create(&env).unwrap();
    index(&env, db, 0, 3);
    let writer = Writer::open(&env.read_txn().unwrap(), db, 0).unwrap();
    keep(&env);
    env.prepare_for_closing().wait();
    (db, writer)
}

/// LMDB numbers the tables of an environment, and the next environment may lie at the same address.
#[test]
fn a_handle_that_outlives_its_environment_writes_nowhere() {
    for round in 0..10 {
        for tables in [&["theirs"][..], &["a", "spinney"], &["spinney"], &[]] {
            let (db, writer) = stale(|_| ());
            let dir = tempfile::tempdir().unwrap();
            let env = environment(dir.path(), 3, EnvFlags::empty());
            let mut theirs = Vec::new();
            for name in tables {
                if *name == "spinney" {
                    index(&env, Database::open_or_create(&env).unwrap(), 0, 5);
                }
                theirs.push(table(&env, Some(name), DatabaseFlags::empty()));
            }
            let read = || {
                let rtxn = env.read_txn().unwrap();
                theirs.iter().map(|table| content(&rtxn, *table)).collect::<Vec<_>>()
            };
            let before = read();
            let mut wtxn = env.write_txn().unwrap();
            refuse_all(db, writer, &mut wtxn, &format!("round {round}, {tables:?}"));
            wtxn.commit().unwrap();
            assert_eq!(read(), before);
        }
    }
}

#[test]
fn a_transaction_of_another_open_environment_is_refused() {
    let (one, other) = (Store::new(), Store::new());
    let (mut wtxn, mut right) = (other.env.write_txn().unwrap(), one.env.write_txn().unwrap());
    let writer = Writer::open_or_create(&mut right, one.db, 0, &options()).unwrap();
    refuse_all(one.db, writer, &mut wtxn, "another environment");
    writer.add_item(&mut right, 1, &[1.0, 2.0]).unwrap();
    assert!(other.db.indexes(&wtxn).unwrap().is_empty());
}

/// A table that its host has emptied is no longer ours until it is opened again.
#[test]
fn an_emptied_table_has_to_be_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let env = environment(dir.path(), 1, EnvFlags::empty());
    let db = Database::open_or_create(&env).unwrap();
    index(&env, db, 0, 3);
    let writer = Writer::open(&env.read_txn().unwrap(), db, 0).unwrap();
    let raw = table(&env, Some("spinney"), DatabaseFlags::empty());
    let mut wtxn = env.write_txn().unwrap();
    raw.clear(&mut wtxn).unwrap();
    refuse_all(db, writer, &mut wtxn, "emptied");
    wtxn.commit().unwrap();
    let db = Database::open_or_create(&env).unwrap();
    index(&env, db, 0, 3);
}

/// A read transaction that began before the table existed shows no index of it.
#[test]
fn an_older_snapshot_does_not_show_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let env = environment(dir.path(), 1, EnvFlags::empty());
    let before = env.read_txn().unwrap();
    let db = Database::open_or_create(&env).unwrap();
    index(&env, db, 0, 3);
    assert!(matches!(Reader::open(&before, db, 0), Err(Error::OtherEnvironment)));
    drop(before);
    assert_eq!(nearest(&env, db, 0, 1.0), 1);
}

/// Environments that keep one read transaction for each thread serve as well.
#[test]
#[allow(unsafe_code)]
fn environments_with_thread_local_readers_open_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = EnvOpenOptions::new();
    // SAFETY: as in `environment`.
    let env: heed::Env<WithTls> =
        unsafe { options.map_size(MAP_SIZE).max_dbs(1).open(dir.path()).unwrap() };
    let db = Database::open_or_create(&env).unwrap();
    assert!(Database::open(&env).unwrap().is_some());
    assert!(db.indexes(&env.read_txn().unwrap()).unwrap().is_empty());
}
