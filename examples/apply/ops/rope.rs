//! Rotary position embedding of [.., positions, columns] tensors.

use super::norms::{has_shape, rms_options};
use crate::call::{Call, Result, Results};
use crate::tensors::{Input, Output, each_type};
use evenkeel::{Rope, RopeScaling, RopeTable, Rows, Yarn};

pub fn rope(call: &Call<'_>) -> Result<Results> {
    let Turned { x, rows, cols, table } = Turned::of(call)?;
    let y = each_type!(&x.values, values => {
        Output::new(&x.shape, &evenkeel::rope(Rows::new(values, rows, cols)?, &table)?)
    });
    Ok(vec![("y", y)])
}

pub fn qk_norm_rope(call: &Call<'_>) -> Result<Results> {
    let Turned { x, rows, cols, table } = Turned::of(call)?;
    let weight = call.optional_float("weight")?;
    has_shape(call, "weight", weight.as_ref(), &[cols])?;
    let options = rms_options(call, weight.as_ref())?;
    let y = each_type!(&x.values, values => {
        Output::new(&x.shape, &evenkeel::qk_norm_rope(Rows::new(values, rows, cols)?, &table, &options)?)
    });
    Ok(vec![("y", y)])
}

/// Input to rotate, its shape as rows and columns, and the rotation table.
struct Turned {
    x: Input,
    rows: usize,
    cols: usize,
    table: RopeTable,
}

impl Turned {
    fn of(call: &Call<'_>) -> Result<Self> {
        let (x, (positions_shape, positions)) = (call.float("x")?, call.integers("positions")?);
        call.at_least_rank(2, "x", &x.shape)?;
        let &[ref batch @ .., rows, cols] = x.shape.as_slice() else {
            return Err(call.shape("x", &x.shape, "it must have at least 2 axes; the last two are rows and columns"));
        };
        if cols % 2 == 1 {
            return Err(call.shape("x", &x.shape, "its last axis must have an even length"));
        }
        call.has_shape("positions", &positions_shape, &[rows])?;
        let table = RopeTable::new(&positions, cols, &options(call)?)?;
        let rows = rows * batch.iter().product::<usize>();
        Ok(Turned { x, rows, cols, table })
    }
}

macro_rules! attrs {
    ($($more:literal),*) => {
        &[
            "theta",
            "interleaved",
            "scaling",
            "factor",
            "original_positions",
            "beta_fast",
            "beta_slow",
            "attention_factor",
            "low_freq_factor",
            "high_freq_factor",
            $($more),*
        ]
    };
}

/// Attributes of a rotation table. [`NORM_ATTRS`] adds the attributes of a norm.
pub const ATTRS: &[&str] = attrs!();
pub const NORM_ATTRS: &[&str] = attrs!("eps", "weight_offset", "rounding");

fn options(call: &Call<'_>) -> Result<Rope<'static>> {
    let mut options = Rope::default();
    options.theta = call.number("theta")?.unwrap_or(options.theta);
    options.interleaved = call.flag("interleaved")?.unwrap_or(options.interleaved);
    options.scaling = scaling(call)?;
    Ok(options)
}

fn scaling(call: &Call<'_>) -> Result<Option<RopeScaling<'static>>> {
    let names = ["linear", "ntk", "yarn", "llama3"];
    let Some(name) = call.choice("scaling", &names.map(|name| (name, name)))? else { return Ok(None) };
    let factor = call.required_number("factor")?;
    let original_positions = || -> Result<usize> {
        let most = i128::from(i64::MAX);
        let positions = call.whole("original_positions", 1..=most)?;
        positions
            .map_or_else(|| Err(call.bad_attr("original_positions", "a number")), |positions| Ok(positions as usize))
    };
    Ok(Some(match name {
        "linear" => RopeScaling::Linear { factor },
        "ntk" => RopeScaling::Ntk { factor },
        "yarn" => {
            let mut yarn = Yarn::new(factor, original_positions()?);
            yarn.beta_fast = call.number("beta_fast")?.unwrap_or(yarn.beta_fast);
            yarn.beta_slow = call.number("beta_slow")?.unwrap_or(yarn.beta_slow);
            yarn.attention_factor = call.number("attention_factor")?;
            RopeScaling::Yarn(yarn)
        }
        _ => RopeScaling::Llama3 {
            factor,
            low_freq_factor: call.required_number("low_freq_factor")?,
            high_freq_factor: call.required_number("high_freq_factor")?,
            original_positions: original_positions()?,
        },
    }))
}
