//! The other end of a child's pipes: builds the store when it is asked to, then makes one pass over
//! the queries for each line. `libraries.py` does the same for the stores that it has.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use spinney::Metric;

use super::stores;
use crate::Result;
use crate::input::Rows;

/// What comes before the clock starts, at each pass: searches for so many items at most, spread
/// evenly, for so long at most. They bring the index back into the caches, and a reader that learns
/// where items are learns it from others than the queries.
const WARM_UP: (usize, Duration) = (10_000, Duration::from_secs(1));

/// How a store is asked. No knob: the store's own choice.
pub trait Search {
    /// Forgets what a reader has kept of the queries, before each pass.
    fn begin(&mut self) -> Result<()> {
        Ok(())
    }

    /// Puts the ids of the nearest items into a list.
    fn search(&mut self, query: &[f32], knob: Option<usize>, ids: &mut Vec<u32>) -> Result<()>;
}

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
    pub items: Rows,
    /// Components of queries that are not asked: a store may learn from them.
    pub learn: Vec<f32>,
    queries: Rows,
    /// For each query the largest distance that counts as right.
    limits: Vec<f64>,
}

/// What came of a build.
pub struct Described {
    pub params: String,
    pub time: Duration,
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
        // Not in the condition: what locks the input would live as long as the condition's block.
        let is_wanted = io::stdin().read_line(&mut String::new())? > 0;
        if is_wanted { stores::serve(&name, &job) } else { Ok(()) }
    });
    served.or_else(|error| {
        say(&format!("{{\"error\": \"{}\"}}", error.to_string().replace(['"', '\n'], " ")))
    })
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
        let items = Rows::read(&folder.join("items.f32"), dims, metric)?;
        let queries = Rows::read(&folder.join("queries.f32"), dims, metric)?;
        let bytes = fs::read(folder.join("limits.f64"))?;
        let limits =
            bytes.as_chunks::<8>().0.iter().map(|limit| f64::from_le_bytes(*limit)).collect();
        let learn = Rows::read(&folder.join("learn.f32"), dims, metric)?.values;
        Ok(Self { folder, metric, dims, k, items, learn, queries, limits })
    }

    /// Says what was built into `file`, then makes the passes that are asked for.
    pub fn answer(
        &self,
        described: &Described,
        file: &Path,
        search: &mut dyn Search,
    ) -> Result<()> {
        let Described { params, time, knob_name, .. } = described;
        let knobs = described.knobs.iter().map(usize::to_string);
        let knobs: Vec<String> =
            described.has_default.then(|| "default".to_owned()).into_iter().chain(knobs).collect();
        trim();
        say(&format!(
            "{{\"params\": \"{params}\", \"build_s\": {}, \"file_bytes\": {}, \"overhead_us\": 0, \
             \"knob_name\": \"{knob_name}\", \"knobs\": \"{}\"}}",
            time.as_secs_f64(),
            fs::metadata(file)?.len(),
            knobs.join(" ")
        ))?;
        for line in io::stdin().lines() {
            self.pass(line?.trim(), search)?;
        }
        Ok(())
    }

    fn pass(&self, knob: &str, search: &mut dyn Search) -> Result<()> {
        let setting = if knob == "default" { None } else { Some(knob.parse()?) };
        search.begin()?;
        let (mut ids, start) = (Vec::new(), Instant::now());
        for item in self.items.iter().step_by((self.items.len() / WARM_UP.0).max(1)).take(WARM_UP.0)
        {
            search.search(item, setting, &mut ids)?;
            ids.clear();
            if start.elapsed() > WARM_UP.1 {
                break;
            }
        }
        let (mut times, mut right) = (Vec::new(), 0);
        let mut answers = vec![Vec::with_capacity(self.k); self.queries.len()];
        for (query, answer) in self.queries.iter().zip(&mut answers) {
            let start = Instant::now();
            let searched = search.search(query, setting, answer);
            times.push(start.elapsed());
            searched?;
        }
        for (number, answer) in answers.iter_mut().enumerate() {
            answer.sort_unstable();
            answer.dedup();
            let distances =
                answer.iter().map(|&id| self.items.distance(id as usize, &self.queries, number));
            right +=
                distances.filter(|distance| *distance <= self.limits[number]).count().min(self.k);
        }
        let count = times.len();
        let mean_us = 1e6 * times.iter().sum::<Duration>().as_secs_f64() / count as f64;
        times.sort_unstable();
        let p99_us = 1e6 * times[(count * 99).div_ceil(100).max(1) - 1].as_secs_f64();
        say(&format!(
            "{{\"knob\": \"{knob}\", \"recall\": {}, \"mean_us\": {mean_us}, \"p99_us\": {p99_us}, \"qps\": {}}}",
            right as f64 / (count * self.k) as f64,
            1e6 / mean_us
        ))
    }
}

/// First and its doubles, up to last.
pub fn doubling(first: usize, last: usize) -> Vec<usize> {
    std::iter::successors(Some(first), |knob| Some(2 * knob))
        .take_while(|knob| *knob <= last.max(first))
        .collect()
}

/// Gives the memory that the build freed back to the system, so that what is left is what the store
/// holds.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn trim() {
    unsafe extern "C" {
        fn malloc_trim(pad: usize) -> std::ffi::c_int;
    }
    // SAFETY: it may be called at any time, from any thread.
    unsafe { malloc_trim(0) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}
