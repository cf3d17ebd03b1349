//! The manifest: which tables make up the database, and from where the log is still needed.
//!
//! ```text
//!  0               8          12         16         20
//!  +---------------+----------+----------+----------+- - - - - - - - - - - - - - - -+
//!  | magic         | version  | length   | crc32c   | body, of that length          |
//!  +---------------+----------+----------+----------+- - - - - - - - - - - - - - - -+
//!                        '----------'--- the checksum covers these and the body
//!
//!  body    | database id, 16 bytes | checkpoint ts | log start | log index | next file number |
//!          | gc watermark ts | last ts | count of trees | trees … | count of tables | tables … |
//!          | count of value files | value files … |
//!
//!  tree    | number | style: 0 leveled, 1 tiered |
//!
//!  table   | number | bytes | entries | tombstones | level | has bounds: 0 or 1 |
//!          | oldest ts | newest ts | first key | last key |      only with bounds
//!          | tree | run | distinct keys | raw bytes |
//!          | has its timestamp here: 0 or 1 | timestamp |        only with 1
//!          | count of uses | value file | values | bytes of records | …
//!
//!  values  | number | bytes | values | bytes of values |
//! ```
//!
//! All numbers of the body are varints, keys are length-prefixed bytes, trees, tables and value files
//! stand in rising order of their numbers, and so do the uses of a table. Format 1 had no trees and
//! no last three lines of a table: its only table was the checkpoint of everything, which is read as
//! a run of level 0 of tree 0. Format 2 had neither value files nor uses of them.
//!
//! # Rewritten whole, switched by a rename
//! Each edit writes the whole new state to `MANIFEST.tmp`, syncs it, renames it over `MANIFEST` and
//! syncs the folder.
//!
//! ```text
//!   create MANIFEST.tmp ── write ── sync ── rename ── sync folder ── apply returns
//!   <────────── a crash here: the old state ─────><─ old or new ─><─ the new state
//! ```
//!
//! The file under the name `MANIFEST` was synced before it got that name, so it is never torn:
//! **every bad byte in it is damage**, and there is no tail to reason about. The usual alternative,
//! a log of edits with an atomic pointer to it (LevelDB's `CURRENT`), has to tell a torn last edit,
//! which may be cut off, from bit rot in an acknowledged one, which may not, and cannot always:
//! nothing after the last edit vouches for it. What we pay: a table costs some hundred bytes, so
//! ten thousand tables (640 GB in files of 64 MB) make each edit write one megabyte, beside the 64
//! that the flush behind it wrote. Should that ever show, edits can be appended behind this same
//! interface.
//!
//! # Invariants
//! * A table is named only after its file and its folder are durable: see [`Manifest::apply`].
//! * Timestamps, the log start and the next file number never fall; no number is used twice.
//! * Each table is of tree 0 or of a tree that is listed.
//! * A value file is listed if and only if a table uses it.
//!
//! # Not here
//! Removal of files that are no longer named ([`crate::directory`] lists them); which tables a
//! level may hold (the tree's business).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::codec::{self, Reader, Truncated};
use base::{Timestamp, checksum, text};
use bytes::Bytes;
use env::{Disk, OpenMode};

use crate::directory::{DatabaseId, FileId, Replacement};
use crate::table::{Table, TableBounds, TableSummary};
use crate::values::{ValueUse, ValuesMeta};
use crate::version::{LEVELS, Style, TreeId};
use crate::{Error, Result};

/// Name of the manifest in the directory of a database.
pub const MANIFEST_NAME: &str = "MANIFEST";

/// The version of the format that is written, and the newest that is read.
const FORMAT_VERSION: u32 = 3;

const MAGIC: [u8; 8] = *b"\x89HOLMM\r\n";

/// Magic, version, length and checksum.
const HEADER_BYTES: usize = 20;

static NO_KEY: Bytes = Bytes::new();

/// What the manifest says of one table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableMeta {
    /// The number in its file name.
    pub number: u64,
    /// Length of the file.
    pub bytes: u64,
    /// Number of entries, tombstones included.
    pub entries: u64,
    /// Number of tombstones.
    pub tombstones: u64,
    /// Level in the tree; 0 is the newest.
    pub level: u8,
    /// Where its entries lie; `None` if it has none. If it has its timestamp here, so has this.
    pub bounds: Option<TableBounds>,
    /// The tree it is part of.
    pub tree: TreeId,
    /// Tables of level 0 with the same number here form one sorted run, and of two runs the one
    /// with the larger number is newer. Below level 0 it means nothing.
    pub run: u64,
    /// Number of distinct user keys: what `entries` has more are old versions.
    pub distinct_keys: u64,
    /// Bytes of keys, and of the values that lie in the table, before compression.
    pub raw_bytes: u64,
    /// The commit timestamp of all its entries, if they were written with timestamp zero, before
    /// that one was known: so is what a bulk load brings.
    pub ts_override: Option<Timestamp>,
    /// What of it lies in value files, in the order of their numbers.
    pub values: Vec<ValueUse>,
}

impl TableMeta {
    /// Returns the line of a table that was just built, of tree 0, and at level 0 a run of its own.
    pub fn new(number: u64, level: u8, summary: &TableSummary) -> TableMeta {
        let properties = &summary.properties;
        TableMeta {
            number,
            bytes: summary.bytes,
            entries: properties.entries,
            tombstones: properties.tombstones,
            level,
            bounds: properties.bounds.clone(),
            tree: TreeId::DEFAULT,
            run: number,
            distinct_keys: properties.distinct_keys,
            raw_bytes: properties.key_bytes + properties.value_bytes,
            ts_override: None,
            values: properties.values.clone(),
        }
    }

    /// Puts the table into a tree and a run.
    #[must_use]
    pub fn placed(self, tree: TreeId, run: u64) -> TableMeta {
        TableMeta { tree, run, ..self }
    }

    /// Gives all entries, which were written with timestamp zero, their timestamp.
    #[must_use]
    pub fn committed_at(mut self, ts: Timestamp) -> TableMeta {
        self.ts_override = Some(ts);
        if let Some(bounds) = &mut self.bounds {
            (bounds.ts_min, bounds.ts_max) = (ts, ts);
        }
        self
    }

    /// Returns how many entries are no newest versions of their keys in this table, or tombstones:
    /// what a compaction to the bottom leaves out once the watermark has passed the table.
    pub fn garbage_entries(&self) -> u64 {
        self.entries.saturating_sub(self.distinct_keys).saturating_add(self.tombstones)
    }

    /// Returns how many bytes of value files the table refers to.
    pub fn apart_bytes(&self) -> u64 {
        self.values.iter().map(|of| of.bytes).sum()
    }

    /// Returns the newest timestamp; zero if there are no entries.
    pub fn ts_max(&self) -> Timestamp {
        self.bounds.as_ref().map_or(Timestamp::ZERO, |bounds| bounds.ts_max)
    }

    /// Returns the oldest timestamp; the end of time if there are no entries.
    pub fn ts_min(&self) -> Timestamp {
        self.bounds.as_ref().map_or(Timestamp::MAX, |bounds| bounds.ts_min)
    }

    /// Returns the smallest key; empty if there are no entries.
    pub fn first_key(&self) -> &Bytes {
        self.bounds.as_ref().map_or(&NO_KEY, |bounds| &bounds.first_key)
    }

    /// Returns the largest key; empty if there are no entries.
    pub fn last_key(&self) -> &Bytes {
        self.bounds.as_ref().map_or(&NO_KEY, |bounds| &bounds.last_key)
    }

    /// Returns true if a key between two others, both included, could be in the table.
    pub fn overlaps(&self, first: &[u8], last: &[u8]) -> bool {
        self.bounds.as_ref().is_some_and(|b| &b.first_key[..] <= last && &b.last_key[..] >= first)
    }

    /// Checks that an open table is the one that the manifest means, and not a sound table that
    /// came under its name in some other way, as from an older copy.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it differs in length, counts or bounds.
    pub fn check(&self, table: &Table) -> Result<()> {
        let summary = TableSummary { bytes: table.bytes(), properties: table.properties().clone() };
        let mut found = TableMeta {
            // Not said by the table, or, of the first format, not by the manifest.
            tree: self.tree,
            run: self.run,
            distinct_keys: self.distinct_keys,
            raw_bytes: self.raw_bytes,
            ..TableMeta::new(self.number, self.level, &summary)
        };
        if let Some(ts) = self.ts_override
            && found.ts_min() == Timestamp::ZERO
            && found.ts_max() == Timestamp::ZERO
        {
            found = found.committed_at(ts);
        }
        if found == *self {
            return Ok(());
        }
        let what = format!("this is {found}, and the manifest names {self}");
        Err(Error::damaged(table.path(), 0, what))
    }
}

/// The live state of a database directory.
///
/// # Invariants
/// * Each table's number is below `next_file_number`, and is its key in the map.
/// * Timestamps in tables are not above `last_ts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The live tables by number.
    pub tables: BTreeMap<u64, TableMeta>,
    /// The value files that they refer to, by number.
    pub values: BTreeMap<u64, ValuesMeta>,
    /// The trees beside the leveled tree 0, and how each is compacted.
    pub styles: BTreeMap<TreeId, Style>,
    /// All commits up to this one are in tables.
    pub checkpoint_ts: Timestamp,
    /// Where in the log's stream replay begins.
    pub log_start: u64,
    /// The index that the log had reached: the next record gets a higher one, also if none is left.
    pub log_index: u64,
    /// The number of the next new file, or run.
    pub next_file_number: u64,
    /// Reads before this timestamp are refused, for versions they need may be gone.
    pub gc_watermark: Timestamp,
    /// No timestamp up to this one may be issued again.
    pub last_ts: Timestamp,
}

impl Default for State {
    fn default() -> State {
        State {
            tables: BTreeMap::new(),
            values: BTreeMap::new(),
            styles: BTreeMap::new(),
            checkpoint_ts: Timestamp::ZERO,
            log_start: 0,
            log_index: 0,
            // Zero is left free to stand for "no file".
            next_file_number: 1,
            gc_watermark: Timestamp::ZERO,
            last_ts: Timestamp::ZERO,
        }
    }
}

/// A change of the state. `None` and empty lists leave things as they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Edit {
    /// Tables that become live.
    pub added: Vec<TableMeta>,
    /// Numbers of tables that are no longer live. One that is added, too, only changes its place.
    pub removed: Vec<u64>,
    /// Value files that added tables refer to. Those that no table refers to any more are no longer
    /// live by themselves.
    pub added_values: Vec<ValuesMeta>,
    /// Trees that come to be, or change their style.
    pub styles: Vec<(TreeId, Style)>,
    /// See [`State::checkpoint_ts`].
    pub checkpoint_ts: Option<Timestamp>,
    /// See [`State::log_start`].
    pub log_start: Option<u64>,
    /// See [`State::log_index`].
    pub log_index: Option<u64>,
    /// See [`State::next_file_number`]; it rises by itself above all added tables and their runs.
    pub next_file_number: Option<u64>,
    /// See [`State::gc_watermark`].
    pub gc_watermark: Option<Timestamp>,
    /// See [`State::last_ts`]; it rises by itself to the newest timestamp of all added tables.
    pub last_ts: Option<Timestamp>,
}

impl Edit {
    /// Returns the files that come to be with the edit; a table that only moves is among them.
    pub fn added_files(&self) -> impl Iterator<Item = FileId> {
        let tables = self.added.iter().map(|meta| FileId::table(meta.number));
        tables.chain(self.added_values.iter().map(|meta| FileId::values(meta.number)))
    }
}

impl State {
    /// Changes the state.
    ///
    /// # Panics
    /// If the edit removes a table that is not live, adds one that is, or takes anything back that
    /// only rises; if a table refers to a value file that is not there.
    pub fn apply(&mut self, edit: &Edit) {
        self.styles.extend(edit.styles.iter().copied());
        for number in &edit.removed {
            let removed = self.tables.remove(number);
            assert!(removed.is_some(), "an edit removes table {number}, which is not live");
        }
        for table in &edit.added {
            // Runs are numbered together with files, and a run may have got its number last.
            let last_number = table.number.max(table.run);
            self.next_file_number = self.next_file_number.max(last_number.saturating_add(1));
            if let Some(bounds) = &table.bounds {
                self.last_ts = self.last_ts.max(bounds.ts_max);
            }
            let old = self.tables.insert(table.number, table.clone());
            assert!(old.is_none(), "an edit adds table {}, which is live", table.number);
        }
        for values in &edit.added_values {
            self.next_file_number = self.next_file_number.max(values.number.saturating_add(1));
            let old = self.values.insert(values.number, *values);
            assert!(old.is_none(), "an edit adds value file {}, which is live", values.number);
        }
        let used = self.used_values();
        self.values.retain(|number, _| used.contains(number));
        let is_there = used.iter().all(|number| self.values.contains_key(number));
        assert!(is_there, "an edit leaves a table without its value file");
        raise(&mut self.checkpoint_ts, edit.checkpoint_ts, "the checkpoint timestamp");
        raise(&mut self.log_start, edit.log_start, "the log start");
        raise(&mut self.log_index, edit.log_index, "the log index");
        raise(&mut self.gc_watermark, edit.gc_watermark, "the garbage watermark");
        // These two have risen by themselves above.
        self.next_file_number = self.next_file_number.max(edit.next_file_number.unwrap_or(0));
        self.last_ts = self.last_ts.max(edit.last_ts.unwrap_or(Timestamp::ZERO));
        debug_assert_eq!(self.check_invariants(), Ok(()));
    }

    /// Returns the numbers of the value files that tables refer to.
    fn used_values(&self) -> BTreeSet<u64> {
        self.tables.values().flat_map(|table| &table.values).map(|of| of.file).collect()
    }

    /// Returns the files of all tables and values.
    pub fn files(&self) -> impl Iterator<Item = FileId> {
        let tables = self.tables.keys().copied().map(FileId::table);
        tables.chain(self.values.keys().copied().map(FileId::values))
    }

    /// Checks what must always hold.
    ///
    /// # Errors
    /// A sentence that says what does not.
    pub fn check_invariants(&self) -> std::result::Result<(), String> {
        let used = self.used_values();
        if let Some(number) = used.iter().find(|number| !self.values.contains_key(number)) {
            return Err(format!("a table refers to value file {number}, which is not listed"));
        }
        for (&number, values) in &self.values {
            if number != values.number || number >= self.next_file_number {
                return Err(format!(
                    "value file {number} is listed as {}, below file {}",
                    values.number, self.next_file_number
                ));
            }
            if !used.contains(&number) || self.tables.contains_key(&number) {
                return Err(format!("value file {number} is used by no table, or is one"));
            }
        }
        for (&number, table) in &self.tables {
            if number != table.number || number >= self.next_file_number {
                return Err(format!(
                    "table {number} is listed as {}, below file {}",
                    table.number, self.next_file_number
                ));
            }
            let ts_max = table.ts_max();
            if ts_max > self.last_ts {
                return Err(format!("table {number} ends at {ts_max}, after {}", self.last_ts));
            }
            if usize::from(table.level) >= LEVELS {
                return Err(format!("table {number} is at level {}", table.level));
            }
            if table.tree != TreeId::DEFAULT && !self.styles.contains_key(&table.tree) {
                return Err(format!("table {number} is of {}, which is not listed", table.tree));
            }
            if table.bounds.is_none() != (table.entries == 0) {
                return Err(format!("table {number} has entries without bounds, or the reverse"));
            }
        }
        Ok(())
    }

    fn encode(&self, id: DatabaseId) -> Vec<u8> {
        let mut body = id.0.to_vec();
        for number in [
            self.checkpoint_ts.raw(),
            self.log_start,
            self.log_index,
            self.next_file_number,
            self.gc_watermark.raw(),
            self.last_ts.raw(),
            self.styles.len() as u64,
        ] {
            codec::put_varint(&mut body, number);
        }
        for (tree, style) in &self.styles {
            codec::put_varint(&mut body, tree.0.into());
            codec::put_varint(&mut body, (*style == Style::Tiered).into());
        }
        codec::put_varint(&mut body, self.tables.len() as u64);
        for table in self.tables.values() {
            for number in [
                table.number,
                table.bytes,
                table.entries,
                table.tombstones,
                table.level.into(),
                table.bounds.is_some().into(),
            ] {
                codec::put_varint(&mut body, number);
            }
            if let Some(bounds) = &table.bounds {
                codec::put_varint(&mut body, bounds.ts_min.raw());
                codec::put_varint(&mut body, bounds.ts_max.raw());
                codec::put_bytes(&mut body, &bounds.first_key);
                codec::put_bytes(&mut body, &bounds.last_key);
            }
            for number in [
                table.tree.0.into(),
                table.run,
                table.distinct_keys,
                table.raw_bytes,
                table.ts_override.is_some().into(),
            ] {
                codec::put_varint(&mut body, number);
            }
            if let Some(ts) = table.ts_override {
                codec::put_varint(&mut body, ts.raw());
            }
            ValueUse::encode_all(&table.values, &mut body);
        }
        codec::put_varint(&mut body, self.values.len() as u64);
        for ValuesMeta { number, bytes, values, value_bytes } in self.values.values() {
            for number in [number, bytes, values, value_bytes] {
                codec::put_varint(&mut body, *number);
            }
        }
        let mut out = MAGIC.to_vec();
        codec::put_u32(&mut out, FORMAT_VERSION);
        codec::put_u32(&mut out, u32::try_from(body.len()).expect("a manifest stays below 4 GiB"));
        let crc = checksum::of(&[&out[MAGIC.len()..], &body]);
        codec::put_u32(&mut out, crc);
        out.extend_from_slice(&body);
        out
    }
}

fn raise<T: PartialOrd + Copy + std::fmt::Display>(old: &mut T, new: Option<T>, what: &str) {
    if let Some(new) = new {
        assert!(new >= *old, "an edit takes {what} back from {old} to {new}");
        *old = new;
    }
}

/// The manifest of an open database.
pub struct Manifest {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    id: DatabaseId,
    state: State,
    /// An earlier switch failed half-way: nobody knows which of two states is on disk.
    is_uncertain: bool,
}

impl Manifest {
    /// Writes the manifest of a new database, in place of any other.
    ///
    /// # Durability
    /// The empty state is durable once this returns.
    ///
    /// # Errors
    /// [`Error::DiskFull`] and [`Error::Io`] when the file cannot be written.
    pub fn create(disk: Arc<dyn Disk>, directory: &Path, id: DatabaseId) -> Result<Manifest> {
        Manifest::replace(disk, directory, id, State::default())
    }

    /// Writes a manifest that says `state`, in place of any other, at once.
    ///
    /// # Durability
    /// The state is durable once this returns; a crash before leaves the old manifest or the new.
    ///
    /// # Errors
    /// As [`Manifest::create`].
    pub(crate) fn replace(
        disk: Arc<dyn Disk>,
        directory: &Path,
        id: DatabaseId,
        state: State,
    ) -> Result<Manifest> {
        Replacement::write(&*disk, directory, MANIFEST_NAME, &state.encode(id))?.switch()?;
        let directory = directory.to_path_buf();
        Ok(Manifest { disk, directory, id, state, is_uncertain: false })
    }

    /// Reads the manifest of a database.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it is missing, not sound, or another database's;
    /// [`Error::NewerFormat`] if a newer program wrote it; [`Error::Io`] if it cannot be read.
    pub fn open(disk: Arc<dyn Disk>, directory: &Path, id: DatabaseId) -> Result<Manifest> {
        let (state, found_id) = Manifest::read(&*disk, directory)?;
        if found_id != id {
            let what = format!("it belongs to database {found_id}, and this is database {id}");
            return Err(Error::damaged(&directory.join(MANIFEST_NAME), HEADER_BYTES as u64, what));
        }
        let directory = directory.to_path_buf();
        Ok(Manifest { disk, directory, id, state, is_uncertain: false })
    }

    /// Reads a manifest without opening the database, for tools.
    ///
    /// # Errors
    /// As [`Manifest::open`], except that it may be of any database.
    pub fn read(disk: &dyn Disk, directory: &Path) -> Result<(State, DatabaseId)> {
        let path = directory.join(MANIFEST_NAME);
        let file = match disk.open(&path, OpenMode::Read) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::damaged(&path, 0, "the manifest is missing"));
            }
            opened => opened.map_err(Error::io(&path, "open"))?,
        };
        let bytes = file.read_all().map_err(Error::io(&path, "read"))?;
        decode(&bytes).map_err(|bad| match bad {
            Bad::Newer(found) => Error::NewerFormat { path, found, known: FORMAT_VERSION },
            Bad::Damaged(offset, what) => Error::damaged(&path, offset as u64, what),
        })
    }

    /// Returns the current state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Returns true if it is known which state is on disk: the last switch did not fail half-way.
    pub fn is_certain(&self) -> bool {
        !self.is_uncertain
    }

    /// Changes the state. The files of added tables must be durable, their names included, before;
    /// the files of removed tables may be deleted after.
    ///
    /// # Durability
    /// The new state is durable once this returns.
    ///
    /// # Errors
    /// [`Error::DiskFull`] and [`Error::Io`] when it cannot be written. The state is then the old
    /// one, and the edit, or another, can be tried again. If the failure was in the very last
    /// steps, a crash may find either state until an edit succeeds: **no table of either may be
    /// deleted** as long as [`Manifest::is_certain`] says so. The next edit writes and syncs a
    /// whole new file, so it does not rest on what became of this one.
    ///
    /// # Panics
    /// As [`State::apply`].
    pub fn apply(&mut self, edit: &Edit) -> Result<()> {
        let mut state = self.state.clone();
        state.apply(edit);
        let bytes = state.encode(self.id);
        let replacement = Replacement::write(&*self.disk, &self.directory, MANIFEST_NAME, &bytes)?;
        self.is_uncertain = true;
        replacement.switch()?;
        self.is_uncertain = false;
        self.state = state;
        Ok(())
    }
}

/// Why a manifest cannot be used.
enum Bad {
    Damaged(usize, String),
    Newer(u32),
}

fn decode(bytes: &[u8]) -> std::result::Result<(State, DatabaseId), Bad> {
    let damaged = |offset: usize, what: &str| Bad::Damaged(offset, what.to_owned());
    let short = |_: Truncated| damaged(bytes.len(), "the manifest is cut short");
    let mut reader = Reader::new(bytes);
    let magic = reader.take(MAGIC.len()).map_err(short)?;
    if magic != MAGIC {
        return Err(damaged(0, "the file does not begin as a manifest"));
    }
    let covered = reader.rest();
    let (version, len) = (reader.u32().map_err(short)?, reader.u32().map_err(short)?);
    let crc = reader.u32().map_err(short)?;
    let body = reader.rest();
    if body.len() != len as usize {
        let what = format!("the manifest says it has {len} bytes, and {} are there", body.len());
        return Err(damaged(12, &what));
    }
    let covered = covered.get(..8).unwrap_or_default();
    if checksum::of(&[covered, body]) != crc {
        return Err(damaged(16, "the checksum of the manifest does not match"));
    }
    if version > FORMAT_VERSION {
        return Err(Bad::Newer(version));
    }
    let mut reader = Reader::new(body);
    let decoded = decode_body(&mut reader, version);
    let offset = bytes.len() - reader.rest().len();
    let (state, id) =
        decoded.map_err(|_| damaged(offset, "a value in the manifest is cut short"))?;
    if version == 0 || !reader.is_empty() {
        return Err(damaged(offset, "the manifest has bytes that mean nothing"));
    }
    state.check_invariants().map_err(|what| damaged(HEADER_BYTES, &what))?;
    Ok((state, id))
}

fn decode_body(
    reader: &mut Reader<'_>,
    version: u32,
) -> std::result::Result<(State, DatabaseId), Truncated> {
    let id = DatabaseId(*reader.take(16)?.first_chunk().ok_or(Truncated)?);
    let mut state = State {
        tables: BTreeMap::new(),
        values: BTreeMap::new(),
        styles: BTreeMap::new(),
        checkpoint_ts: Timestamp::from_raw(reader.varint()?),
        log_start: reader.varint()?,
        log_index: reader.varint()?,
        next_file_number: reader.varint()?,
        gc_watermark: Timestamp::from_raw(reader.varint()?),
        last_ts: Timestamp::from_raw(reader.varint()?),
    };
    // A number that is not rising is cut short for want of a better word: the checksum says that
    // somebody wrote it, and we never do.
    let trees = if version == 1 { 0 } else { reader.varint()? };
    for _ in 0..trees {
        let tree = TreeId(u32::try_from(reader.varint()?).map_err(|_| Truncated)?);
        let style = match reader.varint()? {
            0 => Style::Leveled,
            1 => Style::Tiered,
            _ => return Err(Truncated),
        };
        if state.styles.last_key_value().is_some_and(|(&last, _)| last >= tree) {
            return Err(Truncated);
        }
        state.styles.insert(tree, style);
    }
    for _ in 0..reader.varint()? {
        let table = decode_table(reader, version)?;
        if state.tables.last_key_value().is_some_and(|(&last, _)| last >= table.number) {
            return Err(Truncated);
        }
        state.tables.insert(table.number, table);
    }
    let values = if version < 3 { 0 } else { reader.varint()? };
    for _ in 0..values {
        let values = ValuesMeta {
            number: reader.varint()?,
            bytes: reader.varint()?,
            values: reader.varint()?,
            value_bytes: reader.varint()?,
        };
        if state.values.last_key_value().is_some_and(|(&last, _)| last >= values.number) {
            return Err(Truncated);
        }
        state.values.insert(values.number, values);
    }
    Ok((state, id))
}

fn decode_table(
    reader: &mut Reader<'_>,
    version: u32,
) -> std::result::Result<TableMeta, Truncated> {
    let mut table = TableMeta {
        number: reader.varint()?,
        bytes: reader.varint()?,
        entries: reader.varint()?,
        tombstones: reader.varint()?,
        level: u8::try_from(reader.varint()?).map_err(|_| Truncated)?,
        ..TableMeta::default()
    };
    if decode_flag(reader)? {
        table.bounds = Some(TableBounds {
            ts_min: Timestamp::from_raw(reader.varint()?),
            ts_max: Timestamp::from_raw(reader.varint()?),
            first_key: Bytes::copy_from_slice(reader.bytes()?),
            last_key: Bytes::copy_from_slice(reader.bytes()?),
        });
    }
    if version == 1 {
        // What the first format does not say is guessed so that nothing is taken for garbage.
        (table.run, table.distinct_keys) = (table.number, table.entries);
        table.raw_bytes = table.bytes;
        return Ok(table);
    }
    table.tree = TreeId(u32::try_from(reader.varint()?).map_err(|_| Truncated)?);
    table.run = reader.varint()?;
    table.distinct_keys = reader.varint()?;
    table.raw_bytes = reader.varint()?;
    if decode_flag(reader)? {
        table.ts_override = Some(Timestamp::from_raw(reader.varint()?));
    }
    if version >= 3 {
        table.values = ValueUse::decode_all(reader)?;
    }
    Ok(table)
}

fn decode_flag(reader: &mut Reader<'_>) -> std::result::Result<bool, Truncated> {
    match reader.varint()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Truncated),
    }
}

impl std::fmt::Display for TableMeta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let TableMeta { number, bytes, entries, level, tree, .. } = self;
        write!(f, "table {number}")?;
        if *tree != TreeId::DEFAULT {
            write!(f, " of {tree}")?;
        }
        write!(f, " level {level}: {bytes} bytes, {entries} entries")?;
        match &self.bounds {
            Some(bounds) => {
                let (first, last) = (
                    text::escape_short(&bounds.first_key, 32),
                    text::escape_short(&bounds.last_key, 32),
                );
                write!(f, ", {first}..={last} @{}..=@{}", bounds.ts_min, bounds.ts_max)
            }
            None => Ok(()),
        }
    }
}

/// Decodes the bytes as a manifest; then again with the length and the checksum made right.
#[cfg(any(test, fuzzing))]
pub fn fuzz_manifest(bytes: &[u8]) {
    let _ = decode(bytes);
    let mut bytes = bytes.to_vec();
    if let Some((header, body)) = bytes.split_at_mut_checked(HEADER_BYTES) {
        header[..8].copy_from_slice(&MAGIC);
        header[12..16].copy_from_slice(&(body.len() as u32).to_le_bytes());
        let crc = checksum::of(&[&header[8..16], body]);
        header[16..].copy_from_slice(&crc.to_le_bytes());
        if let Ok((state, id)) = decode(&bytes) {
            let again = decode(&state.encode(id)).ok();
            assert_eq!(again, Some((state, id)), "what was decoded is encoded to mean the same");
        }
    }
}

#[cfg(test)]
mod tests;
