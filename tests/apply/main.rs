//! Tests that run the example `apply` as a program: its results, the jobs that it rejects, and its messages.

mod bits;
mod clip;
mod command_line;
mod cross_entropy;
mod elementwise;
#[path = "../support/example.rs"]
mod example;
mod grad_scaler;
mod inspect;
mod losses;
mod mean_pool;
mod names;
mod norms;
mod program;
mod refusals;
mod rope;
mod sample;
mod softmax;
