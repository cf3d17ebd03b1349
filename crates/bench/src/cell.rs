//! The cells: each workload with each number of threads it is run with.
//!
//! | group | begins with | what it shows |
//! |---|---|---|
//! | `commit` | nothing | durable commits: what the log can do |
//! | `fill` | nothing | writing without a sync, in order of the keys and not |
//! | `overwrite` | nothing, and fills it | the price of reclaiming space while writes go on |
//! | `hot` | the records, flushed and compacted | reads that memory answers |
//! | `cold` | the same, or more of them | reads that only the disk can answer |
//! | `transaction` | a copy of the hot records | YCSB, and read-modify-write |
//! | `mixed` | a copy of the hot records | what a writer costs the readers beside it |
//! | `queue` | nothing | deletes that pile up in front of what is read next |
//! | `large` | nothing | values of 16 and 256 KiB |
//! | `open` | the records, closed or killed | how soon the first read is answered |

use crate::peer::Role;
use crate::records::VALUE_BYTES;
use crate::ycsb::Mix;

/// The order of the keys of a fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Ascending,
    Random,
}

/// What the caches hold when a cell begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cache {
    Hot,
    Cold,
}

/// What is done over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    Commits,
    CommitsAsync,
    /// Rows of a transaction.
    Fill(Order, u64),
    Overwrite,
    Get(Cache),
    GetView,
    Absent(Cache),
    Scan(Cache),
    ScanAll(Cache),
    Ycsb(Mix),
    ReadModifyWrite,
    Mixed,
    Queue,
    /// KiB of a value.
    LargeFill(u64),
    LargeOverwrite(u64),
    OpenClean,
    OpenAfterKill,
}

/// A workload at a width: threads, or commits in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) workload: Workload,
    pub(crate) width: usize,
}

/// The data a cell begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    Empty,
    /// Records that are flushed and compacted; the cell only reads.
    Hot,
    /// A copy of these, which the cell may change.
    HotCopy,
    /// As `Hot`, but as many as caches do not hold.
    Cold,
    /// Records as they are after they were loaded and the store was closed.
    Closed,
}

/// Rows of one scan.
pub(crate) const SCAN_ROWS: usize = 100;
/// Rows of one transaction that overwrites.
pub(crate) const OVERWRITE_BATCH: u64 = 100;
/// Times that all data is overwritten before it is measured, so that the store is in its stride,
/// and while it is.
pub(crate) const OVERWRITE_ROUNDS: (u64, u64) = (1, 3);
/// Rows of a whole scan that are one latency.
pub(crate) const SCAN_ALL_ROWS: u64 = 1000;
/// Bytes of large values for each record that the user asked for: as many bytes of data as a
/// million records have take a few seconds to write and overwrite.
const LARGE_BYTES_PER_RECORD: u64 = 256;

impl Workload {
    pub(crate) fn name(self) -> String {
        let cold = |cache, name: &str| match cache {
            Cache::Hot => name.to_owned(),
            Cache::Cold => format!("{name}-cold"),
        };
        match self {
            Workload::Commits => "commits".to_owned(),
            Workload::CommitsAsync => "commits-async".to_owned(),
            Workload::Fill(Order::Ascending, batch) => format!("fill-seq-{batch}"),
            Workload::Fill(Order::Random, batch) => format!("fill-rand-{batch}"),
            Workload::Overwrite => "overwrite".to_owned(),
            Workload::Get(cache) => cold(cache, "get"),
            Workload::GetView => "get-view".to_owned(),
            Workload::Absent(cache) => cold(cache, "absent"),
            Workload::Scan(cache) => cold(cache, "scan"),
            Workload::ScanAll(cache) => cold(cache, "scan-all"),
            Workload::Ycsb(mix) => format!("ycsb-{}", mix.letter()),
            Workload::ReadModifyWrite => "rmw".to_owned(),
            Workload::Mixed => "mixed".to_owned(),
            Workload::Queue => "queue".to_owned(),
            Workload::LargeFill(kib) => format!("fill-{kib}k"),
            Workload::LargeOverwrite(kib) => format!("overwrite-{kib}k"),
            Workload::OpenClean => "open-clean".to_owned(),
            Workload::OpenAfterKill => "open-after-kill".to_owned(),
        }
    }

    /// A word for the workload and its like.
    pub(crate) fn group(self) -> &'static str {
        match self {
            Workload::Commits | Workload::CommitsAsync => "commit",
            Workload::Fill(..) => "fill",
            Workload::Overwrite => "overwrite",
            Workload::GetView => "hot",
            Workload::Get(cache)
            | Workload::Absent(cache)
            | Workload::Scan(cache)
            | Workload::ScanAll(cache) => match cache {
                Cache::Hot => "hot",
                Cache::Cold => "cold",
            },
            Workload::Ycsb(_) | Workload::ReadModifyWrite => "transaction",
            Workload::Mixed => "mixed",
            Workload::Queue => "queue",
            Workload::LargeFill(_) | Workload::LargeOverwrite(_) => "large",
            Workload::OpenClean | Workload::OpenAfterKill => "open",
        }
    }

    pub(crate) fn description(self) -> String {
        let cold = |cache, what: &str| match cache {
            Cache::Hot => what.to_owned(),
            Cache::Cold => format!("{what}; memory for a tenth of the data, no page cache"),
        };
        let text = match self {
            Workload::Commits => "durable puts, one a transaction, a thread each",
            Workload::CommitsAsync => {
                "durable puts, one a transaction, many in flight on few threads"
            }
            Workload::Fill(order, batch) => {
                let order = match order {
                    Order::Ascending => "in the order of their keys",
                    Order::Random => "in random order",
                };
                return format!("records/s {order}, {batch} to a transaction, no sync");
            }
            Workload::Overwrite => {
                "records/s overwritten in random order, 100 to a transaction, after all were once"
            }
            Workload::Get(cache) => {
                return cold(cache, "point reads of loaded keys, each in its own read transaction");
            }
            Workload::GetView => "point reads of loaded keys, all in one read view",
            Workload::Absent(cache) => {
                return cold(cache, "point reads of absent keys, each in its own read transaction");
            }
            Workload::Scan(cache) => {
                return cold(cache, "scans of 100 rows from a random key, each in its own view");
            }
            Workload::ScanAll(cache) => {
                return cold(cache, "rows/s of scans of everything; latency of a thousand rows");
            }
            Workload::Ycsb(mix) => {
                return format!("{}; keys zipfian (0.99), no sync", mix.description());
            }
            Workload::ReadModifyWrite => {
                "read-modify-write transactions on zipfian keys (0.99), no sync"
            }
            Workload::Mixed => {
                "point reads beside one thread that overwrites 20 000 records a second, by hundreds"
            }
            Workload::Queue => {
                "a put at the tail, a seek to the first key, and its delete, no sync"
            }
            Workload::LargeFill(kib) => {
                return format!(
                    "values/s of {kib} KiB in random order, about 256 KiB to a \
                                transaction, no sync"
                );
            }
            Workload::LargeOverwrite(kib) => {
                return format!(
                    "values/s of {kib} KiB overwritten in random order, about 256 KiB \
                                to a transaction, after all were once"
                );
            }
            Workload::OpenClean => "open and first read after the store was loaded and closed",
            Workload::OpenAfterKill => {
                "open and first read after SIGKILL of a process that loaded the store durably"
            }
        };
        text.to_owned()
    }

    pub(crate) fn begin(self) -> Begin {
        match self {
            Workload::Commits
            | Workload::CommitsAsync
            | Workload::Fill(..)
            | Workload::Overwrite
            | Workload::Queue
            | Workload::LargeFill(_)
            | Workload::LargeOverwrite(_)
            | Workload::OpenAfterKill => Begin::Empty,
            Workload::GetView
            | Workload::Get(Cache::Hot)
            | Workload::Absent(Cache::Hot)
            | Workload::Scan(Cache::Hot)
            | Workload::ScanAll(Cache::Hot) => Begin::Hot,
            Workload::Get(Cache::Cold)
            | Workload::Absent(Cache::Cold)
            | Workload::Scan(Cache::Cold)
            | Workload::ScanAll(Cache::Cold) => Begin::Cold,
            Workload::Ycsb(_) | Workload::ReadModifyWrite | Workload::Mixed => Begin::HotCopy,
            Workload::OpenClean => Begin::Closed,
        }
    }

    /// Returns the bytes of a value.
    pub(crate) fn value_bytes(self) -> usize {
        match self {
            Workload::LargeFill(kib) | Workload::LargeOverwrite(kib) => (kib as usize) << 10,
            _ => VALUE_BYTES,
        }
    }

    /// Returns how many records there are, when the user asked for `records`.
    pub(crate) fn records(self, records: u64) -> u64 {
        match self {
            Workload::LargeFill(kib) | Workload::LargeOverwrite(kib) => {
                (records * LARGE_BYTES_PER_RECORD / (kib << 10)).max(16)
            }
            _ => records,
        }
    }

    /// Returns the rows of one transaction of a fill or an overwrite.
    pub(crate) fn batch(self) -> u64 {
        match self {
            Workload::Fill(_, batch) => batch,
            Workload::LargeFill(kib) | Workload::LargeOverwrite(kib) => (256 / kib).max(1),
            _ => OVERWRITE_BATCH,
        }
    }

    fn scans(self) -> bool {
        matches!(self, Workload::Scan(_) | Workload::ScanAll(_) | Workload::Ycsb(Mix::Scans))
    }

    /// Whether a row of this role means anything in this workload.
    pub(crate) fn suits(self, role: Role, all_cells: bool) -> bool {
        let group = self.group();
        let needs_transactions =
            matches!(self, Workload::ReadModifyWrite | Workload::Ycsb(Mix::ReadModifyWrite));
        match role {
            Role::Ours | Role::Variant | Role::Peer => true,
            Role::PlainPeer => !needs_transactions,
            // Where nothing is written or all is synced, it is the same as without this setting.
            Role::UnsafePeer => !matches!(group, "commit" | "hot" | "cold" | "open"),
            Role::LogLimit => group == "commit",
            Role::MemoryLimit => match group {
                "open" | "cold" => false,
                "fill" | "hot" | "transaction" => all_cells || !self.scans(),
                _ => all_cells,
            },
        }
    }
}

impl Cell {
    /// Returns all cells in the order they run.
    pub(crate) fn all() -> Vec<Cell> {
        use Cache::{Cold, Hot};
        use Order::{Ascending, Random};
        let mut widths: Vec<(Workload, &[usize])> =
            vec![(Workload::Commits, &[1, 8, 64]), (Workload::CommitsAsync, &[64])];
        for order in [Ascending, Random] {
            widths.extend([1, 100, 1000].map(|batch| (Workload::Fill(order, batch), &[1][..])));
        }
        widths.extend([
            (Workload::Overwrite, &[1][..]),
            (Workload::Get(Hot), &[1, 2]),
            (Workload::GetView, &[1]),
            (Workload::Absent(Hot), &[1, 2]),
            (Workload::Scan(Hot), &[1]),
            (Workload::ScanAll(Hot), &[1]),
            (Workload::Get(Cold), &[1, 2]),
            (Workload::Absent(Cold), &[1]),
            (Workload::Scan(Cold), &[1]),
            (Workload::ScanAll(Cold), &[1]),
        ]);
        widths.extend(Mix::ALL.map(|mix| (Workload::Ycsb(mix), &[1, 2][..])));
        widths.extend([
            (Workload::ReadModifyWrite, &[1, 2, 8][..]),
            (Workload::Mixed, &[1, 2]),
            (Workload::Queue, &[1]),
            (Workload::LargeFill(16), &[1]),
            (Workload::LargeOverwrite(16), &[1]),
            (Workload::LargeFill(256), &[1]),
            (Workload::LargeOverwrite(256), &[1]),
            (Workload::OpenClean, &[1]),
            (Workload::OpenAfterKill, &[1]),
        ]);
        let cells = widths.into_iter().flat_map(|(workload, widths)| {
            widths.iter().map(move |&width| Cell { workload, width })
        });
        cells.collect()
    }

    pub(crate) fn name(self) -> String {
        format!("{}/{}", self.workload.name(), self.width)
    }

    /// Whether the user's word for cells, a group, a workload of it or a cell, means this one.
    pub(crate) fn is_called(self, word: &str) -> bool {
        word == self.workload.group() || word == self.workload.name() || word == self.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_cells_apart() {
        let mut names: Vec<_> = Cell::all().into_iter().map(Cell::name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_word_means_a_group_a_workload_or_a_cell() {
        let called =
            |word: &str| Cell::all().into_iter().filter(|cell| cell.is_called(word)).count();
        assert_eq!([called("fill"), called("fill-seq-100"), called("get/2")], [6, 1, 1]);
        assert_eq!([called("get"), called("get-cold"), called("fi")], [2, 2, 0]);
    }
}
