//! Attention for decoding, where each sequence has one query, and keys and values are in pages.

use super::{Extent, Number, Op, QUERIES, Ready, Results, Shape};
use crate::error::Result;
use crate::memory::{Placed, Stream};
use evenkeel::cuda::cudarc::driver::CudaSlice;
use evenkeel::cuda::{self, PagedCache, Pages};
use evenkeel::{Attention, Heads, Mask, attention};

/// Attention whose longest sequence has at least `LEAST_KEYS` keys. If the pages hold fewer positions, the sequence
/// repeats pages.
pub struct OverPages<const LEAST_KEYS: usize>;
/// Attention over several blocks of keys.
pub type AttentionDecode = OverPages<700>;
/// Attention over few keys in small shapes, so that an interpreter can run many shapes.
pub type AttentionDecodeShort = OverPages<1>;

const SEQUENCES: usize = 3;
const HEADS: usize = QUERIES / SEQUENCES;

/// One combination of options with which `attention_decode` is called.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    key_heads: usize,
    page_size: usize,
    softcap: Option<f64>,
    scale: Option<f64>,
    window: Option<usize>,
    sinks: bool,
    /// Whether the sequences have few keys.
    is_short: bool,
    /// Whether two sequences are invalid: one has a page out of range, the other a length out of range.
    is_beyond: bool,
}

const PLAIN: Way = Way {
    name: "8 queries for a key",
    key_heads: 2,
    page_size: 8,
    softcap: None,
    scale: None,
    window: None,
    sinks: false,
    is_short: false,
    is_beyond: false,
};
const WAYS: [Way; 7] = [
    PLAIN,
    Way { name: "a query for a key", key_heads: 16, page_size: 1, ..PLAIN },
    Way { name: "softcap", key_heads: 4, page_size: 3, softcap: Some(20.0), ..PLAIN },
    Way { name: "window and sinks", key_heads: 8, page_size: 2, window: Some(300), sinks: true, ..PLAIN },
    Way { name: "short sequences", page_size: 24, is_short: true, ..PLAIN },
    Way { name: "a scale below f32", key_heads: 1, page_size: 16, scale: Some(1e-31), is_short: true, ..PLAIN },
    Way { name: "pages out of range", key_heads: 4, page_size: 4, is_beyond: true, ..PLAIN },
];

impl Way {
    fn pages(&self, shape: Shape) -> usize {
        shape.rows / (self.page_size * self.key_heads)
    }

    /// Returns the number of pages of a sequence. If there are enough pages, sequences share none.
    fn columns(&self, shape: Shape, least_keys: usize) -> usize {
        (self.pages(shape) / SEQUENCES).max(least_keys.div_ceil(self.page_size))
    }

    fn table(&self, shape: Shape, columns: usize) -> Vec<u32> {
        let pages = self.pages(shape);
        let mut table: Vec<u32> = (0..SEQUENCES * columns).map(|i| (pages - 1 - i % pages) as u32).collect();
        if self.is_beyond {
            table[columns + columns / 2] = pages as u32;
        }
        table
    }

    fn lengths(&self, columns: usize) -> [u32; SEQUENCES] {
        let all = (columns * self.page_size) as u32;
        match *self {
            Way { is_short: true, .. } => [all.min(257), 0, all.min(40)],
            Way { is_beyond: true, .. } => [all, all, all + 1],
            _ => [all, all - 1, all - all / 8],
        }
    }

    fn options<'a>(&self, mask: &'a Mask<'a>) -> Attention<'a> {
        let mut options = Attention::default().mask(mask);
        (options.scale, options.softcap) = (self.scale, self.softcap);
        options
    }

    fn mask(&self) -> Mask<'static> {
        self.window.map_or(Mask::none(), Mask::window)
    }

    /// Returns a sink for each head. Some are large, some are small, and some are -inf, which means no sink.
    fn sink_values(&self) -> Vec<f32> {
        (0..HEADS).map(|head| [3.0, -2.5, f32::NEG_INFINITY, 40.0][head % 4]).collect()
    }
}

struct Decode {
    stream: Stream,
    shape: Shape,
    way: Way,
    table: CudaSlice<u32>,
    lengths: CudaSlice<u32>,
    sinks: CudaSlice<f32>,
}

impl<E: Number> Ready<E> for Decode {
    fn launch(&mut self, read: &[Placed<E>], written: &mut [Placed<E>]) -> Result<()> {
        let Decode { stream, shape, way, table, lengths, sinks } = self;
        let pages = [way.pages(*shape), way.page_size, way.key_heads, shape.cols];
        let (keys, values) = (Pages::new(read[1].view(), pages)?, Pages::new(read[2].view(), pages)?);
        let cache = PagedCache::new(keys, values, table.as_view(), lengths.as_view())?;
        let dims = [SEQUENCES, HEADS, shape.cols];
        let (q, out) = (cuda::Heads::new(read[0].view(), dims)?, cuda::HeadsMut::new(written[0].view_mut(), dims)?);
        let (sinks, mask) = (way.sinks.then(|| sinks.as_view().into()), way.mask());
        Ok(cuda::attention_decode_into(stream, q, &cache, sinks, out, &way.options(&mask), None)?)
    }
}

impl<const LEAST_KEYS: usize> Op for OverPages<LEAST_KEYS> {
    const NAME: &'static str = if LEAST_KEYS > 1 { "attention_decode" } else { "attention_decode short" };
    const READ: &'static [Extent] = &[Extent::Queries, Extent::Cache, Extent::Cache];
    const WRITTEN: &'static [Extent] = &[Extent::Queries];
    const IS_OF_ROWS: bool = false;
    const SMALL_CASE_STEP: usize = if LEAST_KEYS > 1 { 11 } else { 1 };
    const WAYS: &'static [&'static str] =
        &[WAYS[0].name, WAYS[1].name, WAYS[2].name, WAYS[3].name, WAYS[4].name, WAYS[5].name, WAYS[6].name];

    fn shape(shape: Shape) -> Shape {
        // Shapes with more columns than the limit get head sizes of models.
        let sizes = [64, 80, 96, 128, 64, cuda::attention_decode::MOST_FEATURES];
        let cols = if shape.cols <= sizes[5] { shape.cols } else { sizes[shape.cols % 6] };
        // A multiple of 48 rows is a whole number of pages in each form of the call.
        Shape { rows: shape.rows.next_multiple_of(48), cols }
    }

    fn on_cpu<E: Number>(shape: Shape, way: usize, read: &[Vec<E>]) -> Result<Results<E>> {
        let (way, cols) = (WAYS[way], shape.cols);
        let columns = way.columns(shape, LEAST_KEYS);
        let (table, lengths) = (way.table(shape, columns), way.lengths(columns));
        let (mask, sinks) = (way.mask(), way.sink_values());
        let options = if way.sinks { way.options(&mask).sinks(&sinks) } else { way.options(&mask) };
        let mut all = Vec::new();
        for (sequence, length) in lengths.into_iter().enumerate() {
            let length = length as usize;
            if way.is_beyond && sequence > 0 {
                all.extend(vec![E::NAN; HEADS * cols]);
                continue;
            }
            // Gathers the sequence's positions from its pages, as a tensor `[length, heads, features]`.
            let gathered = |data: &[E]| -> Vec<E> {
                let row = way.key_heads * cols;
                let at = |position: usize| {
                    let page = table[sequence * columns + position / way.page_size] as usize;
                    (page * way.page_size + position % way.page_size) * row
                };
                (0..length).flat_map(|position| &data[at(position)..][..row]).copied().collect()
            };
            let (keys, values) = (gathered(&read[1]), gathered(&read[2]));
            let (dims, strides) = ([1, way.key_heads, length, cols], [0, cols, way.key_heads * cols]);
            let q = &read[0][sequence * HEADS * cols..][..HEADS * cols];
            all.extend(attention(
                Heads::new(q, [1, HEADS, 1, cols])?,
                Heads::strided(&keys, dims, strides)?,
                Heads::strided(&values, dims, strides)?,
                &options,
            )?);
        }
        Ok(vec![all].into())
    }

    fn on_device<E: Number>(stream: &Stream, shape: Shape, way: usize) -> Result<impl Ready<E>> {
        let way = WAYS[way];
        let columns = way.columns(shape, LEAST_KEYS);
        let table = stream.clone_htod(&way.table(shape, columns))?;
        let lengths = stream.clone_htod(&way.lengths(columns))?;
        let sinks = stream.clone_htod(&way.sink_values())?;
        Ok(Decode { stream: stream.clone(), shape, way, table, lengths, sinks })
    }
}
