//! A process that has one store, so that its memory is its own, and each can be asked in turn.

use std::io::{BufRead, BufReader, Write};
use std::process::{self, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;
use std::{fs, thread};

use crate::Result;

const INTERVAL: Duration = Duration::from_millis(20);

pub struct Child {
    process: process::Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// What came of a build.
pub struct Built {
    /// The library, and with what parameters it built.
    pub params: String,
    pub seconds: f64,
    pub file_bytes: f64,
    /// What a call takes that has nothing to search.
    pub overhead_us: f64,
    pub knob_name: String,
    pub knobs: Vec<String>,
    /// By how much the process's own memory grew (mapped files excluded): at most, and for good.
    pub peak_bytes: Option<u64>,
    pub held_bytes: Option<u64>,
}

/// One pass over all queries with one setting of the knob.
#[derive(Clone, Copy)]
pub struct Pass {
    pub recall: f64,
    pub mean_us: f64,
    pub p99_us: f64,
}

impl Child {
    /// Starts a process and waits until it has its rows.
    pub fn start(mut command: Command) -> Result<Self> {
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

    pub fn build(&mut self) -> Result<Built> {
        let id = self.process.id();
        let (answer, grown) = watch(id, || self.ask("build"));
        let answer = answer?;
        Ok(Built {
            params: answer.text("params")?.to_owned(),
            seconds: answer.number("build_s")?,
            file_bytes: answer.number("file_bytes")?,
            overhead_us: answer.number("overhead_us")?,
            knob_name: answer.text("knob_name")?.to_owned(),
            knobs: answer.text("knobs")?.split(' ').map(str::to_owned).collect(),
            peak_bytes: grown.map(|grown| grown.0),
            held_bytes: grown.map(|grown| grown.1),
        })
    }

    pub fn measure(&mut self, knob: &str) -> Result<Pass> {
        let answer = self.ask(knob)?;
        Ok(Pass {
            recall: answer.number("recall")?,
            mean_us: answer.number("mean_us")?,
            p99_us: answer.number("p99_us")?,
        })
    }

    fn ask(&mut self, line: &str) -> Result<Line> {
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
                return Err("the process ended early".into());
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
