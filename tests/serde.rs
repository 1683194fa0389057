//! Plain data is read back as it was written: `cargo test --features serde --test serde`.
#![allow(clippy::unwrap_used)]

use std::fmt::Debug;
use std::ops::ControlFlow;
use std::sync::Mutex;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{from_str, json, to_string, to_value};
use spinney::heed::EnvOpenOptions;
use spinney::heed::types::Bytes;
use spinney::*;

#[track_caller]
fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    assert_eq!(&from_str::<T>(&to_string(value).unwrap()).unwrap(), value);
}

#[test]
fn options_and_metrics_are_written_by_name() {
    let names = ["euclidean", "cosine", "dot", "manhattan", "hamming"];
    for name in names {
        let metric: Metric = name.parse().unwrap();
        assert_eq!(to_value(metric).unwrap(), json!(name));
        let options = IndexOptions::new(384, metric);
        assert_eq!(to_value(options).unwrap(), json!({ "dims": 384, "metric": name }));
        comes_back(&options);
        let options = options.storage(Storage::I8);
        let expected = json!({ "dims": 384, "metric": name, "storage": "i8" });
        assert_eq!(to_value(options).unwrap(), expected);
        comes_back(&options);
    }
    let error = from_str::<Metric>("\"l2\"").unwrap_err().to_string();
    assert!(names.iter().all(|name| error.contains(name)), "{error}");
}

#[test]
#[expect(unsafe_code, reason = "opening a memory map")]
fn what_an_index_says_of_itself_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = EnvOpenOptions::new();
    // SAFETY: the folder is new, and nothing else opens it.
    let env = unsafe { options.map_size(100 << 20).max_dbs(1).open(dir.path()) }.unwrap();
    let db = Database::open_or_create(&env).unwrap();
    let mut wtxn = env.write_txn().unwrap();
    let index = IndexOptions::new(2, Metric::Euclidean);
    let writer = Writer::open_or_create(&mut wtxn, db, 0, &index).unwrap();
    for id in 0..3_000u16 {
        let vector = [f32::from(id % 61), f32::from(id) * 0.1];
        writer.add_item(&mut wtxn, u32::from(id), &vector).unwrap();
    }
    let seen = Mutex::new(Vec::new());
    let note = |progress: &Progress| {
        seen.lock().unwrap().push(*progress);
        ControlFlow::Continue(())
    };
    let build = writer.build(&mut wtxn, &BuildOptions::default().progress(&note)).unwrap();
    comes_back(&build);
    assert_eq!(to_value(build).unwrap()["method"], json!("bulk"));
    let seen = seen.into_inner().unwrap();
    assert!(!seen.is_empty());
    for progress in &seen {
        comes_back(progress);
        assert_eq!(to_value(progress.phase).unwrap(), json!(progress.phase.to_string()));
    }

    let reader = Reader::open(&wtxn, db, 0).unwrap();
    comes_back(&reader.stats().unwrap());
    let mut stats = SearchStats::default();
    let hits = reader.nns(3).report(&mut stats).by_vector(&[3.3, 0.7]).unwrap();
    assert_eq!(hits.len(), 3);
    comes_back(&hits);
    assert_eq!(to_value(&hits).unwrap()["is_partial"], json!(false));
    let hit = hits.first().unwrap();
    assert_eq!(to_value(hit).unwrap(), json!({ "id": hit.id, "distance": hit.distance }));
    assert_eq!(stats.plan, SearchPlan::Forest);
    assert_eq!(to_value(SearchPlan::ForestThenExact).unwrap(), json!("forest_then_exact"));
    comes_back(&stats);
    comes_back(&reader.verify().unwrap());
    drop(reader);
    wtxn.commit().unwrap();

    // A vector whose bytes are cut is a violation, and is lost in a repair.
    let raw = env.open_databases_and_commit(env.read_txn().unwrap(), |opener, rtxn| {
        let raw = opener.open_database::<Bytes, Bytes>(rtxn, Some("spinney"));
        raw.map(heed::CommitOrAbort::<_, ()>::Commit)
    });
    let raw: Result<_, heed::Error> = raw;
    let raw = raw.unwrap().unwrap_commit().unwrap();
    let mut wtxn = env.write_txn().unwrap();
    raw.put(&mut wtxn, &[0, 0, 6, 0, 0, 0, 0, 5], b"short").unwrap();
    let found = Reader::open(&wtxn, db, 0).unwrap().verify().unwrap();
    assert!(!found.is_sound());
    comes_back(&found);
    let repair = Writer::repair(&mut wtxn, db, 0, &index, &BuildOptions::default()).unwrap();
    assert_eq!(repair.lost, [5]);
    comes_back(&repair);
}
