//! Rows of f32, f16 and bf16 with a scale, keep flags or a bias whose logits are nowhere kept: a logit is an
//! unevaluated sum of two f32, made once for the maximum and again for its exponential.
//!
//! That serves rows whose largest logit is below 256 in magnitude, of terms that are not much larger; the others take
//! the way that [`super::scores`] has for all.

use super::scores::Scores;
use super::scratch::{Buffers, room};
use crate::element::{DType, Element};
use crate::math::softmax_exp::{SMALL_MAXIMUM, SoftmaxExp};
use crate::math::sum::sum_q;
use crate::simd::{Ahead, Float, Isa, Kernel, LANES, MaskBits, Select, Span, Storage, block, fold_with};
use std::ops::Range;

/// Scales that leave the low part of a product within f32 wherever it counts.
const SCALES: Range<f64> = 1e-15..1e15;
/// Up to here a product's error, 2^-46 of it, does not show in its exponential.
const LARGEST_PRODUCT: f32 = 16_384.0;
/// Terms this far below the maximum are 0.
const IRRELEVANT: f32 = 128.0;
/// As many elements as stay in the first-level cache until their exponentials are summed.
const RUN: usize = 4096;

/// A row with something to attend to.
pub struct Masked<'a> {
    /// The columns that have logits; the others are masked.
    pub columns: Range<usize>,
    /// In two parts.
    scale: (f32, f32),
    bias: Bias<'a>,
    /// In two parts.
    max: (f32, f32),
}

/// What is added to a row's scores.
#[derive(Clone, Copy)]
enum Bias<'a> {
    None,
    /// 0 or -inf.
    Exact(&'a [f32]),
    Any(&'a [f32]),
}

impl Scores<'_> {
    /// Finds the row's maximum; nothing if it is not to be read this way.
    #[inline(always)]
    pub fn masked<'s, I: Isa, E: Element>(
        &'s self,
        isa: I,
        lane: usize,
        x: &[E],
        far: bool,
        buffers: &'s mut Buffers,
    ) -> Option<Masked<'s>> {
        if E::DTYPE == DType::F64 || self.softcap.is_some() || !SCALES.contains(&self.scale) {
            return None;
        }
        isa.outline(Read { scores: self, lane, x, far, buffers })
    }

    /// The bias of some columns of a lane, -inf where flags mask; nothing if it is not to be read in f32.
    #[inline(always)]
    fn bias<'s, I: Isa>(
        &'s self,
        isa: I,
        lane: usize,
        (low, high): (usize, usize),
        far: bool,
        buffers: &'s mut Buffers,
    ) -> Option<Bias<'s>> {
        let Some(mask) = &self.mask else { return Some(Bias::None) };
        let Buffers { f32s, flags, .. } = buffers;
        let keep = mask.keep(lane, low, high, flags);
        let bias = if mask.has_bias() { Some(mask.narrow_bias(lane, low, high)?) } else { None };
        let to = room(f32s, high - low);
        let bias = match (bias, keep) {
            (None, None) => return Some(Bias::None),
            (Some((bias, range)), None) => bias.narrow(isa, range, to),
            (None, Some(keep)) => {
                mask_where_not(keep, far, to);
                to
            }
            (Some((bias, range)), Some(keep)) => Span::in_place(to).map(
                isa,
                #[inline(always)]
                |i, _| {
                    let bias = bias.narrow_block(isa, range.clone(), i);
                    I::F32::select(isa.load_flags(&block(keep, i, 0)), bias, isa.f32(f32::NEG_INFINITY))
                },
            ),
        };
        Some(if is_exact(isa, bias) { Bias::Exact(bias) } else { Bias::Any(bias) })
    }
}

struct Read<'a, 's, E> {
    scores: &'s Scores<'s>,
    lane: usize,
    x: &'a [E],
    far: bool,
    buffers: &'s mut Buffers,
}

impl<'s, E: Element> Kernel for Read<'_, 's, E> {
    type Out = Option<Masked<'s>>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Out {
        let Read { scores, lane, x, far, buffers } = self;
        let columns = scores.mask.as_ref().map_or((0, x.len()), |mask| mask.bounds(lane));
        let bias = scores.bias(isa, lane, columns, far, buffers)?;
        let x = &x[columns.0..columns.1];
        let high = scores.scale as f32;
        let scale = (high, (scores.scale - f64::from(high)) as f32);
        let max = match bias {
            Bias::None if scores.scale == 1.0 => None,
            Bias::None => max_of_products(isa, x, scale, []),
            Bias::Exact(bias) => max_of_products(isa, x, scale, [bias]),
            Bias::Any(bias) => max_of_sums(isa, x, scale, bias),
        }?;
        (max.0.abs() < SMALL_MAXIMUM).then_some(Masked { columns: columns.0..columns.1, scale, bias, max })
    }
}

/// 0 where a flag is set, -inf elsewhere. The next row's flags are asked for if they are far.
#[inline(always)]
fn mask_where_not(keep: &[u8], far: bool, to: &mut [f32]) {
    if far {
        let ahead = Ahead::of(keep, 1);
        for line in 0..keep.len() / 64 {
            ahead.block(line * 64 / LANES);
        }
    }
    for (to, keep) in to.iter_mut().zip(keep) {
        *to = if *keep == 0 { f32::NEG_INFINITY } else { 0.0 };
    }
}

/// Whether all are 0 or -inf.
#[inline(always)]
fn is_exact<I: Isa>(isa: I, bias: &[f32]) -> bool {
    // Of 0 and the infinities alone twice the number is the number; +inf shows as the maximum.
    let (blocks, rest) = bias.as_chunks::<LANES>();
    blocks.iter().all(
        #[inline(always)]
        |bias| {
            let bias = isa.load_f32(bias);
            !(!(bias + bias).eq(bias)).any()
        },
    ) && rest.iter().all(|&bias| bias + bias == bias)
}

/// The largest logit, at the largest score that is not masked; nothing if there is a NaN.
#[inline(always)]
fn max_of_products<I: Isa, E: Element, const N: usize>(
    isa: I,
    x: &[E],
    scale: (f32, f32),
    bias: [&[f32]; N],
) -> Option<(f32, f32)> {
    let max = max(
        isa,
        x,
        bias,
        #[inline(always)]
        |x, bias| bias.into_iter().fold(x, |x, bias| x + isa.load_f32(bias)),
    )?;
    let product = max * scale.0;
    Some((product, max.mul_add(scale.1, max.mul_add(scale.0, -product))))
}

/// The largest logit; nothing if there is a NaN, or the sum of large terms is small.
#[inline(always)]
fn max_of_sums<I: Isa, E: Element>(isa: I, x: &[E], scale: (f32, f32), bias: &[f32]) -> Option<(f32, f32)> {
    let (product, least) = (isa.f32(scale.0), isa.f32(f32::NEG_INFINITY));
    let high = max(
        isa,
        x,
        [bias],
        #[inline(always)]
        |x, [bias]| x * product + isa.load_f32(bias),
    )?;
    let (wanted, relevant) = (isa.f32(high), isa.f32(high - IRRELEVANT));
    let (large, low) = fold_with(
        x,
        E::NEG_INFINITY,
        [bias],
        (isa.f32(0.0), least),
        #[inline(always)]
        |(large, low), x, bias| {
            let x = E::load(isa, x);
            let z = x * product + isa.load_f32(bias[0]);
            let term = I::F32::select(relevant.lt(z), (x * product).abs(), isa.f32(0.0));
            let found = z.eq(wanted);
            if !found.any() {
                return (term.max(large), low);
            }
            let rest = logits::<I, false, 1>(isa, x, scale, bias).1;
            (term.max(large), I::F32::select(found, rest, least).max(low))
        },
    );
    (largest(isa, large) < LARGEST_PRODUCT).then(|| (high, largest(isa, low)))
}

/// The largest of what `f` makes of the blocks of a row; nothing if there is a NaN.
#[inline(always)]
fn max<I: Isa, E: Element, const N: usize>(
    isa: I,
    x: &[E],
    bias: [&[f32]; N],
    f: impl Fn(I::F32, [&[f32; LANES]; N]) -> I::F32,
) -> Option<f32> {
    let least = isa.f32(f32::NEG_INFINITY);
    let (max, nan) = fold_with(
        x,
        E::NEG_INFINITY,
        bias,
        ([least; 2], least.lt(least)),
        #[inline(always)]
        |(max, nan), x, bias| {
            let z = f(E::load(isa, x), bias);
            // In turns, so that the latency of a comparison does not decide the speed.
            ([z.max(max[1]), max[0]], nan | z.is_nan())
        },
    );
    (!nan.any()).then(|| largest(isa, max[0].max(max[1])))
}

#[inline(always)]
fn largest<I: Isa>(isa: I, values: I::F32) -> f32 {
    isa.array_f32(values).into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// A block of logits; the low part means nothing where the high one is not finite.
#[inline(always)]
fn logits<I: Isa, const EXACT: bool, const N: usize>(
    isa: I,
    x: I::F32,
    scale: (f32, f32),
    bias: [&[f32; LANES]; N],
) -> (I::F32, I::F32) {
    let scale = (isa.f32(scale.0), isa.f32(scale.1));
    let mut high = x * scale.0;
    let mut low = x.mul_add(scale.1, x.mul_add(scale.0, isa.f32(0.0) - high));
    for bias in bias {
        let (product, bias) = (high, isa.load_f32(bias));
        high = product + bias;
        if !EXACT {
            let part = high - product;
            low = low + ((product - (high - part)) + (bias - part));
        }
    }
    (high, low)
}

impl Masked<'_> {
    /// The exponentials of a row's columns that have logits, where its result will be or in a buffer; and their sum by
    /// rule Q. The next row is asked for, if that is far.
    #[inline(always)]
    pub fn exps_to<'d, I: Isa, S: Storage, D: Storage>(
        &self,
        isa: I,
        span: Span<'d, S, D>,
        row_len: usize,
    ) -> (&'d mut [D], u64) {
        match self.bias {
            Bias::None => self.exps::<I, S, D, true, 0>(isa, span, row_len, []),
            Bias::Exact(bias) => self.exps::<I, S, D, true, 1>(isa, span, row_len, [bias]),
            Bias::Any(bias) => self.exps::<I, S, D, false, 1>(isa, span, row_len, [bias]),
        }
    }

    #[inline(always)]
    fn exps<'d, I: Isa, S: Storage, D: Storage, const EXACT: bool, const N: usize>(
        &self,
        isa: I,
        span: Span<'d, S, D>,
        row_len: usize,
        bias: [&[f32]; N],
    ) -> (&'d mut [D], u64) {
        let exp = SoftmaxExp::of_pairs(isa, self.max);
        let (next, far) = (span.next(1), span.is_far());
        let mut sum = 0u64;
        let values = span.in_runs(
            RUN,
            #[inline(always)]
            |first, run| {
                let start = first * LANES;
                let bias = bias.map(|bias| &bias[start..start + run.len()]);
                let next = next.from(start);
                let values = run.numbers_with(
                    isa,
                    bias,
                    #[inline(always)]
                    |i, x, bias| {
                        next.source(i);
                        if far {
                            for bias in bias {
                                Ahead::of(bias, 0).from(self.columns.len()).block(0);
                            }
                        }
                        let (high, low) = logits::<I, EXACT, N>(isa, x, self.scale, bias);
                        exp.pair(high, low)
                    },
                );
                sum = sum.wrapping_add(sum_q(isa, values, row_len));
                values
            },
        );
        (values, sum)
    }
}
