//! Standard output, in text or in JSON.

use std::io::{self, BufWriter, Stdout, Write};

use base::text;

use crate::exit::{Failure, Result};
use crate::form;

/// Who reads the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people: bytes in text form, tables.
    #[default]
    Text,
    /// For programs: one JSON value per line.
    Json,
}

/// Standard output. What was written is seen after [`Output::flush`], or when it is a lot.
pub(crate) struct Output {
    pub(crate) format: Format,
    out: BufWriter<Stdout>,
}

impl Output {
    pub(crate) fn new(format: Format) -> Output {
        Output { format, out: BufWriter::with_capacity(64 << 10, io::stdout()) }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result {
        self.out.write_all(bytes).map_err(failure)
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, line: &str) -> Result {
        self.bytes(line.as_bytes())?;
        self.bytes(b"\n")
    }

    /// Writes a JSON value as a line.
    pub(crate) fn json(&mut self, value: &serde_json::Value) -> Result {
        self.line(&value.to_string())
    }

    /// Writes a row: key and value in text form with a tab between, in which no tab can be, or a
    /// JSON object.
    pub(crate) fn row(&mut self, key: &[u8], value: Option<&[u8]>) -> Result {
        if self.is_json() {
            return self.line(&form::json_row(key, value));
        }
        self.bytes(text::escape(key).as_bytes())?;
        if let Some(value) = value {
            self.bytes(b"\t")?;
            self.bytes(text::escape(value).as_bytes())?;
        }
        self.bytes(b"\n")
    }

    pub(crate) fn flush(&mut self) -> Result {
        self.out.flush().map_err(failure)
    }
}

fn failure(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::of_io("standard output", "write", &error),
    }
}
