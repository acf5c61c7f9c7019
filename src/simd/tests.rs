//! Tests that compare every instruction set with plain Rust, lane by lane.

use super::block::Storage;
use super::block::{Float, Int, Isa, MaskBits, Select};
use super::blocks::{fold, load, with_block};
use super::level::{Kernel, Level, Token, with_level};
use super::output::{Output, Written};
use super::slice::Span;
use crate::element::Element;
use half::{bf16, f16};
use std::fmt::Display;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::slice::from_ref;

/// Runs the kernel on every instruction set that this machine has.
pub(super) fn on_each_level<K: Kernel<Out = ()> + Clone>(kernel: K) {
    for &level in Level::ALL {
        if !level.is_available() {
            println!("skipped {level}, which this machine does not support");
            continue;
        }
        println!("on {level}");
        with_level(level, || Token::current().unwrap().run(kernel.clone())).unwrap();
    }
}

/// Numbers at the edges of f32, and some in between.
const EDGES: [f32; 16] = [
    0.0,
    -0.0,
    1.0,
    -1.5,
    f32::MIN_POSITIVE,
    -f32::MIN_POSITIVE,
    1e-45,
    -3e-42,
    f32::MAX,
    f32::MIN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    0.333_333_34,
    16_777_217.0,
    -65_520.0,
];

/// Returns [`EDGES`] rotated by `by` lanes.
fn turned(by: usize) -> [f32; 16] {
    std::array::from_fn(|i| EDGES[(i + by) % 16])
}

fn same(got: f64, expected: f64, what: impl Display) {
    let equal = got.to_bits() == expected.to_bits() || (got.is_nan() && expected.is_nan());
    assert!(equal, "{what}: got {got:e}, expected {expected:e}");
}

#[derive(Clone)]
struct FloatRules;

impl Kernel for FloatRules {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for by in 0..16 {
            let (a, b, c) = (EDGES, turned(by), turned(by * 7 + 3));
            let (va, vb, vc) = (isa.load_f32(&a), isa.load_f32(&b), isa.load_f32(&c));
            let check = |v: I::F32, what: &str, f: &dyn Fn(f32, f32, f32) -> f32| {
                let got = isa.array_f32(v);
                for i in 0..16 {
                    let text = format_args!("{what} of {:e}, {:e}, {:e}", a[i], b[i], c[i]);
                    same(got[i].into(), f(a[i], b[i], c[i]).into(), text);
                }
            };
            check(va + vb, "f32 sum", &|a, b, _| a + b);
            check(va - vb, "f32 difference", &|a, b, _| a - b);
            check(va * vb, "f32 product", &|a, b, _| a * b);
            check(va / vb, "f32 quotient", &|a, b, _| a / b);
            check(va.mul_add(vb, vc), "f32 fused", &f32::mul_add);
            check(va.max(vb), "f32 max", &|a, b, _| if a > b { a } else { b });
            check(va.min(vb), "f32 min", &|a, b, _| if a < b { a } else { b });
            check(va.abs(), "f32 magnitude", &|a, _, _| a.abs());
            check(va.sqrt(), "f32 square root", &|a, _, _| a.sqrt());
            check(I::F32::select(va.lt(vb), va, vc), "f32 lt", &|a, b, c| if a < b { a } else { c });
            check(I::F32::select(va.le(vb), va, vc), "f32 le", &|a, b, c| if a <= b { a } else { c });
            check(I::F32::select(va.eq(vb), va, vc), "f32 eq", &|a, b, c| if a == b { a } else { c });
            check(I::F32::select(va.is_nan(), vb, vc), "f32 nan", &|a, b, c| if a.is_nan() { b } else { c });
            let not_or = I::F32::select(!(va.lt(vb) | va.is_nan()), vb, vc);
            check(not_or, "f32 mask", &|a, b, c| if !(a < b || a.is_nan()) { b } else { c });

            // Each of the 16 iterations tests a sixteenth of the masks. Miri tests only a few of these.
            for bits in (by * 4096..(by + 1) * 4096).step_by(if cfg!(miri) { 409 } else { 1 }) {
                let bits_of = EDGES.map(f32::to_bits);
                let lanes: [f32; 16] = std::array::from_fn(|i| f32::from((bits >> i & 1) as u8));
                let mut kept = [0; 16];
                let count =
                    isa.compress(isa.f32(0.0).lt(isa.load_f32(&lanes)), isa.load_f32(&EDGES).to_bits(), &mut kept);
                let expected: Vec<u32> = (0..16).filter(|i| bits >> i & 1 == 1).map(|i| bits_of[i]).collect();
                assert_eq!(kept[..count], expected, "the mask {bits:b} must keep the lanes whose bits are 1");
            }

            let (wa, wb, wc) = (isa.widen(va), isa.widen(vb), isa.widen(vc));
            let check = |v: I::F64, what: &str, f: &dyn Fn(f64, f64, f64) -> f64| {
                let got = isa.array_f64(v);
                for i in 0..16 {
                    let text = format_args!("{what} of {:e}, {:e}, {:e}", a[i], b[i], c[i]);
                    same(got[i], f(a[i].into(), b[i].into(), c[i].into()), text);
                }
            };
            check(wa, "widened", &|a, _, _| a);
            check(wa + wb, "f64 sum", &|a, b, _| a + b);
            check(wa - wb, "f64 difference", &|a, b, _| a - b);
            check(wa * wb, "f64 product", &|a, b, _| a * b);
            check(wa / wb, "f64 quotient", &|a, b, _| a / b);
            check(wa.mul_add(wb, wc), "f64 fused", &f64::mul_add);
            check(wa.max(wb), "f64 max", &|a, b, _| if a > b { a } else { b });
            check(wa.min(wb), "f64 min", &|a, b, _| if a < b { a } else { b });
            check(wa.abs(), "f64 magnitude", &|a, _, _| a.abs());
            check(wa.sqrt(), "f64 square root", &|a, _, _| a.sqrt());
            check(I::F64::select(wa.lt(wb), wa, wc), "f64 lt", &|a, b, c| if a < b { a } else { c });
            check(I::F64::select(wa.le(wb), wa, wc), "f64 le", &|a, b, c| if a <= b { a } else { c });
            check(I::F64::select(wa.eq(wb), wa, wc), "f64 eq", &|a, b, c| if a == b { a } else { c });
            check(I::F64::select(wa.is_nan(), wb, wc), "f64 nan", &|a, b, c| if a.is_nan() { b } else { c });
            check(isa.widen(isa.narrow(wa * wb)), "narrowed", &|a, b, _| f64::from((a * b) as f32));
            let bits: u16 = 0b1010_0110_0001_1011_u16.rotate_left(by as u32);
            let masked = isa.array_f64(I::F64::select(isa.mask_wide(bits), wa, wb));
            for i in 0..16 {
                same(masked[i], if bits >> i & 1 == 1 { a[i].into() } else { b[i].into() }, "mask from bits");
            }
            assert_eq!(wa.lt(wb).bits(), va.lt(vb).bits(), "comparisons of f64 and of f32 must give equal masks");
        }
    }
}

#[test]
fn float_rules() {
    on_each_level(FloatRules);
}

#[derive(Clone)]
struct IntRules;

impl Kernel for IntRules {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let a: [i32; 16] = std::array::from_fn(|i| (i as i32).wrapping_mul(0x0765_4321_u32 as i32) ^ i32::MIN);
        let b: [i32; 16] = std::array::from_fn(|i| (i as i32 % 5).wrapping_mul(-0x3579_bdf1));
        let floats = |v: &[i32; 16]| v.map(|v| f32::from_bits(v as u32));
        let (va, vb) = (isa.load_f32(&floats(&a)).to_bits(), isa.load_f32(&floats(&b)).to_bits());
        let check = |v: I::I32, what: &str, f: &dyn Fn(i32, i32) -> i32| {
            let got = isa.array_i32(v);
            for i in 0..16 {
                assert_eq!(got[i], f(a[i], b[i]), "{what} of {} and {}", a[i], b[i]);
            }
        };
        check(va + vb, "sum", &i32::wrapping_add);
        check(va - vb, "difference", &i32::wrapping_sub);
        check(va & vb, "and", &|a, b| a & b);
        check(va | vb, "or", &|a, b| a | b);
        check(va.shl::<20>(), "shl", &|a, _| a << 20);
        check(va.shr::<7>(), "shr", &|a, _| (a as u32 >> 7) as i32);
        check(I::I32::select((va & isa.i32(3)).eq(isa.i32(2)), va, vb), "eq", &|a, b| if a & 3 == 2 { a } else { b });

        let wide: [f64; 16] = std::array::from_fn(|i| f64::from(a[i]) * 1e-3 - f64::from(b[i]));
        let v = isa.load_f64(&wide).to_bits();
        let check = |v: I::I64, what: &str, f: &dyn Fn(i64) -> i64| {
            let got = isa.array_f64(I::F64::from_bits(v));
            for i in 0..16 {
                assert_eq!(got[i].to_bits() as i64, f(wide[i].to_bits() as i64), "{what} of {}", wide[i]);
            }
        };
        check(v + isa.i64(1 << 40), "i64 sum", &|v| v.wrapping_add(1 << 40));
        check(v - isa.i64(1 << 41), "i64 difference", &|v| v.wrapping_sub(1 << 41));
        check(v & isa.i64(0xffff_0000), "i64 and", &|v| v & 0xffff_0000);
        check(v | isa.i64(0x77), "i64 or", &|v| v | 0x77);
        check(v.shl::<9>(), "i64 shl", &|v| v << 9);
        check(v.shr::<52>(), "i64 shr", &|v| (v as u64 >> 52) as i64);
        let odd = (v & isa.i64(1)).eq(isa.i64(1));
        check(I::I64::select(odd, v, isa.i64(4)), "i64 eq", &|v| if v & 1 == 1 { v } else { 4 });
    }
}

#[test]
fn integer_rules() {
    on_each_level(IntRules);
}

#[derive(Clone)]
struct Moves;

impl Kernel for Moves {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let table: [f32; 32] = std::array::from_fn(|i| i as f32 * 1.25 - 3.0);
        let index: [i32; 16] = std::array::from_fn(|i| i as i32 * 37 - 200);
        let lanes = isa.load_f32(&index.map(|v| f32::from_bits(v as u32))).to_bits();
        let eight = isa.lookup(isa.table(&table.as_chunks().0[0]), lanes);
        let sixteen = isa.long_lookup(isa.long_table(&table.as_chunks().0[0]), lanes);
        for (len, found) in [(8, eight), (16, sixteen), (32, isa.lookup_32(&table, lanes))] {
            let found = isa.array_f32(found);
            for i in 0..16 {
                let expected = table[(index[i] & (len - 1)) as usize];
                assert_eq!(found[i], expected, "the lookup in {len} floats must use the low bits of {}", index[i]);
            }
        }

        let a: [f64; 16] = std::array::from_fn(|i| 1.0 + i as f64);
        let b: [f64; 16] = std::array::from_fn(|i| 100.0 * (1.0 + i as f64));
        let folded = isa.array_f64(isa.fold_pairs(isa.load_f64(&a), isa.load_f64(&b)));
        for i in 0..8 {
            assert_eq!(folded[i], a[2 * i] + a[2 * i + 1]);
            assert_eq!(folded[8 + i], b[2 * i] + b[2 * i + 1]);
        }
        // The sum of these numbers depends on the order of the additions.
        let mut sums: [f64; 16] = std::array::from_fn(|i| [1e16, 1.0, -1e16, 3.0, 0.1][i % 5] * (1.0 + i as f64));
        let all = isa.fold_all(isa.load_f64(&sums));
        for width in [8, 4, 2, 1] {
            for i in 0..width {
                sums[i] = sums[2 * i] + sums[2 * i + 1];
            }
        }
        assert_eq!(all, sums[0]);

        let flags: [u8; 16] = std::array::from_fn(|i| [0, 1, 255, 128][i % 4]);
        assert_eq!(isa.load_flags(&flags).bits(), 0b1110_1110_1110_1110);
    }
}

#[test]
fn moves() {
    on_each_level(Moves);
}

/// Tests every value of a 16-bit type in a load and a store, and the neighbourhood of every rounding boundary in stores
/// from f32 and from f64 lanes.
#[derive(Clone)]
struct HalfTypes;

impl Kernel for HalfTypes {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        round_trips::<I, f16>(isa, f16::from_bits, f16::from_f32, f32::from);
        round_trips::<I, bf16>(isa, bf16::from_bits, bf16::from_f32, f32::from);
    }
}

#[inline(always)]
fn round_trips<I: Isa, E: Element>(isa: I, from_bits: fn(u16) -> E, round: fn(f32) -> E, widen: fn(E) -> f32) {
    let step = if cfg!(miri) { 1009 } else { 1 };
    for first in (0..=0xfff0u32).step_by(16 * step) {
        let values: [E; 16] = std::array::from_fn(|i| from_bits((first + i as u32) as u16));
        let lanes = E::load(isa, &values);
        let wide = isa.array_f32(lanes);
        for i in 0..16 {
            same(wide[i].into(), widen(values[i]).into(), "load");
        }
        // Tests the values, the midpoints between neighbouring values, and the numbers next to all of these.
        for ulps in [-1, 0, 1] {
            for half in [0.0, 0.5] {
                let inputs: [f32; 16] = std::array::from_fn(|i| {
                    let next = widen(from_bits((first + i as u32 + 1) as u16 & 0x7fff));
                    let here = widen(values[i]);
                    let point = if half == 0.0 { here } else { here * 0.5 + next.copysign(here) * 0.5 };
                    f32::from_bits(point.to_bits().wrapping_add_signed(ulps))
                });
                let mut stored = [MaybeUninit::uninit(); 16];
                E::store(isa, isa.load_f32(&inputs), &mut stored);
                check_stored(&stored, &inputs, round);
                let mut stored = [MaybeUninit::uninit(); 16];
                E::store_wide(isa, isa.widen(isa.load_f32(&inputs)), &mut stored);
                check_stored(&stored, &inputs, round);
            }
        }
    }
}

fn check_stored<E: Element>(stored: &[MaybeUninit<E>; 16], inputs: &[f32; 16], round: fn(f32) -> E) {
    for (stored, input) in stored.iter().zip(inputs) {
        // SAFETY: a store writes all sixteen elements.
        let stored = unsafe { stored.assume_init() };
        let expected = if input.is_nan() { E::NAN } else { round(*input) };
        assert_eq!(stored.bits(), expected.bits(), "{input:e} ({1:08x}) stored as {0}", E::DTYPE, input.to_bits());
    }
}

#[test]
fn half_types() {
    on_each_level(HalfTypes);
}

#[test]
fn one_rounding_from_f64() {
    // The number `above` is just above a tie of the 16-bit type. Rounding it to f32 first would give the tie.
    #[derive(Clone)]
    struct Check;
    impl Kernel for Check {
        type Out = ();
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) {
            fn stored<I: Isa, E: Element>(isa: I, value: f64) -> E {
                let mut to = [MaybeUninit::uninit(); 16];
                E::store_wide(isa, isa.f64(value), &mut to);
                // SAFETY: a store writes all sixteen elements.
                unsafe { to[0].assume_init() }
            }
            let above = 1.0 + 1.0 / 256.0 + 1e-12;
            assert_eq!(stored::<I, bf16>(isa, above).to_f32(), 1.0 + 1.0 / 128.0);
            assert_eq!(stored::<I, bf16>(isa, -above).to_f32(), -1.0 - 1.0 / 128.0);
            let above = 1.0 + 1.0 / 2048.0 + 1e-12;
            assert_eq!(stored::<I, f16>(isa, above).to_f32(), 1.0 + 1.0 / 1024.0);
            assert_eq!(stored::<I, f16>(isa, 65_519.999), f16::MAX);
            assert_eq!(stored::<I, f16>(isa, 65_520.0), f16::INFINITY);
            assert_eq!(stored::<I, f16>(isa, 1e300), f16::INFINITY);
            assert_eq!(stored::<I, bf16>(isa, -1e300), bf16::NEG_INFINITY);
            assert_eq!(stored::<I, f16>(isa, -1e-300).to_bits(), 0x8000);
            assert_eq!(stored::<I, bf16>(isa, 1.5 * bf16::MIN_POSITIVE_SUBNORMAL.to_f64()).to_bits(), 2);
            assert_eq!(stored::<I, f32>(isa, f64::NAN).to_bits(), 0x7fc0_0000);
        }
    }
    on_each_level(Check);
}

#[test]
fn an_output_is_complete_only_if_adjacent_parts_cover_it() {
    let mut memory = [const { MaybeUninit::<f32>::uninit() }; 6];
    let mut others = [0.0f32; 6];
    // Writes the parts, and returns whether they cover the output.
    let mut covers = |parts: &[Range<usize>], elsewhere: bool| {
        let out = Output::from(&mut memory[..]);
        let written = std::panic::catch_unwind(AssertUnwindSafe(|| {
            out.write(|mut to| {
                let mut written = Written::default();
                for part in parts {
                    let source = vec![1.0f32; part.len()];
                    let to = Span::new(&source, to.range(part.clone())).copy_from(&source);
                    written = written + if elsewhere { (&mut others[part.clone()]).into() } else { to.into() };
                    // Adding the default value on either side changes nothing.
                    written = Written::default() + written + Written::default();
                }
                Ok((written, ()))
            })
        }));
        written.is_ok()
    };
    let whole = 0..6;
    assert!(covers(from_ref(&whole), false));
    assert!(covers(&[0..1, 1..1, 1..4, 4..6], false));
    assert!(!covers(&[], false), "`covers` must be false if nothing was written");
    assert!(!covers(&[0..3, 3..5], false), "`covers` must be false if the last element is missing");
    assert!(!covers(&[1..3, 3..6], false), "`covers` must be false if the first element is missing");
    assert!(!covers(&[0..2, 3..6], false), "`covers` must be false if an element in the middle is missing");
    assert!(!covers(&[0..3, 0..3], false), "`covers` must be false if one half was written twice");
    assert!(!covers(&[3..6, 0..3], false), "`covers` must be false if the parts are out of order");
    assert!(!covers(from_ref(&whole), true), "`covers` must be false if other memory was written");
}

#[derive(Clone)]
struct Tails;

impl Kernel for Tails {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for len in 0..70usize {
            let source: Vec<f32> = (0..len).map(|i| i as f32 - 20.5).collect();
            let expected: Vec<f32> = source.iter().map(|v| v * 2.0 + 1.0).collect();
            let mut memory = vec![f32::NAN; len + 2];
            let result = Output::from(&mut memory[..]).write(|mut to| {
                let written = Span::new(&source, to.range(1..len + 1)).map(
                    isa,
                    #[inline(always)]
                    |_, v: I::F32| v.mul_add(isa.f32(2.0), isa.f32(1.0)),
                );
                assert_eq!(written, expected, "span of {len} elements: expected 2 x + 1 for each element x");
                Ok((Written::default(), ()))
            });
            result.unwrap();
            for guard in [0, len + 1] {
                assert!(memory[guard].is_nan(), "span of {len} elements: elements outside the span must not change");
            }
            let mut data = source.clone();
            Span::in_place(&mut data).map(
                isa,
                #[inline(always)]
                |_, v: I::F64| v.mul_add(isa.f64(2.0), isa.f64(1.0)),
            );
            assert_eq!(
                data, expected,
                "span of {len} elements: the result in place must equal the result in other memory"
            );
            let sum = fold(
                &source,
                0.0,
                isa.f64(0.0),
                #[inline(always)]
                |sum, i, values| {
                    with_block(&source, i, 0.0, |block| assert_eq!(values, block));
                    sum + f32::load_wide(isa, values)
                },
            );
            let sum: f64 = isa.array_f64(sum).iter().sum();
            assert_eq!(sum, source.iter().map(|v| f64::from(*v)).sum::<f64>(), "`fold` must add all {len} elements");
        }
    }
}

#[test]
fn tails() {
    on_each_level(Tails);
}

#[test]
fn sums_equal_their_definitions() {
    #[derive(Clone)]
    struct Check;
    impl Kernel for Check {
        type Out = ();
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) {
            use crate::math::fixed_point::{sum_exps, sum_q};
            use crate::math::sum::{fixed_point_sum, sum_o, tiled_sum};
            let lengths = (0..600).chain([1000, 4095, 4096, 4097, 16_384, 20_001, 70_000, 262_144, 262_145, 300_000]);
            let lengths = lengths.filter(|n| !cfg!(miri) || n % 97 == 0 && *n < 2000);
            for len in lengths {
                let terms: Vec<f32> =
                    (0..len).map(|i| (i as u32).wrapping_mul(2_654_435_761) as f32 * 2f32.powi(-32 - i % 7)).collect();
                let signed: Vec<f32> = terms.iter().map(|t| (t - 0.3) * 1e3 * t).collect();
                let wide: Vec<f64> = signed.iter().map(|&t| t.into()).collect();
                let sum = sum_o(
                    isa,
                    signed.len(),
                    #[inline(always)]
                    |i| isa.widen(load(isa, &signed, i, 0.0)),
                );
                assert_eq!(
                    sum.to_bits(),
                    tiled_sum(&wide).to_bits(),
                    "sum of {len} terms: expected the same bits as from `tiled_sum`"
                );
                assert_eq!(
                    sum_exps(isa, &terms, terms.len()),
                    fixed_point_sum(&terms),
                    "sum of {len} exponentials: expected the result of `fixed_point_sum`"
                );
                // In rows of more than 2^18 terms, softmax rounds terms to multiples of 2^-48, and the sampler rounds
                // them to multiples of 2^-42.
                let long = |e: &f32| (f64::from(*e) * 2f64.powi(48)).round_ties_even() as u128;
                assert_eq!(
                    sum_exps(isa, &terms, 1 << 20),
                    terms.iter().map(long).sum::<u128>(),
                    "{len} exponentials of a long row: each must be rounded to a multiple of 2^-48 before the sum"
                );
                assert_eq!(
                    sum_exps(isa, &vec![1.0f32; terms.len()], 1 << 20),
                    (terms.len() as u128) << 48,
                    "{len} terms of 1 in a long row: expected {len} * 2^48 as the fixed-point sum"
                );
                let mass = |e: &f32| (f64::from(*e) * 2f64.powi(42)).round_ties_even() as u64;
                assert_eq!(
                    sum_q(isa, &terms, 1 << 20),
                    terms.iter().map(mass).sum::<u64>(),
                    "{len} terms of a long row: each must be rounded to a multiple of 2^-42 before the sum"
                );
            }
        }
    }
    on_each_level(Check);
}

#[test]
fn a_level_that_is_not_there_is_refused() {
    let error = "sse9".parse::<Level>().unwrap_err();
    assert_eq!(error.to_string(), "sse9: unknown instruction set; it must be auto, portable, avx2 or avx512");
    for level in Level::ALL.iter().copied().filter(|l| !l.is_available()) {
        assert!(with_level(level, || ()).is_err());
    }
}

#[test]
fn levels_nest_and_come_back() {
    let outer = super::level().unwrap();
    with_level(Level::Portable, || {
        assert_eq!(super::level().unwrap(), Level::Portable);
        let unwound = std::panic::catch_unwind(|| with_level(outer, || panic!("on purpose")));
        assert!(unwound.is_err());
        assert_eq!(super::level().unwrap(), Level::Portable);
    })
    .unwrap();
    assert_eq!(super::level().unwrap(), outer);
}
