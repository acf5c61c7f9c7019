//! The `apply` example, run as a program: what it computes, what it refuses, and how it says so.

mod bits;
mod clip;
mod command_line;
mod cross_entropy;
mod elementwise;
#[path = "../support/example.rs"]
mod example;
mod inspect;
mod mean_pool;
mod names;
mod norms;
mod program;
mod refusals;
mod rope;
mod sample;
mod softmax;
