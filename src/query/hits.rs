//! What a search returns.

use std::ops::Deref;

use crate::search::Hit;

/// The hits of a search, with exact distances: nearest first, and equally near ones by id.
///
/// Derefs to a slice of [`Hit`]s. [`is_partial`](Self::is_partial) says whether the search
/// was stopped.
///
/// ```
#[doc = include_str!("example.txt")]
/// let hits = reader.nns(2).by_vector(&[0.0])?;
/// assert_eq!((hits.len(), hits[0].id, hits.is_partial()), (2, 1, false));
/// for Hit { id, distance } in hits {
///     println!("{id} at {distance}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Hits<H = Hit> {
    hits: Vec<H>,
    is_partial: bool,
}

impl<H> Hits<H> {
    pub(crate) fn new(hits: Vec<H>, is_partial: bool) -> Self {
        Self { hits, is_partial }
    }

    /// Whether a [deadline](crate::Nns::deadline) or a [callback](crate::Nns::cancel) stopped the
    /// search. If so, nearer items may be missing, and there may be fewer than `k` hits.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// The hits as a vector, without a copy.
    #[must_use]
    pub fn into_vec(self) -> Vec<H> {
        self.hits
    }
}

impl<H> Default for Hits<H> {
    fn default() -> Self {
        Self::new(Vec::new(), false)
    }
}

impl<H> Deref for Hits<H> {
    type Target = [H];

    fn deref(&self) -> &[H] {
        &self.hits
    }
}

impl<H> AsRef<[H]> for Hits<H> {
    fn as_ref(&self) -> &[H] {
        &self.hits
    }
}

impl<H> From<Hits<H>> for Vec<H> {
    fn from(hits: Hits<H>) -> Self {
        hits.hits
    }
}

impl<H> IntoIterator for Hits<H> {
    type Item = H;
    type IntoIter = std::vec::IntoIter<H>;

    fn into_iter(self) -> Self::IntoIter {
        self.hits.into_iter()
    }
}

impl<'h, H> IntoIterator for &'h Hits<H> {
    type Item = &'h H;
    type IntoIter = std::slice::Iter<'h, H>;

    fn into_iter(self) -> Self::IntoIter {
        self.hits.iter()
    }
}

/// Compares the hits alone, whether the answer is partial or not.
impl<H: PartialEq> PartialEq<Vec<H>> for Hits<H> {
    fn eq(&self, other: &Vec<H>) -> bool {
        self.hits == *other
    }
}

/// Compares the hits alone, whether the answer is partial or not.
impl<H: PartialEq> PartialEq<&[H]> for Hits<H> {
    fn eq(&self, other: &&[H]) -> bool {
        self.hits == *other
    }
}
