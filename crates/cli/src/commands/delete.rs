//! `holm delete`.

use super::{Context, put};
use crate::exit::Result;
use crate::form::Text;

/// Deletes a key, whether or not it is there; prints the commit timestamp once that is durable.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The key, in text form.
    key: Text,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result {
    let db = context.target.open()?;
    let timestamp = match context.target.keyspace_to_read(&db)? {
        Some(keyspace) => db.delete(&keyspace, &args.key)?,
        // Nothing was ever there.
        None => db.now(),
    };
    put::acknowledge(&mut context.output, timestamp)
}
