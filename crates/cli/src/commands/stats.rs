//! `holm stats`.

use holm::{CacheStats, Db, LevelStats, Stats};
use serde_json::{Value, json};

use super::Context;
use crate::exit::Result;
use crate::table::{self, grouped};

/// Shows sizes and counts of the database.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also counts the rows of each keyspace, which reads all of them.
    #[arg(long)]
    count: bool,
}

/// Rows and bytes of one keyspace.
struct KeyspaceSize {
    name: String,
    rows: u64,
    key_bytes: u64,
    value_bytes: u64,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result {
    let db = context.target.open()?;
    let keyspaces = if args.count { sizes(&db)? } else { Vec::new() };
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
        if args.count {
            object["keyspaces"] = keyspaces.into();
        }
        return context.output.json(&object);
    }
    let rows = keyspaces.into_iter().map(|size| {
        let bytes = [size.key_bytes, size.value_bytes].map(table::bytes);
        [vec![size.name, grouped(size.rows)], bytes.to_vec()].concat()
    });
    if args.count {
        context.output.line(&table::numbers(&["keyspace", "rows", "keys", "values"], rows))?;
        context.output.line("")?;
    }
    if !stats.engine.levels.is_empty() {
        let header = [
            "tree",
            "level",
            "runs",
            "tables",
            "bytes",
            "versions",
            "tombstones",
            "written a byte",
            "kept a byte",
        ];
        let levels = stats.engine.levels.iter().map(|level| {
            vec![
                level.tree.to_string(),
                level.level.to_string(),
                level.runs.to_string(),
                level.tables.to_string(),
                table::bytes(level.bytes),
                grouped(level.entries),
                grouped(level.tombstones),
                ratio(stats.engine.level_write_amplification(level)),
                ratio(stats.engine.level_space_amplification(level)),
            ]
        });
        context.output.line(&table::numbers(&header, levels))?;
        context.output.line("")?;
    }
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
        ("memory", {
            let budget = table::bytes(engine.memory_budget_bytes as u64);
            format!("{} of {budget}", table::bytes(engine.memory_bytes()))
        }),
        ("hot rows", cache(&engine.row_cache)),
        ("blocks", cache(&engine.block_cache)),
        ("indexes and filters", {
            let reads = &engine.table_reads;
            let in_vain = table::count(reads.filter_false_positives, "table");
            let metadata = table::bytes(engine.metadata_bytes as u64);
            format!("{metadata}, {in_vain} asked in vain")
        }),
        ("keys in memtables", grouped(engine.memtable_keys as u64)),
        ("log to replay", table::bytes(engine.log_bytes)),
        ("log segments", engine.wal.segments.to_string()),
        ("rows, about", grouped(rows_estimate(stats))),
        ("tables", table::bytes(engine.table_bytes())),
        ("value files", {
            let values = &engine.values;
            let live = table::bytes(values.live_bytes);
            let files = table::count(values.files, "file");
            format!("{} in {files}, {live} in use", table::bytes(values.bytes))
        }),
        ("in tables up to", format!("@{}", engine.checkpoint_ts)),
        ("runs to ask for a key", engine.read_amplification().to_string()),
        ("bytes written a byte", ratio(engine.write_amplification())),
        ("bytes kept a byte", ratio(engine.space_amplification())),
        ("flushed", {
            let memtables = table::count(engine.flushes, "memtable");
            format!("{}, {memtables}", table::bytes(engine.flushed_bytes))
        }),
        ("compacted", {
            let written = table::bytes(engine.compaction_written_bytes);
            format!("{written}, {}", table::count(engine.compactions, "compaction"))
        }),
        ("to be compacted", table::bytes(engine.debt_bytes)),
        ("commits slowed down", {
            let time = std::time::Duration::from_nanos(engine.delayed_ns);
            format!("{}, for {time:.1?} together", grouped(engine.delayed))
        }),
        ("closed cleanly", if recovery.clean { "yes" } else { "no" }.to_string()),
        ("replayed from log", format!("{} transactions", grouped(recovery.replayed))),
        ("torn bytes cut off", grouped(recovery.torn_bytes)),
    ];
    if let Some(error) = &stats.background_error {
        lines.push(("last flush or compaction failed", error.clone()));
    }
    if let Some(damage) = &stats.damage {
        lines.push(("damage was found", damage.clone()));
    }
    lines
}

/// Returns about how many rows there are, without reading any: old versions count, too, and each
/// tombstone is taken to hide one of them.
fn rows_estimate(stats: &Stats) -> u64 {
    let row = |level: &LevelStats| level.entries.saturating_sub(2 * level.tombstones);
    let in_tables: u64 = stats.engine.levels.iter().map(row).sum();
    in_tables + stats.engine.memtable_keys as u64
}

fn cache(stats: &CacheStats) -> String {
    let (used, asked) = (table::bytes(stats.bytes), stats.hits + stats.misses);
    let share = 100 * stats.hits / asked.max(1);
    format!("{used}, {share} % of {} found", table::count(asked, "read"))
}

fn ratio(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".to_string(), |ratio| format!("{ratio:.2}"))
}

fn cache_json(stats: &CacheStats) -> Value {
    json!({
        "bytes": stats.bytes,
        "capacity_bytes": stats.capacity_bytes,
        "entries": stats.entries,
        "hits": stats.hits,
        "misses": stats.misses,
        "evictions": stats.evictions,
    })
}

/// Returns sizes and counts as a JSON object.
pub(crate) fn json(stats: &Stats) -> Value {
    let (engine, recovery, transactions) = (&stats.engine, &stats.recovery, &stats.transactions);
    let mut object = json!({
        "newest_commit": stats.visible.raw(),
        "oldest_readable": engine.oldest_readable.raw(),
        "memory_bytes": engine.memory_bytes(),
        "memtable_keys": engine.memtable_keys,
        "log_bytes": engine.log_bytes,
        "log_segments": engine.wal.segments,
        "log_syncs": engine.wal.syncs,
        "rows_estimate": rows_estimate(stats),
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
    });
    object["memory"] = json!({
        "memory_budget_bytes": engine.memory_budget_bytes,
        "memtable_bytes": engine.memtable_bytes,
        "sealed_memtables": engine.sealed,
        "row_cache": cache_json(&engine.row_cache),
        "block_cache": cache_json(&engine.block_cache),
        "metadata_bytes": engine.metadata_bytes,
        "table_reads": engine.table_reads.reads,
        "table_read_bytes": engine.table_reads.read_bytes,
        "filter_negatives": engine.table_reads.filter_negatives,
        "filter_false_positives": engine.table_reads.filter_false_positives,
    });
    object["tables"] = json!({
        "flushes": engine.flushes,
        "flushed_bytes": engine.flushed_bytes,
        "compactions": engine.compactions,
        "moves": engine.moves,
        "compaction_read_bytes": engine.compaction_read_bytes,
        "compaction_written_bytes": engine.compaction_written_bytes,
        "debt_bytes": engine.debt_bytes,
        "delayed_commits": engine.delayed,
        "delayed_ns": engine.delayed_ns,
        "user_bytes": engine.user_bytes,
        "write_amplification": engine.write_amplification(),
        "space_amplification": engine.space_amplification(),
        "read_amplification": engine.read_amplification(),
        "scrubbed_bytes": engine.scrubbed_bytes,
        "damage": stats.damage,
        "levels": engine.levels.iter().map(|level| json!({
            "tree": level.tree,
            "level": level.level,
            "runs": level.runs,
            "tables": level.tables,
            "bytes": level.bytes,
            "versions": level.entries,
            "tombstones": level.tombstones,
            "value_bytes": level.value_bytes,
            "written_bytes": level.written_bytes,
            "read_amplification": level.runs,
            "write_amplification": engine.level_write_amplification(level),
            "space_amplification": engine.level_space_amplification(level),
        })).collect::<Vec<_>>(),
    });
    object["values"] = json!({
        "files": engine.values.files,
        "bytes": engine.values.bytes,
        "live_bytes": engine.values.live_bytes,
        "moved_bytes": engine.moved_value_bytes,
    });
    object
}
