//! `holm put`.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use holm::Timestamp;
use holm::limits::VALUE_BYTES_MAX;
use serde_json::json;

use super::Context;
use crate::exit::{Failure, Result};
use crate::form::Text;
use crate::output::Output;

/// Writes a value; prints the commit timestamp once it is durable.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The key, in text form.
    key: Text,

    /// The value, in text form.
    #[arg(required_unless_present = "file", allow_negative_numbers = true)]
    value: Option<Text>,

    /// Takes the value's bytes from a file, or from standard input if it is `-`.
    #[arg(long, conflicts_with = "value")]
    file: Option<PathBuf>,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result {
    let value = match (args.value, args.file) {
        (Some(value), _) => value.0,
        (None, Some(path)) => read_value(&path)?,
        // The parser has seen to it; an empty value is the harmless reading.
        (None, None) => Vec::new(),
    };
    let db = context.target.open_or_create()?;
    let keyspace = context.target.keyspace_to_write(&db)?;
    let timestamp = db.put(&keyspace, &args.key, value)?;
    acknowledge(&mut context.output, timestamp)
}

/// Reads a value from a file; one that is too long is not read to its end.
fn read_value(path: &Path) -> Result<Vec<u8>> {
    let mut value = Vec::new();
    // One byte more than is allowed, so that the database refuses it with its limit.
    let most = VALUE_BYTES_MAX as u64 + 1;
    let read = if path == Path::new("-") {
        io::stdin().lock().take(most).read_to_end(&mut value)
    } else {
        let file = File::open(path).map_err(Failure::io(path, "open"))?;
        file.take(most).read_to_end(&mut value)
    };
    read.map_err(Failure::io(path, "read"))?;
    Ok(value)
}

/// Says that a commit is durable.
pub(crate) fn acknowledge(output: &mut Output, timestamp: Timestamp) -> Result {
    if output.is_json() {
        output.json(&json!({ "timestamp": timestamp.raw() }))
    } else {
        output.line(&format!("ok @{timestamp}"))
    }
}
