//! Everything that can be measured, each behind its own file and, but for Holm and the two
//! reference rows, its own Cargo feature.

mod map;
mod raw;

#[cfg(feature = "fjall")]
mod fjall;
mod holm;
#[cfg(feature = "lmdb")]
mod lmdb;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "surrealkv")]
mod surrealkv;

use crate::store::{Result, Setup, Store};

/// What a row of the tables stands for, which decides where it takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Holm itself.
    Ours,
    /// Holm set up in another way, which runs when it is named.
    Variant,
    /// A database one could use instead; the best of them is what ratios are taken to.
    Peer,
    /// A peer without its transactions; it takes no part where they are what is measured.
    PlainPeer,
    /// A peer that promises less than all others when nothing is synced: it takes part where this
    /// is so, and no ratio is taken to it.
    #[cfg_attr(not(feature = "lmdb"), expect(dead_code, reason = "LMDB's alone"))]
    UnsafePeer,
    /// A log and nothing else: what the disk allows for durable commits.
    LogLimit,
    /// A hash map: what memory allows for points. It keeps nothing and has no order.
    MemoryLimit,
}

impl Role {
    /// A word for the results file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Ours => "ours",
            Role::Variant => "variant",
            Role::Peer => "peer",
            Role::PlainPeer => "plain peer",
            Role::UnsafePeer => "unsafe",
            Role::LogLimit | Role::MemoryLimit => "limit",
        }
    }

    pub(crate) fn is_peer(self) -> bool {
        // Compared, not matched: a build without peers makes neither, and would be told so.
        self == Role::Peer || self == Role::PlainPeer
    }
}

/// One row of the tables.
#[derive(Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    /// The settings that matter, in a line for the report.
    pub(crate) settings: &'static str,
    pub(crate) open: fn(&Setup<'_>) -> Result<Box<dyn Store>>,
}

/// Returns everything that was compiled in: Holm, its peers in alphabetical order, the limits.
pub(crate) fn all() -> Vec<Peer> {
    let mut peers = Vec::new();
    peers.extend(holm::PEERS);
    #[cfg(feature = "fjall")]
    peers.extend([fjall::PEER, fjall::PLAIN]);
    #[cfg(feature = "lmdb")]
    peers.extend([lmdb::PEER, lmdb::MAP]);
    #[cfg(feature = "redb")]
    peers.push(redb::PEER);
    #[cfg(feature = "rocksdb")]
    peers.push(rocksdb::PEER);
    #[cfg(feature = "sqlite")]
    peers.push(sqlite::PEER);
    #[cfg(feature = "surrealkv")]
    peers.push(surrealkv::PEER);
    peers.extend([raw::FDATASYNC, raw::DIRECT, map::PEER]);
    peers
}

#[cfg(test)]
mod tests;
