//! Naive formulas with every step rounded to the storage type. The tests check that these formulas fail on hostile
//! inputs.

mod derivatives;
mod elements;
mod norms;
mod rows;
mod scores;
mod tensors;

pub use derivatives::*;
pub use elements::*;
pub use norms::*;
pub use rows::*;
pub use scores::*;
pub use tensors::*;

use evenkeel::Element;

fn round<E: Element>(value: f64) -> f64 {
    E::from_wide(value).widen()
}

/// Adds terms in the storage type: rounds each term and each partial sum.
fn sum<E: Element>(terms: impl Iterator<Item = f64>) -> f64 {
    terms.fold(0.0, |sum, term| round::<E>(sum + round::<E>(term)))
}
