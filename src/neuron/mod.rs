//! Programs for AWS Neuron devices (Trainium and Inferentia). These devices end a run at any NaN, even at one that
//! would be discarded later. Programs are therefore built so that no intermediate value becomes NaN if all logits are
//! finite.
//!
//! Each function here, such as [`softmax`], builds the [`Program`] of an op for a type and a shape. The function of the
//! same name in [`run`] computes the op with that program on any implementation of [`Execute`]. The device's results
//! are correct for a row in which every number is finite or masked. If a row has an unmasked non-finite number, or is
//! fully masked, its [`Status`] reports this, and [`run`] computes the row on the host.
//!
//! Results are within the bounds of [`accuracy::NEURON`](crate::accuracy::NEURON), but not bit-identical to the CPU.
//! These devices flush subnormal numbers and sum in their own order.
//!
//! A [`Session`] on a [`Device`] runs programs: `neuronx-cc` compiles them, a [`Cache`] keeps the compiled files, and
//! the runtime's library loads them. Errors are [`Fault`]s. [`Fault::action`] tells whether a program may use another
//! backend instead.
//!
//! An application can be built and started without Neuron's packages. Missing packages are reported when a device is
//! opened.

mod cache;
mod compiler;
mod execute;
mod graph;
mod hlo;
#[cfg(feature = "testing")]
#[allow(clippy::disallowed_methods, reason = "devices compute these functions with errors of their own")]
mod interpret;
mod neff;
mod ops;
mod program;
mod runtime;
mod settings;
mod stablehlo;

pub use crate::error::NrtStatus;
pub use crate::error::fault::{Action, Fault, NanAt, Result};
pub use cache::Cache;
pub use compiler::{Compiler, Form, Target};
pub use execute::{Execute, Status};
#[cfg(feature = "testing")]
pub use interpret::Interpreter;
pub use ops::clamped_exp::program as clamped_exp;
pub use ops::clamped_log::program as clamped_log;
pub use ops::cross_entropy::program as cross_entropy;
pub use ops::layer_norm::program as layer_norm;
pub use ops::log_softmax::program as log_softmax;
pub use ops::logsumexp::program as logsumexp;
pub use ops::rms_norm::{program as rms_norm, residual_program as rms_norm_residual};
pub use ops::sample::{Candidates, MAX_CANDIDATES, program as sample};
pub use ops::softmax::program as softmax;
pub use ops::squared_norm::{SquaredNorm, program as squared_norm};
pub use program::{ElementType, Program, TensorSpec};
pub use runtime::{About, Device, Loaded, Session, available};

/// Ops that run as programs on a device. Each has the name of the same op in the crate root. The first argument is the
/// device: any implementation of [`Execute`].
pub mod run {
    pub use super::ops::clamped_exp::run as clamped_exp;
    pub use super::ops::clamped_log::run as clamped_log;
    pub use super::ops::cross_entropy::run as cross_entropy;
    pub use super::ops::layer_norm::run as layer_norm;
    pub use super::ops::log_softmax::run as log_softmax;
    pub use super::ops::logsumexp::run as logsumexp;
    pub use super::ops::rms_norm::{run as rms_norm, run_residual as rms_norm_residual};
    pub use super::ops::sample::run as sample_rows;
    pub use super::ops::softmax::run as softmax;
    pub use super::ops::squared_norm::run as squared_norm;
}
