//! Filters that come as bytes: the same as the sets that they are, and harmless where they are
//! none.

use rand::RngExt;
use spinney::roaring::RoaringBitmap;
use spinney::{Error, Metric, Readers, Snapshot};

use crate::subject::*;
use crate::support::*;

fn bytes(set: &RoaringBitmap) -> Vec<u8> {
    let mut bytes = Vec::new();
    set.serialize_into(&mut bytes).unwrap();
    bytes
}

#[test]
fn serialized_filters_are_the_sets_that_they_are() {
    let seed = Seed::new(181);
    for (m, metric) in METRICS.into_iter().enumerate() {
        let store = Store::new();
        let mut rng = seed.rng(m as u64);
        let items = Subject::in_state(&store, metric, State::Changed, &mut rng).commit();
        let rtxn = store.env.read_txn().unwrap();
        let reader = spinney::Reader::open(&rtxn, store.db, 0).unwrap();
        let mut snapshot = Snapshot::open(&store.env, store.db, 0).unwrap();
        let merged = Readers::new([&reader]).unwrap();
        let row = items.values().next().unwrap();
        let half: RoaringBitmap = items.keys().copied().filter(|_| rng.random()).collect();
        for mut set in sets(&mut rng, &ranked(metric, &items, row)) {
            for has_runs in [false, true] {
                if has_runs {
                    set.optimize();
                }
                let bytes = bytes(&set);
                let expected = reader.nns(10).filter(&set).by_vector(row).unwrap();
                let got = reader.nns(10).filter_serialized(&bytes).unwrap().by_vector(row).unwrap();
                assert_eq!(got, expected, "{metric}");
                let many = snapshot.nns(10).filter_serialized(&bytes).unwrap();
                assert_eq!(many.by_vectors(row).unwrap(), [expected.to_vec()], "{metric}");
                let got = merged.nns(10).filter_serialized(&bytes).unwrap().by_vector(row).unwrap();
                assert!(got.iter().map(|hit| hit.id).eq(expected.iter().map(|hit| hit.id)));

                let both = reader.nns(10).filter(&half).filter(&set).by_vector(row).unwrap();
                let first = reader.nns(10).filter_serialized(&bytes).unwrap().filter(&half);
                assert_eq!(first.by_vector(row).unwrap(), both, "{metric}");
                let second = reader.nns(10).filter(&half).filter_serialized(&bytes).unwrap();
                assert_eq!(second.by_vector(row).unwrap(), both, "{metric}");
            }
        }
    }
}

/// Sets with containers of each kind, and of several.
fn kinds() -> Vec<RoaringBitmap> {
    let lists = RoaringBitmap::from_iter([1, 5, 9, 70_000, 70_003, 400_000, u32::MAX]);
    let mut runs: RoaringBitmap = (10..300).chain(900..1_000).chain(65_530..66_000).collect();
    runs.optimize();
    let bits: RoaringBitmap = (0..9_000).map(|id| 2 * id).collect();
    let mut all = &lists | &bits;
    all.insert_range(500_000..700_000);
    all.optimize();
    vec![RoaringBitmap::new(), RoaringBitmap::from([7]), lists, runs, bits, all]
}

/// Whatever happens to the bytes, they are refused or are a set, which then is the filter.
#[test]
fn damaged_filters_are_refused_or_other_sets() {
    let seed = Seed::new(182);
    let store = Store::new();
    let mut rng = seed.rng(0);
    let mut subject = Subject::new(&store, Metric::Euclidean, 2);
    subject.add_rows((0..60).map(|id| (id * 11, vec![id as f32, rng.random()])).collect());
    let reader = subject.reader();
    let is_refused = |bytes: &[u8]| {
        let refused = reader.nns(5).filter_serialized(bytes).map(|_| ());
        matches!(refused, Err(Error::InvalidOption { name: "filter", .. }))
    };
    let (mut refused, mut others) = (0, 0);
    for set in kinds() {
        let whole = bytes(&set);
        for end in 0..whole.len() {
            assert!(is_refused(&whole[..end]), "{end} of {} bytes", whole.len());
        }
        for more in [1, 4, 1_000] {
            let mut longer = whole.clone();
            longer.extend(vec![rng.random::<u8>(); more]);
            assert!(is_refused(&longer), "{more} more bytes");
        }
        // All bytes of the headers, and some of what follows.
        let step = whole.len().div_ceil(400);
        let places = (0..whole.len()).filter(|place| *place < 100 || place % step == 0);
        for (place, bit) in places.flat_map(|place| (0..8).map(move |bit| (place, bit))) {
            let mut damaged = whole.clone();
            damaged[place] ^= 1 << bit;
            let Ok(nns) = reader.nns(usize::MAX).filter_serialized(&damaged) else {
                assert!(is_refused(&damaged));
                refused += 1;
                continue;
            };
            others += 1;
            let mut found: Vec<u32> =
                nns.by_vector(&[0.0, 0.0]).unwrap().iter().map(|hit| hit.id).collect();
            found.sort_unstable();
            let set = RoaringBitmap::deserialize_from(&damaged[..]).unwrap();
            let expected: Vec<u32> =
                (0..60).map(|id| id * 11).filter(|id| set.contains(*id)).collect();
            assert_eq!(found, expected, "bit {bit} of byte {place}");
        }
    }
    assert!(is_refused(&[]) && refused > 500 && others > 500, "{refused} refused, {others} sets");
}
