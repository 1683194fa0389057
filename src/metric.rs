//! What "near" means: the metrics, and the meaning of the number in each hit.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// How two vectors are compared, and what [`Hit::distance`](crate::Hit::distance) is.
///
/// The metric is recorded in the index when it is created. The number is the same everywhere: for
/// searches with and without a forest, for pending items, and for exact search. It is computed in
/// double precision from the stored components and rounded once to `f32`.
///
/// ```
/// use spinney::Metric;
/// let metric: Metric = "cosine".parse()?;
/// assert_eq!(metric, Metric::Cosine);
/// assert_eq!(metric.to_string(), "cosine");
/// # Ok::<(), spinney::ParseMetricError>(())
/// ```
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Metric {
    /// The length of the difference, `sqrt(sum (x_i - q_i)^2)` (not its square). Nearest is
    /// smallest.
    Euclidean,
    /// `1 - cos(x, q)`, from 0 (same direction) to 2 (opposite). Vectors of zeros are refused.
    Cosine,
    /// The inner product `sum x_i q_i` itself. "Nearest" is **largest**, and hits are sorted
    /// largest first.
    DotProduct,
    /// `sum |x_i - q_i|`.
    Manhattan,
    /// The count of components that differ. Components are exactly 0.0 or 1.0, and are stored as
    /// bits.
    Hamming,
}

impl Metric {
    pub(crate) const ALL: [Self; 5] =
        [Self::Euclidean, Self::Cosine, Self::DotProduct, Self::Manhattan, Self::Hamming];

    /// The byte that stands for this metric in the index record.
    pub(crate) const fn to_byte(self) -> u8 {
        match self {
            Self::Euclidean => 1,
            Self::Cosine => 2,
            Self::DotProduct => 3,
            Self::Manhattan => 4,
            Self::Hamming => 5,
        }
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.to_byte() == byte)
    }

    /// Whether the largest number in a hit is the nearest.
    pub(crate) const fn larger_is_nearer(self) -> bool {
        matches!(self, Self::DotProduct)
    }

    /// What the number in a hit is multiplied by for a score: of scores, the smallest is nearest.
    pub(crate) const fn score_sign(self) -> f32 {
        if self.larger_is_nearer() { -1.0 } else { 1.0 }
    }

    /// Whether an item at this distance is as near as the limit or nearer.
    pub(crate) fn is_within(self, distance: f32, limit: f32) -> bool {
        if self.larger_is_nearer() { distance >= limit } else { distance <= limit }
    }

    /// The order of two distances, the nearer first.
    pub(crate) fn nearer_first(self, a: f32, b: f32) -> Ordering {
        let order = a.total_cmp(&b);
        if self.larger_is_nearer() { order.reverse() } else { order }
    }

    /// Whether scores are inner products. They have no triangle inequality: an item far from the
    /// query may score best.
    pub(crate) const fn is_inner_product(self) -> bool {
        matches!(self, Self::DotProduct)
    }

    /// Whether only the direction of a vector counts.
    pub(crate) const fn normalizes(self) -> bool {
        matches!(self, Self::Cosine)
    }

    /// Whether components are stored as bits, which are their own sketch.
    pub(crate) const fn is_of_bits(self) -> bool {
        matches!(self, Self::Hamming)
    }

    /// Whether vectors are rotated before they are sketched. A rotation keeps Euclidean distances
    /// and inner products. It does not keep sums of absolute differences.
    pub(crate) const fn is_rotated(self) -> bool {
        !matches!(self, Self::Manhattan)
    }

    /// Whether estimates, and distances of centroids, are squares.
    pub(crate) const fn is_squared(self) -> bool {
        !matches!(self, Self::Manhattan)
    }

    /// What an estimate stands for, as a squared distance. Estimates of what is very near may be
    /// below zero.
    pub(crate) fn squared_distance(self, estimate: f32) -> f64 {
        let estimate = f64::from(estimate.max(0.0));
        if self.is_squared() { estimate } else { estimate * estimate }
    }

    /// The estimate that an exact sketch would give an item of this score.
    pub(crate) fn estimate_of_score(self, score: f64) -> f64 {
        match self {
            Self::Euclidean => score.max(0.0).powi(2),
            // Between vectors of length one, the squared distance is twice the cosine distance.
            Self::Cosine => 2.0 * score,
            Self::DotProduct | Self::Manhattan | Self::Hamming => score,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Euclidean => "euclidean",
            Self::Cosine => "cosine",
            Self::DotProduct => "dot",
            Self::Manhattan => "manhattan",
            Self::Hamming => "hamming",
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Metric {
    type Err = ParseMetricError;

    fn from_str(name: &str) -> Result<Self, ParseMetricError> {
        let metric = Self::ALL.into_iter().find(|metric| metric.name() == name);
        metric.ok_or_else(|| ParseMetricError { got: name.to_owned() })
    }
}

/// A metric is serialised as its name.
#[cfg(feature = "serde")]
impl serde::Serialize for Metric {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Metric {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(serde::de::Error::custom)
    }
}

/// A name is not that of a [`Metric`].
///
/// ```
/// let error = "l2".parse::<spinney::Metric>().unwrap_err();
/// assert_eq!(error.got, "l2");
/// assert!(error.to_string().ends_with("euclidean, cosine, dot, manhattan, hamming"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no metric {got:?}: write one of {}", Metric::ALL.map(Metric::name).join(", "))]
#[non_exhaustive]
pub struct ParseMetricError {
    /// The name that was given.
    pub got: String,
}
