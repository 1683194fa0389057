//! Searches in a process that has little memory: the first of new processes, and many of one.

use bench_kit::meter::{Paging, paging};

use super::evict::evict;
use super::group::Group;
use crate::Result;
use crate::search::child::{Answers, Child, Workshop};
use crate::search::serve::Opening;

/// What is measured of a store.
pub struct Case<'a> {
    pub store: &'a str,
    pub opening: Opening,
    pub knob: &'a str,
    /// The memory that it has.
    pub bytes: u64,
    /// Searches end after so long.
    pub seconds: f64,
}

/// What searches took.
pub struct Searches {
    /// For opening the store, by each new process, ascending.
    pub open_ms: Vec<f64>,
    pub answers: Answers,
    /// By each search; by the opening, too, if it was measured.
    pub faults: f64,
    pub kibibytes: f64,
}

/// Opens the store in new processes, and searches once in each: at most `processes` of them.
///
/// # Errors
/// What a process or the system says.
pub fn cold(workshop: &Workshop<'_>, case: &Case<'_>, processes: usize) -> Result<Searches> {
    let queries = workshop.input.queries.len();
    let (mut us, mut open_ms, mut right, mut sum) =
        (Vec::new(), Vec::new(), 0.0, Paging::default());
    for number in 0..processes.min(queries) {
        let query = number * queries / processes.min(queries);
        in_group(workshop, case, |child| {
            let before = pages(child)?;
            open_ms.push(child.open(case.opening)?.ms);
            let answers = child.ask(workshop.input, case.knob, query, 1, case.seconds)?;
            let after = pages(child)?;
            sum.major_faults += after.major_faults - before.major_faults;
            sum.read_bytes += after.read_bytes - before.read_bytes;
            right += answers.recall;
            us.extend(answers.us);
            Ok(())
        })?;
        if us.iter().sum::<f64>() > 1e6 * case.seconds {
            break;
        }
    }
    us.sort_by(f64::total_cmp);
    open_ms.sort_by(f64::total_cmp);
    let recall = right / us.len() as f64;
    Ok(Searches::new(open_ms, Answers { us, recall }, sum))
}

/// Opens the store in a new process. The first half of the queries is to warm up, the second is
/// measured.
///
/// # Errors
/// What the process or the system says.
pub fn steady(workshop: &Workshop<'_>, case: &Case<'_>) -> Result<Searches> {
    let (input, half) = (workshop.input, workshop.input.queries.len() / 2);
    let &Case { knob, seconds, .. } = case;
    in_group(workshop, case, |child| {
        child.open(case.opening)?;
        child.ask(input, knob, 0, half, seconds)?;
        let before = pages(child)?;
        let answers = child.ask(input, knob, half, input.queries.len() - half, seconds)?;
        let after = pages(child)?;
        let sum = Paging {
            major_faults: after.major_faults - before.major_faults,
            read_bytes: after.read_bytes - before.read_bytes,
        };
        Ok(Searches::new(Vec::new(), answers, sum))
    })
}

impl Searches {
    fn new(open_ms: Vec<f64>, answers: Answers, sum: Paging) -> Self {
        let count = answers.us.len() as f64;
        let faults = sum.major_faults as f64 / count;
        Self { open_ms, answers, faults, kibibytes: sum.read_bytes as f64 / 1024.0 / count }
    }
}

/// Runs `work` with a new process that may use so much memory from here on. Nothing of the store
/// is in the system's cache.
fn in_group<T>(
    workshop: &Workshop<'_>,
    case: &Case<'_>,
    work: impl FnOnce(&mut Child) -> Result<T>,
) -> Result<T> {
    for (file, _) in workshop.files(case.store)? {
        evict(&file)?;
    }
    // Dropped after the process, which would keep it from going.
    let group = Group::new(case.bytes)?;
    let mut child = workshop.start(case.store)?;
    group.admit(child.id())?;
    work(&mut child)
}

fn pages(child: &Child) -> Result<Paging> {
    paging(child.id()).ok_or_else(|| "the system does not say what a process reads".into())
}
