//! Rows of f32, f16 and bf16 with a scale, keep flags or a bias. The logits are not stored. A logit is the unevaluated
//! sum of two f32. It is computed once for the row's maximum, and again for the exponential.
//!
//! This path serves rows whose largest logit is below 256 in magnitude. For each logit within 128 of the largest, the
//! product of score and scale must be below 16,384. Other rows take the general path of [`super::scores`]. For a
//! sharded row, each shard reports its statistics ([`MaskedStats`]). The statistics of all shards decide the path of
//! the row.

use super::scores::{Extrema, LogitTransform, prefetch_flags};
use super::scratch::{Buffers, grown, scratch_slice};
use crate::element::Element;
use crate::math::fixed_point::KeptSum;
use crate::math::softmax_exp::{SMALL_MAXIMUM, SoftmaxExp};
use crate::math::wide::{fast_two_sum, two_sum};
use crate::simd::{
    BLOCK, Float, Isa, MaskBits, NotNan, PrefetchRow, PrefetchSpan, Select, Span, Storage, fold_with, load_flags,
};
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
/// Upper bound of `|logit - s| / |product|` for products of at least [`LARGEST_PRODUCT`] in magnitude. `logit` is the
/// exact value of score * scale + bias, `product` is the rounded score * scale, and `s` is the rounded sum of `product`
/// and bias. The roundings of scale and product contribute at most 2^-23. Near the maximum, the bias cancels most of
/// the product, so `s` is smaller than the product, and its rounding contributes at most 2^-24. The total is below
/// 2^-22.
const LEFT_OUT: f32 = 1.0 / (1 << 22) as f32;
/// Number of elements that stay in the first-level cache until their exponentials are summed.
const RUN: usize = 4096;

/// Row whose logits are float-float pairs. It has at least one unmasked logit.
pub struct Masked<'a> {
    /// Columns that have logits; all others are masked.
    pub columns: Range<usize>,
    /// Scale, as a high and a low part.
    scale: (f32, f32),
    /// Scores with -inf where a keep flag is not set; `None` if the scores themselves have these values.
    kept: Option<&'a [f32]>,
    bias: Bias<'a>,
    /// Largest logit, as the sum of a high and a low part.
    max: (f32, f32),
    /// Whether the row belongs to data too large for the nearer caches, so that the next row's bias is prefetched.
    far: bool,
}

/// Values added to the scores of a row. Where a keep flag is not set, the value is -inf.
#[derive(Clone, Copy)]
enum Bias<'a> {
    None,
    /// Bias whose values are all 0 or -inf, without keep flags.
    Exact(&'a [f32]),
    Any(&'a [f32]),
}

/// Scores with -inf where a keep flag is not set. A flag that is not set replaces even a NaN.
#[derive(Clone, Copy)]
struct Kept<'a> {
    scores: &'a [f32],
    /// Largest score; `None` if there is a NaN.
    max: Option<f32>,
}

impl LogitTransform<'_> {
    /// Finds the row's maximum, or returns `None` if the row takes the general path. `x` and `found` are the results of
    /// [`Self::widened`], and `columns` are the lane's bounds. `rounded` is a buffer.
    #[inline(always)]
    pub fn masked<'s, I: Isa, E: Element>(
        &'s self,
        isa: I,
        lane: usize,
        (x, columns, found): (&[E], Range<usize>, Option<Extrema>),
        far: bool,
        (buffers, rounded): ([&'s mut Buffers; 2], &mut Vec<f32>),
    ) -> Option<Masked<'s>> {
        if !self.may_be_masked::<E>() {
            return None;
        }
        let x = &E::as_f32s(x)?[columns.clone()];
        // If the extremes are known, the scores already are -inf where a keep flag is not set.
        let is_kept = found.is_some();
        let (kept, bias) = self.operands(isa, lane, (x, is_kept), (columns.start, columns.end), far, buffers)?;
        let scale = self.scale_pair();
        let of = kept.map_or(x, |kept| kept.scores);
        let max = match (bias, kept, found) {
            (Bias::None, Some(kept), _) => product(kept.max, scale),
            (Bias::None, None, _) if self.scale == 1.0 && !self.has_flags() => None,
            (Bias::None, None, Some(found)) => product((!found.nan).then_some(found.max as f32), scale),
            (Bias::None, None, None) => product(max_score(isa, x, []), scale),
            (Bias::Exact(bias), ..) => product(max_score(isa, of, [bias]), scale),
            (Bias::Any(bias), ..) => Sums::max(max_of_sums(isa, of, scale, bias, rounded)),
        }?;
        let kept = kept.map(|kept| kept.scores);
        // With keep flags, the bias is a copy.
        let far = far && !self.has_flags();
        (max.0.abs() < SMALL_MAXIMUM).then_some(Masked { columns, scale, kept, bias, max, far })
    }

    /// Returns the statistics of a row's shard, which begins at column `first`. `rounded` is a buffer.
    #[inline(always)]
    pub fn find_masked<I: Isa, E: Element>(
        &self,
        isa: I,
        lane: usize,
        first: usize,
        x: &[E],
        (buffers, rounded): ([&mut Buffers; 2], &mut Vec<f32>),
    ) -> MaskedStats {
        let nothing = MaskedStats::NOTHING;
        let (true, Some(x)) = (self.may_be_masked::<E>(), E::as_f32s(x)) else { return nothing };
        let columns = self.bounds(lane, first..first + x.len());
        let x = &x[columns.start - first..columns.end - first];
        let Some((kept, bias)) = self.operands(isa, lane, (x, false), (columns.start, columns.end), false, buffers)
        else {
            return MaskedStats { fits: false, ..nothing };
        };
        let scale = self.scale_pair();
        let of = kept.map_or(x, |kept| kept.scores);
        match (bias, kept) {
            (Bias::None, None) if self.scale == 1.0 => nothing,
            (Bias::None, None) => MaskedStats { score: max_score(isa, x, []), ..nothing },
            (Bias::None, Some(kept)) => MaskedStats { score: kept.max, ..nothing },
            (Bias::Exact(bias), _) => {
                let score = max_score(isa, of, [bias]);
                MaskedStats { score, sums: max_of_sums(isa, of, scale, bias, rounded), ..nothing }
            }
            (Bias::Any(bias), _) => {
                MaskedStats { exact: false, sums: max_of_sums(isa, of, scale, bias, rounded), ..nothing }
            }
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
        let within = columns.start - first..columns.end - first;
        let x = &E::as_f32s(x)?[within.clone()];
        let (kept, bias) = self.operands(isa, lane, (x, false), (columns.start, columns.end), false, buffers)?;
        let bias = match bias {
            Bias::Exact(bias) if !found.exact => Bias::Any(bias),
            bias => bias,
        };
        let max = match bias {
            Bias::None if kept.is_none() && self.scale == 1.0 => None,
            Bias::None | Bias::Exact(_) => product(found.score, scale),
            Bias::Any(_) => Sums::max(found.sums),
        }?;
        let kept = kept.map(|kept| kept.scores);
        (max.0.abs() < SMALL_MAXIMUM).then_some(Masked { columns: within, scale, kept, bias, max, far: false })
    }

    /// Returns whether rows of this type may avoid the general path.
    fn may_be_masked<E: Element>(&self) -> bool {
        !E::IS_F64 && self.softcap.is_none() && SCALES.contains(&self.scale)
    }

    fn scale_pair(&self) -> (f32, f32) {
        let high = self.scale as f32;
        (high, (self.scale - f64::from(high)) as f32)
    }

    /// Returns the kept scores and the bias of some columns of a lane. `x` holds the scores of these columns. If
    /// `is_kept` is set, `x` is already -inf where a keep flag is not set. In this case, and without keep flags, there
    /// are no kept scores. Returns `None` if f32 cannot represent the bias exactly.
    #[inline(always)]
    fn operands<'s, I: Isa>(
        &'s self,
        isa: I,
        lane: usize,
        (x, is_kept): (&[f32], bool),
        (low, high): (usize, usize),
        far: bool,
        [buffers, beside]: [&'s mut Buffers; 2],
    ) -> Option<(Option<Kept<'s>>, Bias<'s>)> {
        let Some(mask) = &self.mask else { return Some((None, Bias::None)) };
        if is_kept && !mask.has_bias() {
            return Some((None, Bias::None));
        }
        let keep = mask.keep(lane, low, high, grown(&mut buffers.flags, high - low));
        let kept = keep.filter(|_| !is_kept).map(
            #[inline(always)]
            |keep| keep_scores(isa, x, keep, far, scratch_slice(&mut beside.f32s, high - low)),
        );
        if !mask.has_bias() {
            return Some((kept, Bias::None));
        }
        let bias = match (keep, mask.bias_of_f32(lane, low, high)) {
            (None, Some(bias)) => bias,
            (keep, _) => {
                let to = scratch_slice(&mut buffers.f32s, high - low);
                mask.narrow_bias_to(isa, lane, low, &mut *to)?;
                for (bias, keep) in to.iter_mut().zip(keep.unwrap_or(&[])) {
                    *bias = if *keep == 0 { f32::NEG_INFINITY } else { *bias };
                }
                to
            }
        };
        Some((kept, if keep.is_none() && is_exact(isa, bias) { Bias::Exact(bias) } else { Bias::Any(bias) }))
    }
}

/// Writes the scores, with -inf where a flag is not set. Prefetches the flags of the next row if `far` is set.
#[inline(always)]
fn keep_scores<'t, I: Isa>(isa: I, x: &[f32], keep: &[u8], far: bool, to: &'t mut [f32]) -> Kept<'t> {
    prefetch_flags(keep, far);
    let least = isa.f32(f32::NEG_INFINITY);
    let mut max = Maximum::new(isa);
    let scores = Span::in_place(to).reading(x).map(
        isa,
        #[inline(always)]
        |i, x: I::F32| {
            let x = I::F32::select(load_flags(isa, keep, i), x, least);
            max.update(x);
            NotNan(x)
        },
    );
    Kept { scores, max: max.found(isa) }
}

/// Running maximum over blocks. Two chains alternate, which hides the latency of a comparison.
struct Maximum<I: Isa> {
    max: [I::F32; 2],
    nan: I::M32,
}

impl<I: Isa> Maximum<I> {
    #[inline(always)]
    fn new(isa: I) -> Self {
        let least = isa.f32(f32::NEG_INFINITY);
        Maximum { max: [least; 2], nan: least.lt(least) }
    }

    #[inline(always)]
    fn update(&mut self, z: I::F32) {
        self.max = [z.max(self.max[1]), self.max[0]];
        self.nan = self.nan | z.is_nan();
    }

    /// Returns the maximum; `None` if there is a NaN.
    #[inline(always)]
    fn found(self, isa: I) -> Option<f32> {
        (!self.nan.any()).then(|| isa.max_f32(self.max[0].max(self.max[1])))
    }
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

/// Returns the largest sum of score and bias; `None` if there is a NaN.
#[inline(always)]
fn max_score<I: Isa, const N: usize>(isa: I, x: &[f32], bias: [&[f32]; N]) -> Option<f32> {
    fold_with(
        x,
        f32::NEG_INFINITY,
        bias,
        Maximum::new(isa),
        #[inline(always)]
        |mut max, _, x, bias| {
            let x = isa.load_f32(x);
            max.update(bias.first().map_or(
                x,
                #[inline(always)]
                |bias| x + isa.load_f32(bias),
            ));
            max
        },
    )
    .found(isa)
}

/// Returns the logit of the largest score, as a high and a low part.
#[inline(always)]
fn product(max: Option<f32>, scale: (f32, f32)) -> Option<(f32, f32)> {
    let max = max?;
    let product = max * scale.0;
    Some((product, max.mul_add(scale.1, max.mul_add(scale.0, -product))))
}

/// Returns the largest logit among those whose high part is within [`NEAR`] of the largest high part; `None` if there
/// is a NaN. `rounded` is a buffer for the rounded logits.
///
/// This is the largest logit of the row, except in rows where a logit near the maximum has a |score * scale| of at
/// least [`LARGEST_PRODUCT`]. Such rows take the general path. A bias of -inf masks a finite score even if score *
/// scale overflows. An infinite score with a bias of -inf gives NaN.
#[inline(always)]
fn max_of_sums<I: Isa>(isa: I, x: &[f32], scale: (f32, f32), bias: &[f32], rounded: &mut Vec<f32>) -> Option<Sums> {
    let (scale_high, least, zero) = (isa.f32(scale.0), isa.f32(f32::NEG_INFINITY), isa.f32(0.0));
    let (mut max, mut size) = (Maximum::new(isa), zero);
    let rounded = Span::in_place(scratch_slice(rounded, x.len())).reading(x).map_with(
        isa,
        [bias],
        #[inline(always)]
        |_, x: I::F32, [bias]| {
            let product = bounded_product(isa, x, scale_high);
            // The product of an infinity and 0 is NaN, which the maximum ignores.
            size = product.mul_add(zero, product.abs()).max(size);
            let z = product + isa.load_f32(bias);
            max.update(z);
            NotNan(z)
        },
    );
    let high = max.found(isa)?;
    if !high.is_finite() {
        return Some(Sums { high, ..Sums::NOTHING });
    }
    let near = isa.f32(high - NEAR);
    let (high, low) = fold_with(
        x,
        f32::NEG_INFINITY,
        [bias, &*rounded],
        (least, least),
        #[inline(always)]
        |max, _, x, [bias, z]| {
            let found = near.le(isa.load_f32(z));
            if !found.any() {
                return max;
            }
            let (high, low) = logits::<I, false, 1>(isa, isa.load_f32(x), scale, [bias]);
            let (high, low) = fast_two_sum(high, low);
            larger::<I>(max, (I::F32::select(found, high, least), low))
        },
    );
    let too_large = isa.f32(LARGEST_PRODUCT);
    let large = if too_large.le(size).any() { large_logit(isa, x, scale_high, bias) } else { f32::NEG_INFINITY };
    let (of_row, lows) = (isa.max_f32(high), isa.array_f32(low));
    // Usually one SIMD lane holds the maximum, so the loop runs once.
    let (mut lanes, mut low) = (high.eq(isa.f32(of_row)).bits(), f32::NEG_INFINITY);
    while lanes != 0 {
        low = low.max(lows[lanes.trailing_zeros() as usize]);
        lanes &= lanes - 1;
    }
    Some(Sums { high: of_row, low, large })
}

/// Returns an upper bound of the logits whose |score * scale| is at least [`LARGEST_PRODUCT`]; -inf if there is none.
#[inline(always)]
fn large_logit<I: Isa>(isa: I, x: &[f32], scale: I::F32, bias: &[f32]) -> f32 {
    let (least, too_large, left_out) = (isa.f32(f32::NEG_INFINITY), isa.f32(LARGEST_PRODUCT), isa.f32(LEFT_OUT));
    let large = fold_with(
        x,
        f32::NEG_INFINITY,
        [bias],
        least,
        #[inline(always)]
        |large, _, x, [bias]| {
            let product = bounded_product(isa, isa.load_f32(x), scale);
            let (size, z) = (product.abs(), product + isa.load_f32(bias));
            I::F32::select(too_large.le(size), size.mul_add(left_out, z), least).max(large)
        },
    );
    isa.max_f32(large)
}

/// Returns the larger of two sums. In each sum, the low part is below half an ULP of the high part. A NaN is never
/// chosen.
#[inline(always)]
fn larger<I: Isa>((high, low): (I::F32, I::F32), (other, other_low): (I::F32, I::F32)) -> (I::F32, I::F32) {
    let of_equals = I::F32::select(other.eq(high), other_low.max(low), low);
    (other.max(high), I::F32::select(high.lt(other), other_low, of_equals))
}

/// Returns the product of score and scale. If the score is below +inf, the product is limited to `f32::MAX`.
#[inline(always)]
fn bounded_product<I: Isa>(isa: I, x: I::F32, scale: I::F32) -> I::F32 {
    isa.f32(f32::MAX).max(x).min(x * scale)
}

/// Returns a block of logits, each as a high and a low part. The low part is meaningless where the high part is not
/// finite.
#[inline(always)]
fn logits<I: Isa, const EXACT: bool, const N: usize>(
    isa: I,
    x: I::F32,
    scale: (f32, f32),
    bias: [&[f32; BLOCK]; N],
) -> (I::F32, I::F32) {
    let x = if EXACT && N > 0 { x + isa.load_f32(bias[0]) } else { x };
    let (scale, scale_low) = (isa.f32(scale.0), isa.f32(scale.1));
    let product = x * scale;
    let rest = x.mul_add(scale_low, x.mul_add(scale, isa.f32(0.0) - product));
    if EXACT || N == 0 {
        return (product, rest);
    }
    let (high, error) = two_sum(product, isa.load_f32(bias[0]));
    (high, rest + error)
}

impl Masked<'_> {
    /// Computes the exponentials of the columns that have logits, and writes them to the span's destination. Returns
    /// the exponentials with their fixed-point sum. Prefetches the next row if the span's `far` flag is set.
    #[inline(always)]
    pub fn exps_to<'d, I: Isa, D: Storage>(
        &self,
        isa: I,
        span: Span<'_, 'd, f32, D>,
        row_len: usize,
    ) -> (&'d mut [D], u128) {
        let exp = SoftmaxExp::of_pairs(isa, self.max);
        let next = span.next(1);
        let span = match self.kept {
            Some(scores) => span.reading(scores),
            None => span,
        };
        let mut sum = KeptSum::new(row_len);
        let values = span.in_runs(
            RUN,
            #[inline(always)]
            |start, run| {
                let next = next.from(start);
                let columns = start..start + run.len();
                let values = match self.bias {
                    Bias::None => self.exps::<I, D, true, 0>(isa, &exp, run, next, []),
                    Bias::Exact(bias) => self.exps::<I, D, true, 1>(isa, &exp, run, next, [&bias[columns]]),
                    Bias::Any(bias) => self.exps::<I, D, false, 1>(isa, &exp, run, next, [&bias[columns]]),
                };
                sum.add(isa, values);
                values
            },
        );
        let sum = sum.units(isa, &*values);
        (values, sum)
    }

    /// Writes the exponentials of a run of columns; `bias` holds the biases of the run.
    #[inline(always)]
    fn exps<'d, I: Isa, D: Storage, const EXACT: bool, const N: usize>(
        &self,
        isa: I,
        exp: &SoftmaxExp<I>,
        run: Span<'_, 'd, f32, D>,
        next: PrefetchSpan<f32, D>,
        bias: [&[f32]; N],
    ) -> &'d mut [D] {
        // If the next row's bias need not be prefetched, the current block is prefetched, which has no effect. With a
        // branch instead, the loop would be compiled twice.
        let ahead = if self.far { self.columns.len() } else { 0 };
        run.map_with(
            isa,
            bias,
            #[inline(always)]
            |i, x: I::F32, bias| {
                next.source(i);
                for values in bias {
                    PrefetchRow::of(values, 0).from(ahead).block(0);
                }
                let (high, low) = logits::<I, EXACT, N>(isa, x, self.scale, bias);
                NotNan(exp.pair(high, low))
            },
        )
    }
}
