//! Table of the functions under test.

use crate::exact::{self, Exact};
use crate::formulas;
use crate::reference::Reference;
use crate::reference::Reference::{Bounded, Rounded};
use crate::tally::Tally;

/// Error bound, in ULP, of functions that must be correctly rounded at every input.
const CORRECT: f64 = 0.5;
/// Error bound, in ULP, of functions that may return the wrong neighbour at a few inputs. The exact result of such an
/// input is close to a midpoint.
const NEARLY: f64 = 0.5001;

/// A function of the library, with its reference.
#[derive(Clone, Copy)]
pub struct Function {
    /// Name of the function in the library.
    pub name: &'static str,
    /// The function under test.
    pub run: fn(&[f32], &mut [f32]) -> evenkeel::Result<()>,
    /// Reference that gives the correctly rounded result.
    pub reference: Reference,
    /// The function at any precision.
    pub exact: Exact,
    /// Largest allowed error, in ULP.
    pub bound: f64,
}

impl Function {
    /// Returns whether a walk's results are within the bound.
    pub fn allows(&self, tally: &Tally) -> bool {
        // At a midpoint, the wrong neighbour also has an error of half an ULP. So a bound of 0.5 ULP can only be
        // checked by the count of misrounded results.
        tally.misrounded == 0 || (self.bound > CORRECT && tally.largest_error <= self.bound)
    }
}

macro_rules! functions {
    ($($name:ident: $run:ident, $reference:expr, $exact:ident, $bound:ident;)*) => {
        /// All functions under test.
        pub const FUNCTIONS: &[Function] = &[$(Function {
            name: stringify!($name),
            run: |x, out| evenkeel::$run(x, out).map(drop),
            reference: $reference,
            exact: exact::$exact,
            bound: $bound,
        },)*];
    };
}

functions! {
    exp: exp_into, Rounded("CORE-MATH", core_math::expf), exp, CORRECT;
    exp2: exp2_into, Rounded("CORE-MATH", core_math::exp2f), exp2, CORRECT;
    expm1: expm1_into, Rounded("CORE-MATH", core_math::expm1f), expm1, CORRECT;
    log: log_into, Rounded("CORE-MATH", core_math::logf), log, CORRECT;
    log2: log2_into, Rounded("CORE-MATH", core_math::log2f), log2, CORRECT;
    log1p: log1p_into, Rounded("CORE-MATH", core_math::log1pf), log1p, CORRECT;
    tanh: tanh_into, Rounded("CORE-MATH", core_math::tanhf), tanh, CORRECT;
    sigmoid: sigmoid_into, Bounded(formulas::sigmoid), sigmoid, CORRECT;
    erf: erf_into, Rounded("CORE-MATH", core_math::erff), erf, CORRECT;
    sqrt: sqrt_into, Rounded("IEEE 754", f32::sqrt), sqrt, CORRECT;
    rsqrt: rsqrt_into, Rounded("CORE-MATH", core_math::rsqrtf), rsqrt, CORRECT;
    reciprocal: reciprocal_into, Rounded("IEEE 754", |x| 1.0 / x), reciprocal, CORRECT;
    silu: silu_into, Bounded(formulas::silu), silu, NEARLY;
    gelu: gelu_into, Bounded(formulas::gelu), gelu, NEARLY;
    gelu_tanh: gelu_tanh_into, Bounded(formulas::gelu_tanh), gelu_tanh, NEARLY;
    softplus: softplus_into, Bounded(formulas::softplus), softplus, NEARLY;
    log_sigmoid: log_sigmoid_into, Bounded(formulas::log_sigmoid), log_sigmoid, NEARLY;
}

/// Finds a function by its name.
pub fn function(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}
