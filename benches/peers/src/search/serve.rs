//! The other end of a child's pipes: builds a store, or opens what was built and answers.
//! `libraries.py` does the same for the stores that it has.

use std::error::Error;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{fmt, fs};

use bench_kit::meter::{Span, timed};
use spinney::Metric;

use super::stores;
use crate::Result;
use crate::input::Rows;

/// What comes before the clock starts, at each pass: searches for so many items at most, spread
/// evenly, for so long at most. They bring the index back into the caches, and a reader that learns
/// where items are learns it from others than the queries.
const WARM_UP: (usize, Duration) = (10_000, Duration::from_secs(1));

/// Calls of a batch: so many at least, for so long at least.
const BATCH: (usize, Duration) = (3, Duration::from_secs(1));

/// How a store opens what it has built.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// As it does by default: some read their file into memory.
    Load,
    /// The file is mapped.
    Map,
    /// The file is mapped, and the system is told to read no page but those that are missed.
    MapAtRandom,
}

impl Opening {
    const ALL: [Self; 3] = [Self::Load, Self::Map, Self::MapAtRandom];
}

impl fmt::Display for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Load => "load",
            Self::Map => "map",
            Self::MapAtRandom => "map-at-random",
        })
    }
}

/// How a store is asked. No knob: the store's own choice.
pub trait Search {
    /// Forgets what a reader has kept of the queries, before each pass.
    fn begin(&mut self) -> Result<()> {
        Ok(())
    }

    /// Puts the ids of the nearest items into a list.
    fn search(&mut self, query: &[f32], knob: Option<usize>, ids: &mut Vec<u32>) -> Result<()>;

    /// The call that answers many queries at once, on so many threads.
    fn batch(&self, _knob: Option<usize>, _threads: usize) -> Result<Batch<'_>> {
        Err("it has no call for a batch of vectors".into())
    }
}

/// Puts the ids nearest to each row into a list, k for each.
pub type Batch<'a> = Box<dyn FnMut(&[f32], &mut [u32]) -> Result<()> + 'a>;

impl<F: FnMut(&[f32], Option<usize>, &mut Vec<u32>) -> Result<()>> Search for F {
    fn search(&mut self, query: &[f32], knob: Option<usize>, ids: &mut Vec<u32>) -> Result<()> {
        self(query, knob, ids)
    }
}

/// What a store is made of.
pub struct Job {
    pub folder: PathBuf,
    pub metric: Metric,
    pub dims: usize,
    pub k: usize,
    pub item_count: usize,
    queries: Rows,
}

/// What came of a build.
pub struct Built {
    pub params: String,
    pub time: Duration,
}

/// How what was opened may be asked.
pub struct Opened {
    /// When opening began.
    pub start: Instant,
    pub knob_name: &'static str,
    pub knobs: Vec<usize>,
    /// Whether the store is also asked without the knob.
    pub has_default: bool,
}

/// Serves STORE FOLDER METRIC DIMS K until the input ends. Errors go to the other process.
pub fn serve(mut words: impl Iterator<Item = String>) -> Result<()> {
    let served = words.next().ok_or("expected the name of a store".into()).and_then(|name| {
        let job = Job::read(words)?;
        say("{\"ready\": true}")?;
        let mut items = None;
        while let Some(line) = hear()? {
            if line == "items" {
                items = Some(Rows::read(&job.folder.join("items.f32"), job.dims, job.metric)?);
                say("{\"items\": true}")?;
            } else if line == "build" {
                let items = items.as_ref().ok_or("expected to read the items before")?;
                let Built { params, time } = stores::build(&name, &job, items)?;
                let seconds = time.as_secs_f64();
                say(&format!("{{\"params\": \"{params}\", \"build_s\": {seconds}}}"))?;
            } else {
                let opening = Opening::ALL.into_iter().find(|way| line == format!("open {way}"));
                let opening = opening.ok_or_else(|| format!("expected to open, got {line}"))?;
                stores::open(&name, &job, opening)?;
            }
        }
        Ok(())
    });
    served.or_else(|error: Box<dyn Error>| {
        say(&format!("{{\"error\": \"{}\"}}", error.to_string().replace(['"', '\n'], " ")))
    })
}

/// The next line. `None` at the end of the input.
fn hear() -> Result<Option<String>> {
    let mut line = String::new();
    let bytes = io::stdin().read_line(&mut line)?;
    Ok((bytes > 0).then(|| line.trim().to_owned()))
}

fn say(line: &str) -> Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

impl Job {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut next = || words.next().ok_or("expected STORE FOLDER METRIC DIMS K");
        let (folder, metric, dims, k) =
            (PathBuf::from(next()?), next()?, next()?.parse()?, next()?.parse()?);
        let metric = metric.parse().map_err(|_| format!("unknown metric {metric}"))?;
        let queries = Rows::read(&folder.join("queries.f32"), dims, metric)?;
        let bytes = fs::metadata(folder.join("items.f32"))?.len();
        let item_count = usize::try_from(bytes)? / (4 * dims);
        Ok(Self { folder, metric, dims, k, item_count, queries })
    }

    /// Queries that are not asked: a store may learn from them.
    pub fn learn(&self) -> Result<Rows> {
        Rows::read(&self.folder.join("learn.f32"), self.dims, self.metric)
    }

    /// Items to search for before the clock starts.
    fn others(&self) -> Result<Rows> {
        let mut file = File::open(self.folder.join("items.f32"))?;
        let step = (self.item_count / WARM_UP.0).max(1);
        let (mut values, mut row) = (Vec::new(), vec![0; 4 * self.dims]);
        for number in (0..self.item_count).step_by(step).take(WARM_UP.0) {
            file.seek(SeekFrom::Start((number * row.len()) as u64))?;
            file.read_exact(&mut row)?;
            values.extend(row.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)));
        }
        Ok(Rows::new(self.dims, self.metric, values))
    }

    /// Says how what was opened may be asked, and answers until the input ends.
    pub fn answer(&self, opened: &Opened, search: &mut dyn Search) -> Result<()> {
        let ms = 1e3 * opened.start.elapsed().as_secs_f64();
        let knobs = opened.knobs.iter().map(usize::to_string);
        let knobs: Vec<String> =
            opened.has_default.then(|| "default".to_owned()).into_iter().chain(knobs).collect();
        say(&format!(
            "{{\"open_ms\": {ms}, \"overhead_us\": 0, \"knob_name\": \"{}\", \"knobs\": \"{}\"}}",
            opened.knob_name,
            knobs.join(" ")
        ))?;
        while let Some(line) = hear()? {
            let words: Vec<&str> = line.split(' ').collect();
            let knob = words.get(1).filter(|knob| **knob != "default");
            let knob = knob.map(|knob| knob.parse()).transpose()?;
            match words[..] {
                ["warm", _] => self.warm_up(knob, search)?,
                ["ask", _, first, count, seconds] => {
                    self.ask(first.parse()?, count.parse()?, seconds.parse()?, knob, search)?;
                }
                ["batch", _, threads] => self.batch(search.batch(knob, threads.parse()?)?)?,
                _ => return Err(format!("expected to warm up or to ask, got {line}").into()),
            }
        }
        Ok(())
    }

    fn warm_up(&self, knob: Option<usize>, search: &mut dyn Search) -> Result<()> {
        search.begin()?;
        let (others, mut ids, start) = (self.others()?, Vec::new(), Instant::now());
        for item in others.iter() {
            search.search(item, knob, &mut ids)?;
            ids.clear();
            if start.elapsed() > WARM_UP.1 {
                break;
            }
        }
        say("{\"warm\": true}")
    }

    fn ask(
        &self,
        first: usize,
        count: usize,
        seconds: f64,
        knob: Option<usize>,
        search: &mut dyn Search,
    ) -> Result<()> {
        let (mut times, mut answers) = (Vec::new(), vec![Vec::with_capacity(self.k); count]);
        let begin = Instant::now();
        for (query, answer) in self.queries.iter().skip(first).zip(&mut answers) {
            let start = Instant::now();
            let searched = search.search(query, knob, answer);
            times.push(1e6 * start.elapsed().as_secs_f64());
            searched?;
            if begin.elapsed().as_secs_f64() > seconds {
                break;
            }
        }
        let mut us = String::new();
        times.iter().try_for_each(|time| write!(us, "{time:.3} "))?;
        let ids = text(answers.iter().take(times.len()).map(Vec::as_slice));
        say(&format!("{{\"us\": \"{us}\", \"ids\": \"{ids}\"}}"))
    }

    fn batch(&self, mut call: Batch<'_>) -> Result<()> {
        let queries = &self.queries;
        let mut ids = vec![0; queries.len() * self.k];
        call(&queries.values, &mut ids)?;
        let start = Instant::now();
        let (calls, Span { wall, cpu }) = timed(|| -> Result<usize> {
            let mut calls = 0;
            while calls < BATCH.0 || start.elapsed() < BATCH.1 {
                call(&queries.values, &mut ids)?;
                calls += 1;
            }
            Ok(calls)
        });
        let us = 1e6 * wall / (calls? * queries.len()) as f64;
        let busy = cpu.map_or(f64::NAN, |cpu| cpu / wall);
        let ids = text(ids.chunks(self.k));
        say(&format!("{{\"us\": {us}, \"busy\": {busy}, \"ids\": \"{ids}\"}}"))
    }
}

/// The ids of each query, with a comma between two queries.
fn text<'a>(answers: impl Iterator<Item = &'a [u32]>) -> String {
    let words = |ids: &[u32]| ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    answers.map(words).collect::<Vec<_>>().join(",")
}

/// First and its doubles, up to last.
pub fn doubling(first: usize, last: usize) -> Vec<usize> {
    std::iter::successors(Some(first), |knob| Some(2 * knob))
        .take_while(|knob| *knob <= last.max(first))
        .collect()
}
