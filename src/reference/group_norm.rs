//! Group normalisation.

use super::layer_norm::deviations;
use super::{DoubleDouble, Real};
use crate::element::Element;

/// Returns the unrounded result of [`group_norm`](crate::group_norm()) for one entry of a batch. The entry `x` has
/// shape `[channels, inner]`. Weight and bias have one value per channel.
///
/// ```
/// use evenkeel::reference::group_norm;
/// assert_eq!(group_norm(&[1e8f32, 1e8 + 8.0, 0.0, 2.0], 2, 2, None, None, 0.0), [-1.0, 1.0, -1.0, 1.0]);
/// ```
pub fn group_norm<E: Element>(
    x: &[E],
    channels: usize,
    groups: usize,
    weight: Option<&[f64]>,
    bias: Option<&[f64]>,
    eps: f64,
) -> Vec<E::Exact> {
    let zero = DoubleDouble::from(0.0);
    let mut y = Vec::with_capacity(x.len());
    for group in x.chunks((x.len() / groups).max(1)) {
        let (d, root) = deviations(group, eps);
        for d in d {
            let normalised = if root == zero { zero } else { d / root };
            // The elements of a channel are contiguous, so the number of results so far gives the channel.
            let channel = y.len() / (group.len() * groups / channels);
            let weight = DoubleDouble::from(weight.map_or(1.0, |w| w[channel]));
            let bias = DoubleDouble::from(bias.map_or(0.0, |b| b[channel]));
            y.push(E::Exact::from_double_double(normalised * weight + bias));
        }
    }
    y
}
