//! Histories from many real threads, recorded and checked: whatever the schedule, some execution at
//! the promised isolation level explains what every client saw.
//!
//! The work is bounded by counts. Beside it, one thread writes checkpoints and collects garbage
//! with next to no retention, and commits stay in flight while their thread goes on.

#![cfg(test)]

mod bank;
mod found;
mod list_append;
mod readers;
mod register;
mod watch;
mod world;
