//! Random worlds: each seed draws its own faults. `HOLM_CLUSTER_SEEDS` says how many,
//! `HOLM_CLUSTER_SEED` which one, with its trace.

use cluster::{Request, Response};
use env::SeededRandom;
use holm_sim::checker::{Level, Options, list_append};
use raft::ReplicaId;

use crate::clients::Clients;
use crate::world::{Totals, Weather, What, World, options};

/// How long faults happen.
const STORM_TICKS: u64 = 6000;

#[derive(Debug, Default, Clone, Copy)]
struct Sums {
    totals: Totals,
    committed: u64,
    conflicts: u64,
    doubtful: u64,
}

/// Prints the seed of a world that fails.
struct Named<'w> {
    seed: u64,
    world: &'w mut World,
    has_trace: bool,
}

impl Drop for Named<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("seed {} failed", self.seed);
            if self.has_trace {
                self.world.trace.iter().for_each(|line| println!("{line}"));
            }
        }
    }
}

/// How often things happen in a world, in thousandths of its turns.
#[derive(Debug, Clone, Copy)]
struct Faults {
    crash: u64,
    stop: u64,
    partition: u64,
    transfer: u64,
    gc: u64,
    flush: u64,
}

fn play(seed: u64, has_trace: bool) -> Sums {
    let mut chance = SeededRandom::new(seed ^ 0x00c1_0571);
    let mut maybe = |max: u64| if chance.chance(500) { 1 + chance.below(max) } else { 0 };
    let weather = Weather {
        drop: maybe(150),
        double: maybe(150),
        delay: 2 + maybe(30),
        disk_delay: 1 + maybe(40),
    };
    let faults = Faults {
        crash: maybe(12),
        stop: maybe(12),
        partition: maybe(20),
        transfer: maybe(8),
        gc: maybe(10),
        flush: maybe(20),
    };
    let count = if chance.chance(700) { 3 } else { 5 };
    let mut options = options(&(1..=count).collect::<Vec<_>>(), seed);
    options.log_entries_kept = 1 + chance.below(40);
    options.chunk_bytes = 200 + chance.below(4000) as usize;
    options.memory.memtable_bytes = 100_000 + chance.below(60_000) as usize;
    options.log_bytes_max = 4_000 + chance.below(28_000);
    if chance.chance(500) {
        options.read_mode = raft::ReadMode::Quorum;
    }
    let mut world = World::new(count, seed, options);
    world.weather = weather;
    let named = Named { seed, world: &mut world, has_trace };
    storm(named.world, faults, chance.below(8) + 2, 2 + chance.below(6))
}

fn storm(world: &mut World, faults: Faults, sessions: u64, keys: u64) -> Sums {
    let mut clients = Clients::new(sessions, keys);
    let count = world.nodes.len() as u64;
    let mut admin = u64::MAX / 2;
    while world.now < STORM_TICKS {
        world.run(5);
        clients.act(world);
        let at = world.chance.below(count) as usize;
        if world.chance.chance(faults.crash) && world.nodes[at].replica.is_some() {
            let mode = world.any_crash();
            world.crash(at, mode);
            let after = 1 + world.chance.below(400);
            world.push(after, at, 0, What::Restart);
        }
        if world.chance.chance(faults.stop) && world.nodes[at].replica.is_some() {
            let operation = world.nodes[at].disk.operations() + world.chance.below(40);
            world.nodes[at].disk.stop_at(operation);
        }
        if world.chance.chance(faults.partition) {
            world.cut.clear();
            if world.chance.chance(600) {
                let alone = ReplicaId(1 + world.chance.below(count));
                let both = world.chance.chance(700);
                for id in (1..=count).map(ReplicaId).filter(|id| *id != alone) {
                    world.cut.push((alone, id));
                    if both {
                        world.cut.push((id, alone));
                    }
                }
            }
        }
        admin += 1;
        if world.chance.chance(faults.transfer) {
            let to = ReplicaId(1 + world.chance.below(count));
            world.ask(at, admin, Request::Transfer(to));
        }
        if world.chance.chance(faults.gc) {
            world.ask(at, admin, Request::SetGc(clients.newest()));
        }
        if world.chance.chance(faults.flush)
            && let Some(replica) = &mut world.nodes[at].replica
        {
            let mut out = Vec::new();
            let _ = replica.flush(&mut out);
            world.step(at, cluster::Input::Timer);
        }
    }
    calm(world, &mut clients);
    let report =
        list_append::check(&clients.recorder.history(), &Options::at(Level::StrictSerializable));
    assert!(report.is_valid(), "{report}");
    Sums {
        totals: world.totals,
        committed: clients.committed,
        conflicts: clients.conflicts,
        doubtful: clients.doubtful,
    }
}

/// The faults end: everything that was asked is answered, and everything acknowledged is there.
fn calm(world: &mut World, clients: &mut Clients) {
    world.cut.clear();
    world.weather = Weather { delay: 3, disk_delay: 2, ..Weather::default() };
    clients.is_closing = true;
    for at in 0..world.nodes.len() {
        world.nodes[at].disk.heal();
        if world.nodes[at].disk.is_stopped() && world.nodes[at].replica.is_some() {
            let mode = world.any_crash();
            world.crash(at, mode);
        }
        world.push(1, at, 0, What::Restart);
    }
    let until = world.now + 6000;
    while !clients.are_idle() {
        world.run(5);
        clients.act(world);
        assert!(world.now < until, "what was asked is answered when the faults have ended");
    }
    // And once more, after all have lost what they had not synced.
    for at in 0..world.nodes.len() {
        let mode = world.any_crash();
        world.crash(at, mode);
        assert!(world.open(at));
    }
    let leader = world.elect();
    let gc_ts = world.nodes[leader].replica.as_ref().unwrap().gc_timestamp();
    for end in clients.acknowledged.iter().filter(|end| end.txn.start >= gc_ts) {
        let request = Request::Status { txn: end.txn, abort_if_absent: false };
        let leader = world.elect();
        let response = world.call(leader, request);
        assert_eq!(response, Some(Response::Ended(Some(end.record))), "acknowledged: {end:?}");
    }
    read_all(world, clients);
    let last = |world: &World, at: usize| {
        world.nodes[at].replica.as_ref().map(|replica| replica.applied().index)
    };
    let until = world.now + 6000;
    while (1..world.nodes.len()).any(|at| last(world, at) != last(world, 0)) {
        assert!(world.now < until, "all replicas get everything");
        world.run(20);
    }
    world.judge_all();
}

/// Reads every list at the end, so that a lost append shows.
fn read_all(world: &mut World, clients: &mut Clients) {
    use holm_sim::history::{Op, Outcome};
    let txn = clients.recorder.begin(9999);
    let leader = world.elect();
    let begun = world.call(leader, Request::Begin);
    let Some(Response::Begun { read_ts }) = begun else {
        panic!("a calm leader serves: {begun:?}")
    };
    assert!(read_ts >= clients.newest(), "everything acknowledged is visible");
    for key in 0..10 {
        let request = Request::Get { read_ts, key: crate::clients::key_of(key) };
        let Some(Response::Value(value)) = world.call(leader, request) else { panic!("no value") };
        let bytes = value.map_or_else(Default::default, |(_, bytes)| bytes);
        let words = bytes.chunks_exact(8);
        let list: Vec<u64> = words.map(|w| u64::from_le_bytes(w.try_into().unwrap())).collect();
        clients.recorder.op(txn, Op::read_list(format!("{key}"), list));
    }
    clients.recorder.end(txn, Outcome::Committed);
}

#[test]
fn random_worlds_keep_what_they_promise() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("HOLM_CLUSTER_SEED") {
        println!("{:?}", play(seed, true));
        return;
    }
    let first = number("HOLM_CLUSTER_FIRST").unwrap_or(0);
    let mut sum = Sums::default();
    for seed in first..first + number("HOLM_CLUSTER_SEEDS").unwrap_or(60) {
        let one = play(seed, false);
        sum.committed += one.committed;
        sum.conflicts += one.conflicts;
        sum.doubtful += one.doubtful;
        let (sum, one) = (&mut sum.totals, one.totals);
        sum.steps += one.steps;
        sum.crashes += one.crashes;
        sum.images += one.images;
        sum.flushes += one.flushes;
        sum.compared += one.compared;
    }
    println!("{sum:?}");
    assert!(sum.committed > 1000 && sum.totals.images > 0 && sum.totals.flushes > 0, "{sum:?}");
}

#[test]
fn the_same_seed_is_the_same_world() {
    let text = |seed| format!("{:?}", play(seed, false));
    assert_eq!(text(5), text(5));
}
