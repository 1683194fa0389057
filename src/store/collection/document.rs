//! What is put into a collection, and what is read from it.

use crate::error::{Error, Result};
use crate::store::collection::key::DocumentKey;
use crate::store::collection::record::{MAX_PAYLOAD, MAX_VECTORS, RecordRef};

/// A document to put into a collection: vectors, a payload and labels.
///
/// ```
/// use spinney::Document;
/// let document = Document::new([0.1, 0.9]).payload("Call me Ishmael.").labels(["lang:en", "sea"]);
/// let chapters = Document::with_vectors([0.1, 0.9, 0.4, 0.3]); // two rows of two dimensions
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a document is stored by `Collection::put`"]
pub struct Document {
    vectors: Vec<f32>,
    has_rows: bool,
    pub(crate) payload: Vec<u8>,
    pub(crate) labels: Vec<String>,
}

impl Document {
    /// A document of one vector.
    ///
    /// # Shape and units
    /// `vector`: as many numbers as the collection has dimensions.
    pub fn new(vector: impl Into<Vec<f32>>) -> Self {
        let vectors = vector.into();
        Self { vectors, has_rows: false, payload: Vec::new(), labels: Vec::new() }
    }

    /// A document of several vectors, such as one for each paragraph. A search counts it once, by
    /// the nearest of them.
    ///
    /// # Shape and units
    /// `rows`: one vector after the other, 1 to 65,535 of them.
    pub fn with_vectors(rows: impl Into<Vec<f32>>) -> Self {
        Self { has_rows: true, ..Self::new(rows) }
    }

    /// Bytes to keep with it, 1 GiB at most; none by default.
    pub fn payload(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.payload = bytes.into();
        self
    }

    /// Labels that it bears, beside those given before: 256 at most, each of 1 to 200 bytes.
    pub fn labels<L: Into<String>>(mut self, labels: impl IntoIterator<Item = L>) -> Self {
        self.labels.extend(labels.into_iter().map(Into::into));
        self
    }

    /// A value to keep with it, as JSON in the payload.
    ///
    /// ```
    /// # use spinney::{Document, IndexOptions, Metric, Store};
    /// # let dir = tempfile::tempdir()?;
    /// # let store = Store::open(dir.path())?;
    /// # let docs = store.collection("docs", &IndexOptions::new(1, Metric::Euclidean))?;
    /// let book = Document::new([0.5]).json(&("Emma", 1815))?;
    /// store.write(|txn| docs.put(txn, "emma", &book))?;
    /// let found = docs.get(&store, "emma")?.expect("it was put");
    /// assert_eq!(found.json::<(String, u16)>()?, ("Emma".to_owned(), 1815));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Json`] if the value has no form in JSON.
    #[cfg(feature = "serde")]
    pub fn json<T: serde::Serialize + ?Sized>(self, value: &T) -> Result<Self> {
        let bytes = serde_json::to_vec(value).map_err(|error| Error::Json(Box::new(error)))?;
        Ok(self.payload(bytes))
    }

    /// Its vectors, one after the other, if their shape and the payload suit a collection.
    pub(crate) fn rows(&self, dims: usize) -> Result<std::slice::ChunksExact<'_, f32>> {
        let got = self.vectors.len();
        if !self.has_rows && got != dims {
            return Err(Error::Dimensions { expected: dims, got });
        }
        if !got.is_multiple_of(dims) || !(1..=MAX_VECTORS).contains(&(got / dims)) {
            let expected =
                "1 to 65,535 rows, each of as many numbers as the collection has dimensions";
            let got = format_args!("{got} numbers, and the collection has {dims} dimensions");
            return Err(Error::option("vectors", expected, got));
        }
        if self.payload.len() > MAX_PAYLOAD {
            return Err(Error::option("payload", "1 GiB at most", self.payload.len()));
        }
        Ok(self.vectors.chunks_exact(dims))
    }
}

/// A document as [`Collection::get`](crate::Collection::get) reads it.
///
/// ```
/// use spinney::{Document, IndexOptions, Metric, Store};
/// # let dir = tempfile::tempdir()?;
/// let store = Store::open(dir.path())?;
/// let docs = store.collection("docs", &IndexOptions::new(2, Metric::Euclidean))?;
/// let document = Document::with_vectors([0.0, 1.0, 2.0, 3.0]).payload("text").labels(["b", "a"]);
/// store.write(|txn| docs.put(txn, 7u64, &document))?;
/// let found = docs.get(&store, 7u64)?.expect("it was put");
/// assert_eq!((found.key.as_u64(), &*found.payload), (Some(7), &b"text"[..]));
/// assert_eq!((&found.labels[..], found.vectors), (&["a".to_owned(), "b".to_owned()][..], 2));
/// assert_eq!(docs.vectors(&store, 7u64)?, Some(vec![0.0, 1.0, 2.0, 3.0]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct StoredDocument {
    /// Its key.
    pub key: DocumentKey,
    /// Its payload.
    pub payload: Vec<u8>,
    /// Its labels, in the order of their bytes.
    pub labels: Vec<String>,
    /// How many vectors it has.
    pub vectors: usize,
}

impl StoredDocument {
    pub(crate) fn new(key: DocumentKey, record: &RecordRef<'_>) -> Self {
        let labels = record.labels.iter().map(|label| (*label).to_owned()).collect();
        Self { key, payload: record.payload.to_vec(), labels, vectors: record.vectors as usize }
    }

    /// The payload as a value: see [`Document::json`].
    ///
    /// # Errors
    /// [`Error::Json`] if it is not JSON of this type.
    #[cfg(feature = "serde")]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.payload).map_err(|error| Error::Json(Box::new(error)))
    }
}
