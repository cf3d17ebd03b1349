//! Images of the state: sent by a leader piece by piece, and installed whole or not at all.
//!
//! ```text
//!   chunk   +--------+-----------+---------------+---------------+- - -+---------+
//!           | format | state len | state         | rows: varint  | row | crc32c  |
//!           |  1     |           | (first chunk) |               |     | of all  |
//!           +--------+-----------+---------------+---------------+- - -+---------+
//!   row     | key len | key | timestamp | kind: 1 put, 2 deleted | value len | value (put) |
//!
//!   keys    02…a  02…b  03…x  03…y  03…z           a chunk holds whole keys, with all versions
//!           '─ chunk 1 ─'└─ chunk 2 ───┘           above the garbage watermark and the one that
//!           0            812        1630           is visible at it: so each can be made alone
//! ```
//!
//! An image is the state after one entry. Nothing is copied when it is begun: versions are kept by
//! pins, and newer ones are left out by their timestamps, so the same offset gives the same bytes
//! as long as the pins are held. Where chunks begin is remembered, so that a transfer goes on where
//! it stopped, and several can share an image.
//!
//! The receiver writes tables that nobody knows, and switches to them when the last chunk has come
//! and is what the protocol announced. A crash before leaves the old state, a crash after it the
//! new one ([`storage::Image`]).

use std::cmp::Reverse;
use std::collections::BTreeMap;

use base::codec::{Reader, Truncated, put_bytes, put_u32, put_varint};
use base::{KeyRange, Timestamp, checksum, range};
use bytes::Bytes;
use raft::{ReplicaId, SnapshotMeta, Ticks};
use storage::memtable::Direction;
use storage::{Image, ReadPin, Value, Visit};

use super::{Output, Replica};
use crate::command::as_value;
use crate::state::{RECORD, State, state_key};

const FORMAT: u8 = 1;

/// An image that is being sent.
pub(super) struct Outgoing {
    meta: SnapshotMeta,
    state: State,
    /// Keep what is visible at the watermark, and at the image's own end.
    oldest: ReadPin,
    newest: ReadPin,
    /// The first key of each chunk, by where the chunk begins.
    chunks: BTreeMap<u64, Bytes>,
}

/// An image that came to nothing. The protocol is told a while later, and asks for it again then: a
/// disk that takes nothing would otherwise be sent images as fast as the network carries them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spoiled {
    id: u64,
    pub(super) until: Ticks,
}

/// An image that is coming in.
pub(super) struct Incoming {
    id: u64,
    state: Option<State>,
    /// None if something was wrong with it.
    image: Option<Image>,
}

/// For the leader.
impl Replica {
    /// Gives the protocol the part of an image that it asks for.
    pub(super) fn send_image(
        &mut self,
        to: ReplicaId,
        id: Option<u64>,
        offset: u64,
        out: &mut Vec<Output>,
    ) {
        let is_usable = |outgoing: &Outgoing| match id {
            Some(id) => outgoing.meta.id == id,
            None => outgoing.meta.position.index >= self.raft.base().index,
        };
        if !self.outgoing.as_ref().is_some_and(is_usable) {
            self.outgoing = if id.is_none() { self.begin_image() } else { None };
        }
        let chunk_bytes = self.options.chunk_bytes;
        let chunk = match &mut self.outgoing {
            Some(outgoing) => outgoing.chunk(offset, chunk_bytes),
            None => Ok(None),
        };
        let meta = self.outgoing.as_ref().map(|outgoing| outgoing.meta.clone());
        match (chunk, meta) {
            (Ok(Some((data, is_last))), Some(meta)) => {
                self.raft_step(raft::Input::SnapshotChunk { to, meta, offset, data, is_last });
            }
            (result, _) => {
                if let Err(error) = result {
                    out.push(Output::Trace(format!("an image for replica {to}: {error}")));
                }
                self.raft_step(raft::Input::SnapshotFailed(to));
            }
        }
    }

    fn begin_image(&self) -> Option<Outgoing> {
        let state = self.state.clone();
        // What it holds is decided by the state, and how it is cut by this replica's options.
        let parts = [state.applied.index.0, state.applied.term.0, self.options.id.0];
        let id = parts.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, part| {
            (hash ^ part).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29)
        });
        Some(Outgoing {
            meta: self.raft.snapshot_meta(state.applied.index, id)?,
            oldest: self.engine.pin_at(state.gc_ts).ok()?,
            newest: self.engine.pin_at(state.last_ts).ok()?,
            chunks: BTreeMap::from([(0, Bytes::from_static(&[RECORD]))]),
            state,
        })
    }
}

impl Outgoing {
    /// Returns the chunk at an offset, and whether it is the last one; none if no chunk begins
    /// there.
    fn chunk(&mut self, offset: u64, bytes_max: usize) -> storage::Result<Option<(Bytes, bool)>> {
        let Some(start) = self.chunks.get(&offset).cloned() else { return Ok(None) };
        let mut end = None;
        let mut bytes = 0;
        let mut rows =
            self.newest.rows(KeyRange { start: start.clone(), end: None }, Direction::Forward);
        let is_last = rows.visit(|key, _, value| {
            bytes += key.len() + value.len();
            if bytes < bytes_max {
                return Visit::Next;
            }
            end = Some(range::successor(key));
            Visit::Stop
        })?;
        let end = if is_last { None } else { end };
        let versions = self.versions(&KeyRange { start, end: end.clone() })?;
        let state = if offset == 0 { self.state.encode() } else { Vec::new() };
        let chunk = encode_chunk(&state, &versions);
        if let Some(end) = end {
            self.chunks.insert(offset + chunk.len() as u64, end);
        }
        Ok(Some((chunk, is_last)))
    }

    fn versions(&self, range: &KeyRange) -> storage::Result<Versions> {
        let mut versions = Versions::new();
        if !cfg!(mutant = "images_lack_the_past") {
            self.oldest.rows(range.clone(), Direction::Forward).visit(|key, ts, value| {
                let value = Some(Bytes::copy_from_slice(value));
                versions.insert((Bytes::copy_from_slice(key), Reverse(ts)), value);
                Visit::Next
            })?;
        }
        let (after, through) = (self.oldest.ts(), self.newest.ts());
        self.oldest.history(range, after, through, |key, ts, value| {
            let value = value.as_put().map(Bytes::copy_from_slice);
            versions.insert((Bytes::copy_from_slice(key), Reverse(ts)), value);
        })?;
        Ok(versions)
    }
}

/// Versions in the order of their keys, the newest first.
pub(super) type Versions = BTreeMap<(Bytes, Reverse<Timestamp>), Option<Bytes>>;

fn encode_chunk(state: &[u8], versions: &Versions) -> Bytes {
    let mut out = vec![FORMAT];
    put_bytes(&mut out, state);
    put_varint(&mut out, versions.len() as u64);
    for ((key, Reverse(ts)), value) in versions {
        put_bytes(&mut out, key);
        put_varint(&mut out, ts.raw());
        match value {
            Some(value) => {
                out.push(1);
                put_bytes(&mut out, value);
            }
            None => out.push(2),
        }
    }
    let crc = checksum::of(&[&out]);
    put_u32(&mut out, crc);
    Bytes::from(out)
}

/// The state, if it is the first chunk, and its rows.
type Chunk = (Option<State>, Vec<(Bytes, Timestamp, Option<Bytes>)>);

fn decode_chunk(bytes: &Bytes) -> Result<Chunk, String> {
    let cut = |_: Truncated| "the chunk is cut short".to_string();
    let body = bytes.len().checked_sub(4).ok_or("the chunk is cut short")?;
    let crc = Reader::new(&bytes[body..]).u32().map_err(cut)?;
    if crc != checksum::of(&[&bytes[..body]]) {
        return Err("the chunk has a bad checksum".into());
    }
    let mut reader = Reader::new(&bytes[..body]);
    let format = reader.u8().map_err(cut)?;
    if format != FORMAT {
        return Err(format!("the chunk has format {format}, this program reads {FORMAT}"));
    }
    let state = reader.bytes().map_err(cut)?;
    let state = if state.is_empty() { None } else { Some(State::decode(state)?) };
    let count = reader.varint().map_err(cut)?;
    let mut rows = Vec::new();
    for _ in 0..count {
        let key = bytes.slice_ref(reader.bytes().map_err(cut)?);
        let ts = Timestamp::from_raw(reader.varint().map_err(cut)?);
        let value = match reader.u8().map_err(cut)? {
            1 => Some(bytes.slice_ref(reader.bytes().map_err(cut)?)),
            2 => None,
            kind => return Err(format!("a row has kind {kind}, which nobody knows")),
        };
        rows.push((key, ts, value));
    }
    Ok((state, rows))
}

/// For the follower.
impl Replica {
    /// Takes a part of an image in, and makes the image the state when it is whole.
    pub(super) fn take_chunk(
        &mut self,
        meta: SnapshotMeta,
        offset: u64,
        data: &Bytes,
        is_last: bool,
        out: &mut Vec<Output>,
    ) {
        if offset == 0 {
            let image = self.engine.begin_image();
            self.incoming = Some(Incoming { id: meta.id, state: None, image: image.ok() });
        }
        let group = self.options.group;
        if let Some(incoming) = self.incoming.as_mut().filter(|known| known.id == meta.id)
            && let Err(what) = incoming.take(group, data)
        {
            out.push(Output::Trace(format!("an image that comes in: {what}")));
            incoming.image = None;
        }
        if is_last {
            let id = meta.id;
            let is_installed = self.install(meta, out);
            if is_installed {
                self.raft_step(raft::Input::SnapshotDone { id, is_installed });
            } else {
                let until = self.now.after(self.options.raft.snapshot_retry_ticks);
                self.spoiled = Some(Spoiled { id, until });
            }
        }
    }

    /// Tells the protocol of an image that came to nothing, when it is time.
    pub(super) fn give_image_up(&mut self) {
        if let Some(Spoiled { id, until }) = self.spoiled
            && until <= self.now
        {
            self.spoiled = None;
            self.raft_step(raft::Input::SnapshotDone { id, is_installed: false });
        }
    }

    fn install(&mut self, meta: SnapshotMeta, out: &mut Vec<Output>) -> bool {
        let incoming = self.incoming.take().filter(|incoming| incoming.id == meta.id);
        let Some(Incoming { state: Some(state), image: Some(image), .. }) = incoming else {
            return false;
        };
        let is_meant = state.applied == meta.position
            && state.config == meta.config
            && state.config_index == meta.config_index;
        if !is_meant || state.applied.index <= self.state.applied.index {
            out.push(Output::Trace("an image came that is not the one that was meant".into()));
            return false;
        }
        // The term in which it was accepted, before the image that may be of that term.
        let installed = self.engine.log_write().run();
        let last = state.last_ts.max(state.row_ts());
        let installed = installed.and_then(|()| image.install(last, state.gc_ts));
        if let Err(error) = installed {
            self.fail(format!("an image could not be installed: {error}"));
            return false;
        }
        if cfg!(mutant = "installs_the_state_apart") {
            let (key, bytes) = (state_key(self.options.group), state.encode());
            let row = (&key[..], Value::Put(&bytes[..]));
            self.engine.put_applied(state.row_ts(), [row].into_iter());
        }
        self.outgoing = None;
        self.sealed.clear();
        self.flushed = state.applied.index;
        while self.positions.front().is_some_and(|(index, _)| *index <= state.applied.index) {
            self.positions.pop_front();
        }
        out.push(Output::Trace(format!("installed an image up to entry {}", state.applied.index)));
        self.state = state;
        self.serve_reads(out);
        true
    }
}

impl Incoming {
    fn take(&mut self, group: u64, data: &Bytes) -> Result<(), String> {
        let Some(image) = &mut self.image else { return Ok(()) };
        let (state, rows) = decode_chunk(data)?;
        if let Some(state) = state {
            let (key, bytes) = (state_key(group), state.encode());
            if !cfg!(mutant = "installs_the_state_apart") {
                let put = image.add(&key, state.row_ts(), Value::Put(&bytes));
                put.map_err(|error| error.to_string())?;
            }
            self.state = Some(state);
        }
        for (key, ts, value) in &rows {
            image.add(key, *ts, as_value(value)).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bit_of_a_chunk_can_change() {
        let mut versions = Versions::new();
        let key = |name: &'static str| Bytes::from_static(name.as_bytes());
        let ts = Timestamp::from_raw;
        versions.insert((key("a"), Reverse(ts(9))), None);
        versions.insert((key("a"), Reverse(ts(3))), Some(key("old")));
        let chunk = encode_chunk(&[], &versions);
        let (state, rows) = decode_chunk(&chunk).unwrap();
        assert_eq!(state, None);
        assert_eq!(rows, [(key("a"), ts(9), None), (key("a"), ts(3), Some(key("old")))]);
        for at in 0..chunk.len() {
            let mut bad = chunk.to_vec();
            bad[at] ^= 4;
            assert!(decode_chunk(&Bytes::from(bad)).is_err(), "byte {at}");
            assert!(decode_chunk(&chunk.slice(..at)).is_err(), "cut at {at}");
        }
    }
}
