//! Tests of parts that all ops share: views, masks, references, sums, instruction sets, rejected arguments, tracing,
//! and the layers of `src`.

#![forbid(unsafe_code)]

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod any_arguments;
mod compare;
mod conformance;
mod extremes;
mod layers;
mod mask;
mod reference;
mod refusals;
mod rows;
mod simd;
mod sums;
mod tester;
mod trace;
