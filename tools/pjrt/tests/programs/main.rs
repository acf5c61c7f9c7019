//! Tests of every op's program against the reference: compiled in both forms, and interpreted operator by operator.

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
