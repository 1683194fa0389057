//! Nobody builds an index without optimisation unawares: the profiles say so, here and for programs
//! that use the crate.
#![allow(missing_docs)]

const FOR_PROGRAMS: &str = "[profile.dev.package.\"*\"]\nopt-level = 3\n";

#[test]
fn development_builds_are_optimised() {
    let manifest = include_str!("../Cargo.toml");
    let (_, dev) = manifest.split_once("[profile.dev]\n").unwrap_or_default();
    let (dev, _) = dev.split_once("\n[").unwrap_or((dev, ""));
    assert!(dev.contains("opt-level = 3"), "examples run as they are");
    // Laws are checked with assertions and overflow checks, which these profiles leave on.
    assert!(
        !manifest.contains("debug-assertions = false")
            && !manifest.contains("overflow-checks = false")
    );
}

#[test]
fn programs_are_told_what_to_add() {
    assert!(include_str!("../docs/tuning.md").contains(FOR_PROGRAMS));
    assert!(include_str!("../README.md").contains("docs/tuning.md#development-builds"));
    let reference = include_str!("../src/lib.rs").replace("//! ", "");
    assert!(reference.contains(FOR_PROGRAMS));
}
