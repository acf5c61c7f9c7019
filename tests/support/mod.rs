//! Shared parts of the tests: errors in ULP, comparisons, inputs, and the implementations under test.

#![forbid(unsafe_code)]
// Each test program uses only a part of this module.
#![allow(dead_code, unused_imports, unused_macros)]

#[macro_use]
pub mod implementations;
pub mod compare;
#[macro_use]
pub mod elementwise;
pub mod expand;
pub mod few_values;
pub mod forms;
pub mod generate;
pub mod naive;
pub mod norms;
pub mod one_way;
#[macro_use]
pub mod output_backward;
#[macro_use]
pub mod rows;
#[macro_use]
pub mod scores_backward;
pub use evenkeel::testing::ulp;
