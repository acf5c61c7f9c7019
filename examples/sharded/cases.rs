//! Runs each op in each type with several divisions of the columns among ranks, and compares the bits with the results
//! of unsharded rows.

use crate::table::Table;
use crate::{Arguments, Rank, attention, clipping, losses, norms, sampling, scores};
use evenkeel::Element;
use half::{bf16, f16};
use std::process::ExitCode;

/// Runs every case. The first rank prints the results of all ranks.
pub fn run(rank: &Rank, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut table = Table::new(rank);
    of_type::<f64>(&mut table, arguments.columns)?;
    of_type::<f32>(&mut table, arguments.columns)?;
    of_type::<f16>(&mut table, arguments.columns)?;
    of_type::<bf16>(&mut table, arguments.columns)?;
    Ok(ExitCode::from(u8::from(!table.end())))
}

fn of_type<E: Element>(table: &mut Table<'_>, all: usize) -> anyhow::Result<()> {
    scores::run::<E>(table, all)?;
    norms::run::<E>(table, all)?;
    losses::run::<E>(table, all)?;
    attention::run::<E>(table, all)?;
    clipping::run::<E>(table)?;
    sampling::run::<E>(table, all)
}
