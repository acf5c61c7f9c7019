//! Comparison of the references with mpmath's numbers, and with one another.

#![forbid(unsafe_code)]

use exhaustive::exact::{self, Exact};
use exhaustive::function::FUNCTIONS;
use exhaustive::reference::Reference;
use rug::Float;

fn float(bits: &str) -> f64 {
    f64::from_bits(
        u64::from_str_radix(bits, 16).expect("a number in `reference.tsv` must be the bits of an f64 in hexadecimal"),
    )
}

/// Returns the function that a line of the library's test vectors names, if this program tests it.
fn named(op: &str) -> Option<Exact> {
    Some(match op {
        "exp" => exact::exp,
        "exp_m1" => exact::expm1,
        "ln" => exact::log,
        "ln_1p" => exact::log1p,
        "sqrt" => exact::sqrt,
        "tanh" => exact::tanh,
        "erf" => exact::erf,
        "sigmoid" => exact::sigmoid,
        "silu" => exact::silu,
        "softplus" => exact::softplus,
        "log_sigmoid" => exact::log_sigmoid,
        "gelu" => exact::gelu,
        "gelu_tanh" => exact::gelu_tanh,
        _ => return None,
    })
}

/// Compares MPFR's results with mpmath's, which are stored as the sum of two f64 times a power of two.
#[test]
fn mpfr_gives_the_vectors_of_the_library() {
    let mut count = 0;
    for line in include_str!("../../../tests/vectors/reference.tsv").lines() {
        let [op, _, x, expected] = line.split('\t').collect::<Vec<_>>()[..] else { continue };
        let Some(function) = named(op) else { continue };
        let [hi, lo, exponent] = expected.split(' ').collect::<Vec<_>>()[..] else {
            panic!("reference vector {line:?}: the last column must have three numbers, got {expected:?}")
        };
        let expected = (Float::with_val(200, float(hi)) + float(lo))
            << exponent.parse::<i32>().expect("the exponent of a reference vector must be an integer");
        let got = function(&Float::with_val(53, float(x)), 200).number;
        let error = (got - &expected).abs();
        assert!(
            error <= expected.abs() >> 104,
            "{line}: MPFR may differ from the expected {expected:e} by 2^-104 times it, but differs by {error:e}"
        );
        count += 1;
    }
    assert!(count > 400, "expected more than 400 reference vectors of tested functions, got {count}");
}

/// Returns inputs of every exponent and both signs, with all special values.
fn inputs() -> impl Iterator<Item = f32> {
    let points = [0.0, 1.0, f32::INFINITY, f32::MAX, f32::MIN_POSITIVE, 1e-45, 2f32.powi(-60), 11.0, 15.0, 104.0];
    let near = |x: f32| (-20i32..=20).map(move |step| f32::from_bits(x.to_bits().wrapping_add_signed(step)));
    let points = points.into_iter().flat_map(|x| [x, -x]).flat_map(near);
    let spaced = (-13_000..=13_000).map(|i| i as f32 * 0.009_99);
    points.chain(spaced).chain((0..=u32::MAX).step_by(500_009).map(f32::from_bits))
}

#[test]
fn every_reference_gives_what_mpfr_gives() {
    for function in FUNCTIONS {
        for x in inputs() {
            let expected = function.expected(x).expect("each reference must give a result for each input").value;
            let exact = function.exactly(x).expect("MPFR must round the result of each function");
            assert_eq!(
                expected.to_bits(),
                exact.to_bits(),
                "{} of {x:e}: expected the reference to give {exact:e} like MPFR, got {expected:e}",
                function.name
            );
        }
    }
}

#[test]
fn formulas_keep_to_half_of_their_brackets() {
    for function in FUNCTIONS {
        let Reference::Bounded(formula) = function.reference else { continue };
        for x in inputs().filter(|x| x.is_finite()) {
            let bracket = formula(x);
            let number = (function.exact)(&Float::with_val(24, x), 256).number;
            // Each number must be in the inner half of its bracket. A bracket whose ends are equal has no inner half,
            // so it is skipped. Numbers below 2^-1000 in magnitude are skipped, because they round to 0 and only their
            // sign matters.
            if bracket.low == bracket.high || number.clone().abs() < 2f64.powi(-1000) {
                continue;
            }
            let inner = |a: f64, b: f64| 0.75 * a + 0.25 * b;
            let within = [inner(bracket.low, bracket.high), inner(bracket.high, bracket.low)];
            let is_within = number >= within[0] && number <= within[1];
            let vanishes = bracket.high == 0.0 && number >= bracket.low && number <= 0;
            assert!(
                is_within || vanishes,
                "{} of {x:e}: {number:e} must be in the inner half of {bracket:?}",
                function.name
            );
        }
    }
}

#[test]
fn results_that_are_not_plain_numbers_are_those_of_the_pages() {
    let expected = |name: &str, x: f32| {
        let function =
            exhaustive::function::function(name).expect("a function of this test must be in the table of functions");
        let [expected, exact] = [function.expected(x).unwrap().value, function.exactly(x).unwrap()];
        assert_eq!(
            expected.to_bits(),
            exact.to_bits(),
            "{name} of {x}: the reference and MPFR must give the same bits"
        );
        expected.to_bits()
    };
    let inf = f32::INFINITY;
    for function in FUNCTIONS {
        assert_eq!(
            expected(function.name, -f32::NAN),
            0x7fc0_0000,
            "{} of NaN: expected the quiet NaN 0x7fc00000",
            function.name
        );
    }
    for name in ["silu", "gelu", "gelu_tanh"] {
        let values = [-inf, -1e30, -1e3, -0.0, 0.0, inf].map(|x| expected(name, x));
        assert_eq!(
            values,
            [-0.0, -0.0, -0.0, -0.0, 0.0, inf].map(f32::to_bits),
            "{name} of -inf, -1e30, -1e3, -0, 0 and inf: expected the bits of -0, -0, -0, -0, 0 and inf"
        );
    }
    for name in ["tanh", "erf", "expm1", "log1p", "sqrt"] {
        assert_eq!(
            [-0.0, 0.0].map(|x| expected(name, x)),
            [-0.0f32, 0.0].map(f32::to_bits),
            "{name}: expected -0 for -0 and 0 for 0"
        );
    }
    assert_eq!([-inf, inf].map(|x| expected("log_sigmoid", x)), [-inf, -0.0].map(f32::to_bits));
    assert_eq!([-inf, inf].map(|x| expected("softplus", x)), [0.0, inf].map(f32::to_bits));
    assert_eq!([-inf, inf].map(|x| expected("sigmoid", x)), [0.0f32, 1.0].map(f32::to_bits));
    assert_eq!([-0.0, 0.0].map(|x| expected("rsqrt", x)), [-inf, inf].map(f32::to_bits));
    assert_eq!([-0.0, -1.0].map(|x| expected("log", x)), [-inf, f32::NAN].map(f32::to_bits));
    assert_eq!(expected("exp", -200.0), 0);
}
