//! A store with an index and a collection that are written together, in batches. All that they hold
//! follows from how many batches there have been.

use std::sync::OnceLock;

use spinney::heed::types::Bytes;
use spinney::heed::{self, CommitOrAbort, RoTxn};
use spinney::{
    BuildOptions, Collection, Document, DocumentKey, Error, Index, IndexOptions, Labels, Metric,
    Reads, Result, Store, StoredDocument, WriteTxn,
};

use super::{Items, assert_items, assert_sound, clustered_row, rng};

const DIMS: usize = 8;
/// Items of a batch, and documents.
const BATCH: u32 = 25;
/// Batches that are there at once: each deletes the one that came so many before it. They are so
/// many that a build after one batch is incremental.
pub const KEPT: u32 = 20;

pub struct Batches {
    pub store: Store,
    pub index: Index,
    pub docs: Collection,
    tables: OnceLock<[heed::Database<'static, Bytes, Bytes>; 2]>,
}

/// All bytes of vectors, forests and documents.
pub type Content = [Vec<(Vec<u8>, Vec<u8>)>; 2];

pub fn options() -> IndexOptions {
    IndexOptions::new(DIMS, Metric::Euclidean)
}

fn row(id: u32) -> Vec<f32> {
    clustered_row(Metric::Euclidean, DIMS, &mut rng(u64::from(id)))
}

/// The vectors of a document: every third has two, the second of which is far away.
fn rows(id: u32) -> Vec<f32> {
    let mut rows = row(id);
    if id.is_multiple_of(3) {
        rows.extend([1000.0; DIMS]);
    }
    rows
}

fn key(id: u32) -> String {
    format!("{:06}/{:02}", id / BATCH, id % BATCH)
}

fn payload(id: u32) -> String {
    format!("payload of {id}")
}

fn label(batch: u32) -> String {
    format!("batch:{batch}")
}

fn parity(id: u32) -> &'static str {
    if id.is_multiple_of(2) { "even" } else { "odd" }
}

fn document(id: u32) -> Document {
    let labels = [parity(id).to_owned(), label(id / BATCH)];
    Document::with_vectors(rows(id)).payload(payload(id)).labels(labels)
}

/// The ids that are there after so many batches.
fn ids(batches: u32) -> std::ops::Range<u32> {
    batches.saturating_sub(KEPT) * BATCH..batches * BATCH
}

impl Batches {
    /// In a store that has them, or that gets them.
    pub fn new(store: Store) -> Self {
        let index = store.index("items", &options()).unwrap();
        let docs = store.collection("docs", &options()).unwrap();
        Self { store, index, docs, tables: OnceLock::new() }
    }

    /// Builds by itself after so many changes, or never.
    pub fn build_after(&self, changes: Option<u32>) {
        for name in ["items", "docs"] {
            self.store.set_build_after(name, changes).unwrap();
        }
    }

    /// Puts the next batch, in the index and in the collection, and deletes an old one.
    pub fn put(&self, txn: &mut WriteTxn<'_>) -> Result<u32> {
        let batch = self.count(txn)?;
        let batches = batch + 1;
        for id in batch * BATCH..batches * BATCH {
            self.index.add_item(txn, id, &row(id))?;
        }
        self.docs
            .put_many(txn, (batch * BATCH..batches * BATCH).map(|id| (key(id), document(id))))?;
        if let Some(old) = batch.checked_sub(KEPT) {
            for id in old * BATCH..(old + 1) * BATCH {
                assert!(self.index.del_item(txn, id)?);
            }
            assert_eq!(self.docs.delete_where(txn, label(old))?, u64::from(BATCH));
        }
        Ok(batches)
    }

    pub fn build(&self, txn: &mut WriteTxn<'_>, options: &BuildOptions<'_>) -> Result<()> {
        self.index.build(txn, options)?;
        self.docs.build(txn, options).map(|_| ())
    }

    /// Commits the next batch, and returns how many there have been.
    pub fn write(&self) -> Result<u32> {
        self.store.write(|txn| self.put(txn))
    }

    /// What a transaction shows. What is committed has to be looked at first.
    pub fn content(&self, rtxn: &RoTxn<'_>) -> Content {
        self.tables.get().expect("the tables are open").map(|table| {
            let entries = table.iter(rtxn).unwrap().map(Result::unwrap);
            // The mark of the database differs from one to the other.
            let unmarked = entries.filter(|(key, _)| *key != [0, 0]);
            unmarked.map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
        })
    }

    /// What is committed. The map does not grow any more.
    pub fn committed(&self) -> Content {
        self.tables.get_or_init(|| {
            let env = self.store.env();
            ["spinney", "spinney documents"].map(|name| {
                let rtxn = env.read_txn().unwrap();
                let opened = env.open_databases_and_commit(rtxn, |opener, rtxn| {
                    let table = opener.open_database::<Bytes, Bytes>(rtxn, Some(name))?;
                    Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(table.unwrap()))
                });
                opened.unwrap().commit().unwrap()
            })
        });
        self.store.read(|txn| Ok::<_, Error>(self.content(txn.as_heed()))).unwrap()
    }

    /// How many batches there have been, by the ids of the index.
    pub fn count(&self, source: &impl Reads) -> Result<u32> {
        source.with_reader(&self.index, |reader| {
            Ok(reader.ids()?.last().transpose()?.map_or(0, |id| id / BATCH + 1))
        })
    }

    /// Answers to searches, and all documents: two are equal if every bit is.
    pub fn answers(&self, source: &impl Reads, query: u32) -> String {
        let query = row(query);
        let search = || self.docs.search(source, 100).payload(true);
        let hits = [
            search().by_vector(&query).unwrap(),
            search().exact().by_vector(&query).unwrap(),
            search().labelled("odd").by_vector(&query).unwrap(),
        ];
        let documents: Vec<StoredDocument> =
            self.docs.documents(source).collect::<Result<_>>().unwrap();
        format!("{hits:?} {documents:?} {:?}", self.docs.labels(source).unwrap())
    }

    /// Checks that all is as after some number of batches, which it returns.
    #[track_caller]
    pub fn check(&self, source: &impl Reads) -> u32 {
        let batches = self.count(source).unwrap();
        let items: Items = ids(batches).map(|id| (id, row(id))).collect();
        let checked = source.with_reader(&self.index, |reader| {
            assert_sound(reader, "the index of batches");
            assert_items(reader, &items);
            Ok::<_, Error>(())
        });
        checked.unwrap();
        self.check_documents(source, batches);
        batches
    }

    #[track_caller]
    fn check_documents(&self, source: &impl Reads, batches: u32) {
        let docs = &self.docs;
        assert_eq!(docs.verify(source).unwrap(), []);
        assert_eq!(docs.len(source).unwrap(), ids(batches).len() as u64);
        let all: Vec<StoredDocument> = docs.documents(source).collect::<Result<_>>().unwrap();
        assert!(
            all.iter()
                .map(|found| found.key.clone())
                .eq(ids(batches).map(|id| DocumentKey::from(key(id))))
        );
        for (found, id) in all.iter().zip(ids(batches)) {
            assert_eq!(found.payload, payload(id).into_bytes());
            assert_eq!(found.labels, [label(id / BATCH), parity(id).to_owned()]);
            assert_eq!(docs.vectors(source, key(id)).unwrap(), Some(rows(id)));
        }
        for batch in ids(batches).step_by(BATCH as usize).map(|id| id / BATCH) {
            let odd = Labels::all([Labels::from(label(batch)), Labels::not("even")]);
            assert_eq!(docs.count(source, label(batch)).unwrap(), u64::from(BATCH));
            let hits = docs.search(source, 100).labelled(odd).by_vector(&row(batch)).unwrap();
            let expected = ids(batches).filter(|id| id / BATCH == batch && parity(*id) == "odd");
            assert_eq!(hits.len(), expected.count());
        }
    }
}
