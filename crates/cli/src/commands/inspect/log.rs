//! `holm inspect wal`.

use std::path::Path;

use env::RealDisk;
use serde_json::json;
use storage::manifest::Manifest;
use storage::wal::{self, Lsn, Record, RecordKind, SegmentSummary};
use storage::{Value, batch};

use super::{database, key_json, key_text};
use crate::commands::Context;
use crate::exit::{Failure, Result};
use crate::table::{bytes, grouped};

pub(super) fn run(context: &mut Context, file: Option<&Path>, with_writes: bool) -> Result {
    let (directory, id) = database(context)?;
    let folder = directory.join("wal");
    let (state, _) = Manifest::read(&RealDisk, &directory)?;
    let start = Lsn(state.log_start);
    let read = |visit: &mut dyn FnMut(Record<'_>)| {
        wal::read_log(&RealDisk, &folder, id.0, start, |record| {
            visit(record);
            Ok(())
        })
    };
    let part = match file {
        Some(file) => Some(part_of(file, &read(&mut |_| ())?.segments)?),
        None => None,
    };
    // What comes before damage is worth seeing, so the lines are printed as they are read.
    let mut printed = Ok(());
    let recovered = read(&mut |record| {
        let is_wanted = part.as_ref().is_none_or(|part| part.contains(&record.lsn.0));
        if is_wanted && printed.is_ok() {
            printed = print(context, &record, with_writes);
        }
    });
    printed?;
    context.output.flush()?;
    let recovered = recovered?;
    if context.output.is_json() || part.is_some() {
        return Ok(());
    }
    for segment in &recovered.segments {
        context.output.line(&format!(
            "segment {}: positions {} to {}, file of {}",
            segment.number,
            segment.base,
            segment.end,
            bytes(segment.file_bytes)
        ))?;
    }
    context.output.line(&format!(
        "{} records from position {start} to {}, {}, {} torn bytes",
        grouped(recovered.records),
        recovered.end.next,
        if recovered.closed { "closed cleanly" } else { "not closed" },
        recovered.torn_bytes
    ))
}

/// Returns the positions that lie in a segment's file.
fn part_of(file: &Path, segments: &[SegmentSummary]) -> Result<std::ops::Range<u64>> {
    let name = file.file_name();
    match segments.iter().find(|segment| segment.path.file_name() == name) {
        Some(segment) => Ok(segment.base.0..segment.end.0),
        None => Err(Failure::new(format!(
            "{}: this is no segment in use of the database's log: `holm inspect wal` lists them",
            file.display()
        ))),
    }
}

fn print(context: &mut Context, record: &Record<'_>, with_writes: bool) -> Result {
    let mut writes = Vec::new();
    if record.kind == RecordKind::Entry && record.group == wal::EMBEDDED_GROUP {
        let decoded = batch::decode_batch(record.payload, |key, value| writes.push((key, value)));
        decoded.map_err(|what| Failure::new(format!("position {}: {what}", record.lsn)))?;
    }
    let kind = match record.kind {
        RecordKind::Entry if record.group == wal::EMBEDDED_GROUP => "transaction",
        RecordKind::Entry => "entry",
        RecordKind::HardState => "hard state",
        RecordKind::Truncate => "truncate",
        RecordKind::Snapshot => "snapshot",
        RecordKind::Close => "close",
        RecordKind::Next => "next segment",
    };
    if context.output.is_json() {
        let mut object = json!({
            "position": record.lsn.0,
            "kind": kind,
            "group": record.group,
            "term": record.term,
            "index": record.index,
            "synced_up_to": record.synced.0,
            "timestamp": record.timestamp.raw(),
            "payload_bytes": record.payload.len(),
            "writes": writes.len(),
        });
        if with_writes {
            let all = writes.iter().map(|(key, value)| {
                let mut write = key_json(key);
                write["value_bytes"] = length(value).into();
                write
            });
            object["keys"] = all.collect();
        }
        return context.output.json(&object);
    }
    context.output.line(&format!(
        "position {} index {} @{} {kind}: {} writes, {} bytes",
        record.lsn,
        record.index,
        record.timestamp,
        writes.len(),
        record.payload.len(),
    ))?;
    for (key, value) in writes.iter().filter(|_| with_writes) {
        let line = match length(value) {
            Some(length) => format!("  put {} {length} bytes", key_text(key)),
            None => format!("  delete {}", key_text(key)),
        };
        context.output.line(&line)?;
    }
    Ok(())
}

/// Returns a value's length; `None` if it is a deletion.
fn length(value: &Value<'_>) -> Option<usize> {
    match value {
        Value::Put(value) => Some(value.len()),
        Value::Tombstone => None,
    }
}
