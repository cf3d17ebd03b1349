//! `holm checkpoint`.

use std::path::PathBuf;

use serde_json::json;

use super::Context;
use crate::exit::{Failure, Result};
use crate::table::{bytes, count};

/// Makes a second database with everything that is in this one, at one moment.
///
/// It takes hardly any time or space where the file system has hard links: the files of both are
/// the same until one of them has no more use for a file. Copy it to another disk to be safe from
/// the loss of this one. A program that has the database open calls `Db::checkpoint`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where: a directory that is empty or not there.
    directory: PathBuf,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result {
    let db = context.target.open()?;
    let target = args.directory.display();
    let checkpoint = db.checkpoint(&args.directory).map_err(|error| match error.as_storage() {
        Some(holm::StorageError::NotADatabase { what, .. }) => {
            Failure::new(format!("{target}: {what}: name a directory that is empty or not there"))
        }
        _ => Failure::from(error),
    })?;
    if context.output.is_json() {
        return context.output.json(&json!({
            "directory": target.to_string(),
            "timestamp": checkpoint.timestamp.raw(),
            "tables": checkpoint.tables,
            "value_files": checkpoint.value_files,
            "table_bytes": checkpoint.bytes,
        }));
    }
    context.output.line(&format!(
        "{target}: everything up to @{}, in {} of {}",
        checkpoint.timestamp,
        count(checkpoint.tables, "table"),
        bytes(checkpoint.bytes)
    ))
}
