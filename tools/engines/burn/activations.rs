//! Runs burn's own tests of activations. burn keeps them in a package that takes long to build, so this file includes
//! their source.

use burn_tensor::Tensor;

type FloatElem = f32;
type TestTensor<const D: usize> = Tensor<D>;

#[rustfmt::skip]
#[path = "../../burn-backend-tests/tests/tensor/float/activation/mod.rs"]
mod activation;
