//! Tests of the f32 computations of functions. Float-float pairs must give the bits of f64 computations, and single
//! f32s must stay within their error bound.

use super::flat::Flat;
use super::{
    Erf, Exp, Exp2, Function, Gelu, GeluTanh, Log, Log2, LogSigmoid, Reciprocal, Rsqrt, Sigmoid, Silu, SliceIo,
    Softplus, Sqrt, Tanh,
};
use crate::element::Element;
use crate::error::Result;
use crate::math::wide::Wide;
use crate::simd::{self, Isa, Level, Output, with_level};

/// Wraps a function so that it is always computed in f64.
#[derive(Clone, Copy)]
struct InF64<F>(F);

impl<F: Function> Function for InF64<F> {
    #[inline(always)]
    fn eval<I: Isa, E: Element>(self, isa: I, x: I::F64) -> Wide<I> {
        self.0.eval::<I, E>(isa, x)
    }
}

fn apply<E: Element>(x: &[E], out: &mut [E], function: impl Function) -> Result<()> {
    let out = Output::from(out);
    out.write(|to| Ok((simd::run(Flat { io: SliceIo::Apart { from: x, to }, function: &function })?, ())))?;
    Ok(())
}

/// Compares the results computed in float-float pairs with those computed in f64, on every `step`-th f32. An odd step
/// visits both signs and every exponent.
fn compare(name: &str, function: impl Function, levels: &[Level], step: usize) {
    const CHUNK: usize = 1 << 20;
    for &level in levels.iter().filter(|level| level.is_available()) {
        let mut bits = (0..=u32::MAX).step_by(step);
        let mut count = 0;
        loop {
            let x: Vec<f32> = bits.by_ref().take(CHUNK).map(f32::from_bits).collect();
            if x.is_empty() {
                break;
            }
            let (mut pairs, mut wide) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            with_level(level, || {
                apply(&x, &mut pairs, function).expect("each tested instruction set must be available");
                apply(&x, &mut wide, InF64(function)).expect("each tested instruction set must be available");
            })
            .expect("each tested instruction set must be available");
            for ((x, pair), wide) in x.iter().zip(&pairs).zip(&wide) {
                assert_eq!(pair.to_bits(), wide.to_bits(), "{name}({x:e}) at {level}: expected {wide:e}, got {pair:e}");
            }
            count += x.len();
        }
        println!("{name}: {count} inputs at {level}");
    }
}

fn compare_all(levels: &[Level], step: usize) {
    compare("exp", Exp, levels, step);
    compare("exp2", Exp2, levels, step);
    compare("log", Log, levels, step);
    compare("log2", Log2, levels, step);
    compare("reciprocal", Reciprocal, levels, step);
    compare("sqrt", Sqrt, levels, step);
    compare("rsqrt", Rsqrt, levels, step);
    compare("tanh", Tanh, levels, step);
    compare("sigmoid", Sigmoid, levels, step);
    compare("log_sigmoid", LogSigmoid, levels, step);
    compare("softplus", Softplus, levels, step);
    compare("silu", Silu, levels, step);
    compare("erf", Erf, levels, step);
    compare("gelu", Gelu, levels, step);
    compare("gelu_tanh", GeluTanh, levels, step);
}

#[test]
#[cfg_attr(miri, ignore = "minutes of interpretation")]
fn pairs_have_the_bits_of_the_f64_form() {
    compare_all(Level::ALL, 40_009);
}

/// The portable level is skipped. It has the same operations as the other levels, and the test above compares it on a
/// sample of the inputs.
#[test]
#[ignore = "minutes: all 2^32 inputs"]
fn pairs_have_the_bits_of_the_f64_form_for_every_input() {
    compare_all(&[Level::Avx2, Level::Avx512], 1);
}

/// Wraps a function so that [`Function::short`] computes its f32 results.
#[derive(Clone, Copy)]
struct Short<F>(F);

impl<F: Function> Function for Short<F> {
    const HAS_PAIR: bool = true;

    #[inline(always)]
    fn pair<I: Isa>(self, isa: I, x: I::F32) -> [I::F32; 2] {
        [self.0.short(isa, x); 2]
    }

    #[inline(always)]
    fn serves<I: Isa>(self, isa: I, x: I::F32) -> I::M32 {
        self.0.short_serves(isa, x)
    }

    /// Returns NaN, which marks the elements for which [`Function::short`] is not valid.
    #[inline(always)]
    fn eval<I: Isa, E: Element>(self, isa: I, _: I::F64) -> Wide<I> {
        Wide { hi: isa.f64(f64::NAN), lo: isa.f64(0.0), exponent: None }
    }
}

/// Compares the errors of [`Function::short`] with its bound, for every number of a 16-bit type. All levels are tested,
/// because their reciprocal estimates differ. The portable level has the least accurate estimates.
fn check_short<E: Element, F: Function>(name: &str, function: F) {
    let exact: Vec<f64> = (0..=u16::MAX).map(|bits| E::from_bits(bits.into()).widen()).collect();
    let x: Vec<f32> = exact.iter().map(|x| *x as f32).collect();
    for level in Level::ALL.iter().copied().filter(|level| level.is_available()) {
        let (mut short, mut values) = (vec![0f32; x.len()], vec![0f64; x.len()]);
        with_level(level, || {
            // Computes one element at a time, because `eval` would set every element of a chunk with many uncertain
            // elements to NaN.
            for (x, short) in x.chunks(1).zip(short.chunks_mut(1)) {
                apply(x, short, Short(function))?;
            }
            apply(&exact, &mut values, InF64(function))
        })
        .flatten()
        .expect("each tested instruction set must be available");
        let mut worst = (0.0, 0.0);
        for ((x, short), exact) in x.iter().zip(short).zip(values) {
            if short.is_finite() && (E::LIMITS.min_normal..=E::LIMITS.max).contains(&exact.abs()) {
                let ulp = 2f64.powi(exact.abs().log2().floor() as i32 - 23);
                let error = (f64::from(short) - exact).abs() / ulp;
                worst = if error > worst.0 { (error, *x) } else { worst };
            }
        }
        println!("{name} of {:?} at {level}: at most {} ULP, at {}", E::DTYPE, worst.0, worst.1);
        assert!(
            worst.0 < f64::from(F::SHORT_ULPS),
            "{name} at {level}: expected an error below {} ULP, got {} ULP at {}",
            F::SHORT_ULPS,
            worst.0,
            worst.1
        );
    }
}

fn check_short_of_both<F: Function>(name: &str, function: F) {
    check_short::<half::f16, F>(name, function);
    check_short::<half::bf16, F>(name, function);
}

#[test]
#[cfg_attr(miri, ignore = "minutes of interpretation")]
fn short_forms_keep_their_bounds_for_every_input() {
    check_short_of_both("exp", Exp);
    check_short_of_both("log", Log);
    check_short_of_both("exp2", Exp2);
    check_short_of_both("log2", Log2);
    check_short_of_both("rsqrt", Rsqrt);
    check_short_of_both("log_sigmoid", LogSigmoid);
    check_short_of_both("softplus", Softplus);
    check_short_of_both("tanh", Tanh);
    check_short_of_both("sigmoid", Sigmoid);
    check_short_of_both("silu", Silu);
    check_short_of_both("erf", Erf);
    check_short_of_both("gelu", Gelu);
    check_short_of_both("gelu_tanh", GeluTanh);
}
