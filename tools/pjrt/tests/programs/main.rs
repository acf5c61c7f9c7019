//! Every op by its program, on a real compiler in both forms and operator by operator, against the reference.

#![forbid(unsafe_code)]

mod cross_entropy;
mod elementwise;
mod guards;
mod nan_modes;
mod norms;
mod refusals;
mod sample;
mod scores;
mod squared_norm;
mod support;
mod vendor;
