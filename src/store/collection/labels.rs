//! Labels, and filters made of them.

use std::cmp::Reverse;

use crate::error::{Error, Result};

/// The longest label, in bytes.
const MAX_LABEL: usize = 200;
/// Labels that a document bears at most.
pub(crate) const MAX_LABELS: usize = 256;

/// Which documents are meant, by the labels that they bear.
///
/// A string is the documents that bear this label: none, if nobody bears it.
///
/// ```
/// use spinney::{Document, IndexOptions, Labels, Metric, Store};
/// # let dir = tempfile::tempdir()?;
/// let store = Store::open(dir.path())?;
/// let docs = store.collection("docs", &IndexOptions::new(1, Metric::Euclidean))?;
/// store.write(|txn| {
///     docs.put(txn, "a", &Document::new([1.0]).labels(["lang:en", "draft"]))?;
///     docs.put(txn, "b", &Document::new([2.0]).labels(["lang:en"]))?;
///     docs.put(txn, "c", &Document::new([3.0]).labels(["lang:de"]))
/// })?;
/// assert_eq!(docs.count(&store, "lang:en")?, 2);
/// let finished = Labels::all([Labels::from("lang:en"), Labels::not("draft")]);
/// assert_eq!(docs.count(&store, finished)?, 1);
/// assert_eq!(docs.count(&store, Labels::any(["draft", "lang:de", "lang:fr"]))?, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Filters may be nested as deep as memory has room for them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Labels(pub(crate) Vec<Op>);

/// A part of a filter. An operator comes right after the parts that it combines. So a filter of any
/// depth is a list, and nothing recurses over it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    One(String),
    All(usize),
    Any(usize),
    Not,
}

impl Labels {
    /// Documents that all of these mean; of none, all documents.
    pub fn all<F: Into<Self>>(filters: impl IntoIterator<Item = F>) -> Self {
        Self::join(filters, Op::All)
    }

    /// Documents that at least one of these means; of none, no document.
    pub fn any<F: Into<Self>>(filters: impl IntoIterator<Item = F>) -> Self {
        Self::join(filters, Op::Any)
    }

    /// Documents that this does not mean.
    pub fn not(filter: impl Into<Self>) -> Self {
        let Self(mut ops) = filter.into();
        ops.push(Op::Not);
        Self(ops)
    }

    fn join<F: Into<Self>>(filters: impl IntoIterator<Item = F>, op: fn(usize) -> Op) -> Self {
        let mut parts: Vec<Vec<Op>> = filters.into_iter().map(|filter| filter.into().0).collect();
        let count = parts.len();
        // The longest takes up the others. Else nesting would copy all of it at each level.
        parts.sort_by_key(|part| Reverse(part.len()));
        let mut parts = parts.into_iter();
        let mut ops = parts.next().unwrap_or_default();
        ops.extend(parts.flatten());
        ops.push(op(count));
        Self(ops)
    }
}

impl From<&str> for Labels {
    fn from(label: &str) -> Self {
        Self::from(label.to_owned())
    }
}

impl From<String> for Labels {
    fn from(label: String) -> Self {
        Self(vec![Op::One(label)])
    }
}

impl From<&String> for Labels {
    fn from(label: &String) -> Self {
        Self::from(label.clone())
    }
}

impl From<&Self> for Labels {
    fn from(filter: &Self) -> Self {
        filter.clone()
    }
}

pub(crate) fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL).contains(&label.len())
}

pub(crate) fn check_label(label: &str) -> Result<()> {
    if is_label(label) {
        return Ok(());
    }
    Err(Error::option("label", "1 to 200 bytes of text", format_args!("{} bytes", label.len())))
}

/// These labels as a document bears them: checked, in order, each once.
pub(crate) fn checked<'l>(labels: impl Iterator<Item = &'l String>) -> Result<Vec<&'l str>> {
    let mut labels: Vec<&str> = labels.map(String::as_str).collect();
    labels.iter().try_for_each(|label| check_label(label))?;
    labels.sort_unstable();
    labels.dedup();
    if labels.len() > MAX_LABELS {
        return Err(Error::option("labels", "at most 256 for each document", labels.len()));
    }
    Ok(labels)
}
