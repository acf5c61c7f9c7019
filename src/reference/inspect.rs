//! Statistics of a tensor.

use super::{DoubleDouble, Real};
use crate::element::Element;

/// Returns the unrounded mean and standard deviation that [`inspect`](crate::inspect()) rounds, or `None` if no element
/// is finite.
///
/// ```
/// use evenkeel::reference::{Real, inspect};
/// let moments = inspect(&[1e308, 0.5e308, f64::NAN]).map(|m| m.map(|v| v.to_f64()));
/// assert_eq!(moments, Some([0.75e308, 0.25e308]));
/// ```
pub fn inspect<E: Element>(x: &[E]) -> Option<[DoubleDouble; 2]> {
    let finite: Vec<DoubleDouble> =
        x.iter().map(|x| x.widen()).filter(|x| x.is_finite()).map(DoubleDouble::from).collect();
    if finite.is_empty() {
        return None;
    }
    let n = DoubleDouble::from(finite.len() as f64);
    let sum = |terms: &mut dyn Iterator<Item = DoubleDouble>| terms.fold(DoubleDouble::from(0.0), |sum, x| sum + x);
    let mean = sum(&mut finite.iter().copied()) / n;
    let squares = sum(&mut finite.iter().map(|&x| (x - mean) * (x - mean)));
    Some([mean, (squares / n).sqrt()])
}
