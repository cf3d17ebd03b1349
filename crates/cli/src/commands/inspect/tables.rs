//! `holm inspect table`.

use std::path::{Path, PathBuf};

use env::RealDisk;
use serde_json::{Value, json};
use storage::directory::{table_name, values_name};
use storage::manifest::Manifest;
use storage::table::{BlockLine, BlockRole, Compression, Table, TableDescription};

use super::{database, key_json, key_text};
use crate::commands::Context;
use crate::exit::{Code, Failure, Result, say};
use crate::table::{bytes, count, grouped, plain};

pub(super) fn run(context: &mut Context, file: Option<&Path>) -> Result {
    let files = match file {
        Some(file) => vec![file.to_path_buf()],
        None => live_tables(context)?,
    };
    if files.is_empty() && !context.output.is_json() {
        return context.output.line("there are no tables yet: all is in the log");
    }
    let mut damaged = 0;
    let mut unreadable = None;
    for path in files {
        let table = match Table::open(&RealDisk, &path).and_then(|table| table.describe()) {
            Ok(table) => table,
            // Those after it are worth seeing, too.
            Err(error) => {
                context.output.flush()?;
                if let Some(earlier) = unreadable.replace(Failure::from(error)) {
                    say(earlier.message());
                }
                continue;
            }
        };
        damaged += table.blocks.iter().filter(|block| block.damage.is_some()).count();
        if context.output.is_json() {
            context.output.json(&json(&path, &table))?;
        } else {
            print(context, &path, &table)?;
        }
    }
    context.output.flush()?;
    match (unreadable, damaged) {
        (Some(failure), _) => Err(failure),
        (None, 0) => Ok(()),
        _ => Err(Failure::with_code(
            Code::Damaged,
            format!(
                "{damaged} blocks are damaged: restore a copy, or see what `holm repair` could save"
            ),
        )),
    }
}

fn live_tables(context: &Context) -> Result<Vec<PathBuf>> {
    let (directory, _) = database(context)?;
    let (state, _) = Manifest::read(&RealDisk, &directory)?;
    Ok(state
        .tables
        .keys()
        .map(|&number| directory.join("tables").join(table_name(number)))
        .collect())
}

fn print(context: &mut Context, path: &Path, table: &TableDescription) -> Result {
    let properties = &table.properties;
    context.output.line(&format!(
        "{}: {}, format {}, {} versions of {} keys, {} tombstones, by {}",
        path.display(),
        bytes(table.bytes),
        table.format_version,
        grouped(properties.entries),
        grouped(properties.distinct_keys),
        grouped(properties.tombstones),
        properties.creator,
    ))?;
    for of in &properties.values {
        context.output.line(&format!(
            "refers to {}: {} in {}",
            values_name(of.file),
            count(of.values, "value"),
            bytes(of.bytes),
        ))?;
    }
    let rows = table.blocks.iter().map(|block| {
        let span = block.span.as_ref().map(|[(first, first_ts), (last, last_ts)]| {
            format!("{} @{first_ts} .. {} @{last_ts}", key_text(first), key_text(last))
        });
        let damage = block.damage.as_ref().map(|damage| format!("DAMAGED: {damage}"));
        vec![
            block.offset.to_string(),
            block.bytes.to_string(),
            block.raw_bytes.to_string(),
            compression(block).to_string(),
            role(block).to_string(),
            block.entries.to_string(),
            damage.or(span).unwrap_or_default(),
        ]
    });
    context
        .output
        .line(&plain(&["offset", "bytes", "raw", "compression", "block", "entries", "holds"], rows))
}

fn json(path: &Path, table: &TableDescription) -> Value {
    let properties = &table.properties;
    let blocks = table.blocks.iter().map(|block| {
        let [first, last] = match &block.span {
            Some([(first, _), (last, _)]) => [key_json(first), key_json(last)],
            None => [Value::Null, Value::Null],
        };
        json!({
            "role": role(block),
            "offset": block.offset,
            "bytes": block.bytes,
            "raw_bytes": block.raw_bytes,
            "compression": compression(block),
            "entries": block.entries,
            "tombstones": block.tombstones,
            "first": first,
            "last": last,
            "damage": block.damage,
        })
    });
    json!({
        "file": path.display().to_string(),
        "format_version": table.format_version,
        "bytes": table.bytes,
        "versions": properties.entries,
        "keys": properties.distinct_keys,
        "tombstones": properties.tombstones,
        "creator": properties.creator,
        "values": properties.values.iter().map(|of| json!({
            "file": of.file,
            "values": of.values,
            "bytes": of.bytes,
        })).collect::<Vec<_>>(),
        "blocks": blocks.collect::<Vec<_>>(),
    })
}

fn compression(block: &BlockLine) -> &'static str {
    match block.compression {
        Compression::None => "none",
        Compression::Lz4 => "lz4",
        Compression::Zstd => "zstd",
    }
}

fn role(block: &BlockLine) -> &'static str {
    match block.role {
        BlockRole::Data => "data",
        BlockRole::Filter => "filter",
        BlockRole::Index => "index",
        BlockRole::TopIndex => "top index",
        BlockRole::Properties => "properties",
        BlockRole::Footer => "footer",
    }
}
