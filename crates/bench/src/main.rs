//! The program `holm-bench`: the same as `holm bench`, with whatever peers were compiled in.

use std::process::ExitCode;

fn main() -> ExitCode {
    bench::main_with_args(&[], std::env::args_os().skip(1))
}
