//! What a recall costs, read off the curve of the sweep.

use crate::sweep::Point;

pub const TARGETS: [f64; 3] = [0.90, 0.95, 0.99];

/// The cost at which a sweep reaches a recall.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Cost {
    pub search_k: f64,
    pub sketches: f64,
    pub mean_us: f64,
    pub p50_us: f64,
    /// False if the first point of the sweep is above the target already: the cost is then that
    /// point's.
    pub is_interpolated: bool,
}

/// Where the curve first reaches `target`, by linear interpolation in log(`search_k`); `None` if it
/// never does.
pub fn cost_at(points: &[Point], target: f64) -> Option<Cost> {
    let above = points.iter().position(|point| point.recall >= target)?;
    let upper = &points[above];
    let upper_k = upper.knob.search_k()? as f64;
    let Some(lower) = above.checked_sub(1).map(|below| &points[below]) else {
        return Some(Cost {
            search_k: upper_k,
            sketches: upper.sketches,
            mean_us: upper.mean_us,
            p50_us: upper.p50_us,
            is_interpolated: false,
        });
    };
    let lower_k = lower.knob.search_k()? as f64;
    // The point below is under the target, so the difference is not zero.
    let share = (target - lower.recall) / (upper.recall - lower.recall);
    let between = |lower: f64, upper: f64| lower + share * (upper - lower);
    Some(Cost {
        search_k: between(lower_k.ln(), upper_k.ln()).exp(),
        sketches: between(lower.sketches, upper.sketches),
        mean_us: between(lower.mean_us, upper.mean_us),
        p50_us: between(lower.p50_us, upper.p50_us),
        is_interpolated: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::Knob;

    fn point(search_k: usize, recall: f64, mean_us: f64) -> Point {
        Point { knob: Knob::SearchK(search_k), recall, mean_us, ..Point::default() }
    }

    #[test]
    fn costs_lie_between_the_points() {
        let points = [point(100, 0.5, 10.0), point(400, 0.9, 20.0), point(1600, 1.0, 60.0)];
        let cost = |target| {
            cost_at(&points, target).map(|cost| (cost.search_k.round(), cost.mean_us.round()))
        };
        assert_eq!(cost(0.4), Some((100.0, 10.0)));
        assert_eq!(cost(0.7), Some((200.0, 15.0)));
        assert_eq!(cost(0.9), Some((400.0, 20.0)));
        assert_eq!(cost(0.95), Some((800.0, 40.0)));
        assert_eq!(cost_at(&points[..2], 0.95), None);
        assert_eq!(cost_at(&[], 0.95), None);
    }
}
