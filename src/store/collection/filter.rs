//! From filters to sets of items.

use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::error::Result;
use crate::store::collection::labels::{Labels, Node, check_label};
use crate::store::collection::layout::Set;
use crate::store::collection::stored::Stored;

/// A filter that means what a scope and another filter mean together. `None` means everything.
pub(crate) fn within(scope: &[String], filter: Option<Labels>) -> Option<Labels> {
    let mut all: Vec<Labels> = scope.iter().map(Labels::from).chain(filter).collect();
    if all.len() > 1 { Some(Labels::all(all)) } else { all.pop() }
}

impl Stored<'_> {
    /// The items of the documents that a filter means.
    pub(crate) fn meant(&self, filter: &Labels) -> Result<Arc<RoaringBitmap>> {
        let collection = self.layout.number;
        if let Some(known) = self.memo.and_then(|memo| memo.get(collection, filter)) {
            return Ok(known);
        }
        let set = Arc::new(match &filter.0 {
            Node::One(label) => {
                check_label(label)?;
                self.set(Set::Label(label))?
            }
            Node::All(filters) => self.intersection(filters)?,
            Node::Any(filters) => {
                let mut any = RoaringBitmap::new();
                for filter in filters {
                    any |= &*self.meant(filter)?;
                }
                any
            }
            Node::Not(filter) => self.everything()?.as_ref() - &*self.meant(filter)?,
        });
        if let Some(memo) = self.memo {
            memo.put(collection, filter, &set);
        }
        Ok(set)
    }

    /// What is meant is intersected, and what is not is taken off: that takes no set of all items.
    fn intersection(&self, filters: &[Labels]) -> Result<RoaringBitmap> {
        if filters.is_empty() {
            return self.all_items();
        }
        let (mut all, mut negated) = (None::<RoaringBitmap>, Vec::new());
        for filter in filters {
            match &filter.0 {
                Node::Not(inner) => negated.push(inner),
                _ => {
                    let meant = self.meant(filter)?;
                    all = Some(match all {
                        Some(all) => all & &*meant,
                        None => (*meant).clone(),
                    });
                }
            }
        }
        let mut all = match all {
            Some(all) => all,
            None => (*self.everything()?).clone(),
        };
        for filter in negated {
            all -= &*self.meant(filter)?;
        }
        Ok(all)
    }

    fn everything(&self) -> Result<Arc<RoaringBitmap>> {
        self.meant(&Labels(Node::All(Vec::new())))
    }
}
