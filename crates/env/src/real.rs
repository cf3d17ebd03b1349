//! The real disk: the file system of the machine, through `std::fs`.
//!
//! Each promise of [`Disk`] maps to one system call, so what it costs can be read off here:
//!
//! | promise | call |
//! |---|---|
//! | [`File::sync`] | `fdatasync`: the bytes and the length, not the times |
//! | [`File::write_durable`] | one `pwrite` on a second descriptor with `O_DIRECT` and `O_DSYNC` |
//! | [`Disk::sync_dir`] | `fsync` of the folder |
//! | [`Disk::lock`] | `flock`, which ends with the descriptor, however the process ends |
//!
//! # Two descriptors for durable writes
//! `pwrite` with `O_DIRECT | O_DSYNC` over space that was written before is one device write with
//! "force unit access" and no journal commit, where `pwrite` and `fdatasync` are a write and a
//! flush of the whole device cache. Reads stay on the buffered descriptor: the kernel drops the
//! pages of a range that is written directly. Some file systems refuse direct writes, at open or
//! at the first write; the same promise is then kept by `pwrite` and `fdatasync`.
//!
//! # Invariants
//! * A sync that failed is never tried again: the kernel may have dropped the pages it could not
//!   write and report success next time (PostgreSQL's "fsyncgate", 2018).
//! * Direct writes are tried again by another way only after `EINVAL`, which the kernel returns
//!   before anything is written.
//!
//! # Not here
//! Windows; `mmap`; retries of anything but interrupted calls.

use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::disk::{AlignedBuffer, Disk, File, LockGuard, OpenMode, WRITE_ALIGN};

/// The file system of the machine.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let mut options = OpenOptions::new();
        options.read(true).write(mode != OpenMode::Read).create_new(mode == OpenMode::CreateNew);
        let buffered = options.open(path)?;
        let direct = match mode {
            OpenMode::WriteDurable => DirectFile::open(path)?,
            OpenMode::Read | OpenMode::Write | OpenMode::CreateNew => None,
        };
        Ok(Box::new(RealFile { buffered, direct }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let missing: Vec<&Path> =
            path.ancestors().take_while(|folder| !folder_or_here(folder).is_dir()).collect();
        for folder in missing.into_iter().rev() {
            match fs::create_dir(folder) {
                // Another process may have been faster; its sync is not ours, so sync anyway.
                Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => {}
                created => created?,
            }
            self.sync_dir(folder.parent().unwrap_or(folder))?;
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        // A name that is not UTF-8 is none of ours. Its lossy form matches no name that is, so
        // whoever lists a folder passes over it like over any other stranger.
        let mut names = fs::read_dir(folder_or_here(path))?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<String>>>()?;
        names.sort_unstable();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        fs::exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn hard_link(&self, existing: &Path, new: &Path) -> io::Result<()> {
        fs::hard_link(existing, new)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(folder_or_here(path))?.sync_all()
    }

    fn lock(&self, path: &Path, owner: &str) -> io::Result<Box<dyn LockGuard>> {
        // Not truncated at open: until the lock is ours, the text is the present owner's.
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held_by(path, &fs::read(path)?)),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        file.set_len(0)?;
        file.write_all_at(owner.as_bytes(), 0)?;
        Ok(Box::new(RealLock { _file: file }))
    }
}

/// Returns the error of a lock that someone else holds, with what they wrote into the file.
pub(crate) fn held_by(path: &Path, owner: &[u8]) -> io::Error {
    let owner = String::from_utf8_lossy(owner);
    // The owner writes the text after it took the lock, so it may not be there yet.
    let owner = if owner.trim().is_empty() { "someone else" } else { owner.trim() };
    io::Error::new(ErrorKind::WouldBlock, format!("{} is locked by {owner}", path.display()))
}

/// The parent of a bare name is the empty path, which means "here" and which no system call takes.
fn folder_or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// Closing the descriptor gives the lock back.
struct RealLock {
    _file: fs::File,
}

impl LockGuard for RealLock {}

struct RealFile {
    buffered: fs::File,
    /// Only for [`OpenMode::WriteDurable`], and only if the file system takes direct writes.
    direct: Option<DirectFile>,
}

impl File for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < buf.len() {
            match self.buffered.read_at(&mut buf[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(bytes) => read += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        // Continues after short and interrupted writes by itself.
        self.buffered.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.buffered.sync_data()
    }

    fn write_durable(&self, buffer: &AlignedBuffer, offset: u64) -> io::Result<()> {
        buffer.assert_aligned_at(offset);
        if let Some(direct) = &self.direct
            && direct.write_all_at(buffer.as_slice(), offset)? == DirectWrite::Durable
        {
            return Ok(());
        }
        self.write_at(buffer.as_slice(), offset)?;
        self.sync()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.buffered.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.buffered.set_len(len)
    }
}

/// A descriptor whose writes bypass the page cache and return when they are durable.
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "opened on Linux only; the code that asks for it is one for all")
)]
struct DirectFile {
    file: fs::File,
    /// Set by the first write that the file system refuses; there is no second try.
    is_refused: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DirectWrite {
    Durable,
    /// Nothing was written.
    Refused,
}

impl DirectFile {
    /// Opens the second descriptor; `None` where direct writes do not exist.
    #[cfg(target_os = "linux")]
    fn open(path: &Path) -> io::Result<Option<DirectFile>> {
        use std::os::unix::fs::OpenOptionsExt;

        let flags = libc::O_DIRECT | libc::O_DSYNC;
        match OpenOptions::new().write(true).custom_flags(flags).open(path) {
            Ok(file) => Ok(Some(DirectFile { file, is_refused: AtomicBool::new(false) })),
            Err(error) if is_refusal(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Elsewhere the flags have other names and other meanings; `fdatasync` is the same everywhere.
    #[cfg(not(target_os = "linux"))]
    fn open(_path: &Path) -> io::Result<Option<DirectFile>> {
        Ok(None)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<DirectWrite> {
        if self.is_refused.load(Ordering::Relaxed) {
            return Ok(DirectWrite::Refused);
        }
        let mut written = 0;
        while written < bytes.len() {
            match self.file.write_at(&bytes[written..], offset + written as u64) {
                // A short write may end inside a block; going on from there would be unaligned, so
                // the block is written again. Less than a block is no progress.
                Ok(count) if count < WRITE_ALIGN => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => written += count - count % WRITE_ALIGN,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if written == 0 && is_refusal(&error) => {
                    self.is_refused.store(true, Ordering::Relaxed);
                    return Ok(DirectWrite::Refused);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(DirectWrite::Durable)
    }
}

/// Returns true for the errors by which a file system says that it does no direct I/O.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::TempFolder;

    fn write_durable_and_read(file: &RealFile, byte: u8) {
        let mut buffer = AlignedBuffer::default();
        buffer.extend_from_slice(&[byte; 2 * WRITE_ALIGN]);
        file.write_durable(&buffer, WRITE_ALIGN as u64).unwrap();
        assert_eq!(file.read_all().unwrap()[WRITE_ALIGN..], [byte; 2 * WRITE_ALIGN]);
    }

    #[test]
    fn a_file_system_that_refuses_direct_writes_gets_the_others() {
        let folder = TempFolder::new();
        let path = folder.path.join("a");
        let mut options = OpenOptions::new();
        let buffered = options.read(true).write(true).create_new(true).open(&path).unwrap();
        let mut file = RealFile { buffered, direct: None };
        write_durable_and_read(&file, 1);
        let direct =
            DirectFile { file: fs::File::open(&path).unwrap(), is_refused: AtomicBool::new(true) };
        file.direct = Some(direct);
        write_durable_and_read(&file, 2);
    }

    #[test]
    fn a_direct_write_that_fails_is_not_tried_another_way() {
        let folder = TempFolder::new();
        let path = folder.path.join("a");
        let buffered = fs::File::create_new(&path).unwrap();
        // Open for reading: each write to it fails, and not for being direct.
        let direct =
            DirectFile { file: fs::File::open(&path).unwrap(), is_refused: AtomicBool::new(false) };
        let file = RealFile { buffered, direct: Some(direct) };
        let mut buffer = AlignedBuffer::default();
        buffer.pad_to(WRITE_ALIGN);
        assert!(file.write_durable(&buffer, 0).is_err());
        assert_eq!(file.len().unwrap(), 0);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_refused_direct_write_is_remembered() {
        let folder = TempFolder::new();
        let path = folder.path.join("a");
        fs::write(&path, b"").unwrap();
        let Some(direct) = DirectFile::open(&path).unwrap() else { return };
        let mut buffer = AlignedBuffer::default();
        buffer.pad_to(2 * WRITE_ALIGN);
        // Memory at an odd address is what most file systems refuse; some take it.
        let unaligned = &buffer.as_slice()[1..=WRITE_ALIGN];
        let outcome = direct.write_all_at(unaligned, 0).unwrap();
        assert_eq!(direct.is_refused.load(Ordering::Relaxed), outcome == DirectWrite::Refused);
        assert_eq!(direct.write_all_at(buffer.as_slice(), 0).unwrap(), outcome);
    }
}
