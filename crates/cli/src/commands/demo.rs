//! Later.
use super::Context;
use crate::exit::Result;
/// Later.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}
/// Later.
#[derive(Debug, clap::Args)]
pub(crate) struct ChildArgs {}
pub(crate) fn run(_: &mut Context, _: Args) -> Result {
    Ok(())
}
pub(crate) fn run_child(_: &mut Context, _: ChildArgs) -> Result {
    Ok(())
}
