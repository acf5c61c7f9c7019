//! Cases for rows with masks, scale and softcap.

use super::{Guarded, How, KINDS, peaked_row, row, same_guards};
use evenkeel::cuda::mask::Parts;
use evenkeel::cuda::{DeviceElement, log_softmax, logsumexp, softmax};
use evenkeel::{DType, Element, Error, FullyMasked, Mask, Rows, Softmax, report};
use evenkeel_cuda_emulator::Emulator;
use half::{bf16, f16};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Softmax,
    LogSoftmax,
    LogSumExp,
}

impl Op {
    pub const ALL: [Op; 3] = [Op::Softmax, Op::LogSoftmax, Op::LogSumExp];
}

/// Row lengths around the sizes of vectors, warps, tiles and blocks.
const LENGTHS: [usize; 30] = [
    1, 2, 3, 5, 7, 8, 16, 24, 31, 32, 33, 64, 72, 100, 127, 128, 200, 255, 256, 257, 320, 512, 600, 1000, 1016, 1024,
    1025, 2000, 2048, 2056,
];
/// Axes before the last one.
const OUTER: [&[usize]; 8] = [&[], &[2], &[1, 3, 1], &[2, 2], &[5], &[3, 2], &[7, 1], &[2, 1, 4]];

/// Number of shapes, all different.
pub const SHAPES: usize = LENGTHS.len() * OUTER.len();

/// Returns one of [`SHAPES`] shapes. Any 30 consecutive shapes cover all lengths.
pub fn shape(index: usize) -> Vec<usize> {
    let outer = OUTER[(index + index / LENGTHS.len()) % OUTER.len()];
    outer.iter().copied().chain([LENGTHS[index % LENGTHS.len()]]).collect()
}

/// Bias of any type.
#[derive(Clone, Debug)]
pub enum Bias {
    F64(Vec<f64>),
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
}

/// Shape of the scores, and their mask, scale, softcap and policy for fully masked rows.
#[derive(Clone, Debug, Default)]
pub struct Beside {
    pub dims: Vec<usize>,
    pub keep: Vec<(Vec<u8>, Vec<usize>)>,
    pub bias: Vec<(Bias, Vec<usize>)>,
    pub lengths: Vec<Vec<usize>>,
    pub causal: bool,
    pub window: Option<usize>,
    pub offset: Option<isize>,
    pub scale: f64,
    pub softcap: Option<f64>,
    pub policy: FullyMasked,
}

impl Beside {
    /// Returns default options without a mask.
    pub fn nothing(dims: &[usize]) -> Self {
        Beside { dims: dims.to_vec(), scale: 1.0, ..Beside::default() }
    }

    pub fn options(&self) -> Softmax<'static> {
        let mut options = Softmax::default().scale(self.scale).fully_masked(self.policy);
        options.softcap = self.softcap;
        options
    }

    pub fn mask(&self) -> Mask<'_> {
        let mut mask = Mask::none();
        for (flags, shape) in &self.keep {
            mask = mask.and_keep(flags, shape);
        }
        for (bias, shape) in &self.bias {
            mask = match bias {
                Bias::F64(values) => mask.and_bias(values, shape),
                Bias::F32(values) => mask.and_bias(values, shape),
                Bias::F16(values) => mask.and_bias(values, shape),
                Bias::BF16(values) => mask.and_bias(values, shape),
            };
        }
        for lengths in &self.lengths {
            mask = mask.and_lengths(lengths);
        }
        if self.causal {
            mask = mask.and_causal();
        }
        if let Some(keys) = self.window {
            mask = mask.and_window(keys);
        }
        if let Some(position) = self.offset {
            mask = mask.offset(position);
        }
        mask
    }

    pub fn parts(&self) -> Parts {
        let keep = self.keep.iter().map(|(flags, shape)| (flags.as_ptr() as u64, shape.clone()));
        let bias = self.bias.iter().map(|(bias, shape)| match bias {
            Bias::F64(values) => (values.as_ptr() as u64, DType::F64, shape.clone()),
            Bias::F32(values) => (values.as_ptr() as u64, DType::F32, shape.clone()),
            Bias::F16(values) => (values.as_ptr() as u64, DType::F16, shape.clone()),
            Bias::BF16(values) => (values.as_ptr() as u64, DType::BF16, shape.clone()),
        });
        let lengths = self.lengths.iter().map(|lengths| (lengths.as_ptr() as u64, lengths.len()));
        Parts {
            keep: keep.collect(),
            bias: bias.collect(),
            lengths: lengths.collect(),
            causal: self.causal,
            window: self.window,
            offset: self.offset,
        }
    }

    pub fn describe(&self) -> String {
        let keep: Vec<_> = self.keep.iter().map(|(_, shape)| shape).collect();
        let bias: Vec<_> =
            self.bias.iter().map(|(bias, shape)| (format!("{bias:?}")[..4].to_string(), shape)).collect();
        let Beside { dims, lengths, causal, window, offset, scale, softcap, policy, .. } = self;
        format!(
            "{dims:?} keep {keep:?} bias {bias:?} lengths {lengths:?} causal {causal} window {window:?} offset {offset:?} \
             scale {scale} softcap {softcap:?} {policy:?}"
        )
    }
}

/// Returns a random shape that broadcasts to `dims`.
fn broadcasting(rng: &mut StdRng, dims: &[usize]) -> Vec<usize> {
    let first = if rng.random_bool(0.3) { rng.random_range(0..=dims.len()) } else { 0 };
    dims[first..].iter().map(|&dim| if rng.random_bool(0.3) { 1 } else { dim }).collect()
}

fn bias(rng: &mut StdRng, len: usize) -> Bias {
    let kind = rng.random_range(0..5);
    let mut number = |_| match kind {
        // The bias consists of 0 and -inf.
        0 | 1 => [0.0, 0.0, f64::NEG_INFINITY][rng.random_range(0..3)],
        2 => rng.random_range(-20.0..4.0),
        // The bias has large numbers, and a number that f32 cannot represent.
        3 => [-1e9, 0.1, 20_000.0, -65_504.0, f64::NEG_INFINITY, -0.0][rng.random_range(0..6)],
        _ if rng.random_bool(0.01) => [f64::NAN, f64::INFINITY, f64::MAX, f64::MIN][rng.random_range(0..4)],
        _ => rng.random_range(-3.0..3.0),
    };
    let numbers: Vec<f64> = (0..len).map(&mut number).collect();
    fn to<E: Element>(numbers: Vec<f64>) -> Vec<E> {
        numbers.into_iter().map(E::from_wide).collect()
    }
    match rng.random_range(0..6) {
        0 => Bias::F64(numbers),
        1 => Bias::F64(to::<f32>(numbers).into_iter().map(f64::from).collect()),
        2 => Bias::F16(to(numbers)),
        3 => Bias::BF16(to(numbers)),
        _ => Bias::F32(to(numbers)),
    }
}

/// Returns a row of f32, and options with a bias that almost cancels the scaled scores. In half of all cases, the
/// options also have flags. Half of the logits differ from 0 by at most `spread`.
pub fn cancelling(rng: &mut StdRng, cols: usize, spread: f64) -> (Vec<f32>, Beside) {
    let scale = rng.random_range(0.05..0.2);
    let (mut x, mut bias) = (Vec::new(), Vec::new());
    for _ in 0..cols {
        let logit =
            rng.random_range(-spread..spread) - rng.random_range(0.0..9.0) * f64::from(rng.random_range(0..2u8));
        let score = (2f64.powf(rng.random_range(-10.0..14.2)) / scale) as f32;
        bias.push((logit - f64::from(score) * scale) as f32);
        x.push(score);
    }
    let keep = (0..cols).map(|i| u8::from(i == 0 || rng.random_bool(0.8))).collect();
    let keep = if rng.random_bool(0.5) { vec![(keep, vec![cols])] } else { Vec::new() };
    let dims = [1, cols];
    (x, Beside { keep, bias: vec![(Bias::F32(bias), vec![cols])], scale, ..Beside::nothing(&dims) })
}

/// Returns random options for scores of this shape. In half of all cases only one option is set.
pub fn beside(rng: &mut StdRng, dims: &[usize]) -> Beside {
    let one = rng.random_bool(0.5).then(|| rng.random_range(0..7));
    let has = |what: i32, rng: &mut StdRng| one.map_or_else(|| rng.random_bool(0.4), |one| one == what);
    let mut made = Beside::nothing(dims);
    let (&cols, outer) = dims.split_last().unwrap();
    if has(0, rng) {
        for _ in 0..rng.random_range(1..3) {
            let shape = broadcasting(rng, dims);
            let share = [0.9, 0.5, 0.02][rng.random_range(0..3)];
            let flags = (0..shape.iter().product()).map(|_| u8::from(rng.random_bool(share)) * 3).collect();
            made.keep.push((flags, shape));
        }
    }
    if has(1, rng) {
        for _ in 0..if rng.random_bool(0.8) { 1 } else { 2 } {
            let shape = broadcasting(rng, dims);
            made.bias.push((bias(rng, shape.iter().product()), shape));
        }
    }
    if has(2, rng) {
        let batch = if outer.is_empty() || rng.random_bool(0.3) { 1 } else { dims[0] };
        made.lengths.push((0..batch).map(|_| rng.random_range(0..=cols)).collect());
    }
    if !outer.is_empty() {
        made.causal = has(3, rng);
        if has(4, rng) {
            made.window = Some(rng.random_range(1..=cols + 1));
        }
        if rng.random_bool(0.3) {
            made.offset = Some(rng.random_range(-3..=cols as i64 + 3) as isize);
        }
    }
    if has(5, rng) {
        let scales = [0.125, 0.08838834764831845, 0.7, 2.0, 1e-20, -1.0, 1e300, 0.0, 1e-9, 300.0];
        made.scale = *scales[..if rng.random_bool(0.7) { 3 } else { 10 }].choose(rng).unwrap();
    }
    if has(6, rng) {
        made.softcap = [Some(30.0), Some(50.0), Some(0.3)].choose(rng).copied().unwrap();
    }
    made.policy = [FullyMasked::Zeros, FullyMasked::Uniform][rng.random_range(0..2)];
    made
}

/// Returns scores of this shape, of several kinds.
pub fn scores<E: Element>(rng: &mut StdRng, dims: &[usize]) -> Vec<E> {
    let (&cols, outer) = dims.split_last().unwrap();
    let rows: usize = outer.iter().product();
    let of = |rng: &mut StdRng| match KINDS.get(rng.next_u32() as usize % 7) {
        Some(&kind) => row(rng, kind, cols),
        None => peaked_row(rng, 20.0, cols),
    };
    (0..rows).flat_map(|_| of(rng)).collect()
}

/// Runs one case. Fails if its results differ from the CPU's.
pub fn case<E: DeviceElement>(emulator: &Emulator, op: Op, x: &[E], beside: &Beside, how: How) -> Result<(), String> {
    let describe = |found: String| format!("{op:?} of {}, {}, {how:?}: {found}", E::DTYPE, beside.describe());
    let (mask, parts) = (beside.mask(), beside.parts());
    let options = beside.options();
    let on_host = options.mask(&mask);
    let rows = || Rows::shaped(x, &beside.dims).unwrap();
    let (name, results) = match op {
        Op::Softmax => ("softmax", report::scope(|| evenkeel::softmax(rows(), &on_host))),
        Op::LogSoftmax => ("log_softmax", report::scope(|| evenkeel::log_softmax(rows(), &on_host))),
        Op::LogSumExp => ("logsumexp", report::scope(|| evenkeel::logsumexp(rows(), &on_host))),
    };
    let (expected, counts) = (results.0.map_err(|error| describe(error.to_string()))?, results.1.op(name));
    let shift_to = if op == Op::LogSumExp { 0 } else { how.shift };
    let (mut from, mut to) = (Guarded::of(x, how.shift), Guarded::<E>::unwritten(expected.len(), shift_to));
    let mut guards = [0u64, 0, 0, u64::MAX];
    let addresses = [from.address(), to.address(), guards.as_mut_ptr() as u64];
    let launch = match op {
        Op::Softmax => softmax::launch_masked,
        Op::LogSoftmax => log_softmax::launch_masked,
        Op::LogSumExp => logsumexp::launch_masked,
    };
    let planned =
        launch(E::DTYPE, addresses, &beside.dims, &parts, &options).map_err(|error| describe(error.to_string()))?;
    // SAFETY: the addresses point to slices of these shapes. The slices outlive the kernel run.
    unsafe { how.run(emulator, planned.expect("a masked softmax op on a non-empty tensor must launch a kernel")) }
        .map_err(describe)?;
    to.compare(&expected).map_err(describe)?;
    let refused = evenkeel::softmax(rows(), &on_host.fully_masked(FullyMasked::Error));
    let first = match refused {
        Err(Error::FullyMasked { row, .. }) => row as u64,
        _ => u64::MAX,
    };
    same_guards(guards, counts, first).map_err(describe)
}

/// Calls `f` for hostile rows: infinities and NaN combined with masks, sums that cancel, and numbers at the ends of
/// ranges.
pub fn each_hostile(mut f: impl FnMut(usize, &[f64], &Beside)) {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    let rows = [
        [1.0, 2.0, inf, 3.0],
        [1.0, nan, 2.0, 3.0],
        [-inf, -inf, 4.0, -inf],
        [-inf; 4],
        [3e38, -3e38, 3e38, 1e30],
        [20_000.0, 20_001.0, -5.0, 0.0],
        [255.9, 256.0, 255.5, -0.0],
        [-0.0, 0.0, 1e-40, -1e-40],
        [255.99, 0.1, 88.0, 191.0],
    ];
    let biases = [
        [0.0, 0.0, -inf, 0.0],
        [0.0, -inf, 0.0, 0.0],
        [0.5, 1.0, -inf, 0.0],
        [inf, 0.0, 0.0, 0.0],
        [nan, 0.0, 1.0, 2.0],
        [-20_000.0, -20_000.0, 0.0, 3.0],
        [-3e38, 3e38, -3e38, 0.0],
        [0.1; 4],
        [-inf; 4],
        [1e-310, 0.0, -0.0, 0.0],
    ];
    let flags = [[1u8, 1, 0, 1], [1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]];
    for (i, scale) in [1.0, 0.3, 4.0, -2.0, 1e-14, 9e14, 1e-16, 1e300, 0.0].into_iter().enumerate() {
        for bias in 0..biases.len() + 1 {
            // `keep` is an index into `flags`. The value `flags.len()` means that there are no flags. The loop over
            // scales combines each bias with every value of `keep`, once or twice.
            let keep = (i + bias) % (flags.len() + 1);
            let softcap = [None, Some(5.0), None][(i + bias) % 3];
            let mut made = Beside { dims: vec![rows.len(), 4], scale, softcap, ..Beside::default() };
            if let Some(values) = biases.get(bias) {
                let narrow = values.iter().map(|&v| v as f32).collect();
                let values = if i % 2 == 0 { Bias::F32(narrow) } else { Bias::F64(values.to_vec()) };
                made.bias.push((values, vec![4]));
            }
            if let Some(values) = flags.get(keep) {
                made.keep.push((values.to_vec(), vec![1, 4]));
            }
            f(i + bias, rows.as_flattened(), &made);
        }
    }
}
