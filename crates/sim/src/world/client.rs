//! Clients: ordinary asynchronous code, run by the world one step at a time.
//!
//! ```text
//!   program                 client                       world
//!     │ db.read(keys).await    │ Call { to, bytes } ────────►│ network ─► node
//!     │                        │                             │
//!     │                        │ ◄──── Reply, or TimedOut ───│ network ◄─ node
//!     │ ◄── Ok(Snapshot)       │   (asks another node, if that is safe)
//! ```
//!
//! The connections of clients lose and delay, and do not double: that is what TCP does. A request
//! without an answer may have been carried out, so a read is asked again and a commit is not.

use std::cell::{Ref, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use env::SeededRandom;

use super::clock::{MS, SECOND, Time};
use super::node::NodeId;
use super::request::{Reply, Request, Write};
use crate::history::Recorder;

/// How long a client waits for an answer, in microseconds: some elections.
pub(crate) const ANSWER_MICROS_MAX: u64 = 4 * SECOND;

/// How often an operation is tried, if it is certain that it did not take place.
const TRIES_MAX: u32 = 30;

/// The code of a client.
pub type Program = Pin<Box<dyn Future<Output = ()>>>;

/// The values of some keys at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The moment: given to [`Client::commit`], it says what the commit rests on.
    pub read_ts: u64,
    /// In the order of the keys that were asked for.
    pub values: Vec<Option<Bytes>>,
}

/// Why there is no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Nothing took place: something that was read was written since.
    Conflict,
    /// Nothing took place, though it was tried for a while.
    NotDone,
    /// The commit took place, or will, or never.
    Unknown,
}

/// A client's connection to the cluster. Clones are the same client.
#[derive(Clone)]
pub struct Client {
    state: Rc<RefCell<State>>,
}

struct State {
    number: u64,
    now: Time,
    random: SeededRandom,
    recorder: Rc<Recorder>,
    nodes: Vec<NodeId>,
    /// Whom it asks next.
    target: NodeId,
    is_closing: bool,
    done: u64,
    ask: Option<Ask>,
    answer: Option<Answer>,
}

/// What a client wants of the world.
#[derive(Debug)]
pub(crate) enum Ask {
    Call { to: NodeId, bytes: Bytes },
    Sleep { micros: u64 },
}

/// What it gets.
#[derive(Debug)]
pub(crate) enum Answer {
    Reply(Bytes),
    TimedOut,
}

/// For programs.
impl Client {
    /// Returns which client it is, from 1.
    pub fn number(&self) -> u64 {
        self.state.borrow().number
    }

    /// Returns the time of the world: good for measuring, and for nothing else.
    pub fn now(&self) -> Time {
        self.state.borrow().now
    }

    /// Returns a number below `end`, which is not zero, from the seed.
    pub fn random(&self, end: u64) -> u64 {
        self.state.borrow_mut().random.below(end)
    }

    /// Returns the recorder of the history that is checked at the end.
    pub fn recorder(&self) -> Ref<'_, Recorder> {
        Ref::map(self.state.borrow(), |state| &*state.recorder)
    }

    /// Returns true once the world is calm and about to end: a program ends then, perhaps after a
    /// last look.
    pub fn is_closing(&self) -> bool {
        self.state.borrow().is_closing
    }

    /// Waits.
    pub async fn sleep(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.ask(Ask::Sleep { micros }).await;
    }

    /// Reads keys, all at one moment, which is not before this call.
    ///
    /// # Errors
    /// [`Failure::NotDone`].
    pub async fn read(&self, keys: &[&str]) -> Result<Snapshot, Failure> {
        let keys = keys.iter().map(|key| Bytes::copy_from_slice(key.as_bytes())).collect();
        match self.call(&Request::Read { keys }, true).await {
            Ok(Reply::Values { read_ts, values }) => Ok(Snapshot { read_ts, values }),
            _ => Err(Failure::NotDone),
        }
    }

    /// Writes, if nothing of `reads` was written since `read_ts`. Returns when.
    ///
    /// # Errors
    /// Any [`Failure`].
    pub async fn commit(
        &self,
        read_ts: u64,
        reads: &[&str],
        writes: &[(&str, Option<&[u8]>)],
    ) -> Result<u64, Failure> {
        let reads = reads.iter().map(|key| Bytes::copy_from_slice(key.as_bytes())).collect();
        let writes = writes.iter().map(|(key, value)| -> Write {
            let value = value.map(Bytes::copy_from_slice);
            (Bytes::copy_from_slice(key.as_bytes()), value)
        });
        let writes = writes.collect();
        match self.call(&Request::Commit { read_ts, reads, writes }, false).await? {
            Reply::Committed { commit_ts } => Ok(commit_ts),
            Reply::Conflict => Err(Failure::Conflict),
            _ => Err(Failure::Unknown),
        }
    }

    async fn call(&self, request: &Request, is_harmless: bool) -> Result<Reply, Failure> {
        let mut bytes = Vec::with_capacity(64);
        request.encode(&mut bytes);
        let bytes = Bytes::from(bytes);
        for _ in 0..TRIES_MAX {
            let to = self.state.borrow().target;
            let reply = match self.ask(Ask::Call { to, bytes: bytes.clone() }).await {
                Answer::Reply(bytes) => Reply::decode(&bytes).unwrap_or(Reply::Unknown),
                Answer::TimedOut => Reply::Unknown,
            };
            let next = match reply {
                Reply::NotLeader { leader } => leader,
                Reply::Busy => Some(to),
                Reply::Unknown if is_harmless => None,
                Reply::Unknown => {
                    self.look_elsewhere(None);
                    return Err(Failure::Unknown);
                }
                Reply::Values { .. } | Reply::Committed { .. } | Reply::Conflict => {
                    self.state.borrow_mut().done += 1;
                    return Ok(reply);
                }
            };
            self.look_elsewhere(next);
            let micros = 10 * MS + self.random(200 * MS);
            self.ask(Ask::Sleep { micros }).await;
        }
        Err(Failure::NotDone)
    }

    fn look_elsewhere(&self, next: Option<NodeId>) {
        let state = &mut *self.state.borrow_mut();
        // Not the one that has just been asked, if there is another: it may be gone for good, and a
        // client that keeps asking it gets no answer for as long as chance wills.
        let count = state.nodes.len();
        let asked = state.nodes.iter().position(|node| *node == state.target).unwrap_or(0);
        let step = 1 + state.random.below(count.max(2) as u64 - 1) as usize;
        let anybody = state.nodes[(asked + step) % count];
        state.target = next.filter(|next| state.nodes.contains(next)).unwrap_or(anybody);
    }

    fn ask(&self, ask: Ask) -> Asked<'_> {
        self.state.borrow_mut().ask = Some(ask);
        Asked(&self.state)
    }
}

/// Waits for the answer of the world.
struct Asked<'a>(&'a RefCell<State>);

impl Future for Asked<'_> {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Answer> {
        // Nobody needs waking: the world polls when it has put an answer there.
        self.0.borrow_mut().answer.take().map_or(Poll::Pending, Poll::Ready)
    }
}

/// A client and its program, as the world holds them.
pub(crate) struct Session {
    client: Client,
    program: Option<Program>,
    /// What it waits for: the number of a request, or of a sleep.
    pub(crate) waits_for: u64,
    pub(crate) asked_at: Time,
}

impl Session {
    pub(crate) fn new(
        number: u64,
        random: SeededRandom,
        recorder: Rc<Recorder>,
        nodes: Vec<NodeId>,
        program: impl FnOnce(Client) -> Program,
    ) -> Session {
        let target = nodes[number as usize % nodes.len()];
        let state = State {
            number,
            now: Time(0),
            random,
            recorder,
            nodes,
            target,
            is_closing: false,
            done: 0,
            ask: None,
            answer: None,
        };
        let client = Client { state: Rc::new(RefCell::new(state)) };
        let program = Some(program(client.clone()));
        Session { client, program, waits_for: 0, asked_at: Time(0) }
    }

    /// Runs the program until it asks something; none if it has ended.
    pub(crate) fn resume(&mut self, now: Time, answer: Option<Answer>) -> Option<Ask> {
        let mut state = self.client.state.borrow_mut();
        (state.now, state.answer) = (now, answer);
        drop(state);
        let program = self.program.as_mut()?;
        if program.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            self.program = None;
            return None;
        }
        let ask = self.client.state.borrow_mut().ask.take();
        Some(ask.expect("a program of a world waits for nothing but its client"))
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.program.is_none()
    }

    /// Returns how many operations were answered.
    pub(crate) fn done(&self) -> u64 {
        self.client.state.borrow().done
    }

    pub(crate) fn close(&self) {
        self.client.state.borrow_mut().is_closing = true;
    }

    pub(crate) fn learn_of(&self, node: NodeId) {
        self.client.state.borrow_mut().nodes.push(node);
    }
}
