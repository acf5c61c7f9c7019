//! Guarded programs for AWS Neuron devices, Trainium and Inferentia: nothing in them becomes NaN of finite logits, since
//! such a device ends a run for a NaN that is thrown away later.
//!
//! Neither building nor starting a program needs Neuron's packages; what is missing is said when a device is asked for.

mod cache;
mod compiler;
mod fault;
mod neff;
mod program;
mod runtime;
mod settings;

pub use cache::Cache;
pub use compiler::{Compiler, Form, Target};
pub use fault::{Action, Fault, NanAt, Result};
pub use program::{ElementType, Program, TensorSpec};
pub use runtime::{About, Device, Loaded, NrtStatus, Session, available};
