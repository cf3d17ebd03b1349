//! What an operation costs besides time: processor, device flushes, bytes on disk.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};

use crate::store::{Result, Store};

/// Reads the counters; two readings make a difference.
pub(crate) struct Meter {
    device: Option<PathBuf>,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    /// Processor time of all threads of this process, in user and kernel mode.
    pub(crate) cpu: Duration,
    /// Cache flushes that the device under the data has completed, whoever asked: it counts for
    /// every store alike, and is only true on an otherwise quiet disk.
    pub(crate) flushes: Option<u64>,
    /// Syncs that the store says it made.
    pub(crate) fsyncs: Option<u64>,
}

impl Meter {
    /// Finds the block device under a directory. There may be none that counts flushes: not on
    /// Linux, or a network or memory file system.
    pub(crate) fn new(dir: &Path) -> Meter {
        Meter { device: device_statistics(dir) }
    }

    pub(crate) fn read(&self, store: Option<&dyn Store>) -> Reading {
        let fsyncs = store.and_then(Store::fsyncs);
        Reading { cpu: cpu_time(), flushes: self.flushes(), fsyncs }
    }

    fn flushes(&self) -> Option<u64> {
        // Documentation/block/stat.rst: the sixteenth field is "flush I/Os".
        let fields = fs::read_to_string(self.device.as_ref()?).ok()?;
        fields.split_whitespace().nth(15)?.parse().ok()
    }
}

impl Reading {
    pub(crate) fn since(self, earlier: Reading) -> Reading {
        let difference = |now: Option<u64>, then: Option<u64>| Some(now?.saturating_sub(then?));
        Reading {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            flushes: difference(self.flushes, earlier.flushes),
            fsyncs: difference(self.fsyncs, earlier.fsyncs),
        }
    }
}

fn cpu_time() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Duration::ZERO };
    let micros =
        |time: nix::sys::time::TimeVal| time.tv_sec() as u64 * 1_000_000 + time.tv_usec() as u64;
    Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
}

fn device_statistics(dir: &Path) -> Option<PathBuf> {
    let number = fs::metadata(dir).ok()?.dev();
    let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
    let device = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    // A partition counts reads and writes, but only its disk counts flushes.
    let disk =
        if device.join("partition").exists() { device.parent()?.to_path_buf() } else { device };
    let statistics = disk.join("stat");
    statistics.exists().then_some(statistics)
}

/// Returns the bytes that the files below a directory take on disk, so holes are free.
pub(crate) fn disk_bytes(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // A store may delete a file between the listing and the look at it.
        let Ok(metadata) = entry.metadata() else { continue };
        bytes += if metadata.is_dir() {
            disk_bytes(&entry.path()).unwrap_or(0)
        } else {
            metadata.blocks() * 512
        };
    }
    Ok(bytes)
}
