//! The registry of pins: who is reading, at which timestamp, since which epoch.
//!
//! A pin is two words on a cache line of its own: the timestamp, which holds back *trimming*, and
//! the epoch, which holds back *freeing*. Taking one is one compare-and-swap on a line that the
//! thread used last; giving it back is two plain stores.
//!
//! ```text
//!   pin                                    collector
//!   ---                                    ---------
//!   P1  slot.ts: FREE -> ts     (CAS)      C1  floor := max(floor, f)
//!   P2  e = epoch; slot.epoch := e         C2  W = min(floor, every slot.ts)
//!   P3  floor <= ts?  else fail            C3  unlink what W allows
//!   P4  read                               C4  t = epoch++         tag of what was unlinked
//!   P5  slot.epoch := 0; slot.ts := FREE   C5  free tags < min(every taken slot's epoch)
//! ```
//!
//! P1, P2's load, P3, C1, C2, C4 and C5 are sequentially consistent.
//!
//! # Why no pin is overlooked
//! * *Trimming.* If C2 misses the pin at P1, then P3 comes after C1 and sees its floor: either
//!   ts >= floor >= W, or the pin fails. So every pin that succeeds reads at or above every W that
//!   was ever computed, and a W once computed stays right for ever (it is cached in `watermark`).
//! * *Freeing.* If C5 misses the pin at P1, then P2 comes after C4 and reads an epoch > t written
//!   by that increment or a later one: it *acquires* everything before C4, so the unlinking
//!   happened before P4 and P4 cannot reach the thing. If C5 sees an epoch > t in the slot, the
//!   same holds. If it sees an epoch <= t, nothing tagged t is freed. A slot between P1 and P2
//!   shows epoch 0 and stops all freeing for those few nanoseconds.
//! * *Done means done.* P5 releases and C5 acquires, so the last read of a pin happens before the
//!   free that waited for it.

use std::collections::BTreeMap;

use base::Timestamp;

use super::sync::{AtomicU64, Mutex, Ordering, Padded, set_slot_hint, slot_hint};

/// Slots for pins. More threads than these rarely read at one instant, and a watermark costs one
/// cache line each; the pins beyond go to a mutexed map.
const SLOTS: usize = if cfg!(shuttle) {
    2
} else if cfg!(test) {
    4
} else {
    64
};

/// A slot nobody holds.
const FREE: u64 = u64::MAX;

/// What a slot says before its epoch is known: "older than all".
const EPOCH_UNKNOWN: u64 = 0;

#[derive(Debug)]
struct Slot {
    ts: AtomicU64,
    epoch: AtomicU64,
}

/// The registry.
#[derive(Debug)]
pub(crate) struct Pins {
    slots: Vec<Padded<Slot>>,
    overflow: Mutex<Overflow>,
    floor: Padded<AtomicU64>,
    /// A watermark computed some time ago: never above the true one.
    watermark: AtomicU64,
    epoch: Padded<AtomicU64>,
}

#[derive(Debug, Default)]
struct Overflow {
    next: u64,
    pins: BTreeMap<u64, (u64, u64)>,
}

/// A place in the registry. Must be given back with [`Pins::release`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Registration {
    Slot(usize),
    Overflow(u64),
}

impl Pins {
    pub(crate) fn new() -> Pins {
        let slot =
            || Padded(Slot { ts: AtomicU64::new(FREE), epoch: AtomicU64::new(EPOCH_UNKNOWN) });
        Pins {
            slots: (0..SLOTS).map(|_| slot()).collect(),
            overflow: Mutex::new(Overflow::default()),
            floor: Padded(AtomicU64::new(0)),
            watermark: AtomicU64::new(0),
            epoch: Padded(AtomicU64::new(EPOCH_UNKNOWN + 1)),
        }
    }

    /// Registers a pin at `ts`, or returns the floor that has passed it.
    pub(crate) fn register(&self, ts: Timestamp) -> Result<Registration, Timestamp> {
        let registration = self.publish(ts);
        let floor = self.floor();
        if floor <= ts {
            return Ok(registration);
        }
        self.release(registration);
        Err(floor)
    }

    fn publish(&self, ts: Timestamp) -> Registration {
        // `FREE` is taken; a pin one below it holds nothing back either.
        let ts = ts.raw().min(FREE - 1);
        let hint = slot_hint();
        for turn in 0..SLOTS {
            let at = hint.wrapping_add(turn) % SLOTS;
            let slot = &self.slots[at].0;
            if slot.ts.load(Ordering::Relaxed) == FREE
                && slot.ts.compare_exchange(FREE, ts, Ordering::SeqCst, Ordering::Relaxed).is_ok()
            {
                slot.epoch.store(self.epoch.0.load(Ordering::SeqCst), Ordering::Release);
                return Registration::Slot(at);
            }
        }
        let mut overflow = self.overflow.lock();
        let id = overflow.next;
        overflow.next += 1;
        overflow.pins.insert(id, (ts, self.epoch.0.load(Ordering::SeqCst)));
        Registration::Overflow(id)
    }

    /// Gives a place back.
    pub(crate) fn release(&self, registration: Registration) {
        match registration {
            Registration::Slot(at) => {
                let slot = &self.slots[at].0;
                slot.epoch.store(EPOCH_UNKNOWN, Ordering::Relaxed);
                slot.ts.store(FREE, Ordering::Release);
                set_slot_hint(at);
            }
            Registration::Overflow(id) => {
                self.overflow.lock().pins.remove(&id);
            }
        }
    }

    pub(crate) fn floor(&self) -> Timestamp {
        Timestamp::from_raw(self.floor.0.load(Ordering::SeqCst))
    }

    pub(crate) fn raise_floor(&self, ts: Timestamp) {
        self.floor.0.fetch_max(ts.raw(), Ordering::SeqCst);
    }

    /// Computes the watermark and keeps it for [`Pins::cached_watermark`].
    pub(crate) fn watermark(&self) -> Timestamp {
        let floor = self.floor.0.load(Ordering::SeqCst);
        let slots = self.slots.iter().map(|slot| slot.0.ts.load(Ordering::SeqCst));
        let oldest = slots.fold(floor, u64::min);
        let overflow = self.overflow.lock();
        let oldest = overflow.pins.values().fold(oldest, |oldest, pin| oldest.min(pin.0));
        drop(overflow);
        self.watermark.fetch_max(oldest, Ordering::Relaxed);
        Timestamp::from_raw(oldest)
    }

    /// Returns a watermark that was right some time ago, hence may be too low, never too high.
    pub(super) fn cached_watermark(&self) -> Timestamp {
        Timestamp::from_raw(self.watermark.load(Ordering::Relaxed))
    }

    /// Ends the current epoch and returns it: the tag of all that was unlinked up to now.
    pub(super) fn end_epoch(&self) -> u64 {
        self.epoch.0.fetch_add(1, Ordering::SeqCst)
    }

    /// Returns the epoch of the oldest pin, or the current one. What is tagged with an earlier one
    /// may be freed.
    pub(super) fn oldest_epoch(&self) -> u64 {
        // The current epoch comes first: what is tagged after this line was not unlinked yet when
        // the slots are looked at, so a pin that is missed here might still find it.
        let current = self.epoch.0.load(Ordering::SeqCst);
        let taken = self.slots.iter().filter(|slot| slot.0.ts.load(Ordering::SeqCst) != FREE);
        let oldest = taken.map(|slot| slot.0.epoch.load(Ordering::Acquire)).fold(current, u64::min);
        let overflow = self.overflow.lock();
        overflow.pins.values().fold(oldest, |oldest, pin| oldest.min(pin.1))
    }

    /// Returns the number of pins held.
    #[cfg(all(test, not(shuttle)))]
    pub(super) fn held(&self) -> usize {
        let slots = self.slots.iter().filter(|slot| slot.0.ts.load(Ordering::SeqCst) != FREE);
        slots.count() + self.overflow.lock().pins.len()
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    fn ts(raw: u64) -> Timestamp {
        Timestamp::from_raw(raw)
    }

    #[test]
    fn the_oldest_pin_holds_the_watermark_back() {
        let pins = Pins::new();
        let old = pins.register(ts(5)).unwrap();
        let young = pins.register(ts(9)).unwrap();
        pins.raise_floor(ts(7));
        assert_eq!(pins.watermark(), ts(5));
        pins.release(old);
        assert_eq!(pins.watermark(), ts(7));
        pins.release(young);
        assert_eq!(pins.register(ts(6)), Err(ts(7)));
        assert_eq!(pins.held(), 0);
    }

    #[test]
    fn pins_beyond_the_slots_count_too() {
        let pins = Pins::new();
        let many: Vec<_> = (10..110).map(|raw| pins.register(ts(raw)).unwrap()).collect();
        pins.raise_floor(ts(1000));
        assert_eq!(pins.held(), 100);
        for (n, registration) in many.into_iter().enumerate() {
            assert_eq!(pins.watermark(), ts(10 + n as u64));
            assert_eq!(pins.oldest_epoch(), 1);
            pins.release(registration);
        }
        assert_eq!(pins.watermark(), ts(1000));
        assert_eq!(pins.oldest_epoch(), 1);
    }

    #[test]
    fn an_epoch_ends_for_later_pins_only() {
        let pins = Pins::new();
        let before = pins.register(ts(1)).unwrap();
        let tag = pins.end_epoch();
        let after = pins.register(ts(1)).unwrap();
        assert!(pins.oldest_epoch() <= tag);
        pins.release(before);
        assert!(pins.oldest_epoch() > tag);
        pins.release(after);
    }
}
