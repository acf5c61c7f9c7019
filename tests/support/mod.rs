//! What the tests are made of: errors in ULPs, comparisons, inputs, and the implementations that they run over.

#![forbid(unsafe_code)]
// Every test file uses a part of it.
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
pub mod rows;
#[macro_use]
pub mod scores_backward;
pub use evenkeel::testing::ulp;
