//! Norms of tensors, and the scales that reduce the norms to a limit.
//!
//! A norm has an explicit power-of-two exponent, because the norm of f64 gradients, and the sums from which it is
//! computed, may overflow f64.

use super::moments::{add_square, unit_for};
use super::tensor_reduce::{self, Overwrite, Overwriting, Pass};
use crate::element::Element;
use crate::error::Result;
use crate::math::sum::{GROUP, group_o, sum_of_tiles, tiled_sum};
use crate::options::NormType;
use crate::simd::{self, BLOCK, Float, Isa, Join, MaskBits, Span, fold};

/// Contribution of a tensor to the norm. The order of the norm determines whether the contribution is the sum of
/// squares, the sum of magnitudes or the largest magnitude. `value` is computed from the elements divided by
/// 2^exponent. `value` is NaN or infinite only if an element is NaN or infinite.
#[derive(Clone, Copy, Debug)]
pub struct TensorNorm {
    pub value: f64,
    pub exponent: i32,
}

/// Computes the contribution of one tensor.
pub fn part<E: Element>(x: &[E], norm_type: NormType) -> Result<TensorNorm> {
    let found = tiles(x, norm_type, 1.0)?;
    if norm_type == NormType::Infinity {
        return Ok(TensorNorm { value: found.largest, exponent: 0 });
    }
    let unit = unit_for(found.largest);
    let sums = if unit == 1.0 { found.sums } else { tiles(x, norm_type, unit)?.sums };
    Ok(TensorNorm::of_sums(&sums, unit))
}

/// Contributions of the tiles of a tensor.
#[derive(Clone, Debug)]
pub struct Tiles {
    /// Sum of each tile. The norm of infinite order has no sums, because it is the largest magnitude.
    pub sums: Vec<f64>,
    /// Largest magnitude of all tiles. For [`NormType::Infinity`], a NaN element makes this magnitude NaN. The other
    /// norms ignore NaN elements here, and use this magnitude only for f64 tensors.
    pub largest: f64,
}

/// Computes the contributions of the tiles of `x`, which starts at a tile boundary. Elements of f64 are multiplied by
/// `unit` before they are summed.
pub fn tiles<E: Element>(x: &[E], norm_type: NormType, unit: f64) -> Result<Tiles> {
    let (sums, seen) = match norm_type {
        NormType::Infinity => tensor_reduce::tiles(x, Largest)?,
        NormType::One => tensor_reduce::tiles(x, Magnitudes::<false> { unit })?,
        NormType::Two => tensor_reduce::tiles(x, Magnitudes::<true> { unit })?,
    };
    Ok(Tiles { sums, largest: if seen.nan { f64::NAN } else { seen.largest() } })
}

impl TensorNorm {
    /// Adds up the sums of all tiles, in order. The elements were multiplied by `unit`, a power of two.
    pub fn of_sums(tiles: &[f64], unit: f64) -> Self {
        TensorNorm { value: sum_of_tiles(tiles), exponent: 1023 - (unit.to_bits() >> 52) as i32 }
    }
}

/// The norm `value` * 2^`exponent`.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    value: f64,
    exponent: i32,
}

impl Norm {
    /// Returns the norm over the elements of all tensors. `parts` has the contribution of each tensor. The norm of
    /// infinite order is the largest contribution. For the other norms, the tiled sum adds the contributions.
    pub fn of(parts: &[TensorNorm], norm_type: NormType) -> Self {
        let broken = parts.iter().map(|part| part.value).filter(|value| !value.is_finite());
        if let Some(value) = broken.reduce(|a, b| if a.is_nan() { a } else { b }) {
            return Norm { value, exponent: 0 };
        }
        let live = parts.iter().filter(|part| part.value > 0.0);
        let exponent = live.map(|part| part.exponent).max().unwrap_or(0);
        let times = if norm_type == NormType::Two { 2 } else { 1 };
        let terms = parts.iter().map(|part| scaled(part.value, times * (part.exponent - exponent)));
        let value = match norm_type {
            NormType::Infinity => terms.fold(0.0, f64::max),
            NormType::One => tiled_sum(&terms.collect::<Vec<_>>()),
            NormType::Two => tiled_sum(&terms.collect::<Vec<_>>()).sqrt(),
        };
        Norm { value, exponent }
    }

    /// Returns whether every element is finite.
    pub fn is_finite(self) -> bool {
        self.value.is_finite()
    }

    /// Returns the norm as f64. The result is infinity if finite elements have a norm beyond the range of f64.
    pub fn to_f64(self) -> f64 {
        scaled(self.value, self.exponent)
    }

    /// Returns the norm plus `small`, or the norm alone if the sum overflows.
    pub fn plus(self, small: f64) -> Self {
        let sum = self.to_f64() + small;
        if sum.is_infinite() && self.is_finite() { self } else { Norm { value: sum, exponent: 0 } }
    }

    /// Returns the norm after all elements are multiplied by `factor`, which is positive and finite.
    pub fn times(self, factor: f64) -> Self {
        let (fraction, exponent) = fraction(factor);
        // A factor that is a power of two changes only the exponent. Any other factor has a significand between 1 and
        // 2. The significand is halved, so that the product cannot overflow.
        let (fraction, exponent) = if fraction == 1.0 { (1.0, exponent) } else { (fraction / 2.0, exponent + 1) };
        Norm { value: self.value * fraction, exponent: self.exponent + exponent }
    }

    /// Returns `factor * max_norm / norm`. The caller guarantees that all three are finite and not negative, and that
    /// norm and factor are not 0.
    pub fn scale_to(self, max_norm: f64, factor: f64) -> Scale {
        if max_norm == 0.0 {
            return Scale::by(0.0);
        }
        let ((max, max_exponent), (norm, norm_exponent)) = (fraction(max_norm), fraction(self.value));
        let (factor, factor_exponent) = fraction(factor);
        let exponent = max_exponent + factor_exponent - norm_exponent - self.exponent;
        let ratio = factor * max / norm;
        if exponent >= -1000 {
            return Scale::by(ratio * power(exponent));
        }
        Scale {
            factor: ratio / 2.0,
            powers: Some([power((exponent + 1) / 2), power(exponent + 1 - (exponent + 1) / 2)]),
        }
    }
}

/// Splits a number other than 0 into a fraction in [1, 2) and an exponent.
fn fraction(value: f64) -> (f64, i32) {
    let (value, shift) = if value < f64::MIN_POSITIVE { (value * power(54), 54) } else { (value, 0) };
    let exponent = (value.to_bits() >> 52) as i32 - 1023;
    (f64::from_bits(value.to_bits() & (u64::MAX >> 12) | 1.0f64.to_bits()), exponent - shift)
}

/// Returns 2^exponent, for exponents within the range of f64.
fn power(exponent: i32) -> f64 {
    if exponent >= -1022 {
        f64::from_bits(((exponent + 1023) as u64) << 52)
    } else {
        f64::from_bits(1 << (exponent + 1074))
    }
}

/// Returns `value * 2^exponent`, multiplied in two steps because 2^exponent may be beyond the range of f64.
fn scaled(value: f64, exponent: i32) -> f64 {
    let exponent = exponent.clamp(-2100, 2000);
    value * power(exponent / 2) * power(exponent - exponent / 2)
}

/// Number by which elements are multiplied: `factor` alone, or the product of `factor` and both `powers`. The powers
/// are needed if the number is too small for one f64.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    factor: f64,
    powers: Option<[f64; 2]>,
}

impl Scale {
    pub fn by(factor: f64) -> Self {
        Scale { factor, powers: None }
    }
}

/// Multiplies a tensor by the scale.
pub fn scale<E: Element>(x: &mut [E], scale: Scale) -> Result<()> {
    simd::run(Overwrite { x, kernel: scale })
}

impl<E: Element> Overwriting<E> for Scale {
    type Seen = ();

    #[inline(always)]
    fn write<I: Isa>(&self, isa: I, x: &mut [E]) {
        let factor = isa.f64(self.factor);
        match self.powers {
            None => Span::in_place(x).map(
                isa,
                #[inline(always)]
                |_, v: I::F64| v * factor,
            ),
            Some([a, b]) => Span::in_place(x).map(
                isa,
                #[inline(always)]
                |_, v: I::F64| v * factor * isa.f64(a) * isa.f64(b),
            ),
        };
    }
}

/// Largest magnitude in each of the 16 lanes, and whether there was a NaN. The maximum ignores NaN.
#[derive(Clone, Copy, Default)]
struct Seen {
    largest: [f64; BLOCK],
    nan: bool,
}

impl Seen {
    fn largest(&self) -> f64 {
        self.largest.into_iter().fold(0.0, f64::max)
    }
}

impl Join for Seen {
    fn join(self, rest: Seen) -> Seen {
        let mut both = Seen { nan: self.nan | rest.nan, ..self };
        for (a, b) in both.largest.iter_mut().zip(rest.largest) {
            *a = a.max(b);
        }
        both
    }
}

/// Finds the largest magnitude.
#[derive(Clone, Copy)]
struct Largest;

impl<E: Element> Pass<E> for Largest {
    type Seen = Seen;
    const SUMS: bool = false;

    #[inline(always)]
    fn look<I: Isa>(&self, isa: I, _: usize, run: &[E], seen: &mut Seen) -> [f64; GROUP] {
        let zero = isa.f64(0.0);
        let (largest, nan) = fold(
            run,
            E::ZERO,
            (isa.load_f64(&seen.largest), zero.lt(zero)),
            #[inline(always)]
            |(largest, nan), _, values| {
                let v = E::load_wide(isa, values);
                (v.abs().max(largest), nan | v.is_nan())
            },
        );
        *seen = Seen { largest: isa.array_f64(largest), nan: seen.nan | nan.any() };
        [0.0; GROUP]
    }
}

/// Multiplies the elements by `unit`, and sums their squares if `SQUARED` is set, otherwise their magnitudes. For f64,
/// also finds the largest magnitude, ignoring NaN. From this magnitude, the caller knows whether the sums are within
/// the range of f64.
#[derive(Clone, Copy)]
struct Magnitudes<const SQUARED: bool> {
    unit: f64,
}

impl<E: Element, const SQUARED: bool> Pass<E> for Magnitudes<SQUARED> {
    type Seen = Seen;

    #[inline(always)]
    fn look<I: Isa>(&self, isa: I, _: usize, run: &[E], seen: &mut Seen) -> [f64; GROUP] {
        let unit = isa.f64(self.unit);
        let mut largest = isa.load_f64(&seen.largest);
        let [sums] = group_o(
            isa,
            run,
            E::ZERO,
            #[inline(always)]
            |_, block, [sum]| {
                let mut v = E::load_wide(isa, block);
                if E::IS_F64 {
                    largest = v.abs().max(largest);
                    v = v * unit;
                }
                [if SQUARED { add_square::<I, E>(sum, v) } else { sum + v.abs() }]
            },
        );
        seen.largest = isa.array_f64(largest);
        sums
    }
}
