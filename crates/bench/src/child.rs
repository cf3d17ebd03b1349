//! Starts the processes that measure, one for each cell on each store.
//!
//! A process of its own has no memory of the cells before it: peaks, counters of bytes and the
//! state of the allocator are the cell's alone, and a store that dies takes nothing else along.
//!
//! ```text
//!  scratch/<store>/hot       loaded, flushed, compacted      made once, when a cell asks for it
//!  scratch/<store>/cold      the same, as much as is asked for
//!  scratch/<store>/closed    loaded and closed
//!  scratch/<store>/fresh     the cell's own: empty, or a copy of one of these
//! ```

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cell::{Begin, Cell};
use crate::figures::Figures;
use crate::json::Json;
use crate::options::{Options, Task};
use crate::peer::{Peer, Role};
use crate::prepare;
use crate::run::{Runner, remove};
use crate::store::Result;

/// Starts children for cells, and keeps what they begin with.
pub(crate) struct Children<'a> {
    options: &'a Options,
    /// Arguments that bring this program back to this library.
    prefix: &'a [&'a str],
    root: PathBuf,
}

/// What begins the line of a child that has measured.
const FIGURES: &str = "figures: ";

impl<'a> Children<'a> {
    pub(crate) fn new(options: &'a Options, prefix: &'a [&'a str], root: &Path) -> Children<'a> {
        Children { options, prefix, root: root.to_path_buf() }
    }

    /// Runs a cell in a child; `None` if the store has no such operation.
    pub(crate) fn measure(&self, cell: Cell, peer: &Peer, run: u32) -> Result<Option<Figures>> {
        let home = self.root.join(peer.name);
        let fresh = home.join("fresh");
        remove(&fresh)?;
        std::fs::create_dir_all(&fresh)?;
        // A store that keeps nothing loads what it needs itself.
        let keeps = peer.role != Role::MemoryLimit;
        let dir = match cell.workload.begin() {
            begin if begin == Begin::Empty || !keeps => fresh.clone(),
            Begin::Hot => self.prepared(cell, peer, &home.join("hot"), Task::PrepareHot)?,
            Begin::Cold => self.prepared(cell, peer, &home.join("cold"), Task::PrepareCold)?,
            begin => {
                let (name, task) = match begin {
                    Begin::Closed => ("closed", Task::PrepareClosed),
                    _ => ("hot", Task::PrepareHot),
                };
                copy(&self.prepared(cell, peer, &home.join(name), task)?, &fresh)?;
                fresh.clone()
            }
        };
        let line = self.start(cell, peer, &dir, run, Task::Measure)?;
        remove(&fresh)?;
        let json = line.strip_prefix(FIGURES).ok_or("the child measured nothing")?;
        match Json::parse(json)? {
            Json::Null => Ok(None),
            figures => Ok(Some(Figures::from_json(&figures))),
        }
    }

    /// Returns a directory with the data, which is made the first time.
    fn prepared(&self, cell: Cell, peer: &Peer, dir: &Path, task: Task) -> Result<PathBuf> {
        if !dir.exists() {
            std::fs::create_dir_all(dir)?;
            // Half of it would pass for the whole the next time.
            self.start(cell, peer, dir, 0, task).inspect_err(|_| drop(remove(dir)))?;
        }
        Ok(dir.to_path_buf())
    }

    /// Runs a child to its end and returns its last line.
    fn start(&self, cell: Cell, peer: &Peer, dir: &Path, run: u32, task: Task) -> Result<String> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(self.prefix);
        command.args(self.options.child(task, peer.name, cell, dir, run));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut last = String::new();
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).lines() {
                last = line?;
            }
        }
        let status = child.wait()?;
        if status.success() { Ok(last) } else { Err(format!("the child ended: {status}").into()) }
    }
}

/// Copies a directory with its holes: a mapped file is mostly one.
fn copy(from: &Path, to: &Path) -> Result<()> {
    remove(to)?;
    let status = Command::new("cp").args(["-a", "--sparse=auto"]).arg(from).arg(to).status()?;
    if status.success() { Ok(()) } else { Err(format!("cp ended: {status}").into()) }
}

/// Does in a child what its options say.
pub(crate) fn run(
    prefix: &[&str],
    options: &Options,
    task: Task,
    cell: Cell,
    peer: &Peer,
) -> Result<()> {
    match task {
        Task::Measure => {
            let measured = Runner::new(options, cell, peer, &options.dir).run(prefix)?;
            let fields = measured.map(|measured| Figures::of(&measured).fields());
            println!("{FIGURES}{}", fields.map_or(Json::Null, Json::Object));
            Ok(())
        }
        Task::LoadAndWait => prepare::load_and_wait(options, peer),
        Task::PrepareHot | Task::PrepareCold | Task::PrepareClosed => {
            prepare::prepare(options, peer, task)
        }
    }
}
