//! What goes wrong, when: each kind of fault has its own source of chance and its own next time.
//!
//! What is left when a fault was not allowed (a second disk may not rot while the first one is not
//! replaced, say) is nothing: it is tried again later.

use env::SeededRandom;
use raft::Role;

use super::clock::{DRIFT_PPM_MAX, MS, SECOND, Time};
use super::faults::Fault;
use super::machine::End;
use super::network::NODES_MAX;
use super::node::{Node, NodeId, NodeInput};
use super::run::{Event, World};
use super::trace::Who;

/// How often the operator looks whether a node that was given up has to be replaced, in
/// microseconds.
const MEND_MICROS: u64 = SECOND;

/// Voters there may be in the end, by changes of the membership.
const VOTERS_MAX: usize = 7;

/// Returns the rate of a clock: microseconds in a second of the world.
pub(crate) fn draw_rate(random: &mut SeededRandom, intensity: u64) -> u64 {
    // Some ten millionths are usual and no fault.
    let off = 50 + (DRIFT_PPM_MAX - 50) * intensity / 1000;
    SECOND - off + random.below(2 * off + 1)
}

impl<N: Node> World<N> {
    pub(crate) fn schedule_faults(&mut self) {
        for fault in self.intensities.present().iter() {
            self.schedule_fault(fault);
        }
        self.queue.push(Time(MEND_MICROS), Event::Mend);
    }

    fn schedule_fault(&mut self, fault: Fault) {
        let happens_by_itself =
            matches!(fault, Fault::Loss | Fault::Duplicate | Fault::Reorder | Fault::SlowDisk);
        if !happens_by_itself {
            let seconds = 21 - 20 * self.intensities.of(fault) / 1000;
            let after = 300 * MS + self.chances[fault as usize].below(seconds * SECOND);
            self.queue.push(self.now.after(after), Event::Fault(fault));
        }
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        if self.is_calm {
            return;
        }
        let mut random = self.chances[fault as usize].clone();
        self.make(fault, &mut random);
        self.chances[fault as usize] = random;
        self.schedule_fault(fault);
    }

    fn make(&mut self, fault: Fault, random: &mut SeededRandom) {
        let count = self.machines.len();
        let node = random.below(count as u64) as usize;
        let now = self.now;
        match fault {
            Fault::Loss | Fault::Duplicate | Fault::Reorder | Fault::SlowDisk => {}
            Fault::SlowLink => {
                self.network.slow_links(count, random);
                self.trace.line(now, Who::World, || "= some links are slow".to_owned());
            }
            Fault::Partition => {
                let what = self.network.partition(count, random);
                self.trace.line(now, Who::World, || format!("= partition: {what}"));
                self.queue.push(now.after(200 * MS + random.below(6 * SECOND)), Event::Heal);
            }
            Fault::Kill => self.end(node, End::Kill, random.below(3 * SECOND)),
            Fault::Power => {
                let within = random.below(12);
                if self.machines[node].node.is_some() && within > 4 {
                    self.machines[node].arm_stop(within - 4);
                } else {
                    self.end(node, End::Power, random.below(3 * SECOND));
                }
            }
            Fault::Blackout => {
                for node in 0..count {
                    self.end(node, End::Power, random.below(2 * SECOND));
                }
            }
            Fault::Pause => {
                let until = now.after(random.below(4 * SECOND));
                self.machines[node].paused_until = until;
                self.trace.line(now, Who::Node(node), || format!("= stands still until {until}"));
            }
            Fault::Drift => {
                let rate = draw_rate(random, self.intensities.of(Fault::Drift));
                self.machines[node].clock.set_rate(now, rate);
            }
            Fault::WallJump => {
                // Ten years back, thirty forward: whatever an operator mistypes.
                let year_ms = 365 * 24 * 3600 * 1000;
                let jump = random.below(40 * year_ms) as i64 - 10 * year_ms as i64;
                let is_small = random.chance(500);
                self.machines[node].wall_offset_ms = if is_small { jump >> 24 } else { jump };
            }
            Fault::BadWrite => {
                self.machines[node].arm_bad_write(random.below(5));
                self.trace.line(now, Who::Node(node), || "= a write will fail".to_owned());
            }
            Fault::FullDisk => {
                self.machines[node].fill_disk(4096 * random.below(3));
                self.trace.line(now, Who::Node(node), || "= its disk is nearly full".to_owned());
                let after = random.below(5 * SECOND);
                self.queue.push(now.after(after), Event::FreeDisk { node });
            }
            Fault::Rot => {
                if N::READS_ALL_AT_OPEN && self.may_lose_a_disk() {
                    let bits = self.machines[node].rot();
                    self.trace
                        .line(now, Who::Node(node), || format!("= {bits} bits of its disk rot"));
                    self.end(node, End::Kill, random.below(SECOND));
                }
            }
            Fault::Membership => self.change(random),
            Fault::Transfer => {
                if let Some(leader) = self.leader() {
                    let to = raft::ReplicaId(random.below(count as u64) + 1);
                    self.trace.line(now, Who::Node(leader), || format!("-> transfer to n{to}"));
                    self.step(leader, NodeInput::Transfer(to));
                }
            }
        }
    }

    /// Returns the node that leads in the newest term, if it runs.
    pub(crate) fn leader(&self) -> Option<usize> {
        let running = self.machines.iter().enumerate();
        let rafts =
            running.filter_map(|(at, machine)| machine.node.as_ref().map(|n| (at, n.raft())));
        let leaders = rafts.filter(|(_, raft)| raft.role() == Role::Leader);
        leaders.max_by_key(|(_, raft)| raft.term()).map(|(at, _)| at)
    }

    /// A disk may be lost for good if the others are a majority by themselves, in whatever
    /// configuration is or may come to be in force.
    fn may_lose_a_disk(&self) -> bool {
        let mut configs = self.machines.iter().map(|machine| {
            let node = machine.node.as_ref().filter(|_| !machine.is_rotten && !machine.is_dead);
            node.map(|node| node.raft().current_config().1)
        });
        let Some(Some(first)) = configs.next() else { return false };
        let are_same = configs.all(|config| config == Some(first));
        are_same && !first.is_joint() && first.voters.len() >= 3
    }

    /// Changes the membership in some way. The protocol refuses what cannot be.
    fn change(&mut self, random: &mut SeededRandom) {
        let Some(leader) = self.leader() else { return };
        let Some(node) = self.machines[leader].node.as_ref() else { return };
        let config = node.raft().current_config().1;
        if config.members().iter().any(|id| self.machines[id.0 as usize - 1].is_dead) {
            return;
        }
        let (mut voters, mut learners) = (config.voters.clone(), config.learners.clone());
        let highest = config.highest_id;
        for _ in 0..1 + random.below(2) {
            match random.below(4) {
                0 => learners.extend(self.new_node(highest).filter(|id| !learners.contains(id))),
                1 if !learners.is_empty() && voters.len() < VOTERS_MAX => {
                    voters.append(&mut learners);
                }
                2 if voters.len() > 1 => {
                    let id = voters.remove(random.below(voters.len() as u64) as usize);
                    if random.chance(400) {
                        learners.push(id);
                    }
                }
                3 if !learners.is_empty() => {
                    learners.remove(random.below(learners.len() as u64) as usize);
                }
                _ => {}
            }
        }
        voters.truncate(VOTERS_MAX);
        self.ask_for_change(leader, voters, learners);
    }

    fn ask_for_change(&mut self, leader: usize, voters: Vec<NodeId>, learners: Vec<NodeId>) {
        self.trace.line(self.now, Who::Node(leader), || {
            format!("-> change to voters {} learners {}", ids(&voters), ids(&learners))
        });
        self.step(leader, NodeInput::Change { voters, learners });
    }

    /// Returns a node that never took part: one that waits, or one that is made for it.
    fn new_node(&mut self, highest: NodeId) -> Option<NodeId> {
        let count = self.machines.len();
        let waiting = (highest.0 as usize..count).find(|at| self.machines[*at].node.is_some());
        match waiting {
            Some(at) => Some(raft::ReplicaId(at as u64 + 1)),
            None if count < NODES_MAX => Some(self.add_machine()),
            None => None,
        }
    }

    /// What an operator does about a node that was given up: put a new one in its place.
    pub(crate) fn mend(&mut self) {
        self.queue.push(self.now.after(MEND_MICROS), Event::Mend);
        let Some(leader) = self.leader() else { return };
        let Some(node) = self.machines[leader].node.as_ref() else { return };
        let config = node.raft().current_config().1.clone();
        let lives = |id: &NodeId| !self.machines[id.0 as usize - 1].is_dead;
        if config.is_joint() || config.members().iter().all(lives) {
            return;
        }
        let mut voters: Vec<_> = config.voters.iter().copied().filter(lives).collect();
        let mut learners: Vec<_> = config.learners.iter().copied().filter(lives).collect();
        let round = self.now.0 / MEND_MICROS;
        if learners.is_empty() {
            // Added first, so that it can catch up; the dead one leaves when this one votes.
            voters = config.voters.clone();
            learners.extend(self.new_node(config.highest_id));
        } else if !round.is_multiple_of(4) {
            voters.append(&mut learners);
        }
        self.ask_for_change(leader, voters, learners);
    }
}

fn ids(ids: &[NodeId]) -> String {
    let ids: Vec<_> = ids.iter().map(|id| format!("n{id}")).collect();
    if ids.is_empty() { "none".to_owned() } else { ids.join(" ") }
}
