//! What losses have in common: how the losses of rows become one number.

/// What becomes of the losses of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reduction {
    /// Nothing: one number for each row.
    None,
    /// Their mean; the op's page says over what.
    #[default]
    Mean,
    /// Their sum.
    Sum,
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
    /// One number for each row.
    Rows(Vec<f64>),
}

impl Loss {
    /// The mean or the sum; of rows that were not reduced, their sum.
    pub fn value(&self) -> f64 {
        match self {
            Loss::Value(value) => *value,
            Loss::Rows(rows) => crate::math::sum::rule_o(rows),
        }
    }

    /// The numbers.
    pub fn as_slice(&self) -> &[f64] {
        match self {
            Loss::Value(value) => std::slice::from_ref(value),
            Loss::Rows(rows) => rows,
        }
    }
}
