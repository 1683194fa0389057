//! Annoy's five metrics, and what its distances are.

use spinney::Metric as Native;

/// What "near" means to an `AnnoyIndex`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    Angular,
    Euclidean,
    Manhattan,
    Hamming,
    Dot,
}

impl Metric {
    pub(crate) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "angular" => Self::Angular,
            "euclidean" => Self::Euclidean,
            "manhattan" => Self::Manhattan,
            "hamming" => Self::Hamming,
            "dot" => Self::Dot,
            _ => return None,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Angular => "angular",
            Self::Euclidean => "euclidean",
            Self::Manhattan => "manhattan",
            Self::Hamming => "hamming",
            Self::Dot => "dot",
        }
    }

    /// The metric of the index beneath.
    pub(crate) fn native(self) -> Native {
        match self {
            Self::Angular => Native::Cosine,
            Self::Euclidean => Native::Euclidean,
            Self::Manhattan => Native::Manhattan,
            Self::Hamming => Native::Hamming,
            Self::Dot => Native::DotProduct,
        }
    }

    /// Annoy's distance for that of a hit of the index beneath.
    pub(crate) fn of_hit(self, distance: f32) -> f64 {
        let distance = f64::from(distance);
        match self {
            Self::Angular => (2.0 * distance).max(0.0).sqrt(),
            _ => distance,
        }
    }

    /// Annoy's distance between two vectors, in double precision.
    pub(crate) fn distance(self, a: &[f32], b: &[f32]) -> f64 {
        let pairs = a.iter().zip(b).map(|(&x, &y)| (f64::from(x), f64::from(y)));
        match self {
            // Of two equal directions it is exactly zero, which 2 - 2 cos would not be.
            Self::Angular => match (norm(a), norm(b)) {
                (a, b) if a > 0.0 && b > 0.0 => {
                    pairs.map(|(x, y)| (x / a - y / b).powi(2)).sum::<f64>().sqrt()
                }
                _ => RIGHT_ANGLE,
            },
            Self::Euclidean => pairs.map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt(),
            Self::Manhattan => pairs.map(|(x, y)| (x - y).abs()).sum(),
            Self::Hamming => pairs.map(|(x, y)| f64::from(x != y)).sum(),
            Self::Dot => pairs.map(|(x, y)| x * y).sum(),
        }
    }
}

/// The angular distance of a right angle, which a vector of zeros has to all.
pub(crate) const RIGHT_ANGLE: f64 = std::f64::consts::SQRT_2;

fn norm(vector: &[f32]) -> f64 {
    vector.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

/// Whether a vector has no direction.
pub(crate) fn is_zero(vector: &[f32]) -> bool {
    vector.iter().all(|&x| x == 0.0)
}
