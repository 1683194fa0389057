//! The bundled passages with their embeddings, and how examples print them.

use std::fs;
use std::path::Path;

use spinney::Hit;

use crate::Result;
use crate::files::VectorFile;

/// Passages and their vectors. The row of a passage is its id.
pub struct Passages {
    /// The texts, by id.
    pub texts: Vec<String>,
    /// Their vectors, one after the other.
    pub vectors: Vec<f32>,
    /// The components of a vector.
    pub dims: usize,
}

impl Passages {
    /// Reads `examples/data/NAME.txt` and `NAME.i8bin`.
    ///
    /// # Errors
    /// If they cannot be read, or do not fit.
    pub fn load(name: &str) -> Result<Self> {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data");
        let texts = fs::read_to_string(data.join(format!("{name}.txt")))?;
        let texts: Vec<String> = texts.lines().map(String::from).collect();
        let mut file = VectorFile::open(&data.join(format!("{name}.i8bin")))?;
        if file.rows() != texts.len() {
            return Err(format!("{name}: {} vectors, {} texts", file.rows(), texts.len()).into());
        }
        Ok(Self { vectors: file.read(file.rows())?, dims: file.dims(), texts })
    }

    /// The vector of a row.
    pub fn vector(&self, row: usize) -> &[f32] {
        &self.vectors[row * self.dims..][..self.dims]
    }
}

/// Prints hits with the beginnings of their texts.
pub fn show(hits: &[Hit], texts: &[String]) {
    for Hit { id, distance } in hits {
        let text = texts.get(*id as usize).map_or("", String::as_str);
        println!("  {id:6}  {distance:.4}  {}", shortened(text));
    }
}

/// The beginning of a text, so that it fits into a line.
pub fn shortened(text: &str) -> String {
    match text.char_indices().nth(72) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_string(),
    }
}
