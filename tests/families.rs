//! Searches reach the recall they aim at on any data, by families of it.
//!
//! The table of what each family gets, for those whose names contain one of some words, under some metrics:
//! `FAMILIES=clusters,twins METRICS=cosine cargo test --release --test families table -- --ignored --nocapture`

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_truncation)]

#[path = "families/dice.rs"]
mod dice;
#[path = "families/family.rs"]
mod family;
#[path = "families/generators.rs"]
mod generators;
#[path = "families/measure.rs"]
mod measure;
mod support;
#[path = "families/truth.rs"]
mod truth;
#[path = "families/world.rs"]
mod world;

use spinney::Metric;

/// Measures a group of families, and panics with all that does not hold.
fn law(group: &str) {
    let seed = support::seed(group, 17);
    let (_, make) = generators::GROUPS.iter().find(|(name, _)| *name == group).unwrap();
    let mut failures = Vec::new();
    for family in make() {
        measure::measure(&family, seed, &|_| true, &mut |measured| failures.extend(measured.failures(seed)));
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

macro_rules! laws {
    ($($group:ident)*) => {
        $(#[test]
        fn $group() {
            law(stringify!($group));
        })*

        /// Every group has a test.
        #[test]
        fn groups() {
            let names: Vec<&str> = generators::GROUPS.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, [$(stringify!($group)),*]);
        }
    };
}

laws! { clusters moved scales outliers sparse discrete lines copies products dimensions orders deleted options }

/// Whether a name contains one of the words of a variable, if it is set.
fn is_chosen(variable: &str, name: &str) -> bool {
    std::env::var(variable).is_ok_and(|words| words.split(',').any(|word| name.contains(word)))
        || std::env::var(variable).is_err()
}

#[test]
#[ignore = "a table to look at"]
fn table() {
    let seed = support::seed("table", 17);
    println!("{}", measure::header());
    for (group, make) in generators::GROUPS {
        for family in make().into_iter().filter(|family| is_chosen("FAMILIES", &format!("{group}: {}", family.name))) {
            let metrics = |metric: Metric| is_chosen("METRICS", &metric.to_string());
            measure::measure(&family, seed, &metrics, &mut |measured| println!("{measured}"));
        }
    }
}
