//! Laws of sketches: encode the entries of a node, prepare a query, and compare estimates with true
//! scores.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use crate::format::item::ItemRef;
use crate::format::node::{EncodedNode, NodeRef};
use crate::format::width;
use crate::index_spec::IndexSpec;
use crate::metric::Metric;
use crate::sketch::codes::Sketches;
use crate::sketch::prepared::{Prepared, ScanOptions};
use crate::sketch::quantizer::{Quantizer, bfloat16, branch_layout, leaf_layout};
use crate::sketch::transform::{Transform, plain};
use crate::storage::Components;
use crate::vector::CheckedVector;

fn random(rng: &mut Xoshiro256PlusPlus, dims: usize, metric: Metric, shift: f32) -> Vec<f32> {
    let one = |rng: &mut Xoshiro256PlusPlus| match metric {
        Metric::Hamming => f32::from(u8::from(rng.random::<bool>())),
        _ => shift + rng.random_range(-1.0f32..1.0) + rng.random_range(-1.0f32..1.0),
    };
    (0..dims).map(|_| one(rng)).collect()
}

fn as_node(encoded: &EncodedNode, height: u8) -> NodeRef<'_> {
    NodeRef {
        height,
        layout: encoded.layout,
        is_local: encoded.is_local,
        spread: encoded.spread,
        len: encoded.len,
        weight: encoded.len as u64,
        centroid: &encoded.centroid,
        steps: &encoded.steps,
        blocks: &encoded.blocks,
    }
}

/// The score that an estimate stands for, in double precision. It leaves out what is the same for
/// all items.
fn score(metric: Metric, x: &ItemRef<'_>, q: &ItemRef<'_>) -> f64 {
    let (x_norm, q_norm) = (x.squared_norm, q.squared_norm);
    match (x.components, q.components) {
        (Components::Bits(x), Components::Bits(q)) => {
            x.iter().zip(q).map(|(x, q)| f64::from((x ^ q).count_ones())).sum()
        }
        (Components::Floats(x), Components::Floats(q)) => {
            let pairs = x.iter().zip(q).map(|(x, q)| (f64::from(*x), f64::from(*q)));
            match metric {
                Metric::Euclidean => pairs.map(|(x, q)| (x - q).powi(2)).sum(),
                Metric::Manhattan => pairs.map(|(x, q)| (x - q).abs()).sum(),
                Metric::DotProduct => -pairs.map(|(x, q)| x * q).sum::<f64>(),
                _ => -pairs.map(|(x, q)| x * q).sum::<f64>() / (x_norm * q_norm).sqrt(),
            }
        }
        _ => f64::NAN,
    }
}

/// Where the vectors of a node lie.
#[derive(Copy, Clone, Debug)]
struct Lie {
    /// What is added to each component.
    shift: f32,
    /// How many times its entries' distance the centroid lies away from the origin.
    away: f32,
    /// What the query is multiplied by.
    length: f32,
    /// Whether the centroid is where vectors are 0 but for rounding, instead of near the entries.
    is_cancelled: bool,
}

const PLAIN: Lie = Lie { shift: 0.0, away: 0.0, length: 1.0, is_cancelled: false };

/// Correlation of estimates and true scores over the entries of one node.
fn correlation(
    metric: Metric,
    dims: usize,
    bits: u8,
    Lie { shift, away, length, is_cancelled }: Lie,
) -> f64 {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(dims as u64 * 31 + u64::from(bits));
    let mut vectors: Vec<Vec<f32>> =
        (0..203).map(|_| random(&mut rng, dims, metric, shift)).collect();
    vectors[202].iter_mut().for_each(|x| *x *= length);
    let checked: Vec<_> = vectors
        .iter()
        .map(|v| CheckedVector::new(v, IndexSpec::plain(0, dims, metric)).unwrap())
        .collect();
    let items: Vec<ItemRef<'_>> = checked.iter().map(CheckedVector::as_item).collect();
    let (query, entries) = items.split_last().unwrap();

    let width = width(dims);
    let mut mean = vec![0.0f32; width];
    let mut row = vec![0.0f32; width];
    for item in entries {
        plain(metric, item, &mut row);
        mean.iter_mut().zip(&row).for_each(|(mean, x)| *mean += x / entries.len() as f32);
    }
    mean.truncate(dims);
    // The components of an entry have a variance of 2/3.
    mean.iter_mut().for_each(|x| *x += away * rng.random_range(-1.4f32..1.4));
    let transform = Transform::new(metric, mean, 5);
    let mut points = vec![0.0f32; width * entries.len()];
    points
        .chunks_exact_mut(width)
        .zip(entries)
        .for_each(|(point, item)| transform.map(item, point));
    // Not the mean: factors must hold for any centroid.
    let part = if away == 0.0 { 0.3 } else { 0.999 };
    let centroid: Vec<f32> = match transform.rotated_origin.get(..width) {
        Some(origin) if is_cancelled => {
            origin.iter().map(|m| -m * (1.0 + f32::EPSILON * rng.random_range(-2.0..2.0))).collect()
        }
        _ => points[..width].iter().map(|x| x * part).collect(),
    };
    let layout = leaf_layout(metric, width, bits);
    let mut sketches = Sketches::new(Quantizer::new(&transform, layout, centroid, &points));
    for (i, (point, item)) in points.chunks_exact(width).zip(entries).enumerate() {
        sketches.insert(i, &transform, point, Some(item));
    }
    let encoded = sketches.pack();
    assert_eq!(Sketches::unpack(&as_node(&encoded, 0)).pack().blocks, encoded.blocks);
    let mut prepared = Prepared::default();
    prepared.prepare(&transform, query, layout, branch_layout(metric, width, 4));
    let mut estimates = Vec::new();
    prepared.scan(&as_node(&encoded, 0), ScanOptions::ALL, &mut estimates);
    assert_eq!(estimates.len(), entries.len());
    let truth: Vec<f64> = entries.iter().map(|item| score(metric, item, query)).collect();
    if metric == Metric::Hamming {
        assert!(estimates.iter().zip(&truth).all(|(e, t)| f64::from(e.estimate) == *t));
    }
    let estimated: Vec<f64> = estimates.iter().map(|e| f64::from(e.estimate)).collect();
    pearson(&estimated, &truth)
}

fn pearson(a: &[f64], b: &[f64]) -> f64 {
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let (ma, mb) = (mean(a), mean(b));
    let product = |x: &[f64], mx: f64, y: &[f64], my: f64| {
        x.iter().zip(y).map(|(x, y)| (x - mx) * (y - my)).sum::<f64>()
    };
    product(a, ma, b, mb) / (product(a, ma, a, ma) * product(b, mb, b, mb)).sqrt()
}

/// Bits and the correlation they reach at least. A grid of one step for all entries is coarser than
/// a scale for each.
fn least(metric: Metric) -> [(u8, f64); 3] {
    match metric {
        Metric::Manhattan => [(1, 0.45), (2, 0.85), (4, 0.985)],
        _ => [(1, 0.70), (2, 0.90), (4, 0.985)],
    }
}

#[test]
fn estimates_follow_true_scores_and_more_bits_follow_closer() {
    for metric in Metric::ALL {
        for dims in [1, 3, 64, 65, 128, 384, 1600] {
            // One dimension under cosine has two directions only.
            if metric == Metric::Cosine && dims == 1 {
                continue;
            }
            for (bits, least) in least(metric) {
                let found = correlation(metric, dims, bits, PLAIN);
                assert!(found > least, "{metric}, {dims} dims, {bits} bits: correlation {found}");
            }
        }
    }
}

#[test]
fn a_large_common_shift_costs_no_precision() {
    for metric in [Metric::Euclidean, Metric::Manhattan] {
        for (bits, least) in least(metric) {
            let found = correlation(metric, 128, bits, Lie { shift: 1000.0, ..PLAIN });
            assert!(found > least, "{metric}, {bits} bits: correlation {found}");
        }
    }
}

/// What entries have in common is much larger than what they differ by, and factors have few bits.
#[test]
fn a_centroid_far_from_the_origin_costs_little_precision() {
    for metric in [Metric::Euclidean, Metric::DotProduct] {
        for (bits, least) in [(1, 0.62), (2, 0.84), (4, 0.88)] {
            let found = correlation(metric, 128, bits, Lie { away: 10.0, ..PLAIN });
            assert!(found > least, "{metric}, {bits} bits: correlation {found}");
        }
    }
}

/// Estimates distinguish entries that lie close together, however far away they all are.
#[test]
fn a_node_far_away_is_estimated_as_precisely_as_one_at_the_origin() {
    for away in [30.0, 100.0, 300.0] {
        for (bits, least) in least(Metric::Euclidean) {
            let found = correlation(Metric::Euclidean, 128, bits, Lie { away, ..PLAIN });
            assert!(found > least - 0.05, "{away} times as far, {bits} bits: correlation {found}");
        }
    }
}

/// An inner product ranks the same for queries of every length.
#[test]
fn the_length_of_a_query_costs_no_precision_under_the_dot_product() {
    for (bits, least) in least(Metric::DotProduct) {
        for (shift, away) in [(0.0, 0.0), (0.0, 1.0), (0.5, 0.0)] {
            let found = [1.0, 1e-8, 0.1, 30.0, 1e9].map(|length| {
                correlation(Metric::DotProduct, 128, bits, Lie { shift, away, length, ..PLAIN })
            });
            let is_same = found.iter().all(|it| (it - found[0]).abs() < 1e-3);
            assert!(
                is_same && found[0] > least - 0.06,
                "{bits} bits, {shift}, {away}: correlations {found:?}"
            );
        }
    }
}

#[test]
fn a_centroid_that_cancels_the_origin_costs_no_precision() {
    for (bits, least) in [(1, 0.75), (2, 0.92), (4, 0.99)] {
        for length in [1.0, 1e9] {
            let lie = Lie { is_cancelled: true, shift: 0.0, away: 1000.0, length };
            let found = correlation(Metric::DotProduct, 128, bits, lie);
            assert!(found > least, "{bits} bits, {length}: correlation {found}");
        }
    }
}

#[test]
fn factors_are_the_nearest_with_half_the_bits() {
    let number = |half: u16| f32::from_bits(u32::from(half) << 16);
    for i in 0..=u16::MAX {
        if number(i).is_finite() {
            assert_eq!(bfloat16(number(i)), i);
        }
    }
    assert_eq!(
        [1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, -1.0 - 1.1 / 256.0].map(bfloat16),
        [0x3F80, 0x3F82, 0xBF81]
    );
    assert!(
        number(bfloat16(f32::from_bits(0x7FFF_FFFF))).is_nan()
            && number(bfloat16(f32::from_bits(0xFF80_0001))).is_nan()
    );
    assert_eq!(number(bfloat16(f32::MAX)), f32::INFINITY);
}

#[test]
fn an_entry_at_the_centroid_is_estimated_exactly() {
    for metric in [Metric::Euclidean, Metric::DotProduct] {
        let transform = Transform::new(metric, vec![0.125; 64], 1);
        let vector = vec![0.5f32; 64];
        let query = CheckedVector::new(&vector, IndexSpec::plain(0, 64, metric)).unwrap();
        let (layout, centroid) = (leaf_layout(metric, 64, 2), vec![0.25f32; 64]);
        let encoded = Sketches::of_points(&transform, layout, centroid.clone(), &centroid).pack();
        let mut prepared = Prepared::default();
        prepared.prepare(&transform, &query.as_item(), layout, layout);
        let mut estimates = Vec::new();
        prepared.scan(&as_node(&encoded, 0), ScanOptions::ALL, &mut estimates);
        let mut point = vec![0.0; 64];
        transform.map(&query.as_item(), &mut point);
        let exact: f32 = if metric == Metric::DotProduct {
            let moved = point.iter().zip(&transform.rotated_origin).map(|(q, m)| q + m);
            -moved.zip(&centroid).map(|(q, c)| q * c).sum::<f32>()
        } else {
            point.iter().zip(&centroid).map(|(q, c)| (q - c) * (q - c)).sum()
        };
        assert!((estimates[0].estimate - exact).abs() < 1e-4 * exact.abs().max(0.1), "{metric}");
    }
}
