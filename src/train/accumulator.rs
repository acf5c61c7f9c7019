//! Sums of the gradients of several batches.

use super::optimizer::check_len;
use crate::cpu::accumulator::add;
use crate::error::{Error, Result};
use crate::floats::{Floats, FloatsMut};
use crate::simd::filled;

const OP: &str = "accumulator";

/// Sums of the gradients of several batches, in f32 for gradients of any type.
///
/// If the sum were f16 or bf16, a small gradient would be lost when it is added to a large sum. Sums of f64 gradients
/// are rounded to f32.
///
/// # Special values
/// A NaN or an infinity remains in the sum, and a sum beyond f32 becomes infinite.
/// [`LossScaler::unscale`](super::LossScaler::unscale) detects both.
///
/// # Accuracy
/// Each addition is rounded once, with an error of at most 0.501 ULP.
///
/// ```
/// use evenkeel::train::Accumulator;
/// use half::bf16;
/// let grad = [bf16::from_f32(0.01); 2];
/// let mut sum = Accumulator::new(&[2])?;
/// for _ in 0..1000 {
///     sum.add(&[Some((&grad).into())])?;
/// }
/// // A sum in bf16 would stall at 4.
/// assert!((sum.grads()[0][0] - 10.009766).abs() < 1e-3);
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Accumulator {
    sums: Vec<Vec<f32>>,
}

impl Accumulator {
    /// Creates sums that are 0, for tensors of these lengths.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if an allocation fails.
    pub fn new(lens: &[usize]) -> Result<Self> {
        let sums = lens.iter().map(|len| filled(OP, "the sums", *len, 0.0)).collect::<Result<_>>()?;
        Ok(Accumulator { sums })
    }

    /// Adds the gradients of a batch. Tensors without a gradient are skipped.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the number or the lengths of the tensors differ from the lengths passed to
    /// [`Accumulator::new`]; the sums are unchanged in this case. [`Error::Unavailable`] if the requested instruction
    /// set is unavailable.
    pub fn add(&mut self, grads: &[Option<Floats<'_>>]) -> Result<()> {
        if grads.len() != self.sums.len() {
            return Err(Error::shape(OP, "grads", format!("{} tensors", grads.len()), self.sums.len().to_string()));
        }
        for (sum, grad) in self.sums.iter().zip(grads) {
            grad.map_or(Ok(()), |grad| check_len(OP, sum.len(), grad))?;
        }
        for (sum, grad) in self.sums.iter_mut().zip(grads) {
            grad.map_or(Ok(()), |grad| add(sum, grad))?;
        }
        Ok(())
    }

    /// Returns the sums.
    pub fn grads(&self) -> &[Vec<f32>] {
        &self.sums
    }

    /// Returns the sums as mutable slices, for unscaling and clipping in place.
    pub fn grads_mut(&mut self) -> Vec<FloatsMut<'_>> {
        self.sums.iter_mut().map(FloatsMut::from).collect()
    }

    /// Resets the sums to zeros.
    pub fn clear(&mut self) {
        for sum in &mut self.sums {
            sum.fill(0.0);
        }
    }
}
