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
    let lines = fs::read_to_string("/proc/self/io").ok()?;
    lines.lines().find_map(|line| line.strip_prefix("wchar:"))?.trim().parse().ok()
}
