//! Tables of your own beside the indexes of a store, in the same transactions.
//!
//! ```text
//! cargo run --release --example hosted            # in a temporary folder
//! ```
//!
//! Notes have a text, which lies in a table of our own, and a vector, by which they are found. Both
//! are written in one transaction: no reader ever sees the one without the other, and what is
//! aborted leaves neither.

use std::error::Error;

use spinney::heed::byteorder::BigEndian;
use spinney::heed::types::{Str, U32};
use spinney::{Index, IndexOptions, Metric, Store, WriteTxn, heed};

/// LMDB sorts by bytes: with the highest byte first, ids are sorted as numbers.
type Texts = heed::Database<'static, U32<BigEndian>, Str>;

/// Handles, opened once: none of them holds a transaction.
struct Notes {
    store: Store,
    vectors: Index,
    texts: Texts,
}

impl Notes {
    fn open(path: &std::path::Path) -> spinney::Result<Self> {
        let store = Store::open(path)?;
        let vectors = store.index("notes", &IndexOptions::new(3, Metric::Cosine))?;
        let texts = store.table("texts")?;
        Ok(Self { store, vectors, texts })
    }

    /// Adds a note under the next id.
    fn add(&self, txn: &mut WriteTxn<'_>, text: &str, vector: &[f32]) -> spinney::Result<u32> {
        let last = self.texts.last(txn.as_heed())?;
        let id = last.map_or(0, |(id, _)| id + 1);
        self.texts.put(txn.as_heed_mut(), &id, text)?;
        self.vectors.add_item(txn, id, vector)?;
        Ok(id)
    }

    fn delete(&self, txn: &mut WriteTxn<'_>, id: u32) -> spinney::Result<bool> {
        self.texts.delete(txn.as_heed_mut(), &id)?;
        self.vectors.del_item(txn, id)
    }

    /// The texts of the nearest notes, read in the commit that was searched.
    fn search(&self, vector: &[f32], k: usize) -> spinney::Result<Vec<(String, f32)>> {
        self.store.read(|txn| {
            let mut found = Vec::new();
            for hit in txn.reader(&self.vectors)?.nns(k).by_vector(vector)? {
                let text = self.texts.get(txn.as_heed(), &hit.id)?;
                found.push((text.unwrap_or("a note without a text").to_owned(), hit.distance));
            }
            Ok(found)
        })
    }

    /// How many texts and vectors there are, in one commit.
    fn counts(&self) -> spinney::Result<(u64, u64)> {
        self.store
            .read(|txn| Ok((self.texts.len(txn.as_heed())?, txn.reader(&self.vectors)?.len())))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let notes = Notes::open(folder.path())?;

    // The closure runs again if the map has to grow: it changes nothing but the store.
    let ids = notes.store.write(|txn| {
        let all: [(&str, [f32; 3]); 3] = [
            ("buy bread", [1.0, 0.1, 0.0]),
            ("feed the cat", [0.1, 1.0, 0.2]),
            ("call the baker", [0.9, 0.0, 0.3]),
        ];
        all.iter().map(|(text, vector)| notes.add(txn, text, vector)).collect::<Result<Vec<_>, _>>()
    })?;
    println!("notes {ids:?}");
    for (text, distance) in notes.search(&[1.0, 0.0, 0.2], 2)? {
        println!("  {distance:.3} {text}");
    }

    // The second vector is refused. The error leaves the closure, and nothing of it is committed:
    // not the first note, nor the text of the second.
    let refused = notes.store.write(|txn| {
        notes.add(txn, "water the plants", &[0.0, 0.2, 1.0])?;
        notes.add(txn, "nonsense", &[f32::NAN, 0.0, 0.0])
    });
    println!("refused: {}", refused.err().ok_or("a vector of no numbers was taken")?);
    assert_eq!(notes.counts()?, (3, 3));

    let was_there = notes.store.write(|txn| notes.delete(txn, 0))?;
    assert!(was_there && notes.counts()? == (2, 2));
    println!("deleted note 0:");
    for (text, distance) in notes.search(&[1.0, 0.0, 0.2], 2)? {
        println!("  {distance:.3} {text}");
    }

    // A table that another program made with heed is opened in the same way; and what the store has
    // no call for goes through its environment.
    println!("{} bytes on the disk", notes.store.env().real_disk_size()?);
    Ok(())
}
