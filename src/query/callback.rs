//! Functions of the caller's that a search asks about items, and that may fail.

use crate::error::BoxedError;

/// Such a function. One that cannot fail is one that never does.
pub(crate) type Callback<'a, T> = Box<dyn Fn(u32) -> Result<T, BoxedError> + 'a>;
/// One that several threads may ask at once.
pub(crate) type SharedCallback<'a, T> = Box<dyn Fn(u32) -> Result<T, BoxedError> + Sync + 'a>;

/// What two predicates admit. The first may be missing. The second is not asked about what the
/// first refuses.
pub(crate) fn both<E: Into<BoxedError>>(
    first: Option<impl Fn(u32) -> Result<bool, BoxedError>>,
    second: impl Fn(u32) -> Result<bool, E>,
) -> impl Fn(u32) -> Result<bool, BoxedError> {
    move |id| {
        Ok(first.as_ref().map_or(Ok(true), |first| first(id))? && second(id).map_err(Into::into)?)
    }
}
