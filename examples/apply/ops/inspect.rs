//! Statistics of a tensor.

use crate::call::{Call, Result, Results};
use crate::tensors::{Output, each_type};
use evenkeel::Stats;

pub fn inspect(call: &Call<'_>) -> Result<Results> {
    let x = call.float("x")?;
    let Stats { count, nan, infinite, min, max, mean, std, max_abs, .. } =
        each_type!(&x.values, values => evenkeel::inspect(values)?);
    let stats = [count as f64, nan as f64, infinite as f64, min, max, mean, std, max_abs];
    Ok(vec![("stats", Output::new(&[8], &stats))])
}
