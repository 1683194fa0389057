//! Entries that are encoded one by one, before the others of their node are known.
//!
//! What is stored of an entry depends on its node in two ways: a node that is local has other
//! factors, and a grid has the steps that suit all entries. A loose entry holds what is needed for
//! either: the nibbles and the numbers that factors are made of, or, for a grid, the point.

use bytemuck::{bytes_of, cast_slice, pod_read_unaligned};

use crate::format::item::ItemRef;
use crate::kernel::layout::{Code, Layout};
use crate::sketch::codes::Sketches;
use crate::sketch::quantizer::{Numbers, Quantizer, encode_around};
use crate::sketch::transform::Transform;

const NUMBERS: usize = size_of::<Numbers>();

/// Bytes of each loose entry.
pub(crate) fn loose_bytes(layout: Layout) -> usize {
    match layout.code {
        Code::Grid => size_of::<f32>() * layout.width,
        // Two nibbles a byte.
        Code::Rotated | Code::Bits => NUMBERS + layout.positions().div_ceil(2),
    }
}

/// Appends the loose entry of a point in work space, and for bits of its item.
pub(crate) fn write_loose(
    transform: &Transform,
    layout: Layout,
    centroid: &[f32],
    point: &[f32],
    item: Option<&ItemRef<'_>>,
    out: &mut Vec<u8>,
) {
    if layout.code == Code::Grid {
        return out.extend_from_slice(cast_slice(point));
    }
    let mut nibbles = Vec::with_capacity(layout.positions());
    let numbers = encode_around(transform, layout, centroid, point, item, &mut nibbles);
    nibbles.resize(layout.positions(), 0);
    out.extend_from_slice(bytes_of(&numbers));
    out.extend(nibbles.chunks(2).map(|pair| pair.iter().rev().fold(0, |byte, x| byte << 4 | x)));
}

/// The sketches of all entries of a node, from these as [`write_loose`] appended them.
pub(crate) fn fasten(
    transform: &Transform,
    layout: Layout,
    centroid: Vec<f32>,
    loose: &[u8],
) -> Sketches {
    if layout.code == Code::Grid {
        let floats = loose.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        return Sketches::of_points(transform, layout, centroid, &floats.collect::<Vec<f32>>());
    }
    let (mut numbers, mut nibbles) = (Vec::<Numbers>::new(), Vec::new());
    for entry in loose.chunks_exact(loose_bytes(layout)) {
        let (own, codes) = entry.split_at(NUMBERS);
        numbers.push(pod_read_unaligned(own));
        let pairs = codes.iter().flat_map(|byte| [byte & 15, byte >> 4]);
        nibbles.extend(pairs.take(layout.positions()));
    }
    let has_squares = layout.code != Code::Bits;
    let squares = numbers.iter().filter(|_| has_squares).map(|own| own.squared).collect();
    let quantizer = Quantizer::of_squares(transform, layout, centroid, Vec::new(), squares);
    let factors = numbers.iter().map(|own| quantizer.factors(own)).collect();
    Sketches::of_parts(quantizer, nibbles, factors)
}

#[cfg(test)]
mod tests {
    use rand::rngs::Xoshiro256PlusPlus;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::Metric;
    use crate::format::node::leaf_value;
    use crate::format::width;
    use crate::sketch::quantizer::leaf_layout;
    use crate::storage::Components;

    const SEED: u64 = 5;
    const DIMS: usize = 70;

    /// Entries that come one by one make the node that they make together, near the origin and far
    /// from it, where nodes are local.
    #[test]
    fn a_node_does_not_show_how_its_entries_came() {
        println!("seed {SEED}");
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(SEED);
        let metrics = [
            Metric::Euclidean,
            Metric::Cosine,
            Metric::DotProduct,
            Metric::Manhattan,
            Metric::Hamming,
        ];
        for (metric, bits, far) in metrics.into_iter().flat_map(|metric| {
            [(1, 0.0), (2, 0.1), (4, 100.0)].map(|(bits, far)| (metric, bits, far))
        }) {
            let transform = Transform::new(metric, vec![0.25; DIMS], SEED);
            let layout = leaf_layout(metric, width(DIMS), bits);
            let centroid = vec![far; layout.width];
            for len in [0, 1, 2, 45] {
                let points: Vec<f32> =
                    (0..len * layout.width).map(|_| far + rng.random_range(-1.0..1.0)).collect();
                let words: Vec<u64> = (0..len * layout.width / 64).map(|_| rng.random()).collect();
                let items: Vec<ItemRef<'_>> = words
                    .chunks_exact(layout.width / 64)
                    .map(|words| ItemRef { squared_norm: 1.0, components: Components::Bits(words) })
                    .collect();
                let rows = points.chunks_exact(layout.width).zip(&items);
                let quantizer = Quantizer::new(&transform, layout, centroid.clone(), &points);
                let mut together = Sketches::new(quantizer);
                let mut loose = Vec::new();
                for (i, (point, item)) in rows.enumerate() {
                    together.insert(i, &transform, point, Some(item));
                    write_loose(&transform, layout, &centroid, point, Some(item), &mut loose);
                    assert_eq!(loose.len(), (i + 1) * loose_bytes(layout));
                }
                let one_by_one = fasten(&transform, layout, centroid.clone(), &loose);
                let ids: Vec<u32> = (0..len as u32).collect();
                let value = |sketches: &Sketches| leaf_value(&sketches.pack(), &ids);
                assert_eq!(
                    value(&one_by_one),
                    value(&together),
                    "{metric}, {bits} bits, {far}, {len} entries"
                );
            }
        }
    }
}
