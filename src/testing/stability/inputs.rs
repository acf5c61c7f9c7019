//! Inputs for the checked modules.

use crate::candle::init;
use crate::train::init::{Init, Stream};
use candle_core::{DType, Device, Result, Shape, Tensor};

/// Kind of input that a module takes.
#[non_exhaustive]
pub enum Inputs {
    Numbers(Shape),
    /// Tokens of a vocabulary of this size.
    Tokens(Shape, u32),
}

/// Name of an input, and a function that returns the input's value at an index.
type Kind<'a> = (&'static str, &'a dyn Fn(usize) -> f64);

impl Inputs {
    /// Returns normally distributed numbers, or uniformly distributed tokens.
    pub fn ordinary(&self, seed: u64) -> Result<Tensor> {
        let (shape, init) = match self {
            Inputs::Numbers(shape) => (shape, Init::Normal { mean: 0.0, std: 1.0 }),
            Inputs::Tokens(shape, count) => (shape, Init::Uniform { low: 0.0, high: f64::from(*count) }),
        };
        let numbers = init::var(&init, shape, Stream::named(seed, "input"), DType::F32, &Device::Cpu)?;
        match self {
            Inputs::Numbers(_) => Ok(numbers.as_tensor().copy()?),
            Inputs::Tokens(_, count) => numbers.floor()?.clamp(0f32, (count.max(&1) - 1) as f32)?.to_dtype(DType::U32),
        }
    }

    /// Returns extreme inputs with their names. Each number in an input has a magnitude of at most `magnitude`.
    pub fn hostile(&self, magnitude: f64, dtype: DType) -> Result<Vec<(&'static str, Tensor)>> {
        let (shape, kinds): (&Shape, [Kind<'_>; 5]) = match self {
            Inputs::Numbers(shape) => (
                shape,
                [
                    ("zeros", &|_| 0.0),
                    ("equal numbers", &|_| 1.0),
                    ("large numbers of both signs", &|i| if i.is_multiple_of(3) { -magnitude } else { magnitude }),
                    ("one large number among tiny ones", &|i| if i.is_multiple_of(17) { magnitude } else { 1e-7 }),
                    ("tiny numbers", &|i| if i.is_multiple_of(2) { 1e-7 } else { -2e-7 }),
                ],
            ),
            Inputs::Tokens(shape, count) => {
                let last = f64::from(count.max(&1) - 1);
                (
                    shape,
                    [
                        ("the first token only", &|_| 0.0),
                        ("the last token only", &move |_| last),
                        ("the first token, then the last", &move |i| if i == 0 { 0.0 } else { last }),
                        ("two tokens in turns", &move |i| if i.is_multiple_of(2) { 0.0 } else { last }),
                        ("tokens in order", &move |i| (i as f64) % (last + 1.0)),
                    ],
                )
            }
        };
        let made = |number: &dyn Fn(usize) -> f64| {
            let numbers: Vec<f64> = (0..shape.elem_count()).map(number).collect();
            let dtype = if let Inputs::Tokens(..) = self { DType::U32 } else { dtype };
            Tensor::from_vec(numbers, shape, &Device::Cpu)?.to_dtype(dtype)
        };
        kinds.into_iter().map(|(name, number)| Ok((name, made(number)?))).collect()
    }
}
