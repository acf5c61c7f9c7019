//! Counts of non-finite elements of a tensor, and statistics of the finite ones.

use super::moments::unit_for;
use super::tensor_reduce::{Pass, pass};
use crate::element::Element;
use crate::error::Result;
use crate::math::sum::{GROUP, group_o};
use crate::simd::{BLOCK, Float, Isa, Join, MaskBits, Select, fold};
use crate::stats::{Finite, Stats};

/// Counts NaN and infinite elements.
pub fn finite<E: Element>(x: &[E]) -> Result<Finite> {
    let (_, counts) = pass(x, Check)?;
    Ok(counts.finite(x.len()))
}

/// Computes the statistics, in two passes for types narrower than f64. An f64 tensor takes three passes, or four if its
/// magnitudes are extreme.
pub fn inspect<E: Element>(x: &[E]) -> Result<Stats> {
    let (sum, seen) = pass(x, Survey)?;
    let Finite { count, nan, infinite, .. } = seen.counts.finite(x.len());
    let Extremes { min, max } = seen.extremes;
    let min = min.into_iter().fold(f64::INFINITY, f64::min) + 0.0;
    let max = max.into_iter().fold(f64::NEG_INFINITY, f64::max) + 0.0;
    // If both are zeros, `f64::max` may return either.
    let max_abs = max.max(-min) + 0.0;
    let n = (count - nan - infinite) as f64;
    let stats = |mean, std| Stats { count, nan, infinite, min, max, mean, std, max_abs };
    if n == 0.0 {
        return Ok(Stats { min: f64::NAN, max: f64::NAN, max_abs: f64::NAN, ..stats(f64::NAN, f64::NAN) });
    }
    if min == max {
        return Ok(stats(min, 0.0));
    }
    let unit = if E::IS_F64 { unit_for(max_abs) } else { 1.0 };
    let deviations = |mean, low| pass(x, Deviations::<false> { unit, mean, low }).map(|(sum, ())| sum);
    let mean = if !E::IS_F64 || unit == 1.0 { sum } else { deviations(0.0, 0.0)? } / n;
    // The mean of a type narrower than f64 is nearly exact. An f64 mean is corrected by the average deviation of the
    // elements from this mean.
    let low = if E::IS_F64 { deviations(mean, 0.0)? / n } else { 0.0 };
    let (squares, ()) = pass(x, Deviations::<true> { unit, mean, low })?;
    let mean = ((mean + low) / unit).max(min).min(max) + 0.0;
    // The standard deviation is at most the largest magnitude, but its rounded value may be larger, or infinite.
    Ok(stats(mean, ((squares / n).sqrt() / unit).min(max_abs)))
}

/// Counts of non-finite elements, and the index of the first.
#[derive(Clone, Copy, Default)]
pub struct NonFiniteCounts {
    nan: usize,
    infinite: usize,
    first: Option<usize>,
}

impl NonFiniteCounts {
    /// Counts a block with non-finite elements; `start` is the index of its first element.
    #[cold]
    fn add(&mut self, start: usize, nan: u16, infinite: u16) {
        self.nan += nan.count_ones() as usize;
        self.infinite += infinite.count_ones() as usize;
        if self.first.is_none() && nan | infinite != 0 {
            self.first = Some(start + (nan | infinite).trailing_zeros() as usize);
        }
    }

    fn finite(self, count: usize) -> Finite {
        Finite { count, nan: self.nan, infinite: self.infinite, first: self.first }
    }
}

/// Pass that counts non-finite elements.
#[derive(Clone, Copy)]
struct Check;

impl<E: Element> Pass<E> for Check {
    type Seen = NonFiniteCounts;
    const SUMS: bool = false;

    #[inline(always)]
    fn look<I: Isa>(&self, isa: I, start: usize, run: &[E], counts: &mut NonFiniteCounts) -> [f64; GROUP] {
        *counts = fold(
            run,
            E::ZERO,
            *counts,
            #[inline(always)]
            |mut counts, i, values| {
                let (bad, nan) = if E::IS_F64 {
                    let v = E::load_wide(isa, values);
                    (!v.abs().lt(isa.f64(f64::INFINITY)).bits(), v.is_nan().bits())
                } else {
                    let v = E::load(isa, values);
                    (!v.abs().lt(isa.f32(f32::INFINITY)).bits(), v.is_nan().bits())
                };
                if bad != 0 {
                    counts.add(start + BLOCK * i, nan, bad & !nan);
                }
                counts
            },
        );
        [0.0; GROUP]
    }
}

/// Pass that sums the finite elements, counts the others, and finds the minimum and maximum.
#[derive(Clone, Copy)]
struct Survey;

#[derive(Clone, Copy, Default)]
struct Surveyed {
    counts: NonFiniteCounts,
    extremes: Extremes,
}

/// Smallest and largest finite element in each of the 16 lanes.
#[derive(Clone, Copy)]
struct Extremes {
    min: [f64; BLOCK],
    max: [f64; BLOCK],
}

impl Default for Extremes {
    fn default() -> Self {
        Extremes { min: [f64::INFINITY; BLOCK], max: [f64::NEG_INFINITY; BLOCK] }
    }
}

impl Join for NonFiniteCounts {
    fn join(self, next: NonFiniteCounts) -> NonFiniteCounts {
        NonFiniteCounts {
            nan: self.nan + next.nan,
            infinite: self.infinite + next.infinite,
            first: self.first.or(next.first),
        }
    }
}

impl Join for Surveyed {
    fn join(mut self, next: Surveyed) -> Surveyed {
        for i in 0..BLOCK {
            self.extremes.min[i] = self.extremes.min[i].min(next.extremes.min[i]);
            self.extremes.max[i] = self.extremes.max[i].max(next.extremes.max[i]);
        }
        Surveyed { counts: self.counts.join(next.counts), ..self }
    }
}

impl<E: Element> Pass<E> for Survey {
    type Seen = Surveyed;

    #[inline(always)]
    fn look<I: Isa>(&self, isa: I, start: usize, run: &[E], seen: &mut Surveyed) -> [f64; GROUP] {
        let infinity = isa.f64(f64::INFINITY);
        let minus_infinity = isa.f64(f64::NEG_INFINITY);
        let mut min = isa.load_f64(&seen.extremes.min);
        let mut max = isa.load_f64(&seen.extremes.max);
        let counts = &mut seen.counts;
        let [sums] = group_o(
            isa,
            run,
            E::NAN,
            #[inline(always)]
            |i, block, [sum]| {
                // NaN padding past the end is skipped like a NaN element, but not counted.
                let v = E::load_wide(isa, block);
                let finite = v.abs().lt(infinity);
                let bad = !finite.bits();
                if bad != 0 {
                    let left = run.len().saturating_sub(BLOCK * i);
                    let there = if left < BLOCK { (1 << left) - 1 } else { u16::MAX };
                    let nan = v.is_nan().bits() & there;
                    counts.add(start + BLOCK * i, nan, bad & there & !nan);
                }
                min = I::F64::select(finite, v, infinity).min(min);
                max = I::F64::select(finite, v, minus_infinity).max(max);
                [sum + I::F64::select(finite, v, isa.f64(0.0))]
            },
        );
        seen.extremes = Extremes { min: isa.array_f64(min), max: isa.array_f64(max) };
        sums
    }
}

/// Sums the deviations of finite elements from the mean. If `SQUARED` is set, sums the squared deviations instead. f64
/// elements are multiplied by `unit` first.
#[derive(Clone, Copy)]
struct Deviations<const SQUARED: bool> {
    unit: f64,
    mean: f64,
    /// Low part of the mean.
    low: f64,
}

impl<E: Element, const SQUARED: bool> Pass<E> for Deviations<SQUARED> {
    type Seen = ();

    #[inline(always)]
    fn look<I: Isa>(&self, isa: I, _: usize, run: &[E], (): &mut ()) -> [f64; GROUP] {
        let (unit, mean, low) = (isa.f64(self.unit), isa.f64(self.mean), isa.f64(self.low));
        let [sums] = group_o(
            isa,
            run,
            E::NAN,
            #[inline(always)]
            |_, block, [sum]| {
                let v = E::load_wide(isa, block);
                let finite = v.abs().lt(isa.f64(f64::INFINITY));
                let d = if E::IS_F64 { v * unit - mean - low } else { v - mean };
                [sum + I::F64::select(finite, if SQUARED { d * d } else { d }, isa.f64(0.0))]
            },
        );
        sums
    }
}
