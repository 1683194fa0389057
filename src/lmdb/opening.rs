//! Opening the LMDB table of a database: the file must be whole, and the table of a plain kind and
//! nobody else's.

use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};

use heed::types::Bytes;
use heed::{CommitOrAbort, DatabaseOpener, Env, EnvFlags, MdbError, RoTxn, RwTxn};

use crate::error::{Error, Result};
use crate::format::mark::{MARK_KEY, Mark};
use crate::format::record;
use crate::key::Key;
use crate::lmdb::extent;

/// A table, while it is being opened or afterwards.
pub(crate) type Table<'e> = heed::Database<'e, Bytes, Bytes>;

/// The longest name that LMDB takes, in bytes.
const MAX_NAME: usize = 511;

/// Whose a table is.
#[derive(Copy, Clone, Debug)]
enum Owner {
    /// Ours.
    Marked(Mark),
    /// Ours, by a version that wrote no marks.
    Unmarked,
    /// Nobody's: it is empty.
    Nobody,
    Stranger,
}

/// Opens the table of this name, if it exists and is ours, without writing.
pub(crate) fn open<T>(env: &Env<T>, name: &str) -> Result<Option<(Table<'static>, Option<Mark>)>>
where
    for<'e> RoTxn<'e, T>: Deref<Target = RoTxn<'e>>,
{
    check_name(name)?;
    let rtxn = env.read_txn()?;
    extent::check(env)?;
    let mut mark = None;
    // A transaction that is not committed gives the slot of the table back.
    let opened = env.open_databases_and_commit(rtxn, |opener, rtxn| {
        let Some((table, found)) = open_in(opener, rtxn, name)? else {
            return Ok(CommitOrAbort::Abort(()));
        };
        mark = found;
        Ok::<_, Error>(CommitOrAbort::Commit(table))
    })?;
    Ok(opened.commit().map(|table| (table, mark)))
}

/// Opens the table of this name, creates it if it is missing, and marks it if it has no mark.
pub(crate) fn open_or_create<T>(env: &Env<T>, name: &str) -> Result<(Table<'static>, Option<Mark>)>
where
    for<'e> RoTxn<'e, T>: Deref<Target = RoTxn<'e>>,
{
    if let Some((table, mark)) = open(env, name)? {
        let is_read_only = env.flags()?.is_some_and(|flags| flags.contains(EnvFlags::READ_ONLY));
        if mark.is_some() || is_read_only {
            return Ok((table, mark));
        }
    }
    let wtxn = env.write_txn()?;
    let mut mark = None;
    let created = env.create_databases_and_commit(wtxn, |opener, wtxn| {
        let (table, found) = open_or_create_in(opener, wtxn, name)?;
        mark = Some(found);
        Ok::<_, Error>(CommitOrAbort::<_, ()>::Commit(table))
    })?;
    let table = created.commit().ok_or(Error::Heed(heed::Error::Mdb(MdbError::NotFound)))?;
    Ok((table, mark))
}

/// As [`open`], in a transaction that may open other tables, too.
pub(crate) fn open_in<'e, T>(
    opener: &DatabaseOpener<'e, T>,
    rtxn: &RoTxn<'e>,
    name: &str,
) -> Result<Option<(Table<'e>, Option<Mark>)>> {
    check_name(name)?;
    let opened = refuse_panic(|| opener.open_database::<Bytes, Bytes>(rtxn, Some(name)))?;
    let Some(table) = opened.map_err(|error| not_a_table(error, name))? else { return Ok(None) };
    check_kind(opener, rtxn, name)?;
    match owner(table, rtxn)? {
        Owner::Marked(mark) => Ok(Some((table, Some(mark)))),
        Owner::Unmarked => Ok(Some((table, None))),
        Owner::Nobody => Ok(None),
        Owner::Stranger => Err(foreign(name)),
    }
}

/// As [`open_or_create`], in a transaction that may open other tables, too.
pub(crate) fn open_or_create_in<'e, T>(
    opener: &DatabaseOpener<'e, T>,
    wtxn: &mut RwTxn<'e>,
    name: &str,
) -> Result<(Table<'e>, Mark)> {
    check_name(name)?;
    let created = refuse_panic(|| opener.create_database::<Bytes, Bytes>(wtxn, Some(name)))?;
    let table = created.map_err(|error| not_a_table(error, name))?;
    check_kind(opener, wtxn, name)?;
    match owner(table, wtxn)? {
        Owner::Marked(mark) => Ok((table, mark)),
        Owner::Unmarked | Owner::Nobody => {
            let mark = Mark::unique();
            table.put(wtxn, &MARK_KEY, &mark.to_bytes())?;
            Ok((table, mark))
        }
        Owner::Stranger => Err(foreign(name)),
    }
}

/// `heed` panics, before it does anything, where a transaction is not the one it expects.
fn refuse_panic<R>(call: impl FnOnce() -> R) -> Result<R> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|_| Error::OtherEnvironment)
}

/// An error unless the transaction shows the table that was opened with this mark.
///
/// LMDB knows tables by their number in an environment, and `heed` knows environments by their
/// address. Both can be those of another table once the environment is closed, and the mark cannot.
pub(crate) fn check(table: Table<'static>, mark: Option<Mark>, rtxn: &RoTxn<'_>) -> Result<()> {
    let found = refuse_panic(|| match mark {
        Some(_) => marked(table, rtxn).map(|found| found == mark),
        // Somebody may have marked it since, or deleted its last index.
        None => owner(table, rtxn).map(|owner| !matches!(owner, Owner::Stranger)),
    })?;
    match found {
        Ok(true) => Ok(()),
        Err(error) if !is_unknown_number(&error) => Err(error.into()),
        _ => Err(Error::OtherEnvironment),
    }
}

/// Whether LMDB says that the environment, or the snapshot, has no table of this number.
fn is_unknown_number(error: &heed::Error) -> bool {
    match error {
        heed::Error::Io(error) => error.kind() == std::io::ErrorKind::InvalidInput,
        heed::Error::Mdb(error) => *error == MdbError::BadDbi,
        _ => false,
    }
}

fn check_name(name: &str) -> Result<()> {
    if (1..=MAX_NAME).contains(&name.len()) && !name.contains('\0') {
        return Ok(());
    }
    Err(Error::option("name", "1 to 511 bytes, none of them zero", format_args!("{name:?}")))
}

/// What LMDB's refusal to open a name as a table means.
fn not_a_table(error: heed::Error, name: &str) -> Error {
    match error {
        heed::Error::Mdb(MdbError::Incompatible) => Error::ForeignTable {
            name: name.to_owned(),
            what: "the unnamed database has an entry of this name that is no table, or can hold no tables",
        },
        error => error.into(),
    }
}

fn foreign(name: &str) -> Error {
    Error::ForeignTable {
        name: name.to_owned(),
        what: "it holds entries, and none is the mark or a record of this crate",
    }
}

/// An error if keys are in another order than ours, or have many values.
///
/// `heed` has no call for the flags of a table. LMDB keeps them in the entry of its name in the
/// unnamed database.
fn check_kind<'e, T>(opener: &DatabaseOpener<'e, T>, rtxn: &RoTxn<'e>, name: &str) -> Result<()> {
    let Some(unnamed) = opener.open_database::<Bytes, Bytes>(rtxn, None)? else { return Ok(()) };
    match unnamed.get(rtxn, name.as_bytes())?.and_then(|description| description.get(FLAGS)) {
        Some(flags) if flags.iter().any(|byte| *byte != 0) => Err(Error::ForeignTable {
            name: name.to_owned(),
            what: "it was created with flags, as DUP_SORT or INTEGER_KEY, and this crate's have none",
        }),
        _ => Ok(()),
    }
}

/// Where `md_flags` is in LMDB's `MDB_db`.
const FLAGS: std::ops::Range<usize> = 4..6;

fn marked(table: Table<'_>, rtxn: &RoTxn<'_>) -> heed::Result<Option<Mark>> {
    Ok(table.get(rtxn, &MARK_KEY)?.and_then(Mark::parse))
}

fn owner(table: Table<'_>, rtxn: &RoTxn<'_>) -> heed::Result<Owner> {
    if let Some(mark) = marked(table, rtxn)? {
        return Ok(Owner::Marked(mark));
    }
    let mut first = Key::record(0);
    if table.first(rtxn)?.is_none() {
        return Ok(Owner::Nobody);
    }
    // The record of an index comes first among its keys; one index may be damaged.
    while let Some((key, value)) = table.get_greater_than_or_equal_to(rtxn, first.as_bytes())? {
        let Some([high, low]) = key.first_chunk() else { break };
        let index = u16::from_be_bytes([*high, *low]);
        if key == Key::record(index).as_bytes() && value.starts_with(&record::MAGIC) {
            return Ok(Owner::Unmarked);
        }
        let Some(next) = index.checked_add(1) else { break };
        first = Key::record(next);
    }
    Ok(Owner::Stranger)
}
