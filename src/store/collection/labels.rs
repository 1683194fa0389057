//! Labels, and filters made of them.

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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Labels(pub(crate) Node);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Node {
    One(String),
    All(Vec<Labels>),
    Any(Vec<Labels>),
    Not(Box<Labels>),
}

impl Labels {
    /// Documents that all of these mean; of none, all documents.
    pub fn all<F: Into<Self>>(filters: impl IntoIterator<Item = F>) -> Self {
        Self(Node::All(filters.into_iter().map(Into::into).collect()))
    }

    /// Documents that at least one of these means; of none, no document.
    pub fn any<F: Into<Self>>(filters: impl IntoIterator<Item = F>) -> Self {
        Self(Node::Any(filters.into_iter().map(Into::into).collect()))
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> u64 {
        let own = size_of::<Self>() as u64;
        own + match &self.0 {
            Node::One(label) => label.len() as u64,
            Node::All(filters) | Node::Any(filters) => filters.iter().map(Self::bytes).sum(),
            Node::Not(filter) => filter.bytes(),
        }
    }

    /// Documents that this does not mean.
    pub fn not(filter: impl Into<Self>) -> Self {
        Self(Node::Not(Box::new(filter.into())))
    }
}

impl From<&str> for Labels {
    fn from(label: &str) -> Self {
        Self(Node::One(label.to_owned()))
    }
}

impl From<String> for Labels {
    fn from(label: String) -> Self {
        Self(Node::One(label))
    }
}

impl From<&String> for Labels {
    fn from(label: &String) -> Self {
        Self(Node::One(label.clone()))
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
