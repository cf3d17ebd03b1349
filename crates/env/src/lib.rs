//! The only door to the outside: traits for the disk, the clock and randomness, the real ones,
//! and the simulated ones that tests and the simulator run on.
//!
//! Everything above this crate is handed an `Arc<dyn Disk>` and an `Arc<dyn Clock>` and never names
//! `std::fs` or `std::time`. That is what lets one seed replay a crash at the ninth write.
//!
//! ```
//! use std::path::Path;
//! use env::{CrashMode, Disk, OpenMode, SimDisk};
//!
//! # fn main() -> std::io::Result<()> {
//! let disk = SimDisk::new();
//! let file = disk.open(Path::new("a"), OpenMode::CreateNew)?;
//! disk.sync_dir(Path::new(""))?;
//! file.write_at(b"promised", 0)?;
//! file.sync()?;
//! file.write_at(b" or not", 8)?;
//!
//! let found = disk.crash(CrashMode::LoseUnsynced);
//! assert_eq!(found.read_file("a")?, b"promised");
//! # Ok(())
//! # }
//! ```
//!
//! # What a disk promises
//! * Bytes written to a file are durable only after [`File::sync`] on it, or when
//!   [`File::write_durable`] returns.
//! * A name created, renamed or removed is durable only after [`Disk::sync_dir`] of its folder.
//! * Until then a crash may lose them, keep them, or keep any part of them sector by sector, in any
//!   order.
//! * After a failed sync nobody knows what is on disk: the caller must not retry and go on.

#![forbid(unsafe_code)]

mod disk;

pub mod clock;
pub mod random;
pub mod real;
pub mod sim;

pub use clock::{Clock, ManualClock, SystemClock};
pub use disk::{AlignedBuffer, Disk, File, LockGuard, OpenMode, SECTOR_BYTES, WRITE_ALIGN};
pub use random::SeededRandom;
pub use real::RealDisk;
pub use sim::{CrashMode, SimDisk};

#[cfg(test)]
mod tests;
