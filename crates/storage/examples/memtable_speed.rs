//! Measures the memtable: operations per second on a table of a million keys of 16 bytes with
//! values of 128, on one thread and on two.
//!
//! `cargo run --release -p storage --example memtable_speed [keys [part of a name]]`

#![expect(clippy::disallowed_methods, reason = "a measurement needs a clock")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base::Timestamp;
use storage::Value;
use storage::memtable::{Direction, Memtable, Tombstones};

const VALUE: [u8; 128] = [7; 128];
const ROWS: usize = 100;

fn main() {
    let keys: usize =
        std::env::args().nth(1).and_then(|keys| keys.parse().ok()).unwrap_or(1_000_000);
    let key = |n: u64| -> [u8; 16] {
        // Scattered over the whole range, the same for the same number.
        let high = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut key = [0; 16];
        key[..8].copy_from_slice(&(high ^ high >> 29).to_be_bytes());
        key[8..].copy_from_slice(&n.to_be_bytes());
        key
    };
    let at = |raw: usize| Timestamp::from_raw(raw as u64);
    let mut sorted: Vec<_> = (0..keys as u64).map(key).collect();
    sorted.sort_unstable();

    let mut table = Memtable::new(42, Tombstones::Dropped);
    let alone = |name: &str, f: &mut dyn FnMut()| report(name, 1, keys, || timed(f));
    alone("bulk load, sorted", &mut || {
        let mut load = table.bulk_load(keys);
        sorted.iter().for_each(|key| load.push(key, at(1), Value::Put(&VALUE)));
        load.finish();
    });
    let mut table = Some(table);
    alone("replay of new random keys", &mut || {
        let mut replay = table.take().expect("runs once").replay();
        for n in keys..2 * keys {
            replay.insert(&key(n as u64), at(1), Value::Put(&VALUE));
        }
        table = Some(replay.finish());
    });
    let table = table.expect("the replay gave it back");
    println!("{:>12} bytes per key", table.memory_bytes() / table.len());
    let time = Instant::now();
    drop(table);
    println!("{:>12.3} s to drop it", time.elapsed().as_secs_f64());

    for threads in [1, 2] {
        let table = Memtable::new(42, Tombstones::Dropped);
        let clock = AtomicUsize::new(1);
        let share = keys / threads;
        let run = |name: &str, ops: usize, f: &(dyn Fn(usize) + Sync)| {
            let wanted = std::env::args().nth(2).is_none_or(|part| name.contains(&part));
            if !wanted && !name.starts_with("insert") {
                return;
            }
            report(name, threads, ops * threads, || {
                std::thread::scope(|scope| {
                    let run = |thread| timed(|| f(thread));
                    let handles: Vec<_> =
                        (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
                    handles.into_iter().map(|handle| handle.join().expect("no panic")).sum()
                })
            });
        };
        run("insert new random keys", share, &|thread| {
            for n in thread * share..(thread + 1) * share {
                let ts = at(clock.fetch_add(1, Ordering::Relaxed));
                table.pin_writer().insert(&key(n as u64), ts, Value::Put(&VALUE));
            }
        });
        let reads = |pinned_once: bool| {
            let (table, clock) = (&table, &clock);
            move |thread: usize| {
                let now = || at(clock.load(Ordering::Relaxed));
                let kept = table.pin_newest(now);
                let mut random = Random(thread as u64 + 1);
                let mut bytes = 0;
                for _ in 0..keys {
                    let key = key(random.below(keys));
                    if pinned_once {
                        bytes += kept.get(&key).map_or(0, |found| usize::from(found.1[100]));
                    } else {
                        let pin = table.pin_newest(now);
                        bytes += pin.get(&key).map_or(0, |found| usize::from(found.1[100]));
                    }
                }
                assert_eq!(bytes, 7 * keys);
            }
        };
        run("get, one pin", keys, &reads(true));
        run("get, a pin for each", keys, &reads(false));
        run("get, a pin for each, 10 k hot keys", keys, &|thread| {
            let now = || at(clock.load(Ordering::Relaxed));
            let mut random = Random(thread as u64 + 1);
            for _ in 0..keys {
                let pin = table.pin_newest(now);
                assert!(pin.get(&key(random.below(10_000.min(keys)))).is_some());
            }
        });
        run("get, absent", keys, &|thread| {
            let pin = table.pin_writer();
            for n in 0..keys {
                assert!(pin.get(&key((n + (5 + thread) * keys) as u64)).is_none());
            }
        });
        for direction in [Direction::Forward, Direction::Reverse] {
            let scans = 100_000;
            let name = format!("scan {ROWS} rows into one buffer, {direction:?}");
            run(&name, scans, &|thread| {
                let mut random = Random(thread as u64 + 1);
                let mut rows = 0;
                let mut buffer = Vec::new();
                for _ in 0..scans {
                    let pin = table.pin_newest(|| at(clock.load(Ordering::Relaxed)));
                    let start = &sorted[random.below(keys) as usize];
                    buffer.clear();
                    let (start, end) = match direction {
                        Direction::Forward => (&start[..], None),
                        Direction::Reverse => (&[][..], Some(&start[..])),
                    };
                    for row in pin.scan(start, end, direction).take(ROWS) {
                        buffer.extend_from_slice(row.key);
                        buffer.extend_from_slice(row.value);
                        rows += 1;
                    }
                }
                assert!(rows > scans * ROWS / 2);
            });
        }
        run("scan 100 rows into boxes, Forward", 100_000, &|thread| {
            let mut random = Random(thread as u64 + 1);
            let mut rows: Vec<[Box<[u8]>; 2]> = Vec::new();
            for _ in 0..100_000 {
                let pin = table.pin_newest(|| at(clock.load(Ordering::Relaxed)));
                let start = &sorted[random.below(keys) as usize];
                rows.clear();
                let scan = pin.scan(start, None, Direction::Forward).take(ROWS);
                rows.extend(scan.map(|row| [row.key.into(), row.value.into()]));
            }
        });
        run("overwrite random keys", keys, &|thread| {
            let mut random = Random(thread as u64 + 9);
            for n in 0..keys {
                let ts = at(clock.fetch_add(1, Ordering::Relaxed));
                let key = key(random.below(keys));
                table.pin_writer().insert(&key, ts, Value::Put(&VALUE));
                if n % 1024 == 0 {
                    table.raise_floor(at(clock.load(Ordering::Relaxed).saturating_sub(10_000)));
                }
            }
        });
        table.raise_floor(at(clock.load(Ordering::Relaxed)));
        let time = Instant::now();
        let collected = table.collect();
        println!("{:>12.3} s to collect: {collected:?}", time.elapsed().as_secs_f64());
        run("get, one pin, after overwriting", keys, &reads(true));
        run("pin and unpin", 10 * keys, &|_| {
            for _ in 0..10 * keys {
                drop(table.pin_newest(|| at(clock.load(Ordering::Relaxed))));
            }
        });
    }
}

/// Prints operations per second and thread: by the clock on the wall, and by the time the threads
/// had a processor, which says more on a machine that others use too.
fn report(name: &str, threads: usize, ops: usize, f: impl FnOnce() -> Duration) {
    let time = Instant::now();
    let busy = f().as_secs_f64();
    let wall = time.elapsed().as_secs_f64();
    let rate = ops as f64 / threads as f64 / wall;
    let busy_rate = ops as f64 / busy;
    println!("{rate:>12.0} /s wall {busy_rate:>12.0} /s busy   x {threads}  {name}");
}

/// Runs `f` and returns how long this thread had a processor meanwhile (or how long it took, where
/// the system does not say).
fn timed(f: impl FnOnce()) -> Duration {
    let busy = || {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        Some(Duration::from_nanos(stat.split_whitespace().next()?.parse().ok()?))
    };
    let (time, before) = (Instant::now(), busy());
    f();
    match (before, busy()) {
        (Some(before), Some(after)) => after - before,
        _ => time.elapsed(),
    }
}

/// splitmix64: the same numbers on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound as u64
    }
}
