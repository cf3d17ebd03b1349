//! What the node has on its disk: one file, `log`, of records. It begins with an image of the
//! state, and is replaced whole by another one (written beside it, synced, renamed) when a newer
//! image is made and whenever the node opens.
//!
//! ```text
//!   0        4        8      9
//!   +--------+--------+------+------ - -
//!   | length | crc32c | kind | body                 length: of kind and body
//!   +--------+--------+------+------ - -
//!
//!   1 Image   id term index config_index config data      the state, first in the file
//!   2 State   term vote                                   the hard state
//!   3 Cut     index                                       entries from here on are gone
//!   4 Entry   term index payload
//!   5 Mark    length                                      so much of the file is durable for sure
//! ```
//!
//! # A torn tail is not damage
//! Each write begins with a mark. Records behind the newest mark's length were promised to nobody,
//! and a crash may leave any part of them. A bad record before it is damage, and the node does not
//! open. The last write of all is covered by no mark: if bits change in there *and* the node
//! crashes before its next write, it is taken for torn.
//!
//! # Why it is rewritten at each opening
//! After a failed sync a process that opens the file anew sees bytes that the disk does not have,
//! and no later sync brings them there. Nothing that was only read can be promised.

use std::io;
use std::path::Path;

use base::checksum;
use base::codec::{Reader, Truncated, put_bytes, put_varint};
use bytes::Bytes;
use env::{Disk, File, OpenMode};
use raft::{
    Config, Entry, HardState, LogIndex, Position, Recovered, ReplicaId, SnapshotMeta, Term, codec,
};

const IMAGE: u8 = 1;
const STATE: u8 = 2;
const CUT: u8 = 3;
const ENTRY: u8 = 4;
const MARK: u8 = 5;

const NAME: &str = "log";
const NEW: &str = "new";

/// Length and checksum, in bytes.
const HEADER_BYTES: usize = 8;

/// The file, open for appending.
pub(super) struct LogFile {
    file: Box<dyn File>,
    len: u64,
    /// What is to be appended by the next write.
    batch: Vec<u8>,
}

/// What stands in a file.
pub(super) struct Found {
    pub(super) recovered: Recovered,
    /// The state in the image.
    pub(super) data: Bytes,
}

impl LogFile {
    /// Writes a file that holds this and nothing else, in place of any there is.
    ///
    /// # Durability
    /// It is durable once this returns; after an error the old one or the new one is.
    pub(super) fn replace<'a>(
        disk: &dyn Disk,
        image: (&SnapshotMeta, &[u8]),
        hard_state: HardState,
        entries: impl Iterator<Item = &'a Entry>,
    ) -> io::Result<LogFile> {
        let mut bytes = Vec::new();
        put_image(&mut bytes, image.0, image.1);
        put_state(&mut bytes, hard_state);
        entries.for_each(|entry| put_entry(&mut bytes, entry));
        let len = bytes.len() as u64;
        put_mark(&mut bytes, len);
        if disk.exists(Path::new(NEW))? {
            disk.remove(Path::new(NEW))?;
        }
        let file = disk.open(Path::new(NEW), OpenMode::CreateNew)?;
        file.write_at(&bytes, 0)?;
        if !cfg!(mutant = "node_renames_before_sync") {
            file.sync()?;
        }
        disk.rename(Path::new(NEW), Path::new(NAME))?;
        disk.sync_dir(Path::new(""))?;
        Ok(LogFile { file, len: bytes.len() as u64, batch: Vec::new() })
    }

    /// Adds a write of the replica to the batch.
    pub(super) fn add(
        &mut self,
        cut_from: Option<LogIndex>,
        entries: &[Entry],
        hard_state: Option<HardState>,
    ) {
        if let Some(hard_state) = hard_state
            && !cfg!(mutant = "node_forgets_hard_state")
        {
            put_state(&mut self.batch, hard_state);
        }
        if let Some(from) = cut_from
            && !cfg!(mutant = "node_forgets_cut")
        {
            record(&mut self.batch, CUT, |out| put_varint(out, from.0));
        }
        entries.iter().for_each(|entry| put_entry(&mut self.batch, entry));
    }

    /// Returns how long the batch is.
    pub(super) fn batch_len(&self) -> usize {
        self.batch.len()
    }

    /// Writes so much of the batch.
    ///
    /// # Durability
    /// It is durable once this returns; after an error nobody knows.
    pub(super) fn write(&mut self, len: usize) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(len + 2 * HEADER_BYTES);
        put_mark(&mut bytes, self.len);
        bytes.extend(self.batch.drain(..len));
        self.file.write_at(&bytes, self.len)?;
        if !cfg!(mutant = "node_skips_sync") {
            self.file.sync()?;
        }
        self.len += bytes.len() as u64;
        Ok(())
    }
}

/// Reads the file; none if there is none.
pub(super) fn read(disk: &dyn Disk) -> Result<Option<Found>, String> {
    let said = |error: io::Error| format!("the log cannot be read: {error}");
    if !disk.exists(Path::new(NAME)).map_err(said)? {
        return Ok(None);
    }
    let file = disk.open(Path::new(NAME), OpenMode::Read).map_err(said)?;
    let bytes = Bytes::from(file.read_all().map_err(said)?);
    let mut found: Option<Found> = None;
    let mut at = 0;
    let mut sure = 0;
    while let Some(body) = record_at(&bytes, at) {
        let next = at + HEADER_BYTES + body.len();
        take_in(&mut found, &bytes.slice_ref(body), &mut sure)
            .map_err(|_| format!("the record at byte {at} of the log is none"))?;
        at = next;
    }
    // Nobody knows where records begin behind a bad one, so each byte is tried.
    let later = (at + 1..bytes.len()).filter_map(|at| record_at(&bytes, at));
    for body in later.filter(|body| body[0] == MARK) {
        sure = sure.max(Reader::new(&body[1..]).varint().unwrap_or(0));
    }
    if (at as u64) < sure && !cfg!(mutant = "node_takes_damage_for_torn") {
        return Err(format!("the log is damaged at byte {at}, and was durable up to {sure}"));
    }
    found.map(Some).ok_or_else(|| "the log does not begin with an image".to_owned())
}

fn take_in(found: &mut Option<Found>, body: &Bytes, sure: &mut u64) -> Result<(), Truncated> {
    let mut reader = Reader::new(body);
    let kind = reader.u8()?;
    match (kind, found) {
        (IMAGE, found @ None) => {
            let (image, data) = image(body, &mut reader)?;
            // The file was durable before it was called so, up to what follows at once.
            *sure = (HEADER_BYTES + body.len()) as u64;
            let commit = image.position.index;
            let hard_state = HardState::default();
            let recovered = Recovered { hard_state, image, entries: Vec::new(), commit };
            *found = Some(Found { recovered, data });
        }
        (STATE, Some(found)) => {
            let (term, vote) = (Term(reader.varint()?), reader.varint()?);
            let vote = (vote > 0).then_some(ReplicaId(vote));
            found.recovered.hard_state = HardState { term, vote };
        }
        (CUT, Some(found)) => {
            let from = reader.varint()?;
            found.recovered.entries.retain(|entry| entry.index.0 < from);
        }
        (ENTRY, Some(found)) => {
            let (term, index) = (Term(reader.varint()?), LogIndex(reader.varint()?));
            let payload = codec::decode_payload(&body.slice_ref(reader.bytes()?));
            let payload = payload.map_err(|_| Truncated)?;
            found.recovered.entries.push(Entry { term, index, payload });
        }
        (MARK, Some(_)) => *sure = (*sure).max(reader.varint()?),
        _ => return Err(Truncated),
    }
    Ok(())
}

fn image(all: &Bytes, reader: &mut Reader<'_>) -> Result<(SnapshotMeta, Bytes), Truncated> {
    let id = reader.varint()?;
    let position = Position { term: Term(reader.varint()?), index: LogIndex(reader.varint()?) };
    let config_index = LogIndex(reader.varint()?);
    let config: Config = codec::decode_config(reader.bytes()?).map_err(|_| Truncated)?;
    let data = all.slice_ref(reader.bytes()?);
    Ok((SnapshotMeta { position, config: config.into(), config_index, id }, data))
}

/// Returns kind and body of a record, if a whole one begins there.
fn record_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let mut reader = Reader::new(bytes.get(at..)?);
    let (len, crc) = (reader.u32().ok()?, reader.u32().ok()?);
    let body = reader.take(len as usize).ok()?;
    (!body.is_empty() && checksum::of(&[body]) == crc).then_some(body)
}

fn record(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.resize(start + HEADER_BYTES, 0);
    out.push(kind);
    body(out);
    let len = out.len() - start - HEADER_BYTES;
    let crc = checksum::of(&[&out[start + HEADER_BYTES..]]);
    out[start..start + 4].copy_from_slice(&(len as u32).to_le_bytes());
    out[start + 4..start + HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
}

fn put_image(out: &mut Vec<u8>, meta: &SnapshotMeta, data: &[u8]) {
    record(out, IMAGE, |out| {
        put_varint(out, meta.id);
        put_varint(out, meta.position.term.0);
        put_varint(out, meta.position.index.0);
        put_varint(out, meta.config_index.0);
        let mut config = Vec::new();
        codec::encode_config(&meta.config, &mut config);
        put_bytes(out, &config);
        put_bytes(out, data);
    });
}

fn put_mark(out: &mut Vec<u8>, len: u64) {
    record(out, MARK, |out| put_varint(out, len));
}

fn put_state(out: &mut Vec<u8>, state: HardState) {
    record(out, STATE, |out| {
        put_varint(out, state.term.0);
        put_varint(out, state.vote.map_or(0, |vote| vote.0));
    });
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    record(out, ENTRY, |out| {
        put_varint(out, entry.term.0);
        put_varint(out, entry.index.0);
        let mut payload = Vec::new();
        codec::encode_payload(&entry.payload, &mut payload);
        put_bytes(out, &payload);
    });
}
