//! The origin of work space.

use crate::error::{Error, Result};
use crate::format::checksum::Lanes;
use crate::format::{ALIGN, pad};
use crate::key::Key;

/// The bytes of an origin.
pub(crate) fn origin_value(origin: &[f32]) -> Vec<u8> {
    let mut value: Vec<u8> = bytemuck::cast_slice(origin).to_vec();
    value.resize(pad(value.len()), 0);
    let check = Lanes::new().add(&value).check();
    value.extend_from_slice(&check.to_le_bytes());
    value.resize(pad(value.len()), 0);
    value
}

/// Reads the origin of an index of `dims` dimensions.
///
/// It does not follow from anything else that is stored, and every search depends on it. So it has
/// a check.
pub(crate) fn parse_origin(key: Key, bytes: &[u8], dims: usize) -> Result<&[f32]> {
    let bad = |what| Error::corrupted(key, what);
    if bytes.len() != pad(4 * dims) + ALIGN {
        return Err(bad("the origin is missing or has another length than its dimensions"));
    }
    let (floats, check) = bytes.split_at(bytes.len() - ALIGN);
    if check.get(..8) != Some(&Lanes::new().add(floats).check().to_le_bytes()) {
        return Err(bad("the check of the origin is not that of its bytes"));
    }
    let floats: Option<&[f32]> =
        bytemuck::try_cast_slice(floats).ok().and_then(|all: &[f32]| all.get(..dims));
    floats.ok_or_else(|| bad("the origin is not aligned in the map"))
}
