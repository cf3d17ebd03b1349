//! Checkers against databases that are right, databases that are wrong, and brute force.

mod brute_force;
mod executor;
mod generated;
mod mutated;
mod speed;
mod world;
