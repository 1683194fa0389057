//! The index that is measured.

use std::path::Path;

use spinney::heed::{Env, EnvOpenOptions, WithoutTls};
use spinney::{BuildOptions, Database, IndexOptions, Reader, Writer};

use crate::Result;
use crate::rows::Rows;

/// The only index in the store.
pub const INDEX: u16 = 0;
/// Rows that are added by one call.
const BLOCK: u32 = 4096;

/// An environment with one index in it.
pub struct Store {
    /// The environment.
    pub env: Env<WithoutTls>,
    /// The database in it.
    pub db: Database,
    /// The writer of the index.
    pub writer: Writer,
}

impl Store {
    /// A new store in `folder` that holds the first `items` rows, built in bulk and committed.
    ///
    /// # Errors
    /// What opening, adding, building and committing say.
    #[expect(unsafe_code, reason = "opening a memory map is the one promise that the caller makes")]
    pub fn fill(folder: &Path, rows: &Rows, items: u32) -> Result<Self> {
        // A vector may take up to a page more than its bytes. Unused map costs address space only.
        let bytes = 4 * items as usize * (4 * rows.dims + 4096) + (1 << 30);
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(bytes.next_multiple_of(1 << 20)).max_dbs(1);
        // SAFETY: the folder is new and temporary, and this is the only place that opens it.
        let env = unsafe { options.open(folder)? };
        let db = Database::open_or_create(&env)?;

        let mut wtxn = env.write_txn()?;
        let writer = Writer::open_or_create(
            &mut wtxn,
            db,
            INDEX,
            &IndexOptions::new(rows.dims, rows.metric),
        )?;
        let mut first = 0;
        while first < items {
            let ids: Vec<u32> = (first..items.min(first + BLOCK)).collect();
            let vectors: Vec<f32> = ids.iter().flat_map(|id| rows.row(*id)).collect();
            writer.add_items(&mut wtxn, &ids, &vectors)?;
            first += BLOCK;
        }
        writer.build(&mut wtxn, &BuildOptions::default())?;
        wtxn.commit()?;
        Ok(Self { env, db, writer })
    }

    /// What the forest is like. Reads all of it, so that what is measured next does not wait for
    /// pages to be mapped.
    ///
    /// # Errors
    /// What reading says.
    pub fn shape(&self) -> Result<String> {
        let rtxn = self.env.read_txn()?;
        let stats = Reader::open(&rtxn, self.db, INDEX)?.stats()?;
        let bytes = stats.leaf_bytes / stats.leaves.max(1);
        Ok(format!(
            "{} {}, {} leaves of {bytes} bytes, {} branches of {} bytes",
            stats.trees,
            if stats.trees == 1 { "tree" } else { "trees" },
            stats.leaves,
            stats.branches,
            stats.branch_bytes / stats.branches.max(1),
        ))
    }
}
