//! What both disks do alike: each check runs on the simulated and on the real one.

use std::fs;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{AlignedBuffer, Disk, File, OpenMode, RealDisk, SeededRandom, SimDisk, WRITE_ALIGN};

/// Runs a check in an empty folder of each disk.
fn on_both(check: impl Fn(&dyn Disk, &Path)) {
    let folder = Path::new("db");
    let sim = SimDisk::new();
    sim.create_dir_all(folder).unwrap();
    check(&sim, folder);

    let folder = TempFolder::new();
    check(&RealDisk, &folder.path);
}

/// A folder that is removed with everything in it.
pub(crate) struct TempFolder {
    pub(crate) path: PathBuf,
}

impl TempFolder {
    pub(crate) fn new() -> TempFolder {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("holm-env-{}-{number}", std::process::id()));
        // A process that had this number before may have been killed.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        TempFolder { path }
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn create(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Box<dyn File> {
    let file = disk.open(path, OpenMode::CreateNew).unwrap();
    file.write_at(bytes, 0).unwrap();
    file
}

fn read(disk: &dyn Disk, path: &Path) -> Vec<u8> {
    disk.open(path, OpenMode::Read).unwrap().read_all().unwrap()
}

fn aligned(len: usize, byte: u8) -> AlignedBuffer {
    let mut buffer = AlignedBuffer::with_capacity(len);
    buffer.extend_from_slice(&vec![byte; len]);
    buffer
}

#[track_caller]
fn fails_with<T>(result: io::Result<T>, kind: ErrorKind) {
    assert_eq!(result.err().map(|error| error.kind()), Some(kind));
}

#[test]
fn a_file_must_exist_to_be_opened_and_must_not_to_be_created() {
    on_both(|disk, folder| {
        let path = folder.join("a");
        for mode in [OpenMode::Read, OpenMode::Write, OpenMode::WriteDurable] {
            fails_with(disk.open(&path, mode), ErrorKind::NotFound);
        }
        create(disk, &path, b"");
        fails_with(disk.open(&path, OpenMode::CreateNew), ErrorKind::AlreadyExists);
        for mode in [OpenMode::Read, OpenMode::Write, OpenMode::WriteDurable] {
            disk.open(&path, mode).unwrap();
        }
        let nowhere = folder.join("nowhere").join("a");
        fails_with(disk.open(&nowhere, OpenMode::CreateNew), ErrorKind::NotFound);
    });
}

#[test]
fn a_file_that_is_open_for_reading_refuses_writes() {
    on_both(|disk, folder| {
        create(disk, &folder.join("a"), b"text");
        let file = disk.open(&folder.join("a"), OpenMode::Read).unwrap();
        assert!(file.write_at(b"x", 0).is_err());
        assert!(file.set_len(0).is_err());
        assert!(file.write_durable(&aligned(WRITE_ALIGN, 1), 0).is_err());
        assert_eq!(file.read_all().unwrap(), b"text");
    });
}

#[test]
fn a_read_is_short_only_at_the_end_of_the_file() {
    on_both(|disk, folder| {
        let file = create(disk, &folder.join("a"), &[7; 10_000]);
        let check = |len: usize, offset: u64, expected: usize| {
            let mut buf = vec![0; len];
            assert_eq!(file.read_at(&mut buf, offset).unwrap(), expected, "{len} at {offset}");
            assert!(buf[..expected].iter().all(|&byte| byte == 7));
        };
        check(10_000, 0, 10_000);
        check(20_000, 0, 10_000);
        check(100, 9_950, 50);
        check(100, 10_000, 0);
        check(100, 1 << 40, 0);
        check(0, 5, 0);
    });
}

#[test]
fn the_bytes_between_the_old_end_and_a_later_write_are_zeros() {
    on_both(|disk, folder| {
        let file = create(disk, &folder.join("a"), b"abc");
        file.write_at(b"xyz", 6).unwrap();
        assert_eq!(file.read_all().unwrap(), b"abc\0\0\0xyz");
        file.write_at(b"", 100).unwrap();
        assert_eq!(file.len().unwrap(), 9);
    });
}

#[test]
fn a_file_that_is_cut_and_extended_holds_zeros() {
    on_both(|disk, folder| {
        let file = create(disk, &folder.join("a"), &[1; 9000]);
        file.set_len(5000).unwrap();
        assert_eq!(file.len().unwrap(), 5000);
        file.set_len(9000).unwrap();
        let bytes = file.read_all().unwrap();
        assert!(bytes[..5000].iter().all(|&byte| byte == 1));
        assert!(bytes[5000..].iter().all(|&byte| byte == 0));
        assert_eq!(bytes.len(), 9000);
    });
}

#[test]
fn durable_and_other_writes_see_each_other() {
    on_both(|disk, folder| {
        let path = folder.join("a");
        create(disk, &path, &[1; 3 * WRITE_ALIGN]);
        let file = disk.open(&path, OpenMode::WriteDurable).unwrap();
        let reader = disk.open(&path, OpenMode::Read).unwrap();
        assert_eq!(reader.read_all().unwrap().len(), 3 * WRITE_ALIGN);
        for round in 2..20 {
            file.write_durable(&aligned(WRITE_ALIGN, round), WRITE_ALIGN as u64).unwrap();
            file.write_at(&[round + 100; 10], WRITE_ALIGN as u64 - 5).unwrap();
            let bytes = reader.read_all().unwrap();
            assert_eq!(bytes[0], 1);
            assert_eq!(bytes[WRITE_ALIGN - 5..WRITE_ALIGN + 5], [round + 100; 10]);
            assert_eq!(bytes[WRITE_ALIGN + 5..2 * WRITE_ALIGN], [round; WRITE_ALIGN - 5]);
            assert_eq!(bytes[2 * WRITE_ALIGN], 1);
        }
        // It grows the file if it must.
        file.write_durable(&aligned(2 * WRITE_ALIGN, 9), 4 * WRITE_ALIGN as u64).unwrap();
        assert_eq!(file.len().unwrap(), 6 * WRITE_ALIGN as u64);
        assert_eq!(read(disk, &path)[3 * WRITE_ALIGN..4 * WRITE_ALIGN], [0; WRITE_ALIGN]);
    });
}

#[test]
fn a_durable_write_needs_no_preparation_to_be_right() {
    on_both(|disk, folder| {
        let file = create(disk, &folder.join("a"), b"");
        file.write_durable(&aligned(WRITE_ALIGN, 5), 0).unwrap();
        assert_eq!(file.read_all().unwrap(), [5; WRITE_ALIGN]);
        file.write_durable(&AlignedBuffer::default(), 0).unwrap();
    });
}

#[test]
fn a_durable_write_that_is_not_aligned_is_a_bug_of_the_caller() {
    on_both(|disk, folder| {
        let file = create(disk, &folder.join("a"), b"");
        let panics = |len, offset| {
            let write = || file.write_durable(&aligned(len, 1), offset);
            catch_unwind(AssertUnwindSafe(write)).is_err()
        };
        assert!(panics(100, 0));
        assert!(panics(WRITE_ALIGN, 512));
        assert!(!panics(WRITE_ALIGN, 0));
    });
}

#[test]
fn a_rename_replaces_the_file_of_the_new_name() {
    on_both(|disk, folder| {
        let (a, b) = (folder.join("a"), folder.join("b"));
        create(disk, &a, b"new");
        let replaced = create(disk, &b, b"old");
        disk.rename(&a, &b).unwrap();
        assert!(!disk.exists(&a).unwrap());
        assert_eq!(read(disk, &b), b"new");
        assert_eq!(replaced.read_all().unwrap(), b"old");
        disk.rename(&b, &b).unwrap();
        assert_eq!(read(disk, &b), b"new");
        fails_with(disk.rename(&a, &b), ErrorKind::NotFound);
        fails_with(disk.rename(&b, &folder.join("nowhere").join("b")), ErrorKind::NotFound);
    });
}

#[test]
fn a_file_with_two_names_lives_as_long_as_one_of_them() {
    on_both(|disk, folder| {
        let (a, b) = (folder.join("a"), folder.join("b"));
        let file = create(disk, &a, b"one");
        disk.hard_link(&a, &b).unwrap();
        file.write_at(b"two", 0).unwrap();
        assert_eq!(read(disk, &b), b"two");
        fails_with(disk.hard_link(&a, &b), ErrorKind::AlreadyExists);
        fails_with(disk.hard_link(&folder.join("c"), &b), ErrorKind::NotFound);
        drop(file);
        disk.remove(&a).unwrap();
        assert_eq!(read(disk, &b), b"two");
        disk.remove(&b).unwrap();
        assert!(!disk.exists(&b).unwrap());
    });
}

#[test]
fn a_removed_file_lives_while_it_is_open() {
    on_both(|disk, folder| {
        let path = folder.join("a");
        let removed = create(disk, &path, b"first");
        disk.remove(&path).unwrap();
        fails_with(disk.remove(&path), ErrorKind::NotFound);
        let second = create(disk, &path, b"second");
        removed.write_at(b"F", 0).unwrap();
        removed.sync().unwrap();
        assert_eq!(removed.read_all().unwrap(), b"First");
        assert_eq!(second.read_all().unwrap(), b"second");
        assert_eq!(read(disk, &path), b"second");
    });
}

#[test]
fn folders_are_created_with_their_parents_and_list_their_names_in_order() {
    on_both(|disk, folder| {
        let deep = folder.join("x").join("y");
        disk.create_dir_all(&deep).unwrap();
        disk.create_dir_all(&deep).unwrap();
        for name in ["b", "c", "a"] {
            create(disk, &folder.join(name), b"");
        }
        assert_eq!(disk.list(folder).unwrap(), ["a", "b", "c", "x"]);
        assert_eq!(disk.list(&folder.join("x")).unwrap(), ["y"]);
        assert!(disk.list(&deep).unwrap().is_empty());
        assert!(disk.exists(&deep).unwrap() && disk.exists(&folder.join("a")).unwrap());
        fails_with(disk.list(&folder.join("nowhere")), ErrorKind::NotFound);
        disk.sync_dir(&deep).unwrap();
        fails_with(disk.sync_dir(&folder.join("nowhere")), ErrorKind::NotFound);
        assert!(disk.create_dir_all(&folder.join("a")).is_err());
        assert!(disk.create_dir_all(&folder.join("a").join("z")).is_err());
        assert!(disk.remove(&deep).is_err());
    });
}

#[test]
fn a_lock_is_refused_with_the_name_of_its_owner() {
    on_both(|disk, folder| {
        let path = folder.join("LOCK");
        let guard = disk.lock(&path, "process 17, a long name").unwrap();
        let error = disk.lock(&path, "process 18").err().unwrap();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert!(error.to_string().ends_with("is locked by process 17, a long name"), "{error}");
        drop(guard);
        let _guard = disk.lock(&path, "process 18").unwrap();
        assert_eq!(read(disk, &path), b"process 18");
    });
}

#[test]
fn random_calls_have_the_same_results_on_both_disks() {
    for seed in 0..20 {
        let sim = SimDisk::new();
        sim.create_dir_all(Path::new("db")).unwrap();
        let temp = TempFolder::new();
        let in_memory = random_calls(&sim, Path::new("db"), seed);
        let on_disk = random_calls(&RealDisk, &temp.path, seed);
        assert_eq!(in_memory, on_disk, "seed {seed}");
    }
}

fn random_calls(disk: &dyn Disk, folder: &Path, seed: u64) -> Vec<String> {
    let mut random = SeededRandom::new(seed);
    let mut files: Vec<Box<dyn File>> = Vec::new();
    let mut results = Vec::new();
    for _ in 0..150 {
        let mut name = || folder.join(["a", "b", "c", "no/d"][random.below(4) as usize]);
        let (path, other) = (name(), name());
        let (call, offset) = (random.below(12), random.below(20_000));
        let (len, byte) = (random.below(9_000) as usize, random.below(256) as u8);
        let handle = random.below(files.len() as u64 + 1) as usize;
        let modes = [OpenMode::CreateNew, OpenMode::Write, OpenMode::WriteDurable];
        let result = match (call, files.get(handle)) {
            (0..=2, _) => disk.open(&path, modes[call as usize]).map(|file| {
                files.push(file);
                String::new()
            }),
            (3, _) => disk.rename(&path, &other).map(|()| String::new()),
            (4, _) => disk.remove(&path).map(|()| String::new()),
            (5, _) => disk.list(folder).map(|names| names.join(" ")),
            (6..=7, Some(file)) => file.write_at(&vec![byte; len], offset).map(|()| String::new()),
            (8, Some(file)) => {
                let offset = offset.next_multiple_of(WRITE_ALIGN as u64);
                let buffer = aligned(len.next_multiple_of(WRITE_ALIGN), byte);
                file.write_durable(&buffer, offset).map(|()| String::new())
            }
            (9, Some(file)) => file.set_len(offset).map(|()| String::new()),
            (10, Some(file)) => file.sync().map(|()| String::new()),
            (11, Some(_)) => {
                files.remove(handle);
                Ok(String::new())
            }
            _ => Ok(String::new()),
        };
        results.push(format!("{call}: {:?}", result.map_err(|error| error.kind())));
        results.extend(files.iter().map(|file| {
            let bytes = file.read_all().unwrap();
            format!("{} bytes, {:08x}", bytes.len(), base::checksum::of(&[&bytes]))
        }));
    }
    results
}
