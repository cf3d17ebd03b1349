//! The tables: which are whole, and what is whole of the others.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{Timestamp, text};
use bytes::Bytes;
use env::{Disk, OpenMode};

use super::values::{Saver, Values};
use super::{RepairPlan, tolerate};
use crate::compaction::{Shape, TreeShape};
use crate::directory::{FileId, FileKind, FileName, NewFile, table_name};
use crate::error::{Error, Result};
use crate::manifest::{Edit, State, TableMeta};
use crate::table::{Gap, Table, TableBuilder, TableOptions, TableSummary, WholeEntries};
use crate::version::{Style, TreeId};

/// Most damages of one table that are told one by one: what the next says about the disk, the first
/// have said.
const DAMAGES_TOLD_MAX: usize = 10;

/// What is known of the tables.
pub(super) enum Tables {
    /// The manifest names them.
    Named {
        state: State,
        /// Those of which something is left to be written anew.
        broken: Vec<TableMeta>,
        /// The numbers of those of which nothing can be read.
        lost: Vec<u64>,
    },
    /// All that are there and can be opened, whole or not.
    All(Vec<TableMeta>),
}

impl Tables {
    /// Reads the tables that a manifest names.
    pub(super) fn named(
        disk: &dyn Disk,
        folder: &Path,
        state: State,
        values: &Values,
        plan: &mut RepairPlan,
    ) -> Result<Tables> {
        let (mut broken, mut lost) = (Vec::new(), Vec::new());
        for meta in state.tables.values() {
            let opened = Table::open(disk, &folder.join(table_name(meta.number)))
                .and_then(|table| meta.check(&table).map(|()| table));
            let Some(table) = tolerate(plan, opened)? else {
                plan.losses.push(format!(
                    "table {}: {} versions of keys, all that it held of {}",
                    meta.number,
                    meta.entries,
                    place_of(meta)
                ));
                lost.push(meta.number);
                continue;
            };
            let is_whole = is_whole(table.clone(), plan)?;
            if !values.are_missed(&table, meta, plan)? && is_whole {
                plan.whole_tables += 1;
            } else {
                broken.push(meta.clone());
            }
        }
        Ok(Tables::Named { state, broken, lost })
    }

    /// Reads all tables that are there, for want of a manifest.
    pub(super) fn all(
        disk: &dyn Disk,
        folder: &Path,
        values: &Values,
        plan: &mut RepairPlan,
    ) -> Result<Tables> {
        let mut tables = Vec::new();
        // The newest commit in the tables so far, which were written before the ones to come.
        let mut newest = Timestamp::ZERO;
        let mut is_bulk = false;
        for number in numbers(disk, folder, FileKind::Table)? {
            let opened = Table::open(disk, &folder.join(table_name(number)));
            let Some(table) = tolerate(plan, opened)? else {
                plan.losses.push(format!(
                    "table {number}: nothing of it can be read; whether it was in use cannot be \
                     told"
                ));
                continue;
            };
            let summary =
                TableSummary { bytes: table.bytes(), properties: table.properties().clone() };
            let mut meta = TableMeta::new(number, 0, &summary);
            is_whole(table.clone(), plan)?;
            values.are_missed(&table, &meta, plan)?;
            if meta.bounds.is_some() && meta.ts_max() == Timestamp::ZERO {
                is_bulk = true;
                meta = meta.committed_at(newest.next());
            } else {
                newest = newest.max(meta.ts_max());
            }
            plan.last_ts = plan.last_ts.max(meta.ts_max());
            tables.push(meta);
        }
        plan.doubts.push(
            "which of the tables belonged to the database: one that was about to be removed may \
             bring back old values, and keys that had been deleted"
                .to_string(),
        );
        if is_bulk {
            plan.doubts.push(
                "when rows of a bulk load were committed, which only the manifest said: they count \
                 as written right after what the tables before them hold"
                    .to_string(),
            );
        }
        Ok(Tables::All(tables))
    }
}

/// Reads a table; says in the plan what is kept of it and what is not.
fn is_whole(table: Table, plan: &mut RepairPlan) -> Result<bool> {
    let (path, entries) = (table.path().to_path_buf(), table.properties().entries);
    let error = match table.verify() {
        Ok(_) => {
            plan.kept_versions += entries;
            return Ok(true);
        }
        Err(error) => error.to_string(),
    };
    let mut whole = WholeEntries::new(table);
    let mut kept = 0;
    while whole.next()? {
        kept += 1;
    }
    let (mut damages, gaps) = whole.into_findings();
    // It may be in what is not needed to read the entries.
    if !damages.contains(&error) {
        damages.insert(0, error);
    }
    let more = damages.len().saturating_sub(DAMAGES_TOLD_MAX);
    damages.truncate(DAMAGES_TOLD_MAX);
    plan.damages.extend(damages);
    if more > 0 {
        plan.damages.push(format!("{}: {more} more places", path.display()));
    }
    plan.kept_versions += kept;
    if kept < entries {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let places: Vec<String> = gaps.iter().map(gap_text).collect();
        plan.losses.push(format!(
            "table {}: {} of {entries} versions of keys, {}; older values may come back",
            name.trim_start_matches('0'),
            entries - kept,
            places.join(", ")
        ));
    }
    Ok(false)
}

fn gap_text(gap: &Gap) -> String {
    let key = |key: &Option<Bytes>, end: &str| match key {
        Some(key) => text::escape_short(base::key::decode(key).map_or(key, |(_, k)| k), 40),
        None => end.to_string(),
    };
    format!("between {} and {}", key(&gap.after, "its first key"), key(&gap.before, "its last key"))
}

fn place_of(meta: &TableMeta) -> String {
    match meta.tree {
        TreeId::DEFAULT => format!("level {}", meta.level),
        tree => format!("level {} of {tree}", meta.level),
    }
}

/// Returns the levels of the tables of a state.
pub(super) fn shape_of(state: &State) -> Shape {
    let mut styles = state.styles.clone();
    styles.entry(TreeId::DEFAULT).or_insert(Style::Leveled);
    let tree = |(&id, &style): (&TreeId, &Style)| {
        let tables = state.tables.values().filter(|meta| meta.tree == id);
        TreeShape::new(id, style, tables.cloned().map(Arc::new).collect())
    };
    Shape { trees: styles.iter().map(tree).collect(), values: Vec::new() }
}

/// Writes what is whole of tables to new ones in their places.
pub(super) fn rewrite(
    new: &mut NewTables<'_>,
    broken: &[TableMeta],
    values: &Values,
) -> Result<Edit> {
    let mut edit = Edit::default();
    let mut saver = Saver::new(values);
    for meta in broken {
        edit.removed.push(meta.number);
        let mut whole = WholeEntries::new(Table::open(new.disk, &new.path(meta.number))?);
        if !whole.next()? {
            continue;
        }
        let NewFile { number, file, path } = new.create(FileKind::Table)?;
        let mut builder = TableBuilder::new(file, &path, TableOptions::default());
        while let Some(entry) = whole.entry() {
            if let Some(value) = saver.save(new, entry.key, entry.value)? {
                builder.add(entry.key, entry.ts, value)?;
            }
            if !whole.next()? {
                break;
            }
        }
        let table = TableMeta::new(number, meta.level, &builder.finish()?);
        let table = table.placed(meta.tree, meta.run);
        edit.added.push(match meta.ts_override {
            Some(ts) => table.committed_at(ts),
            None => table,
        });
    }
    edit.added_values = saver.finish()?;
    Ok(edit)
}

/// The files of new tables, and of new values.
pub(super) struct NewTables<'a> {
    pub(super) disk: &'a dyn Disk,
    folder: PathBuf,
    next: u64,
}

impl NewTables<'_> {
    /// New tables get numbers above those of all files, named in the manifest or not.
    pub(super) fn new<'a>(
        disk: &'a dyn Disk,
        folder: PathBuf,
        tables: &Tables,
    ) -> Result<NewTables<'a>> {
        let last = |kind| Ok(numbers(disk, &folder, kind)?.last().copied().unwrap_or(0));
        let above = 1 + last(FileKind::Table)?.max(last(FileKind::Values)?);
        let named = match tables {
            Tables::Named { state, .. } => state.next_file_number,
            Tables::All(_) => 1,
        };
        Ok(NewTables { disk, folder, next: above.max(named) })
    }

    pub(super) fn path(&self, number: u64) -> PathBuf {
        self.folder.join(table_name(number))
    }

    pub(super) fn new_number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// Returns the number that the next file gets.
    pub(super) fn next_number(&self) -> u64 {
        self.next
    }

    pub(super) fn create(&mut self, kind: FileKind) -> Result<NewFile> {
        let number = self.new_number();
        let path = self.folder.join(FileId { kind, number }.name());
        let file = self.disk.open(&path, OpenMode::CreateNew);
        let file = file.map_err(Error::io(&path, "create"))?;
        Ok(NewFile { number, file, path })
    }

    /// Makes the names of all new tables durable.
    pub(super) fn sync_names(&self) -> Result<()> {
        self.disk.sync_dir(&self.folder).map_err(Error::io(&self.folder, "sync"))
    }
}

/// Returns the numbers of all files of a kind, in order.
pub(super) fn numbers(disk: &dyn Disk, folder: &Path, kind: FileKind) -> Result<Vec<u64>> {
    let names = disk.list(folder).map_err(Error::io(folder, "list"))?;
    let numbers = names.iter().filter_map(|name| match FileName::parse(name) {
        Some(FileName::Table(number)) if kind == FileKind::Table => Some(number),
        Some(FileName::Values(number)) if kind == FileKind::Values => Some(number),
        _ => None,
    });
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable();
    Ok(numbers)
}
