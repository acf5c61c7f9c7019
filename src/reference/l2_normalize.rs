//! Division by the Euclidean norm.

use super::{DoubleDouble, Real};
use crate::element::Element;

/// Returns the unrounded result of [`l2_normalize`](crate::l2_normalize()) for a row.
///
/// ```
/// use evenkeel::reference::l2_normalize;
/// assert_eq!(l2_normalize(&[3.0f32, -4.0], 1e-12), [0.6, -0.8]);
/// ```
pub fn l2_normalize<E: Element>(x: &[E], eps: f64) -> Vec<E::Exact> {
    let x: Vec<DoubleDouble> = x.iter().map(|x| x.widen().into()).collect();
    let (zero, eps) = (DoubleDouble::from(0.0), DoubleDouble::from(eps));
    let norm = x.iter().fold(zero, |sum, &x| sum + x * x).sqrt();
    let divisor = if norm < eps { eps } else { norm };
    let y = x.into_iter().map(|x| if divisor == zero { zero } else { x / divisor });
    y.map(E::Exact::from_double_double).collect()
}
