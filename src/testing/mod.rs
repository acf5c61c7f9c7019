//! Tools to test and benchmark other implementations: inputs that break naive formulas, comparisons in ULP, suites that
//! name defects, and the rows of this project's own benchmarks.
//!
//! ```toml
//! [dev-dependencies]
//! evenkeel = { version = "0.1", features = ["testing"] }
//! ```
//!
//! | task | item |
//! |---|---|
//! | check an engine's softmax, norm, loss or sampler for known defects | [`conformance`] |
//! | check whether a candle module will train (feature `candle`) | `stability` |
//! | generate rows for your own tests | [`hostile`], [`values`] |
//! | compute the exact result | [`mod@crate::reference`] |
//! | compare results | [`assert_ulps!`], [`within()`], [`same_bits()`], [`ulp`]; [`Ulps`] with the macros of approx |
//! | benchmark on the same rows as this project | [`workloads`] |
//!
//! ```
//! use evenkeel::testing::conformance;
//!
//! // The softmax of an engine, as many engines implement it.
//! fn softmax(x: &[f32], _rows: usize, cols: usize) -> Vec<f32> {
//!     let mut y = x.to_vec();
//!     for row in y.chunks_mut(cols) {
//!         let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
//!         row.iter_mut().for_each(|x| *x = (*x - max).exp());
//!         let sum: f32 = row.iter().sum();
//!         row.iter_mut().for_each(|x| *x /= sum);
//!     }
//!     y
//! }
//!
//! let report = conformance::softmax(softmax);
//! assert!(report.has(conformance::Defect::MaskedRow), "{report}");
//! ```
//!
//! The strategies are for [proptest] 1, and the comparison traits are from [approx] 0.5. Both crates are
//! re-exported here.

#![forbid(unsafe_code)]

mod compare;
pub mod conformance;
pub mod hostile;
#[cfg(feature = "candle")]
pub mod stability;
pub mod ulp;
mod ulps_eq;
pub mod values;
pub mod workloads;

#[doc(hidden)]
pub use self::compare::__assert_ulps;
pub use self::compare::{all_within, assert_same_bits, same_bits, show, within, within_terms};
pub use self::ulps_eq::Ulps;
pub use crate::assert_ulps;
pub use ::approx;
pub use ::proptest;
