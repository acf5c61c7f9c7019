//! Rotary position embedding of rows on a device.

use super::device::{self, Launch};
use super::heads::{self, Heads, HeadsMut, Positions, Rotation};
use super::rows::{DeviceElement, Rows, RowsMut};
use crate::element::DType;
use crate::error::{Error, Result};
use crate::ops::rope::{self, check_shape};
use cudarc::driver::{CudaSlice, CudaStream, DeviceRepr};
use std::sync::Arc;

const OP: &str = "rope";

/// Arguments of the kernels, passed as one struct.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Arguments {
    at: heads::Arguments,
    rest: u64,
    direction: f64,
}

// SAFETY: the struct has plain integers and a float in C layout, as the kernels declare it.
unsafe impl DeviceRepr for Arguments {}

/// A [`RopeTable`](crate::RopeTable) in a device's memory.
#[derive(Debug)]
pub struct RopeTable {
    pub(super) cos: CudaSlice<f64>,
    pub(super) sin: CudaSlice<f64>,
    pub(super) positions: usize,
    pub(super) cols: usize,
    pub(super) interleaved: bool,
}

impl RopeTable {
    /// Copies the table to the stream's device.
    ///
    /// # Errors
    /// [`Error::Failed`] if the device fails.
    pub fn new(stream: &Arc<CudaStream>, table: &rope::RopeTable) -> Result<Self> {
        let _caller = device::CallerContext::save();
        let (cos, sin) = table.cos_sin();
        Ok(RopeTable {
            cos: device::check(stream.clone_htod(cos))?,
            sin: device::check(stream.clone_htod(sin))?,
            positions: table.positions(),
            cols: table.cols(),
            interleaved: table.is_interleaved(),
        })
    }
}

/// Options of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Number of positions in the table. Row r of the tensor uses position r modulo this number.
    pub positions: usize,
    /// Whether rotated pairs are neighbours; see [`Rope::interleaved`](crate::Rope::interleaved).
    pub interleaved: bool,
    /// Whether to rotate backwards, as for gradients.
    pub back: bool,
}

/// Computes [`rope`](crate::rope()) of rows on the stream's device. The results are bit-identical to the CPU's.
///
/// # Errors
/// [`Error::ShapeMismatch`] if the shapes do not match; [`Error::Failed`] if the device fails.
pub fn rope_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    out: RowsMut<'_, E>,
    table: &RopeTable,
) -> Result<()> {
    turn(stream, (OP, "out"), x, out, table)
}

/// Computes [`rope_backward`](crate::rope_backward()) of rows on the stream's device. The results are bit-identical to
/// the CPU's.
///
/// # Errors
/// The errors of [`rope_into`].
pub fn rope_backward_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    dy: Rows<'_, E>,
    dx: RowsMut<'_, E>,
    table: &RopeTable,
) -> Result<()> {
    turn(stream, ("rope_backward", "dx"), dy, dx, table)
}

/// Rotates the rows of attention heads by the positions of their tokens, on the stream's device. Each token has its own
/// position, as in a batch of requests of different lengths.
///
/// The table may have fewer columns than `x`. Then only the first columns are rotated, and the other columns
/// are copied (partial rotary embedding). The rotated columns are bit-identical to the results of
/// [`rope`](crate::rope()) on the CPU with a table of the tokens' positions.
///
/// # Errors
/// [`Error::ShapeMismatch`] if the shapes do not match; [`Error::Failed`] if the device fails.
///
/// ```no_run
/// use evenkeel::cuda::{self, HeadLayout, HeadsMut};
///
/// // Queries and keys of five tokens, in a fused projection: 8 heads of queries, 2 of keys and 2 of values.
/// let stream = cuda::device(0)?.default_stream();
/// let (tokens, cols) = (5, 128);
/// let mut qkv = stream.alloc_zeros::<half::bf16>(tokens * 12 * cols)?;
/// let positions = stream.clone_htod(&[17u32, 3, 4, 5, 900])?;
/// let table: Vec<i64> = (0..4096).collect();
/// let table = evenkeel::RopeTable::new(&table, cols, &evenkeel::Rope::default())?;
/// let table = cuda::RopeTable::new(&stream, &table)?;
///
/// let layout = HeadLayout { tokens, heads: 10, cols, token_stride: 12 * cols, head_stride: cols };
/// let heads = HeadsMut::strided(qkv.as_view_mut(), layout)?;
/// cuda::rope_heads_in_place(&stream, heads, &positions.as_view().into(), &table)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn rope_heads_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Heads<'_, E>,
    mut out: HeadsMut<'_, E>,
    positions: &Positions<'_>,
    table: &RopeTable,
) -> Result<()> {
    let (from, _read) = device::read((OP, "x"), &x.data, stream)?;
    let (to, _written) = device::write((OP, "out"), &mut out.data, stream)?;
    turn_heads::<E>(stream, [from, to], [x.layout, out.layout], positions, table)
}

/// Computes [`rope_heads_into`] in place.
///
/// # Errors
/// The errors of [`rope_heads_into`].
pub fn rope_heads_in_place<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    mut x: HeadsMut<'_, E>,
    positions: &Positions<'_>,
    table: &RopeTable,
) -> Result<()> {
    let (at, _written) = device::write((OP, "x"), &mut x.data, stream)?;
    turn_heads::<E>(stream, [at; 2], [x.layout; 2], positions, table)
}

fn turn_heads<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    [x, y]: [u64; 2],
    layouts: [heads::HeadLayout; 2],
    positions: &Positions<'_>,
    table: &RopeTable,
) -> Result<()> {
    let (ids, _ids) = positions.at(OP, layouts[0].tokens, stream)?;
    let (cos, _cos) = device::read((OP, "table"), &table.cos, stream)?;
    let (sin, _sin) = device::read((OP, "table"), &table.sin, stream)?;
    let rotation = table.rotation([x, y, cos, sin], layouts, ids);
    match launch_heads(E::DTYPE, &rotation, false)? {
        // SAFETY: the views contain the rows of their layouts, there is a position for each token, and the table holds
        // `rotated / 2` numbers for each of its positions. All are used on this stream.
        Some((launch, arguments)) => unsafe { device::run(stream, &launch, &arguments) },
        None => Ok(()),
    }
}

impl RopeTable {
    /// Describes a rotation by this table.
    pub(super) fn rotation(
        &self,
        addresses: [u64; 4],
        layouts: [heads::HeadLayout; 2],
        ids: heads::PositionIds,
    ) -> Rotation {
        let RopeTable { positions, cols, interleaved, .. } = *self;
        Rotation { addresses, layouts, ids, positions, rotated: cols, interleaved }
    }
}

fn turn<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    (op, to): (&'static str, &'static str),
    x: Rows<'_, E>,
    mut out: RowsMut<'_, E>,
    table: &RopeTable,
) -> Result<()> {
    let (rows, cols) = (x.rows, x.cols);
    if (out.rows, out.cols) != (rows, cols) {
        let (got, expected) = (format!("{} rows of {}", out.rows, out.cols), format!("{rows} rows of {cols}"));
        return Err(Error::shape(op, to, got, expected));
    }
    check_shape(op, (rows, cols), (table.positions, table.cols))?;
    let turn = Turn { positions: table.positions, interleaved: table.interleaved, back: op != OP };
    let _caller = device::CallerContext::save();
    let (x, _read) = device::read((op, "x"), &x.data, stream)?;
    let (y, _written) = device::write((op, to), &mut out.data, stream)?;
    let (cos, _cos) = device::read((op, "table"), &table.cos, stream)?;
    let (sin, _sin) = device::read((op, "table"), &table.sin, stream)?;
    match launch(E::DTYPE, [x, y, cos, sin], (rows, cols), turn)? {
        // SAFETY: each view holds `rows * cols` elements, and the table holds `cols / 2` for each position. All are
        // used on this stream.
        Some((launch, arguments)) => unsafe { device::run(stream, &launch, &arguments) },
        None => Ok(()),
    }
}

/// Returns the kernel that rotates each row of a `rows` × `cols` matrix, and its arguments; `None` if there are no
/// elements.
///
/// Takes the addresses of the rows, of the results, and of the table's cosines and sines. Rows and results may be at
/// the same address. For each position, the table has `cols / 2` cosines and `cols / 2` sines, in f64.
///
/// # Errors
/// [`Error::ShapeMismatch`] for an odd number of columns, or if the number of rows is not a multiple of the positions;
/// [`Error::UnsupportedDType`] for f64.
pub fn launch(
    dtype: DType,
    [x, y, cos, sin]: [u64; 4],
    (rows, cols): (usize, usize),
    Turn { positions, interleaved, back }: Turn,
) -> Result<Option<(Launch, Arguments)>> {
    let op = if back { "rope_backward" } else { OP };
    if cols % 2 == 1 {
        return Err(Error::shape(op, "x", format!("{cols} columns"), "an even number"));
    }
    check_shape(op, (rows, cols), (positions, cols))?;
    launch_heads(dtype, &Rotation::of_rows([x, y, cos, sin], (rows, cols), (positions, interleaved)), back)
}

/// Returns the kernel that rotates rows of heads, and its arguments; `None` if there are no elements. If `back` is
/// true, the kernel rotates backwards, as gradients require.
///
/// # Errors
/// [`Error::ShapeMismatch`] if the layouts differ in a dimension, or if the number of rotated columns is odd or exceeds
/// the number of columns; [`Error::UnsupportedDType`] for f64.
pub fn launch_heads(dtype: DType, rotation: &Rotation, back: bool) -> Result<Option<(Launch, Arguments)>> {
    let op = if back { "rope_backward" } else { OP };
    rotation.check(op)?;
    let (names, lanes) = match dtype {
        DType::F32 => (["rope_f32_halves", "rope_f32_halves_any", "rope_f32_neighbours", "rope_f32_neighbours_any"], 4),
        DType::F16 => (["rope_f16_halves", "rope_f16_halves_any", "rope_f16_neighbours", "rope_f16_neighbours_any"], 8),
        DType::BF16 => {
            (["rope_bf16_halves", "rope_bf16_halves_any", "rope_bf16_neighbours", "rope_bf16_neighbours_any"], 8)
        }
        DType::F64 => return Err(Error::UnsupportedDType { op, dtype: dtype.to_string(), backend: "cuda" }),
    };
    let heads::HeadLayout { tokens, heads, cols, .. } = rotation.layouts[0];
    // Columns after the rotated ones are copied, unless the results replace the rows.
    let rest = if rotation.is_in_place() { 0 } else { cols - rotation.rotated };
    if tokens == 0 || heads == 0 || rotation.rotated / 2 + rest == 0 {
        return Ok(None);
    }
    let is_aligned = rotation.is_aligned(lanes);
    let of_a_head = tokens * ((rotation.rotated / 2 + rest) / if is_aligned { lanes } else { 1 });
    let each = (of_a_head.saturating_mul(heads) / ENOUGH).clamp(1, MOST_ROWS);
    let threads = of_a_head.saturating_mul(heads.div_ceil(each));
    let blocks = threads.div_ceil(THREADS as usize).min(MOST_BLOCKS) as u32;
    let kernel = names[2 * usize::from(rotation.interleaved) + usize::from(!is_aligned)];
    let launch = Launch { source: OP, kernel, blocks, threads: THREADS, shared: 0 };
    let direction = if back { -1.0 } else { 1.0 };
    Ok(Some((launch, Arguments { at: rotation.arguments(each), rest: rest as u64, direction })))
}

const THREADS: u32 = 128;
/// Number of threads that keeps a device busy. In larger calls, a thread rotates up to `MOST_ROWS` rows.
const ENOUGH: usize = 1 << 18;
const MOST_ROWS: usize = 8;
/// Maximum number of blocks. In larger calls, a thread processes several groups of rows.
const MOST_BLOCKS: usize = 1 << 20;
