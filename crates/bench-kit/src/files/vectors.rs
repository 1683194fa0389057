//! Files of vectors, read a block of rows at a time.
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

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use super::{FileError, Problem, npy, take};

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
    fn row_bytes(self, dims: u64) -> u64 {
        match self {
            Self::F16 => dims.saturating_mul(2),
            Self::F32 => dims.saturating_mul(4),
            Self::F64 => dims.saturating_mul(8),
            Self::U8 | Self::I8 => dims,
            Self::ScaledI8 => dims.saturating_add(4),
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
#[derive(Debug)]
pub struct VectorFile {
    path: PathBuf,
    input: BufReader<File>,
    rows: usize,
    dims: usize,
    encoding: Encoding,
    next_row: usize,
}

impl VectorFile {
    /// Opens `path`, whose ending names its format, and checks that its size is what its header
    /// promises.
    ///
    /// # Errors
    /// Any [`Problem`].
    pub fn open(path: &Path) -> Result<Self, FileError> {
        Self::open_checked(path).map_err(|problem| problem.of(path))
    }

    fn open_checked(path: &Path) -> Result<Self, Problem> {
        let file = File::open(path)?;
        let file_bytes = file.metadata()?.len();
        let mut input = BufReader::with_capacity(1 << 20, file);
        let header = match path.extension().and_then(|ending| ending.to_str()) {
            Some("fbin") => bin_header(&mut input, Encoding::F32),
            Some("u8bin") => bin_header(&mut input, Encoding::U8),
            Some("i8bin") => bin_header(&mut input, Encoding::ScaledI8),
            Some("npy") => npy::header(&mut input, file_bytes),
            _ => Err(Problem::Ending),
        }?;
        let (rows, dims) = check_size(&header, file_bytes)?;
        let path = path.to_path_buf();
        Ok(Self { path, input, rows, dims, encoding: header.encoding, next_row: 0 })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many rows the file holds in all.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The components of a row.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// The next rows, at most `count`, one after the other as f32; empty at the end of the file.
    ///
    /// # Errors
    /// [`Problem::Io`], also if the file has become shorter since it was opened.
    #[expect(clippy::cast_possible_truncation, reason = "the whole file has been counted in usize")]
    pub fn read(&mut self, count: usize) -> Result<Vec<f32>, FileError> {
        let count = count.min(self.rows - self.next_row);
        let row_bytes = self.encoding.row_bytes(self.dims as u64) as usize;
        let mut bytes = vec![0; count * row_bytes];
        self.input.read_exact(&mut bytes).map_err(|error| Problem::from(error).of(&self.path))?;
        self.next_row += count;

        let mut values = Vec::with_capacity(count * self.dims);
        for row in bytes.chunks_exact(row_bytes) {
            decode_row(row, self.encoding, &mut values);
        }
        Ok(values)
    }
}

fn bin_header(input: &mut impl Read, encoding: Encoding) -> Result<Header, Problem> {
    let rows = u32::from_le_bytes(take(input)?);
    let dims = u32::from_le_bytes(take(input)?);
    Ok(Header { bytes: 8, rows: rows.into(), dims: dims.into(), encoding })
}

/// Compares the size of the file with what its header promises; returns rows and dimensions.
fn check_size(header: &Header, got: u64) -> Result<(usize, usize), Problem> {
    let Header { rows, dims, .. } = *header;
    if rows == 0 || dims == 0 {
        let got = format!("{rows} x {dims}");
        return Err(Problem::Header { expected: "at least one vector", got });
    }
    let data_bytes = header.encoding.row_bytes(dims).saturating_mul(rows);
    let expected = data_bytes.saturating_add(header.bytes);
    match (usize::try_from(expected), usize::try_from(rows), usize::try_from(dims)) {
        (Ok(_), Ok(rows), Ok(dims)) if expected == got => Ok((rows, dims)),
        _ => Err(Problem::Size { rows, row_len: dims, expected, got }),
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

    /// Writes a file into a folder of its own and opens it.
    fn opened(name: &str, bytes: &[u8]) -> Result<VectorFile, FileError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        VectorFile::open(&path)
    }

    #[test]
    fn a_size_that_differs_from_the_header_is_refused() {
        for (name, row_bytes) in [("a.fbin", 20), ("a.u8bin", 5), ("a.i8bin", 9)] {
            let whole = 8 + 3 * row_bytes;
            let mut file = [3u32, 5].map(u32::to_le_bytes).concat();
            file.resize(whole + 1, 0);
            for length in 0..=whole + 1 {
                match opened(name, &file[..length]).map_err(|error| error.problem) {
                    Err(Problem::ShortHeader) if length < 8 => {}
                    Ok(VectorFile { rows: 3, dims: 5, .. }) if length == whole => {}
                    Err(Problem::Size { expected, .. }) if expected == whole as u64 => {}
                    other => panic!("{name}, {length} bytes: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn a_damaged_header_is_refused() {
        let header = Header { bytes: 8, rows: 3, dims: 5, encoding: Encoding::ScaledI8 };
        assert_eq!(check_size(&header, 35).ok(), Some((3, 5)));
        for (rows, dims) in [(u64::MAX, 5), (3, u64::MAX), (u64::MAX, u64::MAX)] {
            let huge = Header { rows, dims, ..header };
            assert!(matches!(check_size(&huge, 35), Err(Problem::Size { expected: u64::MAX, .. })));
        }
        for (rows, dims) in [(0, 5), (3, 0)] {
            let empty = check_size(&Header { rows, dims, ..header }, 8);
            assert!(matches!(empty, Err(Problem::Header { .. })));
        }
        assert!(matches!(opened("a.txt", b"").unwrap_err().problem, Problem::Ending));
        let missing = VectorFile::open(Path::new("missing.fbin")).unwrap_err();
        assert!(matches!(missing.problem, Problem::Io(_)));
    }

    #[test]
    fn rows_are_read_in_blocks() {
        let mut file = [3u32, 2].map(u32::to_le_bytes).concat();
        file.extend(1..=6);
        let mut file = opened("a.u8bin", &file).unwrap();
        assert_eq!(file.read(2).unwrap(), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(file.read(2).unwrap(), [5.0, 6.0]);
        assert!(file.read(2).unwrap().is_empty());
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
