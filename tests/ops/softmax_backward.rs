//! Tests of the gradient of softmax. `support/scores_backward.rs` defines the tests.

use crate::support::naive;
use crate::support::scores_backward::{Gradient, Specified};
use evenkeel::reference::Real;
use evenkeel::{Element, Lanes, LanesMut, Result, Softmax, reference};

struct OfSoftmax;

impl Specified for OfSoftmax {
    const NAME: &'static str = "softmax_backward";
    fn exact<R: Real>(logits: &[R], dy: &[R]) -> Option<Vec<R>> {
        reference::softmax_backward_of(logits, dy)
    }
    fn naive<E: Element>(x: &[E], dy: &[E]) -> Vec<E> {
        naive::softmax_backward(x, dy)
    }
    /// Returns `y * max(|dy|)`. No term exceeds this limit, and the terms may cancel.
    fn term(y: f64, _: f64, largest: f64, _: f64) -> f64 {
        y * largest
    }
}

impl Gradient for OfSoftmax {
    fn allocating<E: Element>(x: Lanes<'_, E>, dy: Lanes<'_, E>, options: &Softmax<'_>) -> Result<Vec<E>> {
        evenkeel::softmax_backward(x, dy, options)
    }
    fn into<'a, E: Element>(
        x: Lanes<'_, E>,
        dy: Lanes<'_, E>,
        dx: LanesMut<'a, E>,
        options: &Softmax<'_>,
    ) -> Result<&'a mut [E]> {
        evenkeel::softmax_backward_into(x, dy, dx, options)
    }
    fn in_place<E: Element>(x: Lanes<'_, E>, dy: LanesMut<'_, E>, options: &Softmax<'_>) -> Result<()> {
        evenkeel::softmax_backward_in_place(x, dy, options)
    }
}

gradient_tests!(OfSoftmax;);
