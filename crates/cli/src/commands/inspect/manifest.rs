//! `holm inspect manifest`.

use std::path::Path;

use env::RealDisk;
use serde_json::{Value, json};
use storage::manifest::{Manifest, TableMeta};
use storage::version::{Style, uses_of};

use super::{database, key_json, key_text};
use crate::commands::Context;
use crate::exit::Result;
use crate::table::{bytes, grouped, pairs, plain};

pub(super) fn run(context: &mut Context, file: Option<&Path>) -> Result {
    let directory = match file {
        Some(file) => file.parent().unwrap_or(Path::new(".")).to_path_buf(),
        None => database(context)?.0,
    };
    let (state, id) = Manifest::read(&RealDisk, &directory)?;
    let is_tiered = |(_, style): &(_, &Style)| **style == Style::Tiered;
    let tiered: Vec<u32> = state.styles.iter().filter(is_tiered).map(|(tree, _)| tree.0).collect();
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&json!({
            "database_id": id.to_string(),
            "checkpoint_timestamp": state.checkpoint_ts.raw(),
            "log_start": state.log_start,
            "log_index": state.log_index,
            "next_file_number": state.next_file_number,
            "oldest_readable": state.gc_watermark.raw(),
            "last_timestamp": state.last_ts.raw(),
            "tiered_trees": tiered,
            "tables": state.tables.values().map(json).collect::<Vec<_>>(),
            "value_files": state.values.values().map(|file| json!({
                "number": file.number,
                "bytes": file.bytes,
                "values": file.values,
                "value_bytes": file.value_bytes,
            })).collect::<Vec<_>>(),
        }));
    }
    output.line(&pairs([
        ("database", id.to_string()),
        ("in tables up to", format!("@{}", state.checkpoint_ts)),
        ("log from position", state.log_start.to_string()),
        ("log index", state.log_index.to_string()),
        ("next file", state.next_file_number.to_string()),
        ("oldest readable", format!("@{}", state.gc_watermark)),
        ("last timestamp", format!("@{}", state.last_ts)),
    ]))?;
    if state.tables.is_empty() {
        return Ok(());
    }
    let rows = state.tables.values().map(|table| {
        let bounds = table.bounds.as_ref();
        let keys =
            bounds.map(|it| format!("{} .. {}", key_text(&it.first_key), key_text(&it.last_key)));
        vec![
            table.number.to_string(),
            table.tree.0.to_string(),
            table.level.to_string(),
            if table.level == 0 { table.run.to_string() } else { String::new() },
            bytes(table.bytes),
            grouped(table.entries),
            grouped(table.tombstones),
            keys.unwrap_or_default(),
        ]
    });
    output.line("")?;
    output.line(&plain(
        &["table", "tree", "level", "run", "bytes", "versions", "tombstones", "keys"],
        rows,
    ))?;
    if state.values.is_empty() {
        return Ok(());
    }
    let uses = uses_of(state.tables.values());
    let rows = state.values.values().map(|file| {
        let at = uses.binary_search_by_key(&file.number, |of| of.file);
        let (values, live) = at.map_or((0, 0), |at| (uses[at].values, uses[at].bytes));
        vec![
            file.number.to_string(),
            bytes(file.bytes),
            grouped(file.values),
            grouped(values),
            bytes(live),
        ]
    });
    output.line("")?;
    output.line(&plain(&["value file", "bytes", "values", "in use", "bytes in use"], rows))
}

fn json(table: &TableMeta) -> Value {
    let bounds = table.bounds.as_ref().map(|bounds| {
        json!({
            "first": key_json(&bounds.first_key),
            "last": key_json(&bounds.last_key),
            "oldest_timestamp": bounds.ts_min.raw(),
            "newest_timestamp": bounds.ts_max.raw(),
        })
    });
    json!({
        "number": table.number,
        "tree": table.tree.0,
        "level": table.level,
        "run": table.run,
        "bytes": table.bytes,
        "versions": table.entries,
        "tombstones": table.tombstones,
        "bounds": bounds,
    })
}
