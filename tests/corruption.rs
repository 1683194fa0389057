//! Laws of damage: whatever bytes are stored, reading, searching, changing and building give an
//! error or an answer. No panic, no endless loop.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "corruption/forged.rs"]
mod forged;
#[path = "corruption/lengths.rs"]
mod lengths;
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::seq::IndexedRandom;
use spinney::heed::RwTxn;
use spinney::{Error, Hits, Metric, Reader};
use support::confined::confined;
use support::raw::*;
use support::*;

const DIMS: usize = 6;
/// Kinds of which a store that was built in bulk has entries: all but free node ids.
const STORED: [usize; 6] = [0, 1, 2, 3, 4, 6];

/// A store that is damaged again and again, in transactions that are dropped.
struct Trials {
    store: Store,
    raw: Raw,
    metric: Metric,
    /// All entries by kind, as they are.
    kinds: [Entries; 7],
    /// What the sound store answers.
    answers: Vec<Hits>,
    failures: Vec<String>,
}

impl Trials {
    fn new(metric: Metric) -> Self {
        let store = planted(metric, DIMS);
        let raw = store.raw;
        let mut kinds = <[Entries; 7]>::default();
        let rtxn = store.env.read_txn().unwrap();
        for (key, value) in raw.all(&rtxn) {
            kinds[usize::from(key[2])].push((key, value));
        }
        // All but free node ids, which a bulk build leaves none of.
        assert!(
            kinds
                .iter()
                .enumerate()
                .all(|(kind, entries)| STORED.contains(&kind) != entries.is_empty())
        );
        let reader = Reader::open(&rtxn, store.db, 0).unwrap();
        assert_sound(&reader, "before the damage");
        let answers = answers(&reader).into_iter().map(Result::unwrap).collect();
        drop(reader);
        drop(rtxn);
        Self { store, raw, metric, kinds, answers, failures: Vec::new() }
    }

    /// Damages the store, does all there is to do with it, and returns the errors met. A panic is
    /// kept for the end.
    fn suffer(
        &mut self,
        what: &str,
        with_build: bool,
        damage: impl FnOnce(&Raw, &mut RwTxn<'_>),
    ) -> Vec<Error> {
        let mut wtxn = self.store.env.write_txn().unwrap();
        damage(&self.raw, &mut wtxn);
        let errors =
            catch_unwind(AssertUnwindSafe(|| exercise(&self.store, &mut wtxn, with_build)));
        drop(wtxn);
        errors.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            self.failures.push(format!("{what}: {}", text.unwrap_or_default()));
            Vec::new()
        })
    }

    /// The same for a value in the place of another, which gets the check of its bytes.
    fn replace(&mut self, what: &str, key: [u8; 8], value: &[u8]) -> Vec<Error> {
        self.suffer(what, true, |raw, wtxn| raw.put(wtxn, key, value))
    }

    /// The same for a value that is as it is. If a verification finds nothing, nothing is answered
    /// otherwise than before.
    fn damage(
        &mut self,
        what: &str,
        with_build: bool,
        key: [u8; 8],
        before: &[u8],
        value: &[u8],
    ) -> Vec<Error> {
        let mut wtxn = self.store.env.write_txn().unwrap();
        self.raw.0.put(&mut wtxn, &key, value).unwrap();
        let changed = catch_unwind(AssertUnwindSafe(|| {
            let reader = Reader::open(&wtxn, self.store.db, 0).ok()?;
            let is_sound = reader.verify().unwrap().is_sound();
            let answers = answers(&reader).into_iter().collect::<Result<Vec<_>, Error>>();
            let is_same = answers.is_ok_and(|answers| answers == self.answers);
            (is_sound && !is_same).then_some(())
        }));
        drop(wtxn);
        // What is another vector now is none of the store's business.
        if changed.is_ok_and(|changed| changed.is_some())
            && vector_of(self.metric, key, before) == vector_of(self.metric, key, value)
        {
            self.failures.push(format!("{what}: other answers, and nothing is named"));
        }
        self.suffer(what, with_build, |raw, wtxn| raw.0.put(wtxn, &key, value).unwrap())
    }

    fn finish(self) {
        assert!(
            self.failures.is_empty(),
            "{} failures:\n{}",
            self.failures.len(),
            self.failures.join("\n")
        );
    }
}

/// The bytes of the vector that a value holds.
fn vector_of(metric: Metric, key: [u8; 8], value: &[u8]) -> Option<&[u8]> {
    let bytes = if metric == Metric::Hamming { DIMS.div_ceil(8) } else { 4 * DIMS };
    match key[2] {
        ITEM => value.get(16..16 + bytes),
        PENDING => value.get(32..32 + bytes),
        _ => None,
    }
}

fn is_about(error: &Error, expected: [u8; 8]) -> bool {
    matches!(error, Error::Corrupted { key, .. } if *key == expected)
}

fn put_u32(value: &mut [u8], at: usize, number: u32) {
    value[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

fn get_u32(value: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(value[at..at + 4].try_into().unwrap())
}

#[test]
fn values_that_are_too_short_or_too_long_are_named() {
    confined("values_that_are_too_short_or_too_long_are_named", 120, || {
        for metric in [Metric::Cosine, Metric::Manhattan, Metric::Hamming] {
            let mut trials = Trials::new(metric);
            for kind in [RECORD, ORIGIN, PENDING, BRANCH, LEAF, ITEM] {
                let entries = &trials.kinds[usize::from(kind)];
                let (key, value) = entries[entries.len() / 2].clone();
                let n = value.len();
                for cut in [0, 1, 8, 15, 16, 63, 64, n / 2, n - 16, n - 1]
                    .into_iter()
                    .filter(|cut| *cut < n)
                {
                    let what = format!("{metric}: kind {kind} cut to {cut} of {n} bytes");
                    let errors = trials.replace(&what, key, &value[..cut]);
                    // Values of other lengths may take their neighbours' alignment, and those are
                    // named as well.
                    let named = errors.iter().any(|e| is_about(e, key));
                    let damaged = errors.iter().any(|e| matches!(e, Error::Corrupted { .. }));
                    assert!(if cut % 16 == 0 { named } else { damaged }, "{what}: {errors:?}");
                }
                for more in [1, 16, 5000] {
                    let longer = [&value[..], &vec![0; more]].concat();
                    let errors = trials.replace(
                        &format!("{metric}: kind {kind} with {more} more"),
                        key,
                        &longer,
                    );
                    let is_padding = more < 16;
                    assert!(
                        is_padding || errors.iter().any(|e| is_about(e, key)),
                        "{metric}: kind {kind}, {errors:?}"
                    );
                }
            }
            trials.finish();
        }
    });
}

/// Bytes of the record, their offset, and whether they can never be right.
const OF_RECORD: [(usize, &[u8], bool); 21] = [
    (0, b"x", true),
    (7, b"1", true),
    (8, &[0, 0], true),
    (10, &[0], true),
    (10, &[6], true),
    (10, &[5], true),
    (11, &[1], false),
    (11, &[4], true),
    (12, &[0; 4], true),
    (12, &[0, 0, 0, 0x80], true),
    (16, &[0xFF; 8], true),
    (24, &[0xFF; 8], true),
    (16, &[7, 0, 0, 0, 0, 0, 0, 0], false),
    (24, &[0; 8], false),
    (48, &[17], true),
    (48, &[16], false),
    (50, &[3], true),
    (52, &[0; 4], true),
    (52, &[1, 0, 0, 0], false),
    (52, &[0xFF; 4], false),
    (68, &[0xFF; 4], true),
];

/// Where the set of ids starts in a leaf.
const SET: usize = 64 + 4 * 64;

/// The same of a leaf. Ids are met only if they are among the best candidates.
const OF_LEAF: [(usize, &[u8], bool); 9] = [
    (SET, &[0], true),
    (SET, &[0x3B, 0x30], true),
    (SET + 4, &[0xFF; 4], true),
    (SET + 4, &[0, 0, 1, 0], true),
    (SET + 8, &[0xFF; 2], false),
    (SET + 10, &[0xFF; 2], true),
    (SET + 12, &[0xFF; 4], true),
    (SET + 16, &[0xFF; 2], false),
    (SET + 16, &[0; 8], false),
];

#[test]
fn fields_that_cannot_be_right_are_named() {
    confined("fields_that_cannot_be_right_are_named", 120, || {
        let mut trials = Trials::new(Metric::Euclidean);
        let record = trials.kinds[usize::from(RECORD)][0].clone();
        let leaf = trials.kinds[usize::from(LEAF)][3].clone();
        for ((key, value), cases) in [(record, &OF_RECORD[..]), (leaf, &OF_LEAF[..])] {
            for (at, bytes, is_impossible) in cases {
                let mut damaged = value.clone();
                damaged[*at..at + bytes.len()].copy_from_slice(bytes);
                let what = format!("{key:?} with {bytes:?} at {at}");
                let errors = trials.replace(&what, key, &damaged);
                let is_named = errors.iter().any(|error| is_about(error, key));
                assert!(!is_impossible || is_named, "{what}: {errors:?}");
            }
        }
        trials.finish();
    });
}

/// Where the ids of a branch's children start: after the header, the centroid and, for Manhattan,
/// the steps.
fn children_at(metric: Metric) -> usize {
    64 + 4 * 64 * if metric == Metric::Manhattan { 2 } else { 1 }
}

/// Bytes of a root, and their places.
const OF_ROOT: [(usize, u8); 10] =
    [(0, 1), (0, 3), (0, 255), (1, 1), (2, 3), (4, 255), (8, 65), (12, 255), (16, 255), (23, 255)];
/// Roots that a record names, and heights.
const ROOTS: [(u32, u32); 9] =
    [(0, 0), (0, 1), (0, 3), (0, 32), (1, 2), (1, 1), (7, 0), (u32::MAX, 2), (u32::MAX, 0)];

#[test]
fn trees_that_lead_in_circles_end() {
    confined("trees_that_lead_in_circles_end", 120, || {
        for metric in [Metric::DotProduct, Metric::Manhattan] {
            let mut trials = Trials::new(metric);
            let branches = trials.kinds[usize::from(BRANCH)].clone();
            let (at, root) = (children_at(metric), branches[0].clone());
            assert_eq!(root.1[0], 2, "a root above two levels");
            let len = get_u32(&root.1, 4) as usize;
            assert_eq!(get_u32(&root.1, at), 1, "the children of the root follow it");
            for (key, value) in &branches {
                let own = u32::from_be_bytes(key[4..].try_into().unwrap());
                let mut circle = value.clone();
                put_u32(&mut circle, at, own);
                trials.replace(&format!("{metric}: branch {own} as its own child"), *key, &circle);
                put_u32(&mut circle, at, 0);
                trials.replace(&format!("{metric}: the root as a child of {own}"), *key, &circle);
                trials.replace(&format!("{metric}: the root in place of {own}"), *key, &root.1);
                trials.replace(
                    &format!("{metric}: a child of the root in place of {own}"),
                    *key,
                    &branches[1].1,
                );
                let mut out = value.clone();
                put_u32(&mut out, at + 4 * (get_u32(value, 4) as usize - 1), u32::MAX);
                let errors = trials.replace(
                    &format!("{metric}: a child of {own} that is missing"),
                    *key,
                    &out,
                );
                assert!(!errors.is_empty(), "{metric}: a missing child of {own}");
            }
            for (at, bytes) in OF_ROOT {
                let mut damaged = root.1.clone();
                damaged[at] = bytes;
                trials.replace(
                    &format!("{metric}: the root with {bytes} at {at}"),
                    root.0,
                    &damaged,
                );
            }
            let all_same = |raw: &Raw, wtxn: &mut RwTxn<'_>| {
                for (key, _) in &branches[1..=len] {
                    raw.put(wtxn, *key, &branches[1].1);
                }
            };
            trials.suffer(
                &format!("{metric}: all branches with the same children"),
                true,
                all_same,
            );
            let (key, record) = trials.kinds[usize::from(RECORD)][0].clone();
            for (root, height) in ROOTS {
                let mut damaged = record.clone();
                put_u32(&mut damaged, 64, root);
                put_u32(&mut damaged, 68, height);
                trials.replace(&format!("{metric}: root {root} at height {height}"), key, &damaged);
            }
            trials.finish();
        }
    });
}

#[test]
fn keys_that_are_missing_or_foreign_give_an_error_or_an_answer() {
    confined("keys_that_are_missing_or_foreign_give_an_error_or_an_answer", 120, || {
        let mut trials = Trials::new(Metric::Euclidean);
        for kind in STORED {
            let (key, _) = *trials.kinds[kind].last().unwrap();
            trials.suffer(&format!("no key {key:?}"), true, |raw, wtxn| {
                assert!(raw.0.delete(wtxn, &key).unwrap())
            });
        }
        for key in [
            &[0u8][..],
            &[0, 0, 0],
            &[0, 0, 6],
            &[0, 0, 4, 0, 0, 0, 0, 1, 7],
            &[0, 0, 99, 0, 0, 0, 0, 0],
            &[9; 300],
        ] {
            trials.suffer(&format!("a foreign key {key:?}"), true, |raw, wtxn| {
                raw.0.put(wtxn, key, &[1; 16]).unwrap()
            });
        }
        trials.finish();
    });
}

fn flip(metric: Metric, part: u64) {
    let seed = Seed::new(71);
    let mut rng = seed.rng(part);
    let mut trials = Trials::new(metric);
    let mut errors = 0;
    for trial in 0..400 {
        let kind = STORED[trial % STORED.len()];
        let (key, before) = trials.kinds[kind].choose(&mut rng).unwrap().clone();
        let mut value = before.clone();
        let other =
            trials.kinds[*STORED.choose(&mut rng).unwrap()].choose(&mut rng).unwrap().1.clone();
        damage(&mut rng, &mut value, &other);
        // Builds read records, marks and items, and take most of the time.
        let with_build = kind == usize::from(RECORD) || trial % 5 == 0;
        let what = format!("{metric}, trial {trial}, {key:?}");
        let met = if (trial / STORED.len()).is_multiple_of(2) {
            trials.suffer(&what, with_build, |raw, wtxn| raw.put(wtxn, key, &value))
        } else {
            trials.damage(&what, with_build, key, &before, &value)
        };
        errors += usize::from(!met.is_empty());
    }
    assert!(errors > 50, "only {errors} of 400 trials met an error");
    trials.finish();
}

#[test]
fn no_flipped_bytes_make_euclidean_panic() {
    confined("no_flipped_bytes_make_euclidean_panic", 120, || {
        flip(Metric::Euclidean, 0);
    });
}

#[test]
fn no_flipped_bytes_make_cosine_panic() {
    confined("no_flipped_bytes_make_cosine_panic", 120, || {
        flip(Metric::Cosine, 1);
    });
}

#[test]
fn no_flipped_bytes_make_dot_product_panic() {
    confined("no_flipped_bytes_make_dot_product_panic", 120, || {
        flip(Metric::DotProduct, 2);
    });
}

#[test]
fn no_flipped_bytes_make_manhattan_panic() {
    confined("no_flipped_bytes_make_manhattan_panic", 120, || {
        flip(Metric::Manhattan, 3);
    });
}

#[test]
fn no_flipped_bytes_make_hamming_panic() {
    confined("no_flipped_bytes_make_hamming_panic", 120, || {
        flip(Metric::Hamming, 4);
    });
}
