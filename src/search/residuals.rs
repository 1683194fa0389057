//! How many neighbours a search misses because it compared too few candidates, by what it saw of its own sketches.
//!
//! A calibration says how many comparisons are enough for queries like the items. For a query far from all items, or in a
//! hole between them, all distances are nearly equal, and sketches do not tell which are the least. Such a search sees that by
//! itself. The exact scores y of the candidates that were compared lie around a line over their estimates x, with slope b
//! and deviation s. The line goes on beyond the largest estimate. With its value l there and the k-th score d_k,
//!
//! ```text
//! z = (l - d_k) / s
//! missed = (candidates per unit of x) (s / b) (phi(z) - z Q(z))
//! ```
//!
//! where phi is the density and Q the upper tail of the normal distribution. Trials: docs/trials.md, "residuals".

use super::candidates::estimate_of;
use crate::metric::Metric;

/// The slope is at least this: estimates that tell nothing would promise neighbours without end.
const LEAST_SLOPE: f64 = 0.125;

/// Sums over the candidates that were compared. Both coordinates are relative to the first estimate.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Residuals {
    count: f64,
    first: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
    yy: f64,
}

impl Residuals {
    pub(crate) fn add(&mut self, metric: Metric, estimate: f32, score: f32) {
        if self.count == 0.0 {
            self.first = f64::from(estimate);
        }
        let (x, y) = (f64::from(estimate) - self.first, like_estimate(metric, score) - self.first);
        self.count += 1.0;
        self.x += x;
        self.y += y;
        self.xx += x * x;
        self.xy += x * y;
        self.yy += y * y;
    }

    /// How many more of the nearest there seem to be beyond these candidates. `kth` is the score of the last hit.
    pub(crate) fn missed(&self, metric: Metric, compared: &[u64], kth: f32) -> f64 {
        let [x, y, xx, xy, yy] = [self.x, self.y, self.xx, self.xy, self.yy].map(|sum| sum / self.count);
        let (xx, xy, yy) = (xx - x * x, xy - x * y, yy - y * y);
        let slope = (xy / xx).clamp(LEAST_SLOPE, 1.0);
        // A line through few candidates lies nearer to them than to others.
        let others = self.count / (self.count - 2.0).max(1.0);
        let deviation = (others * (yy - 2.0 * slope * xy + slope * slope * xx)).max(0.0).sqrt();
        let estimates = || compared.iter().map(|candidate| f64::from(estimate_of(*candidate)) - self.first);
        let last = estimates().fold(f64::NEG_INFINITY, f64::max);
        // The farther ones tell how many there are at the end, or those within a deviation if that is more.
        let width = deviation.max(last - x);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let density = estimates().filter(|x| *x >= last - width).count() as f64 / width;
        let kth = like_estimate(metric, kth) - self.first;
        let missed = density * deviation / slope * beyond((y + slope * (last - x) - kth) / deviation);
        // Sketches that are never wrong, or all by the same, leave out nothing.
        if missed.is_nan() { 0.0 } else { missed }
    }
}

/// The score in the unit of estimates, which take no roots.
fn like_estimate(metric: Metric, score: f32) -> f64 {
    let score = f64::from(score);
    match metric {
        Metric::Euclidean => score * score,
        // Of vectors of length 1.
        Metric::Cosine => 2.0 * score,
        _ => score,
    }
}

/// phi(z) - z Q(z), nearly: the integral of Q from z on. For positive numbers by the bound of Sampford, Annals of Mathematical
/// Statistics 1953: "Some inequalities on Mill's ratio and related functions".
fn beyond(z: f64) -> f64 {
    let positive = z.abs();
    let density = (-0.5 * positive * positive).exp() / std::f64::consts::TAU.sqrt();
    let root = (positive * positive + 8.0).sqrt();
    (-z).max(0.0) + density * (root - positive) / (3.0 * positive + root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::candidates::packed;

    /// The integral of the upper tail, by the definition.
    #[test]
    fn the_bound_is_near_the_integral() {
        for z in [-3.0, -1.0, 0.0, 0.5, 1.0, 2.0, 3.0] {
            let density = |x: f64| (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
            let integral: f64 = (0..100_000).map(|i| f64::from(i) * 1e-4).map(|t| t * density(z + t) * 1e-4).sum();
            assert!((beyond(z) / integral - 1.0).abs() < 0.15, "{z}: {} instead of {integral}", beyond(z));
        }
    }

    /// Of a thousand candidates some are compared. How many of the ten nearest do the others seem to hold, and how many do they?
    fn missed(compared: usize, noise: f32) -> (f64, f64) {
        let mut state = 1u32;
        let mut uniform = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        let scores: Vec<f32> = (0..1_000).map(|i| 1.0 + 0.01 * i as f32).collect();
        let mut all: Vec<(f32, f32)> = scores.iter().map(|score| (score + noise * uniform(), *score)).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (near, far) = all.split_at(compared);
        let mut residuals = Residuals::default();
        near.iter().for_each(|(estimate, score)| residuals.add(Metric::Manhattan, *estimate, *score));
        let candidates: Vec<u64> = (0u32..).zip(near).map(|(id, (estimate, _))| packed(id, *estimate)).collect();
        let mut found: Vec<f32> = near.iter().map(|(_, score)| *score).collect();
        found.sort_by(f32::total_cmp);
        let lost = far.iter().filter(|(_, score)| *score < scores[10]).count();
        (residuals.missed(Metric::Manhattan, &candidates, found[9]), lost as f64)
    }

    #[test]
    fn it_tells_too_few_comparisons_from_enough() {
        for (compared, noise) in [(20, 0.0), (40, 0.05), (20, 1.0), (40, 1.0), (80, 1.0), (300, 1.0)] {
            let (seems, lost) = missed(compared, noise);
            println!("{compared} with noise {noise}: {seems:.4}, {lost}");
            let is_right = if lost > 1.0 { seems > lost / 4.0 } else { seems < 1.0 };
            assert!(is_right, "{compared} with noise {noise}: {seems} instead of {lost}");
        }
        assert_eq!(Residuals::default().missed(Metric::Cosine, &[], f32::INFINITY), 0.0);
    }
}
