//! Comparisons that report which values differ and where. A comparison fails unless the error is within the bound, so
//! an unexpected NaN cannot pass.

use super::ulp::{self, Expected};
use crate::element::Element;
use crate::reference::Real;
use std::fmt::Write;

/// Returns the largest error in ULPs, or a message with the first results whose error exceeds `ulps`.
///
/// The message shows the input of a wrong result if `input` is as long as the results. A comparison of empty slices
/// fails.
///
/// ```
/// use evenkeel::testing::within;
/// let failure = within("row 3", &[1.0f32, 2.0], &[1.0f32, 2.5], &[1.0, 2.0], 1.0).unwrap_err();
/// assert!(failure.contains("[1]: input 2e0 (0x40000000), got 2.5e0 (0x40200000), expected 2e0"));
/// ```
pub fn within<E: Element, X: Expected>(
    what: &str,
    input: &[E],
    got: &[E],
    exact: &[X],
    ulps: f64,
) -> Result<f64, String> {
    all_within(what, input, got, exact, ulps, |i| ulp::error(got[i], exact[i]))
}

/// Compares like [`within`], but measures each error in ULPs of the exact result or of `largest(index)`, whichever is
/// larger in magnitude.
pub fn within_terms<E: Element, X: Expected>(
    what: &str,
    input: &[E],
    got: &[E],
    exact: &[X],
    largest: impl Fn(usize) -> f64,
    ulps: f64,
) -> Result<f64, String> {
    all_within(what, input, got, exact, ulps, |i| {
        // `largest` does not apply to an exact result that is not finite.
        let result = ulp::toward_zero(exact[i]);
        let at = if result.is_finite() { largest(i).abs().max(result) } else { result };
        ulp::error_at(got[i], exact[i], at)
    })
}

/// Compares like [`within`], but `error(index)` returns the error of each result in ULPs.
pub fn all_within<E: Element, X: Expected>(
    what: &str,
    input: &[E],
    got: &[E],
    exact: &[X],
    ulps: f64,
    error: impl Fn(usize) -> f64,
) -> Result<f64, String> {
    worst_error(what, input, got, exact, ulps, &error)
}

/// Implements the part of [`all_within`] that is independent of the closure `error`, so that this part is not compiled
/// for each closure.
fn worst_error<E: Element, X: Expected>(
    what: &str,
    input: &[E],
    got: &[E],
    exact: &[X],
    ulps: f64,
    error: &dyn Fn(usize) -> f64,
) -> Result<f64, String> {
    same_length(what, got.len(), exact.len())?;
    let (mut worst, mut wrong, mut failure) = (0.0f64, 0, String::new());
    for i in 0..got.len() {
        let error = error(i);
        let is_within = error <= ulps;
        if !is_within {
            wrong += 1;
            if wrong <= 4 {
                let _ = write!(failure, "\n  [{i}]: ");
                if input.len() == got.len() {
                    let _ = write!(failure, "input {}, ", show(input[i]));
                }
                let expected = exact[i].wide().to_f64();
                let _ = write!(failure, "got {}, expected {expected:e}, {error:.4} ULP off", show(got[i]));
            }
        }
        worst = worst.max(error);
    }
    if wrong == 0 {
        return Ok(worst);
    }
    Err(format!("{what}: {wrong} of {} results have an error above {ulps} ULP:{failure}", got.len()))
}

/// Panics unless both slices have the same bits.
#[track_caller]
pub fn assert_same_bits<E: Element>(what: &str, got: &[E], expected: &[E]) {
    if let Err(failure) = same_bits(what, got, expected) {
        panic!("{} {failure}", E::DTYPE);
    }
}

/// Compares the bits of two slices, including signs of zeros and payloads of NaN. Returns a message with the elements
/// that differ.
pub fn same_bits<E: Element>(what: &str, got: &[E], expected: &[E]) -> Result<(), String> {
    same_length(what, got.len(), expected.len())?;
    let differs = |&i: &usize| got[i].bits() != expected[i].bits();
    let differing: Vec<usize> = (0..got.len()).filter(differs).collect();
    if differing.is_empty() {
        return Ok(());
    }
    let mut failure = format!("{what}: {} of {} elements differ:", differing.len(), got.len());
    for &i in differing.iter().take(4) {
        let _ = write!(failure, "\n  [{i}]: got {}, expected {}", show(got[i]), show(expected[i]));
    }
    Err(failure)
}

/// Checks that both lengths are equal and not 0, because a comparison of empty slices proves nothing.
fn same_length(what: &str, got: usize, expected: usize) -> Result<(), String> {
    if got != expected {
        return Err(format!("{what}: got {got} results, expected {expected}"));
    }
    if got == 0 {
        return Err(format!("{what}: there are no results to compare"));
    }
    Ok(())
}

/// Formats a value as a decimal number followed by its bits in hexadecimal.
pub fn show<E: Element>(value: E) -> String {
    format!("{:e} ({:#x})", value.widen(), value.bits())
}

/// Panics unless every result is within the given number of ULPs of the expected value, which may be an exact number or
/// a stored value.
///
/// Results and expected values can be anything that dereferences to a slice. Further arguments format the name of the
/// case, as in `assert!`.
///
/// ```
/// use evenkeel::testing::assert_ulps;
/// use evenkeel::{Rows, Softmax, reference, softmax};
/// use half::bf16;
///
/// let row = [0.5f32, 1.0, -3.0].map(bf16::from_f32);
/// let y = softmax(Rows::new(&row, 1, 3)?, &Softmax::default())?;
/// assert_ulps!(y, reference::softmax(&row).unwrap(), 0.51);
/// assert_ulps!(y, y, 0, "a row of {}", row.len());
/// # Ok::<(), evenkeel::Error>(())
/// ```
///
/// ```should_panic
/// evenkeel::testing::assert_ulps!([1.0f32, 2.5], [1.0, 2.0], 1);
/// ```
#[macro_export]
macro_rules! assert_ulps {
    ($got:expr, $expected:expr, $ulps:expr $(,)?) => {
        $crate::assert_ulps!($got, $expected, $ulps, "{}", stringify!($got))
    };
    ($got:expr, $expected:expr, $ulps:expr, $($what:tt)+) => {
        $crate::testing::__assert_ulps(&format!($($what)+), &$got[..], &$expected[..], f64::from($ulps))
    };
}

#[doc(hidden)]
#[track_caller]
pub fn __assert_ulps<E: Element, X: Expected>(what: &str, got: &[E], expected: &[X], ulps: f64) {
    if let Err(failure) = within(what, &[], got, expected, ulps) {
        panic!("{} {failure}", E::DTYPE);
    }
}
