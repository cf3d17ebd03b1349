//! Keeps the page cache from answering the reads of a cold cell.
//!
//! Stores that read with system calls have a cache of their own, inside the memory that they were
//! given; what the kernel keeps on top of it would make a cold read look warm. So the files of the
//! store are dropped from the page cache again and again:
//!
//! ```text
//!   tick         tick         tick        every 10 ms: at 20 000 reads a second, 200 pages
//!     |--reads-----|--reads-----|-- -     come and go between two of them
//!   drop all     drop all     drop all
//! ```
//!
//! Engines that map their file have no other cache than these pages, and keep as many as they were
//! given memory: once more are resident, an eighth of the file is dropped, another one each time.
//!
//! # Not here
//! Limiting the memory of the process as a whole, which needs rights that not everybody has.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::store::Result;
use crate::usage::resident_file_bytes;

/// Ticks between two looks at which files there are: stores that only read open few new ones.
const TICKS_PER_LISTING: u32 = 50;

/// Parts that a mapped file is dropped in.
const PARTS: u64 = 8;

/// What keeps the files of one directory out of the page cache.
pub(crate) struct Evictor {
    dir: PathBuf,
    files: Vec<File>,
    mapped_bytes_max: u64,
    /// What was resident of mapped files before the store was opened: the program itself.
    resident_before: u64,
    ticks: u32,
    next_part: u64,
}

impl Evictor {
    /// Starts with everything out of the cache. `mapped_bytes_max` is how much of a mapped file
    /// may stay.
    pub(crate) fn new(dir: &Path, mapped_bytes_max: usize) -> Result<Evictor> {
        let mut evictor = Evictor {
            dir: dir.to_path_buf(),
            files: Vec::new(),
            mapped_bytes_max: mapped_bytes_max as u64,
            resident_before: resident_file_bytes().unwrap_or(0),
            ticks: 0,
            next_part: 0,
        };
        evictor.list()?;
        // A page that was not written yet cannot be dropped.
        evictor.files.iter().try_for_each(File::sync_all)?;
        evictor.drop_pages();
        Ok(evictor)
    }

    /// Drops what has gathered since the last time.
    pub(crate) fn tick(&mut self) -> Result<()> {
        self.ticks += 1;
        if self.ticks.is_multiple_of(TICKS_PER_LISTING) {
            self.list()?;
        }
        let resident = resident_file_bytes().unwrap_or(0).saturating_sub(self.resident_before);
        if resident > self.mapped_bytes_max {
            unmap_part(&self.dir, self.next_part)?;
            self.next_part = (self.next_part + 1) % PARTS;
        }
        self.drop_pages();
        Ok(())
    }

    /// Drops pages that are not mapped; those that are stay, whatever is advised.
    fn drop_pages(&self) {
        for file in &self.files {
            // Advice that is not taken makes a cold read warm and no figure wrong that says so:
            // the disk's reads are counted apart.
            let _ = posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        }
    }

    fn list(&mut self) -> Result<()> {
        self.files.clear();
        open_all(&self.dir, &mut self.files)
    }
}

fn open_all(dir: &Path, files: &mut Vec<File>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            open_all(&entry.path(), files)?;
        } else if metadata.is_file() {
            // It may have been deleted since.
            files.extend(File::open(entry.path()));
        }
    }
    Ok(())
}

/// Takes one part of each mapped file below a directory out of this process's page tables, after
/// which the page cache may drop it.
#[expect(unsafe_code, reason = "pages of a mapping can only be given back by address")]
fn unmap_part(dir: &Path, part: u64) -> Result<()> {
    for Mapping { path, start, end } in shared_mappings(dir)? {
        // A mapping may be far longer than the file's data, which begins at its start.
        let Ok(metadata) = fs::metadata(path) else { continue };
        let part_bytes = (metadata.blocks() * 512 / PARTS).next_multiple_of(PAGE_BYTES);
        let from = (start + part * part_bytes).min(end);
        let until = (from + part_bytes).min(end);
        // SAFETY: the range lies in a shared mapping of a file, where this advice loses nothing:
        // the pages stay in the page cache, changed ones too, and come back when they are touched.
        // Mapping stores, which are the only ones with such a mapping, keep it until they close,
        // and they close after the last tick.
        let _ = unsafe {
            nix::libc::madvise(
                from as *mut nix::libc::c_void,
                (until - from) as usize,
                nix::libc::MADV_DONTNEED,
            )
        };
    }
    Ok(())
}

/// The page of every machine this was run on; a larger one would make the advice fail, not harm.
const PAGE_BYTES: u64 = 4096;

/// Shorter mappings hold no data worth evicting.
const DATA_MAPPING_BYTES_MIN: u64 = 1 << 20;

/// A file in this process's memory, shared with the page cache.
struct Mapping {
    path: PathBuf,
    start: u64,
    end: u64,
}

/// Returns the mappings of data files below a directory: those from the file's start on, and not
/// the short ones that are locks and indexes.
fn shared_mappings(dir: &Path) -> Result<Vec<Mapping>> {
    let dir = fs::canonicalize(dir)?;
    let maps = fs::read_to_string("/proc/self/maps")?;
    // proc(5): address, permissions, offset, device, inode, path.
    let mappings = maps.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [address, permissions, offset, _, _, path] = fields.as_slice() else { return None };
        let (start, end) = address.split_once('-')?;
        let start = u64::from_str_radix(start, 16).ok()?;
        let end = u64::from_str_radix(end, 16).ok()?;
        let is_data = permissions.ends_with('s')
            && offset.chars().all(|digit| digit == '0')
            && end - start >= DATA_MAPPING_BYTES_MIN;
        let path = PathBuf::from(path);
        (is_data && path.starts_with(&dir)).then_some(Mapping { path, start, end })
    });
    Ok(mappings.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_directory_are_evicted_and_stay_readable() {
        let dir = std::env::temp_dir().join(format!("holm-bench-evict-{}", std::process::id()));
        fs::create_dir_all(dir.join("below")).unwrap();
        fs::write(dir.join("below/file"), vec![7; 100_000]).unwrap();
        let mut evictor = Evictor::new(&dir, 1 << 20).unwrap();
        assert_eq!(evictor.files.len(), 1);
        for _ in 0..TICKS_PER_LISTING {
            evictor.tick().unwrap();
        }
        let read = fs::read(dir.join("below/file"));
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(read.unwrap(), vec![7; 100_000]);
    }
}
