//! Cases for attention over pages of keys and values.

use super::{Guarded, How, KINDS, Kind, row, same_guards};
use evenkeel::cuda::attention_decode::{Memory, Shape, launches, workspace_words};
use evenkeel::cuda::paged::CacheShape;
use evenkeel::cuda::{DeviceElement, HeadLayout, PageLayout, TypedDevicePtr};
use evenkeel::{Attention, DType, Heads, Mask, attention, report};
use evenkeel_cuda_emulator::{Emulator, Order};
use half::bf16;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, RngExt, SeedableRng};

/// Shape and options of a call.
#[derive(Clone, Debug)]
pub struct Case {
    /// Number of keys of each sequence.
    pub lengths: Vec<u32>,
    pub key_heads: usize,
    /// Number of query heads that share a head of keys.
    pub group: usize,
    pub page_size: usize,
    /// Number of features of keys and of values.
    pub features: [usize; 2],
    /// Whether a page holds all positions of the first head, then all positions of the next head, and so on. Otherwise,
    /// it holds all heads of the first position, then all heads of the next position.
    pub heads_first: bool,
    pub scale: Option<f64>,
    pub softcap: Option<f64>,
    pub window: Option<usize>,
    /// Sinks, and whether they are passed as bf16 instead of f32.
    pub sinks: Option<(Vec<f32>, bool)>,
    /// Distribution of the numbers in queries, keys and values.
    pub kinds: [Kind; 3],
    /// Index of the sequence that uses a page outside the cache, if there is one.
    pub unknown: Option<usize>,
    /// Index of the sequence that has more keys than its pages hold, if there is one.
    pub too_long: Option<usize>,
}

const FEATURES: [usize; 16] = [1, 2, 8, 24, 31, 32, 33, 40, 64, 72, 96, 128, 129, 160, 192, 256];
const LENGTHS: [u32; 16] = [0, 1, 2, 31, 32, 33, 40, 100, 255, 256, 257, 288, 300, 511, 513, 600];

impl Case {
    /// Creates the case with this index. Any 16 consecutive cases cover all numbers in [`FEATURES`].
    pub fn new(rng: &mut StdRng, index: usize) -> Self {
        let features = FEATURES[index % FEATURES.len()];
        let of_values = if rng.random_bool(0.6) { features } else { *FEATURES.choose(rng).unwrap() };
        let sequences = 1 + index / 16 % 3;
        let group = [1, 4, 8, 2, 3, 7, 9, 1, 6][index / 3 % 9];
        let key_heads = if group > 4 { 1 } else { 1 + index % 2 };
        let one_of = |rng: &mut StdRng, kinds: &[Kind]| *kinds.choose(rng).unwrap();
        let mut kind = || if index.is_multiple_of(3) { one_of(rng, &KINDS) } else { Kind::Normal };
        let kinds = [kind(), kind(), kind()];
        let sinks = rng.random_bool(0.4).then(|| {
            let special = [f32::NEG_INFINITY, f32::INFINITY, f32::NAN, 3e38];
            let sink = |rng: &mut StdRng| match rng.random_bool(0.1) {
                true => *special.choose(rng).unwrap(),
                false => bf16::from_f32(rng.random_range(-9.0..9.0)).to_f32(),
            };
            ((0..group * key_heads).map(|_| sink(rng)).collect(), rng.random())
        });
        let some = |rng: &mut StdRng, share, value| rng.random_bool(share).then_some(value);
        let sequence = rng.random_range(0..sequences);
        let window = *[1usize, 40, 256, 257, 1 << 40].choose(rng).unwrap();
        Case {
            lengths: (0..sequences).map(|_| *LENGTHS.choose(rng).unwrap()).collect(),
            key_heads,
            group,
            page_size: [16, 1, 7, 300][index / 2 % 4],
            features: [features, of_values],
            heads_first: rng.random(),
            scale: [None, Some(1.0), Some(-0.3), Some(1e-31), Some(0.0), Some(1e30), Some(2e4)][index / 5 % 7],
            softcap: match rng.random_range(0..8) {
                0 => Some(5.0),
                1 => Some(1e-20),
                // Most capped scores are exactly 0.5 or -0.5, so in some rows f32 represents all logits exactly.
                2 => Some(0.5),
                _ => None,
            },
            window: some(rng, 0.4, window),
            sinks,
            kinds,
            unknown: some(rng, 0.1, sequence),
            too_long: some(rng, 0.05, 0),
        }
    }

    /// Creates a case with so many sequences that a thread block processes several blocks of keys.
    pub fn of_many(rng: &mut StdRng) -> Self {
        Case {
            lengths: (0..130).map(|_| *[1, 256, 300, 600].choose(rng).unwrap()).collect(),
            key_heads: 16,
            group: 1,
            page_size: 16,
            features: [8, 4],
            heads_first: false,
            scale: None,
            softcap: None,
            window: None,
            sinks: None,
            kinds: [Kind::Normal; 3],
            unknown: None,
            too_long: None,
        }
    }

    /// Creates a case of two long sequences. Each has more than 32 blocks of keys. Each thread of the merging kernel
    /// holds the maximum of one block of keys. So several warps contribute to the maximum over all earlier blocks.
    pub fn of_long(rng: &mut StdRng) -> Self {
        Case { lengths: vec![12_000, 9_000], key_heads: 1, group: 5, ..Case::of_many(rng) }
    }

    fn heads(&self) -> usize {
        self.group * self.key_heads
    }
}

/// Number of elements in a pool of random numbers.
const POOL: usize = 3000;

/// A paged cache in the host's memory.
struct Cache<E> {
    shape: CacheShape,
    table: Vec<u32>,
    keys: Vec<E>,
    values: Vec<E>,
}

impl<E: DeviceElement> Cache<E> {
    fn new(rng: &mut StdRng, case: &Case, columns: usize) -> Self {
        let Case { key_heads, page_size, features, heads_first, .. } = *case;
        let sequences = case.lengths.len();
        let pages = sequences * columns + 2;
        let layout = |features: usize| {
            // With a gap, some elements between the pages belong to no page.
            let gap = if heads_first { 8 } else { 0 };
            let dense = PageLayout::contiguous([pages, page_size, key_heads, features]);
            let page_stride = dense.page_stride + gap;
            match heads_first {
                true => {
                    PageLayout { page_stride, position_stride: features, head_stride: page_size * features, ..dense }
                }
                false => PageLayout { page_stride, ..dense },
            }
        };
        let layouts = features.map(layout);
        let mut all: Vec<u32> = (0..pages as u32).collect();
        all.shuffle(rng);
        // Each row of the table is followed by one more number, which does not belong to the table.
        let table_stride = columns + 1;
        let table: Vec<u32> = (0..sequences * table_stride)
            .map(|i| {
                if i % table_stride == columns { u32::MAX } else { all[i / table_stride * columns + i % table_stride] }
            })
            .collect();
        let mut numbers = |layout: PageLayout, kind| {
            // Memory that belongs to no sequence is NaN. A kernel that uses it gives wrong results.
            let mut data = vec![E::NAN; layout.page_stride * pages];
            // Rows are taken from one pool of numbers, because generating new numbers for each row would take longer than
            // the op.
            let pool = row::<E>(rng, if matches!(kind, Kind::Far) { kind } else { Kind::Normal }, POOL);
            for (sequence, &length) in case.lengths.iter().enumerate() {
                for position in 0..length as usize {
                    let page = table[sequence * table_stride + position / page_size] as usize;
                    for head in 0..key_heads {
                        let at = page * layout.page_stride
                            + position % page_size * layout.position_stride
                            + head * layout.head_stride;
                        let to = &mut data[at..][..layout.features];
                        match rng.random_bool(0.02) {
                            true => to.copy_from_slice(&row::<E>(rng, kind, layout.features)),
                            false => to.copy_from_slice(
                                &pool[rng.random_range(0..POOL - layout.features)..][..layout.features],
                            ),
                        }
                    }
                }
            }
            data
        };
        let keys = numbers(layouts[0], case.kinds[1]);
        let values = numbers(layouts[1], case.kinds[2]);
        Cache { shape: CacheShape { layouts, sequences, columns, table_stride }, table, keys, values }
    }

    /// Copies a sequence's keys or values to a tensor `[1, heads, length, features]`.
    fn gathered(&self, sequence: usize, length: usize, which: usize) -> Vec<E> {
        let (layout, data) = (self.shape.layouts[which], [&self.keys, &self.values][which]);
        let mut all = Vec::new();
        for head in 0..layout.heads {
            for position in 0..length {
                let page = self.table[sequence * self.shape.table_stride + position / layout.page_size] as usize;
                let at = page * layout.page_stride
                    + position % layout.page_size * layout.position_stride
                    + head * layout.head_stride;
                all.extend_from_slice(&data[at..][..layout.features]);
            }
        }
        all
    }
}

/// Runs one case. Fails if the results or the counts of rows differ from the CPU's.
pub fn case<E: DeviceElement>(emulator: &Emulator, rng: &mut StdRng, case: &Case, how: How) -> Result<(), String> {
    let describe = |found: String| format!("{} {case:?}, {how:?}: {found}", E::DTYPE);
    let (sequences, heads) = (case.lengths.len(), case.heads());
    let [features, of_values] = case.features;
    let longest = case.lengths.iter().copied().max().unwrap_or(0) as usize;
    let columns = longest.div_ceil(case.page_size) + rng.random_range(0..3);
    let mut cache = Cache::<E>::new(rng, case, columns);
    let q: Vec<E> = (0..sequences * heads).flat_map(|_| row(rng, case.kinds[0], features)).collect();
    let mask = case.window.map(|window| Mask::window(window).and_causal());
    let mut options = Attention::default();
    (options.scale, options.softcap, options.mask) = (case.scale, case.softcap, mask.as_ref());
    let (mut expected, mut counts, mut first) = (Vec::new(), report::Counts::default(), u64::MAX);
    let mut lengths = case.lengths.clone();
    for sequence in 0..sequences {
        let length = lengths[sequence] as usize;
        let [k, v] = [0, 1].map(|which| cache.gathered(sequence, length, which));
        let shape = |positions, heads, features| [1, heads, positions, features];
        let seen = length.saturating_sub(case.window.unwrap_or(length));
        let is_unknown = case.unknown == Some(sequence) && length > 0;
        if is_unknown {
            // Replaces one of the pages that the query sees by a page that is not in the cache.
            let column = rng.random_range(seen / case.page_size..length.div_ceil(case.page_size));
            let at = sequence * cache.shape.table_stride + column;
            let others = [cache.shape.layouts[0].pages as u32, u32::MAX, 1 << 31];
            cache.table[at] = *others.choose(rng).unwrap();
        }
        if is_unknown || case.too_long == Some(sequence) {
            expected.extend(vec![E::NAN; heads * of_values]);
            counts.nan += heads as u64;
        } else {
            let options = match &case.sinks {
                Some((sinks, _)) => options.sinks(sinks),
                None => options,
            };
            let q = &q[sequence * heads * features..][..heads * features];
            let (y, report) = report::scope(|| {
                attention(
                    Heads::new(q, shape(1, heads, features))?,
                    Heads::new(&k, shape(length, case.key_heads, features))?,
                    Heads::new(&v, shape(length, case.key_heads, of_values))?,
                    &options,
                )
            });
            expected.extend(y.map_err(|error| describe(format!("the CPU returned an error: {error}")))?);
            let of_op = report.op("attention");
            counts.nan += of_op.nan;
            counts.infinite += of_op.infinite;
            counts.fully_masked += of_op.fully_masked;
            if of_op.fully_masked > 0 {
                first = first.min(first_empty(case, &cache, sequence, q));
            }
        }
        if case.too_long == Some(sequence) {
            lengths[sequence] = (columns * case.page_size) as u32 + 1 + rng.random::<u32>() % (1 << 20);
        }
    }
    let contiguous = |cols| HeadLayout::contiguous([sequences, heads, cols]);
    let shape = Shape { q: contiguous(features), out: contiguous(of_values), cache: cache.shape };
    let mut workspace = vec![u128::MAX; workspace_words(&shape, &options).unwrap().div_ceil(2)];
    let (mut from, mut to) = (Guarded::of(&q, how.shift), Guarded::<E>::unwritten(expected.len(), how.shift));
    let (mut keys, mut values) = (Guarded::of(&cache.keys, how.shift), Guarded::of(&cache.values, how.shift));
    let narrow: Vec<bf16> = case.sinks.iter().flat_map(|(sinks, _)| sinks).map(|sink| bf16::from_f32(*sink)).collect();
    let mut guards = [0, 0, 0, u64::MAX];
    // Only sinks that bf16 represents are passed as bf16.
    let sinks = case.sinks.as_ref().map(|(sinks, in_bf16)| {
        let is_exact = sinks.iter().zip(&narrow).all(|(sink, narrow)| narrow.to_f32().to_bits() == sink.to_bits());
        match *in_bf16 && is_exact {
            true => TypedDevicePtr { address: narrow.as_ptr() as u64, dtype: DType::BF16 },
            false => TypedDevicePtr { address: sinks.as_ptr() as u64, dtype: DType::F32 },
        }
    });
    let memory = Memory {
        q: from.address(),
        out: to.address(),
        keys: keys.address(),
        values: values.address(),
        table: cache.table.as_ptr() as u64,
        lengths: lengths.as_ptr() as u64,
        sinks,
        workspace: workspace.as_mut_ptr() as u64,
        guards: guards.as_mut_ptr() as u64,
    };
    let (launches, arguments) =
        launches(E::DTYPE, &memory, &shape, &options).unwrap().expect("attention with queries must launch kernels");
    for launch in launches {
        // SAFETY: the addresses point to slices of the required lengths. The slices outlive the kernel run.
        unsafe { how.run(emulator, (launch, arguments)) }.map_err(describe)?;
    }
    to.compare(&expected).map_err(describe)?;
    same_guards(guards, counts, first).map_err(describe)
}

/// Returns the index of the first row in which all keys of the sequence are masked.
fn first_empty<E: DeviceElement>(case: &Case, cache: &Cache<E>, sequence: usize, q: &[E]) -> u64 {
    let heads = case.heads();
    let [features, of_values] = case.features;
    let length = case.lengths[sequence] as usize;
    let mask = case.window.map(|window| Mask::window(window).and_causal());
    let mut options = Attention::default();
    (options.scale, options.softcap, options.mask) = (case.scale, case.softcap, mask.as_ref());
    let [k, v] = [0, 1].map(|which| cache.gathered(sequence, length, which));
    if let Some((sinks, _)) = &case.sinks {
        options = options.sinks(sinks);
    }
    let error = attention(
        Heads::new(q, [1, heads, 1, features]).unwrap(),
        Heads::new(&k, [1, case.key_heads, length, features]).unwrap(),
        Heads::new(&v, [1, case.key_heads, length, of_values]).unwrap(),
        &options.fully_masked(evenkeel::FullyMasked::Error),
    );
    (sequence * heads + error.unwrap_err().row().unwrap()) as u64
}

/// Runs a case of many sequences.
pub fn case_of_many(emulator: &Emulator) -> Result<(), String> {
    let mut rng = StdRng::seed_from_u64(3);
    let many = Case::of_many(&mut rng);
    case::<f32>(emulator, &mut rng, &many, How { shift: 0, one_block: false, order: Order::Forward })
}

/// Runs a case of long sequences.
pub fn case_of_long(emulator: &Emulator) -> Result<(), String> {
    let mut rng = StdRng::seed_from_u64(4);
    let long = Case::of_long(&mut rng);
    case::<f32>(emulator, &mut rng, &long, How { shift: 0, one_block: false, order: Order::Backward })
}

/// Runs some random cases.
pub fn cases<E: DeviceElement>(
    emulator: &Emulator,
    seed: u64,
    indices: impl IntoIterator<Item = usize>,
    mut each: impl FnMut(&Case),
) -> Result<(), String> {
    for index in indices {
        let mut rng = StdRng::seed_from_u64(seed + index as u64);
        let one = Case::new(&mut rng, index);
        let shift = if index % 4 == 3 { 1 + index % 7 } else { 0 };
        let order = Order::ALL[rng.next_u32() as usize % 3];
        case::<E>(emulator, &mut rng, &one, How { shift, one_block: index % 5 == 0, order })?;
        each(&one);
    }
    Ok(())
}
