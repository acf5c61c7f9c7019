//! What a tensor holds: whether it is finite, and the statistics of what is.

use crate::element::Element;
use crate::error::Result;
use crate::report::{self, Counts};

const OP: &str = "inspect";

/// What [`finite`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finite {
    /// Elements.
    pub count: usize,
    /// Those that are NaN.
    pub nan: usize,
    /// Those that are an infinity.
    pub infinite: usize,
    /// The index of the first that is either.
    pub first: Option<usize>,
}

impl Finite {
    /// Whether every element is finite.
    pub fn is_finite(&self) -> bool {
        self.first.is_none()
    }
}

/// What [`inspect`] found: of the finite elements, but for the counts. Zeros are +0.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Elements, finite or not.
    pub count: usize,
    /// Those that are NaN.
    pub nan: usize,
    /// Those that are an infinity.
    pub infinite: usize,
    /// The least.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
    /// The standard deviation of the population.
    pub std: f64,
    /// The largest magnitude.
    pub max_abs: f64,
}

/// How many elements are NaN or infinite, and where the first one is: one pass, without the statistics of
/// [`inspect`].
///
/// ```
/// let met = evenkeel::finite(&[1.0f32, f32::INFINITY, f32::NAN, f32::NAN])?;
/// assert!(!met.is_finite());
/// assert_eq!((met.count, met.nan, met.infinite, met.first), (4, 2, 1, Some(1)));
/// # Ok::<(), evenkeel::Error>(())
/// ```
///
/// # Errors
/// [`Error::Backend`](crate::Error::Backend).
pub fn finite<E: Element>(x: &[E]) -> Result<Finite> {
    E::finite(x)
}

/// Counts of what is not finite, and the statistics of what is.
///
/// # Formula
/// ```text
/// mean = sum x_i / n,   std = sqrt(sum (x_i - mean)^2 / n),   over the n finite elements
/// ```
///
/// # Shapes
/// `x` is all elements of a tensor.
///
/// # Special values
/// | elements | what is found |
/// |---|---|
/// | NaN, infinities | counted, and left out of all else |
/// | none that is finite | NaN for all but the counts |
/// | all finite ones equal | the mean is that value, std is 0 |
/// | values whose sums or squares overflow f64 | right: they are scaled |
///
/// # Accuracy
/// In ULP of f64, for every type: min, max and max_abs are exact; the mean is within 16 ULP of max_abs, which it may
/// cancel to far less than; std is within 16 ULP of itself; both 1 more for every 16,384 elements, which is
/// [rule O](crate::math::sum)'s bound. Measured: 1 on random elements, 5 on a million of nine different values.
///
/// # Errors
/// [`Error::Backend`](crate::Error::Backend).
///
/// # Panics
/// Never.
///
/// # Source
/// Chan, Golub and LeVeque, "Algorithms for computing the sample variance", 1983: the two-pass form.
///
/// # Example
/// ```
/// let stats = evenkeel::inspect(&[3e38f32, 1e38, f32::NAN])?;
/// assert_eq!((stats.count, stats.nan, stats.infinite), (3, 1, 0));
/// assert_eq!(stats.mean as f32, 2e38); // the sum overflows f32, and so do the squares that std is of
/// assert!((stats.std / 1e38 - 1.0).abs() < 1e-6);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn inspect<E: Element>(x: &[E]) -> Result<Stats> {
    let stats = E::inspect(x)?;
    let (nan, infinite) = (u64::from(stats.nan > 0), u64::from(stats.infinite > 0));
    report::record(OP, Counts { rows: 1, nan, infinite, ..Counts::default() });
    Ok(stats)
}
