//! Conversions, and operations on the bits of integers.

use crate::floats::{self, bits32, bits64, f32_of, f64_of, narrow, narrow_bf16, narrow_f16, widen_f16};
use crate::op::{Int, Round, Type};

/// Returns an integer of this type, extended to 64 bits: by its sign if the type is signed, and by zeros otherwise.
#[inline(always)]
pub fn extend(bits: u64, of: Type) -> u64 {
    let unused = 64 - 8 * of.bytes() as u32;
    match of.is_signed() {
        true => ((bits << unused) as i64 >> unused) as u64,
        false => bits << unused >> unused,
    }
}

/// Converts between any two types of numbers.
pub fn convert(to: Type, from: Type, round: Round, integral: bool, bits: u64) -> u64 {
    match (to.is_float(), from.is_float()) {
        (false, false) => low(extend(bits, from), to),
        (true, false) => float_of_integer(to, from, round, extend(bits, from)),
        (false, true) => integer_of_float(to, from, round, bits),
        (true, true) => float_of_float(to, from, round, integral, bits),
    }
}

/// Returns the low bits that the type holds.
#[inline(always)]
pub fn low(bits: u64, of: Type) -> u64 {
    let unused = 64 - 8 * of.bytes() as u32;
    bits << unused >> unused
}

fn float_of_integer(to: Type, from: Type, round: Round, value: u64) -> u64 {
    let (size, negative) = match from.is_signed() {
        true => ((value as i64).unsigned_abs(), (value as i64) < 0),
        false => (value, false),
    };
    let sign = if negative { -1.0 } else { 1.0 };
    match to {
        Type::F64 => {
            let nearest = size as f64 * sign;
            let exact = i128::from(size) * if negative { -1 } else { 1 };
            let down = match round {
                Round::Nearest => return nearest.to_bits(),
                Round::Zero => !negative,
                Round::Down => true,
                Round::Up => false,
            };
            let error = exact - nearest as i128;
            let result = match (down, error) {
                (true, ..0) => nearest.next_down(),
                (false, 1..) => nearest.next_up(),
                _ => nearest,
            };
            result.to_bits()
        }
        Type::F32 if round == Round::Nearest => u64::from((size as f32 * sign as f32).to_bits()),
        // An f64 cannot represent every 64-bit integer. If nonzero bits are lost, the last kept bit is set, so that the
        // rounding to f32 sees that the number is inexact.
        Type::F32 => {
            let shift = 11u32.saturating_sub(size.leading_zeros());
            let kept = size >> shift << shift;
            let sticky = if kept != size { kept | 1 << shift } else { kept };
            u64::from(narrow(sticky as f64 * sign, round))
        }
        Type::F16 => u64::from(narrow_f16((size as f32).min(1e9) * sign as f32)),
        _ => u64::from(narrow_bf16(f32_of(narrow_odd(size as f64 * sign)))),
    }
}

/// Converts an f64 to an f32 whose last bit is set if the conversion is inexact. A second rounding to fewer bits then
/// equals a single rounding.
pub fn narrow_odd(v: f64) -> u32 {
    let towards_zero = narrow(v, Round::Zero);
    let exact = f64::from(f32_of(towards_zero)) == v || v.is_nan();
    if exact { towards_zero } else { towards_zero | 1 }
}

fn integer_of_float(to: Type, from: Type, round: Round, bits: u64) -> u64 {
    let v = widened(from, bits);
    if v.is_nan() {
        // If the source or the destination has 64 bits, the result for NaN has only its highest bit set. Otherwise, the
        // result is 0.
        let zero = from != Type::F64 && to.bytes() < 8;
        return if zero { 0 } else { 1 << (8 * to.bytes() - 1) };
    }
    let v = floats::integral(v, round);
    let value = match (to.is_signed(), to.bytes()) {
        (true, 8) => v as i64 as u64,
        (false, 8) => v as u64,
        (true, 4) => v as i32 as u64,
        (false, 4) => v as u32 as u64,
        (true, 2) => v as i16 as u64,
        (false, 2) => v as u16 as u64,
        (true, _) => v as i8 as u64,
        (false, _) => v as u8 as u64,
    };
    low(value, to)
}

fn widened(from: Type, bits: u64) -> f64 {
    match from {
        Type::F64 => f64_of(bits),
        Type::F32 => f64::from(f32_of(bits as u32)),
        Type::F16 => f64::from(f32_of(widen_f16(bits as u32 & 0xffff))),
        _ => f64::from(f32_of((bits as u32 & 0xffff) << 16)),
    }
}

fn float_of_float(to: Type, from: Type, round: Round, integral: bool, bits: u64) -> u64 {
    let v = match integral {
        true => floats::integral(widened(from, bits), round),
        false => widened(from, bits),
    };
    match to {
        // A NaN of f32 keeps its payload.
        Type::F64 if from == Type::F32 && v.is_nan() => v.to_bits() | 1 << 51,
        Type::F64 => bits64(v, [bits, 0, 0]),
        Type::F32 => u64::from(narrow(v, round)),
        _ if v.is_nan() => u64::from(floats::NAN16),
        Type::F16 if round == Round::Nearest => u64::from(narrow_f16(f32_of(narrow_odd(v)))),
        Type::F16 => u64::from(directed16(v, round, narrow_f16, widen_f16)),
        _ if round == Round::Nearest => u64::from(narrow_bf16(f32_of(narrow_odd(v)))),
        _ => u64::from(directed16(v, round, narrow_bf16, |bits| bits << 16)),
    }
}

/// Rounds to a 16-bit float up, down or toward zero.
fn directed16(v: f64, round: Round, narrow: impl Fn(f32) -> u32, widen: impl Fn(u32) -> u32) -> u32 {
    let bits = narrow(f32_of(narrow_odd(v)));
    let nearest = f64::from(f32_of(widen(bits)));
    let negative = v < 0.0;
    let down = match round {
        Round::Zero => !negative,
        round => round == Round::Down,
    };
    // The bits, as an integer, grow with the magnitude, so the bits of neighbouring numbers differ by 1.
    match (down, nearest > v, nearest < v) {
        (true, true, _) if negative => bits + 1,
        (true, true, _) => bits - 1,
        (false, _, true) if negative => bits - 1,
        (false, _, true) => bits + 1,
        _ => bits,
    }
}

/// Rounds two f32 to a pair of 16-bit floats. The first operand becomes the upper half.
#[inline(always)]
pub fn pair(to: Type, upper: u32, lower: u32) -> u32 {
    match to {
        Type::F16x2 => narrow_f16(f32_of(upper)) << 16 | narrow_f16(f32_of(lower)),
        _ => narrow_bf16(f32_of(upper)) << 16 | narrow_bf16(f32_of(lower)),
    }
}

/// Computes an integer operation on values of `bits` bits. Shifts by `bits` or more give 0, except that signed right
/// shifts give copies of the sign.
#[inline(always)]
pub fn integer(op: Int, a: u64, b: u64, bits: u32) -> u64 {
    let unused = 64 - bits;
    let signed = |v: u64| (v << unused) as i64 >> unused;
    let result = match op {
        Int::Add => a.wrapping_add(b),
        Int::Sub => a.wrapping_sub(b),
        Int::MulLo => a.wrapping_mul(b),
        Int::MulHi => ((u128::from(a) * u128::from(b)) >> bits) as u64,
        Int::MulHiSigned => ((i128::from(signed(a)) * i128::from(signed(b))) >> bits) as u64,
        // Devices return all ones for a division by zero, and the dividend as the remainder.
        Int::Div => a.checked_div(b).unwrap_or(u64::MAX),
        Int::Rem => a.checked_rem(b).unwrap_or(a),
        Int::DivSigned if b == 0 => u64::MAX,
        Int::DivSigned => signed(a).wrapping_div(signed(b)) as u64,
        Int::RemSigned if b == 0 => a,
        Int::RemSigned => signed(a).wrapping_rem(signed(b)) as u64,
        Int::Min => a.min(b),
        Int::Max => a.max(b),
        Int::MinSigned => signed(a).min(signed(b)) as u64,
        Int::MaxSigned => signed(a).max(signed(b)) as u64,
        Int::And => a & b,
        Int::Or => a | b,
        Int::Xor => a ^ b,
        Int::Shl => shift(b, bits).map_or(0, |by| a << by),
        Int::Shr => shift(b, bits).map_or(0, |by| a >> by),
        Int::ShrSigned => (signed(a) >> shift(b, bits).unwrap_or(bits - 1)) as u64,
    };
    result << unused >> unused
}

#[inline(always)]
fn shift(by: u64, bits: u32) -> Option<u32> {
    (by < u64::from(bits)).then_some(by as u32)
}

/// Replaces `length` bits of `b` by the lowest bits of `a`. The first replaced bit has the number `at`.
#[inline(always)]
pub fn insert(a: u64, b: u64, at: u64, length: u64, bits: u32) -> u64 {
    let (at, length) = (at & 0xff, length & 0xff);
    if at >= u64::from(bits) || length == 0 {
        return b;
    }
    let ones = if length >= 64 { u64::MAX } else { (1 << length) - 1 };
    let mask = ones << at;
    let kept = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
    (b & !mask | a << at & mask) & kept
}

/// Extracts `length` bits, from bit number `at` upwards. For a signed type, the sign of the extracted number is
/// extended.
pub fn extract(a: u64, at: u64, length: u64, of: Type) -> u64 {
    let (bits, at, length) = (8 * of.bytes() as u64, at & 0xff, length & 0xff);
    if length == 0 {
        return 0;
    }
    let sign = of.is_signed() && extend(a, of) >> (at + length - 1).min(bits - 1) & 1 == 1;
    let fill = if sign { u64::MAX } else { 0 };
    let found = if at >= bits { 0 } else { low(a, of) >> at };
    // `available` bits come from `a`. The higher bits are copies of the sign, or zeros for an unsigned type.
    let available = bits.saturating_sub(at).min(length);
    let ones = if available >= 64 { u64::MAX } else { (1 << available) - 1 };
    low(found & ones | fill & !ones, of)
}

/// Selects four of the eight bytes of `a` and `b`.
#[inline(always)]
pub fn permute(a: u32, b: u32, selector: u32) -> u32 {
    let bytes = u64::from(b) << 32 | u64::from(a);
    let mut result = 0;
    for i in 0..4 {
        let select = selector >> (4 * i);
        let byte = (bytes >> (8 * (select & 7))) as u32 & 0xff;
        // If the fourth bit of a selector is set, copies of the byte's highest bit replace the byte.
        let byte = if select & 8 == 0 { byte } else { (byte >> 7) * 0xff };
        result |= byte << (8 * i);
    }
    result
}

/// Shifts the 64-bit number whose halves are `high` and `low`. Returns the upper half of a left shift, or the lower
/// half of a right shift.
#[inline(always)]
pub fn funnel(low: u32, high: u32, by: u32, left: bool, wrap: bool) -> u32 {
    let by = if wrap { by & 31 } else { by.min(32) };
    let both = u64::from(high) << 32 | u64::from(low);
    if left { (both << by >> 32) as u32 } else { (both >> by) as u32 }
}

/// Computes a logic function of three operands, given by its truth table.
#[inline(always)]
pub fn logic(a: u32, b: u32, c: u32, table: u32) -> u32 {
    let mut result = 0;
    for i in 0..8 {
        let minterm =
            (if i & 4 != 0 { a } else { !a }) & (if i & 2 != 0 { b } else { !b }) & (if i & 1 != 0 { c } else { !c });
        result |= if table >> i & 1 == 1 { minterm } else { 0 };
    }
    result
}

/// Returns the bits of an f32 as bits of an f64. NaN keeps its payload.
#[inline(always)]
pub fn f64_of_f32(bits: u32) -> u64 {
    let v = f64::from(f32_of(bits));
    if v.is_nan() { v.to_bits() | 1 << 51 } else { v.to_bits() }
}

#[inline(always)]
pub fn f32_of_f64(bits: u64) -> u32 {
    bits32(f64_of(bits) as f32)
}
