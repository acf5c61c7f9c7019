//! Tests of the gradient of log-softmax from its result. `support/output_backward.rs` defines the tests.

use crate::support::compare::Checker;
use crate::support::generate::{Bits, scattered};
use crate::support::naive;
use crate::support::output_backward::{FromOutput, check_scaled};
use evenkeel::reference::Real;
use evenkeel::{Element, Lanes, LanesMut, Result, SoftmaxFromOutput, reference};

struct OfLogSoftmax;

impl FromOutput for OfLogSoftmax {
    const NAME: &'static str = "log_softmax_backward_from_output";
    const IS_LOG: bool = true;
    fn exact<R: Real>(y: &[R], dy: &[R]) -> Vec<R> {
        reference::log_softmax_backward_from_output_of(y, dy)
    }
    fn naive<E: Element>(y: &[E], dy: &[E]) -> Vec<E> {
        naive::log_softmax_backward_from_output(y, dy)
    }
    fn allocating<E: Element>(y: Lanes<'_, E>, dy: Lanes<'_, E>, options: &SoftmaxFromOutput) -> Result<Vec<E>> {
        evenkeel::log_softmax_backward_from_output(y, dy, options)
    }
    fn into<'a, E: Element>(
        y: Lanes<'_, E>,
        dy: Lanes<'_, E>,
        dx: LanesMut<'a, E>,
        options: &SoftmaxFromOutput,
    ) -> Result<&'a mut [E]> {
        evenkeel::log_softmax_backward_from_output_into(y, dy, dx, options)
    }
    fn in_place<E: Element>(y: Lanes<'_, E>, dy: LanesMut<'_, E>, options: &SoftmaxFromOutput) -> Result<()> {
        evenkeel::log_softmax_backward_from_output_in_place(y, dy, options)
    }
}

output_tests!(OfLogSoftmax; next_to_the_largest_value);

/// Checks a gradient within a few ULP of the largest finite value. Half of this gradient is the product of an
/// exponential and a large sum. An error of the exponential must not make the gradient infinite. In f64, the gradient
/// may become infinite, because no more precise type is available for the exponential.
fn next_to_the_largest_value<E: Bits>() {
    let checker = Checker::new::<E>(OfLogSoftmax::NAME);
    let max = E::LIMITS.max;
    for i in 0..2000 {
        let first = E::from_wide(-2.5 * scattered(i));
        let mut y = [first; 9];
        y[1..].fill(E::from_wide(-3.0));
        let half = E::from_wide(max / 2.0).widen();
        // The first gradient is `dy[0] - exp(y[0]) * sum(dy)`. Each of these two terms adds about half of the type's
        // largest value.
        let other = -half / 8.0 / first.widen().exp() - half / 8.0;
        let mut dy = [E::from_wide(other); 9];
        dy[0] = E::from_wide(half);
        check_scaled::<OfLogSoftmax, E>(&checker, &format!("case {i}"), &y, &dy, 1.0);
    }
}
