//! Searches reach the recall they aim at on any data, by families of it.
//!
//! The table of what each family gets, for those whose names contain one of some words, under some
//! metrics: `FAMILIES=clusters,twins METRICS=cosine cargo test --release --test families table --
//! --ignored --nocapture`

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation
)]

#[path = "families/dice.rs"]
mod dice;
#[path = "families/family.rs"]
mod family;
#[path = "families/forms.rs"]
mod forms;
#[path = "families/generators.rs"]
mod generators;
#[path = "families/limits.rs"]
mod limits;
#[path = "families/measure.rs"]
mod measure;
#[path = "families/rows.rs"]
mod rows;
mod support;
#[path = "families/truth.rs"]
mod truth;
#[path = "families/world.rs"]
mod world;

use spinney::Metric;
use support::Seed;

/// Measures a group of families, and panics with all that does not hold.
fn law(group: &str) {
    let seed = Seed::new(17);
    let (_, make) = generators::GROUPS.iter().find(|(name, _)| *name == group).unwrap();
    let mut failures = Vec::new();
    for family in make() {
        measure::measure(&family, seed.number(), &|_| true, &mut |measured| {
            if !limits::is_known(measured.name, measured.metric, measured.mode) {
                failures.extend(measured.failures(seed.number()));
            }
        });
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// Asks what a case asks, and panics with all that does not hold.
fn case(name: &str) {
    let seed = Seed::new(17);
    let (_, ask) = rows::CASES.iter().find(|(other, _)| *other == name).unwrap();
    let findings = ask(&mut dice::Dice::new(seed.number()));
    let failed = findings.iter().filter(|finding| !finding.holds());
    let failures: Vec<String> =
        failed.map(|finding| format!("seed {}: {finding}", seed.number())).collect();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

macro_rules! tests {
    ($law:ident of $all:path as $names:ident: $($(#[$when:meta])? $name:ident)*) => {
        $(#[test]
        $(#[$when])?
        fn $name() {
            $law(stringify!($name));
        })*

        /// Each has a test.
        #[test]
        fn $names() {
            let names: Vec<&str> = $all.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

tests! { law of generators::GROUPS as every_group:
    clusters
    moved
    scales
    outliers
    sparse
    discrete
    lines
    copies
    products
    dimensions
    orders
    deleted
    options
}
tests! { case of rows::CASES as every_case:
    large_clusters
    long_line
    beyond_the_cluster
    long_ramp
    within_a_radius
    groups_near_and_far
    filters_of_clusters
    pages_of_clusters
    deleted_around_the_query
    own_vectors
    more_scanning
    every_count
    forms_of_asking
}

/// What recall is measured by.
#[test]
fn exact_searches_agree_with_brute_force() {
    let seed = Seed::new(17);
    generators::GROUPS
        .iter()
        .flat_map(|(_, make)| make())
        .for_each(|family| measure::check_truth(&family, seed.number()));
}

/// Whether a name contains one of the words of a variable, if it is set.
fn is_chosen(variable: &str, name: &str) -> bool {
    std::env::var(variable).is_ok_and(|words| words.split(',').any(|word| name.contains(word)))
        || std::env::var(variable).is_err()
}

#[test]
#[ignore = "a table to look at"]
fn table() {
    let seed = Seed::new(17);
    println!("{}", measure::header());
    for (group, make) in generators::GROUPS {
        for family in make()
            .into_iter()
            .filter(|family| is_chosen("FAMILIES", &format!("{group}: {}", family.name)))
        {
            let metrics = |metric: Metric| is_chosen("METRICS", &metric.to_string());
            measure::measure(&family, seed.number(), &metrics, &mut |measured| {
                println!("{measured}")
            });
        }
    }
    for (name, ask) in rows::CASES.iter().filter(|(name, _)| is_chosen("FAMILIES", name)) {
        println!("{name}");
        ask(&mut dice::Dice::new(seed.number())).iter().for_each(|finding| println!("{finding}"));
    }
}
