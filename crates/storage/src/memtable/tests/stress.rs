//! Real threads.
