//! The payload of a log entry: the writes of one transaction.
//!
//! ```text
//!  +--------+----------------+  then for each write:
//!  | format | writes: varint |  +------+--------------------+----------------------------+
//!  |  1     |                |  | kind | key: varint, bytes | value: varint, bytes (put) |
//!  +--------+----------------+  +------+--------------------+----------------------------+
//! ```
//!
//! `kind` is 1 for a put and 2 for a delete. The timestamp that all writes share stands in the
//! record's header ([`crate::wal`]), because it is known only when the record is appended.

use base::codec::{Reader, Truncated, put_bytes, put_varint};

use crate::Value;

const FORMAT: u8 = 1;
const PUT: u8 = 1;
const DELETE: u8 = 2;

/// Encodes writes. `bytes_hint` is about how long the result gets.
pub fn encode_batch<'a>(
    writes: impl ExactSizeIterator<Item = (&'a [u8], Value<'a>)>,
    bytes_hint: usize,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes_hint + 16);
    out.push(FORMAT);
    put_varint(&mut out, writes.len() as u64);
    for (key, value) in writes {
        match value {
            Value::Put(value) => {
                out.push(PUT);
                put_bytes(&mut out, key);
                put_bytes(&mut out, value);
            }
            Value::Tombstone => {
                out.push(DELETE);
                put_bytes(&mut out, key);
            }
        }
    }
    out
}

/// Hands out the writes of an encoded batch in order; returns how many there were.
///
/// # Errors
/// A sentence saying what is wrong with the bytes; the writes before it were handed out.
pub fn decode_batch<'a>(
    payload: &'a [u8],
    mut visit: impl FnMut(&'a [u8], Value<'a>),
) -> Result<u64, String> {
    let mut reader = Reader::new(payload);
    let cut = |_: Truncated| "the transaction's writes are cut short".to_string();
    let format = reader.u8().map_err(cut)?;
    if format != FORMAT {
        return Err(format!("the transaction has format {format}, this program reads {FORMAT}"));
    }
    let writes = reader.varint().map_err(cut)?;
    for _ in 0..writes {
        let kind = reader.u8().map_err(cut)?;
        let key = reader.bytes().map_err(cut)?;
        match kind {
            PUT => visit(key, Value::Put(reader.bytes().map_err(cut)?)),
            DELETE => visit(key, Value::Tombstone),
            kind => {
                return Err(format!("a write has kind {kind}, which this program does not know"));
            }
        }
    }
    if !reader.is_empty() {
        return Err(format!("{} bytes follow the last write", reader.rest().len()));
    }
    Ok(writes)
}

/// Decodes the bytes as a batch; what is one is encoded to mean the same.
#[cfg(any(test, fuzzing))]
pub fn fuzz_batch(bytes: &[u8]) {
    let mut writes = Vec::new();
    if let Ok(count) = decode_batch(bytes, |key, value| writes.push((key, value))) {
        assert_eq!(count, writes.len() as u64);
        let encoded = encode_batch(writes.iter().copied(), bytes.len());
        let mut again = Vec::new();
        assert_eq!(decode_batch(&encoded, |key, value| again.push((key, value))), Ok(count));
        assert_eq!(again, writes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_survive_the_round_trip() {
        let writes =
            [(&b"a"[..], Value::Put(b"1")), (b"", Value::Put(b"")), (b"gone", Value::Tombstone)];
        let bytes = encode_batch(writes.iter().copied(), 0);
        let mut read = Vec::new();
        assert_eq!(decode_batch(&bytes, |key, value| read.push((key, value))), Ok(3));
        assert_eq!(read, writes);
    }

    #[test]
    fn any_cut_or_foreign_byte_is_an_error() {
        let bytes = encode_batch([(&b"key"[..], Value::Put(b"value"))].into_iter(), 0);
        for len in 0..bytes.len() {
            assert!(decode_batch(&bytes[..len], |_, _| ()).is_err(), "cut at {len}");
        }
        assert!(decode_batch(&[9, 0], |_, _| ()).is_err());
        assert!(decode_batch(&[1, 1, 7, 0], |_, _| ()).is_err());
        assert!(decode_batch(&[1, 0, 0], |_, _| ()).is_err());
    }
}
