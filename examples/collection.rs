//! Passages under keys, with labels: a collection, and two tenants who see only what is theirs.
//!
//! ```text
//! cargo run --release --example collection
//! ```

use std::error::Error;
use std::path::Path;

use bench_kit::passages::{Passages, shortened};
use spinney::{Collection, Document, DocumentHit, IndexOptions, Labels, Metric, Store};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let passages = Passages::load("passages")?;
    let question = Passages::load("queries")?.vector(0).to_vec();
    first_program(folder.path(), &passages, &question)?;
    let store = Store::open(folder.path())?;
    let docs = store.open_collection("passages")?.ok_or("it was created")?;
    tenants(&store, &docs, &passages, &question)
}

/// The shortest whole program: open, put 1,000 passages, search among some, and open again.
fn first_program(path: &Path, passages: &Passages, question: &[f32]) -> Result<(), Box<dyn Error>> {
    let store = Store::open(path)?;
    let docs = store.collection("passages", &IndexOptions::new(passages.dims, Metric::Cosine))?;
    let all = (0..1000).map(|row| (row as u64, document(passages, row)));
    store.write(|txn| docs.put_many(txn, all.clone()))?;
    for hit in docs.search(&store, 3).labelled("short").payload(true).by_vector(question)? {
        println!("{:.3}  {:?}  {}", hit.distance, hit.key, text(&hit)?);
    }
    drop(store); // the last handle closes it
    let store = Store::open(path)?;
    let docs = store.open_collection("passages")?.ok_or("it was created")?;
    println!("{} passages after opening it again\n", docs.len(&store)?);
    Ok(())
}

/// A passage with its text, and a label that says how long it is.
fn document(passages: &Passages, row: usize) -> Document {
    let text = passages.texts[row].as_str();
    let label = if text.len() < 300 { "short" } else { "long" };
    Document::new(passages.vector(row)).payload(text).labels([label])
}

fn text(hit: &DocumentHit) -> Result<String, Box<dyn Error>> {
    let bytes = hit.payload.clone().unwrap_or_default();
    Ok(shortened(&String::from_utf8(bytes)?))
}

/// Whatever goes through a scoped view bears its label, and nothing else can be seen or touched.
fn tenants(
    store: &Store,
    docs: &Collection,
    passages: &Passages,
    question: &[f32],
) -> Result<(), Box<dyn Error>> {
    let (ann, bob) = (docs.scoped("tenant:ann")?, docs.scoped("tenant:bob")?);
    store.write(|txn| {
        for row in 1000..1500 {
            let (view, name) = if row % 2 == 0 { (&ann, "ann") } else { (&bob, "bob") };
            view.put(txn, format!("{name}/{row}"), &document(passages, row))?;
        }
        // Each can delete what is theirs alone.
        assert!(!bob.delete(txn, "ann/1000")?);
        assert_eq!(bob.delete_where(txn, Labels::all(["long", "tenant:ann"]))?, 0);
        // A key that another tenant has is refused, and nothing is overwritten.
        assert!(bob.put(txn, "ann/1000", &document(passages, 0)).is_err());
        Ok::<_, spinney::Error>(())
    })?;
    for (name, view) in [("ann", &ann), ("bob", &bob), ("all", docs)] {
        let hits = view.search(store, 3).by_vector(question)?;
        let keys: Vec<String> = hits.iter().map(|hit| hit.key.to_string()).collect();
        println!("{name}: {} passages, labels {:?}", view.len(store)?, view.labels(store)?);
        println!("     nearest {}", keys.join(", "));
        assert!(
            name == "all"
                || hits.iter().all(|hit| hit.key.as_str().is_some_and(|key| key.starts_with(name)))
        );
    }
    Ok(())
}

#[test]
fn it_runs() {
    main().unwrap();
}
