//! `holm inspect`: what the files of a database hold.
//!
//! Nothing is locked and nothing is written, so a database that is open elsewhere, or that is too
//! damaged to be opened, can be looked at. What is being written meanwhile may look unfinished.

mod log;
mod manifest;
mod tables;
mod values;

use std::path::PathBuf;

use base::text;
use env::RealDisk;
use serde_json::{Map, Value};
use storage::directory::{DatabaseId, Directory};

use super::Context;
use crate::exit::{Failure, Result};
use crate::form::insert_bytes;

/// Shows what the files of a database hold, without opening it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which files.
    #[arg(value_enum)]
    what: What,

    /// One file instead of all that the database uses.
    file: Option<PathBuf>,

    /// Shows each write of each transaction (wal).
    #[arg(long)]
    writes: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum What {
    /// The write-ahead log: a line for each transaction that a crash now would replay.
    Wal,
    /// Tables, block by block: one file, or all that the database uses.
    Table,
    /// Value files, value by value: one file, or all that the database uses.
    Values,
    /// The manifest: which files make up the database.
    Manifest,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result {
    match args.what {
        What::Wal => log::run(context, args.file.as_deref(), args.writes),
        What::Table => tables::run(context, args.file.as_deref()),
        What::Values => values::run(context, args.file.as_deref()),
        What::Manifest => manifest::run(context, args.file.as_deref()),
    }
}

/// Returns the directory of the database and its id.
///
/// # Errors
/// If there is none, which would otherwise look as if its files had been lost.
fn database(context: &Context) -> Result<(PathBuf, DatabaseId)> {
    let directory = context.target.directory()?;
    match Directory::read_id(&RealDisk, directory) {
        Ok(id) => Ok((directory.to_path_buf(), id)),
        Err(storage::Error::NotADatabase { .. }) if !directory.exists() => {
            Err(context.target.missing())
        }
        Err(error) => Err(Failure::from(error)),
    }
}

/// Longest key shown, in characters: enough to recognise it.
const KEY_CHARS_MAX: usize = 40;

/// Returns a key of the engine as people read it: the number of the keyspace, and the user's key.
fn key_text(key: &[u8]) -> String {
    match base::key::decode(key) {
        Some((keyspace, key)) => {
            format!("{}/{}", keyspace.0, text::escape_short(key, KEY_CHARS_MAX))
        }
        None => text::escape_short(key, KEY_CHARS_MAX),
    }
}

/// Returns a key of the engine as JSON, whole.
fn key_json(key: &[u8]) -> Value {
    let mut object = Map::new();
    match base::key::decode(key) {
        Some((keyspace, key)) => {
            object.insert("keyspace".to_string(), keyspace.0.into());
            insert_bytes(&mut object, "key", key);
        }
        None => insert_bytes(&mut object, "engine_key", key),
    }
    Value::Object(object)
}
