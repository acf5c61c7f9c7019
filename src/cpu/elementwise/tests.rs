//! Tests of the faster computations of functions: pairs of f32 and tables must give the bits of f64 computations.

use super::{
    Erf, Exp, Exp2, Function, Gelu, GeluTanh, Log, Log2, LogSigmoid, Reciprocal, Rsqrt, Sigmoid, Silu, Softplus, Sqrt,
    Tanh, apply, apply_in_place,
};
use crate::element::Element;
use crate::math::wide::Wide;
use crate::simd::{Isa, Level, with_level};

/// Wraps a function so that it is always computed in f64.
#[derive(Clone, Copy)]
struct InF64<F>(F);

impl<F: Function> Function for InF64<F> {
    #[inline(always)]
    fn eval<I: Isa, E: Element>(self, isa: I, x: I::F64) -> Wide<I> {
        self.0.eval::<I, E>(isa, x)
    }
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
                apply(&x, pairs.as_mut_slice().into(), &function)?;
                apply(&x, wide.as_mut_slice().into(), &InF64(function)).map(|_| ())
            })
            .flatten()
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

/// Compares the results that are read from tables with those computed in f64, for every number of a 16-bit type.
fn check_tables<E: Element, F: Function>(name: &str, function: F) {
    let x: Vec<E> = (0..=u16::MAX).map(|bits| E::from_bits(bits.into())).collect();
    for level in Level::ALL.iter().copied().filter(|level| level.is_available()) {
        let [mut computed, mut read, mut overwritten, mut wide] = std::array::from_fn(|_| x.clone());
        let has_table = with_level(level, || {
            // The first call computes each element, and the second call fills the table.
            apply_in_place(&mut computed, &function)?;
            apply(&x, read.as_mut_slice().into(), &function)?;
            apply_in_place(&mut overwritten, &function)?;
            apply_in_place(&mut wide, &InF64(function))?;
            let tables = F::tables().expect("the function must have tables");
            tables.get::<E>(0, |_| unreachable!("{name} must have filled its table")).map(|table| table.is_some())
        })
        .flatten()
        .expect("each tested instruction set must be available");
        assert!(has_table, "{name} of {:?} at {level} must have filled its table", E::DTYPE);
        for (i, x) in x.iter().enumerate() {
            let got = [computed[i].bits(), read[i].bits(), overwritten[i].bits()];
            assert_eq!(got, [wide[i].bits(); 3], "{name}({x:?}) of {:?} at {level}", E::DTYPE);
        }
    }
}

fn check_both_tables<F: Function>(name: &str, function: F) {
    assert!(F::HAS_TABLES);
    check_tables::<half::f16, F>(name, function);
    check_tables::<half::bf16, F>(name, function);
}

#[test]
#[cfg_attr(miri, ignore = "minutes of interpretation")]
fn tables_have_the_bits_of_the_f64_form_for_every_input() {
    macro_rules! check_each {
        ($($name:ident $Op:ident $formula:literal $forms:tt $derivative:ident $gradient:tt;)*) => {$(
            check_both_tables(stringify!($name), super::$Op);
        )*};
    }
    crate::for_each_elementwise!(check_each);
}
