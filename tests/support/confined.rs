//! Tests of what must not run for ever, nor take all memory: each runs in a process that the system
//! ends if it does.

use std::process::Command;

use super::process::alone;

/// Memory of the process, but for files in the map.
const KIBIBYTES: u32 = 256 << 10;
/// Set in that process.
const MARKER: &str = "SPINNEY_TEST_CONFINED";

/// Runs `work` in a process of its own, which runs this `test` alone. It may take so many seconds
/// of processor time, however busy the machine is, and 256 MiB of memory.
pub fn confined(test: &str, seconds: u32, work: impl FnOnce()) {
    // Other systems have no such limits.
    if std::env::var_os(MARKER).is_some() || cfg!(not(target_os = "linux")) {
        return work();
    }
    let limited = format!("ulimit -t {seconds} && ulimit -d {KIBIBYTES} && exec \"$0\" \"$@\"");
    let alone = alone(test);
    let output = Command::new("sh")
        .args(["-c", &limited])
        .arg(alone.get_program())
        .args(alone.get_args())
        .env(MARKER, "1")
        .output()
        .unwrap();
    let (said, failed) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let is_done = output.status.success() && said.contains("1 passed");
    assert!(
        is_done,
        "{test}, in {seconds} s and {KIBIBYTES} KiB: {}\n{said}\n{failed}",
        output.status
    );
}
