//! What is nonsense is a typed error, whatever else was asked for.

use spinney::{BuildOptions, Error, Example, IndexOptions, Metric, Nns, Reader, Writer};

use crate::support::*;

const ALLOWED: [Metric; 4] =
    [Metric::Euclidean, Metric::Cosine, Metric::DotProduct, Metric::Manhattan];

/// An index of so many items of three dimensions, built.
fn with_reader(metric: Metric, n: u32, check: impl Fn(&Reader<'_>)) {
    let store = Store::new();
    let mut wtxn = store.env.write_txn().unwrap();
    let writer =
        Writer::open_or_create(&mut wtxn, store.db, 0, &IndexOptions::new(3, metric)).unwrap();
    let row = |id: u32| match metric {
        Metric::Hamming => [id & 1, id >> 1 & 1, 1].map(|bit| bit as f32),
        // Item 1 is opposite to item 0.
        _ if id < 2 => [2.0, 1.0, -0.5].map(|x| if id == 1 { -4.0 * x } else { x }),
        _ => [id as f32, 1.0, 2.0],
    };
    add_all(&writer, &mut wtxn, &(0..n).map(|id| (id, row(id).to_vec())).collect());
    writer.build(&mut wtxn, &BuildOptions::default().leaf_size(32)).unwrap();
    check(&Reader::open(&wtxn, store.db, 0).unwrap());
}

/// What is aimed at where nothing is said.
const DEFAULT_RECALL: f32 = 0.95;
const GOOD: [f32; 3] = [1.0, 0.0, 1.0];

/// The errors of all forms, but for means if bits have none. Item 2 exists.
fn all_forms<'a>(metric: Metric, nns: &dyn Fn() -> Nns<'a>) -> Vec<Error> {
    let good: &[Example<'_>] = &[(&GOOD).into()];
    let mut errors = vec![
        nns().by_vector(&GOOD).unwrap_err(),
        nns().by_item(2).unwrap_err(),
        nns().by_any(good).unwrap_err(),
        nns().pages(&GOOD).map(|_| ()).unwrap_err(),
        nns().pages(2).map(|_| ()).unwrap_err(),
        nns().neighbours(&GOOD).map(|_| ()).unwrap_err(),
    ];
    if metric != Metric::Hamming {
        errors
            .extend([nns().by_mean(good).unwrap_err(), nns().by_examples(good, good).unwrap_err()]);
    }
    errors
}

#[track_caller]
fn assert_names(error: &Error, option: &str) {
    let is_named = matches!(error, Error::InvalidOption { name, .. } if *name == option);
    assert!(is_named, "{option} is refused, got {error}");
}

#[track_caller]
fn assert_parts(error: &Error, one: &str) {
    let is_named = matches!(error, Error::Incompatible { option, .. } if *option == one);
    assert!(is_named, "{one} does not go with something, got {error}");
}

/// Options out of their range are refused by every form, before anything is searched.
#[test]
fn options_out_of_range_are_refused_by_every_form() {
    for (metric, n) in METRICS.into_iter().flat_map(|metric| [(metric, 10), (metric, 1_100)]) {
        with_reader(metric, n, |reader| {
            macro_rules! assert_refused {
                ($option:literal, $nns:expr) => {
                    all_forms(metric, &|| $nns)
                        .iter()
                        .for_each(|error| assert_names(error, $option))
                };
            }
            assert_refused!("per_group", reader.nns(3).per_group(0, |_| 0));
            assert_refused!("groups", reader.nns(3).groups(0, |_| 0));
            assert_refused!("groups", reader.nns(3).per_group(1, |_| 0).groups(0, |_| 0));
            assert_refused!("beyond", reader.nns(3).beyond(f32::NAN));
            assert_refused!("beyond", reader.nns(0).within(1.0).beyond(f32::NAN));
            assert_refused!("within", reader.nns(3).within(f32::NAN));
            assert_refused!("within", reader.nns(3).exact().per_group(1, |_| 0).within(f32::NAN));
            for recall in [0.0, -0.5, 1.01, f32::NAN, f32::INFINITY] {
                assert_refused!("recall", reader.nns(3).recall(recall));
                assert_refused!("recall", reader.nns(0).exact().recall(recall));
            }
            for factor in [0.0, 0.99, -3.0, f32::NAN, f32::INFINITY] {
                assert_refused!("oversampling", reader.nns(3).oversampling(factor));
            }
            // An item that does not exist does not hide them.
            let (bad, unknown) = (|| reader.nns(3).recall(7.0), &[5_000.into()]);
            assert_names(&bad().by_item(5_000).unwrap_err(), "recall");
            assert_names(&bad().by_any(unknown).unwrap_err(), "recall");
            assert_names(&bad().by_mean(unknown).unwrap_err(), "recall");
            assert_names(&bad().pages(5_000).map(|_| ()).unwrap_err(), "recall");
        });
    }
}

#[test]
fn forms_that_do_not_go_together_are_refused() {
    for metric in METRICS {
        with_reader(metric, 50, |reader| {
            let grouped = || reader.nns(3).per_group(1, |_| 0);
            assert_parts(&grouped().pages(&GOOD).map(|_| ()).unwrap_err(), "per_group");
            assert_parts(&grouped().neighbours(2).map(|_| ()).unwrap_err(), "per_group");
            let grouped = || reader.nns(3).per_group(1, |_| 0).groups(1, |_| 0);
            assert_parts(&grouped().pages(&GOOD).map(|_| ()).unwrap_err(), "groups");
            assert_parts(&grouped().neighbours(2).map(|_| ()).unwrap_err(), "groups");
            let errors = all_forms(metric, &|| reader.nns(3).search_k(10).exact());
            errors.iter().for_each(|error| assert_parts(error, "search_k"));
            let errors = all_forms(metric, &|| reader.nns(3).exact().parallel().oversampling(2.0));
            errors.iter().for_each(|error| assert_parts(error, "oversampling"));
            // The default counts as given where it is.
            for recall in [0.5, DEFAULT_RECALL, 1.0] {
                let errors = all_forms(metric, &|| reader.nns(3).recall(recall).exact());
                errors.iter().for_each(|error| assert_parts(error, "recall"));
                let errors = all_forms(metric, &|| reader.nns(3).exact().recall(recall));
                errors.iter().for_each(|error| assert_parts(error, "recall"));
            }
            assert_eq!(reader.nns(3).exact().by_vector(&GOOD).unwrap().len(), 3);
            assert_names(&reader.nns(3).by_any(&[]).unwrap_err(), "examples");
        });
    }
}

#[test]
fn means_of_bits_are_refused() {
    with_reader(Metric::Hamming, 50, |reader| {
        let refused = |error: Error| {
            let named = matches!(error, Error::NotForMetric { metric: Metric::Hamming, .. });
            assert!(named, "{error}");
        };
        let good: &[Example<'_>] = &[1.into(), (&GOOD).into()];
        refused(reader.nns(3).by_mean(good).unwrap_err());
        refused(reader.nns(3).by_mean(&[]).unwrap_err());
        refused(reader.nns(3).by_examples(good, good).unwrap_err());
        refused(reader.nns(3).exact().per_group(1, |_| 0).by_mean(good).unwrap_err());
        assert_eq!(reader.nns(3).by_any(good).unwrap().len(), 3);
    });
}

#[test]
fn means_of_nothing_are_refused() {
    for metric in ALLOWED {
        with_reader(metric, 50, |reader| {
            let good: &[Example<'_>] = &[2.into()];
            for error in [
                reader.nns(3).by_mean(&[]).unwrap_err(),
                reader.nns(3).by_examples(&[], good).unwrap_err(),
            ] {
                assert!(
                    matches!(error, Error::InvalidOption { name: "examples", .. }),
                    "{metric}: {error}"
                );
            }
            assert_eq!(
                reader.nns(3).by_examples(good, &[]).unwrap(),
                reader.nns(3).by_mean(good).unwrap()
            );
        });
    }
}

/// The only answer that an unknown item gets without an error is that of `by_item`: there is none.
#[test]
fn unknown_items_are_named() {
    for metric in METRICS {
        with_reader(metric, 50, |reader| {
            assert!(reader.nns(3).by_item(77).unwrap().is_none());
            let named = |error: Error| {
                assert!(matches!(error, Error::ItemNotFound { id: 77 }), "{metric}: {error}")
            };
            named(reader.nns(3).by_any(&[1.into(), 77.into()]).unwrap_err());
            named(reader.nns(3).pages(77).map(|_| ()).unwrap_err());
            named(reader.nns(3).neighbours(77).map(|_| ()).unwrap_err());
            if metric != Metric::Hamming {
                named(reader.nns(3).by_mean(&[77.into()]).unwrap_err());
                named(reader.nns(3).by_examples(&[1.into()], &[77.into()]).unwrap_err());
            }
        });
    }
}

/// A vector that does not suit the index, in whatever place of whatever form.
#[test]
fn vectors_that_do_not_suit_are_refused_by_every_form() {
    type Suits = fn(&Error) -> bool;
    let of_any: [(&[f32], Suits); 5] = [
        (&[1.0, 0.0], |error| matches!(error, Error::Dimensions { expected: 3, got: 2 })),
        (&[1.0; 4], |error| matches!(error, Error::Dimensions { expected: 3, got: 4 })),
        (&[], |error| matches!(error, Error::Dimensions { expected: 3, got: 0 })),
        (&[1.0, f32::NAN, 0.0], |error| matches!(error, Error::NonFinite { position: 1, .. })),
        (&[1.0, 0.0, f32::INFINITY], |error| matches!(error, Error::NonFinite { position: 2, .. })),
    ];
    for metric in METRICS {
        let of_metric: (&[f32], Suits) = match metric {
            Metric::Cosine => (&[0.0; 3], |error| matches!(error, Error::ZeroVector)),
            Metric::Hamming => {
                (&[1.0, 0.5, 0.0], |error| matches!(error, Error::NotABit { position: 1, .. }))
            }
            _ => (&[1e30; 3], |error| matches!(error, Error::NormOverflow { .. })),
        };
        with_reader(metric, 50, |reader| {
            for (vector, suits) in of_any.into_iter().chain([of_metric]) {
                let given = Example::Vector(vector);
                let mut errors = vec![
                    reader.nns(3).by_vector(vector).unwrap_err(),
                    reader.nns(0).exact().by_vector(vector).unwrap_err(),
                    reader.nns(3).by_any(&[2.into(), given]).unwrap_err(),
                    reader.nns(3).pages(given).map(|_| ()).unwrap_err(),
                    reader.nns(3).neighbours(given).map(|_| ()).unwrap_err(),
                ];
                if metric != Metric::Hamming {
                    errors.push(reader.nns(3).by_mean(&[2.into(), given]).unwrap_err());
                    errors.push(reader.nns(3).by_examples(&[2.into()], &[given]).unwrap_err());
                }
                for error in errors {
                    assert!(suits(&error), "{metric}: {vector:?} gives {error}");
                }
            }
        });
    }
}

/// Directions that cancel have no mean direction; a point beyond what can be compared is refused as
/// a vector would be.
#[test]
fn means_that_cannot_be_compared_are_refused() {
    with_reader(Metric::Cosine, 50, |reader| {
        let zero = reader.nns(3).by_mean(&[0.into(), 1.into()]).unwrap_err();
        assert!(matches!(zero, Error::ZeroVector), "{zero}");
        let zero =
            reader.nns(3).by_examples(&[(&[1.0, 0.0, 0.0]).into()], &[(&[2.0, 0.0, 0.0]).into()]);
        assert_eq!(zero.unwrap().len(), 3, "p + (p - p) is p");
    });
    with_reader(Metric::Euclidean, 50, |reader| {
        let (far, opposite) = ([1e18, 0.0, 0.0], [-1e18, 0.0, 0.0]);
        let error = reader.nns(3).by_examples(&[(&far).into()], &[(&opposite).into()]).unwrap_err();
        assert!(matches!(error, Error::NormOverflow { .. }), "{error}");
        assert_eq!(reader.nns(3).by_mean(&[(&far).into(), (&opposite).into()]).unwrap()[0].id, 0);
    });
}
