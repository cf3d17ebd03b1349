//! Databases damaged in one place each: what a repair keeps, what it says is lost, and that it can
//! be interrupted anywhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{Timestamp, checksum};
use env::{CrashMode, Disk, SimDisk};

use super::*;
use crate::batch::encode_batch;
use crate::compaction::CompactionOptions;
use crate::{Engine, EngineOptions, MemoryOptions, Value, wal};

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
    repair(&disk, &file_of(&disk, "MANIFEST"), 30);
    assert_eq!(keys_in(&disk).len(), 600);
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
