//! What an operation costs besides time: processor, device, memory, bytes on disk.
//!
//! Bytes are those of this process, as the kernel accounts for them in `/proc/self/io`: what is
//! written counts when a page of a file becomes dirty, or when a direct write is sent; what is
//! overwritten before it reaches the disk counts once. Reads, writes and flushes of the device are
//! the whole machine's, and only true on an otherwise quiet disk.

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
    /// Cache flushes that the device under the data has completed, whoever asked.
    pub(crate) flushes: Option<u64>,
    /// Reads that it has completed, whoever asked.
    pub(crate) device_reads: Option<u64>,
    /// Bytes that it was sent to write, whoever asked.
    pub(crate) device_written_bytes: Option<u64>,
    /// Syncs that the store says it made.
    pub(crate) fsyncs: Option<u64>,
    /// Bytes that this process had the device read.
    pub(crate) read_bytes: Option<u64>,
    /// Bytes that it had the device write, or made it to in time.
    pub(crate) written_bytes: Option<u64>,
    /// Bytes that it handed to system calls that write.
    pub(crate) write_call_bytes: Option<u64>,
}

/// Memory of this process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// The most that was resident, mapped files included.
    pub(crate) peak_bytes: Option<u64>,
    /// The most that was seen of what no file backs.
    pub(crate) anonymous_peak_bytes: Option<u64>,
}

/// Space of the store's directory.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Space {
    pub(crate) bytes: u64,
    pub(crate) peak_bytes: u64,
    pub(crate) settled_bytes: Option<u64>,
}

impl Meter {
    /// Finds the block device under a directory. There may be none that counts: not on Linux, or a
    /// network or memory file system.
    pub(crate) fn new(dir: &Path) -> Meter {
        Meter { device: device_statistics(dir) }
    }

    pub(crate) fn read(&self, store: Option<&dyn Store>) -> Reading {
        // Documentation/block/stat.rst: the first field is "read I/Os", the seventh "write
        // sectors", which have 512 bytes whatever the disk's have, the sixteenth "flush I/Os".
        let device = self.device.as_ref().and_then(|path| fs::read_to_string(path).ok());
        let field =
            |index| -> Option<u64> { device.as_ref()?.split_whitespace().nth(index)?.parse().ok() };
        let process = fs::read_to_string("/proc/self/io").ok();
        let counter = |name| labelled(process.as_ref()?, name);
        Reading {
            cpu: cpu_time(),
            flushes: field(15),
            device_reads: field(0),
            device_written_bytes: field(6).map(|sectors| sectors * 512),
            fsyncs: store.and_then(Store::fsyncs),
            read_bytes: counter("read_bytes"),
            written_bytes: counter("write_bytes"),
            write_call_bytes: counter("wchar"),
        }
    }
}

impl Reading {
    pub(crate) fn since(self, earlier: Reading) -> Reading {
        let difference = |now: Option<u64>, then: Option<u64>| Some(now?.saturating_sub(then?));
        Reading {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            flushes: difference(self.flushes, earlier.flushes),
            device_reads: difference(self.device_reads, earlier.device_reads),
            device_written_bytes: difference(
                self.device_written_bytes,
                earlier.device_written_bytes,
            ),
            fsyncs: difference(self.fsyncs, earlier.fsyncs),
            read_bytes: difference(self.read_bytes, earlier.read_bytes),
            written_bytes: difference(self.written_bytes, earlier.written_bytes),
            write_call_bytes: difference(self.write_call_bytes, earlier.write_call_bytes),
        }
    }
}

impl Memory {
    /// Forgets the peaks so far.
    pub(crate) fn reset() -> Memory {
        // proc(5): writing 5 resets the peak of the resident set. Where that is not permitted, the
        // peak is that of the whole process, loading of the store included.
        let _ = fs::write("/proc/self/clear_refs", "5");
        Memory::default()
    }

    /// Looks once more.
    pub(crate) fn look(&mut self) {
        self.peak_bytes = status_bytes("VmHWM");
        let anonymous = status_bytes("RssAnon");
        self.anonymous_peak_bytes = self.anonymous_peak_bytes.max(anonymous);
    }
}

/// Returns how much of mapped files is resident.
pub(crate) fn resident_file_bytes() -> Option<u64> {
    status_bytes("RssFile")
}

/// Returns a size from what the kernel says of this process. It says it in KiB.
fn status_bytes(name: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    labelled(&status, name).map(|kib| kib << 10)
}

/// Returns the number behind `name:`.
fn labelled(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse().ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_by_its_label() {
        let text = "rchar: 7\nwchar: 12\nVmHWM:\t  345 kB\n";
        let found = ["wchar", "VmHWM", "char", "missing"].map(|name| labelled(text, name));
        assert_eq!(found, [Some(12), Some(345), None, None]);
    }

    #[test]
    fn writes_are_counted() {
        let dir = std::env::temp_dir().join(format!("holm-bench-meter-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let meter = Meter::new(&dir);
        let before = meter.read(None);
        fs::write(dir.join("file"), vec![1; 1 << 20]).unwrap();
        let used = meter.read(None).since(before);
        let space = disk_bytes(&dir).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        // A memory file system counts calls only.
        assert!(used.write_call_bytes.is_none_or(|bytes| bytes >= 1 << 20), "{used:?}");
        assert!(space >= 1 << 20 || space == 0, "delayed allocation may not show yet: {space}");
    }
}
