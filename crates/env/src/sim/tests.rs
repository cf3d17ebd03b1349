//! What only the simulated disk does: crashes, faults, limits, damage.

use std::collections::BTreeSet;

use super::*;
use crate::disk::{AlignedBuffer, SECTOR_BYTES, WRITE_ALIGN};
use crate::random::SeededRandom;

const LOST_AND_KEPT: [CrashMode; 2] = [CrashMode::LoseUnsynced, CrashMode::KeepUnsynced];

fn create(disk: &SimDisk, path: &str) -> Box<dyn File> {
    disk.open(Path::new(path), OpenMode::CreateNew).unwrap()
}

fn rename(disk: &SimDisk, from: &str, to: &str) {
    disk.rename(Path::new(from), Path::new(to)).unwrap();
}

fn sync_dir(disk: &SimDisk) {
    disk.sync_dir(Path::new("")).unwrap();
}

/// Returns a disk with one durable file and the open file.
fn disk_with(path: &str, bytes: &[u8]) -> (SimDisk, Box<dyn File>) {
    let disk = SimDisk::new();
    disk.write_file(path, bytes).unwrap();
    let file = disk.open(Path::new(path), OpenMode::WriteDurable).unwrap();
    (disk, file)
}

fn page(byte: u8) -> AlignedBuffer {
    let mut buffer = AlignedBuffer::default();
    buffer.extend_from_slice(&[byte; WRITE_ALIGN]);
    buffer
}

fn found(disk: &SimDisk, path: &str, mode: CrashMode) -> Option<Vec<u8>> {
    disk.crash(mode).read_file(path).ok()
}

fn check(disk: &SimDisk, path: &str, [lost, kept]: [Option<&[u8]>; 2]) {
    assert_eq!(found(disk, path, CrashMode::LoseUnsynced).as_deref(), lost, "lost");
    assert_eq!(found(disk, path, CrashMode::KeepUnsynced).as_deref(), kept, "kept");
}

/// Returns everything that a torn crash may leave of the names: `name=first byte`, joined.
fn torn_names(disk: &SimDisk) -> BTreeSet<String> {
    let names_after = |seed| {
        let found = disk.crash(CrashMode::Torn(seed));
        let files = found.files().into_iter().map(|(path, _)| {
            let bytes = found.read_file(&path).unwrap();
            format!("{}={}", path.display(), bytes.first().copied().map_or('-', char::from))
        });
        files.collect::<Vec<_>>().join(" ")
    };
    (0..200).map(names_after).collect()
}

fn outcomes(expected: &[&str]) -> BTreeSet<String> {
    expected.iter().map(|names| (*names).to_owned()).collect()
}

#[test]
fn bytes_that_were_not_synced_are_lost_or_kept() {
    let (disk, file) = disk_with("a", b"old");
    file.write_at(b"newer", 0).unwrap();
    check(&disk, "a", [Some(b"old"), Some(b"newer")]);
    file.sync().unwrap();
    check(&disk, "a", [Some(b"newer"), Some(b"newer")]);
    file.set_len(1).unwrap();
    check(&disk, "a", [Some(b"newer"), Some(b"n")]);
    file.sync().unwrap();
    check(&disk, "a", [Some(b"n"), Some(b"n")]);
}

#[test]
fn a_synced_file_whose_name_was_not_synced_is_lost() {
    let disk = SimDisk::new();
    let file = create(&disk, "a");
    file.write_at(b"text", 0).unwrap();
    file.sync().unwrap();
    check(&disk, "a", [None, Some(b"text")]);
    assert_eq!(torn_names(&disk), outcomes(&["", "a=t"]));
    sync_dir(&disk);
    check(&disk, "a", [Some(b"text"), Some(b"text")]);
}

#[test]
fn a_synced_name_says_nothing_about_the_bytes() {
    let disk = SimDisk::new();
    let file = create(&disk, "a");
    file.write_at(b"text", 0).unwrap();
    sync_dir(&disk);
    check(&disk, "a", [Some(b""), Some(b"text")]);
    // The third: the length was kept and the bytes were not.
    assert_eq!(torn_names(&disk), outcomes(&["a=-", "a=t", "a=\0"]));
}

#[test]
fn a_torn_write_keeps_any_of_its_sectors() {
    let (disk, file) = disk_with("a", &[b'o'; 8 * SECTOR_BYTES]);
    // Reaches into its first and its last sector only in part.
    file.write_at(&[b'n'; 7 * SECTOR_BYTES], 100).unwrap();
    let mut seen = BTreeSet::new();
    for seed in 0..1000 {
        let bytes = found(&disk, "a", CrashMode::Torn(seed)).unwrap();
        assert_eq!(bytes.len(), 8 * SECTOR_BYTES);
        assert_eq!(bytes[..100], [b'o'; 100]);
        assert_eq!(bytes[7 * SECTOR_BYTES + 100..], [b'o'; SECTOR_BYTES - 100]);
        let written = &bytes[..7 * SECTOR_BYTES + 100];
        let sectors = written.chunks(SECTOR_BYTES).enumerate().map(|(index, sector)| {
            let sector = if index == 0 { &sector[100..] } else { sector };
            assert!(sector.iter().all(|&byte| byte == sector[0]), "a sector is torn");
            char::from(sector[0])
        });
        seen.insert(sectors.collect::<String>());
    }
    // Whole, lost, and most of the 254 others.
    assert!(seen.contains("nnnnnnnn") && seen.contains("oooooooo"));
    assert!(seen.len() > 150, "{}", seen.len());
}

#[test]
fn a_later_write_may_survive_without_an_earlier_one() {
    let (disk, file) = disk_with("a", b"...");
    file.write_at(b"1", 0).unwrap();
    file.write_at(b"2", 1).unwrap();
    let seen: BTreeSet<_> = (0..200).map(|seed| found(&disk, "a", CrashMode::Torn(seed))).collect();
    let expected = [&b"..."[..], b"1..", b".2.", b"12."].map(|bytes| Some(bytes.to_vec()));
    assert_eq!(seen, BTreeSet::from(expected));
}

#[test]
fn the_same_seed_tears_the_same_way() {
    let (disk, file) = disk_with("a", b"");
    file.write_at(&[1; 20_000], 0).unwrap();
    for seed in 0..10 {
        let mode = CrashMode::Torn(seed);
        assert_eq!(found(&disk, "a", mode), found(&disk, "a", mode));
    }
}

#[test]
fn a_durable_write_makes_its_own_bytes_durable_and_no_others() {
    let (disk, file) = disk_with("a", &[b'o'; 3 * WRITE_ALIGN]);
    file.write_at(&[b'n'; 3 * WRITE_ALIGN], 0).unwrap();
    file.write_durable(&page(b'd'), WRITE_ALIGN as u64).unwrap();
    let expected = |byte| [[byte; WRITE_ALIGN], [b'd'; WRITE_ALIGN], [byte; WRITE_ALIGN]].concat();
    check(&disk, "a", [Some(&expected(b'o')), Some(&expected(b'n'))]);
    for seed in 0..50 {
        let bytes = found(&disk, "a", CrashMode::Torn(seed)).unwrap();
        assert_eq!(bytes[WRITE_ALIGN..2 * WRITE_ALIGN], [b'd'; WRITE_ALIGN]);
    }
}

#[test]
fn a_durable_write_behind_an_unsynced_cut_is_still_found() {
    let (disk, file) = disk_with("a", &[b'o'; 2 * WRITE_ALIGN]);
    file.set_len(0).unwrap();
    file.write_durable(&page(b'd'), 0).unwrap();
    check(&disk, "a", [Some(&[b'd'; WRITE_ALIGN]), Some(&[b'd'; WRITE_ALIGN])]);
}

#[test]
fn a_failed_sync_leaves_bytes_that_no_later_sync_makes_durable() {
    let (disk, file) = disk_with("a", b"old");
    file.write_at(b"new", 0).unwrap();
    disk.fail_at(disk.operations(), ErrorKind::Other);
    assert!(file.sync().is_err());
    assert_eq!(file.read_all().unwrap(), b"new");
    file.sync().unwrap();
    check(&disk, "a", [Some(b"old"), Some(b"new")]);
    // The length is no page that could be dropped: a sync makes it durable.
    disk.fail_at(disk.operations() + 1, ErrorKind::Other);
    file.write_at(b"!", 3).unwrap();
    assert!(file.sync().is_err());
    file.sync().unwrap();
    check(&disk, "a", [Some(b"old\0"), Some(b"new!")]);
    file.set_len(3).unwrap();
    // Only writing them again helps, and only for what is written again.
    file.write_at(b"N", 0).unwrap();
    file.sync().unwrap();
    check(&disk, "a", [Some(b"Nld"), Some(b"New")]);
}

#[test]
fn a_failed_durable_write_may_be_found_and_may_not() {
    let (disk, file) = disk_with("a", &[b'o'; WRITE_ALIGN]);
    disk.fail_at(disk.operations(), ErrorKind::Other);
    assert!(file.write_durable(&page(b'n'), 0).is_err());
    file.sync().unwrap();
    check(&disk, "a", [Some(&[b'o'; WRITE_ALIGN]), Some(&[b'n'; WRITE_ALIGN])]);
}

#[test]
fn a_rename_is_whole_or_lost() {
    let (disk, _file) = disk_with("a", b"1");
    disk.write_file("b", b"2").unwrap();
    rename(&disk, "a", "b");
    assert_eq!(torn_names(&disk), outcomes(&["a=1 b=2", "b=1"]));
    rename(&disk, "b", "c");
    assert_eq!(torn_names(&disk), outcomes(&["a=1 b=2", "b=1", "b=2 c=1", "c=1"]));
    sync_dir(&disk);
    assert_eq!(torn_names(&disk), outcomes(&["c=1"]));
}

#[test]
fn a_file_that_was_renamed_away_is_not_lost_to_the_one_that_took_its_name() {
    let (disk, _file) = disk_with("CURRENT", b"1");
    disk.write_file("next", b"2").unwrap();
    rename(&disk, "CURRENT", "old");
    rename(&disk, "next", "CURRENT");
    let expected = ["CURRENT=1 next=2", "next=2 old=1", "CURRENT=2 old=1"];
    assert_eq!(torn_names(&disk), outcomes(&expected));
}

#[test]
fn unsynced_names_survive_in_any_combination() {
    let (disk, _file) = disk_with("a", b"1");
    create(&disk, "b");
    disk.remove(Path::new("a")).unwrap();
    assert_eq!(torn_names(&disk), outcomes(&["a=1", "", "a=1 b=-", "b=-"]));
}

#[test]
fn syncing_a_folder_makes_the_names_in_it_durable_and_no_others() {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new("x")).unwrap();
    disk.create_dir_all(Path::new("y")).unwrap();
    create(&disk, "x/a");
    create(&disk, "x/b");
    create(&disk, "y/c");
    rename(&disk, "x/a", "y/a");
    disk.sync_dir(Path::new("y")).unwrap();
    assert_eq!(torn_names(&disk), outcomes(&["y/a=- y/c=-", "x/b=- y/a=- y/c=-"]));
}

#[test]
fn the_machine_stops_in_the_middle_of_the_operation_it_is_told_to() {
    let (disk, file) = disk_with("a", b"old");
    let stop_at = disk.operations() + 1;
    disk.stop_at(stop_at);
    file.write_at(b"new", 0).unwrap();
    assert!(!disk.is_stopped());
    assert!(file.write_at(b"!", 3).is_err());
    assert!(disk.is_stopped());
    assert!(file.sync().is_err() && file.len().is_err() && file.read_all().is_err());
    assert!(disk.exists(Path::new("a")).is_err());
    assert!(disk.open(Path::new("a"), OpenMode::Read).is_err());
    assert_eq!(disk.operations(), stop_at + 1);
    // The write in flight may have reached the disk like any other.
    check(&disk, "a", [Some(b"old"), Some(b"new!")]);
    assert!(disk.crash(CrashMode::LoseUnsynced).exists(Path::new("a")).unwrap());
}

#[test]
fn a_sync_in_flight_promises_nothing_and_loses_nothing() {
    let (disk, file) = disk_with("a", b"old");
    file.write_at(b"new", 0).unwrap();
    disk.stop_at(disk.operations());
    assert!(file.sync().is_err());
    check(&disk, "a", [Some(b"old"), Some(b"new")]);
}

#[test]
fn a_durable_write_in_flight_may_be_torn() {
    let (disk, file) = disk_with("a", &[b'o'; WRITE_ALIGN]);
    disk.stop_at(disk.operations());
    assert!(file.write_durable(&page(b'n'), 0).is_err());
    check(&disk, "a", [Some(&[b'o'; WRITE_ALIGN]), Some(&[b'n'; WRITE_ALIGN])]);
    let seen: BTreeSet<_> = (0..200).map(|seed| found(&disk, "a", CrashMode::Torn(seed))).collect();
    assert!(seen.len() > 50, "{}", seen.len());
}

#[test]
fn folders_in_flight_are_not_durable() {
    let disk = SimDisk::new();
    disk.stop_at(0);
    assert!(disk.create_dir_all(Path::new("x/y")).is_err());
    let exists = |mode, path| disk.crash(mode).exists(Path::new(path)).unwrap();
    assert_eq!(LOST_AND_KEPT.map(|mode| exists(mode, "x/y")), [false, true]);
    // No folder without its parent.
    assert!((0..50).map(CrashMode::Torn).all(|mode| exists(mode, "x") || !exists(mode, "x/y")));
}

#[test]
fn failures_come_at_their_numbers_and_go() {
    let (disk, file) = disk_with("a", b"");
    disk.fail_at(disk.operations() + 1, ErrorKind::StorageFull);
    file.set_len(1).unwrap();
    assert_eq!(file.set_len(2).unwrap_err().kind(), ErrorKind::StorageFull);
    file.set_len(3).unwrap();
    disk.fail_from(disk.operations() + 1, ErrorKind::Other);
    file.set_len(4).unwrap();
    for _ in 0..3 {
        let error = file.set_len(5).unwrap_err();
        assert!(error.to_string().starts_with("input/output error (injected at"), "{error}");
    }
    assert_eq!(file.len().unwrap(), 4);
    disk.heal();
    file.set_len(6).unwrap();
}

#[test]
fn reads_are_operations_only_if_asked_for() {
    let (disk, file) = disk_with("a", b"text");
    let before = disk.operations();
    file.read_all().unwrap();
    assert_eq!(disk.operations(), before);
    disk.count_reads(true);
    disk.fail_at(before + 1, ErrorKind::Other);
    assert_eq!(file.len().unwrap(), 4);
    assert!(file.read_at(&mut [0], 0).is_err());
    assert_eq!(file.read_all().unwrap(), b"text");
    assert_eq!(disk.operations(), before + 4);
}

#[test]
fn a_failed_write_is_half_there() {
    let (disk, file) = disk_with("a", &[b'o'; 4 * SECTOR_BYTES]);
    disk.fail_at(disk.operations(), ErrorKind::Other);
    assert!(file.write_at(&[b'n'; 4 * SECTOR_BYTES], 0).is_err());
    let expected = [[b'n'; 2 * SECTOR_BYTES], [b'o'; 2 * SECTOR_BYTES]].concat();
    assert_eq!(file.read_all().unwrap(), expected);
}

#[test]
fn a_full_disk_takes_what_fits_and_overwrites() {
    let (disk, file) = disk_with("a", b"");
    disk.set_capacity_bytes(3 * 4096 + 100);
    file.write_at(&[1; 2 * 4096], 0).unwrap();
    file.set_len(1 << 20).unwrap();
    assert_eq!(disk.allocated_bytes(), 2 * 4096);
    let error = file.write_at(&[2; 3 * 4096], 4096).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(
        file.read_all().unwrap()[4096..4 * 4096],
        [[2; 8192].as_slice(), &[0; 4096]].concat()
    );
    file.write_durable(&page(3), 0).unwrap();
    let other = create(&disk, "b");
    assert_eq!(other.write_at(b"x", 0).unwrap_err().kind(), ErrorKind::StorageFull);
    // An open file keeps its space after its name is gone.
    disk.remove(Path::new("a")).unwrap();
    assert!(other.write_at(b"x", 0).is_err());
    drop(file);
    other.write_at(b"x", 0).unwrap();
    assert_eq!(disk.allocated_bytes(), 4096);
}

#[test]
fn a_flipped_bit_is_seen_and_survives() {
    let (disk, file) = disk_with("a", b"aaaa");
    file.write_at(b"bb", 2).unwrap();
    disk.flip_bit("a", 0, 1).unwrap();
    disk.flip_bit("a", 3, 0).unwrap();
    assert_eq!(file.read_all().unwrap(), b"cabc");
    check(&disk, "a", [Some(b"caa`"), Some(b"cabc")]);
    assert_eq!(disk.flip_bit("a", 4, 0).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(disk.flip_bit("b", 0, 0).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_crash_copy_is_a_disk_of_its_own() {
    let (disk, file) = disk_with("a", b"1");
    let _guard = disk.lock(Path::new("LOCK"), "me").unwrap();
    let copy = disk.crash(CrashMode::KeepUnsynced);
    assert_eq!(copy.operations(), 0);
    let _other = copy.lock(Path::new("LOCK"), "you").unwrap();
    file.write_at(b"2", 0).unwrap();
    copy.write_file("a", b"3").unwrap();
    assert_eq!(disk.read_file("a").unwrap(), b"2");
    assert_eq!(copy.read_file("a").unwrap(), b"3");
}

#[test]
fn the_trace_has_a_line_for_each_operation() {
    let disk = SimDisk::new();
    disk.record_trace(true);
    disk.fail_at(2, ErrorKind::StorageFull);
    disk.stop_at(3);
    let file = create(&disk, "./a");
    file.write_at(b"text", 7).unwrap();
    assert!(file.sync().is_err());
    assert!(disk.rename(Path::new("a"), Path::new("b")).is_err());
    assert!(disk.remove(Path::new("a")).is_err());
    let expected = [
        "     0  create          a",
        "     1  write_at        a  7..11",
        "     2  sync            a  ! no space left on device (injected at operation 2)",
        "     3  rename          a -> b  ! in flight, the machine stops",
    ];
    assert_eq!(disk.trace(), expected);
}

#[test]
fn random_operations_keep_the_invariants() {
    for seed in 0..300 {
        let mut random = SeededRandom::new(seed);
        let disk = SimDisk::new();
        let mut files: Vec<Box<dyn File>> = Vec::new();
        for _ in 0..60 {
            random_operation(&disk, &mut files, &mut random);
            disk.state().check_invariants();
        }
        let kept = disk.crash(CrashMode::KeepUnsynced);
        let torn = disk.crash(CrashMode::Torn(seed));
        assert_eq!(kept.files(), disk.files());
        kept.state().check_invariants();
        torn.state().check_invariants();
        // What is written anew and synced is there after any crash.
        for (path, len) in disk.files() {
            let file = disk.open(&path, OpenMode::Write).unwrap();
            file.write_at(&vec![1; len as usize], 0).unwrap();
            file.sync().unwrap();
        }
        sync_dir(&disk);
        for mode in LOST_AND_KEPT.into_iter().chain([CrashMode::Torn(seed)]) {
            let found = disk.crash(mode);
            assert_eq!(found.files(), disk.files(), "seed {seed}");
            for (path, _) in disk.files() {
                assert_eq!(found.read_file(&path).unwrap(), disk.read_file(&path).unwrap());
            }
        }
    }
}

fn random_operation(disk: &SimDisk, files: &mut Vec<Box<dyn File>>, random: &mut SeededRandom) {
    let names = ["a", "b", "c"].map(Path::new);
    let (path, other) = (names[random.below(3) as usize], names[random.below(3) as usize]);
    let (offset, len) = (random.below(10_000), random.below(5_000) as usize);
    let index = random.below(files.len() as u64 + 1) as usize;
    if random.chance(100) {
        disk.fail_at(disk.operations(), ErrorKind::Other);
    }
    // Any of these may fail, by the plan or because there is no such file.
    let _ = match (random.below(10), files.get(index)) {
        (0, _) => disk.open(path, OpenMode::CreateNew).map(|file| files.push(file)),
        (1, _) => disk.rename(path, other),
        (2, _) => disk.remove(path),
        (3, _) => disk.sync_dir(Path::new("")),
        (4 | 5, Some(file)) => file.write_at(&vec![offset as u8; len], offset),
        (6, Some(file)) => file.write_durable(&page(len as u8), offset / 4096 * 4096),
        (7, Some(file)) => file.set_len(offset),
        (8, Some(file)) => file.sync(),
        (9, Some(_)) => {
            files.remove(index);
            Ok(())
        }
        _ => Ok(()),
    };
    disk.heal();
}
