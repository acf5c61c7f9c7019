//! Attention for decoding, on a device: one query for each sequence, over keys and values in pages.

use super::device::{self, Launch};
use super::guards::{self, Guards};
use super::heads::{HeadLayout, Heads, HeadsMut};
use super::norm::not_of_the_host;
use super::operand::{Operand, TypedDevicePtr, given, one_a_column};
use super::paged::{CacheShape, PageLayout, PagedCache};
use super::rows::DeviceElement;
use super::scores::of_type;
use crate::cpu::attention::{KEYS, NARROW_SCALES};
use crate::element::DType;
use crate::error::{Error, Result};
use crate::mask::FullyMasked;
use crate::ops::attention::Attention;
use crate::ops::softmax::Softmax;
use crate::simd::in_default;
use cudarc::driver::{CudaStream, DeviceRepr};
use std::sync::Arc;

pub(super) const OP: &str = "attention_decode";

/// Maximum number of features that the kernels support.
pub const MOST_FEATURES: usize = 256;

/// Pages of keys or values in the layout of the kernels.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Pages {
    data: u64,
    page: u64,
    position: u64,
    head: u64,
}

/// Arguments of the kernels, passed as one struct.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Arguments {
    q: u64,
    out: u64,
    q_sequence: u64,
    q_head: u64,
    out_sequence: u64,
    out_head: u64,
    keys: Pages,
    values: Pages,
    table: u64,
    table_stride: u64,
    lengths: u64,
    sinks: u64,
    ends: u64,
    sums: u64,
    guards: u64,
    sequences: u64,
    scale: f64,
    softcap: f64,
    heads: u32,
    key_heads: u32,
    features: u32,
    of_values: u32,
    pages: u32,
    page_size: u32,
    capacity: u32,
    window: u32,
    slots: u32,
    splits: u32,
    sink_type: u32,
    in_wide: u32,
}

// SAFETY: the struct has plain numbers in C layout, as the kernels declare it.
unsafe impl DeviceRepr for Arguments {}

/// Computes [`attention`](crate::attention()) of one query for each sequence and head on the stream's device, over keys
/// and values in pages. Decoding uses this form of attention. The results are bit-identical to the CPU's for the same
/// keys and values in the order of their positions.
///
/// # Shapes
/// `q` is `[sequences, heads, features]` and `out` is `[sequences, heads, features of values]`, with strides. The
/// number of heads of `q` is a multiple of the number of heads of the cache. If it is n times as large, head h of `q`
/// uses head h / n of the cache, rounded down. Keys and values have 1 to 256 features. `sinks` has a number for each
/// head of `q`, of any type.
///
/// # Options
/// The query of a sequence is at the position of the sequence's last key, so a causal mask changes nothing. The
/// options' mask may have a [window](crate::Mask::window). It must not have lengths: the cache has the number of keys
/// of each sequence. [`FullyMasked::Uniform`] is not supported.
///
/// # Special values
/// NaN, infinities and fully masked rows are treated as in [`attention`](crate::attention()). The host does not wait,
/// and reads neither the table nor the lengths. If a length exceeds the capacity of a sequence's pages, or if a page
/// that the query sees is not in the cache, the sequence's results are NaN, and memory outside of the cache is not
/// read. [`PagedCache::check`] rejects such a cache. Pages before the window are not read.
///
/// # Errors
/// [`Error::ShapeMismatch`] if the shapes do not fit each other; [`Error::InvalidArgument`] for invalid or unsupported
/// options; [`Error::FullyMasked`] under [`FullyMasked::Error`], for which the host waits unless the call gets
/// `guards`; [`Error::Failed`] if the device fails.
///
/// If `guards` are given, the call adds the numbers of rows with NaN, of rows with +inf and of fully masked rows to
/// these counters. Each head of each sequence is a row, with index `sequence * heads + head`.
///
/// ```no_run
/// use evenkeel::cuda::{self, Heads, HeadsMut, PagedCache, Pages};
/// use evenkeel::{Attention, Mask};
///
/// // Two sequences of 5 and 33 keys, in three pages of 16 positions. 8 heads share 2 heads of keys.
/// let stream = cuda::device(0)?.default_stream();
/// let q = stream.alloc_zeros::<half::bf16>(2 * 8 * 128)?;
/// let mut out = stream.alloc_zeros::<half::bf16>(2 * 8 * 128)?;
/// let keys = stream.alloc_zeros::<half::bf16>(9 * 16 * 2 * 128)?;
/// let values = stream.alloc_zeros::<half::bf16>(9 * 16 * 2 * 128)?;
/// let (table, lengths) = (stream.clone_htod(&[4u32, 0, 0, 7, 1, 8])?, stream.clone_htod(&[5u32, 33])?);
/// let pages = [9, 16, 2, 128];
/// let cache = PagedCache::new(
///     Pages::new(keys.as_view(), pages)?,
///     Pages::new(values.as_view(), pages)?,
///     table.as_view(),
///     lengths.as_view(),
/// )?;
/// let (q, y) = (Heads::new(q.as_view(), [2, 8, 128])?, HeadsMut::new(out.as_view_mut(), [2, 8, 128])?);
/// let mask = Mask::window(4096);
/// cuda::attention_decode_into(&stream, q, &cache, None, y, &Attention::default().mask(&mask), None)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn attention_decode_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    q: Heads<'_, E>,
    cache: &PagedCache<'_, E>,
    sinks: Option<Operand<'_>>,
    mut out: HeadsMut<'_, E>,
    options: &Attention<'_>,
    guards: Option<&mut Guards>,
) -> Result<()> {
    let _caller = device::CallerContext::save();
    let shape = Shape { q: q.layout, out: out.layout, cache: cache.shape };
    one_a_column(OP, "sinks", sinks.as_ref().map(|sinks| sinks.len()), q.layout.heads)?;
    let (from, _read) = device::read((OP, "q"), &q.data, stream)?;
    let (to, _written) = device::write((OP, "out"), &mut out.data, stream)?;
    let (keys, _keys) = device::read((OP, "keys"), &cache.keys.data, stream)?;
    let (values, _values) = device::read((OP, "values"), &cache.values.data, stream)?;
    let (table, _table) = cache.table.at("table", stream)?;
    let (lengths, _lengths) = cache.lengths.at("lengths", stream)?;
    let sinks = sinks.as_ref().map(|sinks| sinks.at((OP, "sinks"), stream)).transpose()?;
    let sinks = sinks.as_ref().map(|(sinks, _)| *sinks);
    let memory = Memory { q: from, out: to, keys, values, table, lengths, sinks, ..Memory::default() };
    let words = workspace_words(&shape, options)?;
    let run = |workspace, guards| {
        let memory = Memory { workspace, guards, ..memory };
        let Some((launches, arguments)) = launches(E::DTYPE, &memory, &shape, options)? else { return Ok(()) };
        for launch in launches {
            // SAFETY: the views contain the elements of their layouts. There is a row of the table and a length for
            // each sequence, and a sink for each head. The workspace has `words` words. All are used on this stream.
            unsafe { device::run(stream, &launch, &arguments)? };
        }
        Ok(())
    };
    guards::counted_in_workspace(OP, stream, options.fully_masked, guards, words, run)
}

/// Shape of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Layout of the queries, with one token for each sequence.
    pub q: HeadLayout,
    /// Layout of the results.
    pub out: HeadLayout,
    /// Shape of the keys and the values.
    pub cache: CacheShape,
}

/// Addresses of the memory that the kernels use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Queries.
    pub q: u64,
    /// Output: results.
    pub out: u64,
    /// Pages of keys.
    pub keys: u64,
    /// Pages of values.
    pub values: u64,
    /// Table with a row of page indices for each sequence, as 32-bit integers.
    pub table: u64,
    /// Number of keys of each sequence, as 32-bit integers.
    pub lengths: u64,
    /// A sink for each head.
    pub sinks: Option<TypedDevicePtr>,
    /// Workspace of [`workspace_words`] 64-bit words, aligned to 16 bytes.
    pub workspace: u64,
    /// Row counters that [`softmax::launch`](super::softmax::launch) describes; 0 for none.
    pub guards: u64,
}

impl Shape {
    fn check(&self) -> Result<()> {
        let Shape { q, out, cache } = *self;
        cache.check(OP)?;
        let [keys, values] = cache.layouts;
        if q.tokens != cache.sequences {
            let expected = format!("one for each of {} sequences", cache.sequences);
            return Err(Error::shape(OP, "q", format!("{} tokens", q.tokens), expected));
        }
        if q.cols != keys.features {
            let expected = format!("the keys' {} features", keys.features);
            return Err(Error::shape(OP, "q", format!("{} features", q.cols), expected));
        }
        if q.heads != 0 && (keys.heads == 0 || !q.heads.is_multiple_of(keys.heads)) {
            let expected = format!("a number that divides the {} heads of q", q.heads);
            return Err(Error::shape(OP, "keys", format!("{} heads", keys.heads), expected));
        }
        let (got, expected) = ([out.tokens, out.heads, out.cols], [q.tokens, q.heads, values.features]);
        if got != expected {
            return Err(Error::shape(OP, "out", format!("{got:?}"), format!("{expected:?}")));
        }
        for (argument, features) in [("keys", keys.features), ("values", values.features)] {
            if !(1..=MOST_FEATURES).contains(&features) {
                let expected = format!("1 to {MOST_FEATURES} features");
                return Err(Error::shape(OP, argument, format!("{features} features"), expected));
            }
        }
        Ok(())
    }

    fn rows(&self) -> usize {
        self.q.tokens.saturating_mul(self.q.heads)
    }

    /// Returns the largest number of key blocks that a query sees.
    fn slots(&self, window: u32) -> usize {
        let blocks = (self.cache.capacity() as usize).div_ceil(KEYS);
        match window {
            0 => blocks,
            // A window that does not begin at the start of a block may overlap one block more.
            _ => blocks.min((window as usize - 1).div_ceil(KEYS) + 1),
        }
    }

    /// Returns whether the kernels can read keys and values by accesses of 16 bytes. Such an access reads `lanes`
    /// elements.
    fn is_aligned(&self, memory: &Memory, lanes: usize) -> bool {
        let is_whole = |layout: PageLayout| {
            let PageLayout { features, page_stride, position_stride, head_stride, .. } = layout;
            [features, page_stride, position_stride, head_stride].iter().all(|len| len.is_multiple_of(lanes))
        };
        (memory.keys | memory.values).is_multiple_of(16) && self.cache.layouts.into_iter().all(is_whole)
    }
}

/// Returns the window of the options' mask; 0 for no limit.
pub(super) fn window(options: &Attention<'_>) -> Result<u32> {
    let Some(mask) = options.mask else { return Ok(0) };
    if mask.has_data() || mask.offset.is_some() {
        let expected = "a mask with a window, causality or both. The lengths come from the cache. Keep flags, biases \
                        and offsets are not supported";
        return Err(Error::invalid(OP, "mask", "a mask with lengths, keep flags, a bias or an offset", expected));
    }
    match mask.window {
        Some(0) => Err(Error::invalid(OP, "window", 0, "at least 1")),
        // A window beyond the largest length has no effect, so it is dropped.
        Some(window) => Ok(u32::try_from(window).unwrap_or(0)),
        None => Ok(0),
    }
}

/// Returns the number of 64-bit words that the kernels need to store the partial results of all blocks of keys.
///
/// # Errors
/// [`Error::InvalidArgument`] if the number exceeds 2^60, or for an unsupported mask.
pub fn workspace_words(shape: &Shape, options: &Attention<'_>) -> Result<usize> {
    let slots = shape.slots(window(options)?);
    let results = shape.rows().checked_mul(slots);
    let sums = results.and_then(|results| results.checked_mul(shape.out.cols));
    let words = results.zip(sums).and_then(|(results, sums)| results.checked_mul(2)?.checked_add(sums.div_ceil(2)));
    words.filter(|words| *words <= 1 << 60).ok_or_else(|| {
        let got = format!("{} rows and {slots} blocks of keys", shape.rows());
        Error::invalid(OP, "table", got, "so small that all results fit in 2^60 words")
    })
}

/// Names of the kernels by type. For each type, the first kernel takes rows of any alignment, and the others take
/// aligned rows. The first two kernels load each key once for each query head. The third kernel loads each key once for
/// up to four query heads, and the fourth once for up to eight.
const NAMES: [[&str; 4]; 3] = [
    ["attention_decode_f32_any", "attention_decode_f32_1", "attention_decode_f32_4", "attention_decode_f32_8"],
    ["attention_decode_f16_any", "attention_decode_f16_1", "attention_decode_f16_4", "attention_decode_f16_8"],
    ["attention_decode_bf16_any", "attention_decode_bf16_1", "attention_decode_bf16_4", "attention_decode_bf16_8"],
];
const MERGE: [&str; 3] = ["attention_merge_f32", "attention_merge_f16", "attention_merge_bf16"];
/// Number of thread blocks that keeps a device busy. If a call has fewer queries than this, the keys of a query are
/// divided among several thread blocks.
const ENOUGH: usize = 1024;
/// Maximum number of thread blocks. In larger calls, a thread block processes several rows.
const MOST_BLOCKS: usize = 1 << 20;

/// Returns the two kernels of a call, in launch order, and the arguments that both take; `None` if there are no
/// results.
///
/// # Errors
/// The errors of [`attention_decode_into`]; [`Error::UnsupportedDType`] for f64.
pub fn launches(
    dtype: DType,
    memory: &Memory,
    shape: &Shape,
    options: &Attention<'_>,
) -> Result<Option<([Launch; 2], Arguments)>> {
    shape.check()?;
    not_of_the_host(OP, "sinks", options.sinks.is_some())?;
    if options.fully_masked == FullyMasked::Uniform {
        return Err(Error::invalid(OP, "fully_masked", "Uniform", "Zeros or Error on CUDA devices"));
    }
    let Shape { q, out, cache } = *shape;
    let scale = options.scale.unwrap_or_else(|| in_default(|| 1.0 / (q.cols as f64).sqrt()));
    Softmax { scale, softcap: options.softcap, ..Softmax::default() }.check(OP)?;
    let window = window(options)?;
    let (index, lanes) = of_type(OP, dtype)?;
    let (sinks, sink_type) = given(OP, memory.sinks)?;
    // Rejects a call whose workspace is too large. The offset of the sums in the workspace then fits in 64 bits.
    workspace_words(shape, options)?;
    let (slots, rows) = (shape.slots(window), shape.rows());
    let [keys, values] = cache.layouts;
    if rows == 0 {
        return Ok(None);
    }
    for (argument, heads) in [("heads of q", q.heads), ("heads of keys", keys.heads)] {
        if u32::try_from(heads).is_err() {
            return Err(Error::invalid(OP, argument, heads, format!("at most {}", u32::MAX)));
        }
    }
    let group = q.heads / keys.heads;
    let (kernel, shared) = match group {
        _ if !shape.is_aligned(memory, lanes) => (0, 1),
        1 => (1, 1),
        2..=4 => (2, 4),
        _ => (3, 8),
    };
    let units = q.tokens.saturating_mul(keys.heads * group.div_ceil(shared));
    let in_thread_block = units.saturating_mul(slots).div_ceil(ENOUGH).max(1);
    let splits = slots.div_ceil(in_thread_block).max(1);
    let blocks = |count: usize| count.min(MOST_BLOCKS) as u32;
    let launches = [
        Launch {
            source: OP,
            kernel: NAMES[index][kernel],
            blocks: blocks(units.saturating_mul(splits)),
            threads: 256,
            shared: 0,
        },
        Launch { source: OP, kernel: MERGE[index], blocks: blocks(rows), threads: 256, shared: 0 },
    ];
    let pages = |data, layout: PageLayout| Pages {
        data,
        page: layout.page_stride as u64,
        position: layout.position_stride as u64,
        head: layout.head_stride as u64,
    };
    let arguments = Arguments {
        q: memory.q,
        out: memory.out,
        q_sequence: q.token_stride as u64,
        q_head: q.head_stride as u64,
        out_sequence: out.token_stride as u64,
        out_head: out.head_stride as u64,
        keys: pages(memory.keys, keys),
        values: pages(memory.values, values),
        table: memory.table,
        table_stride: cache.table_stride as u64,
        lengths: memory.lengths,
        sinks,
        ends: memory.workspace,
        sums: memory.workspace + 16 * (rows * slots) as u64,
        guards: memory.guards,
        sequences: q.tokens as u64,
        scale,
        softcap: options.softcap.unwrap_or(0.0),
        heads: q.heads as u32,
        key_heads: keys.heads as u32,
        features: keys.features as u32,
        of_values: values.features as u32,
        pages: keys.pages as u32,
        page_size: keys.page_size as u32,
        capacity: cache.capacity(),
        window,
        slots: slots as u32,
        splits: splits as u32,
        sink_type,
        in_wide: u32::from(in_default(|| scale != 0.0 && !NARROW_SCALES.contains(&scale.abs()))),
    };
    Ok(Some((launches, arguments)))
}
