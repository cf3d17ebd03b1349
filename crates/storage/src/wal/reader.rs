//! Reading the log back: finding its end, and telling a torn tail from damage.
//!
//! ```text
//!   last segment in use:
//!   | record | record | record | ?????? | zeros … | record (synced up to S) | …
//!                              ^ X                 '- found by looking at every eighth byte
//! ```
//!
//! Records are read in order until one at X is not whole. If anything valid beyond X says `S > X`,
//! the bytes at X were durable once: damage. A file that is shorter than its header says it was
//! made is damage, too. Otherwise X is the end: what lies beyond is the remains of writes that were
//! never synced. They are overwritten with zeros before the log is used again: new records could
//! otherwise end just where an old one begins, and bring a stranger back to life.
//!
//! A segment that is full ends with a record that names the next one, whose file was durable by
//! then, at its full length. So a newest segment that is gone as a whole is noticed as well.

use std::path::{Path, PathBuf};

use base::Timestamp;
use env::{AlignedBuffer, Disk, File, OpenMode, WRITE_ALIGN};

use super::Lsn;
use super::record::{self, EMBEDDED_GROUP, NextSegment, Record, RecordKind};
use super::segment::{
    HeaderState, SEGMENT_HEADER_BYTES, list_segment_files, list_segments, read_segment_header,
    segment_name, sound_base,
};
use crate::error::{Error, Result};

/// What reading the log found.
#[derive(Debug, Clone, Default)]
pub struct Recovered {
    /// Records that were handed out.
    pub records: u64,
    /// Where the log goes on.
    pub end: LogEnd,
    /// All segments in use, in order, those below the start included.
    pub segments: Vec<SegmentSummary>,
    /// Files that were prepared and hold nothing, by number.
    pub unused: Vec<u64>,
    /// Bytes of torn records beyond the end.
    pub torn_bytes: u64,
    /// True if the log ends with the mark of a clean close.
    pub closed: bool,
}

/// Where the log ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogEnd {
    /// The position of the next record.
    pub next: Lsn,
    /// The index of the last record of the embedded group that was read; `None` if none was.
    pub last_index: Option<u64>,
    /// The timestamp of the last record that was read.
    pub last_timestamp: Timestamp,
    /// All below is known to have been durable: a record that was read vouches for it.
    vouched: Lsn,
    /// Where in the last segment's file remains of unsynced records end, in bytes; zero if there
    /// are none.
    remains_end: u64,
    /// Set if the last record that was read names the segment after its own.
    pub(super) goes_on_in: Option<NextSegment>,
}

/// One segment in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentSummary {
    /// The number in its name.
    pub number: u64,
    /// Where in the stream it begins.
    pub base: Lsn,
    /// Where in the stream it ends; for the last one, where the log ends.
    pub end: Lsn,
    /// The length of the file, in bytes.
    pub file_bytes: u64,
    /// The file.
    pub path: PathBuf,
}

/// A place where the log is damaged, and what could be read beyond it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DamagedSpan {
    /// Where in the stream; zero if it is a header or a whole file that is wrong.
    pub(crate) lsn: Lsn,
    pub(crate) path: PathBuf,
    pub(crate) offset: u64,
    pub(crate) what: String,
}

impl DamagedSpan {
    pub(crate) fn into_error(self) -> Error {
        Error::Damaged { path: self.path, offset: self.offset, what: self.what }
    }
}

/// Reads all records from `start` on, in order. Only reads.
///
/// # Errors
/// `Damaged` as the module's header says; the system's errors; those of `visit`.
pub fn read_log(
    disk: &dyn Disk,
    folder: &Path,
    database_id: [u8; 16],
    start: Lsn,
    visit: impl FnMut(Record<'_>) -> Result<()>,
) -> Result<Recovered> {
    let (recovered, damage) = read_log_through_damage(disk, folder, database_id, start, visit)?;
    damage.map_or(Ok(recovered), |damage| Err(damage.into_error()))
}

/// As [`read_log`], but damage ends the reading instead of failing it, and is returned: what was
/// visited is the longest prefix of the log that is whole.
///
/// # Errors
/// The system's errors, and those of `visit`.
pub(crate) fn read_log_through_damage(
    disk: &dyn Disk,
    folder: &Path,
    database_id: [u8; 16],
    start: Lsn,
    mut visit: impl FnMut(Record<'_>) -> Result<()>,
) -> Result<(Recovered, Option<DamagedSpan>)> {
    let end = LogEnd { next: start, vouched: start, ..LogEnd::default() };
    let mut recovered = Recovered { end, ..Recovered::default() };
    let used = match list_used(disk, folder, database_id, &mut recovered)? {
        Ok(used) => used,
        Err(damage) => return Ok((recovered, Some(damage))),
    };
    if let Some(damage) = find_gap(&used, folder, start) {
        return Ok((recovered, Some(damage)));
    }
    for (position, segment) in used.iter().enumerate() {
        let next_base = used.get(position + 1).map(|next| next.base);
        recovered.segments.push(SegmentSummary {
            number: segment.number,
            base: segment.base,
            end: next_base.unwrap_or(segment.base),
            file_bytes: segment.file_bytes,
            path: segment.path.clone(),
        });
        if next_base.is_some_and(|next| next <= start) {
            continue;
        }
        let damage = read_segment(segment, next_base, start, &mut recovered, &mut visit)?;
        if damage.is_some() {
            return Ok((recovered, damage));
        }
    }
    let damage = find_missing_next(disk, folder, &recovered)?;
    Ok((recovered, damage))
}

/// Checks that the segment that the last record names is there, if it names one.
fn find_missing_next(
    disk: &dyn Disk,
    folder: &Path,
    recovered: &Recovered,
) -> Result<Option<DamagedSpan>> {
    let Some(next) = recovered.end.goes_on_in else { return Ok(None) };
    let path = folder.join(segment_name(next.number));
    let left = list_segment_files(disk, folder)?.into_iter().find(|(n, _)| *n == next.number);
    let what = match left {
        Some((_, bytes)) if bytes >= next.file_bytes => return Ok(None),
        Some((_, bytes)) => {
            format!("the file was cut: {bytes} of {} bytes are left", next.file_bytes)
        }
        None => format!("segment {} goes on in it, and it is missing", next.number - 1),
    };
    Ok(Some(DamagedSpan { lsn: recovered.end.next, path, offset: 0, what }))
}

/// A segment in use, before its records are read.
struct Used {
    number: u64,
    base: Lsn,
    path: PathBuf,
    file: Box<dyn File>,
    file_bytes: u64,
    /// How long the file was when the segment was begun, in bytes.
    made_bytes: u64,
}

/// Sorts the files of the log into those in use and those prepared.
fn list_used(
    disk: &dyn Disk,
    folder: &Path,
    database_id: [u8; 16],
    recovered: &mut Recovered,
) -> Result<std::result::Result<Vec<Used>, DamagedSpan>> {
    let mut used: Vec<Used> = Vec::new();
    for number in list_segments(disk, folder)? {
        let path = folder.join(segment_name(number));
        let file = disk.open(&path, OpenMode::Read).map_err(Error::io(&path, "open"))?;
        let file_bytes = file.len().map_err(Error::io(&path, "read the length of"))?;
        match read_segment_header(&*file, &path, number, database_id) {
            Ok(HeaderState::Unused) => recovered.unused.push(number),
            Ok(HeaderState::Used { base, file_bytes: made_bytes }) => {
                used.push(Used { number, base, path, file, file_bytes, made_bytes })
            }
            Err(Error::Damaged { path, offset, what }) => {
                return Ok(Err(DamagedSpan { lsn: Lsn(0), path, offset, what }));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Ok(used))
}

/// Checks that the segments in use follow each other and that the start lies in one of them.
fn find_gap(used: &[Used], folder: &Path, start: Lsn) -> Option<DamagedSpan> {
    let damage = |path: &Path, what: String| {
        Some(DamagedSpan { lsn: Lsn(0), path: path.to_path_buf(), offset: 0, what })
    };
    for pair in used.windows(2) {
        let [before, after] = pair else { continue };
        // A file that a checkpoint had released may be gone while an older one is still there.
        if after.base <= start {
            continue;
        }
        if after.number != before.number + 1 {
            return damage(
                &after.path,
                format!("segment {} is missing before it", after.number - 1),
            );
        }
        if after.base < before.base || after.base.0 - before.base.0 > before.file_bytes {
            return damage(&after.path, format!("it does not follow segment {}", before.number));
        }
    }
    match used.iter().rfind(|segment| segment.base <= start) {
        Some(_) => None,
        // The log may have been begun, and nobody told that it had been.
        None if start == Lsn(0) && used.first().is_none_or(|first| first.number == 1) => None,
        None => damage(folder, format!("the segment with position {start} is missing")),
    }
}

/// Reads one segment's records from `start` on. `next_base` is where the next one begins.
fn read_segment(
    segment: &Used,
    next_base: Option<Lsn>,
    start: Lsn,
    recovered: &mut Recovered,
    visit: &mut impl FnMut(Record<'_>) -> Result<()>,
) -> Result<Option<DamagedSpan>> {
    let bytes = segment.file.read_all().map_err(Error::io(&segment.path, "read"))?;
    let offset_of = |lsn: Lsn| (lsn.0 - segment.base.0 + SEGMENT_HEADER_BYTES) as usize;
    let rest_of = |lsn: Lsn| bytes.get(offset_of(lsn)..).unwrap_or_default();
    let damage = |lsn: Lsn, what: String| {
        let offset = offset_of(lsn) as u64;
        Some(DamagedSpan { lsn, path: segment.path.clone(), offset, what })
    };

    let mut lsn = start.max(segment.base);
    while next_base.is_none_or(|next| lsn < next) {
        let Some((record, taken)) = record::decode(lsn, rest_of(lsn)) else { break };
        // Groups that are replicated overwrite entries: their order is for their replicas to judge.
        let is_embedded = record.group == EMBEDDED_GROUP;
        if let Some(last) = recovered.end.last_index.filter(|_| is_embedded)
            && Some(record.index) != last.checked_add(u64::from(record.kind == RecordKind::Entry))
        {
            return Ok(damage(lsn, format!("index {} follows {last}", record.index)));
        }
        visit(record)?;
        recovered.records += 1;
        recovered.closed = record.kind == RecordKind::Close;
        recovered.end.goes_on_in = match record.kind {
            RecordKind::Next => record::decode_next(record.payload)
                .filter(|next| segment.number.checked_add(1) == Some(next.number)),
            _ => None,
        };
        if is_embedded {
            recovered.end.last_index = Some(record.index);
        }
        recovered.end.vouched = recovered.end.vouched.max(record.synced);
        recovered.end.last_timestamp = recovered.end.last_timestamp.max(record.timestamp);
        lsn = Lsn(lsn.0 + taken);
        recovered.end.next = lsn;
    }
    recovered.end.next = lsn;
    if let Some(summary) = recovered.segments.last_mut() {
        summary.end = lsn;
    }

    if let Some(next) = next_base {
        // The next segment was begun only after all of this one was durable.
        return Ok((lsn != next)
            .then(|| damage(lsn, "a record that the next segment vouches for is not whole".into()))
            .flatten());
    }
    let beyond = find_beyond(lsn, rest_of(lsn));
    if let Some(voucher) = beyond.voucher {
        return Ok(damage(
            lsn,
            format!("a record is not whole, and one at {voucher} says it was synced"),
        ));
    }
    // A crash leaves a file as long as it was made. What was cut off may have held records, and
    // nothing else would tell that they are gone.
    if segment.file_bytes < segment.made_bytes {
        let (left, made) = (segment.file_bytes, segment.made_bytes);
        return Ok(damage(lsn, format!("the file was cut: {left} of {made} bytes are left")));
    }
    recovered.torn_bytes = beyond.end.0 - lsn.0;
    recovered.end.remains_end = if beyond.end > lsn { offset_of(beyond.end) as u64 } else { 0 };
    Ok(None)
}

/// What lies beyond the end of the log.
struct Beyond {
    /// A later record that vouches for the position, if there is one.
    voucher: Option<Lsn>,
    /// Where the last thing that looks like one of our records ends.
    end: Lsn,
}

/// Looks for records after the one at `end` that is not whole. `rest` begins there.
fn find_beyond(end: Lsn, rest: &[u8]) -> Beyond {
    let mut beyond = Beyond { voucher: None, end };
    for offset in (0..rest.len()).step_by(record::ALIGN as usize) {
        let lsn = Lsn(end.0 + offset as u64);
        let Some(header) = record::decode_header(lsn, &rest[offset..]) else { continue };
        if header.synced > end {
            beyond.voucher.get_or_insert(lsn);
        }
        let until = offset as u64 + record::record_bytes(header.payload_len);
        beyond.end = beyond.end.max(Lsn(end.0 + until.min(rest.len() as u64)));
    }
    beyond
}

/// Overwrites what torn writes left beyond the end of the log with zeros.
///
/// # Durability
/// The zeros are durable when this returns.
pub(super) fn wipe_remains(disk: &dyn Disk, recovered: &Recovered) -> Result<()> {
    let Some(last) = recovered.segments.last() else { return Ok(()) };
    let from = recovered.end.next.0 - last.base.0 + SEGMENT_HEADER_BYTES;
    let until = recovered.end.remains_end.next_multiple_of(WRITE_ALIGN as u64).min(last.file_bytes);
    if recovered.end.remains_end == 0 || until <= from {
        return Ok(());
    }
    let file = disk.open(&last.path, OpenMode::Write).map_err(Error::io(&last.path, "open"))?;
    let zeros = vec![0; (until - from) as usize];
    file.write_at(&zeros, from).map_err(Error::io(&last.path, "write"))?;
    file.sync().map_err(Error::io(&last.path, "sync"))
}

/// Writes the end of the log again, from where no later record vouches for it.
///
/// It was read, and yet it may not be on the disk: a process that died, or whose write failed, can
/// leave bytes that are only in the system's memory. The next record will vouch for them. To sync
/// them would not do, because a system forgets that a page is not written once a sync has failed;
/// and to write the same bytes in place cannot hurt them.
///
/// # Durability
/// All that was read is durable when this returns.
pub(super) fn make_durable(disk: &dyn Disk, recovered: &Recovered) -> Result<()> {
    let Some(last) = recovered.segments.last() else { return Ok(()) };
    let offset_of = |lsn: Lsn| lsn.0 - last.base.0 + SEGMENT_HEADER_BYTES;
    let align = WRITE_ALIGN as u64;
    // With nothing vouched for in this segment, its header is not either.
    let from = match recovered.end.vouched > last.base {
        true => offset_of(recovered.end.vouched) / align * align,
        false => 0,
    };
    let until = offset_of(recovered.end.next).next_multiple_of(align);
    if from >= until {
        return Ok(());
    }
    let file =
        disk.open(&last.path, OpenMode::WriteDurable).map_err(Error::io(&last.path, "open"))?;
    let mut bytes = vec![0; (until - from) as usize];
    let read = file.read_at(&mut bytes, from).map_err(Error::io(&last.path, "read"))?;
    let mut buffer = AlignedBuffer::with_capacity(bytes.len());
    buffer.extend_from_slice(&bytes[..read]);
    buffer.pad_to(bytes.len());
    file.write_durable(&buffer, from).map_err(Error::io(&last.path, "write"))
}

/// Returns where the newest unbroken row of segments begins; zero if there is none. For when
/// nothing else tells where the log is needed from: what stands before a gap was released.
pub(crate) fn oldest_position(disk: &dyn Disk, folder: &Path) -> Result<Lsn> {
    let mut oldest = Lsn(0);
    let mut follows = None;
    for number in list_segments(disk, folder)? {
        let path = folder.join(segment_name(number));
        let file = disk.open(&path, OpenMode::Read).map_err(Error::io(&path, "open"))?;
        if let Some(base) = sound_base(&*file, number).map_err(Error::io(&path, "read"))? {
            if follows != Some(number) {
                oldest = base;
            }
            follows = Some(number + 1);
        }
    }
    Ok(oldest)
}
