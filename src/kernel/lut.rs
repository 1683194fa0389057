//! Look-up tables: 16 values per position, one for each nibble, rounded to bytes.
//!
//! Tables of rotated codes are made once per query, those of grid codes once per visited node; one
//! register holds a table.

use fearless_simd::prelude::*;
use fearless_simd::{Simd, dispatch, f32x16, u32x16};
use fearless_simd_macros::simd;

use crate::kernel::simd::Level;

/// The largest byte of a table. Two of them fit a byte, so that the scan adds two looked-up bytes
/// before it widens them. Measured: docs/trials.md, "Scan".
pub(crate) const TOP: u8 = 127;

/// The byte t of a table stands for `delta * t`, and the sum over all positions lacks `bias`.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub(crate) struct Rounding {
    pub(crate) delta: f32,
    pub(crate) bias: f32,
}

/// Tables of `sum u_i x_i` over the dimensions of each nibble.
pub(crate) fn products(
    simd: Level,
    x: &[f32],
    bits: u8,
    values: &mut Vec<f32>,
    bytes: &mut Vec<u8>,
) -> Rounding {
    dispatch!(simd, simd => products_with(simd, x, bits, values, bytes))
}

/// Tables of `sum |x_i - c_i - step_i u_i|` over the dimensions of each nibble. All slices have the
/// same length.
pub(crate) fn differences(
    simd: Level,
    slices: [&[f32]; 3],
    bits: u8,
    values: &mut Vec<f32>,
    bytes: &mut Vec<u8>,
) -> Rounding {
    dispatch!(simd, simd => differences_with(simd, slices, bits, values, bytes))
}

/// The grid point that nibble `nibble` gives its `j`-th dimension.
fn grid_point(nibble: usize, j: usize, bits: u8) -> f32 {
    let mask = (1u8 << bits) - 1;
    #[expect(clippy::cast_possible_truncation, reason = "nibbles are less than 16")]
    let code = (nibble as u8) >> (j as u8 * bits) & mask;
    f32::from(code) - f32::from(mask) * 0.5
}

#[inline(always)]
fn to_byte(value: u32) -> u8 {
    #[expect(clippy::cast_possible_truncation, reason = "no larger than a byte")]
    let byte = value.min(u32::from(TOP)) as u8;
    byte
}

#[simd]
fn differences_with<S: Simd>(
    simd: S,
    [x, centroid, steps]: [&[f32]; 3],
    bits: u8,
    values: &mut Vec<f32>,
    bytes: &mut Vec<u8>,
) -> Rounding {
    let per_nibble = usize::from(4 / bits);
    let points: [f32x16<S>; 4] = [0, 1, 2, 3]
        .map(|j| f32x16::from_fn(simd, |nibble| grid_point(nibble, j % per_nibble, bits)));
    let positions = x.len().min(centroid.len()).min(steps.len()) / per_nibble;
    let term = |dimension: usize, u: f32x16<S>| {
        (u * -steps[dimension] + (x[dimension] - centroid[dimension])).abs()
    };
    values.resize(16 * positions, 0.0);
    bytes.resize(16 * positions, 0);
    let (mut range, mut bias) = (0.0f32, 0.0f32);
    for (position, out) in values.chunks_exact_mut(16).enumerate() {
        let mut value = term(position * per_nibble, points[0]);
        for (j, point) in points.iter().enumerate().take(per_nibble).skip(1) {
            value += term(position * per_nibble + j, *point);
        }
        let low = value.reduce_min();
        let value = value - low;
        range = range.max(value.reduce_max());
        bias += low;
        value.store_slice(out);
    }
    let delta = range / f32::from(TOP);
    let inverse = if delta > f32::MIN_POSITIVE { 1.0 / delta } else { 0.0 };
    for (values, bytes) in values.chunks_exact(16).zip(bytes.chunks_exact_mut(16)) {
        let rounded = u32x16::truncate_from(f32x16::from_slice(simd, values) * inverse + 0.5);
        bytes.iter_mut().zip(rounded.as_slice()).for_each(|(byte, value)| *byte = to_byte(*value));
    }
    Rounding { delta, bias }
}

#[simd]
fn products_with<S: Simd>(
    simd: S,
    x: &[f32],
    bits: u8,
    values: &mut Vec<f32>,
    bytes: &mut Vec<u8>,
) -> Rounding {
    match bits {
        1 => products_of::<S, 4>(simd, x, bits, values, bytes),
        2 => products_of::<S, 2>(simd, x, bits, values, bytes),
        _ => products_of::<S, 1>(simd, x, bits, values, bytes),
    }
}

/// The least and the largest of a table's values are known without making them: the grid is centred
/// on 0.
#[inline(always)]
fn products_of<S: Simd, const PER_NIBBLE: usize>(
    simd: S,
    x: &[f32],
    bits: u8,
    values: &mut Vec<f32>,
    bytes: &mut Vec<u8>,
) -> Rounding {
    let (rows, _) = x.as_chunks::<PER_NIBBLE>();
    values.resize(rows.len(), 0.0);
    bytes.resize(16 * rows.len(), 0);
    for (value, row) in values.iter_mut().zip(rows) {
        *value = row.iter().map(|x| x.abs()).sum();
    }
    let (mut top, mut sum) = (f32x16::splat(simd, 0.0), f32x16::splat(simd, 0.0));
    for values in values.chunks_exact(16) {
        let values = f32x16::from_slice(simd, values);
        (top, sum) = (top.max(values), sum + values);
    }
    let centre = -grid_point(0, 0, bits);
    let delta = 2.0 * centre * top.reduce_max() / f32::from(TOP);
    let inverse = if delta > f32::MIN_POSITIVE { 1.0 / delta } else { 0.0 };
    let points: [f32x16<S>; PER_NIBBLE] =
        std::array::from_fn(|j| f32x16::from_fn(simd, |nibble| grid_point(nibble, j, bits)));
    for ((row, value), bytes) in rows.iter().zip(&*values).zip(bytes.chunks_exact_mut(16)) {
        let mut scaled = f32x16::splat(simd, centre * (value * inverse) + 0.5);
        for (x, point) in row.iter().zip(points) {
            scaled += point * (x * inverse);
        }
        let rounded = u32x16::truncate_from(scaled);
        bytes.iter_mut().zip(rounded.as_slice()).for_each(|(byte, value)| *byte = to_byte(*value));
    }
    Rounding { delta, bias: -centre * sum.as_slice().iter().sum::<f32>() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stand_for_the_values_at_every_level() {
        let x: Vec<f32> = (0..128u8).map(|i| (f32::from(i) * 0.7).sin() * 3.0).collect();
        let centroid: Vec<f32> = x.iter().map(|x| x * 0.5 + 0.1).collect();
        let steps: Vec<f32> = x.iter().map(|x| x.abs() * 0.2).collect();
        for bits in [1u8, 2, 4] {
            let per_nibble = usize::from(4 / bits);
            let mut reference = None;
            for simd in crate::kernel::simd::all() {
                let (mut values, mut sums, mut grid) = (Vec::new(), vec![9; 3], Vec::new());
                let rounding = products(simd, &x, bits, &mut values, &mut sums);
                let grid_rounding =
                    differences(simd, [&x, &centroid, &steps], bits, &mut values, &mut grid);
                for nibble in 0..16 {
                    // The same nibble everywhere: the bytes' sum must be near the sum of the terms.
                    let sum = |bytes: &[u8]| {
                        bytes.chunks_exact(16).map(|t| f64::from(t[nibble])).sum::<f64>()
                    };
                    let terms = |f: &dyn Fn(usize, f32) -> f32| -> f64 {
                        (0..x.len())
                            .map(|i| f64::from(f(i, grid_point(nibble, i % per_nibble, bits))))
                            .sum()
                    };
                    let exact = terms(&|i, u| u * x[i]);
                    let found = sum(&sums) * f64::from(rounding.delta) + f64::from(rounding.bias);
                    assert!(
                        (exact - found).abs()
                            <= 0.5 * f64::from(rounding.delta) * sums.len() as f64 / 16.0 + 1e-3
                    );
                    let exact = terms(&|i, u| (x[i] - centroid[i] - steps[i] * u).abs());
                    let found =
                        sum(&grid) * f64::from(grid_rounding.delta) + f64::from(grid_rounding.bias);
                    assert!(
                        (exact - found).abs()
                            <= 0.5 * f64::from(grid_rounding.delta) * grid.len() as f64 / 16.0
                                + 1e-3
                    );
                }
                let found = (rounding, grid_rounding, sums, grid);
                assert_eq!(*reference.get_or_insert_with(|| found.clone()), found);
            }
        }
    }

    #[test]
    fn a_query_of_zeros_has_tables_of_zeros() {
        let (mut values, mut bytes) = (Vec::new(), Vec::new());
        let rounding =
            products(crate::kernel::simd::detect(), &[0.0; 64], 2, &mut values, &mut bytes);
        assert_eq!((rounding, bytes), (Rounding::default(), vec![0; 512]));
    }
}
