//! Prints write and space amplification of the picker alone, for several sizes of memtables and
//! options: `cargo run --release -p storage --example compaction_shapes`.
//!
//! No disk is touched: tables are lists of numbers. One million keys of 144 bytes, uniform at
//! random: first each is written once, then all are overwritten five times over. Compaction does
//! all it wants between two flushes. Written bytes count log, flush and compaction; space is
//! relative to 144 MB, with the log of the active memtable: on average after each flush and each
//! compaction, and at its highest, inputs and outputs of a compaction together.

use storage as store;
use storage::compaction::CompactionOptions;
use storage::version::Style;

#[path = "../src/compaction/tests/model.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod model;

use model::{ENTRY_BYTES, Model};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

fn run(name: &str, keys: u32, options: CompactionOptions, style: Style) {
    let flush_bytes = options.flush_bytes;
    let mut model = Model::new(options, style);
    let mut random = Random(88_172_645_463_325_252);
    let mut order: Vec<u32> = (0..keys).collect();
    for at in (1..order.len()).rev() {
        order.swap(at, (random.next() % (at as u64 + 1)) as usize);
    }
    let live = f64::from(keys) * ENTRY_BYTES as f64;
    let amplification = |model: &Model| {
        let written = model.written;
        (written.user + written.flush + written.compaction) as f64 / written.user as f64
    };
    for key in order {
        model.write(key, false);
        if model.memtable_bytes >= flush_bytes {
            model.flush();
            model.settle();
        }
    }
    let fill = amplification(&model);
    // Two rounds to come to rest, then three that count.
    let (mut space, mut samples, mut runs_most) = (0.0, 0, 0);
    for round in 0..5 {
        if round == 2 {
            model.written = Default::default();
            model.peak_bytes = 0;
        }
        for _ in 0..keys {
            model.write((random.next() % u64::from(keys)) as u32, false);
            if model.memtable_bytes < flush_bytes {
                continue;
            }
            model.flush();
            loop {
                if round >= 2 {
                    space += (model.disk_bytes() + model.memtable_bytes) as f64 / live;
                    samples += 1;
                    let shape = model.tree_shape();
                    let runs: usize = shape.levels.iter().map(Vec::len).sum();
                    runs_most = runs_most.max(runs);
                }
                let choice = model.pick();
                if !model.apply(&choice) {
                    break;
                }
            }
        }
    }
    println!(
        "{name:44} {fill:5.2} {:9.2} {:9.2} {:7.2} {runs_most:5} {:6}",
        amplification(&model),
        space / f64::from(samples),
        model.peak_bytes as f64 / live,
        model.tables.len(),
    );
}

fn main() {
    println!(
        "{:44} {:>5} {:>9} {:>9} {:>7} {:>5} {:>6}",
        "", "fill", "overwrite", "space", "highest", "runs", "tables"
    );
    for mib in [4, 8, 16, 32, 64] {
        for share in [30, 50, 70, 100] {
            let options = CompactionOptions {
                l0_share_percent: share,
                ..CompactionOptions::for_flush_bytes(mib << 20)
            };
            run(
                &format!("memtable {mib} MiB, share {share} %"),
                1_000_000,
                options,
                Style::Leveled,
            );
        }
    }
    for pieces in [1, 4, 8, 16, 32] {
        let options =
            CompactionOptions { l0_pieces: pieces, ..CompactionOptions::for_flush_bytes(16 << 20) };
        run(&format!("memtable 16 MiB, {pieces} pieces"), 1_000_000, options, Style::Leveled);
    }
    for table_mib in [2, 4, 16] {
        let options = CompactionOptions {
            table_bytes: table_mib << 20,
            ..CompactionOptions::for_flush_bytes(16 << 20)
        };
        run(
            &format!("memtable 16 MiB, tables {table_mib} MiB"),
            1_000_000,
            options,
            Style::Leveled,
        );
    }
    for factor in [4, 8] {
        let options = CompactionOptions {
            base_bytes: factor * (16 << 20),
            ..CompactionOptions::for_flush_bytes(16 << 20)
        };
        run(
            &format!("memtable 16 MiB, base {factor} memtables"),
            1_000_000,
            options,
            Style::Leveled,
        );
    }
    for (mib, runs) in [(4, 10), (4, 16), (4, 24), (8, 10), (8, 16)] {
        let options = CompactionOptions {
            base_bytes: 256 << 20,
            l0_runs_max: runs,
            ..CompactionOptions::for_flush_bytes(mib << 20)
        };
        let name = format!("memtable {mib} MiB, base 256 MiB, {runs} runs");
        run(&name, 1_000_000, options, Style::Leveled);
    }
    let options = CompactionOptions::for_flush_bytes(16 << 20);
    run("memtable 16 MiB, tiered", 1_000_000, options, Style::Tiered);
    for mib in [4, 16] {
        let options = CompactionOptions::for_flush_bytes(mib << 20);
        run(&format!("memtable {mib} MiB, 8 M keys"), 8_000_000, options, Style::Leveled);
    }
}
