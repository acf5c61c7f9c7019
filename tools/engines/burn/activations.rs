//! The tests of activations that burn runs for every backend. Their own package takes long to build.

use burn_tensor::Tensor;

type FloatElem = f32;
type TestTensor<const D: usize> = Tensor<D>;

#[rustfmt::skip]
#[path = "../../burn-backend-tests/tests/tensor/float/activation/mod.rs"]
mod activation;
