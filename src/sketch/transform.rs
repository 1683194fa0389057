//! Work space: where clusters, centroids and sketches live.

use crate::format::item::ItemRef;
use crate::format::width;
use crate::kernel::decode::decode;
use crate::kernel::gemm;
use crate::kernel::simd::{self, Level};
use crate::metric::Metric;
use crate::sketch::rotation::Rotation;

/// Maps vectors to work space: y = P(x - origin). Under the cosine metric, x is divided by its
/// norm. Under the Manhattan metric, P is the identity.
#[derive(Clone, Debug)]
pub(crate) struct Transform {
    pub(crate) metric: Metric,
    pub(crate) width: usize,
    pub(crate) simd: Level,
    origin: Vec<f32>,
    rotation: Option<Rotation>,
    /// P origin, which the factors of the dot product need.
    pub(crate) rotated_origin: Vec<f32>,
}

impl Transform {
    pub(crate) fn new(metric: Metric, origin: Vec<f32>, seed: u64) -> Self {
        let width = width(origin.len());
        let rotation = metric.is_rotated().then(|| Rotation::new(width, seed));
        let mut transform = Self {
            metric,
            width,
            simd: simd::detect(),
            origin,
            rotation,
            rotated_origin: Vec::new(),
        };
        if metric.is_inner_product() {
            let mut rotated = transform.origin.clone();
            rotated.resize(width, 0.0);
            transform.rotate(&mut rotated);
            transform.rotated_origin = rotated;
        }
        transform
    }

    fn rotate(&self, y: &mut [f32]) {
        if let Some(rotation) = &self.rotation {
            rotation.apply(self.simd, y);
        }
    }

    /// Writes the point of `item` to `out`, which has `width` floats.
    pub(crate) fn map(&self, item: &ItemRef<'_>, out: &mut [f32]) {
        plain(self.metric, item, out);
        self.place(out);
    }

    /// Writes what scores compare points with: the point of a query, or P x under the dot product.
    /// To subtract the origin there and add it again would lose what is small beside it.
    pub(crate) fn map_query(&self, query: &ItemRef<'_>, out: &mut [f32]) {
        if !self.metric.is_inner_product() {
            return self.map(query, out);
        }
        plain(self.metric, query, out);
        self.rotate(out);
    }

    /// Makes what [`Transform::map_query`] would write, but for rounding, of points.
    pub(crate) fn move_back(&self, points: &mut [f32]) {
        // <x, q> is <y, q' + P origin> up to what is the same for all x. There is no such origin
        // under other metrics.
        for point in points.chunks_exact_mut(self.width) {
            point.iter_mut().zip(&self.rotated_origin).for_each(|(q, origin)| *q += origin);
        }
    }

    /// Moves plain components (see [`plain`]) to their point.
    pub(crate) fn place(&self, plain: &mut [f32]) {
        plain.iter_mut().zip(&self.origin).for_each(|(y, origin)| *y -= origin);
        self.rotate(plain);
    }

    /// The norm of a child's centroid that a branch holds under the dot product, |x|^2 -
    /// |origin|^2. It is 0 under other metrics.
    pub(crate) fn norm(&self, y: &[f32]) -> f32 {
        if !self.metric.is_inner_product() {
            return 0.0;
        }
        gemm::plain_dot(self.simd, y, y) + 2.0 * gemm::plain_dot(self.simd, y, &self.rotated_origin)
    }

    pub(crate) fn into_origin(self) -> Vec<f32> {
        self.origin
    }
}

/// Writes the components of `item` to `out`, divided by its norm under the cosine metric, and zeros
/// after them.
pub(crate) fn plain(metric: Metric, item: &ItemRef<'_>, out: &mut [f32]) {
    out.fill(0.0);
    decode(simd::detect(), item.components, out);
    if metric.normalizes() {
        let inverse = 1.0 / item.squared_norm.sqrt();
        #[expect(clippy::cast_possible_truncation, reason = "components of a unit vector fit f32")]
        out.iter_mut().for_each(|y| *y = (f64::from(*y) * inverse) as f32);
    }
}
