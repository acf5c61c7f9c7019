//! Logit pipeline shared by the softmax family: scale, softcap, bias and mask, and the class of each row.
//!
//! The logit z of a score x is computed in f64: x is scaled, then capped, then biased. Scores of -inf, and scores that
//! the mask excludes, always have the logit -inf. The exponential is then computed in one of three ways:
//!
//! - f32, f16 and bf16 rows whose logits are all exact in f32 use the exponential of f32 logits. Without options,
//!   logits are always exact. If the scale is a power of two and every bias is 0 or -inf, the logits are usually exact
//!   too.
//! - In other rows of these types, the maximum is subtracted in f64. Each difference is split into two f32 for the
//!   exponential ([`crate::math::softmax_exp`]).
//! - f64 rows use the f64 exponential.

mod exps;
mod extrema;
mod widen;

pub use exps::{Exps, SumForLog, exp_f64, leaves_digits, log_of_units, logs};
pub use extrema::{Extrema, Plain};
pub use widen::{is_half, prefetch_flags, widened};

use super::lanes::GuardCounts;
use super::scratch::{Buffers, grown, scratch_slice};
use crate::element::Element;
use crate::mask::{FullyMasked, Resolved, saturate};
use crate::math::tanh::tanh;
use crate::simd::{Float, Isa, Kernel, MaskBits, Select, Span, fold, load_flags};
use extrema::extrema;
use std::ops::Range;

/// Options that turn scores into logits. The mask has been checked against the shape of the scores.
#[derive(Clone, Copy)]
pub struct LogitTransform<'m> {
    pub mask: Option<Resolved<'m>>,
    pub scale: f64,
    pub softcap: Option<f64>,
    pub fully_masked: FullyMasked,
}

/// Class of a row.
pub enum Row<'s> {
    /// Contains a NaN.
    Nan(Live<'s>),
    /// Contains a logit of +inf, and no NaN.
    Infinite(Live<'s>),
    /// Is fully masked: all logits are -inf.
    Masked,
    /// Has at least one finite logit, and neither NaN nor +inf.
    Live(Live<'s>),
}

impl Row<'static> {
    /// Classifies a row by its maximum, and by whether it has a NaN. The returned class holds no logits.
    #[inline(always)]
    pub fn known(max: f64, nan: bool) -> Self {
        classify(0..0, Logits::Direct, Extrema { max, min: max, nan })
    }
}

impl Row<'_> {
    /// Returns the value that fills a row of any class but `Live`, and counts the row in `guards`.
    #[inline(always)]
    pub fn fill_value<E: Element>(
        &self,
        index: usize,
        policy: FullyMasked,
        guards: &mut GuardCounts,
        zero: E,
        uniform: E,
    ) -> E {
        match self {
            Row::Live(_) => E::NAN,
            Row::Nan(_) => {
                guards.counts.nan += 1;
                E::NAN
            }
            Row::Infinite(_) => {
                guards.counts.infinite += 1;
                E::NAN
            }
            Row::Masked => {
                guards.counts.fully_masked += 1;
                if policy == FullyMasked::Error {
                    guards.first_refused = guards.first_refused.or(Some(index));
                }
                if policy == FullyMasked::Uniform { uniform } else { zero }
            }
        }
    }
}

/// Logits of a row that is not fully masked. They may include NaN and +inf.
pub struct Live<'s> {
    /// Columns that have logits; all others are masked.
    pub columns: Range<usize>,
    pub logits: Logits<'s>,
    pub max: f64,
    pub min: f64,
}

/// Storage of the logits, which are -inf where masked.
pub enum Logits<'s> {
    /// The scores themselves are the logits.
    Direct,
    F32(&'s [f32]),
    F64(&'s [f64]),
}

impl LogitTransform<'_> {
    /// Returns whether every score that the mask keeps equals its logit.
    fn is_plain(&self) -> bool {
        self.scale == 1.0 && self.softcap.is_none() && !self.mask.is_some_and(|m| m.has_bias())
    }

    /// Returns whether the mask has keep flags.
    pub fn has_flags(&self) -> bool {
        self.mask.is_some_and(|mask| mask.has_flags())
    }

    /// Returns whether scores of this type are used as f32 logits without change: no option or mask is set, and the
    /// type is not f64.
    pub fn is_bare<E: Element>(&self) -> bool {
        !E::IS_F64 && self.is_plain() && self.mask.is_none()
    }

    /// Returns the part of `columns` that holds the lane's unmasked columns.
    #[inline(always)]
    pub fn bounds(&self, lane: usize, columns: Range<usize>) -> Range<usize> {
        let Some(mask) = &self.mask else { return columns };
        let (low, high) = mask.bounds(lane);
        low.clamp(columns.start, columns.end)..high.clamp(columns.start, columns.end)
    }

    /// Classifies a row and computes its logits.
    #[inline(always)]
    pub fn read<'s, I: Isa, E: Element>(&self, isa: I, lane: usize, x: &[E], buffers: &'s mut Buffers) -> Row<'s> {
        self.read_part(isa, lane, 0, x, buffers)
    }

    /// Classifies a row's shard, which begins at column `first`, and computes its logits. The columns of the result are
    /// counted from `first`.
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
        let keep = match &self.mask {
            Some(mask) => mask.keep(lane, low, high, grown(flags, high - low)),
            None => None,
        };
        if self.is_plain() && keep.is_none() {
            return classify(columns, Logits::Direct, extrema(isa, x));
        }
        if !E::IS_F64 && self.narrow_logits(isa, lane, low, x, keep, scratch_slice(f32s, x.len())) {
            let logits = &f32s[..x.len()];
            return classify(columns, Logits::F32(logits), extrema(isa, logits));
        }
        let logits = scratch_slice(f64s, x.len());
        self.wide_logits(isa, lane, low, x, keep, logits);
        let found = extrema(isa, &*logits);
        if !E::IS_F64 && is_exact_f32(isa, logits) {
            let narrow = scratch_slice(f32s, x.len());
            Span::in_place(&mut *narrow).reading(&*logits).map(
                isa,
                #[inline(always)]
                |_, z: I::F64| z,
            );
            return classify(columns, Logits::F32(narrow), found);
        }
        classify(columns, Logits::F64(logits), found)
    }

    /// Computes the logits in f32, and returns whether all of them are exact. They can be exact only if the scale is a
    /// power of two and each bias is 0 or -inf.
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
            |i, v: I::F32| {
                let mut z = v * scale;
                let mut exact = (z * back).eq(v);
                if let Some((bias, range)) = &bias {
                    let bias = bias.narrow_block(isa, range.clone(), i);
                    exact = exact & (bias.eq(zero) | bias.eq(masked));
                    z = z + bias;
                }
                if let Some(keep) = keep {
                    let keep = load_flags(isa, keep, i);
                    exact = exact | !keep;
                    z = I::F32::select(keep, z, masked);
                }
                rounded = rounded | !exact;
                z
            },
        );
        !rounded.any()
    }

    /// Computes the logits in f64: applies the scale, the softcap, the bias and the keep flags.
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
            None => to.reading(x).map(
                isa,
                #[inline(always)]
                |_, x: I::F64| I::F64::select(x.eq(masked), masked, saturate(isa, x * scale, x.abs())),
            ),
            Some(cap) => to.reading(x).map(
                isa,
                #[inline(always)]
                |_, x: I::F64| {
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

/// [`LogitTransform::read_part`] compiled as a separate function, which many ops share.
struct Read<'a, 's, E> {
    scores: &'a LogitTransform<'a>,
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
    /// Sets the maximum of the complete row. If `exact` is false, f32 cannot represent all logits of the complete row
    /// exactly. Logits that this shard stores in f32 are then widened to f64.
    #[inline(always)]
    pub fn within<'b, I: Isa>(self, isa: I, max: f64, exact: bool, buffers: &'b mut Buffers) -> Live<'b>
    where
        's: 'b,
    {
        let logits = match self.logits {
            Logits::F32(z) if !exact => {
                let wide = scratch_slice(&mut buffers.f64s, z.len());
                Logits::F64(Span::in_place(wide).reading(z).map(
                    isa,
                    #[inline(always)]
                    |_, z: I::F64| z,
                ))
            }
            logits => logits,
        };
        Live { logits, max, ..self }
    }
}

impl Live<'_> {
    /// Returns logit number `i` of the row `x`, counted from the first column that has a logit.
    #[inline(always)]
    pub fn logit<E: Element>(&self, x: &[E], i: usize) -> f64 {
        match self.logits {
            Logits::Direct => x[self.columns.start + i].widen(),
            Logits::F32(z) => f64::from(z[i]),
            Logits::F64(z) => z[i],
        }
    }
}
