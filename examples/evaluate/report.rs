//! Printing: tables for people, or one JSON object a line.

use std::io::{self, Stdout, Write};
use std::time::Duration;

use crate::args::Args;
use crate::json::Object;
use crate::store::Filled;
use crate::summary::{Cost, TARGETS, cost_at};
use crate::sweep::{Exact, Knob, Point};

/// What was measured, for the heading.
pub struct Run<'a> {
    pub args: &'a Args,
    pub rows: usize,
    pub rows_in_file: usize,
    pub dims: usize,
    pub queries: usize,
    pub k: usize,
    pub threads: usize,
}

/// Where the exact answers come from.
pub enum TruthSource {
    File,
    /// Computed by exact search, in this time; there was a file if it did not fit the limit.
    Computed {
        time: Duration,
        file_unfit: bool,
    },
}

pub struct Report {
    out: Stdout,
    json: bool,
    items: f64,
}

impl Report {
    pub fn new(json: bool, rows: usize) -> Self {
        Self { out: io::stdout(), json, items: rows as f64 }
    }

    pub fn filled(&mut self, run: &Run, filled: &Filled) -> io::Result<()> {
        if self.json {
            return writeln!(self.out, "{}", self.filled_object(run, filled));
        }
        let Run { args, rows, rows_in_file, dims, queries, k, threads } = run;
        let Filled { index, built, .. } = filled;
        let out = &mut self.out;
        writeln!(
            out,
            "train    {}: {rows} of {rows_in_file} vectors, {dims} dimensions, {}",
            args.train.display(),
            args.metric
        )?;
        writeln!(out, "test     {}: {queries} queries, k = {k}", args.test.display())?;
        let insert = filled.insert.as_secs_f64();
        writeln!(out, "insert {:9.3} s   {:.0} vectors/s", insert, self.items / insert.max(1e-9))?;
        let spill = if index.spill { "on" } else { "off" };
        writeln!(
            out,
            "build  {:9.3} s   threads {threads}, trees {}, spill {spill}, leaf size {}, sketch bits {} (branches {})",
            filled.build.as_secs_f64(),
            index.trees,
            index.leaf_size,
            index.sketch_bits,
            index.branch_bits,
        )?;
        writeln!(
            out,
            "                     {:?}: {} leaves, {} branches, {} bytes written",
            built.method, index.leaves, index.branches, built.bytes_written
        )?;
        writeln!(out, "commit {:9.3} s", filled.commit.as_secs_f64())?;
        if let Some(peak) = filled.peak_bytes {
            writeln!(
                out,
                "memory {:9.1} MiB at most so far (VmHWM: with the pages of mapped files)",
                mebibytes(peak)
            )?;
        }
        if let Some(grown) = filled.build_memory_bytes {
            writeln!(
                out,
                "       {:9.1} MiB more during the build (RssAnon: without them; with uncommitted pages)",
                mebibytes(grown)
            )?;
        }
        writeln!(
            out,
            "file   {:9.1} MiB, {:.1} bytes a vector",
            mebibytes(filled.file_bytes),
            filled.file_bytes as f64 / self.items
        )?;
        let each = |bytes: u64| bytes as f64 / self.items;
        writeln!(
            out,
            "       bytes a vector by kind: items {:.1}, leaves {:.1}, branches {:.1}, pending {:.1}",
            each(index.item_bytes),
            each(index.leaf_bytes),
            each(index.branch_bytes),
            each(index.pending_bytes),
        )
    }

    fn filled_object(&self, run: &Run, filled: &Filled) -> Object {
        let Filled { index, built, .. } = filled;
        let each = |bytes: u64| bytes as f64 / self.items;
        Object::new("build")
            .text("train", &run.args.train.to_string_lossy())
            .text("test", &run.args.test.to_string_lossy())
            .text("metric", &run.args.metric.to_string())
            .count("vectors", run.rows as u64)
            .count("dims", run.dims as u64)
            .count("queries", run.queries as u64)
            .count("k", run.k as u64)
            .count("threads", run.threads as u64)
            .count("trees", index.trees as u64)
            .flag("spill", index.spill)
            .count("leaf_size", index.leaf_size as u64)
            .count("sketch_bits", u64::from(index.sketch_bits))
            .count("branch_bits", u64::from(index.branch_bits))
            .count("seed", run.args.seed)
            .number("oversampling", run.args.oversampling.map(f64::from))
            .number("insert_s", filled.insert.as_secs_f64())
            .number("build_s", filled.build.as_secs_f64())
            .number("commit_s", filled.commit.as_secs_f64())
            .text("method", &format!("{:?}", built.method))
            .count("leaves", index.leaves)
            .count("branches", index.branches)
            .count("bytes_written", built.bytes_written)
            .count("peak_bytes", filled.peak_bytes)
            .count("build_memory_bytes", filled.build_memory_bytes)
            .count("file_bytes", filled.file_bytes)
            .number("item_bytes_per_vector", each(index.item_bytes))
            .number("leaf_bytes_per_vector", each(index.leaf_bytes))
            .number("branch_bytes_per_vector", each(index.branch_bytes))
            .number("pending_bytes_per_vector", each(index.pending_bytes))
    }

    /// The exact scan, and where the truth comes from.
    pub fn exact(&mut self, exact: &Exact, source: &TruthSource) -> io::Result<()> {
        let (computed_s, file_unfit) = match source {
            TruthSource::File => (None, false),
            TruthSource::Computed { time, file_unfit } => (Some(time.as_secs_f64()), *file_unfit),
        };
        if self.json {
            let object = Object::new("exact")
                .text("truth", if computed_s.is_some() { "computed" } else { "file" })
                .number("truth_s", computed_s)
                .count("queries", exact.queries as u64)
                .number("recall", exact.recall)
                .number("mean_us", exact.mean_us);
            return writeln!(self.out, "{object}");
        }
        match computed_s {
            None => writeln!(self.out, "truth    read from the file")?,
            Some(seconds) => {
                let why = match file_unfit {
                    true => " (the file's answers do not hold for a part of the train vectors)",
                    false => "",
                };
                writeln!(self.out, "truth  {seconds:9.3} s   computed by exact search{why}")?;
            }
        }
        writeln!(
            self.out,
            "exact  {:9.1} us a query, recall {:.4} against the truth ({} queries)",
            exact.mean_us, exact.recall, exact.queries
        )?;
        if exact.recall < 0.999 {
            writeln!(
                self.out,
                "       CAUTION: exact search and truth disagree; is this the truth's metric?"
            )?;
        }
        Ok(())
    }

    pub fn head(&mut self, k: usize) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        writeln!(
            self.out,
            "\none thread; means per query; scanned sketches in percent of the items, every copy counted\n\n\
             {:>9}  {:>9}  {:>9}  {:>9}  {:>9}  {:>10}  {:>7}  {:>8}  {:>8}",
            "knob",
            format!("recall@{k}"),
            "mean us",
            "p50 us",
            "p99 us",
            "scanned",
            "%",
            "branches",
            "reranked"
        )
    }

    pub fn point(&mut self, point: &Point) -> io::Result<()> {
        if self.json {
            let object =
                Object::new(if point.knob.search_k().is_some() { "point" } else { "aimed" })
                    .count("search_k", point.knob.search_k().map(|search_k| search_k as u64))
                    .number("aim", point.knob.recall().map(f64::from))
                    .number("recall", point.recall)
                    .number("mean_us", point.mean_us)
                    .number("p50_us", point.p50_us)
                    .number("p99_us", point.p99_us)
                    .number("sketches", point.sketches)
                    .number("sketches_percent", self.percent(point.sketches))
                    .number("branch_sketches", point.branch_sketches)
                    .number("reranked", point.reranked)
                    .number("scanned_exactly", point.scanned_exactly);
            return writeln!(self.out, "{object}");
        }
        let knob = match point.knob {
            Knob::Recall(recall) => format!("aim {recall:.2}"),
            Knob::SearchK(search_k) => search_k.to_string(),
        };
        write!(
            self.out,
            "{knob:>9}  {:9.4}  {:9.1}  {:9.1}  {:9.1}  {:10.1}  {:7.2}  {:8.1}  {:8.1}",
            point.recall,
            point.mean_us,
            point.p50_us,
            point.p99_us,
            point.sketches,
            self.percent(point.sketches),
            point.branch_sketches,
            point.reranked,
        )?;
        if point.scanned_exactly > 0.0 {
            write!(self.out, "  + {:.1} vectors scanned exactly", point.scanned_exactly)?;
        }
        writeln!(self.out)
    }

    /// What recall costs, between the points of the sweep.
    pub fn summary(&mut self, points: &[Point], exact: &Exact) -> io::Result<()> {
        let costs = TARGETS.map(|target| (target, cost_at(points, target)));
        if self.json {
            let targets = costs.map(|(target, cost)| self.cost_object(target, cost, exact));
            return writeln!(self.out, "{}", Object::new("summary").list("targets", targets));
        }
        writeln!(
            self.out,
            "\ninterpolated between the points of the sweep, linearly in log(search_k):"
        )?;
        for (target, cost) in costs {
            let Some(cost) = cost else {
                writeln!(self.out, "at recall {target:.2}: not reached")?;
                continue;
            };
            let note =
                if cost.is_interpolated { "" } else { "   (the first point, recall above that)" };
            writeln!(
                self.out,
                "at recall {target:.2}: scanned {:6.2} %, mean {:.1} us, median {:.1} us, \
                 {:.1} times faster than the exact scan{note}",
                self.percent(cost.sketches),
                cost.mean_us,
                cost.p50_us,
                exact.mean_us / cost.mean_us,
            )?;
        }
        Ok(())
    }

    fn cost_object(&self, target: f64, cost: Option<Cost>, exact: &Exact) -> Object {
        let object = Object::default().number("recall", target).flag("reached", cost.is_some());
        let Some(cost) = cost else {
            return object;
        };
        object
            .flag("interpolated", cost.is_interpolated)
            .number("search_k", cost.search_k)
            .number("sketches_percent", self.percent(cost.sketches))
            .number("mean_us", cost.mean_us)
            .number("p50_us", cost.p50_us)
            .number("times_faster_than_exact", exact.mean_us / cost.mean_us)
    }

    fn percent(&self, sketches: f64) -> f64 {
        100.0 * sketches / self.items
    }
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}
