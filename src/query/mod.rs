//! The query builder, and the forms of queries.

pub(crate) mod buffers;
pub(crate) mod callback;
mod callbacks;
mod examples;
mod forms;
pub(crate) mod groups;
mod hits;
mod nns;
pub(crate) mod once;
mod options;
pub(crate) mod order;
pub(crate) mod paged;
mod single;

pub use crate::query::examples::Example;
pub use crate::query::hits::Hits;
pub use crate::query::nns::{Nns, Single};
pub use crate::query::paged::{Neighbours, Pages};
