//! Runs the scripts under `tests/testscripts/`: a group whose network and disks take one tick, one
//! command a line. `UPDATE_GOLDENFILES=1 cargo test -p cluster scripts` writes the answers anew.
//!
//! ```text
//! group 3 [kept=8] [chunk=600] [quorum]     replicas 1 to 3 of a new group
//! elect [2]                       runs until one serves; hands the leadership to 2
//! begin t1 [at=2]                 begins a transaction
//! get t1 a [at=2] · scan t1 [limit=2]       reads at its moment
//! commit t1 a=1 b= [reads=a/c] [range] [blind] [at=2]    and waits for the answer; `b=` deletes
//! send t1 a=1 ...                 the same, and does not wait; `answers` tells what has come
//! again t1 [at=2] · status t1 [abort]       the same commit once more; how it ended
//! gc t1                           nobody reads before t1 any more
//! change voters=1/2/4 [learners=5] · add 4
//! run 100 · flush 1 · cut 1 · join · crash 1 [keep] · start 1
//! show                            role, term, applied, flushed and the log's base of each
//! ```
//!
//! Timestamps are written wall.counter; the wall clocks stand still. What replicas say of
//! themselves meanwhile stands before the answer.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use base::{KeyRange, KeyspaceId, Timestamp, text};
use bytes::Bytes;
use cluster::{Commit, Isolation, Record, Request, Response, TxnId};
use env::CrashMode;
use goldenscript::{Command, Context};
use raft::ReplicaId;

use crate::world::{World, options};

#[test]
fn scripts_give_the_answers_written_in_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testscripts");
    let mut failed = Vec::new();
    let scripts = scripts_below(&root);
    assert!(scripts.len() >= 10, "the scripts are missing: {scripts:?}");
    for path in scripts {
        let run = || goldenscript::run(&mut Script::default(), &path);
        match std::panic::catch_unwind(run) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => failed.push(format!("{}: {error}", path.display())),
            Err(_) => failed.push(format!("{}: see above", path.display())),
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[allow(clippy::disallowed_methods, reason = "scripts are files")]
fn scripts_below(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths
}

#[derive(Default)]
struct Script {
    world: Option<World>,
    txns: BTreeMap<String, (TxnId, Option<Commit>)>,
    sent: BTreeMap<u64, String>,
    next: u64,
}

type Failure = Box<dyn Error>;

fn engine_key(key: &str) -> Bytes {
    Bytes::from(KeyspaceId(1).encode(key.as_bytes()))
}

fn shown_key(key: &[u8]) -> String {
    text::escape(&key[base::key::PREFIX_BYTES..])
}

fn shown_ts(ts: Timestamp) -> String {
    format!("@{}.{}", ts.wall_ms(), ts.counter())
}

fn shown(response: &Response) -> String {
    let hint = |hint: &Option<ReplicaId>| hint.map_or("nobody".into(), |id| id.to_string());
    match response {
        Response::Begun { read_ts } => format!("begun {}", shown_ts(*read_ts)),
        Response::Value(None) => "none".into(),
        Response::Value(Some((ts, value))) => {
            format!("{} {}", text::escape(value), shown_ts(*ts))
        }
        Response::Rows { rows, is_complete } => {
            let row = |(key, ts, value): &(Bytes, Timestamp, Bytes)| {
                format!("{}={} {} ", shown_key(key), text::escape(value), shown_ts(*ts))
            };
            let rows: String = rows.iter().map(row).collect();
            format!("{rows}{}", if *is_complete { "end" } else { "more" })
        }
        Response::Committed { ts } => format!("committed {}", shown_ts(*ts)),
        Response::Conflict { key, ts } => {
            format!("conflict on {} with {}", shown_key(key), shown_ts(*ts))
        }
        Response::Ended(None) => "not ended".into(),
        Response::Ended(Some(Record::Committed(ts))) => format!("had committed {}", shown_ts(*ts)),
        Response::Ended(Some(Record::Aborted)) => "aborted".into(),
        Response::Done => "done".into(),
        Response::NotLeader { hint: leader } => format!("not leader: {}", hint(leader)),
        Response::Busy { retry_after_ticks } => format!("busy for {retry_after_ticks}"),
        Response::Unknown { hint: leader } => format!("unknown: {}", hint(leader)),
        Response::Refused(what) => format!("refused: {what}"),
    }
}

impl Script {
    fn world(&mut self) -> &mut World {
        self.world.as_mut().expect("a script begins with a group")
    }

    fn node(&self, id: u64) -> usize {
        let world = self.world.as_ref().expect("a script begins with a group");
        world.nodes.iter().position(|node| node.id.0 == id).expect("there is such a replica")
    }

    fn call(&mut self, at: Option<u64>, request: Request) -> String {
        let at = match at {
            Some(id) => self.node(id),
            None => self.world().elect(),
        };
        match self.world().call(at, request) {
            Some(response) => shown(&response),
            None => "no answer".into(),
        }
    }

    fn commit(&mut self, command: &Command) -> Result<(String, Commit), Failure> {
        let mut args = command.consume_args();
        let name = args.next_pos().ok_or("whose?")?.to_string();
        let reads = args.take_key("reads").unwrap_or_default();
        let _ = args.take_key("at");
        let mut flags = Vec::new();
        while let Some(flag) = args.next_pos() {
            flags.push(flag);
        }
        let mut commit = Commit {
            txn: self.txns.get(&name).ok_or("it has not begun")?.0,
            isolation: Isolation::Serializable,
            is_blind: flags.contains(&"blind"),
            points: reads.split('/').filter(|key| !key.is_empty()).map(engine_key).collect(),
            ranges: Vec::new(),
            writes: Vec::new(),
        };
        if flags.contains(&"range") {
            commit.ranges.push(KeyRange::prefix(&KeyspaceId(1).prefix()));
        }
        while let Some((key, value)) = args.next_key() {
            let value = (!value.is_empty()).then(|| Bytes::from(value.to_string()));
            commit.writes.push((engine_key(key), value));
        }
        if let Some(known) = self.txns.get_mut(&name) {
            known.1 = Some(commit.clone());
        }
        Ok((name, commit))
    }

    fn run_command(&mut self, command: &Command) -> Result<String, Failure> {
        let mut args = command.consume_args();
        let at: Option<u64> = args.take_key("at").map(str::parse).transpose()?;
        match command.name.as_str() {
            "group" => {
                let count: u64 = args.next_pos().ok_or("how many?")?.parse()?;
                let members: Vec<u64> = (1..=count).collect();
                let mut options = options(&members, 11);
                options.log_entries_kept = args.take_key("kept").map_or(Ok(64), str::parse)?;
                options.chunk_bytes = args.take_key("chunk").map_or(Ok(4096), str::parse)?;
                if args.next_pos() == Some("quorum") {
                    options.read_mode = raft::ReadMode::Quorum;
                }
                let mut world = World::new(count, 11, options);
                world.has_wall_clock = false;
                self.world = Some(world);
                Ok(String::new())
            }
            "elect" => {
                if let Some(to) = args.next_pos() {
                    let to = ReplicaId(to.parse()?);
                    let answer = self.call(None, Request::Transfer(to));
                    self.world().run(50);
                    self.world().elect();
                    return Ok(answer);
                }
                let at = self.world().elect();
                Ok(format!("replica {} serves", self.world().nodes[at].id))
            }
            "begin" => {
                let name = args.next_pos().ok_or("whose?")?.to_string();
                let at = at.map(|id| self.node(id));
                let at = at.unwrap_or_else(|| self.world().elect());
                let response = self.world().call(at, Request::Begin);
                self.next += 1;
                if let Some(Response::Begun { read_ts }) = response {
                    let txn = TxnId { start: read_ts, home: 1, nonce: self.next };
                    self.txns.insert(name, (txn, None));
                }
                Ok(response.map_or("no answer".into(), |response| shown(&response)))
            }
            "get" | "scan" => {
                let name = args.next_pos().ok_or("whose?")?.to_string();
                let read_ts = self.txns.get(&name).ok_or("it has not begun")?.0.start;
                let request = match args.next_pos() {
                    Some(key) => Request::Get { read_ts, key: engine_key(key) },
                    None => {
                        let range = KeyRange::prefix(&KeyspaceId(1).prefix());
                        let limit = args.take_key("limit").map_or(Ok(100), str::parse)?;
                        Request::Scan { read_ts, range, limit }
                    }
                };
                Ok(self.call(at, request))
            }
            "commit" => {
                let (_, commit) = self.commit(command)?;
                Ok(self.call(at, Request::Commit(commit)))
            }
            "send" => {
                let (name, commit) = self.commit(command)?;
                let at = at.map(|id| self.node(id));
                let at = at.unwrap_or_else(|| self.world().elect());
                self.next += 1;
                let id = self.next;
                self.sent.insert(id, name);
                self.world().ask(at, id, Request::Commit(commit));
                Ok(String::new())
            }
            "answers" => {
                let mut text = String::new();
                for (id, response) in std::mem::take(&mut self.world().replies) {
                    if let Some(name) = self.sent.remove(&id) {
                        writeln!(text, "{name}: {}", shown(&response))?;
                    }
                }
                Ok(text)
            }
            "again" => {
                let name = args.next_pos().ok_or("whose?")?.to_string();
                let known = self.txns.get(&name).ok_or("it has not begun")?;
                let commit = known.1.clone().ok_or("it has not tried to commit")?;
                Ok(self.call(at, Request::Commit(commit)))
            }
            "status" => {
                let name = args.next_pos().ok_or("whose?")?.to_string();
                let txn = self.txns.get(&name).ok_or("it has not begun")?.0;
                let abort_if_absent = args.next_pos().is_some();
                Ok(self.call(at, Request::Status { txn, abort_if_absent }))
            }
            "gc" => {
                let name = args.next_pos().ok_or("before whom?")?.to_string();
                let start = self.txns.get(&name).ok_or("it has not begun")?.0.start;
                Ok(self.call(at, Request::SetGc(start)))
            }
            "change" => {
                let ids = |list: &str| {
                    let ids = list.split('/').filter_map(|id| id.parse().ok());
                    ids.map(ReplicaId).collect::<Vec<_>>()
                };
                let voters = ids(args.take_key("voters").unwrap_or_default());
                let learners = ids(args.take_key("learners").unwrap_or_default());
                Ok(self.call(at, Request::Change { voters, learners }))
            }
            "show" => {
                let mut text = String::new();
                for node in &self.world().nodes {
                    let Some(replica) = &node.replica else {
                        writeln!(text, "{} is down", node.id)?;
                        continue;
                    };
                    writeln!(
                        text,
                        "{} {:?} term {} applied {} flushed {} base {} at {}",
                        node.id,
                        replica.role(),
                        replica.term(),
                        replica.applied().index,
                        replica.flushed_index(),
                        replica.raft().base().index,
                        shown_ts(replica.last_timestamp()),
                    )?;
                }
                self.world().judge_all();
                Ok(text)
            }
            name => {
                let id: u64 = args.next_pos().map_or(Ok(0), str::parse)?;
                let is_kept = args.next_pos().is_some();
                self.do_to(name, id, is_kept)?;
                Ok(String::new())
            }
        }
    }

    fn do_to(&mut self, name: &str, id: u64, is_kept: bool) -> Result<(), Failure> {
        match name {
            "run" => self.world().run(id),
            "join" => self.world().cut.clear(),
            "add" => self.world().add(id),
            "cut" => {
                let ids: Vec<_> = self.world().nodes.iter().map(|node| node.id).collect();
                for other in ids.into_iter().filter(|other| other.0 != id) {
                    self.world().cut.extend([(ReplicaId(id), other), (other, ReplicaId(id))]);
                }
            }
            "crash" => {
                let mode = if is_kept { CrashMode::KeepUnsynced } else { CrashMode::LoseUnsynced };
                let at = self.node(id);
                self.world().crash(at, mode);
            }
            "start" => {
                let at = self.node(id);
                assert!(self.world().open(at), "replica {id} opens");
            }
            "flush" => {
                let at = self.node(id);
                let replica = self.world().nodes[at].replica.as_mut().ok_or("it is down")?;
                replica.flush(&mut Vec::new())?;
            }
            name => return Err(format!("there is no command {name}").into()),
        }
        Ok(())
    }
}

impl goldenscript::Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Failure> {
        let answer = self.run_command(command)?;
        let mut text = String::new();
        if let Some(world) = &mut self.world {
            for line in world.trace.drain(..) {
                // Not the time: it is of no interest.
                writeln!(text, "{}", line.split_once(' ').map_or("", |(_, line)| line))?;
            }
        }
        text.push_str(&answer);
        Ok(text)
    }
}
