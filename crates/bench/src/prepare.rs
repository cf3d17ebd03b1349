//! What cells begin with: stores that were loaded before.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::cell::Cell;
use crate::options::{Options, Task};
use crate::peer::Peer;
use crate::records::{Batch, FIRST, VALUE_BYTES, Values, key};
use crate::store::{Access, Durability, Result, Session, Setup, Store};

/// Rows of one transaction of the load.
pub(crate) const LOAD_BATCH: u64 = 1000;

/// Rows of a durable transaction of the child that is killed: few enough syncs that copy-on-write
/// trees do not take minutes.
const DURABLE_LOAD_BATCH: u64 = 10_000;

/// What the child says once its records are durable.
const LOADED: &str = "loaded";

/// Opens a store in a directory, which is made if need be.
pub(crate) fn open(peer: &Peer, setup: &Setup<'_>) -> Result<Box<dyn Store>> {
    fs::create_dir_all(setup.dir)?;
    (peer.open)(setup)
}

fn setup(options: &Options, durability: Durability) -> Setup<'_> {
    Setup {
        dir: &options.dir,
        durability,
        memory_bytes: options.memory_bytes(),
        access: Access::Write,
        large_values: false,
    }
}

/// Loads a store; unless it is to be closed as it is then, flushes and compacts it.
pub(crate) fn prepare(options: &Options, peer: &Peer, task: Task) -> Result<()> {
    let records = if task == Task::PrepareCold { options.cold_records() } else { options.records };
    let store = open(peer, &setup(options, Durability::None))?;
    let mut values = Values::new(options.seed, VALUE_BYTES, options.compressible);
    load(&mut *store.session()?, records, LOAD_BATCH, &mut values)?;
    if task != Task::PrepareClosed {
        store.settle()?;
        store.compact()?;
    }
    store.close()?;
    // Cells that follow do not pay for what the kernel still has to write.
    sync_files(&options.dir)
}

/// Has the kernel write what it still holds of the files below a directory.
pub(crate) fn sync_files(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_files(&path)?;
        } else if let Ok(file) = File::open(path) {
            // One that cannot be opened was deleted by the store since.
            file.sync_all()?;
        }
    }
    Ok(())
}

/// Loads a store durably, says so, and waits for its end: for the signal, or for a parent that
/// has died and so closed the pipe.
pub(crate) fn load_and_wait(options: &Options, peer: &Peer) -> Result<()> {
    let store = open(peer, &setup(options, Durability::Sync))?;
    let mut values = Values::new(options.seed, VALUE_BYTES, options.compressible);
    load(&mut *store.session()?, options.records, DURABLE_LOAD_BATCH, &mut values)?;
    println!("{LOADED}");
    std::io::stdin().lock().read_line(&mut String::new())?;
    Ok(())
}

/// Has a child load a store, and kills it when its records are durable.
pub(crate) fn load_and_kill(
    prefix: &[&str],
    options: &Options,
    cell: Cell,
    peer: &Peer,
    dir: &Path,
) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(prefix);
    command.args(options.child(Task::LoadAndWait, peer.name, cell, dir, options.run));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut said = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut said)?;
    }
    // On Unix this is SIGKILL, to the child's own process id.
    child.kill()?;
    child.wait()?;
    if said.trim() == LOADED { Ok(()) } else { Err("the child could not load".into()) }
}

/// Writes records in random order.
pub(crate) fn load(
    session: &mut dyn Session,
    records: u64,
    batch_rows: u64,
    values: &mut Values,
) -> Result<()> {
    let mut batch = Batch::new(batch_rows);
    for start in (0..records).step_by(batch_rows as usize) {
        batch.fill((start..records.min(start + batch_rows)).map(key), values);
        session.write_batch(&batch.rows(values))?;
    }
    Ok(())
}

/// Reads everything once, so that a hot cell does not pay for cold caches: key by key if its reads
/// are, since some caches hold keys and not blocks.
pub(crate) fn warm(session: &mut dyn Session, records: u64, points: bool) -> Result<()> {
    let rows = session.scan(FIRST, records as usize, &mut |_, _| ())?;
    if rows as u64 != records {
        return Err(format!("{rows} rows of {records}").into());
    }
    let mut value = Vec::new();
    for number in 0..if points { records } else { 0 } {
        if !session.get(&key(number), &mut value)? {
            return Err("a loaded key was not found".into());
        }
    }
    Ok(())
}
