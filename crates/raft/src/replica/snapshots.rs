//! Images of the state for replicas that lack what the log no longer has.
//!
//! ```text
//!   driver          leader                         follower           its driver
//!     │◄ ReadSnapshot │                                │                   │
//!     │ SnapshotChunk►│ Snapshot, offset 0 ───────────►│ InstallSnapshot ─►│
//!     │◄ ReadSnapshot │◄──── SnapshotReply, offset n ──│                   │
//!     │ SnapshotChunk►│ Snapshot, offset n, last ─────►│ InstallSnapshot ─►│ checks, makes it
//!     │               │                                │◄── SnapshotDone   │ the state, durably
//!     │               │◄──── AppendReply, its index ───│                   │
//! ```
//!
//! One chunk at a time: the driver chooses their size and so the speed, and asks for none while it
//! is busy. A transfer that broke off goes on where it stopped, since a chunk at any other place is
//! answered with the place that is wanted.
//!
//! The image takes effect here when the driver has made it the state, not when it arrived. A crash
//! in between leaves the old state and the old log, or the new state and the old log: recovery
//! ([`super::recovery`]) does then what [`Raft::snapshot_done`] would have done.

use bytes::Bytes;

use super::{Raft, Role};
use crate::config::Configs;
use crate::progress::{Feeding, Transfer};
use crate::{Body, Output, ReplicaId, SnapshotMeta};

/// For the leader.
impl Raft {
    pub(super) fn send_chunk(
        &mut self,
        to: ReplicaId,
        meta: SnapshotMeta,
        offset: u64,
        data: Bytes,
        is_last: bool,
        out: &mut Vec<Output>,
    ) {
        if self.role != Role::Leader || meta.position.index > self.commit {
            return;
        }
        let now = self.now;
        let Some(progress) = self.leading.find(to) else { return };
        let Feeding::Snapshot(transfer) = &mut progress.feeding else { return };
        let is_wanted = transfer.awaits_driver
            && transfer.offset == offset
            && transfer.meta.as_ref().is_none_or(|known| known.id == meta.id);
        if is_wanted {
            transfer.awaits_driver = false;
            transfer.meta = Some(meta.clone());
            progress.sent_at = now;
            self.send(to, Body::Snapshot { meta, offset, data, is_last }, out);
        }
    }

    /// Tries again later, from the start: the next heartbeat that is answered ends the wait.
    pub(super) fn snapshot_failed(&mut self, to: ReplicaId) {
        let now = self.now;
        if let Some(progress) = self.leading.find(to)
            && matches!(progress.feeding, Feeding::Snapshot(_))
        {
            let next = progress.next;
            progress.probe(next);
            progress.feeding = Feeding::Probe { asked: Some((progress.next.previous(), 0)) };
            progress.sent_at = now;
        }
    }

    pub(super) fn chunk_arrived(
        &mut self,
        from: ReplicaId,
        id: u64,
        wanted: u64,
        out: &mut Vec<Output>,
    ) {
        let now = self.now;
        let Some(progress) = self.leading.find(from) else { return };
        progress.heard_at = now;
        let Feeding::Snapshot(transfer) = &mut progress.feeding else { return };
        let is_current = transfer.meta.as_ref().is_some_and(|meta| meta.id == id);
        if !is_current || transfer.awaits_driver {
            return;
        }
        // What it wants is on its way already. To answer each copy of a reply with a chunk, each of
        // which is replied to, would be an echo that grows; a chunk that was lost is sent again in
        // time.
        if wanted == transfer.offset {
            return;
        }
        // The place is its choice: it may have a part of this image from before, or have lost it.
        transfer.offset = wanted;
        transfer.awaits_driver = true;
        // Who begins anew is better off with a newer one; this one may even be no good.
        let id = (wanted > 0).then_some(id);
        if id.is_none() {
            transfer.meta = None;
        }
        progress.sent_at = now;
        out.push(Output::ReadSnapshot { to: from, id, offset: wanted });
    }

    /// Asks the driver for the chunk that was not answered.
    pub(super) fn ask_driver_again(&mut self, to: ReplicaId, out: &mut Vec<Output>) {
        let now = self.now;
        let Some(progress) = self.leading.find(to) else { return };
        if let Feeding::Snapshot(Transfer { meta, offset, awaits_driver }) = &mut progress.feeding {
            *awaits_driver = true;
            progress.sent_at = now;
            let id = meta.as_ref().map(|meta| meta.id);
            out.push(Output::ReadSnapshot { to, id, offset: *offset });
        }
    }
}

/// For the follower.
impl Raft {
    pub(super) fn accept_chunk(
        &mut self,
        from: ReplicaId,
        meta: SnapshotMeta,
        offset: u64,
        data: Bytes,
        is_last: bool,
        out: &mut Vec<Output>,
    ) {
        if !self.hear_leader(from, out) || self.following.is_installing() {
            return;
        }
        let position = meta.position;
        if self.log.term_at(position.index) == Some(position.term) {
            // Raft figure 13, step 6: the log has all that, and is worth more. What is in an image
            // is committed.
            self.commit_to(position.index, out);
        }
        if position.index <= self.commit {
            // The leader goes on behind what is durable of it.
            self.following.incoming = None;
            self.following.owe(self.commit);
            return self.settle_acknowledgement(out);
        }
        let wanted = match &self.following.incoming {
            Some((known, received)) if known.id == meta.id => *received,
            _ => 0,
        };
        let id = meta.id;
        if offset != wanted {
            return self.send(from, Body::SnapshotReply { id, offset: wanted }, out);
        }
        let received = offset.saturating_add(data.len() as u64);
        if is_last {
            self.following.incoming = None;
            self.following.installing = Some(meta.clone());
        } else {
            self.following.incoming = Some((meta.clone(), received));
            self.send(from, Body::SnapshotReply { id, offset: received }, out);
        }
        out.push(Output::InstallSnapshot { meta, offset, data, is_last });
    }

    pub(super) fn snapshot_done(&mut self, id: u64, is_installed: bool, out: &mut Vec<Output>) {
        if self.following.installing.as_ref().is_none_or(|meta| meta.id != id) {
            return;
        }
        let Some(meta) = self.following.installing.take() else { return };
        if !is_installed {
            if let Some(leader) = self.leader {
                self.send(leader, Body::SnapshotReply { id, offset: 0 }, out);
            }
            return;
        }
        // The log has nothing that agrees with the image, or it would not have been taken; and it
        // took nothing in since, nor was anything of it committed.
        let position = meta.position;
        self.log.reset(position, self.hard_state.term);
        self.configs = Configs::new(meta.config_index, meta.config);
        self.config_changed(out);
        self.commit = position.index;
        self.applied = position.index;
        self.following.owe(position.index);
        self.settle_acknowledgement(out);
    }
}
