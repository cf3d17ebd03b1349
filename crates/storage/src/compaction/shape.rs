//! What the picker looks at: the metadata of a version, and what is being done to it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::Plan;
use crate::manifest::TableMeta;
use crate::version::{Style, TreeId, Version, arrange, uses_of};

/// The metadata of a version.
#[derive(Debug, Clone, Default)]
pub struct Shape {
    /// In rising order of their names.
    pub trees: Vec<TreeShape>,
    /// The value files, in the order of their numbers.
    pub values: Vec<ValuesShape>,
}

/// What is known of a value file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ValuesShape {
    /// The number of the file.
    pub number: u64,
    /// Bytes of all its records.
    pub bytes: u64,
    /// How much of it tables refer to.
    pub live_bytes: u64,
}

impl ValuesShape {
    /// Returns how much of it nothing refers to.
    pub fn garbage_bytes(&self) -> u64 {
        self.bytes.saturating_sub(self.live_bytes)
    }
}

/// The metadata of a tree.
#[derive(Debug, Clone)]
pub struct TreeShape {
    /// Its name.
    pub id: TreeId,
    /// How it is compacted.
    pub style: Style,
    /// Levels of runs, newest first, of tables.
    pub levels: Vec<Vec<Vec<Arc<TableMeta>>>>,
}

impl TreeShape {
    /// Arranges tables as a tree.
    pub fn new(id: TreeId, style: Style, tables: Vec<Arc<TableMeta>>) -> TreeShape {
        TreeShape { id, style, levels: arrange(tables, |table| table) }
    }

    /// Returns the tables of a level, run by run.
    pub fn tables(&self, level: usize) -> impl Iterator<Item = &Arc<TableMeta>> {
        self.levels[level].iter().flatten()
    }

    /// Returns how much of value files the tables of a level refer to.
    pub fn apart_bytes(&self, level: usize) -> u64 {
        self.tables(level).map(|table| table.apart_bytes()).sum()
    }

    /// Returns the length of the files of a level.
    pub fn bytes(&self, level: usize) -> u64 {
        self.tables(level).map(|table| table.bytes).sum()
    }
}

impl From<&Version> for Shape {
    fn from(version: &Version) -> Shape {
        let trees = version.trees().iter().map(|tree| TreeShape {
            id: tree.id,
            style: tree.style,
            levels: (tree.levels.iter())
                .map(|level| {
                    let tables = |run: &crate::version::Run| {
                        run.tables().iter().map(|table| Arc::clone(&table.meta)).collect()
                    };
                    level.runs.iter().map(tables).collect()
                })
                .collect(),
        });
        let uses = uses_of(version.tables().map(|table| &*table.meta));
        let values = version.values().iter().map(|file| {
            let meta = file.meta();
            let at = uses.binary_search_by_key(&meta.number, |of| of.file);
            let live_bytes = at.map_or(0, |at| uses[at].bytes);
            ValuesShape { number: meta.number, bytes: meta.record_bytes(), live_bytes }
        });
        Shape { trees: trees.collect(), values: values.collect() }
    }
}

/// The plans that are being carried out.
#[derive(Debug, Clone, Default)]
pub struct InProgress {
    plans: Vec<Span>,
}

/// What a plan keeps others from.
#[derive(Debug, Clone)]
struct Span {
    tree: TreeId,
    levels: (u8, u8),
    keys: (Bytes, Bytes),
    tables: BTreeSet<u64>,
}

impl InProgress {
    /// Notes that a plan is begun.
    ///
    /// # Panics
    /// If it conflicts with another one.
    pub fn begin(&mut self, plan: &Plan) {
        assert!(self.allows(plan), "two compactions of the same tables at once");
        self.plans.push(Span {
            tree: plan.tree,
            levels: (plan.level, plan.target_level),
            keys: plan.keys.clone(),
            tables: plan.inputs.iter().map(|table| table.number).collect(),
        });
    }

    /// Notes that a plan is done, or given up.
    pub fn end(&mut self, plan: &Plan) {
        let is_it = |span: &Span| {
            span.tree == plan.tree && plan.inputs.iter().all(|t| span.tables.contains(&t.number))
        };
        self.plans.retain(|span| !is_it(span));
    }

    /// Returns true if nothing is in progress.
    pub fn is_empty(&self) -> bool {
        self.plans.is_empty()
    }

    /// Returns the number of plans in progress.
    pub fn len(&self) -> usize {
        self.plans.len()
    }

    /// Returns true if a table is an input of a plan in progress.
    pub fn has(&self, number: u64) -> bool {
        self.plans.iter().any(|span| span.tables.contains(&number))
    }

    /// Returns true if a plan can be begun beside those in progress.
    pub fn allows(&self, plan: &Plan) -> bool {
        let is_free = self.is_free(plan.tree, (plan.level, plan.target_level), &plan.keys);
        is_free && plan.inputs.iter().all(|table| !self.has(table.number))
    }

    /// Returns true if no plan in progress reads or writes keys between two others, both included,
    /// in levels between two others, both included.
    pub fn is_free(&self, tree: TreeId, levels: (u8, u8), keys: &(Bytes, Bytes)) -> bool {
        self.plans.iter().all(|span| {
            span.tree != tree
                || span.levels.1 < levels.0
                || levels.1 < span.levels.0
                || span.keys.1 < keys.0
                || keys.1 < span.keys.0
        })
    }
}
