//! `holm import`.
//!
//! There are two ways, with the same result. Into a keyspace that is empty all records go at once:
//! they are sorted, outside of memory if there are many ([`sort`]), and loaded as tables, which
//! become visible with one commit. An import that does not come to its end leaves nothing.
//!
//! ```text
//!   input ─► sorter ─► bulk load ─► one commit, durable
//!   ───── a crash anywhere: nothing was imported ─────
//! ```
//!
//! Into a keyspace that has rows, and where `--batches` asks for it, records are committed a batch
//! at a time, without a promise; the promise is made once, at the end, with one sync. Each batch
//! carries a note of how far the input has come, in a keyspace of its own and in the same
//! transaction, so that after a crash records and note agree whatever was lost:
//!
//! ```text
//!   batch 1 + note "to line 1000"   batch 2 + note "to line 2000"   batch 3, note removed   sync
//!   ────────────────────────────────────────── a crash anywhere: --continue goes on after the note
//! ```

mod batch;
mod delimited;
mod input;
mod json_lines;
mod note;
mod record;
mod sink;
mod sort;

use std::path::{Path, PathBuf};

use holm::{Db, Keyspace};
use indicatif::ProgressBar;
use serde_json::json;

use self::batch::Batch;
use self::delimited::Delimited;
use self::input::Input;
use self::json_lines::JsonLines;
use self::note::{Note, Notes};
use self::record::{Item, Shape};
use self::sink::{Bulk, Sink};
use super::Context;
use crate::exit::{Failure, Result, say};
use crate::file_format::FileFormat;
use crate::progress;
use crate::size::Size;
use crate::table::{count, grouped};

/// Puts the records of a file into a keyspace.
///
/// JSON Lines and CSV files as `holm export` writes them are taken as they are. With --key, records
/// of any shape are: the key is that field, and the value is --value's field or else the whole
/// record, for JSON Lines as it stands in its line, for CSV as a JSON object of its columns. A
/// field inside another one is named with a dot, as in `address.city`.
///
/// Nothing is promised before the closing line; it says that all records are durable. Into a
/// keyspace that is empty, all records are imported at once or, if it is interrupted, none. With
/// --batches, and into a keyspace that has rows, they come bit by bit, and an import that was
/// interrupted goes on where it was with --continue, once the part of the input before that place
/// was found to be the same. Of records with equal keys the last one stays.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file; `-` is standard input.
    file: PathBuf,

    /// Its format; otherwise its name tells.
    #[arg(long, value_enum)]
    format: Option<FileFormat>,

    /// The field that is the key.
    #[arg(long, value_name = "FIELD")]
    key: Option<String>,

    /// The field that is the value; otherwise the whole record.
    #[arg(long, value_name = "FIELD", requires = "key")]
    value: Option<String>,

    /// Passes over lines that hold no record, after saying which; otherwise the first one ends it.
    #[arg(long)]
    skip_bad: bool,

    /// Commits records as they come, also into an empty keyspace: slower, and can be continued.
    #[arg(long)]
    batches: bool,

    /// Goes on with an import that was interrupted.
    #[arg(long = "continue")]
    continues: bool,

    /// The folder for temporary files when there is more to sort than memory takes; otherwise the
    /// one that the database is in.
    #[arg(long, value_name = "DIR")]
    tmp: Option<PathBuf>,

    /// The memory for sorting; otherwise a quarter of --memory.
    #[arg(long, value_name = "SIZE")]
    sort_memory: Option<Size>,
}

/// The share of the memory in which records are sorted, as a divisor: while they are, the caches of
/// the database are empty.
const SORT_MEMORY_DIVISOR: usize = 4;

/// Where records come from.
enum Records {
    Json(JsonLines),
    Csv(Delimited),
}

impl Records {
    fn next(&mut self) -> Result<Option<Item>> {
        match self {
            Records::Json(lines) => lines.next(),
            Records::Csv(records) => records.next(),
        }
    }
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result {
    let format = FileFormat::choose(args.format, &args.file)?;
    let mut input = Input::open(&args.file)?;
    let db = context.target.open_or_create()?;
    let keyspace = context.target.keyspace_to_write(&db)?;
    let shape = Shape { key: args.key, value: args.value };
    let notes = Notes::new(&db, keyspace.name(), &args.file)?;
    let mut note = Note::new(format, &shape);
    if args.continues
        && let Some(found) = notes.read()?
    {
        note = found.continued(&note, &args.file)?;
        input.pass_over(note.offset, note.crc, &args.file)?;
    }
    let already = note.records;
    let is_bulk = already == 0 && note.offset == 0 && !args.batches && is_empty(&db, &keyspace)?;
    let sink = if is_bulk {
        let memory = context.target.memory_bytes;
        let bytes = args.sort_memory.map_or(memory / SORT_MEMORY_DIVISOR, |size| size.0);
        let folder = match &args.tmp {
            Some(folder) => folder.clone(),
            None => folder_beside(context.target.directory()?),
        };
        Sink::Bulk(Box::new(Bulk::new(&db, keyspace, &folder, bytes)))
    } else {
        Sink::Batches(Batch::new(&db, keyspace))
    };
    let bar = progress::bytes(input.total);
    let mut import = Import { sink, notes, note, path: &args.file, skip_bad: args.skip_bad, bar };
    import.run(&mut input, format, shape)?;
    let note = import.finish(&db)?;
    report(context, &note, already)
}

fn is_empty(db: &Db, keyspace: &Keyspace) -> Result<bool> {
    Ok(db.snapshot().scan(keyspace, ..).next().transpose()?.is_none())
}

/// Returns the folder that the database is in: most likely of the size that the data needs.
fn folder_beside(directory: &Path) -> PathBuf {
    let whole = std::fs::canonicalize(directory).unwrap_or_else(|_| directory.to_path_buf());
    whole.parent().unwrap_or(&whole).to_path_buf()
}

fn report(context: &mut Context, note: &Note, already: u64) -> Result {
    if context.output.is_json() {
        return context.output.json(&json!({
            "records": note.records,
            "continued_after": already,
            "bad": note.bad,
            "keyspace": context.target.keyspace,
        }));
    }
    let keyspace = &context.target.keyspace;
    let mut line = format!("imported {} into {keyspace}", count(note.records, "record"));
    if already > 0 {
        line.push_str(&format!(", {} of them before it was interrupted", grouped(already)));
    }
    if note.bad > 0 {
        line.push_str(&format!(", passed over {}", count(note.bad, "bad line")));
    }
    context.output.line(&line)
}

/// An import under way.
struct Import<'a> {
    sink: Sink<'a>,
    notes: Notes<'a>,
    /// How far it has come, what the sink holds included.
    note: Note,
    path: &'a Path,
    skip_bad: bool,
    bar: ProgressBar,
}

impl Import<'_> {
    fn run(&mut self, input: &mut Input, format: FileFormat, shape: Shape) -> Result {
        let mut records = match format {
            FileFormat::Jsonl => Records::Json(JsonLines::new(input, &self.note, shape)),
            FileFormat::Csv => {
                let mut records = Delimited::new(input, &self.note, shape);
                self.note.columns = records.columns(self.path)?;
                (self.note.offset, self.note.line) = records.place();
                Records::Csv(records)
            }
        };
        loop {
            let read = records.next().map_err(|failure| failure.at(self.path.display()))?;
            let Some(item) = read else { return Ok(()) };
            match item.record {
                Ok((key, value)) => {
                    self.note.records += 1;
                    self.sink.push(key, value)?;
                }
                Err(what) if self.skip_bad => {
                    self.note.bad += 1;
                    self.bar.suspend(|| say(&self.bad_line(item.line, &what)));
                }
                Err(what) => {
                    // What stands before it is kept if it can be, so that mending the line is
                    // enough.
                    self.commit(input)?;
                    self.bar.finish_and_clear();
                    return Err(self.refuse(item.line, &what));
                }
            }
            (self.note.offset, self.note.line) = (item.end, item.next_line);
            if self.sink.is_full() {
                self.commit(input)?;
                self.bar.set_position(self.note.offset);
            }
        }
    }

    /// Commits the batch and the note, if there are batches.
    fn commit(&mut self, input: &mut Input) -> Result {
        self.note.crc = input.crc_up_to(self.note.offset);
        match &mut self.sink {
            Sink::Batches(batch) => batch.commit(|txn| self.notes.write(txn, &self.note)),
            Sink::Bulk(bulk) => {
                bulk.begin_again();
                Ok(())
            }
        }
    }

    /// Brings in what is left, removes the note, and makes all of it durable.
    fn finish(self, db: &Db) -> Result<Note> {
        match self.sink {
            Sink::Batches(mut batch) => batch.commit(|txn| self.notes.remove(txn))?,
            Sink::Bulk(bulk) => {
                self.bar.finish_and_clear();
                let bar = progress::rows(Some(self.note.records));
                bulk.finish(&bar)?;
                bar.finish_and_clear();
                // Of an import in batches that was given up.
                if self.notes.read().is_ok_and(|note| note.is_some()) {
                    let mut txn = db.begin();
                    self.notes.remove(&mut txn)?;
                    txn.commit()?;
                }
            }
        }
        db.sync()?;
        self.bar.finish_and_clear();
        Ok(self.note)
    }

    fn bad_line(&self, line: u64, what: &str) -> String {
        format!("{}: line {line}: {what}", self.path.display())
    }

    fn refuse(&self, line: u64, what: &str) -> Failure {
        let before = match self.note.records {
            _ if matches!(self.sink, Sink::Bulk(_)) => {
                "nothing was imported: mend the line".to_string()
            }
            0 => "nothing was imported: mend the line".to_string(),
            records => format!(
                "{} before it imported: mend the line and go on with --continue",
                count(records, "record")
            ),
        };
        let line = self.bad_line(line, what);
        Failure::new(format!("{line}: {before}, or pass over such lines with --skip-bad"))
    }
}
