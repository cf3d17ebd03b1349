//! Checkers against databases that are right, databases that are wrong, and brute force.

mod brute_force;
mod clients;
mod executor;
mod generated;
mod linearizable;
mod mutated;
mod speed;
mod world;
