//! Gradients of several batches, added up.

use super::optimizer::check_len;
use crate::cpu::accumulator::add;
use crate::error::{Error, Result};
use crate::floats::{Floats, FloatsMut};
use crate::simd::filled;

const OP: &str = "accumulator";

/// The sum of gradients of several batches, in f32 whatever their type: in f16 and bf16, small ones would no longer be seen
/// beside the sum. Sums of f64 gradients are rounded to f32.
///
/// # Special values
/// A NaN or an infinity stays in the sum, and [`LossScaler::unscale`](super::LossScaler::unscale) finds it; so does a sum
/// beyond f32, which is infinite.
///
/// # Accuracy
/// Each sum of two is rounded once: 0.501 ULP.
///
/// ```
/// use evenkeel::train::Accumulator;
/// use half::bf16;
/// let grad = [bf16::from_f32(0.01); 2];
/// let mut sum = Accumulator::new(&[2])?;
/// for _ in 0..1000 {
///     sum.add(&[Some((&grad).into())])?;
/// }
/// // In bf16 it would have stalled at 4.
/// assert!((sum.grads()[0][0] - 10.009766).abs() < 1e-3);
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Accumulator {
    sums: Vec<Vec<f32>>,
}

impl Accumulator {
    /// Zeros, for tensors with so many elements.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn new(lens: &[usize]) -> Result<Self> {
        let sums = lens.iter().map(|len| filled(OP, "the sums", *len, 0.0)).collect::<Result<_>>()?;
        Ok(Accumulator { sums })
    }

    /// Adds the gradients of a batch, of those tensors that have one.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for other tensors than those it was made for: the sums are then what they were.
    /// [`Error::Backend`].
    pub fn add(&mut self, grads: &[Option<Floats<'_>>]) -> Result<()> {
        if grads.len() != self.sums.len() {
            return Err(Error::shape(OP, "grads", grads.len().to_string(), self.sums.len().to_string()));
        }
        for (sum, grad) in self.sums.iter().zip(grads) {
            grad.map_or(Ok(()), |grad| check_len(OP, sum.len(), grad))?;
        }
        for (sum, grad) in self.sums.iter_mut().zip(grads) {
            grad.map_or(Ok(()), |grad| add(sum, grad))?;
        }
        Ok(())
    }

    /// The sums.
    pub fn grads(&self) -> &[Vec<f32>] {
        &self.sums
    }

    /// The sums, to be unscaled and clipped where they are.
    pub fn grads_mut(&mut self) -> Vec<FloatsMut<'_>> {
        self.sums.iter_mut().map(FloatsMut::from).collect()
    }

    /// Zeros again.
    pub fn clear(&mut self) {
        for sum in &mut self.sums {
            sum.fill(0.0);
        }
    }
}
