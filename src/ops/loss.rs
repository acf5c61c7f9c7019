//! What losses have in common: how the losses of rows become one number, and checks of targets.

use crate::error::{Error, Result};
use crate::floats::Floats;
use crate::simd::in_default;

/// What becomes of the losses of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reduction {
    /// Nothing: one number for each row, or for each element if the op's page says so.
    None,
    /// Their mean; the op's page says over what.
    #[default]
    Mean,
    /// Their sum.
    Sum,
}

/// What the memory for losses is called in errors.
pub(crate) const LOSSES: &str = "the losses";

impl Reduction {
    /// What the sum of so many losses is divided by; 0 of none, whose mean is 0.
    pub(crate) fn divisor(self, losses: usize) -> f64 {
        if self == Reduction::Mean { losses as f64 } else { 1.0 }
    }

    /// The loss of what kernels made, which divided by the divisor is to be their sum or their mean.
    pub(crate) fn reduce(self, losses: Vec<f64>, divisor: f64) -> Loss {
        in_default(|| {
            if self == Reduction::None {
                return Loss::Rows(losses);
            }
            let sum = crate::math::sum::rule_o(&losses);
            Loss::Value(if divisor == 0.0 { 0.0 } else { sum / divisor })
        })
    }
}

/// A loss, in f64 and not rounded to any narrower type: as many numbers as the [`Reduction`] leaves.
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
pub enum Loss {
    /// The mean or the sum.
    Value(f64),
    /// One number for each row, or for each element.
    Rows(Vec<f64>),
}

impl Loss {
    /// The mean or the sum; of rows that were not reduced, their sum.
    pub fn value(&self) -> f64 {
        in_default(|| match self {
            Loss::Value(value) => *value,
            Loss::Rows(rows) => crate::math::sum::rule_o(rows),
        })
    }

    /// The numbers.
    pub fn as_slice(&self) -> &[f64] {
        match self {
            Loss::Value(value) => std::slice::from_ref(value),
            Loss::Rows(rows) => rows,
        }
    }
}

/// Checks an operand that has one value for each logit: how many, and each of them.
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
            let value = format!("{value} at {}", index % cols);
            Err(Error::invalid_in_row(op, argument, index / cols, value, expected))
        }
    }
}

/// Checks that there is a gradient for each loss, or one for all of them together.
pub(crate) fn one_a_loss(op: &'static str, dloss: &[f64], losses: usize) -> Result<()> {
    if dloss.len() == losses {
        return Ok(());
    }
    Err(Error::shape(op, "dloss", format!("{} elements", dloss.len()), losses.to_string()))
}
