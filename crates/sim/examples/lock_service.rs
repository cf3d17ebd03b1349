//! Your own program in a cluster that crashes: a lock kept in the database, and two ways to use it.
//!
//! ```text
//! cargo run -p holm-sim --example lock_service
//! ```
//!
//! Workers take a lock for a while, and count. The careful one gives the token of the lock along
//! with its write, so that a worker who lost the lock writes nothing. The careless one believes
//! that it still has the lock: a planted bug, which some seed shows.

use std::time::Duration;

use holm_sim::history::History;
use holm_sim::world::{self, Client, Program, RaftNode, Setup, Violation, Workload};

/// Whether workers check that the lock is still theirs when they write.
#[derive(Clone, Copy)]
struct Workers {
    are_careful: bool,
}

impl Workload for Workers {
    fn client(&self, client: Client) -> Program {
        Box::pin(work(client, self.are_careful))
    }

    /// The workers assert by themselves.
    fn check(&self, _: &History) -> Result<(), Violation> {
        Ok(())
    }
}

async fn work(client: Client, is_careful: bool) {
    let mut counted = 0;
    while !client.is_closing() {
        client.sleep(Duration::from_millis(client.random(100))).await;
        let Ok(found) = client.read(&["lock", "count"]).await else { continue };
        let now = client.now().0;
        if number(&found.values[0]) > now {
            continue;
        }
        // The lock is a time until which it is somebody's.
        let until = now + 300_000;
        let lease = until.to_le_bytes();
        let taken = client.commit(found.read_ts, &["lock"], &[("lock", Some(&lease))]).await;
        let Ok(token) = taken else { continue };
        let Ok(before) = client.read(&["count"]).await else { continue };
        let count = number(&before.values[0]);
        assert!(count >= counted, "the count was {counted} and is {count}");
        let next = (count + 1).to_le_bytes();
        // Careful: nobody else took the lock since we did. Careless: surely it is still ours.
        let reads: &[&str] = if is_careful { &["lock"] } else { &[] };
        if client.commit(token, reads, &[("count", Some(&next))]).await.is_ok() {
            counted = count + 1;
        }
    }
}

fn number<B: AsRef<[u8]>>(value: &Option<B>) -> u64 {
    let bytes = value.as_ref().and_then(|value| value.as_ref().try_into().ok());
    bytes.map_or(0, u64::from_le_bytes)
}

fn main() {
    for seed in 0..20 {
        let outcome =
            world::run_with::<RaftNode>(&Setup::new(seed), &Workers { are_careful: true });
        assert_eq!(outcome.violation, None, "seed {seed}");
    }
    println!("careful workers: 20 worlds, nothing was lost");
    std::panic::set_hook(Box::new(|_| {}));
    let found = (0..200).find_map(|seed| {
        let outcome =
            world::run_with::<RaftNode>(&Setup::new(seed), &Workers { are_careful: false });
        outcome.violation.map(|violation| (seed, violation))
    });
    let (seed, violation) = found.expect("some world shows the bug");
    println!("careless workers: seed {seed}: {violation}");
}
