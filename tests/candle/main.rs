//! Tests of candle tensors: drop-in functions, guarded forms, compositions and gradients.

mod adapter;
mod attention;
mod clip;
mod composition;
mod conformance;
mod defects;
mod dropins;
mod edges;
mod generation;
mod gradients;
mod group_norm;
mod guarded;
mod imports;
mod in_place;
mod init;
mod l2_normalize;
mod layouts;
mod linear_loss;
mod loss;
mod mean_pool;
mod optim;
mod pairwise;
mod second_derivatives;
mod stability;
mod support;
mod train;
