//! How many neighbours a search missed because it reranked too few candidates, by the errors of its
//! own estimates.
//!
//! A calibration measures how many candidates to rerank for queries like the items. Far from all
//! items, or in a hole between them, distances are nearly equal, and sketches cannot order them.
//! Such a search can notice it. The exact scores y of its candidates lie around a line over their
//! estimates x. The slope of the line is b. The deviation of the scores below it is s. At the
//! largest estimate the line has the value l. With the k-th score d_k,
//!
//! ```text
//! z = (l - d_k) / s
//! missed = (candidates per unit value x) (s / b) (phi(z) - z Q(z))
//! ```
//!
//! where phi is the density and Q the upper tail of the normal distribution. Measured:
//! docs/trials.md, "residuals".

use crate::metric::Metric;

/// The smallest slope: with that of useless estimates, 0, neighbours would be missed without end.
/// Not swept: docs/trials.md, "choices that were not swept".
const MIN_SLOPE: f64 = 0.125;

/// The estimates and exact scores of the candidates that were compared.
#[derive(Debug, Default)]
pub(crate) struct Residuals {
    pairs: Vec<(f64, f64)>,
}

impl Residuals {
    pub(crate) fn clear(&mut self) {
        self.pairs.clear();
    }

    pub(crate) fn add(&mut self, metric: Metric, estimate: f32, score: f32) {
        self.pairs.push((f64::from(estimate), metric.estimate_of_score(f64::from(score))));
    }

    /// How many neighbours seem to be missing among these candidates. `kth` is the score of the
    /// last hit.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    pub(crate) fn missed(&self, metric: Metric, kth: f32) -> f64 {
        let count = self.pairs.len() as f64;
        let mean = |value: &dyn Fn(f64, f64) -> f64| {
            self.pairs.iter().map(|(x, y)| value(*x, *y)).sum::<f64>() / count
        };
        let (x, y) = (mean(&|x, _| x), mean(&|_, y| y));
        let slope = mean(&|a, b| (a - x) * (b - y)) / mean(&|a, _| (a - x).powi(2));
        let slope = slope.max(MIN_SLOPE);
        let line = |at: f64| y + slope * (at - x);
        // Scores above the line are no neighbours, so that only those below count. The line fits
        // its own candidates too well, which `count - 2` corrects.
        let below = mean(&|x, y| (y - line(x)).min(0.0).powi(2));
        let deviation = (2.0 * below * count / (count - 2.0).max(1.0)).sqrt();
        let last = self.pairs.iter().map(|(x, _)| *x).fold(f64::NEG_INFINITY, f64::max);
        // Candidates per unit at the end: of those beyond the mean, or of those within a deviation
        // of the end if that is wider.
        let width = deviation.max(last - x);
        let density = self.pairs.iter().filter(|(x, _)| *x >= last - width).count() as f64 / width;
        let missed = density * deviation / slope
            * tail_integral((line(last) - metric.estimate_of_score(f64::from(kth))) / deviation);
        // Without any deviation, the estimates are in the right order, and nothing is missed.
        if missed.is_nan() { 0.0 } else { missed }
    }
}

/// The integral of Q from z on, phi(z) - z Q(z), approximately.
///
/// Uses the bound of Sampford, Annals of Mathematical Statistics 1953: "Some inequalities on Mill's
/// ratio and related functions".
fn tail_integral(z: f64) -> f64 {
    // The bound holds for positive numbers; the integral from -z on is larger by z.
    let positive = z.abs();
    let density = (-0.5 * positive * positive).exp() / std::f64::consts::TAU.sqrt();
    let root = (positive * positive + 8.0).sqrt();
    (-z).max(0.0) + density * (root - positive) / (3.0 * positive + root)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The integral of the upper tail, by the definition.
    #[test]
    fn the_bound_is_near_the_integral() {
        for z in [-3.0, -1.0, 0.0, 0.5, 1.0, 2.0, 3.0] {
            let density = |x: f64| (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
            let integral: f64 =
                (0..100_000).map(|i| f64::from(i) * 1e-4).map(|t| t * density(z + t) * 1e-4).sum();
            assert!(
                (tail_integral(z) / integral - 1.0).abs() < 0.15,
                "{z}: {} instead of {integral}",
                tail_integral(z)
            );
        }
    }

    /// Compares some of a thousand candidates. Returns how many of the ten nearest the others seem
    /// to hold, and how many they do.
    fn missed(compared: usize, noise: f32) -> (f64, f64) {
        let mut state = 1u32;
        let mut uniform = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        let scores: Vec<f32> = (0..1_000).map(|i| 1.0 + 0.01 * i as f32).collect();
        let mut all: Vec<(f32, f32)> =
            scores.iter().map(|score| (score + noise * uniform(), *score)).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (near, far) = all.split_at(compared);
        let mut residuals = Residuals::default();
        near.iter()
            .for_each(|(estimate, score)| residuals.add(Metric::Manhattan, *estimate, *score));
        let mut found: Vec<f32> = near.iter().map(|(_, score)| *score).collect();
        found.sort_by(f32::total_cmp);
        let lost = far.iter().filter(|(_, score)| *score < scores[10]).count();
        (residuals.missed(Metric::Manhattan, found[9]), lost as f64)
    }

    #[test]
    fn it_distinguishes_too_few_comparisons_from_enough() {
        for (compared, noise) in
            [(20, 0.0), (40, 0.05), (20, 1.0), (40, 1.0), (80, 1.0), (300, 1.0)]
        {
            let (seems, lost) = missed(compared, noise);
            println!("{compared} with noise {noise}: {seems:.4}, {lost}");
            let is_right = if lost > 1.0 { seems > lost / 4.0 } else { seems < 1.0 };
            assert!(is_right, "{compared} with noise {noise}: {seems} instead of {lost}");
        }
        assert_eq!(Residuals::default().missed(Metric::Cosine, f32::INFINITY), 0.0);
    }
}
