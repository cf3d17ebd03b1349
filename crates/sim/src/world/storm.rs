//! What goes wrong when: faults that are done to nodes, drawn again and again while the storm lasts,
//! and the end of it.

use std::io::ErrorKind;

use cluster::Request;
use raft::{ReplicaId, Role};

use super::clients::Clients;
use super::{Fault, Node, What, World};

/// Faults are drawn so often, in microseconds.
const DRAW_US: u64 = 50_000;

/// Replicas that may be added in one run: a removed one never comes back under its id.
const ADDED_MAX: u64 = 3;

/// The ids of requests that nobody waits for.
const ADMIN: u64 = u64::MAX;

impl World {
    /// Draws what happens now.
    pub(super) fn storm(&mut self, clients: &Clients) {
        if self.is_calm {
            return;
        }
        self.push(DRAW_US, 0, 0, What::Storm);
        let at = self.random.below(self.nodes.len() as u64) as usize;
        // A fault of rate 1000 happens about twice a second, and of rate 1 hardly ever.
        let happens = |world: &mut World, fault| {
            let rate = world.rate(fault);
            world.random.chance(rate / 10)
        };
        if happens(self, Fault::Partition) {
            self.partition();
        }
        if happens(self, Fault::Crash) && self.nodes[at].replica.is_some() {
            self.crash(at);
            let after_us = 1000 * (1 + self.random.below(2000));
            self.push(after_us, at, 0, What::Restart);
        }
        if happens(self, Fault::Power) && !self.nodes[at].disk.is_stopped() {
            let operation = self.nodes[at].disk.operations() + self.random.below(60);
            self.nodes[at].disk.stop_at(operation);
        }
        if happens(self, Fault::DiskError) {
            let operation = self.nodes[at].disk.operations() + self.random.below(60);
            self.nodes[at].has_bad_disk = true;
            self.nodes[at].disk.fail_at(operation, ErrorKind::Other);
        }
        if happens(self, Fault::DiskFull) {
            let node = &mut self.nodes[at];
            node.has_bad_disk = true;
            node.disk.fail_from(node.disk.operations(), ErrorKind::StorageFull);
            self.note(at, "the disk is full");
        } else if self.nodes[at].has_bad_disk && self.random.chance(200) {
            self.nodes[at].disk.heal();
            self.note(at, "there is space again");
        }
        if happens(self, Fault::Pause) {
            let until = self.now_us + 1000 * (1 + self.random.below(1500));
            self.nodes[at].paused_until = until;
            self.note(at, "stands still");
        }
        if happens(self, Fault::Jump) {
            // An hour either way.
            self.nodes[at].clock.wall_off_ms =
                self.random.below(7_200_000).cast_signed() - 3_600_000;
            self.note(at, "the wall clock jumps");
        }
        if happens(self, Fault::Transfer) {
            let to = self.nodes[self.random.below(self.nodes.len() as u64) as usize].id;
            self.ask(at, ADMIN, &Request::Transfer(to));
        }
        if happens(self, Fault::Membership) {
            self.change();
        }
        if happens(self, Fault::Garbage) {
            self.ask(at, ADMIN, &Request::SetGc(clients.newest()));
        }
        if happens(self, Fault::Flush)
            && let Some(replica) = &mut self.nodes[at].replica
        {
            let mut outputs = Vec::new();
            // One that fails is tried again.
            let _ = replica.flush(&mut outputs);
            outputs.into_iter().for_each(|output| self.take(at, output));
            self.stepped(at);
        }
    }

    fn note(&mut self, at: usize, what: &str) {
        let id = self.nodes[at].id;
        self.trace.line(self.now_us, || format!("n{id}"), "fault", || what.to_string());
    }

    /// Cuts some nodes off, or ends that.
    fn partition(&mut self) {
        self.cut.clear();
        let count = self.nodes.len();
        if self.random.chance(300) {
            return self.trace.line(self.now_us, || "--".into(), "fault", || "all hear all".into());
        }
        self.counts.partitions += 1;
        let side: Vec<bool> = (0..count).map(|_| self.random.chance(500)).collect();
        // Both ways, one way, or a few links only.
        let (to, back, some) =
            (self.random.chance(800), self.random.chance(700), self.random.chance(200));
        for from in 0..count {
            for target in 0..count {
                let is_between = side[from] != side[target];
                let is_cut = if side[from] { to } else { back };
                if is_between && is_cut && (!some || self.random.chance(500)) {
                    self.cut.insert((from, target));
                }
            }
        }
        let links = self.cut.clone();
        self.trace.line(
            self.now_us,
            || "--".into(),
            "fault",
            || {
                let link = |(from, to): (usize, usize)| format!("n{}→n{}", from + 1, to + 1);
                format!("cut: {}", links.into_iter().map(link).collect::<Vec<_>>().join(" "))
            },
        );
    }

    /// Asks for a change of who takes part, one replica at a time.
    fn change(&mut self) {
        let Some(leader) = self.leader() else { return };
        let Some(replica) = &self.nodes[leader].replica else { return };
        let config = replica.config().clone();
        if config.is_joint() {
            return;
        }
        let (mut voters, mut learners) = (config.voters.clone(), config.learners.clone());
        let added = self.nodes.len() as u64 - self.plan.nodes;
        if !learners.is_empty() && self.random.chance(700) {
            voters.append(&mut learners);
        } else if voters.len() as u64 >= self.plan.nodes
            && voters.len() > 2
            && self.random.chance(500)
        {
            voters.remove(self.random.below(voters.len() as u64) as usize);
        } else if added < ADDED_MAX {
            let id = ReplicaId(self.nodes.len() as u64 + 1);
            self.add(id);
            learners.push(id);
        } else {
            return;
        }
        self.counts.changes += 1;
        let request = Request::Change { voters, learners };
        self.ask(leader, ADMIN, &request);
    }

    /// The storm ends: everything works from now on, and everybody is there.
    pub(super) fn calm(&mut self) {
        self.is_calm = true;
        self.cut.clear();
        self.trace.line(self.now_us, || "--".into(), "fault", || "all faults end".into());
        for at in 0..self.nodes.len() {
            self.nodes[at].disk.heal();
            self.nodes[at].has_bad_disk = false;
            self.nodes[at].paused_until = 0;
            if self.nodes[at].disk.is_stopped() && self.nodes[at].replica.is_some() {
                self.crash(at);
            }
            // What was to stop its disk later is forgotten with this life.
            if self.nodes[at].replica.is_some() {
                self.crash(at);
            }
            self.push(1000, at, 0, What::Restart);
        }
    }

    /// All nodes lose power at once, and come back.
    pub(super) fn blackout(&mut self) {
        for at in 0..self.nodes.len() {
            self.crash(at);
            self.open(at);
        }
    }

    /// Returns the replicas that take part, as the leader knows.
    pub(super) fn members(&self) -> Vec<usize> {
        let Some(leader) = self.leader() else { return Vec::new() };
        let Some(replica) = &self.nodes[leader].replica else { return Vec::new() };
        let takes_part = |node: &Node| replica.config().contains(node.id);
        (0..self.nodes.len()).filter(|at| takes_part(&self.nodes[*at])).collect()
    }

    pub(super) fn roles(&self) -> String {
        let role = |node: &Node| match &node.replica {
            Some(replica) => {
                let mark = if replica.role() == Role::Leader { "*" } else { "" };
                let (id, term, applied) = (node.id, replica.term(), replica.applied().index);
                format!(
                    "n{id}{mark} term {term} commit {} applied {applied}",
                    replica.commit_index()
                )
            }
            None => format!("n{} down", node.id),
        };
        self.nodes.iter().map(role).collect::<Vec<_>>().join("; ")
    }
}
