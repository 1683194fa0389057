//! A process that has one store, so that its memory is its own, and each can be asked in turn. One
//! process builds, another opens what was built.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{self, ChildStdin, ChildStdout, Command, Stdio};
use std::str::FromStr;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;
use std::{fs, thread};

use super::args::LINKED;
use super::serve::Opening;
use crate::Result;
use crate::input::Input;

const INTERVAL: Duration = Duration::from_millis(20);
const LIBRARIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/libraries.py");
/// The first argument of a program that is to be the other end of the pipes.
pub const SERVE: &str = "--serve";

/// Where stores are built, and from what.
pub struct Workshop<'a> {
    pub python: &'a Path,
    pub folder: &'a Path,
    pub input: &'a Input,
}

pub struct Child {
    process: process::Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// What came of a build.
#[derive(Default)]
pub struct Built {
    /// The library, and with what parameters it built.
    pub params: String,
    pub seconds: f64,
    /// Of all files that it left.
    pub file_bytes: u64,
    /// By how much the process's own memory grew at most (mapped files excluded).
    pub peak_bytes: Option<u64>,
}

/// What came of opening what was built.
#[derive(Default)]
pub struct Opened {
    pub ms: f64,
    /// What a call takes that has nothing to search.
    pub overhead_us: f64,
    pub knob_name: String,
    pub knobs: Vec<String>,
    /// By how much the process's own memory grew (mapped files excluded).
    pub held_bytes: Option<u64>,
}

/// Some of the queries, answered.
pub struct Answers {
    /// What each took, in microseconds, ascending.
    pub us: Vec<f64>,
    pub recall: f64,
}

/// All queries, answered in one call.
#[derive(Clone, Copy)]
pub struct Batch {
    pub threads: usize,
    /// What a query took, in microseconds: the mean of calls for all of them.
    pub us: f64,
    pub recall: f64,
    /// How many processors worked for it: processor time by time.
    pub busy: f64,
}

impl Workshop<'_> {
    /// Starts a process for a store and waits until it has loaded its library and the queries.
    ///
    /// # Errors
    /// What the process says, such as that a library is missing.
    pub fn start(&self, store: &str) -> Result<Child> {
        let mut command = if LINKED.contains(&store) {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg(SERVE);
            command
        } else {
            let mut command = Command::new(self.python);
            command.arg(LIBRARIES);
            command
        };
        let Input { queries, k, .. } = self.input;
        command.arg(store).arg(self.folder).arg(queries.metric.to_string());
        command.args([queries.dims, *k].map(|number| number.to_string()));
        // Where some of them put files of their own.
        command.env("TMPDIR", self.folder);
        Child::start(command)
    }

    /// Builds a store, in a process that ends then.
    ///
    /// # Errors
    /// What the process says.
    pub fn build(&self, store: &str) -> Result<Built> {
        let mut child = self.start(store)?;
        // What it builds of does not count as memory that a build takes.
        child.ask_line("items")?;
        let (answer, grown) = watch(child.id(), || child.ask_line("build"));
        let answer = answer?;
        Ok(Built {
            params: answer.text("params")?.to_owned(),
            seconds: answer.number("build_s")?,
            file_bytes: self.files(store)?.iter().map(|file| file.1).sum(),
            peak_bytes: grown.map(|grown| grown.0),
        })
    }

    /// What a store has built: the files that hold an index, and their bytes.
    ///
    /// # Errors
    /// What the system says.
    pub fn files(&self, store: &str) -> Result<Vec<(PathBuf, u64)>> {
        let (mut files, mut folders) = (Vec::new(), vec![self.folder.join(store)]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                } else if entry.file_name() != "lock.mdb" {
                    files.push((entry.path(), entry.metadata()?.len()));
                }
            }
        }
        Ok(files)
    }
}

impl Child {
    fn start(mut command: Command) -> Result<Self> {
        let name = command.get_program().display().to_string();
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{name}: {error}"))?;
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err("the process has no pipes".into());
        };
        let mut child = Self { process, input, output: BufReader::new(output) };
        child.answer()?;
        Ok(child)
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Opens what another process has built.
    ///
    /// # Errors
    /// What the process says.
    pub fn open(&mut self, opening: Opening) -> Result<Opened> {
        let (answer, grown) = watch(self.id(), || self.ask_line(&format!("open {opening}")));
        let answer = answer?;
        Ok(Opened {
            ms: answer.number("open_ms")?,
            overhead_us: answer.number("overhead_us")?,
            knob_name: answer.text("knob_name")?.to_owned(),
            knobs: answer.text("knobs")?.split(' ').map(str::to_owned).collect(),
            held_bytes: grown.map(|grown| grown.1),
        })
    }

    /// Searches for items, for up to a second, and forgets what a reader kept of the queries.
    ///
    /// # Errors
    /// What the process says.
    pub fn warm_up(&mut self, knob: &str) -> Result<()> {
        self.ask_line(&format!("warm {knob}")).map(drop)
    }

    /// Asks for the neighbours of `count` queries from the one with the number `first`, one at a
    /// time, and begins no search after so many seconds.
    ///
    /// # Errors
    /// What the process says.
    pub fn ask(
        &mut self,
        input: &Input,
        knob: &str,
        first: usize,
        count: usize,
        seconds: f64,
    ) -> Result<Answers> {
        let line = self.ask_line(&format!("ask {knob} {first} {count} {seconds}"))?;
        let mut us: Vec<f64> = numbers(line.text("us")?)?;
        let recall = line.right(input, first)? / (us.len() * input.k) as f64;
        us.sort_by(f64::total_cmp);
        Ok(Answers { us, recall })
    }

    /// Asks for the neighbours of all queries in one call, on so many threads, and again for a
    /// second at least.
    ///
    /// # Errors
    /// What the process says, such as that the library has no such call. It has ended then.
    pub fn batch(&mut self, input: &Input, knob: &str, threads: usize) -> Result<Batch> {
        let line = self.ask_line(&format!("batch {knob} {threads}"))?;
        let recall = line.right(input, 0)? / (input.queries.len() * input.k) as f64;
        Ok(Batch { threads, us: line.number("us")?, recall, busy: line.number("busy")? })
    }

    fn ask_line(&mut self, line: &str) -> Result<Line> {
        writeln!(self.input, "{line}")?;
        self.input.flush()?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Line> {
        let mut line = String::new();
        // A library may print something of its own.
        while !line.starts_with('{') {
            line.clear();
            if self.output.read_line(&mut line)? == 0 {
                let status = self.process.wait()?;
                return Err(format!("the process ended early: {status}").into());
            }
        }
        let line = Line(line);
        match line.text("error") {
            Ok(error) => Err(error.into()),
            Err(_) => Ok(line),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended already; nobody would read the error.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Answers {
    pub fn mean_us(&self) -> f64 {
        self.us.iter().sum::<f64>() / self.us.len() as f64
    }

    /// The least time that so many hundredths of the searches do not exceed.
    pub fn percentile_us(&self, hundredths: usize) -> f64 {
        self.us[(self.us.len() * hundredths).div_ceil(100).max(1) - 1]
    }
}

fn numbers<N: FromStr<Err: Error + 'static>>(text: &str) -> Result<Vec<N>> {
    text.split_whitespace().map(|word| Ok(word.parse()?)).collect()
}

/// A JSON object of numbers and of texts without quotes or escapes.
struct Line(String);

impl Line {
    fn value(&self, key: &str) -> Result<&str> {
        let found = self.0.split_once(&format!("\"{key}\":")).map(|(_, rest)| rest.trim_start());
        found.ok_or_else(|| format!("expected \"{key}\" in {}", self.0.trim_end()).into())
    }

    fn number(&self, key: &str) -> Result<f64> {
        let value = self.value(key)?;
        let end = value.find([',', '}']).unwrap_or(value.len());
        Ok(value[..end].trim().parse()?)
    }

    fn text(&self, key: &str) -> Result<&str> {
        let inside = self.value(key)?.strip_prefix('"').and_then(|rest| rest.split_once('"'));
        inside.map(|(text, _)| text).ok_or_else(|| format!("expected a text for \"{key}\"").into())
    }

    /// How many of the ids are right, for the queries from the one with the number `first`.
    fn right(&self, input: &Input, first: usize) -> Result<f64> {
        let mut right = 0;
        for (query, ids) in (first..).zip(self.text("ids")?.split(',')) {
            right += input.right(query, numbers(ids)?);
        }
        Ok(right as f64)
    }
}

/// Runs `work`; beside its result, by how much the memory of a process grew meanwhile: at most, and
/// at the end. Only Linux says.
fn watch<T>(id: u32, work: impl FnOnce() -> T) -> (T, Option<(u64, u64)>) {
    let Some(before) = anonymous_bytes(id) else {
        return (work(), None);
    };
    thread::scope(|scope| {
        // Dropping the sender ends the sampling, also when `work` unwinds.
        let (stop, stopped) = mpsc::channel::<()>();
        let sampler = scope.spawn(move || {
            let mut most = before;
            loop {
                most = most.max(anonymous_bytes(id).unwrap_or(0));
                if stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Disconnected) {
                    return most;
                }
            }
        });
        let result = work();
        let at_end = anonymous_bytes(id).unwrap_or(0);
        drop(stop);
        let most = sampler.join().unwrap_or(0).max(at_end);
        (result, Some((most.saturating_sub(before), at_end.saturating_sub(before))))
    })
}

fn anonymous_bytes(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kibibytes.checked_mul(1024)
}
