//! Batches of changes, the same at every run.

use std::fmt;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use crate::rows::Rows;

/// What a batch of changes does.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Adds new items.
    Insert,
    /// Deletes items.
    Delete,
    /// Gives items other vectors.
    Overwrite,
    /// A third of each.
    Mixture,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Insert, Self::Delete, Self::Overwrite, Self::Mixture];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Insert => "insert",
            Self::Delete => "delete",
            Self::Overwrite => "overwrite",
            Self::Mixture => "mixture",
        })
    }
}

/// What is done to one item.
pub enum Change {
    /// Adds it or overwrites it with a vector.
    Put(u32, Vec<f32>),
    /// Deletes it.
    Delete(u32),
}

/// The items of an index, of which changes take their ids.
pub struct Live {
    ids: Vec<u32>,
    /// The id and the row of the next new item.
    next: u32,
    random: Xoshiro256PlusPlus,
}

impl Live {
    /// An index that holds the ids, and rows, from 0 to `items`.
    pub fn new(items: u32) -> Self {
        Self {
            ids: (0..items).collect(),
            next: items,
            random: Xoshiro256PlusPlus::seed_from_u64(1),
        }
    }

    /// The next batch; no item occurs twice in it. A mixture begins with another kind at every
    /// `turn`.
    pub fn changes(&mut self, rows: &Rows, kind: Kind, count: usize, turn: usize) -> Vec<Change> {
        // Ids that this batch has used are at the end of the list.
        let mut used = 0;
        let mut changes = Vec::with_capacity(count);
        for i in 0..count {
            let kind = if kind == Kind::Mixture { Kind::ALL[(turn + i) % 3] } else { kind };
            // Every vector is one that was not there before.
            let row = self.next;
            if kind == Kind::Insert || used == self.ids.len() {
                self.next += 1;
                self.ids.push(row);
                used += 1;
                changes.push(Change::Put(row, rows.row(row)));
                continue;
            }
            let last = self.ids.len() - used - 1;
            let at = self.random.random_range(0..=last);
            self.ids.swap(at, last);
            if kind == Kind::Delete {
                changes.push(Change::Delete(self.ids.swap_remove(last)));
            } else {
                self.next += 1;
                used += 1;
                changes.push(Change::Put(self.ids[last], rows.row(row)));
            }
        }
        changes
    }
}
