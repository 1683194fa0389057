//! An answer that was read and is not needed any more, as room for the next of the same thread.

use std::cell::Cell;

use crate::math::scored::Scored;
use crate::search::Hit;

thread_local! {
    static SPARE: Cell<Vec<Scored>> = const { Cell::new(Vec::new()) };
}

/// Gives the room of an answer back.
pub(crate) fn give(mut hits: Vec<Hit>) {
    hits.clear();
    // Of nothing, in place: both have the same size.
    let room = hits.into_iter().map(|hit| Scored { score: hit.distance, id: hit.id }).collect();
    let _ = SPARE.try_with(|spare| spare.set(room));
}

/// An empty vector, with room if some was given.
pub(crate) fn take() -> Vec<Scored> {
    SPARE.try_with(Cell::take).unwrap_or_default()
}
