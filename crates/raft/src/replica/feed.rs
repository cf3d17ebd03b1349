//! Feeding the others: which entries are sent to whom, and when.
//!
//! Runs at the end of each step of a leader, so that what one input brought goes out in one
//! message.
//!
//! ```text
//!   next ▼                      window: 256 messages, 4 MiB
//!   ─────[e e e e][e e e e][e e]
//!         └ one message: as many as message_bytes_max allows
//! ```

use super::Raft;
use crate::log::Log;
use crate::progress::{Feeding, Progress, Transfer};
use crate::{Body, Entry, LogIndex, Message, Options, Output, Position, ReplicaId, Term, Ticks};

/// What each message of a leader is made from.
struct Feeder<'a> {
    me: ReplicaId,
    term: Term,
    now: Ticks,
    commit: LogIndex,
    log: &'a Log,
    options: &'a Options,
}

impl Raft {
    /// Sends to each other replica what it lacks and has room for.
    pub(super) fn feed_all(&mut self, out: &mut Vec<Output>) {
        if self.is_quiet {
            return;
        }
        let feeder = Feeder {
            me: self.id,
            term: self.hard_state.term,
            now: self.now,
            commit: self.commit,
            log: &self.log,
            options: &self.options,
        };
        for progress in &mut self.leading.progress {
            feeder.feed(progress, out);
        }
    }

    /// Asks a replica whether what is in flight has arrived.
    pub(super) fn ask_where(&mut self, id: ReplicaId, out: &mut Vec<Output>) {
        let feeder = Feeder {
            me: self.id,
            term: self.hard_state.term,
            now: self.now,
            commit: self.commit,
            log: &self.log,
            options: &self.options,
        };
        if let Some(progress) = self.leading.find(id) {
            feeder.send(progress, false, out);
        }
    }
}

impl Feeder<'_> {
    fn feed(&self, progress: &mut Progress, out: &mut Vec<Output>) {
        match progress.feeding {
            Feeding::Snapshot(_) | Feeding::Probe { asked: Some(_) } => {}
            Feeding::Probe { asked: None } => {
                if let Some(sent) = self.send(progress, true, out) {
                    progress.feeding = Feeding::Probe { asked: Some(sent) };
                }
            }
            Feeding::Replicate => {
                let (messages, bytes) =
                    (self.options.inflight_messages_max, self.options.inflight_bytes_max);
                let last = self.log.last_index();
                while progress.next <= last && progress.has_room(messages, bytes) {
                    if self.send(progress, true, out).is_none() {
                        return;
                    }
                }
                let can_know = self.commit.min(progress.next.previous());
                if self.options.tells_commit_at_once && can_know > progress.told_commit {
                    self.send(progress, false, out);
                }
            }
        }
    }

    /// Sends what follows behind `next`, or an empty message. Returns the last index in it and its
    /// bytes; none if an image is needed.
    fn send(
        &self,
        progress: &mut Progress,
        has_entries: bool,
        out: &mut Vec<Output>,
    ) -> Option<(LogIndex, usize)> {
        let previous = progress.next.previous();
        let Some(term) = self.log.term_at(previous) else {
            progress.feed(Feeding::Snapshot(Transfer {
                meta: None,
                offset: 0,
                awaits_driver: true,
            }));
            progress.sent_at = self.now;
            out.push(Output::ReadSnapshot { to: progress.id, id: None, offset: 0 });
            return None;
        };
        let (count, bytes) = if has_entries { self.fitting(progress.next) } else { (0, 0) };
        let entries: Vec<Entry> = self.log.from(progress.next).take(count).cloned().collect();
        if let (Feeding::Replicate, Some(last)) = (&progress.feeding, entries.last()) {
            progress.sent(last.index, bytes);
        }
        progress.sent_at = self.now;
        let end = LogIndex(previous.0 + entries.len() as u64);
        progress.told_commit = progress.told_commit.max(self.commit.min(end));
        let previous = Position { term, index: previous };
        let body = Body::Append { previous, commit: self.commit, entries };
        let message = Message { from: self.me, to: progress.id, term: self.term, body };
        out.push(Output::Send(message));
        Some((end, bytes))
    }

    /// Returns how many entries from an index on go into one message, and their bytes; one always
    /// does.
    fn fitting(&self, from: LogIndex) -> (usize, usize) {
        let (mut count, mut sum) = (0, 0);
        for entry in self.log.from(from) {
            let bytes = entry.bytes();
            if count > 0 && sum + bytes > self.options.message_bytes_max {
                break;
            }
            count += 1;
            sum += bytes;
        }
        (count, sum)
    }
}
