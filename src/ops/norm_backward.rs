//! Code shared by the gradients of the norms. The gradients of weight and bias are computed first, then dx.

use super::one_a_column;
use super::softmax::finish_call;
use crate::cpu::moments::Moments;
use crate::cpu::norm_backward::{Norm, NormBackward};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::floats::FloatsMut;
use crate::rows::{Rows, RowsMut};

/// Destinations for the gradients of the weight and the bias, each with its argument name. A gradient whose destination
/// is `None` is not computed.
pub(crate) type Operands<'a, const N: usize> = [(&'static str, Option<FloatsMut<'a>>); N];

/// Checks that each destination has one element per column.
pub(super) fn check_room<const N: usize>(op: &'static str, room: &Operands<'_, N>, cols: usize) -> Result<()> {
    for (argument, room) in room {
        let room = room.as_ref().map(|room| room.as_floats());
        one_a_column(op, argument, room, cols)?;
    }
    Ok(())
}

/// Stores the requested gradients of weight and bias, then writes dx to separate memory.
pub(super) fn into<'a, E: Element, const N: usize>(
    op: &'static str,
    [x, dy]: [Rows<'_, E>; 2],
    dx: RowsMut<'a, E>,
    operands: Operands<'_, N>,
    norm: Norm<'_>,
) -> Result<&'a mut [E]> {
    let moments = columns([x, dy], operands, norm)?;
    let kernel = NormBackward { norm, x, moments: moments.as_deref(), sums: None };
    let (written, guards) = E::norm_backward(dy.into(), dx.into(), kernel)?;
    finish_call(op, guards)?;
    Ok(written)
}

/// Overwrites dy with dx, after the gradients of weight and bias have been summed from dy.
pub(super) fn in_place<E: Element, const N: usize>(
    op: &'static str,
    x: Rows<'_, E>,
    dy: RowsMut<'_, E>,
    operands: Operands<'_, N>,
    norm: Norm<'_>,
) -> Result<()> {
    let geometry = dy.geometry;
    let values = dy.data.into_values();
    let data = values.ok_or_else(|| Error::shape(op, "dy", "uninitialised memory", "an initialised buffer"))?;
    let moments = columns([x, Rows { data: &*data, geometry }], operands, norm)?;
    let kernel = NormBackward { norm, x, moments: moments.as_deref(), sums: None };
    let guards = E::norm_backward_in_place(op, RowsMut { data: data.into(), geometry }.into(), kernel)?;
    finish_call(op, guards)
}

/// Stores the requested gradients of weight and bias, and returns the moments of all rows for the computation of dx.
/// Returns `None` if neither gradient is requested, or if the rows have no columns.
fn columns<E: Element, const N: usize>(
    x: [Rows<'_, E>; 2],
    operands: Operands<'_, N>,
    norm: Norm<'_>,
) -> Result<Option<Vec<Moments>>> {
    if operands.iter().all(|(_, room)| room.is_none()) || x[0].cols() == 0 {
        return Ok(None);
    }
    let moments = E::norm_moments(x[0], norm)?;
    store_columns(x, operands, norm, &moments)?;
    Ok(Some(moments))
}

/// Stores the requested gradients of weight and bias, given the moments of all rows.
pub(crate) fn store_columns<E: Element, const N: usize>(
    x: [Rows<'_, E>; 2],
    operands: Operands<'_, N>,
    norm: Norm<'_>,
    moments: &[Moments],
) -> Result<()> {
    let [mut of_weight, mut of_bias] = [vec![0.0; x[0].cols()], vec![0.0; x[0].cols()]];
    E::norm_columns(x, norm, moments, [&mut of_weight, &mut of_bias])?;
    for ((_, room), sums) in operands.into_iter().zip([of_weight, of_bias]) {
        if let Some(mut room) = room {
            room.store(&sums)?;
        }
    }
    Ok(())
}
