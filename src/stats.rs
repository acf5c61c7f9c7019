//! Statistics of a tensor.

#![forbid(unsafe_code)]

/// Counts that [`finite`](crate::finite()) returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finite {
    /// Number of elements.
    pub count: usize,
    /// Number of elements that are NaN.
    pub nan: usize,
    /// Number of elements that are infinite.
    pub infinite: usize,
    /// Index of the first element that is NaN or infinite.
    pub first: Option<usize>,
}

impl Finite {
    /// Returns whether every element is finite.
    pub fn is_finite(&self) -> bool {
        self.first.is_none()
    }
}

/// Statistics that [`inspect`](crate::inspect()) returns. All except the counts are computed from the finite elements.
/// A statistic that is zero is +0.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Number of elements, finite or not.
    pub count: usize,
    /// Number of elements that are NaN.
    pub nan: usize,
    /// Number of elements that are infinite.
    pub infinite: usize,
    /// Smallest finite element.
    pub min: f64,
    /// Largest finite element.
    pub max: f64,
    /// Mean of the finite elements.
    pub mean: f64,
    /// Population standard deviation of the finite elements.
    pub std: f64,
    /// Largest magnitude of the finite elements.
    pub max_abs: f64,
}
