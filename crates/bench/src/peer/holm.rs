//! Holm itself. The adaptor is written once the library has its first transaction; until then
//! the runner measures the peers and the limits alone.

use crate::peer::Peer;

pub(crate) const PEER: Option<Peer> = None;
