//! Several processes on one environment: snapshots are whole in each, and a killed writer leaves a committed prefix.
//!
//! The other process is this test binary, which runs the same test with a marker in its environment.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss
)]

mod support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use rand::RngExt;
use spinney::{BuildMethod, Database, Reader, Writer};
use support::world::{self, Kept};
use support::{Opened, rng};

const MAP_BYTES: usize = 1 << 30;
/// Set in the other process: the folder of the environment.
const MARKER: &str = "SPINNEY_TEST_OTHER_PROCESS";
/// Starts each line that the other process has to say; libtest writes to the same pipe.
const PREFIX: &str = "other process: ";

/// The other process: the folder it was told, or `None` in the first process.
fn told() -> Option<PathBuf> {
    std::env::var_os(MARKER).map(PathBuf::from)
}

/// Says something to the first process. The line is out when this returns.
fn say(what: &str, version: u32) {
    // libtest leaves the cursor behind the name of the test.
    println!("\n{PREFIX}{what} {version}");
}

/// A process that runs `test` in `dir`, and what it says. It is killed when this is dropped.
struct Other {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Other {
    fn start(test: &str, dir: &Path, seed: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(MARKER, dir)
            .env("SPINNEY_SEED", seed.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// What it says next; `None` when it has ended.
    fn hear(&mut self) -> Option<(String, u32)> {
        self.lines.by_ref().map_while(Result::ok).find_map(|line| {
            let (what, version) = line.strip_prefix(PREFIX)?.split_once(' ')?;
            Some((what.to_owned(), version.parse().unwrap()))
        })
    }

    /// Waits until it says this, and returns the version it says.
    fn wait_for(&mut self, what: &str) -> u32 {
        loop {
            match self.hear() {
                Some((said, version)) if said == what => return version,
                Some(_) => {}
                None => panic!("the other process ended before it said {what:?}"),
            }
        }
    }

    /// Waits until it ends by itself, without an error.
    fn join(mut self) {
        while self.hear().is_some() {}
        assert!(self.child.wait().unwrap().success(), "the other process failed");
    }

    /// SIGKILL. Returns the last version it has said.
    fn kill(mut self) -> Option<u32> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let mut last = None;
        while let Some((_, version)) = self.hear() {
            last = Some(version);
        }
        last
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // Both fail when it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads snapshots until the file `stop` is there; keeps one over many versions.
fn read_until_stopped(dir: &Path) {
    let mut rng = rng(support::seed("read_until_stopped", 1));
    let env = support::open(dir, MAP_BYTES);
    let db = Database::open(&env).unwrap().expect("the first process has created it");
    let mut last = 0;
    loop {
        let is_over = dir.join("stop").exists();
        let kept_txn = env.read_txn().unwrap();
        let kept = Kept::new(Reader::open(&kept_txn, db, 0).unwrap(), &mut rng);
        for _ in 0..20 {
            let rtxn = env.read_txn().unwrap();
            let version = world::check(&Reader::open(&rtxn, db, 0).unwrap(), &mut rng);
            assert!(version >= last, "version {version} was seen after {last}");
            last = version;
            say("saw", version);
        }
        kept.check(&kept_txn, db);
        if is_over {
            return;
        }
    }
}

#[test]
fn snapshots_are_whole_in_another_process() {
    if let Some(dir) = told() {
        return read_until_stopped(&dir);
    }
    let seed = support::seed("snapshots_are_whole_in_another_process", 121);
    let dir = tempfile::tempdir().unwrap();
    let opened = Opened::new(dir.path(), MAP_BYTES);
    let writer = world::create(&opened.env, opened.db);
    let mut rng = rng(seed);
    let mut others = [1, 2]
        .map(|number| Other::start("snapshots_are_whole_in_another_process", dir.path(), seed.wrapping_add(number)));
    let (mut seen, mut builds, mut incremental) = (Vec::new(), 0, 0);
    for round in 0..40u32 {
        for _ in 0..3 {
            let mut wtxn = opened.env.write_txn().unwrap();
            world::advance(&writer, &mut wtxn, &mut rng);
            if rng.random_range(0..3) > 0 {
                builds += 1;
                incremental += u32::from(world::build(&writer, &mut wtxn) == BuildMethod::Incremental);
            }
            if rng.random_range(0..6) > 0 {
                wtxn.commit().unwrap();
            }
        }
        // What it says may be old, but never newer than what is committed.
        let committed = world::version(&writer, &opened.env.read_txn().unwrap());
        let version = others[round as usize % 2].wait_for("saw");
        assert!(version <= committed, "the other process saw version {version}, and {committed} is the last");
        seen.push(version);
    }
    let committed = world::version(&writer, &opened.env.read_txn().unwrap());
    std::fs::write(dir.path().join("stop"), "").unwrap();
    for mut other in others {
        // It opens at least one more snapshot after it has seen the file.
        let mut last = 0;
        while let Some((_, version)) = other.hear() {
            last = version;
        }
        assert_eq!(last, committed, "the last snapshot is of the last version");
        other.join();
    }
    seen.dedup();
    println!("{committed} versions, {} of them heard of while writing, {incremental} of {builds} builds", seen.len());
    assert!(2 * incremental > builds, "{incremental} of {builds} builds were incremental");
    assert!(seen.len() > 2, "the other processes saw the world move");
}

/// Moves the world on for ever, and says each version once it is committed.
fn write_for_ever(dir: &Path) {
    let seed = support::seed("write_for_ever", 1);
    let mut rng = rng(seed);
    let opened = Opened::new(dir, MAP_BYTES);
    let writer = Writer::open(&opened.env.read_txn().unwrap(), opened.db, 0).unwrap();
    // Some are killed with a reader open: its slot must not outlive them.
    let rtxn = opened.env.read_txn().unwrap();
    let reader = seed.is_multiple_of(2).then(|| Kept::new(Reader::open(&rtxn, opened.db, 0).unwrap(), &mut rng));
    say("ready", world::version(&writer, &rtxn));
    loop {
        let mut wtxn = opened.env.write_txn().unwrap();
        let version = world::advance(&writer, &mut wtxn, &mut rng);
        if rng.random_range(0..2) == 0 {
            world::build(&writer, &mut wtxn);
        }
        wtxn.commit().unwrap();
        say("committed", version);
        if let Some(reader) = &reader {
            reader.check(&rtxn, opened.db);
        }
    }
}

#[test]
fn a_killed_writer_leaves_what_it_had_committed() {
    if let Some(dir) = told() {
        return write_for_ever(&dir);
    }
    let seed = support::seed("a_killed_writer_leaves_what_it_had_committed", 131);
    let mut rng = rng(seed);
    let dir = tempfile::tempdir().unwrap();
    let opened = Opened::new(dir.path(), MAP_BYTES);
    world::create(&opened.env, opened.db);
    opened.close();
    let (mut before, mut moments) = (0, Vec::new());
    for round in 0..16 {
        let mut other = Other::start("a_killed_writer_leaves_what_it_had_committed", dir.path(), rng.random());
        let start = other.wait_for("ready");
        assert_eq!(start, before, "round {round}: it starts from what is there");
        let mut acknowledged = start;
        if rng.random_range(0..2) == 0 {
            acknowledged = other.wait_for("committed");
        }
        std::thread::sleep(Duration::from_micros(rng.random_range(0..200_000)));
        acknowledged = other.kill().unwrap_or(acknowledged);

        let opened = Opened::new(dir.path(), MAP_BYTES);
        let rtxn = opened.env.read_txn().unwrap();
        let reader = Reader::open(&rtxn, opened.db, 0).unwrap();
        // A view of one version: each commit is there whole or not at all.
        before = world::check(&reader, &mut rng);
        let is_prefix = (acknowledged..=acknowledged + 1).contains(&before);
        assert!(is_prefix, "round {round}: version {before} is there, and {acknowledged} was acknowledged");
        moments.push(before - start);
        drop(reader);
        drop(rtxn);
        opened.env.clear_stale_readers().unwrap();
        // The lock of the dead writer is free, and the world goes on.
        if round % 2 == 0 {
            let mut wtxn = opened.env.write_txn().unwrap();
            let writer = Writer::open(&wtxn, opened.db, 0).unwrap();
            before = world::advance(&writer, &mut wtxn, &mut rng);
            world::build(&writer, &mut wtxn);
            wtxn.commit().unwrap();
            let rtxn = opened.env.read_txn().unwrap();
            assert_eq!(world::check(&Reader::open(&rtxn, opened.db, 0).unwrap(), &mut rng), before);
        }
        opened.close();
    }
    println!("versions written in each life: {moments:?}");
    assert!(before > 16, "the writers got somewhere before they were killed");
}
