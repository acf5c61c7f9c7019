//! Runs the tests of `candle_adapter!` with candle-core 0.9.1, without candle-nn.

#![forbid(unsafe_code)]

use candle_core as candle;

mod numerics {
    evenkeel::candle_adapter!(candle_core);
}

#[path = "../../../tests/candle/adapter/errors.rs"]
mod errors;
#[path = "../../../tests/candle/adapter/gradients.rs"]
mod gradients;
#[path = "../../../tests/candle/adapter/ops.rs"]
mod ops;
#[path = "../../../tests/candle/adapter/support.rs"]
mod support;
