//! Results of single instructions whose rounding, NaN or edge cases are subtle.

use crate::support::{counted, eval, f32s, run};
use evenkeel_ptx_emulator::Order;

const NAN32: u32 = 0x7fff_ffff;
const INF: u32 = 0x7f80_0000;

#[test]
fn nan_of_f32_has_all_bits_set() {
    let payload = 0xffc1_2345;
    assert_eq!(eval("add.rn.f32 %f0, %f1, %f2;", &[INF, INF | 1 << 31], &[]), NAN32.into());
    assert_eq!(eval("mul.rn.f32 %f0, %f1, %f2;", &[payload, 0], &[]), NAN32.into());
    assert_eq!(eval("fma.rn.f32 %f0, %f1, %f2, %f3;", &[0, INF, payload], &[]), NAN32.into());
    assert_eq!(eval("sqrt.rn.f32 %f0, %f1;", &[1 << 31 | 1], &[]), NAN32.into());
    assert_eq!(eval("cvt.rn.f32.f64 %f0, %fd1;", &[], &[0xfff8_0000_0000_0001]), NAN32.into());
    // Moves and the sign change keep the bits.
    assert_eq!(eval("neg.f32 %f0, %f1;", &[payload], &[]), (payload ^ 1 << 31).into());
    assert_eq!(eval("mov.f32 %f0, %f1;", &[payload], &[]), payload.into());
}

#[test]
fn nan_of_f64_is_the_first_operand_that_is_nan() {
    let [first, second] = [0x7ff0_0000_0000_1234, 0xfff8_0000_0000_5678];
    let quiet = first | 1 << 51;
    assert_eq!(eval("add.rn.f64 %fd0, %fd1, %fd2;", &[], &[first, second]), quiet);
    assert_eq!(eval("fma.rn.f64 %fd0, %fd1, %fd2, %fd3;", &[], &[0, first, second]), quiet);
    let infinity = f64::INFINITY.to_bits();
    assert_eq!(eval("sub.rn.f64 %fd0, %fd1, %fd1;", &[], &[infinity]), 0xfff8_0000_0000_0000);
}

#[test]
fn extremes_ignore_nan_and_order_zeros() {
    let (one, nan) = (1f32.to_bits(), 0xffc0_0001);
    for op in ["min", "max"] {
        assert_eq!(eval(&format!("{op}.f32 %f0, %f1, %f2;"), &[one, nan], &[]), one.into());
        assert_eq!(eval(&format!("{op}.f32 %f0, %f1, %f2;"), &[nan, one], &[]), one.into());
        assert_eq!(eval(&format!("{op}.f32 %f0, %f1, %f2;"), &[nan, nan], &[]), NAN32.into());
        assert_eq!(eval(&format!("{op}.NaN.f32 %f0, %f1, %f2;"), &[one, nan], &[]), NAN32.into());
    }
    for [a, b] in [[0u32, 1 << 31], [1 << 31, 0]] {
        assert_eq!(eval("min.f32 %f0, %f1, %f2;", &[a, b], &[]), 1 << 31);
        assert_eq!(eval("max.f32 %f0, %f1, %f2;", &[a, b], &[]), 0);
        let [a, b] = [a, b].map(|bits| u64::from(bits) << 32);
        assert_eq!(eval("max.f64 %fd0, %fd1, %fd2;", &[], &[a, b]), 0);
    }
    // The first operand has the bf16 numbers 1 and -0, the second has NaN and 2.
    assert_eq!(eval("max.NaN.bf16x2 %r10, %r11, %r12;", &[0x3f80_8000, 0x7fc1_4000], &[]), 0x7fff_4000);
    assert_eq!(eval("min.bf16x2 %r10, %r11, %r12;", &[0x3f80_8000, 0x7fc1_4000], &[]), 0x3f80_8000);
    assert_eq!(eval("max.NaN.f16x2 %r10, %r11, %r12;", &[0x3c00_8000, 0x7e01_0000], &[]), 0x7fff_0000);
}

#[test]
fn comparisons_with_nan() {
    let (one, nan) = (1f32.to_bits(), 0x7fc0_0000);
    for (name, ordered, with_nan) in [
        ("eq", true, false),
        ("ne", false, false),
        ("lt", false, false),
        ("ge", true, false),
        ("equ", true, true),
        ("neu", false, true),
        ("ltu", false, true),
        ("geu", true, true),
        ("num", true, false),
        ("nan", false, true),
    ] {
        let instruction = format!("setp.{name}.f32 %p0, %f1, %f2;");
        assert_eq!(eval(&instruction, &[one, one], &[]), ordered.into(), "{name}");
        assert_eq!(eval(&instruction, &[one, nan], &[]), with_nan.into(), "{name} with NaN");
    }
    assert_eq!(eval("setp.lt.s32 %p0, %r11, %r12;", &[u32::MAX, 0], &[]), 1);
    assert_eq!(eval("setp.lt.u32 %p0, %r11, %r12;", &[u32::MAX, 0], &[]), 0);
    assert_eq!(eval("setp.lt.s16 %p0, %rs1, %rs2;", &[0x8000, 0], &[]), 1);
}

#[test]
fn fma_rounds_once() {
    let [a, c] = [1.0 + f32::EPSILON, -(1.0 + 2.0 * f32::EPSILON)];
    assert_eq!(f32s("fma.rn.f32 %f0, %f1, %f1, %f2;", &[a, c]), f32::EPSILON * f32::EPSILON);
    let [a, c] = [1.0 + f64::EPSILON, -(1.0 + 2.0 * f64::EPSILON)];
    let result = eval("fma.rn.f64 %fd0, %fd1, %fd1, %fd2;", &[], &[a.to_bits(), c.to_bits()]);
    assert_eq!(f64::from_bits(result), f64::EPSILON * f64::EPSILON);
}

#[test]
fn operations_that_round_in_a_direction() {
    let [one, tiny] = [1.0f32, 1e-30];
    assert_eq!(f32s("add.rz.f32 %f0, %f1, %f2;", &[one, -tiny]), one.next_down());
    assert_eq!(f32s("add.rm.f32 %f0, %f1, %f2;", &[one, tiny]), one);
    assert_eq!(f32s("add.rp.f32 %f0, %f1, %f2;", &[one, tiny]), one.next_up());
    assert_eq!(f32s("add.rz.f32 %f0, %f1, %f2;", &[-one, tiny]), (-one).next_up());
    assert_eq!(f32s("div.rz.f32 %f0, %f1, %f2;", &[2.0, 3.0]), 0.666_666_6);
    assert_eq!(f32s("div.rp.f32 %f0, %f1, %f2;", &[1.0, 3.0]), 0.333_333_34);
    assert_eq!(f32s("mul.rz.f32 %f0, %f1, %f1;", &[one.next_down()]), 1.0 - f32::EPSILON);
    assert_eq!(f32s("fma.rp.f32 %f0, %f1, %f1, %f2;", &[one, tiny]), one.next_up());
}

#[test]
fn conversions_between_floats() {
    let v = 1.0 + 2f64.powi(-24) * 1.5;
    let of = |rounding: &str, v: f64| {
        f32::from_bits(eval(&format!("cvt.{rounding}.f32.f64 %f0, %fd1;"), &[], &[v.to_bits()]) as u32)
    };
    assert_eq!((of("rn", v), of("rz", v)), (1f32.next_up(), 1.0));
    assert_eq!((of("rz", -v), of("rm", -v), of("rp", v)), (-1.0, -1f32.next_up(), 1f32.next_up()));
    assert_eq!((of("rn", 1e300), of("rz", 1e300), of("rz", -1e300)), (f32::INFINITY, f32::MAX, f32::MIN));
    assert_eq!((of("rn", 1e-46), of("rz", 1e-44)), (0.0, f32::from_bits(7)));
    // A number midway between two f16 rounds to the even f16. Numbers from 65520 upwards round to infinity.
    for (v, bits) in [(1.000_488_3, 0x3c00), (1.001_464_8, 0x3c02), (65519.0, 0x7bff), (65520.0, 0x7c00), (3e-8, 1)] {
        assert_eq!(eval("cvt.rn.f16.f32 %rs0, %f1;", &[f32::to_bits(v)], &[]), bits, "{v}");
    }
    for bits in [0, 1, 0x3ff, 0x400, 0x3c00, 0x7bff, 0x7c00, 0x8001, 0xfbff] {
        let wide = eval("cvt.f32.f16 %f0, %rs1;", &[bits], &[]) as u32;
        assert_eq!(eval("cvt.rn.f16.f32 %rs0, %f1;", &[wide], &[]), bits.into());
    }
    assert_eq!(eval("cvt.rn.bf16.f32 %rs0, %f1;", &[0x3f80_8000], &[]), 0x3f80);
    assert_eq!(eval("cvt.rn.bf16.f32 %rs0, %f1;", &[0x3f81_8000], &[]), 0x3f82);
    assert_eq!(eval("cvt.rn.bf16.f32 %rs0, %f1;", &[0xff80_0001], &[]), 0x7fff);
    // The first operand becomes the upper half.
    assert_eq!(eval("cvt.rn.bf16x2.f32 %r10, %f1, %f2;", &[0x3f80_0000, 0x4000_0000], &[]), 0x3f80_4000);
    assert_eq!(eval("cvt.rn.f16x2.f32 %r10, %f1, %f2;", &[0x3f80_0000, 0x4000_0000], &[]), 0x3c00_4000);
    // A conversion by way of f32 would round twice, and give 1.
    let v = 1.0 + 2f64.powi(-11) + 2f64.powi(-40);
    assert_eq!(eval("cvt.rn.f16.f64 %rs0, %fd1;", &[], &[v.to_bits()]), 0x3c01);
    assert_eq!(eval("cvt.rz.f16.f32 %rs0, %f1;", &[0xbf80_3fff], &[]), 0xbc01);
}

#[test]
fn conversions_between_floats_and_integers() {
    let of = |instruction: &str, v: f64| eval(instruction, &[], &[v.to_bits()]);
    assert_eq!(f64::from_bits(of("cvt.rni.f64.f64 %fd0, %fd1;", 2.5)), 2.0);
    assert_eq!(f64::from_bits(of("cvt.rmi.f64.f64 %fd0, %fd1;", -2.5)), -3.0);
    assert_eq!(of("cvt.rzi.u32.f64 %r10, %fd1;", -1.0), 0);
    assert_eq!(of("cvt.rzi.u32.f64 %r10, %fd1;", 1e20), 0xffff_ffff);
    assert_eq!(of("cvt.rzi.u32.f64 %r10, %fd1;", f64::NAN), 1 << 31);
    assert_eq!(of("cvt.rzi.u64.f64 %rd10, %fd1;", f64::NAN), 1 << 63);
    assert_eq!(eval("cvt.rzi.s32.f32 %r10, %f1;", &[0x7fc0_0000], &[]), 0);
    assert_eq!(eval("cvt.rn.f32.s32 %f0, %r11;", &[-3i32 as u32], &[]), (-3f32).to_bits().into());
    assert_eq!(eval("cvt.rn.f32.u32 %f0, %r11;", &[0x0100_0001], &[]), (16_777_216f32).to_bits().into());
    assert_eq!(eval("cvt.rp.f32.u32 %f0, %r11;", &[0x0100_0001], &[]), (16_777_218f32).to_bits().into());
    assert_eq!(eval("cvt.rn.f64.u64 %fd0, %rd11;", &[], &[u64::MAX]), 2f64.powi(64).to_bits());
    assert_eq!(eval("cvt.rz.f64.u64 %fd0, %rd11;", &[], &[u64::MAX]), 2f64.powi(64).next_down().to_bits());
    assert_eq!(eval("cvt.s64.s32 %rd10, %r11;", &[0x8000_0000], &[]), 0xffff_ffff_8000_0000);
    assert_eq!(eval("cvt.s32.s16 %r10, %rs1;", &[0x8000], &[]), 0xffff_8000);
}

#[test]
fn integers() {
    assert_eq!(eval("shl.b32 %r10, %r11, %r12;", &[1, 32], &[]), 0);
    assert_eq!(eval("shr.s32 %r10, %r11, %r12;", &[1 << 31, 99], &[]), 0xffff_ffff);
    assert_eq!(eval("shr.u64 %rd10, %rd11, %r11;", &[64], &[u64::MAX]), 0);
    assert_eq!(eval("shr.u16 %rs0, %rs1, 1;", &[0xffff], &[]), 0x7fff);
    assert_eq!(eval("mul.hi.u64 %rd10, %rd11, %rd11;", &[], &[u64::MAX]), u64::MAX - 1);
    assert_eq!(eval("mul.hi.s32 %r10, %r11, %r12;", &[u32::MAX, 2], &[]), u32::MAX.into());
    assert_eq!(eval("mul.wide.u32 %rd10, %r11, %r12;", &[u32::MAX, 16], &[]), u64::from(u32::MAX) * 16);
    assert_eq!(eval("mul.wide.s32 %rd10, %r11, %r12;", &[u32::MAX, 16], &[]), -16i64 as u64);
    assert_eq!(eval("mad.wide.u16 %r10, %rs1, %rs2, %r13;", &[0xffff, 2, 5], &[]), 0x1_fffe + 5);
    assert_eq!(eval("mad.lo.s32 %r10, %r11, %r12, %r13;", &[u32::MAX, 7, 5], &[]), -2i32 as u32 as u64);
    assert_eq!(eval("div.s32 %r10, %r11, %r12;", &[-7i32 as u32, 2], &[]), -3i32 as u32 as u64);
    assert_eq!(eval("rem.s32 %r10, %r11, %r12;", &[-7i32 as u32, 2], &[]), u32::MAX.into());
    assert_eq!(eval("min.s32 %r10, %r11, %r12;", &[u32::MAX, 2], &[]), u32::MAX.into());
    assert_eq!(eval("min.u32 %r10, %r11, %r12;", &[u32::MAX, 2], &[]), 2);
    assert_eq!(eval("clz.b32 %r10, %r11;", &[1], &[]), 31);
    assert_eq!(eval("bfind.u32 %r10, %r11;", &[0x500], &[]), 10);
    assert_eq!(eval("bfind.shiftamt.u32 %r10, %r11;", &[0x500], &[]), 21);
    assert_eq!(eval("bfind.u64 %r10, %rd11;", &[], &[0]), 0xffff_ffff);
    assert_eq!(eval("popc.b64 %r10, %rd11;", &[], &[u64::MAX]), 64);
    assert_eq!(eval("bfi.b32 %r10, %r11, %r12, 8, 4;", &[0xabcd, 0xffff_ffff], &[]), 0xffff_fdff);
    assert_eq!(eval("bfi.b64 %rd10, %rd11, %rd12, 32, 32;", &[], &[1, 2]), 1 << 32 | 2);
    assert_eq!(eval("bfe.u32 %r10, %r11, 4, 8;", &[0xabcd], &[]), 0xbc);
    assert_eq!(eval("bfe.s32 %r10, %r11, 4, 8;", &[0xabcd], &[]), 0xffff_ffbc);
    assert_eq!(eval("bfe.s32 %r10, %r11, 28, 16;", &[0xa000_0000], &[]), 0xffff_fffa);
    assert_eq!(eval("prmt.b32 %r10, %r11, %r12, 0x5410;", &[0x1122_3344, 0x5566_7788], &[]), 0x7788_3344);
    assert_eq!(eval("prmt.b32 %r10, %r11, %r12, 0xc780;", &[0x1122_3344, 0x5566_7788], &[]), 0xff55_0044);
    assert_eq!(eval("lop3.b32 %r10, %r11, %r12, %r13, 0x96;", &[0xf0, 0xcc, 0xaa], &[]), 0xf0 ^ 0xcc ^ 0xaa);
    assert_eq!(eval("lop3.b32 %r10, %r11, %r12, %r13, 0xca;", &[0xf0, 0xcc, 0xaa], &[]), 0xf0 & 0xcc | !0xf0 & 0xaa);
    assert_eq!(eval("shf.l.wrap.b32 %r10, %r11, %r12, %r13;", &[0x8000_0000, 1, 33], &[]), 3);
    assert_eq!(eval("shf.r.clamp.b32 %r10, %r11, %r12, %r13;", &[1, 7, 33], &[]), 7);
    assert_eq!(eval("slct.u32.s32 %r10, %r11, %r12, %r13;", &[1, 2, u32::MAX], &[]), 2);
    assert_eq!(eval("slct.f32.f32 %f0, %f1, %f2, %f3;", &[1, 2, 1 << 31], &[]), 1);
    assert_eq!(eval("xor.pred %p0, %p1, %p2;", &[1, 1], &[]), 0);
}

#[test]
fn approximations_are_within_their_bounds_and_not_exact() {
    // Each instruction, its exact function, the unit of its error, and log2 of the largest error in this unit. The
    // bounds are NVIDIA's; 1 ULP counts as 2^-23 of the result. The unit is the result. For lg2 of inputs between 1/2
    // and 2, it is 1.
    type Exact = fn(f64) -> f64;
    type Instruction = (&'static str, Exact, Exact, f64);
    let relative = |exact: f64| exact.abs();
    let instructions: [Instruction; 5] = [
        ("ex2.approx.f32", f64::exp2, relative, -22.0),
        ("rcp.approx.f32", f64::recip, relative, -23.0),
        ("rsqrt.approx.f32", |x| 1.0 / x.sqrt(), relative, -22.9),
        ("sqrt.approx.f32", f64::sqrt, relative, -23.0),
        ("lg2.approx.f32", f64::log2, |exact| exact.abs().max(1.0), -22.0),
    ];
    for (instruction, exact, unit, bound) in instructions {
        let mut different = 0;
        for i in 1..200 {
            let x = i as f32 * 0.37;
            let got = f32::from_bits(eval(&format!("{instruction} %f0, %f1;"), &[x.to_bits()], &[]) as u32);
            let exact = exact(x.into());
            let error = (f64::from(got) - exact).abs() / unit(exact);
            assert!(error <= bound.exp2(), "{instruction} of {x}: the error is {error}, above 2^{bound}");
            different += usize::from(got != exact as f32);
        }
        assert!(
            different > 20,
            "{instruction} must differ from the rounded exact result for more than 20 of 199 inputs, got {different}"
        );
    }
    assert_eq!(eval("ex2.approx.ftz.f32 %f0, %f1;", &[(-140f32).to_bits()], &[]), 0);
    assert_eq!(f32s("ex2.approx.f32 %f0, %f1;", &[f32::NEG_INFINITY]), 0.0);
}

#[test]
fn shuffles_votes_and_reductions() {
    // Each of 32 lanes multiplies the received value by 4^lane, and adds the product to the output's first element.
    let sums = |instruction: &str| {
        let statements = format!(
            "mov.u32 %r2, %laneid;\n{instruction}\ncvt.u64.u32 %rd5, %r3;\nmul.wide.u32 %rd6, %r2, 2;\n\
             cvt.u32.u64 %r7, %rd6;\nshl.b64 %rd5, %rd5, %r7;\nred.global.add.u64 [%rd1], %rd5;"
        );
        run(&statements, 32).unwrap()[0]
    };
    let expected =
        |from: &dyn Fn(u64) -> u64| (0..32).fold(0u64, |sum, lane| sum.wrapping_add(from(lane) << (2 * lane)));
    assert_eq!(sums("shfl.sync.bfly.b32 %r3|%p1, %r2, 16, 31, -1;"), expected(&|lane| lane ^ 16));
    assert_eq!(sums("shfl.sync.down.b32 %r3|%p1, %r2, 5, 31, -1;"), expected(&|l| if l + 5 < 32 { l + 5 } else { l }));
    assert_eq!(sums("shfl.sync.up.b32 %r3, %r2, 5, 0, -1;"), expected(&|lane| if lane >= 5 { lane - 5 } else { lane }));
    assert_eq!(sums("shfl.sync.idx.b32 %r3, %r2, 3, 31, -1;"), expected(&|_| 3));
    // The second-to-last operand divides the warp into segments of eight lanes. Each lane receives from its own
    // segment.
    assert_eq!(sums("shfl.sync.idx.b32 %r3, %r2, 3, 0x181f, -1;"), expected(&|lane| lane & !7 | 3));
    assert_eq!(sums("redux.sync.add.u32 %r3, %r2, -1;"), expected(&|_| 496));
    assert_eq!(sums("sub.s32 %r4, %r2, 7;\nredux.sync.min.s32 %r3, %r4, -1;"), expected(&|_| 0xffff_fff9));
    assert_eq!(sums("setp.lt.u32 %p1, %r2, 3;\nvote.sync.ballot.b32 %r3, %p1, -1;"), expected(&|_| 7));
    let all = "setp.lt.u32 %p1, %r2, 32;\nvote.sync.all.pred %p2, %p1, -1;\nselp.u32 %r3, 1, 0, %p2;";
    assert_eq!(sums(all), expected(&|_| 1));
    // Two halves of the warp reduce separately.
    let halves =
        "and.b32 %r4, %r2, 16;\nmov.u32 %r5, 0xffff;\nshl.b32 %r5, %r5, %r4;\nredux.sync.max.u32 %r3, %r2, %r5;";
    assert_eq!(sums(halves), expected(&|lane| lane | 15));
}

#[test]
fn lanes_meet_again_after_a_branch() {
    let statements = "and.b32 %r2, %r1, 1;\nsetp.eq.s32 %p1, %r2, 0;\nmov.u32 %r3, 0;\nmov.u32 %r4, %r1;\n\
        @%p1 bra EVEN;\nLOOP:\nadd.s32 %r3, %r3, 2;\nsub.s32 %r4, %r4, 1;\nsetp.gt.s32 %p2, %r4, 0;\n@%p2 bra LOOP;\n\
        bra.uni JOIN;\nEVEN:\nadd.s32 %r3, %r3, 1;\nJOIN:\nredux.sync.add.u32 %r5, %r3, -1;\nst.global.u32 [%rd1], %r5;";
    let expected: u64 = (0..32).map(|lane| if lane % 2 == 0 { 1 } else { 2 * lane }).sum();
    assert_eq!(run(statements, 32).unwrap()[0], expected);
}

#[test]
fn each_execution_by_a_warp_counts_once() {
    // Lane 31 of a warp runs the loop 32 times, and the other lanes leave it earlier. The guard of the last instruction
    // holds in no lane.
    let statements = "and.b32 %r2, %r1, 31;\nLOOP:\nsub.s32 %r2, %r2, 1;\nsetp.ge.s32 %p1, %r2, 0;\n@%p1 bra LOOP;\n\
        setp.lt.s32 %p2, %r2, -1;\n@%p2 mov.u32 %r3, 0;";
    let (_, counts) = counted(statements, 64, Order::Forward).unwrap();
    // Every kernel of the tests begins with two instructions and ends with a return. The decoder adds another return.
    assert_eq!(counts, [2, 2, 2, 64, 64, 64, 2, 2, 2, 0]);
}

#[test]
fn memory_of_every_space() {
    let statements = "ld.const.u32 %r2, [TABLE+4];\nmov.u64 %rd2, TABLE;\nld.const.u32 %r3, [%rd2];\n\
        mov.u64 %rd3, shared;\ncvta.shared.u64 %rd4, %rd3;\nst.u32 [%rd4+8], %r2;\nmov.u32 %r4, shared;\n\
        ld.shared.u32 %r5, [%r4+8];\nst.global.v2.u32 [%rd1], {%r5, %r3};\nmov.b64 {%r6, %r7}, 0x200000001;\n\
        mov.b32 {%rs1, %rs2}, 0x20001;\nmov.b32 %r8, {%rs2, %rs1};\nst.global.v4.u32 [%rd1+16], {%r6, %r7, %r8, %r7};";
    assert_eq!(run(statements, 1).unwrap()[..4], [1 << 32 | 2, 0, 2 << 32 | 1, 2 << 32 | 0x10002]);
    let global = "mov.u64 %rd2, COUNTER;\natom.global.add.u32 %r2, [%rd2], 1;\nld.global.u32 %r3, [COUNTER];\n\
        st.global.v2.u32 [%rd1], {%r2, %r3};";
    assert_eq!(run(global, 1).unwrap()[0], 6 << 32 | 5);
    let atomics = "mov.u32 %r4, shared;\nst.shared.u32 [%r4], 5;\natom.shared.add.u32 %r5, [%r4], 2;\n\
        atom.shared.cas.b32 %r6, [%r4], 7, 9;\natom.shared.exch.b32 %r7, [%r4], 1;\natom.global.max.u64 %rd5, [%rd1], 3;\n\
        st.global.v4.u32 [%rd1+16], {%r5, %r6, %r7, %r7};";
    assert_eq!(run(atomics, 1).unwrap()[..4], [3, 0, 7 << 32 | 5, 9 << 32 | 9]);
}
