//! Macros that define the functions of an elementwise op and of its gradient, and argument checks of these ops.

use crate::error::{Error, Result};
use crate::simd::in_default;

/// Defines an op's functions `NAME`, `NAME_into` and `NAME_in_place`. The given documentation becomes the documentation
/// of `NAME`.
macro_rules! elementwise_op {
    ($(#[doc = $doc:literal])* $name:ident, $into:ident, $in_place:ident) => {
        use crate::element::Element;
        use crate::error::Result;
        use crate::simd::{Output, new_vec};

        $(#[doc = $doc])*
        pub fn $name<E: Element>(x: &[E]) -> Result<Vec<E>> {
            new_vec(stringify!($name), x.len(), |out| $into(x, out))
        }

        #[doc = concat!("Writes the result of [`", stringify!($name), "`] to `out`, and returns the written slice.")]
        ///
        /// `out` has the length of `x`.
        pub fn $into<'a, E: Element>(x: &[E], out: impl Into<Output<'a, E>>) -> Result<&'a mut [E]> {
            let out = out.into();
            crate::ops::elementwise::same_length(stringify!($name), out.len(), x.len())?;
            E::$name(x, out)
        }

        #[doc = concat!("Replaces `x` by the result of [`", stringify!($name), "`].")]
        pub fn $in_place<E: Element>(x: &mut [E]) -> Result<()> {
            E::$in_place(x)
        }
    };
}

/// Defines the functions `NAME`, `NAME_into` and `NAME_in_place` for the gradient of an op. Requires that the module
/// already uses [`elementwise_op`], which imports the names that this macro needs.
macro_rules! elementwise_backward_op {
    ($(#[doc = $doc:literal])* $name:ident, $into:ident, $in_place:ident, $Derivative:ident) => {
        $(#[doc = $doc])*
        pub fn $name<E: Element>(x: &[E], dy: &[E]) -> Result<Vec<E>> {
            new_vec(stringify!($name), x.len(), |out| $into(x, dy, out))
        }

        #[doc = concat!("Writes the result of [`", stringify!($name), "`] to `dx`, and returns the written slice.")]
        ///
        /// `dx` has the length of `x`.
        pub fn $into<'a, E: Element>(x: &[E], dy: &[E], dx: impl Into<Output<'a, E>>) -> Result<&'a mut [E]> {
            let dx = dx.into();
            crate::ops::elementwise::as_long(stringify!($name), "dy", dy.len(), x.len())?;
            crate::ops::elementwise::as_long(stringify!($name), "dx", dx.len(), x.len())?;
            E::gradient(x, dy, dx, crate::cpu::elementwise::Derivative::$Derivative.into())
        }

        #[doc = concat!("Replaces `dy` by the result of [`", stringify!($name), "`].")]
        pub fn $in_place<E: Element>(x: &[E], dy: &mut [E]) -> Result<()> {
            crate::ops::elementwise::as_long(stringify!($name), "dy", dy.len(), x.len())?;
            E::gradient_in_place(x, dy, crate::cpu::elementwise::Derivative::$Derivative.into())
        }
    };
}

pub(crate) fn same_length(op: &'static str, got: usize, expected: usize) -> Result<()> {
    as_long(op, "out", got, expected)
}

/// Checks that `min` and `max` are numbers, and that `min` is not above `max`.
pub(crate) fn ordered(op: &'static str, min: f64, max: f64) -> Result<()> {
    if in_default(|| max.is_nan()) {
        return Err(Error::invalid(op, "max", max, "a number"));
    }
    if in_default(|| min <= max) {
        Ok(())
    } else {
        Err(Error::invalid(op, "min", min, format!("a number, at most max ({max})")))
    }
}

/// Checks that an argument and the input have the same number of elements.
pub(crate) fn as_long(op: &'static str, argument: &'static str, got: usize, expected: usize) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    Err(Error::shape(op, argument, format!("{got} elements"), format!("{expected}, the input's length")))
}
