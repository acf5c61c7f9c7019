//! Properties that all ops of the registry must have in every type, checked on random calls.
//!
//! `tests/forms.rs` checks that the forms of an op agree. The tests of each op make the same check on more rows.

#![forbid(unsafe_code)]

#[allow(dead_code, reason = "the fuzz target has fields of its own")]
#[path = "../support/call.rs"]
mod call;
mod cases;
mod exceptions;
#[macro_use]
#[path = "../support/mod.rs"]
mod support;

use call::{Number, Outcome, lanes, run};
use cases::{Case, anything, large, valid};
use evenkeel::registry::{Kind, OPS, Op};
use evenkeel::simd::{Level, with_level};
use evenkeel::{Error, FullyMasked};
use exceptions::{At, is_read, is_right, joint};
use proptest::prelude::*;
use support::generate::{self, Bits};
use support::implementations::{each_level, on_threads};

for_each_dtype!(
    finite_in_finite_out,
    a_nan_spoils_its_own_row,
    a_nan_among_tensors,
    a_row_alone_is_as_in_its_batch,
    every_instruction_set,
    every_number_of_threads,
    any_options,
);

/// Number of calls for each op and type.
const CASES: u32 = 64;

fn outcome<E: Bits>(case: &Case<E>) -> Result<Outcome, Error> {
    run(&case.call, &case.operands())
}

fn on_rows() -> impl Iterator<Item = &'static Op> {
    OPS.iter().filter(|op| op.kind != Kind::Tensors)
}

/// Checks that finite operands and allowed options give finite results, except where `exceptions.rs` lists a reason. A
/// call may also return the error that a policy selects.
fn finite_in_finite_out<E: Bits>() {
    for op in OPS {
        proptest!(generate::cases(CASES), |(case in valid::<E>(op))| {
            let Case { call, rows, cols, .. } = &case;
            let wide = |values: &[E]| values.iter().map(|v| v.widen()).collect::<Vec<f64>>();
            let (x, dy) = (wide(&case.x), wide(&case.dy));
            match run(call, &case.operands()) {
                Ok(outcome) => {
                    let check = |row: Option<usize>, column, number: &Number| {
                        let elements = row.map_or(0..x.len(), |row| row * cols..(row + 1) * cols);
                        let (x, dy) = (&x[elements.clone()], &dy[elements]);
                        let at = At { call, x, dy, rows: *rows, cols: *cols, row, column, limits: E::LIMITS };
                        assert!(
                            is_right(number.value, &at),
                            "{}: expected a finite result or a documented exception, got {number:?} in row {row:?}, \
                             column {column}",
                            op.name
                        );
                    };
                    for (row, numbers) in outcome.rows.iter().enumerate() {
                        numbers.iter().enumerate().for_each(|(column, number)| check(Some(row), column, number));
                    }
                    outcome.whole.iter().enumerate().for_each(|(column, number)| check(None, column, number));
                }
                Err(Error::FullyMasked { row, .. }) if op.name.starts_with("mean_pool") => {
                    assert!(call.before_weight && call.length(row) == 0);
                }
                Err(Error::FullyMasked { .. }) if op.kind == Kind::Attention => {
                    assert_eq!(call.policy(), FullyMasked::Error);
                    assert!((0..lanes(*cols).0).all(|key| !call.keeps(key)));
                }
                Err(Error::FullyMasked { row, .. }) => {
                    assert_eq!(call.policy(), FullyMasked::Error);
                    assert!((0..*cols).all(|column| call.masks(row, column, *rows, *cols)));
                }
                Err(error) => assert!(
                    op.kind == Kind::Sampler && *cols == 0,
                    "{}: expected a result, got the error: {error}",
                    op.name
                ),
            }
        });
    }
}

/// Checks that a NaN affects only its own row, which then contains a NaN or is rejected. A NaN that is not read changes
/// nothing.
fn a_nan_spoils_its_own_row<E: Bits>() {
    for op in on_rows() {
        let place = any::<(prop::sample::Index, bool)>();
        proptest!(generate::cases(CASES), |(case in valid::<E>(op), (place, of_dy) in place)| {
            if case.x.is_empty() || (op.name == "cross_entropy" && joint(&case.call).is_some()) {
                return Ok(());
            }
            let place = place.index(case.x.len());
            let (row, column) = (place / case.cols, place % case.cols);
            let of_dy = of_dy && takes_two(op);
            let read = is_read(&case, row, column, of_dy);
            let mut spoiled = case.clone();
            let operand = if of_dy { &mut spoiled.dy } else { &mut spoiled.x };
            operand[place] = E::NAN;
            let (Ok(before), Ok(after)) = (outcome(&case), outcome(&spoiled)) else {
                prop_assert_eq!(outcome(&case), outcome(&spoiled));
                return Ok(());
            };
            if !read {
                prop_assert_eq!(
                    before, after,
                    "a NaN at row {}, column {} (in dy: {}) is not read and must have no effect",
                    row, column, of_dy
                );
                return Ok(());
            }
            for (other, (before, after)) in before.rows.iter().zip(&after.rows).enumerate() {
                if other == row {
                    let refused = after.is_empty() && op.kind == Kind::Sampler;
                    let shows = refused || after.iter().any(|number| number.value.is_nan());
                    prop_assert!(
                        shows,
                        "a NaN at row {}, column {} (in dy: {}) must give a NaN in the results",
                        row, column, of_dy
                    );
                } else {
                    prop_assert_eq!(before, after, "row {} must ignore a NaN at row {}, column {}", other, row, column);
                }
            }
        });
    }
}

/// Returns whether the op reads a second operand, which the case stores in `dy`.
fn takes_two(op: &Op) -> bool {
    let reads_one = matches!(op.name, "cross_entropy_backward" | "rope_backward" | "mean_pool_backward");
    let takes_two = matches!(
        op.kind,
        Kind::ElementwiseBackward | Kind::Pairwise | Kind::PairwiseBackward | Kind::LanesBackward | Kind::Attention
    );
    takes_two && !reads_one
}

/// Checks the effect of one NaN. Clipping by norm either returns an error with the NaN's position, or returns a NaN
/// norm and treats the gradients as the clipping mode requires. Clipping by value returns a NaN at this position, and
/// does not change the other results. `inspect` leaves the NaN out of its statistics.
fn a_nan_among_tensors<E: Bits>() {
    for op in OPS.iter().filter(|op| op.kind == Kind::Tensors) {
        proptest!(generate::cases(CASES), |(case in valid::<E>(op), place in any::<prop::sample::Index>())| {
            if case.x.is_empty() {
                return Ok(());
            }
            let place = place.index(case.x.len());
            let mut spoiled = case.clone();
            spoiled.x[place] = E::NAN;
            let (call, after) = (&case.call, run(&spoiled.call, &spoiled.operands()));
            let (row, column) = (place / case.cols, place % case.cols);
            match op.name {
                "clip_grad_norm" if call.causal => {
                    let refusal = after.err().map(|error| (error.name(), error.row(), error.index()));
                    prop_assert_eq!(refusal, Some(("NonFiniteInput", Some(0), Some(place))));
                }
                "clip_grad_norm" => {
                    let after = after.unwrap().whole;
                    prop_assert!(after[0].value.is_nan(), "expected a NaN norm, got {:?}", after[0]);
                    let kept = spoiled.x.iter().zip(&after[2..]).all(|(x, y)| x.bits() == y.bits);
                    prop_assert!(kept || after[1..].iter().all(|y| call.interleaved && y.value.is_nan()));
                }
                "clip_grad_value" => {
                    let (mut before, after) = (run(call, &case.operands()).unwrap(), after.unwrap());
                    prop_assert!(after.rows[row][column].value.is_nan());
                    before.rows[row][column] = after.rows[row][column];
                    prop_assert_eq!(before, after);
                }
                "inspect" => {
                    let left = case.x.len() > 1;
                    prop_assert!(after.unwrap().whole.iter().all(|found| found.value.is_finite() == left));
                }
                other => panic!("this test must define the effect of a NaN on the op {other}"),
            }
        });
    }
}

/// Checks that a row alone gives the same bits as in its batch, including NaN. If a batch gives an error about a row,
/// this row alone must give the same kind of error.
fn a_row_alone_is_as_in_its_batch<E: Bits>() {
    for op in OPS {
        let place = prop::option::of(any::<prop::sample::Index>());
        proptest!(generate::cases(CASES), |(mut case in valid::<E>(op), nan in place)| {
            if joint(&case.call).is_some() {
                return Ok(());
            }
            if let Some(place) = nan && !case.x.is_empty() {
                let place = place.index(case.x.len());
                case.x[place] = E::NAN;
            }
            let operands = case.operands();
            let alone = |row| run(&case.call, &operands.row(row));
            match run(&case.call, &operands) {
                Ok(outcome) => {
                    for (row, expected) in outcome.rows.iter().enumerate() {
                        let got = alone(row).map(|outcome| outcome.rows.concat());
                        prop_assert_eq!(
                            got.as_ref(), Ok(expected),
                            "row {} must have the same bits alone as in its batch", row
                        );
                    }
                }
                Err(error) => {
                    let first = (0..case.rows).find_map(|row| alone(row).err().map(|error| (row, error)));
                    let (row, alone) = first.expect("if a call fails, at least one of its rows must also fail in a call of its own");
                    prop_assert_eq!(error.name(), alone.name());
                    prop_assert_eq!(error.row().unwrap_or(0), row);
                }
            }
        });
    }
}

/// Checks that every instruction set of this machine gives the bits of the portable one, on any call.
fn every_instruction_set<E: Bits>() {
    for op in OPS {
        proptest!(generate::cases(CASES), |(case in prop_oneof![valid::<E>(op), anything::<E>(op)])| {
            let expected = with_level(Level::Portable, || outcome(&case)).unwrap();
            each_level(|level| {
                assert_eq!(
                    outcome(&case),
                    expected,
                    "{} on {level}: expected the same bits as on the portable level",
                    op.name
                );
            });
        });
    }
}

/// Checks that one thread and two threads give the same bits.
fn every_number_of_threads<E: Bits>() {
    for op in OPS {
        proptest!(generate::cases(2), |(case in large::<E>(op))| {
            let on = |threads, level| on_threads(threads, level, || outcome(&case));
            let expected = on(1, Level::Portable);
            each_level(|level| {
                assert!(
                    on(2, level) == expected,
                    "{} on {level}: 2 threads must give the same bits as 1 thread on the portable level",
                    op.name
                );
            });
        });
    }
}

/// Checks that any options on any operands give results or an error, and never a panic.
fn any_options<E: Bits>() {
    for op in OPS {
        proptest!(generate::cases(2 * CASES), |(case in anything::<E>(op))| {
            if let Err(error) = run(&case.call, &case.operands()) {
                // The error names the op itself, its forward op, or the op that builds its table.
                let text = error.to_string();
                let (name, _) = text.split_once(':').expect("an error must start with the name of an op and a colon");
                assert!(
                    op.name.contains(name),
                    "{}: expected an error that starts with the name of the op, got: {text}",
                    op.name
                );
            }
        });
    }
}
