//! Open files and locks of a simulated disk.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

use super::SimDisk;
use super::faults::{Course, disk_full};
use super::names::FileId;
use crate::disk::{AlignedBuffer, File, LockGuard, SECTOR_BYTES};

/// Longest file, in bytes. The list of its pages is held in memory, holes included; a length from
/// damaged bytes should be an error and not the end of the process.
const FILE_BYTES_MAX: u64 = 1 << 36;

pub(super) struct SimHandle {
    pub(super) disk: SimDisk,
    pub(super) id: FileId,
    /// The name it was opened by, for the trace.
    pub(super) path: PathBuf,
    pub(super) is_writable: bool,
}

impl File for SimHandle {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.faults.begin_read("read_at", || self.span(buf.len(), offset))?;
        Ok(state.file(self.id).current().read(buf, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.check_writable(offset, bytes.len() as u64)?;
        let mut state = self.disk.state();
        let course = state.faults.begin("write_at", || self.span(bytes.len(), offset))?;
        let room = state.free_bytes();
        let file = state.file_mut(self.id);
        let fitting = file.current().writable_len(bytes.len(), offset, room);
        let written = match &course {
            Course::Done | Course::InFlight(_) => fitting,
            Course::Fails(_) => fitting.min(first_half(bytes.len(), offset)),
        };
        file.write(&bytes[..written], offset);
        course.into_result()?;
        if written < bytes.len() { Err(disk_full()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let course = state.faults.begin("sync", || self.path.display().to_string())?;
        let file = state.file_mut(self.id);
        match &course {
            Course::Done => file.sync(),
            Course::Fails(_) => file.fail_sync(),
            // Nothing is promised and nothing is dropped.
            Course::InFlight(_) => {}
        }
        course.into_result()
    }

    fn write_durable(&self, buffer: &AlignedBuffer, offset: u64) -> io::Result<()> {
        buffer.assert_aligned_at(offset);
        self.check_writable(offset, buffer.len() as u64)?;
        let bytes = buffer.as_slice();
        let mut state = self.disk.state();
        let course = state.faults.begin("write_durable", || self.span(bytes.len(), offset))?;
        let room = state.free_bytes();
        let file = state.file_mut(self.id);
        let fitting = file.current().writable_len(bytes.len(), offset, room);
        let (bytes, is_full) = (&bytes[..fitting], fitting < bytes.len());
        match &course {
            Course::Done if is_full => file.write_doubtful(bytes, offset),
            Course::Done => file.write_durable(bytes, offset),
            Course::Fails(_) => file.write_doubtful(bytes, offset),
            Course::InFlight(_) => file.write(bytes, offset),
        }
        course.into_result()?;
        if is_full { Err(disk_full()) } else { Ok(()) }
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        state.faults.begin_read("len", || self.path.display().to_string())?;
        Ok(state.file(self.id).current().len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable(0, len)?;
        let detail = || format!("{}  {len}", self.path.display());
        self.disk.state().change("set_len", detail, |state| {
            state.file_mut(self.id).set_len(len);
            Ok(())
        })
    }
}

impl SimHandle {
    fn span(&self, len: usize, offset: u64) -> String {
        format!("{}  {offset}..{}", self.path.display(), offset.saturating_add(len as u64))
    }

    /// Refuses what no disk would do, before it is counted as an operation.
    fn check_writable(&self, offset: u64, len: u64) -> io::Result<()> {
        if !self.is_writable {
            return Err(io::Error::new(ErrorKind::PermissionDenied, "it is open for reading only"));
        }
        match offset.checked_add(len) {
            Some(end) if end <= FILE_BYTES_MAX => Ok(()),
            _ => Err(ErrorKind::FileTooLarge.into()),
        }
    }
}

impl Drop for SimHandle {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        let file = state.file_mut(self.id);
        file.handles -= 1;
        if file.handles == 0 {
            state.forget_nameless();
        }
    }
}

pub(super) struct SimLock {
    pub(super) handle: SimHandle,
}

impl LockGuard for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.handle.disk.state().locks.remove(&self.handle.id);
    }
}

/// Returns how many bytes of a write are made before it fails: half of them, in whole sectors.
fn first_half(len: usize, offset: u64) -> usize {
    let middle = offset + len as u64 / 2;
    (middle - middle % SECTOR_BYTES as u64).saturating_sub(offset) as usize
}
