//! Laws of options: every value in its range works and keeps the contract of answers, the next one
//! beyond is refused.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "options/kept.rs"]
mod kept;
#[path = "options/subject.rs"]
mod subject;
mod support;

use spinney::{BuildMethod, BuildOptions, Error, IndexOptions, Metric, Reader, Writer};
use subject::Subject;
use support::*;

fn assert_option(result: Result<BuildMethod, Error>, option: &str, given: usize) {
    match result {
        Err(Error::InvalidOption { name, expected, got }) => {
            assert_eq!((name, got), (option, given.to_string()));
            assert!(!expected.is_empty());
        }
        other => panic!("{option} = {given}: {other:?}"),
    }
}

#[test]
fn trees_from_1_to_16() {
    let store = Store::new();
    for metric in METRICS {
        let mut subject = Subject::new(&store, metric, 1200);
        for trees in [0, 17, usize::MAX] {
            assert_option(subject.build(&BuildOptions::default().trees(trees)), "trees", trees);
        }
        assert_eq!(subject.reader().pending_len(), 1200, "a refused build leaves what is pending");
        for trees in [1, 2, 16] {
            assert_ne!(
                subject.build(&BuildOptions::default().trees(trees)).unwrap(),
                BuildMethod::Nothing
            );
            assert_eq!(subject.stats().trees, trees);
            assert!(subject.stats().leaves >= trees as u64);
            subject.check_answers();
        }
    }
}

#[test]
fn leaf_sizes_from_32_to_4096() {
    let store = Store::new();
    for metric in METRICS {
        let mut subject = Subject::new(&store, metric, 5000);
        for size in [0, 1, 31, 4097, usize::MAX] {
            assert_option(
                subject.build(&BuildOptions::default().leaf_size(size)),
                "leaf_size",
                size,
            );
        }
        let mut leaves = u64::MAX;
        for size in [32, 33, 384, 4096] {
            assert_ne!(
                subject.build(&BuildOptions::default().leaf_size(size)).unwrap(),
                BuildMethod::Nothing
            );
            let stats = subject.stats();
            let least = (2 * subject.items.len()).div_ceil(size) as u64;
            assert_eq!(stats.leaf_size, size);
            assert!(
                (least..=leaves).contains(&stats.leaves),
                "{metric}: {} leaves of {size}",
                stats.leaves
            );
            leaves = stats.leaves;
            subject.check_answers();
        }
    }
}

#[test]
fn sketch_bits_1_2_and_4() {
    let store = Store::new();
    for metric in METRICS {
        let mut subject = Subject::new(&store, metric, 1500);
        let mut bytes = 0;
        for bits in [0, 1, 2, 3, 4, 5, u8::MAX] {
            let result = subject.build(&BuildOptions::default().sketch_bits(bits));
            if !matches!(bits, 1 | 2 | 4) {
                assert_option(result, "sketch_bits", usize::from(bits));
                continue;
            }
            let (method, stats) = (result.unwrap(), subject.stats());
            // Hamming's sketches are the vectors' own bits, whatever is asked for.
            if metric != Metric::Hamming {
                assert_ne!(method, BuildMethod::Nothing);
                assert_eq!(stats.sketch_bits, bits);
                assert!(
                    stats.leaf_bytes > bytes,
                    "{metric}: {bits} bits take {} bytes",
                    stats.leaf_bytes
                );
            }
            bytes = stats.leaf_bytes;
            subject.check_answers();
        }
    }
}

#[test]
fn spill_on_and_off() {
    let store = Store::new();
    for metric in METRICS {
        let mut subject = Subject::new(&store, metric, 2000);
        subject.build(&BuildOptions::default().spill(true)).unwrap();
        let with = subject.stats();
        subject.check_answers();
        subject.build(&BuildOptions::default().spill(false)).unwrap();
        let without = subject.stats();
        subject.check_answers();
        assert!(with.spill && !without.spill);
        assert!(
            with.leaf_bytes * 2 > without.leaf_bytes * 3,
            "a second copy of each item takes its room"
        );
    }
}

#[test]
fn any_thread_pool_builds_the_same_forest() {
    let store = Store::new();
    let mut answers = Vec::new();
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut subject = Subject::new(&store, Metric::Cosine, 3000);
        subject.build(&BuildOptions::default().trees(2).leaf_size(64).thread_pool(&pool)).unwrap();
        subject.check_answers();
        let query = &subject.items[&17];
        answers.push((
            subject.stats(),
            subject.reader().nns(20).search_k(100).by_vector(query).unwrap(),
        ));
        // From inside the pool too.
        let (writer, wtxn) = (subject.writer, &mut subject.wtxn);
        let stats = pool.install(|| writer.build(wtxn, &BuildOptions::default().seed(1))).unwrap();
        assert_eq!(stats.items, 3000);
        subject.check_answers();
    }
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn oversampling_from_1_up() {
    let store = Store::new();
    for built in [false, true] {
        let mut subject = Subject::new(&store, Metric::Euclidean, 1500);
        if built {
            subject.build(&BuildOptions::default()).unwrap();
        }
        let reader = subject.reader();
        let query = &subject.items[&3];
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.5, 0.999_999_9, 0.0, -1.0] {
            for result in [
                reader.nns(3).oversampling(bad).by_vector(query).map(|_| ()),
                reader.nns(3).oversampling(bad).by_item(3).map(|_| ()),
                reader.nns(3).exact().oversampling(bad).by_vector(query).map(|_| ()),
            ] {
                let refused = matches!(&result, Err(Error::InvalidOption { name: "oversampling", got, .. }) if *got == bad.to_string());
                assert!(refused, "oversampling {bad}: {result:?}");
            }
        }
        let ranked = ranked(Metric::Euclidean, &subject.items, query);
        for good in [1.0, 1000.0, 1e30, f32::MAX] {
            for k in [1, 10, usize::MAX] {
                let ask = Ask { oversampling: Some(good), ..Ask::new(k) };
                ask.check(
                    Metric::Euclidean,
                    &ranked,
                    &ask.apply(reader.nns(k)).by_vector(query).unwrap(),
                );
            }
        }
    }
}

#[test]
fn small_indexes_build_and_a_second_build_does_nothing() {
    let store = Store::new();
    for (metric, n) in METRICS.into_iter().flat_map(|metric| [0, 1, 2, 33].map(|n| (metric, n))) {
        let mut subject = Subject::new(&store, metric, n);
        let all = BuildOptions::default().trees(16).leaf_size(32).sketch_bits(1).seed(u64::MAX);
        for options in [BuildOptions::default(), all, all.rebuild(true)] {
            // Without items there is no forest, whatever its shape would be.
            let expected = if n == 0 { BuildMethod::Nothing } else { BuildMethod::Bulk };
            assert_eq!(
                subject.build(&options).unwrap(),
                expected,
                "{metric}, {n} items, {options:?}"
            );
            let options = options.rebuild(false);
            assert_eq!(
                subject.build(&options).unwrap(),
                BuildMethod::Nothing,
                "{metric}, {n} items, {options:?}"
            );
            assert_eq!(subject.build(&BuildOptions::default()).unwrap(), BuildMethod::Nothing);
            subject.check_answers();
        }
    }
}

#[test]
fn an_index_can_be_built_when_everything_was_deleted() {
    let store = Store::new();
    for metric in METRICS {
        let mut subject = Subject::new(&store, metric, 1300);
        subject.build(&BuildOptions::default().trees(2)).unwrap();
        for id in 0..1300 {
            assert!(subject.writer.del_item(&mut subject.wtxn, id).unwrap());
        }
        let items = std::mem::take(&mut subject.items);
        subject.check_answers();
        assert_eq!(subject.stats().pending, 1300);
        let built = subject.writer.build(&mut subject.wtxn, &BuildOptions::default()).unwrap();
        // The forest went, which is no nothing.
        assert_eq!(
            (built.method, built.items_added, built.items_removed),
            (BuildMethod::Bulk, 0, 1300)
        );
        let stats = subject.stats();
        assert_eq!((stats.items, stats.pending, stats.leaves, stats.branches), (0, 0, 0, 0));
        assert_eq!(
            (stats.item_bytes, stats.pending_bytes, stats.leaf_bytes, stats.branch_bytes),
            (0, 0, 0, 0)
        );
        subject.check_answers();
        assert_eq!(subject.build(&BuildOptions::default()).unwrap(), BuildMethod::Nothing);
        add_all(&subject.writer, &mut subject.wtxn, &items);
        subject.items = items;
        subject.check_answers();
        subject.build(&BuildOptions::default()).unwrap();
        subject.check_answers();
    }
}

#[test]
fn dimensions_from_1_to_65536() {
    let store = Store::new();
    let mut wtxn = store.env.write_txn().unwrap();
    for dims in [0, 65_537, usize::MAX] {
        let result = Writer::open_or_create(
            &mut wtxn,
            store.db,
            0,
            &IndexOptions::new(dims, Metric::Cosine),
        );
        assert!(
            matches!(result, Err(Error::DimensionsOutOfRange { got, max: 65_536 }) if got == dims)
        );
    }
    for (index, dims) in [(1, 1), (2, 65_536)] {
        let options = IndexOptions::new(dims, Metric::Manhattan);
        let writer = Writer::open_or_create(&mut wtxn, store.db, index, &options).unwrap();
        (0u8..3).for_each(|i| {
            writer.add_item(&mut wtxn, u32::from(i), &vec![f32::from(i); dims]).unwrap()
        });
        writer.build(&mut wtxn, &BuildOptions::default()).unwrap();
        let reader = Reader::open(&wtxn, store.db, index).unwrap();
        let hits = reader.nns(2).by_vector(&vec![2.0; dims]).unwrap();
        assert_eq!((hits[0].id, hits[0].distance, hits[1].distance), (2, 0.0, dims as f32));
    }
}

#[test]
fn metrics_are_written_and_read_by_name() {
    for (metric, name) in
        METRICS.into_iter().zip(["euclidean", "cosine", "dot", "manhattan", "hamming"])
    {
        assert_eq!((metric.to_string().as_str(), name.parse::<Metric>().unwrap()), (name, metric));
    }
    for bad in ["", "Cosine", "l2", "dot "] {
        let error = bad.parse::<Metric>().unwrap_err();
        assert_eq!(error.got, bad);
        assert!(METRICS.iter().all(|metric| error.to_string().contains(&metric.to_string())));
    }
}
