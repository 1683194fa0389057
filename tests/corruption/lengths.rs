//! Laws of distances: whatever is stored, they are numbers.

use spinney::{Error, IndexOptions, Metric, Reader, Writer};

use crate::support::raw::*;
use crate::support::*;

const METRICS_OF_FLOATS: [Metric; 4] =
    [Metric::Euclidean, Metric::Cosine, Metric::DotProduct, Metric::Manhattan];

/// An item so long that no distance to it fits 32 bits is named, met or searched by.
#[test]
fn an_item_that_is_too_long_is_named() {
    for (metric, value) in
        METRICS_OF_FLOATS.into_iter().flat_map(|m| [f32::MAX, -f32::MAX, 2e38].map(|x| (m, x)))
    {
        let store = Store::with_map_size(10 << 20);
        let raw = store.raw;
        let mut wtxn = store.env.write_txn().unwrap();
        let writer =
            Writer::open_or_create(&mut wtxn, store.db, 0, &IndexOptions::new(4, metric)).unwrap();
        writer
            .add_items(
                &mut wtxn,
                &[1, 2, 3],
                &[1.0, 0.0, 2.0, 4.0, 3e17, 2.0, 1.0, 0.0, -1.0, 0.5, 0.5, 0.0],
            )
            .unwrap();
        let item = key(0, ITEM, 0, 2);
        let mut bytes = raw.get(&wtxn, item);
        let norm = 4.0 * f64::from(value).powi(2);
        bytes[..8].copy_from_slice(&norm.to_le_bytes());
        bytes[16..].copy_from_slice(&value.to_le_bytes().repeat(4));
        raw.put(&mut wtxn, item, &bytes);
        let reader = Reader::open(&wtxn, store.db, 0).unwrap();
        let found = [
            reader.nns(3).by_vector(&[5e17; 4]),
            reader.nns(3).by_item(1).map(Option::unwrap_or_default),
            reader.nns(3).by_any(&[1u32.into(), 3u32.into()]),
            reader.nns(3).exact().parallel().by_vector(&[-5e17; 4]),
        ];
        for found in found {
            match found {
                Err(Error::Corrupted { key, .. }) => assert_eq!(key, item, "{metric}, {value}"),
                Err(error) => panic!("{metric}, {value}: {error}"),
                // Its direction is that of a vector like any other, and products with short ones
                // are not so large.
                Ok(hits) => assert!(
                    hits.iter().all(|hit| hit.distance.is_finite()),
                    "{metric}, {value}: {hits:?}"
                ),
            }
        }
        let by_itself = [
            reader.nns(1).by_item(2).map(Option::unwrap_or_default),
            reader.nns(1).by_any(&[1u32.into(), 2u32.into()]),
            reader.nns(1).by_mean(&[2u32.into()]),
        ];
        for found in by_itself {
            let is_named = matches!(&found, Err(Error::Corrupted { key, .. }) if *key == item);
            assert!(is_named, "{metric}, {value}: {found:?}");
        }
    }
}

/// Vectors as long as can be added have distances that are numbers, in all directions from each
/// other.
#[test]
fn the_longest_vectors_have_distances() {
    let longest = (1u64 << 60) as f32;
    for (metric, dims) in
        METRICS_OF_FLOATS.into_iter().flat_map(|m| [1, 2, 4_096].map(|dims| (m, dims)))
    {
        let store = Store::with_map_size(10 << 20);
        let mut wtxn = store.env.write_txn().unwrap();
        let writer =
            Writer::open_or_create(&mut wtxn, store.db, 0, &IndexOptions::new(dims, metric))
                .unwrap();
        let spread = longest / (dims as f32).sqrt() * 0.999_99;
        let along: Vec<f32> = (0..dims).map(|i| if i == 0 { longest } else { 0.0 }).collect();
        let rows =
            [vec![spread; dims], vec![-spread; dims], along.iter().map(|x| -x).collect(), along];
        for (id, row) in (0u32..).zip(&rows) {
            writer.add_item(&mut wtxn, id, row).unwrap();
        }
        let reader = Reader::open(&wtxn, store.db, 0).unwrap();
        for row in &rows {
            let hits = reader.nns(4).by_vector(row).unwrap();
            assert!(
                hits.len() == 4 && hits.iter().all(|hit| hit.distance.is_finite()),
                "{metric}, {dims}: {hits:?}"
            );
        }
    }
}
