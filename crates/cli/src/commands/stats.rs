//! `holm stats`.

use holm::{Db, Stats};
use serde_json::{Value, json};

use super::Context;
use crate::exit::Result;
use crate::table::{self, grouped};

/// Shows sizes and counts of the database.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Rows and bytes of one keyspace.
struct KeyspaceSize {
    name: String,
    rows: u64,
    key_bytes: u64,
    value_bytes: u64,
}

pub(crate) fn run(context: &mut Context, _: Args) -> Result {
    let db = context.target.open()?;
    let keyspaces = sizes(&db)?;
    let stats = db.stats();
    if context.output.is_json() {
        let keyspaces: Vec<Value> = keyspaces
            .iter()
            .map(|size| {
                json!({
                    "name": size.name,
                    "rows": size.rows,
                    "key_bytes": size.key_bytes,
                    "value_bytes": size.value_bytes,
                })
            })
            .collect();
        let mut object = json(&stats);
        object["keyspaces"] = keyspaces.into();
        return context.output.json(&object);
    }
    let rows = keyspaces.into_iter().map(|size| {
        let bytes = [size.key_bytes, size.value_bytes].map(table::bytes);
        [vec![size.name, grouped(size.rows)], bytes.to_vec()].concat()
    });
    context.output.line(&table::numbers(&["keyspace", "rows", "keys", "values"], rows))?;
    context.output.line("")?;
    context.output.line(&table::pairs(lines(&stats)))
}

fn sizes(db: &Db) -> Result<Vec<KeyspaceSize>> {
    let snapshot = db.snapshot();
    let size = |keyspace: holm::Keyspace| {
        let name = keyspace.name().to_string();
        let mut size = KeyspaceSize { name, rows: 0, key_bytes: 0, value_bytes: 0 };
        for row in snapshot.scan(&keyspace, ..) {
            let row = row?;
            size.rows += 1;
            size.key_bytes += row.key().len() as u64;
            size.value_bytes += row.value().len() as u64;
        }
        Ok(size)
    };
    db.keyspaces().into_iter().map(size).collect()
}

/// Returns sizes and counts for people.
pub(crate) fn lines(stats: &Stats) -> Vec<(&'static str, String)> {
    let (engine, recovery) = (&stats.engine, &stats.recovery);
    let mut lines = vec![
        ("newest commit", format!("@{}", stats.visible)),
        ("oldest readable", format!("@{}", engine.oldest_readable)),
        ("memory", table::bytes(engine.memory_bytes())),
        ("keys in memtables", grouped(engine.memtable_keys as u64)),
        ("log to replay", table::bytes(engine.log_bytes)),
        ("log segments", engine.wal.segments.to_string()),
        ("tables", table::bytes(engine.table_bytes())),
        ("in tables up to", format!("@{}", engine.checkpoint_ts)),
        ("closed cleanly", if recovery.clean { "yes" } else { "no" }.to_string()),
        ("replayed from log", format!("{} transactions", grouped(recovery.replayed))),
        ("torn bytes cut off", grouped(recovery.torn_bytes)),
    ];
    if let Some(error) = &stats.background_error {
        lines.push(("last flush or compaction failed", error.clone()));
    }
    lines
}

/// Returns sizes and counts as a JSON object.
pub(crate) fn json(stats: &Stats) -> Value {
    let (engine, recovery, transactions) = (&stats.engine, &stats.recovery, &stats.transactions);
    json!({
        "newest_commit": stats.visible.raw(),
        "oldest_readable": engine.oldest_readable.raw(),
        "memory_bytes": engine.memory_bytes(),
        "memtable_keys": engine.memtable_keys,
        "log_bytes": engine.log_bytes,
        "log_segments": engine.wal.segments,
        "log_syncs": engine.wal.syncs,
        "table_bytes": engine.table_bytes(),
        "checkpoint_timestamp": engine.checkpoint_ts.raw(),
        "background_error": stats.background_error,
        "commits": transactions.commits,
        "conflicts": transactions.conflicts,
        "deadlocks": transactions.deadlocks,
        "recovery": {
            "clean": recovery.clean,
            "tables": recovery.tables,
            "replayed": recovery.replayed,
            "torn_bytes": recovery.torn_bytes,
            "orphans": recovery.orphans,
        },
    })
}
