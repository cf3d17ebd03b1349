//! The line that says where figures come from; without it they mean nothing.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::json::Json;
use crate::store::Result;

/// The machine and its disk.
pub(crate) struct Machine {
    cores: usize,
    processor: String,
    kernel: String,
    file_system: String,
    /// Median and 99th percentile of a small write and `fdatasync` into zero-filled space.
    fdatasync: (Duration, Duration),
}

/// Syncs of the probe: a few tenths of a second on a disk worth measuring on.
const PROBES: usize = 500;
const PROBE_BYTES: usize = 152;

impl Machine {
    pub(crate) fn look(dir: &Path) -> Result<Machine> {
        let unknown = || "unknown".to_owned();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease");
        Ok(Machine {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: processor().unwrap_or_else(unknown),
            kernel: kernel.map_or_else(|_| unknown(), |text| text.trim().to_owned()),
            file_system: file_system(dir).unwrap_or_else(unknown),
            fdatasync: probe(dir)?,
        })
    }

    pub(crate) fn line(&self) -> String {
        let (median, tail) = self.fdatasync;
        format!(
            "{} cores ({}), kernel {}, {}, fdatasync p50 {} us p99 {} us",
            self.cores,
            self.processor,
            self.kernel,
            self.file_system,
            median.as_micros(),
            tail.as_micros()
        )
    }

    pub(crate) fn json(&self) -> Json {
        Json::object([
            ("cores", Json::from(self.cores as f64)),
            ("processor", Json::from(self.processor.as_str())),
            ("kernel", Json::from(self.kernel.as_str())),
            ("file_system", Json::from(self.file_system.as_str())),
            ("fdatasync_p50_us", Json::from(self.fdatasync.0.as_secs_f64() * 1e6)),
            ("fdatasync_p99_us", Json::from(self.fdatasync.1.as_secs_f64() * 1e6)),
        ])
    }
}

fn processor() -> Option<String> {
    let information = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = information.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Returns the type of the file system that a directory is on: the longest mount point above it.
fn file_system(dir: &Path) -> Option<String> {
    let dir = fs::canonicalize(dir).ok()?;
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let fields = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((Path::new(fields.next()?), fields.next()?))
    });
    let above = fields.filter(|(point, _)| dir.starts_with(point));
    above.max_by_key(|(point, _)| point.components().count()).map(|(_, kind)| kind.to_owned())
}

fn probe(dir: &Path) -> Result<(Duration, Duration)> {
    let path = dir.join("probe");
    let mut file = File::create(&path)?;
    file.write_all(&vec![0; PROBES * PROBE_BYTES])?;
    file.sync_all()?;
    let mut times = Vec::with_capacity(PROBES);
    for number in 0..PROBES {
        let start = Instant::now();
        file.write_all_at(&[1; PROBE_BYTES], (number * PROBE_BYTES) as u64)?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    fs::remove_file(path)?;
    times.sort_unstable();
    let at = |share: f64| times.get((PROBES as f64 * share) as usize).copied().unwrap_or_default();
    Ok((at(0.5), at(0.99)))
}
