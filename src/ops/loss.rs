//! Code shared by the losses: the reduction of the rows' losses to one number, and checks of targets.

use crate::error::{Error, Result};
use crate::floats::Floats;
use crate::simd::in_default;

/// Reduction of the losses of all rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reduction {
    /// No reduction: one number for each row, or for each element if the documentation of the op says so.
    None,
    /// Mean of the losses. The documentation of the op defines the divisor.
    #[default]
    Mean,
    /// Sum of the losses.
    Sum,
}

/// Description of the losses in [`Error::OutOfMemory`].
pub(crate) const LOSSES: &str = "the losses";

impl Reduction {
    /// Returns the divisor for a sum of losses: the number of losses for the mean, and 1 otherwise.
    pub(crate) fn divisor(self, losses: usize) -> f64 {
        if self == Reduction::Mean { losses as f64 } else { 1.0 }
    }

    /// Divides the sum of the losses by `divisor`, or returns 0 if `divisor` is 0. Under [`Reduction::None`], returns
    /// all losses.
    pub(crate) fn reduce(self, losses: Vec<f64>, divisor: f64) -> Loss {
        in_default(|| {
            if self == Reduction::None {
                return Loss::Rows(losses);
            }
            let sum = crate::math::sum::tiled_sum(&losses);
            Loss::Value(if divisor == 0.0 { 0.0 } else { sum / divisor })
        })
    }
}

/// Loss in f64, for logits of any type: one number, or several under [`Reduction::None`].
///
/// ```
/// use evenkeel::{CrossEntropy, Reduction, Rows, cross_entropy};
/// let (logits, targets) = ([0.0f32; 4], [0, 1]);
/// let mean = cross_entropy(Rows::new(&logits, 2, 2)?, &targets, &CrossEntropy::default())?;
/// assert_eq!(mean.value() as f32, std::f32::consts::LN_2);
/// let each = CrossEntropy::default().reduction(Reduction::None);
/// assert_eq!(cross_entropy(Rows::new(&logits, 2, 2)?, &targets, &each)?.as_slice().len(), 2);
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Loss {
    /// Mean or sum of the losses.
    Value(f64),
    /// Loss of each row, or of each element.
    Rows(Vec<f64>),
}

impl Loss {
    /// Returns the mean or the sum of the losses. If the losses were not reduced, returns their sum.
    pub fn value(&self) -> f64 {
        in_default(|| match self {
            Loss::Value(value) => *value,
            Loss::Rows(rows) => crate::math::sum::tiled_sum(rows),
        })
    }

    /// Returns the loss as a slice, which has one element if the losses were reduced.
    pub fn as_slice(&self) -> &[f64] {
        match self {
            Loss::Value(value) => std::slice::from_ref(value),
            Loss::Rows(rows) => rows,
        }
    }
}

/// Checks that an operand has one value for each logit, and that `is_right` returns true for each value.
pub(crate) fn one_a_logit(
    op: &'static str,
    argument: &'static str,
    values: Floats<'_>,
    (rows, cols): (usize, usize),
    expected: &str,
    is_right: impl Fn(f64) -> bool,
) -> Result<()> {
    if values.len() != rows * cols {
        let expected = format!("one for each of {rows} rows of {cols} columns");
        return Err(Error::shape(op, argument, format!("{} elements", values.len()), expected));
    }
    let (mut index, mut wrong) = (0, None);
    in_default(|| {
        values.each(|value| {
            if wrong.is_none() && !is_right(value) {
                wrong = Some((index, value));
            }
            index += 1;
        });
    });
    match wrong {
        None => Ok(()),
        Some((index, value)) => {
            let value = format!("{value} at column {}", index % cols);
            Err(Error::invalid_in_row(op, argument, index / cols, value, expected))
        }
    }
}

/// Checks that `dloss` has `losses` elements, one for each loss.
pub(crate) fn one_a_loss(op: &'static str, dloss: &[f64], losses: usize) -> Result<()> {
    if dloss.len() == losses {
        return Ok(());
    }
    Err(Error::shape(op, "dloss", format!("{} elements", dloss.len()), losses.to_string()))
}
