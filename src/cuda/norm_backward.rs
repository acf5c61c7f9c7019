//! Kernels of the norm gradients, their arguments, and the order in which they run.

use super::device::{self, Launch};
use super::norm::{Kernels, kernels, plan, same_shape};
use super::operand::{Operand, OperandMut, TypedDevicePtr, given, one_a_column};
use super::rows::{DeviceElement, Rows, RowsMut};
use super::workspace;
use crate::element::DType;
use crate::error::Result;
use cudarc::driver::{CudaStream, DeviceRepr};
use std::sync::Arc;

const MODULE: &str = "norm_backward";
const KERNELS: Kernels = Kernels { names: kernels!("norm_backward"), threads: [512, 512], copied: 2 };

/// Arguments of the kernels, passed as one struct.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Arguments {
    x: u64,
    dy: u64,
    dx: u64,
    weight: u64,
    moments: u64,
    tiles: u64,
    dweight: u64,
    dbias: u64,
    rows: u64,
    weight_offset: f64,
    eps: f64,
    cols: u32,
    weight_type: u32,
    dweight_type: u32,
    dbias_type: u32,
    is_centred: u32,
    is_rounded: u32,
}

// SAFETY: the struct has plain numbers in C layout, as the kernels declare it.
unsafe impl DeviceRepr for Arguments {}

/// Properties of a norm on which the norm's gradient depends.
pub(super) struct Norm {
    pub(super) op: &'static str,
    pub(super) weight_offset: f64,
    pub(super) eps: f64,
    pub(super) is_centred: bool,
    pub(super) is_rounded: bool,
}

/// Outputs and workspace for the gradients of the weight and the bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// Gradient of the weight, if requested.
    pub dweight: Option<TypedDevicePtr>,
    /// Gradient of the bias, if requested.
    pub dbias: Option<TypedDevicePtr>,
    /// Address of [`workspace_len`] f64 numbers; unused if both gradients are absent.
    pub workspace: u64,
}

/// Number of rows that a thread block processes at a time in the kernels `norm_columns_*`. These kernels sum the
/// gradients of weight and bias over rows.
const TILE: usize = 256;
/// Number of threads in a block of the kernels `norm_columns_*`. `LOADS` is the number of neighbouring loads that a
/// warp makes in each row of the matrix.
const THREADS: usize = 256;
const LOADS: usize = 32;
const MOST_BLOCKS: usize = 1 << 20;
/// Number of values stored for each row: the mean, the scale factor and the shift.
const MOMENTS: usize = 3;

/// Returns the workspace length for the gradients of weight and bias, in f64 numbers.
pub fn workspace_len((rows, cols): (usize, usize)) -> usize {
    MOMENTS * rows + 2 * rows.div_ceil(TILE) * cols
}

/// Returns the kernels to run, in order, with their arguments.
pub(super) fn launches(
    norm: &Norm,
    dtype: DType,
    [x, dy, dx]: [u64; 3],
    weight: Option<TypedDevicePtr>,
    columns: Columns,
    (rows, cols): (usize, usize),
) -> Result<Vec<(Launch, Arguments)>> {
    let op = norm.op;
    // The kernels that hold a row in registers may read dy again after they have written a part of dx, so
    // they cannot write dx over dy.
    let kernels = if dx == dy { Kernels { threads: [0, KERNELS.threads[1]], ..KERNELS } } else { KERNELS };
    let of_rows = plan(op, &kernels, dtype, (rows, cols), [x, dy, dx], &[weight])?;
    let ((weight, weight_type), (dweight, dweight_type), (dbias, dbias_type)) =
        (given(op, weight)?, given(op, columns.dweight)?, given(op, columns.dbias)?);
    let has_columns = columns.dweight.is_some() || columns.dbias.is_some();
    let moments = if has_columns { columns.workspace } else { 0 };
    let arguments = Arguments {
        x,
        dy,
        dx,
        weight,
        moments,
        tiles: moments + (MOMENTS * size_of::<f64>() * rows) as u64,
        dweight,
        dbias,
        rows: rows as u64,
        weight_offset: norm.weight_offset,
        eps: norm.eps,
        cols: cols as u32,
        weight_type,
        dweight_type,
        dbias_type,
        is_centred: u32::from(norm.is_centred),
        is_rounded: u32::from(norm.is_rounded),
    };
    let mut launches: Vec<Launch> = of_rows.into_iter().map(|launch| Launch { source: MODULE, ..launch }).collect();
    let columns = |kernel, blocks: usize| Launch {
        source: MODULE,
        kernel,
        blocks: blocks as u32,
        threads: THREADS as u32,
        shared: 0,
    };
    if has_columns && cols > 0 {
        if rows > 0 {
            let kernel = match dtype {
                DType::F16 => "norm_columns_f16",
                DType::BF16 => "norm_columns_bf16",
                DType::F32 | DType::F64 => "norm_columns_f32",
            };
            // A load moves two columns of a 16-bit type if all rows are aligned to 4 bytes.
            let are_pairs = dtype != DType::F32 && cols.is_multiple_of(2) && (x | dy).is_multiple_of(4);
            let runs = cols.div_ceil(if are_pairs { 2 * LOADS } else { LOADS });
            launches.push(columns(kernel, (runs * rows.div_ceil(TILE)).min(MOST_BLOCKS)));
        }
        launches.push(columns("norm_tiles", cols.div_ceil(LOADS)));
    }
    Ok(launches.into_iter().map(|launch| (launch, arguments)).collect())
}

/// Checks the shapes and runs the kernels.
pub(super) fn into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    norm: &Norm,
    [x, dy]: [Rows<'_, E>; 2],
    weight: Option<Operand<'_>>,
    mut dx: RowsMut<'_, E>,
    [mut dweight, mut dbias]: [Option<OperandMut<'_>>; 2],
) -> Result<()> {
    let shape = x.shape();
    same_shape(norm.op, "dy", dy.shape(), &x)?;
    same_shape(norm.op, "dx", dx.shape(), &x)?;
    one_a_column(norm.op, "weight", weight.as_ref().map(|weight| weight.len()), x.cols)?;
    one_a_column(norm.op, "dweight", dweight.as_ref().map(|to| to.len()), x.cols)?;
    one_a_column(norm.op, "dbias", dbias.as_ref().map(|to| to.len()), x.cols)?;
    let has_columns = dweight.is_some() || dbias.is_some();
    let _caller = device::CallerContext::save();
    let (x, _x_read) = device::read((norm.op, "x"), &x.data, stream)?;
    let (dy, _dy_read) = device::read((norm.op, "dy"), &dy.data, stream)?;
    let (dx, _dx_written) = device::write((norm.op, "dx"), &mut dx.data, stream)?;
    let weight = weight.as_ref().map(|weight| weight.at((norm.op, "weight"), stream)).transpose()?;
    let dweight = dweight.as_mut().map(|to| to.at((norm.op, "dweight"), stream)).transpose()?;
    let dbias = dbias.as_mut().map(|to| to.at((norm.op, "dbias"), stream)).transpose()?;
    let at = |written: &Option<(TypedDevicePtr, _)>| written.as_ref().map(|(at, _)| *at);
    let weight = weight.as_ref().map(|(at, _)| *at);
    workspace::with(stream, |workspace| {
        let workspace = workspace.words(norm.op, if has_columns { workspace_len(shape) } else { 0 })?;
        let columns = Columns { dweight: at(&dweight), dbias: at(&dbias), workspace };
        for (launch, arguments) in launches(norm, E::DTYPE, [x, dy, dx], weight, columns, shape)? {
            // SAFETY: the views have the lengths that the kernels access, the workspace has the length of
            // `workspace_len`, and all are used on this stream.
            unsafe { device::run(stream, &launch, &arguments)? };
        }
        Ok(())
    })
}
