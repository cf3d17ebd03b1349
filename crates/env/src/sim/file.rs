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

/// Chances, in a thousand, that a sector of a torn write is kept; each write draws one of them. With
/// one chance for all, a long write that survives whole beside one that is lost would never occur.
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
    Write { bytes: Vec<u8>, offset: u64, is_doubtful: bool },
    SetLen(u64),
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
            self.unsynced.push(Change::Write { bytes: bytes.to_vec(), offset, is_doubtful });
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
                    write => kept.push(write),
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
                Change::Write { is_doubtful: true, .. } => doubtful.push(change),
                Change::Write { bytes, offset, .. } => {
                    supersede(&mut doubtful, offset..offset + bytes.len() as u64);
                    durable.write(&bytes, offset);
                }
            }
        }
        durable.set_len(self.current.len());
        self.unsynced = doubtful;
    }

    /// A sync that failed: the system forgets that these bytes are not on the disk.
    pub(super) fn fail_sync(&mut self) {
        for change in &mut self.unsynced {
            if let Change::Write { is_doubtful, .. } = change {
                *is_doubtful = true;
            }
        }
    }

    /// Inverts a bit wherever the byte is held.
    pub(super) fn flip(&mut self, at: u64, bit: u8) {
        self.durable.flip(at, bit);
        self.current.flip(at, bit);
        for change in &mut self.unsynced {
            if let Change::Write { bytes, offset, .. } = change
                && let Some(index) = at.checked_sub(*offset)
                && let Some(byte) = bytes.get_mut(index as usize)
            {
                *byte ^= 1 << bit;
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

    /// What a crash may leave: of each unsynced write any sectors, of the changes of the length any.
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
                Change::Write { bytes, offset, .. } => {
                    let end = offset + bytes.len() as u64;
                    let kept_per_mille = KEPT_PER_MILLE[random.below(5) as usize];
                    for sector in split_at_multiples(*offset..end, SECTOR_BYTES as u64) {
                        if random.chance(kept_per_mille) {
                            let from = (sector.start - offset) as usize;
                            let until = (sector.end - offset) as usize;
                            content.write(&bytes[from..until], sector.start);
                        }
                    }
                    if end > len && random.chance(500) {
                        len = end;
                    }
                }
            }
        }
        content.set_len(len);
        content
    }

    #[cfg(test)]
    #[expect(dead_code)]
    pub(super) fn check_invariants(&self) {
        let mut content = self.durable.clone();
        for change in &self.unsynced {
            match change {
                Change::SetLen(len) => content.set_len(*len),
                Change::Write { bytes, offset, .. } => content.write(bytes, *offset),
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
    let overlaps = |change: &Change| match change {
        Change::Write { bytes, offset, .. } => {
            *offset < range.end && range.start < offset + bytes.len() as u64
        }
        Change::SetLen(_) => false,
    };
    if !changes.iter().any(overlaps) {
        return;
    }
    for change in std::mem::take(changes) {
        match change {
            Change::Write { bytes, offset, is_doubtful }
                if overlaps_range(&bytes, offset, &range) =>
            {
                let end = offset + bytes.len() as u64;
                for rest in [offset..range.start.max(offset), range.end.min(end)..end] {
                    if !rest.is_empty() {
                        let part = (rest.start - offset) as usize..(rest.end - offset) as usize;
                        let bytes = bytes[part].to_vec();
                        changes.push(Change::Write { bytes, offset: rest.start, is_doubtful });
                    }
                }
            }
            other => changes.push(other),
        }
    }
}

fn overlaps_range(bytes: &[u8], offset: u64, range: &Range<u64>) -> bool {
    offset < range.end && range.start < offset + bytes.len() as u64
}
