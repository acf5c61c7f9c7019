//! Kernel arguments for rows with mask, scale and softcap.

use super::device::Launch;
use super::mask::Parts;
use super::scores::{MOST_BLOCKS, of_type, threads_of};
use crate::element::DType;
use crate::error::{Error, Result};
use crate::mask::{FullyMasked, broadcasts};
use crate::math::sum::MAX_TERMS;
use crate::ops::softmax::Softmax;
use crate::rows::Shape;
use cudarc::driver::DeviceRepr;

/// Maximum number of mask parts of one kind (`PARTS`), and maximum number of axes before the last axis (`AXES`).
const PARTS: usize = 2;
const AXES: usize = 7;

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct MaskOperand {
    data: u64,
    strides: [u64; AXES],
    step: u32,
    dtype: u32,
}

impl MaskOperand {
    /// Returns the size of the elements of a bias, in bytes.
    fn bytes(&self) -> u64 {
        match self.dtype {
            0 => 4,
            3 => 8,
            _ => 2,
        }
    }

    /// Returns whether each row is contiguous, and aligned for reading `lanes` elements by accesses of up to sixteen
    /// bytes. An element has `bytes` bytes.
    fn is_aligned(&self, bytes: u64, lanes: u64) -> bool {
        let access = (bytes * lanes).min(16);
        let is_multiple = |stride: &u64| (stride * bytes).is_multiple_of(access);
        self.step == 1 && self.data.is_multiple_of(access) && self.strides.iter().all(is_multiple)
    }
}

/// Arguments of the kernels, passed as one struct.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Arguments {
    x: u64,
    y: u64,
    guards: u64,
    rows: u32,
    cols: u32,
    uniform: u32,
    logits: u32,
    scale: f64,
    softcap: f64,
    dims: [u32; AXES],
    axes: u32,
    keeps: u32,
    biases: u32,
    lengths: u32,
    causal: u32,
    offset: i64,
    window: i64,
    keep: [MaskOperand; PARTS],
    bias: [MaskOperand; PARTS],
    length: [MaskOperand; PARTS],
}

// SAFETY: the struct has plain numbers in C layout without padding, as the kernels declare it.
unsafe impl DeviceRepr for Arguments {}

/// Range of scales for which kernels may compute logits as float-float pairs. Within the range, the low part of the
/// scale is a normal f32 number. The low part of a scaled score is also normal, or too small to change the result.
const SCALES: std::ops::Range<f64> = 1e-15..1e15;

/// Methods of computing softmax's logits (`WIDE`, `PRODUCTS`, `EXACT` and `PLAIN` in the kernels).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Logits {
    /// Computes logits in f64.
    Wide = 0,
    /// Multiplies scores by the scale, and adds at most one bias.
    Products = 1,
    /// Multiplies scores by a power of two. There is no bias.
    Exact = 2,
    /// Uses the scores as logits.
    Plain = 3,
}

impl Logits {
    fn of(parts: &Parts, options: &Softmax<'_>) -> Self {
        let fraction = (1 << (f64::MANTISSA_DIGITS - 1)) - 1;
        let is_power = options.scale.to_bits() & fraction == 0;
        match parts.bias.len() {
            _ if options.softcap.is_some() || !SCALES.contains(&options.scale) => Logits::Wide,
            0 if options.scale == 1.0 => Logits::Plain,
            0 if is_power => Logits::Exact,
            0 | 1 => Logits::Products,
            _ => Logits::Wide,
        }
    }
}

/// Properties of a call by which its kernel is selected.
pub struct Rows {
    /// Index of the type in lists of kernels.
    pub index: usize,
    /// Number of elements in sixteen bytes.
    pub lanes: usize,
    /// Number of columns.
    pub cols: usize,
    /// Whether the kernels for float-float pairs can compute the logits.
    pub is_narrow: bool,
    /// Whether the mask has a bias.
    pub is_biased: bool,
    /// Whether a thread that reads sixteen bytes of scores can read their flags and biases as a vector. In each row,
    /// the flags and the biases must be contiguous and aligned. A flag that all columns share needs no alignment.
    pub is_aligned: bool,
}

impl Rows {
    /// Returns whether a row fits in the registers of `threads` threads. Each thread holds `pieces` pieces of sixteen
    /// bytes.
    pub fn fit(&self, threads: usize, pieces: usize) -> bool {
        self.cols <= threads * pieces * self.lanes
    }

    /// Returns the number of threads that hold a row, with up to `pieces` pieces of sixteen bytes in each.
    pub fn threads(&self, pieces: usize) -> u32 {
        threads_of(self.cols, pieces * self.lanes)
    }

    /// Returns the op's kernel for this call, and the number of threads. For each type, the op has three kernels. The
    /// first takes any row. The others take rows without bias and softcap that fit in the registers of a block. The
    /// second has up to 256 threads with 4 pieces of sixteen bytes in each. The third has up to 512 threads with
    /// `pieces_of_512` pieces in each. `is_aligned` tells whether rows and results can be moved sixteen bytes at a
    /// time.
    pub fn kernel_without_bias(
        &self,
        kernels: &[[&'static str; 3]; 3],
        pieces_of_512: usize,
        is_aligned: bool,
    ) -> (&'static str, u32) {
        let [any, of_block, of_512] = kernels[self.index];
        match is_aligned && self.is_aligned && self.is_narrow && !self.is_biased {
            true if self.fit(256, 4) => (of_block, self.threads(4)),
            true if self.fit(512, pieces_of_512) => (of_512, self.threads(pieces_of_512)),
            _ => (any, 256),
        }
    }
}

/// Maximum number of rows. Kernels add the number of blocks to a row index, and the sum must fit in 32 bits.
const MOST_ROWS: u64 = (1 << 32) - MOST_BLOCKS as u64;
/// Limit to which positions and windows are clamped. Larger values would have the same effect.
const FAR: i64 = 1 << 60;

/// Returns a mask part whose strides broadcast it to the shape of the rows.
fn part(op: &'static str, data: u64, dtype: u32, shape: &[usize], dims: &[usize]) -> Result<MaskOperand> {
    broadcasts(op, "mask", shape.iter().product(), shape, dims)?;
    let mut part = MaskOperand { data, dtype, ..MaskOperand::default() };
    let mut stride = 1;
    for (behind, &len) in shape.iter().rev().enumerate() {
        match dims.len() - 1 - behind {
            axis if axis + 1 == dims.len() => part.step = u32::from(len > 1),
            axis if len > 1 => part.strides[axis] = stride,
            _ => (),
        }
        stride *= len as u64;
    }
    Ok(part)
}

/// Chooses the kernel of an op's source for rows of this shape, and returns it with its arguments. Returns `None` if
/// there are no rows. `kernel` returns the name of a kernel and its number of threads.
pub fn plan(
    (op, source): (&'static str, &'static str),
    dtype: DType,
    [x, y, guards]: [u64; 3],
    shape: Shape,
    parts: &Parts,
    options: &Softmax<'_>,
    kernel: impl FnOnce(&Rows) -> (&'static str, u32),
) -> Result<Option<(Launch, Arguments)>> {
    options.check(op)?;
    if options.mask.is_some_and(|mask| !mask.is_none()) {
        return Err(Error::invalid(op, "mask", "in the host's memory", "in device memory"));
    }
    let (index, lanes) = of_type(op, dtype)?;
    let dims = shape.dims();
    let Some((&cols, outer)) = dims.split_last() else {
        return Err(Error::invalid(op, "shape", "[]", "a shape with at least one axis"));
    };
    if cols > MAX_TERMS {
        return Err(Error::invalid(op, "columns", cols, format!("at most {MAX_TERMS}")));
    }
    let rows: usize = outer.iter().product();
    if rows as u64 > MOST_ROWS {
        let limit = format!("at most {MOST_ROWS} with a mask, a scale or a softcap");
        return Err(Error::invalid(op, "rows", rows, limit));
    }
    for (argument, count) in [("keep", parts.keep.len()), ("bias", parts.bias.len()), ("lengths", parts.lengths.len())]
    {
        if count > PARTS {
            return Err(Error::invalid(
                op,
                argument,
                format!("a list of {count} parts"),
                format!("a list of at most {PARTS} parts on CUDA devices"),
            ));
        }
    }
    if (parts.causal || parts.window.is_some()) && outer.is_empty() {
        return Err(Error::invalid(
            op,
            "axis",
            0,
            "the last axis of a tensor with at least two axes, because the mask is causal or windowed",
        ));
    }
    if parts.window == Some(0) {
        return Err(Error::invalid(op, "window", 0, "at least 1"));
    }
    let queries = outer.last().copied().unwrap_or(1);
    let offset = parts.offset.map_or(cols as i64 - queries as i64, |offset| offset as i64);
    let logits = Logits::of(parts, options);
    let mut arguments = Arguments {
        x,
        y,
        guards,
        rows: rows as u32,
        cols: cols as u32,
        uniform: u32::from(options.fully_masked == FullyMasked::Uniform),
        logits: logits as u32,
        scale: options.scale,
        softcap: options.softcap.unwrap_or(0.0),
        dims: [1; AXES],
        axes: outer.len() as u32,
        keeps: parts.keep.len() as u32,
        biases: parts.bias.len() as u32,
        lengths: parts.lengths.len() as u32,
        causal: u32::from(parts.causal),
        offset: offset.clamp(-FAR, FAR),
        window: parts.window.map_or(0, |keys| keys.min(FAR as usize) as i64),
        keep: [MaskOperand::default(); PARTS],
        bias: [MaskOperand::default(); PARTS],
        length: [MaskOperand::default(); PARTS],
    };
    for (axis, &len) in outer.iter().enumerate() {
        arguments.dims[axis] = len as u32;
    }
    for (to, (data, shape)) in arguments.keep.iter_mut().zip(&parts.keep) {
        *to = part(op, *data, 0, shape, dims)?;
    }
    for (to, (data, dtype, shape)) in arguments.bias.iter_mut().zip(&parts.bias) {
        let dtype = match dtype {
            DType::F32 => 0,
            DType::F16 => 1,
            DType::BF16 => 2,
            DType::F64 => 3,
        };
        *to = part(op, *data, dtype, shape, dims)?;
    }
    let batch = if outer.is_empty() { 1 } else { dims[0] };
    for (to, &(data, count)) in arguments.length.iter_mut().zip(&parts.lengths) {
        if count != 1 && count != batch {
            let (got, expected) = (format!("{count} entries"), format!("1 or {batch}"));
            return Err(Error::shape(op, "lengths", got, expected));
        }
        *to = MaskOperand { data, ..MaskOperand::default() };
        to.strides[0] = u64::from(count > 1);
    }
    if rows == 0 {
        return Ok(None);
    }
    let (flags, biases) = (&arguments.keep[..parts.keep.len()], &arguments.bias[..parts.bias.len()]);
    let (kernel, threads) = kernel(&Rows {
        index,
        lanes,
        cols,
        is_narrow: logits != Logits::Wide,
        is_biased: !parts.bias.is_empty(),
        is_aligned: flags.iter().all(|flags| flags.step == 0 || flags.is_aligned(1, lanes as u64))
            && biases.iter().all(|bias| bias.is_aligned(bias.bytes(), lanes as u64)),
    });
    Ok(Some((Launch { source, kernel, blocks: rows.min(MOST_BLOCKS) as u32, threads, shared: 0 }, arguments)))
}
