//! `holm get`.

use base::text;
use serde_json::{Map, Value};

use super::Context;
use crate::exit::{Failure, Result};
use crate::form::{Text, insert_bytes};
use crate::when::{self, When};

/// Prints the value of a key; prints nothing and exits with 1 if there is no such key.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The key, in text form.
    key: Text,

    /// Reads the past: a commit timestamp, or an age such as -30s, -5m, -2h.
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    at: Option<When>,

    /// Prints the value's bytes as they are, and nothing after them.
    #[arg(long)]
    raw: bool,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result {
    let db = context.target.open()?;
    let snapshot = when::snapshot(&db, args.at)?;
    let keyspace = context.target.keyspace_to_read(&db)?.ok_or(Failure::Silent)?;
    let found = snapshot.get_versioned(&keyspace, &args.key)?;
    let (timestamp, value) = found.ok_or(Failure::Silent)?;
    let output = &mut context.output;
    if args.raw {
        output.bytes(&value)
    } else if output.is_json() {
        let mut object = Map::new();
        insert_bytes(&mut object, "key", &args.key.0);
        insert_bytes(&mut object, "value", &value);
        object.insert("timestamp".to_string(), timestamp.raw().into());
        output.json(&Value::Object(object))
    } else {
        output.line(&text::escape(&value))
    }
}
