//! Test suites that check an engine's own functions for known defects, and name the defects that they find.
//!
//! A suite takes a closure, which may panic. The suite reports only results that are wrong for any design, such as a
//! sum in bf16 that stops growing, a one-pass variance, NaN for a masked row, or a result that depends on the batch.
//! The suite does not check the last digits: results in 16 bits may be off by [1 ULP](allowed), and results in wider
//! types by 1,024 ULP.
//!
//! ```
//! use evenkeel::testing::conformance::{self, Defect};
//!
//! // LayerNorm as many engines implement it.
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
//! // A test of an engine:
//! use evenkeel::{LayerNorm, Rows};
//! let ours = |x: &[f32], rows, cols, eps| {
//!     evenkeel::layer_norm(Rows::new(x, rows, cols)?, &LayerNorm::default().eps(eps))
//! };
//! conformance::layer_norm(ours).assert_clean();
//! ```
//!
//! Closures are also called with empty input, which has no rows or no columns. They may return a `Result`; each suite
//! documents which inputs may be rejected with an error. A panic is caught and is a finding; its message goes to stderr
//! as usual.

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
