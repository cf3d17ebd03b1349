//! The real disk.
/// todo
#[derive(Debug)]
pub struct RealDisk;
