//! Runs the scripts under `tests/testscripts/`: a group in which nothing happens by itself, one
//! command a line. `UPDATE_GOLDENFILES=1 cargo test -p raft scripts` writes the answers anew.
//!
//! ```text
//! group voters=1/2/3 [learners=4] [window=2] [quiet=20] [lag=0]   replicas with empty logs
//! replica 1 term=6 log=1/1/4 [vote=2]    one that comes back with entries of these terms
//! time 10                         clocks go on; nobody is told
//! tick 1                          replica 1 is told the time
//! campaign 1 · lead 1             stands for election; and is helped until it leads
//! propose 1 a b [term=2] · read 1 7 [lease] · transfer 1 2 · change 1 voters=1/2 [learners=3]
//! deliver [from=1] [to=2] [kind=Vote] [count=1] · lose [...]      what is on its way
//! sync [1]                        the disk has everything that was written, and says so
//! ack 1 [nth=1]                   the disk says again what it said of its nth write
//! stabilize [1 2]                 syncs and deliveries, until nothing moves; among these replicas
//! slow 1 · fast 1                 stabilize leaves the disk of 1 alone
//! cut 1 · join 1                  what is sent to and from 1 is lost
//! crash 1 · start 1               what was not synced is lost
//! compact 1 5 · chunk 1 2 [fails] · installed 2 [fails]           images; index, driver's answers
//! log [1] · status [1]
//! ```
//!
//! An answer has a line for everything that was delivered and everything that it brought about. A
//! place in the log is written term.index; election timeouts are 10 ticks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use goldenscript::{Command, Context};
use raft::{
    Body, Config, Entry, HardState, Input, LogIndex, Message, Options, Output, Payload, Position,
    Raft, ReadMode, Recovered, ReplicaId, Role, SnapshotMeta, Stamp, Term, Ticks,
};

use crate::disk::{Disk, Write};

#[test]
fn scripts_give_the_answers_written_in_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testscripts");
    let scripts = scripts_below(&root);
    assert!(scripts.len() > 25, "the scripts are missing: {scripts:?}");
    let mut failed = Vec::new();
    for path in scripts {
        let run = || goldenscript::run(&mut Group::default(), &path);
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
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { paths.extend(scripts_below(&path)) } else { paths.push(path) }
    }
    paths.sort();
    paths
}

type Answer = Result<String, Box<dyn Error>>;

struct Replica {
    raft: Option<Raft>,
    disk: Disk,
    stamps: Vec<Stamp>,
    installing: Option<SnapshotMeta>,
}

#[derive(Default)]
struct Group {
    now: u64,
    options: Options,
    config: Config,
    replicas: BTreeMap<u64, Replica>,
    wire: VecDeque<Message>,
    slow: BTreeSet<u64>,
    cut: BTreeSet<u64>,
    asked: Vec<(u64, u64, Option<u64>, u64)>,
    shown: String,
}

impl goldenscript::Runner for Group {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Answer {
        let mut args = command.consume_args();
        match command.name.as_str() {
            "group" => {
                let voters = ids(args.take_key("voters"))?;
                let learners = ids(args.take_key("learners"))?;
                let mut number = |key: &str, default: usize| -> Result<usize, Box<dyn Error>> {
                    Ok(args.take_key(key).map(str::parse).transpose()?.unwrap_or(default))
                };
                self.options = Options {
                    election_timeout_ticks: 10,
                    heartbeat_ticks: 2,
                    inflight_messages_max: number("window", 8)?,
                    message_bytes_max: number("message", 1 << 20)?,
                    quiet_after_ticks: number("quiet", 0)? as u64,
                    promotion_lag_max: number("lag", 0)? as u64,
                    snapshot_retry_ticks: 4,
                    ..Options::default()
                };
                self.config = Config::new(&voters, &learners);
                for id in voters.iter().chain(&learners) {
                    self.add(*id);
                }
                // The promise that a start makes is over; it has a script of its own.
                self.now = if self.replicas.len() == 1 { 0 } else { 10 };
            }
            "replica" => {
                let id = positional(&mut args)?;
                let term = args.take_key("term").ok_or("term=")?.parse()?;
                let vote = args.take_key("vote").map(str::parse).transpose()?.map(ReplicaId);
                let terms = ids(args.take_key("log"))?;
                let commit = args.take_key("commit").map(str::parse).transpose()?.unwrap_or(0);
                let mut disk = Disk::new(self.config.clone());
                disk.hard_state = HardState { term: Term(term), vote };
                let entry = |(at, term): (usize, &u64)| Entry {
                    term: Term(*term),
                    index: LogIndex(at as u64 + 1),
                    payload: Payload::Empty,
                };
                disk.entries = terms.iter().enumerate().map(entry).collect();
                let recovered = Recovered { commit: LogIndex(commit), ..disk.recovered() };
                let raft =
                    Raft::new(ReplicaId(id), self.options.clone(), recovered, Ticks(self.now));
                let raft = match raft {
                    Ok(raft) => raft,
                    Err(error) => return Ok(format!("{id}: refuses to start: {error}")),
                };
                let raft = Some(raft);
                self.replicas.insert(id, Replica { raft, disk, stamps: vec![], installing: None });
            }
            "time" => self.now += positional(&mut args)?,
            "tick" => {
                let id = positional(&mut args)?;
                self.step(id, Input::Tick);
            }
            "wake" => {
                let id = positional(&mut args)?;
                self.step(id, Input::Wake);
            }
            "campaign" => {
                let id = positional(&mut args)?;
                self.step(id, Input::Campaign);
            }
            "lead" => {
                let id = positional(&mut args)?;
                self.step(id, Input::Campaign);
                self.stabilize(&BTreeSet::new());
                self.shown.clear();
                let raft = self.replicas[&id].raft.as_ref().ok_or("it is down")?;
                if raft.role() != Role::Leader {
                    return Err(format!("{id} does not lead").into());
                }
                let _ = writeln!(self.shown, "{id}: leads in term {}", raft.term());
            }
            "propose" => {
                let id = positional(&mut args)?;
                let term = args.take_key("term").map(str::parse).transpose()?;
                let mut commands = Vec::new();
                while let Some(word) = args.next_pos() {
                    commands.push(Bytes::copy_from_slice(word.as_bytes()));
                }
                let expected_term = term.map_or_else(|| self.term_of(id), Term);
                self.step(id, Input::Propose { commands, expected_term });
            }
            "read" => {
                let id = positional(&mut args)?;
                let read = positional(&mut args)?;
                let mode = match args.next_pos() {
                    Some("lease") => ReadMode::Lease,
                    _ => ReadMode::Quorum,
                };
                self.step(id, Input::Read { id: read, mode });
            }
            "transfer" => {
                let (id, to) = (positional(&mut args)?, positional(&mut args)?);
                self.step(id, Input::Transfer(ReplicaId(to)));
            }
            "change" => {
                let id = positional(&mut args)?;
                let list = |text| ids(text).map(|ids| ids.into_iter().map(ReplicaId).collect());
                let voters: Vec<_> = list(args.take_key("voters"))?;
                let learners: Vec<_> = list(args.take_key("learners"))?;
                for new in voters.iter().chain(&learners) {
                    if !self.replicas.contains_key(&new.0) {
                        self.add(new.0);
                    }
                }
                let expected_term = self.term_of(id);
                self.step(id, Input::Change { voters, learners, expected_term });
            }
            name @ ("deliver" | "lose") => {
                let is_lost = name == "lose";
                let from = args.take_key("from").map(str::parse::<u64>).transpose()?;
                let to = args.take_key("to").map(str::parse::<u64>).transpose()?;
                let kind = args.take_key("kind").map(str::to_string);
                let count =
                    args.take_key("count").map(str::parse).transpose()?.unwrap_or(usize::MAX);
                let is_meant = |message: &Message| {
                    from.is_none_or(|from| message.from.0 == from)
                        && to.is_none_or(|to| message.to.0 == to)
                        && kind.as_ref().is_none_or(|kind| message.body.name() == kind)
                };
                let mut meant = Vec::new();
                for message in std::mem::take(&mut self.wire) {
                    if is_meant(&message) && meant.len() < count {
                        meant.push(message);
                    } else {
                        self.wire.push_back(message);
                    }
                }
                for message in meant {
                    if is_lost {
                        let _ = writeln!(self.shown, "{}, lost", show(&message));
                    } else {
                        self.deliver(message);
                    }
                }
            }
            "sync" => {
                let ids = match args.next_pos() {
                    Some(id) => vec![id.parse()?],
                    None => self.replicas.keys().copied().collect(),
                };
                for id in ids {
                    self.sync(id);
                }
            }
            "ack" => {
                let id = positional(&mut args)?;
                let nth: usize = args.take_key("nth").ok_or("nth=")?.parse()?;
                let stamp = self.replicas[&id].stamps[nth - 1];
                let _ = writeln!(self.shown, "{id}: again, {}", show_stamp(stamp));
                self.step(id, Input::Persisted(stamp));
            }
            "stabilize" => {
                let mut among = BTreeSet::new();
                while let Some(id) = args.next_pos() {
                    among.insert(id.parse()?);
                }
                self.stabilize(&among);
            }
            "slow" => drop(self.slow.insert(positional(&mut args)?)),
            "fast" => drop(self.slow.remove(&positional(&mut args)?)),
            "cut" => drop(self.cut.insert(positional(&mut args)?)),
            "join" => drop(self.cut.remove(&positional(&mut args)?)),
            "crash" => {
                let id = positional(&mut args)?;
                let replica = self.replicas.get_mut(&id).ok_or("nobody")?;
                replica.raft = None;
                replica.disk.pending.clear();
                replica.stamps.clear();
            }
            "start" => {
                let id = positional(&mut args)?;
                self.start(id);
            }
            "compact" => {
                let (id, upto) = (positional(&mut args)?, LogIndex(positional(&mut args)?));
                let replica = self.replicas.get_mut(&id).ok_or("nobody")?;
                let raft = replica.raft.as_ref().ok_or("it is down")?;
                let meta = raft.snapshot_meta(upto, id * 100 + upto.0).ok_or("not committed")?;
                replica.disk.set_image(meta, 0);
                replica.disk.compact(upto);
                self.step(id, Input::Compact(upto));
            }
            "chunk" => self.chunk(&mut args)?,
            "installed" => {
                let id = positional(&mut args)?;
                let is_installed = args.next_pos() != Some("fails");
                let replica = self.replicas.get_mut(&id).ok_or("nobody")?;
                let meta = replica.installing.take().ok_or("nothing is being installed")?;
                let name = meta.id;
                if is_installed {
                    replica.disk.set_image(meta, 0);
                }
                self.step(id, Input::SnapshotDone { id: name, is_installed });
            }
            "log" => self.show_logs(args.next_pos().map(str::parse).transpose()?),
            "status" => self.show_status(args.next_pos().map(str::parse).transpose()?),
            other => return Err(format!("unknown command {other}").into()),
        }
        args.reject_next()?;
        Ok(std::mem::take(&mut self.shown))
    }
}

fn positional(args: &mut goldenscript::ArgumentConsumer<'_>) -> Result<u64, Box<dyn Error>> {
    Ok(args.next_pos().ok_or("a number")?.parse()?)
}

fn ids(text: Option<&str>) -> Result<Vec<u64>, Box<dyn Error>> {
    let words = text.unwrap_or_default().split('/').filter(|word| !word.is_empty());
    Ok(words.map(str::parse).collect::<Result<_, _>>()?)
}

impl Group {
    fn add(&mut self, id: u64) {
        let disk = Disk::new(self.config.clone());
        let replica = Replica { raft: None, disk, stamps: Vec::new(), installing: None };
        self.replicas.insert(id, replica);
        self.start(id);
    }

    fn start(&mut self, id: u64) {
        let replica = self.replicas.get_mut(&id).unwrap();
        let recovered = replica.disk.recovered();
        let raft = Raft::new(ReplicaId(id), self.options.clone(), recovered, Ticks(self.now));
        match raft {
            Ok(raft) => replica.raft = Some(raft),
            Err(error) => drop(writeln!(self.shown, "{id}: refuses to start: {error}")),
        }
    }

    fn term_of(&self, id: u64) -> Term {
        self.replicas[&id].raft.as_ref().map_or(Term(0), Raft::term)
    }

    fn step(&mut self, id: u64, input: Input) {
        let now = Ticks(self.now);
        let mut outputs = Vec::new();
        let Some(raft) = self.replicas.get_mut(&id).and_then(|r| r.raft.as_mut()) else { return };
        raft.step(now, input, &mut outputs);
        raft.check_deeply();
        for output in outputs {
            self.handle(id, output);
        }
    }

    fn handle(&mut self, id: u64, output: Output) {
        let replica = self.replicas.get_mut(&id).unwrap();
        match output {
            Output::Append { cut_from, entries, hard_state, stamp } => {
                replica.disk.pending.push_back(Write { cut_from, entries, hard_state, stamp });
                return;
            }
            Output::Send(message) => return self.wire.push_back(message),
            Output::Commit(upto) => {
                let _ = writeln!(self.shown, "{id}: commits up to {upto}");
                return self.step(id, Input::Applied(upto));
            }
            _ => {}
        }
        let line = match output {
            Output::ReadOk { id: read, index } => format!("read {read} sees {index}"),
            Output::ReadFailed { id: read, reason } => format!("read {read} fails: {reason}"),
            Output::RoleChanged { role, term, leader } => {
                let leader = leader.filter(|leader| leader.0 != id);
                let leader = leader.map_or(String::new(), |leader| format!(", led by {leader}"));
                format!("{role:?} in term {term}{leader}")
            }
            Output::ConfigChanged { index, config } => {
                format!("at {index} the group is {}", show_config(&config))
            }
            Output::Dropped { commands, reason } => {
                format!("drops {} proposals: {reason}", commands.len())
            }
            Output::Refused(reason) => format!("refuses: {reason}"),
            Output::ReadSnapshot { to, id: name, offset } => {
                self.asked.push((id, to.0, name, offset));
                format!("asks for an image for {to}, from byte {offset}")
            }
            Output::InstallSnapshot { meta, offset, data, is_last } => {
                let end = offset + data.len() as u64;
                let at = show_position(meta.position);
                if is_last {
                    replica.installing = Some(meta);
                }
                let last = if is_last { ", the last" } else { "" };
                format!("gets bytes {offset}..{end} of the image at {at}{last}")
            }
            Output::Append { .. } | Output::Send(_) | Output::Commit(_) => unreachable!(),
        };
        let _ = writeln!(self.shown, "{id}: {line}");
    }

    fn deliver(&mut self, message: Message) {
        let is_cut = self.cut.contains(&message.from.0) || self.cut.contains(&message.to.0);
        let is_down = self.replicas.get(&message.to.0).is_none_or(|r| r.raft.is_none());
        if is_cut || is_down {
            let _ = writeln!(self.shown, "{}, lost", show(&message));
            return;
        }
        let _ = writeln!(self.shown, "{}", show(&message));
        self.step(message.to.0, Input::Message(message));
    }

    /// Returns false if there was nothing to sync.
    fn sync(&mut self, id: u64) -> bool {
        let replica = self.replicas.get_mut(&id).unwrap();
        let mut newest = None;
        while let Some(stamp) = replica.disk.complete_one() {
            replica.stamps.push(stamp);
            newest = Some(stamp);
        }
        let Some(stamp) = newest else { return false };
        let _ = writeln!(self.shown, "{id}: durable, {}", show_stamp(stamp));
        self.step(id, Input::Persisted(stamp));
        true
    }

    fn stabilize(&mut self, among: &BTreeSet<u64>) {
        let takes_part = |id: u64| among.is_empty() || among.contains(&id);
        for _ in 0..1000 {
            let mut moved = false;
            for id in self.replicas.keys().copied().collect::<Vec<_>>() {
                if takes_part(id) && !self.slow.contains(&id) {
                    moved |= self.sync(id);
                }
            }
            let here = |message: &Message| takes_part(message.from.0) && takes_part(message.to.0);
            let at = self.wire.iter().position(here);
            if let Some(message) = at.and_then(|at| self.wire.remove(at)) {
                self.deliver(message);
                moved = true;
            }
            if !moved {
                return;
            }
        }
        panic!("the group does not come to rest");
    }

    /// Answers the oldest question for a part of an image: twenty bytes, ten at a time.
    fn chunk(
        &mut self,
        args: &mut goldenscript::ArgumentConsumer<'_>,
    ) -> Result<(), Box<dyn Error>> {
        let (id, to) = (positional(args)?, positional(args)?);
        let fails = args.next_pos() == Some("fails");
        let at = self.asked.iter().position(|(from, whom, ..)| (*from, *whom) == (id, to));
        let (_, _, _, offset) = self.asked.remove(at.ok_or("nobody asked")?);
        let meta = self.replicas[&id].disk.image.clone();
        let to = ReplicaId(to);
        let input = if fails {
            Input::SnapshotFailed(to)
        } else {
            let data = Bytes::from_static(b"0123456789");
            Input::SnapshotChunk { to, meta, offset, data, is_last: offset == 10 }
        };
        self.step(id, input);
        Ok(())
    }

    fn show_logs(&mut self, only: Option<u64>) {
        for (id, replica) in &self.replicas {
            let Some(raft) = replica.raft.as_ref().filter(|_| only.is_none_or(|o| o == *id)) else {
                continue;
            };
            let base = raft.base();
            let mut line = format!("{id}:");
            if base.index.0 > 0 {
                let _ = write!(line, " [image at {}]", show_position(base));
            }
            let mut index = base.index.next();
            while let Some(entry) = raft.entry(index) {
                let _ = write!(line, " {}", show_entry(entry));
                index = index.next();
            }
            let (durable, commit) = (raft.durable_index(), raft.commit_index());
            let _ = writeln!(self.shown, "{line} (durable {durable}, committed {commit})");
        }
    }

    fn show_status(&mut self, only: Option<u64>) {
        for (id, replica) in &self.replicas {
            let Some(raft) = replica.raft.as_ref().filter(|_| only.is_none_or(|o| o == *id)) else {
                continue;
            };
            let leader = raft.leader().map_or("nobody".to_string(), |leader| leader.to_string());
            let quiet = if raft.is_quiet() { ", quiet" } else { "" };
            let lease = match raft.lease_until() {
                Some(until) if until.0 > self.now => format!(", lease until {until}"),
                _ => String::new(),
            };
            let (role, term) = (raft.role(), raft.term());
            let _ = writeln!(
                self.shown,
                "{id}: {role:?} in term {term}, leader {leader}{lease}{quiet}"
            );
        }
    }
}

fn show_position(position: Position) -> String {
    format!("{}.{}", position.term, position.index)
}

fn show_stamp(stamp: Stamp) -> String {
    let vote = stamp.hard_state.vote.map_or(String::new(), |vote| format!(" vote {vote}"));
    let (term, accepted, index) = (stamp.hard_state.term, stamp.accepted_term, stamp.index);
    format!("term {term}{vote}, log of term {accepted} up to {index}")
}

fn show_config(config: &Config) -> String {
    let list = |ids: &[ReplicaId]| {
        let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
        ids.join(" ")
    };
    let mut text = format!("({})", list(&config.voters));
    if config.is_joint() {
        let _ = write!(text, " and ({})", list(&config.outgoing));
    }
    if !config.learners.is_empty() {
        let _ = write!(text, " learners {}", list(&config.learners));
    }
    text
}

fn show_entry(entry: &Entry) -> String {
    let said = match &entry.payload {
        Payload::Empty => String::new(),
        Payload::Command(bytes) => format!("={}", String::from_utf8_lossy(bytes)),
        Payload::Config(config) => format!("={}", show_config(config)),
    };
    format!("{}{said}", show_position(entry.position()))
}

fn show(message: &Message) -> String {
    let yes = |is_granted: &bool| if *is_granted { "yes" } else { "no" };
    let said = match &message.body {
        Body::PreVote { last } => format!("log up to {}", show_position(*last)),
        Body::PreVoteReply { asked, is_granted } => {
            format!("{} to term {asked}", yes(is_granted))
        }
        Body::Vote { last, is_transfer } => {
            let why = if *is_transfer { ", the leader wants it" } else { "" };
            format!("log up to {}{why}", show_position(*last))
        }
        Body::VoteReply { is_granted } => yes(is_granted).to_string(),
        Body::Append { previous, commit, entries } => {
            let entries: Vec<_> = entries.iter().map(show_entry).collect();
            let entries = entries.join(" ");
            format!("[{entries}] behind {}, committed {commit}", show_position(*previous))
        }
        Body::AppendReply { matched } => format!("up to {matched}"),
        Body::AppendReject { previous, hint } => {
            format!("not at {previous}, try {}", show_position(*hint))
        }
        Body::Heartbeat { commit, round, is_quiet, .. } => {
            let quiet = if *is_quiet { ", be quiet" } else { "" };
            format!("round {round}, committed {commit}{quiet}")
        }
        Body::HeartbeatReply { round, .. } => format!("round {round}"),
        Body::Snapshot { meta, offset, data, is_last } => {
            let end = offset + data.len() as u64;
            let last = if *is_last { ", the last" } else { "" };
            format!("bytes {offset}..{end} of the image at {}{last}", show_position(meta.position))
        }
        Body::SnapshotReply { offset, .. } => format!("from byte {offset}"),
        Body::TimeoutNow | Body::Stale => String::new(),
    };
    let (from, to, term, name) = (message.from, message.to, message.term, message.body.name());
    let text = format!("{from} → {to}: {name} in term {term}");
    if said.is_empty() { text } else { format!("{text}: {said}") }
}
