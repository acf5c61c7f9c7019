//! RMSNorm of the rows of attention heads, followed by rotary position embedding, in one kernel on a device.

use super::device::{self, Launch};
use super::heads::{self, Heads, HeadsMut, Positions, Rotation};
use super::norm::{not_of_the_host, same_shape};
use super::operand::{Operand, TypedDevicePtr, given, one_a_column};
use super::rope::RopeTable;
use super::rows::{DeviceElement, Rows, RowsMut};
use super::scores::of_type;
use crate::element::DType;
use crate::error::{Error, Result};
use crate::math::sum::TILE;
use crate::ops::rms_norm::{RmsNorm, Rounding};
use crate::ops::rope::check_shape;
use cudarc::driver::{CudaStream, DeviceRepr};
use std::sync::Arc;

const OP: &str = "qk_norm_rope";

/// Arguments of the kernels, passed as one struct.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Arguments {
    at: heads::Arguments,
    weight: u64,
    weight_offset: f64,
    eps: f64,
    cols: u32,
    weight_type: u32,
    may_be_narrow: u32,
    before_weight: u32,
    lanes: u32,
    padding: u32,
}

// SAFETY: the struct has plain numbers in C layout, as the kernels declare it.
unsafe impl DeviceRepr for Arguments {}

/// Maximum number of columns of a head.
pub const MOST_COLS: usize = 2 * TILE;

/// Computes [`rms_norm`](crate::rms_norm) and then [`rope`](crate::rope()) of rows on the stream's device. The result
/// is bit-identical to calling the two ops one after the other, because the normalised row is rounded to its type
/// before the rotation. Queries and keys have different weights, so each needs its own call.
///
/// `x` is `[.., positions, cols]` as rows of up to [`MOST_COLS`] columns. The weight is an argument, not an option.
///
/// # Errors
/// [`Error::ShapeMismatch`] if the lengths do not match; [`Error::InvalidArgument`] for invalid options, a weight in
/// the options, or too many columns; [`Error::Failed`] if the device fails.
pub fn qk_norm_rope_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    weight: Option<Operand<'_>>,
    mut out: RowsMut<'_, E>,
    table: &RopeTable,
    options: &RmsNorm<'_>,
) -> Result<()> {
    same_shape(OP, "out", out.shape(), &x)?;
    let shape = x.shape();
    let _caller = device::CallerContext::save();
    let (x, _read) = device::read((OP, "x"), &x.data, stream)?;
    let (y, _written) = device::write((OP, "out"), &mut out.data, stream)?;
    run((stream, E::DTYPE), [x, y], shape, weight, table, options)
}

/// Computes [`qk_norm_rope_into`] in place.
///
/// # Errors
/// The errors of [`qk_norm_rope_into`].
pub fn qk_norm_rope_in_place<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    mut x: RowsMut<'_, E>,
    weight: Option<Operand<'_>>,
    table: &RopeTable,
    options: &RmsNorm<'_>,
) -> Result<()> {
    let shape = x.shape();
    let _caller = device::CallerContext::save();
    let (x, _written) = device::write((OP, "x"), &mut x.data, stream)?;
    run((stream, E::DTYPE), [x; 2], shape, weight, table, options)
}

/// Computes [`qk_norm_rope_into`] for rows of attention heads, each rotated by its token's position, as
/// [`rope_heads_into`](super::rope_heads_into) does. All columns are normalised. If the table has fewer columns, only
/// the first ones are rotated.
///
/// # Errors
/// The errors of [`qk_norm_rope_into`].
pub fn qk_norm_rope_heads_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Heads<'_, E>,
    weight: Option<Operand<'_>>,
    mut out: HeadsMut<'_, E>,
    (positions, table): (&Positions<'_>, &RopeTable),
    options: &RmsNorm<'_>,
) -> Result<()> {
    let (from, _read) = device::read((OP, "x"), &x.data, stream)?;
    let (to, _written) = device::write((OP, "out"), &mut out.data, stream)?;
    run_heads((stream, E::DTYPE), [from, to], [x.layout, out.layout], weight, (positions, table), options)
}

/// Computes [`qk_norm_rope_heads_into`] in place.
///
/// # Errors
/// The errors of [`qk_norm_rope_heads_into`].
pub fn qk_norm_rope_heads_in_place<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    mut x: HeadsMut<'_, E>,
    weight: Option<Operand<'_>>,
    (positions, table): (&Positions<'_>, &RopeTable),
    options: &RmsNorm<'_>,
) -> Result<()> {
    let (at, _written) = device::write((OP, "x"), &mut x.data, stream)?;
    run_heads((stream, E::DTYPE), [at; 2], [x.layout; 2], weight, (positions, table), options)
}

fn run_heads(
    (stream, dtype): (&Arc<CudaStream>, DType),
    [x, y]: [u64; 2],
    layouts: [heads::HeadLayout; 2],
    weight: Option<Operand<'_>>,
    (positions, table): (&Positions<'_>, &RopeTable),
    options: &RmsNorm<'_>,
) -> Result<()> {
    one_a_column(OP, "weight", weight.as_ref().map(|weight| weight.len()), layouts[0].cols)?;
    let (ids, _ids) = positions.at(OP, layouts[0].tokens, stream)?;
    let weight = weight.as_ref().map(|weight| weight.at((OP, "weight"), stream)).transpose()?;
    let (cos, _cos) = device::read((OP, "table"), &table.cos, stream)?;
    let (sin, _sin) = device::read((OP, "table"), &table.sin, stream)?;
    let rotation = table.rotation([x, y, cos, sin], layouts, ids);
    match launch_heads(dtype, &rotation, weight.as_ref().map(|(at, _)| *at), options)? {
        // SAFETY: the views contain the rows of their layouts, there is a position for each token and a weight for each
        // column, and the table holds `rotated / 2` numbers for each of its positions. All are used on this stream.
        Some((launch, arguments)) => unsafe { device::run(stream, &launch, &arguments) },
        None => Ok(()),
    }
}

fn run(
    (stream, dtype): (&Arc<CudaStream>, DType),
    [x, y]: [u64; 2],
    (rows, cols): (usize, usize),
    weight: Option<Operand<'_>>,
    table: &RopeTable,
    options: &RmsNorm<'_>,
) -> Result<()> {
    one_a_column(OP, "weight", weight.as_ref().map(|weight| weight.len()), cols)?;
    check_shape(OP, (rows, cols), (table.positions, table.cols))?;
    let weight = weight.as_ref().map(|weight| weight.at((OP, "weight"), stream)).transpose()?;
    let (cos, _cos) = device::read((OP, "table"), &table.cos, stream)?;
    let (sin, _sin) = device::read((OP, "table"), &table.sin, stream)?;
    let positions = (table.positions, table.interleaved);
    let weight = weight.as_ref().map(|(at, _)| *at);
    match launch(dtype, [x, y, cos, sin], weight, (rows, cols), positions, options)? {
        // SAFETY: each view holds `rows * cols` elements, and the table holds `cols / 2` for each position. All are
        // used on this stream.
        Some((launch, arguments)) => unsafe { device::run(stream, &launch, &arguments) },
        None => Ok(()),
    }
}

/// Kernel names by type. Kernels 0 and 1 rotate pairs of elements half a row apart; kernels 2 and 3 rotate pairs of
/// neighbours. Kernels 0 and 2 use vector access; kernels 1 and 3 access one element at a time.
const NAMES: [[&str; 4]; 3] = [
    [
        "qk_norm_rope_f32_halves",
        "qk_norm_rope_f32_halves_any",
        "qk_norm_rope_f32_neighbours",
        "qk_norm_rope_f32_neighbours_any",
    ],
    [
        "qk_norm_rope_f16_halves",
        "qk_norm_rope_f16_halves_any",
        "qk_norm_rope_f16_neighbours",
        "qk_norm_rope_f16_neighbours_any",
    ],
    [
        "qk_norm_rope_bf16_halves",
        "qk_norm_rope_bf16_halves_any",
        "qk_norm_rope_bf16_neighbours",
        "qk_norm_rope_bf16_neighbours_any",
    ],
];

/// Returns the kernel that normalises and rotates each row of a `rows` × `cols` matrix, and its arguments; `None` if
/// there are no elements.
///
/// Takes the addresses of the rows, of the results, and of the table's cosines and sines as for
/// [`rope::launch`](super::rope::launch). Rows and results may be at the same address. `positions` is the number of
/// positions in the table; `interleaved` states whether rotated pairs are neighbours.
///
/// # Errors
/// The errors of [`qk_norm_rope_into`]; [`Error::ShapeMismatch`] for an odd number of columns;
/// [`Error::UnsupportedDType`] for f64.
pub fn launch(
    dtype: DType,
    [x, y, cos, sin]: [u64; 4],
    weight: Option<TypedDevicePtr>,
    (rows, cols): (usize, usize),
    (positions, interleaved): (usize, bool),
    options: &RmsNorm<'_>,
) -> Result<Option<(Launch, Arguments)>> {
    if cols % 2 == 1 {
        return Err(Error::shape(OP, "x", format!("{cols} columns"), "an even number"));
    }
    let rotation = Rotation::of_rows([x, y, cos, sin], (rows, cols), (positions, interleaved));
    check_shape(OP, (rows, cols), (positions, cols))?;
    launch_heads(dtype, &rotation, weight, options)
}

/// Returns the kernel that normalises and rotates rows of heads, and its arguments; `None` if there are no elements.
///
/// # Errors
/// The errors of [`rope::launch_heads`](super::rope::launch_heads); [`Error::InvalidArgument`] for invalid options, a
/// weight in the options, or too many columns.
pub fn launch_heads(
    dtype: DType,
    rotation: &Rotation,
    weight: Option<TypedDevicePtr>,
    options: &RmsNorm<'_>,
) -> Result<Option<(Launch, Arguments)>> {
    not_of_the_host(OP, "weight", options.weight.is_some())?;
    options.check(OP)?;
    rotation.check(OP)?;
    let heads::HeadLayout { tokens, heads, cols, .. } = rotation.layouts[0];
    if cols > MOST_COLS {
        return Err(Error::invalid(OP, "columns", cols, format!("at most {MOST_COLS}")));
    }
    let (index, vector) = of_type(OP, dtype)?;
    let (address, weight_type) = given(OP, weight)?;
    if tokens == 0 || heads == 0 || cols == 0 {
        return Ok(None);
    }
    let is_aligned = rotation.is_aligned(vector);
    let lanes = if is_aligned { 64 / vector * cols.div_ceil(TILE) } else { WARP };
    let each = (tokens.saturating_mul(heads).saturating_mul(lanes) / ENOUGH).clamp(1, MOST_ROWS);
    let threads = tokens.saturating_mul(lanes).saturating_mul(heads.div_ceil(each));
    let blocks = threads.div_ceil(THREADS as usize).min(MOST_BLOCKS) as u32;
    let before_weight = options.rounding == Rounding::BeforeWeight;
    let arguments = Arguments {
        at: rotation.arguments(each),
        weight: address,
        weight_offset: options.weight_offset,
        eps: options.eps,
        cols: cols as u32,
        weight_type,
        may_be_narrow: u32::from(options.weight_offset == 0.0 && !before_weight),
        before_weight: u32::from(before_weight),
        lanes: lanes as u32,
        padding: 0,
    };
    let kernel = NAMES[index][2 * usize::from(rotation.interleaved) + usize::from(!is_aligned)];
    Ok(Some((Launch { source: OP, kernel, blocks, threads: THREADS, shared: 0 }, arguments)))
}

const THREADS: u32 = 128;
const WARP: usize = 32;
/// Number of threads that keeps a device busy. In larger calls, a thread processes up to `MOST_ROWS` rows of the same
/// position.
const ENOUGH: usize = 1 << 18;
const MOST_ROWS: usize = 8;
/// Maximum number of blocks. In larger calls, a thread loads the weights once and processes several groups of rows.
const MOST_BLOCKS: usize = 1 << 13;
