//! What weights start as: random numbers that are the same on every machine, whatever is drawn before or beside them.
//!
//! An element of a tensor depends only on a seed, the tensor's name or number, and the element's index:
//! Philox4x32-10 of these, under a key of its own, so that a sampler of the same seed draws other numbers. Numbers are
//! computed in f64 by functions that give the same bits everywhere, and rounded once: weights of f16 are those of f64,
//! rounded.

mod gain;

use crate::cpu::random::{self, Law, NORMAL_REACH, interval};
use crate::element::{DType, Element};
use crate::error::{Error, Result};
use crate::floats::FloatsMut;
use crate::math::philox::INITIALISERS;
use crate::simd::in_default;

pub use gain::{Fan, Gain};

const OP: &str = "init";

/// How the numbers of a layer are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Spread {
    /// Evenly between two limits.
    #[default]
    Uniform,
    /// Normally.
    Normal,
    /// Normally, drawn anew beyond two deviations; the deviation is made larger by 1/0.8796, so that what is left has the
    /// one that is asked for, as in JAX.
    TruncatedNormal,
}

/// What a tensor starts as.
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
    /// The same number everywhere: of a bias 0, of a norm's weight 1.
    Constant(f64),
    /// Evenly from `low` to `high`.
    Uniform {
        /// The least.
        low: f64,
        /// What is not reached, but by rounding.
        high: f64,
    },
    /// Normally.
    Normal {
        /// The mean.
        mean: f64,
        /// The standard deviation.
        std: f64,
    },
    /// Normally, of what lies between two limits: they are no matter of deviations.
    TruncatedNormal {
        /// The mean before it is cut off, which may lie beyond the limits.
        mean: f64,
        /// The standard deviation before it is cut off.
        std: f64,
        /// The least; -inf is none.
        low: f64,
        /// The most; +inf is none.
        high: f64,
    },
    /// With mean 0 and deviation gain / sqrt(fan).
    Scaled {
        /// For the function that follows.
        gain: Gain,
        /// For the layer's size.
        fan: Fan,
        /// How they are spread.
        spread: Spread,
    },
}

impl Init {
    /// Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010.
    pub fn xavier_uniform(gain: impl Into<Gain>) -> Self {
        Init::Scaled { gain: gain.into(), fan: Fan::Average, spread: Spread::Uniform }
    }

    /// [`Init::xavier_uniform`], normally.
    pub fn xavier_normal(gain: impl Into<Gain>) -> Self {
        Init::Scaled { gain: gain.into(), fan: Fan::Average, spread: Spread::Normal }
    }

    /// He, Zhang, Ren and Sun, "Delving deep into rectifiers", 2015; of [`Gain::Relu`] or [`Gain::LeakyRelu`].
    pub fn kaiming_uniform(gain: impl Into<Gain>, fan: Fan) -> Self {
        Init::Scaled { gain: gain.into(), fan, spread: Spread::Uniform }
    }

    /// [`Init::kaiming_uniform`], normally.
    pub fn kaiming_normal(gain: impl Into<Gain>, fan: Fan) -> Self {
        Init::Scaled { gain: gain.into(), fan, spread: Spread::Normal }
    }

    /// LeCun, Bottou, Orr and Müller, "Efficient BackProp", 1998; for SELU.
    pub fn lecun_uniform() -> Self {
        Init::Scaled { gain: Gain::Linear, fan: Fan::In, spread: Spread::Uniform }
    }

    /// [`Init::lecun_uniform`], normally.
    pub fn lecun_normal() -> Self {
        Init::Scaled { gain: Gain::Linear, fan: Fan::In, spread: Spread::Normal }
    }

    /// The same with its deviation, where the shape says what that is.
    fn of_shape(self, shape: &[usize]) -> Result<Self> {
        let Init::Scaled { gain, fan, spread } = self else { return Ok(self) };
        /// The deviation of a normal number that lies within two.
        const OF_TWO: f64 = 0.879_625_661_034_239_8;
        // Of an empty tensor a fan may be 0.
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

    /// The distribution, if every number of it is one of the type's; none of a constant.
    fn law(self, shape: &[usize], dtype: DType) -> Result<(f64, Option<Law>)> {
        let max = dtype.limits().max;
        // Not NaN either.
        let within = |argument: &'static str, value: f64, largest: f64| {
            let expected = || format!("such that no number is beyond {max:e}, the largest of {dtype}");
            if largest <= max { Ok(()) } else { Err(Error::invalid(OP, argument, value, expected())) }
        };
        let ordered = |low: f64, high: f64| {
            let expected = || format!("at least low, {low}");
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
            Init::Scaled { .. } => unreachable!("it has become one of the others"),
        };
        Ok((0.0, Some(law)))
    }
}

/// Which random numbers a tensor takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stream {
    seed: u64,
    tensor: u64,
}

impl Stream {
    /// Of a tensor with this name, which no other has.
    pub fn named(seed: u64, name: &str) -> Self {
        // FNV-1a: of a million names, two have the same number once in 10^7 models.
        let tensor = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Stream { seed, tensor }
    }

    /// Of the tensor with this number.
    pub fn numbered(seed: u64, tensor: u64) -> Self {
        Stream { seed, tensor }
    }
}

/// Overwrites a tensor with what it starts as.
///
/// # Special values
/// | what | gives |
/// |---|---|
/// | a deviation of 0, or `low` = `high` | the mean, or both |
/// | a normal number | within 8.6 deviations of the mean |
/// | a truncated normal number whose limits lie far from the mean | as its definition says; none is moved to a limit |
/// | a limit that the type does not have | the limit rounded may be met |
///
/// # Accuracy
/// Uniform numbers are multiples of 2^-53 of the width, rounded once. Normal ones are within 4 ULP of f64 of what the
/// random bits say, and rounded once.
///
/// # Errors
/// [`Error::ShapeMismatch`] for a shape of another number of elements, or with fewer axes than fans need;
/// [`Error::InvalidArgument`] for a gain or deviation below 0, limits the wrong way round, what is not finite, and where a
/// number could be beyond the type. After each of them the tensor is what it was.
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
