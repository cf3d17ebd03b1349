//! What happens in one simulated run, drawn from its seed before it begins: how many nodes, which
//! faults and how often, what the clients do.
//!
//! Each run draws a random subset of the faults with random rates ("swarm testing", Groce and
//! others, ISSTA 2012): a run with every fault at once hardly gets anywhere, and some bugs need
//! that one fault is absent.

use std::fmt;
use std::str::FromStr;

use env::SeededRandom;

/// Something that goes wrong, or is done by an operator at a bad moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Messages, requests and answers are lost.
    Loss,
    /// Messages and requests arrive twice.
    Duplication,
    /// Messages take much longer, and overtake each other.
    Delay,
    /// Some nodes do not hear some others, in one direction or in both.
    Partition,
    /// Power is lost: what was not synced is lost, kept or torn.
    Crash,
    /// Power is lost in the middle of an operation of the disk.
    Power,
    /// Syncs take long.
    SlowDisk,
    /// A write or a sync of the disk fails.
    DiskError,
    /// The disk is full for a while.
    DiskFull,
    /// A node stands still for a while, and time does not.
    Pause,
    /// Monotonic clocks run at different rates, within the bound that leases rest on.
    Drift,
    /// Wall clocks jump, as far as they like.
    Jump,
    /// The leadership is handed on.
    Transfer,
    /// Replicas are added and removed.
    Membership,
    /// The past is forgotten.
    Garbage,
    /// Memtables are flushed early.
    Flush,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 16] = [
        Fault::Loss,
        Fault::Duplication,
        Fault::Delay,
        Fault::Partition,
        Fault::Crash,
        Fault::Power,
        Fault::SlowDisk,
        Fault::DiskError,
        Fault::DiskFull,
        Fault::Pause,
        Fault::Drift,
        Fault::Jump,
        Fault::Transfer,
        Fault::Membership,
        Fault::Garbage,
        Fault::Flush,
    ];

    /// Returns its name, as it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Loss => "loss",
            Fault::Duplication => "duplication",
            Fault::Delay => "delay",
            Fault::Partition => "partition",
            Fault::Crash => "crash",
            Fault::Power => "power",
            Fault::SlowDisk => "slow-disk",
            Fault::DiskError => "disk-error",
            Fault::DiskFull => "disk-full",
            Fault::Pause => "pause",
            Fault::Drift => "drift",
            Fault::Jump => "jump",
            Fault::Transfer => "transfer",
            Fault::Membership => "membership",
            Fault::Garbage => "garbage",
            Fault::Flush => "flush",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Fault, String> {
        let found = Fault::ALL.into_iter().find(|fault| fault.name() == text);
        found.ok_or_else(|| {
            let names: Vec<_> = Fault::ALL.iter().map(|fault| fault.name()).collect();
            format!("no fault is called \"{text}\"; there are {}", names.join(", "))
        })
    }
}

/// What clients do, and so by what their history is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Transactions read lists and append to them: shows the most.
    Append,
    /// Transactions read and write registers.
    Register,
    /// Transactions move money between accounts, and some read all of them.
    Bank,
}

impl Workload {
    /// All of them.
    pub const ALL: [Workload; 3] = [Workload::Append, Workload::Register, Workload::Bank];

    /// Returns its name, as it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Workload::Append => "append",
            Workload::Register => "register",
            Workload::Bank => "bank",
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Workload, String> {
        let found = Workload::ALL.into_iter().find(|workload| workload.name() == text);
        found.ok_or_else(|| {
            format!("no workload is called \"{text}\"; there are append, register and bank")
        })
    }
}

/// Nodes that a run may begin with.
pub const NODES_MIN: u64 = 1;
/// More would only be slower: seven survive three that are gone.
pub const NODES_MAX: u64 = 7;

/// What a run may draw from.
#[derive(Debug, Clone)]
pub struct Scope {
    /// The least and the largest number of nodes.
    pub nodes: (u64, u64),
    /// The faults that may be drawn.
    pub faults: Vec<Fault>,
    /// The workload, if it is not to be drawn.
    pub workload: Option<Workload>,
    /// How long faults happen, in virtual milliseconds.
    pub storm_ms: u64,
}

impl Default for Scope {
    fn default() -> Scope {
        Scope { nodes: (3, 7), faults: Fault::ALL.to_vec(), workload: None, storm_ms: 20_000 }
    }
}

/// All that decides a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Decides everything that is not said here.
    pub seed: u64,
    /// Replicas at the beginning.
    pub nodes: u64,
    /// What goes wrong, and how often, from 1 to 1000.
    pub faults: Vec<(Fault, u64)>,
    /// What clients do.
    pub workload: Workload,
    /// Clients.
    pub sessions: u64,
    /// Keys that they share.
    pub keys: u64,
    /// How long faults happen, in virtual milliseconds.
    pub storm_ms: u64,
}

impl Plan {
    /// Draws a plan.
    pub fn draw(seed: u64, scope: &Scope) -> Plan {
        let mut random = SeededRandom::new(seed ^ 0x0077_6f72_6c64);
        let (least, most) = scope.nodes;
        let nodes = least + random.below(most - least + 1);
        let mut faults = Vec::new();
        for fault in Fault::ALL {
            // Drawn whether it is allowed or not, so that leaving one out leaves the others alone.
            let (is_drawn, rate) = (random.chance(450), 1 + random.below(1000));
            if is_drawn && scope.faults.contains(&fault) {
                faults.push((fault, rate));
            }
        }
        let drawn = Workload::ALL[random.below(Workload::ALL.len() as u64) as usize];
        Plan {
            seed,
            nodes,
            faults,
            workload: scope.workload.unwrap_or(drawn),
            sessions: 2 + random.below(7),
            keys: 2 + random.below(6),
            storm_ms: scope.storm_ms,
        }
    }

    /// Returns the rate of a fault, from 0 to 1000.
    pub fn rate(&self, fault: Fault) -> u64 {
        self.faults.iter().find(|(of, _)| *of == fault).map_or(0, |(_, rate)| *rate)
    }

    /// Returns plans that are a little simpler, the simplest first: what to try if this one fails.
    pub fn simpler(&self) -> Vec<Plan> {
        let mut plans = Vec::new();
        let mut also = |change: &dyn Fn(&mut Plan)| {
            let mut plan = self.clone();
            change(&mut plan);
            if plan != *self {
                plans.push(plan);
            }
        };
        also(&|plan| plan.faults.clear());
        for half in [0, 1] {
            also(&|plan| {
                let middle = plan.faults.len() / 2;
                if half == 0 {
                    plan.faults.truncate(middle)
                } else {
                    drop(plan.faults.drain(..middle))
                }
            });
        }
        for at in 0..self.faults.len() {
            also(&|plan| {
                plan.faults.remove(at);
            });
        }
        also(&|plan| plan.storm_ms = plan.storm_ms / 2 + 1);
        also(&|plan| plan.storm_ms = plan.storm_ms * 9 / 10 + 1);
        also(&|plan| plan.sessions = plan.sessions / 2 + 1);
        also(&|plan| plan.keys = plan.keys / 2 + 1);
        also(&|plan| plan.nodes = plan.nodes.min(3));
        plans
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { seed, nodes, workload, sessions, keys, storm_ms, .. } = self;
        write!(f, "seed {seed}: {nodes} nodes, {workload} by {sessions} clients on {keys} keys, ")?;
        write!(f, "{storm_ms} ms of ")?;
        if self.faults.is_empty() {
            return f.write_str("no fault");
        }
        for (at, (fault, rate)) in self.faults.iter().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            write!(f, "{comma}{fault} {rate}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_is_left_out_changes_no_other() {
        for seed in 0..100 {
            let all = Plan::draw(seed, &Scope::default());
            let faults = Fault::ALL[1..].to_vec();
            let fewer = Plan::draw(seed, &Scope { faults, ..Scope::default() });
            let kept: Vec<_> =
                all.faults.iter().copied().filter(|(fault, _)| *fault != Fault::Loss).collect();
            assert_eq!(Plan { faults: kept, ..all }, fewer);
        }
    }

    #[test]
    fn names_are_read_back() {
        assert!(Fault::ALL.iter().all(|fault| fault.name().parse() == Ok(*fault)));
        assert!(Workload::ALL.iter().all(|workload| workload.name().parse() == Ok(*workload)));
        assert!("rain".parse::<Fault>().unwrap_err().contains("partition"));
    }

    #[test]
    fn what_is_simpler_is_never_the_same_and_comes_to_an_end() {
        let mut plan = Plan::draw(3, &Scope::default());
        let mut steps = 0;
        while let Some(simpler) = plan.simpler().pop() {
            assert_ne!(simpler, plan);
            plan = simpler;
            steps += 1;
            assert!(steps < 1000);
            if plan.storm_ms < 20 && plan.faults.is_empty() {
                break;
            }
            if plan.simpler().iter().all(|next| next.storm_ms <= 1) {
                break;
            }
        }
    }
}
