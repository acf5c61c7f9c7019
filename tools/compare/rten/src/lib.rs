//! rten-vecmath's functions behind a C ABI: rows of f32 in, rows or one number a row out.
//!
//! What it has no function for is put together as inference engines that use it do: norms of its sums and `Normalize`,
//! logsumexp of its maximum and its sum of exponentials.

mod call;
mod dispatch;
mod rows;

pub use call::Call;
use dispatch::map;
use rten_vecmath::{Erf, Exp, Gelu, Sigmoid, Silu, Tanh};

/// Exports functions of a call's slices under their own names.
macro_rules! export {
    ($($name:ident: $function:expr;)*) => {$(
        /// # Safety
        /// The call's pointers are valid for its lengths, and nothing else uses what is written.
        // SAFETY: the names are this library's own, and it is loaded on its own.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(call: &Call) {
            // SAFETY: the caller's promise is the same.
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
