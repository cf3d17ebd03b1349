//! Exclusive locks for `get_for_update`, and deadlock detection.
//!
//! Locks keep transactions that know they will write a hot key from wasting work on it.
//! Correctness never depends on them: a commit is validated whatever was locked.
//!
//! ```text
//!   T1 ──waits for──► k2 ──held by──► T2 ──waits for──► k1 ──held by──► T1     a circle
//! ```
//!
//! Each transaction waits for at most one key and each key has one holder, so following the arrows
//! from a new waiter takes one path; if it comes back, the youngest on it is the victim. A waiter
//! that closes no circle can never be part of one until somebody else starts to wait, and then that
//! one's path is followed. Age is the timestamp of a transaction's first attempt: one that is run
//! again grows older and is not chosen for ever.
//!
//! # Invariants
//! * A key has one holder, and waiters only while it has one.
//! * A transaction that waits holds its other locks and waits for nothing else.

use std::collections::{HashMap, VecDeque};

use base::Timestamp;
use bytes::Bytes;
use storage::sync::{Condvar, Mutex, lock, wait};

/// Names one attempt of a transaction within this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId(pub u64);

/// The answer to a request for a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acquired {
    /// The lock is held now.
    Granted,
    /// Somebody holds it; the transaction is in line.
    Waiting,
    /// The request closed a circle of so many transactions, and this one is the youngest.
    Deadlock {
        /// How many transactions stand in the circle.
        parties: usize,
    },
}

/// Who holds and who waits: values in, values out.
#[derive(Default, Debug)]
pub struct LockTable {
    locks: HashMap<Bytes, Lock>,
    parties: HashMap<TransactionId, Party>,
}

#[derive(Debug)]
struct Lock {
    holder: TransactionId,
    waiters: VecDeque<TransactionId>,
}

#[derive(Debug)]
struct Party {
    age: Timestamp,
    held: Vec<Bytes>,
    waits_for: Option<Bytes>,
    /// Set when this one was chosen to break a circle: how many stood in it.
    victim_of: Option<usize>,
}

impl LockTable {
    /// Asks for a key's lock. The second value is the victim to wake, if the request closed a
    /// circle in which another transaction is the youngest.
    pub fn acquire(
        &mut self,
        id: TransactionId,
        age: Timestamp,
        key: &Bytes,
    ) -> (Acquired, Option<TransactionId>) {
        let fresh = || Party { age, held: Vec::new(), waits_for: None, victim_of: None };
        let party = self.parties.entry(id).or_insert_with(fresh);
        let Some(lock) = self.locks.get_mut(key) else {
            party.held.push(key.clone());
            self.locks.insert(key.clone(), Lock { holder: id, waiters: VecDeque::new() });
            return (Acquired::Granted, None);
        };
        if lock.holder == id {
            return (Acquired::Granted, None);
        }
        lock.waiters.push_back(id);
        party.waits_for = Some(key.clone());
        let circle = self.circle_through(id);
        let Some(&victim) = circle.iter().max_by_key(|id| (self.age_of(**id), **id)) else {
            return (Acquired::Waiting, None);
        };
        if victim == id {
            self.cancel(id);
            return (Acquired::Deadlock { parties: circle.len() }, None);
        }
        if let Some(party) = self.parties.get_mut(&victim) {
            party.victim_of = Some(circle.len());
        }
        (Acquired::Waiting, Some(victim))
    }

    /// Returns how a waiting transaction's request stands.
    pub fn poll(&mut self, id: TransactionId) -> Acquired {
        let Some(party) = self.parties.get(&id) else { return Acquired::Granted };
        if let Some(parties) = party.victim_of {
            self.cancel(id);
            return Acquired::Deadlock { parties };
        }
        if party.waits_for.is_some() { Acquired::Waiting } else { Acquired::Granted }
    }

    /// Gives up all locks of a transaction; returns those who hold one of them now.
    pub fn release(&mut self, id: TransactionId) -> Vec<TransactionId> {
        self.cancel(id);
        let Some(party) = self.parties.remove(&id) else { return Vec::new() };
        let mut granted = Vec::new();
        for key in party.held {
            let Some(lock) = self.locks.get_mut(&key) else { continue };
            let Some(next) = lock.waiters.pop_front() else {
                self.locks.remove(&key);
                continue;
            };
            lock.holder = next;
            if let Some(party) = self.parties.get_mut(&next) {
                party.waits_for = None;
                party.held.push(key);
            }
            granted.push(next);
        }
        granted
    }

    /// Returns who holds a key.
    pub fn holder(&self, key: &[u8]) -> Option<TransactionId> {
        self.locks.get(key).map(|lock| lock.holder)
    }

    /// Returns true if nobody holds anything.
    pub fn is_empty(&self) -> bool {
        self.locks.is_empty()
    }

    /// Stops waiting.
    fn cancel(&mut self, id: TransactionId) {
        let Some(party) = self.parties.get_mut(&id) else { return };
        party.victim_of = None;
        let Some(key) = party.waits_for.take() else { return };
        if let Some(lock) = self.locks.get_mut(&key) {
            lock.waiters.retain(|waiter| *waiter != id);
        }
    }

    fn age_of(&self, id: TransactionId) -> Timestamp {
        self.parties.get(&id).map_or(Timestamp::ZERO, |party| party.age)
    }

    /// Returns the transactions on the circle through `id`, or none if its path ends. A victim that
    /// was chosen and has not left yet breaks the path: its circle is broken already.
    fn circle_through(&self, id: TransactionId) -> Vec<TransactionId> {
        let mut path = vec![id];
        let mut at = id;
        loop {
            let next = self
                .parties
                .get(&at)
                .filter(|party| party.victim_of.is_none())
                .and_then(|party| self.locks.get(party.waits_for.as_ref()?))
                .map(|lock| lock.holder);
            match next {
                None => return Vec::new(),
                Some(next) if next == id => return path,
                // A circle further on does not go through `id`; it was found when it closed.
                Some(next) if path.contains(&next) => return Vec::new(),
                Some(next) => {
                    path.push(next);
                    at = next;
                }
            }
        }
    }

    /// Asserts what the header promises.
    pub fn check_invariants(&self) {
        for (key, lock) in &self.locks {
            let holds =
                self.parties.get(&lock.holder).is_some_and(|party| party.held.contains(key));
            assert!(holds, "the holder of {key:?} does not know it");
            for waiter in &lock.waiters {
                let party = self.parties.get(waiter);
                let waits = party.is_some_and(|party| party.waits_for.as_ref() == Some(key));
                assert!(waits, "a waiter of {key:?} does not know it");
            }
        }
    }
}

/// A lock table whose waiters sleep.
#[derive(Default)]
pub struct Locks {
    table: Mutex<LockTable>,
    changed: Condvar,
}

impl Locks {
    /// Takes a key's lock, waiting for those in line before.
    ///
    /// # Errors
    /// The number of transactions in a circle, if there is one and this is its youngest. The other
    /// locks stay held.
    pub fn acquire(
        &self,
        id: TransactionId,
        age: Timestamp,
        key: &Bytes,
    ) -> std::result::Result<(), usize> {
        let mut table = lock(&self.table);
        let (mut acquired, victim) = table.acquire(id, age, key);
        if victim.is_some() {
            self.changed.notify_all();
        }
        loop {
            match acquired {
                Acquired::Granted => return Ok(()),
                Acquired::Deadlock { parties } => return Err(parties),
                Acquired::Waiting => {
                    table = wait(&self.changed, table);
                    acquired = table.poll(id);
                }
            }
        }
    }

    /// Gives up all locks of a transaction.
    pub fn release(&self, id: TransactionId) {
        if !lock(&self.table).release(id).is_empty() {
            self.changed.notify_all();
        }
    }

    /// Returns true if another transaction holds the key.
    pub fn held_by_other(&self, id: TransactionId, key: &[u8]) -> bool {
        lock(&self.table).holder(key).is_some_and(|holder| holder != id)
    }

    /// Returns true if nobody holds anything.
    pub fn is_empty(&self) -> bool {
        lock(&self.table).is_empty()
    }

    /// Returns whom a transaction waits for.
    #[cfg(all(test, not(shuttle)))]
    pub(crate) fn waits_for(&self, id: TransactionId) -> Option<TransactionId> {
        let table = lock(&self.table);
        let party = table.parties.get(&id).filter(|party| party.victim_of.is_none())?;
        table.holder(party.waits_for.as_ref()?)
    }

    /// Asserts what the table promises.
    #[cfg(all(test, not(shuttle)))]
    pub(crate) fn check_invariants(&self) {
        lock(&self.table).check_invariants();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T1: TransactionId = TransactionId(1);
    const T2: TransactionId = TransactionId(2);
    const T3: TransactionId = TransactionId(3);

    fn key(name: &'static str) -> Bytes {
        Bytes::from_static(name.as_bytes())
    }

    /// Asks with an age equal to the number.
    fn ask(table: &mut LockTable, id: TransactionId, name: &'static str) -> Acquired {
        let (acquired, _) = table.acquire(id, Timestamp::from_raw(id.0), &key(name));
        table.check_invariants();
        acquired
    }

    #[test]
    fn a_lock_passes_to_the_first_in_line() {
        let mut table = LockTable::default();
        assert_eq!(ask(&mut table, T1, "k"), Acquired::Granted);
        assert_eq!(ask(&mut table, T1, "k"), Acquired::Granted);
        assert_eq!(ask(&mut table, T2, "k"), Acquired::Waiting);
        assert_eq!(ask(&mut table, T3, "k"), Acquired::Waiting);
        assert_eq!(table.release(T1), [T2]);
        assert_eq!((table.poll(T2), table.poll(T3)), (Acquired::Granted, Acquired::Waiting));
        assert_eq!(table.release(T2), [T3]);
        assert_eq!(table.release(T3), []);
        assert!(table.is_empty());
    }

    #[test]
    fn the_youngest_in_a_circle_of_two_is_the_victim_whoever_closes_it() {
        let mut table = LockTable::default();
        ask(&mut table, T1, "a");
        ask(&mut table, T2, "b");
        assert_eq!(ask(&mut table, T1, "b"), Acquired::Waiting);
        assert_eq!(ask(&mut table, T2, "a"), Acquired::Deadlock { parties: 2 });
        assert_eq!(table.release(T2), [T1]);

        let mut table = LockTable::default();
        ask(&mut table, T1, "a");
        ask(&mut table, T2, "b");
        assert_eq!(ask(&mut table, T2, "a"), Acquired::Waiting);
        let (acquired, victim) = table.acquire(T1, Timestamp::from_raw(1), &key("b"));
        assert_eq!((acquired, victim), (Acquired::Waiting, Some(T2)));
        assert_eq!(table.poll(T2), Acquired::Deadlock { parties: 2 });
        table.release(T2);
        assert_eq!(table.poll(T1), Acquired::Granted);
    }

    #[test]
    fn circles_of_three_to_six_are_found_and_lines_are_not() {
        for parties in 3..=6u64 {
            let names = ["a", "b", "c", "d", "e", "f"];
            let mut table = LockTable::default();
            for n in 0..parties {
                ask(&mut table, TransactionId(n + 1), names[n as usize]);
            }
            for n in 0..parties - 1 {
                let next = names[n as usize + 1];
                assert_eq!(ask(&mut table, TransactionId(n + 1), next), Acquired::Waiting);
            }
            let last = ask(&mut table, TransactionId(parties), "a");
            assert_eq!(last, Acquired::Deadlock { parties: parties as usize });
        }
    }

    #[test]
    fn an_older_attempt_survives_by_its_age() {
        let mut table = LockTable::default();
        let old = Timestamp::from_raw(1);
        let young = Timestamp::from_raw(9);
        table.acquire(T2, old, &key("a"));
        table.acquire(T1, young, &key("b"));
        table.acquire(T1, young, &key("a"));
        let (acquired, victim) = table.acquire(T2, old, &key("b"));
        assert_eq!((acquired, victim), (Acquired::Waiting, Some(T1)));
    }
}
