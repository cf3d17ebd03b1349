//! What can be chosen for each transaction.

use std::sync::Arc;

use base::Timestamp;

/// What concurrent transactions may see of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// As if the transactions had run one after the other, in an order that agrees with real time
    /// (strict serializability).
    #[default]
    Serializable,
    /// Reads see one snapshot, and two transactions that write the same key cannot both commit.
    /// Permits write skew: two that each read what the other writes.
    Snapshot,
}

/// What an acknowledged commit has survived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// It is on disk: it survives the loss of power.
    #[default]
    Sync,
    /// It is on disk soon, within the database's interval and byte bound: a crash of the process or
    /// the machine may lose what was committed within them, the newest first and never a part of a
    /// transaction.
    Buffered,
    /// It is on disk whenever later commits or a checkpoint take it there, or at a clean close.
    None,
}

/// How a transaction runs.
#[derive(Debug, Clone, Default)]
pub struct TransactionOptions {
    /// What concurrent transactions may see.
    pub isolation: Isolation,
    /// What its commit has survived when it returns.
    pub durability: Durability,
    /// Refuses writes.
    pub read_only: bool,
    /// What conflicts of others call it.
    pub label: Option<Arc<str>>,
    /// The read timestamp of the first attempt, if this is not the first: an older transaction is
    /// not chosen to break a deadlock.
    pub age: Option<Timestamp>,
}
