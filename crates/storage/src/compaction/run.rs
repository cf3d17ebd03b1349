//! Carries out a plan: reads the inputs in order, leaves the garbage out, writes the outputs.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::Plan;
use super::garbage::{Fate, Rule};
use crate::directory::{FileId, FileKind, NewFile};
use crate::iterator::{Cursor, Merge, RunCursor};
use crate::manifest::{Edit, TableMeta};
use crate::table::{TableBuilder, TableOptions, TableSummary};
use crate::values::{ValueHandle, ValueWriter, ValuesMeta};
use crate::version::{LiveTable, Run, ValueFiles, Version, arrange};
use crate::{Error, Stored};
use base::{KeyRange, Timestamp};
use bytes::Bytes;

/// Progress is told after so many bytes: often enough to stop within some milliseconds, seldom
/// enough not to show.
pub const PROGRESS_BYTES: u64 = 256 << 10;

/// What a run needs to know beside its plan.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// No reader is, or will be, before this timestamp.
    pub watermark: Timestamp,
    /// How outputs are written.
    pub table: TableOptions,
    /// How outputs are written that are the oldest there is, if otherwise.
    pub coldest_table: Option<TableOptions>,
    /// Progress is told after so many bytes were looked at, or written: [`PROGRESS_BYTES`].
    pub progress_bytes: u64,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Bytes of keys and values that were looked at; of values that lie apart only those that were
    /// written elsewhere.
    pub read_bytes: u64,
    /// Bytes in the output files, tables and values.
    pub written_bytes: u64,
}

/// What a run has done.
#[derive(Debug, Clone)]
pub struct Done {
    /// Takes the inputs out and puts the outputs in. Their contents are durable, their names are
    /// once their folder is synced.
    pub edit: Edit,
    /// Bytes read and written.
    pub progress: Progress,
    /// Versions that were looked at.
    pub entries_read: u64,
    /// Versions that were kept.
    pub entries_written: u64,
    /// Bytes of values that were taken out of worn files.
    pub moved_value_bytes: u64,
}

/// What a run leaves that did not come to its end.
#[derive(Debug)]
pub struct Failed {
    /// Why; `None` if it was told to stop.
    pub error: Option<Error>,
    /// All files that it had made: they can be removed.
    pub created: Vec<FileId>,
}

/// Merges the tables of a plan.
///
/// `create` makes a file for each output, tables and values; `progress` is called now and then, may take its time,
/// and can stop the run.
///
/// # Errors
/// [`Failed`] if a table cannot be read or written, or the run was stopped: nothing has changed.
///
/// # Panics
/// If an input is not live in the version.
pub fn run(
    plan: &Plan,
    version: &Version,
    options: &RunOptions,
    create: impl FnMut(FileKind) -> crate::Result<NewFile>,
    progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Done, Failed> {
    let tree = version.tree(plan.tree).expect("the tree of a plan is in the version");
    let find = |meta: &Arc<TableMeta>| -> Arc<LiveTable> {
        let mut tables = tree.tables();
        let found = tables.find(|table| table.meta.number == meta.number);
        Arc::clone(found.expect("the inputs of a plan are live until it is done"))
    };
    let inputs: Vec<Arc<LiveTable>> = plan.inputs.iter().map(find).collect();
    let runs = arrange(inputs, |table| &table.meta).into_iter().flatten();
    let cursors = runs.map(|tables| RunCursor::new(Run::new(tables))).collect();
    write_from(plan, Merge::new(cursors), version.values(), options, create, progress)
}

/// Writes the versions of a cursor, none of whose values lies apart, as the outputs of a plan: a
/// flush.
///
/// # Errors
/// As [`run`].
pub fn write(
    plan: &Plan,
    cursor: impl Cursor,
    options: &RunOptions,
    create: impl FnMut(FileKind) -> crate::Result<NewFile>,
    progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Done, Failed> {
    write_from(plan, cursor, &ValueFiles::default(), options, create, progress)
}

fn write_from(
    plan: &Plan,
    mut cursor: impl Cursor,
    values: &ValueFiles,
    options: &RunOptions,
    create: impl FnMut(FileKind) -> crate::Result<NewFile>,
    progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Done, Failed> {
    let table = match &options.coldest_table {
        Some(coldest) if plan.is_coldest => coldest,
        _ => &options.table,
    };
    let mut writer = Writer {
        plan,
        options: table,
        create,
        progress,
        values,
        apart: ValueWriter::new(table.clone()),
        moved_value_bytes: 0,
        rule: Rule::new(options.watermark),
        builder: None,
        progress_bytes: options.progress_bytes,
        created: Vec::new(),
        added: Vec::new(),
        told: Progress::default(),
        now: Progress::default(),
        finished_bytes: 0,
        raw_bytes: plan.inputs.iter().map(|table| table.raw_bytes).sum(),
        entries_read: 0,
        entries_written: 0,
        beneath: &plan.beneath,
        cut_keys: &plan.cut_keys,
        grandparents: &plan.grandparents,
        grandparent_bytes: 0,
        last_key: Vec::new(),
    };
    let mut written = Ok(());
    for range in &plan.ranges {
        written = written.and_then(|()| writer.write_range(&mut cursor, range));
    }
    let finished = written.and_then(|()| writer.finish());
    match finished {
        Ok(added_values) => Ok(Done {
            edit: Edit {
                removed: plan.inputs.iter().map(|table| table.number).collect(),
                added: writer.added,
                added_values,
                ..Edit::default()
            },
            progress: writer.now,
            entries_read: writer.entries_read,
            entries_written: writer.entries_written,
            moved_value_bytes: writer.moved_value_bytes,
        }),
        Err(stop) => Err(Failed {
            error: match stop {
                Stop::Failed(error) => Some(error),
                Stop::Told => None,
            },
            created: writer.created,
        }),
    }
}

/// Why a run ends early.
enum Stop {
    Failed(Error),
    Told,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Failed(error)
    }
}

struct Writer<'a, F, P> {
    plan: &'a Plan,
    options: &'a TableOptions,
    create: F,
    progress: P,
    progress_bytes: u64,
    /// Where values lie that are moved, and where they go.
    values: &'a ValueFiles,
    apart: ValueWriter,
    moved_value_bytes: u64,
    rule: Rule,
    builder: Option<(u64, TableBuilder)>,
    created: Vec<FileId>,
    added: Vec<TableMeta>,
    told: Progress,
    now: Progress,
    finished_bytes: u64,
    /// Bytes of keys and values in all inputs; 0 if nobody knows.
    raw_bytes: u64,
    entries_read: u64,
    entries_written: u64,
    /// What of these lists of the plan is not behind the current key.
    beneath: &'a [(Bytes, Bytes)],
    cut_keys: &'a [Bytes],
    grandparents: &'a [(Bytes, u64)],
    /// How much of the grandparents lies behind the beginning of the current table.
    grandparent_bytes: u64,
    /// The last key that was written.
    last_key: Vec<u8>,
}

impl<F, P> Writer<'_, F, P>
where
    F: FnMut(FileKind) -> crate::Result<NewFile>,
    P: FnMut(Progress) -> ControlFlow<()>,
{
    fn write_range(&mut self, cursor: &mut impl Cursor, range: &KeyRange) -> Result<(), Stop> {
        let mut is_valid = cursor.seek(&range.start, Timestamp::MAX)?;
        while is_valid {
            let Some(entry) = cursor.entry() else {
                break;
            };
            if range.end.as_ref().is_some_and(|end| entry.key >= &end[..]) {
                break;
            }
            let inline = entry.value.as_inline().map_or(0, <[u8]>::len);
            self.entries_read += 1;
            self.now.read_bytes += (entry.key.len() + inline) as u64;
            let beneath = &mut self.beneath;
            let fate = self.rule.judge(entry.key, entry.ts, entry.value, |key| {
                while let [(_, last), rest @ ..] = *beneath
                    && &last[..] < key
                {
                    *beneath = rest;
                }
                beneath.first().is_some_and(|(first, _)| &first[..] <= key)
            });
            if fate == Fate::Keep {
                self.entries_written += 1;
                if self.builder.is_none() || entry.key != &self.last_key[..] {
                    self.begin_key(entry.key)?;
                }
                let value = self.placed(entry.key, entry.value)?;
                let (_, builder) = self.builder.as_mut().expect("a key begins with a table open");
                builder.add(entry.key, entry.ts, value)?;
                let bytes = self.finished_bytes + builder.bytes();
                self.now.written_bytes = bytes + self.apart.bytes();
            }
            let moved = |now: u64, told: u64| now - told >= self.progress_bytes;
            if moved(self.now.read_bytes, self.told.read_bytes)
                || moved(self.now.written_bytes, self.told.written_bytes)
            {
                self.told = self.now;
                if (self.progress)(self.now).is_break() {
                    return Err(Stop::Told);
                }
            }
            is_valid = cursor.next()?;
        }
        Ok(())
    }

    /// Returns a value as the output has it: apart, if it is large, and not in a worn file.
    fn placed<'v>(&mut self, key: &[u8], value: Stored<'v>) -> Result<Stored<'v>, Stop> {
        let Writer { create, created, apart, .. } = self;
        let create = || {
            let file = create(FileKind::Values)?;
            created.push(FileId::values(file.number));
            Ok(file)
        };
        match value {
            Stored::Put(bytes) if apart.is_apart(key, bytes) => {
                Ok(Stored::Apart(apart.put(key, bytes, create)?))
            }
            Stored::Apart(handle) if self.plan.worn.binary_search(&handle.file).is_ok() => {
                let ValueHandle { value_bytes, record_bytes, .. } = handle;
                let record = self.values.record(key, handle)?;
                self.now.read_bytes += u64::from(record_bytes);
                self.moved_value_bytes += u64::from(record_bytes);
                Ok(Stored::Apart(apart.put_record(&record, value_bytes, create)?))
            }
            _ => Ok(value),
        }
    }

    /// Ends what is open and returns the value files.
    fn finish(&mut self) -> Result<Vec<ValuesMeta>, Stop> {
        // The values first: a table that could be found vouches for them.
        let added_values = self.apart.finish()?;
        self.finish_table()?;
        Ok(added_values)
    }

    /// Ends the table before a new key if it is time, and sees to it that one is open.
    fn begin_key(&mut self, key: &[u8]) -> Result<(), Stop> {
        let mut is_cut = false;
        while let [cut, rest @ ..] = self.cut_keys
            && &cut[..] <= key
        {
            self.cut_keys = rest;
            is_cut = true;
        }
        while let [(last, bytes), rest @ ..] = self.grandparents
            && &last[..] < key
        {
            self.grandparents = rest;
            self.grandparent_bytes += bytes;
        }
        if let Some((_, builder)) = &self.builder {
            let len = builder.bytes();
            // What is left should not end up as a tiny table.
            let cut_bytes = self.plan.cut_bytes;
            is_cut |= len >= cut_bytes
                && (len >= 2 * cut_bytes
                    || self.bytes_left().is_none_or(|left| left >= cut_bytes / 4));
            // Not for a table of next to nothing: each costs a sync.
            is_cut |= self.grandparent_bytes > self.plan.grandparent_bytes_max
                && len >= self.plan.cut_bytes / 8;
            if is_cut {
                self.finish_table()?;
            }
        }
        if self.builder.is_none() {
            let NewFile { number, file, path } = (self.create)(FileKind::Table)?;
            self.created.push(FileId::table(number));
            self.builder = Some((number, TableBuilder::new(file, &path, self.options.clone())));
            self.grandparent_bytes = 0;
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        Ok(())
    }

    /// Returns about how much is left to be written; `None` if nobody knows.
    fn bytes_left(&self) -> Option<u64> {
        let left = self.raw_bytes.saturating_sub(self.now.read_bytes);
        let bytes = u128::from(left) * u128::from(self.plan.input_bytes());
        (self.raw_bytes > 0).then(|| (bytes / u128::from(self.raw_bytes)) as u64)
    }

    fn finish_table(&mut self) -> Result<(), Stop> {
        let Some((number, builder)) = self.builder.take() else {
            return Ok(());
        };
        let summary: TableSummary = builder.finish()?;
        self.finished_bytes += summary.bytes;
        self.now.written_bytes = self.finished_bytes + self.apart.bytes();
        let meta = TableMeta::new(number, self.plan.target_level, &summary);
        self.added.push(meta.placed(self.plan.tree, self.plan.target_run));
        Ok(())
    }
}
