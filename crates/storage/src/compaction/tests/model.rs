//! A database of metadata: tables are lists of numbers, files are lengths, and the picker cannot
//! tell. Used by the tests of the picker and by `examples/compaction_shapes.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::Timestamp;
use bytes::Bytes;

use super::store::Value;
use super::store::compaction::garbage::{Fate, Rule};
use super::store::compaction::{
    Choice, CompactionOptions, InProgress, Plan, Shape, TreeShape, flush_plan, pick,
};
use super::store::manifest::TableMeta;
use super::store::table::TableBounds;
use super::store::version::{Style, TreeId};

/// Bytes of an entry in a table.
pub(crate) const ENTRY_BYTES: u64 = 144;
/// Bytes of a tombstone.
pub(crate) const TOMBSTONE_BYTES: u64 = 24;

/// One version of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) key: u32,
    pub(crate) ts: u64,
    pub(crate) is_tombstone: bool,
}

impl Version {
    fn bytes(self) -> u64 {
        if self.is_tombstone { TOMBSTONE_BYTES } else { ENTRY_BYTES }
    }
}

/// What was written so far, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Written {
    pub(crate) user: u64,
    pub(crate) flush: u64,
    pub(crate) compaction: u64,
}

pub(crate) struct Model {
    pub(crate) options: CompactionOptions,
    pub(crate) style: Style,
    pub(crate) tables: BTreeMap<u64, (Arc<TableMeta>, Arc<Vec<Version>>)>,
    pub(crate) memtable: Vec<Version>,
    pub(crate) busy: InProgress,
    pub(crate) written: Written,
    /// How far readers lag behind the newest timestamp.
    pub(crate) lag: u64,
    pub(crate) ts: u64,
    pub(crate) now_ms: u64,
    pub(crate) memtable_bytes: u64,
    /// The most that was on disk at once.
    pub(crate) peak_bytes: u64,
    next_number: u64,
}

pub(crate) fn key_bytes(key: u32) -> Bytes {
    // As of a keyspace that has a tree of its own.
    let mut bytes = vec![3, 0, 0, 0, 7];
    bytes.extend_from_slice(&key.to_be_bytes());
    bytes.into()
}

fn key_of(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[5..9].try_into().expect("keys of the model have nine bytes"))
}

impl Model {
    pub(crate) fn new(options: CompactionOptions, style: Style) -> Model {
        Model {
            options,
            style,
            tables: BTreeMap::new(),
            memtable: Vec::new(),
            busy: InProgress::default(),
            written: Written::default(),
            lag: 0,
            ts: 0,
            now_ms: 0,
            memtable_bytes: 0,
            peak_bytes: 0,
            next_number: 1,
        }
    }

    pub(crate) fn tree(&self) -> TreeId {
        TreeId(if self.style == Style::Tiered { 7 } else { 0 })
    }

    pub(crate) fn watermark(&self) -> u64 {
        self.ts.saturating_sub(self.lag)
    }

    pub(crate) fn write(&mut self, key: u32, is_tombstone: bool) {
        self.ts += 1;
        let version = Version { key, ts: self.ts, is_tombstone };
        self.written.user += version.bytes();
        self.memtable_bytes += version.bytes();
        self.memtable.push(version);
    }

    pub(crate) fn shape(&self) -> Shape {
        let metas = self.tables.values().map(|(meta, _)| Arc::clone(meta)).collect();
        let mut trees = vec![TreeShape::new(self.tree(), self.style, metas)];
        if self.style == Style::Tiered {
            trees.insert(0, TreeShape::new(TreeId(0), Style::Leveled, Vec::new()));
        }
        Shape { trees, ..Shape::default() }
    }

    pub(crate) fn tree_shape(&self) -> TreeShape {
        self.shape().trees.pop().expect("there is a tree")
    }

    pub(crate) fn disk_bytes(&self) -> u64 {
        self.tables.values().map(|(meta, _)| meta.bytes).sum::<u64>()
    }

    pub(crate) fn flush(&mut self) {
        let mut versions = std::mem::take(&mut self.memtable);
        self.memtable_bytes = 0;
        versions.sort_by_key(|version| (version.key, !version.ts));
        let plan = flush_plan(&self.shape(), self.tree(), self.next_number, &self.options);
        let bytes = self.carry_out(&plan, versions);
        self.written.flush += bytes;
        self.see_peak(0);
    }

    pub(crate) fn pick(&self) -> Choice {
        let watermark = Timestamp::from_raw(self.watermark());
        pick(&self.shape(), &self.options, &self.busy, watermark, self.now_ms)
    }

    /// Does what was chosen; returns false if that was nothing.
    pub(crate) fn apply(&mut self, choice: &Choice) -> bool {
        match choice {
            Choice::Nothing => return false,
            Choice::Move(plan) => {
                for meta in plan.edit(true).added {
                    let table = self.tables.get_mut(&meta.number).expect("a moved table is live");
                    table.0 = Arc::new(meta);
                }
            }
            Choice::Drop(plan) => {
                for number in plan.edit(false).removed {
                    self.tables.remove(&number).expect("a dropped table is live");
                }
            }
            Choice::Merge(plan) => {
                let mut versions = Vec::new();
                for table in &plan.inputs {
                    let (_, contents) =
                        self.tables.remove(&table.number).expect("an input is live");
                    versions.extend_from_slice(&contents);
                }
                versions.sort_by_key(|version| (version.key, !version.ts));
                let bytes = self.carry_out(plan, versions);
                self.written.compaction += bytes;
                self.see_peak(plan.input_bytes());
            }
        }
        true
    }

    pub(crate) fn settle(&mut self) {
        for step in 0.. {
            assert!(step < 10_000, "compaction does not come to an end");
            let choice = self.pick();
            if !self.apply(&choice) {
                break;
            }
        }
    }

    fn see_peak(&mut self, more: u64) {
        self.peak_bytes = self.peak_bytes.max(self.disk_bytes() + self.memtable_bytes + more);
    }

    /// Writes the outputs as `run::write` does; returns their bytes.
    fn carry_out(&mut self, plan: &Plan, versions: Vec<Version>) -> u64 {
        let mut rule = Rule::new(Timestamp::from_raw(self.watermark()));
        let mut total = 0;
        let mut left: u64 = plan.input_bytes();
        let mut output: Vec<Version> = Vec::new();
        let mut len = 0;
        let mut grandparents = &plan.grandparents[..];
        let mut grandparent_bytes = 0;
        let mut cuts = &plan.cut_keys[..];
        let mut last = None;
        for version in versions {
            left = left.saturating_sub(version.bytes());
            let key = key_bytes(version.key);
            let value = if version.is_tombstone { Value::Tombstone } else { Value::Put(b"") };
            let beneath = |key: &[u8]| {
                let mut stretches = plan.beneath.iter();
                stretches.any(|(first, last)| &first[..] <= key && key <= &last[..])
            };
            let ts = Timestamp::from_raw(version.ts);
            if rule.judge(&key, ts, value, beneath) == Fate::Drop {
                continue;
            }
            if last != Some(version.key) {
                last = Some(version.key);
                let mut is_cut = false;
                while let [cut, rest @ ..] = cuts
                    && *cut <= key
                {
                    cuts = rest;
                    is_cut = true;
                }
                while let [(end, bytes), rest @ ..] = grandparents
                    && *end < key
                {
                    grandparents = rest;
                    grandparent_bytes += bytes;
                }
                let is_end_near = !plan.inputs.is_empty() && left < plan.cut_bytes / 4;
                is_cut |= len >= plan.cut_bytes && (!is_end_near || len >= 2 * plan.cut_bytes);
                is_cut |=
                    grandparent_bytes > plan.grandparent_bytes_max && len >= plan.cut_bytes / 8;
                if is_cut && !output.is_empty() {
                    total += self.finish(plan, std::mem::take(&mut output));
                    (len, grandparent_bytes) = (0, 0);
                }
            }
            len += version.bytes();
            output.push(version);
        }
        if !output.is_empty() {
            total += self.finish(plan, output);
        }
        total
    }

    fn finish(&mut self, plan: &Plan, versions: Vec<Version>) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        let bytes: u64 = versions.iter().map(|version| version.bytes()).sum();
        let keys = 1 + versions.windows(2).filter(|pair| pair[0].key != pair[1].key).count();
        let ts = |found: Option<u64>| Timestamp::from_raw(found.expect("there are versions"));
        let meta = TableMeta {
            number,
            bytes,
            entries: versions.len() as u64,
            tombstones: versions.iter().filter(|version| version.is_tombstone).count() as u64,
            level: plan.target_level,
            bounds: Some(TableBounds {
                first_key: key_bytes(versions[0].key),
                last_key: key_bytes(versions[versions.len() - 1].key),
                ts_min: ts(versions.iter().map(|version| version.ts).min()),
                ts_max: ts(versions.iter().map(|version| version.ts).max()),
            }),
            tree: plan.tree,
            run: plan.target_run,
            distinct_keys: keys as u64,
            raw_bytes: bytes,
            values: Vec::new(),
            ts_override: None,
        };
        self.tables.insert(number, (Arc::new(meta), Arc::new(versions)));
        bytes
    }

    /// Returns what a reader at a timestamp finds: the way that `Version::get` goes.
    pub(crate) fn get(&self, key: u32, ts: u64) -> Option<Version> {
        let newest = self.memtable.iter().rev().find(|v| v.key == key && v.ts <= ts);
        if newest.is_some() {
            return newest.copied();
        }
        let shape = self.tree_shape();
        let runs = shape.levels.iter().flatten();
        let tables = runs.filter_map(|run| {
            run.iter().find(|table| table.overlaps(&key_bytes(key), &key_bytes(key)))
        });
        tables
            .filter_map(|table| {
                let versions = &self.tables[&table.number].1;
                let at = versions.partition_point(|v| (v.key, !v.ts) < (key, !ts));
                versions.get(at).filter(|version| version.key == key).copied()
            })
            .next()
    }

    /// Checks that each run is sorted and disjoint, and that each level has what it should.
    pub(crate) fn check(&self) {
        let shape = self.tree_shape();
        for (number, level) in shape.levels.iter().enumerate() {
            assert!(number == 0 || level.len() <= 1, "level {number} has several runs");
            for run in level {
                for pair in run.windows(2) {
                    assert!(pair[0].last_key() < pair[1].first_key(), "{:?} overlap", pair);
                }
            }
        }
        // From run to run, the versions of a key get older.
        let mut oldest: BTreeMap<u32, u64> = BTreeMap::new();
        for run in shape.levels.iter().flatten() {
            let mut in_run: BTreeMap<u32, u64> = BTreeMap::new();
            for table in run {
                for version in self.tables[&table.number].1.iter() {
                    let above = oldest.get(&version.key).copied().unwrap_or(u64::MAX);
                    assert!(version.ts < above, "{version:?} lies beneath an older version");
                    in_run.insert(version.key, version.ts);
                }
            }
            oldest.extend(in_run);
        }
    }

    /// Returns a line for people: tables and bytes of each level.
    pub(crate) fn picture(&self) -> String {
        let shape = self.tree_shape();
        let mut line = String::new();
        for (number, level) in shape.levels.iter().enumerate() {
            let tables = level.iter().flatten().count();
            if tables > 0 {
                let mib = shape.bytes(number) as f64 / (1 << 20) as f64;
                line +=
                    &format!("L{number}: {tables} tables, {} runs, {mib:.1} MiB  ", level.len());
            }
        }
        line
    }

    /// Returns the first key of a range of bytes, for looking into plans.
    pub(crate) fn keys_of(plan: &Plan) -> (u32, u32) {
        (key_of(&plan.keys.0), key_of(&plan.keys.1))
    }
}
