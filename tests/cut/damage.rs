//! Heads and tails of any length, or missing: named, an error or an answer, and mended.

use spinney::heed::RwTxn;
use spinney::{BuildOptions, Error, IndexOptions, Metric, Reader, Result, Storage, Writer};

use super::support::raw::*;
use super::support::*;

const DIMS: usize = 1024;
const HEAD: usize = 4080;
const WHOLE: usize = 4112;
const LENGTHS: [usize; 21] = [
    0, 1, 7, 8, 15, 16, 17, 31, 32, 33, 48, 64, 1000, 4064, 4079, HEAD, 4081, 4096, WHOLE, 4128,
    9000,
];

fn options() -> IndexOptions {
    IndexOptions::new(DIMS, Metric::Euclidean)
}

/// Two indexes, built, with pending items.
fn subject() -> (Store, Items) {
    let store = Store::with_map_size(256 << 20);
    let mut rng = Seed::new(1920).rng(0);
    let rows = (0..150).map(|i| (2 * i, clustered_row(Metric::Euclidean, DIMS, &mut rng)));
    let mut items: Items = rows.collect();
    let mut wtxn = store.env.write_txn().unwrap();
    for index in [0, 1] {
        let writer = Writer::open_or_create(&mut wtxn, store.db, index, &options()).unwrap();
        add_all(&writer, &mut wtxn, &items);
        writer.build(&mut wtxn, &BuildOptions::default().leaf_size(32)).unwrap();
        for (id, like) in [(10, 30), (20, 200), (301, 2)] {
            writer.add_item(&mut wtxn, id, &items[&like]).unwrap();
        }
    }
    for (id, like) in [(10, 30), (20, 200), (301, 2)] {
        items.insert(id, items[&like].clone());
    }
    wtxn.commit().unwrap();
    (store, items)
}

/// Every call gives an answer, or says that something is damaged.
fn call_everything(store: &Store, wtxn: &mut RwTxn<'_>, id: u32, query: &[f32]) {
    fn is_typed<T>(result: Result<T>) {
        let error = result.err();
        let is_damage = |error: &Error| match error {
            Error::Row { source, .. } => matches!(**source, Error::Corrupted { .. }),
            error => matches!(error, Error::Corrupted { .. }),
        };
        assert!(error.as_ref().is_none_or(is_damage), "{error:?}");
    }
    let reader = Reader::open(wtxn, store.db, 0).unwrap();
    reader.items().unwrap().take(400).for_each(is_typed);
    is_typed(reader.item_vector(id));
    is_typed(reader.stats());
    is_typed(reader.warm(u64::MAX));
    is_typed(reader.id_set());
    is_typed(reader.nns(3).by_item(id));
    is_typed(reader.nns(3).pages(id).and_then(|mut pages| pages.next_page()));
    is_typed(reader.nns(300).by_vector(query));
    is_typed(reader.nns(300).exact().by_vector(query));
    is_typed(reader.nns(300).exact().parallel().by_vector(query));
    is_typed(reader.nns(3).search_k(100).by_vector(query));
    drop(reader);
    let writer = Writer::open(wtxn, store.db, 0).unwrap();
    is_typed(writer.calibrate(wtxn, query));
    is_typed(writer.build(wtxn, &BuildOptions::default()));
    is_typed(writer.build(wtxn, &BuildOptions::default().rebuild(true)));
    is_typed(writer.add_items(wtxn, &[id, 2], &[query, query].concat()));
    is_typed(writer.add_item(wtxn, id, query));
    is_typed(writer.del_item(wtxn, id));
    is_typed(writer.convert(wtxn, Storage::F16));
    writer.clear(wtxn).unwrap();
    let left = store.raw.all(wtxn).into_iter().filter(|(key, _)| key[..2] == [0, 0]);
    assert_eq!(left.count(), 1, "the record alone is left");
}

/// Plants damage by `change`, which `verify` has to name by one of these keys. After a repair the
/// index has all items, unless this one `is_lost`.
fn plant(
    (store, items): &(Store, Items),
    id: u32,
    named: &[[u8; 8]],
    is_lost: bool,
    change: impl Fn(&mut RwTxn<'_>),
) {
    let query = &items[&4];
    let verify = |wtxn: &RwTxn<'_>| Reader::open(wtxn, store.db, 0).unwrap().verify().unwrap();
    let mut wtxn = store.env.write_txn().unwrap();
    change(&mut wtxn);
    let found = verify(&wtxn).violations;
    assert!(found.iter().any(|violation| named.contains(&violation.key)), "{found:?}");
    if is_lost {
        let reader = Reader::open(&wtxn, store.db, 0).unwrap();
        assert!(matches!(reader.item_vector(id), Err(Error::Corrupted { .. })));
        let all = reader.nns(300).exact().by_vector(query);
        assert!(matches!(all, Err(Error::Corrupted { .. })), "{all:?}");
    }
    call_everything(store, &mut wtxn, id, query);
    wtxn.abort();

    let mut wtxn = store.env.write_txn().unwrap();
    change(&mut wtxn);
    let build = BuildOptions::default();
    let repair = Writer::repair(&mut wtxn, store.db, 0, &options(), &build).unwrap();
    assert_eq!(repair.lost, if is_lost { vec![id] } else { Vec::new() });
    assert!(verify(&wtxn).is_sound());
    let reader = Reader::open(&wtxn, store.db, 0).unwrap();
    let left: Items = reader.items().unwrap().map(Result::unwrap).collect();
    let mut expected = items.clone();
    expected.retain(|other, _| !is_lost || *other != id);
    assert!(left == expected);
    // The neighbour is as it was.
    let before = store.content().0;
    let of_neighbour = |(key, _): &([u8; 8], Vec<u8>)| key[..2] == [0, 1];
    let after = store.raw.all(&wtxn).into_iter().filter(of_neighbour);
    assert!(after.eq(before.into_iter().filter(of_neighbour)));
}

/// A settled item, and one with a pending mark.
const DAMAGED: [u32; 2] = [40, 20];

#[test]
fn tails_of_any_length_are_named_and_mended() {
    let subject = subject();
    let raw = subject.0.raw;
    for id in DAMAGED {
        let (item, tail) = (key(0, ITEM, 0, id), key(0, TAIL, 0, id));
        plant(&subject, id, &[item], true, |wtxn| {
            assert!(raw.0.delete(wtxn, &tail).unwrap());
        });
        for len in LENGTHS.into_iter().filter(|len| *len != WHOLE - HEAD) {
            plant(&subject, id, &[item], true, |wtxn| {
                let mut value = raw.get(wtxn, tail);
                value.resize(len, 0);
                raw.put(wtxn, tail, &value);
            });
        }
        // The norm is not that of the components any more.
        plant(&subject, id, &[item], false, |wtxn| {
            let mut head = raw.get(wtxn, item);
            head[0] ^= 1;
            raw.put(wtxn, item, &head);
        });
    }
}

#[test]
fn heads_of_any_length_are_named_and_mended() {
    let subject = subject();
    let raw = subject.0.raw;
    for id in DAMAGED {
        let (item, tail) = (key(0, ITEM, 0, id), key(0, TAIL, 0, id));
        for len in LENGTHS.into_iter().filter(|len| ![HEAD, WHOLE].contains(len)) {
            plant(&subject, id, &[item], true, |wtxn| {
                let mut value = raw.get(wtxn, item);
                value.resize(len, 0);
                raw.put(wtxn, item, &value);
            });
        }
        // A whole item needs no tail.
        plant(&subject, id, &[tail], false, |wtxn| {
            let value = [raw.get(wtxn, item), raw.get(wtxn, tail)].concat();
            raw.put(wtxn, item, &value);
        });
    }
}

#[test]
fn tails_of_no_items_are_named_and_removed() {
    let subject = subject();
    let raw = subject.0.raw;
    for (stray, value) in [
        (key(0, TAIL, 0, 41), &[7; 32][..]),
        (key(0, TAIL, 0, u32::MAX), &[]),
        (key(0, TAIL, 3, 40), &[7; 32]),
        (key(0, TAIL, 255, 1), &[7; 5000]),
    ] {
        plant(&subject, 40, &[stray], false, |wtxn| raw.put(wtxn, stray, value));
    }
    // Where items are not cut, each tail is one of no item.
    let store = Store::new();
    let mut wtxn = store.env.write_txn().unwrap();
    let options = IndexOptions::new(DIMS, Metric::Euclidean).storage(Storage::I8);
    let writer = Writer::open_or_create(&mut wtxn, store.db, 0, &options).unwrap();
    writer.add_item(&mut wtxn, 40, &subject.1[&40]).unwrap();
    store.raw.put(&mut wtxn, key(0, TAIL, 0, 40), &[7; 32]);
    let found = Reader::open(&wtxn, store.db, 0).unwrap().verify().unwrap().violations;
    assert_eq!(found.iter().map(|found| found.key).collect::<Vec<_>>(), [key(0, TAIL, 0, 40)]);
    let build = BuildOptions::default();
    let repair = Writer::repair(&mut wtxn, store.db, 0, &options, &build).unwrap();
    assert_eq!((repair.violations_found, repair.lost), (1, Vec::new()));
    assert!(Reader::open(&wtxn, store.db, 0).unwrap().verify().unwrap().is_sound());
}
