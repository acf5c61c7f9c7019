//! Runs the tests of `candle_adapter!` with candle-core and candle-nn 0.8.4 under other names.

#![forbid(unsafe_code)]

use fork_core as candle;

mod numerics {
    evenkeel::candle_adapter!(fork_core, fork_nn);
}

#[path = "../../../tests/candle/adapter/errors.rs"]
mod errors;
#[path = "../../../tests/candle/adapter/gradients.rs"]
mod gradients;
#[path = "../../../tests/candle/adapter/ops.rs"]
mod ops;
#[path = "../../../tests/candle/adapter/support.rs"]
mod support;
