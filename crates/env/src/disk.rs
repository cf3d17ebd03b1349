//! The traits of the disk.

use std::io;
use std::path::Path;

/// Offsets, lengths and memory of a [`File::write_durable`] are multiples of this, in bytes. 4 KiB
/// is the page size and at least the block size of every disk that direct writes are made to.
pub const WRITE_ALIGN: usize = 4096;

/// What a disk writes whole or not at all, in bytes. Torn writes tear between sectors.
pub const SECTOR_BYTES: usize = 512;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Reading only; the file must exist.
    Read,
    /// Reading and writing; the file must exist.
    Write,
    /// Reading and writing; the file must not exist and is created.
    CreateNew,
    /// As `Write`, and prepared for [`File::write_durable`]: on the real disk such writes bypass
    /// the page cache where the file system allows it.
    WriteDurable,
}

/// A folder tree on a disk. Names are durable once [`Disk::sync_dir`] of their folder returned.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file.
    ///
    /// # Errors
    /// `NotFound` or `AlreadyExists` as the mode demands; whatever else the system says.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>>;

    /// Creates a folder and its parents; does nothing if it is there.
    ///
    /// # Durability
    /// The entries of all created folders are synced before this returns.
    ///
    /// # Errors
    /// Whatever the system says.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Returns the names in a folder, sorted.
    ///
    /// # Errors
    /// `NotFound` if there is no such folder.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Returns true if there is a file or folder of that name.
    ///
    /// # Errors
    /// Whatever the system says, other than that it is not there.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Renames a file in place of any that has the new name, atomically.
    ///
    /// # Errors
    /// `NotFound` if there is no file of the old name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a second name, on the same disk. The two are equal from then on: the file lives
    /// as long as one of them does.
    ///
    /// # Errors
    /// `NotFound` if there is no file of the first name, `AlreadyExists` if there is one of the
    /// second; `CrossesDevices`, or whatever else the system says, where it makes no such names.
    fn hard_link(&self, existing: &Path, new: &Path) -> io::Result<()>;

    /// Removes a file's name, and the file with its last one.
    ///
    /// # Errors
    /// `NotFound` if there is no such file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable: creations, renames and removals.
    ///
    /// # Errors
    /// Whatever the system says; what is durable is then unknown.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Takes the exclusive lock of a file, which is created if need be, and writes `owner` into it
    /// for people to read. The lock ends with the guard or the process.
    ///
    /// # Errors
    /// `WouldBlock` if another process, or this one, holds it.
    fn lock(&self, path: &Path, owner: &str) -> io::Result<Box<dyn LockGuard>>;
}

/// Holds a file lock until dropped.
pub trait LockGuard: Send + Sync {}

/// An open file. All methods take `&self`: positions are explicit and several threads may read and
/// write different parts.
#[expect(clippy::len_without_is_empty, reason = "nobody asks a file whether it is empty")]
pub trait File: Send + Sync {
    /// Reads up to `buf.len()` bytes at an offset; fewer only at the end of the file.
    ///
    /// # Errors
    /// Whatever the system says.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all bytes at an offset, growing the file if need be.
    ///
    /// # Errors
    /// Whatever the system says; any part may have been written then.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes all bytes written so far durable, and the length that is needed to read them.
    ///
    /// # Errors
    /// Whatever the system says. What is durable is then unknown, and syncing again proves nothing:
    /// the kernel may have dropped the dirty pages and forgotten the error.
    fn sync(&self) -> io::Result<()>;

    /// Writes all bytes at an offset and returns when they are durable. The same as `write_at` and
    /// `sync` of those bytes, in one call to the disk where it offers that.
    ///
    /// `buffer` and `offset` are aligned to [`WRITE_ALIGN`]. Meant for space that was written
    /// before: only there it costs a single device write.
    ///
    /// # Errors
    /// As [`File::sync`].
    ///
    /// # Panics
    /// If the length of `buffer` or `offset` is not aligned.
    fn write_durable(&self, buffer: &AlignedBuffer, offset: u64) -> io::Result<()>;

    /// Returns the length in bytes.
    ///
    /// # Errors
    /// Whatever the system says.
    fn len(&self) -> io::Result<u64>;

    /// Cuts or extends the file with zeros.
    ///
    /// # Errors
    /// Whatever the system says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Reads the whole file.
    ///
    /// # Errors
    /// Whatever the system says.
    fn read_all(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.len()?).map_err(io::Error::other)?];
        let read = self.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        Ok(bytes)
    }
}

/// A growing byte buffer whose first byte lies at an address that is a multiple of
/// [`WRITE_ALIGN`], as direct disk writes require.
#[derive(Default)]
pub struct AlignedBuffer {
    /// Holds the bytes from `start` on; what is before it is padding.
    memory: Vec<u8>,
    /// Distance from the allocation to the first aligned address in it.
    start: usize,
}

impl AlignedBuffer {
    /// Returns an empty buffer with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> AlignedBuffer {
        let mut memory = Vec::with_capacity(capacity + WRITE_ALIGN);
        let start = padding_of(memory.as_ptr());
        memory.resize(start, 0);
        AlignedBuffer { memory, start }
    }

    /// Returns the number of bytes.
    pub fn len(&self) -> usize {
        self.memory.len() - self.start
    }

    /// Returns true if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.memory[self.start..]
    }

    /// Returns the bytes for writing.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..]
    }

    /// Appends bytes.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.memory.extend_from_slice(bytes);
    }

    /// Appends zeros up to a length; a longer buffer stays as it is.
    pub fn pad_to(&mut self, len: usize) {
        if len > self.len() {
            self.reserve(len - self.len());
            self.memory.resize(self.start + len, 0);
        }
    }

    /// Cuts the bytes after a length.
    pub fn truncate(&mut self, len: usize) {
        self.memory.truncate(self.start + len);
    }

    /// Removes all bytes and keeps the memory.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Asserts what [`File::write_durable`] demands of its arguments; the address is aligned
    /// always.
    pub(crate) fn assert_aligned_at(&self, offset: u64) {
        let (len, align) = (self.len(), WRITE_ALIGN);
        assert!(len.is_multiple_of(align), "{len} bytes are not a multiple of {align}");
        assert!(
            offset.is_multiple_of(align as u64),
            "offset {offset} is not a multiple of {align}"
        );
    }

    /// Makes room, moving to a new aligned allocation if the old one is full: letting the `Vec`
    /// grow by itself would keep the padding and lose the alignment.
    fn reserve(&mut self, additional: usize) {
        if self.memory.capacity() - self.memory.len() >= additional {
            return;
        }
        let capacity = (self.len() + additional).max(2 * self.len()).max(WRITE_ALIGN);
        let mut grown = AlignedBuffer::with_capacity(capacity);
        grown.memory.extend_from_slice(self.as_slice());
        *self = grown;
    }
}

fn padding_of(address: *const u8) -> usize {
    address.addr().next_multiple_of(WRITE_ALIGN) - address.addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_stays_aligned_while_it_grows() {
        let mut buffer = AlignedBuffer::default();
        for round in 0..2000 {
            buffer.extend_from_slice(&[round as u8; 37]);
            assert_eq!(buffer.as_slice().as_ptr().addr() % WRITE_ALIGN, 0);
        }
        assert_eq!(buffer.len(), 2000 * 37);
        assert!((0..2000).all(|round| buffer.as_slice()[round * 37] == round as u8));
        buffer.pad_to(buffer.len().next_multiple_of(WRITE_ALIGN));
        assert_eq!(buffer.as_slice().as_ptr().addr() % WRITE_ALIGN, 0);
    }
}
