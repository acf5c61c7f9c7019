//! Suites that ask an engine's own functions for the defects that were met in the field, and name those that they have.
//!
//! A suite takes a closure, which may panic, and fails only where an answer is wrong whatever the design: a sum in bf16
//! that stands still, a variance in one pass, NaN of a masked row, a result that depends on the batch. It does not ask
//! for the last digit: results in 16 bits may be off by [1 ULP](allowed), others by 1,024.
//!
//! ```
//! use evenkeel::testing::conformance::{self, Defect};
//!
//! // LayerNorm as it is found in engines.
//! fn layer_norm(x: &[f32], _rows: usize, cols: usize, eps: f64) -> Vec<f32> {
//!     let mut y = x.to_vec();
//!     for row in y.chunks_mut(cols) {
//!         let n = cols as f32;
//!         let mean = row.iter().sum::<f32>() / n;
//!         let variance = row.iter().map(|x| x * x).sum::<f32>() / n - mean * mean;
//!         let scale = 1.0 / (variance + eps as f32).sqrt();
//!         row.iter_mut().for_each(|x| *x = (*x - mean) * scale);
//!     }
//!     y
//! }
//!
//! let report = conformance::layer_norm(layer_norm);
//! assert!(report.has(Defect::OnePassVariance));
//! assert!(report.to_string().contains("Subtract the mean first, then square."));
//!
//! // What an engine's test says:
//! use evenkeel::{LayerNorm, Rows};
//! let ours = |x: &[f32], rows, cols, eps| {
//!     evenkeel::layer_norm(Rows::new(x, rows, cols)?, &LayerNorm::default().eps(eps))
//! };
//! conformance::layer_norm(ours).assert_clean();
//! ```
//!
//! Closures are called with what has no rows or no columns too. They may answer with a `Result`; what a suite takes a
//! refusal for is said at each. A panic is caught and is a finding; its message goes to stderr as always.

mod cross_entropy;
mod norm;
mod report;
mod sampler;
mod softmax;
mod suite;

pub use cross_entropy::cross_entropy;
pub use norm::{layer_norm, rms_norm};
pub use report::{Defect, Finding, Report};
pub use sampler::{Filter, sampler};
pub use softmax::{log_softmax, softmax};
pub use suite::{Outcome, allowed};
