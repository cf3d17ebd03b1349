//! The picker of leveled trees: columns of level 0, sizes of levels, garbage, and age.

use std::sync::Arc;

use bytes::Bytes;

use super::picker::{LAST, Scored, Target, View, is_share, keys_of};
use super::{Choice, CompactionOptions, Reason, TreeShape, tiered};
use crate::manifest::TableMeta;
use crate::version::LEVELS;

/// A level that comes in is at least this much smaller than the one below: else it would be there
/// only to be rewritten.
const MULTIPLIER_MIN: f64 = 4.0;

/// A column is compacted, whatever its share, once it refers to so many times what is to be written:
/// that adds a sixteenth to what its values cost, and finds the values that they replace.
const APART_SHARE: u64 = 16;

/// How large each level should be at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// The level that level 0 is compacted to: those between are empty.
    pub(crate) base: usize,
    /// Of the levels; nothing for those above the base, whatever there is for the last.
    pub(crate) bytes_max: [u64; LEVELS],
}

/// Returns the sizes of a tree, from the last level upwards.
pub(crate) fn sizes(tree: &TreeShape, options: &CompactionOptions) -> Sizes {
    let bytes: Vec<u64> = (0..LEVELS).map(|level| tree.bytes(level)).collect();
    let largest = bytes[1..].iter().copied().max().unwrap_or(0).max(1);
    let mut sizes = Sizes { base: LAST, bytes_max: [0; LEVELS] };
    sizes.bytes_max[LAST] = u64::MAX;
    let ratio = largest as f64 / options.base_bytes.max(1) as f64;
    if ratio > 1.0 {
        let multiplier_max = (options.multiplier.max(2) as f64).max(MULTIPLIER_MIN);
        let between = (ratio.ln() / multiplier_max.ln()).ceil().clamp(1.0, LAST as f64 - 1.0);
        let multiplier = ratio.powf(1.0 / between).clamp(MULTIPLIER_MIN, multiplier_max);
        let mut size = largest as f64;
        for level in (LAST - between as usize..LAST).rev() {
            size /= multiplier;
            sizes.bytes_max[level] = size as u64;
            sizes.base = level;
        }
    }
    let first_used = (1..LAST).find(|&level| bytes[level] > 0);
    sizes.base = sizes.base.min(first_used.unwrap_or(LAST));
    sizes
}

/// Tables of level 0 whose keys overlap, directly or through others: they go down together, and
/// what is not among them lies beside them.
struct Column {
    tables: Vec<Arc<TableMeta>>,
    bytes: u64,
    /// How much of value files they refer to.
    apart_bytes: u64,
    runs: usize,
    /// Length of what they overlap in the base level.
    base_bytes: u64,
}

fn columns(tree: &TreeShape, base: usize) -> Vec<Column> {
    let mut tables: Vec<Arc<TableMeta>> = tree.tables(0).cloned().collect();
    tables.sort_by(|a, b| a.first_key().cmp(b.first_key()));
    let mut groups: Vec<(Bytes, Vec<Arc<TableMeta>>)> = Vec::new();
    for table in tables {
        match groups.last_mut() {
            Some((end, group)) if table.first_key() <= end => {
                if table.last_key() > end {
                    *end = table.last_key().clone();
                }
                group.push(table);
            }
            _ => groups.push((table.last_key().clone(), vec![table])),
        }
    }
    let column = |(_, tables): (Bytes, Vec<Arc<TableMeta>>)| {
        let mut runs: Vec<u64> = tables.iter().map(|table| table.run).collect();
        runs.sort_unstable();
        runs.dedup();
        Column {
            bytes: tables.iter().map(|table| table.bytes).sum(),
            apart_bytes: tables.iter().map(|table| table.apart_bytes()).sum(),
            runs: runs.len(),
            base_bytes: overlap_bytes(tree, base, &keys_of(&tables)),
            tables,
        }
    };
    groups.into_iter().map(column).collect()
}

fn overlap_bytes(tree: &TreeShape, level: usize, keys: &(Bytes, Bytes)) -> u64 {
    let runs = tree.levels.get(level).into_iter().flatten();
    let overlapped = runs.map(|run| {
        // Runs are sorted: the overlapping tables stand together.
        let start = run.partition_point(|table| table.last_key() < &keys.0);
        let end = run.partition_point(|table| table.first_key() <= &keys.1);
        run.get(start..end).unwrap_or_default().iter().map(|table| table.bytes).sum::<u64>()
    });
    overlapped.sum()
}

/// Returns how far a column is over its share of what lies beneath.
fn share_of(column: &Column, options: &CompactionOptions) -> f64 {
    // What it refers to pays for the merge, and only that tells which values are garbage.
    let cost = APART_SHARE * (column.bytes + column.base_bytes);
    if column.apart_bytes > 0 && column.apart_bytes >= cost {
        return column.apart_bytes as f64 / cost.max(1) as f64;
    }
    if column.base_bytes == 0 {
        // Nothing to rewrite: it goes down for free. What is tiny waits to become one with others,
        // lest the level be full of tiny tables.
        return if column.bytes * 4 >= options.table_bytes { 1e6 } else { 0.0 };
    }
    let share = column.base_bytes as f64 * options.l0_share_percent as f64 / 100.0;
    column.bytes as f64 / share.max(1.0)
}

/// Returns what is most over its size.
pub(crate) fn most_overdue(view: &View<'_>) -> Option<Scored> {
    let View { tree, options, .. } = view;
    let sizes = sizes(tree, options);
    let mut levels: Vec<(f64, usize)> = (sizes.base..LAST)
        .filter_map(|level| {
            let bytes = tree.bytes(level) as f64;
            let score = bytes / sizes.bytes_max[level].max(1) as f64;
            (score > 1.0).then_some((score, level))
        })
        .collect();
    levels.sort_by(|a, b| b.0.total_cmp(&a.0));
    let from_levels = levels
        .into_iter()
        .find_map(|(score, level)| Some((score, descend(view, level, Reason::Debt, |_, _| true)?)));
    let from_top = from_top(view, &sizes);
    match (from_levels, from_top) {
        (Some(a), Some(b)) => Some(if b.0 > a.0 { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// Returns what is most overdue in level 0.
fn from_top(view: &View<'_>, sizes: &Sizes) -> Option<Scored> {
    let View { tree, options, .. } = view;
    let runs_max = options.l0_runs_max.max(2);
    let mut scored: Vec<(f64, Column)> = columns(tree, sizes.base)
        .into_iter()
        .map(|column| {
            let runs = column.runs as f64 / runs_max as f64;
            (share_of(&column, options).max(runs), column)
        })
        .filter(|(score, _)| *score >= 1.0)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let found = scored.into_iter().find_map(|(score, column)| {
        // Many runs that are small beside what lies beneath become one run first.
        if share_of(&column, options) < 0.5
            && let Some(merged) = merge_runs(view, &column.tables)
        {
            return Some((score, merged));
        }
        Some((score, column_down(view, column.tables, sizes.base, Reason::Debt)?))
    });
    found.or_else(|| {
        // Tiny runs beside each other are in nobody's column.
        let runs = tree.levels[0].len();
        let all = || tree.tables(0).cloned().collect::<Vec<_>>();
        (runs > runs_max)
            .then(|| Some((runs as f64 / runs_max as f64, merge_runs(view, &all())?)))?
    })
}

/// Returns the choice to merge the newest runs of some tables of level 0, which nothing else there
/// overlaps, into one.
fn merge_runs(view: &View<'_>, tables: &[Arc<TableMeta>]) -> Option<Choice> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    let mut sorted: Vec<&Arc<TableMeta>> = tables.iter().collect();
    sorted.sort_by_key(|table| u64::MAX - table.run);
    for table in sorted {
        match runs.last_mut() {
            Some((run, bytes)) if *run == table.run => *bytes += table.bytes,
            _ => runs.push((table.run, table.bytes)),
        }
    }
    let sizes: Vec<u64> = runs.iter().map(|(_, bytes)| *bytes).collect();
    let count = tiered::similar(&sizes).max(runs.len().div_ceil(2)).max(2).min(runs.len());
    let (&(newest, _), &(oldest, _)) = (runs.first()?, runs.get(count - 1)?);
    let inputs = tables.iter().filter(|table| table.run >= oldest).cloned().collect();
    (count > 1).then_some(())?;
    let target = Target { level: 0, run: newest };
    Some(Choice::Merge(view.plan(inputs, target, Reason::Debt)?))
}

/// Returns the choice to bring a whole column to the base level.
fn column_down(
    view: &View<'_>,
    tables: Vec<Arc<TableMeta>>,
    base: usize,
    reason: Reason,
) -> Option<Choice> {
    let uppers = tables.len();
    let is_one_run = tables.windows(2).all(|pair| pair[0].run == pair[1].run);
    let run = tables.iter().map(|table| table.run).max()?;
    let plan = view.plan(tables, Target { level: base, run }, reason)?;
    let is_alone = plan.inputs.len() == uppers && is_one_run;
    Some(if is_alone { move_or_merge(view, plan) } else { Choice::Merge(plan) })
}

/// Moves tables that overlap nothing, unless they are worth looking into.
fn move_or_merge(view: &View<'_>, plan: super::Plan) -> Choice {
    let percent = view.options.garbage_percent;
    let has_garbage = |table: &Arc<TableMeta>| {
        view.is_settled(table) && is_share(table.garbage_entries(), table.entries, percent)
    };
    let overlap: u64 = plan.grandparents.iter().map(|(_, bytes)| bytes).sum();
    let is_wide = plan.inputs.len() == 1 && overlap > plan.grandparent_bytes_max;
    if is_wide || (plan.beneath.is_empty() && plan.inputs.iter().any(has_garbage)) {
        return Choice::Merge(plan);
    }
    Choice::Move(plan)
}

/// Returns the choice to bring the table of a level down that costs least for what it is, of those
/// that are wanted, given what they overlap.
fn descend(
    view: &View<'_>,
    level: usize,
    reason: Reason,
    is_wanted: impl Fn(&TableMeta, u64) -> bool,
) -> Option<Choice> {
    let tree = view.tree;
    let mut candidates: Vec<(f64, &Arc<TableMeta>)> = Vec::new();
    for table in tree.tables(level).filter(|table| !view.busy.has(table.number)) {
        let keys = (table.first_key().clone(), table.last_key().clone());
        let overlap = overlap_bytes(tree, level + 1, &keys);
        if is_wanted(table, overlap) {
            // A tombstone will take as much away below as an entry there is long.
            let average = table.bytes / table.entries.max(1);
            let weight = table.bytes + 2 * average * table.tombstones;
            candidates.push((overlap as f64 / weight.max(1) as f64, table));
        }
    }
    candidates.sort_by(|a, b| a.0.total_cmp(&b.0));
    candidates.into_iter().find_map(|(_, table)| {
        let target = Target { level: level + 1, run: table.run };
        let plan = view.plan(vec![Arc::clone(table)], target, reason)?;
        let is_alone = plan.inputs.len() == 1;
        Some(if is_alone { move_or_merge(view, plan) } else { Choice::Merge(plan) })
    })
}

/// Returns what to compact for its garbage alone.
pub(crate) fn garbage(view: &View<'_>) -> Option<Choice> {
    let View { tree, options, .. } = view;
    let percent = options.garbage_percent;
    for level in (0..LEVELS).rev() {
        for table in tree.tables(level) {
            if let Some(choice) = view.rewrite(table, percent, Reason::Garbage) {
                return Some(choice);
            }
        }
    }
    // Tombstones with something beneath go down to it. In the upper levels it takes more of them:
    // some tombstones among other writes come down with these soon enough.
    let is_dense = |table: &TableMeta| {
        view.is_settled(table) && is_share(table.tombstones, table.entries, 2 * percent)
    };
    let base = sizes(tree, options).base;
    for level in (1..LAST).rev() {
        let found = descend(view, level, Reason::Garbage, |table, _| is_dense(table));
        if found.is_some() {
            return found;
        }
    }
    let is_dense = |column: &Column| column.tables.iter().any(|table| is_dense(table));
    let dense = columns(tree, base).into_iter().filter(is_dense);
    let mut dense = dense.map(|column| column.tables);
    dense.find_map(|tables| column_down(view, tables, base, Reason::Garbage))
}

/// Returns what to compact because it has waited long, and that is in proportion.
pub(crate) fn aged(view: &View<'_>) -> Option<Choice> {
    let View { tree, options, .. } = view;
    let base = sizes(tree, options).base;
    let aged = columns(tree, base).into_iter().filter(|column| {
        column.tables.iter().all(|table| view.is_aged(table))
            && view.is_in_proportion(column.bytes, column.base_bytes)
    });
    let mut aged = aged.map(|column| column.tables);
    let found = aged.find_map(|tables| column_down(view, tables, base, Reason::Age));
    if found.is_some() {
        return found;
    }
    for level in 1..LAST {
        let found = descend(view, level, Reason::Age, |table, overlap| {
            view.is_aged(table) && view.is_in_proportion(table.bytes, overlap)
        });
        if found.is_some() {
            return found;
        }
    }
    let mut old = tree.tables(LAST).filter(|table| view.is_aged(table));
    old.find_map(|table| view.rewrite(table, options.garbage_percent.div_ceil(4), Reason::Age))
}

/// Returns how much more is above the last level than there should be.
pub(crate) fn debt_bytes(tree: &TreeShape, options: &CompactionOptions) -> u64 {
    let sizes = sizes(tree, options);
    let over = |column: &Column| {
        column.bytes.saturating_sub(column.base_bytes * options.l0_share_percent / 100)
    };
    let columns = columns(tree, sizes.base);
    let top: u64 = columns.iter().map(over).sum();
    let levels = (1..LAST).map(|level| tree.bytes(level).saturating_sub(sizes.bytes_max[level]));
    let runs = columns.iter().map(|column| column.runs).max().unwrap_or(0);
    let runs_over = runs.saturating_sub(2 * options.l0_runs_max) as u64;
    // What was flushed just now is no debt yet.
    top.saturating_sub(2 * options.flush_bytes)
        + levels.sum::<u64>()
        + runs_over * options.flush_bytes
}

/// Returns where a flush is cut: where tables of the base level begin, every so many bytes of it,
/// and not where a table of level 0 lies across.
pub(crate) fn cut_keys(tree: &TreeShape, options: &CompactionOptions) -> Vec<Bytes> {
    let base = sizes(tree, options).base;
    let slice_bytes = (tree.bytes(base) / options.l0_pieces.max(1)).max(options.table_bytes);
    let mut top: Vec<&Arc<TableMeta>> = tree.tables(0).collect();
    top.sort_by(|a, b| a.first_key().cmp(b.first_key()));
    let mut cuts = Vec::new();
    let (mut bytes, mut at) = (0, 0);
    // The largest last key of the tables of level 0 that begin before the key.
    let mut reach: Option<&Bytes> = None;
    for table in tree.tables(base) {
        let key = table.first_key();
        while let Some(above) = top.get(at).filter(|above| above.first_key() < key) {
            reach = reach.max(Some(above.last_key()));
            at += 1;
        }
        if bytes >= slice_bytes && reach.is_none_or(|reach| reach < key) {
            cuts.push(key.clone());
            bytes = 0;
        }
        bytes += table.bytes;
    }
    cuts
}
