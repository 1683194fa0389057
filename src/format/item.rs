//! Items and pending marks.

use crate::error::{Error, Result};
use crate::format::pad;
use crate::index_spec::IndexSpec;
use crate::kernel::decode::decode;
use crate::kernel::simd;
use crate::key::Key;
use crate::storage::Components;

/// Bytes before the components of an item, and before the old item of a pending mark.
const HEADER: usize = 16;

/// A view over a stored item.
#[derive(Copy, Clone, Debug)]
pub(crate) struct ItemRef<'t> {
    /// `sum x_i^2`.
    pub(crate) squared_norm: f64,
    pub(crate) components: Components<'t>,
}

/// Bytes of an item's value.
pub(crate) const fn item_bytes(spec: IndexSpec) -> usize {
    HEADER + pad(spec.component_bytes())
}

impl<'t> ItemRef<'t> {
    /// Checks the bytes of an item of an index.
    pub(crate) fn parse(key: Key, bytes: &'t [u8], spec: IndexSpec) -> Result<Self> {
        let item = Self::parse_components(key, bytes, spec)?;
        if !item.squared_norm.is_finite() || item.squared_norm < 0.0 {
            return Err(Error::corrupted(key, "the norm of an item is not a number from 0 up"));
        }
        Ok(item)
    }

    /// Checks all but the norm.
    pub(crate) fn parse_components(key: Key, bytes: &'t [u8], spec: IndexSpec) -> Result<Self> {
        let bad = |what| Error::corrupted(key, what);
        if bytes.len() != item_bytes(spec) {
            return Err(bad("the length of an item does not fit the dimensions of its index"));
        }
        let (header, rest) =
            bytes.split_at_checked(HEADER).ok_or_else(|| bad("an item without a header"))?;
        let (norm, scale) = header.split_at(8);
        let squared_norm = bytemuck::pod_read_unaligned::<f64>(norm);
        let scale = bytemuck::pod_read_unaligned(scale);
        let components = spec.storage.view(spec.metric, scale, rest, spec.dims).map_err(bad)?;
        Ok(Self { squared_norm, components })
    }

    /// The vector, decoded.
    pub(crate) fn to_vector(self, dims: usize) -> Vec<f32> {
        let mut vector = vec![0.0; dims];
        decode(simd::detect(), self.components, &mut vector);
        vector
    }
}

/// Writes the bytes of an item into `out`, which is cleared first.
pub(crate) fn write_item(out: &mut Vec<u8>, squared_norm: f64, components: Components<'_>) {
    out.clear();
    out.extend_from_slice(&squared_norm.to_le_bytes());
    out.extend_from_slice(bytemuck::bytes_of(&components.scale()));
    out.extend_from_slice(components.as_bytes());
    out.resize(pad(out.len()), 0);
}

/// A view over a pending mark.
#[derive(Copy, Clone, Debug)]
pub(crate) struct PendingRef<'t> {
    /// The item exists now.
    pub(crate) is_live: bool,
    /// The item value that the forest was built with, if the forest holds this id.
    pub(crate) indexed: Option<&'t [u8]>,
}

impl<'t> PendingRef<'t> {
    pub(crate) fn parse(key: Key, bytes: &'t [u8], spec: IndexSpec) -> Result<Self> {
        let bad = |what| Error::corrupted(key, what);
        let (header, old) =
            bytes.split_at_checked(HEADER).ok_or_else(|| bad("a pending mark without a header"))?;
        match header {
            [0 | 1, 0, ..] if !old.is_empty() => {
                Err(bad("a pending mark of a new item with an old vector"))
            }
            [live, 0, ..] if *live <= 1 => Ok(Self { is_live: *live == 1, indexed: None }),
            [live, 1, ..] if *live <= 1 => {
                ItemRef::parse(key, old, spec)?;
                Ok(Self { is_live: *live == 1, indexed: Some(old) })
            }
            _ => Err(bad("a pending mark whose flags are neither 0 nor 1")),
        }
    }
}

/// Writes the bytes of a pending mark into `out`, which is cleared first.
pub(crate) fn write_pending(out: &mut Vec<u8>, pending: &PendingRef<'_>) {
    out.clear();
    out.push(u8::from(pending.is_live));
    out.push(u8::from(pending.indexed.is_some()));
    out.resize(HEADER, 0);
    out.extend_from_slice(pending.indexed.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Metric;
    use crate::storage::words;

    const KEY: Key = Key::item(0, 1);

    fn spec(dims: usize, metric: Metric) -> IndexSpec {
        IndexSpec::plain(0, dims, metric)
    }

    /// LMDB aligns values to 16; tests need a buffer that is, too.
    fn aligned(bytes: &[u8]) -> Vec<u128> {
        let mut buffer = vec![0u128; bytes.len().div_ceil(16)];
        bytemuck::cast_slice_mut(&mut buffer)[..bytes.len()].copy_from_slice(bytes);
        buffer
    }

    #[test]
    fn vectors_come_back() {
        for dims in [1, 2, 3, 4, 5, 63, 64, 65, 130] {
            let floats: Vec<f32> = (0..dims).map(|i| i as f32 - 1.5).collect();
            let mut out = vec![9; 3];
            write_item(&mut out, 2.5, Components::Floats(&floats));
            assert_eq!(out.len(), item_bytes(spec(dims, Metric::Cosine)));
            let buffer = aligned(&out);
            let item =
                ItemRef::parse(KEY, bytemuck::cast_slice(&buffer), spec(dims, Metric::Cosine))
                    .unwrap();
            assert_eq!((item.to_vector(dims), item.squared_norm), (floats, 2.5));

            let mut encoded = vec![0u64; words(dims)];
            (0..dims).step_by(3).for_each(|i| encoded[i / 64] |= 1 << (i % 64));
            write_item(&mut out, 1.0, Components::Bits(&encoded));
            assert_eq!(out.len(), item_bytes(spec(dims, Metric::Hamming)));
            let buffer = aligned(&out);
            let item =
                ItemRef::parse(KEY, bytemuck::cast_slice(&buffer), spec(dims, Metric::Hamming))
                    .unwrap();
            let expected: Vec<f32> =
                (0..dims).map(|i| if i % 3 == 0 { 1.0 } else { 0.0 }).collect();
            assert_eq!(item.to_vector(dims), expected);
        }
    }

    #[test]
    fn other_lengths_and_flags_are_refused() {
        let mut out = Vec::new();
        write_item(&mut out, 1.0, Components::Floats(&[1.0; 8]));
        let buffer = aligned(&out);
        let bytes: &[u8] = bytemuck::cast_slice(&buffer);
        for len in 0..bytes.len() {
            assert!(ItemRef::parse(KEY, &bytes[..len], spec(8, Metric::Euclidean)).is_err());
        }
        let mut mark = Vec::new();
        write_pending(&mut mark, &PendingRef { is_live: true, indexed: Some(bytes) });
        let mark = aligned(&mark);
        let mark: &[u8] = bytemuck::cast_slice(&mark);
        let read = PendingRef::parse(KEY, mark, spec(8, Metric::Euclidean)).unwrap();
        assert_eq!((read.is_live, read.indexed), (true, Some(bytes)));
        for len in 0..mark.len() {
            assert!(PendingRef::parse(KEY, &mark[..len], spec(8, Metric::Euclidean)).is_err());
        }
        assert!(PendingRef::parse(KEY, &[2; 16], spec(8, Metric::Euclidean)).is_err());
    }
}
