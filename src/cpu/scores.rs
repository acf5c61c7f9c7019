//! What softmax, log_softmax and logsumexp share: a row's logits, its maximum, its exponentials and their sum.
//!
//! The logit z of a score x is scale, then softcap, then bias, in f64; a score of -inf is masked before that, and so
//! is whatever the mask excludes. A row whose logits are all exact in f32, which includes every plain f32, f16 or
//! bf16 row, every scale by a power of two, and biases of 0 and -inf, takes the f32 form of the exponential; the
//! rest, the form for differences of f64 ([`crate::math::softmax_exp`]). Rows of f64 have an f64 exponential.

use super::exp_sum::{ExpSum, Finer};
use super::lanes::Met;
use super::scratch::{Buffers, room};
use crate::element::Element;
use crate::mask::{FullyMasked, Resolved, saturate};
use crate::math::exp::{clamped, exp_parts};
use crate::math::fixed_point::{KeptSum, RowSum, sum_bits, sum_exps, units_to_f64};
use crate::math::log::log_scalar;
use crate::math::softmax_exp::{PairExp, SoftmaxExp};
use crate::math::tanh::tanh;
use crate::simd::{Float, Isa, Kernel, LANES, MaskBits, Next, Select, Span, Storage, block, fold, padded};
use std::ops::Range;

/// The options of a call, resolved against the view.
#[derive(Clone, Copy)]
pub struct Scores<'m> {
    pub mask: Option<Resolved<'m>>,
    pub scale: f64,
    pub softcap: Option<f64>,
    pub fully_masked: FullyMasked,
}

/// What a row turned out to be.
pub enum Row<'s> {
    /// A NaN is in it.
    Nan(Live<'s>),
    /// A logit of +inf is in it, and no NaN.
    Infinite(Live<'s>),
    /// Nothing to attend to.
    Masked,
    /// Something to attend to.
    Live(Live<'s>),
}

impl Row<'static> {
    /// Of a row that has these, without its logits.
    pub fn known(max: f64, nan: bool) -> Self {
        classify(0..0, Logits::Direct, Extrema { max, min: max, nan })
    }
}

impl Row<'_> {
    /// What the whole of a row that is not live is filled with; counts it.
    #[inline(always)]
    pub fn stand_in<E: Element>(&self, index: usize, policy: FullyMasked, met: &mut Met, zero: E, uniform: E) -> E {
        match self {
            Row::Live(_) => E::NAN,
            Row::Nan(_) => {
                met.counts.nan += 1;
                E::NAN
            }
            Row::Infinite(_) => {
                met.counts.infinite += 1;
                E::NAN
            }
            Row::Masked => {
                met.counts.wholly_masked += 1;
                if policy == FullyMasked::Error {
                    met.first_refused = met.first_refused.or(Some(index));
                }
                if policy == FullyMasked::Uniform { uniform } else { zero }
            }
        }
    }
}

/// A row with something to attend to, or something that spoils it.
pub struct Live<'s> {
    /// The columns that have logits; the others are masked.
    pub columns: Range<usize>,
    pub logits: Logits<'s>,
    pub max: f64,
    pub min: f64,
}

/// The logits, wherever they are; -inf where masked.
pub enum Logits<'s> {
    /// The scores are the logits.
    Direct,
    F32(&'s [f32]),
    F64(&'s [f64]),
}

/// e^(z - max) of a row, and what their sum needs.
pub enum Exps<'s> {
    /// The sum by rule Q for a row of this length.
    F32 {
        values: &'s [f32],
        sum: u128,
        row_len: usize,
    },
    F64 {
        values: &'s [f64],
    },
}

/// Elements whose exponentials are summed while they are still in the first-level cache.
const RUN: usize = 4096;
/// The same, where they are kept on the stack and nowhere else.
const SHORT_RUN: usize = 512;

/// Largest and smallest of a row, and whether a NaN is among them.
#[derive(Clone, Copy)]
struct Extrema {
    max: f64,
    min: f64,
    nan: bool,
}

impl Scores<'_> {
    /// Whether the scores are the logits, but for what the mask excludes.
    fn is_plain(&self) -> bool {
        self.scale == 1.0 && self.softcap.is_none() && !self.mask.is_some_and(|m| m.has_bias())
    }

    /// Whether rows of this type are read as they are, by f32 lanes.
    pub fn is_bare<E: Element>(&self) -> bool {
        !E::IS_F64 && self.is_plain() && self.mask.is_none()
    }

    /// Those of some columns of a lane outside of which all is masked.
    #[inline(always)]
    pub fn bounds(&self, lane: usize, columns: Range<usize>) -> Range<usize> {
        let Some(mask) = &self.mask else { return columns };
        let (low, high) = mask.bounds(lane);
        low.clamp(columns.start, columns.end)..high.clamp(columns.start, columns.end)
    }

    /// Reads a row: what it is, and its logits.
    #[inline(always)]
    pub fn read<'s, I: Isa, E: Element>(&self, isa: I, lane: usize, x: &[E], buffers: &'s mut Buffers) -> Row<'s> {
        self.read_part(isa, lane, 0, x, buffers)
    }

    /// The same of the part of a row that begins with `first`; columns are counted from there.
    #[inline(always)]
    pub fn read_part<'s, I: Isa, E: Element>(
        &self,
        isa: I,
        lane: usize,
        first: usize,
        x: &[E],
        buffers: &'s mut Buffers,
    ) -> Row<'s> {
        isa.outline(Read { scores: self, lane, first, x, buffers })
    }

    #[inline(always)]
    fn read_inline<'s, I: Isa, E: Element>(
        &self,
        isa: I,
        lane: usize,
        first: usize,
        x: &[E],
        buffers: &'s mut Buffers,
    ) -> Row<'s> {
        let Buffers { f32s, f64s, flags } = buffers;
        let Range { start: low, end: high } = self.bounds(lane, first..first + x.len());
        let columns = low - first..high - first;
        let x = &x[columns.clone()];
        let keep = self.mask.as_ref().and_then(|mask| mask.keep(lane, low, high, flags));
        if self.is_plain() && keep.is_none() {
            return classify(columns, Logits::Direct, extrema(isa, x));
        }
        if !E::IS_F64 && self.narrow_logits(isa, lane, low, x, keep, room(f32s, x.len())) {
            let logits = &f32s[..x.len()];
            return classify(columns, Logits::F32(logits), extrema(isa, logits));
        }
        let logits = room(f64s, x.len());
        self.wide_logits(isa, lane, low, x, keep, logits);
        let found = extrema(isa, &*logits);
        if !E::IS_F64 && is_exact_f32(isa, logits) {
            let narrow = room(f32s, x.len());
            Span::in_place(&mut *narrow).map_from_wide(
                isa,
                &*logits,
                #[inline(always)]
                |_, z| z,
            );
            return classify(columns, Logits::F32(narrow), found);
        }
        classify(columns, Logits::F64(logits), found)
    }

    /// The logits in f32, if none of them is rounded: for masks of flags and of biases that are 0 or -inf, and scales by
    /// powers of two.
    #[inline(always)]
    fn narrow_logits<I: Isa, E: Element>(
        &self,
        isa: I,
        lane: usize,
        low: usize,
        x: &[E],
        keep: Option<&[u8]>,
        logits: &mut [f32],
    ) -> bool {
        let scale = self.scale as f32;
        let is_power = scale.to_bits() << 9 == 0 && f64::from(scale) == self.scale;
        if self.softcap.is_some() || !is_power || !(1e-30..1e30).contains(&scale) {
            return false;
        }
        let bias = match &self.mask {
            Some(mask) if mask.has_bias() => match mask.narrow_bias(lane, low, low + x.len()) {
                None => return false,
                bias => bias,
            },
            _ => None,
        };
        let (zero, masked) = (isa.f32(0.0), isa.f32(f32::NEG_INFINITY));
        let (scale, back) = (isa.f32(scale), isa.f32(1.0 / scale));
        let mut rounded = zero.lt(zero);
        Span::in_place(logits).reading(x).map(
            isa,
            #[inline(always)]
            |i, v| {
                let mut z = v * scale;
                let mut exact = (z * back).eq(v);
                if let Some((bias, range)) = &bias {
                    let bias = bias.narrow_block(isa, range.clone(), i);
                    exact = exact & (bias.eq(zero) | bias.eq(masked));
                    z = z + bias;
                }
                if let Some(keep) = keep {
                    let keep = isa.load_flags(&block(keep, i, 0));
                    exact = exact | !keep;
                    z = I::F32::select(keep, z, masked);
                }
                rounded = rounded | !exact;
                z
            },
        );
        !rounded.any()
    }

    /// Scale, softcap, bias, keep flags.
    #[inline(always)]
    fn wide_logits<I: Isa, E: Element>(
        &self,
        isa: I,
        lane: usize,
        low: usize,
        x: &[E],
        keep: Option<&[u8]>,
        logits: &mut [f64],
    ) {
        let masked = isa.f64(f64::NEG_INFINITY);
        let scale = isa.f64(self.scale);
        let to = Span::in_place(&mut *logits);
        match self.softcap {
            None => to.map_from_wide(
                isa,
                x,
                #[inline(always)]
                |_, x| I::F64::select(x.eq(masked), masked, saturate(isa, x * scale, x.abs())),
            ),
            Some(cap) => to.map_from_wide(
                isa,
                x,
                #[inline(always)]
                |_, x| {
                    let z = saturate(isa, x * scale, x.abs());
                    let z = isa.f64(cap) * tanh(isa, z / isa.f64(cap));
                    I::F64::select(x.eq(masked), masked, z)
                },
            ),
        };
        if let Some(mask) = &self.mask {
            mask.add_bias(isa, lane, low, logits);
        }
        if let Some(keep) = keep {
            for (z, keep) in logits.iter_mut().zip(keep) {
                *z = if *keep == 0 { f64::NEG_INFINITY } else { *z };
            }
        }
    }
}

/// [`Scores::read`] as a function of its own, which four ops share.
struct Read<'a, 's, E> {
    scores: &'a Scores<'a>,
    lane: usize,
    first: usize,
    x: &'a [E],
    buffers: &'s mut Buffers,
}

impl<'s, E: Element> Kernel for Read<'_, 's, E> {
    type Out = Row<'s>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Row<'s> {
        self.scores.read_inline(isa, self.lane, self.first, self.x, self.buffers)
    }
}

#[inline(always)]
fn classify(columns: Range<usize>, logits: Logits<'_>, found: Extrema) -> Row<'_> {
    let live = Live { columns, logits, max: found.max, min: found.min };
    if found.nan {
        Row::Nan(live)
    } else if found.max == f64::INFINITY {
        Row::Infinite(live)
    } else if found.max == f64::NEG_INFINITY {
        Row::Masked
    } else {
        Row::Live(live)
    }
}

/// Largest and smallest; -inf and +inf for no elements at all.
#[inline(always)]
fn extrema<I: Isa, E: Element>(isa: I, x: &[E]) -> Extrema {
    if E::IS_F64 {
        let zero = isa.f64(0.0);
        let init = (isa.f64(f64::NEG_INFINITY), isa.f64(f64::INFINITY), zero.lt(zero));
        let (max, min, nan) = fold(
            x,
            x.first().copied().unwrap_or(E::ZERO),
            init,
            #[inline(always)]
            |(max, min, nan), _, values| {
                let v = E::load_wide(isa, values);
                (v.max(max), v.min(min), nan | v.is_nan())
            },
        );
        let max = halve(
            isa.array_f64(max),
            #[inline(always)]
            |a, b| if b > a { b } else { a },
        );
        let min = halve(
            isa.array_f64(min),
            #[inline(always)]
            |a, b| if b < a { b } else { a },
        );
        return Extrema { max, min, nan: nan.any() };
    }
    let mut extremes = Extremes::new(isa);
    let (quads, rest) = x.as_chunks::<{ 4 * LANES }>();
    for quad in quads {
        let blocks = quad.as_chunks::<LANES>().0;
        for (chain, block) in blocks.iter().enumerate() {
            extremes.meet(chain, E::load(isa, block));
        }
    }
    let (blocks, tail) = rest.as_chunks::<LANES>();
    for block in blocks {
        extremes.meet_alone(E::load(isa, block));
    }
    if !tail.is_empty() {
        extremes.meet_alone(E::load(isa, &padded(tail, tail[0])));
    }
    extremes.found(isa)
}

/// The largest and the smallest so far of blocks of f32: four chains, so that the latency of a comparison does not
/// decide the speed.
struct Extremes<I: Isa> {
    max: [I::F32; 4],
    min: [I::F32; 4],
    nan: I::M32,
    last: I::F32,
}

impl<I: Isa> Extremes<I> {
    #[inline(always)]
    fn new(isa: I) -> Self {
        let (max, min) = (isa.f32(f32::NEG_INFINITY), isa.f32(f32::INFINITY));
        Extremes { max: [max; 4], min: [min; 4], nan: max.lt(max), last: max }
    }

    /// A block, by the chain of this number; of two that follow one another the first is an even one's, and a NaN in it
    /// is found with the second.
    #[inline(always)]
    fn meet(&mut self, chain: usize, v: I::F32) {
        self.max[chain] = v.max(self.max[chain]);
        self.min[chain] = v.min(self.min[chain]);
        if chain.is_multiple_of(2) {
            self.last = v;
        } else {
            self.nan = self.nan | self.last.either_nan(v);
        }
    }

    #[inline(always)]
    fn meet_alone(&mut self, v: I::F32) {
        self.max[0] = v.max(self.max[0]);
        self.min[0] = v.min(self.min[0]);
        self.nan = self.nan | v.is_nan();
    }

    #[inline(always)]
    fn found(self, isa: I) -> Extrema {
        let max = self.max[0].max(self.max[1]).max(self.max[2].max(self.max[3]));
        let min = self.min[0].min(self.min[1]).min(self.min[2].min(self.min[3]));
        let max = halve(
            isa.array_f32(max),
            #[inline(always)]
            |a, b| if b > a { b } else { a },
        );
        let min = halve(
            isa.array_f32(min),
            #[inline(always)]
            |a, b| if b < a { b } else { a },
        );
        let nan = (self.nan | self.last.is_nan()).any();
        Extrema { max: f64::from(max), min: f64::from(min), nan }
    }
}

/// Lanes without options: each one's extremes are found while the one before is written.
pub struct Plain(Extrema);

impl Plain {
    /// Of the first lane.
    #[inline(always)]
    pub fn first<I: Isa, E: Element>(isa: I, x: &[E]) -> Self {
        Plain(extrema(isa, x))
    }

    /// The lane, of `len` elements, whose extremes these are.
    #[inline(always)]
    pub fn row(&self, len: usize) -> Row<'static> {
        classify(0..len, Logits::Direct, self.0)
    }

    /// Writes `f` of the numbers of a span, and finds the extremes of `next`, which is as long.
    #[inline(always)]
    pub fn write<'a, I: Isa, S: Storage, D: Storage, E: Element>(
        &mut self,
        isa: I,
        span: Span<'a, S, D>,
        next: &[E],
        f: impl Fn(usize, I::F32) -> I::F32,
    ) -> &'a mut [D] {
        let mut extremes = Extremes::new(isa);
        let written = span.numbers_with(
            isa,
            [next],
            #[inline(always)]
            |i, v, [next]| {
                // Blocks come in pairs, so that the chain is known where this is compiled.
                extremes.meet(i % 2, E::load(isa, next));
                f(i, v)
            },
        );
        self.0 = extremes.found(isa);
        written
    }
}

/// One of sixteen, by halves.
#[inline(always)]
pub fn halve<T: Copy>(mut values: [T; LANES], choose: impl Fn(T, T) -> T) -> T {
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            values[i] = choose(values[i], values[i + width]);
        }
    }
    values[0]
}

#[inline(always)]
fn is_exact_f32<I: Isa>(isa: I, logits: &[f64]) -> bool {
    let zero = isa.f64(0.0);
    let inexact = fold(
        logits,
        0.0,
        zero.lt(zero),
        #[inline(always)]
        |inexact, _, values| {
            let z = isa.load_f64(values);
            inexact | !isa.widen(isa.narrow(z)).eq(z)
        },
    );
    !inexact.any()
}

impl<'s> Live<'s> {
    /// As part of a row that has this maximum, and whose logits f32 holds or does not.
    #[inline(always)]
    pub fn within<'b, I: Isa>(self, isa: I, max: f64, exact: bool, buffers: &'b mut Buffers) -> Live<'b>
    where
        's: 'b,
    {
        let logits = match self.logits {
            Logits::F32(z) if !exact => {
                let wide = room(&mut buffers.f64s, z.len());
                Logits::F64(Span::in_place(wide).map_from_wide(
                    isa,
                    z,
                    #[inline(always)]
                    |_, z| z,
                ))
            }
            logits => logits,
        };
        Live { logits, max, ..self }
    }
}

impl Live<'_> {
    /// The logit of the `i`th column that has one; `x` is the row that was read.
    #[inline(always)]
    pub fn logit<E: Element>(&self, x: &[E], i: usize) -> f64 {
        match self.logits {
            Logits::Direct => x[self.columns.start + i].widen(),
            Logits::F32(z) => f64::from(z[i]),
            Logits::F64(z) => z[i],
        }
    }

    /// The exponentials; `x` are the columns that have logits, of the row that was read; the next is asked
    /// for if it is far.
    #[inline(always)]
    pub fn exps<'s, I: Isa, E: Element>(
        &self,
        isa: I,
        x: &[E],
        row_len: usize,
        far: bool,
        buffers: &'s mut Buffers,
    ) -> Exps<'s> {
        isa.outline(Exponentials { live: self, x, row_len, far, buffers })
    }

    #[inline(always)]
    fn exps_inline<'s, I: Isa, E: Element>(
        &self,
        isa: I,
        x: &[E],
        row_len: usize,
        far: bool,
        buffers: &'s mut Buffers,
    ) -> Exps<'s> {
        if E::IS_F64 {
            let values = room(&mut buffers.f64s, x.len());
            match self.logits {
                Logits::F64(z) => exp_f64(isa, z, self.max, values),
                Logits::Direct | Logits::F32(_) => exp_f64(isa, x, self.max, values),
            }
            return Exps::F64 { values };
        }
        let values = room(&mut buffers.f32s, x.len());
        let span = Span::in_place(&mut *values).with_far(far);
        let sum = match self.logits {
            Logits::Direct => self.exp_f32(isa, span.reading(x), row_len).1,
            Logits::F32(z) => self.exp_f32(isa, span.reading(z), row_len).1,
            Logits::F64(z) => self.exp_pairs(isa, z, span, row_len).1,
        };
        Exps::F32 { values, sum, row_len }
    }

    /// The exponentials of a row of f32 where its result will be, which is over the row itself or elsewhere; and their
    /// sum by rule Q.
    #[inline(always)]
    pub fn exps_to<'d, I: Isa, E: Element>(
        &'d self,
        isa: I,
        span: Span<'d, E, E>,
        row_len: usize,
    ) -> (&'d mut [E], u128) {
        match self.logits {
            Logits::Direct => self.exp_f32(isa, span, row_len),
            Logits::F32(z) => self.exp_f32(isa, span.reading(z), row_len),
            Logits::F64(z) => self.exp_pairs(isa, z, span, row_len),
        }
    }

    #[inline(always)]
    fn exp_f32<'d, I: Isa, S: Storage, D: Storage>(
        &self,
        isa: I,
        span: Span<'d, S, D>,
        row_len: usize,
    ) -> (&'d mut [D], u128) {
        let exp = SoftmaxExp::new(isa, self.max as f32, self.min as f32);
        let next = span.next(1);
        let mut sum = KeptSum::new(row_len);
        let values = span.in_runs(
            RUN,
            #[inline(always)]
            |first, run| {
                let values = exp_run(isa, &exp, next.from(first * LANES), run);
                sum.add(isa, values);
                values
            },
        );
        let sum = sum.units(isa, &*values);
        (values, sum)
    }

    /// The sum alone, of exponentials that are kept nowhere.
    #[inline(always)]
    fn sum_f32<I: Isa, S: Storage>(&self, isa: I, z: &[S], row_len: usize) -> u128 {
        let exp = SoftmaxExp::new(isa, self.max as f32, self.min as f32);
        let mut buffer = [0.0f32; SHORT_RUN];
        let mut sum = RowSum::new(row_len);
        let all = z.len();
        for z in z.chunks(SHORT_RUN) {
            let run = Span::in_place(&mut buffer[..z.len()]).reading(z);
            let next = Next::behind(z, all);
            let values = exp_run(isa, &exp, next, run);
            sum.add(isa, values);
        }
        sum.units()
    }

    #[inline(always)]
    fn exp_pairs<'d, I: Isa, S: Storage, D: Storage>(
        &self,
        isa: I,
        z: &[f64],
        to: Span<'d, S, D>,
        row_len: usize,
    ) -> (&'d mut [D], u128) {
        let exp = PairExp::new(isa);
        let max = isa.f64(self.max);
        let values = to.narrow_from(
            isa,
            z,
            #[inline(always)]
            |z| exp.exp(z - max),
        );
        let sum = sum_exps(isa, values, row_len);
        (values, sum)
    }

    /// ln of the sum of the exponentials, accurate also where the sum is barely above 1.
    #[inline(always)]
    pub fn log_sum<I: Isa, E: Element>(&self, isa: I, x: &[E], buffers: &mut Buffers) -> f64 {
        isa.outline(LogSumOf { live: self, x, buffers })
    }

    /// What the sum is finer by where the largest is left out; `x` are the columns that have logits.
    #[inline(always)]
    pub fn finer<I: Isa, E: Element>(&self, isa: I, x: &[E]) -> Finer {
        Finer::new(self.max, self.second(isa, x, self.max))
    }

    /// The largest logit below this; `x` are the columns that have logits.
    #[inline(always)]
    pub fn second<I: Isa, E: Element>(&self, isa: I, x: &[E], max: f64) -> f64 {
        match self.logits {
            Logits::Direct => isa.outline(Below { z: x, max }),
            Logits::F32(z) => isa.outline(Below { z, max }),
            Logits::F64(z) => isa.outline(Below { z, max }),
        }
    }
}

/// The largest below a maximum, -inf if there is none.
struct Below<'a, S> {
    z: &'a [S],
    max: f64,
}

impl<S: Storage> Kernel for Below<'_, S> {
    type Out = f64;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> f64 {
        let Below { z, max } = self;
        let (max, lowest) = (isa.f64(max), isa.f64(f64::NEG_INFINITY));
        let Some(first) = z.first() else { return f64::NEG_INFINITY };
        let second = fold(
            z,
            *first,
            lowest,
            #[inline(always)]
            |second, _, values| {
                let z = S::load_wide(isa, values);
                I::F64::select(z.lt(max), z, lowest).max(second)
            },
        );
        isa.array_f64(second).into_iter().fold(f64::NEG_INFINITY, f64::max)
    }
}

/// [`Live::log_sum`] as a function of its own, which three ops share.
struct LogSumOf<'a, 's, E> {
    live: &'a Live<'a>,
    x: &'a [E],
    buffers: &'s mut Buffers,
}

impl<E: Element> Kernel for LogSumOf<'_, '_, E> {
    type Out = f64;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> f64 {
        let LogSumOf { live, x, buffers } = self;
        let columns = &x[live.columns.clone()];
        let sum = match live.logits {
            Logits::Direct if !E::IS_F64 => Some(live.sum_f32(isa, columns, x.len())),
            Logits::F32(z) => Some(live.sum_f32(isa, z, x.len())),
            Logits::Direct | Logits::F64(_) => None,
        };
        match sum.and_then(|sum| log_of_units(isa, sum, x.len())) {
            Some(log) => log,
            None => {
                let exps = live.exps(isa, columns, x.len(), false, buffers);
                exps.sum_for_log(isa, x.len(), || live.finer(isa, columns)).log::<I, E>(isa, x.len())
            }
        }
    }
}

/// ln of a sum by rule Q; nothing where all but the largest term amount to so little that the integers leave few digits
/// of it.
#[inline(always)]
pub fn log_of_units<I: Isa>(isa: I, sum: u128, row_len: usize) -> Option<f64> {
    if is_peaked(sum, row_len) {
        return None;
    }
    let (high, low) = log_scalar(isa, units_to_f64(sum, row_len));
    Some(high + low)
}

/// Whether a sum by rule Q is barely above 1, or below.
#[inline(always)]
pub fn is_peaked(sum: u128, row_len: usize) -> bool {
    !leaves_digits(sum.saturating_sub(1 << sum_bits(row_len)), row_len)
}

/// Whether so many units of rule Q have digits enough: of fewer, what rounding each term took off shows.
#[inline(always)]
pub fn leaves_digits(units: u128, row_len: usize) -> bool {
    units >= u128::from((row_len as u64) << (sum_bits(row_len) - 21))
}

#[inline(always)]
fn exp_run<'d, I: Isa, S: Storage, D: Storage>(
    isa: I,
    exp: &SoftmaxExp<I>,
    next: Next<S, D>,
    run: Span<'d, S, D>,
) -> &'d mut [D] {
    if exp.is_narrow() {
        run.numbers(
            isa,
            #[inline(always)]
            |i, x| {
                next.source(i);
                exp.narrow(x)
            },
        )
    } else {
        run.numbers(
            isa,
            #[inline(always)]
            |_, x| exp.any(x),
        )
    }
}

/// [`Live::exps`] as a function of its own, which three ops share.
struct Exponentials<'a, 's, E> {
    live: &'a Live<'a>,
    x: &'a [E],
    row_len: usize,
    far: bool,
    buffers: &'s mut Buffers,
}

impl<'s, E: Element> Kernel for Exponentials<'_, 's, E> {
    type Out = Exps<'s>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Exps<'s> {
        self.live.exps_inline(isa, self.x, self.row_len, self.far, self.buffers)
    }
}

/// e^(z - max) in f64; the difference keeps its error.
#[inline(always)]
pub fn exp_f64<I: Isa, S: Storage>(isa: I, z: &[S], max: f64, values: &mut [f64]) {
    let max = isa.f64(max);
    let zero = isa.f64(0.0);
    Span::in_place(values).map_from_wide(
        isa,
        z,
        #[inline(always)]
        |_, z| {
            let difference = z - max;
            let part = difference - z;
            let error = (z - (difference - part)) - (max + part);
            // A difference beyond the range is moved into it, where its own error means nothing.
            let within = clamped::<I, f64>(isa, difference);
            let error = I::F64::select(within.eq(difference), error, zero);
            exp_parts(isa, within, error).round::<f64>(isa)
        },
    );
}

impl Exps<'_> {
    /// 1 / sum as two f64, the larger first.
    #[inline(always)]
    pub fn reciprocal_wide<I: Isa>(&self, isa: I) -> (f64, f64) {
        match self {
            Exps::F32 { sum, row_len, .. } => (1.0 / units_to_f64(*sum, *row_len), 0.0),
            Exps::F64 { values } => ExpSum::wide(isa, values).inverse::<f64>(values.len()),
        }
    }

    /// The one of this index, 0 behind the last.
    #[inline(always)]
    pub fn at(&self, index: usize) -> f64 {
        match self {
            Exps::F32 { values, .. } => values.get(index).map_or(0.0, |e| f64::from(*e)),
            Exps::F64 { values } => values.get(index).copied().unwrap_or(0.0),
        }
    }

    /// Their sum in a row of this length, of which the logarithm is taken. Where it is barely above 1, `finer` is that of the
    /// row.
    #[inline(always)]
    pub fn sum_for_log<I: Isa>(&self, isa: I, row_len: usize, finer: impl FnOnce() -> Finer) -> ExpSum {
        match self {
            &Exps::F32 { values, sum, .. } if is_peaked(sum, row_len) => {
                ExpSum::peaked(isa, sum, values, finer(), row_len)
            }
            Exps::F32 { sum, .. } => ExpSum::narrow(*sum),
            Exps::F64 { values } => ExpSum::wide_for_log(isa, values, row_len),
        }
    }
}
