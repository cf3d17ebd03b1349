//! Bugs that were found here, each as the smallest thing that went wrong.

use super::world::{Place, options};

/// A thread of the background kept the database open beyond `close`, or beyond the drop of the last
/// handle, and whoever opened it next was told that it is in use.
#[test]
fn a_closed_database_can_be_opened_again_at_once() {
    let place = Place::simulated();
    for round in 0..2000 {
        let db = place.open(options());
        let space = db.keyspace("k").unwrap();
        // A commit that nobody waits for gives the background something to do.
        let mut txn = db.begin();
        txn.put(&space, "k", "v").unwrap();
        let pending = txn.commit_pending().unwrap();
        drop(pending);
        if round % 2 == 0 {
            db.close().unwrap();
        } else {
            drop(db);
        }
    }
}
