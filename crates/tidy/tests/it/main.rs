//! Tests of what no compiler checks. Each lists everything that is wrong, so that one run is enough
//! to mend it.

#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod architecture;
mod links;
mod readme;
mod sources;

/// Fails with all of the complaints, if there are any.
#[track_caller]
fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n\n{}\n", complaints.join("\n"));
}
