//! The other process of a test: the same test binary, which runs the same test with a marker in its
//! environment.
use std::fmt::Display;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// Set in the other process: the folder of the environment.
const FOLDER: &str = "SPINNEY_TEST_FOLDER";
/// Starts each line that the other process has to say; libtest writes to the same pipe.
const PREFIX: &str = "other process: ";
/// Ends a test whose other process hangs. Nothing else depends on it.
const HANGS: Duration = Duration::from_secs(900);

/// The other process: the folder that it was given, or `None` in the first process.
pub fn given_folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// This test binary once more, to run one test in a process of its own.
pub fn alone(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command
}

/// The same, which finds the folder with [`given_folder`].
pub fn command(test: &str, folder: &Path) -> Command {
    let mut command = alone(test);
    command.env(FOLDER, folder);
    command
}

/// The same, after these commands of the shell, which limit it.
pub fn limited(limits: &str, inner: &Command) -> Command {
    let mut limited = Command::new("sh");
    limited.arg("-c").arg(format!("{limits}; exec \"$0\" \"$@\""));
    limited.arg(inner.get_program()).args(inner.get_args());
    limited.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited
}

/// Says something to the first process. The line is out when this returns.
pub fn say(what: impl Display) {
    // libtest leaves the cursor behind the name of the test.
    println!("\n{PREFIX}{what}");
}

/// Runs a process to its end, which must be a sound one, and returns what it has said.
#[track_caller]
pub fn run(mut command: Command) -> Vec<String> {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let said =
        said.lines().filter_map(|line| line.strip_prefix(PREFIX)).map(str::to_owned).collect();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}, after it said {said:?}: {error}",
        output.status
    );
    said
}

/// What and a number.
fn understood(line: &str) -> Option<(String, u32)> {
    let (what, number) = line.strip_prefix(PREFIX)?.split_once(' ')?;
    Some((what.to_owned(), number.parse().unwrap()))
}

/// A process that runs a test in a folder, and says words with numbers. It is killed when this is
/// dropped.
pub struct Child {
    process: std::process::Child,
    said: Receiver<(String, u32)>,
}

impl Child {
    pub fn start(test: &str, dir: &Path, seed: u64) -> Self {
        let mut process = command(test, dir)
            .env("SPINNEY_SEED", seed.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (sender, said) = channel();
        // Ends with the process, whose end of the pipe it reads from.
        std::thread::spawn(move || {
            for said in lines.map_while(Result::ok).filter_map(|line| understood(&line)) {
                let _ = sender.send(said);
            }
        });
        Self { process, said }
    }

    /// What it says next; `None` when it has ended.
    pub fn hear(&mut self) -> Option<(String, u32)> {
        match self.said.recv_timeout(HANGS) {
            Ok(said) => Some(said),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("the other process hangs"),
        }
    }

    /// Waits until it has said this, with a number that is good, and returns the number.
    pub fn wait_for(&mut self, what: &str, mut is_good: impl FnMut(u32) -> bool) -> u32 {
        loop {
            match self.hear() {
                Some((said, number)) if said == what && is_good(number) => return number,
                Some(_) => {}
                None => panic!("the other process ended before it said {what:?}"),
            }
        }
    }

    /// Waits until it ends by itself, without an error. Returns the last number it has said, if any
    /// since the last call.
    pub fn join(mut self) -> Option<u32> {
        let last = std::iter::from_fn(|| self.hear()).last();
        assert!(self.process.wait().unwrap().success(), "the other process failed");
        last.map(|(_, number)| number)
    }

    /// Fails unless it still runs.
    #[track_caller]
    pub fn assert_running(&mut self) {
        let ended = self.process.try_wait().unwrap();
        assert!(ended.is_none(), "the other process ended: {ended:?}");
    }

    /// SIGKILL. Returns what it has said since the last call.
    pub fn kill(mut self) -> Vec<(String, u32)> {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::iter::from_fn(|| self.hear()).collect()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail when it has ended, which is what is wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
