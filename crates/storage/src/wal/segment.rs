//! One file of the log: its name, its header, and how it is prepared and reused.
//!
//! ```text
//!  0            8      12     16       24       32                48       56
//!  +------------+------+------+--------+--------+-----------------+--------+---- - -
//!  | "holm wal" | crc  | form | number | base   | database id     | length | zeros to 4096
//!  +------------+------+------+--------+--------+-----------------+--------+---- - -
//! ```
//!
//! `crc` is the CRC-32C of bytes 12 to 56, `form` the format version of the log, `base` the
//! position in the stream of the first byte after the header, `length` that of the whole file in
//! bytes: it was durable before the header was written, so a shorter file has been cut. The header
//! is written together with the first records, so a segment that was prepared and not used has
//! none: zeros, or that of the segment it was before. It fits one sector, so it is there whole or
//! not at all.

use std::io;
use std::path::{Path, PathBuf};

use base::checksum;
use base::codec::{Reader, Truncated};
use env::{Disk, File, OpenMode, WRITE_ALIGN};

use super::Lsn;
use crate::error::{Error, Result};

/// Bytes before the first record: one aligned write.
pub(super) const SEGMENT_HEADER_BYTES: u64 = WRITE_ALIGN as u64;

const MAGIC: &[u8; 8] = b"holm wal";
const FORMAT: u32 = 1;
const FIELDS_END: usize = 56;

/// Zeros are written in pieces of this size, in bytes: large enough for the disk's full speed.
const ZERO_CHUNK_BYTES: usize = 256 << 10;

/// Returns the file name of a segment.
pub fn segment_name(number: u64) -> String {
    format!("{number:010}.wal")
}

/// Returns the number in a segment's file name; `None` if it is not one.
pub fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    let number = digits.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}

/// An open segment file.
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) file: Box<dyn File>,
    /// The length of the file in bytes.
    pub(super) file_bytes: u64,
}

/// What a segment's first block says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderState {
    /// The segment holds the stream from `base` on, in a file that was made `file_bytes` long.
    Used { base: Lsn, file_bytes: u64 },
    /// It was prepared and never used.
    Unused,
}

impl Segment {
    /// Creates a segment file full of zeros, or makes an old one into it.
    ///
    /// # Durability
    /// The file, its length and its name survive a crash once this returns.
    pub(super) fn prepare(
        disk: &dyn Disk,
        folder: &Path,
        number: u64,
        file_bytes: u64,
        old: Option<PathBuf>,
    ) -> Result<Segment> {
        let path = folder.join(segment_name(number));
        if let Some(old) = old {
            disk.rename(&old, &path).map_err(Error::io(&old, "rename"))?;
        } else if let Err(error) = create_zeroed(disk, &path, file_bytes) {
            // Half a segment is of no use to anybody, and on a full disk its space is needed.
            let _ = disk.remove(&path);
            return Err(error);
        }
        disk.sync_dir(folder).map_err(Error::io(folder, "sync"))?;
        Segment::open(disk, folder, number)
    }

    /// Opens a segment file for durable writes.
    pub(super) fn open(disk: &dyn Disk, folder: &Path, number: u64) -> Result<Segment> {
        let path = folder.join(segment_name(number));
        let file = disk.open(&path, OpenMode::WriteDurable).map_err(Error::io(&path, "open"))?;
        let file_bytes = file.len().map_err(Error::io(&path, "read the length of"))?;
        Ok(Segment { number, path, file, file_bytes })
    }

    /// Bytes of the stream that the file has room for.
    pub(super) fn capacity(&self) -> u64 {
        self.file_bytes.saturating_sub(SEGMENT_HEADER_BYTES)
    }
}

fn create_zeroed(disk: &dyn Disk, path: &Path, file_bytes: u64) -> Result<()> {
    // What has this name was being prepared when something failed; segments in use have lower ones.
    if disk.exists(path).map_err(Error::io(path, "look for"))? {
        disk.remove(path).map_err(Error::io(path, "remove"))?;
    }
    let file = disk.open(path, OpenMode::CreateNew).map_err(Error::io(path, "create"))?;
    let zeros = vec![0; ZERO_CHUNK_BYTES.min(file_bytes as usize)];
    let mut offset = 0;
    while offset < file_bytes {
        let len = zeros.len().min((file_bytes - offset) as usize);
        file.write_at(&zeros[..len], offset).map_err(Error::io(path, "extend"))?;
        offset += len as u64;
    }
    file.sync().map_err(Error::io(path, "sync"))
}

/// Returns a segment's header block.
pub(super) fn encode_segment_header(
    number: u64,
    base: Lsn,
    database_id: [u8; 16],
    file_bytes: u64,
) -> Vec<u8> {
    let mut block = Vec::with_capacity(WRITE_ALIGN);
    block.extend_from_slice(MAGIC);
    block.extend_from_slice(&[0; 4]);
    block.extend_from_slice(&FORMAT.to_le_bytes());
    block.extend_from_slice(&number.to_le_bytes());
    block.extend_from_slice(&base.0.to_le_bytes());
    block.extend_from_slice(&database_id);
    block.extend_from_slice(&file_bytes.to_le_bytes());
    let crc = checksum::of(&[&block[12..FIELDS_END]]);
    block[8..12].copy_from_slice(&crc.to_le_bytes());
    block.resize(WRITE_ALIGN, 0);
    block
}

/// Reads the header of the segment called `number`.
///
/// # Errors
/// `Damaged` if it is neither this segment's, nor an earlier one's, nor zeros; or if it belongs to
/// another database or a newer format.
pub(super) fn read_segment_header(
    file: &dyn File,
    path: &Path,
    number: u64,
    database_id: [u8; 16],
) -> Result<HeaderState> {
    let mut bytes = [0; FIELDS_END];
    let read = file.read_at(&mut bytes, 0).map_err(Error::io(path, "read"))?;
    if bytes[..read].iter().all(|&byte| byte == 0) {
        return Ok(HeaderState::Unused);
    }
    decode_segment_header(&bytes[..read], number, database_id)
        .map_err(|what| Error::damaged(path, 0, what))
}

fn decode_segment_header(
    bytes: &[u8],
    number: u64,
    database_id: [u8; 16],
) -> std::result::Result<HeaderState, String> {
    let fields = |bytes| -> std::result::Result<_, Truncated> {
        let mut reader = Reader::new(bytes);
        let magic = reader.take(8)?;
        let (crc, form, found, base) = (reader.u32()?, reader.u32()?, reader.u64()?, reader.u64()?);
        Ok((magic, crc, form, found, base, reader.take(16)?, reader.u64()?))
    };
    let (magic, crc, form, found, base, id, file_bytes) =
        fields(bytes).map_err(|_| "the segment's header is cut short".to_string())?;
    if magic != MAGIC || crc != checksum::of(&[&bytes[12..]]) {
        return Err("the segment's header has a bad checksum".into());
    }
    if form != FORMAT {
        return Err(format!("the log has format {form}, this program reads {FORMAT}"));
    }
    if id != database_id {
        return Err("the segment belongs to another database".into());
    }
    match found.cmp(&number) {
        std::cmp::Ordering::Equal => Ok(HeaderState::Used { base: Lsn(base), file_bytes }),
        // It was segment `found`, was renamed to become this one, and has not been used since.
        std::cmp::Ordering::Less => Ok(HeaderState::Unused),
        std::cmp::Ordering::Greater => Err(format!("the header is that of segment {found}")),
    }
}

/// Returns where a segment begins, if its header is sound, whatever database it belongs to.
pub(super) fn sound_base(file: &dyn File, number: u64) -> io::Result<Option<Lsn>> {
    let mut bytes = [0; FIELDS_END];
    let read = file.read_at(&mut bytes, 0)?;
    let id = bytes[32..48].try_into().unwrap_or_default();
    match decode_segment_header(&bytes[..read], number, id) {
        Ok(HeaderState::Used { base, .. }) => Ok(Some(base)),
        _ => Ok(None),
    }
}

/// Returns the segment numbers in a folder, in order.
pub(super) fn list_segments(disk: &dyn Disk, folder: &Path) -> Result<Vec<u64>> {
    let names = match disk.list(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        names => names.map_err(Error::io(folder, "list"))?,
    };
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Returns the numbers and lengths of the segment files in a folder, in order.
pub(crate) fn list_segment_files(disk: &dyn Disk, folder: &Path) -> Result<Vec<(u64, u64)>> {
    let length = |number| {
        let path = folder.join(segment_name(number));
        let file = disk.open(&path, OpenMode::Read).map_err(Error::io(&path, "open"))?;
        Ok((number, file.len().map_err(Error::io(&path, "read the length of"))?))
    };
    list_segments(disk, folder)?.into_iter().map(length).collect()
}

/// Begins a log anew, in a segment of this number that holds the stream from `base` on.
///
/// # Durability
/// The segment and its header survive a crash once this returns.
pub(crate) fn begin_at(
    disk: &dyn Disk,
    folder: &Path,
    database_id: [u8; 16],
    number: u64,
    base: Lsn,
) -> Result<()> {
    /// As short as a new database's first one, in bytes.
    const FILE_BYTES: u64 = 1 << 20;
    let segment = Segment::prepare(disk, folder, number, FILE_BYTES, None)?;
    let header = encode_segment_header(number, base, database_id, FILE_BYTES);
    segment.file.write_at(&header, 0).map_err(Error::io(&segment.path, "write"))?;
    segment.file.sync().map_err(Error::io(&segment.path, "sync"))
}
