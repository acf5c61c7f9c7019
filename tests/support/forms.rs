//! Checks that all forms of a row op give the same bits: on every instruction set, alone or in a batch, with any number
//! of threads, and for any destination.

use super::compare::assert_same_bits;
use super::implementations::{each_level, on_threads};
use evenkeel::simd::{Level, with_level};
use evenkeel::{Element, Lanes, LanesMut, Rows, RowsMut};
use std::mem::MaybeUninit;

/// Op that maps rows to rows, with its options.
pub trait RowOp<E: Element>: Sync {
    fn allocating(&self, x: Rows<'_, E>) -> Vec<E>;
    /// Form that writes to a destination of the caller.
    fn into<'a>(&self, x: Rows<'_, E>, out: RowsMut<'a, E>) -> &'a mut [E];
    fn in_place(&self, x: RowsMut<'_, E>);
}

/// Fails unless all variants of the op (a new vector, `into`, in place), all instruction sets, strides and numbers of
/// threads give the same bits. The expected bits come from computing each row alone with the portable instruction set.
#[track_caller]
pub fn assert_forms_agree<E: Element>(op: &dyn RowOp<E>, x: &[E], cols: usize) {
    let rows = x.len() / cols;
    let alone: Vec<E> = with_level(Level::Portable, || {
        x.chunks(cols).flat_map(|row| op.allocating(Rows::new(row, 1, cols).unwrap())).collect()
    })
    .unwrap();
    each_level(|level| {
        let view = Rows::new(x, rows, cols).unwrap();
        let what = |form: &str| format!("{form}, {rows} rows of {cols}, {level}");
        assert_same_bits(&what("allocating"), &op.allocating(view), &alone);

        let mut out = vec![E::NAN; x.len()];
        op.into(view, RowsMut::new(&mut out, rows, cols).unwrap());
        assert_same_bits(&what("into a slice"), &out, &alone);

        let mut room = vec![MaybeUninit::<E>::uninit(); x.len()];
        let written = op.into(view, RowsMut::new(&mut room[..], rows, cols).unwrap());
        assert_same_bits(&what("into uninitialised memory"), written, &alone);

        let mut data = x.to_vec();
        op.in_place(RowsMut::new(&mut data, rows, cols).unwrap());
        assert_same_bits(&what("in place"), &data, &alone);

        assert_strides_agree(op, x, cols, &alone, &what("strided"));

        for threads in [1, 2] {
            let got = on_threads(threads, level, || op.allocating(view));
            assert_same_bits(&what(&format!("on {threads} threads")), &got, &alone);
            let mut data = x.to_vec();
            on_threads(threads, level, || op.in_place(RowsMut::new(&mut data, rows, cols).unwrap()));
            assert_same_bits(&what(&format!("in place on {threads} threads")), &data, &alone);
        }
    });
}

/// Checks strided rows, and that the gaps between rows are unchanged.
#[track_caller]
fn assert_strides_agree<E: Element>(op: &dyn RowOp<E>, x: &[E], cols: usize, expected: &[E], what: &str) {
    let rows = x.len() / cols;
    // The gaps hold NaN, which would show in the results if an op read them.
    let spread = |stride: usize| {
        let mut data = vec![E::NAN; rows * stride];
        for (row, to) in x.chunks(cols).zip(data.chunks_mut(stride)) {
            to[..cols].copy_from_slice(row);
        }
        data
    };
    let check = |data: &[E], stride: usize, what: String| {
        for (r, (got, expected)) in data.chunks(stride).zip(expected.chunks(cols)).enumerate() {
            assert_same_bits(&format!("{what}, row {r}"), &got[..cols], expected);
            for (i, gap) in got[cols..].iter().enumerate() {
                assert_eq!(
                    gap.bits(),
                    E::NAN.bits(),
                    "{what}: element {i} of the gap after row {r} was overwritten; expected NaN, got {gap:?}"
                );
            }
        }
    };
    let from = spread(cols + 3);
    let mut to = vec![E::NAN; rows * (cols + 5)];
    op.into(
        Rows::strided(&from, rows, cols, cols + 3).unwrap(),
        RowsMut::strided(&mut to, rows, cols, cols + 5).unwrap(),
    );
    check(&to, cols + 5, format!("{what}, from {} to {}", cols + 3, cols + 5));
    let mut data = spread(cols + 1);
    op.in_place(RowsMut::strided(&mut data, rows, cols, cols + 1).unwrap());
    check(&data, cols + 1, format!("{what}, in place"));
}

/// Op that works on lanes along any axis.
pub trait LaneOp<E: Element>: RowOp<E> {
    fn lanes(&self, x: Lanes<'_, E>) -> Vec<E>;
    fn lanes_in_place(&self, x: LanesMut<'_, E>);
}

/// Fails unless lanes along the middle axis of `[outer, len, inner]` give the same bits as the rows of the transposed
/// copy.
#[track_caller]
pub fn assert_axes_agree<E: Element>(op: &dyn LaneOp<E>, x: &[E], [outer, len, inner]: [usize; 3]) {
    let rows = transposed(x, [outer, len, inner]);
    each_level(|level| {
        let expected = op.allocating(Rows::new(&rows, outer * inner, len).unwrap());
        let expected = transposed(&expected, [outer, inner, len]);
        let what = format!("along the middle of [{outer}, {len}, {inner}], {level}");
        assert_same_bits(&what, &op.lanes(Lanes::new(x, outer, len, inner).unwrap()), &expected);
        let mut data = x.to_vec();
        op.lanes_in_place(LanesMut::new(&mut data, outer, len, inner).unwrap());
        assert_same_bits(&format!("{what}, in place"), &data, &expected);
        let shaped = op.lanes(Lanes::shaped(x, &[outer, len, inner], -2).unwrap());
        assert_same_bits(&format!("{what}, by its axis"), &shaped, &expected);
    });
}

/// Transposes `[outer, a, b]` to `[outer, b, a]`.
pub fn transposed<T: Copy>(x: &[T], [outer, a, b]: [usize; 3]) -> Vec<T> {
    (0..outer * b * a).map(|i| x[i / (a * b) * (a * b) + i % a * b + i / a % b]).collect()
}
