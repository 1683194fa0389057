//! The bundled passages with their embeddings, and what examples on them share.

use std::fs;
use std::path::Path;

use spinney::Hit;
use spinney::heed::{Env, EnvOpenOptions, WithoutTls};

use crate::common::datasets::{Result, VectorFile};

/// Passages and their vectors. The row of a passage is its id.
pub struct Passages {
    pub texts: Vec<String>,
    pub vectors: Vec<f32>,
    pub dims: usize,
}

impl Passages {
    /// Reads `examples/data/NAME.txt` and `NAME.i8bin`.
    pub fn load(name: &str) -> Result<Self> {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data");
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

/// Opens an LMDB environment: a folder with one data file, which may hold databases of yours beside
/// spinney's.
#[expect(unsafe_code, reason = "opening a memory map is the one promise that the caller makes")]
pub fn open_env(folder: &Path, databases: u32) -> Result<Env<WithoutTls>> {
    fs::create_dir_all(folder)?;
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    // The map size is the most that the file may grow to. It costs address space, not memory.
    options.map_size(1 << 30).max_dbs(databases);
    // SAFETY: LMDB maps the file into memory; nothing else writes to it, and it is opened once in
    // this process.
    Ok(unsafe { options.open(folder)? })
}

/// Prints hits with the beginnings of their texts.
pub fn show(hits: &[Hit], texts: &[String]) {
    for Hit { id, distance } in hits {
        let text = texts.get(*id as usize).map_or("", String::as_str);
        println!("  {id:6}  {distance:.4}  {}", shortened(text));
    }
}

pub fn shortened(text: &str) -> String {
    match text.char_indices().nth(72) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_string(),
    }
}
