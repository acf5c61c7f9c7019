//! Rounding of midpoints of two f32, and of numbers next to them.

#![forbid(unsafe_code)]

use exhaustive::bracket::Bracket;
use exhaustive::exact::{self, Value};
use exhaustive::formulas;
use exhaustive::function::{Function, function};
use exhaustive::reference::{Expected, Reference};
use exhaustive::tally::Tally;
use rug::Float;

/// Midpoint of 1 and the next f32.
const MIDDLE: f64 = 1.0 + f64::EPSILON * (1u64 << 28) as f64;

#[test]
fn a_bracket_decides_where_both_ends_round_the_same() {
    let (one, next) = (1.0f32, 1.0f32.next_up());
    assert_eq!(Bracket::around(MIDDLE, 2f64.powi(-50)).rounded(), None);
    assert_eq!(Bracket::around(MIDDLE * (1.0 - 2f64.powi(-48)), 2f64.powi(-50)).rounded(), Some(one));
    assert_eq!(Bracket::around(MIDDLE * (1.0 + 2f64.powi(-48)), 2f64.powi(-50)).rounded(), Some(next));
    assert_eq!(Bracket::just_above(MIDDLE).rounded(), Some(next));
    assert_eq!(Bracket::just_above(-MIDDLE).rounded(), Some(-one));
    // The two zeros are different results.
    assert_eq!(Bracket { low: -1e-60, high: 1e-60 }.rounded(), None);
    assert_eq!(Bracket::around(-0.0, 2f64.powi(-50)).rounded().map(f32::to_bits), Some((-0.0f32).to_bits()));
}

#[test]
fn a_tiny_input_of_silu_is_above_the_tie() {
    for name in ["silu", "gelu", "gelu_tanh"] {
        let function = function(name).expect("silu, gelu and gelu_tanh must be in the table of functions");
        for odd in (1..200).step_by(2) {
            let x = f32::from_bits(odd);
            // Bits of the two f32 around x/2. For positive and for negative x, all three functions have a value above
            // x/2. So a positive result rounds away from zero, and a negative result toward zero.
            let (below, above) = (odd / 2, odd / 2 + 1);
            for (x, expected) in [(x, above), (-x, below | 1 << 31)] {
                let Expected { value, by_mpfr } =
                    function.expected(x).expect("the reference must give a result for a tiny input");
                assert_eq!(
                    (value.to_bits(), by_mpfr),
                    (expected, false),
                    "{name} of {x:e} must be the f32 just above x / 2. The reference must not call MPFR"
                );
                assert_eq!(
                    function.exactly(x).expect("MPFR must round the result for a tiny input").to_bits(),
                    expected,
                    "{name} of {x:e}, rounded by MPFR: expected the bits {expected:#x}"
                );
            }
        }
    }
}

/// Returns the number 2^-900 above [`MIDDLE`] for a positive input, and the number 2^-900 below it for a negative one.
fn beside_the_middle(x: &Float, bits: u32) -> Value {
    let step = Float::with_val(24, x.signum_ref()) >> 900;
    let is_exact = bits > 1000;
    Value { number: Float::with_val(bits, MIDDLE + step), is_exact }
}

#[test]
fn mpfr_is_asked_for_more_bits_until_it_can_tell() {
    assert_eq!(exact::rounded(beside_the_middle, 1.0), Ok(1.0f32.next_up()));
    assert_eq!(exact::rounded(beside_the_middle, -1.0), Ok(1.0));
    // A tie that is marked as exact rounds to even. Any other tie is an error.
    let tie = |_: &Float, bits: u32| Value { number: Float::with_val(bits, MIDDLE), is_exact: false };
    assert_eq!(exact::rounded(tie, 1.0), Err(4096));
    let exact_tie = |_: &Float, bits: u32| Value { number: Float::with_val(bits, MIDDLE), is_exact: true };
    assert_eq!(exact::rounded(exact_tie, 1.0), Ok(1.0));
}

#[test]
fn ties_go_to_the_even_one() {
    let bits = |exact, x| exact::rounded(exact, x).map(f32::to_bits);
    // In units of the smallest subnormal number, these results are 1/2, slightly more than 1/2, 3/2 and -3/2.
    assert_eq!(bits(exact::exp2, -150.0), Ok(0));
    assert_eq!(bits(exact::exp2, (-150.0f32).next_up()), Ok(1));
    let three_halves = |x: &Float, bits: u32| Value { number: Float::with_val(bits, x * 3u32) >> 150, is_exact: true };
    assert_eq!(bits(three_halves, 1.0), Ok(2));
    assert_eq!(bits(three_halves, -1.0), Ok(1 << 31 | 2));
    // These exact results are not ties.
    assert_eq!(exact::rounded(exact::log2, f32::MIN_POSITIVE), Ok(-126.0));
    assert_eq!(exact::rounded(exact::reciprocal, 2f32.powi(127)), Ok(2f32.powi(-127)));
    assert_eq!(exact::rounded(exact::reciprocal, -0.0), Ok(f32::NEG_INFINITY));
}

#[test]
fn mpfr_decides_what_a_wide_bracket_leaves_open() {
    let wide = |x: f32| {
        let value = 1.0 / (1.0 + (-f64::from(x)).exp());
        Bracket::around(value, 2f64.powi(-34))
    };
    let narrow = *function("sigmoid").expect("sigmoid must be in the table of functions");
    let wide = Function { reference: Reference::Bounded(wide), ..narrow };
    let mut tally = Tally::default();
    for x in (0..100_000).map(|i| -3.0 + i as f32 * 6e-5) {
        let [a, b] =
            [narrow, wide].map(|function| function.expected(x).expect("the reference of sigmoid must give a result"));
        assert_eq!(
            a.value.to_bits(),
            b.value.to_bits(),
            "sigmoid of {x:e} must not depend on the width of the bracket"
        );
        tally.by_mpfr += u64::from(b.by_mpfr);
    }
    // For about one input in 256 to 512, the wide bracket contains a midpoint of two f32.
    assert!(
        (100..1000).contains(&tally.by_mpfr),
        "MPFR must decide 100 to 999 of 100000 results, got {}",
        tally.by_mpfr
    );
}

#[test]
fn formulas_say_which_zero_it_is() {
    for formula in [formulas::silu, formulas::gelu, formulas::gelu_tanh] {
        for x in [f32::NEG_INFINITY, f32::MIN, -800.0, -200.0, -125.0] {
            assert_eq!(
                formula(x).rounded().map(f32::to_bits),
                Some((-0.0f32).to_bits()),
                "the formula of silu, gelu or gelu_tanh at {x:e} must give -0"
            );
        }
    }
}

/// Checks `error_in_ulp`, whose unit depends on the exact result.
#[test]
fn errors_are_in_units_of_the_exact_result() {
    let error = |x: f32, got: f32| exact::error_in_ulp(exact::exp, x, got, x.exp());
    assert_eq!(error(0.0, 1.0), 0.0);
    assert_eq!(error(0.0, 1.0f32.next_up()), 1.0);
    assert_eq!(error(0.0, 1.0f32.next_down()), 0.5);
    assert_eq!(error(0.0, -1.0), f64::INFINITY);
    assert_eq!(error(0.0, f32::NAN), f64::INFINITY);
    assert_eq!(error(100.0, f32::MAX), f64::INFINITY);
    // Below the smallest subnormal number, an ULP is still the distance between subnormal numbers.
    assert!((error(-110.0, f32::from_bits(1)) - (1.0 - 0.001_205)).abs() < 1e-3);
    assert!((error(-100.0, f32::from_bits(28)) - 1.0).abs() < 0.5);
}
