//! The bytes of the input, and a checksum of those that were dealt with.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::rc::Rc;

use crate::exit::{Failure, Result};
use crate::file_format::is_standard;

/// The input.
pub(super) struct Input {
    tracked: Option<Tracked>,
    seen: Rc<RefCell<Seen>>,
    /// Its length, if that is known.
    pub(super) total: Option<u64>,
}

/// Reads the input and keeps what was read until it has gone into the checksum.
pub(super) struct Tracked {
    inner: Box<dyn Read>,
    seen: Rc<RefCell<Seen>>,
}

/// What was read.
#[derive(Default)]
struct Seen {
    /// The checksum of everything up to `offset`.
    crc: u32,
    offset: u64,
    /// What was read beyond.
    ahead: Vec<u8>,
}

impl Input {
    pub(super) fn open(path: &Path) -> Result<Input> {
        let seen = Rc::<RefCell<Seen>>::default();
        let (inner, total): (Box<dyn Read>, _) = if is_standard(path) {
            (Box::new(io::stdin()), None)
        } else {
            let file = File::open(path).map_err(Failure::io(path, "open"))?;
            let metadata = file.metadata().map_err(Failure::io(path, "read"))?;
            let total = metadata.is_file().then_some(metadata.len());
            (Box::new(file), total)
        };
        let tracked = Some(Tracked { inner, seen: seen.clone() });
        Ok(Input { tracked, seen, total })
    }

    /// Passes over what an interrupted import had dealt with.
    ///
    /// # Errors
    /// If it is not what that import read.
    pub(super) fn pass_over(&mut self, offset: u64, crc: u32, path: &Path) -> Result {
        let mut buffer = vec![0; 64 << 10];
        let mut left = offset;
        while left > 0 {
            let Some(tracked) = &mut self.tracked else { break };
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let read = tracked.read(&mut buffer[..most]).map_err(Failure::io(path, "read"))?;
            if read == 0 {
                break;
            }
            left -= read as u64;
            self.crc_up_to(offset - left);
        }
        if left > 0 || self.seen.borrow().crc != crc {
            return Err(Failure::new(format!(
                "{}: its first {offset} bytes are not those whose import was interrupted: import \
                 it from the start, without --continue",
                path.display()
            )));
        }
        Ok(())
    }

    /// Returns the checksum of everything up to a place, which must not lie before the last one.
    pub(super) fn crc_up_to(&self, offset: u64) -> u32 {
        let seen = &mut *self.seen.borrow_mut();
        let count =
            usize::try_from(offset - seen.offset).unwrap_or(usize::MAX).min(seen.ahead.len());
        seen.crc = crc32c::crc32c_append(seen.crc, &seen.ahead[..count]);
        seen.ahead.drain(..count);
        seen.offset = offset;
        seen.crc
    }

    /// Returns what is left of the input. Once.
    pub(super) fn take(&mut self) -> Tracked {
        match self.tracked.take() {
            Some(tracked) => tracked,
            None => Tracked { inner: Box::new(io::empty()), seen: self.seen.clone() },
        }
    }
}

impl Tracked {
    /// Returns how many line feeds there are between two places, and how many of them before
    /// anything else. Neither place lies before what went into the checksum.
    pub(super) fn line_feeds(&self, from: u64, to: u64) -> (u64, u64) {
        let seen = self.seen.borrow();
        let index = |place: u64| {
            let ahead = usize::try_from(place - seen.offset).unwrap_or(usize::MAX);
            ahead.min(seen.ahead.len())
        };
        let bytes = &seen.ahead[index(from)..index(to)];
        let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let leading = bytes.iter().position(|byte| !is_end(byte)).unwrap_or(bytes.len());
        let feeds = |bytes: &[u8]| bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
        (feeds(bytes), feeds(&bytes[..leading]))
    }
}

impl Read for Tracked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.seen.borrow_mut().ahead.extend_from_slice(&buffer[..read]);
        Ok(read)
    }
}
