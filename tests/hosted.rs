//! Hosts that open their own databases and ours in one transaction: the same tables are refused as
//! by `Database::open`, and what is aborted leaves nothing.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use spinney::heed::types::{Bytes, Str};
use spinney::heed::{self, CommitOrAbort, DatabaseFlags, EnvFlags, RoTxn};
use spinney::{Database, Error, IndexOptions, Metric, Reader, UncommittedDatabase, Writer};
use support::*;
use tempfile::TempDir;

type Table = heed::Database<'static, Bytes, Bytes>;
/// The entries of a table.
type Entries<'a> = &'a [(&'a [u8], &'a [u8])];
type Content = Vec<(Vec<u8>, Vec<u8>)>;

fn environment() -> (TempDir, Env) {
    let dir = tempfile::tempdir().unwrap();
    let env = open_env_with(dir.path(), 10 << 20, 4, EnvFlags::empty());
    (dir, env)
}

/// A table of the host's own kind with these entries.
fn table(env: &Env, name: &str, flags: DatabaseFlags, entries: Entries<'_>) -> Table {
    let created = env.create_databases_and_commit(env.write_txn().unwrap(), |opener, wtxn| {
        let mut options = opener.database_options().types::<Bytes, Bytes>();
        options.name(name).flags(flags);
        let table = options.create(wtxn)?;
        entries.iter().try_for_each(|(key, value)| table.put(wtxn, key, value))?;
        Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(table))
    });
    created.unwrap().unwrap_commit()
}

fn content(rtxn: &RoTxn<'_>, table: Table) -> Content {
    let entries = table.iter(rtxn).unwrap().move_through_duplicate_values().map(Result::unwrap);
    entries.map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

fn names(env: &Env) -> Vec<Vec<u8>> {
    let rtxn = env.read_txn().unwrap();
    let unnamed = env.open_databases_and_commit(env.read_txn().unwrap(), |opener, rtxn| {
        opener.open_database::<Bytes, Bytes>(rtxn, None).map(CommitOrAbort::<_, ()>::Commit)
    });
    let unnamed: Result<_, heed::Error> = unnamed;
    let unnamed = unnamed.unwrap().unwrap_commit().unwrap();
    content(&rtxn, unnamed).into_iter().map(|(name, _)| name).collect()
}

/// Opens ours beside a table of the host, and commits if it could be opened.
fn create(env: &Env, name: &str) -> Result<Database, Error> {
    let created = env.create_databases_and_commit(env.write_txn()?, |opener, wtxn| {
        let host = opener.create_database::<Str, Str>(wtxn, Some("host"))?;
        let ours = Database::open_or_create_with(opener, wtxn, name)?;
        Ok::<_, Error>(CommitOrAbort::<_, ()>::Commit((host, ours)))
    })?;
    Ok(created.unwrap_commit().1)
}

fn open(env: &Env, name: &str) -> Result<Option<Database>, Error> {
    let opened = env.open_databases_and_commit(env.read_txn()?, |opener, rtxn| {
        let ours = Database::open_with(opener, rtxn, name)?;
        Ok::<_, Error>(CommitOrAbort::<_, ()>::Commit(ours))
    })?;
    Ok(opened.unwrap_commit())
}

fn add(env: &Env, db: Database, id: u32) {
    let mut wtxn = env.write_txn().unwrap();
    let options = IndexOptions::new(1, Metric::Euclidean);
    let writer = Writer::open_or_create(&mut wtxn, db, 0, &options).unwrap();
    writer.add_item(&mut wtxn, id, &[1.0]).unwrap();
    wtxn.commit().unwrap();
}

#[test]
fn all_ways_of_opening_give_the_same_database() {
    let (_dir, env) = environment();
    assert!(open(&env, "spinney").unwrap().is_none());
    let created = create(&env, "spinney").unwrap();
    assert_eq!(names(&env), [&b"host"[..], b"spinney"]);
    add(&env, created, 1);
    let handles = [
        create(&env, "spinney").unwrap(),
        open(&env, "spinney").unwrap().unwrap(),
        Database::open(&env).unwrap().unwrap(),
        Database::open_or_create(&env).unwrap(),
    ];
    for (id, db) in (2..).zip(handles) {
        add(&env, db, id);
    }
    let rtxn = env.read_txn().unwrap();
    let ids = Reader::open(&rtxn, created, 0).unwrap().ids().unwrap();
    assert_eq!(ids.collect::<Result<Vec<_>, _>>().unwrap(), [1, 2, 3, 4, 5]);
}

#[test]
fn what_the_host_aborts_was_never_there() {
    let (_dir, env) = environment();
    let aborted = env.create_databases_and_commit(env.write_txn().unwrap(), |opener, wtxn| {
        Database::open_or_create_with(opener, wtxn, "spinney")?;
        Ok::<_, Error>(CommitOrAbort::<UncommittedDatabase<'_>, _>::Abort(()))
    });
    assert!(aborted.unwrap().commit().is_none());
    assert!(names(&env).is_empty() && Database::open(&env).unwrap().is_none());
    create(&env, "spinney").unwrap();
}

#[test]
fn tables_of_others_are_refused_and_unchanged() {
    let theirs: [(DatabaseFlags, Entries<'_>); 4] = [
        (DatabaseFlags::empty(), &[(b"a record", b"theirs")]),
        (DatabaseFlags::DUP_SORT, &[]),
        (DatabaseFlags::DUP_SORT, &[(b"key", b"one"), (b"key", b"two")]),
        (DatabaseFlags::REVERSE_KEY, &[(b"key", b"one")]),
    ];
    for (flags, entries) in theirs {
        let (_dir, env) = environment();
        let theirs = table(&env, "spinney", flags, entries);
        let before = content(&env.read_txn().unwrap(), theirs);
        for opened in [open(&env, "spinney"), create(&env, "spinney").map(Some)] {
            let is_refused =
                matches!(&opened, Err(Error::ForeignTable { name, .. }) if name == "spinney");
            assert!(is_refused, "{flags:?}: {opened:?}");
        }
        assert_eq!(names(&env), [b"spinney"], "the host's transaction was aborted");
        // A host may also go on without it.
        let created = env.create_databases_and_commit(env.write_txn().unwrap(), |opener, wtxn| {
            let host = opener.create_database::<Str, Str>(wtxn, Some("host"))?;
            assert!(Database::open_or_create_with(opener, wtxn, "spinney").is_err());
            Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(host))
        });
        created.unwrap();
        assert_eq!(names(&env), [&b"host"[..], b"spinney"]);
        assert_eq!(content(&env.read_txn().unwrap(), theirs), before);
        add(&env, create(&env, "ours").unwrap(), 7);
    }
}

#[test]
fn names_that_lmdb_cannot_have_are_refused() {
    let (_dir, env) = environment();
    for name in ["", "spin\0ney", &"n".repeat(512)] {
        for opened in [open(&env, name), create(&env, name).map(Some)] {
            assert!(matches!(opened, Err(Error::InvalidOption { name: "name", .. })), "{opened:?}");
        }
    }
    assert!(names(&env).is_empty());
}

#[test]
fn a_transaction_that_is_not_the_openers_is_refused() {
    let ((_one, env), (_two, other)) = (environment(), environment());
    create(&env, "spinney").unwrap();
    let mut elsewhere = other.write_txn().unwrap();
    let refused = env.create_databases_and_commit(env.write_txn().unwrap(), |opener, _| {
        Database::open_or_create_with(opener, &mut elsewhere, "spinney")
            .map(CommitOrAbort::<_, ()>::Commit)
    });
    assert!(matches!(refused, Err(Error::OtherEnvironment)));
    elsewhere.commit().unwrap();
    assert!(names(&other).is_empty());
    for stranger in [&other, &env] {
        let stranger = stranger.read_txn().unwrap();
        let refused = env.open_databases_and_commit(env.read_txn().unwrap(), |opener, _| {
            Database::open_with(opener, &stranger, "spinney").map(CommitOrAbort::<_, ()>::Commit)
        });
        assert!(matches!(refused, Err(Error::OtherEnvironment)));
    }
}
