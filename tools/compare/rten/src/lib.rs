//! rten-vecmath's functions behind a C ABI: the input is rows of f32, the output is rows or one number for each row.
//!
//! Functions that rten-vecmath lacks are composed from its functions, as in inference engines that use it. Norms use
//! rten-vecmath's sums and `Normalize`. logsumexp uses rten-vecmath's maximum and sum of exponentials.

mod call;
mod dispatch;
mod rows;

pub use call::Call;
use dispatch::map;
use rten_vecmath::{Erf, Exp, Gelu, Sigmoid, Silu, Tanh};

/// Exports each function under its name, with C's ABI.
macro_rules! export {
    ($($name:ident: $function:expr;)*) => {$(
        /// Runs the function.
        ///
        /// # Safety
        /// The call's pointers must be valid for its lengths, and nothing else may use the output's memory.
        // SAFETY: the names are unique in this library, which is loaded on its own.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(call: &Call) {
            // SAFETY: the caller guarantees what `slices` requires.
            let slices = unsafe { call.slices() };
            let function: fn(call::Slices<'_>) = $function;
            function(slices);
        }
    )*};
}

export! {
    softmax: rows::softmax;
    log_softmax: rows::log_softmax;
    logsumexp: rows::logsumexp;
    masked_softmax: rows::masked_softmax;
    rms_norm: rows::rms_norm;
    layer_norm: rows::layer_norm;
    sum_of_squares: rows::sum_of_squares;
    scale: rows::scale;
    exp: |s| map(Exp {}, s);
    sigmoid: |s| map(Sigmoid {}, s);
    silu: |s| map(Silu {}, s);
    tanh: |s| map(Tanh {}, s);
    erf: |s| map(Erf {}, s);
    gelu: |s| map(Gelu {}, s);
}
