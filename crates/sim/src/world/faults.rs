//! What can go wrong, and how strongly it does in a run.
//!
//! Each run draws a subset of the faults, and for each of them an intensity (swarm testing: Groce
//! and others, "Swarm testing", ISSTA 2012). A world in which everything goes wrong all the time
//! never gets far enough to be wrong in an interesting way.
//!
//! # Invariants
//! * How strong a fault is depends on the seed and on that fault alone. So the same seed with fewer
//!   faults is the same world without them, for as long as nothing has come out differently.

use std::fmt;
use std::str::FromStr;

use env::SeededRandom;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Messages get lost.
    Loss,
    /// Messages arrive twice.
    Duplicate,
    /// Some messages arrive much later than others.
    Reorder,
    /// Some links are slow.
    SlowLink,
    /// Some nodes do not hear some others, perhaps in one direction only.
    Partition,
    /// A process ends and is started again.
    Kill,
    /// A machine loses its power, at any operation of its disk, and what was not synced with it.
    Power,
    /// All machines lose their power at once.
    Blackout,
    /// A process stands still.
    Pause,
    /// Monotonic clocks run too fast and too slow, within the bound that leases assume.
    Drift,
    /// Wall clocks jump to anything.
    WallJump,
    /// Disks are slow, and now and then much slower.
    SlowDisk,
    /// A write or a sync fails; the process has to end.
    BadWrite,
    /// There is no space left for a while.
    FullDisk,
    /// Bits change on the disk of one node, and its process is started again.
    Rot,
    /// Nodes are added, removed, promoted.
    Membership,
    /// The leadership is handed over.
    Transfer,
}

/// All kinds, in the order of the enumeration.
pub(crate) const ALL: [Fault; 17] = [
    Fault::Loss,
    Fault::Duplicate,
    Fault::Reorder,
    Fault::SlowLink,
    Fault::Partition,
    Fault::Kill,
    Fault::Power,
    Fault::Blackout,
    Fault::Pause,
    Fault::Drift,
    Fault::WallJump,
    Fault::SlowDisk,
    Fault::BadWrite,
    Fault::FullDisk,
    Fault::Rot,
    Fault::Membership,
    Fault::Transfer,
];

impl Fault {
    /// Returns its name, as options and traces use it.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Loss => "loss",
            Fault::Duplicate => "duplicate",
            Fault::Reorder => "reorder",
            Fault::SlowLink => "slow-link",
            Fault::Partition => "partition",
            Fault::Kill => "kill",
            Fault::Power => "power",
            Fault::Blackout => "blackout",
            Fault::Pause => "pause",
            Fault::Drift => "drift",
            Fault::WallJump => "wall-jump",
            Fault::SlowDisk => "slow-disk",
            Fault::BadWrite => "bad-write",
            Fault::FullDisk => "full-disk",
            Fault::Rot => "rot",
            Fault::Membership => "membership",
            Fault::Transfer => "transfer",
        }
    }
}

/// A set of faults, written as their names with `+` or a comma between, or `all`, or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FaultSet(u32);

impl FaultSet {
    /// None of them.
    pub const NONE: FaultSet = FaultSet(0);

    /// All of them.
    pub const ALL: FaultSet = FaultSet((1 << ALL.len()) - 1);

    /// Returns true if a fault is in it.
    pub fn has(self, fault: Fault) -> bool {
        self.0 & (1 << fault as u32) != 0
    }

    /// Returns it with a fault more.
    #[must_use]
    pub fn with(self, fault: Fault) -> FaultSet {
        FaultSet(self.0 | 1 << fault as u32)
    }

    /// Returns it with a fault less.
    #[must_use]
    pub fn without(self, fault: Fault) -> FaultSet {
        FaultSet(self.0 & !(1 << fault as u32))
    }

    /// Returns the faults in it.
    pub fn iter(self) -> impl Iterator<Item = Fault> {
        ALL.into_iter().filter(move |fault| self.has(*fault))
    }
}

impl fmt::Display for FaultSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == FaultSet::ALL || *self == FaultSet::NONE {
            return f.pad(if *self == FaultSet::ALL { "all" } else { "none" });
        }
        let names: Vec<_> = self.iter().map(Fault::name).collect();
        f.pad(&names.join("+"))
    }
}

impl FromStr for FaultSet {
    type Err = String;

    fn from_str(text: &str) -> Result<FaultSet, String> {
        match text {
            "all" => return Ok(FaultSet::ALL),
            "none" => return Ok(FaultSet::NONE),
            _ => {}
        }
        text.split(['+', ',']).try_fold(FaultSet::NONE, |set, name| {
            let known = ALL.into_iter().find(|fault| fault.name() == name);
            known.map(|fault| set.with(fault)).ok_or_else(|| {
                let names = ALL.map(Fault::name).join(", ");
                format!("there is no fault '{name}'; there are: {names}, all, none")
            })
        })
    }
}

/// How strong each fault is in a run, in thousandths; zero is not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Intensities([u64; ALL.len()]);

impl Intensities {
    /// Draws those of a seed. `always`: all of the set are there; otherwise each may be.
    pub(crate) fn draw(seed: u64, set: FaultSet, always: bool) -> Intensities {
        Intensities(ALL.map(|fault| {
            let mut random = stream(seed, fault as u64);
            let is_there = random.chance(500) || always;
            // Squared: weak ones are as interesting as strong ones, and there are more of them.
            let drawn = 1 + random.below(1000);
            if is_there && set.has(fault) { (drawn * drawn / 1000).max(1) } else { 0 }
        }))
    }

    /// Returns how strong a fault is.
    pub(crate) fn of(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }

    /// Returns the faults that are there.
    pub(crate) fn present(&self) -> FaultSet {
        let there = ALL.into_iter().filter(|fault| self.of(*fault) > 0);
        there.fold(FaultSet::NONE, FaultSet::with)
    }
}

/// Returns a source of chance of its own for some part of a world, so that the parts do not draw
/// each other's numbers.
pub(crate) fn stream(seed: u64, part: u64) -> SeededRandom {
    SeededRandom::new(super::digest::mix(super::digest::mix(seed, 0x686f_6c6d), part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_survive_the_way_through_text() {
        for text in ["all", "none", "loss", "loss+rot+transfer"] {
            assert_eq!(text.parse::<FaultSet>().unwrap().to_string(), text);
        }
        assert_eq!("loss,rot".parse(), "rot+loss".parse::<FaultSet>());
        assert!("loss+fire".parse::<FaultSet>().unwrap_err().contains("'fire'"));
        assert!(ALL.iter().enumerate().all(|(at, fault)| at == *fault as usize));
    }

    #[test]
    fn a_fault_less_leaves_the_others_as_strong() {
        for seed in 0..50 {
            let all = Intensities::draw(seed, FaultSet::ALL, false);
            let less = Intensities::draw(seed, all.present().without(Fault::Loss), true);
            for fault in ALL.into_iter().filter(|fault| *fault != Fault::Loss) {
                assert_eq!(all.of(fault), less.of(fault));
            }
        }
    }
}
