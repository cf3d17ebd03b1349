//! Limits: a log and nothing else, in two ways to make its bytes durable.
//!
//! Both write into a file filled with zeros beforehand, so that no commit changes the file's size
//! or extents and the journal of the file system stays out of it:
//! * `raw fdatasync`: buffered `pwrite`, then `fdatasync`;
//! * `raw direct`: `pwrite` on a descriptor opened with `O_DIRECT | O_DSYNC`, each group in whole
//!   blocks of its own.
//!
//! One committer is the bare loop of write and sync. Many committers form groups: whoever finds no
//! leader leads, and writes all that queued while the last group was syncing. A leader first wakes
//! one of the next group to lead, then those it served, each by its own parking spot: waking all
//! waiters through one condition variable doubles the latency at 64 threads. With lanes instead of
//! threads one thread writes a record of every lane, syncs once and acknowledges them all: no
//! database can do better on this disk.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};

use crate::lane::Lane;
use crate::peer::{Peer, Role};
use crate::store::{Change, Durability, Reader, Result, Row, Session, Setup, Store};

pub(crate) const FDATASYNC: Peer = Peer {
    name: "raw fdatasync",
    role: Role::LogLimit,
    settings: "pwrite + fdatasync into zero-filled space, grouped",
    open: |setup| open(setup, false),
};

pub(crate) const DIRECT: Peer = Peer {
    name: "raw direct",
    role: Role::LogLimit,
    settings: "pwrite with O_DIRECT and O_DSYNC into zero-filled space, grouped",
    open: |setup| open(setup, true),
};

/// The log wraps around here; large enough that the wrap is rare.
const LOG_BYTES: u64 = 64 << 20;
/// The alignment that direct I/O wants on every common file system.
const BLOCK_BYTES: usize = 4096;
/// One group at most; 64 committers need a seventh of it.
const GROUP_BYTES_MAX: usize = 1 << 16;

/// A buffer that direct I/O accepts.
#[repr(align(4096))]
struct Aligned([u8; GROUP_BYTES_MAX]);

struct Log {
    file: File,
    direct: bool,
    durability: Durability,
    queue: Mutex<Queue>,
    /// The number of the last durable record; records are numbered from one in queue order.
    durable: AtomicU64,
    fsyncs: AtomicU64,
}

struct Queue {
    bytes: Vec<u8>,
    queued: u64,
    /// The committers of the queued records, asleep or about to be.
    waiting: Vec<Thread>,
    /// Where the next group goes, and the buffer it goes from; a leader takes both away.
    tail: Option<Tail>,
}

struct Tail {
    offset: u64,
    buffer: Box<Aligned>,
    group: Vec<u8>,
}

fn open(setup: &Setup<'_>, direct: bool) -> Result<Box<dyn Store>> {
    let path = setup.dir.join("log");
    let mut file = File::create(&path)?;
    let zeros = vec![0; 1 << 20];
    for _ in 0..LOG_BYTES / zeros.len() as u64 {
        file.write_all(&zeros)?;
    }
    file.sync_all()?;
    let mut options = OpenOptions::new();
    options.write(true);
    if direct {
        options.custom_flags(nix::libc::O_DIRECT | nix::libc::O_DSYNC);
    }
    let tail =
        Tail { offset: 0, buffer: Box::new(Aligned([0; GROUP_BYTES_MAX])), group: Vec::new() };
    Ok(Box::new(Log {
        file: options.open(&path)?,
        direct,
        durability: setup.durability,
        queue: Mutex::new(Queue {
            bytes: Vec::new(),
            queued: 0,
            waiting: Vec::new(),
            tail: Some(tail),
        }),
        durable: AtomicU64::new(0),
        fsyncs: AtomicU64::new(0),
    }))
}

impl Log {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes all that is queued durable and wakes whom it concerns.
    fn lead(&self, mut queue: MutexGuard<'_, Queue>, mut tail: Tail) -> Result<()> {
        std::mem::swap(&mut queue.bytes, &mut tail.group);
        let served = std::mem::take(&mut queue.waiting);
        let last = queue.queued;
        drop(queue);
        let written = self.write_group(&mut tail);
        self.durable.store(last, Ordering::Release);
        let mut queue = self.queue();
        queue.tail = Some(tail);
        let next_leader = queue.waiting.first().cloned();
        drop(queue);
        next_leader.iter().chain(&served).for_each(Thread::unpark);
        written
    }

    /// Writes a group and makes it durable.
    fn write_group(&self, tail: &mut Tail) -> Result<()> {
        let bytes = tail.group.len();
        let space = tail.buffer.0.get_mut(..bytes).ok_or("a group outgrew its buffer")?;
        space.copy_from_slice(&tail.group);
        let padded = if self.direct { bytes.next_multiple_of(BLOCK_BYTES) } else { bytes };
        if tail.offset + padded as u64 > LOG_BYTES {
            tail.offset = 0;
        }
        let write = tail.buffer.0.get(..padded).ok_or("a group outgrew its buffer")?;
        self.file.write_all_at(write, tail.offset)?;
        if !self.direct && self.durability == Durability::Sync {
            self.file.sync_data()?;
        }
        tail.offset += padded as u64;
        tail.group.clear();
        self.fsyncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn encode(group: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    group.extend_from_slice(key);
    group.extend_from_slice(value);
}

impl Store for Log {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(self))
    }

    fn fsyncs(&self) -> Option<u64> {
        Some(self.fsyncs.load(Ordering::Relaxed))
    }

    fn commits_in_flight(&self, mut lanes: Vec<Lane>) -> Option<Result<Vec<Lane>>> {
        let mut tail = self.queue().tail.take()?;
        loop {
            let mut running = 0;
            for lane in &mut lanes {
                if let Some((key, value)) = lane.next_put() {
                    encode(&mut tail.group, key, value);
                    running += 1;
                }
            }
            if running == 0 {
                return Some(Ok(lanes));
            }
            if let Err(error) = self.write_group(&mut tail) {
                return Some(Err(error));
            }
            // A lane that had just ended is acknowledged too: its window is over, so that counts
            // for nothing.
            lanes.iter_mut().for_each(Lane::acknowledge);
        }
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

impl Session for &Log {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut queue = self.queue();
        encode(&mut queue.bytes, key, value);
        queue.queued += 1;
        let ticket = queue.queued;
        queue.waiting.push(thread::current());
        loop {
            if let Some(tail) = queue.tail.take() {
                // Nobody leads, and this record is still queued: a leader that had taken it away
                // would have made it durable before it gave the tail back.
                return self.lead(queue, tail);
            }
            drop(queue);
            thread::park();
            if self.durable.load(Ordering::Acquire) >= ticket {
                return Ok(());
            }
            queue = self.queue();
        }
    }

    fn write_batch(&mut self, _rows: &[(&[u8], &[u8])]) -> Result<()> {
        Err(NOT_A_STORE.into())
    }

    fn delete(&mut self, _key: &[u8]) -> Result<()> {
        Err(NOT_A_STORE.into())
    }

    fn get(&mut self, _key: &[u8], _value: &mut Vec<u8>) -> Result<bool> {
        Err(NOT_A_STORE.into())
    }

    fn reader(&mut self) -> Result<Box<dyn Reader + '_>> {
        Err(NOT_A_STORE.into())
    }

    fn scan(&mut self, _from: &[u8], _limit: usize, _row: Row<'_>) -> Result<usize> {
        Err(NOT_A_STORE.into())
    }

    fn read_modify_write(&mut self, _key: &[u8], _change: Change<'_>) -> Result<u64> {
        Err(NOT_A_STORE.into())
    }
}

const NOT_A_STORE: &str = "the bare log only commits";
