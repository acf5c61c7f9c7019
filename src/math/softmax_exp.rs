//! The exponential of softmax, in f32: the row's maximum is subtracted exactly, and the term of the maximum is exactly
//! 1.
//!
//! Let m be the maximum, and x = n ln2/8 + r with an integer n. Then e^(x-m) = 2^((n-M)/8) e^(r-d), where M ln2/8 is
//! the multiple of ln2/8 nearest to m, and d = m - M ln2/8. One register holds the table of the eight powers 2^(j/8),
//! and another holds their low parts minus d. Adding a low part thus corrects the table's rounding and also subtracts
//! d. The difference x - m is never rounded. The error is 0.63 ULP.
//!
//! # Error
//!
//! The errors of the argument, in units of 2^-29, are:
//!
//! - 2 for d, which is a multiple of 2^-27;
//! - 2 for r, which may be inexact if |r| is above 2^-4;
//! - 1 each for the low part of the table, its sum with r, the product with STEP_LO, and t;
//! - 0.2 for r^2 and the polynomial.
//!
//! Relative to e^r, which is at least 0.957, the sum of these errors is 8.6 units, or 0.27 times 2^-24. If logits are
//! pairs of f32, adding two low parts and rounding a product add 1.2 units. The total is then 0.31 times 2^-24. The
//! last operation rounds by half an ULP. The relative error of an exponential is therefore at most 1.31 times 2^-24.
//! The largest error found is 1.13 times 2^-24. For the maximum's own term, the argument is at most 5 units of 2^-29,
//! and the term rounds to 1. `docs/accuracy/softmax.md` derives the bounds of the ops from an error of 1.5 times 2^-24.
//!
//! Subnormal results are kept. In rows whose values span more than 87, results are computed 2^64 times too large and
//! scaled down at the end. This rounds subnormal results once, and does not change normal results. Results that must be
//! 0 are multiplied by 0, because a product that underflows takes many times as long as any other.
//!
//! # Order
//!
//! Here, "power" means e^(x-m), the exponential of a logit x relative to the maximum m. A larger logit never gets a
//! smaller power. This holds for the rows of f32 that [`SoftmaxExp::exp_fast`] and [`SoftmaxExp::any`] accept, and for
//! [`WeightExp`], which the sampler's cutoffs use.
//!
//! A step is the interval of logits with the same n. Within a step, the result is s + t s with a constant s and t = r +
//! r^2 q(r). Here r is monotone in the logit, because every rounding is monotone. Two neighbouring values of r differ
//! by at least 2^-24 |r|, and the exact values of t for them differ by at least 0.95 times as much. Rounding r^2 and q
//! changes t by at most 2^-24 r^2, which is less than half of that difference for |r| < 0.47. The last rounding of t
//! and the rounding of s + t s are monotone again.
//!
//! From one step to the next, s grows by a factor of 2^(1/8) and r falls from ln2/16 to -ln2/16. Errors on both sides
//! of the boundary could reverse the order of two powers that are very close. The following errors are in units of
//! 2^-28 of the power:
//!
//! - [`WeightExp`] rounds z - n ln2/8 to f32, adds the table's low part, and rounds t. On each side of the boundary,
//!   the error is at most 1/2 for each of these roundings, and 0.03 for r^2 and q: 3.06 for both sides. The cubic
//!   coefficient of its polynomial is smaller than the most accurate one by 2^-13.8. This change lowers the powers
//!   below the boundary and raises the powers above it, by 3.09 in total, so that their order is kept. This costs 0.1
//!   ULP of accuracy: the error is 0.69 ULP, or 1.16 times 2^-24 of the result.
//! - [`SoftmaxExp`] takes f32 logits. Where |x| >= 1/2, the powers of neighbouring logits are at least 16 units apart,
//!   and the errors are at most 4.1 units. For smaller |x|, the two logits at each boundary were compared, for every d
//!   (a multiple of 2^-27), M mod 8 and n from -6 to 6. None of these 1.2 x 10^9 pairs is in the wrong order. The tests
//!   check about every thousandth d by default, and every d on request.
//!
//! [`SoftmaxExp::pair`] and [`PairExp`] round the low part of a logit before they add it to the high part. If two
//! logits are closer than 2^-26, their powers may be in the wrong order, by an ULP. This happens at 15 of the 1,200
//! boundaries.

use crate::simd::{Float, Int, Isa, Select};

/// Powers 2^(j/8), rounded to f32.
const TABLE: [u32; 8] =
    [0x3f80_0000, 0x3f8b_95c2, 0x3f98_37f0, 0x3fa5_fed7, 0x3fb5_04f3, 0x3fc5_672a, 0x3fd7_44fd, 0x3fea_c0c7];
/// Relative rounding errors of the table: (2^(j/8) - TABLE\[j\]) / TABLE\[j\].
const TABLE_LOW: [f64; 8] = [
    0.0,
    f64::from_bits(0xbe49_c0c2_1188_b886),
    f64::from_bits(0x3e61_2500_1a0d_d6a1),
    f64::from_bits(0xbe60_a355_0ceb_09dd),
    f64::from_bits(0x3e52_6055_c7ea_21e0),
    f64::from_bits(0x3e36_7a1c_a2d6_73e0),
    f64::from_bits(0xbe4f_9c30_4c9a_8f60),
    f64::from_bits(0xbe3a_5217_ca91_3fea),
];
/// 8 / ln2.
const PER_STEP: f32 = f32::from_bits(0x4138aa3b);
/// ln2/8 in f64, and as the sum of two f32. STEP_HI has 21 significant bits, so its product with n is exact.
const STEP: f64 = f64::from_bits(0x3fb6_2e42_fefa_39ef);
const STEP_HI: f32 = f32::from_bits(0x3db17218);
const STEP_LO: f32 = f32::from_bits(0xaf82e308);
/// Coefficients of (e^r - 1 - r) / r^2 on |r| <= ln2/16, with the first one fixed at 1/2; error 2^-32.4.
const POLY: [f32; 3] = [0.5, f32::from_bits(0x3e2aae3a), f32::from_bits(0x3d2aad66)];
/// Coefficients of [`WeightExp`]. The second coefficient is smaller than the second one of [`POLY`], so that a larger
/// logit never has a smaller exponential.
const MONOTONE_POLY: [f32; 3] = [0.5, f32::from_bits(0x3e2a9c39), f32::from_bits(0x3d2aad66)];
/// 1.5 * 2^23. Adding it to a number rounds the number to an integer. This integer is in the low bits of the sum.
pub const SHIFTER: f32 = 12_582_912.0;

/// Upper limit of the distance between a row's minimum and maximum, for [`SoftmaxExp::exp_fast`]. The limit keeps
/// exponentials normal.
pub const NARROW: f32 = 87.0;
/// Distance below a row's maximum at which the exponential becomes 0.
const DEEPEST: f32 = 104.0;
/// Distance from the largest logit at which [`WeightExp`] clamps logits. A token whose logit is so far below the
/// largest one has no mass.
const WEIGHTLESS: f64 = 64.0;
/// Limit of the magnitude of a row's maximum. Below the limit, the tables account for the maximum. If the magnitude
/// reaches the limit, the maximum is subtracted from each value before the exponential is computed.
pub const SMALL_MAXIMUM: f32 = 256.0;

/// Exponential e^(x-m) for the values x of a row with maximum m.
#[derive(Clone, Copy)]
pub struct SoftmaxExp<I: Isa> {
    isa: I,
    /// Number subtracted from x before the exponential is computed. If the row's maximum is large, this number is the
    /// maximum, otherwise 0. The subtraction is exact for every x whose exponential is not 0.
    shift: I::F32,
    d: I::F32,
    /// SHIFTER - M, where M ln2/8 is the multiple of ln2/8 nearest to the maximum.
    shifter: I::F32,
    table: I::Table,
    low: I::Table,
    deepest: I::F32,
    narrow: bool,
}

impl<I: Isa> SoftmaxExp<I> {
    /// Prepares a row with the finite maximum `max`. `min` is the smallest of the values that will be passed.
    #[inline(always)]
    pub fn new(isa: I, max: f32, min: f32) -> Self {
        let shift = if max.abs() < SMALL_MAXIMUM { 0.0 } else { max };
        let m = max - shift;
        let steps = (f64::from(m) * (1.0 / STEP)).round_ties_even();
        let d = f64::from(m) - steps * STEP;
        let d = ((d * (1u64 << 27) as f64).round_ties_even() / (1u64 << 27) as f64) as f32;
        let narrow = min - shift >= m - NARROW && shift == 0.0;
        SoftmaxExp {
            isa,
            shift: isa.f32(shift),
            d: isa.f32(d),
            shifter: isa.f32(SHIFTER - steps as f32),
            table: table(isa, narrow),
            low: low_table(isa, f64::from(d)),
            deepest: isa.f32(m - DEEPEST),
            narrow,
        }
    }

    /// Prepares a row whose elements are unevaluated sums of two f32. `(high, low)` is the row's maximum, which must be
    /// below [`SMALL_MAXIMUM`] in magnitude.
    ///
    /// The sums need no renormalisation if their low parts are below 2^-9. The polynomial's argument is then at most
    /// 0.0453, and the polynomial's error at most 2^-31.4. An element equal to the maximum gives 1, however it is split
    /// into two f32, and no element gives more.
    #[inline(always)]
    pub fn of_pairs(isa: I, (high, low): (f32, f32)) -> Self {
        let exp = Self::new(isa, high, f32::NEG_INFINITY);
        let d = isa.array_f32(exp.d)[0];
        SoftmaxExp { low: low_table(isa, f64::from(d) + f64::from(low)), ..exp }
    }

    /// Returns whether [`SoftmaxExp::exp_fast`] is valid for this row.
    #[inline(always)]
    pub fn is_narrow(&self) -> bool {
        self.narrow
    }

    /// Computes the exponential, for rows with a maximum below 256 in magnitude and a minimum at most 87 below the
    /// maximum.
    #[inline(always)]
    pub fn exp_fast(&self, x: I::F32) -> I::F32 {
        let (t, s) = self.parts(
            x,
            #[inline(always)]
            |low| low,
        );
        t.mul_add(s, s)
    }

    /// Computes the exponential for every row; -inf gives 0.
    #[inline(always)]
    pub fn any(&self, x: I::F32) -> I::F32 {
        let x = x - self.shift;
        let (t, s) = self.parts(
            x.max(self.deepest),
            #[inline(always)]
            |low| low,
        );
        t.mul_add(s, s) * lower(self.isa, self.deepest.lt(x))
    }

    /// Computes the exponential of sums of two f32. Where `low` is 0, the result has the same bits as the result of
    /// [`SoftmaxExp::any`]. Where `high` is -inf, `low` is ignored.
    #[inline(always)]
    pub fn pair(&self, high: I::F32, low: I::F32) -> I::F32 {
        let counts = self.deepest.lt(high);
        let low = I::F32::select(counts, low, self.isa.f32(0.0));
        let (t, s) = self.parts(
            high.max(self.deepest),
            #[inline(always)]
            |table| table + low,
        );
        t.mul_add(s, s) * lower(self.isa, counts)
    }

    /// Returns t and s such that the exponential is s + t s. `mend` changes the low part of a table entry.
    #[inline(always)]
    fn parts(&self, x: I::F32, mend: impl Fn(I::F32) -> I::F32) -> (I::F32, I::F32) {
        let isa = self.isa;
        let j = (x - self.d).mul_add(isa.f32(PER_STEP), self.shifter);
        let n = j - self.shifter;
        let r = n.mul_add(isa.f32(-STEP_HI), x);
        finish(isa, self.table, r, n, j, mend(isa.lookup(self.low, j.to_bits())))
    }
}

/// Exponential e^z for z <= 0 in f64, such as the difference of two f64 logits. z is split into two f32.
#[derive(Clone, Copy)]
pub struct PairExp<I: Isa> {
    isa: I,
    table: I::Table,
    low: I::Table,
}

impl<I: Isa> PairExp<I> {
    #[inline(always)]
    pub fn new(isa: I) -> Self {
        PairExp { isa, table: table(isa, false), low: low_table(isa, 0.0) }
    }

    /// Computes e^z for `z` in f64; -inf gives 0.
    #[inline(always)]
    pub fn exp(&self, z: I::F64) -> I::F32 {
        let isa = self.isa;
        let z = z.max(isa.f64(-f64::from(DEEPEST)));
        let high = isa.narrow(z);
        let counts = isa.f32(-DEEPEST).lt(high);
        let rest = isa.narrow(z - isa.widen(high));
        let j = high.mul_add(isa.f32(PER_STEP), isa.f32(SHIFTER));
        let n = j - isa.f32(SHIFTER);
        let r = n.mul_add(isa.f32(-STEP_HI), high);
        let (t, s) = finish(isa, self.table, r, n, j, isa.lookup(self.low, j.to_bits()) + rest);
        t.mul_add(s, s) * lower(isa, counts)
    }
}

/// Exponential e^max(z, -64) for z <= 0 in f64, where z is a token's logit minus the largest logit. A larger z never
/// gives a smaller power.
#[derive(Clone, Copy)]
pub struct WeightExp<I: Isa> {
    isa: I,
    table: I::Table,
    low: I::Table,
}

impl<I: Isa> WeightExp<I> {
    #[inline(always)]
    pub fn new(isa: I) -> Self {
        WeightExp { isa, table: table(isa, true), low: low_table(isa, 0.0) }
    }

    /// Computes e^max(z, -64). `z` may be -inf.
    #[inline(always)]
    pub fn exp(&self, z: I::F64) -> I::F32 {
        let isa = self.isa;
        let z = z.max(isa.f64(-WEIGHTLESS));
        let j = isa.narrow(z).mul_add(isa.f32(PER_STEP), isa.f32(SHIFTER));
        let n = j - isa.f32(SHIFTER);
        // The remainder is rounded once, from f64. If it were the sum of two rounded f32, a larger
        // input could give a smaller result.
        let r = isa.narrow(isa.widen(n).mul_add(isa.f64(-STEP), z)) + isa.lookup(self.low, j.to_bits());
        let (t, s) = parts_of(isa, self.table, j, r, &MONOTONE_POLY);
        t.mul_add(s, s)
    }
}

/// Returns the factor that undoes the scaling by 2^64, or 0 in lanes where the result must be 0.
#[inline(always)]
fn lower<I: Isa>(isa: I, counts: I::M32) -> I::F32 {
    I::F32::select(counts, isa.f32(f32::from_bits((127 - 64) << 23)), isa.f32(0.0))
}

/// Returns the table of the powers 2^(j/8), each with `j << 20` subtracted from its bits. [`parts_of`] adds `j << 20`
/// back, together with the exponent. If `narrow` is false, the powers are multiplied by 2^64.
#[inline(always)]
pub fn table<I: Isa>(isa: I, narrow: bool) -> I::Table {
    let raise = if narrow { 0 } else { 64 << 23 };
    let mut table = [0.0; 8];
    for j in 0..8 {
        table[j] = f32::from_bits(TABLE[j].wrapping_sub((j as u32) << 20).wrapping_add(raise));
    }
    isa.table(&table)
}

/// Returns the table of the powers' low parts, each minus `d`.
#[inline(always)]
fn low_table<I: Isa>(isa: I, d: f64) -> I::Table {
    let mut table = [0.0; 8];
    for j in 0..8 {
        table[j] = (TABLE_LOW[j] - d) as f32;
    }
    isa.table(&table)
}

#[inline(always)]
fn finish<I: Isa>(isa: I, table: I::Table, r: I::F32, n: I::F32, j: I::F32, low: I::F32) -> (I::F32, I::F32) {
    parts_of(isa, table, j, n.mul_add(isa.f32(-STEP_LO), r + low), &POLY)
}

/// Returns t and s such that the exponential is s + t s. `r` is the remainder, and the bits of `j` select the power s.
#[inline(always)]
fn parts_of<I: Isa>(isa: I, table: I::Table, j: I::F32, r: I::F32, poly: &[f32; 3]) -> (I::F32, I::F32) {
    isa.call(
        (table, j, r, poly),
        #[inline(always)]
        |isa, (table, j, r, poly)| {
            let q = isa.f32(poly[2]).mul_add(r, isa.f32(poly[1])).mul_add(r, isa.f32(poly[0]));
            let t = (r * r).mul_add(q, r);
            let s = I::F32::from_bits(isa.lookup(table, j.to_bits()).to_bits() + j.to_bits().shl::<20>());
            (t, s)
        },
    )
}

#[cfg(test)]
mod tests;
