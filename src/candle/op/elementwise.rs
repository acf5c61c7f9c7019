//! Ops on single elements of a tensor.

#![forbid(unsafe_code)]

use crate::candle::composition;
use crate::candle::custom_op::{Custom, InPlace, Memory, Op, each_memory};
use crate::candle::place::{Place, place};
use crate::candle::view::{View, map_storage, readable};
use crate::element::Element;
use crate::error::Result as Typed;
use candle_core::{CpuStorage, Result, Shape, Tensor};

/// Applies an op on single elements.
fn apply<O>(xs: &Tensor, op: O, composed: fn(&Tensor) -> Result<Tensor>) -> Result<Tensor>
where
    O: Op + Send + Sync + 'static,
{
    match place(xs, O::NAME)? {
        Place::Cpu => readable(xs, xs.rank().saturating_sub(1))?.apply_op1(Custom(op)),
        Place::Device => composed(xs),
    }
}

/// The op of a view's elements, in order.
fn map<E: Element>(
    x: View<'_>,
    data: &[E],
    op: fn(&[E]) -> Typed<Vec<E>>,
    in_place: fn(&mut [E]) -> Typed<()>,
) -> Result<Vec<E>> {
    if let Some(data) = x.contiguous(data) {
        return Ok(op(data)?);
    }
    let rows = x.rows(data)?;
    let mut values = Vec::with_capacity(x.shape().elem_count());
    for row in 0..rows.rows() {
        values.extend_from_slice(rows.row(row));
    }
    in_place(&mut values)?;
    Ok(values)
}

macro_rules! elementwise {
    ($(#[$doc:meta])* $name:ident, $in_place:ident, $Op:ident, |$x:ident, $y:ident| $slope:expr) => {
        pub struct $Op;

        $(#[$doc])*
        pub fn $name(xs: &Tensor) -> Result<Tensor> {
            apply(xs, $Op, composition::$name)
        }

        impl Op for $Op {
            const NAME: &'static str = stringify!($name);

            fn forward(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
                let x = args[0];
                let y = map_storage!(Self::NAME, x, data => map(x, data, crate::$name, crate::$in_place)?);
                Ok((y, x.shape().clone()))
            }

            fn backward(&self, args: &[&Tensor], result: &Tensor, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
                let ($x, $y) = (&composition::wide(args[0])?, &composition::wide(result)?);
                let slope: Tensor = $slope;
                let grad = (composition::wide(grad)? * slope)?;
                Ok(vec![Some(grad.to_dtype(args[0].dtype())?)])
            }
        }

        impl InPlace for $Op {
            fn overwrite(&self, xs: Memory<'_>, _: &[usize], _: &[View<'_>]) -> Result<()> {
                Ok(each_memory!(xs, data => crate::$in_place(data))?)
            }
        }
    };
}

elementwise!(
    /// e^x.
    exp, exp_in_place, Exp, |_x, y| y.clone()
);
elementwise!(
    /// ln x.
    log, log_in_place, Log, |x, _y| x.recip()?
);
elementwise!(
    /// 1 / (1 + e^-x).
    sigmoid, sigmoid_in_place, Sigmoid, |x, y| (y * sigmoid(&x.neg()?)?)?
);
elementwise!(
    /// x / (1 + e^-x).
    silu, silu_in_place, Silu, |x, y| (sigmoid(x)? + (y * sigmoid(&x.neg()?)?)?)?
);
