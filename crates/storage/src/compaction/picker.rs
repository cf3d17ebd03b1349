//! Chooses what to compact next: what is most overdue first, then garbage, then what has waited.
//!
//! A pure function: the same shape, options, plans in progress, watermark and time give the same
//! choice. When it says [`Choice::Nothing`] with nothing in progress, only a flush, a higher
//! watermark or a later time change that.

use std::collections::BTreeSet;
use std::sync::Arc;

use base::{KeyRange, Timestamp};
use bytes::Bytes;

use super::{
    Choice, CompactionOptions, InProgress, Plan, Reason, Shape, TreeShape, leveled, tiered, values,
};
use crate::manifest::TableMeta;
use crate::version::{LEVELS, Style, TreeId};

/// The last level of a leveled tree, which all data comes to in the end.
pub(crate) const LAST: usize = LEVELS - 1;

/// The wall time that stands for the end of time: all has waited long by then, and whatever can be
/// brought down is, in proportion or not. A compaction by hand goes by it.
pub const END_OF_TIME_MS: u64 = u64::MAX;

/// A choice, and how overdue it is: 1 is just due. Of equal ones the first is taken.
pub(crate) type Scored = (f64, Choice);

/// Returns what to do next, beside what is in progress. `now_ms` is the wall time by which commit
/// timestamps are made; 0 if nothing is to be done for its age.
pub fn pick(
    shape: &Shape,
    options: &CompactionOptions,
    busy: &InProgress,
    watermark: Timestamp,
    now_ms: u64,
) -> Choice {
    let worn = values::worn(&shape.values, options, now_ms);
    let worn = &worn[..];
    let view = |tree| View { tree, options, busy, watermark, now_ms, worn };
    let views = || shape.trees.iter().map(view);
    let mut best: Option<Scored> = None;
    for view in views() {
        let found = match view.tree.style {
            Style::Leveled => leveled::most_overdue(&view),
            Style::Tiered => tiered::most_overdue(&view),
        };
        if let Some(found) = found
            && best.as_ref().is_none_or(|best| found.0 > best.0)
        {
            best = Some(found);
        }
    }
    if let Some((_, choice)) = best {
        return choice;
    }
    if let Some(choice) = values::rewrite(views()) {
        return choice;
    }
    let found = views().find_map(|view| match view.tree.style {
        Style::Leveled => leveled::garbage(&view).or_else(|| leveled::aged(&view)),
        Style::Tiered => tiered::garbage(&view).or_else(|| tiered::aged(&view)),
    });
    found.unwrap_or(Choice::Nothing)
}

/// Returns how many bytes lie where they should not be any more, roughly: what writers are slowed
/// for. It is about nothing while compaction keeps up.
pub fn debt_bytes(shape: &Shape, options: &CompactionOptions) -> u64 {
    let debt_of = |tree: &TreeShape| match tree.style {
        Style::Leveled => leveled::debt_bytes(tree, options),
        Style::Tiered => tiered::debt_bytes(tree, options),
    };
    shape.trees.iter().map(debt_of).sum::<u64>() + values::debt_bytes(&shape.values, options)
}

/// Returns the plan of a flush of what a memtable holds of a tree, into a run with a number above
/// all others: to be carried out by [`super::write`].
///
/// # Panics
/// If there is no such tree.
pub fn flush_plan(shape: &Shape, tree: TreeId, run: u64, options: &CompactionOptions) -> Plan {
    let tree = shape.trees.iter().find(|of| of.id == tree).expect("the tree of a flush is there");
    let beneath = tree.levels.iter().flatten().flatten();
    Plan {
        tree: tree.id,
        reason: Reason::Flush,
        inputs: Vec::new(),
        keys: (Bytes::new(), Bytes::new()),
        level: 0,
        target_level: 0,
        target_run: run,
        ranges: ranges_of(shape, tree.id),
        beneath: disjoint(beneath),
        cut_bytes: options.table_bytes,
        cut_keys: match tree.style {
            Style::Leveled => leveled::cut_keys(tree, options),
            Style::Tiered => Vec::new(),
        },
        grandparents: Vec::new(),
        grandparent_bytes_max: u64::MAX,
        worn: Vec::new(),
        is_coldest: false,
    }
}

/// Returns the level that tables without any overlap with others can be added to, for a bulk load:
/// the deepest one with nothing of their keys at it or above it.
pub fn bulk_level(shape: &Shape, tree: TreeId, keys: &(Bytes, Bytes), busy: &InProgress) -> u8 {
    let Some(tree) = shape.trees.iter().find(|of| of.id == tree) else {
        return 0;
    };
    let overlaps = |level: usize| tree.tables(level).any(|table| table.overlaps(&keys.0, &keys.1));
    let is_free = busy.is_free(tree.id, (0, LAST as u8), keys);
    if tree.style == Style::Tiered || !is_free || (0..LEVELS).any(overlaps) {
        return 0;
    }
    LAST as u8
}

/// Returns the keys of a tree: those that no other tree has, for tree 0.
fn ranges_of(shape: &Shape, tree: TreeId) -> Vec<KeyRange> {
    if tree != TreeId::DEFAULT {
        return vec![tree.key_range()];
    }
    let mut ranges = Vec::new();
    let mut start = Bytes::new();
    for other in shape.trees.iter().filter(|other| other.id != TreeId::DEFAULT) {
        let taken = other.id.key_range();
        ranges.push(KeyRange { start, end: Some(taken.start) });
        match taken.end {
            Some(end) => start = end,
            None => return ranges,
        }
    }
    ranges.push(KeyRange { start, end: None });
    ranges.retain(|range| !range.is_empty());
    ranges
}

/// What a choice for one tree depends on.
pub(crate) struct View<'a> {
    pub(crate) tree: &'a TreeShape,
    pub(crate) options: &'a CompactionOptions,
    pub(crate) busy: &'a InProgress,
    pub(crate) watermark: Timestamp,
    pub(crate) now_ms: u64,
    /// The value files that are worn.
    pub(crate) worn: &'a [u64],
}

/// Tables that go, and where to.
pub(crate) struct Target {
    pub(crate) level: usize,
    /// Counts at level 0.
    pub(crate) run: u64,
}

impl View<'_> {
    /// Returns the plan to bring tables, and what else of the target level they overlap, there;
    /// `None` if something in progress is in the way.
    pub(crate) fn plan(
        &self,
        mut inputs: Vec<Arc<TableMeta>>,
        target: Target,
        reason: Reason,
    ) -> Option<Plan> {
        let level = inputs.iter().map(|table| table.level).min()?;
        let numbers: BTreeSet<u64> = inputs.iter().map(|table| table.number).collect();
        let upper = keys_of(&inputs);
        let lower_level = target.level;
        if usize::from(level) < lower_level {
            let lower = self.tree.tables(lower_level);
            let is_beneath = |table: &&Arc<TableMeta>| {
                table.overlaps(&upper.0, &upper.1) && !numbers.contains(&table.number)
            };
            inputs.extend(lower.filter(is_beneath).cloned());
        }
        let keys = keys_of(&inputs);
        let older = |table: &&Arc<TableMeta>| {
            !inputs.iter().any(|input| input.number == table.number)
                && table.overlaps(&keys.0, &keys.1)
                // Runs of level 0 that are older than a target there.
                && (usize::from(table.level) > lower_level
                    || (lower_level == 0 && table.level == 0 && table.run < target.run))
        };
        let beneath = disjoint(self.tree.levels.iter().flatten().flatten().filter(older));
        let grandparents = match self.tree.levels.get(lower_level + 1) {
            Some(runs) if lower_level > 0 => (runs.iter().flatten())
                .filter(|table| table.overlaps(&keys.0, &keys.1))
                .map(|table| (table.last_key().clone(), table.bytes))
                .collect(),
            _ => Vec::new(),
        };
        let is_coldest = match self.tree.style {
            Style::Leveled => lower_level == LAST,
            Style::Tiered => {
                let oldest = self.tree.levels[0].last().and_then(|run| run.first());
                oldest.is_some_and(|oldest| inputs.iter().any(|table| table.run == oldest.run))
            }
        };
        let plan = Plan {
            tree: self.tree.id,
            reason,
            cut_bytes: self.cut_bytes(&inputs, lower_level),
            inputs,
            keys,
            level,
            target_level: lower_level as u8,
            target_run: target.run,
            ranges: vec![KeyRange::all()],
            beneath,
            cut_keys: Vec::new(),
            grandparents,
            grandparent_bytes_max: self.options.grandparent_tables_max * self.options.table_bytes,
            worn: self.worn.to_vec(),
            is_coldest,
        };
        self.busy.allows(&plan).then_some(plan)
    }

    /// Returns how long outputs are. What lies above mostly replaces what lies below, so the output
    /// is about as long as the latter, and should fall into as many whole tables.
    fn cut_bytes(&self, inputs: &[Arc<TableMeta>], target_level: usize) -> u64 {
        let table_bytes = self.options.table_bytes.max(1);
        let all: u64 = inputs.iter().map(|table| table.bytes).sum();
        let lower = inputs.iter().filter(|table| usize::from(table.level) == target_level);
        let lower: u64 = lower.map(|table| table.bytes).sum();
        let tables = ((lower + table_bytes / 2) / table_bytes).max(1);
        (all / tables).clamp(table_bytes, 2 * table_bytes)
    }

    /// Returns true if everything in a table is at or below the watermark: its garbage can go.
    pub(crate) fn is_settled(&self, table: &TableMeta) -> bool {
        table.ts_max() <= self.watermark
    }

    /// Returns true if what is brought down for its age alone is not too little for what has to be
    /// rewritten with it.
    pub(crate) fn is_in_proportion(&self, bytes: u64, overlap_bytes: u64) -> bool {
        let overlap_max = self.options.multiplier.saturating_mul(bytes);
        self.now_ms == END_OF_TIME_MS || overlap_bytes <= overlap_max
    }

    /// Returns true if a table was written long ago.
    pub(crate) fn is_aged(&self, table: &TableMeta) -> bool {
        self.is_settled(table)
            && self.now_ms > 0
            && table.ts_max().wall_ms().saturating_add(self.options.age_ms) <= self.now_ms
    }

    /// Returns the choice to rewrite a table where it is, or to drop it, if what is garbage in it
    /// can go here, and is at least so many percent of it.
    pub(crate) fn rewrite(
        &self,
        table: &Arc<TableMeta>,
        percent: u64,
        reason: Reason,
    ) -> Option<Choice> {
        if !self.is_settled(table) || self.busy.has(table.number) {
            return None;
        }
        let target = Target { level: usize::from(table.level), run: table.run };
        let plan = self.plan(vec![Arc::clone(table)], target, reason)?;
        let is_bottom = plan.beneath.is_empty();
        if is_bottom && table.entries == table.tombstones {
            return Some(Choice::Drop(plan));
        }
        let old_versions = table.entries.saturating_sub(table.distinct_keys);
        let droppable = if is_bottom { table.garbage_entries() } else { old_versions };
        let is_worth_it = is_share(droppable, table.entries, percent);
        is_worth_it.then_some(Choice::Merge(plan))
    }
}

/// Returns true if a part is at least so many percent of the whole, and not nothing.
pub(crate) fn is_share(part: u64, whole: u64, percent: u64) -> bool {
    part > 0 && u128::from(part) * 100 >= u128::from(whole) * u128::from(percent)
}

/// Returns the smallest and the largest key in tables.
pub(crate) fn keys_of(tables: &[Arc<TableMeta>]) -> (Bytes, Bytes) {
    let first = tables.iter().map(|table| table.first_key()).min().cloned();
    let last = tables.iter().map(|table| table.last_key()).max().cloned();
    (first.unwrap_or_default(), last.unwrap_or_default())
}

/// Returns where tables lie, as few disjoint stretches in order.
fn disjoint<'a>(tables: impl Iterator<Item = &'a Arc<TableMeta>>) -> Vec<(Bytes, Bytes)> {
    let stretch = |table: &Arc<TableMeta>| (table.first_key().clone(), table.last_key().clone());
    let mut stretches: Vec<(Bytes, Bytes)> = tables.map(stretch).collect();
    stretches.sort();
    stretches.dedup_by(|next, last| {
        let touches = next.0 <= last.1;
        if touches && next.1 > last.1 {
            last.1 = next.1.clone();
        }
        touches
    });
    stretches
}
