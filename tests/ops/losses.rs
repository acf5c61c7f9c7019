//! Helpers for tests of losses: a check against a bound in ULP, and PyTorch's results.

use crate::support::ulp;
use evenkeel::{DType, Element, Reduction};

/// Asserts that an f64 loss is within the bound of the type to which it will be rounded.
#[track_caller]
pub fn assert_loss<E: Element>(what: &str, got: f64, exact: E::Exact, at: f64, bound: f64) {
    use evenkeel::reference::Real;
    let at = ulp::toward_zero(exact).max(at);
    let beyond = at > f64::from(f32::MAX);
    let unit = match E::DTYPE {
        DType::F64 => ulp::size::<f64>(at),
        _ if beyond => ulp::size::<f64>(at) * f64::from(f32::EPSILON) / f64::EPSILON,
        _ => ulp::size::<f32>(at),
    };
    let error = ((E::Exact::from(got) - exact) / E::Exact::from(unit)).to_f64().abs();
    // The later rounding to the storage type may add half an ULP. The loss itself must be within the rest of the bound.
    let rounding = if E::DTYPE == DType::F64 { 0.0 } else { 0.5 };
    let right = error + rounding <= bound || got == exact.to_f64();
    assert!(
        right,
        "{what}, {}: expected a loss of {exact:?} within {bound} ULP, got {got:e} with an error of {error} ULP",
        E::DTYPE
    );
}

/// Selects the lines of `tests/vectors/losses.tsv` whose first field is `name`, and returns the fields of each.
pub fn vectors(name: &str) -> Vec<Vec<&'static str>> {
    let lines = include_str!("../vectors/losses.tsv").lines().map(|line| line.split('\t').collect::<Vec<_>>());
    lines.filter(|fields| fields[0] == name).collect()
}

/// Parses the numbers of a field, written as hexadecimal bits.
pub fn numbers(field: &str) -> Vec<f64> {
    let number = |bits: &str| f64::from_bits(u64::from_str_radix(bits, 16).unwrap());
    field.split_whitespace().map(number).collect()
}

pub fn reduction(name: &str) -> Reduction {
    match name {
        "none" => Reduction::None,
        "sum" => Reduction::Sum,
        "mean" | "batchmean" => Reduction::Mean,
        other => panic!("expected the reduction none, sum, mean or batchmean, got {other}"),
    }
}
