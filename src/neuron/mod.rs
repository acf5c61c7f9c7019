//! Guarded programs for AWS Neuron devices, Trainium and Inferentia: nothing in them becomes NaN of finite logits, since
//! such a device ends a run for a NaN that is thrown away later.
//!
//! Neither building nor starting a program needs Neuron's packages; what is missing is said when a device is asked for.

mod program;

pub use program::{ElementType, Program, TensorSpec};
