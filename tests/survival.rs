//! Laws of damage to a forest under change: whatever bytes are stored, an incremental build, a
//! verification and a repair give an error or an answer. No panic, no endless loop; and a repair
//! that succeeds leaves a sound store.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::RngExt;
use rand::seq::IndexedRandom;
use spinney::heed::RwTxn;
use spinney::{BuildMethod, BuildOptions, Error, Metric, Reader, Writer};
use support::confined::confined;
use support::patient::{DIMS, Patient, Subject, build_options};
use support::raw::*;
use support::*;

/// What became of the trials.
#[derive(Debug, Default)]
struct Outcomes {
    built: usize,
    incremental: usize,
    refused: usize,
    unsound: usize,
    repaired: usize,
    panics: Vec<String>,
}

/// A few changes and a build; then a verification, and a repair of whatever is left. Returns
/// what each did.
fn live_on(
    subject: &Subject,
    wtxn: &mut RwTxn<'_>,
    rng: &mut Rng,
) -> (Result<BuildMethod, Error>, bool, bool) {
    let db = subject.store.db;
    let built = Writer::open(wtxn, db, 0).and_then(|writer| {
        // In one place, so that a leaf splits, and in others.
        let centre = uniform(rng, subject.metric, writer.dims().min(100));
        for i in 0..40 {
            let row = if i < 30 {
                near(rng, subject.metric, &centre)
            } else {
                uniform(rng, subject.metric, centre.len())
            };
            writer.add_item(wtxn, rng.random_range(0..1600), &row)?;
            writer.del_item(wtxn, rng.random_range(0..1600))?;
        }
        writer.build(wtxn, &BuildOptions::default()).map(|stats| stats.method)
    });
    let found = Reader::open(wtxn, db, 0).and_then(|reader| reader.verify());
    let is_unsound = found.is_ok_and(|found| !found.is_sound());
    let repaired = Writer::repair(wtxn, db, 0, &subject.options(), &build_options());
    if let Ok(repair) = &repaired {
        let reader = Reader::open(wtxn, db, 0).unwrap();
        assert_sound(&reader, &format!("after {repair:?}"));
        let hits = reader.nns(10).by_vector(&[1.0; DIMS]).unwrap();
        assert_eq!(hits.len() as u64, reader.len().min(10));
    }
    (built, is_unsound, repaired.is_ok())
}

/// Plants one damage after another, each in the same sound store.
fn suffer(
    subject: &Subject,
    trials: impl Iterator<Item = (String, Vec<Plant>)>,
    rng: &mut Rng,
) -> Outcomes {
    let mut outcomes = Outcomes::default();
    for (what, plants) in trials {
        let Patient { mut wtxn, .. } = subject.patient();
        for (key, value) in plants {
            subject.store.raw.put(&mut wtxn, key, &value);
        }
        match catch_unwind(AssertUnwindSafe(|| live_on(subject, &mut wtxn, rng))) {
            Ok((built, is_unsound, is_repaired)) => {
                outcomes.built += usize::from(built.is_ok());
                outcomes.incremental += usize::from(matches!(built, Ok(BuildMethod::Incremental)));
                outcomes.refused += usize::from(built.is_err());
                outcomes.unsound += usize::from(is_unsound);
                outcomes.repaired += usize::from(is_repaired);
            }
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text =
                    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                outcomes.panics.push(format!("{what}: {}", text.unwrap_or_default()));
            }
        }
    }
    println!("{}: {outcomes:?}", subject.metric);
    let panics = &outcomes.panics;
    assert!(
        panics.is_empty(),
        "{}: {} panics:\n{}",
        subject.metric,
        panics.len(),
        panics.join("\n")
    );
    outcomes
}

/// A key and its damaged value.
type Plant = ([u8; 8], Vec<u8>);

fn flip(metric: Metric, part: u64) {
    let seed = Seed::new(600);
    let mut rng = seed.rng(part);
    let subject = Subject::new(metric);
    let all = subject.store.raw.all(&subject.store.env.read_txn().unwrap());
    let kinds: Vec<Entries> = (0..7)
        .map(|kind| all.iter().filter(|(key, _)| key[2] == kind).cloned().collect())
        .collect();
    let mut dice = seed.rng(100 + part);
    let trials = (0..if is_long() { 2000 } else { 42 }).map(|trial| {
        let mut plant = || {
            let (key, mut value) = kinds[trial % 7].choose(&mut dice).unwrap().clone();
            let other = kinds[dice.random_range(0..7)].choose(&mut dice).unwrap().1.clone();
            damage(&mut dice, &mut value, &other);
            (key, value)
        };
        // Structure is damaged in several places: a single leaf is rarely met by a few changes.
        let plants: Vec<Plant> =
            (0..if (2..6).contains(&(trial % 7)) { 12 } else { 1 }).map(|_| plant()).collect();
        (format!("trial {trial}, {:?}", plants[0].0), plants)
    });
    let outcomes = suffer(&subject, trials, &mut rng);
    assert!(
        outcomes.incremental > 2 && outcomes.refused > 5 && outcomes.repaired > 30,
        "{outcomes:?}"
    );
}

#[test]
fn flipped_bytes_survive_a_build_and_a_repair_under_euclidean() {
    confined("flipped_bytes_survive_a_build_and_a_repair_under_euclidean", 120, || {
        flip(Metric::Euclidean, 0);
    });
}

#[test]
fn flipped_bytes_survive_a_build_and_a_repair_under_cosine() {
    confined("flipped_bytes_survive_a_build_and_a_repair_under_cosine", 120, || {
        flip(Metric::Cosine, 1);
    });
}

#[test]
fn flipped_bytes_survive_a_build_and_a_repair_under_dot_product() {
    confined("flipped_bytes_survive_a_build_and_a_repair_under_dot_product", 120, || {
        flip(Metric::DotProduct, 2);
    });
}

#[test]
fn flipped_bytes_survive_a_build_and_a_repair_under_manhattan() {
    confined("flipped_bytes_survive_a_build_and_a_repair_under_manhattan", 120, || {
        flip(Metric::Manhattan, 3);
    });
}

#[test]
fn flipped_bytes_survive_a_build_and_a_repair_under_hamming() {
    confined("flipped_bytes_survive_a_build_and_a_repair_under_hamming", 120, || {
        flip(Metric::Hamming, 4);
    });
}

/// Records that say anything at all of a tree: an incremental build believes them as little as it
/// can.
#[test]
fn records_that_lie_about_trees() {
    confined("records_that_lie_about_trees", 120, || {
        let seed = Seed::new(610);
        let subject = Subject::new(Metric::Euclidean);
        let patient = subject.patient();
        let record = patient.get([0; 8]);
        drop(patient);
        let values = [0, 1, 77, 0x8000_0000, u32::MAX];
        let fields = [16, 24, 32, 56].into_iter().chain((64..64 + 32).step_by(4));
        let trials = fields.flat_map(|at| {
            let record = &record;
            values.into_iter().map(move |value| {
                let mut lie = record.clone();
                lie[at..at + 4].copy_from_slice(&value.to_le_bytes());
                (format!("{value} at {at} of the record"), vec![([0; 8], lie)])
            })
        });
        let outcomes = suffer(&subject, trials, &mut seed.rng(0));
        assert!(outcomes.incremental > 10 && outcomes.repaired > 30, "{outcomes:?}");
    });
}

/// Branches that say anything at all of their children.
#[test]
fn branches_that_lie_about_children() {
    confined("branches_that_lie_about_children", 120, || {
        let seed = Seed::new(620);
        for metric in [Metric::DotProduct] {
            let subject = Subject::new(metric);
            let patient = subject.patient();
            let branches = patient.entries(BRANCH);
            let (root, _) = patient.root(0);
            let mut trials = Vec::new();
            for (key, _) in branches {
                let node = patient.node(key);
                let last = *node.ids.last().unwrap();
                for child in [0, last + 1, u32::MAX] {
                    let mut lie = node.clone();
                    *lie.ids.last_mut().unwrap() = child;
                    trials.push((format!("child {child} of {key:?}"), vec![(key, lie.bytes())]));
                }
                let mut lie = node.clone();
                lie.weights.fill(u32::MAX);
                trials.push((format!("great weights in {key:?}"), vec![(key, lie.bytes())]));
                trials.push((
                    format!("the root in place of {key:?}"),
                    vec![(key, patient.get(root))],
                ));
                let mut lie = node.clone();
                (lie.ids, lie.weights, lie.norms) = (Vec::new(), Vec::new(), Vec::new());
                trials.push((format!("no children in {key:?}"), vec![(key, lie.bytes())]));
            }
            drop(patient);
            let outcomes = suffer(&subject, trials.into_iter(), &mut seed.rng(0));
            assert!(outcomes.repaired > 20 && outcomes.refused > 5, "{outcomes:?}");
        }
    });
}
