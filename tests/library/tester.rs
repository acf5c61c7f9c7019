//! Tests of the test support itself: the checks fail for the smallest possible defects.

use crate::support::compare::{Checker, assert_same_bits};
use crate::support::forms::{LaneOp, RowOp, assert_axes_agree, assert_forms_agree};
use crate::support::generate::{self, Hostile};
use crate::support::implementations::each_level;
use crate::support::{elementwise, naive, rows};
use evenkeel::simd::{Output, level};
use evenkeel::testing::values::Bits;
use evenkeel::testing::{Ulps, assert_ulps, hostile, ulp};
use evenkeel::{Element, Lanes, LanesMut, Limits, Result, Rows, RowsMut, Softmax, reference, softmax, softmax_into};
use half::{bf16, f16};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Returns the message of the failure that `check` must produce.
#[track_caller]
fn failure(check: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(check)).expect_err("the check must fail");
    let text = payload.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .expect("the panic of a failed check must have a text message")
}

#[test]
fn the_checker_fails_above_the_bound_and_for_nothing_below() {
    // The bound is 2 ULP.
    let one = [1.0f32];
    let above = |steps: i64| [f32::at_place(1.0f32.place() + steps)];
    let checker = || Checker::of_usual_rows::<f32>("softmax");
    assert_eq!(checker().bound(), 2.0);
    checker().check("two steps", &one, &above(2), &[1.0]);
    let text = failure(|| checker().check("three steps", &one, &above(3), &[1.0]));
    assert!(
        text.contains("softmax F32: three steps: 1 of 1 results have an error above 2 ULP"),
        "softmax with an error of 3 ULP: expected the message that the error exceeds 2 ULP, got {text:?}"
    );
    failure(|| checker().check("a NaN", &one, &[f32::NAN], &[1.0]));
    failure(|| checker().check("no NaN", &one, &one, &[f64::NAN]));
    failure(|| checker().check::<f32>("nothing", &[], &[], &[]));
    failure(|| checker().check("too few", &one, &one, &[1.0, 1.0]));
    checker().check_terms("of a larger term", &one, &above(7), &[1.0], &|_| 4.0);
    failure(|| checker().check_terms("of a larger term", &one, &above(9), &[1.0], &|_| 4.0));
    failure(|| checker().check_errors("by the caller", &one, &one, &[1.0], &|_| 2.01));
    failure(|| drop(Checker::of_usual_rows::<f32>("no such op")));
}

#[test]
fn slices_are_compared_in_ulps() {
    let (got, next) = (vec![1.0f32, 2.0], vec![1.0f32, 2.0f32.next_up()]);
    assert_ulps!(got, [1.0, 2.0], 0);
    assert_ulps!(next, got, 1);
    assert_ulps!(next[..1], got[..1], 0, "the first of {}", next.len());
    let text = failure(|| assert_ulps!(next, got, 0.99));
    assert!(
        text.starts_with("F32 next: 1 of 2 results have an error above 0.99 ULP:\n  [1]: got 2"),
        "result one ULP above the exact 2: expected the message that its error exceeds 0.99 ULP, got {text:?}"
    );
    let text = failure(|| assert_ulps!(next, got, 0, "row {}", 7));
    assert!(text.starts_with("F32 row 7: "), "expected a message that starts with \"F32 row 7: \", got: {text}");
    failure(|| assert_ulps!(got, [1.0], 1e9));
    failure(|| assert_ulps!([f16::NAN], [1.0], 1e300));
    failure(|| assert_ulps!([1.0f32], [1.0 + 1e-6], 8));
}

#[test]
fn steps_are_counted_in_the_storage_type() {
    assert_eq!(ulp::distance(f16::from_f32(1.0), f16::from_f32(2.0)), 1024);
    assert_eq!(ulp::distance(bf16::from_f32(1.0), bf16::from_f32(2.0)), 128);
    assert_eq!(ulp::distance(-0.0f64, 0.0), 0);
    assert_eq!(ulp::distance(-f32::from_bits(2), f32::from_bits(3)), 5);
    assert_eq!(ulp::distance(f32::MAX, f32::INFINITY), 1);
    // The largest f16 is 65,504, and the ULP below it is 32. From 65,520 on, numbers round to infinity.
    let overflow = [65504.0, 65519.0, 65520.0].map(|exact| ulp::error(f16::NEG_INFINITY, -exact));
    assert_eq!(overflow, [f64::INFINITY, 17.0 / 32.0, 0.0]);
    assert_eq!(ulp::distance(f64::NEG_INFINITY, f64::INFINITY), 2 * f64::INFINITY.to_bits());
    assert_eq!(ulp::distance(f32::NAN, -f32::NAN), 0);
    assert_eq!(ulp::distance(f32::NAN, f32::INFINITY), u64::MAX);
}

fn approx_traits<E: Element>() {
    use evenkeel::testing::approx::{AbsDiffEq, RelativeEq, UlpsEq};
    let [one, nan, inf] = [1.0, f64::NAN, f64::INFINITY].map(|v| Ulps(E::from_wide(v)));
    let above = |steps: i64| Ulps(E::at_place(one.0.place() + steps));
    assert!(one.ulps_eq(&above(3), 0.0, 3) && above(-3).ulps_eq(&one, 0.0, 3));
    assert!(!one.ulps_eq(&above(4), 0.0, 3) && !above(-4).ulps_eq(&one, 0.0, 3));
    assert!(one.ulps_eq(&above(4), 4.0 * E::LIMITS.epsilon, 0));
    assert!(!nan.ulps_eq(&nan, f64::INFINITY, u32::MAX) && !nan.relative_eq(&nan, 1.0, 1.0));
    assert!(!nan.abs_diff_eq(&one, f64::INFINITY) && !nan.ulps_eq(&inf, 0.0, u32::MAX));
    assert!(inf.abs_diff_eq(&inf, 0.0) && inf.relative_eq(&inf, 0.0, 0.0) && inf.ulps_eq(&inf, 0.0, 0));
    assert!(!inf.relative_eq(&one, 0.0, 0.5) && !inf.abs_diff_eq(&Ulps(E::NEG_INFINITY), 1e300));
    assert!(one.relative_eq(&above(2), 0.0, 2.0 * E::LIMITS.epsilon));
    assert!(!one.relative_eq(&above(4), 0.0, 2.0 * E::LIMITS.epsilon));
    // A tiny number is not close to zero, even with a relative tolerance of 0.9.
    let [zero, tiny] = [0.0, E::LIMITS.min_normal].map(|v| Ulps(E::from_wide(v)));
    assert!(!zero.abs_diff_eq(&tiny, Ulps::<E>::default_epsilon()));
    assert!(!zero.relative_eq(&tiny, Ulps::<E>::default_epsilon(), 0.9));
    assert_eq!(format!("{one:?}"), format!("1e0 ({:#x})", one.0.bits()));
}

/// Checks that every strategy generates all documented kinds of rows, and no others.
fn strategies<E: Element>() {
    let mut runner = TestRunner::deterministic();
    let mut draw = |strategy: &dyn Fn(&mut TestRunner) -> Vec<E>| (0..300).map(|_| strategy(&mut runner)).collect();
    let kept = |rows: &Vec<Vec<E>>| rows.iter().all(|row| (1..=40).contains(&row.len()));
    let rows: Vec<Vec<E>> = draw(&|runner| hostile::rows::<E>(1..=40).new_tree(runner).unwrap().current());
    let norms: Vec<Vec<E>> = draw(&|runner| hostile::norms::<E>(1..=40).new_tree(runner).unwrap().current());
    let logits: Vec<Vec<E>> = draw(&|runner| hostile::logits::<E>(1..=40).new_tree(runner).unwrap().current());
    assert!(kept(&rows) && kept(&norms) && kept(&logits));
    let finite = |rows: &Vec<Vec<E>>| rows.iter().flatten().all(|v| v.widen().is_finite());
    assert!(finite(&rows) && finite(&norms) && !finite(&logits));
    assert!(logits.iter().all(|row| row.iter().any(|z| z.widen() > f64::NEG_INFINITY)));
    let some = |rows: &Vec<Vec<E>>, is: &dyn Fn(f64) -> bool| rows.iter().flatten().any(|v| is(v.widen()));
    let limits = E::LIMITS;
    assert!(some(&rows, &|v| v == limits.max) && some(&rows, &|v| v.abs() < limits.min_normal && v != 0.0));
    assert!(some(&norms, &|v| v > limits.max / 8.0) && some(&norms, &|v| v.abs() < 2.0 * limits.min_normal));
    let masks: Vec<Vec<bool>> =
        (0..300).map(|_| hostile::masks(1..=40).new_tree(&mut runner).unwrap().current()).collect();
    let live = |keep: &Vec<bool>| keep.iter().filter(|keep| **keep).count();
    assert!(masks.iter().any(|keep| live(keep) == 0 && keep.len() > 1));
    assert!(masks.iter().any(|keep| live(keep) == 1 && keep.len() > 1));
    assert!(masks.iter().any(|keep| live(keep) == keep.len() && keep.len() > 1));
}

for_each_dtype!(approx_traits, strategies);

/// Computes e^x, except that the result at one input is replaced by the next larger value of the type.
struct WrongAt17;

impl elementwise::Function for WrongAt17 {
    const NAME: &'static str = "exp";
    fn run<E: Element>(x: &[E]) -> Result<Vec<E>> {
        let mut y = evenkeel::exp(x)?;
        for (_, y) in x.iter().zip(&mut y).filter(|(x, _)| x.widen() == 1.0625) {
            *y = E::at_place(y.place() + 1);
        }
        Ok(y)
    }
    fn into<'a, E: Element>(x: &[E], out: impl Into<Output<'a, E>>) -> Result<&'a mut [E]> {
        evenkeel::exp_into(x, out)
    }
    fn in_place<E: Element>(x: &mut [E]) -> Result<()> {
        evenkeel::exp_in_place(x)
    }
    fn exact<R: reference::Real>(x: R) -> R {
        x.exp()
    }
    fn naive<E: Element>(x: E) -> E {
        naive::exp(x)
    }
    fn points(_: &Limits) -> Vec<f64> {
        vec![1.0625]
    }
}

#[test]
fn one_step_at_one_input_is_found() {
    let text = failure(elementwise::exhaustive::<WrongAt17, bf16>);
    assert!(
        text.contains("1 of 65536 results") && text.contains("input 1.0625e0"),
        "exp that is wrong at 1.0625: expected the message that 1 of 65536 results is wrong, got {text:?}"
    );
    failure(elementwise::edges::<WrongAt17, f32>);
    failure(|| elementwise::assert_values::<WrongAt17, f32>(&[(0.0, 1.0), (1.0, 2.75)]));
    // Only `run` is wrong, so its result differs from the in-place result.
    let x = [f32::from_wide(1.0625); 3];
    let mut right = x;
    evenkeel::exp_in_place(&mut right).unwrap();
    let wrong = <WrongAt17 as elementwise::Function>::run(&x).unwrap();
    let text = failure(|| assert_same_bits("exp", &right, &wrong));
    assert!(
        text.contains("3 of 3 elements differ"),
        "exp with 3 wrong results: expected the message that 3 of 3 elements differ, got {text:?}"
    );
}

/// Correct softmax, paired with a naive formula that is also correct. The checks must report that the naive formula
/// never fails.
struct NoPower;
/// Softmax that is computed with the naive formula. The checks must fail.
struct AsWritten;

macro_rules! function_of_rows {
    ($type:ident, $run:expr, $naive:expr) => {
        impl rows::Function for $type {
            const NAME: &'static str = "softmax";
            fn run<E: Element>(row: &[E]) -> Vec<E> {
                $run(row)
            }
            fn exact<E: Element>(row: &[E]) -> Vec<E::Exact> {
                reference::softmax(row).unwrap()
            }
            fn naive<E: Element>(row: &[E]) -> Vec<E> {
                $naive(row)
            }
            fn hostile<E: Bits>(len: usize) -> Vec<Hostile<E>> {
                generate::hostile_scores(len)
            }
            fn terms<E: Element>(row: &[E], _: &[E::Exact]) -> Vec<f64> {
                vec![0.0; row.len()]
            }
        }
    };
}

fn plain<E: Element>(row: &[E]) -> Vec<E> {
    softmax(Rows::new(row, 1, row.len()).unwrap(), &Softmax::default()).unwrap()
}

function_of_rows!(NoPower, plain, plain);
function_of_rows!(AsWritten, naive::softmax, naive::softmax);

#[test]
fn rows_that_break_nothing_and_what_they_break_are_found() {
    let text = failure(rows::hostile_rows::<NoPower, f32>);
    assert!(
        text.contains("expected the naive formula to fail"),
        "a naive formula that never fails: expected a message about the naive formula, got {text:?}"
    );
    failure(rows::hostile_rows::<AsWritten, f32>);
    failure(rows::long_rows::<AsWritten, bf16>);
    failure(rows::rows_of_every_length::<AsWritten, f16>);
    failure(rows::random_rows::<AsWritten, bf16>);
    failure(rows::rows_of_any_finite_values::<AsWritten, f32>);
}

/// Defect of a tested function: the property that its results violate.
#[derive(Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    Batch,
    IntoOrder,
    InPlace,
    Gap,
    Level,
    Lanes,
    LanesInPlace,
}

struct Form(Wrong);

impl<E: Element> RowOp<E> for Form {
    fn allocating(&self, x: Rows<'_, E>) -> Vec<E> {
        let mut y = softmax(x, &Softmax::default()).unwrap();
        let is_wrong = match self.0 {
            Wrong::Batch => x.rows() == 5,
            Wrong::Level => level().unwrap() != evenkeel::simd::Level::Portable,
            _ => false,
        };
        if is_wrong {
            y[2] = E::at_place(y[2].place() + 1);
        }
        y
    }
    fn into<'a>(&self, x: Rows<'_, E>, out: RowsMut<'a, E>) -> &'a mut [E] {
        let cols = x.cols();
        let y = softmax_into(x, out, &Softmax::default()).unwrap();
        if self.0 == Wrong::IntoOrder {
            y.rotate_left(cols);
        }
        if self.0 == Wrong::Gap && y.len() > 5 * cols {
            y[cols] = E::ZERO;
        }
        y
    }
    fn in_place(&self, x: RowsMut<'_, E>) {
        if self.0 == Wrong::InPlace {
            return;
        }
        evenkeel::softmax_in_place(x, &Softmax::default()).unwrap();
    }
}

impl<E: Element> LaneOp<E> for Form {
    fn lanes(&self, x: Lanes<'_, E>) -> Vec<E> {
        let mut y = softmax(x, &Softmax::default()).unwrap();
        if self.0 == Wrong::Lanes {
            y.reverse();
        }
        y
    }
    fn lanes_in_place(&self, x: LanesMut<'_, E>) {
        if self.0 != Wrong::LanesInPlace {
            evenkeel::softmax_in_place(x, &Softmax::default()).unwrap();
        }
    }
}

#[test]
fn forms_that_differ_are_found() {
    let x: Vec<f32> = (0..35).map(|i| (i * 7 % 11) as f32).collect();
    assert_forms_agree(&Form(Wrong::Nothing), &x, 7);
    assert_axes_agree(&Form(Wrong::Nothing), &x[..30], [2, 5, 3]);
    for (wrong, what) in [
        (Wrong::Batch, "allocating, 5 rows of 7"),
        (Wrong::IntoOrder, "into a slice, 5 rows of 7"),
        (Wrong::InPlace, "in place, 5 rows of 7"),
        (Wrong::Gap, "of the gap after row 0 was overwritten"),
    ] {
        let text = failure(|| assert_forms_agree(&Form(wrong), &x, 7));
        assert!(text.contains(what), "expected {what:?} in the message of the failed check, got: {text}");
    }
    let mut levels = 0;
    each_level(|_| levels += 1);
    if levels > 1 {
        let text = failure(|| assert_forms_agree(&Form(Wrong::Level), &x, 7));
        assert!(text.contains("avx"), "expected an AVX level in the message of the failed check, got: {text}");
    }
    for wrong in [Wrong::Lanes, Wrong::LanesInPlace] {
        failure(|| assert_axes_agree(&Form(wrong), &x[..30], [2, 5, 3]));
    }
}
