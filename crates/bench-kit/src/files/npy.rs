//! The header of NumPy's `.npy` files, versions 1 to 3.
//!
//! Six magic bytes, two version bytes, the length of the description (u16 in version 1, u32 since)
//! and the description itself: a Python dictionary such as `{'descr': '<f4', 'fortran_order':
//! False, 'shape': (3, 4), }`.

use std::io::Read;

use super::vectors::{Encoding, Header};
use super::{Problem, take};

const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Reads the header and leaves `input` at the first row.
pub(super) fn header(input: &mut impl Read, file_bytes: u64) -> Result<Header, Problem> {
    let magic = take::<6>(input)?;
    if magic != *MAGIC {
        return unknown("a NumPy file", &String::from_utf8_lossy(&magic));
    }
    let [major, minor] = take(input)?;
    let (prefix_bytes, length) = match major {
        1 => (10, u32::from(u16::from_le_bytes(take(input)?))),
        2 | 3 => (12, u32::from_le_bytes(take(input)?)),
        _ => return unknown("NumPy format 1, 2 or 3", &format!("{major}.{minor}")),
    };
    let bytes = prefix_bytes + u64::from(length);
    // Checked before the memory is taken: a damaged length may say four gigabytes.
    if bytes > file_bytes {
        return Err(Problem::ShortHeader);
    }
    let mut description = vec![0; length as usize];
    input.read_exact(&mut description)?;
    let (encoding, [rows, dims]) = parse(&String::from_utf8_lossy(&description))?;
    Ok(Header { bytes, rows, dims, encoding })
}

fn unknown<T>(expected: &'static str, got: &str) -> Result<T, Problem> {
    Err(Problem::Header { expected, got: got.to_owned() })
}

/// The type and the shape that a description gives.
fn parse(description: &str) -> Result<(Encoding, [u64; 2]), Problem> {
    let descr = value_of(description, "descr");
    let encoding = match quoted(descr) {
        Some("<f2") => Encoding::F16,
        Some("<f4") => Encoding::F32,
        Some("<f8") => Encoding::F64,
        Some("|u1") => Encoding::U8,
        Some("|i1") => Encoding::I8,
        other => return unknown("components <f2, <f4, <f8, |u1 or |i1", other.unwrap_or(descr)),
    };
    let order = value_of(description, "fortran_order");
    if !order.starts_with("False") {
        return unknown("rows one after the other (C order: 'fortran_order': False)", order);
    }
    let value = value_of(description, "shape");
    let shape = value.strip_prefix('(').and_then(|rest| rest.split_once(')'));
    let sizes: Option<Vec<u64>> = shape.and_then(|(inside, _)| {
        let sizes = inside.split(',').map(str::trim).filter(|size| !size.is_empty());
        sizes.map(|size| size.parse().ok()).collect()
    });
    match sizes.as_deref() {
        Some([rows, dims]) => Ok((encoding, [*rows, *dims])),
        _ => unknown("an array of two dimensions", value),
    }
}

/// What follows `key` and its colon, to the end; empty if the key is not there.
fn value_of<'a>(description: &'a str, key: &str) -> &'a str {
    for quote in ['\'', '"'] {
        if let Some((_, rest)) = description.split_once(&format!("{quote}{key}{quote}"))
            && let Some(value) = rest.trim_start().strip_prefix(':')
        {
            return value.trim_start();
        }
    }
    ""
}

/// The text between the quotes that `value` begins with.
fn quoted(value: &str) -> Option<&str> {
    let quote = value.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    value[1..].split_once(quote).map(|(inside, _)| inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(major: u8, description: &str) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([major, 0]);
        let length = u32::try_from(description.len()).unwrap();
        match major {
            1 => bytes.extend(&length.to_le_bytes()[..2]),
            _ => bytes.extend(length.to_le_bytes()),
        }
        bytes.extend(description.as_bytes());
        bytes
    }

    #[test]
    fn headers_of_every_version_are_read() {
        let description = "{'descr': '<f2', 'fortran_order': False, 'shape': (7, 384), }   \n";
        for (major, bytes) in [(1, 10), (2, 12), (3, 12)] {
            let file = file(major, description);
            let expected = Header {
                bytes: bytes + description.len() as u64,
                rows: 7,
                dims: 384,
                encoding: Encoding::F16,
            };
            assert_eq!(header(&mut &file[..], 9999).ok(), Some(expected));
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for description in [
            "{'descr': '>f4', 'fortran_order': False, 'shape': (7, 3), }",
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (7, 3), }",
            "{'descr': '<f4', 'fortran_order': True, 'shape': (7, 3), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (7,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (7, -3), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': 7}",
            "{'descr': '<f4', 'shape': (7, 3)}",
            "{'descr': '",
            "",
        ] {
            let parsed = parse(description);
            assert!(matches!(parsed, Err(Problem::Header { .. })), "{description}: {parsed:?}");
        }
        let valid = file(2, "{'descr': '<f4', 'fortran_order': False, 'shape': (7, 3), }");
        for length in 0..valid.len() {
            let read = header(&mut &valid[..length], length as u64);
            assert!(matches!(read, Err(Problem::ShortHeader)), "{length} bytes: {read:?}");
        }
        for (at, byte) in [(0, b'N'), (6, 4)] {
            let mut damaged = valid.clone();
            damaged[at] = byte;
            let read = header(&mut &damaged[..], 9999);
            assert!(matches!(read, Err(Problem::Header { .. })), "byte {at}: {read:?}");
        }
        let mut endless = valid.clone();
        endless[8..12].fill(255);
        assert!(matches!(header(&mut &endless[..], 9999), Err(Problem::ShortHeader)));
    }
}
