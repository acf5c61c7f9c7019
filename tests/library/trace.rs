//! Tests of trace scopes: the first non-finite point, its inputs, threads, and points outside any scope.

use evenkeel::{Error, trace};
use half::bf16;
use std::panic::{AssertUnwindSafe, catch_unwind};

#[test]
fn the_first_that_is_not_finite() {
    let (fine, broken) = ([1.0f32, -2.0], [bf16::ONE, bf16::ONE, bf16::ONE, bf16::NEG_INFINITY, bf16::NAN, bf16::ONE]);
    let ((), found) = trace::scope(|| {
        trace::point("fine", &fine, 2).unwrap().from("nothing to tell", &broken).unwrap();
        let made = trace::point(format_args!("layer {}", 3), &broken, 2).unwrap();
        made.from("x", &fine).unwrap().from("y", &broken).unwrap();
        trace::point("later", &broken, 1).unwrap().from("not asked for", &fine).unwrap();
    });
    assert_eq!((found.points, found.broken), (3, 2));
    let first = found.first.clone().unwrap();
    assert_eq!((first.point.as_str(), first.row, first.column, first.value), ("layer 3", 1, 1, f64::NEG_INFINITY));
    assert_eq!((first.finite.count, first.finite.nan, first.finite.infinite), (6, 1, 1));
    let names: Vec<&str> = first.inputs.iter().map(|input| input.name.as_str()).collect();
    assert_eq!(names, ["x", "y"]);
    assert_eq!((first.inputs[0].stats.min, first.inputs[1].stats.nan), (-2.0, 1));
    assert_eq!(
        found.to_string(),
        "2 of 3 points are not finite; the first: layer 3, row 1: -inf at column 1; 1 NaN and 1 infinite of 6 \
         elements; x: -2.000e0 to 1.000e0, standard deviation 1.500e0; \
         y: 2 of 6 elements are not finite, the others 1.000e0 to 1.000e0, standard deviation 0.000e0"
    );
}

#[test]
fn scopes() {
    let nan = [f64::NAN];
    let see = || trace::point("x", &nan, 1).map(drop);
    see().unwrap();
    let (inner, outer) = trace::scope(|| {
        let panicked = catch_unwind(AssertUnwindSafe(|| trace::scope(|| panic!("intended panic in a trace scope"))));
        assert!(panicked.is_err());
        let ((), inner) = trace::scope(|| see().unwrap());
        assert!(trace::is_on());
        std::thread::spawn(move || trace::point("elsewhere", &nan, 1).map(drop)).join().unwrap().unwrap();
        inner
    });
    assert!(!trace::is_on());
    assert_eq!((inner.broken, outer.points), (1, 0));
    assert_eq!(outer.to_string(), "0 points, all finite");
}

#[test]
fn rows_that_are_none() {
    let (result, _) = trace::scope(|| trace::point("x", &[1.0f32, 2.0, 3.0], 2).map(drop));
    assert!(
        matches!(result, Err(Error::ShapeMismatch { .. })),
        "3 elements in rows of 2: expected a ShapeMismatch error, got {result:?}"
    );
    // Outside any scope, a point checks nothing and never fails.
    trace::point("x", &[1.0f32, 2.0, 3.0], 2).unwrap();
}
