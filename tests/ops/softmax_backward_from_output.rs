//! Tests of the gradient of softmax from its result. `support/output_backward.rs` defines the tests.

use crate::support::naive;
use crate::support::output_backward::FromOutput;
use evenkeel::reference::Real;
use evenkeel::{Element, Lanes, LanesMut, Result, SoftmaxFromOutput, reference};

struct OfSoftmax;

impl FromOutput for OfSoftmax {
    const NAME: &'static str = "softmax_backward_from_output";
    const IS_LOG: bool = false;
    fn exact<R: Real>(y: &[R], dy: &[R]) -> Vec<R> {
        reference::softmax_backward_from_output_of(y, dy)
    }
    fn naive<E: Element>(y: &[E], dy: &[E]) -> Vec<E> {
        naive::softmax_backward_from_output(y, dy)
    }
    fn allocating<E: Element>(y: Lanes<'_, E>, dy: Lanes<'_, E>, options: &SoftmaxFromOutput) -> Result<Vec<E>> {
        evenkeel::softmax_backward_from_output(y, dy, options)
    }
    fn into<'a, E: Element>(
        y: Lanes<'_, E>,
        dy: Lanes<'_, E>,
        dx: LanesMut<'a, E>,
        options: &SoftmaxFromOutput,
    ) -> Result<&'a mut [E]> {
        evenkeel::softmax_backward_from_output_into(y, dy, dx, options)
    }
    fn in_place<E: Element>(y: Lanes<'_, E>, dy: LanesMut<'_, E>, options: &SoftmaxFromOutput) -> Result<()> {
        evenkeel::softmax_backward_from_output_in_place(y, dy, options)
    }
}

output_tests!(OfSoftmax;);
