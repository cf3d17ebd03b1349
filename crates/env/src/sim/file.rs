//! One simulated file: what is durable, what programs see, and the changes between the two.
//!
//! # Invariants
//! * `durable` with all of `unsynced` applied in order is `current`.
//! * No unsynced write covers bytes that became durable later than it was made.
//! * Doubtful writes are the ones that a failed sync dropped: no later sync makes them durable.

use std::ops::Range;

use super::content::{Content, split_at_multiples};
use crate::disk::SECTOR_BYTES;
use crate::random::SeededRandom;

/// Chances, in a thousand, that a sector of a torn write is kept; each write draws one of them.
/// With one chance for all, a long write that survives whole beside one that is lost would never
/// occur.
const KEPT_PER_MILLE: [u64; 5] = [0, 100, 500, 900, 1000];

#[derive(Default)]
pub(super) struct SimFile {
    durable: Content,
    current: Content,
    unsynced: Vec<Change>,
    /// Open files of this inode; while there are any, it outlives its name.
    pub(super) handles: u32,
}

enum Change {
    Write(Write),
    SetLen(u64),
}

struct Write {
    bytes: Vec<u8>,
    offset: u64,
    is_doubtful: bool,
}

impl SimFile {
    /// Returns a file that is durable as it is.
    pub(super) fn durable(content: Content) -> SimFile {
        SimFile { durable: content.clone(), current: content, unsynced: Vec::new(), handles: 0 }
    }

    /// Replaces everything, durably. Open files see the new bytes.
    pub(super) fn replace_durably(&mut self, content: Content) {
        *self = SimFile { handles: self.handles, ..SimFile::durable(content) };
    }

    pub(super) fn current(&self) -> &Content {
        &self.current
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        self.push_write(bytes, offset, false);
    }

    /// Writes bytes whose durable write failed: seen by readers, never known to be on the disk.
    pub(super) fn write_doubtful(&mut self, bytes: &[u8], offset: u64) {
        self.push_write(bytes, offset, true);
    }

    fn push_write(&mut self, bytes: &[u8], offset: u64, is_doubtful: bool) {
        if !bytes.is_empty() {
            self.current.write(bytes, offset);
            self.unsynced.push(Change::Write(Write { bytes: bytes.to_vec(), offset, is_doubtful }));
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.current.set_len(len);
        self.unsynced.push(Change::SetLen(len));
    }

    /// Writes bytes and makes them durable, and the length that is needed to read them. Nothing
    /// else becomes durable, except when the file was cut below these bytes before: there is one
    /// length field, so a length that holds them holds the cut as well.
    pub(super) fn write_durable(&mut self, bytes: &[u8], offset: u64) {
        let end = offset + bytes.len() as u64;
        if self.unsynced.iter().any(|change| matches!(change, Change::SetLen(len) if *len < end)) {
            let (durable, mut kept) = (&mut self.durable, Vec::new());
            for change in self.unsynced.drain(..) {
                match change {
                    Change::SetLen(len) => cut(durable, &mut kept, len),
                    Change::Write(write) => kept.push(Change::Write(write)),
                }
            }
            self.unsynced = kept;
        }
        self.current.write(bytes, offset);
        supersede(&mut self.unsynced, offset..end);
        self.durable.write(bytes, offset);
    }

    /// Makes everything durable but doubtful writes; the length is durable in any case.
    pub(super) fn sync(&mut self) {
        let (durable, mut doubtful) = (&mut self.durable, Vec::new());
        for change in self.unsynced.drain(..) {
            match change {
                Change::SetLen(len) => cut(durable, &mut doubtful, len),
                Change::Write(write) if write.is_doubtful => doubtful.push(Change::Write(write)),
                Change::Write(write) => {
                    supersede(&mut doubtful, write.range());
                    durable.write(&write.bytes, write.offset);
                }
            }
        }
        durable.set_len(self.current.len());
        self.unsynced = doubtful;
    }

    /// A sync that failed: the system forgets that these bytes are not on the disk.
    pub(super) fn fail_sync(&mut self) {
        for change in &mut self.unsynced {
            if let Change::Write(write) = change {
                write.is_doubtful = true;
            }
        }
    }

    /// Inverts a bit wherever the byte is held.
    pub(super) fn flip(&mut self, at: u64, bit: u8) {
        self.durable.flip(at, bit);
        self.current.flip(at, bit);
        for change in &mut self.unsynced {
            if let Change::Write(write) = change
                && write.range().contains(&at)
            {
                write.bytes[(at - write.offset) as usize] ^= 1 << bit;
            }
        }
    }

    /// What a crash leaves if all unsynced changes are lost.
    pub(super) fn crash_lost(&self) -> Content {
        self.durable.clone()
    }

    /// What a crash leaves if all unsynced changes reached the disk.
    pub(super) fn crash_kept(&self) -> Content {
        self.current.clone()
    }

    /// What a crash may leave: of each unsynced write any sectors, of the changes of the length
    /// any.
    pub(super) fn crash_torn(&self, random: &mut SeededRandom) -> Content {
        let mut content = self.durable.clone();
        // Counted apart from the content: a sector may reach its place behind a length that is
        // lost, and be seen only if a later length is kept.
        let mut len = content.len();
        for change in &self.unsynced {
            match change {
                Change::SetLen(new_len) => {
                    if random.chance(500) {
                        len = *new_len;
                        content.set_len(len);
                    }
                }
                Change::Write(write) => {
                    let draw = random.below(KEPT_PER_MILLE.len() as u64);
                    let kept_per_mille = KEPT_PER_MILLE[draw as usize];
                    for sector in split_at_multiples(write.range(), SECTOR_BYTES as u64) {
                        if random.chance(kept_per_mille) {
                            content.write(write.part(&sector), sector.start);
                        }
                    }
                    if write.range().end > len && random.chance(500) {
                        len = write.range().end;
                    }
                }
            }
        }
        content.set_len(len);
        content
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        let mut content = self.durable.clone();
        for change in &self.unsynced {
            match change {
                Change::SetLen(len) => content.set_len(*len),
                Change::Write(write) => content.write(&write.bytes, write.offset),
            }
        }
        assert!(content.to_vec() == self.current.to_vec(), "the changes do not lead to the view");
    }
}

/// Makes a length durable. What earlier writes put behind it is gone for good.
fn cut(durable: &mut Content, earlier: &mut Vec<Change>, len: u64) {
    durable.set_len(len);
    supersede(earlier, len..u64::MAX);
}

/// Removes a range from unsynced writes, splitting the ones that reach over it.
fn supersede(changes: &mut Vec<Change>, range: Range<u64>) {
    let is_hit = |change: &Change| match change {
        Change::Write(write) => write.overlaps(&range),
        Change::SetLen(_) => false,
    };
    if !changes.iter().any(is_hit) {
        return;
    }
    for change in std::mem::take(changes) {
        match change {
            Change::Write(write) if write.overlaps(&range) => {
                let Range { start, end } = write.range();
                for rest in [start..range.start.max(start), range.end.min(end)..end] {
                    if !rest.is_empty() {
                        let bytes = write.part(&rest).to_vec();
                        changes.push(Change::Write(Write { bytes, offset: rest.start, ..write }));
                    }
                }
            }
            untouched => changes.push(untouched),
        }
    }
}

impl Write {
    fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.bytes.len() as u64
    }

    fn overlaps(&self, range: &Range<u64>) -> bool {
        self.range().start < range.end && range.start < self.range().end
    }

    /// Returns the bytes of a range of the file that lies in this write.
    fn part(&self, range: &Range<u64>) -> &[u8] {
        &self.bytes[(range.start - self.offset) as usize..(range.end - self.offset) as usize]
    }
}
