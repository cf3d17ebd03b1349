//! All tables become one sorted run, for want of a manifest that says how they were arranged.
//!
//! ```text
//!   tables by their first keys    [a      f][c   k][g  m]          [p        z]
//!   open at once                     1 .. 2 .. 3 .. 2 .. 1 .. 0 ..    1
//!   the run                       [a     e][f     j][k   m]        [p   t][u z]
//! ```
//!
//! A table is opened when the merge comes to its first key and closed at its end, so what is held
//! in memory is as many blocks as tables overlap in one key.

use base::Timestamp;

use super::Limits;
use super::tables::NewTables;
use super::values::{Saver, Values};
use crate::compaction::garbage::{Fate, Rule};
use crate::directory::{FileKind, NewFile};
use crate::error::Result;
use crate::manifest::{Edit, TableMeta};
use crate::table::{Entry, Table, TableBuilder, TableOptions, WholeEntries};
use crate::version::LEVELS;

/// Writes what is whole of the tables to new ones of the last level: of each key what readers at
/// the watermark see, which is all that can be read from then on.
pub(super) fn into_one_run(
    new: &mut NewTables<'_>,
    tables: &[TableMeta],
    values: &Values,
    watermark: Timestamp,
    limits: Limits,
) -> Result<Edit> {
    let mut waiting: Vec<&TableMeta> = tables.iter().filter(|it| it.bounds.is_some()).collect();
    // The last one is opened next.
    waiting.sort_by(|a, b| b.first_key().cmp(a.first_key()));
    let mut open: Vec<Source> = Vec::new();
    let mut writer = RunWriter {
        rule: Rule::new(watermark),
        table_bytes: limits.table_bytes,
        builder: None,
        saver: Saver::new(values),
        added: Vec::new(),
    };
    let mut last: Option<(Vec<u8>, Timestamp)> = None;
    loop {
        let mut first = first_of(&open);
        while let Some(next) = waiting.last()
            && first.is_none_or(|at| open[at].entry().is_some_and(|it| it.key >= next.first_key()))
        {
            let table = Table::open(new.disk, &new.path(next.number))?;
            let mut source =
                Source { entries: WholeEntries::new(table), ts_override: next.ts_override };
            waiting.pop();
            if source.entries.next()? {
                open.push(source);
            }
            first = first_of(&open);
        }
        let Some(at) = first else { break };
        if let Some(entry) = open[at].entry() {
            // Two tables may have the same version, and say the same.
            let is_new = last.as_ref().is_none_or(|(key, ts)| key != entry.key || *ts != entry.ts);
            if is_new {
                writer.add(new, entry)?;
                last = Some((entry.key.to_vec(), entry.ts));
            }
        }
        if !open[at].entries.next()? {
            open.swap_remove(at);
        }
    }
    writer.finish_table()?;
    let mut added_values: Vec<_> = values.whole().collect();
    added_values.extend(writer.saver.finish()?);
    // Those that nothing refers to drop out by themselves.
    Ok(Edit { added: writer.added, added_values, ..Edit::default() })
}

/// An open table, on an entry.
struct Source {
    entries: WholeEntries,
    ts_override: Option<Timestamp>,
}

impl Source {
    fn entry(&self) -> Option<Entry<'_>> {
        let entry = self.entries.entry()?;
        Some(Entry { ts: self.ts_override.unwrap_or(entry.ts), ..entry })
    }
}

/// Returns which source is on the first entry: few are open at once, so all are looked at.
fn first_of(open: &[Source]) -> Option<usize> {
    let position = |at: &usize| {
        let entry = open[*at].entry();
        entry.map(|entry| (entry.key, std::cmp::Reverse(entry.ts)))
    };
    (0..open.len()).min_by(|a, b| position(a).cmp(&position(b)))
}

struct RunWriter<'v> {
    rule: Rule,
    table_bytes: u64,
    builder: Option<(u64, TableBuilder)>,
    saver: Saver<'v>,
    added: Vec<TableMeta>,
}

impl RunWriter<'_> {
    fn add(&mut self, new: &mut NewTables<'_>, entry: Entry<'_>) -> Result<()> {
        let Some(value) = self.saver.save(new, entry.key, entry.value)? else { return Ok(()) };
        // Everything there is, is here: nothing lies beneath.
        if self.rule.judge(entry.key, entry.ts, entry.value, |_| false) == Fate::Drop {
            return Ok(());
        }
        // One version of each key is kept, so any of them may be the last of its table.
        if self.builder.as_ref().is_some_and(|(_, it)| it.bytes() >= self.table_bytes) {
            self.finish_table()?;
        }
        if self.builder.is_none() {
            let NewFile { number, file, path } = new.create(FileKind::Table)?;
            self.builder = Some((number, TableBuilder::new(file, &path, TableOptions::default())));
        }
        let (_, builder) = self.builder.as_mut().expect("a table is open");
        builder.add(entry.key, entry.ts, value)
    }

    fn finish_table(&mut self) -> Result<()> {
        if let Some((number, builder)) = self.builder.take() {
            let last_level = (LEVELS - 1) as u8;
            self.added.push(TableMeta::new(number, last_level, &builder.finish()?));
        }
        Ok(())
    }
}
