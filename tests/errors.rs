//! Laws of failure: every error is raised, says what to do, and changes nothing; no stored bytes
//! cause a panic.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "errors/raised.rs"]
mod raised;
#[path = "errors/stores.rs"]
mod stores;
mod support;

use std::collections::BTreeSet;

use raised::{of_disk, raised_by_input, raised_by_opening, raised_by_storage};
use spinney::heed::{self, MdbError, RwTxn};
use spinney::{BuildOptions, Error, IndexOptions, Metric, Reader, Storage, Writer};
use stores::raised_by_stores;
use support::raw::*;
use support::*;

fn variant(error: &Error) -> String {
    format!("{error:?}").chars().take_while(char::is_ascii_alphanumeric).collect()
}

#[test]
fn every_variant_is_raised_and_says_what_to_do() {
    let mut met = BTreeSet::new();
    let raised = [raised_by_input(), raised_by_storage(), raised_by_opening(), raised_by_stores()];
    for (error, says) in raised.into_iter().flatten() {
        let message = error.to_string();
        for part in says {
            assert!(message.contains(part), "{part:?} is missing in {message:?}");
        }
        let asks = message.contains(": ") || matches!(error, Error::Heed(_));
        assert!(asks && !message.contains('\n'), "{message}");
        met.insert(variant(&error));
    }
    let source = include_str!("../src/error/mod.rs");
    let body = source.split("pub enum Error {").nth(1).unwrap().split("\n}").next().unwrap();
    let names = body.lines().filter_map(|line| line.strip_prefix("    "));
    let names = names.filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    let names =
        names.map(|line| line.chars().take_while(char::is_ascii_alphanumeric).collect::<String>());
    assert_eq!(met, names.collect(), "variants raised here, and variants in src/error/mod.rs");
}

#[test]
fn fields_tell_what_was_expected_and_what_was_got() {
    let errors: Vec<Error> = raised_by_input().into_iter().map(|(error, _)| error).collect();
    let mut errors = errors.into_iter();
    let mut next = || errors.next().unwrap();
    assert!(matches!(next(), Error::Dimensions { expected: 3, got: 4 }));
    assert!(matches!(next(), Error::VectorsShape { ids: 2, dims: 3, expected: 6, got: 7 }));
    assert!(
        matches!(next(), Error::Row { row: 1, id: 9, source } if matches!(*source, Error::NonFinite { position: 1, .. }))
    );
    assert!(matches!(next(), Error::NonFinite { position: 1, value: f32::NEG_INFINITY }));
    assert!(matches!(next(), Error::ZeroVector));
    assert!(
        matches!(next(), Error::NormOverflow { got, max } if got > 4.9e30 && max == 2f64.powi(60))
    );
    assert!(matches!(next(), Error::NotABit { position: 1, value: 0.5 }));
    assert!(matches!(next(), Error::IndexNotFound { index: 77 }));
    assert!(matches!(
        next(),
        Error::MetricMismatch { index: 0, expected: Metric::Cosine, got: Metric::Hamming }
    ));
    assert!(matches!(next(), Error::DimensionsMismatch { index: 0, expected: 3, got: 4 }));
    assert!(matches!(
        next(),
        Error::StorageMismatch { index: 0, expected: Storage::F32, got: Storage::I8 }
    ));
    assert!(matches!(next(), Error::DimensionsOutOfRange { got: 65_537, max: 65_536 }));
    assert!(matches!(next(), Error::Cancelled));
    assert!(matches!(next(), Error::InvalidOption { name: "trees", got, .. } if got == "17"));
    let mut errors = raised_by_storage().into_iter().map(|(error, _)| error);
    let mut next = || errors.next().unwrap();
    assert!(matches!(next(), Error::Corrupted { key: k, .. } if k == key(0, ITEM, 0, 9)));
    assert!(matches!(next(), Error::FormatTooNew { found: 9, supported: 3 }));
    assert!(matches!(next(), Error::MapFull));
    assert!(matches!(next(), Error::DbsFull));
    assert!(matches!(next(), Error::Heed(heed::Error::Mdb(MdbError::BadRslot))));
    assert!(matches!(next(), Error::ReadersFull) && matches!(next(), Error::MapResized));
    assert!(matches!(next(), Error::DiskFull(_)));
    assert!(matches!(next(), Error::TemporaryFile { path, .. } if !path.exists()));
    // EIO of a write that was taken in part, EFBIG, EDQUOT; and what is no such error.
    assert!([5, 27, 122].iter().all(|number| matches!(of_disk(*number), Error::DiskFull(_))));
    assert!([13, 22, 9].iter().all(|number| matches!(of_disk(*number), Error::Heed(_))));
    let mut errors = raised_by_opening().into_iter().map(|(error, _)| error);
    let mut next = || errors.next().unwrap();
    assert!(matches!(next(), Error::ForeignTable { name, .. } if name == "spinney"));
    assert!(matches!(next(), Error::OtherEnvironment));
    assert!(matches!(next(), Error::Truncated { have: 8192, need: 16384 }));
}

type Operation<'a> = &'a dyn Fn(&mut RwTxn<'_>) -> Option<Error>;

/// Checks that an operation fails and leaves every byte as it is.
fn refused(
    store: &Store,
    wtxn: &mut RwTxn<'_>,
    operation: impl FnOnce(&mut RwTxn<'_>) -> Option<Error>,
) -> Error {
    let raw = store.raw;
    let before = raw.all(wtxn);
    let error = operation(wtxn).expect("the operation is refused");
    assert!(raw.all(wtxn) == before, "an operation that failed with {error} changed something");
    error
}

#[test]
fn an_index_that_is_another_is_refused_and_not_touched() {
    let store = planted(Metric::Euclidean, 6);
    let mut wtxn = store.env.write_txn().unwrap();
    for (dims, metric) in
        [1, 5, 6, 7].into_iter().flat_map(|dims| METRICS.map(|metric| (dims, metric)))
    {
        let open = |wtxn: &mut RwTxn<'_>| {
            Writer::open_or_create(wtxn, store.db, 0, &IndexOptions::new(dims, metric)).err()
        };
        match (dims, metric) {
            (6, Metric::Euclidean) => assert!(open(&mut wtxn).is_none()),
            (_, Metric::Euclidean) => {
                let error = refused(&store, &mut wtxn, open);
                assert!(
                    matches!(error, Error::DimensionsMismatch { index: 0, expected: 6, got } if got == dims)
                );
            }
            _ => {
                let error = refused(&store, &mut wtxn, open);
                let expected = Metric::Euclidean;
                assert!(
                    matches!(error, Error::MetricMismatch { index: 0, expected: e, got } if e == expected && got == metric)
                );
            }
        }
    }
}

#[test]
fn one_bad_vector_among_many_writes_nothing() {
    let store = planted(Metric::Cosine, 6);
    let mut wtxn = store.env.write_txn().unwrap();
    let writer = Writer::open(&wtxn, store.db, 0).unwrap();
    for (value, name) in [(f32::NAN, "NonFinite"), (1e30, "NormOverflow"), (0.0, "ZeroVector")] {
        for bad in [0, 17, 49] {
            let mut rows = vec![1.0; 50 * 6];
            rows[6 * bad..6 * bad + 6].fill(value);
            let ids: Vec<u32> = (0..50).map(|row| 7 * row).collect();
            let error =
                refused(&store, &mut wtxn, |wtxn| writer.add_items(wtxn, &ids, &rows).err());
            let Error::Row { row, id, source } = error else {
                panic!("{error} does not name the row")
            };
            assert_eq!((row, id, variant(&source)), (bad, 7 * bad as u32, name.to_owned()));
            if let Error::NonFinite { position, .. } = *source {
                assert_eq!(position, 0, "in the row");
            }
        }
    }
    let reader = Reader::open(&wtxn, store.db, 0).unwrap();
    let ask = |query: &[f32]| variant(&reader.nns(1).by_vector(query).unwrap_err());
    assert_eq!(ask(&[0.0; 6]), "ZeroVector");
    assert_eq!(ask(&[1e30; 6]), "NormOverflow");
    assert_eq!(ask(&[f32::NAN; 6]), "NonFinite");
    assert_eq!(ask(&[1.0; 5]), "Dimensions");
    drop(reader);
    // Queries that do not suit the index measure nothing.
    let mut measure =
        |queries: &[f32]| refused(&store, &mut wtxn, |wtxn| writer.calibrate(wtxn, queries).err());
    for numbers in [1, 5, 7, 6 * 50 + 1] {
        assert!(
            matches!(measure(&vec![1.0; numbers]), Error::QueriesShape { dims: 6, got } if got == numbers)
        );
    }
    for bad in [0, 17, 49, 2500] {
        let mut rows = vec![1.0; 2600 * 6];
        rows[6 * bad + 4] = f32::NAN;
        assert!(
            matches!(measure(&rows), Error::NonFinite { position, .. } if position == 6 * bad + 4)
        );
        rows[6 * bad..6 * bad + 6].fill(0.0);
        assert!(matches!(measure(&rows), Error::ZeroVector));
    }
}

#[test]
fn a_writer_of_an_index_that_was_replaced_is_refused() {
    let store = planted(Metric::Euclidean, 6);
    let mut wtxn = store.env.write_txn().unwrap();
    let stale = Writer::open(&wtxn, store.db, 0).unwrap();
    let all = |wtxn: &mut RwTxn<'_>| {
        [
            variant(&refused(&store, wtxn, |wtxn| stale.add_item(wtxn, 1, &[1.0; 6]).err())),
            variant(&refused(&store, wtxn, |wtxn| stale.add_items(wtxn, &[1], &[1.0; 6]).err())),
            variant(&refused(&store, wtxn, |wtxn| stale.del_item(wtxn, 1).err())),
            variant(&refused(&store, wtxn, |wtxn| stale.clear(wtxn).err())),
            variant(&refused(&store, wtxn, |wtxn| {
                stale.build(wtxn, &BuildOptions::default()).err()
            })),
            variant(&refused(&store, wtxn, |wtxn| stale.len(wtxn).err())),
            variant(&refused(&store, wtxn, |wtxn| stale.pending_len(wtxn).err())),
        ]
    };
    store.db.delete_index(&mut wtxn, 0).unwrap();
    assert_eq!(all(&mut wtxn), ["IndexNotFound"; 7]);
    let other = create(&store, &mut wtxn, 7, Metric::Euclidean);
    other.add_item(&mut wtxn, 1, &[1.0; 7]).unwrap();
    assert_eq!(all(&mut wtxn), ["DimensionsMismatch"; 7]);
    store.db.delete_index(&mut wtxn, 0).unwrap();
    create(&store, &mut wtxn, 6, Metric::Cosine);
    assert_eq!(all(&mut wtxn), ["MetricMismatch"; 7]);
}

/// Six and seven components are padded to the same length, so that the bytes alone do not differ.
#[test]
fn a_writer_of_an_index_that_was_replaced_reads_no_part_of_a_vector() {
    let store = Store::new();
    let mut wtxn = store.env.write_txn().unwrap();
    let stale = create(&store, &mut wtxn, 6, Metric::Euclidean);
    store.db.delete_index(&mut wtxn, 0).unwrap();
    let other = create(&store, &mut wtxn, 7, Metric::Euclidean);
    other.add_item(&mut wtxn, 1, &[1.0; 7]).unwrap();
    let read = stale.item_vector(&wtxn, 1);
    assert!(read.is_err(), "a part of a vector: {read:?}");
}

#[test]
fn a_newer_format_is_refused_and_not_touched() {
    let store = planted(Metric::Euclidean, 6);
    let (raw, record) = (store.raw, key(0, RECORD, 0, 0));
    let mut wtxn = store.env.write_txn().unwrap();
    let stale = Writer::open(&wtxn, store.db, 0).unwrap();
    let mut bytes = raw.get(&wtxn, record);
    bytes[8..10].copy_from_slice(&777u16.to_le_bytes());
    bytes.extend([9; 64]);
    raw.put(&mut wtxn, record, &bytes);
    let operations: [Operation<'_>; 5] = [
        &|wtxn| Reader::open(wtxn, store.db, 0).err(),
        &|wtxn| Writer::open(wtxn, store.db, 0).err(),
        &|wtxn| {
            Writer::open_or_create(wtxn, store.db, 0, &IndexOptions::new(6, Metric::Euclidean))
                .err()
        },
        &|wtxn| stale.add_item(wtxn, 1, &[1.0; 6]).err(),
        &|wtxn| stale.build(wtxn, &BuildOptions::default()).err(),
    ];
    for operation in operations {
        let error = refused(&store, &mut wtxn, operation);
        assert!(matches!(error, Error::FormatTooNew { found: 777, supported: 3 }), "{error}");
    }
}

/// Changes an item, builds and commits. Returns whether that worked, or the map was full.
fn changed(store: &Store) -> bool {
    let mut wtxn = store.env.write_txn().unwrap();
    let writer = Writer::open(&wtxn, store.db, 0).unwrap();
    let mut result = writer.add_item(&mut wtxn, 5, &[0.5; 6]);
    result = result.and_then(|()| writer.build(&mut wtxn, &BuildOptions::default()).map(|_| ()));
    let committed = wtxn.commit();
    match result {
        Ok(()) => committed.is_ok(),
        Err(error) => {
            assert!(matches!(error, Error::MapFull), "{error}");
            assert!(committed.is_err(), "LMDB refuses the commit");
            false
        }
    }
}

/// Builds under maps of more and more pages: each fails and keeps the last commit, or gives what
/// never failed gives.
#[test]
fn a_full_map_keeps_the_last_commit_and_a_retry_in_a_larger_one_works() {
    let bytes = |store: &Store| store.raw.all(&store.env.read_txn().unwrap());
    let never_failed = planted(Metric::Euclidean, 6);
    assert!(changed(&never_failed));
    let mut failures = 0;
    for pages in (0..).step_by(12) {
        let store = planted(Metric::Euclidean, 6);
        let before = bytes(&store);
        let used = store.env.info().last_page_number + 1;
        let store = store.reopen(4096 * (used + pages));
        let done = changed(&store);
        let store = store.reopen(64 << 20);
        if !done {
            failures += 1;
            assert!(bytes(&store) == before, "a failed transaction changed something");
            let errors = read_all(&store, &store.env.read_txn().unwrap());
            assert!(errors.is_empty(), "{errors:?}");
            assert!(changed(&store), "it works in a larger map");
        }
        assert!(bytes(&store) == bytes(&never_failed), "what was built after a failure is another");
        if done {
            break;
        }
    }
    assert!(failures > 2, "the map was full {failures} times");
}
