//! Group commit by leader and followers: the queue of the log. The drawing is in [`super`].
//!
//! ```text
//!        append (short, under the lock)             lead (one at a time, without the lock)
//!   record ──► filling batch ────── taken by ──────► write_durable, piece by piece ──► durable
//!              [piece][piece]       the leader
//! ```
//!
//! A batch is a list of pieces, one for each segment it touches; nearly always there is one. A
//! piece begins on an aligned offset, so its first block repeats the bytes of the last block that
//! was written, with the new records after them: rewriting the same bytes in place cannot hurt
//! them, since a disk writes whole sectors.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use base::{Timestamp, checksum};
use env::{AlignedBuffer, Disk, WRITE_ALIGN};

use super::reader::{Recovered, SegmentSummary, make_durable, wipe_remains};
use super::record::{self, EMBEDDED_GROUP, RecordKind};
use super::segment::{SEGMENT_HEADER_BYTES, Segment, encode_segment_header};
use super::{Lsn, segment_name};
use crate::error::{Error, Result};
use crate::sync::{
    AtomicU64, Condvar, Mutex, MutexGuard, Ordering, Thread, current_thread, lock, park, wait,
    yield_now,
};

/// How the log lays out its files.
#[derive(Debug, Clone)]
pub struct WalOptions {
    /// Length of the first segment of a new database, in bytes. Small, so that a small database
    /// stays small; each further segment is twice as long as the one before.
    pub segment_bytes_min: u64,
    /// Length at which segments stop growing, in bytes. Longer ones are rolled less often, shorter
    /// ones give space back sooner.
    pub segment_bytes_max: u64,
    /// How many released segments are kept for reuse. One is being filled ahead of the writer;
    /// more only hold space.
    pub spares_max: usize,
}

impl Default for WalOptions {
    fn default() -> WalOptions {
        WalOptions { segment_bytes_min: 1 << 20, segment_bytes_max: 64 << 20, spares_max: 1 }
    }
}

/// Counts since the log was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WalStats {
    /// Records appended.
    pub records: u64,
    /// Bytes of records appended.
    pub bytes: u64,
    /// Durable writes made: each is one sync.
    pub syncs: u64,
    /// Bytes written to the disk, repeated blocks included.
    pub bytes_written: u64,
    /// Segments in use.
    pub segments: u64,
}

/// The log, open for appending. Shared by all threads.
pub struct Wal {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    database_id: [u8; 16],
    options: WalOptions,
    queue: Mutex<Queue>,
    /// Tells a writer who needs the next segment that the background is done preparing it.
    preparation: Condvar,
    /// All of the stream below this is on disk.
    durable: AtomicU64,
    /// Where in the stream the active segment is half full; never, once the next one is on its way.
    prepare_at: AtomicU64,
}

struct Queue {
    /// Where the next record begins.
    next: Lsn,
    /// The index of the last record.
    last_index: u64,
    /// True if the last record is the mark of a clean close.
    is_marked: bool,
    /// The batch that is filling.
    filling: Batch,
    /// Who sleeps until the log is durable up to a position. Each is woken by itself: to wake all
    /// through one condition variable makes them queue up behind its lock, which doubles the
    /// latency at 64 threads.
    sleeping: Vec<(Lsn, Thread)>,
    /// True while somebody writes.
    leading: bool,
    /// How many records were taken to be written so far, and how many of them in the last batch.
    records_taken: u64,
    served_last: u64,
    /// What ended the log's life, if anything did.
    failed: Option<String>,
    /// The segment that records go to.
    active: Arc<Segment>,
    /// Where the active segment's records begin in the stream.
    active_base: Lsn,
    /// The next segment, prepared ahead.
    prepared: Option<Segment>,
    /// True while the background prepares one.
    preparing: bool,
    /// Older segments still needed.
    older: VecDeque<SegmentSummary>,
    /// Segments that a checkpoint released and that may be used again.
    spares: Vec<(PathBuf, u64)>,
    /// A written-out buffer, for the next batch.
    spare_buffer: Option<AlignedBuffer>,
    stats: WalStats,
}

/// What is appended, and under which index.
enum Appended {
    /// A record of the embedded database: the log counts its entries.
    Embedded { kind: RecordKind, timestamp: Timestamp },
    /// A record of a replicated group, which counts by itself.
    Replicated { kind: RecordKind, group: u64, term: u64, index: u64 },
}

/// Records that will be written together.
struct Batch {
    pieces: Vec<Piece>,
    /// False while the pieces only repeat what is on disk.
    dirty: bool,
}

/// The part of a batch that goes to one segment.
struct Piece {
    segment: Arc<Segment>,
    /// Where in the file the buffer goes; a multiple of the alignment.
    offset: u64,
    buffer: AlignedBuffer,
}

/// Where the stream begins. Not at zero: that stands for a log that was never begun.
const FIRST: Lsn = Lsn(record::ALIGN);

/// What the record takes that names the next segment, in bytes: kept free in each.
const NEXT_RECORD_BYTES: u64 = record::record_bytes(record::NEXT_BYTES);

/// Memory of a buffer that is kept for the next batch, in bytes; larger ones are given back.
const SPARE_BUFFER_BYTES_MAX: usize = 4 << 20;

impl Wal {
    /// Opens the log for appending where reading it ended, and cleans up what torn writes left.
    ///
    /// A log that was never begun is begun, durably. `last_index` is that of the last record, also
    /// if a checkpoint has since released it.
    ///
    /// # Errors
    /// The system's errors.
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        database_id: [u8; 16],
        options: WalOptions,
        recovered: &Recovered,
        last_index: u64,
    ) -> Result<Wal> {
        wipe_remains(&*disk, recovered)?;
        make_durable(&*disk, recovered)?;
        let next = recovered.end.next.max(FIRST);
        let goes_on_in = recovered.end.goes_on_in.map(|next| next.number);
        for &number in &recovered.unused {
            // One that the log says was made has to stay.
            if Some(number) == goes_on_in {
                continue;
            }
            let path = folder.join(segment_name(number));
            disk.remove(&path).map_err(Error::io(&path, "remove"))?;
        }
        let (active, active_base, filling) = match recovered.segments.last() {
            Some(_) if goes_on_in.is_some() => {
                let number = goes_on_in.unwrap_or_default();
                let segment = Arc::new(Segment::open(&*disk, &folder, number)?);
                let batch = Batch::beginning(&segment, next, database_id, None);
                (segment, next, batch)
            }
            Some(last) => {
                let segment = Arc::new(Segment::open(&*disk, &folder, last.number)?);
                let batch = Batch::resuming(&segment, next.0 - last.base.0 + SEGMENT_HEADER_BYTES)?;
                (segment, last.base, batch)
            }
            None => {
                let bytes = options.segment_bytes_min;
                let segment = Arc::new(Segment::prepare(&*disk, &folder, 1, bytes, None)?);
                let mut batch = Batch::beginning(&segment, next, database_id, None);
                // Durable at once: from now on a database without a log has lost it.
                batch.write()?;
                let batch = batch.successor(None);
                (segment, next, batch)
            }
        };
        let older_len = match goes_on_in {
            Some(_) => recovered.segments.len(),
            None => recovered.segments.len().saturating_sub(1),
        };
        let older: VecDeque<_> = recovered.segments[..older_len].iter().cloned().collect();
        let stats = WalStats { segments: older.len() as u64 + 1, ..WalStats::default() };
        let prepare_at = AtomicU64::new(active_base.0 + active.capacity() / 2);
        let queue = Queue {
            next,
            last_index,
            is_marked: recovered.closed,
            filling,
            sleeping: Vec::new(),
            leading: false,
            records_taken: 0,
            served_last: 0,
            failed: None,
            active,
            active_base,
            prepared: None,
            preparing: false,
            older,
            spares: Vec::new(),
            spare_buffer: None,
            stats,
        };
        Ok(Wal {
            disk,
            folder,
            database_id,
            options,
            queue: Mutex::new(queue),
            preparation: Condvar::new(),
            durable: AtomicU64::new(next.0),
            prepare_at,
        })
    }

    /// Appends one entry and returns where it ends in the stream. The caller appends in the order
    /// of timestamps. `payload_crc` is [`base::checksum::of`] the payload, taken before any lock.
    ///
    /// # Errors
    /// `DiskFull` if a new segment is needed and there is no space for it: nothing was appended,
    /// and the call may be repeated. `LogFailed` once a write has failed.
    ///
    /// # Durability
    /// None until [`Wal::sync_to`] the returned position.
    pub fn append(&self, timestamp: Timestamp, payload: &[u8], payload_crc: u32) -> Result<Lsn> {
        let what = Appended::Embedded { kind: RecordKind::Entry, timestamp };
        self.append_record(what, payload, payload_crc)
    }

    /// Appends a record of a replicated group and returns where it ends in the stream.
    ///
    /// # Errors
    /// As [`Wal::append`].
    ///
    /// # Durability
    /// None until [`Wal::sync_to`] the returned position.
    ///
    /// # Panics
    /// If the group is that of the embedded database, whose indexes the log itself counts.
    pub fn append_of_group(
        &self,
        kind: RecordKind,
        group: u64,
        term: u64,
        index: u64,
        payload: &[u8],
    ) -> Result<Lsn> {
        assert_ne!(group, EMBEDDED_GROUP, "the embedded group's records are appended as such");
        let what = Appended::Replicated { kind, group, term, index };
        self.append_record(what, payload, checksum::of(&[payload]))
    }

    fn append_record(&self, what: Appended, payload: &[u8], payload_crc: u32) -> Result<Lsn> {
        let mut queue = lock(&self.queue);
        if let Some(cause) = &queue.failed {
            return Err(Error::LogFailed { cause: cause.clone() });
        }
        let bytes = record::record_bytes(payload.len());
        while !queue.has_room_for(bytes + NEXT_RECORD_BYTES) {
            // Creating the segment twice would be worse than waiting for the one being made.
            if queue.preparing {
                queue = wait(&self.preparation, queue);
            } else {
                self.roll(&mut queue, bytes + NEXT_RECORD_BYTES)?;
            }
        }
        let durable = self.durable();
        Ok(queue.push_record(what, payload, payload_crc, durable))
    }

    /// Returns when the stream is durable up to a position: leads if nobody does, waits otherwise.
    ///
    /// # Errors
    /// `LogFailed` if a write or sync failed: what was not durable before will never be reported
    /// so.
    ///
    /// # Durability
    /// Everything appended below `position` survives a crash once this returns.
    pub fn sync_to(&self, position: Lsn) -> Result<()> {
        self.sync_to_then(position, &|| ())
    }

    /// As [`Wal::sync_to`]; whoever leads runs `on_durable` after each write, before the followers
    /// are woken: what is to be done once for all of them.
    ///
    /// # Errors
    /// As [`Wal::sync_to`].
    pub fn sync_to_then(&self, position: Lsn, on_durable: &dyn Fn()) -> Result<()> {
        let mut is_listed = false;
        loop {
            if self.durable() >= position {
                return Ok(());
            }
            let mut queue = lock(&self.queue);
            // Under the lock: whoever wrote has taken the list of those to wake under it.
            if self.durable() >= position {
                return Ok(());
            }
            if let Some(cause) = &queue.failed {
                return Err(Error::LogFailed { cause: cause.clone() });
            }
            if !queue.leading {
                self.lead(queue, on_durable);
                continue;
            }
            // Off the list if it was woken to lead and somebody else came first.
            if !is_listed || !queue.lists_current_thread() {
                queue.sleeping.push((position, current_thread()));
                is_listed = true;
            }
            drop(queue);
            park();
        }
    }

    /// Takes the filling batch, writes it, and tells everybody.
    fn lead<'a>(&'a self, mut queue: MutexGuard<'a, Queue>, on_durable: &dyn Fn()) {
        queue.leading = true;
        let mut queue = self.gather(queue);
        let until = queue.next;
        queue.served_last = queue.stats.records - queue.records_taken;
        queue.records_taken = queue.stats.records;
        let spare = queue.spare_buffer.take();
        let successor = queue.filling.successor(spare);
        let mut batch = std::mem::replace(&mut queue.filling, successor);
        drop(queue);

        let written = batch.write();

        let mut queue = lock(&self.queue);
        queue.leading = false;
        match written {
            Ok(bytes) => {
                self.durable.store(until.0, Ordering::Release);
                queue.stats.syncs += 1;
                queue.stats.bytes_written += bytes;
                queue.spare_buffer = batch.into_spare_buffer();
            }
            Err(error) => queue.failed = Some(error.to_string()),
        }
        let ends = queue.failed.is_some();
        let served: Vec<_> =
            queue.sleeping.extract_if(.., |(position, _)| ends || *position <= until).collect();
        let next_leader = queue.sleeping.pop();
        drop(queue);
        // The disk first: the next leader is on its way while this one tidies up.
        if let Some((_, next_leader)) = next_leader {
            next_leader.unpark();
        }
        on_durable();
        served.into_iter().for_each(|(_, follower)| follower.unpark());
    }

    /// Lets those whose commits were just acknowledged come back with their next ones, so that they
    /// share this write instead of waiting for the one after it.
    ///
    /// There is no timer: the leader gives up the processor as long as that makes the batch grow,
    /// and a few times more. If nobody else wants to run, that costs about a microsecond.
    fn gather<'a>(&'a self, mut queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        /// Times in a row that giving up the processor may bring nothing.
        const PATIENCE: u32 = 4;
        if queue.served_last < 2 {
            return queue;
        }
        let wanted = queue.stats.records + queue.served_last;
        let mut patience = PATIENCE;
        while patience > 0 && queue.stats.records < wanted {
            let before = queue.stats.records;
            drop(queue);
            yield_now();
            queue = lock(&self.queue);
            patience = if queue.stats.records > before { PATIENCE } else { patience - 1 };
        }
        queue
    }

    /// Begins the next segment, with room for a record of `bytes`.
    fn roll(&self, queue: &mut Queue, bytes: u64) -> Result<()> {
        let segment = match queue.prepared.take() {
            Some(prepared) if prepared.capacity() >= bytes => prepared,
            unfit => {
                // The background did not keep up, or this record is longer than any segment.
                let number = queue.active.number + 1;
                if let Some(unfit) = unfit {
                    let path = unfit.path.clone();
                    self.disk.remove(&path).map_err(Error::io(&path, "remove"))?;
                }
                let bytes = (SEGMENT_HEADER_BYTES + bytes).next_multiple_of(WRITE_ALIGN as u64);
                let bytes = bytes.max(self.next_segment_bytes(queue));
                Segment::prepare(&*self.disk, &self.folder, number, bytes, None)?
            }
        };
        // A segment of an earlier program may be fuller than that.
        if queue.has_room_for(NEXT_RECORD_BYTES) {
            let next = record::encode_next(segment.number, segment.file_bytes);
            let crc = checksum::of(&[&next]);
            let what = Appended::Embedded { kind: RecordKind::Next, timestamp: Timestamp::ZERO };
            queue.push_record(what, &next, crc, self.durable());
        }
        let base = queue.next;
        let old = std::mem::replace(&mut queue.active, Arc::new(segment));
        queue.older.push_back(SegmentSummary {
            number: old.number,
            base: queue.active_base,
            end: base,
            file_bytes: old.file_bytes,
            path: old.path.clone(),
        });
        queue.active_base = base;
        queue.stats.segments += 1;
        let prepare_at = base.0 + queue.active.capacity() / 2;
        self.prepare_at.store(prepare_at, Ordering::Relaxed);
        let spare =
            if queue.filling.dirty { None } else { queue.filling.pieces.pop().map(|p| p.buffer) };
        let mut begun = Batch::beginning(&queue.active, base, self.database_id, spare);
        queue.filling.pieces.append(&mut begun.pieces);
        Ok(())
    }

    fn next_segment_bytes(&self, queue: &Queue) -> u64 {
        let twice = queue.active.file_bytes.saturating_mul(2);
        twice.clamp(self.options.segment_bytes_min, self.options.segment_bytes_max)
    }

    /// Returns true if the next segment should be prepared now: the active one is half full, and
    /// the log has reached `position`.
    pub fn wants_segment(&self, position: Lsn) -> bool {
        position.0 >= self.prepare_at.load(Ordering::Relaxed)
    }

    /// Prepares the next segment, so that the writer who needs it does not have to. Called from the
    /// background; does nothing if there is no need.
    ///
    /// # Errors
    /// The system's errors, `DiskFull` among them; the log goes on in its active segment.
    pub fn prepare_segment(&self) -> Result<()> {
        let (number, bytes, spare) = {
            let mut queue = lock(&self.queue);
            if queue.preparing || !queue.wants_segment() {
                return Ok(());
            }
            queue.preparing = true;
            self.prepare_at.store(u64::MAX, Ordering::Relaxed);
            let spare = queue.spares.pop();
            (queue.active.number + 1, self.next_segment_bytes(&queue), spare)
        };
        let (bytes, old) = spare.map_or((bytes, None), |(old, bytes)| (bytes, Some(old)));
        let segment = Segment::prepare(&*self.disk, &self.folder, number, bytes, old);
        let mut queue = lock(&self.queue);
        queue.preparing = false;
        self.preparation.notify_all();
        queue.prepared = Some(segment?);
        Ok(())
    }

    /// Releases the segments that end at or below a position: a checkpoint covers them. Some are
    /// kept for reuse, the rest is deleted.
    ///
    /// # Errors
    /// The system's errors; the segments stay then, and the next call tries again.
    pub fn release_before(&self, position: Lsn) -> Result<()> {
        loop {
            let path = {
                let mut queue = lock(&self.queue);
                // Where the stream goes on is told by the next segment's header alone, and that is
                // written with its first records.
                let durable = self.durable();
                let Some(oldest) = queue.older.front() else { return Ok(()) };
                if oldest.end > position || oldest.end >= durable {
                    return Ok(());
                }
                let oldest = oldest.clone();
                if queue.spares.len() < self.options.spares_max
                    && oldest.file_bytes >= self.next_segment_bytes(&queue)
                {
                    queue.forget_oldest();
                    queue.spares.push((oldest.path, oldest.file_bytes));
                    continue;
                }
                oldest.path
            };
            self.disk.remove(&path).map_err(Error::io(&path, "remove"))?;
            lock(&self.queue).forget_oldest();
        }
    }

    /// Appends the mark of a clean close, if anything came after the last one, and makes everything
    /// durable.
    ///
    /// # Errors
    /// As [`Wal::append`] and [`Wal::sync_to`].
    pub fn close(&self) -> Result<()> {
        let (is_marked, next) = {
            let queue = lock(&self.queue);
            (queue.is_marked, queue.next)
        };
        if is_marked {
            return self.sync_to(next);
        }
        let what = Appended::Embedded { kind: RecordKind::Close, timestamp: Timestamp::ZERO };
        let end = self.append_record(what, &[], checksum::of(&[]))?;
        self.sync_to(end)
    }

    /// Returns the position up to which everything is on disk.
    pub fn durable(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    /// Returns where the oldest record that is left begins, or would.
    pub fn start(&self) -> Lsn {
        let queue = lock(&self.queue);
        queue.older.front().map_or(queue.active_base, |oldest| oldest.base)
    }

    /// Returns where the next record will begin.
    pub fn next(&self) -> Lsn {
        lock(&self.queue).next
    }

    /// Returns the index of the last record.
    pub fn last_index(&self) -> u64 {
        lock(&self.queue).last_index
    }

    /// Returns the counts since the log was opened.
    pub fn stats(&self) -> WalStats {
        lock(&self.queue).stats
    }

    /// Returns what ended the log's life, if anything did.
    pub fn failure(&self) -> Option<String> {
        lock(&self.queue).failed.clone()
    }
}

impl Queue {
    fn lists_current_thread(&self) -> bool {
        let id = current_thread().id();
        self.sleeping.iter().any(|(_, thread)| thread.id() == id)
    }

    fn has_room_for(&self, bytes: u64) -> bool {
        self.next.0 + bytes <= self.active_base.0 + self.active.capacity()
    }

    /// Adds a record that there is room for to the filling batch; returns where it ends.
    fn push_record(
        &mut self,
        what: Appended,
        payload: &[u8],
        payload_crc: u32,
        durable: Lsn,
    ) -> Lsn {
        let bytes = record::record_bytes(payload.len());
        let (kind, group, term, index, timestamp) = match what {
            Appended::Embedded { kind, timestamp } => {
                self.last_index += u64::from(kind == RecordKind::Entry);
                (kind, EMBEDDED_GROUP, 1, self.last_index, timestamp)
            }
            Appended::Replicated { kind, group, term, index } => {
                (kind, group, term, index, Timestamp::ZERO)
            }
        };
        let header = record::encode_header(
            self.next,
            kind,
            group,
            term,
            index,
            durable,
            timestamp,
            payload.len(),
            payload_crc,
        );
        let piece = self.filling.last_piece();
        let piece_end = piece.buffer.len() + bytes as usize;
        piece.buffer.extend_from_slice(&header);
        piece.buffer.extend_from_slice(payload);
        piece.buffer.pad_to(piece_end);
        self.filling.dirty = true;
        self.is_marked = kind == RecordKind::Close;
        self.next = Lsn(self.next.0 + bytes);
        self.stats.records += u64::from(kind != RecordKind::Next);
        self.stats.bytes += bytes;
        self.next
    }

    fn forget_oldest(&mut self) {
        self.older.pop_front();
        self.stats.segments -= 1;
    }

    fn wants_segment(&self) -> bool {
        self.prepared.is_none()
            && self.failed.is_none()
            && self.next.0 - self.active_base.0 > self.active.capacity() / 2
    }
}

impl Batch {
    /// A batch that goes on in a segment at a file offset; reads the block it falls into.
    fn resuming(segment: &Arc<Segment>, file_offset: u64) -> Result<Batch> {
        let offset = file_offset - file_offset % WRITE_ALIGN as u64;
        let mut tail = vec![0; (file_offset - offset) as usize];
        let read = segment.file.read_at(&mut tail, offset);
        read.map_err(Error::io(&segment.path, "read"))?;
        let mut buffer = AlignedBuffer::with_capacity(WRITE_ALIGN);
        buffer.extend_from_slice(&tail);
        let pieces = vec![Piece { segment: segment.clone(), offset, buffer }];
        Ok(Batch { pieces, dirty: false })
    }

    /// A batch that begins a segment: its header is written with the first records.
    fn beginning(
        segment: &Arc<Segment>,
        base: Lsn,
        database_id: [u8; 16],
        spare: Option<AlignedBuffer>,
    ) -> Batch {
        let mut buffer = spare.unwrap_or_default();
        buffer.clear();
        let Segment { number, file_bytes, .. } = **segment;
        buffer.extend_from_slice(&encode_segment_header(number, base, database_id, file_bytes));
        Batch { pieces: vec![Piece { segment: segment.clone(), offset: 0, buffer }], dirty: false }
    }

    /// The batch after this one: it repeats the last, half-filled block.
    fn successor(&mut self, spare: Option<AlignedBuffer>) -> Batch {
        let last = self.last_piece();
        let whole = last.buffer.len() - last.buffer.len() % WRITE_ALIGN;
        let mut buffer = spare.unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(&last.buffer.as_slice()[whole..]);
        let segment = last.segment.clone();
        let offset = last.offset + whole as u64;
        Batch { pieces: vec![Piece { segment, offset, buffer }], dirty: false }
    }

    fn last_piece(&mut self) -> &mut Piece {
        let last = self.pieces.len() - 1;
        &mut self.pieces[last]
    }

    /// Writes all pieces in order, each durable before the next; returns the bytes written.
    fn write(&mut self) -> Result<u64> {
        let mut bytes = 0;
        for Piece { segment, offset, buffer } in &mut self.pieces {
            buffer.pad_to(buffer.len().next_multiple_of(WRITE_ALIGN));
            let written = segment.file.write_durable(buffer, *offset);
            written.map_err(Error::io(&segment.path, "write"))?;
            bytes += buffer.len() as u64;
        }
        Ok(bytes)
    }

    fn into_spare_buffer(mut self) -> Option<AlignedBuffer> {
        self.pieces.pop().map(|piece| piece.buffer).filter(|b| b.len() <= SPARE_BUFFER_BYTES_MAX)
    }
}
