//! Candle tensors: drop-ins, guarded forms, compositions and gradients.

mod clip;
mod composition;
mod conformance;
mod defects;
mod dropins;
mod edges;
mod generation;
mod gradients;
mod guarded;
mod imports;
mod in_place;
mod layouts;
mod loss;
mod support;
