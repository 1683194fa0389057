//! Searching among what your own tables allow: filters, pages and groups.
//!
//! ```text
//! cargo run --release --example filtered
//! ```
//!
//! An index knows ids and vectors. Who wrote a passage, and what it is about, your program keeps
//! itself. When it keeps that in the same LMDB environment, one transaction covers both. So a
//! search never meets a passage without its tags, nor a tag of a passage that is gone.

use std::path::Path;
use std::process::ExitCode;

use bench_kit::Result;
use bench_kit::passages::{Passages, shortened, show};
use spinney::heed::byteorder::BigEndian;
use spinney::heed::types::{Bytes, Str, U32};
use spinney::heed::{self, CommitOrAbort, Env, EnvOpenOptions, RoTxn, RwTxn, WithoutTls};
use spinney::roaring::RoaringBitmap;
use spinney::{BuildOptions, Database, IndexOptions, Metric, Reader, Writer};

const INDEX: u16 = 0;
/// Words that make a tag of a passage in which they stand.
const TAGS: [&str; 5] = ["database", "file", "read", "transaction", "write"];
/// The passages came without authors, so that the example hands them out.
const AUTHORS: [&str; 8] = ["Ada", "Ben", "Cleo", "Dora", "Emil", "Fay", "Gus", "Hal"];

/// Two tables of ours. They could as well be in any shape that your program likes.
struct Tables {
    /// Under each tag the ids of its passages, as a serialised Roaring bitmap: small, and ready to
    /// be a filter.
    tags: heed::Database<'static, Str, Bytes>,
    /// Under the id of each passage its author.
    authors: heed::Database<'static, U32<BigEndian>, Str>,
}

fn main() -> ExitCode {
    bench_kit::exit(run())
}

fn run() -> Result<()> {
    let (passages, queries) = (Passages::load("passages")?, Passages::load("queries")?);
    let folder = tempfile::tempdir()?;
    let env = open_env(folder.path())?;
    let db = Database::open_or_create(&env)?;
    let tables = Tables::open(&env)?;
    fill(&env, db, &tables, &passages)?;

    // "The SQLite database allows multiple simultaneous readers or a single writer but not both.
    // ..."
    let query = queries.vector(186);
    println!("query: {}\n", shortened(&queries.texts[186]));
    // One snapshot of everything: of the vectors, the tags and the authors.
    let rtxn = env.read_txn()?;
    let reader = Reader::open(&rtxn, db, INDEX)?;
    filter_by_tags(&reader, &rtxn, &tables, query, &passages)?;
    filter_by_author(&reader, &rtxn, &tables, query, &passages)?;
    page_by_page(&reader, query, &passages)?;
    one_of_each_author(&reader, &rtxn, &tables, query, &passages)?;
    delete_everywhere(&env, db, &tables, query, &passages)
}

#[expect(unsafe_code, reason = "opening a memory map is the one promise that the caller makes")]
fn open_env(folder: &Path) -> Result<Env<WithoutTls>> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    // Room for three named databases: one of spinney, and our two.
    options.map_size(1 << 30).max_dbs(3);
    // SAFETY: nothing but LMDB writes to the folder, which is new; it is opened once.
    Ok(unsafe { options.open(folder)? })
}

impl Tables {
    fn open(env: &Env<WithoutTls>) -> Result<Self> {
        let created = env.create_databases_and_commit(env.write_txn()?, |opener, wtxn| {
            let tags = opener.create_database(wtxn, Some("tags"))?;
            let authors = opener.create_database(wtxn, Some("authors"))?;
            Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit((tags, authors)))
        })?;
        let (tags, authors) = created.commit().ok_or("the tables were not created")?;
        Ok(Self { tags, authors })
    }

    /// The ids of all passages with a tag.
    fn tagged(&self, rtxn: &RoTxn<'_>, tag: &str) -> Result<RoaringBitmap> {
        match self.tags.get(rtxn, tag)? {
            Some(bytes) => Ok(RoaringBitmap::deserialize_from(bytes)?),
            None => Ok(RoaringBitmap::new()),
        }
    }

    /// Who wrote a passage, if that is known.
    fn author<'t>(&self, rtxn: &'t RoTxn<'_>, id: u32) -> heed::Result<Option<&'t str>> {
        self.authors.get(rtxn, &id)
    }

    fn set_tagged(&self, wtxn: &mut RwTxn<'_>, tag: &str, ids: &RoaringBitmap) -> Result<()> {
        let mut bytes = Vec::with_capacity(ids.serialized_size());
        ids.serialize_into(&mut bytes)?;
        Ok(self.tags.put(wtxn, tag, &bytes)?)
    }
}

/// One write transaction for the vectors and for what we know about them: all of it appears at the
/// commit, or none.
fn fill(env: &Env<WithoutTls>, db: Database, tables: &Tables, passages: &Passages) -> Result<()> {
    let mut wtxn = env.write_txn()?;
    let writer = Writer::open_or_create(
        &mut wtxn,
        db,
        INDEX,
        &IndexOptions::new(passages.dims, Metric::Cosine),
    )?;
    let mut tagged = TAGS.map(|tag| (tag, RoaringBitmap::new()));
    for (id, text) in (0u32..).zip(&passages.texts) {
        writer.add_item(&mut wtxn, id, passages.vector(id as usize))?;
        tables.authors.put(&mut wtxn, &id, AUTHORS[text.len() % AUTHORS.len()])?;
        for (tag, ids) in &mut tagged {
            if text.split(|c: char| !c.is_alphabetic()).any(|word| word.eq_ignore_ascii_case(tag)) {
                ids.insert(id);
            }
        }
    }
    for (tag, ids) in &tagged {
        tables.set_tagged(&mut wtxn, tag, ids)?;
    }
    writer.build(&mut wtxn, &BuildOptions::default())?;
    wtxn.commit()?;
    Ok(())
}

/// A set of ids is the best filter where you have one: its size is known, and with it the cheapest
/// way to search.
fn filter_by_tags(
    reader: &Reader<'_>,
    rtxn: &RoTxn<'_>,
    tables: &Tables,
    query: &[f32],
    passages: &Passages,
) -> Result<()> {
    println!("without a filter:");
    show(&reader.nns(3).by_vector(query)?, &passages.texts);

    let file = tables.tagged(rtxn, "file")?;
    println!("\namong the {} passages with the tag file:", file.len());
    let hits = reader.nns(3).filter(&file).by_vector(query)?;
    show(&hits, &passages.texts);
    assert!(hits.iter().all(|hit| file.contains(hit.id)));

    // Sets of tags combine by and (&), or (|), and not (-) before the search sees them.
    let such = (tables.tagged(rtxn, "read")? | tables.tagged(rtxn, "write")?)
        - tables.tagged(rtxn, "database")?;
    println!("\nabout reading or writing, but without a database ({} passages):", such.len());
    let hits = reader.nns(3).filter(&such).by_vector(query)?;
    show(&hits, &passages.texts);
    assert!(hits.iter().all(|hit| such.contains(hit.id)));

    // However few there are, the answer has all of them, up to as many as were asked for.
    let rare = tables.tagged(rtxn, "read")? & tables.tagged(rtxn, "transaction")?;
    println!("\nabout reading and transactions ({} passages):", rare.len());
    let hits = reader.nns(10).filter(&rare).by_vector(query)?;
    show(&hits, &passages.texts);
    assert_eq!(hits.len() as u64, rare.len().min(10));
    Ok(())
}

/// A function is a filter, too: here it reads our table, in the snapshot of the search.
fn filter_by_author(
    reader: &Reader<'_>,
    rtxn: &RoTxn<'_>,
    tables: &Tables,
    query: &[f32],
    passages: &Passages,
) -> Result<()> {
    // It is asked about passages that look near, and about all if they are few. If the table cannot
    // be read, the search fails with that error.
    let is_by = |id: u32, name: &str| tables.author(rtxn, id).map(|author| author == Some(name));
    println!("\nby anybody but Ada and Ben:");
    let is_other = |id: u32| Ok::<_, heed::Error>(!is_by(id, "Ada")? && !is_by(id, "Ben")?);
    let hits = reader.nns(3).try_filter_fn(is_other).by_vector(query)?;
    show(&hits, &passages.texts);

    // Both kinds of filters go together: an item is found if both admit it.
    let write = tables.tagged(rtxn, "write")?;
    println!("\nby Cleo, with the tag write:");
    let hits =
        reader.nns(3).filter(&write).try_filter_fn(|id| is_by(id, "Cleo")).by_vector(query)?;
    show(&hits, &passages.texts);
    for hit in hits {
        assert!(write.contains(hit.id) && is_by(hit.id, "Cleo")?);
    }
    Ok(())
}

/// The next page goes on where the last one ended: nothing comes twice. It takes filters as well.
fn page_by_page(reader: &Reader<'_>, query: &[f32], passages: &Passages) -> Result<()> {
    let mut pages = reader.nns(3).pages(query)?;
    let mut seen = RoaringBitmap::new();
    for number in 1..=3 {
        let page = pages.next_page()?;
        println!("\npage {number}:");
        show(&page, &passages.texts);
        assert!(page.iter().all(|hit| seen.insert(hit.id)), "nothing comes twice");
    }
    Ok(())
}

/// At most so many hits of each group, so that one author does not fill the answer.
fn one_of_each_author(
    reader: &Reader<'_>,
    rtxn: &RoTxn<'_>,
    tables: &Tables,
    query: &[f32],
    passages: &Passages,
) -> Result<()> {
    // A group is a number: here the place of the author in our list. Those without an author are
    // one more group.
    let group = |id: u32| {
        let author = tables.author(rtxn, id)?;
        let place = AUTHORS.iter().position(|name| author == Some(name));
        Ok::<_, heed::Error>(place.unwrap_or(AUTHORS.len()) as u64)
    };
    let hits = reader.nns(AUTHORS.len()).try_per_group(1, group).by_vector(query)?;
    let authors = hits.iter().map(|hit| tables.author(rtxn, hit.id));
    let mut names: Vec<&str> =
        authors.filter_map(heed::Result::transpose).collect::<heed::Result<_>>()?;
    println!("\nthe nearest by each author, by {}:", names.join(", "));
    show(&hits, &passages.texts);
    names.sort_unstable();
    assert_eq!(names, AUTHORS, "each author once");
    Ok(())
}

/// Delete a passage where it stands: in the index and in our tables, in one transaction.
fn delete_everywhere(
    env: &Env<WithoutTls>,
    db: Database,
    tables: &Tables,
    query: &[f32],
    passages: &Passages,
) -> Result<()> {
    let old_rtxn = env.read_txn()?;
    let old_reader = Reader::open(&old_rtxn, db, INDEX)?;
    let old_tagged = tables.tagged(&old_rtxn, "file")?;
    let before = old_reader.nns(2).filter(&old_tagged).by_vector(query)?;
    let gone = before.first().ok_or("nothing has the tag file")?.id;

    let mut wtxn = env.write_txn()?;
    Writer::open(&wtxn, db, INDEX)?.del_item(&mut wtxn, gone)?;
    tables.authors.delete(&mut wtxn, &gone)?;
    for tag in TAGS {
        let mut ids = tables.tagged(&wtxn, tag)?;
        if ids.remove(gone) {
            tables.set_tagged(&mut wtxn, tag, &ids)?;
        }
    }
    // No build: what changed is seen after the commit all the same. Build when enough has changed.
    wtxn.commit()?;

    let rtxn = env.read_txn()?;
    let tagged = tables.tagged(&rtxn, "file")?;
    let after = Reader::open(&rtxn, db, INDEX)?.nns(2).filter(&tagged).by_vector(query)?;
    println!("\n{gone} is deleted; with the tag file:");
    show(&after, &passages.texts);
    assert!(!tagged.contains(gone) && after.iter().all(|hit| hit.id != gone));
    // The old snapshot still has the passage, its tags and its author.
    assert_eq!(old_reader.nns(2).filter(&old_tagged).by_vector(query)?, before);
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_runs() {
        super::run().unwrap();
    }
}
