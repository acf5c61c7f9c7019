//! Initialisation of weights with random numbers that are the same on every machine and do not depend on other draws.
//!
//! An element depends only on a seed, the name or number of its tensor, and the element's index in the tensor.
//! Philox4x32-10 computes random bits from these three values. The sampler uses the same generator with another key.
//! Even if its seed is the same, its random numbers are unrelated to the weights. Numbers are computed in f64 by
//! functions that give the same bits everywhere, and then rounded once. So the f16 weights are the f64 weights of the
//! same seed, rounded to f16.

mod gain;

use crate::cpu::random::{self, Law, NORMAL_REACH, interval};
use crate::cpu::stochastic_rounding::RandomBits;
use crate::element::{DType, Element};
use crate::error::{Error, Result};
use crate::floats::FloatsMut;
use crate::math::philox::INITIALISERS;
use crate::simd::in_default;

pub use gain::{Fan, Gain};

const OP: &str = "init";

/// Distribution of the weights of a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Spread {
    /// Uniform distribution.
    #[default]
    Uniform,
    /// Normal distribution.
    Normal,
    /// Normal distribution, truncated at two standard deviations. Before truncation, the standard deviation is
    /// multiplied by 1/0.8796. So the truncated distribution has the requested standard deviation, as in JAX.
    TruncatedNormal,
}

/// Initial values of a tensor.
///
/// ```
/// use evenkeel::train::init::{Fan, Gain, Init};
/// let hidden = Init::kaiming_normal(Gain::Relu, Fan::In);
/// let attention = Init::xavier_uniform(0.5);
/// let embedding = Init::TruncatedNormal { mean: 0.0, std: 0.02, low: -0.04, high: 0.04 };
/// # let _ = (hidden, attention, embedding);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Init {
    /// The same number for all elements, such as 0 for a bias or 1 for a norm's weight.
    Constant(f64),
    /// Uniform distribution from `low` to `high`.
    Uniform {
        /// Smallest value.
        low: f64,
        /// Upper limit. A number equals the limit only if it was rounded up.
        high: f64,
    },
    /// Normal distribution.
    Normal {
        /// Mean of the distribution.
        mean: f64,
        /// Standard deviation of the distribution.
        std: f64,
    },
    /// Normal distribution, truncated to an interval. The limits are values, not multiples of the standard deviation.
    TruncatedNormal {
        /// Mean before truncation, which may lie outside the limits.
        mean: f64,
        /// Standard deviation before truncation.
        std: f64,
        /// Lower limit; -inf for none.
        low: f64,
        /// Upper limit; +inf for none.
        high: f64,
    },
    /// Distribution with mean 0 and standard deviation gain / sqrt(fan).
    Scaled {
        /// Gain for the function that follows the layer.
        gain: Gain,
        /// Fan of the layer, for the formula gain / sqrt(fan).
        fan: Fan,
        /// The distribution.
        spread: Spread,
    },
}

impl Init {
    /// Returns the uniform initialisation of Glorot and Bengio, "Understanding the difficulty of training deep
    /// feedforward neural networks", 2010.
    pub fn xavier_uniform(gain: impl Into<Gain>) -> Self {
        Init::Scaled { gain: gain.into(), fan: Fan::Average, spread: Spread::Uniform }
    }

    /// Returns the initialisation of [`Init::xavier_uniform`], but with a normal distribution.
    pub fn xavier_normal(gain: impl Into<Gain>) -> Self {
        Init::Scaled { gain: gain.into(), fan: Fan::Average, spread: Spread::Normal }
    }

    /// Returns the uniform initialisation of He, Zhang, Ren and Sun, "Delving deep into rectifiers", 2015, for
    /// [`Gain::Relu`] or [`Gain::LeakyRelu`].
    pub fn kaiming_uniform(gain: impl Into<Gain>, fan: Fan) -> Self {
        Init::Scaled { gain: gain.into(), fan, spread: Spread::Uniform }
    }

    /// Returns the initialisation of [`Init::kaiming_uniform`], but with a normal distribution.
    pub fn kaiming_normal(gain: impl Into<Gain>, fan: Fan) -> Self {
        Init::Scaled { gain: gain.into(), fan, spread: Spread::Normal }
    }

    /// Returns the uniform initialisation of LeCun, Bottou, Orr and Müller, "Efficient BackProp", 1998, for SELU.
    pub fn lecun_uniform() -> Self {
        Init::Scaled { gain: Gain::Linear, fan: Fan::In, spread: Spread::Uniform }
    }

    /// Returns the initialisation of [`Init::lecun_uniform`], but with a normal distribution.
    pub fn lecun_normal() -> Self {
        Init::Scaled { gain: Gain::Linear, fan: Fan::In, spread: Spread::Normal }
    }

    /// Converts [`Init::Scaled`] to the distribution with explicit numbers for this shape, and returns any other
    /// variant unchanged.
    fn of_shape(self, shape: &[usize]) -> Result<Self> {
        let Init::Scaled { gain, fan, spread } = self else { return Ok(self) };
        /// Standard deviation of a standard normal distribution that is truncated at -2 and 2.
        const OF_TWO: f64 = 0.879_625_661_034_239_8;
        // The fan of an empty tensor may be 0. A 0 is replaced by 1, to avoid a division by 0.
        let std = gain.value()? / fan.of(shape)?.max(1.0).sqrt();
        Ok(match spread {
            Spread::Uniform => Init::Uniform { low: -(3f64.sqrt() * std), high: 3f64.sqrt() * std },
            Spread::Normal => Init::Normal { mean: 0.0, std },
            Spread::TruncatedNormal => {
                let std = std / OF_TWO;
                Init::TruncatedNormal { mean: 0.0, std, low: -2.0 * std, high: 2.0 * std }
            }
        })
    }

    /// Checks that all numbers of the distribution are in the range of the type. Returns `(0, Some(distribution))`, or
    /// `(value, None)` if all elements have the same value.
    fn law(self, shape: &[usize], dtype: DType) -> Result<(f64, Option<Law>)> {
        let max = dtype.limits().max;
        // `largest <= max` is false if `largest` is NaN, so NaN is rejected too.
        let within = |argument: &'static str, value: f64, largest: f64| {
            let expected = || format!("finite, and such that no number exceeds {max:e}, the largest value of {dtype}");
            if largest <= max { Ok(()) } else { Err(Error::invalid(OP, argument, value, expected())) }
        };
        let ordered = |low: f64, high: f64| {
            let expected = || format!("at least low, which is {low}");
            if low <= high { Ok(()) } else { Err(Error::invalid(OP, "high", high, expected())) }
        };
        let deviation = |std: f64| {
            let ok = std >= 0.0 && std.is_finite();
            if ok { Ok(()) } else { Err(Error::invalid(OP, "std", std, "finite and 0 or more")) }
        };
        let law = match self.of_shape(shape)? {
            Init::Constant(value) => {
                within("constant", value, value.abs())?;
                return Ok((value, None));
            }
            Init::Uniform { low, high } => {
                within("low", low, low.abs())?;
                within("high", high, high.abs())?;
                ordered(low, high)?;
                within("high", high, high - low)?;
                Law::Uniform { low, high }
            }
            Init::Normal { mean, std } => {
                deviation(std)?;
                within("mean", mean, mean.abs())?;
                within("std", std, mean.abs() + NORMAL_REACH * std)?;
                Law::Normal { mean, std }
            }
            Init::TruncatedNormal { mean, std, low, high } => {
                deviation(std)?;
                within("mean", mean, mean.abs())?;
                ordered(low, high)?;
                if std == 0.0 {
                    let value = mean.max(low).min(high);
                    within("mean", mean, value.abs())?;
                    return Ok((value, None));
                }
                let [least, most] = interval((low - mean) / std, (high - mean) / std);
                let largest = (mean + std * least).abs().max((mean + std * most).abs());
                within(if mean < low { "low" } else { "high" }, if mean < low { low } else { high }, largest)?;
                Law::Truncated { mean, std, low, high, within: [least, most] }
            }
            Init::Scaled { .. } => unreachable!("`of_shape` must have replaced `Init::Scaled`"),
        };
        Ok((0.0, Some(law)))
    }
}

/// Stream of random numbers for one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stream {
    seed: u64,
    tensor: u64,
}

impl Stream {
    /// Creates the stream of the tensor with this name, which must be unique in the model.
    pub fn named(seed: u64, name: &str) -> Self {
        // The hash is FNV-1a. Among a million names, two have the same hash with a probability below 10^-7.
        let tensor = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Stream { seed, tensor }
    }

    /// Returns the random bits for the stochastic rounding of this tensor in a step.
    pub(crate) fn random_bits(self, step: u64) -> RandomBits {
        RandomBits::new([self.seed, self.tensor], step)
    }

    /// Returns the seed and the number of the tensor.
    #[cfg(feature = "cuda")]
    pub(crate) fn words(self) -> [u64; 2] {
        [self.seed, self.tensor]
    }

    /// Creates the stream of the tensor with this number.
    pub fn numbered(seed: u64, tensor: u64) -> Self {
        Stream { seed, tensor }
    }
}

/// Overwrites a tensor with its initial values.
///
/// # Special values
/// | case | result |
/// |---|---|
/// | standard deviation of 0 | the mean |
/// | `low` = `high` | that value |
/// | normal numbers | within 8.6 standard deviations of the mean |
/// | truncated normal numbers whose limits are far from the mean | drawn from the exact distribution, not clamped to a limit |
/// | a limit that the type cannot represent | the rounded limit may occur |
///
/// # Accuracy
/// A uniform number is `low + (high - low) * u`, where u is a random multiple of 2^-53. The formula is computed in f64,
/// and its result is rounded to the type. Normal numbers are functions of the random bits, computed with an error of at
/// most 4 f64 ULP and then rounded once.
///
/// # Errors
/// [`Error::ShapeMismatch`] for a shape that does not have the tensor's number of elements, or has fewer axes than a
/// fan needs. [`Error::InvalidArgument`] for a negative gain or standard deviation, for a lower limit above the upper
/// one, for values that are not finite, and if a number could exceed the range of the type. After an error the tensor
/// is unchanged.
///
/// # Panics
/// Never.
///
/// # Source
/// Uniform: Philox4x32-10. Normal: Box and Muller, 1958. Truncated: rejection of uniform numbers.
///
/// # Example
/// ```
/// use evenkeel::train::init::{Init, Stream, fill};
/// use half::bf16;
/// let mut weight = [0f32; 6];
/// fill(&mut weight, &[2, 3], &Init::xavier_uniform(0.5), Stream::named(42, "layer.0.weight"))?;
/// assert_eq!(weight[..2], [0.02334143, 0.22165598]);
///
/// let mut same = [bf16::ZERO; 6];
/// fill(&mut same, &[2, 3], &Init::xavier_uniform(0.5), Stream::named(42, "layer.0.weight"))?;
/// assert_eq!(same[0], bf16::from_f32(weight[0]));
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn fill<'a>(to: impl Into<FloatsMut<'a>>, shape: &[usize], init: &Init, stream: Stream) -> Result<()> {
    fn each<E: Element>(to: &mut [E], (constant, law): (f64, Option<Law>), stream: Stream) -> Result<()> {
        match law {
            None => to.fill(in_default(|| E::from_wide(constant))),
            Some(law) => random::fill(to, [stream.seed ^ INITIALISERS, stream.tensor], law)?,
        }
        Ok(())
    }
    let to = to.into();
    if shape.iter().try_fold(1usize, |count, &axis| count.checked_mul(axis)) != Some(to.len()) {
        return Err(Error::shape(OP, "the tensor", format!("{} elements", to.len()), format!("shape {shape:?}")));
    }
    let law = in_default(|| init.law(shape, to.dtype()))?;
    match to {
        FloatsMut::F64(to) => each(to, law, stream),
        FloatsMut::F32(to) => each(to, law, stream),
        FloatsMut::F16(to) => each(to, law, stream),
        FloatsMut::BF16(to) => each(to, law, stream),
    }
}
