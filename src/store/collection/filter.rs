//! From filters to sets of items.

use std::collections::HashMap;
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::error::Result;
use crate::store::collection::labels::{Labels, Op, check_label};
use crate::store::collection::layout::Set;
use crate::store::collection::stored::Stored;

/// A filter that means what a scope and another filter mean together. `None` means everything.
pub(crate) fn within(scope: &[String], filter: Option<Labels>) -> Option<Labels> {
    let mut all: Vec<Labels> = scope.iter().map(Labels::from).chain(filter).collect();
    if all.len() > 1 { Some(Labels::all(all)) } else { all.pop() }
}

/// A set, or all that is not in it: that takes no set of all items.
#[derive(Clone, Default)]
struct Meant {
    set: Arc<RoaringBitmap>,
    is_negated: bool,
}

impl Meant {
    fn everything() -> Self {
        Self { is_negated: true, ..Self::default() }
    }

    fn negated_if(self, is_so: bool) -> Self {
        Self { is_negated: self.is_negated != is_so, ..self }
    }

    /// What both mean.
    fn and(mut self, mut other: Self) -> Self {
        if self.is_negated && self.set.is_empty() {
            return other;
        }
        if self.is_negated && !other.is_negated {
            std::mem::swap(&mut self, &mut other);
        }
        let set = Arc::make_mut(&mut self.set);
        match (self.is_negated, other.is_negated) {
            (false, false) => *set &= &*other.set,
            (false, true) => *set -= &*other.set,
            (true, _) => *set |= &*other.set,
        }
        self
    }
}

/// An operator, some of whose parts are known: the intersection of these, up to negations.
struct Open {
    left: usize,
    known: Meant,
    are_parts_negated: bool,
    is_result_negated: bool,
}

impl Open {
    /// A union is what is not in the intersection of what is in none of its parts.
    fn new(left: usize, are_parts_negated: bool, is_result_negated: bool) -> Self {
        Self { left, known: Meant::everything(), are_parts_negated, is_result_negated }
    }
}

impl Stored<'_> {
    /// The items of the documents that a filter means.
    pub(crate) fn meant(&self, Labels(ops): &Labels) -> Result<Arc<RoaringBitmap>> {
        self.remembered(ops, || {
            let Meant { set, is_negated } = self.work_out(ops)?;
            if !is_negated {
                return Ok(set);
            }
            let everything = self.remembered(&[Op::All(0)], || self.all_items().map(Arc::new))?;
            Ok(Arc::new(&*everything - &*set))
        })
    }

    /// Goes through a filter from its end, where the outermost operator is.
    fn work_out(&self, ops: &[Op]) -> Result<Meant> {
        let (mut labels, mut open) = (HashMap::new(), Vec::new());
        let mut meant = Meant::everything();
        for op in ops.iter().rev() {
            match op {
                Op::One(label) => {
                    let set = match labels.get(label) {
                        Some(set) => Arc::clone(set),
                        None => labels.entry(label).or_insert(self.labelled(label)?).clone(),
                    };
                    meant = Meant { set, is_negated: false };
                }
                Op::All(0) => meant = Meant::everything(),
                Op::Any(0) => meant = Meant::default(),
                Op::All(count) => {
                    open.push(Open::new(*count, false, false));
                    continue;
                }
                Op::Any(count) => {
                    open.push(Open::new(*count, true, true));
                    continue;
                }
                Op::Not => {
                    open.push(Open::new(1, false, true));
                    continue;
                }
            }
            // What is known now may be the last part of several operators.
            while let Some(mut last) = open.pop() {
                last.left -= 1;
                let part = std::mem::take(&mut meant).negated_if(last.are_parts_negated);
                last.known = last.known.and(part);
                if last.left > 0 {
                    open.push(last);
                    break;
                }
                meant = last.known.negated_if(last.is_result_negated);
            }
        }
        Ok(meant)
    }

    fn labelled(&self, label: &str) -> Result<Arc<RoaringBitmap>> {
        check_label(label)?;
        let op = [Op::One(label.to_owned())];
        self.remembered(&op, || self.set(Set::Label(label)).map(Arc::new))
    }

    fn remembered(
        &self,
        ops: &[Op],
        read: impl FnOnce() -> Result<Arc<RoaringBitmap>>,
    ) -> Result<Arc<RoaringBitmap>> {
        let Some(memo) = self.memo else { return read() };
        let collection = self.layout.number;
        if let Some(known) = memo.get(collection, ops) {
            return Ok(known);
        }
        let set = read()?;
        memo.put(collection, ops, &set);
        Ok(set)
    }
}
