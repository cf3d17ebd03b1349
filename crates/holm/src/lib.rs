//! holm
