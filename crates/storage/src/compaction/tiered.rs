//! The picker of tiered trees: all runs at level 0, merged with those of similar size.
//!
//! ```text
//!   newest                          oldest
//!   [1][1][1][1]  [5]  [22]                the four newest become one
//!   [4]  [5]  [22]
//! ```
//!
//! Only runs that follow each other are merged, and the result has the number of the newest of
//! them, so the order of ages is kept. One merge at a time and tree: they take neighbours.

use std::sync::Arc;

use super::picker::{Scored, Target, View, is_share};
use super::{Choice, CompactionOptions, Reason, TreeShape};
use crate::manifest::TableMeta;

/// So many runs of similar size are merged: fewer would write each entry more often.
const RUNS_MIN: usize = 4;

/// Returns how many of the first runs are of similar size: none is much larger than all before it
/// together.
pub(crate) fn similar(sizes: &[u64]) -> usize {
    let mut sum = 0;
    let mut count = 0;
    for &size in sizes {
        if count > 0 && size > 2 * sum {
            break;
        }
        sum += size;
        count += 1;
    }
    count
}

fn run_sizes(tree: &TreeShape) -> Vec<u64> {
    let bytes = |run: &Vec<Arc<TableMeta>>| run.iter().map(|table| table.bytes).sum();
    tree.levels[0].iter().map(bytes).collect()
}

/// Returns what is most overdue.
pub(crate) fn most_overdue(view: &View<'_>) -> Option<Scored> {
    let options = view.options;
    let sizes = run_sizes(view.tree);
    let (oldest, newer) = sizes.split_last()?;
    let newer: u64 = newer.iter().sum();
    let space =
        newer as f64 * 100.0 / (*oldest as f64 * options.tiered_space_percent as f64).max(1.0);
    let runs_max = options.tiered_runs_max.max(2);
    let runs = sizes.len() as f64 / runs_max as f64;
    if sizes.len() > 1 && space >= 1.0 && similar(&sizes) == sizes.len() {
        return Some((space.max(runs), merge(view, 0, sizes.len(), Reason::Debt)?));
    }
    // The smallest runs first: they are the most.
    let windows = (0..sizes.len()).map(|start| (start, similar(&sizes[start..])));
    let similar = windows.into_iter().find(|&(_, count)| count >= RUNS_MIN);
    let (start, count) = match similar {
        Some(window) => window,
        None if sizes.len() >= runs_max => (0, (sizes.len() - runs_max + 2).max(2)),
        None if sizes.len() > 1 && space >= 1.0 => (0, sizes.len()),
        None => return None,
    };
    Some((runs.max(1.0), merge(view, start, count, Reason::Debt)?))
}

/// Returns the choice to merge some of the runs.
fn merge(view: &View<'_>, start: usize, count: usize, reason: Reason) -> Option<Choice> {
    let runs = view.tree.levels[0].get(start..start + count)?;
    let run = runs.first()?.first()?.run;
    let inputs = runs.iter().flatten().cloned().collect();
    Some(Choice::Merge(view.plan(inputs, Target { level: 0, run }, reason)?))
}

fn merge_all(view: &View<'_>, reason: Reason) -> Option<Choice> {
    let runs = view.tree.levels[0].len();
    (runs > 1).then(|| merge(view, 0, runs, reason))?
}

/// Returns what to compact for its garbage alone.
pub(crate) fn garbage(view: &View<'_>) -> Option<Choice> {
    let percent = view.options.garbage_percent;
    let mut tables = view.tree.tables(0);
    let rewritten = tables.find_map(|table| view.rewrite(table, percent, Reason::Garbage));
    if rewritten.is_some() {
        return rewritten;
    }
    let is_dense = |table: &Arc<TableMeta>| {
        view.is_settled(table) && is_share(table.tombstones, table.entries, 2 * percent)
    };
    let is_any = view.tree.tables(0).any(is_dense);
    is_any.then(|| merge_all(view, Reason::Garbage))?
}

/// Returns what to compact because it has waited long, and that is in proportion.
pub(crate) fn aged(view: &View<'_>) -> Option<Choice> {
    let sizes = run_sizes(view.tree);
    let (&oldest, newer) = sizes.split_last()?;
    let is_aged = view.tree.tables(0).all(|table| view.is_aged(table));
    let is_cheap = view.is_in_proportion(newer.iter().sum(), oldest);
    (is_aged && is_cheap).then(|| merge_all(view, Reason::Age))?
}

/// Returns how much more there is beside the oldest run than there should be.
pub(crate) fn debt_bytes(tree: &TreeShape, options: &CompactionOptions) -> u64 {
    let sizes = run_sizes(tree);
    let runs_over = sizes.len().saturating_sub(2 * options.tiered_runs_max) as u64;
    runs_over * options.flush_bytes
}
