//! Progress on a terminal, and nothing where there is none.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar for so many bytes, or a count of them if nobody knows how many will come.
pub(crate) fn bytes(total: Option<u64>) -> ProgressBar {
    let template = match total {
        Some(_) => "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {msg}",
        None => "{spinner} {bytes} {bytes_per_sec} {msg}",
    };
    bar(ProgressBar::with_draw_target(total, target()), template)
}

/// A bar for so many rows.
pub(crate) fn rows(total: Option<u64>) -> ProgressBar {
    let template = match total {
        Some(_) => "{wide_bar} {human_pos}/{human_len} rows {per_sec}",
        None => "{spinner} {human_pos} rows {per_sec}",
    };
    bar(ProgressBar::with_draw_target(total, target()), template)
}

/// A line that says what is going on.
pub(crate) fn message() -> ProgressBar {
    let bar = bar(ProgressBar::with_draw_target(None, target()), "{spinner} {msg}");
    if stderr().is_terminal() {
        bar.enable_steady_tick(Duration::from_millis(100));
    }
    bar
}

fn bar(bar: ProgressBar, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn target() -> ProgressDrawTarget {
    if stderr().is_terminal() {
        ProgressDrawTarget::stderr_with_hz(10)
    } else {
        ProgressDrawTarget::hidden()
    }
}
