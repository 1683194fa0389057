//! What searches of a collection take and return.

use crate::store::collection::key::DocumentKey;

/// A document that a search found.
///
/// ```
/// use spinney::{Document, IndexOptions, Metric, Store};
/// # let dir = tempfile::tempdir()?;
/// let store = Store::open(dir.path())?;
/// let docs = store.collection("docs", &IndexOptions::new(1, Metric::Euclidean))?;
/// store.write(|txn| docs.put(txn, "a", &Document::new([1.0]).payload("text")))?;
/// let hits = docs.search(&store, 1).payload(true).by_vector(&[3.0])?;
/// assert_eq!((hits[0].key.as_str(), hits[0].distance), (Some("a"), 2.0));
/// assert_eq!(hits[0].payload.as_deref(), Some(&b"text"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct DocumentHit {
    /// The key of the document.
    pub key: DocumentKey,
    /// The exact distance of its nearest vector; [`Metric`](crate::Metric) says what the number
    /// means.
    pub distance: f32,
    /// Its payload, if [it was asked for](crate::Nns::payload).
    pub payload: Option<Vec<u8>>,
}

impl DocumentHit {
    /// The payload as a value: see [`Document::json`](crate::Document::json).
    ///
    /// # Errors
    /// [`Error::Json`](crate::Error::Json) if it is not JSON of this type, or was not asked for.
    #[cfg(feature = "serde")]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> crate::Result<T> {
        let payload = self.payload.as_deref().unwrap_or_default();
        serde_json::from_slice(payload).map_err(|error| crate::Error::Json(Box::new(error)))
    }
}

/// What to search for: a document of the collection or a vector.
///
/// ```
/// use spinney::DocumentExample;
/// assert_eq!(DocumentExample::from("a"), DocumentExample::Key("a".into()));
/// assert_eq!(DocumentExample::from(&[0.5, 1.0]), DocumentExample::Vector(&[0.5, 1.0]));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum DocumentExample<'a> {
    /// A document, by its key: all its vectors. The answer leaves it out.
    Key(DocumentKey),
    /// A vector.
    Vector(&'a [f32]),
}

impl From<DocumentKey> for DocumentExample<'_> {
    fn from(key: DocumentKey) -> Self {
        Self::Key(key)
    }
}

impl From<&str> for DocumentExample<'_> {
    fn from(key: &str) -> Self {
        Self::Key(key.into())
    }
}

impl From<u64> for DocumentExample<'_> {
    fn from(key: u64) -> Self {
        Self::Key(key.into())
    }
}

impl<'a> From<&'a [f32]> for DocumentExample<'a> {
    fn from(vector: &'a [f32]) -> Self {
        Self::Vector(vector)
    }
}

impl<'a, const N: usize> From<&'a [f32; N]> for DocumentExample<'a> {
    fn from(vector: &'a [f32; N]) -> Self {
        Self::Vector(vector)
    }
}

impl<'a> From<&'a Vec<f32>> for DocumentExample<'a> {
    fn from(vector: &'a Vec<f32>) -> Self {
        Self::Vector(vector)
    }
}
