//! Queries that are more than one vector.

use roaring::RoaringBitmap;

use crate::error::{Error, Result};
use crate::format::item::item_bytes;
use crate::index_spec::IndexSpec;
use crate::metric::Metric;
use crate::query::order::{is_within, sort};
use crate::search::interrupt::{Interrupt, WorkCount};
use crate::search::searcher::Searcher;
use crate::search::{Hit, SearchStats};
use crate::vector::CheckedVector;

/// What to search for: a stored item or a vector.
///
/// ```
/// use spinney::Example;
/// assert_eq!(Example::from(7u32), Example::Item(7));
/// assert_eq!(Example::from(&[0.5, 1.0]), Example::Vector(&[0.5, 1.0]));
/// ```
#[derive(Copy, Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Example<'a> {
    /// A stored item, by its id. The answer leaves it out.
    Item(u32),
    /// A vector, as for [`Nns::by_vector`](crate::Nns::by_vector).
    Vector(&'a [f32]),
}

impl From<u32> for Example<'_> {
    fn from(id: u32) -> Self {
        Self::Item(id)
    }
}

impl<'a> From<&'a [f32]> for Example<'a> {
    fn from(vector: &'a [f32]) -> Self {
        Self::Vector(vector)
    }
}

impl<'a, const N: usize> From<&'a [f32; N]> for Example<'a> {
    fn from(vector: &'a [f32; N]) -> Self {
        Self::Vector(vector)
    }
}

impl<'a> From<&'a Vec<f32>> for Example<'a> {
    fn from(vector: &'a Vec<f32>) -> Self {
        Self::Vector(vector)
    }
}

/// Examples that have been looked up and checked.
pub(crate) struct Examples {
    pub(crate) queries: Vec<CheckedVector<'static>>,
    /// The ids of those that are items.
    pub(crate) items: Vec<u32>,
}

impl Examples {
    pub(crate) fn new(searcher: &dyn Searcher, examples: &[Example<'_>]) -> Result<Self> {
        if examples.is_empty() {
            return Err(Error::option("examples", "at least one (positive) example", 0));
        }
        let spec = searcher.spec();
        let (mut queries, mut items) = (Vec::with_capacity(examples.len()), Vec::new());
        for example in examples {
            queries.push(match example {
                Example::Vector(vector) => CheckedVector::new(vector, spec)?.to_query(),
                Example::Item(id) => {
                    items.push(*id);
                    let item = searcher.query_item(*id)?.ok_or(Error::ItemNotFound { id: *id })?;
                    CheckedVector::of_item(&item.view()?)
                }
            });
        }
        Ok(Self { queries, items })
    }

    /// Compares each hit with the queries that did not find it, which may be nearer. Returns the
    /// hits sorted, with their smallest distances; after an interrupt, only some of them.
    pub(crate) fn compare_all(
        &self,
        searcher: &dyn Searcher,
        Gathered { hits, known }: Gathered,
        interrupt: Interrupt<'_>,
        stats: &mut SearchStats,
    ) -> Result<Vec<Hit>> {
        let spec = searcher.spec();
        let metric = spec.metric;
        let (mut kept, compared) = (Vec::with_capacity(hits.len()), WorkCount::default());
        for mut hit in hits {
            let id = hit.id;
            let mut others =
                self.queries.iter().zip(&known).filter(|(_, known)| !known.contains(id)).peekable();
            // A hit not compared with all queries may have a wrong distance.
            if !compared.may_grow() && others.peek().is_some() {
                continue;
            }
            for (query, _) in others {
                interrupt.count(&compared);
                let other = searcher.compare(query.as_item(), id)?;
                if is_within(&other, Some(hit.distance), spec.metric) {
                    hit = other;
                }
            }
            kept.push(hit);
        }
        stats.is_partial |= interrupt.has_fired();
        stats.reranked += compared.all();
        stats.bytes += compared.all() * item_bytes(spec) as u64;
        sort(&mut kept, metric);
        Ok(kept)
    }

    /// The mean of all examples. Under the cosine metric each is divided by its norm.
    #[expect(clippy::cast_precision_loss, reason = "a few examples")]
    fn mean(&self, spec: IndexSpec) -> Vec<f64> {
        let mut sums = vec![0.0; spec.dims];
        for query in &self.queries {
            let item = query.as_item();
            let norm = if spec.metric.normalizes() { item.squared_norm.sqrt() } else { 1.0 };
            let vector = item.to_vector(spec.dims);
            sums.iter_mut().zip(vector).for_each(|(sum, x)| *sum += f64::from(x) / norm);
        }
        sums.iter_mut().for_each(|sum| *sum /= self.queries.len() as f64);
        sums
    }
}

/// The hits of several queries as one list.
pub(crate) struct Gathered {
    /// Each item once, with its distance to the nearest query that found it, sorted.
    ///
    /// Each of the `k` nearest items is nearest to one query, and that query finds it, up to its
    /// recall. So the first `k` of these are the answer. Only they have to be compared with the
    /// other queries.
    pub(crate) hits: Vec<Hit>,
    /// The items that each query found.
    known: Vec<RoaringBitmap>,
}

impl Gathered {
    pub(crate) fn new(found: &[Vec<Hit>], metric: Metric) -> Self {
        let known: Vec<RoaringBitmap> =
            found.iter().map(|hits| hits.iter().map(|hit| hit.id).collect()).collect();
        let mut hits: Vec<Hit> = found.iter().flatten().copied().collect();
        sort(&mut hits, metric);
        // The nearest of each item comes first, and stays.
        let mut seen = RoaringBitmap::new();
        hits.retain(|hit| seen.insert(hit.id));
        Self { hits, known }
    }
}

/// The point p + (p - n), where p and n are the means of positive and negative examples. Also
/// returns the ids of those that are items.
pub(crate) fn point_of(
    searcher: &dyn Searcher,
    positive: &[Example<'_>],
    negative: &[Example<'_>],
) -> Result<(Vec<f32>, Vec<u32>)> {
    let spec = searcher.spec();
    if spec.metric.is_of_bits() {
        return Err(Error::NotForMetric {
            form: "a search by a mean of examples",
            metric: spec.metric,
        });
    }
    let positive = Examples::new(searcher, positive)?;
    let mut items = positive.items.clone();
    let mut point = positive.mean(spec);
    if !negative.is_empty() {
        let negative = Examples::new(searcher, negative)?;
        point.iter_mut().zip(negative.mean(spec)).for_each(|(p, n)| *p += *p - n);
        items.extend(negative.items);
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "what overflows is refused as a query that is not finite"
    )]
    let point = point.into_iter().map(|x| x as f32).collect();
    Ok((point, items))
}
