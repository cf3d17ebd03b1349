//! Real threads: writers move money between accounts, readers check that the sum is right at
//! every timestamp, a collector throws away what it may. Bounded in operations, not in time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use base::KeyRange;
use parking_lot::Mutex;

use super::super::{Direction, Memtable, Pin, Tombstones};
use super::{key, ts};
use crate::Value;

const ACCOUNTS: usize = 300;
const SUM: u64 = ACCOUNTS as u64 * 100;

/// A clock that makes a timestamp visible when all before it are.
struct Bank {
    table: Memtable,
    visible: AtomicU64,
    /// Balances and the next timestamp: the commit order.
    state: Mutex<(Vec<u64>, u64)>,
    done: Mutex<BTreeMap<u64, ()>>,
}

impl Bank {
    fn new() -> Bank {
        let table = Memtable::in_chunks(5);
        let writer = table.pin_writer();
        for account in 0..ACCOUNTS {
            writer.insert(&key(account), ts(1), Value::Put(&balance(100, account)));
        }
        drop(writer);
        Bank {
            table,
            visible: AtomicU64::new(1),
            state: Mutex::new((vec![100; ACCOUNTS], 2)),
            done: Mutex::new(BTreeMap::new()),
        }
    }

    /// Moves everything from one account to another; an empty account is a deleted key.
    fn transfer(&self, from: usize, to: usize) {
        let (at, balances) = {
            let mut state = self.state.lock();
            let amount = state.0[from];
            state.0[from] -= amount;
            state.0[to] += amount;
            state.1 += 1;
            (state.1 - 1, [(from, state.0[from]), (to, state.0[to])])
        };
        let writer = self.table.pin_writer();
        for (account, amount) in balances {
            let bytes = balance(amount, account);
            let value = if amount == 0 { Value::Tombstone } else { Value::Put(&bytes) };
            writer.insert(&key(account), ts(at), value);
        }
        drop(writer);
        let mut done = self.done.lock();
        done.insert(at, ());
        let mut visible = self.visible.load(Ordering::SeqCst);
        while done.remove(&(visible + 1)).is_some() {
            visible += 1;
        }
        self.visible.store(visible, Ordering::SeqCst);
    }

    fn pin(&self) -> Pin<&Memtable> {
        self.table.pin_newest(|| ts(self.visible.load(Ordering::SeqCst)))
    }

    fn check(pin: &Pin<&Memtable>, direction: Direction) {
        let mut sum = 0;
        let mut last: Option<&[u8]> = None;
        for row in pin.scan(b"", None, direction) {
            let rising = last.is_none_or(|last| match direction {
                Direction::Forward => last < row.key,
                Direction::Reverse => last > row.key,
            });
            assert!(rising, "rows are out of order");
            assert!(row.ts <= pin.ts());
            assert_eq!(pin.get(row.key), Some((row.ts, row.value)), "the indexes disagree");
            sum += amount(row.value);
            last = Some(row.key);
        }
        assert_eq!(sum, SUM, "the accounts at {} do not add up", pin.ts());
    }
}

/// A balance, followed by filling that makes some values embedded and others not.
fn balance(amount: u64, account: usize) -> Vec<u8> {
    let mut bytes = amount.to_le_bytes().to_vec();
    bytes.resize(8 + account * 7 % 400, amount as u8);
    bytes
}

fn amount(value: &[u8]) -> u64 {
    let amount =
        u64::from_le_bytes(*value.first_chunk().expect("every value begins with a balance"));
    assert!(value[8..].iter().all(|&byte| byte == amount as u8), "a value was torn");
    amount
}

fn numbers(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    }
}

#[test]
fn the_accounts_add_up_at_every_timestamp() {
    let bank = Bank::new();
    let running = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let (bank, running) = (&bank, &running);
        let writers: Vec<_> = (0..3)
            .map(|thread| {
                scope.spawn(move || {
                    let mut number = numbers(thread);
                    for _ in 0..20_000 {
                        let (from, to) = (number(ACCOUNTS), number(ACCOUNTS));
                        if from != to {
                            bank.transfer(from, to);
                        }
                    }
                })
            })
            .collect();
        for thread in 0..3 {
            scope.spawn(move || {
                let mut kept: Vec<Pin<&Memtable>> = Vec::new();
                let mut number = numbers(100 + thread);
                while running.load(Ordering::Relaxed) {
                    let pin = bank.pin();
                    Bank::check(&pin, Direction::Forward);
                    kept.push(pin);
                    if kept.len() > 5 {
                        let old = kept.swap_remove(number(6));
                        Bank::check(&old, Direction::Reverse);
                    }
                }
            });
        }
        scope.spawn(move || {
            while running.load(Ordering::Relaxed) {
                bank.table.raise_floor(ts(bank.visible.load(Ordering::SeqCst)));
                bank.table.collect();
            }
        });
        scope.spawn(move || {
            // Conflict checks and histories look at versions of any age.
            while running.load(Ordering::Relaxed) {
                let pin = bank.pin();
                for history in pin.versions(&KeyRange::all()) {
                    let newest = history.versions().map(|version| version.ts).next();
                    // An older one may be a tombstone that was collected since the leaf was copied.
                    if newest > Some(pin.ts()) {
                        assert!(pin.newest(history.key) >= newest);
                    }
                }
                pin.newest_in_range(b"", None, pin.ts());
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        running.store(false, Ordering::Relaxed);
    });
    let Bank { mut table, visible, .. } = bank;
    table.raise_floor(ts(visible.into_inner()));
    table.collect();
    assert_eq!(table.collect().waiting, 0);
    table.check_invariants();
}

#[test]
fn keys_come_and_go_under_scans() {
    // Each thread owns every fourth key, inserts and deletes it in turn; others always exist.
    const KEYS: usize = 1200;
    let mut table = Memtable::in_chunks(6);
    for n in (0..KEYS).step_by(4) {
        table.pin_writer().insert(&key(n), ts(1), Value::Put(b"here"));
    }
    let clock = AtomicU64::new(2);
    let running = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let (table, clock, running) = (&table, &clock, &running);
        let writers: Vec<_> = (1..4)
            .map(|thread| {
                scope.spawn(move || {
                    let mut number = numbers(thread as u64);
                    for round in 0..10 {
                        let (from, len) = (number(KEYS / 4), number(KEYS / 4));
                        for value in [Value::Put(b"there"), Value::Tombstone] {
                            for n in 0..len {
                                let n = (from + n) % (KEYS / 4) * 4 + thread;
                                let at = ts(clock.fetch_add(1, Ordering::SeqCst));
                                assert!(table.pin_writer().insert(&key(n), at, value), "{round}");
                            }
                        }
                    }
                })
            })
            .collect();
        scope.spawn(move || {
            while running.load(Ordering::Relaxed) {
                table.raise_floor(ts(clock.load(Ordering::SeqCst) - 1));
                table.collect();
            }
        });
        for direction in [Direction::Forward, Direction::Reverse] {
            scope.spawn(move || {
                while running.load(Ordering::Relaxed) {
                    let pin = table.pin_writer();
                    let rows = pin.scan(b"", None, direction);
                    let always = rows.filter(|row| row.value == b"here").count();
                    assert_eq!(always, KEYS / 4, "a key that always exists was missed");
                }
            });
        }
        for writer in writers {
            writer.join().unwrap();
        }
        running.store(false, Ordering::Relaxed);
    });
    table.raise_floor(ts(clock.into_inner()));
    table.collect();
    table.check_invariants();
    assert_eq!(table.len(), KEYS / 4);
    assert_eq!(table.collect().waiting, 0);
}

#[test]
fn writers_of_one_key_agree_with_the_scan() {
    // All threads insert the same new keys. Whoever returns must find the key in a scan.
    let mut table = Memtable::new(8, Tombstones::Dropped);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let table = &table;
            scope.spawn(move || {
                for n in 0..3000 {
                    let pin = table.pin_writer();
                    assert!(pin.insert(&key(n), ts(1 + thread), Value::Put(&[1; 8])));
                    let row = pin.scan(&key(n), None, Direction::Forward).next();
                    assert_eq!(row.map(|row| row.key), Some(&key(n)[..]));
                }
            });
        }
    });
    table.check_invariants();
    assert_eq!(table.len(), 3000);
    let pin = table.pin(ts(1)).unwrap();
    assert!(pin.versions(&KeyRange::all()).all(|history| history.versions().count() == 4));
}
