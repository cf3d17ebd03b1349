//! `holm export`.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use holm::{KeyRange, Row, Timestamp};
use serde_json::json;

use super::Context;
use crate::exit::{Failure, Result, say};
use crate::file_format::{CSV_COLUMNS, FileFormat, is_standard};
use crate::form::{Text, json_row, to_base64};
use crate::progress;
use crate::table::grouped;
use crate::when::{self, When};

/// Writes the rows of a keyspace to a file, all as of one moment, which it tells on standard error.
///
/// JSON Lines: {"key":"…","value":"…"}, with key_b64 and value_b64 for bytes that are not UTF-8.
/// CSV: the columns key, value, key_b64, value_b64. `holm import` takes both as they are.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file; `-` is standard output. It appears under its name when it is whole.
    #[arg(default_value = "-")]
    file: PathBuf,

    /// Its format; otherwise its name tells.
    #[arg(long, value_enum)]
    format: Option<FileFormat>,

    /// Only keys that begin so.
    #[arg(long)]
    prefix: Option<Text>,

    /// Reads the past: a commit timestamp, or an age such as -30s, -5m, -2h.
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    at: Option<When>,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result {
    let format = FileFormat::choose(args.format, &args.file)?;
    let db = context.target.open()?;
    let snapshot = when::snapshot(&db, args.at)?;
    let range = args.prefix.as_ref().map_or(KeyRange::all(), |prefix| KeyRange::prefix(&prefix.0));
    let keyspace = context.target.keyspace_to_read(&db)?;
    let rows = keyspace.iter().flat_map(|keyspace| snapshot.scan(keyspace, range.clone()));
    let rows = write_file(&args.file, format, rows)?;
    tell(context, rows, snapshot.timestamp());
    Ok(())
}

fn tell(context: &Context, rows: u64, timestamp: Timestamp) {
    if context.output.is_json() {
        // Standard output may be the file.
        eprintln!("{}", json!({ "rows": rows, "timestamp": timestamp.raw() }));
    } else {
        let keyspace = &context.target.keyspace;
        say(&format!("exported {} rows of {keyspace} as of @{timestamp}", grouped(rows)));
    }
}

/// Writes all rows to a file, which gets its name only when it is whole; returns how many.
fn write_file(
    path: &Path,
    format: FileFormat,
    rows: impl Iterator<Item = holm::Result<Row>>,
) -> Result<u64> {
    if is_standard(path) {
        return write_rows(io::stdout().lock(), format, rows, |error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::of_io("standard output", "write", &error),
        });
    }
    // A pipe or a device has no name to take over.
    if path.metadata().is_ok_and(|found| !found.is_file()) {
        let file = fs::OpenOptions::new().write(true).open(path);
        let file = file.map_err(Failure::io(path, "open"))?;
        return write_rows(file, format, rows, |error| Failure::io(path, "write")(error));
    }
    let mut partial = OsString::from(path);
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let file = File::create(&partial).map_err(Failure::io(&partial, "create"))?;
    let written = write_rows(&file, format, rows, |error| Failure::io(&partial, "write")(error))
        .and_then(|count| {
            file.sync_all().map_err(Failure::io(&partial, "sync"))?;
            fs::rename(&partial, path).map_err(Failure::io(path, "rename the whole file to"))?;
            Ok(count)
        });
    if written.is_err() {
        // Half a file is of no use to anybody, and on a full disk its space is needed.
        let _ = fs::remove_file(&partial);
    }
    written
}

fn write_rows(
    out: impl Write,
    format: FileFormat,
    rows: impl Iterator<Item = holm::Result<Row>>,
    failure: impl Fn(io::Error) -> Failure,
) -> Result<u64> {
    let mut out = BufWriter::with_capacity(64 << 10, out);
    let bar = progress::rows(None);
    let mut count = 0;
    match format {
        FileFormat::Jsonl => {
            for row in rows {
                let row = row?;
                writeln!(out, "{}", json_row(row.key(), Some(row.value()))).map_err(&failure)?;
                count += 1;
                bar.set_position(count);
            }
        }
        FileFormat::Csv => {
            // Not `into`, which would forget what kind of error of the system it was.
            let failure = |error: csv::Error| match error.into_kind() {
                csv::ErrorKind::Io(error) => failure(error),
                other => failure(io::Error::other(format!("{other:?}"))),
            };
            let mut csv = csv::Writer::from_writer(&mut out);
            csv.write_record(CSV_COLUMNS).map_err(failure)?;
            for row in rows {
                let row = row?;
                let [(key, key_b64), (value, value_b64)] = [row.key(), row.value()].map(columns);
                csv.write_record([&key, &value, &key_b64, &value_b64]).map_err(failure)?;
                count += 1;
                bar.set_position(count);
            }
            csv.flush().map_err(|error| failure(error.into()))?;
        }
    }
    bar.finish_and_clear();
    out.flush().map_err(failure)?;
    Ok(count)
}

/// Returns the text of bytes, and their base64 if they have none.
fn columns(bytes: &[u8]) -> (String, String) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_string(), String::new()),
        Err(_) => (String::new(), to_base64(bytes)),
    }
}
