//! The network: it delays, loses, doubles and reorders, and some do not hear some others.
//!
//! ```text
//!             to 1   2   3          cut: a bit for each pair, in each direction
//!   from 1       .   x   .          node 2 does not hear node 1,
//!        2       .   .   .          and node 1 hears node 2
//!        3       .   .   .
//! ```
//!
//! Clients reach a node unless it is cut off from everybody.

use env::SeededRandom;

use super::clock::{MS, SECOND};
use super::faults::{Fault, Intensities, stream};

/// Nodes there may ever be in a world, with those that were removed.
pub(crate) const NODES_MAX: usize = 16;

/// Delays of one way of a message, in microseconds: from the same rack to another continent.
const BASES_MICROS: [u64; 4] = [50, 250, 2_000, 15_000];

pub(crate) struct Network {
    random: SeededRandom,
    base_micros: u64,
    loss: u64,
    duplicate: u64,
    reorder: u64,
    /// `cut[from]` has a bit for each node that does not hear it.
    cut: [u32; NODES_MAX],
    /// What each link takes more, in microseconds.
    slow: [[u32; NODES_MAX]; NODES_MAX],
}

impl Network {
    pub(crate) fn new(seed: u64, intensities: &Intensities) -> Network {
        let mut random = stream(seed, 100);
        Network {
            base_micros: BASES_MICROS[random.below(BASES_MICROS.len() as u64) as usize],
            random,
            // A fifth of all messages at most: with more, hardly anything ever happens.
            loss: intensities.of(Fault::Loss).div_ceil(5),
            duplicate: intensities.of(Fault::Duplicate).div_ceil(5),
            reorder: intensities.of(Fault::Reorder).div_ceil(5),
            cut: [0; NODES_MAX],
            slow: [[0; NODES_MAX]; NODES_MAX],
        }
    }

    /// Ends everything that is a fault.
    pub(crate) fn calm(&mut self) {
        (self.loss, self.duplicate, self.reorder) = (0, 0, 0);
        self.cut = [0; NODES_MAX];
        self.slow = [[0; NODES_MAX]; NODES_MAX];
    }

    /// Returns how long each copy of a message takes; none of a message that is lost.
    pub(crate) fn carry(&mut self, from: usize, to: usize) -> [Option<u64>; 2] {
        if self.cut[from] & (1 << to) != 0 || self.random.chance(self.loss) {
            return [None, None];
        }
        let first = self.delay() + u64::from(self.slow[from][to]);
        let again = self.random.chance(self.duplicate);
        [Some(first), again.then(|| self.delay())]
    }

    /// The same between a client and a node.
    pub(crate) fn carry_for_client(&mut self, node: usize, count: usize) -> Option<u64> {
        let others = ((1u32 << count) - 1) & !(1 << node);
        let is_alone = others != 0 && self.cut[node] & others == others;
        if is_alone || self.random.chance(self.loss) {
            return None;
        }
        Some(self.delay())
    }

    fn delay(&mut self) -> u64 {
        let jitter = self.random.below(self.base_micros);
        let straggles = self.random.chance(self.reorder);
        let late = if straggles { self.random.below(SECOND * 3 / 2) } else { 0 };
        self.base_micros + jitter + late
    }

    pub(crate) fn heal(&mut self) {
        self.cut = [0; NODES_MAX];
    }

    /// Cuts some from some others. Returns what was done, for the trace.
    pub(crate) fn partition(&mut self, count: usize, random: &mut SeededRandom) -> &'static str {
        self.heal();
        let all = (1u32 << count) - 1;
        match random.below(5) {
            0 => {
                let one = 1u32 << random.below(count as u64);
                self.split(count, one, all & !one);
                "one node is alone"
            }
            1 => {
                let side = random.next_u64() as u32 & all;
                self.split(count, side, all & !side);
                "two sides"
            }
            2 => {
                // Both sides reach the one in the middle.
                let middle = 1u32 << random.below(count as u64);
                let side = random.next_u64() as u32 & all & !middle;
                self.split(count, side, all & !side & !middle);
                "two sides and a bridge"
            }
            3 => {
                let side = random.next_u64() as u32 & all;
                for from in (0..count).filter(|from| side & (1 << from) != 0) {
                    self.cut[from] = all & !side;
                }
                "one side is not heard"
            }
            _ => {
                for from in 0..count {
                    self.cut[from] = (random.next_u64() & random.next_u64()) as u32 & all;
                }
                "some are not heard by some"
            }
        }
    }

    fn split(&mut self, count: usize, a: u32, b: u32) {
        for from in 0..count {
            self.cut[from] = match 1 << from {
                bit if a & bit != 0 => b,
                bit if b & bit != 0 => a,
                _ => 0,
            };
        }
    }

    /// Makes some links slow, and all others as they were.
    pub(crate) fn slow_links(&mut self, count: usize, random: &mut SeededRandom) {
        self.slow = [[0; NODES_MAX]; NODES_MAX];
        for from in 0..count {
            for to in 0..count {
                if random.chance(250) {
                    self.slow[from][to] = random.below(400 * MS) as u32;
                }
            }
        }
    }

    /// Returns true if a node hears another one, apart from chance.
    pub(crate) fn hears(&self, to: usize, from: usize) -> bool {
        self.cut[from] & (1 << to) == 0
    }
}
