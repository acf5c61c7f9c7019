//! Whoever computes an op, and how the result is handed over.

use crate::float::Float;
use anyhow::{Context, Result};
use candle_core::Tensor;

pub struct Contender<'a, E> {
    pub name: &'static str,
    /// Which of the contender's functions, by what becomes of the result.
    pub form: &'static str,
    /// How many numbers [`Run::Into`] writes.
    pub outputs: usize,
    pub run: Run<'a, E>,
}

type Writes<'a, E> = Box<dyn FnMut(&mut [E]) -> Result<()> + 'a>;

pub enum Run<'a, E> {
    /// Into memory that is there, which all such contenders share.
    Into(Writes<'a, E>),
    /// Over what it reads, which is restored between calls.
    InPlace(&'a [E], Writes<'a, E>),
    /// Into memory that it allocates.
    Allocating(Box<dyn FnMut() -> Result<Vec<E>> + 'a>),
    /// Into a tensor that it allocates.
    Tensor(Box<dyn FnMut() -> candle_core::Result<Tensor> + 'a>),
    /// Over a tensor, which is made anew between calls.
    TensorInPlace(&'a [E], &'a [usize], Box<dyn FnMut(&Tensor) -> candle_core::Result<()> + 'a>),
}

impl<'a, E: Float> Contender<'a, E> {
    pub fn into(name: &'static str, mut f: impl FnMut(&mut [E]) + 'a) -> Self {
        Self::trying(name, move |y| {
            f(y);
            Ok(())
        })
    }

    pub fn try_into<X>(name: &'static str, mut f: impl FnMut(&mut [E]) -> Result<(), X> + 'a) -> Self
    where
        X: std::error::Error + Send + Sync + 'static,
    {
        Self::trying(name, move |y| Ok(f(y)?))
    }

    pub fn trying(name: &'static str, f: impl FnMut(&mut [E]) -> Result<()> + 'a) -> Self {
        Contender { name, form: "into", outputs: usize::MAX, run: Run::Into(Box::new(f)) }
    }

    pub fn in_place(x: &'a [E], mut f: impl FnMut(&mut [E]) -> evenkeel::Result<()> + 'a) -> Self {
        Contender { name: "evenkeel", form: "in place", outputs: 0, run: Run::InPlace(x, Box::new(move |x| Ok(f(x)?))) }
    }

    pub fn allocating(mut f: impl FnMut() -> evenkeel::Result<Vec<E>> + 'a) -> Self {
        Contender { name: "evenkeel", form: "allocating", outputs: 0, run: Run::Allocating(Box::new(move || Ok(f()?))) }
    }

    pub fn tensor(name: &'static str, form: &'static str, f: impl FnMut() -> candle_core::Result<Tensor> + 'a) -> Self {
        Contender { name, form, outputs: 0, run: Run::Tensor(Box::new(f)) }
    }

    pub fn named(self, name: &'static str) -> Self {
        Contender { name, ..self }
    }

    pub fn form(self, form: &'static str) -> Self {
        Contender { form, ..self }
    }

    /// For calls that write less than a number for each element.
    pub fn of_first(self, outputs: usize) -> Self {
        Contender { outputs, ..self }
    }

    pub fn tensor_in_place(
        x: &'a [E],
        dims: &'a [usize],
        f: impl FnMut(&Tensor) -> candle_core::Result<()> + 'a,
    ) -> Self {
        Contender {
            name: "evenkeel",
            form: "tensor in place",
            outputs: 0,
            run: Run::TensorInPlace(x, dims, Box::new(f)),
        }
    }
}

/// The numbers of a tensor.
pub fn numbers<E: Float>(xs: &Tensor) -> Result<Vec<E>> {
    xs.flatten_all().and_then(|xs| xs.to_vec1()).context("a result that is not of the inputs' type")
}
