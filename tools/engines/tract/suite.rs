//! Runs tract's own test suites of the masked softmax and of attention. tract keeps them in a package that takes long
//! to build, so this file includes their source.

#[rustfmt::skip]
#[path = "../../test-rt/suite-unit/src/scaled_masked_softmax.rs"]
mod scaled_masked_softmax;
#[rustfmt::skip]
#[path = "../../test-rt/suite-unit/src/sdpa.rs"]
mod sdpa;

use proptest::prelude::*;
use tract_core::internal::*;
use tract_core::ndarray::ArrayD;
use tract_core::num_traits::Float;
use tract_core::runtime::DefaultRuntime;

/// Returns a strategy for tensors of small integers. It replaces the function `tensor` in the package of suites.
fn tensor<'a, F: Datum + Float>(shape: impl IntoIterator<Item = &'a usize>) -> BoxedStrategy<ArrayD<F>> {
    let shape: Vec<usize> = shape.into_iter().copied().collect();
    let elements = shape.iter().product::<usize>();
    proptest::collection::vec(-10i8..=10, elements)
        .prop_map(move |v| v.into_iter().map(|i| F::from(i).unwrap()).collect())
        .prop_map(move |v| ArrayD::from_shape_vec(shape.clone(), v).unwrap())
        .boxed()
}

/// Runs all tests of a suite.
fn run(suite: &infra::TestSuite, name: &'static str) {
    match suite {
        infra::TestSuite::Node(tests) => tests.values().for_each(|test| run(test, name)),
        infra::TestSuite::Leaf(test, _) => {
            test.run_with_approx(name, &DefaultRuntime, Approximation::Approximate).unwrap()
        }
    }
}

#[test]
fn suite_of_the_masked_softmax() {
    run(&scaled_masked_softmax::suite().unwrap(), "scaled_masked_softmax");
}

#[test]
fn suite_of_attention() {
    run(&sdpa::suite().unwrap(), "sdpa");
}
