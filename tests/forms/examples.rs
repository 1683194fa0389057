//! What the nearest to any of many examples costs.

use spinney::{Example, Hits, SearchStats};

use crate::subject::*;
use crate::support::*;

/// Beside the searches, each hit is compared with each example once at most: `k` times as many,
/// however many are found for all.
#[test]
fn no_more_is_compared_than_each_hit_with_each_example() {
    let seed = Seed::new(141);
    let store = Store::new();
    for (m, metric) in METRICS.into_iter().enumerate() {
        let mut rng = seed.rng(m as u64);
        let subject = Subject::in_state(&store, metric, State::Bulk, &mut rng);
        let (reader, k) = (subject.reader(), 30);
        let rows = vectors(&mut rng, metric, reader.dims(), 40, Spread::Uniform);
        let examples: Vec<Example<'_>> = rows.iter().map(Example::from).collect();
        for is_exact in [false, true] {
            let nns = || if is_exact { reader.nns(k).exact() } else { reader.nns(k) };
            let (mut whole, mut parts) = (SearchStats::default(), 0);
            let hits: Hits = nns().report(&mut whole).by_any(&examples).unwrap();
            for row in &rows {
                let mut part = SearchStats::default();
                let _: Hits = nns().report(&mut part).by_vector(row).unwrap();
                parts += part.reranked;
            }
            let compared = whole.reranked - parts;
            assert!(
                compared <= (k * rows.len()) as u64,
                "{metric}, exact {is_exact}: {compared} comparisons"
            );
            assert_eq!(hits.len(), k);
            let nearest = |id: u32| {
                let distances = rows.iter().map(|row| reference(metric, &subject.items[&id], row));
                distances
                    .min_by(|a, b| score(metric, *a as f32).total_cmp(&score(metric, *b as f32)))
                    .unwrap()
            };
            for hit in hits {
                let expected = nearest(hit.id);
                assert!(
                    is_close(metric, f64::from(hit.distance), expected),
                    "{metric}: {hit:?}, not {expected}"
                );
            }
        }
    }
}
