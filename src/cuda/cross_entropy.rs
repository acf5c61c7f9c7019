//! Cross-entropy of logits against class indices on a device, and its gradient.

use super::device::{self, Launch};
use super::norm::{not_of_the_host, same_shape};
use super::operand::{Operand, TypedDevicePtr, given, one_a_column};
use super::rows::{DeviceElement, Rows, RowsMut};
use super::scores::{self, Kernel, MOST_BLOCKS, MOST_BLOCKS_HELD, of_type};
use super::workspace;
use crate::element::DType;
use crate::error::{Error, Result};
use crate::math::sum::MAX_TERMS;
use crate::ops::cross_entropy::CrossEntropy;
use crate::ops::loss::Reduction;
use cudarc::driver::{CudaStream, CudaView, CudaViewMut, DeviceRepr};
use std::sync::Arc;

const OP: &str = "cross_entropy";
const BACKWARD: &str = "cross_entropy_backward";

/// Arguments of the kernels, passed as one struct.
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
    guards: u64,
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

// SAFETY: the struct has plain numbers in C layout, as the kernels declare it.
unsafe impl DeviceRepr for Arguments {}

/// Targets of the rows of logits, and optional class weights, in a device's memory.
#[derive(Debug)]
pub struct Targets<'a> {
    classes: CudaView<'a, i64>,
    weight: Option<Operand<'a>>,
}

impl<'a> Targets<'a> {
    /// Creates targets from the target of each row: a class, or [`CrossEntropy::ignore_index`].
    pub fn new(classes: CudaView<'a, i64>) -> Self {
        Targets { classes, weight: None }
    }

    /// Sets a weight for each class.
    pub fn weight(self, weight: impl Into<Operand<'a>>) -> Self {
        Targets { weight: Some(weight.into()), ..self }
    }

    /// Waits for the stream, and returns an error if a target is neither a class nor ignored. [`cross_entropy_into`]
    /// returns NaN for a row with such a target.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with the row of the first such target; [`Error::Failed`] if the device fails.
    pub fn check(&self, stream: &Arc<CudaStream>, classes: usize, options: &CrossEntropy<'_>) -> Result<()> {
        let _caller = device::CallerContext::save();
        let rows = self.classes.len();
        let settled = workspace::with(stream, |workspace| {
            let (targets, _read) = device::read((OP, "target"), &self.classes, stream)?;
            let settled = workspace.words(OP, SETTLED)?;
            let memory = Memory { targets, settled, ..Memory::default() };
            let (launches, arguments) = launches(DType::F32, &memory, None, (rows, classes), options)?;
            // SAFETY: the first kernel reads one target for each row and writes `SETTLED` words, on this stream.
            unsafe { device::run(stream, &launches[0], &arguments)? };
            workspace.read_words(SETTLED)
        })?;
        let Ok(row) = usize::try_from(settled[FIRST_REFUSED]) else { return Ok(()) };
        if row >= rows {
            return Ok(());
        }
        let target = device::to_host(stream, &self.classes.slice(row..=row))?;
        Err(options.no_class(OP, row, target[0], classes))
    }
}

/// Computes [`cross_entropy`](crate::cross_entropy()) of rows on the stream's device. The results are bit-identical to
/// the CPU's. Writes one number to `loss`, or one for each row under [`Reduction::None`]. Class weights are set in
/// `targets`, not in the options.
///
/// The host does not wait and never reads the targets. A row whose target is neither a class nor ignored has a loss of
/// NaN, and a reduced loss is then NaN too. The gradients of the other rows are computed as if this target were
/// ignored. [`Targets::check`] rejects such targets.
///
/// # Errors
/// [`Error::ShapeMismatch`] if the lengths do not match; [`Error::InvalidArgument`] for invalid options, or class
/// weights in the options; [`Error::Failed`] if the device fails.
pub fn cross_entropy_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    logits: Rows<'_, E>,
    targets: &Targets<'_>,
    loss: CudaViewMut<'_, f64>,
    options: &CrossEntropy<'_>,
) -> Result<()> {
    let (shape, op) = (logits.shape(), (OP, E::DTYPE));
    let _caller = device::CallerContext::save();
    let (logits, _read) = device::read((OP, "logits"), &logits.data, stream)?;
    run(op, stream, [logits, 0], shape, targets, (None, loss), options)
}

/// Computes [`cross_entropy_backward`](crate::cross_entropy_backward()) of rows on the stream's device. The results are
/// bit-identical to the CPU's. Writes the gradient to `dlogits`, and the loss as [`cross_entropy_into`] does. `dloss`
/// has the length of `loss`.
///
/// # Errors
/// The errors of [`cross_entropy_into`]. A row whose loss is NaN because of its target has a gradient of NaN too.
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
    let _caller = device::CallerContext::save();
    let (logits, _read) = device::read((BACKWARD, "logits"), &logits.data, stream)?;
    let (dlogits, _written) = device::write((BACKWARD, "dlogits"), &mut dlogits.data, stream)?;
    run(op, stream, [logits, dlogits], shape, targets, (Some(dloss), loss), options)
}

/// Computes [`cross_entropy_backward_into`], and writes the gradient to the memory of the logits.
///
/// # Errors
/// The errors of [`cross_entropy_backward_into`].
pub fn cross_entropy_backward_in_place<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    mut logits: RowsMut<'_, E>,
    targets: &Targets<'_>,
    dloss: CudaView<'_, f64>,
    loss: CudaViewMut<'_, f64>,
    options: &CrossEntropy<'_>,
) -> Result<()> {
    let (shape, op) = (logits.shape(), (BACKWARD, E::DTYPE));
    let _caller = device::CallerContext::save();
    let (logits, _written) = device::write((BACKWARD, "logits"), &mut logits.data, stream)?;
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
    let (targets, _targets) = device::read((op, "target"), classes, stream)?;
    let (losses, _losses) = device::write((op, "loss"), &mut loss, stream)?;
    let dloss = dloss.as_ref().map(|dloss| device::read((op, "dloss"), dloss, stream)).transpose()?;
    let weight = weight.as_ref().map(|weight| weight.at((op, "weight"), stream)).transpose()?;
    let dloss = dloss.as_ref().map_or(0, |(dloss, _)| *dloss);
    let weight = weight.as_ref().map(|(at, _)| *at);
    workspace::with(stream, |workspace| {
        let settled = workspace.words(op, SETTLED + parts)?;
        let parts = settled + (SETTLED * size_of::<u64>()) as u64;
        let memory = Memory { logits, dlogits, targets, dloss, losses, parts, settled, guards: 0 };
        let (launches, arguments) = launches(dtype, &memory, weight, (rows, cols), options)?;
        for launch in launches {
            // SAFETY: the views have the lengths that the kernels access, the workspace has the lengths that `Memory`
            // states, and all are used on this stream.
            unsafe { device::run(stream, &launch, &arguments)? };
        }
        Ok(())
    })
}

/// Addresses of the memory that the kernels use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Rows of logits.
    pub logits: u64,
    /// Output: the gradient of the logits, or 0 for none. It may be at the address of the logits.
    pub dlogits: u64,
    /// Target of each row, as a 64-bit integer.
    pub targets: u64,
    /// Gradient of the loss: one f64, or one for each row under [`Reduction::None`]. The kernels read the gradient of
    /// the loss only if they compute the gradient of the logits.
    pub dloss: u64,
    /// Output: the loss, as one f64, or as one for each row under [`Reduction::None`].
    pub losses: u64,
    /// Output: the cross-entropy and the z-loss of each row, as two f64. Unused under [`Reduction::None`].
    pub parts: u64,
    /// Workspace of [`SETTLED`] 64-bit words, which the kernels write.
    pub settled: u64,
    /// Row counters that [`softmax::launch`](super::softmax::launch) describes; 0 for none.
    pub guards: u64,
}

/// Number of 64-bit words in [`Memory::settled`].
pub const SETTLED: usize = 4;
/// Index of a word in [`Memory::settled`]. The word holds the number of the first row whose target is neither a class
/// nor ignored. If there is no such row, all bits of the word are set.
pub const FIRST_REFUSED: usize = 3;

/// Kernels that hold a row in registers and shared memory, in order of preference.
const HELD: [Kernel; 4] = [
    Kernel {
        names: ["cross_entropy_f32_8x4", "cross_entropy_f16_8x4", "cross_entropy_bf16_8x4"],
        threads: 256,
        pieces: 4,
        shared_pieces: 0,
        is_for_aligned: true,
    },
    Kernel {
        names: ["cross_entropy_f32_16x8", "cross_entropy_f16_16x8", "cross_entropy_bf16_16x8"],
        threads: 512,
        pieces: 8,
        shared_pieces: 0,
        is_for_aligned: true,
    },
    any(512, 0),
    any(256, 27),
];
const ANY: Kernel = any(512, 28);
const fn any(threads: usize, shared_pieces: usize) -> Kernel {
    let names = ["cross_entropy_f32_any", "cross_entropy_f16_any", "cross_entropy_bf16_any"];
    Kernel { names, threads, pieces: 8, shared_pieces, is_for_aligned: false }
}
const SOFTCAP: [&str; 3] = ["cross_entropy_softcap_f32", "cross_entropy_softcap_f16", "cross_entropy_softcap_bf16"];

/// Returns the kernels that compute the losses for a `rows` × `cols` matrix of logits, in launch order, and the
/// arguments that all of them take. The kernels also compute the gradient if its address is not 0.
///
/// # Errors
/// The errors of [`cross_entropy_into`]; [`Error::UnsupportedDType`] for f64.
pub fn launches(
    dtype: DType,
    memory: &Memory,
    weight: Option<TypedDevicePtr>,
    (rows, cols): (usize, usize),
    options: &CrossEntropy<'_>,
) -> Result<(Vec<Launch>, Arguments)> {
    let op = if memory.dlogits == 0 { OP } else { BACKWARD };
    not_of_the_host(op, "weight", options.weight.is_some())?;
    options.check(op)?;
    if cols > MAX_TERMS {
        return Err(Error::invalid(op, "columns", cols, format!("at most {MAX_TERMS}")));
    }
    let (kernel, threads, shared) = kernel(op, dtype, cols, memory, options)?;
    let most_blocks = if options.softcap.is_some() { MOST_BLOCKS } else { MOST_BLOCKS_HELD };
    let source = if options.softcap.is_some() { "cross_entropy_softcap" } else { OP };
    let (weight, weight_type) = given(op, weight)?;
    let mut launches = vec![Launch { source: OP, kernel: "cross_entropy_settle", blocks: 1, threads: 1024, shared: 0 }];
    if rows > 0 {
        launches.push(Launch { source, kernel, blocks: rows.min(most_blocks) as u32, threads, shared });
    }
    if options.reduction != Reduction::None {
        launches.push(Launch { source: OP, kernel: "cross_entropy_reduce", blocks: 1, threads: 1024, shared: 0 });
    }
    let Memory { logits, dlogits, targets, dloss, losses, parts, settled, guards } = *memory;
    let arguments = Arguments {
        logits,
        dlogits,
        targets,
        weight,
        dloss,
        losses,
        parts,
        settled,
        guards,
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

/// Returns a kernel, its number of threads, and its number of bytes of dynamic shared memory.
fn kernel(
    op: &'static str,
    dtype: DType,
    cols: usize,
    memory: &Memory,
    options: &CrossEntropy<'_>,
) -> Result<(&'static str, u32, u32)> {
    let (index, lanes) = of_type(op, dtype)?;
    if options.softcap.is_some() {
        return Ok((SOFTCAP[index], 256, 0));
    }
    let is_aligned = (memory.logits | memory.dlogits).is_multiple_of(16) && cols.is_multiple_of(lanes);
    Ok(scores::kernel(&HELD, &ANY, index, (cols, lanes), is_aligned))
}
