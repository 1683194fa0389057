//! Functions of the caller's that a search calls with ids, and that may fail.

use std::ops::ControlFlow;

use crate::error::BoxedError;

/// Such a function. One that cannot fail never returns an error.
pub(crate) type Callback<'a, T> = Box<dyn Fn(u32) -> Result<T, BoxedError> + 'a>;
/// One that several threads may call at once.
pub(crate) type SharedCallback<'a, T> = Box<dyn Fn(u32) -> Result<T, BoxedError> + Sync + 'a>;
/// A function that ends a search.
pub(crate) type Stop<'a> = Box<dyn Fn() -> ControlFlow<()> + 'a>;

/// A function that ends a search when one of two does. The first may be missing.
pub(crate) fn either<'a>(
    first: Option<Stop<'a>>,
    second: impl Fn() -> ControlFlow<()> + 'a,
) -> Stop<'a> {
    match first {
        Some(first) => {
            Box::new(move || if first().is_break() { ControlFlow::Break(()) } else { second() })
        }
        None => Box::new(second),
    }
}

/// A predicate that admits what two predicates admit. The second is called only for what the first
/// admits; the first may be missing.
pub(crate) fn both<E: Into<BoxedError>>(
    first: Option<impl Fn(u32) -> Result<bool, BoxedError>>,
    second: impl Fn(u32) -> Result<bool, E>,
) -> impl Fn(u32) -> Result<bool, BoxedError> {
    move |id| {
        Ok(first.as_ref().map_or(Ok(true), |first| first(id))? && second(id).map_err(Into::into)?)
    }
}
