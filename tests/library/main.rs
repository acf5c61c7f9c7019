//! What all ops have in common: views, masks, references, sums, instruction sets, refusals, and that nothing is missing.

#![forbid(unsafe_code)]

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod any_arguments;
mod compare;
mod conformance;
mod extremes;
mod mask;
mod reference;
mod refusals;
mod rows;
mod simd;
mod sums;
mod tester;
mod trace;
