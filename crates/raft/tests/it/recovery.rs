//! What a replica refuses to start from.
