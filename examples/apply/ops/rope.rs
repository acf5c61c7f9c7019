//! Rotary position embedding of [.., positions, columns].

use crate::call::{Call, Result, Results};
use crate::tensors::{Output, each_type};
use evenkeel::{Rope, RopeTable, Rows};

pub fn rope(call: &Call<'_>) -> Result<Results> {
    let (x, (positions_shape, positions)) = (call.float("x")?, call.integers("positions")?);
    call.at_least_rank(2, "x", &x.shape)?;
    let &[ref batch @ .., rows, cols] = x.shape.as_slice() else {
        return Err(call.shape("x", &x.shape, "at least 2 axes are needed"));
    };
    if cols % 2 == 1 {
        return Err(call.shape("x", &x.shape, "an even last axis is needed"));
    }
    call.has_shape("positions", &positions_shape, &[rows])?;
    let mut options = Rope::default();
    options.theta = call.number("theta")?.unwrap_or(options.theta);
    options.interleaved = call.flag("interleaved")?.unwrap_or(options.interleaved);
    let table = RopeTable::new(&positions, cols, &options)?;
    let rows = rows * batch.iter().product::<usize>();
    let y = each_type!(&x.values, values => {
        Output::new(&x.shape, &evenkeel::rope(Rows::new(values, rows, cols)?, &table)?)
    });
    Ok(vec![("y", y)])
}
