//! How much memory the process takes, where the system says (Linux).

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;
use std::{fs, thread};

const INTERVAL: Duration = Duration::from_millis(20);

/// The most memory that the process has had in RAM so far, pages of mapped files included.
pub fn peak_bytes() -> Option<u64> {
    status_bytes("VmHWM")
}

/// Runs `work`; beside its result, by how much the process's own memory (pages of mapped files
/// excluded) grew at most.
pub fn watch<T>(work: impl FnOnce() -> T) -> (T, Option<u64>) {
    let Some(before) = anonymous_bytes() else {
        return (work(), None);
    };
    thread::scope(|scope| {
        // Dropping the sender ends the sampling, also when `work` unwinds.
        let (stop, stopped) = mpsc::channel::<()>();
        let sampler = scope.spawn(move || {
            let mut most = before;
            loop {
                most = most.max(anonymous_bytes().unwrap_or(0));
                if stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Disconnected) {
                    return most;
                }
            }
        });
        let result = work();
        let at_end = anonymous_bytes().unwrap_or(0);
        drop(stop);
        let most = sampler.join().unwrap_or(0).max(at_end);
        (result, Some(most.saturating_sub(before)))
    })
}

fn anonymous_bytes() -> Option<u64> {
    status_bytes("RssAnon")
}

fn status_bytes(field: &str) -> Option<u64> {
    parse_status(&fs::read_to_string("/proc/self/status").ok()?, field)
}

/// The value of a line such as `VmHWM:     1234 kB`, in bytes.
fn parse_status(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines_are_read() {
        let status = "Name:\tx\nVmHWM:\t    1234 kB\nRssAnon:\t       2 kB\nThreads:\t4\n";
        assert_eq!(parse_status(status, "VmHWM"), Some(1234 * 1024));
        assert_eq!(parse_status(status, "RssAnon"), Some(2048));
        assert_eq!(parse_status(status, "Rss"), None);
        assert_eq!(parse_status(status, "Threads"), None);
    }
}
