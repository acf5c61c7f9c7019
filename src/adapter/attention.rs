//! Attention of tensors `[batch, heads, positions, features]`.

#![forbid(unsafe_code)]

use super::{Values, View, same_type};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::floats::Floats;
use crate::heads::Heads;
use crate::mask::Mask;
use crate::ops::attention::Attention;

const OP: &str = "attention";

/// Returns a copy of the options with the given mask and sinks.
#[inline]
pub fn options<'a>(
    options: &Attention<'static>,
    mask: Option<&'a Mask<'a>>,
    sinks: Option<&'a [f64]>,
) -> Attention<'a> {
    Attention { mask, sinks: sinks.map(Floats::F64), ..*options }
}

#[inline]
pub fn forward(q: &View<'_>, operands: &[View<'_>], options: &Attention<'_>) -> Result<(Values, Vec<usize>)> {
    let &[k, v] = operands else { return Err(Error::empty_input(OP)) };
    let y = same_type!(OP, [q => q_data, k => k_data, v => v_data], {
        let (q, k, v) = (heads(q_data, q, "q")?, heads(k_data, &k, "k")?, heads(v_data, &v, "v")?);
        crate::attention(q, k, v, options)?.into()
    });
    Ok((y, [&q.dims[..3], &v.dims[3..]].concat()))
}

#[inline]
pub fn backward(
    q: &View<'_>,
    operands: &[View<'_>],
    dy: View<'_>,
    options: &Attention<'_>,
) -> Result<Vec<Option<Values>>> {
    const OP: &str = "attention_backward";
    let &[k, v] = operands else { return Err(Error::empty_input(OP)) };
    same_type!(OP, [q => q_data, k => k_data, v => v_data, dy => grads], {
        let (q, k, v) = (heads(q_data, q, "q")?, heads(k_data, &k, "k")?, heads(v_data, &v, "v")?);
        let gradients = crate::attention_backward(q, k, v, heads(grads, &dy, "dy")?, options)?;
        Ok(vec![Some(gradients.dq.into()), Some(gradients.dk.into()), Some(gradients.dv.into())])
    })
}

/// Returns the heads of a tensor whose last axis is contiguous.
fn heads<'a, E: Element>(data: &'a [E], of: &View<'_>, argument: &'static str) -> Result<Heads<'a, E>> {
    match (of.dims, of.strides) {
        (&[batch, heads, positions, features], &[of_batch, of_head, of_position, _]) => {
            Heads::strided(data, [batch, heads, positions, features], [of_batch, of_head, of_position])
        }
        _ => Err(Error::shape(OP, argument, format!("shape {:?}", of.dims), "four axes")),
    }
}
