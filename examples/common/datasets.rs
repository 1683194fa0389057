//! Files of vectors, checked when they are opened and read a block of rows at a time.
//!
//! | ending | contents, all little-endian |
//! |---|---|
//! | `.fbin` | u32 n, u32 d, then n rows of d f32 |
//! | `.u8bin` | u32 n, u32 d, then n rows of d u8 |
//! | `.i8bin` | u32 n, u32 d, then n rows of one f32 scale and d i8; a component is scale x i8 |
//! | `.npy` | NumPy's format, two dimensions in C order: `<f2`, `<f4`, `<f8`, `\|u1` or `\|i1` |
//!
//! Reading in blocks keeps the memory that an example measures the library's, not that of its
//! input.

use std::error::Error;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use super::npy;

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How a file stores the components of one row.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    F16,
    F32,
    F64,
    U8,
    I8,
    /// An f32 scale in front of the row, then i8.
    ScaledI8,
}

impl Encoding {
    /// Bytes of one row of `dims` components.
    fn row_bytes(self, dims: u64) -> Option<u64> {
        match self {
            Self::F16 => dims.checked_mul(2),
            Self::F32 => dims.checked_mul(4),
            Self::F64 => dims.checked_mul(8),
            Self::U8 | Self::I8 => Some(dims),
            Self::ScaledI8 => dims.checked_add(4),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::ScaledI8 => "scaled i8",
        }
    }
}

/// What the first bytes of a file say about the rest.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub bytes: u64,
    pub rows: u64,
    pub dims: u64,
    pub encoding: Encoding,
}

/// An open file of vectors, read from the first row to the last.
pub struct VectorFile {
    path: PathBuf,
    input: BufReader<File>,
    rows: usize,
    dims: usize,
    encoding: Encoding,
    row_bytes: usize,
    next_row: usize,
}

impl VectorFile {
    /// Opens `path`, whose ending names its format, and checks that its size is what its header
    /// promises.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_checked(path).map_err(|error| format!("{}: {error}", path.display()).into())
    }

    fn open_checked(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        let file_bytes = file.metadata()?.len();
        let mut input = BufReader::with_capacity(1 << 20, file);
        let header = match path.extension().and_then(|ending| ending.to_str()) {
            Some("fbin") => bin_header(&mut input, Encoding::F32),
            Some("u8bin") => bin_header(&mut input, Encoding::U8),
            Some("i8bin") => bin_header(&mut input, Encoding::ScaledI8),
            Some("npy") => npy::header(&mut input, file_bytes),
            _ => Err("expected a file ending in .fbin, .u8bin, .i8bin or .npy".into()),
        }?;
        let row_bytes = check_size(&header, file_bytes)?;
        Ok(Self {
            path: path.to_path_buf(),
            input,
            rows: usize::try_from(header.rows)?,
            dims: usize::try_from(header.dims)?,
            encoding: header.encoding,
            row_bytes: usize::try_from(row_bytes)?,
            next_row: 0,
        })
    }

    /// How many rows the file holds in all.
    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn dims(&self) -> usize {
        self.dims
    }

    /// The next rows, at most `count`, one after the other as f32; empty at the end of the file.
    pub fn read(&mut self, count: usize) -> Result<Vec<f32>> {
        let count = count.min(self.rows - self.next_row);
        let mut bytes = vec![0; count * self.row_bytes];
        self.input
            .read_exact(&mut bytes)
            .map_err(|error| format!("{}: {error}", self.path.display()))?;
        self.next_row += count;

        let mut values = Vec::with_capacity(count * self.dims);
        for row in bytes.chunks_exact(self.row_bytes) {
            decode_row(row, self.encoding, &mut values);
        }
        Ok(values)
    }
}

/// Reads the first `N` bytes left in `input`, or says that the file ends too early.
pub(super) fn take<const N: usize>(input: &mut impl Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    match input.read_exact(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(_) => Err("the file ends inside its header".into()),
    }
}

fn bin_header(input: &mut impl Read, encoding: Encoding) -> Result<Header> {
    let rows = u32::from_le_bytes(take(input)?);
    let dims = u32::from_le_bytes(take(input)?);
    Ok(Header { bytes: 8, rows: rows.into(), dims: dims.into(), encoding })
}

/// Compares the size of the file with what its header promises; returns the bytes of one row.
fn check_size(header: &Header, file_bytes: u64) -> Result<u64> {
    let Header { rows, dims, .. } = *header;
    if rows == 0 || dims == 0 {
        return Err(format!("expected at least one vector, got {rows} x {dims}").into());
    }
    let row_bytes = header.encoding.row_bytes(dims);
    let expected = row_bytes
        .and_then(|row_bytes| row_bytes.checked_mul(rows))
        .and_then(|data_bytes| data_bytes.checked_add(header.bytes));
    match (row_bytes, expected) {
        (Some(row_bytes), Some(expected)) if expected == file_bytes => Ok(row_bytes),
        (Some(_), Some(expected)) => Err(format!(
            "the header promises {rows} rows of {dims} {}: expected {expected} bytes, got {file_bytes}",
            header.encoding.name()
        )
        .into()),
        _ => Err(format!("the header promises {rows} rows of {dims}: no file is that large").into()),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "vectors are singles, whatever the file holds")]
fn decode_row(row: &[u8], encoding: Encoding, values: &mut Vec<f32>) {
    match encoding {
        Encoding::F16 => {
            let (halves, _) = row.as_chunks::<2>();
            values.extend(halves.iter().map(|b| f16_to_f32(u16::from_le_bytes(*b))));
        }
        Encoding::F32 => {
            let (singles, _) = row.as_chunks::<4>();
            values.extend(singles.iter().map(|b| f32::from_le_bytes(*b)));
        }
        Encoding::F64 => {
            let (doubles, _) = row.as_chunks::<8>();
            values.extend(doubles.iter().map(|b| f64::from_le_bytes(*b) as f32));
        }
        Encoding::U8 => values.extend(row.iter().map(|&b| f32::from(b))),
        Encoding::I8 => values.extend(row.iter().map(|&b| f32::from(b.cast_signed()))),
        Encoding::ScaledI8 => {
            if let Some((scale, codes)) = row.split_first_chunk::<4>() {
                let scale = f32::from_le_bytes(*scale);
                values.extend(codes.iter().map(|&b| scale * f32::from(b.cast_signed())));
            }
        }
    }
}

/// Widens an IEEE 754 half, exactly: every half is also a single.
fn f16_to_f32(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let exponent = u32::from(half >> 10) & 0x1f;
    let fraction = u32::from(half & 0x03ff);
    let magnitude = match exponent {
        // Zero and the subnormals are fraction x 2^-24, and normal numbers as singles.
        0 => (fraction as f32 * (1.0 / 16_777_216.0)).to_bits(),
        // Infinity, or not a number with its payload kept.
        31 => 0x7f80_0000 | (fraction << 13),
        // The exponents are stored with a bias: 15 in a half, 127 in a single.
        _ => ((exponent + 112) << 23) | (fraction << 13),
    };
    f32::from_bits(sign | magnitude)
}

#[cfg(test)]
#[allow(
    dead_code,
    unused_imports,
    reason = "benches without a test harness include this file, too"
)]
mod tests {
    use super::*;

    #[test]
    fn every_half_widens_to_its_value() {
        for half in 0..=u16::MAX {
            let exponent = i32::from(half >> 10) & 31;
            let fraction = f64::from(half & 1023);
            let magnitude = match exponent {
                0 => fraction * 2f64.powi(-24),
                31 if fraction == 0.0 => f64::INFINITY,
                31 => f64::NAN,
                _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
            };
            let widened = f64::from(f16_to_f32(half));
            assert_eq!(widened.is_nan(), magnitude.is_nan(), "{half:#06x}");
            if !magnitude.is_nan() {
                assert_eq!(widened.abs(), magnitude, "{half:#06x}");
                assert_eq!(widened.is_sign_negative(), half >> 15 == 1, "{half:#06x}");
            }
        }
    }

    #[test]
    fn a_size_that_differs_from_the_header_is_refused() {
        let header = Header { bytes: 8, rows: 3, dims: 5, encoding: Encoding::ScaledI8 };
        assert_eq!(check_size(&header, 35).ok(), Some(9));
        assert!(check_size(&header, 34).is_err());
        let huge = Header { rows: u64::MAX, ..header };
        assert!(check_size(&huge, 35).is_err());
    }

    #[test]
    fn rows_decode() {
        let mut values = Vec::new();
        decode_row(&[0, 0, 0, 63, 2, 254], Encoding::ScaledI8, &mut values);
        assert_eq!(values, [1.0, -1.0]);
        values.clear();
        decode_row(&[255, 128], Encoding::I8, &mut values);
        assert_eq!(values, [-1.0, -128.0]);
    }
}
