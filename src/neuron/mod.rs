//! Guarded programs for AWS Neuron devices, Trainium and Inferentia: nothing in them becomes NaN of finite logits,
//! since such a device ends a run for a NaN that is thrown away later.
//!
//! A function here, such as [`softmax`], makes a [`Program`] of an op for a type and a shape; its counterpart in
//! [`run`] computes the op by it on whatever implements [`Execute`]. What a device computes is right for rows of finite
//! numbers and masks. It finds rows that have other numbers, or nothing to attend to, and says so in a [`Status`] for
//! each row; [`run`] computes these on the host.
//!
//! Results are within [`accuracy::NEURON`](crate::accuracy::NEURON), not the CPU's bits: these devices flush subnormal
//! numbers, and add in an order of their own.
//!
//! Neither building nor starting a program needs Neuron's packages; what is missing is said when a device is asked for.

mod cache;
mod compiler;
mod execute;
mod fault;
mod graph;
mod hlo;
#[cfg(feature = "testing")]
mod interpret;
mod neff;
mod ops;
mod program;
mod runtime;
mod settings;
mod stablehlo;

pub use cache::Cache;
pub use compiler::{Compiler, Form, Target};
pub use execute::{Execute, Status};
pub use fault::{Action, Fault, NanAt, Result};
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
pub use runtime::{About, Device, Loaded, NrtStatus, Session, available};

/// Ops by their programs, on whatever runs these: the functions of the crate's root with a device as first argument.
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
