//! Runs one cell on one store and says what it cost.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::cell::{Cell, LOAD_BATCH, SCAN_ROWS, Workload};
use crate::lane::{Lane, Outcome, Window};
use crate::options::Options;
use crate::peer::{Peer, Role};
use crate::random::{Random, Zipfian};
use crate::records::{FIRST, VALUE_BYTES, count_up, fill_value, key};
use crate::store::{Durability, Result, Session, Setup, Store};
use crate::usage::{Meter, Reading, disk_bytes};

/// What one run of one cell on one store came to.
pub(crate) struct Measured {
    pub(crate) outcome: Outcome,
    pub(crate) used: Reading,
    pub(crate) disk_bytes: u64,
}

/// Runs cells; holds what they share.
pub(crate) struct Runner<'a> {
    options: &'a Options,
    /// Arguments that bring this program back to this library, for the child that is killed.
    prefix: &'a [&'a str],
    root: PathBuf,
    meter: Meter,
    zipfian: Zipfian,
}

impl<'a> Runner<'a> {
    pub(crate) fn new(options: &'a Options, prefix: &'a [&'a str], root: &Path) -> Runner<'a> {
        Runner {
            options,
            prefix,
            root: root.to_path_buf(),
            meter: Meter::new(root),
            zipfian: Zipfian::new(options.records.max(2), Zipfian::YCSB_THETA),
        }
    }

    /// Runs a cell; `None` if the store has no such operation.
    pub(crate) fn run(&self, cell: Cell, peer: &Peer, run: u32) -> Result<Option<Measured>> {
        let begins_empty = cell.workload.begins_empty();
        let keeps_data = !begins_empty || cell.workload == Workload::Load;
        let dir = self.root.join(peer.name).join(if keeps_data { "loaded" } else { "fresh" });
        if begins_empty {
            remove(&dir)?;
        }
        let measured = match cell.workload {
            Workload::OpenAfterKill => self.open_after_kill(peer, &dir, run).map(Some),
            Workload::Load => self.load(peer, &dir, run).map(Some),
            Workload::Commits | Workload::CommitsAsync => self.commit(cell, peer, &dir, run),
            _ => self.on_loaded(cell, peer, &dir, run).map(Some),
        };
        if !keeps_data {
            remove(&dir)?;
        }
        measured
    }

    fn open(&self, peer: &Peer, dir: &Path, durability: Durability) -> Result<Box<dyn Store>> {
        open(peer, dir, durability, self.options.memory_bytes())
    }

    fn load(&self, peer: &Peer, dir: &Path, run: u32) -> Result<Measured> {
        let store = self.open(peer, dir, Durability::None)?;
        let mut lane = Lane::new(Window::counted(), self.seed(run, 0), self.options.records);
        let before = self.meter.read(Some(&*store));
        load(&mut *store.session()?, self.options, LOAD_BATCH, &mut |rows| lane.done(rows, 0))?;
        let used = self.meter.read(Some(&*store)).since(before);
        store.settle()?;
        store.close()?;
        Ok(Measured { outcome: Outcome::of(&[lane]), used, disk_bytes: disk_bytes(dir)? })
    }

    fn commit(&self, cell: Cell, peer: &Peer, dir: &Path, run: u32) -> Result<Option<Measured>> {
        let store = self.open(peer, dir, Durability::Sync)?;
        let lanes = self.lanes(cell, run);
        let measured = match cell.workload {
            Workload::CommitsAsync => {
                self.measure(&*store, dir, lanes, |lanes| store.commits_in_flight(lanes))?
            }
            _ => self.measure(&*store, dir, lanes, |lanes| {
                Some(on_threads(&*store, lanes, &|session, lane| {
                    while let Some((key, value)) = lane.next_put() {
                        session.put(key, value)?;
                        lane.acknowledge();
                    }
                    Ok(())
                }))
            })?,
        };
        store.close()?;
        Ok(measured)
    }

    fn on_loaded(&self, cell: Cell, peer: &Peer, dir: &Path, run: u32) -> Result<Measured> {
        let loads = !dir.exists() || peer.role == Role::MemoryLimit;
        let store = self.open(peer, dir, Durability::None)?;
        if loads {
            load(&mut *store.session()?, self.options, LOAD_BATCH, &mut |_| ())?;
        }
        store.settle()?;
        if peer.role != Role::MemoryLimit {
            warm(&mut *store.session()?, self.options.records)?;
        }
        let operation =
            |session: &mut dyn Session, lane: &mut Lane| self.operate(cell, session, lane);
        let measured = self.measure(&*store, dir, self.lanes(cell, run), |lanes| {
            Some(on_threads(&*store, lanes, &operation))
        })?;
        store.close()?;
        measured.ok_or_else(|| "reads always run".into())
    }

    /// Repeats the operation of a cell on a loaded store until the lane ends.
    fn operate(&self, cell: Cell, session: &mut dyn Session, lane: &mut Lane) -> Result<()> {
        let records = self.options.records;
        let mut value = Vec::with_capacity(VALUE_BYTES);
        match cell.workload {
            Workload::Get => lane.repeat(|random| {
                expect(session.get(&key(random.below(records)), &mut value)?, true)
            }),
            Workload::GetView => {
                let mut reader = session.reader()?;
                lane.repeat(|random| {
                    expect(reader.get(&key(random.below(records)), &mut value)?, true)
                })
            }
            Workload::Absent => lane.repeat(|random| {
                expect(session.get(&key(records + random.below(records)), &mut value)?, false)
            }),
            Workload::Scan => lane.repeat(|random| {
                let mut bytes = 0;
                let mut row = |key: &[u8], value: &[u8]| bytes += key.len() + value.len();
                session.scan(&key(random.below(records)), SCAN_ROWS, &mut row)?;
                expect(bytes > 0, true)
            }),
            Workload::ReadModifyWrite => lane.repeat(|random| {
                let key = key(self.zipfian.rank(random));
                session.read_modify_write(&key, &mut count_up)
            }),
            Workload::Load
            | Workload::Commits
            | Workload::CommitsAsync
            | Workload::OpenAfterKill => Err("not a workload on a loaded store".into()),
        }
    }

    /// Runs lanes on threads of `drive` and reads the meter when the warm-up ends and at the end.
    fn measure(
        &self,
        store: &dyn Store,
        dir: &Path,
        lanes: Vec<Lane>,
        drive: impl FnOnce(Vec<Lane>) -> Option<Result<Vec<Lane>>> + Send,
    ) -> Result<Option<Measured>> {
        let warm = Instant::now() + Duration::from_secs_f64(self.options.warm_up);
        let (lanes, used) = thread::scope(|scope| {
            let driver = scope.spawn(|| drive(lanes));
            // A driver that has nothing to drive ends at once, and so does the wait for it.
            while Instant::now() < warm && !driver.is_finished() {
                thread::sleep(Duration::from_millis(5).min(warm - Instant::now()));
            }
            let before = self.meter.read(Some(store));
            let lanes = driver.join().map_err(|_| "a thread of the cell panicked")?;
            Ok::<_, crate::store::Error>((lanes, self.meter.read(Some(store)).since(before)))
        })?;
        let Some(lanes) = lanes.transpose()? else { return Ok(None) };
        Ok(Some(Measured { outcome: Outcome::of(&lanes), used, disk_bytes: disk_bytes(dir)? }))
    }

    fn open_after_kill(&self, peer: &Peer, dir: &Path, run: u32) -> Result<Measured> {
        self.load_and_kill(peer, dir)?;
        let records = self.options.records;
        let mut value = Vec::new();
        let mut lane = Lane::new(Window::counted(), self.seed(run, 0), records);
        let cpu_before = self.meter.read(None);
        let store = self.open(peer, dir, Durability::Sync)?;
        let found = store.session()?.get(&key(records - 1), &mut value)?;
        lane.done(1, 0);
        let used = self.meter.read(None).since(cpu_before);
        // Every acknowledged record must have survived; a sample of them is looked at.
        let mut session = store.session()?;
        for _ in 0..records.min(10_000) {
            let number = lane.random.below(records);
            if !found || !session.get(&key(number), &mut value)? {
                return Err("an acknowledged record was lost in the kill".into());
            }
        }
        drop(session);
        let disk_bytes = disk_bytes(dir)?;
        store.close()?;
        Ok(Measured { outcome: Outcome::of(&[lane]), used, disk_bytes })
    }

    fn load_and_kill(&self, peer: &Peer, dir: &Path) -> Result<()> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(self.prefix).arg("--load-and-wait").arg(peer.name).arg("--dir").arg(dir);
        command.arg("--records").arg(self.options.records.to_string());
        command.arg("--memory").arg(self.options.memory.to_string());
        command.arg("--seed").arg(self.options.seed.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut said = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut said)?;
        }
        // On Unix this is SIGKILL, to the child's own process id.
        child.kill()?;
        child.wait()?;
        if said.trim() == LOADED { Ok(()) } else { Err("the child could not load".into()) }
    }

    fn lanes(&self, cell: Cell, run: u32) -> Vec<Lane> {
        let length = Duration::from_secs_f64(self.options.seconds);
        let ops_max = self.options.ops.unwrap_or(u64::MAX).div_ceil(cell.width as u64);
        let warm_up = Duration::from_secs_f64(self.options.warm_up);
        let window = Window::timed(warm_up, length, ops_max);
        let seed = |lane| self.seed(run, lane as u64 + 1);
        (0..cell.width).map(|lane| Lane::new(window, seed(lane), self.options.records)).collect()
    }

    fn seed(&self, run: u32, lane: u64) -> u64 {
        self.options.seed ^ (u64::from(run) << 32) ^ (lane << 16)
    }
}

/// What the child says once its records are durable.
const LOADED: &str = "loaded";

/// Rows of a durable transaction of the child: few enough syncs that copy-on-write trees do not
/// take minutes.
const DURABLE_LOAD_BATCH: u64 = 10_000;

/// Loads a store durably, says so, and waits for its end: for the signal, or for a parent that
/// has died and so closed the pipe.
pub(crate) fn load_and_wait(options: &Options, peer: &Peer) -> Result<()> {
    let store = open(peer, &options.dir, Durability::Sync, options.memory_bytes())?;
    load(&mut *store.session()?, options, DURABLE_LOAD_BATCH, &mut |_| ())?;
    println!("{LOADED}");
    std::io::stdin().lock().read_line(&mut String::new())?;
    Ok(())
}

fn open(peer: &Peer, dir: &Path, durability: Durability, memory: usize) -> Result<Box<dyn Store>> {
    fs::create_dir_all(dir)?;
    (peer.open)(&Setup { dir, durability, memory_bytes: memory })
}

fn load(
    session: &mut dyn Session,
    options: &Options,
    batch: u64,
    loaded: &mut dyn FnMut(u64),
) -> Result<()> {
    let mut random = Random::new(options.seed);
    let mut value = [0; VALUE_BYTES];
    for start in (0..options.records).step_by(batch as usize) {
        let numbers = start..options.records.min(start + batch);
        let rows: Vec<_> = numbers
            .map(|number| {
                fill_value(&mut random, &mut value);
                (key(number).to_vec(), value.to_vec())
            })
            .collect();
        session.write_batch(&rows)?;
        loaded(rows.len() as u64);
    }
    Ok(())
}

/// Reads everything once, so that the first cell does not pay for the cold cache.
fn warm(session: &mut dyn Session, records: u64) -> Result<()> {
    let rows = session.scan(FIRST, records as usize, &mut |_, _| ())?;
    if rows as u64 == records { Ok(()) } else { Err(format!("{rows} rows of {records}").into()) }
}

fn on_threads(
    store: &dyn Store,
    lanes: Vec<Lane>,
    drive: &(dyn Fn(&mut dyn Session, &mut Lane) -> Result<()> + Sync),
) -> Result<Vec<Lane>> {
    thread::scope(|scope| {
        let run = |mut lane: Lane| {
            scope.spawn(move || {
                drive(&mut *store.session()?, &mut lane)?;
                Ok(lane)
            })
        };
        let threads: Vec<_> = lanes.into_iter().map(run).collect();
        let joined = threads.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| Err("a thread of the cell panicked".into()))
        });
        joined.collect()
    })
}

fn expect(found: bool, expected: bool) -> Result<u64> {
    match (found, expected) {
        (true, false) => Err("an absent key was found".into()),
        (false, true) => Err("a loaded key was not found".into()),
        _ => Ok(0),
    }
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
