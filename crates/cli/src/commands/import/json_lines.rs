//! Records from JSON Lines.

use std::collections::BTreeMap;
use std::io::BufReader;

use holm::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::input::{Input, Tracked};
use super::note::Note;
use super::record::{Item, Record, Shape, either, within_limits};
use crate::exit::{Failure, Result};
use crate::lines::read_line;

/// Longest line, in bytes: the largest value and key with every byte as `\u00NN`, and some room for
/// what else is on the line.
const LINE_BYTES_MAX: usize = 6 * (VALUE_BYTES_MAX + KEY_BYTES_MAX) + (4 << 20);

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

pub(super) struct JsonLines {
    reader: BufReader<Tracked>,
    shape: Shape,
    line: Vec<u8>,
    number: u64,
    offset: u64,
}

impl JsonLines {
    /// Goes on where the note says.
    pub(super) fn new(input: &mut Input, note: &Note, shape: Shape) -> JsonLines {
        let reader = BufReader::with_capacity(64 << 10, input.take());
        JsonLines { reader, shape, line: Vec::new(), number: note.line, offset: note.offset }
    }

    pub(super) fn next(&mut self) -> Result<Option<Item>> {
        loop {
            let read = read_line(&mut self.reader, &mut self.line, LINE_BYTES_MAX);
            let read = read.map_err(|error| Failure::new(format!("cannot read: {error}")))?;
            let Some(read) = read else { return Ok(None) };
            let is_first = self.offset == 0;
            let line = self.number;
            self.offset += read.taken;
            self.number += 1;
            let bytes = match self.line.strip_prefix(BYTE_ORDER_MARK) {
                Some(rest) if is_first => rest,
                _ => &self.line,
            };
            if bytes.trim_ascii().is_empty() {
                continue;
            }
            let record = if read.is_cut {
                Err(format!("it has more than {LINE_BYTES_MAX} bytes"))
            } else {
                record_of(bytes, &self.shape)
            };
            return Ok(Some(Item { line, next_line: self.number, end: self.offset, record }));
        }
    }
}

type Fields<'a> = BTreeMap<String, &'a RawValue>;

fn record_of(line: &[u8], shape: &Shape) -> Record {
    let line = std::str::from_utf8(line)
        .map_err(|error| format!("byte {} is not UTF-8", error.valid_up_to() + 1))?;
    let line = line.trim_ascii();
    let fields = fields_of(line)?;
    let Some(key) = &shape.key else {
        let text = |name: &str| fields.get(name).map(|it| string(name, it)).transpose();
        let bytes = |name: &str| Ok::<_, String>(text(name)?.map(String::into_bytes));
        let key = either("key", bytes("key")?, text("key_b64")?)?;
        let value = either("value", bytes("value")?, text("value_b64")?)?;
        return within_limits((key, value));
    };
    let key = key_text(key, find(&fields, key)?)?;
    let value = match &shape.value {
        None => line.to_string(),
        Some(value) => match find(&fields, value)?.get() {
            text if text.starts_with('"') => parse(text)?,
            other => other.to_string(),
        },
    };
    within_limits((key.into_bytes(), value.into_bytes()))
}

fn fields_of(text: &str) -> std::result::Result<Fields<'_>, String> {
    if !text.starts_with('{') {
        return Err("this is not a JSON object".to_string());
    }
    parse(text)
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> std::result::Result<T, String> {
    serde_json::from_str(text).map_err(|error| {
        // The line is known, and always 1 to the parser.
        let what = error.to_string();
        let what = what.split(" at line ").next().unwrap_or_default();
        format!("column {}: {what}", error.column())
    })
}

/// Returns a field by its name or, where there is no such field, by its path with dots.
fn find<'a>(fields: &Fields<'a>, path: &str) -> std::result::Result<&'a RawValue, String> {
    if let Some(found) = fields.get(path) {
        return Ok(found);
    }
    // The shortest name first; names with dots of their own are tried on the way.
    for (dot, _) in path.match_indices('.') {
        if let Some(outer) = fields.get(&path[..dot])
            && outer.get().starts_with('{')
            && let Ok(found) = find(&fields_of(outer.get())?, &path[dot + 1..])
        {
            return Ok(found);
        }
    }
    Err(format!("it has no field {path:?}"))
}

fn key_text(name: &str, value: &RawValue) -> std::result::Result<String, String> {
    match value.get() {
        text if text.starts_with('"') => string(name, value),
        "null" => Err(format!("its field {name:?} is null: a key is wanted")),
        text if text.starts_with(['{', '[']) => Err(format!(
            "its field {name:?} is not one value: a field inside it is named with a dot"
        )),
        // A number as it stands, so that 1.0 and 1 stay two keys and nothing is rounded.
        plain => Ok(plain.to_string()),
    }
}

fn string(name: &str, value: &RawValue) -> std::result::Result<String, String> {
    if !value.get().starts_with('"') {
        return Err(format!(
            "its field {name:?} is not a string: `--key key --value value` takes any value"
        ));
    }
    parse(value.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        line: &str,
        key: Option<&str>,
        value: Option<&str>,
        expected: std::result::Result<(&str, &str), &str>,
    ) {
        let shape = Shape { key: key.map(str::to_string), value: value.map(str::to_string) };
        match (record_of(line.as_bytes(), &shape), expected) {
            (Ok((key, value)), Ok(expected)) => {
                let text = |bytes: Vec<u8>| base::text::escape(&bytes);
                assert_eq!((text(key), text(value)), (expected.0.into(), expected.1.into()));
            }
            (Err(what), Err(part)) => assert!(what.contains(part), "{what}"),
            (found, expected) => panic!("{line}: {found:?}, not {expected:?}"),
        }
    }

    #[test]
    fn an_exported_line_is_taken_as_it_is() {
        check(r#"{"key":"a","value":"\u00e9"}"#, None, None, Ok(("a", "é")));
        check(r#"{"value_b64":"/w==","key_b64":""}"#, None, None, Ok(("", r"\xff")));
        check(r#"{"key":"a"}"#, None, None, Err("value_b64"));
        check(r#"{"key":"a","key_b64":"","value":""}"#, None, None, Err("both"));
        check(r#"{"key":"a","value":7}"#, None, None, Err("not a string"));
        check(r#"{"key":"a","value_b64":"?"}"#, None, None, Err("base64"));
        check(r#"["a"]"#, None, None, Err("not a JSON object"));
        check(r#"{"key":"a",}"#, None, None, Err("column 12"));
    }

    #[test]
    fn a_record_of_any_shape_has_a_key() {
        let line = r#"{"id": 1.0, "a": {"b": "x", "c.d": {"e": [1, 2]}}, "a.b": "y", "n": null}"#;
        check(line, Some("id"), None, Ok(("1.0", line)));
        check(line, Some("a.b"), None, Ok(("y", line)));
        check(line, Some("id"), Some("a.c.d.e"), Ok(("1.0", "[1, 2]")));
        check(line, Some("a.c.d.e"), None, Err("not one value"));
        check(line, Some("n"), None, Err("null"));
        check(line, Some("n"), Some("n"), Err("null"));
        check(line, Some("id"), Some("n"), Ok(("1.0", "null")));
        check(line, Some("a.z"), None, Err("no field \"a.z\""));
    }
}
