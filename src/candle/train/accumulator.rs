//! Accumulation of the gradients of several backward passes.

use crate::candle::guarded::clip::read;
use crate::error::Result;
use crate::train;
use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};

const OP: &str = "accumulator";

/// Sum of the gradients of several batches, in f32 for all types of gradients.
///
/// This is [`train::Accumulator`] for candle.
///
/// ```
/// use candle_core::{DType, Device, Tensor, Var};
/// use evenkeel::candle::train::Accumulator;
/// let x = Var::from_tensor(&Tensor::full(0.01f32, 2, &Device::Cpu)?.to_dtype(DType::BF16)?)?;
/// let mut sum = Accumulator::new(vec![x.clone()]);
/// let mut grads = None;
/// for _ in 0..1000 {
///     sum.add(grads.insert(x.sqr()?.sum_all()?.backward()?))?;
/// }
/// let Some(mut grads) = grads else { unreachable!() };
/// sum.take(&mut grads)?; // ready for `guarded::unscale` and an optimiser's `step`
/// // A sum in bf16 would have stalled at 8.
/// assert_eq!(grads.get(&x).map(|grad| grad.dtype()), Some(DType::F32));
/// assert!(grads.get(&x).unwrap().to_vec1::<f32>()?.iter().all(|sum| (sum - 20.0).abs() < 0.1));
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Debug)]
pub struct Accumulator {
    vars: Vec<Var>,
    /// Sum for each variable; `None` until the variable has a gradient.
    sums: Vec<Option<train::Accumulator>>,
}

impl Accumulator {
    /// Creates an empty accumulator for these variables.
    pub fn new(vars: Vec<Var>) -> Self {
        let sums = vars.iter().map(|_| None).collect();
        Accumulator { vars, sums }
    }

    /// Adds the gradients of a batch. Variables without a gradient are skipped, and gradients on other devices are
    /// copied to the CPU.
    ///
    /// # Errors
    /// [`Error::UnsupportedDType`](crate::Error::UnsupportedDType) for a gradient of a type that is not supported;
    /// candle's own errors. After an error, the gradients of earlier variables have already been added.
    pub fn add(&mut self, grads: &GradStore) -> Result<()> {
        for (var, sum) in self.vars.iter().zip(&mut self.sums) {
            if let Some(grad) = grads.get(var) {
                let mut all = match sum.take() {
                    Some(all) => all,
                    None => train::Accumulator::new(&[grad.elem_count()])?,
                };
                let added = read(grad, OP, |grad| all.add(&[Some(grad)]));
                *sum = Some(all);
                added?;
            }
        }
        Ok(())
    }

    /// Replaces the gradients in `grads` by the sums, in f32, and empties the accumulator. Variables without a sum keep
    /// their gradient.
    ///
    /// # Errors
    /// Candle's own errors. After an error the sums are unchanged.
    pub fn take(&mut self, grads: &mut GradStore) -> Result<()> {
        let mut made = Vec::new();
        for (var, sum) in self.vars.iter().zip(&self.sums) {
            if let Some(sum) = sum {
                made.push((var, Tensor::from_slice(&sum.grads()[0], var.shape(), var.device())?));
            }
        }
        for (var, sum) in made {
            grads.insert(var, sum);
        }
        self.sums.fill(None);
        Ok(())
    }
}
