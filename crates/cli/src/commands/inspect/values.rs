//! `holm inspect values`.

use std::path::{Path, PathBuf};

use env::RealDisk;
use serde_json::json;
use storage::directory::{FileName, values_name};
use storage::manifest::Manifest;
use storage::table::Compression;
use storage::values::ValuesFile;

use super::{database, key_json, key_text};
use crate::commands::Context;
use crate::exit::{Failure, Result, say};
use crate::table::{bytes, count, plain};

pub(super) fn run(context: &mut Context, file: Option<&Path>) -> Result {
    let files = match file {
        Some(file) => vec![file.to_path_buf()],
        None => live_files(context)?,
    };
    if files.is_empty() && !context.output.is_json() {
        return context
            .output
            .line("there are no value files: no value in the tables is that large");
    }
    let mut damaged = None;
    for path in files {
        // Those after it are worth seeing, too.
        if let Err(failure) = show(context, &path) {
            context.output.flush()?;
            if let Some(earlier) = damaged.replace(failure) {
                say(earlier.message());
            }
        }
    }
    damaged.map_or(Ok(()), Err)
}

fn live_files(context: &Context) -> Result<Vec<PathBuf>> {
    let (directory, _) = database(context)?;
    let (state, _) = Manifest::read(&RealDisk, &directory)?;
    let path = |&number: &u64| directory.join("tables").join(values_name(number));
    Ok(state.values.keys().map(path).collect())
}

/// Shows a file up to the first record that is not sound.
fn show(context: &mut Context, path: &Path) -> Result {
    let number = match path.file_name().and_then(|name| FileName::parse(name.to_str()?)) {
        Some(FileName::Values(number)) => number,
        _ => 0,
    };
    let file = ValuesFile::open(&RealDisk, path, number)?;
    let meta = file.meta();
    let (mut rows, mut lines, mut failed) = (Vec::new(), Vec::new(), None);
    for record in file.walk() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                failed = Some(Failure::from(error));
                break;
            }
        };
        let compression = match record.compression {
            Compression::None => "none",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        };
        if context.output.is_json() {
            lines.push(json!({
                "offset": record.offset,
                "bytes": record.bytes,
                "compression": compression,
                "key": key_json(&record.key),
            }));
        } else {
            rows.push(vec![
                record.offset.to_string(),
                record.bytes.to_string(),
                compression.to_string(),
                key_text(&record.key),
            ]);
        }
    }
    if context.output.is_json() {
        context.output.json(&json!({
            "file": path.display().to_string(),
            "bytes": meta.bytes,
            "value_bytes": meta.value_bytes,
            "values": lines,
        }))?;
    } else {
        context.output.line(&format!(
            "{}: {}, {} of {}",
            path.display(),
            bytes(meta.bytes),
            count(meta.values, "value"),
            bytes(meta.value_bytes),
        ))?;
        let head = ["offset", "bytes", "compression", "key"];
        context.output.line(&plain(&head, rows))?;
    }
    failed.map_or(Ok(()), Err)
}
