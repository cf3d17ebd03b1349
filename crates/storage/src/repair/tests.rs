//! Databases damaged in one place each: what a repair keeps, what it says is lost, and that it can
//! be interrupted anywhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use base::key::KeyspaceId;
use base::{Timestamp, checksum};
use env::{CrashMode, Disk, SimDisk};

use super::*;
use crate::batch::encode_batch;
use crate::compaction::CompactionOptions;
use crate::directory::table_name;
use crate::manifest::Edit;
use crate::table::{BlockRole, Table, TableOptions};
use crate::version::{Style, TreeId};
use crate::{Compacted, Engine, EngineOptions, MemoryOptions, Value, wal};

/// Small enough that every repair makes several tables.
const TINY: Limits = Limits { memtable_bytes: 32 << 10, table_bytes: 2 << 10 };

fn path() -> PathBuf {
    PathBuf::from("db")
}

fn options() -> EngineOptions {
    EngineOptions {
        create: true,
        owner: "a test".into(),
        new_id: [7; 16],
        hash_seed: 1,
        wal: wal::WalOptions {
            segment_bytes_min: 16 << 10,
            segment_bytes_max: 16 << 10,
            spares_max: 1,
        },
        table: TableOptions::default(),
        memory: MemoryOptions::of_budget(64 << 20),
        compaction: CompactionOptions::for_flush_bytes(1 << 20),
        log_bytes_max: 64 << 20,
    }
}

fn open(disk: &SimDisk) -> Result<Arc<Engine>> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Engine::open(disk, &path(), options()).map(|(engine, _)| Arc::new(engine))
}

fn key(number: u64) -> Vec<u8> {
    format!("key{number:05}").into_bytes()
}

fn commit(engine: &Engine, number: u64) {
    let (ts, key, value) = (Timestamp::from_raw(number), key(number), vec![number as u8; 100]);
    let payload = encode_batch([(&key[..], Value::Put(&value))].into_iter(), 0);
    let crc = checksum::of(&[&payload]);
    let (_, end, memtable) = engine.append(ts.prev(), ts, &payload, crc).unwrap();
    memtable.pin_writer().insert(&key, ts, Value::Put(&value));
    engine.sync_to_then(end, &|| ()).unwrap();
}

/// Keys 1 to 400 in a table, 401 to 600 in the log.
fn database() -> SimDisk {
    let disk = SimDisk::new();
    let engine = open(&disk).unwrap();
    (1..=400).for_each(|number| commit(&engine, number));
    engine.seal(Timestamp::from_raw(400));
    assert!(engine.flush_next(Timestamp::from_raw(400)).unwrap());
    (401..=600).for_each(|number| commit(&engine, number));
    engine.close().unwrap();
    disk
}

fn keys_in(disk: &SimDisk) -> Vec<u64> {
    let engine = open(disk).unwrap();
    engine.verify().unwrap();
    let pin = engine.pin_newest(|| Timestamp::from_raw(u64::MAX - 1));
    (1..=700).filter(|number| pin.get(&key(*number)).unwrap().is_some()).collect()
}

fn file_of(disk: &SimDisk, part: &str) -> PathBuf {
    let found = disk.files().into_iter().find(|(path, _)| path.to_string_lossy().contains(part));
    found.map(|(path, _)| path).unwrap()
}

/// Where in the log a key stands.
fn record_of(disk: &SimDisk, key: &[u8]) -> (PathBuf, u64) {
    let found = disk.files().into_iter().find_map(|(path, _)| {
        let bytes = disk.read_file(&path).unwrap();
        let at = bytes.windows(key.len()).position(|window| window == key)?;
        path.to_string_lossy().contains("wal").then_some((path, at as u64))
    });
    found.unwrap()
}

/// Damages one byte, sees the database refuse to open or to be sound, repairs it.
fn repair(disk: &SimDisk, file: &Path, offset: u64) -> RepairPlan {
    disk.flip_bit(file, offset, 2).unwrap();
    let check = || open(disk).and_then(|engine| engine.verify());
    let refused = check().unwrap_err();
    assert!(matches!(refused, Error::Damaged { .. }), "{refused}");
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let planned = plan(&shared, &path(), "a test").unwrap();
    assert!(planned.is_needed());
    assert!(check().is_err(), "a plan only reads");
    assert_eq!(apply(&shared, &path(), "a test").unwrap(), planned);
    assert!(disk.exists(&planned.copies.join("FORMAT")).unwrap());
    planned
}

#[test]
fn a_whole_database_needs_no_repair() {
    let disk = database();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let plan = apply(&shared, &path(), "a test").unwrap();
    assert!(!plan.is_needed() && plan.losses.is_empty(), "{plan:?}");
    assert_eq!(keys_in(&disk).len(), 600);
}

#[test]
fn damage_in_the_log_loses_what_follows_it() {
    let disk = database();
    let (segment, at) = record_of(&disk, b"key00450");
    let plan = repair(&disk, &segment, at);
    assert_eq!(plan.last_ts, Timestamp::from_raw(449));
    assert_eq!(plan.losses.len(), 1, "{plan:?}");
    assert_eq!(keys_in(&disk), (1..=449).collect::<Vec<u64>>());
    let engine = open(&disk).unwrap();
    commit(&engine, 601);
    engine.close().unwrap();
    drop(engine);
    assert_eq!(keys_in(&disk).last(), Some(&601));
}

#[test]
fn damage_in_a_table_loses_one_block_and_says_between_which_keys() {
    let disk = database();
    let table = file_of(&disk, "tables/");
    let plan = repair(&disk, &table, 6000);
    let kept = keys_in(&disk);
    assert!(kept.len() > 550 && kept.len() < 600, "{} keys", kept.len());
    assert_eq!(kept.last(), Some(&600));
    assert!(plan.losses[0].contains("between key"), "{plan:?}");
}

#[test]
fn a_damaged_manifest_is_made_from_the_table_and_the_log() {
    let disk = database();
    let plan = repair(&disk, &file_of(&disk, "MANIFEST"), 30);
    assert_eq!(keys_in(&disk).len(), 600);
    assert_eq!(plan.doubts.len(), 1, "{plan:?}");
}

#[test]
fn a_damaged_format_is_written_anew() {
    let disk = database();
    let plan = repair(&disk, &file_of(&disk, "FORMAT"), 20);
    assert!(plan.losses.is_empty(), "{plan:?}");
    assert_eq!(keys_in(&disk).len(), 600);
}

#[test]
fn a_damaged_segment_header_loses_the_segment_and_what_follows() {
    let disk = database();
    let plan = repair(&disk, &file_of(&disk, "wal/"), 20);
    assert!(plan.losses.len() == 1, "{plan:?}");
    assert!(keys_in(&disk).len() >= 400);
}

#[test]
fn a_repair_that_is_interrupted_anywhere_can_be_made_again() {
    let mut stop = 0;
    loop {
        let disk = database();
        let (segment, at) = record_of(&disk, b"key00450");
        disk.flip_bit(&segment, at, 1).unwrap();
        disk.stop_at(disk.operations() + stop);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let done = apply(&shared, &path(), "a test").is_ok();
        for mode in [CrashMode::LoseUnsynced, CrashMode::KeepUnsynced, CrashMode::Torn(stop)] {
            let crashed = disk.crash(mode);
            let shared: Arc<dyn Disk> = Arc::new(crashed.clone());
            apply(&shared, &path(), "a test").unwrap();
            let kept = keys_in(&crashed);
            assert_eq!(kept, (1..=449).collect::<Vec<u64>>(), "stop {stop}, {mode:?}");
        }
        if done {
            break;
        }
        stop += 1;
    }
    assert!(stop > 10);
}

/// What a database holds: each key's newest value, and nothing for a deleted one.
type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// A database of several levels, one tree of which is tiered, with overwritten and deleted keys,
/// a bulk load, and a log.
struct Layered {
    disk: SimDisk,
    rows: Rows,
    ts: u64,
}

impl Layered {
    fn new() -> Layered {
        let disk = SimDisk::new();
        open(&disk).unwrap().close().unwrap();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let mut manifest = Manifest::open(shared, &path(), DatabaseId([7; 16])).unwrap();
        let styles = vec![(TreeId(4), Style::Tiered)];
        manifest.apply(&Edit { styles, ..Edit::default() }).unwrap();
        let mut layered = Layered { disk, rows: Rows::new(), ts: 0 };
        let engine = layered.open();
        for round in 0..6u64 {
            for number in 0..60 {
                // Some of the keys of earlier rounds are written again, some are deleted.
                let place = (number * 7 + round * 31) % 300;
                let keyspace = KeyspaceId(if number % 3 == 0 { 4 } else { 2 });
                let value = (number % 5 != 4).then(|| vec![(round * 60 + number) as u8; 90]);
                layered.commit(&engine, keyspace, place, value.as_deref());
            }
            match round {
                2 => layered.bulk_load(&engine, KeyspaceId(5)),
                5 => layered.bulk_load(&engine, KeyspaceId(6)),
                _ => {}
            }
            if round < 5 {
                engine.seal(Timestamp::from_raw(layered.ts));
                while engine.flush_next(Timestamp::from_raw(layered.ts)).unwrap() {}
                engine.collect(Timestamp::from_raw(layered.ts));
                while engine.compact_next(0, |_| ControlFlow::Continue(())).unwrap()
                    == Compacted::Something
                {}
            }
        }
        engine.close().unwrap();
        drop(engine);
        let levels = layered.open().stats().levels;
        let trees: Vec<u32> = levels.iter().map(|level| level.tree).collect();
        assert!(trees.contains(&0) && trees.contains(&4), "{levels:?}");
        assert!(levels.iter().map(|level| level.tables).sum::<u64>() > 4, "{levels:?}");
        layered
    }

    fn open(&self) -> Arc<Engine> {
        open_tiny(&self.disk).unwrap()
    }

    fn commit(&mut self, engine: &Engine, keyspace: KeyspaceId, at: u64, value: Option<&[u8]>) {
        self.ts += 1;
        let ts = Timestamp::from_raw(self.ts);
        let key = [&keyspace.prefix()[..], &key(at)].concat();
        let write = value.map_or(Value::Tombstone, Value::Put);
        let payload = encode_batch([(&key[..], write)].into_iter(), 0);
        let crc = checksum::of(&[&payload]);
        let (_, end, memtable) = engine.append(ts.prev(), ts, &payload, crc).unwrap();
        memtable.pin_writer().insert(&key, ts, write);
        engine.sync_to_then(end, &|| ()).unwrap();
        match value {
            Some(value) => self.rows.insert(key, value.to_vec()),
            None => self.rows.remove(&key),
        };
    }

    /// Into a keyspace of its own, in which rows have been and were deleted.
    fn bulk_load(&mut self, engine: &Arc<Engine>, keyspace: KeyspaceId) {
        for number in 0..10 {
            self.commit(engine, keyspace, number * 3, Some(b"before"));
            self.commit(engine, keyspace, number * 3, None);
        }
        engine.seal(Timestamp::from_raw(self.ts));
        assert!(engine.flush_next(Timestamp::from_raw(self.ts)).unwrap());
        let mut writer = engine.bulk_write();
        for number in 0..200 {
            let key = [&keyspace.prefix()[..], &key(number)].concat();
            writer.add(&key, &[number as u8; 20]).unwrap();
            self.rows.insert(key, vec![number as u8; 20]);
        }
        self.ts += 1;
        engine.add_bulk(&mut writer.finish().unwrap(), Timestamp::from_raw(self.ts)).unwrap();
        // Some of them are newer.
        for number in 0..20 {
            self.commit(engine, keyspace, number * 9, Some(b"newer"));
        }
    }

    fn state(&self) -> State {
        Manifest::read(&self.disk, &path()).unwrap().0
    }

    fn repair(&self) -> RepairPlan {
        let shared: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let planned = plan(&shared, &path(), "a test").unwrap();
        assert_eq!(apply_within(&shared, &path(), "a test", TINY).unwrap(), planned);
        planned
    }

    fn found(&self) -> Rows {
        rows_in(&self.disk, self.rows.keys())
    }
}

fn open_tiny(disk: &SimDisk) -> Result<Arc<Engine>> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let table =
        TableOptions { block_bytes: 500, index_block_bytes: 200, ..TableOptions::default() };
    let compaction = CompactionOptions::for_flush_bytes(4 << 10);
    let options = EngineOptions { table, compaction, ..options() };
    Engine::open(disk, &path(), options).map(|(engine, _)| Arc::new(engine))
}

/// Reads every key that there may be, of a sound database.
fn rows_in<'a>(disk: &SimDisk, known: impl Iterator<Item = &'a Vec<u8>>) -> Rows {
    let engine = open_tiny(disk).unwrap();
    engine.verify().unwrap();
    let pin = engine.pin_newest(|| Timestamp::from_raw(u64::MAX - 1));
    let places = [2, 4, 5, 6].into_iter().flat_map(|keyspace| {
        (0..300).map(move |number| [&KeyspaceId(keyspace).prefix()[..], &key(number)].concat())
    });
    let all = places.chain(known.cloned());
    all.filter_map(|key| pin.get(&key).unwrap().map(|(_, value)| (key, value.to_vec()))).collect()
}

#[test]
fn whatever_block_is_damaged_only_its_keys_are_touched() {
    let whole = Layered::new();
    let state = whole.state();
    for meta in state.tables.values() {
        let file = path().join(TABLES_FOLDER).join(table_name(meta.number));
        let table = Table::open(&whole.disk, &file).unwrap();
        let blocks = table.describe().unwrap().blocks;
        for block in &blocks {
            let Layered { disk, rows, ts } = &whole;
            let damaged =
                Layered { disk: disk.crash(CrashMode::KeepUnsynced), rows: rows.clone(), ts: *ts };
            damaged.disk.flip_bit(&file, block.offset + block.bytes / 2, 3).unwrap();
            let plan = damaged.repair();
            let place = format!("{meta}, {block:?}");
            assert!(plan.is_needed(), "{place}");
            assert_eq!(plan.whole_tables + 1, state.tables.len() as u64, "{place}");
            let found = damaged.found();
            let is_touched = |key: &Vec<u8>| key >= meta.first_key() && key <= meta.last_key();
            let differ: Vec<_> = rows
                .iter()
                .filter(|(key, value)| found.get(*key) != Some(value))
                .map(|(key, _)| key)
                .chain(found.keys().filter(|key| !rows.contains_key(*key)))
                .collect();
            assert!(differ.iter().all(|key| is_touched(key)), "{place}");
            match block.role {
                BlockRole::Data => {
                    let [(first, _), (last, _)] = block.span.clone().unwrap();
                    assert!(
                        differ.iter().all(|key| **key >= first && **key <= last),
                        "{place}: {differ:?}"
                    );
                    assert_eq!(plan.losses.len(), 1, "{place}");
                    let lost = format!("{} of {} versions", block.entries, meta.entries);
                    assert!(plan.losses[0].contains(&lost), "{place}: {:?}", plan.losses);
                }
                BlockRole::Filter => {
                    assert_eq!((differ.len(), plan.losses.len()), (0, 0), "{place}: {plan:?}");
                }
                _ => assert_eq!(plan.losses.len(), 1, "{place}: {plan:?}"),
            }
            let after = damaged.state();
            for new in after.tables.values().filter(|new| new.number >= state.next_file_number) {
                let is_log = new.level == 0 && new.run >= state.next_file_number;
                let same = (new.tree, new.level, new.run, new.ts_override);
                let old = (meta.tree, meta.level, meta.run, meta.ts_override);
                assert!(is_log || same == old, "{place}: {new}");
            }
        }
    }
}

#[test]
fn a_missing_table_is_all_that_is_lost() {
    let whole = Layered::new();
    for meta in whole.state().tables.values() {
        let Layered { disk, rows, ts } = &whole;
        let damaged =
            Layered { disk: disk.crash(CrashMode::KeepUnsynced), rows: rows.clone(), ts: *ts };
        damaged.disk.remove(&path().join(TABLES_FOLDER).join(table_name(meta.number))).unwrap();
        let plan = damaged.repair();
        assert!(plan.losses.len() == 1 && plan.losses[0].contains("all that it held"), "{plan:?}");
        let found = damaged.found();
        for (key, value) in rows {
            if !meta.overlaps(key, key) {
                assert_eq!(found.get(key), Some(value), "{meta}");
            }
        }
    }
}

#[test]
fn without_a_manifest_all_tables_become_one_run() {
    let layered = Layered::new();
    let offset = 30;
    layered.disk.flip_bit(path().join("MANIFEST"), offset, 1).unwrap();
    let plan = layered.repair();
    assert_eq!(plan.doubts.len(), 2, "{plan:?}");
    assert_eq!(layered.found(), layered.rows);
    let state = layered.state();
    assert!(state.tables.len() > 1, "{state:?}");
    let (levels, trees): (Vec<u8>, Vec<TreeId>) =
        state.tables.values().map(|meta| (meta.level, meta.tree)).unzip();
    assert!(levels.iter().all(|&level| level == 6), "{levels:?}");
    assert!(trees.iter().all(|&tree| tree == TreeId::DEFAULT), "{trees:?}");
    // What is there is what can be seen, and nothing else.
    let entries: u64 = state.tables.values().map(|meta| meta.entries).sum();
    assert_eq!(entries, layered.rows.len() as u64);
    assert_eq!(state.gc_watermark, Timestamp::from_raw(layered.ts));
}

#[test]
fn a_long_log_becomes_several_tables() {
    let disk = SimDisk::new();
    let engine = open(&disk).unwrap();
    (1..=600).for_each(|number| commit(&engine, number));
    engine.close().unwrap();
    drop(engine);
    let (segment, at) = record_of(&disk, b"key00550");
    disk.flip_bit(&segment, at, 1).unwrap();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    apply_within(&shared, &path(), "a test", TINY).unwrap();
    let (state, _) = Manifest::read(&disk, &path()).unwrap();
    assert!(state.tables.len() > 2, "{state:?}");
    assert_eq!(keys_in(&disk), (1..=549).collect::<Vec<u64>>());
}

#[test]
fn a_repair_of_tables_and_of_a_manifest_can_be_interrupted_anywhere() {
    let whole = Layered::new();
    let state = whole.state();
    let largest = state.tables.values().max_by_key(|meta| meta.bytes).unwrap();
    let table = path().join(TABLES_FOLDER).join(table_name(largest.number));
    for (file, offset) in [(table, 300), (path().join("MANIFEST"), 40)] {
        whole.disk.flip_bit(&file, offset, 1).unwrap();
        let undisturbed = whole.disk.crash(CrashMode::KeepUnsynced);
        let shared: Arc<dyn Disk> = Arc::new(undisturbed.clone());
        assert!(apply_within(&shared, &path(), "a test", TINY).unwrap().is_needed());
        let expected = rows_in(&undisturbed, whole.rows.keys());
        let mut stop = 0;
        loop {
            let disk = whole.disk.crash(CrashMode::KeepUnsynced);
            disk.stop_at(disk.operations() + stop);
            let shared: Arc<dyn Disk> = Arc::new(disk.clone());
            let done = apply_within(&shared, &path(), "a test", TINY).is_ok();
            for mode in [CrashMode::LoseUnsynced, CrashMode::KeepUnsynced, CrashMode::Torn(stop)] {
                let crashed = disk.crash(mode);
                let shared: Arc<dyn Disk> = Arc::new(crashed.clone());
                apply_within(&shared, &path(), "a test", TINY).unwrap();
                let place = format!("{}, stop {stop}, {mode:?}", file.display());
                assert!(rows_in(&crashed, whole.rows.keys()) == expected, "{place}");
            }
            if done {
                break;
            }
            // Reading the tables takes most of the steps, and changes nothing.
            stop += if stop < 40 { 7 } else { 1 };
        }
        assert!(stop > 40, "{stop}");
        whole.disk.flip_bit(&file, offset, 1).unwrap();
    }
}
