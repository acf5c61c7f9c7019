//! Statistics of a layer in a step.

use super::histogram::Histogram;
use crate::error::{Error, Result};
use crate::floats::Floats;
use crate::ops::inspect::Stats;
use crate::simd::in_default;

/// Statistics of a parameter and its gradient. Create a layer with [`Layer::new`], and add the statistics that are
/// needed:
///
/// ```
/// use evenkeel::train::Layer;
/// let (before, after, gradient) = ([3.0f32, 4.0], [3.0f32, 4.5], [0.0f32, -2.0]);
/// let layer = Layer::new("attention.q").gradient(&gradient)?.update(&before, &after)?;
/// assert_eq!((layer.gradient_norm(), layer.update_ratio), (Some(2.0), Some(0.1)));
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Layer {
    /// Name of the layer.
    pub name: String,
    /// Statistics of the unscaled gradient.
    #[cfg_attr(feature = "serde", serde(serialize_with = "stats", skip_serializing_if = "Option::is_none"))]
    pub gradient: Option<Stats>,
    /// Histogram of the gradient.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub histogram: Option<Histogram>,
    /// Statistics of the parameter after the step.
    #[cfg_attr(feature = "serde", serde(serialize_with = "stats", skip_serializing_if = "Option::is_none"))]
    pub weight: Option<Stats>,
    /// Norm of the parameter's change in the step, divided by the parameter's norm before the step. It is about 1e-3 in
    /// a healthy run. `None` if it was not recorded, or if the norm before the step was 0.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "super::record::optional", skip_serializing_if = "Option::is_none")
    )]
    pub update_ratio: Option<f64>,
}

impl Layer {
    /// Creates a layer without statistics.
    pub fn new(name: impl Into<String>) -> Self {
        Layer { name: name.into(), gradient: None, histogram: None, weight: None, update_ratio: None }
    }

    /// Adds the statistics of the gradient.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the requested instruction set is unavailable.
    pub fn gradient<'a>(self, gradient: impl Into<Floats<'a>>) -> Result<Self> {
        let gradient = gradient.into();
        Ok(Self { gradient: Some(gradient.inspect()?), histogram: Some(Histogram::of(gradient)), ..self })
    }

    /// Adds the statistics of the parameter after the step, and the update ratio relative to the values before the
    /// step.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if `before` and `after` have different lengths; [`Error::Unavailable`] if the requested
    /// instruction set is unavailable.
    pub fn update<'a>(self, before: impl Into<Floats<'a>>, after: impl Into<Floats<'a>>) -> Result<Self> {
        in_default(|| {
            let (before, after) = (before.into(), after.into());
            if before.len() != after.len() {
                let elements = |x: Floats<'_>| format!("{} elements", x.len());
                return Err(Error::shape("train", "after", elements(after), elements(before)));
            }
            let mut change = Vec::with_capacity(after.len());
            after.each(|value| change.push(value));
            let mut changes = change.iter_mut();
            before.each(|value| {
                if let Some(change) = changes.next() {
                    *change -= value;
                }
            });
            let (change, was) = (norm(&crate::inspect(&change)?), norm(&before.inspect()?));
            Ok(Self { weight: Some(after.inspect()?), update_ratio: (was > 0.0).then(|| change / was), ..self })
        })
    }

    /// Returns the norm of the finite elements of the gradient, if its statistics were added.
    pub fn gradient_norm(&self) -> Option<f64> {
        self.gradient.as_ref().map(norm)
    }

    /// Returns the norm of the finite elements of the parameter, if its statistics were added.
    pub fn weight_norm(&self) -> Option<f64> {
        self.weight.as_ref().map(norm)
    }

    /// Returns the total number of NaN and infinite elements in the gradient and the parameter.
    pub fn not_finite(&self) -> usize {
        [&self.gradient, &self.weight].into_iter().flatten().map(|stats| stats.nan + stats.infinite).sum()
    }
}

/// Returns the Euclidean norm of the finite elements.
fn norm(stats: &Stats) -> f64 {
    let count = stats.count - stats.nan - stats.infinite;
    if count == 0 {
        return 0.0;
    }
    // Mean and deviation are divided by the largest magnitude, because the square of the largest magnitude may exceed
    // f64.
    let unit = if stats.max_abs > 0.0 { stats.max_abs } else { 1.0 };
    in_default(|| {
        let (mean, std) = (stats.mean / unit, stats.std / unit);
        unit * (count as f64 * (mean * mean + std * std)).sqrt()
    })
}

#[cfg(feature = "serde")]
fn stats<S: serde::Serializer>(stats: &Option<Stats>, to: S) -> std::result::Result<S::Ok, S::Error> {
    use serde::Serialize;

    struct Number(f64);

    impl Serialize for Number {
        fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
            super::record::number(&self.0, to)
        }
    }

    let Some(stats) = stats else { return to.serialize_none() };
    let numbers =
        [("min", stats.min), ("max", stats.max), ("mean", stats.mean), ("std", stats.std), ("norm", norm(stats))];
    let mut map = to.serialize_map(Some(8))?;
    use serde::ser::SerializeMap;
    for (key, count) in [("count", stats.count), ("nan", stats.nan), ("infinite", stats.infinite)] {
        map.serialize_entry(key, &count)?;
    }
    for (key, value) in numbers {
        map.serialize_entry(key, &Number(value))?;
    }
    map.end()
}
