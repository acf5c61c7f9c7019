//! Attention of [B, H, T, D] queries to [B, Hkv, S, D] keys and values.

use super::softmax::POLICIES;
use crate::answer::Failure;
use crate::call::{Call, Result, Results};
use crate::tensors::{Input, MaskInput, Output, Values};
use evenkeel::{Attention, Heads, Mask, attention_backward, attention_with_lse};

/// Evaluates an expression for the element type that all three inputs share. Returns `None` if their types differ.
macro_rules! alike {
    ($q:ident, $k:ident, $v:ident, [$($type:ident)*] => $result:expr) => {
        match (&$q.values, &$k.values, &$v.values) {
            $((Values::$type($q), Values::$type($k), Values::$type($v)) => Some($result),)*
            _ => None,
        }
    };
}

pub fn attention(call: &Call<'_>) -> Result<Results> {
    let (q, k, v) = (call.float("q")?, call.float("k")?, call.float("v")?);
    let (mask, sinks) = (call.mask()?, call.optional_float("sinks")?);
    let [q_shape, k_shape, v_shape] = [axes(call, "q", &q)?, axes(call, "k", &k)?, axes(call, "v", &v)?];
    let [batch, heads, queries, _] = q_shape;
    call.broadcasts(mask.as_ref(), &[batch, heads, queries, k_shape[2]])?;
    if let Some(sinks) = &sinks {
        call.has_shape("sinks", &sinks.shape, &[heads])?;
    }
    let mut whole = mask.as_ref().map_or_else(Mask::none, MaskInput::mask);
    if call.flag("causal")?.unwrap_or(false) {
        whole = whole.and_causal();
    }
    if let Some(window) = call.whole("window", 1..=i128::from(i64::MAX))? {
        whole = whole.and_window(window as usize);
    }
    let mut options = Attention::default().mask(&whole);
    options.scale = call.number("scale")?;
    options.softcap = call.number("softcap")?;
    options.fully_masked = call.choice("fully_masked", POLICIES)?.unwrap_or(options.fully_masked);
    options.sinks = sinks.as_ref().map(|sinks| sinks.values.floats());
    let shape = [batch, heads, queries, v_shape[3]];
    let dy = call.optional_float("dy")?;
    if let Some(dy) = &dy {
        call.has_shape("dy", &dy.shape, &shape)?;
    }
    let results = alike!(q, k, v, [F64 F32 F16 BF16] => {
        let (of_q, of_k, of_v) = (Heads::new(q, q_shape)?, Heads::new(k, k_shape)?, Heads::new(v, v_shape)?);
        let (y, lse) = attention_with_lse(of_q, of_k, of_v, &options)?;
        let mut results = vec![("y", Output::new(&shape, &y))];
        if let Some(dy) = &dy {
            let of = attention_backward(of_q, of_k, of_v, Heads::new(same(call, dy, q)?, shape)?, &options)?;
            results.push(("dq", Output::new(&q_shape, &of.dq)));
            results.push(("dk", Output::new(&k_shape, &of.dk)));
            results.push(("dv", Output::new(&v_shape, &of.dv)));
            results.extend(of.dsinks.map(|dsinks| ("dsinks", Output::new(&[heads], &dsinks))));
        }
        (results, lse)
    });
    let Some((mut results, lse)) = results else {
        let [q, k, v] = [q, k, v].map(|input| input.values.floats().dtype());
        return Err(Failure::dtype(format!(
            "{}: q is {q}, k is {k} and v is {v}; all three must have the same type",
            call.name()
        )));
    };
    let lse = match &q.values {
        Values::F64(_) => Output::new(&shape[..3], &lse),
        _ => Output::new(&shape[..3], &lse.iter().map(|&lse| lse as f32).collect::<Vec<_>>()),
    };
    results.push(("lse", lse));
    Ok(results)
}

/// Returns the elements of dy, which must have the type of q.
fn same<'a, T: 'static>(call: &Call<'_>, dy: &'a Input, _: &[T]) -> Result<&'a [T]> {
    let other =
        || Failure::dtype(format!("{}: dy is {}; it must have q's type", call.name(), dy.values.floats().dtype()));
    dy.values.of().ok_or_else(other)
}

fn axes(call: &Call<'_>, name: &str, input: &Input) -> Result<[usize; 4]> {
    input
        .shape
        .as_slice()
        .try_into()
        .map_err(|_| call.shape(name, &input.shape, "it must have 4 axes: batch, heads, tokens and width"))
}
