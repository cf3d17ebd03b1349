//! The program `holm`.
fn main() {}
