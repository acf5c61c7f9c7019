//! Evenkeel's functions of one element at all 2^32 inputs of f32, each result compared bit by bit with the correctly
//! rounded one.
//!
//! What the correctly rounded result is:
//!
//! - of square roots and quotients, by the IEEE 754 arithmetic of the processor;
//! - of functions that CORE-MATH has, by CORE-MATH;
//! - of others, by a formula in f64 whose error is bounded ([`formulas`]); where both ends of what it leaves open do
//!   not round the same, by MPFR at as many bits as it takes ([`exact`]).
//!
//! A result that is not the expected one is not called wrong until MPFR has confirmed what was expected, so an error of
//! the first three is found, not blamed on the library.
//!
//! A walk is stored after every chunk, and goes on from there when it was stopped.

#![forbid(unsafe_code)]

mod atomic;
pub mod bracket;
pub mod error;
pub mod exact;
pub mod formulas;
pub mod function;
pub mod progress;
pub mod provenance;
pub mod reference;
pub mod table;
pub mod tally;
pub mod walk;
