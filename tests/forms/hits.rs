//! What a user does with hits.

use std::time::Instant;

use spinney::{Hit, Hits, Metric, Snapshot};

use crate::subject::*;
use crate::support::*;

#[test]
fn hits_are_read_as_a_slice_and_taken_as_a_vector() {
    let seed = Seed::new(161);
    let store = Store::new();
    let subject = Subject::in_state(&store, Metric::Euclidean, State::Bulk, &mut seed.rng(0));
    let (reader, row) = (subject.reader(), subject.items.values().next().unwrap());
    let hits: Hits = reader.nns(5).by_vector(row).unwrap();
    let slice: &[Hit] = &hits;
    assert!(slice.len() == 5 && slice.iter().all(|hit| subject.items.contains_key(&hit.id)));
    assert_eq!((hits.as_ref(), &hits[1..3], hits.first()), (slice, &slice[1..3], slice.first()));
    let mut by_reference = Vec::new();
    for hit in &hits {
        by_reference.push(*hit);
    }
    let by_value: Vec<Hit> = hits.clone().into_iter().collect();
    assert_eq!((&by_reference[..], &by_value[..]), (slice, slice));
    assert_eq!(hits.clone().into_vec(), by_value);
    assert_eq!(Vec::from(hits.clone()), by_value);
    assert_eq!(hits, by_value);
    assert_eq!(hits, slice);
    assert_ne!(hits, slice[1..].to_vec());
    let shown = format!("{hits:?}");
    assert!(shown.contains(&format!("{:?}", hits[0])) && shown.contains("is_partial: false"));
    assert_eq!(Hits::<Hit>::default(), Vec::new());

    // The same hits, of which some may be missing, are another answer.
    let few = spinney::roaring::RoaringBitmap::from_iter(hits.iter().map(|hit| hit.id));
    let part = reader.nns(MANY).exact().deadline(Instant::now()).by_vector(row).unwrap();
    assert!(part.is_partial() && !part.is_empty());
    assert_eq!(part.clone(), part);
    assert_ne!(reader.nns(5).filter(&few).by_vector(row).unwrap(), part);
    let whole: Hits =
        reader.nns(MANY).filter(&part.iter().map(|hit| hit.id).collect()).by_vector(row).unwrap();
    assert_eq!(whole, part.to_vec(), "the same hits");
    assert_ne!(whole, part, "of which one is known to be all");
}

const MANY: usize = 1 << 20;

/// What was not begun in time finds nothing, however short it would have been.
#[test]
fn many_searches_end_with_their_deadline() {
    let seed = Seed::new(162);
    for state in [State::Small, State::Bulk, State::Unbuilt, State::Changed] {
        for (m, metric) in METRICS.into_iter().enumerate() {
            let store = Store::new();
            let items = Subject::in_state(&store, metric, state, &mut seed.rng(m as u64)).commit();
            let rows: Vec<f32> = items.values().take(20).flatten().copied().collect();
            let ids: Vec<u32> = items.keys().copied().take(20).collect();
            let mut snapshot = Snapshot::open(&store.env, store.db, 0).unwrap();
            let later = Instant::now() + std::time::Duration::from_secs(3600);
            let whole = snapshot.nns(10).by_vectors(&rows).unwrap();
            assert_eq!(snapshot.nns(10).deadline(later).by_vectors(&rows).unwrap(), whole);
            assert!(whole.iter().all(|hits| !hits.is_partial() && hits.len() == 10));
            let past = Instant::now();
            let by_vectors = snapshot.nns(10).deadline(past).by_vectors(&rows).unwrap();
            let by_items = snapshot.nns(10).deadline(past).by_items(&ids).unwrap();
            let by_items: Vec<Hits> = by_items.into_iter().map(Option::unwrap).collect();
            for found in [by_vectors, by_items] {
                assert_eq!(found.len(), 20, "{metric}, {state:?}");
                let is_over = |hits: &Hits| hits.is_partial() && hits.is_empty();
                assert!(found[1..].iter().all(is_over), "{metric}, {state:?}: {found:?}");
            }
        }
    }
}
