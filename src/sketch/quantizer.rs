//! From the entries of a node to their codes.

use bytemuck::{Pod, Zeroable};

use crate::format::item::ItemRef;
use crate::kernel::layout::{Code, Layout};
use crate::kernel::{gemm, quantize};
use crate::metric::Metric;
use crate::sketch::transform::Transform;
use crate::storage::Components;

/// Steps of the uniform grid that suits a normal distribution best, in standard deviations (Max
/// 1960), for 1, 2 and 4 bits.
fn normal_step(bits: u8) -> f32 {
    match bits {
        1 => 1.596,
        2 => 0.996,
        _ => 0.335,
    }
}

/// Steps tried for each entry around [`normal_step`]: a rotated residual is nearly normal, and the
/// best step for its very components is near. One bit has no step: only signs.
fn step_factors(bits: u8) -> &'static [f32] {
    match bits {
        1 => &[1.0],
        2 => &[0.76, 0.88, 1.0, 1.12, 1.24],
        _ => &[0.7, 0.8, 0.9, 1.0, 1.12, 1.25],
    }
}

/// How many times its entries' distance a centroid lies from the origin before its node gets tables
/// of its own: docs/trials.md, "choices that were not swept".
const LOCAL_ABOVE: f32 = 4.0;

/// The factors a and b of an entry, as they are stored.
///
/// Half of an `f32` is enough: its error is 1 part in 256 at most, and a node's base holds what its
/// entries have in common. Measured: docs/trials.md, "Factors of two bytes".
pub(crate) type Factors = [u16; 2];
/// What a code without factors has in their place.
pub(crate) const NO_FACTORS: Factors = [0; 2];

/// The upper half of the `f32` with 8 bits of precision that is nearest, of two the even one
/// (bfloat16).
pub(crate) fn bfloat16(x: f32) -> u16 {
    let bits = x.to_bits();
    let upper = bits >> 16;
    // NaN stays NaN, whatever its lower half.
    let rounded = if x.is_nan() { upper | 0x40 } else { (bits + 0x7FFF + (upper & 1)) >> 16 };
    #[expect(clippy::cast_possible_truncation, reason = "the upper half has 16 bits")]
    let rounded = rounded as u16;
    rounded
}

/// The layout of leaf sketches under this metric.
pub(crate) fn leaf_layout(metric: Metric, width: usize, bits: u8) -> Layout {
    if metric.is_of_bits() {
        return Layout { code: Code::Bits, bits: 1, width };
    }
    branch_layout(metric, width, bits)
}

/// The layout of branch sketches under this metric.
pub(crate) fn branch_layout(metric: Metric, width: usize, bits: u8) -> Layout {
    let code = if metric.is_rotated() { Code::Rotated } else { Code::Grid };
    Layout { code, bits, width }
}

/// What the codes of a node are relative to. An entry's code depends on its own vector and the
/// quantizer alone. So entries come and go without a change to the others.
#[derive(Clone, Debug)]
pub(crate) struct Quantizer {
    pub(crate) layout: Layout,
    /// See [`is_local`].
    pub(crate) is_local: bool,
    /// See [`middle`].
    pub(crate) spread: f32,
    pub(crate) centroid: Vec<f32>,
    /// Empty unless the code is [`Code::Grid`].
    pub(crate) steps: Vec<f32>,
}

impl Quantizer {
    /// A quantizer around `centroid`. Its steps suit the spread of `points` (rows in work space).
    pub(crate) fn new(
        transform: &Transform,
        layout: Layout,
        centroid: Vec<f32>,
        points: &[f32],
    ) -> Self {
        let steps = if layout.code == Code::Grid {
            grid_steps(layout, &centroid, points)
        } else {
            Vec::new()
        };
        let square = |row: &[f32]| match layout.code {
            Code::Grid => gemm::manhattan(transform.simd, row, &centroid).powi(2),
            _ => squared_norm(transform, &residual(row, &centroid)),
        };
        // The scores of bits are not of that kind.
        let rows = points.chunks_exact(layout.width).filter(|_| layout.code != Code::Bits);
        let squares = rows.map(square).collect();
        Self::of_squares(transform, layout, centroid, steps, squares)
    }

    /// A quantizer around `centroid`, with these steps, for entries at these squared distances from
    /// it.
    pub(crate) fn of_squares(
        transform: &Transform,
        layout: Layout,
        centroid: Vec<f32>,
        steps: Vec<f32>,
        squares: Vec<f32>,
    ) -> Self {
        let has_entries = !squares.is_empty();
        // Inner products are no distances, and their factors are differences already.
        let is_product = transform.metric.is_inner_product();
        let spread = if is_product { 0.0 } else { middle(squares) };
        let has_terms = layout.code == Code::Rotated && !is_product && has_entries;
        Self {
            layout,
            is_local: has_terms && is_local(transform, &centroid, spread),
            spread,
            centroid,
            steps,
        }
    }

    /// Appends the nibbles of an entry, given by its point in work space and, for bits, by its
    /// item; returns its factors as they are stored.
    pub(crate) fn encode(
        &self,
        transform: &Transform,
        point: &[f32],
        item: Option<&ItemRef<'_>>,
        out: &mut Vec<u8>,
    ) -> Factors {
        if self.layout.code == Code::Grid {
            let mut codes = vec![0.0; self.layout.width];
            self.grid_codes(point, &mut codes);
            out.extend(nibbles(&codes, self.layout.bits));
            return NO_FACTORS;
        }
        let numbers = encode_around(transform, self.layout, &self.centroid, point, item, out);
        self.factors(&numbers)
    }

    /// The factors of an entry, as they are stored.
    pub(crate) fn factors(&self, numbers: &Numbers) -> Factors {
        let a = if self.is_local { numbers.squared } else { numbers.a };
        [a, numbers.b].map(bfloat16)
    }

    fn grid_codes(&self, point: &[f32], codes: &mut [f32]) {
        let top = f32::from((1u8 << self.layout.bits) - 1);
        for (((code, y), c), step) in
            codes.iter_mut().zip(point).zip(&self.centroid).zip(&self.steps)
        {
            let scaled = if *step > 0.0 { (y - c) / step } else { 0.0 };
            *code = (scaled + (top + 1.0) * 0.5).floor().clamp(0.0, top);
        }
    }
}

/// What the factors of an entry are made of, whether its node is local or not. Zeros for bits.
#[derive(Copy, Clone, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Numbers {
    /// The squared distance from the centroid: the factor a in a node that is local.
    pub(crate) squared: f32,
    a: f32,
    b: f32,
}

/// Appends the nibbles of an entry that is encoded by its centroid alone: see
/// [`Quantizer::encode`]. Grids need their steps, too.
pub(crate) fn encode_around(
    transform: &Transform,
    layout: Layout,
    centroid: &[f32],
    point: &[f32],
    item: Option<&ItemRef<'_>>,
    out: &mut Vec<u8>,
) -> Numbers {
    if let (Code::Bits, Some(Components::Bits(words))) =
        (layout.code, item.map(|item| item.components))
    {
        out.extend(
            words.iter().flat_map(|word| (0..16).map(move |i| (word >> (4 * i) & 15) as u8)),
        );
        return Numbers::default();
    }
    let simd = transform.simd;
    let mut codes = vec![0.0; layout.width];
    let residual = residual(point, centroid);
    let squared = squared_norm(transform, &residual);
    let fit = best_fit(transform, &residual, squared, layout.bits, &mut codes);
    out.extend(nibbles(&codes, layout.bits));
    let scale = if fit.product > 0.0 { squared / fit.product } else { 0.0 };
    // <u, x> from the codes: u = code - centre.
    let centre = f32::from((1u8 << layout.bits) - 1) * 0.5;
    let of_codes = |x: &[f32]| gemm::plain_dot(simd, &codes, x) - centre * x.iter().sum::<f32>();
    let of_residual = |x: &[f32]| gemm::plain_dot(simd, &residual, x);
    let u_c = of_codes(centroid);
    if transform.metric.is_inner_product() {
        let (u_m, r_m) =
            (of_codes(&transform.rotated_origin), of_residual(&transform.rotated_origin));
        let a = scale * (u_c + u_m) - (of_residual(centroid) + r_m);
        return Numbers { squared, a, b: -scale };
    }
    Numbers { squared, a: squared + 2.0 * scale * u_c, b: -2.0 * scale }
}

fn residual(point: &[f32], centroid: &[f32]) -> Vec<f32> {
    point.iter().zip(centroid).map(|(y, c)| y - c).collect()
}

fn squared_norm(transform: &Transform, residual: &[f32]) -> f32 {
    gemm::plain_dot(transform.simd, residual, residual)
}

/// The nibbles of codes given one per dimension, as small whole floats.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "codes are whole numbers from 0 to 15"
)]
fn nibbles(codes: &[f32], bits: u8) -> impl Iterator<Item = u8> + '_ {
    let per_nibble = usize::from(4 / bits);
    codes
        .chunks_exact(per_nibble)
        .map(move |codes| codes.iter().rev().fold(0, |nibble, code| nibble << bits | *code as u8))
}

/// Whether entries lie very close to their centroid beside its distance from the origin. There the
/// rounding of tables of a whole query, and of products with the centroid, would drown their
/// differences.
fn is_local(transform: &Transform, centroid: &[f32], spread: f32) -> bool {
    gemm::plain_dot(transform.simd, centroid, centroid) > LOCAL_ABOVE * LOCAL_ABOVE * spread
}

/// The middle one of some squared distances; 0 if there are none.
fn middle(mut squares: Vec<f32>) -> f32 {
    let middle = squares.len() / 2;
    let spread = if squares.is_empty() {
        0.0
    } else {
        *squares.select_nth_unstable_by(middle, f32::total_cmp).1
    };
    spread.min(f32::MAX)
}

/// Leaves the codes of the step with the smallest angle between u and r in `codes`.
fn best_fit(
    transform: &Transform,
    residual: &[f32],
    squared: f32,
    bits: u8,
    codes: &mut [f32],
) -> quantize::Fit {
    #[expect(clippy::cast_precision_loss, reason = "at most 65,536")]
    let deviation = (squared / residual.len() as f32).sqrt();
    let inverse = |factor: f32| {
        let step = deviation * normal_step(bits) * factor;
        if step > f32::MIN_POSITIVE { 1.0 / step } else { 0.0 }
    };
    let mut best = (f32::NEG_INFINITY, 1.0);
    let factors = step_factors(bits);
    for factor in factors.iter().filter(|_| factors.len() > 1) {
        let fit = quantize::quantize(transform.simd, residual, inverse(*factor), bits, codes);
        let cosine = fit.product * fit.product.abs() / fit.squared_norm;
        if cosine > best.0 {
            best = (cosine, *factor);
        }
    }
    quantize::quantize(transform.simd, residual, inverse(best.1), bits, codes)
}

/// The step of each dimension: what suits the spread of the entries around the centroid. The few
/// that lie farthest out do not count, unless there are no others. One vector far away must not
/// leave the rest on two grid points.
fn grid_steps(layout: Layout, centroid: &[f32], points: &[f32]) -> Vec<f32> {
    let len = points.len() / layout.width;
    let kept = len - len.div_ceil(32).min(len);
    let mut squares = vec![0.0f64; len];
    let mut step = |(at, c): (usize, &f32)| {
        let rows = points.chunks_exact(layout.width);
        squares
            .iter_mut()
            .zip(rows)
            .for_each(|(square, row)| *square = f64::from(row[at] - c).powi(2));
        squares.sort_unstable_by(f64::total_cmp);
        let inner: f64 = squares.iter().take(kept).sum();
        let (sum, count) = if inner > 0.0 { (inner, kept) } else { (squares.iter().sum(), len) };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "a deviation is no larger than the components, and entries are a few hundred"
        )]
        let deviation = (sum / count.max(1) as f64).sqrt() as f32;
        deviation * normal_step(layout.bits)
    };
    centroid.iter().enumerate().map(&mut step).collect()
}
