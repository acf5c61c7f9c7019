//! Tests of the functions that compute and compare ULPs, on which all other tests rely.

use crate::support::compare::{same_bits, within, within_terms};
use crate::support::generate::{Bits, all, walk};
use crate::support::ulp;
use evenkeel::Element;
use evenkeel::reference::{DoubleDouble, Real};
use half::{bf16, f16};

const INF: f64 = f64::INFINITY;

/// Returns whether a stored value is within `ulps` of an exact value.
fn passes(got: f32, exact: f64, ulps: f64) -> bool {
    within("", &[], &[got], &[exact], ulps).is_ok()
}

#[test]
fn a_nan_is_not_a_number_and_a_number_is_not_a_nan() {
    assert!(!passes(f32::NAN, 1.0, INF.next_down()));
    assert!(!passes(1.0, f64::NAN, INF.next_down()));
    assert!(passes(f32::NAN, f64::NAN, 0.0));
}

#[test]
fn infinities_have_a_sign() {
    assert!(passes(f32::INFINITY, INF, 0.0));
    assert!(!passes(f32::INFINITY, -INF, 1e300));
    assert!(!passes(f32::NEG_INFINITY, INF, 1e300));
    assert!(!passes(f32::MAX, INF, 1e300));
}

#[test]
fn what_overflows_is_rightly_infinite_and_what_does_not_is_not() {
    let (max, half_ulp) = (f64::from(f32::MAX), 2f64.powi(103));
    assert!(passes(f32::INFINITY, max + half_ulp, 0.5));
    assert!(passes(f32::INFINITY, 1e300, 0.0));
    assert!(passes(f32::MAX, max + half_ulp, 0.5));
    assert!(!passes(f32::INFINITY, max + 0.99 * half_ulp, 0.5));
    assert!(!passes(f32::MAX, max + 1.01 * half_ulp, 0.5));
    assert!(!passes(f32::INFINITY, max, 1e30));
    assert!(!passes(f32::INFINITY, 1.0, 1e30));
    assert!(!passes(f32::NEG_INFINITY, 1e300, 1e30));
    // In f64 too, an infinity is correct for an exact value beyond the range of the type.
    let beyond = DoubleDouble::from(f64::MAX) * DoubleDouble::from(4.0);
    assert_eq!(within("", &[], &[INF], &[beyond], 0.0), Ok(0.0));
    assert!(within("", &[], &[f64::MAX], &[beyond], 1e15).is_err());
}

#[test]
fn nothing_but_zero_is_right_where_zero_is_expected() {
    assert!(passes(0.0, 0.0, 0.0));
    assert!(passes(-0.0, 0.0, 0.0));
    assert!(!passes(f32::from_bits(1), 0.0, 1e30));
    assert!(within_terms("", &[], &[1e-30f32], &[0.0], |_| 0.0, 1e30).is_err());
    // The error of a sum that cancels is measured in ULP of its terms.
    assert!(within_terms("", &[], &[1e-9f32], &[0.0], |_| 1.0, 0.1).is_ok());
    assert!(within_terms("", &[], &[1e-9f32], &[0.0], |_| 1.0, 0.008).is_err());
}

#[test]
fn a_subnormal_result_may_be_off_by_its_own_ulp_only() {
    let smallest = f64::from(f32::from_bits(1));
    assert!(passes(f32::from_bits(3), 2.5 * smallest, 0.5));
    assert!(!passes(0.0, smallest, 0.9));
    assert!(passes(0.0, 0.4 * smallest, 0.4));
    assert!(!passes(f32::MIN_POSITIVE, smallest, 1000.0));
}

#[test]
fn one_ulp_too_far_is_too_far() {
    for (value, steps) in [(1.0f32, 3), (1.5, 3), (-7.25, 2), (1e-40, 2)] {
        let exact = f64::from(value);
        for step in -4i64..=4 {
            let got = f32::at_place(value.place() - step);
            // Just below a power of two, adjacent values are half an ULP apart. The error in ULP may therefore be
            // smaller than the number of steps.
            let ulps = (f64::from(got) - exact).abs() / ulp::size::<f32>(exact);
            assert_eq!(
                passes(got, exact, steps as f64),
                ulps <= steps as f64,
                "`within` must {} {got} for {value}: the error is {ulps} ULP, and the bound is {steps} ULP",
                if ulps <= steps as f64 { "accept" } else { "reject" }
            );
        }
    }
}

#[test]
fn nothing_to_compare_is_a_failure() {
    assert!(within::<f32, f64>("", &[], &[], &[], 1.0).is_err());
    assert!(same_bits::<f32>("", &[], &[]).is_err());
    assert!(within("", &[], &[1.0f32, 1.0], &[1.0], 1.0).is_err());
    assert!(same_bits("", &[1.0f32], &[1.0, 1.0]).is_err());
}

#[test]
fn same_bits_sees_the_sign_of_zero_and_the_payload_of_nan() {
    assert!(same_bits("", &[0.0f32], &[-0.0]).is_err());
    assert!(same_bits("", &[f32::from_bits(0x7fc0_0001)], &[f32::NAN]).is_err());
    assert!(same_bits("", &[f32::NAN], &[f32::NAN]).is_ok());
}

#[test]
fn a_failure_says_what_where_and_by_how_much() {
    let failure = within("row 3", &[1.0f32, 2.0], &[1.0, 2.5], &[1.0, 2.0], 1.0).unwrap_err();
    for part in ["row 3", "1 of 2", "[1]", "input 2e0 (0x40000000)", "2.5e0 (0x40200000)", "expected 2e0", "ULP off"] {
        assert!(failure.contains(part), "the failure message must contain {part:?}, got {failure:?}");
    }
    let failure = same_bits("lane 0", &[0.0f32], &[-0.0]).unwrap_err();
    assert!(
        failure.contains("lane 0") && failure.contains("0x80000000"),
        "same_bits of 0 and -0: the failure message must contain \"lane 0\" and \"0x80000000\", got {failure:?}"
    );
}

/// Checks the ULP at every finite value of bf16. The value's neighbours are found by their places in the order of all
/// values.
#[test]
fn the_ulp_of_every_bf16_is_the_distance_to_the_next() {
    for value in all::<bf16>().into_iter().filter(|v| v.widen().is_finite()) {
        let magnitude = value.widen().abs();
        let next = bf16::at_place(value.place().abs() + 1).widen();
        let distance = if next.is_infinite() {
            magnitude - bf16::at_place(value.place().abs() - 1).widen()
        } else {
            next - magnitude
        };
        assert_eq!(
            ulp::size::<bf16>(value.widen()),
            distance,
            "the size of an ULP at {value} must be {distance}, which is the distance to a neighbouring value"
        );
        assert_eq!(ulp::error(value, value.widen()), 0.0);
        // A number halfway between two neighbours is half an ULP from each.
        if value.widen() != 0.0 {
            let between = value.widen() + (distance / 2.0).copysign(value.widen());
            let outer = bf16::at_place(value.place() + value.place().signum());
            assert_eq!(
                ulp::error(value, between),
                0.5,
                "the error of {value} must be 0.5 ULP if the exact result is {between}"
            );
            let expected = if outer.widen().is_infinite() { 0.0 } else { 0.5 };
            assert_eq!(
                ulp::error(outer, between),
                expected,
                "the error of {outer} must be {expected} ULP if the exact result is {between}"
            );
        }
    }
}

#[test]
fn rounding_a_number_to_bf16_is_half_an_ulp_and_the_next_choice_more() {
    for value in walk::<f32>(&[0.0, 1e-40, 1e-38, 0.3, 1.0, 255.5, 3e38], 2000) {
        let exact = f64::from(value);
        let rounded = bf16::from_wide(exact);
        if !rounded.widen().is_finite() {
            continue;
        }
        let error = if exact == 0.0 { 0.0 } else { ulp::error(rounded, exact) };
        assert!(error <= 0.5, "{exact:e} rounded to {rounded}: expected an error of at most 0.5 ULP, got {error} ULP");
        for other in [-1, 1].map(|step| bf16::at_place(rounded.place() + step)) {
            if exact != 0.0 {
                // Both neighbours of the rounded value have an error of at least half an ULP.
                assert!(
                    ulp::error(other, exact) >= 0.5,
                    "{exact:e} rounds to {rounded}: the neighbour {other} of {rounded} must have an error of at least \
                     0.5 ULP, got {} ULP",
                    ulp::error(other, exact)
                );
            }
        }
    }
}

#[test]
fn ulps_are_those_of_each_type() {
    assert_eq!(ulp::size::<f64>(1.0), f64::EPSILON);
    assert_eq!(ulp::size::<f64>(0.0), 5e-324);
    assert_eq!(ulp::size::<f64>(1e-310), 5e-324);
    assert_eq!(ulp::size::<f32>(1.0), f64::from(f32::EPSILON));
    assert_eq!(ulp::size::<f32>(-0.0), f64::from(f32::from_bits(1)));
    assert_eq!(ulp::size::<f16>(1024.0), 1.0);
    assert_eq!(ulp::size::<f16>(65504.0), 32.0);
    assert_eq!(ulp::size::<f16>(INF), 32.0);
    assert_eq!(ulp::size::<bf16>(256.0), 2.0);
}

#[test]
fn an_exact_number_beyond_f64_counts_to_its_last_bit() {
    let tiny = DoubleDouble::from(2f64.powi(-60));
    let exact = DoubleDouble::from(1.0) - tiny;
    assert_eq!(ulp::toward_zero(exact), 1.0f64.next_down());
    assert_eq!(ulp::error(1.0, exact), 2f64.powi(-60 + 53));
    // The exact result is 1.25 times the smallest subnormal f64.
    let exact = DoubleDouble::from(5e-324) * DoubleDouble::from(1.25);
    assert_eq!(ulp::error(5e-324, exact), 0.25);
    assert_eq!(ulp::error(1e-323, exact), 0.75);
    assert_eq!(exact.to_f64(), 5e-324);
}
