# `just` lists the recipes; each is one command that also works without `just`.

default:
    @just --list

# What every commit has to pass: format, lints, documentation, quickstart, tests.
ci:
    .ci/run

# The Python package: installed, tested, type-checked.
python:
    .ci/python

# The laws. Arguments choose some of them: just test --test recall
test *args:
    cargo test {{args}}

# One of the benches search, update, quality, crafted, requests, collection: just bench search --data DIR
bench name *args:
    cargo bench --bench {{name}} -- {{args}}

# Other libraries beside this one (search, update, filters, larger): just peers search --data DIR --set sift
peers program *args:
    cargo run --release --manifest-path benches/peers/Cargo.toml --bin {{program}} -- {{args}}

# The reference.
doc *args:
    cargo doc --no-deps {{args}}

# Licences and sources of dependencies.
deny:
    cargo deny --locked check licenses bans sources
