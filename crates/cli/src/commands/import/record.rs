//! One record of the input, and which parts of it are key and value.

use holm::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

use crate::form::from_base64;

/// A key and its value, or a sentence that says why a line holds none.
pub(super) type Record = Result<(Vec<u8>, Vec<u8>), String>;

/// A record and its place.
pub(super) struct Item {
    /// The line that it begins on, counted from 1.
    pub(super) line: u64,
    /// The line after it.
    pub(super) next_line: u64,
    /// Where in the input it ends, in bytes.
    pub(super) end: u64,
    pub(super) record: Record,
}

/// Which fields are key and value. Without a key it is the form of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) key: Option<String>,
    pub(super) value: Option<String>,
}

/// Refuses what the database would, so that it counts as a bad line.
pub(super) fn within_limits((key, value): (Vec<u8>, Vec<u8>)) -> Record {
    let check = |what: &str, bytes: usize, limit: usize| match bytes > limit {
        true => Err(format!("the {what} has {bytes} bytes, {limit} are allowed")),
        false => Ok(()),
    };
    check("key", key.len(), KEY_BYTES_MAX)?;
    check("value", value.len(), VALUE_BYTES_MAX)?;
    Ok((key, value))
}

/// Returns the bytes of a field that may be given as text or in base64.
pub(super) fn either(
    name: &str,
    text: Option<Vec<u8>>,
    base64: Option<String>,
) -> Result<Vec<u8>, String> {
    match (text, base64) {
        (Some(text), None) => Ok(text),
        (None, Some(base64)) => from_base64(&base64).map_err(|what| format!("{name}_b64: {what}")),
        (None, None) => Err(format!(
            "it has neither {name:?} nor \"{name}_b64\": name the fields with --key and --value"
        )),
        (Some(_), Some(_)) => Err(format!("it has both {name:?} and \"{name}_b64\"")),
    }
}
