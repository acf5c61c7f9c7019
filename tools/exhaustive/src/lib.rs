//! Comparison of Evenkeel's functions of one element with the correctly rounded results, bit by bit, at all 2^32 inputs
//! of f32.
//!
//! The correctly rounded result comes from:
//!
//! - the processor's IEEE 754 arithmetic, for square roots and quotients;
//! - CORE-MATH, for the functions it provides;
//! - a formula in f64 whose error is bounded ([`formulas`]), for the other functions. The formula and the bound give an
//!   interval that contains the exact result. If the two ends of the interval round differently, MPFR decides, with as
//!   many bits as needed ([`exact`]).
//!
//! Before the program reports a result as wrong, MPFR confirms the expected result. So an error of one of these
//! references is detected, and not blamed on the library.
//!
//! A walk over all inputs of a function is stored after every chunk of inputs. After an interruption, it resumes at the
//! first chunk that is not finished.

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
