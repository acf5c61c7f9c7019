//! Implementations of an op, and how they return the result.

use crate::float::Float;
use anyhow::{Context, Result};
use candle_core::Tensor;
use rayon::ThreadPool;

pub struct Contender<'a, E> {
    pub name: &'static str,
    /// Name of the variant of the contender's function, such as `into`, `in place` or `not fused`.
    pub form: &'static str,
    /// Number of elements that [`Run::Into`] writes.
    pub outputs: usize,
    pub threads: usize,
    pub run: Run<'a, E>,
}

type Writes<'a, E> = Box<dyn FnMut(&mut [E]) -> Result<()> + Send + 'a>;

type Overwrites<'a> = Box<dyn FnMut(&Tensor) -> candle_core::Result<()> + Send + 'a>;

pub enum Run<'a, E> {
    /// Writes into existing memory, which all contenders of this kind share.
    Into(Writes<'a, E>),
    /// Overwrites its input, which is restored between calls.
    InPlace(&'a [E], Writes<'a, E>),
    /// Returns newly allocated memory.
    Allocating(Box<dyn FnMut() -> Result<Vec<E>> + Send + 'a>),
    /// Returns a newly allocated tensor.
    Tensor(Box<dyn FnMut() -> candle_core::Result<Tensor> + Send + 'a>),
    /// Overwrites a tensor, which is created again between calls.
    TensorInPlace(&'a [E], &'a [usize], Overwrites<'a>),
}

impl<'a, E: Float> Contender<'a, E> {
    pub fn into(name: &'static str, mut f: impl FnMut(&mut [E]) + Send + 'a) -> Self {
        Self::trying(name, move |y| {
            f(y);
            Ok(())
        })
    }

    pub fn try_into<X>(name: &'static str, mut f: impl FnMut(&mut [E]) -> Result<(), X> + Send + 'a) -> Self
    where
        X: std::error::Error + Send + Sync + 'static,
    {
        Self::trying(name, move |y| Ok(f(y)?))
    }

    pub fn trying(name: &'static str, f: impl FnMut(&mut [E]) -> Result<()> + Send + 'a) -> Self {
        Contender { name, form: "into", outputs: usize::MAX, threads: 1, run: Run::Into(Box::new(f)) }
    }

    pub fn in_place(x: &'a [E], mut f: impl FnMut(&mut [E]) -> evenkeel::Result<()> + Send + 'a) -> Self {
        Contender {
            name: "evenkeel",
            form: "in place",
            outputs: 0,
            threads: 1,
            run: Run::InPlace(x, Box::new(move |x| Ok(f(x)?))),
        }
    }

    pub fn allocating(mut f: impl FnMut() -> evenkeel::Result<Vec<E>> + Send + 'a) -> Self {
        Contender {
            name: "evenkeel",
            form: "allocating",
            outputs: 0,
            threads: 1,
            run: Run::Allocating(Box::new(move || Ok(f()?))),
        }
    }

    pub fn tensor(
        name: &'static str,
        form: &'static str,
        f: impl FnMut() -> candle_core::Result<Tensor> + Send + 'a,
    ) -> Self {
        Contender { name, form, outputs: 0, threads: 1, run: Run::Tensor(Box::new(f)) }
    }

    pub fn named(self, name: &'static str) -> Self {
        Contender { name, ..self }
    }

    /// Moves the calls of a [`Run::Into`] or a [`Run::InPlace`] to a pool of threads. Returns any other contender
    /// unchanged.
    pub fn on(self, pool: &'a ThreadPool) -> Self {
        let on_pool = |mut f: Writes<'a, E>| -> Writes<'a, E> { Box::new(move |y| pool.install(|| f(y))) };
        let run = match self.run {
            Run::Into(f) => Run::Into(on_pool(f)),
            Run::InPlace(x, f) => Run::InPlace(x, on_pool(f)),
            other => return Contender { run: other, ..self },
        };
        Contender { run, threads: pool.current_num_threads(), ..self }
    }

    pub fn form(self, form: &'static str) -> Self {
        Contender { form, ..self }
    }

    /// Limits the number of elements that a call writes, for ops with fewer results than elements.
    pub fn of_first(self, outputs: usize) -> Self {
        Contender { outputs, ..self }
    }

    pub fn tensor_in_place(
        x: &'a [E],
        dims: &'a [usize],
        f: impl FnMut(&Tensor) -> candle_core::Result<()> + Send + 'a,
    ) -> Self {
        Contender {
            name: "evenkeel",
            form: "tensor in place",
            outputs: 0,
            threads: 1,
            run: Run::TensorInPlace(x, dims, Box::new(f)),
        }
    }
}

/// Returns the elements of a tensor.
pub fn numbers<E: Float>(xs: &Tensor) -> Result<Vec<E>> {
    xs.flatten_all().and_then(|xs| xs.to_vec1()).context("the result must have the element type of the inputs")
}
