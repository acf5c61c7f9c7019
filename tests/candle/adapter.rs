//! Tests of `candle_adapter!` with the version of candle that this package uses. `tools/candle-fork` runs the same
//! tests with other versions of candle.

#![forbid(unsafe_code)]

use candle_core as candle;

mod numerics {
    evenkeel::candle_adapter!(candle_core, candle_nn);
}

mod errors;
mod gradients;
mod ops;
mod support;
