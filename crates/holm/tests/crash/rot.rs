//! A closed database, and one thing in its files that changed: it is refused by the file's name, or
//! everything in it reads as before. What was read is never wrong.

use std::path::{Path, PathBuf};

use env::{CrashMode, Disk, ManualClock, SimDisk};
use holm::{Db, Options, StorageError};
use storage::manifest::Manifest;

use crate::history::{Contents, contents_of, try_contents_of};
use crate::workload::{Step, workload};
use crate::world::{PATH, World, check_files, open, tiny};

struct Closed {
    disk: SimDisk,
    clock: ManualClock,
    contents: Contents,
}

/// The same layout, with a memtable that holds all that is in the log.
fn long_log() -> Options {
    tiny().memtable_bytes(1 << 20).log_bytes(1 << 20)
}

/// A database with tables, several segments behind them, and a clean end.
fn closed() -> Closed {
    let mut world = World::new(tiny());
    world.run(&workload(400, 60)).unwrap();
    world.run(&[Step::Checkpoint]).unwrap();
    world.close(true).unwrap();
    // From here on nothing is flushed, so that there are segments to damage.
    world.options = long_log();
    world.open().unwrap();
    let commits = workload(401, 30).into_iter().filter(|step| matches!(step, Step::Commit { .. }));
    world.run(&commits.collect::<Vec<_>>()).unwrap();
    world.close(true).unwrap();
    let disk = world.disk.crash(CrashMode::KeepUnsynced);
    let opened = open(&disk.crash(CrashMode::KeepUnsynced), &world.clock, &long_log()).unwrap();
    let contents = contents_of(&opened);
    let segments = disk.list(&Path::new(PATH).join("wal")).unwrap().len();
    assert!(segments >= 3, "{:?}", disk.files());
    Closed { disk, clock: world.clock.clone(), contents }
}

impl Closed {
    fn open(&self, disk: &SimDisk) -> holm::Result<Db> {
        open(disk, &self.clock, &long_log())
    }

    fn files(&self) -> Vec<(PathBuf, u64)> {
        self.disk.files()
    }

    /// Opens and verifies a changed copy. True if that was refused, and then for the right file.
    fn is_refused(&self, disk: &SimDisk, changed: &Path, context: &str) -> bool {
        let db = self.open(disk).and_then(|db| {
            let contents = try_contents_of(&db)?;
            assert!(contents == self.contents, "{context}: it reads otherwise");
            Ok(db)
        });
        // Opening does not read what it has no use for: filters, and the ends of segments.
        let Err(error) = db.and_then(|db| db.verify()) else { return false };
        let path = match error.as_storage() {
            Some(
                StorageError::Damaged { path, .. }
                | StorageError::NewerFormat { path, .. }
                | StorageError::NotADatabase { path, .. },
            ) => path,
            _ => panic!("{context}: {error:?}"),
        };
        // A segment that is missing is noticed by the one after it.
        let is_neighbour = path.parent() == changed.parent() && is_segment(path);
        let names_it = changed.starts_with(path) || is_neighbour;
        assert!(names_it, "{context}: blamed {}: {error}", path.display());
        true
    }
}

#[test]
fn any_bit_that_flips_is_found_or_means_nothing() {
    let closed = closed();
    let (mut flips, mut refused) = (0, 0);
    for (path, len) in closed.files() {
        let bytes = closed.disk.read_file(&path).unwrap();
        let disk = closed.disk.crash(CrashMode::KeepUnsynced);
        for offset in 0..len {
            // Every byte that is not zero; of the zeros, those beside others and one in sixteen.
            let around =
                &bytes[offset.saturating_sub(8) as usize..bytes.len().min(offset as usize + 8)];
            if around.iter().all(|&byte| byte == 0) && offset % 16 != 3 {
                continue;
            }
            // Of long runs, as in large values, one in seven.
            if around.iter().all(|&byte| byte == around[0]) && offset % 7 != 0 {
                continue;
            }
            let bit = (offset % 8) as u8;
            // An opening may write, and the next shall find the disk as it was.
            let context = format!("{} byte {offset} bit {bit}", path.display());
            let changed = disk.crash(CrashMode::KeepUnsynced);
            changed.flip_bit(&path, offset, bit).unwrap();
            refused += u64::from(closed.is_refused(&changed, &path, &context));
            flips += 1;
        }
    }
    println!("{flips} flipped bits, {refused} refused");
    assert!(flips > 10_000 && refused * 2 > flips, "{flips} flips, {refused} refused");
}

/// A compaction that meets damage stops, and what it read from stays: once the damage is gone,
/// as from a copy of the file, everything is there.
#[test]
fn a_damaged_block_ends_a_compaction_and_nothing_else() {
    let closed = closed();
    let (mut refused, mut passed) = (0, 0);
    let files = closed.files();
    let tables = files.into_iter().filter(|(path, _)| path.starts_with("db/tables"));
    for (path, len) in tables {
        for offset in (0..len).step_by(11) {
            let context = format!("{} byte {offset}", path.display());
            let disk = closed.disk.crash(CrashMode::KeepUnsynced);
            let Ok(db) = closed.open(&disk) else { continue };
            // What is in the log comes to lie above the tables, so there is something to merge.
            db.flush().unwrap();
            // While it is open, so that it is a compaction that finds it.
            let bit = (offset % 8) as u8;
            disk.flip_bit(&path, offset, bit).unwrap();
            match db.compact() {
                Ok(()) => {
                    // It had no use for it, or for the file; then who reads it finds out.
                    match try_contents_of(&db) {
                        Ok(found) => assert!(found == closed.contents, "{context}: otherwise"),
                        Err(error) => assert_eq!(damaged_file(&error, &context), path),
                    }
                    passed += 1;
                }
                Err(error) => {
                    assert_eq!(damaged_file(&error, &context), path, "{context}: {error}");
                    assert!(disk.read_file(&path).is_ok(), "{context}: it is gone");
                    disk.flip_bit(&path, offset, bit).unwrap();
                    assert!(contents_of(&db) == closed.contents, "{context}: in the same process");
                    db.verify().unwrap();
                    db.compact().unwrap_or_else(|error| panic!("{context}, mended: {error}"));
                    assert!(contents_of(&db) == closed.contents, "{context}: compacted");
                    refused += 1;
                }
            }
            drop(db);
            let crashed = disk.crash(CrashMode::LoseUnsynced);
            let Ok(db) = closed.open(&crashed) else {
                assert!(crashed.read_file(&path).is_ok(), "{context}: refused for another reason");
                continue;
            };
            check_files(&crashed, &db, &context);
            match try_contents_of(&db) {
                Ok(found) => assert!(found == closed.contents, "{context}: opened again"),
                Err(error) => assert_eq!(damaged_file(&error, &context), path),
            }
        }
    }
    println!("{refused} compactions refused, {passed} that had no use for the byte");
    assert!(refused > 50 && passed > 0, "{refused} refused, {passed} passed");
}

/// The file that an error blames for damage.
fn damaged_file(error: &holm::Error, context: &str) -> PathBuf {
    match error.as_storage() {
        Some(StorageError::Damaged { path, .. }) => path.clone(),
        _ => panic!("{context}: {error:?}"),
    }
}

#[test]
fn a_file_that_is_gone_is_found() {
    let closed = closed();
    let newest = newest_segment(&closed);
    for (path, _) in closed.files() {
        let disk = closed.disk.crash(CrashMode::KeepUnsynced);
        disk.remove(&path).unwrap();
        let context = format!("{} is gone", path.display());
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path == newest {
            // Nothing tells that it was there: the segment before ends as if it were the last.
            let db = self_consistent(&closed, &disk, &context);
            drop(db);
        } else if name == "LOCK" || is_spare(&closed, &path) {
            assert!(!closed.is_refused(&disk, &path, &context), "{context}");
        } else {
            assert!(closed.is_refused(&disk, &path, &context), "{context}: and nobody noticed");
        }
    }
}

#[test]
fn a_file_that_was_cut_is_found() {
    let closed = closed();
    let newest = newest_segment(&closed);
    for (path, len) in closed.files() {
        if path.ends_with("LOCK") || is_spare(&closed, &path) {
            continue;
        }
        for kept in [0, 1, 47, 48, len / 3, len / 2, len - 5000.min(len), len - 1] {
            let disk = closed.disk.crash(CrashMode::KeepUnsynced);
            let bytes = disk.read_file(&path).unwrap();
            disk.write_file(&path, &bytes[..kept as usize]).unwrap();
            let context = format!("{} cut to {kept} of {len}", path.display());
            if path == newest && kept == 0 {
                // A file that was about to become a segment is what a crash leaves, too.
                self_consistent(&closed, &disk, &context);
            } else if path == newest {
                assert!(closed.open(&disk).is_err(), "{context}: nobody noticed");
            } else if bytes[kept as usize..].iter().any(|&byte| byte != 0) {
                assert!(closed.is_refused(&disk, &path, &context), "{context}: nobody noticed");
            } else {
                closed.is_refused(&disk, &path, &context);
            }
        }
    }
}

/// Opens a database whose log lost its end: it is sound and takes writes, or it is refused.
fn self_consistent(closed: &Closed, disk: &SimDisk, context: &str) -> Option<Db> {
    let db = closed.open(disk).ok()?;
    db.verify().unwrap_or_else(|error| panic!("{context}: {error}"));
    let keyspace = db.keyspace("more").unwrap();
    db.put(&keyspace, "a", "1").unwrap();
    Some(db)
}

fn newest_segment(closed: &Closed) -> PathBuf {
    used_segments(closed).pop().unwrap()
}

/// The segments that have a header of their own, in order.
fn used_segments(closed: &Closed) -> Vec<PathBuf> {
    let is_used = |path: &PathBuf| {
        let bytes = closed.disk.read_file(path).unwrap();
        let number: u64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        bytes.starts_with(b"holm wal") && bytes[16..24] == number.to_le_bytes()
    };
    let paths = closed.files().into_iter().map(|(path, _)| path);
    paths.filter(|path| is_segment(path) && is_used(path)).collect()
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "wal")
}

/// A segment that is not needed: it was prepared, or was released and is kept to be used again.
fn is_spare(closed: &Closed, path: &Path) -> bool {
    is_segment(path) && !(oldest_needed(closed)..=newest_segment(closed)).contains(&path.to_owned())
}

/// The segment that replay begins in.
fn oldest_needed(closed: &Closed) -> PathBuf {
    let manifest = Manifest::read(&closed.disk, Path::new(PATH));
    let (state, _) = manifest.unwrap();
    let begins_before = |path: &PathBuf| {
        let bytes = closed.disk.read_file(path).unwrap();
        u64::from_le_bytes(bytes[24..32].try_into().unwrap()) <= state.log_start
    };
    used_segments(closed).into_iter().filter(begins_before).max().unwrap()
}
