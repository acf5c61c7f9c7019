//! Adam with decoupled weight decay.

use super::init::Stream;
use super::optimizer::sealed::Advance;
use super::optimizer::{ParameterState, Rule};
use crate::cpu::optimizer as kernels;
use crate::error::{Error, Result};
use crate::floats::{Floats, FloatsMut};
use crate::math::power;

const OP: &str = "adamw";

/// Name of the second state variable: the root of the mean square of the gradients.
pub(super) const ROOT: &str = "root_mean_square";

/// Settings of Adam with decoupled weight decay, for an [`Optimizer`](super::Optimizer). The defaults are as in PyTorch
/// and candle.
///
/// # Formula
/// ```text
/// m = beta1 * m + (1 - beta1) * g,   u = sqrt(beta2 * u^2 + (1 - beta2) * g^2)
/// w = w * (1 - lr * weight_decay) - lr * m / (1 - beta1^t) / (u / sqrt(1 - beta2^t) + eps)
/// ```
/// Here u is the root of the mean square. Other implementations store the mean square itself. In f32, the square
/// overflows for gradients above 1.8e19, and is 0 for gradients below 2.6e-23. The root has the same range as the
/// gradients. `eps` is added in f64, so it does not round to 0. For any number of steps, `1 - beta^t` is computed with
/// an error of about 2^-90.
///
/// # Special values
/// | gradient | effect on a weight |
/// |---|---|
/// | 0 from the first step on | only weight decay changes the weight |
/// | finite, of any size | changes the weight by up to a few times `lr`; a weight that overflows becomes infinite |
/// | NaN or an infinity | an error, and nothing is changed |
///
/// # Accuracy
/// The state m and u is f64 for f64 weights and f32 otherwise. Given the values before a step, each new value of m, u
/// and w is within 0.501 ULP of its formula in f32, and within 8 ULP in f64. The ULP is taken at the largest term of
/// the formula. In f16 and bf16, a weight is the rounded master weight.
///
/// # Source
/// Loshchilov and Hutter, "Decoupled weight decay regularization", 2019.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct AdamW {
    /// Learning rate; 1e-3 by default.
    pub lr: f64,
    /// Decay factor of the mean gradient per step; 0.9 by default.
    pub beta1: f64,
    /// Decay factor of the mean square per step; 0.999 by default.
    pub beta2: f64,
    /// Constant that is added to the denominator, so that gradients far below it hardly change a weight; 1e-8 by
    /// default.
    pub eps: f64,
    /// Weight decay: each step multiplies a weight by 1 - lr * weight_decay; 0.01 by default.
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        AdamW { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 }
    }
}

impl AdamW {
    /// Sets [`AdamW::lr`].
    pub fn lr(self, lr: f64) -> Self {
        Self { lr, ..self }
    }

    /// Sets [`AdamW::beta1`].
    pub fn beta1(self, beta1: f64) -> Self {
        Self { beta1, ..self }
    }

    /// Sets [`AdamW::beta2`].
    pub fn beta2(self, beta2: f64) -> Self {
        Self { beta2, ..self }
    }

    /// Sets [`AdamW::eps`].
    pub fn eps(self, eps: f64) -> Self {
        Self { eps, ..self }
    }

    /// Sets [`AdamW::weight_decay`].
    pub fn weight_decay(self, weight_decay: f64) -> Self {
        Self { weight_decay, ..self }
    }
}

impl Rule for AdamW {
    fn kept(&self) -> &'static [&'static str] {
        &["mean", ROOT]
    }

    fn learning_rate(&self) -> f64 {
        self.lr
    }

    fn with_learning_rate(self, lr: f64) -> Self {
        self.lr(lr)
    }
}

impl Advance for AdamW {
    const OP: &'static str = OP;

    fn check_settings(&self) -> Result<()> {
        for (argument, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(Error::invalid(OP, argument, beta, "in [0, 1)"));
            }
        }
        if !(self.eps >= f64::MIN_POSITIVE && self.eps.is_finite()) {
            let expected = format!("finite and at least {:e}, the smallest normal f64", f64::MIN_POSITIVE);
            return Err(Error::invalid(OP, "eps", self.eps, expected));
        }
        check_rates(OP, self.lr, self.weight_decay)
    }

    fn update(
        &self,
        state: &mut ParameterState,
        param: FloatsMut<'_>,
        gradient: Floats<'_>,
        stream: Option<Stream>,
    ) -> Result<()> {
        let steps = state.steps.saturating_add(1);
        let [bias1, bias2] = [self.beta1, self.beta2].map(|beta| bias(beta, steps));
        // Numerator and denominator are multiplied by sqrt(bias2), because u / sqrt(bias2) may exceed f64.
        let root = bias2.sqrt();
        let formula = kernels::Formula::AdamW(kernels::AdamW {
            beta1: self.beta1,
            beta2: self.beta2,
            keep: 1.0 - self.lr * self.weight_decay,
            rate: self.lr / bias1 * root,
            eps: self.eps * root,
        });
        state.advance(param, gradient, stream, formula)?;
        state.steps = steps;
        Ok(())
    }
}

/// Returns 1 - beta^steps.
fn bias(beta: f64, steps: u64) -> f64 {
    if beta == 0.0 {
        return 1.0;
    }
    let exponent = power::log(beta).times((steps as f64).into());
    // For an exponent below -50, 1 - e^exponent rounds to 1.
    if exponent.0 < -50.0 { 1.0 } else { power::Pair::from(1.0).minus(power::exp(exponent)).0 }
}

/// Checks a learning rate and a weight decay. Weight decay must move weights towards 0, but not past 0.
pub(super) fn check_rates(op: &'static str, lr: f64, weight_decay: f64) -> Result<()> {
    for (argument, value) in [("lr", lr), ("weight_decay", weight_decay)] {
        if !(value >= 0.0 && value.is_finite()) {
            return Err(Error::invalid(op, argument, value, "finite and 0 or more"));
        }
    }
    if lr * weight_decay > 1.0 {
        return Err(Error::invalid(op, "weight_decay", weight_decay, format!("at most 1 / lr = {}", 1.0 / lr)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::bias;

    /// Compares the corrections with 1 - beta^t, where a plain f64 loop computes beta^t as a product. Each rounding in
    /// the loop adds an error of at most 2^-53.
    #[test]
    #[cfg_attr(miri, ignore = "slow under Miri, and has no unsafe code")]
    fn bias_corrections_are_right_at_any_step() {
        for beta in [0.9f64, 0.999, 0.5, 0.9999, 1.0 - f64::EPSILON / 2.0, 1e-300] {
            let mut product = 1.0;
            for steps in 1..=100_000u64 {
                product *= beta;
                if steps < 20 || steps % 9973 == 0 {
                    let (got, plain) = (bias(beta, steps), 1.0 - product);
                    let allowed = (steps + 2) as f64 * 2f64.powi(-53);
                    assert!((got - plain).abs() <= allowed, "1 - {beta}^{steps}: expected {plain}, got {got}");
                }
            }
        }
        // For beta = 1 - e, the exact 1 - beta^t is about t * e. A beta^t rounded to f64 would lose almost all digits
        // of this difference.
        let e = f64::EPSILON / 2.0;
        assert_eq!(bias(1.0 - e, 1), e);
        assert!((bias(1.0 - e, 1 << 20) / (e * (1u64 << 20) as f64) - 1.0).abs() < 1e-9);
        assert_eq!((bias(0.0, 1), bias(0.999, u64::MAX)), (1.0, 1.0));
    }
}
