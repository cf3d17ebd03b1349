//! Lines of a stream that may be long, foreign, or without an end.

use std::io::{self, BufRead};

/// What was read of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LineRead {
    /// Bytes taken from the stream, the line feed included.
    pub(crate) taken: u64,
    /// True if the line was longer than allowed; what is beyond was passed over.
    pub(crate) is_cut: bool,
}

/// Reads the next line into `line`, without its line feed or carriage return and line feed; `None`
/// at the end. The last line need not end with a line feed.
pub(crate) fn read_line(
    reader: &mut impl BufRead,
    line: &mut Vec<u8>,
    bytes_max: usize,
) -> io::Result<Option<LineRead>> {
    line.clear();
    let mut taken = 0u64;
    let mut is_cut = false;
    loop {
        let buffer = match reader.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            filled => filled?,
        };
        if buffer.is_empty() && taken == 0 {
            return Ok(None);
        }
        let feed = buffer.iter().position(|&byte| byte == b'\n');
        let part = &buffer[..feed.unwrap_or(buffer.len())];
        let space = bytes_max - line.len();
        line.extend_from_slice(&part[..part.len().min(space)]);
        is_cut |= part.len() > space;
        let used = part.len() + usize::from(feed.is_some());
        let is_last = feed.is_some() || buffer.is_empty();
        taken += used as u64;
        reader.consume(used);
        if is_last {
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            return Ok(Some(LineRead { taken, is_cut }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor};

    use super::*;

    #[test]
    fn lines_end_in_every_way_lines_end() {
        let mut reader = BufReader::with_capacity(3, Cursor::new(b"one\r\n\ntoolong\nlast"));
        let mut next = || {
            let mut line = Vec::new();
            let read = read_line(&mut reader, &mut line, 5).unwrap();
            read.map(|read| (String::from_utf8(line).unwrap(), read.taken, read.is_cut))
        };
        assert_eq!(next(), Some(("one".into(), 5, false)));
        assert_eq!(next(), Some(("".into(), 1, false)));
        assert_eq!(next(), Some(("toolo".into(), 8, true)));
        assert_eq!(next(), Some(("last".into(), 4, false)));
        assert_eq!(next(), None);
    }
}
