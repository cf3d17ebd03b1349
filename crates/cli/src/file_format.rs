//! The formats of imported and exported files.
//!
//! ```text
//!   JSON Lines   {"key":"ada","value":"1"}                     bytes that are not UTF-8 stand
//!                {"key_b64":"/wA=","value":"2"}                in key_b64 and value_b64
//!
//!   CSV          key,value,key_b64,value_b64                   RFC 4180, with a header; of key and
//!                ada,1,,                                       key_b64 one is empty, of value and
//!                ,2,/wA=,                                      value_b64 too
//! ```

use std::path::Path;

use crate::exit::{Failure, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FileFormat {
    /// JSON Lines: a JSON object on each line.
    Jsonl,
    /// Comma-separated values with a header.
    Csv,
}

/// The columns of an exported CSV file.
pub(crate) const CSV_COLUMNS: [&str; 4] = ["key", "value", "key_b64", "value_b64"];

impl FileFormat {
    /// Returns the format that was asked for, or else the one that the file's name tells.
    pub(crate) fn choose(asked: Option<FileFormat>, path: &Path) -> Result<FileFormat> {
        if let Some(format) = asked {
            return Ok(format);
        }
        if is_standard(path) {
            return Ok(FileFormat::Jsonl);
        }
        let extension = path.extension().and_then(|it| it.to_str()).unwrap_or_default();
        match extension.to_ascii_lowercase().as_str() {
            "jsonl" | "ndjson" | "json" => Ok(FileFormat::Jsonl),
            "csv" => Ok(FileFormat::Csv),
            _ => Err(Failure::usage(format!(
                "{}: its name does not tell its format: say --format jsonl or --format csv",
                path.display()
            ))),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            FileFormat::Jsonl => "jsonl",
            FileFormat::Csv => "csv",
        }
    }
}

/// Returns true for `-`, standard input or output.
pub(crate) fn is_standard(path: &Path) -> bool {
    path == Path::new("-")
}
