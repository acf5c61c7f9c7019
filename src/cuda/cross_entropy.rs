//! The cross-entropy of logits against class numbers on a device, and its gradient.

use super::device::{self, Launch};
use super::norm::{not_of_the_host, same_shape};
use super::operand::{At, Operand, given, one_a_column};
use super::room;
use super::rows::{DeviceElement, Rows, RowsMut};
use super::scores::{MOST_BLOCKS, of_type};
use crate::element::DType;
use crate::error::{Error, Result};
use crate::math::sum::MAX_TERMS;
use crate::ops::cross_entropy::CrossEntropy;
use crate::ops::loss::Reduction;
use cudarc::driver::{CudaStream, CudaView, CudaViewMut, DevicePtr, DevicePtrMut, DeviceRepr};
use std::sync::Arc;

const OP: &str = "cross_entropy";
const BACKWARD: &str = "cross_entropy_backward";

/// The kernels' parameter.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Arguments {
    logits: u64,
    dlogits: u64,
    targets: u64,
    weight: u64,
    dloss: u64,
    losses: u64,
    parts: u64,
    settled: u64,
    met: u64,
    rows: u64,
    ignore_index: i64,
    label_smoothing: f64,
    z_loss: f64,
    softcap: f64,
    cols: u32,
    weight_type: u32,
    reduction: u32,
    padding: u32,
}

// SAFETY: numbers in C's layout, which the kernels declare alike.
unsafe impl DeviceRepr for Arguments {}

/// What rows of logits are compared with, in a device's memory.
#[derive(Debug)]
pub struct Targets<'a> {
    classes: CudaView<'a, i64>,
    weight: Option<Operand<'a>>,
}

impl<'a> Targets<'a> {
    /// A class for each row, or the number of those that are ignored.
    pub fn new(classes: CudaView<'a, i64>) -> Self {
        Targets { classes, weight: None }
    }

    /// With a weight for each class.
    pub fn weight(self, weight: impl Into<Operand<'a>>) -> Self {
        Targets { weight: Some(weight.into()), ..self }
    }

    /// Waits for the stream, and refuses what [`cross_entropy_into`] makes NaN of: a target that is neither one of so many
    /// classes nor ignored.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for the first such target, with its row; [`Error::Backend`].
    pub fn check(&self, stream: &Arc<CudaStream>, classes: usize, options: &CrossEntropy<'_>) -> Result<()> {
        let rows = self.classes.len();
        let settled = room::with(stream, |room| {
            let (targets, _read) = self.classes.device_ptr(stream);
            let settled = room.words(OP, SETTLED)?;
            let memory = Memory { targets, settled, ..Memory::default() };
            let (launches, arguments) = launches(DType::F32, &memory, None, (rows, classes), options)?;
            // SAFETY: the first kernel reads a target for each row, and writes what is as long as it takes, on this stream.
            unsafe { device::run(stream, &launches[0], &arguments)? };
            room.read_words(SETTLED)
        })?;
        let Ok(row) = usize::try_from(settled[FIRST_REFUSED]) else { return Ok(()) };
        if row >= rows {
            return Ok(());
        }
        let target = device::check(stream.clone_dtoh(&self.classes.slice(row..=row)))?;
        Err(options.no_class(OP, row, target[0], classes))
    }
}

/// [`cross_entropy`](crate::cross_entropy()) of rows on the stream's device, with the same bits: `loss` becomes one number,
/// or one for each row under [`Reduction::None`]. The weight is with the targets, not one of the options.
///
/// The host does not wait, and sees no target: a row whose target is neither a class nor ignored has a loss of NaN, and does
/// not count beyond that. [`Targets::check`] refuses it.
///
/// # Errors
/// [`Error::ShapeMismatch`], [`Error::InvalidArgument`] for options that are, and for a weight among them,
/// [`Error::Backend`].
pub fn cross_entropy_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    logits: Rows<'_, E>,
    targets: &Targets<'_>,
    loss: CudaViewMut<'_, f64>,
    options: &CrossEntropy<'_>,
) -> Result<()> {
    let (shape, op) = (logits.shape(), (OP, E::DTYPE));
    let (logits, _read) = logits.data.device_ptr(stream);
    run(op, stream, [logits, 0], shape, targets, (None, loss), options)
}

/// [`cross_entropy_backward`](crate::cross_entropy_backward()) of rows on the stream's device, with the same bits: the
/// gradient into `dlogits`, and the loss as [`cross_entropy_into`] has it. `dloss` has as many numbers as `loss`.
///
/// # Errors
/// As [`cross_entropy_into`]; where that has a loss of NaN for its target, the row's gradient is NaN too.
pub fn cross_entropy_backward_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    logits: Rows<'_, E>,
    targets: &Targets<'_>,
    dloss: CudaView<'_, f64>,
    loss: CudaViewMut<'_, f64>,
    mut dlogits: RowsMut<'_, E>,
    options: &CrossEntropy<'_>,
) -> Result<()> {
    same_shape(BACKWARD, "dlogits", dlogits.shape(), &logits)?;
    let (shape, op) = (logits.shape(), (BACKWARD, E::DTYPE));
    let (logits, _read) = logits.data.device_ptr(stream);
    let (dlogits, _written) = dlogits.data.device_ptr_mut(stream);
    run(op, stream, [logits, dlogits], shape, targets, (Some(dloss), loss), options)
}

/// [`cross_entropy_backward_into`] in place of the logits: their memory is read once and written once where registers hold
/// a row.
///
/// # Errors
/// As [`cross_entropy_backward_into`].
pub fn cross_entropy_backward_in_place<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    mut logits: RowsMut<'_, E>,
    targets: &Targets<'_>,
    dloss: CudaView<'_, f64>,
    loss: CudaViewMut<'_, f64>,
    options: &CrossEntropy<'_>,
) -> Result<()> {
    let (shape, op) = (logits.shape(), (BACKWARD, E::DTYPE));
    let (logits, _written) = logits.data.device_ptr_mut(stream);
    run(op, stream, [logits; 2], shape, targets, (Some(dloss), loss), options)
}

fn run(
    (op, dtype): (&'static str, DType),
    stream: &Arc<CudaStream>,
    [logits, dlogits]: [u64; 2],
    (rows, cols): (usize, usize),
    Targets { classes, weight }: &Targets<'_>,
    (dloss, mut loss): (Option<CudaView<'_, f64>>, CudaViewMut<'_, f64>),
    options: &CrossEntropy<'_>,
) -> Result<()> {
    let numbers = if options.reduction == Reduction::None { rows } else { 1 };
    let of_dloss = dloss.as_ref().map_or(numbers, |dloss| dloss.len());
    for (argument, len, expected) in
        [("target", classes.len(), rows), ("dloss", of_dloss, numbers), ("loss", loss.len(), numbers)]
    {
        if len != expected {
            return Err(Error::shape(op, argument, format!("{len} elements"), expected.to_string()));
        }
    }
    one_a_column(op, "weight", weight.as_ref().map(|weight| weight.len()), cols)?;
    let parts = if options.reduction == Reduction::None { 0 } else { 2 * rows };
    let (targets, _targets) = classes.device_ptr(stream);
    let (losses, _losses) = loss.device_ptr_mut(stream);
    let dloss = dloss.as_ref().map(|dloss| dloss.device_ptr(stream));
    let weight = weight.as_ref().map(|weight| weight.at(stream));
    let dloss = dloss.as_ref().map_or(0, |(dloss, _)| *dloss);
    let weight = weight.as_ref().map(|(at, _)| *at);
    room::with(stream, |room| {
        let settled = room.words(op, SETTLED + parts)?;
        let parts = settled + (SETTLED * size_of::<u64>()) as u64;
        let memory = Memory { logits, dlogits, targets, dloss, losses, parts, settled, met: 0 };
        let (launches, arguments) = launches(dtype, &memory, weight, (rows, cols), options)?;
        for launch in launches {
            // SAFETY: the views hold as many elements as the kernels take, the other memory is as long as `Memory` says, and
            // all is used on this stream.
            unsafe { device::run(stream, &launch, &arguments)? };
        }
        Ok(())
    })
}

/// What the kernels use, by its addresses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// The rows.
    pub logits: u64,
    /// Their gradient, to be written, which may be in their place; or 0.
    pub dlogits: u64,
    /// A 64-bit integer for each row.
    pub targets: u64,
    /// One f64, or one for each row under [`Reduction::None`]; not read without a gradient.
    pub dloss: u64,
    /// The same, to be written.
    pub losses: u64,
    /// Two f64 for each row, to be written; none under [`Reduction::None`].
    pub parts: u64,
    /// [`SETTLED`] 64-bit words, to be written.
    pub settled: u64,
    /// As [`softmax::launch`](super::softmax::launch) has it, or 0.
    pub met: u64,
}

/// Words of 64 bits that the first kernel writes.
pub const SETTLED: usize = 4;
/// The one of them that is the first row whose target is neither a class nor ignored, or has all bits set.
pub const FIRST_REFUSED: usize = 3;

/// By type, for rows that are read one element at a time, that a block of either size holds in its registers, and that are
/// longer.
const NAMES: [[&str; 4]; 3] = [
    ["cross_entropy_f32_any", "cross_entropy_f32_8x4", "cross_entropy_f32_16x8", "cross_entropy_f32_long"],
    ["cross_entropy_f16_any", "cross_entropy_f16_8x4", "cross_entropy_f16_16x8", "cross_entropy_f16_long"],
    ["cross_entropy_bf16_any", "cross_entropy_bf16_8x4", "cross_entropy_bf16_16x8", "cross_entropy_bf16_long"],
];
const SOFTCAP: [&str; 3] = ["cross_entropy_softcap_f32", "cross_entropy_softcap_f16", "cross_entropy_softcap_bf16"];

/// The kernels that make the losses of `rows` rows of `cols` logits, and their gradient if it has an address, one after the
/// other; and the arguments of all.
///
/// # Errors
/// As [`cross_entropy_into`]; [`Error::UnsupportedDType`] for f64.
pub fn launches(
    dtype: DType,
    memory: &Memory,
    weight: Option<At>,
    (rows, cols): (usize, usize),
    options: &CrossEntropy<'_>,
) -> Result<(Vec<Launch>, Arguments)> {
    let op = if memory.dlogits == 0 { OP } else { BACKWARD };
    not_of_the_host(op, "weight", options.weight.is_some())?;
    options.check(op)?;
    if cols > MAX_TERMS {
        return Err(Error::invalid(op, "columns", cols, format!("at most {MAX_TERMS}")));
    }
    let (kernel, threads) = kernel(op, dtype, cols, memory, options)?;
    let source = if options.softcap.is_some() { "cross_entropy_softcap" } else { OP };
    let (weight, weight_type) = given(op, weight)?;
    let mut launches = vec![Launch { source: OP, kernel: "cross_entropy_settle", blocks: 1, threads: 1024 }];
    if rows > 0 {
        launches.push(Launch { source, kernel, blocks: rows.min(MOST_BLOCKS) as u32, threads });
    }
    if options.reduction != Reduction::None {
        launches.push(Launch { source: OP, kernel: "cross_entropy_reduce", blocks: 1, threads: 1024 });
    }
    let Memory { logits, dlogits, targets, dloss, losses, parts, settled, met } = *memory;
    let arguments = Arguments {
        logits,
        dlogits,
        targets,
        weight,
        dloss,
        losses,
        parts,
        settled,
        met,
        rows: rows as u64,
        ignore_index: options.ignore_index,
        label_smoothing: options.label_smoothing,
        z_loss: options.z_loss,
        softcap: options.softcap.unwrap_or(0.0),
        cols: cols as u32,
        weight_type,
        reduction: match options.reduction {
            Reduction::None => 0,
            Reduction::Mean => 1,
            Reduction::Sum => 2,
        },
        padding: 0,
    };
    Ok((launches, arguments))
}

/// The smallest kernel that holds a row, and how many threads its blocks have.
fn kernel(
    op: &'static str,
    dtype: DType,
    cols: usize,
    memory: &Memory,
    options: &CrossEntropy<'_>,
) -> Result<(&'static str, u32)> {
    let (index, lanes) = of_type(op, dtype)?;
    if options.softcap.is_some() {
        return Ok((SOFTCAP[index], 256));
    }
    let names = NAMES[index];
    let is_aligned = (memory.logits | memory.dlogits).is_multiple_of(16) && cols.is_multiple_of(lanes);
    let held = |threads: usize, pieces: usize| threads * pieces * lanes;
    Ok(match cols {
        _ if !is_aligned => (names[0], 256),
        cols if cols <= held(256, 4) => (names[1], 256),
        cols if cols <= held(512, 8) => (names[2], 512),
        _ => (names[3], 1024),
    })
}
