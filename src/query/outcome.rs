//! What a search returns.

use crate::search::Hit;

/// What a search returns: all that was asked for ([`Whole`]), or what was found in time
/// ([`InTime`]).
pub trait Outcome: sealed::Sealed {
    /// The answer.
    type Answer;

    #[doc(hidden)]
    fn answer(hits: Vec<Hit>, is_partial: bool) -> Self::Answer;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Whole {}
    impl Sealed for super::InTime {}
}

/// Searches that run to their end return their hits.
#[derive(Copy, Clone, Debug)]
pub enum Whole {}

/// Searches that may be stopped return a [`Found`], which says whether they were.
#[derive(Copy, Clone, Debug)]
pub enum InTime {}

impl Outcome for Whole {
    type Answer = Vec<Hit>;

    fn answer(hits: Vec<Hit>, _is_partial: bool) -> Vec<Hit> {
        hits
    }
}

impl Outcome for InTime {
    type Answer = Found;

    fn answer(hits: Vec<Hit>, is_partial: bool) -> Found {
        Found { hits, is_partial }
    }
}

/// What a search found that may have been stopped: see [`Nns::deadline`](crate::Nns::deadline) and
/// [`Nns::cancel`](crate::Nns::cancel).
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The nearest items of those that were looked at, sorted by distance and then by id, with
    /// exact distances.
    pub hits: Vec<Hit>,
    /// Whether the search was told to stop. There may be nearer items then, and fewer hits than
    /// asked for.
    pub is_partial: bool,
}
