//! Our Raft and raft-rs with the same work: three replicas in one thread, messages handed over in
//! memory, a disk that is always done at once. What each of the six replicas commits is compared.
//!
//! ```text
//!   propose a batch ─► leader ─► queue of messages ─► followers ─► ... until nothing moves
//! ```
//!
//! Both keep the entries that they may have to send, and forget them every [`COMPACT_EVERY`]. The
//! bytes of a proposal are allocated by the proposer, twice with ours: once for the bytes and once
//! for their reference count. Each commit is told to the followers at once. raft-rs gets a batch as
//! one message and may join messages, which is as fast as it can be driven.

use std::alloc::System;
use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const COMMAND_BYTES: usize = 128;
/// After how many entries the log is compacted: what fits a cache of the processor, and what a slow
/// follower may need.
const COMPACT_EVERY: [u64; 2] = [1_000, 10_000];
const RUNS: usize = 5;

/// What a replica committed: how many commands, and a hash over them in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Committed {
    count: u64,
    hash: u64,
}

impl Committed {
    fn add(&mut self, command: &[u8]) {
        let number = command.first_chunk().copied().map(u64::from_le_bytes).unwrap_or(0);
        self.count += 1;
        self.hash = (self.hash ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
    }
}

fn command(number: u64) -> [u8; COMMAND_BYTES] {
    let mut bytes = [7; COMMAND_BYTES];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

trait Group {
    fn new(compact_every: u64) -> Self;
    /// Proposes commands with these numbers as one batch, and lets the group come to rest.
    fn propose(&mut self, numbers: std::ops::Range<u64>);
    fn committed(&self) -> [Committed; 3];
}

mod ours {
    use super::*;
    use raft::Payload;
    use raft::{
        Config, Input, LogIndex, Message, Options, Output, Raft, Recovered, ReplicaId, Ticks,
    };

    pub struct Ours {
        replicas: Vec<Raft>,
        wire: VecDeque<Message>,
        out: Vec<Output>,
        work: VecDeque<Output>,
        committed: [Committed; 3],
        applied: [u64; 3],
        compact_every: u64,
    }

    /// A moment after all promises that a start makes.
    const NOW: Ticks = Ticks(10_000);

    impl Ours {
        fn step(&mut self, at: usize, input: Input) {
            self.replicas[at].step(NOW, input, &mut self.out);
            self.work.extend(self.out.drain(..));
            while let Some(output) = self.work.pop_front() {
                let input = match output {
                    Output::Append { stamp, entries, .. } => {
                        drop(black_box(entries));
                        Input::Persisted(stamp)
                    }
                    Output::Send(message) => {
                        self.wire.push_back(message);
                        continue;
                    }
                    Output::Commit(upto) => {
                        self.apply(at, upto);
                        Input::Applied(upto)
                    }
                    _ => continue,
                };
                self.replicas[at].step(NOW, input, &mut self.out);
                self.work.extend(self.out.drain(..));
            }
        }

        fn apply(&mut self, at: usize, upto: LogIndex) {
            for index in self.applied[at] + 1..=upto.0 {
                let entry = self.replicas[at].entry(LogIndex(index)).expect("it is committed");
                if let Payload::Command(bytes) = &entry.payload {
                    self.committed[at].add(bytes);
                }
            }
            self.applied[at] = upto.0;
        }

        fn settle(&mut self) {
            while let Some(message) = self.wire.pop_front() {
                self.step(message.to.0 as usize - 1, Input::Message(message));
            }
        }
    }

    impl Group for Ours {
        fn new(compact_every: u64) -> Ours {
            let replica = |id| {
                let group = Recovered::new_group(Config::new(&[1, 2, 3], &[]));
                Raft::new(ReplicaId(id), Options::default(), group, Ticks(0)).expect("a new group")
            };
            let mut group = Ours {
                replicas: (1..=3).map(replica).collect(),
                wire: VecDeque::new(),
                out: Vec::new(),
                work: VecDeque::new(),
                committed: Default::default(),
                applied: [0; 3],
                compact_every,
            };
            group.step(0, Input::Campaign);
            group.settle();
            assert_eq!(group.replicas[0].role(), raft::Role::Leader);
            group
        }

        fn propose(&mut self, numbers: std::ops::Range<u64>) {
            let commands = numbers.map(|n| Bytes::copy_from_slice(&command(n))).collect();
            let expected_term = self.replicas[0].term();
            self.step(0, Input::Propose { commands, expected_term });
            self.settle();
            for at in 0..3 {
                let upto = self.applied[at];
                if upto >= self.replicas[at].base().index.0 + self.compact_every {
                    self.step(at, Input::Compact(LogIndex(upto)));
                }
            }
        }

        fn committed(&self) -> [Committed; 3] {
            self.committed
        }
    }
}

mod theirs {
    use super::*;
    use raft_rs::eraftpb::{Entry, Message, MessageType};
    use raft_rs::storage::MemStorage;
    use raft_rs::{Config, RawNode, StateRole, Storage};

    pub struct Theirs {
        nodes: Vec<RawNode<MemStorage>>,
        wire: VecDeque<Message>,
        committed: [Committed; 3],
        applied: [u64; 3],
        compact_every: u64,
    }

    impl Theirs {
        /// As in the example of raft-rs with five nodes in memory.
        fn ready(&mut self, at: usize) {
            let (node, committed) = (&mut self.nodes[at], &mut self.committed[at]);
            let mut applied = self.applied[at];
            let mut apply = |entries: Vec<Entry>| {
                for entry in entries {
                    if !entry.data.is_empty() {
                        committed.add(&entry.data);
                    }
                    applied = entry.index;
                }
            };
            while node.has_ready() {
                let mut ready = node.ready();
                self.wire.extend(ready.take_messages());
                apply(ready.take_committed_entries());
                node.mut_store().wl().append(ready.entries()).expect("entries without gaps");
                if let Some(state) = ready.hs() {
                    node.mut_store().wl().set_hardstate(state.clone());
                }
                self.wire.extend(ready.take_persisted_messages());
                let mut light = node.advance(ready);
                if let Some(commit) = light.commit_index() {
                    node.mut_store().wl().mut_hard_state().commit = commit;
                }
                self.wire.extend(light.take_messages());
                apply(light.take_committed_entries());
                node.advance_apply();
            }
            self.applied[at] = applied;
        }

        fn settle(&mut self) {
            while let Some(message) = self.wire.pop_front() {
                let at = message.to as usize - 1;
                self.nodes[at].step(message).expect("a message of the group");
                self.ready(at);
            }
        }
    }

    impl Group for Theirs {
        fn new(compact_every: u64) -> Theirs {
            let logger = slog::Logger::root(slog::Discard, slog::o!());
            let ours = raft::Options::default();
            let node = |id| {
                let config = Config {
                    id,
                    election_tick: 10,
                    heartbeat_tick: 1,
                    max_size_per_msg: ours.message_bytes_max as u64,
                    max_inflight_msgs: ours.inflight_messages_max,
                    check_quorum: true,
                    pre_vote: true,
                    batch_append: true,
                    ..Config::default()
                };
                let storage = MemStorage::new_with_conf_state((vec![1, 2, 3], vec![]));
                RawNode::new(&config, storage, &logger).expect("a new group")
            };
            let mut group = Theirs {
                nodes: (1..=3).map(node).collect(),
                wire: VecDeque::new(),
                committed: Default::default(),
                applied: [0; 3],
                compact_every,
            };
            group.nodes[0].campaign().expect("it may");
            group.ready(0);
            group.settle();
            assert_eq!(group.nodes[0].raft.state, StateRole::Leader);
            group
        }

        fn propose(&mut self, numbers: std::ops::Range<u64>) {
            // `RawNode::propose` takes one; many at once are proposed as it would propose one.
            let mut message = Message { from: 1, ..Message::default() };
            message.set_msg_type(MessageType::MsgPropose);
            let entry = |number| Entry {
                data: Bytes::copy_from_slice(&command(number)).into(),
                ..Entry::default()
            };
            message.entries = numbers.map(entry).collect::<Vec<_>>().into();
            self.nodes[0].raft.step(message).expect("it leads");
            self.ready(0);
            self.settle();
            for at in 0..3 {
                let upto = self.applied[at];
                let first = self.nodes[at].store().first_index().expect("it is in memory");
                if upto >= first + self.compact_every {
                    self.nodes[at].mut_store().wl().compact(upto).expect("it is applied");
                }
            }
        }

        fn committed(&self) -> [Committed; 3] {
            self.committed
        }
    }
}

struct Figures {
    per_second: f64,
    allocations: f64,
    bytes: f64,
    committed: [Committed; 3],
}

fn measure<G: Group>(batch: u64, compact_every: u64, commands: u64) -> Figures {
    let mut group = G::new(compact_every);
    let mut next = 0;
    let mut run = |group: &mut G, commands: u64| {
        for _ in 0..commands / batch {
            group.propose(next..next + batch);
            next += batch;
        }
    };
    // Until every buffer has its size.
    run(&mut group, 3 * compact_every / batch * batch);
    let region = Region::new(ALLOCATOR);
    let begun = Instant::now();
    run(&mut group, commands);
    let seconds = begun.elapsed().as_secs_f64();
    let change = region.change();
    let per = |number: usize| number as f64 / commands as f64;
    Figures {
        per_second: commands as f64 / seconds,
        allocations: per(change.allocations + change.reallocations),
        bytes: per(change.bytes_allocated),
        committed: group.committed(),
    }
}

fn main() {
    let commands: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(256_000);
    // For a profiler: ours alone, with batches of one size.
    let only: Option<u64> = std::env::args().nth(2).and_then(|n| n.parse().ok());
    if let Some(batch) = only {
        println!("{:.0}/s", measure::<ours::Ours>(batch, COMPACT_EVERY[0], commands).per_second);
        return;
    }
    println!(
        "{commands} proposals of {COMMAND_BYTES} bytes, three replicas, median of {RUNS} runs"
    );
    println!("                                       allocations/entry (bytes)");
    println!("  log  batch    ours/s  raft-rs/s  ratio        ours     raft-rs");
    for compact_every in COMPACT_EVERY {
        for batch in [1, 16, 256] {
            compare(batch, compact_every, commands);
        }
    }
}

fn compare(batch: u64, compact_every: u64, commands: u64) {
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let ours = measure::<ours::Ours>(batch, compact_every, commands);
        let theirs = measure::<theirs::Theirs>(batch, compact_every, commands);
        let all = ours.committed.iter().chain(&theirs.committed);
        let (first, least) = (ours.committed[0], commands / batch * batch);
        assert!(first.count >= least && all.clone().all(|c| *c == first), "they differ: {all:?}");
        runs.push((ours.per_second / theirs.per_second, ours, theirs));
    }
    runs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ratio, ours, theirs) = &runs[RUNS / 2];
    println!(
        "{compact_every:>5} {batch:>6} {:>9.0} {:>10.0} {ratio:>6.2} \
         {:>5.2} {:>5.0} {:>5.2} {:>5.0}",
        ours.per_second,
        theirs.per_second,
        ours.allocations,
        ours.bytes,
        theirs.allocations,
        theirs.bytes,
    );
}
