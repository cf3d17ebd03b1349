//! One machine: a disk, clocks, and the process that runs on them now.

use std::io::ErrorKind;

use env::{CrashMode, Disk, ManualClock, SeededRandom, SimDisk};

use super::clock::{DriftingClock, MS, SECOND, Time};
use super::faults::stream;
use super::node::{Node, NodeInput, NodeOutput, Ticket};

/// Where wall clocks begin, in milliseconds since 1970.
const WALL_MS_START: u64 = 1_700_000_000_000;

/// How long a sync takes, in microseconds: a disk that protects its cache, a good one, a slow one.
const SYNCS_MICROS: [u64; 3] = [80, 400, 4_000];

pub(crate) struct Machine<N> {
    pub(crate) node: Option<N>,
    /// Counts processes: what was meant for an earlier one is not for this one.
    pub(crate) life: u32,
    pub(crate) disk: SimDisk,
    pub(crate) wall: ManualClock,
    pub(crate) wall_offset_ms: i64,
    pub(crate) clock: DriftingClock,
    /// When the next tick is due that is in the queue.
    pub(crate) tick_at: Time,
    pub(crate) paused_until: Time,
    /// Whether the disk works, and up to which ticket it was asked to.
    pub(crate) is_disk_busy: bool,
    pub(crate) asked: Option<Ticket>,
    /// A write was made to fail, or the machine to stop at one; whether it did is not known.
    pub(crate) is_write_bad: bool,
    pub(crate) is_stop_armed: bool,
    pub(crate) is_full: bool,
    pub(crate) is_rotten: bool,
    /// It was given up: its disk forgot something. Another node takes its place.
    pub(crate) is_dead: bool,
    pub(crate) random: SeededRandom,
    sync_micros: u64,
}

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The process alone: the system keeps what it was given.
    Kill,
    /// The machine: what was not synced is lost, or torn, or all there.
    Power,
}

impl<N: Node> Machine<N> {
    pub(crate) fn new(seed: u64, index: usize, now: Time, rate: u64) -> Machine<N> {
        let mut random = stream(seed, 1000 + index as u64);
        let shows = Time(random.below(1000 * SECOND));
        let sync_micros = SYNCS_MICROS[random.below(3) as usize];
        Machine {
            node: None,
            life: 0,
            disk: SimDisk::new(),
            wall: ManualClock::new(WALL_MS_START),
            wall_offset_ms: 0,
            clock: DriftingClock::new(now, shows, rate),
            tick_at: Time(u64::MAX),
            paused_until: Time(0),
            is_disk_busy: false,
            asked: None,
            is_write_bad: false,
            is_stop_armed: false,
            is_full: false,
            is_rotten: false,
            is_dead: false,
            random,
            sync_micros,
        }
    }

    /// Returns how long the next write takes, on a disk that is slow to a degree.
    pub(crate) fn draw_sync(&mut self, slowness: u64) -> u64 {
        let usual = self.sync_micros / 2 + self.random.below(self.sync_micros);
        let stalls = slowness > 0 && self.random.chance(1 + slowness / 20);
        if stalls { usual + self.random.below(800 * MS) } else { usual + usual * slowness / 100 }
    }

    /// Sets the wall clock right, or as wrong as it is.
    pub(crate) fn set_wall(&self, now: Time) {
        let ms = WALL_MS_START + now.0 / MS;
        self.wall.set(ms.saturating_add_signed(self.wall_offset_ms));
    }

    /// Ends the process. What it was about to write may be written, in part or whole.
    pub(crate) fn end(&mut self, end: End, now: Time, out: &mut Vec<NodeOutput>) {
        let Some(mut node) = self.node.take() else { return };
        self.life += 1;
        // What was going to stop the machine stops it now: it would be forgotten otherwise.
        let end = if self.is_stop_armed { End::Power } else { end };
        let local = self.clock.shows(now);
        let draw = self.random.below(4);
        if let Some(ticket) = self.asked.filter(|_| draw > 0 && !self.disk.is_stopped()) {
            if end == End::Power && draw > 1 {
                self.disk.stop_at(self.disk.operations() + self.random.below(3));
            }
            node.step(local, NodeInput::DiskWork(ticket), out);
            out.clear();
        }
        drop(node);
        if end == End::Power || self.disk.is_stopped() {
            let mode = match self.random.below(4) {
                0 => CrashMode::LoseUnsynced,
                1 => CrashMode::KeepUnsynced,
                _ => CrashMode::Torn(self.random.next_u64()),
            };
            self.disk = self.disk.crash(mode);
            // A machine that starts anew has a clock that starts anew.
            let shows = Time(self.random.below(1000 * SECOND));
            let rate = self.clock.shows(now.after(SECOND)).since(local);
            self.clock = DriftingClock::new(now, shows, rate);
            self.is_write_bad = false;
        }
        self.is_stop_armed = false;
        self.tick_at = Time(u64::MAX);
        self.paused_until = Time(0);
        self.is_disk_busy = false;
        self.asked = None;
    }

    /// Lets one of the next writes fail, and not be tried again.
    pub(crate) fn arm_bad_write(&mut self, within: u64) {
        self.is_write_bad = true;
        let kind = ErrorKind::Other;
        self.disk.fail_at(self.disk.operations() + within, kind);
    }

    /// Lets the power fail at one of the next operations of the disk.
    pub(crate) fn arm_stop(&mut self, within: u64) {
        self.is_stop_armed = true;
        self.disk.stop_at(self.disk.operations() + within);
    }

    pub(crate) fn fill_disk(&mut self, free_bytes: u64) {
        self.is_full = true;
        self.disk.set_capacity_bytes(self.disk.allocated_bytes() + free_bytes);
    }

    pub(crate) fn free_disk(&mut self) {
        self.is_full = false;
        self.disk.set_capacity_bytes(u64::MAX);
    }

    /// Changes some bits of what is on the disk. Returns how many.
    pub(crate) fn rot(&mut self) -> u64 {
        let files: Vec<_> = self.disk.files().into_iter().filter(|(_, len)| *len > 0).collect();
        if files.is_empty() {
            return 0;
        }
        self.is_rotten = true;
        let bits = 1 + self.random.below(3);
        for _ in 0..bits {
            let (path, len) = &files[self.random.below(files.len() as u64) as usize];
            let (offset, bit) = (self.random.below(*len), self.random.below(8) as u8);
            self.disk.flip_bit(path, offset, bit).expect("the file has that byte");
        }
        bits
    }

    /// Returns true if an error of the process may come from what was done to the disk.
    pub(crate) fn may_fail(&self) -> bool {
        self.is_write_bad || self.is_full
    }

    pub(crate) fn shared_disk(&self) -> std::sync::Arc<dyn Disk> {
        std::sync::Arc::new(self.disk.clone())
    }
}
