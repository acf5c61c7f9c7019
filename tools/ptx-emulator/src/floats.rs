//! Floating-point arithmetic as PTX defines it. On x86-64, NaN has other bits, and a minimum depends on the order of
//! its operands.

use crate::op::{Cmp, Float, Root, Round, Type};

/// NaN that f32 operations return on NVIDIA's devices.
pub const NAN32: u32 = 0x7fff_ffff;
/// NaN that f64 operations return if no operand is NaN.
pub const NAN64: u64 = 0xfff8_0000_0000_0000;
/// NaN that operations and conversions to f16 and bf16 return.
pub const NAN16: u32 = 0x7fff;

#[inline(always)]
pub fn f32_of(bits: u32) -> f32 {
    f32::from_bits(bits)
}

#[inline(always)]
pub fn f64_of(bits: u64) -> f64 {
    f64::from_bits(bits)
}

/// Returns the bits of a result in f32. Every NaN gives the same bits.
#[inline(always)]
pub fn bits32(v: f32) -> u32 {
    if v.is_nan() { NAN32 } else { v.to_bits() }
}

/// Returns the bits of a result in f64. If the result is NaN, returns the first operand that is NaN, as a quiet NaN.
#[inline(always)]
pub fn bits64(v: f64, operands: [u64; 3]) -> u64 {
    if !v.is_nan() {
        return v.to_bits();
    }
    let nan = operands.into_iter().find(|&bits| f64::from_bits(bits).is_nan());
    nan.map_or(NAN64, |bits| bits | 1 << 51)
}

/// Returns the minimum or maximum of two f32, where -0 is below +0. If one operand is NaN, returns the other operand,
/// or NaN if `nan` is set.
#[inline(always)]
pub fn extreme32(a: u32, b: u32, max: bool, nan: bool) -> u32 {
    let (x, y) = (f32_of(a), f32_of(b));
    if x.is_nan() || y.is_nan() {
        return match (nan, x.is_nan(), y.is_nan()) {
            (false, true, false) => b,
            (false, false, true) => a,
            _ => NAN32,
        };
    }
    let first = if x == y { (a >> 31 != 0) != max } else { (x < y) != max };
    if first { a } else { b }
}

#[inline(always)]
pub fn extreme64(a: u64, b: u64, max: bool, nan: bool) -> u64 {
    let (x, y) = (f64_of(a), f64_of(b));
    if x.is_nan() || y.is_nan() {
        return match (nan, x.is_nan(), y.is_nan()) {
            (false, true, false) => b,
            (false, false, true) => a,
            _ => NAN64,
        };
    }
    let first = if x == y { (a >> 63 != 0) != max } else { (x < y) != max };
    if first { a } else { b }
}

#[inline(always)]
pub fn binary32(op: Float, a: u32, b: u32) -> u32 {
    match op {
        Float::Add => bits32(f32_of(a) + f32_of(b)),
        Float::Sub => bits32(f32_of(a) - f32_of(b)),
        Float::Mul => bits32(f32_of(a) * f32_of(b)),
        Float::Div => bits32(f32_of(a) / f32_of(b)),
        Float::Min => extreme32(a, b, false, false),
        Float::Max => extreme32(a, b, true, false),
        Float::MinNan => extreme32(a, b, false, true),
        Float::MaxNan => extreme32(a, b, true, true),
        // The sign is the first operand's.
        Float::CopySign => a & 1 << 31 | b & !(1 << 31),
    }
}

#[inline(always)]
pub fn binary64(op: Float, a: u64, b: u64) -> u64 {
    let of = [a, b, 0];
    match op {
        Float::Add => bits64(f64_of(a) + f64_of(b), of),
        Float::Sub => bits64(f64_of(a) - f64_of(b), of),
        Float::Mul => bits64(f64_of(a) * f64_of(b), of),
        Float::Div => bits64(f64_of(a) / f64_of(b), of),
        Float::Min => extreme64(a, b, false, false),
        Float::Max => extreme64(a, b, true, false),
        Float::MinNan => extreme64(a, b, false, true),
        Float::MaxNan => extreme64(a, b, true, true),
        Float::CopySign => a & 1 << 63 | b & !(1 << 63),
    }
}

/// Computes an operation on two 16-bit floats, or on two pairs of them.
pub fn packed(op: Float, of: Type, a: u32, b: u32) -> u32 {
    let one = |a: u32, b: u32| {
        let is_f16 = matches!(of, Type::F16 | Type::F16x2);
        let wide = |bits| if is_f16 { widen_f16(bits) } else { bits << 16 };
        let result = binary32(op, wide(a), wide(b));
        if f32_of(result).is_nan() {
            NAN16
        } else if is_f16 {
            narrow_f16(f32_of(result))
        } else {
            result >> 16
        }
    };
    match of {
        Type::F16x2 | Type::BF16x2 => one(a >> 16, b >> 16) << 16 | one(a & 0xffff, b & 0xffff),
        _ => one(a & 0xffff, b & 0xffff),
    }
}

/// Converts the bits of an f16 to the bits of an f32.
#[inline(always)]
pub fn widen_f16(bits: u32) -> u32 {
    let (sign, rest) = ((bits & 0x8000) << 16, bits & 0x7fff);
    match rest {
        0x7c00 => sign | 0x7f80_0000,
        0x7c01.. => NAN32,
        // The product is exact, also for subnormal numbers.
        _ => sign | (f32_of(rest << 13) * f32_of((254 - 15) << 23)).to_bits(),
    }
}

/// Returns the bits of the f16 nearest to an f32.
#[inline(always)]
pub fn narrow_f16(v: f32) -> u32 {
    if v.is_nan() {
        return NAN16;
    }
    let sign = v.to_bits() >> 16 & 0x8000;
    let size = v.abs();
    let bits = if size < f32_of(113 << 23) {
        // Below 2^-14, f16 are multiples of 2^-24. The addition rounds to such a multiple.
        (size + 0.5).to_bits() - 0.5f32.to_bits()
    } else if size >= 65520.0 {
        0x7c00
    } else {
        let bits = size.to_bits();
        (bits - (112 << 23) + 0xfff + (bits >> 13 & 1)) >> 13
    };
    sign | bits
}

/// Returns the bits of the bf16 nearest to an f32.
#[inline(always)]
pub fn narrow_bf16(v: f32) -> u32 {
    if v.is_nan() {
        return NAN16;
    }
    let bits = v.to_bits();
    (bits + 0x7fff + (bits >> 16 & 1)) >> 16
}

/// Rounds an exact value to f32, given the nearest f32 `v`. `error` has the sign of the exact value minus `v`.
fn step32(v: f32, error: f64, round: Round) -> f32 {
    if error == 0.0 || v.is_nan() {
        return v;
    }
    let down = match round {
        Round::Nearest => return v,
        Round::Zero => v > 0.0 || v == 0.0 && error > 0.0,
        Round::Down => true,
        Round::Up => false,
    };
    match (down, error < 0.0) {
        (true, true) => v.next_down(),
        (false, false) => v.next_up(),
        _ => v,
    }
}

/// Converts an f64 to f32.
#[inline(always)]
pub fn narrow(v: f64, round: Round) -> u32 {
    let nearest = v as f32;
    if round == Round::Nearest || nearest.is_nan() || f64::from(nearest) == v {
        return bits32(nearest);
    }
    let error = if f64::from(nearest) < v { 1.0 } else { -1.0 };
    step32(nearest, error, round).to_bits()
}

/// Rounds to an integer.
#[inline(always)]
pub fn integral(v: f64, round: Round) -> f64 {
    match round {
        Round::Nearest => v.round_ties_even(),
        Round::Zero => v.trunc(),
        Round::Down => v.floor(),
        Round::Up => v.ceil(),
    }
}

/// Adds two f64, and rounds the exact sum to f32.
fn sum_directed(a: f64, b: f64, round: Round) -> u32 {
    let sum = a + b;
    if !sum.is_finite() {
        return bits32(sum as f32);
    }
    // Exact error of the sum.
    let part = sum - a;
    let error = (a - (sum - part)) + (b - part);
    if sum == 0.0 && error == 0.0 {
        return bits32(if round == Round::Down && a != b { -0.0 } else { sum as f32 });
    }
    let nearest = sum as f32;
    let beyond = if f64::from(nearest) == sum { error } else { sum - f64::from(nearest) };
    bits32(step32(nearest, beyond, round))
}

/// Computes an operation in f32 that rounds up, down or toward zero.
pub fn directed32(op: Float, round: Round, a: u32, b: u32) -> u32 {
    let (x, y) = (f64::from(f32_of(a)), f64::from(f32_of(b)));
    match op {
        Float::Add => sum_directed(x, y, round),
        Float::Sub => sum_directed(x, -y, round),
        Float::Mul => narrow(x * y, round),
        _ => {
            let quotient = x / y;
            let nearest = quotient as f32;
            if !nearest.is_finite() || !quotient.is_finite() || !y.is_finite() {
                return bits32(nearest);
            }
            // The multiply-add computes the exact remainder of the division. Only its sign matters.
            let error = (-f64::from(nearest)).mul_add(y, x) * y.signum();
            bits32(step32(nearest, error, round))
        }
    }
}

/// Multiplies two f32. Subnormal factors and results become zeros of their sign.
pub fn mul_flushed32(a: u32, b: u32) -> u32 {
    flush(bits32(f32_of(flush(a)) * f32_of(flush(b))))
}

pub fn fma_directed32(round: Round, a: u32, b: u32, c: u32) -> u32 {
    sum_directed(f64::from(f32_of(a)) * f64::from(f32_of(b)), f64::from(f32_of(c)), round)
}

#[inline(always)]
pub fn root32(root: Root, a: u32) -> u32 {
    match root {
        Root::Neg => a ^ 1 << 31,
        Root::Abs => a & !(1 << 31),
        Root::Sqrt => bits32(f32_of(a).sqrt()),
        Root::Rcp => bits32(1.0 / f32_of(a)),
        _ => approximate(root, a),
    }
}

#[inline(always)]
pub fn root64(root: Root, a: u64) -> u64 {
    match root {
        Root::Neg => a ^ 1 << 63,
        Root::Abs => a & !(1 << 63),
        Root::Sqrt => bits64(f64_of(a).sqrt(), [a, 0, 0]),
        _ => bits64(1.0 / f64_of(a), [a, 0, 0]),
    }
}

/// Computes an approximate instruction. The error is a pseudo-random fraction of the largest error that NVIDIA
/// documents, so a kernel whose result depends on this error gives other bits than the CPU.
fn approximate(root: Root, a: u32) -> u32 {
    let x = f64::from(f32_of(a));
    let (exact, relative) = match root {
        Root::ApproxEx2 => (x.exp2(), -22.0f64),
        Root::ApproxLg2 => (x.log2(), -22.0),
        Root::ApproxRcp => (1.0 / x, -23.0),
        Root::ApproxRsqrt => (1.0 / x.sqrt(), -22.9),
        _ => (x.sqrt(), -23.0),
    };
    // NVIDIA's bounds include the error of rounding to f32. This function rounds its result to f32 at the end, so it
    // subtracts the rounding error from the bound.
    let bound = relative.exp2() - 2f64.powi(-24);
    let noise = a.wrapping_mul(0x9e37_79b9);
    let noise = (noise ^ noise >> 15).wrapping_mul(0x85eb_ca6b) >> 8;
    let part = f64::from(noise) / f64::from(1 << 23) - 1.0;
    // The bound of lg2 near 1 is absolute.
    let scale = if root == Root::ApproxLg2 && x > 0.5 && x < 2.0 { 1.0 } else { exact.abs() };
    let disturbed = if exact.is_finite() && exact != 0.0 { exact + part * bound * scale } else { exact };
    // On devices, rcp is exact if the result is a power of two. NVIDIA does not promise this, so it is not imitated
    // here.
    bits32(disturbed as f32)
}

/// Replaces a subnormal number by a zero of its sign.
pub fn flush(a: u32) -> u32 {
    if a & 0x7f80_0000 == 0 { a & 1 << 31 } else { a }
}

/// Compares two numbers that may be NaN.
#[inline(always)]
pub fn compare<T: PartialOrd + Copy>(cmp: Cmp, a: T, b: T) -> bool {
    // Only NaN has no order relative to itself.
    let nan = a.partial_cmp(&a).is_none() || b.partial_cmp(&b).is_none();
    match cmp {
        Cmp::Eq => a == b,
        Cmp::Ne => a != b && !nan,
        Cmp::Lt => a < b,
        Cmp::Le => a <= b,
        Cmp::Gt => a > b,
        Cmp::Ge => a >= b,
        Cmp::Equ => nan || a == b,
        Cmp::Neu => nan || a != b,
        Cmp::Ltu => nan || a < b,
        Cmp::Leu => nan || a <= b,
        Cmp::Gtu => nan || a > b,
        Cmp::Geu => nan || a >= b,
        Cmp::Num => !nan,
        Cmp::Nan => nan,
    }
}
