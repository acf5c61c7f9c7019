//! Common part of softmax, log_softmax and logsumexp: logits, their maximum, and e^(logit - maximum).

#![forbid(unsafe_code)]

use super::{is_finite, narrow, spoils};
use crate::element::Element;
use crate::error::Result;
use crate::mask::{Mask, Resolved};
use crate::neuron::execute::{self, Execute};
use crate::neuron::graph::{Comparison, Graph, Value};
use crate::neuron::program::{ElementType, Matrix, Program};
use crate::ops::softmax::Softmax;
use crate::rows::Rows;

/// Lower limit of (logit - maximum) / 2. Below this limit, e^(logit - maximum) is less than half of the smallest
/// positive f32 number, so it rounds to 0.
const FAR: f32 = -52.0;

/// Options of the softmax family, as its programs use them.
#[derive(Clone, Copy)]
pub struct Logits {
    scale: f32,
    softcap: Option<f32>,
    has_keep: bool,
    has_bias: bool,
}

impl Logits {
    pub fn of(op: &'static str, options: &Softmax<'_>) -> Result<Self> {
        options.check(op)?;
        let scale = narrow(op, "scale", options.scale)?;
        let softcap = options.softcap.map(|cap| narrow(op, "softcap", cap)).transpose()?;
        let mask = options.mask.filter(|mask| !mask.is_none());
        let has_bias = mask.is_some_and(|mask| !mask.bias.is_empty());
        let has_keep = mask.is_some_and(|mask| {
            !mask.keep.is_empty() || !mask.lengths.is_empty() || mask.causal || mask.window.is_some()
        });
        Ok(Logits { scale, softcap, has_keep, has_bias })
    }
}

/// Logits of a program's rows, and their statistics.
pub struct MaskedLogits {
    /// Logits. A masked logit is the lowest finite number.
    pub logits: Value,
    pub is_live: Value,
    /// Maximum of each row.
    pub max: Value,
    /// Whether each row has an unmasked logit.
    pub has_live: Value,
    /// Status of each row, as f32.
    pub status: Value,
}

impl MaskedLogits {
    /// Adds parameters for the scores and, if present, the keep flags and the bias. Computes the logits.
    pub fn new(g: &mut Graph, of: Matrix, options: &Logits) -> Self {
        let x = g.parameter(of.dtype, &of.dims());
        let keep = options.has_keep.then(|| g.parameter(ElementType::U8, &of.dims()));
        let bias = options.has_bias.then(|| g.parameter(ElementType::F32, &of.dims()));
        let x = g.in_f32(x);
        let mut is_live = is_finite(g, x);
        // -inf is a mask. Any other non-finite number leaves the row to the host, unless a keep flag masks this number.
        let mut spoilt = spoils_but_masks(g, x, is_live);
        if let Some(bias) = bias {
            let finite_bias = is_finite(g, bias);
            let by_bias = spoils_but_masks(g, bias, finite_bias);
            spoilt = g.maximum(spoilt, by_bias);
            is_live = g.and(is_live, finite_bias);
        }
        if let Some(keep) = keep {
            let keep = g.in_f32(keep);
            let is_kept = g.is(keep, Comparison::Ne, 0.0);
            is_live = g.and(is_live, is_kept);
            spoilt = g.select_or(is_kept, spoilt, 0.0);
        }
        let x = g.select_or(is_live, x, 0.0);
        let bias = bias.map(|bias| g.select_or(is_live, bias, 0.0));
        let logits = logits(g, x, bias, options);
        MaskedLogits::of(g, logits, is_live, spoilt)
    }

    fn of(g: &mut Graph, logits: Value, is_live: Value, spoilt: Value) -> Self {
        let logits = g.select_or(is_live, logits, f32::MIN);
        let max = g.largest(logits);
        let live = g.one_if(is_live);
        let live = g.largest(live);
        let has_live = g.is(live, Comparison::Gt, 0.0);
        let worst = g.largest(spoilt);
        let is_spoilt = g.is(worst, Comparison::Gt, 0.0);
        let (zero, one) = (g.f32(0.0), g.f32(1.0));
        let otherwise = g.select(has_live, zero, one);
        let status = g.select(is_spoilt, worst, otherwise);
        MaskedLogits { logits, is_live, max, has_live, status }
    }

    /// Computes half the distance of each logit from the maximum. Halved differences cannot overflow.
    pub fn half_distance(&self, g: &mut Graph) -> Value {
        let (half, half_max) = (g.times(self.logits, 0.5), g.times(self.max, 0.5));
        g.subtract(half, half_max)
    }

    /// Computes `e^(logit - maximum)`, and 0 where the logit is masked.
    pub fn exponentials(&self, g: &mut Graph, half_distance: Value) -> Value {
        let far = g.f32(FAR);
        let near = g.maximum(half_distance, far);
        let distance = g.times(near, 2.0);
        let exp = g.exp(distance);
        g.select_or(self.is_live, exp, 0.0)
    }

    /// Computes the logarithm of the sum of a row's exponentials. Logits equal to the maximum are counted, and the
    /// other terms are summed separately. The logarithm is then corrected by the rounding error of the total. For
    /// example, if one logit is the maximum and the other terms sum to 1e-18, the result is 1e-18, not 0.
    pub fn log_sum(&self, g: &mut Graph, exponentials: Value) -> Value {
        let is_max = g.compare(Comparison::Eq, self.logits, self.max);
        let is_max = g.and(is_max, self.is_live);
        let one = g.one_if(is_max);
        let maxima = g.sum(one);
        let zero = g.f32(0.0);
        let rest = g.select(is_max, zero, exponentials);
        let rest = g.sum(rest);
        let sum = g.add(maxima, rest);
        // The sum of a fully masked row is 0, and is replaced by 1, whose logarithm is defined.
        let one = g.f32(1.0);
        let sum = g.maximum(sum, one);
        let added = g.subtract(sum, maxima);
        let rounded_off = g.subtract(rest, added);
        let correction = g.divide(rounded_off, sum);
        let log = g.log(sum);
        g.add(log, correction)
    }
}

/// Returns the row statuses as [`spoils`] does, but treats an element of -inf as masked.
fn spoils_but_masks(g: &mut Graph, x: Value, is_finite: Value) -> Value {
    let spoilt = spoils(g, x, is_finite);
    let is_masked = g.is(x, Comparison::Lt, f32::MIN);
    let zero = g.f32(0.0);
    g.select(is_masked, zero, spoilt)
}

/// Applies scale, softcap and bias, in this order. Results outside the range of f32 become the largest finite f32
/// number of the same sign.
fn logits(g: &mut Graph, x: Value, bias: Option<Value>, options: &Logits) -> Value {
    let mut z = x;
    if options.scale != 1.0 {
        if options.scale.abs() > 1.0 {
            // The limit is the next f32 below the quotient, because the quotient may have been rounded up.
            let limit = (f32::MAX / options.scale.abs()).next_down();
            z = g.clamp(z, -limit, limit);
        }
        z = g.times(z, options.scale);
    }
    if let Some(cap) = options.softcap {
        // In f32, tanh is 1 for arguments of 16 and above, so this limit does not change the result.
        let limit = (16.0 * cap).min(f32::MAX);
        z = g.clamp(z, -limit, limit);
        let by = g.f32(cap);
        z = g.divide(z, by);
        z = g.tanh(z);
        z = g.times(z, cap);
    }
    if let Some(bias) = bias {
        let (half, half_bias) = (g.times(z, 0.5), g.times(bias, 0.5));
        z = g.add(half, half_bias);
        z = g.clamp(z, f32::MIN / 2.0, f32::MAX / 2.0);
        z = g.times(z, 2.0);
    }
    z
}

/// Flags and biases of a mask, as inputs of programs. `keep` holds the flags.
pub struct Operands {
    pub keep: Option<Vec<u8>>,
    bias: Option<Vec<f32>>,
    cols: usize,
}

impl Operands {
    pub fn new<E: Element>(op: &'static str, x: &Rows<'_, E>, mask: Option<&Mask<'_>>, of: &Logits) -> Result<Self> {
        let (rows, cols) = (x.rows(), x.cols());
        let Some(mask) = mask.filter(|mask| !mask.is_none()) else {
            return Ok(Operands { keep: None, bias: None, cols });
        };
        let mask = mask.resolve(op, &x.geometry)?;
        let lanes = || (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col)));
        Ok(Operands {
            keep: of.has_keep.then(|| keep(&mask, rows, cols)),
            bias: of.has_bias.then(|| lanes().map(|(row, col)| bias(&mask, row, col)).collect()),
            cols,
        })
    }

    /// Returns the mask of one row.
    pub fn row(&self, row: usize) -> Mask<'_> {
        let (range, shape) = (row * self.cols..(row + 1) * self.cols, [self.cols]);
        let mut mask = Mask::none();
        if let Some(keep) = &self.keep {
            mask = mask.and_keep(&keep[range.clone()], &shape);
        }
        if let Some(bias) = &self.bias {
            mask = mask.and_bias(&bias[range], &shape);
        }
        mask
    }
}

fn keep(mask: &Resolved<'_>, rows: usize, cols: usize) -> Vec<u8> {
    let (mut flags, mut buffer) = (vec![0; rows * cols], Vec::new());
    for (row, flags) in flags.chunks_mut(cols).enumerate() {
        let (low, high) = mask.bounds(row);
        match mask.keep(row, low, high, &mut buffer) {
            Some(keep) => flags[low..high].copy_from_slice(keep),
            None => flags[low..high].fill(1),
        }
    }
    flags
}

/// Returns the bias rounded to f32; finite values stay finite.
fn bias(mask: &Resolved<'_>, row: usize, col: usize) -> f32 {
    let bias = mask.bias_at(row, col);
    if bias.is_finite() { bias.clamp(f32::MIN.into(), f32::MAX.into()) as f32 } else { bias as f32 }
}

/// Runs a program of the softmax family whose first output has `width` results for each row. `host` computes the rows
/// that are left to the host.
pub fn run<E: Element>(
    op: &'static str,
    device: &impl Execute,
    x: Rows<'_, E>,
    options: &Softmax<'_>,
    (program, width): (Program, usize),
    host: impl Fn(Rows<'_, E>, &Softmax<'_>) -> Result<Vec<E>>,
) -> Result<Vec<E>> {
    let operands = Operands::new(op, &x, options.mask, &Logits::of(op, options)?)?;
    let bias = operands.bias.as_deref().map(execute::to_bytes);
    let inputs = [Some(&execute::rows_to_bytes(x)[..]), operands.keep.as_deref(), bias.as_deref()];
    let [y, status] = execute::run(device, &program, &inputs)?;
    let mut y: Vec<E> = execute::elements(&y);
    execute::finish(op, &status, |row| {
        let mask = operands.row(row);
        let made = host(Rows::new(x.row(row), 1, x.cols())?, &Softmax { mask: Some(&mask), ..*options })?;
        y[row * width..][..width].copy_from_slice(&made);
        Ok(())
    })?;
    Ok(y)
}

/// Returns whether an input has no elements, in which case no device is needed.
pub fn is_empty<E: Element>(x: &Rows<'_, E>) -> bool {
    x.rows() == 0 || x.cols() == 0
}
