//! Tests of `evenkeel::candle_adapter!` with versions of candle that the feature `candle` does not support.
