//! The keys of documents.

use std::fmt;

use crate::error::{Error, Result};

/// The longest key, in bytes: as long as LMDB's own.
pub(crate) const MAX_KEY: usize = 511;

/// The key of a document: 1 to 511 bytes.
///
/// Keys are in the order of their bytes. A number is its eight bytes, the highest first, so that
/// numbers are in their order.
///
/// ```
/// use spinney::DocumentKey;
/// let (name, number) = (DocumentKey::from("moby-dick"), DocumentKey::from(7u64));
/// assert_eq!((name.as_str(), number.as_u64()), (Some("moby-dick"), Some(7)));
/// assert!(DocumentKey::from(9u64) < DocumentKey::from(10u64));
/// assert_eq!(format!("{name:?} {number:?}"), r#""moby-dick" 7"#);
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct DocumentKey(Vec<u8>);

impl DocumentKey {
    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// It as text, if it is UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// It as a number, if it has eight bytes.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        self.0.as_slice().try_into().ok().map(u64::from_be_bytes)
    }

    pub(crate) fn check(&self) -> Result<()> {
        if (1..=MAX_KEY).contains(&self.0.len()) {
            return Ok(());
        }
        Err(Error::option("key", "1 to 511 bytes", format_args!("{} bytes", self.0.len())))
    }
}

impl From<&[u8]> for DocumentKey {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl<const N: usize> From<&[u8; N]> for DocumentKey {
    fn from(bytes: &[u8; N]) -> Self {
        Self(bytes.to_vec())
    }
}

impl From<Vec<u8>> for DocumentKey {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<&str> for DocumentKey {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<String> for DocumentKey {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl From<&String> for DocumentKey {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<u64> for DocumentKey {
    fn from(number: u64) -> Self {
        Self(number.to_be_bytes().to_vec())
    }
}

impl From<&Self> for DocumentKey {
    fn from(key: &Self) -> Self {
        key.clone()
    }
}

impl AsRef<[u8]> for DocumentKey {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq<str> for DocumentKey {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for DocumentKey {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<u64> for DocumentKey {
    fn eq(&self, other: &u64) -> bool {
        self.0 == other.to_be_bytes()
    }
}

/// Text as text, else a number as a number, else bytes.
impl fmt::Debug for DocumentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.as_str(), self.as_u64()) {
            (Some(text), _) if !text.contains(char::is_control) => write!(f, "{text:?}"),
            (_, Some(number)) => write!(f, "{number}"),
            _ => write!(f, "b\"{}\"", self.0.escape_ascii()),
        }
    }
}

impl fmt::Display for DocumentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
