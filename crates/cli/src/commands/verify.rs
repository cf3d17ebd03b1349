//! `holm verify`.

use serde_json::json;

use super::Context;
use crate::exit::Result;
use crate::table::{self, grouped};

/// Reads everything on disk and checks it; exits with 4 and names file and offset if something is
/// damaged.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(context: &mut Context, _: Args) -> Result {
    // Opening reads most of it already, and refuses what is damaged with the same words.
    let db = context.target.open()?;
    let verified = db.verify()?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&json!({
            "sound": true,
            "tables": verified.tables,
            "versions": verified.versions,
            "table_bytes": verified.table_bytes,
            "value_files": verified.value_files,
            "value_file_bytes": verified.value_file_bytes,
            "log_records": verified.log_records,
            "log_segments": verified.log_segments,
        }));
    }
    output.line(&format!(
        "sound: {} tables with {} versions in {}, {} log records in {} segments",
        verified.tables,
        grouped(verified.versions),
        table::bytes(verified.table_bytes),
        grouped(verified.log_records),
        verified.log_segments,
    ))
}
