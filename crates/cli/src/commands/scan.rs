//! `holm scan`, and the range that it shares with the shell.

use holm::{KeyRange, Scan};

use super::Context;
use crate::exit::Result;
use crate::form::Text;
use crate::when::{self, When};

/// Prints the rows of a range in the order of their keys: key, tab, value, in text form.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) what: What,

    /// Reads the past: a commit timestamp, or an age such as -30s, -5m, -2h.
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    at: Option<When>,
}

/// Which rows, and what of them.
#[derive(Debug, clap::Args)]
pub(crate) struct What {
    /// The first key.
    start: Option<Text>,

    /// The key to end before.
    end: Option<Text>,

    /// All keys that begin so.
    #[arg(long, conflicts_with_all = ["start", "end"])]
    prefix: Option<Text>,

    /// At most so many rows.
    #[arg(long, value_name = "ROWS")]
    limit: Option<usize>,

    /// From the last key to the first.
    #[arg(long)]
    reverse: bool,

    /// Only the keys.
    #[arg(long)]
    pub(crate) keys_only: bool,
}

impl What {
    pub(crate) fn range(&self) -> KeyRange {
        if let Some(prefix) = &self.prefix {
            return KeyRange::prefix(&prefix.0);
        }
        let start = self.start.as_ref().map(|start| start.0.clone()).unwrap_or_default();
        KeyRange { start: start.into(), end: self.end.as_ref().map(|end| end.0.clone().into()) }
    }

    pub(crate) fn apply<'t>(&self, scan: Scan<'t>) -> Scan<'t> {
        let scan = if self.reverse { scan.reverse() } else { scan };
        match self.limit {
            Some(rows) => scan.limit(rows),
            None => scan,
        }
    }
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result {
    let db = context.target.open()?;
    let snapshot = when::snapshot(&db, args.at)?;
    let Some(keyspace) = context.target.keyspace_to_read(&db)? else { return Ok(()) };
    for row in args.what.apply(snapshot.scan(&keyspace, args.what.range())) {
        let row = row?;
        let value = (!args.what.keys_only).then_some(row.value());
        context.output.row(row.key(), value)?;
    }
    Ok(())
}
