//! A version: the immutable set of live tables, as trees of levels of sorted runs.
//!
//! ```text
//!   tree 0, leveled                                   tree 4, tiered: all runs at level 0
//!   level 0  run 31   [a    f][g         z]  newest   run 30  [a][b     m][n     z]
//!            run 28   [a  c]   [h     p]              run 22  [a         k][l    z]
//!   level 5  [a b][c   e][f      k][l  z]             run 9   [a   e][f      m][n z]
//!   level 6  [a][b   d][e][f   h][i  m][n z]  oldest
//! ```
//!
//! A read asks the runs from the newest to the oldest, at most one table in each, and the first
//! version it finds is the one: what is above is newer. A compaction or a flush makes a new version
//! from the old one and an [`Edit`]; readers go on with the one they have.
//!
//! # Invariants
//! * The tables of a run are disjoint in their user keys and sorted: all versions of a key in a run
//!   are in one table.
//! * A run of level 0 has newer versions of each key than the runs with smaller numbers, and level
//!   `n` newer ones than the levels below it (with larger numbers).
//! * Tables of tree `t` other than tree 0 hold keys of keyspace `t` only.
//! * Tables without entries are in no version.
//!
//! # When a file goes
//! A version only counts references. When an edit has taken a table out *and the manifest says so*,
//! [`Version::mark_obsolete`] marks its file; when the last version and the last cursor let go of
//! it, it is put into the [`Graveyard`], which the engine empties at a time of its own. A value file
//! goes in the same way, with the last table that refers to it: a version has those that its tables
//! refer to, and how much of each is live is a sum over the tables ([`uses_of`]).
//!
//! # Not here
//! Which tables to compact ([`crate::compaction`]), what is durable ([`crate::manifest`]).

mod live;
mod run;
mod values;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use base::key::{self, KeyspaceId};
use base::{KeyRange, Timestamp};

pub use live::{Graveyard, LiveTable};
pub use run::Run;
pub use values::{LiveValues, ValueFiles, uses_of};

use crate::iterator::RunCursor;
use crate::manifest::{Edit, MANIFEST_NAME, State, TableMeta};
use crate::table::{Found, Located, Table};
use crate::values::ValuesMeta;
use crate::{Error, Result};

/// Number of levels of a leveled tree, level 0 included. With the last one ten times larger than
/// the one above it and so on, six hold a million times level 1.
pub const LEVELS: usize = 7;

/// Names a tree of the engine: 0 is everybody's, each other one belongs to the keyspace of the same
/// number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TreeId(pub u32);

impl TreeId {
    /// The leveled tree of all keyspaces that have none of their own.
    pub const DEFAULT: TreeId = TreeId(0);

    /// Returns the keys that may be in the tree.
    pub fn key_range(self) -> KeyRange {
        if self == TreeId::DEFAULT {
            return KeyRange::all();
        }
        KeyRange::prefix(&KeyspaceId(self.0).prefix())
    }
}

impl std::fmt::Display for TreeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "tree {}", self.0)
    }
}

/// How a tree is compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// One sorted run per level, each level a multiple of the one above: least space, fewest runs
    /// to read.
    #[default]
    Leveled,
    /// Runs of similar size are merged into one: each entry is written fewer times.
    Tiered,
}

/// One level of a tree.
#[derive(Clone, Default)]
pub struct Level {
    /// Newest first; below level 0 one at most.
    pub runs: Vec<Run>,
}

impl Level {
    /// Returns all tables, run by run.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<LiveTable>> {
        self.runs.iter().flat_map(Run::tables)
    }

    /// Returns the length of all files.
    pub fn bytes(&self) -> u64 {
        self.tables().map(|table| table.meta.bytes).sum()
    }
}

/// One tree of a version.
#[derive(Clone)]
pub struct Tree {
    /// Its name.
    pub id: TreeId,
    /// How it is compacted.
    pub style: Style,
    /// [`LEVELS`] of them, of which a tiered tree uses the first.
    pub levels: Vec<Level>,
    /// All runs, newest first.
    runs: Vec<Run>,
}

impl Tree {
    fn new(id: TreeId, style: Style, tables: Vec<Arc<LiveTable>>) -> Tree {
        let levels: Vec<Level> = arrange(tables, |table| &table.meta)
            .into_iter()
            .map(|runs| Level { runs: runs.into_iter().map(Run::new).collect() })
            .collect();
        let runs = levels.iter().flat_map(|level| level.runs.iter().cloned()).collect();
        Tree { id, style, levels, runs }
    }

    /// Returns all runs, the newest first.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Returns all tables, from the newest run to the oldest.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<LiveTable>> {
        self.runs.iter().flat_map(Run::tables)
    }
}

/// Sorts the tables of a tree into levels and these into runs, newest first.
pub(crate) fn arrange<T>(tables: Vec<T>, meta: impl Fn(&T) -> &TableMeta) -> Vec<Vec<Vec<T>>> {
    // By run within level 0, all of one run below it.
    let run_of = |meta: &TableMeta| if meta.level == 0 { u64::MAX - meta.run } else { 0 };
    let mut groups: BTreeMap<(usize, u64), Vec<T>> = BTreeMap::new();
    for table in tables {
        let of = meta(&table);
        if of.bounds.is_some() {
            let level = usize::from(of.level).min(LEVELS - 1);
            groups.entry((level, run_of(of))).or_default().push(table);
        }
    }
    let mut levels: Vec<Vec<Vec<T>>> = (0..LEVELS).map(|_| Vec::new()).collect();
    for ((level, _), mut run) in groups {
        run.sort_by(|a, b| meta(a).first_key().cmp(meta(b).first_key()));
        levels[level].push(run);
    }
    levels
}

/// Files that were opened to become part of a version.
#[derive(Default)]
pub struct Opened {
    /// Tables with their numbers.
    pub tables: Vec<(u64, Table)>,
    /// Value files.
    pub values: Vec<LiveValues>,
}

/// An immutable set of live tables. Clones share everything.
#[derive(Clone)]
pub struct Version {
    /// In rising order of their names; tree 0 is always there.
    trees: Vec<Arc<Tree>>,
    values: ValueFiles,
    graveyard: Arc<Graveyard>,
}

impl Version {
    /// Returns the version without tables.
    pub fn empty(graveyard: Arc<Graveyard>) -> Version {
        let tree = Tree::new(TreeId::DEFAULT, Style::Leveled, Vec::new());
        Version { trees: vec![Arc::new(tree)], values: ValueFiles::default(), graveyard }
    }

    /// Opens all tables and value files of a state.
    ///
    /// # Errors
    /// Whatever `open` and `open_values` say; [`Error::Damaged`] if the tables cannot be a version.
    pub fn open(
        state: &State,
        graveyard: Arc<Graveyard>,
        mut open: impl FnMut(&TableMeta) -> Result<Table>,
        open_values: impl FnMut(&ValuesMeta) -> Result<LiveValues>,
    ) -> Result<Version> {
        let edit = Edit {
            added: state.tables.values().cloned().collect(),
            added_values: state.values.values().copied().collect(),
            styles: state.styles.iter().map(|(&tree, &style)| (tree, style)).collect(),
            ..Edit::default()
        };
        let opened = edit.added.iter().map(|meta| Ok((meta.number, open(meta)?)));
        let opened = Opened {
            tables: opened.collect::<Result<_>>()?,
            values: edit.added_values.iter().map(open_values).collect::<Result<_>>()?,
        };
        let version = Version::empty(graveyard).apply(&edit, opened);
        let checked = version.check_invariants();
        checked.map_err(|what| Error::damaged(Path::new(MANIFEST_NAME), 0, what))?;
        Ok(version)
    }

    /// Returns the version after an edit, of whose added tables all are in `opened` that are not
    /// merely moved.
    ///
    /// # Panics
    /// If an added table is neither in `opened` nor live here.
    #[must_use]
    pub fn apply(&self, edit: &Edit, opened: Opened) -> Version {
        let Opened { tables: opened, values: opened_values } = opened;
        let mut opened: BTreeMap<u64, Table> = opened.into_iter().collect();
        let removed: BTreeSet<u64> = edit.removed.iter().copied().collect();
        let mut styles: BTreeMap<TreeId, Style> =
            self.trees.iter().map(|tree| (tree.id, tree.style)).collect();
        styles.extend(edit.styles.iter().copied());
        let mut tables: BTreeMap<TreeId, Vec<Arc<LiveTable>>> = BTreeMap::new();
        let mut moved: BTreeMap<u64, Arc<LiveTable>> = BTreeMap::new();
        for table in self.tables() {
            if removed.contains(&table.meta.number) {
                moved.insert(table.meta.number, Arc::clone(table));
            } else {
                tables.entry(table.meta.tree).or_default().push(Arc::clone(table));
            }
        }
        for meta in &edit.added {
            let table = match (opened.remove(&meta.number), moved.get(&meta.number)) {
                (Some(table), _) => LiveTable::new(meta.clone(), table, &self.graveyard),
                (None, Some(old)) => old.moved(meta.clone()),
                (None, None) => panic!("table {} is added and was not opened", meta.number),
            };
            styles.entry(meta.tree).or_default();
            tables.entry(meta.tree).or_default().push(Arc::new(table));
        }
        let touched: BTreeSet<TreeId> = (edit.added.iter().map(|meta| meta.tree))
            .chain(moved.values().map(|table| table.meta.tree))
            .chain(edit.styles.iter().map(|&(tree, _)| tree))
            .collect();
        let trees = styles.into_iter().map(|(id, style)| {
            match self.tree(id) {
                // Most edits are of one tree.
                Some(tree) if !touched.contains(&id) => Arc::clone(tree),
                _ => Arc::new(Tree::new(id, style, tables.remove(&id).unwrap_or_default())),
            }
        });
        let mut version = Version { trees: trees.collect(), ..self.clone() };
        version.values = if version.tables().any(|table| !table.meta.values.is_empty()) {
            self.values.next(opened_values, version.tables().map(|table| &*table.meta))
        } else {
            ValueFiles::default()
        };
        debug_assert_eq!(version.check_invariants(), Ok(()));
        version
    }

    /// Marks the files that an edit of this version takes out: each is put into the graveyard when
    /// nobody uses it any more; and the value files that the version after it does not have. To be
    /// called once the manifest says that they are gone.
    pub fn mark_obsolete(&self, edit: &Edit, after: &Version) {
        self.values.mark_obsolete_but(&after.values);
        let kept: BTreeSet<u64> = edit.added.iter().map(|meta| meta.number).collect();
        let removed: BTreeSet<u64> = edit.removed.iter().copied().collect();
        for table in self.tables() {
            if removed.contains(&table.meta.number) && !kept.contains(&table.meta.number) {
                table.mark_obsolete();
            }
        }
    }

    /// Returns the trees in rising order of their names.
    pub fn trees(&self) -> &[Arc<Tree>] {
        &self.trees
    }

    /// Returns a tree.
    pub fn tree(&self, id: TreeId) -> Option<&Arc<Tree>> {
        self.trees.binary_search_by_key(&id, |tree| tree.id).ok().map(|at| &self.trees[at])
    }

    /// Returns the tree in which a key lies.
    #[inline]
    pub fn tree_of(&self, key: &[u8]) -> &Arc<Tree> {
        let [default, others @ ..] = &self.trees[..] else {
            unreachable!("tree 0 is always there");
        };
        if others.is_empty() {
            return default;
        }
        key::decode(key).and_then(|(keyspace, _)| self.tree(TreeId(keyspace.0))).unwrap_or(default)
    }

    /// Returns all tables.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<LiveTable>> {
        self.trees.iter().flat_map(|tree| tree.tables())
    }

    /// Returns the value files.
    pub fn values(&self) -> &ValueFiles {
        &self.values
    }

    /// Returns the graveyard that the files of this version end in.
    pub fn graveyard(&self) -> &Arc<Graveyard> {
        &self.graveyard
    }

    /// Returns the newest version of a key, with this hash, at or before a timestamp.
    ///
    /// # Errors
    /// As [`Table::get`].
    pub fn get(&self, key: &[u8], hash: u64, ts: Timestamp) -> Result<Option<Found>> {
        for run in self.tree_of(key).runs() {
            if let Some(table) = run.find(key)
                && table.meta.ts_min() <= ts
                && let Some(Located { ts, value }) = table.get(key, hash, ts)?
            {
                return Ok(Some(Found { ts, value: self.values.fetch(key, value)? }));
            }
        }
        Ok(None)
    }

    /// Returns the timestamp of the newest version of a key if it is after another timestamp. Only
    /// tables that have newer versions than that one are asked.
    ///
    /// # Errors
    /// As [`Table::get`].
    pub fn newest(&self, key: &[u8], hash: u64, after: Timestamp) -> Result<Option<Timestamp>> {
        for run in self.tree_of(key).runs() {
            if let Some(table) = run.find(key)
                && table.meta.ts_max() > after
                && let Some(found) = table.get(key, hash, Timestamp::MAX)?
            {
                return Ok(Some(found.ts).filter(|&ts| ts > after));
            }
        }
        Ok(None)
    }

    /// Returns a cursor for each run, newest first within a tree, that may have entries at or
    /// before a timestamp in a range. The cursors do not end with the range.
    pub fn cursors(&self, range: &KeyRange, ts: Timestamp) -> Vec<RunCursor> {
        let in_range =
            |run: &&Run| run.overlapping(range).iter().any(|table| table.meta.ts_min() <= ts);
        let runs = self.trees.iter().flat_map(|tree| tree.runs());
        runs.filter(in_range).map(|run| RunCursor::new(run.clone())).collect()
    }

    /// Checks what must always hold, as far as it shows without reading the tables. That newer
    /// versions of a key lie above older ones does not: a table spans keys that it does not have,
    /// and what was merged has timestamps of every age.
    ///
    /// # Errors
    /// A sentence that says what does not.
    pub fn check_invariants(&self) -> std::result::Result<(), String> {
        for tree in &self.trees {
            let keys = tree.id.key_range();
            for (number, level) in tree.levels.iter().enumerate() {
                if number > 0 && level.runs.len() > 1 {
                    return Err(format!("{} has several runs at level {number}", tree.id));
                }
                if number > 0 && tree.style == Style::Tiered && !level.runs.is_empty() {
                    return Err(format!("{} is tiered and has a level {number}", tree.id));
                }
                for run in &level.runs {
                    run.check_invariants()?;
                }
                for table in level.tables() {
                    let meta = &table.meta;
                    if meta.tree != tree.id || usize::from(meta.level) != number {
                        return Err(format!("{meta} is in {} at level {number}", tree.id));
                    }
                    if !keys.contains(meta.first_key()) || !keys.contains(meta.last_key()) {
                        return Err(format!("{meta} has keys that are not those of its tree"));
                    }
                }
            }
        }
        Ok(())
    }
}
