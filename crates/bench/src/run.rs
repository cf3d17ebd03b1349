//! Runs one cell on one store and says what it cost. A process does this once: the child that
//! [`crate::child`] starts.

use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::cell::{Begin, Cell, OVERWRITE_ROUNDS, Workload};
use crate::evict::Evictor;
use crate::lane::{Lane, Outcome, Window};
use crate::options::Options;
use crate::peer::{Peer, Role};
use crate::prepare::{load, open, warm};
use crate::random::Zipfian;
use crate::records::{Values, key};
use crate::store::{Access, Durability, Result, Session, Setup, Store};
use crate::usage::{Memory, Meter, Reading, Space, disk_bytes};
use crate::{operate, prepare};

/// What one run of one cell on one store came to.
pub(crate) struct Measured {
    pub(crate) outcome: Outcome,
    /// What the thread that writes beside the readers did.
    pub(crate) writer: Option<Outcome>,
    pub(crate) used: Reading,
    /// Bytes written when what the cell caused was done with, too.
    pub(crate) written_bytes_settled: Option<u64>,
    /// Bytes that the device was sent, until everything that is left of the cell was on it.
    pub(crate) device_written_bytes: Option<u64>,
    pub(crate) memory: Memory,
    pub(crate) disk: Space,
    pub(crate) records: u64,
    /// Bytes of keys and values that the store holds at the end, if that is known.
    pub(crate) live_bytes: Option<u64>,
}

/// How often a store's directory and memory are looked at.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(50);

/// How often the end of the cell is looked for, and the page cache emptied if it is to be cold.
const TICK: Duration = Duration::from_millis(10);

/// Runs a cell.
pub(crate) struct Runner<'a> {
    pub(crate) options: &'a Options,
    pub(crate) cell: Cell,
    peer: &'a Peer,
    /// The store's directory.
    dir: &'a Path,
    meter: Meter,
    /// Of the cell; see [`Workload::records`].
    pub(crate) records: u64,
    pub(crate) zipfian: Zipfian,
    values: Values,
}

impl<'a> Runner<'a> {
    pub(crate) fn new(
        options: &'a Options,
        cell: Cell,
        peer: &'a Peer,
        dir: &'a Path,
    ) -> Runner<'a> {
        let asked = match cell.workload.begin() {
            Begin::Cold => options.cold_records(),
            _ => options.records,
        };
        let records = cell.workload.records(asked);
        Runner {
            options,
            cell,
            peer,
            dir,
            meter: Meter::new(dir),
            records,
            zipfian: Zipfian::new(records.max(2), Zipfian::YCSB_THETA),
            values: Values::new(options.seed, cell.workload.value_bytes(), options.compressible),
        }
    }

    /// Runs the cell; `None` if the store has no such operation. `prefix` leads back to this
    /// program, for the child that is killed.
    pub(crate) fn run(&self, prefix: &[&str]) -> Result<Option<Measured>> {
        match self.cell.workload {
            Workload::OpenAfterKill => {
                prepare::load_and_kill(prefix, self.options, self.cell, self.peer, self.dir)?;
                self.reopen(true).map(Some)
            }
            Workload::OpenClean => self.reopen(false).map(Some),
            Workload::Commits | Workload::CommitsAsync => self.commit(),
            Workload::Fill(..) | Workload::LargeFill(_) => self.fill().map(Some),
            Workload::Overwrite | Workload::LargeOverwrite(_) => self.overwrite().map(Some),
            Workload::Queue => self.queue().map(Some),
            Workload::Mixed => self.mixed().map(Some),
            _ => self.on_loaded().map(Some),
        }
    }

    fn setup(&self) -> Setup<'a> {
        let begin = self.cell.workload.begin();
        let large =
            matches!(self.cell.workload, Workload::LargeFill(_) | Workload::LargeOverwrite(_));
        let is_scan = matches!(self.cell.workload, Workload::Scan(_) | Workload::ScanAll(_));
        Setup {
            dir: self.dir,
            durability: Durability::None,
            memory_bytes: match begin {
                Begin::Cold => self.options.cold_memory_bytes(),
                _ => self.options.memory_bytes(),
            },
            access: match begin {
                Begin::Hot => Access::Read,
                Begin::Cold if is_scan => Access::ColdRanges,
                Begin::Cold => Access::ColdPoints,
                Begin::Empty | Begin::HotCopy | Begin::Closed => Access::Write,
            },
            large_values: large,
        }
    }

    fn commit(&self) -> Result<Option<Measured>> {
        let store = open(self.peer, &Setup { durability: Durability::Sync, ..self.setup() })?;
        let lanes = self.timed_lanes(self.cell.width);
        let measured = match self.cell.workload {
            Workload::CommitsAsync => {
                self.measure(&*store, None, lanes, |lanes| store.commits_in_flight(lanes))?
            }
            _ => self.measure(&*store, None, lanes, |lanes| {
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

    fn fill(&self) -> Result<Measured> {
        let store = open(self.peer, &self.setup())?;
        let mut measured = self.on_one_thread(&*store, self.records, &|session, lane| {
            operate::fill(self.cell.workload, session, lane, self.records)
        })?;
        measured.live_bytes = Some(measured.outcome.total.bytes);
        self.settle(&*store, &mut measured)?;
        store.close()?;
        Ok(measured)
    }

    fn overwrite(&self) -> Result<Measured> {
        let store = open(self.peer, &self.setup())?;
        let batch = self.cell.workload.batch();
        let large = self.cell.workload != Workload::Overwrite;
        let load_batch = if large { batch } else { prepare::LOAD_BATCH };
        let mut values = self.values.clone();
        load(&mut *store.session()?, self.records, load_batch, &mut values)?;
        let (before, measured) = OVERWRITE_ROUNDS;
        let mut warming = self.lane(self.counted(before * self.records), u64::MAX);
        warming.begin();
        operate::overwrite(batch, &mut *store.session()?, &mut warming, self.records)?;
        // What the store has written so far is not to reach the device on this account.
        prepare::sync_files(self.dir)?;
        let mut measured =
            self.on_one_thread(&*store, measured * self.records, &|session, lane| {
                operate::overwrite(batch, session, lane, self.records)
            })?;
        measured.live_bytes = Some(self.records * self.values.row_bytes());
        self.settle(&*store, &mut measured)?;
        store.close()?;
        Ok(measured)
    }

    fn queue(&self) -> Result<Measured> {
        let store = open(self.peer, &self.setup())?;
        let mut measured = self.on_one_thread(&*store, self.records, &|session, lane| {
            operate::queue(session, lane, self.records)
        })?;
        self.settle(&*store, &mut measured)?;
        store.close()?;
        Ok(measured)
    }

    fn mixed(&self) -> Result<Measured> {
        let store = self.open_loaded()?;
        warm(&mut *store.session()?, self.records, true)?;
        let lanes = self.timed_lanes(self.cell.width + 1);
        let measured = self.measure(&*store, None, lanes, |mut lanes| {
            let writer = lanes.pop()?;
            Some(operate::mixed(&*store, lanes, writer, self))
        })?;
        store.close()?;
        measured.ok_or_else(|| "reads always run".into())
    }

    fn on_loaded(&self) -> Result<Measured> {
        let setup = self.setup();
        // Before the store is opened, which may well map what is to be evicted.
        let evictor = match setup.is_cold() {
            true => Some(Evictor::new(self.dir, setup.memory_bytes)?),
            false => None,
        };
        let store = self.open_loaded()?;
        if evictor.is_none() && self.peer.role != Role::MemoryLimit {
            let points = matches!(self.cell.workload, Workload::Get(_) | Workload::GetView);
            let ycsb = matches!(self.cell.workload, Workload::Ycsb(_) | Workload::ReadModifyWrite);
            warm(&mut *store.session()?, self.records, points || ycsb)?;
        }
        let operation = operate::on_loaded(self);
        let lanes = self.timed_lanes(self.cell.width);
        let measured = self.measure(&*store, evictor, lanes, |lanes| {
            Some(on_threads(&*store, lanes, &operation))
        })?;
        store.close()?;
        let mut measured = measured.ok_or("reads always run")?;
        measured.live_bytes = Some(self.records * self.values.row_bytes());
        Ok(measured)
    }

    fn open_loaded(&self) -> Result<Box<dyn Store>> {
        let store = open(self.peer, &self.setup())?;
        if self.peer.role == Role::MemoryLimit {
            let mut values = self.values.clone();
            load(&mut *store.session()?, self.records, prepare::LOAD_BATCH, &mut values)?;
        }
        Ok(store)
    }

    fn reopen(&self, was_killed: bool) -> Result<Measured> {
        let mut value = Vec::new();
        let mut memory = Memory::reset();
        let before = self.meter.read(None);
        let mut lane = self.lane(Window::once(), 0);
        let store = open(self.peer, &Setup { durability: Durability::Sync, ..self.setup() })?;
        let found = store.session()?.get(&key(self.records - 1), &mut value)?;
        lane.done(crate::lane::Done::READ);
        memory.look();
        let used = self.meter.read(None).since(before);
        // Every acknowledged record must have survived; a sample of them is looked at.
        let mut session = store.session()?;
        for _ in 0..self.records.min(10_000) {
            let number = lane.random.below(self.records);
            if !found || !session.get(&key(number), &mut value)? {
                let what = if was_killed { "kill" } else { "close" };
                return Err(format!("an acknowledged record was lost in the {what}").into());
            }
        }
        drop(session);
        let bytes = disk_bytes(self.dir)?;
        store.close()?;
        Ok(Measured {
            outcome: Outcome::of(&[lane]),
            writer: None,
            used,
            written_bytes_settled: None,
            device_written_bytes: None,
            memory,
            disk: Space { bytes, peak_bytes: bytes, settled_bytes: None },
            records: self.records,
            live_bytes: Some(self.records * self.values.row_bytes()),
        })
    }

    /// Runs one lane whose work is counted, on one thread.
    fn on_one_thread(
        &self,
        store: &dyn Store,
        ops_max: u64,
        drive: &(dyn Fn(&mut dyn Session, &mut Lane) -> Result<()> + Sync),
    ) -> Result<Measured> {
        let lanes = vec![self.lane(self.counted(ops_max), 0)];
        let measured =
            self.measure(store, None, lanes, |lanes| Some(on_threads(store, lanes, drive)))?;
        measured.ok_or_else(|| "a thread always runs".into())
    }

    /// Runs lanes on threads of `drive`, and reads the meters when the warm-up ends and at the end.
    /// The last lane is that of a writer, if there are more than the cell is wide.
    fn measure(
        &self,
        store: &dyn Store,
        mut evictor: Option<Evictor>,
        lanes: Vec<Lane>,
        drive: impl FnOnce(Vec<Lane>) -> Option<Result<Vec<Lane>>> + Send,
    ) -> Result<Option<Measured>> {
        let measured_from = lanes.first().map_or_else(Instant::now, Lane::measured_from);
        let mut disk = Space::default();
        let (lanes, used, memory) = thread::scope(|scope| {
            // A driver that has nothing to drive ends at once, and so does the wait for it.
            let driver = scope.spawn(|| drive(lanes));
            let mut evict = || evictor.as_mut().map_or(Ok(()), Evictor::tick);
            while Instant::now() < measured_from && !driver.is_finished() {
                thread::sleep(TICK.min(measured_from.saturating_duration_since(Instant::now())));
                evict()?;
            }
            let mut memory = Memory::reset();
            let before = self.meter.read(Some(store));
            let mut next_sample = Instant::now();
            while !driver.is_finished() {
                thread::sleep(TICK);
                evict()?;
                if Instant::now() >= next_sample {
                    next_sample += SAMPLE_INTERVAL;
                    memory.look();
                    disk.peak_bytes = disk.peak_bytes.max(disk_bytes(self.dir)?);
                }
            }
            let lanes = driver.join().map_err(|_| "a thread of the cell panicked")?;
            let used = self.meter.read(Some(store)).since(before);
            memory.look();
            Ok::<_, crate::store::Error>((lanes, used, memory))
        })?;
        let Some(mut lanes) = lanes.transpose()? else { return Ok(None) };
        let writer = lanes.split_off(self.cell.width.min(lanes.len()));
        disk.bytes = disk_bytes(self.dir)?;
        disk.peak_bytes = disk.peak_bytes.max(disk.bytes);
        Ok(Some(Measured {
            outcome: Outcome::of(&lanes),
            writer: (!writer.is_empty()).then(|| Outcome::of(&writer)),
            used,
            written_bytes_settled: None,
            device_written_bytes: None,
            memory,
            disk,
            records: self.records,
            live_bytes: None,
        }))
    }

    /// Waits until what the cell caused is done with, and adds what that wrote and freed.
    fn settle(&self, store: &dyn Store, measured: &mut Measured) -> Result<()> {
        let before = self.meter.read(Some(store));
        store.settle()?;
        prepare::sync_files(self.dir)?;
        let used = self.meter.read(Some(store)).since(before);
        let written = measured.used.written_bytes.zip(used.written_bytes);
        measured.written_bytes_settled = written.map(|(during, after)| during + after);
        let device = measured.used.device_written_bytes.zip(used.device_written_bytes);
        measured.device_written_bytes = device.map(|(during, after)| during + after);
        measured.disk.settled_bytes = Some(disk_bytes(self.dir)?);
        Ok(())
    }

    fn timed_lanes(&self, count: usize) -> Vec<Lane> {
        let length = Duration::from_secs_f64(self.options.seconds);
        let ops_max = self.options.ops.unwrap_or(u64::MAX).div_ceil(self.cell.width as u64);
        let window = Window::timed(self.warm_up(), length, ops_max);
        (0..count).map(|lane| self.lane(window, lane as u64 + 1)).collect()
    }

    /// A cold cell also has to fill the cache that it was given, from the disk.
    fn warm_up(&self) -> Duration {
        let asked = self.options.warm_up;
        let cold = match self.setup().is_cold() && asked > 0.0 {
            true => self.options.cold_memory_bytes() as f64 / COLD_FILL_BYTES_PER_S,
            false => 0.0,
        };
        Duration::from_secs_f64(asked.max(cold.min(COLD_WARM_UP_S_MAX)))
    }

    fn counted(&self, ops_max: u64) -> Window {
        let asked = self.options.ops.unwrap_or(u64::MAX);
        Window::counted(asked.min(ops_max), Duration::from_secs_f64(self.options.patience))
    }

    fn lane(&self, window: Window, number: u64) -> Lane {
        let seed = self.options.seed ^ (u64::from(self.options.run) << 32) ^ (number << 16);
        Lane::new(window, seed, self.records, self.values.clone())
    }
}

/// What random reads of 4 KiB bring in a second, on a slow day.
const COLD_FILL_BYTES_PER_S: f64 = 40e6;

/// Longer than this nobody waits for a cache to fill.
const COLD_WARM_UP_S_MAX: f64 = 5.0;

/// Runs lanes on a thread each.
pub(crate) fn on_threads(
    store: &dyn Store,
    lanes: Vec<Lane>,
    drive: &(dyn Fn(&mut dyn Session, &mut Lane) -> Result<()> + Sync),
) -> Result<Vec<Lane>> {
    thread::scope(|scope| {
        let run = |mut lane: Lane| {
            scope.spawn(move || {
                let mut session = store.session()?;
                lane.begin();
                drive(&mut *session, &mut lane)?;
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

/// Removes a directory that may not be there.
pub(crate) fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
