//! The formulas as one writes them down, every step rounded to the storage type: what hostile inputs must break.

mod elements;
mod norms;
mod rows;
mod scores;
mod slopes;
mod tensors;

pub use elements::*;
pub use norms::*;
pub use rows::*;
pub use scores::*;
pub use slopes::*;
pub use tensors::*;

use evenkeel::Element;

/// A number that is rounded to the type.
fn round<E: Element>(value: f64) -> f64 {
    E::from_wide(value).widen()
}

/// A sum in the type, of terms in the type.
fn sum<E: Element>(terms: impl Iterator<Item = f64>) -> f64 {
    terms.fold(0.0, |sum, term| round::<E>(sum + round::<E>(term)))
}
