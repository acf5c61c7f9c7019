//! The three forms of an op on single elements.

use crate::error::{Error, Result};

/// Defines an op's `NAME`, `NAME_into` and `NAME_in_place` from its documentation.
macro_rules! elementwise_op {
    ($(#[doc = $doc:literal])* $name:ident, $into:ident, $in_place:ident) => {
        use crate::element::Element;
        use crate::error::Result;
        use crate::simd::{Output, new_vec};

        $(#[doc = $doc])*
        pub fn $name<E: Element>(x: &[E]) -> Result<Vec<E>> {
            new_vec(x.len(), |out| $into(x, out))
        }

        #[doc = concat!("[`", stringify!($name), "`] into `out`, which has the length of `x`; returns what was written.")]
        pub fn $into<'a, E: Element>(x: &[E], out: impl Into<Output<'a, E>>) -> Result<&'a mut [E]> {
            let out = out.into();
            crate::ops::elementwise::same_length(stringify!($name), out.len(), x.len())?;
            E::$name(x, out)
        }

        #[doc = concat!("[`", stringify!($name), "`] in place.")]
        pub fn $in_place<E: Element>(x: &mut [E]) -> Result<()> {
            E::$in_place(x)
        }
    };
}

pub(crate) fn same_length(op: &'static str, got: usize, expected: usize) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    Err(Error::shape(op, "out", format!("{got} elements"), format!("{expected}, the input's length,")))
}
