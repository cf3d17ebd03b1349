//! `holm repair`.

use std::path::Path;
use std::sync::Arc;

use env::{Disk, RealDisk};
use serde_json::json;
use storage::repair::{self, RepairPlan};

use super::Context;
use crate::exit::{Code, Failure, Result};
use crate::output::Output;
use crate::table::{count, grouped};

/// Shows what of a damaged database can be kept and what would be lost, and keeps it if told so.
///
/// It works table by table, whatever the size of the database: what is whole stays as it is. The
/// files as they are now are kept first, in a folder in the database's own directory, so that
/// nothing is lost by trying. A copy from before the damage is better than any repair.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Repairs; otherwise it only shows what would be done.
    #[arg(long)]
    yes: bool,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result {
    let directory = context.target.directory()?;
    if !directory.exists() {
        return Err(context.target.missing());
    }
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let owner = format!("pid {}, holm repair", std::process::id());
    let repair = if args.yes { repair::apply } else { repair::plan };
    let plan = repair(&disk, directory, &owner)?;
    show(&mut context.output, &plan, args.yes, directory)?;
    context.output.flush()?;
    match plan.is_needed() && !args.yes {
        true => Err(Failure::with_code(
            Code::Damaged,
            format!(
                "{}: nothing was changed: `holm repair --yes` does it, and keeps the files as they \
                 are in {}",
                context.target.db,
                plan.copies.display()
            ),
        )),
        false => Ok(()),
    }
}

fn show(output: &mut Output, plan: &RepairPlan, is_done: bool, directory: &Path) -> Result {
    if output.is_json() {
        return output.json(&json!({
            "needed": plan.is_needed(),
            "repaired": plan.is_needed() && is_done,
            "damages": plan.damages,
            "losses": plan.losses,
            "doubts": plan.doubts,
            "whole_tables": plan.whole_tables,
            "kept_versions": plan.kept_versions,
            "kept_transactions": plan.kept_transactions,
            "last_timestamp": plan.last_ts.raw(),
            "copies": plan.is_needed().then(|| plan.copies.display().to_string()),
        }));
    }
    if !plan.is_needed() {
        return output.line(&format!("{}: nothing is damaged", directory.display()));
    }
    for damage in &plan.damages {
        output.line(&format!("damaged: {damage}"))?;
    }
    for loss in &plan.losses {
        output.line(&format!("lost: {loss}"))?;
    }
    for doubt in &plan.doubts {
        output.line(&format!("not certain: {doubt}"))?;
    }
    output.line(&format!(
        "kept: {}, {} of the log, up to @{}; tables that stay as they are: {}",
        count(plan.kept_versions, "version"),
        count(plan.kept_transactions, "transaction"),
        plan.last_ts,
        grouped(plan.whole_tables)
    ))?;
    if is_done {
        output
            .line(&format!("repaired; the files as they were are in {}", plan.copies.display()))?;
    }
    Ok(())
}
