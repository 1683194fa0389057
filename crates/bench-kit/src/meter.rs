//! What a piece of work took, as far as the system says (Linux).

use std::time::Instant;
use std::{fs, thread};

/// Time that work took.
#[derive(Copy, Clone, Debug, Default)]
pub struct Span {
    /// Seconds of the clock.
    pub wall: f64,
    /// Seconds of the processor, of all threads.
    pub cpu: Option<f64>,
}

/// Runs `work` under the clock.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Span) {
    let cpu = cpu_nanoseconds();
    let start = Instant::now();
    let result = work();
    let wall = start.elapsed().as_secs_f64();
    let cpu =
        cpu_nanoseconds().zip(cpu).map(|(after, before)| after.saturating_sub(before) as f64 / 1e9);
    (result, Span { wall, cpu })
}

/// Processor time of all living threads of this process. Those of a pool do not end in between.
fn cpu_nanoseconds() -> Option<u64> {
    // The scheduler accounts for a running thread at ticks only, milliseconds apart, and whenever
    // it is asked to choose.
    thread::yield_now();
    let mut sum = 0u64;
    for task in fs::read_dir("/proc/self/task").ok()? {
        let line = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        sum += line.split(' ').next()?.parse::<u64>().ok()?;
    }
    Some(sum)
}

/// Bytes that this process has handed to write calls so far. What the system writes to the disk
/// would be whole folios of its cache.
pub fn written_bytes() -> Option<u64> {
    io_field("self", "wchar:")
}

/// What a process has waited for and read so far.
#[derive(Copy, Clone, Debug, Default)]
pub struct Paging {
    /// Page faults that read from a disk.
    pub major_faults: u64,
    /// Bytes read from a disk, also ahead.
    pub read_bytes: u64,
}

/// What a process has read from a disk so far.
pub fn paging(process: u32) -> Option<Paging> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name of the program may have spaces and parentheses. From behind it, the tenth field.
    let (_, fields) = stat.rsplit_once(')')?;
    let major_faults = fields.split_whitespace().nth(9)?.parse().ok()?;
    Some(Paging { major_faults, read_bytes: io_field(&process.to_string(), "read_bytes:")? })
}

fn io_field(process: &str, name: &str) -> Option<u64> {
    let lines = fs::read_to_string(format!("/proc/{process}/io")).ok()?;
    lines.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}
