//! Records from CSV.

use std::path::Path;

use csv::{ByteRecord, ErrorKind};

use super::input::{Input, Tracked};
use super::note::Note;
use super::record::{Item, Record, Shape, either, within_limits};
use crate::exit::{Failure, Result};
use crate::form::push_json_string;

pub(super) struct Delimited {
    reader: csv::Reader<Tracked>,
    shape: Shape,
    columns: Vec<String>,
    record: ByteRecord,
    /// Where the reader began: it counts bytes from there.
    begin: u64,
    /// Where the last record ended, and its line. Our own count: the reader's is behind by a line
    /// where lines end with a carriage return and a line feed.
    offset: u64,
    line: u64,
}

impl Delimited {
    /// Goes on where the note says.
    pub(super) fn new(input: &mut Input, note: &Note, shape: Shape) -> Delimited {
        let reader = csv::ReaderBuilder::new()
            // The header may lie before the place to go on from; uneven rows are told by us.
            .has_headers(false)
            .flexible(true)
            .from_reader(input.take());
        Delimited {
            reader,
            shape,
            columns: note.columns.clone(),
            record: ByteRecord::new(),
            begin: note.offset,
            offset: note.offset,
            line: note.line,
        }
    }

    /// Returns the names of the columns, from the note or from the first line.
    ///
    /// # Errors
    /// If a column that is needed is not there.
    pub(super) fn columns(&mut self, path: &Path) -> Result<Vec<String>> {
        let failure = |what: String| Failure::new(format!("{}: line 1: {what}", path.display()));
        if self.columns.is_empty() {
            let read = self.reader.read_byte_record(&mut self.record);
            if !read.map_err(|error| failure(error.to_string()))? {
                return Err(failure(
                    "it is empty: a header with the columns' names is wanted".to_string(),
                ));
            }
            self.advance();
            let names = self.record.iter().map(|name| String::from_utf8(name.to_vec()));
            let names: std::result::Result<Vec<String>, _> = names.collect();
            self.columns =
                names.map_err(|_| failure("a column's name is not UTF-8".to_string()))?;
        }
        let has = |name: &str| self.columns.iter().any(|column| column == name);
        let missing = match &self.shape {
            Shape { key: Some(key), .. } if !has(key) => Some(key.as_str()),
            Shape { value: Some(value), .. } if !has(value) => Some(value.as_str()),
            Shape { key: None, .. } if !has("key") && !has("key_b64") => Some("key"),
            Shape { key: None, .. } if !has("value") && !has("value_b64") => Some("value"),
            _ => None,
        };
        if let Some(missing) = missing {
            return Err(failure(format!(
                "there is no column {missing:?}, but {}: name one with --key and --value",
                self.columns.join(", ")
            )));
        }
        Ok(self.columns.clone())
    }

    /// Returns where in the input the last record ended, in bytes, and its line.
    pub(super) fn place(&self) -> (u64, u64) {
        (self.offset, self.line)
    }

    /// Goes to the end of the record that was read; returns the line that it began on.
    fn advance(&mut self) -> u64 {
        let end = self.begin + self.reader.position().byte();
        let (feeds, leading) = self.reader.get_ref().line_feeds(self.offset, end);
        let line = self.line + leading;
        (self.offset, self.line) = (end, self.line + feeds);
        line
    }

    pub(super) fn next(&mut self) -> Result<Option<Item>> {
        let read = self.reader.read_byte_record(&mut self.record).map_err(|error| {
            match error.into_kind() {
                ErrorKind::Io(error) => Failure::new(format!("cannot read: {error}")),
                other => Failure::new(format!("{other:?}")),
            }
        })?;
        if !read {
            return Ok(None);
        }
        let line = self.advance();
        let (end, next_line) = self.place();
        Ok(Some(Item { line, next_line, end, record: self.record_of() }))
    }

    fn record_of(&self) -> Record {
        if self.record.len() != self.columns.len() {
            let (found, wanted) = (self.record.len(), self.columns.len());
            return Err(format!("it has {found} fields, and the header has {wanted}"));
        }
        let text = |name: &str| {
            let found = self.columns.iter().position(|column| column == name);
            let field = found.and_then(|index| self.record.get(index));
            field.map(|field| utf8(name, field)).transpose()
        };
        let Some(key) = &self.shape.key else {
            let bytes = |name: &str| -> std::result::Result<Vec<u8>, String> {
                let base64 = text(&format!("{name}_b64"))?.filter(|text| !text.is_empty());
                let text = text(name)?;
                // Where there is base64, an empty text only fills its column.
                let text = text.filter(|text| base64.is_none() || !text.is_empty());
                let is_empty = text.is_none() && base64.is_none();
                let text = text.or(is_empty.then_some(""));
                either(name, text.map(|text| text.as_bytes().to_vec()), base64.map(str::to_string))
            };
            return within_limits((bytes("key")?, bytes("value")?));
        };
        let key = text(key)?.unwrap_or_default().to_string();
        let value = match &self.shape.value {
            Some(value) => text(value)?.unwrap_or_default().to_string(),
            None => self.object()?,
        };
        within_limits((key.into_bytes(), value.into_bytes()))
    }

    /// Returns the record as a JSON object.
    fn object(&self) -> std::result::Result<String, String> {
        let mut out = "{".to_string();
        for (name, field) in self.columns.iter().zip(&self.record) {
            if out.len() > 1 {
                out.push(',');
            }
            push_json_string(&mut out, name);
            out.push(':');
            push_json_string(&mut out, utf8(name, field)?);
        }
        out.push('}');
        Ok(out)
    }
}

fn utf8<'a>(name: &str, field: &'a [u8]) -> std::result::Result<&'a str, String> {
    std::str::from_utf8(field).map_err(|_| {
        format!(
            "its field {name:?} is not UTF-8: such bytes stand in base64, in key_b64 or value_b64"
        )
    })
}
