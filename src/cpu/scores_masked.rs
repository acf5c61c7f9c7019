//! Rows of f32, f16 and bf16 with a scale, keep flags or a bias. The logits are not stored. A logit is the unevaluated
//! sum of two f32. It is computed once for the row's maximum, and again for the exponential.
//!
//! This path serves rows whose largest logit is below 256 in magnitude. For each logit within 128 of the largest, the
//! product of score and scale must be below 16,384. Other rows take the general path of [`super::scores`]. For a
//! sharded row, each shard reports its statistics ([`MaskedStats`]). The statistics of all shards decide the path of
//! the row.

use super::scores::{Extrema, LogitTransform};
use super::scratch::{Buffers, grown, scratch_slice};
use crate::element::Element;
use crate::math::fixed_point::KeptSum;
use crate::math::softmax_exp::{SMALL_MAXIMUM, SoftmaxExp};
use crate::math::wide::{fast_two_sum, two_sum};
use crate::simd::{BLOCK, Float, Isa, MaskBits, NotNan, PrefetchRow, PrefetchSpan, Select, Span, Storage, fold_with};
use std::ops::Range;

mod found;

pub use found::MaskedStats;
use found::Sums;

/// Range of scales for which logits are computed as float-float pairs. Within this range, the low part of score * scale
/// is a normal f32 number. The only exceptions are products so small that their low part does not change the result.
const SCALES: Range<f64> = 1e-15..1e15;
/// Limit for products of score and scale. A product has a relative error of 2^-46. Below the limit, this error does not
/// affect the exponential.
const LARGEST_PRODUCT: f32 = 16_384.0;
/// Limit for the difference of two logits' high parts. Below the limit, the low parts can decide which logit is larger.
/// Two low parts differ by less than the limit, because each is at most 2^-10 + 2^-11 + 2^-16 in magnitude if the
/// product of score and scale is below [`LARGEST_PRODUCT`].
const NEAR: f32 = 1.0 / 256.0;
/// Upper bound of `(logit - s) / |product|`. Here `product` is score * scale, and `s` is the rounded sum of product and
/// bias. The product is at least [`LARGEST_PRODUCT`] in magnitude. The roundings of scale and product contribute at
/// most 2^-23. A logit near the maximum is much smaller than the product, because the bias cancels most of the product.
/// So the rounding of the sum contributes at most 2^-24. The total is below 2^-22.
const LEFT_OUT: f32 = 1.0 / (1 << 22) as f32;
/// Number of elements that stay in the first-level cache until their exponentials are summed.
const RUN: usize = 4096;

/// Row whose logits are float-float pairs. It has at least one unmasked logit.
pub struct Masked<'a> {
    /// Columns that have logits; all others are masked.
    pub columns: Range<usize>,
    /// Scale, as a high and a low part.
    scale: (f32, f32),
    bias: Bias<'a>,
    /// Largest logit, as the sum of a high and a low part.
    max: (f32, f32),
    /// Whether the row belongs to data too large for the nearer caches, so that the next row's bias is prefetched.
    far: bool,
}

/// Values added to the scores of a row. A keep flag is stored as 0 if it is set, and as -inf otherwise. A flag of -inf
/// replaces the score, even if the score is NaN. A bias of -inf added to NaN gives NaN.
#[derive(Clone, Copy)]
enum Bias<'a> {
    None,
    Flags(&'a [f32]),
    /// Bias whose values are all 0 or -inf.
    Exact(&'a [f32]),
    Any(&'a [f32]),
    /// Bias and flags.
    Both(&'a [f32], &'a [f32]),
}

impl LogitTransform<'_> {
    /// Finds the row's maximum, or returns `None` if the row takes the general path. `columns` are the lane's bounds.
    /// `found` has the extremes of the scores in `columns` if the extremes are known.
    #[inline(always)]
    pub fn masked<'s, I: Isa, E: Element>(
        &'s self,
        isa: I,
        lane: usize,
        (x, columns, found): (&[E], Range<usize>, Option<Extrema>),
        far: bool,
        buffers: [&'s mut Buffers; 2],
    ) -> Option<Masked<'s>> {
        if !self.may_be_masked::<E>() {
            return None;
        }
        let bias = self.bias(isa, lane, (columns.start, columns.end), far, buffers)?;
        let x = &x[columns.clone()];
        let scale = self.scale_pair();
        let max = match bias {
            Bias::None if self.scale == 1.0 => None,
            Bias::None => {
                let max = match found {
                    Some(found) => (!found.nan).then_some(found.max as f32),
                    None => max_score::<I, E, false, 0>(isa, x, []),
                };
                product(max, scale)
            }
            Bias::Flags(flags) => product(max_score::<I, E, true, 1>(isa, x, [flags]), scale),
            Bias::Exact(bias) => product(max_score::<I, E, false, 1>(isa, x, [bias]), scale),
            Bias::Any(bias) => Sums::max(max_of_sums(isa, x, scale, [bias])),
            Bias::Both(bias, flags) => Sums::max(max_of_sums(isa, x, scale, [bias, flags])),
        }?;
        (max.0.abs() < SMALL_MAXIMUM).then_some(Masked { columns, scale, bias, max, far })
    }

    /// Returns the statistics of a row's shard, which begins at column `first`.
    #[inline(always)]
    pub fn find_masked<I: Isa, E: Element>(
        &self,
        isa: I,
        lane: usize,
        first: usize,
        x: &[E],
        buffers: [&mut Buffers; 2],
    ) -> MaskedStats {
        if !self.may_be_masked::<E>() {
            return MaskedStats::NOTHING;
        }
        let columns = self.bounds(lane, first..first + x.len());
        let Some(bias) = self.bias(isa, lane, (columns.start, columns.end), false, buffers) else {
            return MaskedStats { fits: false, ..MaskedStats::NOTHING };
        };
        let x = &x[columns.start - first..columns.end - first];
        let scale = self.scale_pair();
        let nothing = MaskedStats::NOTHING;
        match bias {
            Bias::None if self.scale == 1.0 => nothing,
            Bias::None => MaskedStats { score: max_score::<I, E, false, 0>(isa, x, []), ..nothing },
            Bias::Flags(flags) => MaskedStats { score: max_score::<I, E, true, 1>(isa, x, [flags]), ..nothing },
            Bias::Exact(bias) => {
                let score = max_score::<I, E, false, 1>(isa, x, [bias]);
                MaskedStats { score, sums: max_of_sums(isa, x, scale, [bias]), ..nothing }
            }
            Bias::Any(bias) => MaskedStats { exact: false, sums: max_of_sums(isa, x, scale, [bias]), ..nothing },
            Bias::Both(bias, flags) => MaskedStats { sums: max_of_sums(isa, x, scale, [bias, flags]), ..nothing },
        }
    }

    /// Returns a row's shard, which begins at column `first`; `found` holds the statistics of the complete row. Returns
    /// `None` if the row takes the general path.
    #[inline(always)]
    pub fn masked_part<'s, I: Isa, E: Element>(
        &'s self,
        isa: I,
        lane: usize,
        first: usize,
        x: &[E],
        found: &MaskedStats,
        buffers: [&'s mut Buffers; 2],
    ) -> Option<Masked<'s>> {
        if !(self.may_be_masked::<E>() && found.fits) {
            return None;
        }
        let scale = self.scale_pair();
        let columns = self.bounds(lane, first..first + x.len());
        let bias = match self.bias(isa, lane, (columns.start, columns.end), false, buffers)? {
            Bias::Exact(bias) if !found.exact => Bias::Any(bias),
            bias => bias,
        };
        let max = match bias {
            Bias::None if self.scale == 1.0 => None,
            Bias::None | Bias::Flags(_) | Bias::Exact(_) => product(found.score, scale),
            Bias::Any(_) | Bias::Both(..) => Sums::max(found.sums),
        }?;
        let columns = columns.start - first..columns.end - first;
        (max.0.abs() < SMALL_MAXIMUM).then_some(Masked { columns, scale, bias, max, far: false })
    }

    /// Returns whether rows of this type may avoid the general path.
    fn may_be_masked<E: Element>(&self) -> bool {
        !E::IS_F64 && self.softcap.is_none() && SCALES.contains(&self.scale)
    }

    fn scale_pair(&self) -> (f32, f32) {
        let high = self.scale as f32;
        (high, (self.scale - f64::from(high)) as f32)
    }

    /// Returns the bias and flags of some columns of a lane; `None` if f32 cannot represent the bias exactly.
    #[inline(always)]
    fn bias<'s, I: Isa>(
        &'s self,
        isa: I,
        lane: usize,
        (low, high): (usize, usize),
        far: bool,
        [buffers, beside]: [&'s mut Buffers; 2],
    ) -> Option<Bias<'s>> {
        let Some(mask) = &self.mask else { return Some(Bias::None) };
        let bias = match mask.bias_of_f32(lane, low, high) {
            None if mask.has_bias() => {
                Some(mask.narrow_bias_to(isa, lane, low, scratch_slice(&mut buffers.f32s, high - low))?)
            }
            bias => bias,
        };
        let flags = mask.keep(lane, low, high, grown(&mut buffers.flags, high - low)).map(
            #[inline(always)]
            |keep| flags(keep, far, scratch_slice(&mut beside.f32s, high - low)),
        );
        Some(match (bias, flags) {
            (None, None) => Bias::None,
            (None, Some(flags)) => Bias::Flags(flags),
            (Some(bias), None) if is_exact(isa, bias) => Bias::Exact(bias),
            (Some(bias), None) => Bias::Any(bias),
            (Some(bias), Some(flags)) => Bias::Both(bias, flags),
        })
    }
}

/// Writes 0 where a flag is set, and -inf elsewhere. Prefetches the flags of the next row if `far` is set.
#[inline(always)]
fn flags<'t>(keep: &[u8], far: bool, to: &'t mut [f32]) -> &'t [f32] {
    if far {
        let ahead = PrefetchRow::of(keep, 1);
        for line in 0..keep.len() / 64 {
            ahead.block(line * 64 / BLOCK);
        }
    }
    for (to, keep) in to.iter_mut().zip(keep) {
        *to = if *keep == 0 { f32::NEG_INFINITY } else { 0.0 };
    }
    to
}

/// Returns the logits, with -inf where the flag is not set.
#[inline(always)]
fn kept<I: Isa>(isa: I, z: I::F32, flags: &[f32; BLOCK]) -> I::F32 {
    let flags = isa.load_f32(flags);
    I::F32::select(flags.eq(isa.f32(0.0)), z, flags)
}

/// Returns whether all biases are 0 or infinite. A bias of +inf is detected later, because it makes the maximum +inf.
#[inline(always)]
fn is_exact<I: Isa>(isa: I, bias: &[f32]) -> bool {
    // Only 0 and the infinities equal twice their value.
    let (blocks, rest) = bias.as_chunks::<BLOCK>();
    for bias in blocks {
        let bias = isa.load_f32(bias);
        if (!(bias + bias).eq(bias)).any() {
            return false;
        }
    }
    rest.iter().all(|&bias| bias + bias == bias)
}

/// Returns the largest score that is not masked; `None` if there is a NaN.
#[inline(always)]
fn max_score<I: Isa, E: Element, const FLAGS: bool, const N: usize>(
    isa: I,
    x: &[E],
    beside: [&[f32]; N],
) -> Option<f32> {
    max(
        isa,
        x,
        beside,
        #[inline(always)]
        |x, beside| match beside.first() {
            Some(flags) if FLAGS => kept(isa, x, flags),
            Some(bias) => x + isa.load_f32(bias),
            None => x,
        },
    )
}

/// Returns the logit of the largest score, as a high and a low part.
#[inline(always)]
fn product(max: Option<f32>, scale: (f32, f32)) -> Option<(f32, f32)> {
    let max = max?;
    let product = max * scale.0;
    Some((product, max.mul_add(scale.1, max.mul_add(scale.0, -product))))
}

/// Returns the largest logit among those whose high part is within [`NEAR`] of the largest high part; `None` if there
/// is a NaN.
///
/// This is the largest logit of the row, except in rows where a logit near the maximum has a |score * scale| of at
/// least [`LARGEST_PRODUCT`]. Such rows take the general path. A bias of -inf masks a finite score even if score *
/// scale overflows. An infinite score with a bias of -inf gives NaN.
#[inline(always)]
fn max_of_sums<I: Isa, E: Element, const N: usize>(
    isa: I,
    x: &[E],
    scale: (f32, f32),
    beside: [&[f32]; N],
) -> Option<Sums> {
    let (scale_high, least) = (isa.f32(scale.0), isa.f32(f32::NEG_INFINITY));
    let high = max(
        isa,
        x,
        beside,
        #[inline(always)]
        |x, beside| sum(isa, bounded_product(isa, x, scale_high), beside),
    )?;
    if !high.is_finite() {
        return Some(Sums { high, ..Sums::NOTHING });
    }
    let (near, too_large, left_out) = (isa.f32(high - NEAR), isa.f32(LARGEST_PRODUCT), isa.f32(LEFT_OUT));
    let (large, (high, low)) = fold_with(
        x,
        E::NEG_INFINITY,
        beside,
        (least, (least, least)),
        #[inline(always)]
        |(large, max), _, x, beside| {
            let x = E::load(isa, x);
            let product = bounded_product(isa, x, scale_high);
            let z = sum(isa, product, beside);
            let size = product.abs();
            let large = I::F32::select(too_large.le(size), size.mul_add(left_out, z), least).max(large);
            let found = near.le(z);
            if !found.any() {
                return (large, max);
            }
            let (high, low) = logits::<I, false, N>(isa, x, scale, beside);
            let (high, low) = fast_two_sum(high, low);
            (large, larger::<I>(max, (I::F32::select(found, high, least), low)))
        },
    );
    let (of_row, lows) = (isa.max_f32(high), isa.array_f32(low));
    // Usually one SIMD lane holds the maximum, so the loop runs once.
    let (mut lanes, mut low) = (high.eq(isa.f32(of_row)).bits(), f32::NEG_INFINITY);
    while lanes != 0 {
        low = low.max(lows[lanes.trailing_zeros() as usize]);
        lanes &= lanes - 1;
    }
    let large = if least.lt(large).any() { isa.max_f32(large) } else { f32::NEG_INFINITY };
    Some(Sums { high: of_row, low, large })
}

/// Returns the larger of two sums. In each sum, the low part is below half an ULP of the high part. A NaN is never
/// chosen.
#[inline(always)]
fn larger<I: Isa>((high, low): (I::F32, I::F32), (other, other_low): (I::F32, I::F32)) -> (I::F32, I::F32) {
    let of_equals = I::F32::select(other.eq(high), other_low.max(low), low);
    (other.max(high), I::F32::select(high.lt(other), other_low, of_equals))
}

/// Returns the largest value of `f` over the blocks of a row; `None` if there is a NaN.
#[inline(always)]
fn max<I: Isa, E: Element, const N: usize>(
    isa: I,
    x: &[E],
    bias: [&[f32]; N],
    f: impl Fn(I::F32, [&[f32; BLOCK]; N]) -> I::F32,
) -> Option<f32> {
    let least = isa.f32(f32::NEG_INFINITY);
    let (max, nan) = fold_with(
        x,
        E::NEG_INFINITY,
        bias,
        ([least; 2], least.lt(least)),
        #[inline(always)]
        |(max, nan), _, x, bias| {
            let z = f(E::load(isa, x), bias);
            // Two maxima alternate, which hides the latency of a comparison.
            ([z.max(max[1]), max[0]], nan | z.is_nan())
        },
    );
    (!nan.any()).then(|| isa.max_f32(max[0].max(max[1])))
}

/// Returns the product of score and scale. If the score is below +inf, the product is limited to `f32::MAX`.
#[inline(always)]
fn bounded_product<I: Isa>(isa: I, x: I::F32, scale: I::F32) -> I::F32 {
    isa.f32(f32::MAX).max(x).min(x * scale)
}

/// Returns the rounded sum of a product and its bias, or -inf where flags mask it.
#[inline(always)]
fn sum<I: Isa, const N: usize>(isa: I, product: I::F32, beside: [&[f32; BLOCK]; N]) -> I::F32 {
    let sum = product + isa.load_f32(beside[0]);
    match beside.get(1) {
        Some(flags) => kept(isa, sum, flags),
        None => sum,
    }
}

/// Returns a block of logits, each as a high and a low part. The low part is meaningless where the high part is not
/// finite. Both parts are meaningless where flags mask a NaN.
#[inline(always)]
fn logits<I: Isa, const EXACT: bool, const N: usize>(
    isa: I,
    x: I::F32,
    scale: (f32, f32),
    beside: [&[f32; BLOCK]; N],
) -> (I::F32, I::F32) {
    let x = if EXACT && N > 0 { x + isa.load_f32(beside[0]) } else { x };
    let (scale, scale_low) = (isa.f32(scale.0), isa.f32(scale.1));
    let product = x * scale;
    let rest = x.mul_add(scale_low, x.mul_add(scale, isa.f32(0.0) - product));
    if EXACT || N == 0 {
        return (product, rest);
    }
    let (high, error) = two_sum(product, isa.load_f32(beside[0]));
    (if N > 1 { high + isa.load_f32(beside[1]) } else { high }, rest + error)
}

impl Masked<'_> {
    /// Computes the exponentials of the columns that have logits, and writes them to the span's destination. Returns
    /// the exponentials with their fixed-point sum. Prefetches the next row if the span's `far` flag is set.
    #[inline(always)]
    pub fn exps_to<'d, I: Isa, S: Storage, D: Storage>(
        &self,
        isa: I,
        span: Span<'_, 'd, S, D>,
        row_len: usize,
    ) -> (&'d mut [D], u128) {
        let exp = SoftmaxExp::of_pairs(isa, self.max);
        let next = span.next(1);
        let mut sum = KeptSum::new(row_len);
        let values = span.in_runs(
            RUN,
            #[inline(always)]
            |start, run| {
                let next = next.from(start);
                let columns = start..start + run.len();
                let values = match self.bias {
                    Bias::None => self.exps::<I, S, D, true, 0>(isa, &exp, run, next, []),
                    Bias::Flags(bias) | Bias::Exact(bias) => {
                        self.exps::<I, S, D, true, 1>(isa, &exp, run, next, [&bias[columns]])
                    }
                    Bias::Any(bias) => self.exps::<I, S, D, false, 1>(isa, &exp, run, next, [&bias[columns]]),
                    Bias::Both(bias, flags) => {
                        let beside = [&bias[columns.clone()], &flags[columns]];
                        self.exps::<I, S, D, false, 2>(isa, &exp, run, next, beside)
                    }
                };
                sum.add(isa, values);
                values
            },
        );
        let sum = sum.units(isa, &*values);
        (values, sum)
    }

    /// Writes the exponentials of a run of columns; `beside` holds the biases and flags of the run.
    #[inline(always)]
    fn exps<'d, I: Isa, S: Storage, D: Storage, const EXACT: bool, const N: usize>(
        &self,
        isa: I,
        exp: &SoftmaxExp<I>,
        run: Span<'_, 'd, S, D>,
        next: PrefetchSpan<S, D>,
        beside: [&[f32]; N],
    ) -> &'d mut [D] {
        // If the next row's bias need not be prefetched, the current block is prefetched, which has no effect. With a
        // branch instead, the loop would be compiled twice.
        let ahead = if self.far { self.columns.len() } else { 0 };
        run.map_with(
            isa,
            beside,
            #[inline(always)]
            |i, x: I::F32, beside| {
                next.source(i);
                for values in beside {
                    PrefetchRow::of(values, 0).from(ahead).block(0);
                }
                let (high, low) = logits::<I, EXACT, N>(isa, x, self.scale, beside);
                NotNan(exp.pair(high, low))
            },
        )
    }
}
