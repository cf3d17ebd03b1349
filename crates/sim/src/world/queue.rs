//! What will happen, by when.
//!
//! # Invariants
//! * Events of the same moment happen in the order in which they were put in: nothing depends on
//!   where a heap happens to keep them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::clock::Time;

/// A queue of events.
///
/// The heap holds small keys; the events themselves lie still in slots, which are used again.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    heap: BinaryHeap<Reverse<(Time, u64, u32)>>,
    slots: Vec<Option<E>>,
    free: Vec<u32>,
    order: u64,
}

impl<E> Queue<E> {
    pub(crate) fn new() -> Queue<E> {
        Queue { heap: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), order: 0 }
    }

    pub(crate) fn push(&mut self, at: Time, event: E) {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(event);
                slot
            }
            None => {
                self.slots.push(Some(event));
                self.slots.len() as u32 - 1
            }
        };
        self.order += 1;
        self.heap.push(Reverse((at, self.order, slot)));
    }

    /// Takes the next event, if it is due at a time or before.
    pub(crate) fn pop_due(&mut self, until: Time) -> Option<(Time, E)> {
        let Reverse((at, _, _)) = self.heap.peek()?;
        if *at > until {
            return None;
        }
        let Reverse((at, _, slot)) = self.heap.pop()?;
        self.free.push(slot);
        let event = self.slots[slot as usize].take().expect("a key in the heap has its event");
        Some((at, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_by_order() {
        let mut queue = Queue::new();
        for (at, name) in [(5, "c"), (3, "a"), (5, "d"), (3, "b"), (9, "e")] {
            queue.push(Time(at), name);
        }
        let mut seen = String::new();
        while let Some((_, name)) = queue.pop_due(Time(5)) {
            seen.push_str(name);
        }
        queue.push(Time(7), "f");
        assert_eq!(queue.pop_due(Time(8)), Some((Time(7), "f")));
        assert_eq!(queue.pop_due(Time(8)), None);
        assert_eq!(seen, "abcd");
    }
}
