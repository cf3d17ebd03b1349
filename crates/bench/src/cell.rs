//! The cells: each workload with each number of threads it is run with.

use crate::peer::Role;

/// What is done over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    Load,
    Get,
    GetView,
    Absent,
    Scan,
    ReadModifyWrite,
    Commits,
    CommitsAsync,
    OpenAfterKill,
}

/// A workload at a width: threads, or commits in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) workload: Workload,
    pub(crate) width: usize,
}

/// Rows of one scan.
pub(crate) const SCAN_ROWS: usize = 100;
/// Rows of one transaction of the load.
pub(crate) const LOAD_BATCH: u64 = 1000;

impl Workload {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Workload::Load => "load",
            Workload::Get => "get",
            Workload::GetView => "get-view",
            Workload::Absent => "absent",
            Workload::Scan => "scan",
            Workload::ReadModifyWrite => "rmw",
            Workload::Commits => "commits",
            Workload::CommitsAsync => "commits-async",
            Workload::OpenAfterKill => "open-after-kill",
        }
    }

    pub(crate) fn description(self) -> &'static str {
        match self {
            Workload::Load => {
                "records/s in random order, 1000 to a transaction, no sync; latency of one of these"
            }
            Workload::Get => "point reads of loaded keys, each in its own read transaction",
            Workload::GetView => "point reads of loaded keys, all in one read view",
            Workload::Absent => "point reads of absent keys, each in its own read transaction",
            Workload::Scan => "scans of 100 rows from a random key, each in its own read view",
            Workload::ReadModifyWrite => {
                "read-modify-write transactions on zipfian keys (0.99), no sync"
            }
            Workload::Commits => "durable puts, one a transaction, a thread each",
            Workload::CommitsAsync => {
                "durable puts, one a transaction, many in flight on few threads"
            }
            Workload::OpenAfterKill => {
                "open and first read after SIGKILL of a process that loaded the store durably"
            }
        }
    }

    /// Whether the cell begins with an empty store, not with a loaded one.
    pub(crate) fn begins_empty(self) -> bool {
        matches!(
            self,
            Workload::Load | Workload::Commits | Workload::CommitsAsync | Workload::OpenAfterKill
        )
    }

    /// Whether a row of this role means anything in this workload.
    pub(crate) fn suits(self, role: Role, all_cells: bool) -> bool {
        let commits = matches!(self, Workload::Commits | Workload::CommitsAsync);
        let keeps = self == Workload::OpenAfterKill;
        match role {
            Role::Ours | Role::Peer => true,
            Role::LogLimit => commits,
            Role::MemoryLimit => !keeps && (all_cells || !commits && self != Workload::Scan),
        }
    }
}

impl Cell {
    /// Returns all cells in the order they run: what writes to the loaded store comes last.
    pub(crate) fn all() -> Vec<Cell> {
        let widths: [(Workload, &[usize]); 9] = [
            (Workload::Load, &[1]),
            (Workload::Get, &[1, 2]),
            (Workload::GetView, &[1]),
            (Workload::Absent, &[1]),
            (Workload::Scan, &[1]),
            (Workload::ReadModifyWrite, &[1, 2, 8]),
            (Workload::Commits, &[1, 8, 64]),
            (Workload::CommitsAsync, &[64]),
            (Workload::OpenAfterKill, &[1]),
        ];
        let cells = widths.into_iter().flat_map(|(workload, widths)| {
            widths.iter().map(move |&width| Cell { workload, width })
        });
        cells.collect()
    }

    pub(crate) fn name(self) -> String {
        format!("{}/{}", self.workload.name(), self.width)
    }

    /// Whether the user's word for cells, a workload or a cell of it, means this one.
    pub(crate) fn is_called(self, word: &str) -> bool {
        word == self.workload.name() || word == self.name()
    }
}
