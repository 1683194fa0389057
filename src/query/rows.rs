//! Many queries of one kind, one after the other.

use crate::error::{Error, Result};
use crate::format::item::ItemRef;
use crate::index_spec::IndexSpec;
use crate::query::{Nns, Outcome};
use crate::search::SearchStats;
use crate::vector::CheckedVector;

/// Many searches with the same options. They run one after the other; those of a
/// [`Snapshot`](crate::Snapshot) share the threads of a pool, and its
/// [`each`](crate::Snapshot::each) gives each its own options.
impl<O: Outcome> Nns<'_, O> {
    /// Finds the items nearest to each of some vectors, in their order: what
    /// [`by_vector`](Self::by_vector) finds for each.
    ///
    /// A [`report`](Self::report) tells what all of them did. Once one is
    /// [stopped](Self::deadline), those after it find nothing.
    ///
    /// # Shape and units
    /// `vectors`: rows of `dims` numbers, one after the other; there may be none.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// let answers = reader.nns(2).by_vectors(&[0.0, 8.0])?; // two rows of one dimension
    /// assert_eq!((ids(&answers[0]), ids(&answers[1])), (vec![1, 2], vec![9, 3]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::QueriesShape`] if the rows are not whole; else as [`by_vector`](Self::by_vector).
    /// All vectors are checked before the first search, and a position in an error is one in
    /// `vectors`.
    pub fn by_vectors(mut self, vectors: &[f32]) -> Result<Vec<O::Answer>> {
        self.check()?;
        let checked = check_rows(vectors, self.asked.spec())?;
        let mut all = SearchStats::default();
        let answers =
            checked.iter().map(|vector| self.answer_one(vector.as_item(), &[], &mut all)).collect();
        self.tell(&all);
        answers
    }

    /// Finds the items nearest to each of some items, in their order: what
    /// [`by_item`](Self::by_item) finds for each, and `None` for each that is no item.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// let answers = reader.nns(1).by_items(&[1, 77])?;
    /// assert_eq!(answers[0].as_deref().map(ids), Some(vec![2]));
    /// assert!(answers[1].is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`by_item`](Self::by_item).
    pub fn by_items(mut self, ids: &[u32]) -> Result<Vec<Option<O::Answer>>> {
        self.check()?;
        let mut all = SearchStats::default();
        let answer = |id: &u32| match self.asked.item(*id)? {
            Some(item) => self.answer_one(item, &[*id], &mut all).map(Some),
            None => Ok(None),
        };
        let answers = ids.iter().map(answer).collect();
        self.tell(&all);
        answers
    }

    fn answer_one(
        &self,
        query: ItemRef<'_>,
        exclude: &[u32],
        all: &mut SearchStats,
    ) -> Result<O::Answer> {
        let (hits, searched) = self.run(query, exclude)?;
        all.add(&searched);
        Ok(O::answer(hits, searched.is_partial))
    }
}

/// The rows of a matrix, each of which suits the index.
pub(crate) fn check_rows(vectors: &[f32], spec: IndexSpec) -> Result<Vec<CheckedVector<'_>>> {
    if !vectors.len().is_multiple_of(spec.dims) {
        return Err(Error::QueriesShape { dims: spec.dims, got: vectors.len() });
    }
    let rows = vectors.chunks_exact(spec.dims).enumerate();
    rows.map(|(row, vector)| {
        CheckedVector::new(vector, spec).map_err(|error| match error {
            Error::NonFinite { position, value } => {
                Error::NonFinite { position: row * spec.dims + position, value }
            }
            Error::NotABit { position, value } => {
                Error::NotABit { position: row * spec.dims + position, value }
            }
            error => error,
        })
    })
    .collect()
}
