//! Tests of views: accepted shapes, and shapes rejected before anything is written.

use evenkeel::{Error, Lanes, LanesMut, Rows, RowsMut, Softmax, softmax, softmax_in_place, softmax_into};
use std::mem::MaybeUninit;

fn shape_error<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(error @ Error::ShapeMismatch { .. }) => error.to_string(),
        other => panic!("a call with a wrong shape: expected a ShapeMismatch error, got {other:?}"),
    }
}

fn argument_error<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(error @ Error::InvalidArgument { .. }) => error.to_string(),
        other => panic!("a view along a wrong axis: expected an InvalidArgument error, got {other:?}"),
    }
}

#[test]
fn rows_have_as_many_elements_as_their_shape() {
    let data = [0.0f32; 6];
    let x = Rows::new(&data, 2, 3).unwrap();
    assert_eq!((x.rows(), x.cols()), (2, 3));
    assert_eq!(shape_error(Rows::new(&data, 2, 2)), "view: data has 6 elements; expected 4 for shape [2, 2]");
    assert_eq!(shape_error(Rows::new(&data, 2, 4)), "view: data has 6 elements; expected 8 for shape [2, 4]");
    let x = Rows::shaped(&data, &[1, 2, 3]).unwrap();
    assert_eq!((x.rows(), x.cols()), (2, 3));
    let x = Rows::shaped(&data, &[6]).unwrap();
    assert_eq!((x.rows(), x.cols()), (1, 6));
}

#[test]
fn nothing_is_a_shape_too() {
    for (rows, cols) in [(0, 0), (0, 3), (3, 0)] {
        let x = Rows::<f32>::new(&[], rows, cols).unwrap();
        assert_eq!((x.rows(), x.cols()), (rows, cols));
        assert_eq!(softmax(x, &Softmax::default()), Ok(vec![]));
    }
    for dims in [&[0][..], &[3, 0, 2], &[0, 7]] {
        for axis in 0..dims.len() as isize {
            let x = Lanes::<f32>::shaped(&[], dims, axis).unwrap();
            assert_eq!(
                softmax(x, &Softmax::default()),
                Ok(vec![]),
                "softmax of the shape {dims:?} along axis {axis} must be empty"
            );
        }
    }
}

#[test]
fn axes_count_from_either_end() {
    let data = [0.0f32; 24];
    for (axis, same) in [(0isize, -3isize), (1, -2), (2, -1)] {
        let [a, b] = [axis, same].map(|axis| Lanes::shaped(&data, &[2, 3, 4], axis).unwrap());
        assert_eq!((a.lanes(), a.len()), (b.lanes(), b.len()));
        assert_eq!(a.len(), [2, 3, 4][axis as usize]);
    }
    assert_eq!(argument_error(Lanes::shaped(&data, &[2, 3, 4], 3)), "view: axis is 3; it must be in -3 ..= 2");
    assert_eq!(argument_error(Lanes::shaped(&data, &[2, 3, 4], -4)), "view: axis is -4; it must be in -3 ..= 2");
    assert_eq!(
        argument_error(Rows::shaped(&[0.0f32], &[])),
        "view: axis is -1; it must be an axis of the shape, which has none"
    );
}

#[test]
fn shapes_that_no_memory_holds_are_refused() {
    let huge = usize::MAX / 2;
    assert!(shape_error(Rows::<f32>::new(&[], huge, 3)).contains("a count of elements below 2^64"));
    assert!(shape_error(Rows::<f32>::shaped(&[], &[huge, 2, 2])).contains("a count of elements below 2^64"));
    // The first axis has length 0, so the shape has no elements. Still, the product of the other two lengths overflows.
    assert!(shape_error(Rows::<f32>::shaped(&[], &[0, huge, huge])).contains("a count of elements below 2^64"));
    assert!(shape_error(Rows::<f32>::shaped(&[], &[1; 9])).contains("9 axes; expected at most 8"));
    assert!(Rows::shaped(&[0.0f32], &[1; 8]).is_ok());
    assert!(shape_error(Rows::<f32>::strided(&[], huge, 1, 3)).contains("a count of elements below 2^64"));
}

#[test]
fn rows_that_overlap_are_refused() {
    let mut data = [0.0f32; 12];
    assert_eq!(
        shape_error(Rows::strided(&data, 3, 4, 3)),
        "view: stride has a value of 3; expected at least 4, the number of columns, so that rows do not overlap"
    );
    shape_error(RowsMut::strided(&mut data, 3, 4, 3).map(|_| ()));
    shape_error(Rows::strided(&data, 3, 4, 0));
}

#[test]
fn the_last_row_needs_no_gap_behind_it() {
    let data = [1.0f32; 14];
    let x = Rows::strided(&data, 3, 4, 5).unwrap();
    assert_eq!(softmax(x, &Softmax::default()), Ok(vec![0.25; 12]));
    assert_eq!(
        shape_error(Rows::strided(&data[..13], 3, 4, 5)),
        "view: data has 13 elements; expected at least 14 for shape [3, 4]"
    );
    assert!(Rows::strided(&data, 1, 4, 100).is_ok());
    assert!(Rows::strided(&data[..0], 0, 4, 100).is_ok());
}

/// Checks that uninitialised rows with gaps are rejected, because the op would not initialise the gaps.
#[test]
fn memory_that_is_not_initialised_has_no_gaps() {
    let mut room = [MaybeUninit::<f32>::uninit(); 14];
    assert_eq!(
        shape_error(RowsMut::<f32>::strided(&mut room[..], 3, 4, 5).map(|_| ())),
        "view: a view of uninitialised memory has a stride of 5; expected a stride equal to the number of columns"
    );
    assert_eq!(
        shape_error(RowsMut::<f32>::strided(&mut room[..], 3, 4, 4).map(|_| ())),
        "view: a view of uninitialised memory has 14 elements; expected 12, the number of elements of the view"
    );
    assert!(RowsMut::<f32>::strided(&mut room[..12], 3, 4, 4).is_ok());
    assert!(RowsMut::<f32>::strided(&mut room[..4], 1, 4, 9).is_ok());
}

#[test]
fn in_place_needs_values() {
    let mut room = [MaybeUninit::<f32>::uninit(); 4];
    let view = RowsMut::<f32>::new(&mut room[..], 2, 2).unwrap();
    let refused = softmax_in_place(view, &Softmax::default());
    assert_eq!(shape_error(refused), "softmax: x has uninitialised memory; expected initialised values");
}

#[test]
fn what_is_written_has_the_shape_of_what_is_read() {
    let x = [0.0f32; 6];
    let mut out = [7.0f32; 6];
    let refused =
        softmax_into(Rows::new(&x, 2, 3).unwrap(), RowsMut::new(&mut out, 3, 2).unwrap(), &Softmax::default())
            .map(|_| ());
    assert_eq!(shape_error(refused), "softmax: out has shape [3, 2]; expected the input's shape, [2, 3]");
    let refused =
        softmax_into(Lanes::new(&x, 1, 3, 2).unwrap(), LanesMut::new(&mut out, 1, 2, 3).unwrap(), &Softmax::default())
            .map(|_| ());
    shape_error(refused);
    assert_eq!(out, [7.0; 6], "a rejected call of softmax_into must not write to its output");
    // Another shape with the same lanes is accepted.
    let to = LanesMut::shaped(&mut out, &[1, 2, 3], -1).unwrap();
    softmax_into(Rows::new(&x, 2, 3).unwrap(), to, &Softmax::default()).unwrap();
    assert_eq!(out, [1.0 / 3.0; 6]);
}
