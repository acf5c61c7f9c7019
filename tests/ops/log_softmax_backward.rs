//! Tests of the gradient of log-softmax. `support/scores_backward.rs` defines the tests.

use crate::support::naive;
use crate::support::scores_backward::{Gradient, Specified};
use evenkeel::reference::Real;
use evenkeel::{Element, Lanes, LanesMut, Result, Softmax, reference};

struct OfLogSoftmax;

impl Specified for OfLogSoftmax {
    const NAME: &'static str = "log_softmax_backward";
    fn exact<R: Real>(logits: &[R], dy: &[R]) -> Option<Vec<R>> {
        reference::log_softmax_backward_of(logits, dy)
    }
    fn naive<E: Element>(x: &[E], dy: &[E]) -> Vec<E> {
        naive::log_softmax_backward(x, dy)
    }
    /// Returns the larger of the two terms `|dy|` and `y * sum(|dy|)`, where `y` is the softmax.
    fn term(y: f64, dy: f64, _: f64, sum: f64) -> f64 {
        dy.abs().max(y * sum)
    }
}

impl Gradient for OfLogSoftmax {
    fn allocating<E: Element>(x: Lanes<'_, E>, dy: Lanes<'_, E>, options: &Softmax<'_>) -> Result<Vec<E>> {
        evenkeel::log_softmax_backward(x, dy, options)
    }
    fn into<'a, E: Element>(
        x: Lanes<'_, E>,
        dy: Lanes<'_, E>,
        dx: LanesMut<'a, E>,
        options: &Softmax<'_>,
    ) -> Result<&'a mut [E]> {
        evenkeel::log_softmax_backward_into(x, dy, dx, options)
    }
    fn in_place<E: Element>(x: Lanes<'_, E>, dy: LanesMut<'_, E>, options: &Softmax<'_>) -> Result<()> {
        evenkeel::log_softmax_backward_in_place(x, dy, options)
    }
}

gradient_tests!(OfLogSoftmax;);
