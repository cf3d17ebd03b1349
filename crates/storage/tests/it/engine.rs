//! One test for each mistake that recovery, the release of the log and checkpoints have made.

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::{Timestamp, checksum};
use env::{CrashMode, Disk, SimDisk};
use storage::batch::encode_batch;
use storage::compaction::CompactionOptions;
use storage::table::TableOptions;
use storage::wal::{Lsn, WalOptions};
use storage::{Compacted, Engine, EngineOptions, Error, MemoryOptions, Recovery, Result, Value};

const PATH: &str = "db";

fn options() -> EngineOptions {
    EngineOptions {
        create: true,
        owner: "test".into(),
        new_id: [7; 16],
        hash_seed: 7,
        wal: WalOptions { segment_bytes_min: 8 << 10, segment_bytes_max: 8 << 10, spares_max: 1 },
        table: TableOptions::default(),
        memory: MemoryOptions::of_budget(64 << 20),
        compaction: CompactionOptions::for_flush_bytes(1 << 20),
        log_bytes_max: 64 << 20,
    }
}

fn open(disk: &SimDisk) -> Result<(Engine, Recovery)> {
    Engine::open(Arc::new(disk.clone()), Path::new(PATH), options())
}

fn engine(disk: &SimDisk) -> Arc<Engine> {
    Arc::new(open(disk).unwrap().0)
}

fn ts(raw: u64) -> Timestamp {
    Timestamp::from_raw(raw)
}

/// Commits one write as the shard does, without making it durable; returns where its record begins
/// and ends.
fn write(engine: &Engine, raw: u64, key: &str, value: Value<'_>) -> (Lsn, Lsn) {
    let payload = encode_batch([(key.as_bytes(), value)].into_iter(), 100);
    let crc = checksum::of(&[&payload]);
    let (begin, end, memtable) = engine.append(ts(raw - 1), ts(raw), &payload, crc).unwrap();
    assert!(memtable.pin_writer().insert(key.as_bytes(), ts(raw), value));
    (begin, end)
}

/// Seals the memtable after a commit, which is the last one that was put into it.
fn seal(engine: &Engine, raw: u64) {
    engine.seal(ts(raw));
}

/// Flushes what is sealed and visible at a timestamp.
fn flush_sealed(engine: &Engine, raw: u64) -> Result<()> {
    while engine.flush_next(ts(raw))? {}
    Ok(())
}

/// Writes everything up to a commit, the last one, to tables.
fn flush(engine: &Engine, raw: u64) -> Result<()> {
    seal(engine, raw);
    flush_sealed(engine, raw)
}

/// As [`write`], durably.
fn put(engine: &Engine, raw: u64, key: &str, value: &[u8]) -> Lsn {
    let (_, end) = write(engine, raw, key, Value::Put(value));
    sync(engine, end).unwrap();
    end
}

fn sync(engine: &Engine, position: Lsn) -> Result<()> {
    engine.sync_to_then(position, &|| ())
}

fn get(engine: &Arc<Engine>, raw: u64, key: &str) -> Option<Vec<u8>> {
    let found = engine.pin_at(ts(raw)).unwrap().get(key.as_bytes()).unwrap();
    found.map(|(_, value)| value.to_vec())
}

fn segments(disk: &SimDisk) -> Vec<String> {
    disk.list(&Path::new(PATH).join("wal")).unwrap()
}

fn tables(disk: &SimDisk) -> Vec<PathBuf> {
    let names = disk.list(&Path::new(PATH).join("tables")).unwrap();
    names.into_iter().map(|name| Path::new(PATH).join("tables").join(name)).collect()
}

/// The calls that a flush of everything makes, as the next one of this disk will.
fn calls_of_flush(disk: &SimDisk) -> Vec<String> {
    let disk = disk.crash(CrashMode::KeepUnsynced);
    let engine = engine(&disk);
    disk.record_trace(true);
    flush(&engine, engine.recovered_timestamp().raw()).unwrap();
    disk.trace()
}

fn position_of(calls: &[String], what: &str) -> u64 {
    let found = calls.iter().position(|call| call.contains(what));
    found.unwrap_or_else(|| panic!("no {what:?} in {calls:#?}")) as u64
}

/// A checkpoint notes the index that the log has reached, commits in flight included. When a crash
/// took some of those, the next checkpoint found a lower index than the one noted, and panicked.
#[test]
fn a_checkpoint_goes_on_after_a_crash_took_records_that_the_one_before_had_counted() {
    for seed in 0..40 {
        let disk = SimDisk::new();
        let first = engine(&disk);
        put(&first, 1, "a", b"1");
        seal(&first, 1);
        // Two blocks each, so that a crash can keep one and lose the other.
        write(&first, 2, "b", Value::Put(&[2; 1500]));
        let (_, end) = write(&first, 3, "c", Value::Put(&[3; 1500]));
        flush_sealed(&first, 1).unwrap();
        disk.stop_at(disk.operations());
        sync(&first, end).unwrap_err();

        let disk = disk.crash(CrashMode::Torn(seed));
        let second = engine(&disk);
        flush(&second, second.recovered_timestamp().raw()).unwrap();
        put(&second, 9, "d", b"9");
        flush(&second, 9).unwrap();
        assert_eq!(get(&second, 9, "a").unwrap(), b"1", "seed {seed}");
    }
}

/// A switch of the manifest that failed after the rename left its table named on the disk. The next
/// flush took the same number, found the file, and removed it on its way out.
#[test]
fn a_flush_that_failed_half_way_is_not_removed_by_the_next_one() {
    let disk = SimDisk::new();
    let first = engine(&disk);
    put(&first, 1, "a", b"1");
    let sync_of_rename = position_of(&calls_of_flush(&disk), "rename") + 1;
    disk.fail_at(disk.operations() + sync_of_rename, ErrorKind::Other);
    flush(&first, 1).unwrap_err();
    let named = tables(&disk);
    assert_eq!(named.len(), 1);
    for seed in 0..20 {
        let crashed = engine(&disk.crash(CrashMode::Torn(seed)));
        assert_eq!(get(&crashed, 1, "a").unwrap(), b"1", "seed {seed}");
    }
    flush(&first, 1).unwrap();
    assert_eq!(tables(&disk).len(), 2);
    assert!(tables(&disk).contains(&named[0]), "it is left alone");
    drop(first);
    let second = engine(&disk);
    assert_eq!(get(&second, 1, "a").unwrap(), b"1");
    assert_eq!(tables(&disk).len(), 1, "what no manifest names any more goes");
}

/// A checkpoint that failed before the switch left its table, and the next one could not create its
/// own of the same number.
#[test]
fn a_checkpoint_that_failed_before_the_switch_leaves_nothing_and_is_tried_again() {
    let disk = SimDisk::new();
    let engine = engine(&disk);
    put(&engine, 1, "a", b"1");
    let calls = calls_of_flush(&disk);
    let rename = position_of(&calls, "rename");
    for call in 0..rename {
        disk.fail_at(disk.operations() + call, ErrorKind::StorageFull);
        let error = flush(&engine, 1).unwrap_err();
        assert!(matches!(error, Error::DiskFull { .. }), "{}: {error}", calls[call as usize]);
        assert!(tables(&disk).is_empty(), "{}", calls[call as usize]);
    }
    // And if it cannot even clean up.
    disk.fail_from(disk.operations() + rename - 1, ErrorKind::Other);
    flush(&engine, 1).unwrap_err();
    assert_eq!(tables(&disk).len(), 1);
    disk.heal();
    flush(&engine, 1).unwrap();
    assert_eq!(tables(&disk).len(), 2, "what could not be removed goes at the next opening");
    drop(engine);
    self::engine(&disk);
    assert_eq!(tables(&disk).len(), 1);
}

/// The process died between the rename of the manifest and its sync. The next one believed the
/// manifest, removed the tables it does not name, and the power went.
#[test]
fn a_manifest_that_was_never_synced_is_made_durable_before_anything_is_removed() {
    for seed in 0..40 {
        let disk = SimDisk::new();
        let first = engine(&disk);
        put(&first, 1, "a", b"1");
        flush(&first, 1).unwrap();
        put(&first, 2, "a", b"2");
        let sync_of_rename = position_of(&calls_of_flush(&disk), "rename") + 1;
        disk.fail_from(disk.operations() + sync_of_rename, ErrorKind::Other);
        flush(&first, 2).unwrap_err();
        drop(first);
        disk.heal();
        let second = engine(&disk);
        assert_eq!(get(&second, 2, "a").unwrap(), b"2", "seed {seed}");
        let third = engine(&disk.crash(CrashMode::Torn(seed)));
        assert_eq!(get(&third, 2, "a").unwrap(), b"2", "seed {seed}");
    }
}

/// The last write of the log failed or was not finished when the process died, and what it had
/// written was only in memory. The next process read it, and vouched for it with its own records.
#[test]
fn the_end_of_the_log_is_made_durable_before_records_vouch_for_it() {
    for length in [10, 3_000, 7_000, 20_000] {
        let disk = SimDisk::new();
        let first = engine(&disk);
        put(&first, 1, "a", b"1");
        let (_, end) = write(&first, 2, "b", Value::Put(&vec![2; length]));
        disk.fail_at(disk.operations(), ErrorKind::Other);
        sync(&first, end).unwrap_err();
        drop(first);
        let second = engine(&disk);
        let shown = get(&second, 2, "b").is_some();
        put(&second, 3, "c", b"3");
        let third = engine(&disk.crash(CrashMode::LoseUnsynced));
        assert_eq!(get(&third, 3, "c").unwrap(), b"3", "length {length}");
        assert_eq!(get(&third, 3, "b").is_some(), shown, "length {length}");
        third.verify().unwrap();
    }
}

/// The floor rose while a checkpoint waited for its turn: the versions that its own timestamp sees
/// were forgotten already, for the sake of newer ones that were not on disk.
#[test]
fn a_floor_above_a_checkpoints_timestamp_loses_nothing() {
    let disk = SimDisk::new();
    let first = engine(&disk);
    put(&first, 1, "a", b"1");
    seal(&first, 1);
    write(&first, 2, "a", Value::Put(b"2"));
    write(&first, 3, "b", Value::Put(b"3"));
    first.collect(ts(3));
    flush_sealed(&first, 1).unwrap();
    let second = engine(&disk.crash(CrashMode::LoseUnsynced));
    assert!(get(&second, 3, "a").is_some(), "a durable write is gone");
}

/// A checkpoint released the segment before the one that the log had just gone on to, whose header
/// was not written yet: a crash then left a log folder in which no segment was in use.
#[test]
fn a_segment_is_released_only_once_the_next_one_has_begun_on_disk() {
    let disk = SimDisk::new();
    let first = engine(&disk);
    let end = put(&first, 1, "a", &[1; 6_000]);
    seal(&first, 1);
    // Goes to the next segment, and stays in memory.
    let (begin, _) = write(&first, 2, "b", Value::Put(&[2; 6_000]));
    assert!(begin > end, "behind the record that names the next segment");
    flush_sealed(&first, 1).unwrap();
    for mode in [CrashMode::LoseUnsynced, CrashMode::KeepUnsynced] {
        let second = engine(&disk.crash(mode));
        assert_eq!(get(&second, 1, "a").unwrap(), [1; 6_000], "{mode:?}");
        put(&second, 2, "c", b"2");
    }
    // A later one releases it.
    let oldest = segments(&disk).remove(0);
    for raw in 3..9 {
        put(&first, raw, "c", &[3; 6_000]);
    }
    flush(&first, 8).unwrap();
    assert!(!segments(&disk).contains(&oldest) || segments(&disk).len() < 4);
}

/// A segment whose removal failed was forgotten, and took space until the next opening.
#[test]
fn a_segment_that_cannot_be_removed_is_tried_again() {
    let disk = SimDisk::new();
    let engine = engine(&disk);
    for raw in 1..=8 {
        put(&engine, raw, "a", &[1; 6_000]);
    }
    let many = segments(&disk).len();
    assert!(many >= 8, "{many}");
    disk.record_trace(true);
    flush(&engine, 8).unwrap();
    let after = segments(&disk).len();
    assert!(after < 4, "{after}");

    for raw in 11..=18 {
        put(&engine, raw, "a", &[1; 6_000]);
    }
    let removal = position_of(&calls_of_flush(&disk), ".wal");
    disk.fail_at(disk.operations() + removal, ErrorKind::Other);
    let error = flush(&engine, 18).unwrap_err();
    assert!(error.to_string().contains(".wal: cannot remove"), "{error}");
    flush(&engine, 18).unwrap();
    assert!(segments(&disk).len() < 4, "{:?}", segments(&disk));
}

/// Marks of earlier clean closings were counted as transactions.
#[test]
fn an_opening_counts_the_transactions_it_replays() {
    let disk = SimDisk::new();
    for opening in 0..4 {
        let (engine, recovery) = open(&disk).unwrap();
        assert_eq!(recovery.replayed, opening, "opening {opening}");
        assert!(recovery.clean);
        put(&engine, opening + 1, "a", b"1");
        engine.close().unwrap();
    }
}

/// Verification went by the manifest in memory.
#[test]
fn verify_reads_the_manifest_and_the_format_file() {
    let disk = SimDisk::new();
    let engine = engine(&disk);
    put(&engine, 1, "a", b"1");
    flush(&engine, 1).unwrap();
    engine.verify().unwrap();
    for name in ["MANIFEST", "FORMAT"] {
        let path = Path::new(PATH).join(name);
        let bytes = disk.read_file(&path).unwrap();
        for offset in 0..bytes.len() as u64 {
            disk.flip_bit(&path, offset, (offset % 8) as u8).unwrap();
            let error = engine.verify().unwrap_err();
            assert!(error.to_string().contains(PATH), "{name}, offset {offset}: {error}");
            disk.flip_bit(&path, offset, (offset % 8) as u8).unwrap();
        }
    }
    // A sound manifest of another day is not the one in use.
    let path = Path::new(PATH).join("MANIFEST");
    let old = disk.read_file(&path).unwrap();
    put(&engine, 2, "a", b"2");
    flush(&engine, 2).unwrap();
    disk.write_file(&path, &old).unwrap();
    assert!(matches!(engine.verify(), Err(Error::Damaged { path: found, .. }) if found == path));
}

/// A sound table with as many versions came under the live one's name, as from an old copy.
#[test]
fn a_table_that_is_sound_and_not_the_one_meant_is_damage() {
    let disk = SimDisk::new();
    let engine = engine(&disk);
    put(&engine, 1, "a", b"1");
    engine.collect(ts(1));
    flush(&engine, 1).unwrap();
    let old = disk.read_file(&tables(&disk)[0]).unwrap();
    put(&engine, 2, "a", b"2");
    engine.collect(ts(2));
    flush(&engine, 2).unwrap();
    let live = tables(&disk).remove(1);
    disk.write_file(&live, &old).unwrap();
    assert!(matches!(engine.verify(), Err(Error::Damaged { path, .. }) if path == live));
    drop(engine);
    assert!(matches!(open(&disk), Err(Error::Damaged { path, .. }) if path == live));
}

/// Ends another thread also if this one panics.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn everything_can_be_verified_while_threads_write_and_checkpoints_come_and_go() {
    let disk = SimDisk::new();
    let engine = engine(&disk);
    let (done, was_verified) = (AtomicBool::new(false), AtomicBool::new(false));
    let last = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let _ends = Ends(&done);
            for raw in 1.. {
                put(&engine, raw, &format!("key {}", raw % 50), &[raw as u8; 700]);
                if raw % 3 == 0 {
                    engine.prepare_segment().unwrap();
                }
                if raw % 40 == 0 {
                    flush(&engine, raw).unwrap();
                    if raw >= 600 && was_verified.load(Ordering::Acquire) {
                        return raw;
                    }
                }
            }
            unreachable!("numbers do not end")
        });
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                engine.verify().unwrap();
                was_verified.store(true, Ordering::Release);
            }
        });
        writer.join().unwrap()
    });
    let checked = engine.verify().unwrap();
    assert_eq!(checked.tables, last / 40);
    drop(engine);
    let (engine, key) = (self::engine(&disk), format!("key {}", last % 50));
    assert_eq!(get(&engine, last, &key).unwrap(), [last as u8; 700]);
}

/// Segments are used again after a checkpoint; whatever their old records say, they stay dead.
#[test]
fn segments_used_again_never_bring_old_records_back() {
    for seed in 0..30 {
        let disk = SimDisk::new();
        let first = engine(&disk);
        let mut raw = 0;
        for _ in 0..6 {
            for _ in 0..5 {
                raw += 1;
                put(&first, raw, "a", format!("{raw}:{}", "x".repeat(1_500)).as_bytes());
                first.prepare_segment().unwrap();
            }
            flush(&first, raw).unwrap();
        }
        assert!(segments(&disk).len() <= 3, "{:?}", segments(&disk));
        let (_, end) = write(&first, raw + 1, "a", Value::Put(&[9; 5_000]));
        disk.stop_at(disk.operations() + seed % 3);
        let _ = sync(&first, end);
        let second = engine(&disk.crash(CrashMode::Torn(seed)));
        let newest = second.recovered_timestamp().raw();
        assert!(newest == raw || newest == raw + 1, "seed {seed}: {newest}");
        let value = get(&second, raw, "a").unwrap();
        assert!(value.starts_with(format!("{raw}:").as_bytes()), "seed {seed}");
        put(&second, newest + 1, "b", b"after");
        second.verify().unwrap();
    }
}

/// Checking in the background takes one table after the other, none longer than it may, and finds
/// what is wrong with each.
#[test]
fn tables_are_checked_in_turn() {
    let disk = SimDisk::new();
    let engine = engine(&disk);
    assert_eq!(engine.scrub_next(u64::MAX).unwrap(), (0, false));
    for raw in 1..=3 {
        put(&engine, raw, &format!("key {raw}"), &[7; 500]);
        flush(&engine, raw).unwrap();
    }
    let bytes = |path: &PathBuf| disk.read_file(path).unwrap().len() as u64;
    let tables = tables(&disk);
    assert_eq!(engine.scrub_next(10).unwrap(), (bytes(&tables[0]), false));
    for turn in [0, 1, 2, 0] {
        assert_eq!(engine.scrub_next(u64::MAX).unwrap(), (bytes(&tables[turn]), true));
    }
    disk.flip_bit(&tables[2], 40, 1).unwrap();
    engine.scrub_next(u64::MAX).unwrap();
    let found = engine.scrub_next(u64::MAX);
    assert!(matches!(found, Err(Error::Damaged { path, .. }) if path == tables[2]));
    engine.scrub_next(u64::MAX).unwrap();
}

#[test]
fn what_was_written_to_each_level_adds_up() {
    let compaction = CompactionOptions::for_flush_bytes(1 << 10);
    let options = EngineOptions { compaction, ..options() };
    let engine = Engine::open(Arc::new(SimDisk::new()), Path::new(PATH), options).unwrap().0;
    let engine = Arc::new(engine);
    let mut compacted = 0;
    for round in 1..=40 {
        for key in 0..50 {
            put(&engine, round * 100 + key, &format!("k{key:03}"), &[round as u8; 100]);
        }
        flush(&engine, round * 100 + 49).unwrap();
        while engine.compact_next(0, |_| ControlFlow::Continue(())).unwrap() != Compacted::Nothing {
            compacted += 1;
        }
    }
    let stats = engine.stats();
    assert!(compacted > 0 && stats.compactions > 0, "{stats:?}");
    let written: u64 = stats.levels.iter().map(|level| level.written_bytes).sum();
    let lowest = stats.levels.last().unwrap();
    assert!(lowest.level > 0 && lowest.written_bytes > 0, "{stats:?}");
    // A level that is empty now is not among them.
    let all = stats.flushed_bytes + stats.compaction_written_bytes;
    let has_all = stats.levels.iter().any(|level| level.level == 0);
    assert!(if has_all { written == all } else { written < all }, "{stats:?}");
    let parts: f64 =
        stats.levels.iter().filter_map(|level| stats.level_space_amplification(level)).sum();
    assert!((parts - stats.space_amplification().unwrap()).abs() < 0.01, "{stats:?}");
    assert!(stats.level_write_amplification(lowest).unwrap() > 0.0);
}
