//! A process that lives shortly, again and again, as a command in a loop does.
//!
//! Checkpoints used to be written before old versions were forgotten, and nothing was forgotten in
//! the first second of a process: such a loop wrote down every version ever made, for ever.

use std::sync::Arc;
use std::time::Duration;

use env::{ManualClock, SimDisk};
use holm::{Environment, Options};

#[test]
fn a_command_in_a_loop_does_not_pile_up_versions() {
    let (disk, clock) = (SimDisk::new(), ManualClock::new(1_000_000));
    let mut versions = 0;
    for round in 0..60u32 {
        let environment = Environment {
            disk: Arc::new(disk.clone()),
            clock: Arc::new(clock.clone()),
            seed: u64::from(round),
            has_background: false,
        };
        let options = Options::new().retention(Duration::from_secs(1)).log_bytes(1 << 10);
        let db = options.open_in(environment, "db").unwrap();
        let keyspace = db.keyspace("k").unwrap();
        db.put(&keyspace, "counter", format!("{round:0500}")).unwrap();
        clock.advance(600_000);
        db.maintain();
        versions = db.verify().unwrap().versions;
        db.close().unwrap();
    }
    assert!(versions < 10, "{versions} versions of two keys in the last checkpoint");
}
