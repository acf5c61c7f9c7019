//! Calls functions of rten-vecmath in a library that was built for this machine's CPU or for AVX2. See the folder
//! `rten`.

#[path = "../../rten/src/call.rs"]
mod call;

use crate::contender::Contender;
use crate::float::Float;
use crate::problem::Problem;
use anyhow::{Context, Result};
use call::{Call, Slices};
use evenkeel::{Floats, FloatsMut};
use libloading::Library;
use std::mem::MaybeUninit;
use std::path::Path;
use std::slice::from_raw_parts_mut;

pub struct Rten {
    library: Library,
}

/// A function of the library. It can't outlive the library.
#[derive(Clone, Copy)]
pub struct Function<'a> {
    function: unsafe extern "C" fn(&Call<'_>),
    _library: &'a Rten,
}

/// Arguments of a function other than its input.
#[derive(Clone, Copy, Default)]
pub struct Operands<'a> {
    /// A weight for each column, or a mask for one matrix of scores.
    pub first: &'a [f32],
    /// A bias for each column.
    pub second: &'a [f32],
    /// A norm's eps, or a factor.
    pub number: f32,
}

impl Rten {
    pub fn load(path: &Path) -> Result<Self> {
        // SAFETY: the library belongs to this package, and runs no code when it is loaded.
        let library = unsafe { Library::new(path) };
        Ok(Rten { library: library.with_context(|| format!("can't load {}", path.display()))? })
    }

    pub fn function(&self, name: &str) -> Result<Function<'_>> {
        // SAFETY: all functions that the library exports have this signature.
        let symbol = unsafe { self.library.get::<unsafe extern "C" fn(&Call<'_>)>(name) };
        let function = *symbol.with_context(|| format!("the rten library must export the function {name}"))?;
        Ok(Function { function, _library: self })
    }

    /// Returns the contender for a problem's rows of f32. rten has no functions for other types.
    pub fn contender<'a, E: Float>(
        rten: Option<&'a Rten>,
        name: &str,
        problem: &'a Problem<E>,
        operands: Operands<'a>,
    ) -> Result<Option<Contender<'a, E>>> {
        let (Some(rten), Floats::F32(x)) = (rten, problem.x().into()) else {
            return Ok(None);
        };
        let (function, cols) = (rten.function(name)?, problem.cols());
        let run = move |y: &mut [E]| {
            if let FloatsMut::F32(y) = y.into() {
                function.call(x, y, cols, operands);
            }
        };
        Ok(Some(Contender::into("rten", run)))
    }
}

impl Function<'_> {
    pub fn call(&self, x: &[f32], y: &mut [f32], cols: usize, operands: Operands<'_>) {
        // SAFETY: the slice may be passed as `MaybeUninit<f32>`, because the library writes a number to every element
        // of the slice.
        let y = unsafe { from_raw_parts_mut(y.as_mut_ptr().cast::<MaybeUninit<f32>>(), y.len()) };
        let Operands { first, second, number } = operands;
        let call = Call::new(Slices { x, y, first, second, cols, number });
        // SAFETY: the pointers belong to slices that are borrowed until the call returns.
        unsafe { (self.function)(&call) }
    }
}

/// Returns the numbers if they are f32, the only type that rten's functions accept. Otherwise, returns an empty slice.
pub fn single<E: Float>(numbers: &[E]) -> &[f32] {
    match numbers.into() {
        Floats::F32(numbers) => numbers,
        _ => &[],
    }
}
