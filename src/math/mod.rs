//! Vector functions that kernels are built from: exponentials, logarithms, and the definitions of sums.
//!
//! All functions work on blocks of an instruction set ([`crate::simd`]) and do not depend on rows, masks or storage
//! layout. Constants are printed by `scripts/constants.py`.

#![forbid(unsafe_code)]

pub(crate) mod bins;
pub(crate) mod derivative;
pub(crate) mod erf;
pub(crate) mod erf_pair;
pub(crate) mod exp;
pub(crate) mod exp2;
pub(crate) mod exp2_pair;
pub(crate) mod exp_pair;
pub(crate) mod expm1;
pub(crate) mod fixed_point;
pub(crate) mod gelu;
pub(crate) mod gelu_pair;
pub(crate) mod gelu_tanh;
#[cfg(feature = "sharded")]
pub(crate) mod keys;
pub(crate) mod log;
pub(crate) mod log1p;
pub(crate) mod log2;
pub(crate) mod log2_pair;
pub(crate) mod log_pair;
pub(crate) mod normal;
pub(crate) mod philox;
pub(crate) mod polynomials;
pub(crate) mod power;
pub(crate) mod reciprocal;
pub(crate) mod sigmoid;
pub(crate) mod sigmoid_pair;
pub(crate) mod softmax_exp;
pub(crate) mod softplus;
pub(crate) mod softplus_pair;
pub(crate) mod sqrt;
pub mod sum;
pub(crate) mod swiglu;
pub(crate) mod tanh;
pub(crate) mod tanh_pair;
pub(crate) mod trig;
pub(crate) mod wide;
