//! Tests of the functions computed in pairs of f32 against the same functions computed in f64.

use super::flat::Flat;
use super::{
    Erf, Exp, Exp2, Function, Gelu, GeluTanh, Log, Log2, LogSigmoid, Reciprocal, Rsqrt, Sigmoid, Silu, SliceIo,
    Softplus, Sqrt, Tanh,
};
use crate::element::Element;
use crate::error::Result;
use crate::math::wide::Wide;
use crate::simd::{Isa, Level, Output, run_here, with_level};

/// Wraps a function so that it is always computed in f64.
#[derive(Clone, Copy)]
struct InF64<F>(F);

impl<F: Function> Function for InF64<F> {
    #[inline(always)]
    fn eval<I: Isa, E: Element>(self, isa: I, x: I::F64) -> Wide<I> {
        self.0.eval::<I, E>(isa, x)
    }
}

fn apply(x: &[f32], out: &mut [f32], function: impl Function) -> Result<()> {
    let (to, finish) = Output::from(out).start();
    let written = run_here(Flat { io: SliceIo::Apart { from: x, to }, function: &function })?;
    finish.done(written);
    Ok(())
}

/// Compares both computations on every `step`-th f32. An odd step visits both signs and every exponent.
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
                apply(&x, &mut pairs, function).expect("each tested level must be available");
                apply(&x, &mut wide, InF64(function)).expect("each tested level must be available");
            })
            .expect("each tested level must be available");
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
    compare_all(&Level::ALL, 40_009);
}

/// Skips the portable level, which has the same operations: the sampled test covers it.
#[test]
#[ignore = "minutes: all 2^32 inputs"]
fn pairs_have_the_bits_of_the_f64_form_for_every_input() {
    compare_all(&[Level::Avx2, Level::Avx512], 1);
}
