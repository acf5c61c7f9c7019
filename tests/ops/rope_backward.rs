//! Tests of the gradient of rotary embedding. The gradient must be accurate at every position, equal the rotation by
//! the opposite angle, and have the same bits in every form.

use crate::support::compare::{Checker, assert_same_bits, within_terms};
use crate::support::forms::{RowOp, assert_forms_agree};
use crate::support::generate::{self, Bits};
use crate::support::implementations::each_level;
use crate::support::naive;
use evenkeel::{
    DType, Element, Error, Rope, RopeTable, Rows, RowsMut, reference, rope, rope_backward, rope_backward_in_place,
    rope_backward_into,
};

for_each_dtype!(positions, hostile_pairs, outcomes, forms);

/// Returns, for each element, the larger of the two magnitudes in its pair. A result is a sum of two products, one per
/// element of the pair.
fn terms<E: Element>(x: &[E], interleaved: bool) -> Vec<f64> {
    let half = x.len() / 2;
    let partner = |i: usize| if interleaved { i ^ 1 } else { (i + half) % x.len() };
    (0..x.len()).map(|i| x[i].widen().abs().max(x[partner(i)].widen().abs())).collect()
}

fn row<E: Element>(dy: &[E], position: i64, options: &Rope) -> Vec<E> {
    let table = RopeTable::new(&[position], dy.len(), options).unwrap();
    rope_backward(Rows::new(dy, 1, dy.len()).unwrap(), &table).unwrap()
}

fn positions<E: Bits>() {
    let mut rng = generate::rng("rope_backward, positions");
    let checker = Checker::new::<E>("rope_backward");
    for position in [0, 1, -1, 17, 4095, 1_000_000_007, -(1 << 40), i64::MAX, i64::MIN] {
        for theta in [10_000.0, 500_000.0, 10.0, 0.5] {
            for cols in [2, 4, 6, 64, 130] {
                for interleaved in [false, true] {
                    let dy = generate::bell::<E>(&mut rng, cols, 0.0, 2.0);
                    let options = Rope::default().theta(theta).interleaved(interleaved);
                    let exact = reference::rope_backward(&dy, position, &options);
                    let terms = terms(&dy, interleaved);
                    each_level(|level| {
                        let what = format!("position {position}, theta {theta}, {cols}, {interleaved}, {level}");
                        let got = row(&dy, position, &options);
                        checker.check_terms(&what, &dy, &got, &exact, &|i| terms[i]);
                        // The gradient is the rotation by the opposite angle. Every position except the smallest i64
                        // can be negated.
                        if let Some(opposite) = position.checked_neg() {
                            let table = RopeTable::new(&[opposite], cols, &options).unwrap();
                            let turned = rope(Rows::new(&dy, 1, cols).unwrap(), &table).unwrap();
                            assert_same_bits(&what, &got, &turned);
                        }
                    });
                }
            }
        }
    }
}

/// Checks pairs whose rotation overflows, underflows or cancels. Some angles are so large that their ULP exceeds a full
/// turn.
fn hostile_pairs<E: Bits>() {
    let checker = Checker::new::<E>("rope_backward");
    let limits = E::LIMITS;
    for (a, b) in [
        (limits.max / 2.0, limits.max / 2.0),
        (limits.max / 2.0, limits.min_subnormal),
        (limits.min_subnormal, limits.min_subnormal),
        (3.0 * limits.min_normal, -limits.min_normal),
        (1.0, 1.0),
        (1.0, 0.0),
    ] {
        let dy = [E::from_wide(a), E::from_wide(b)];
        let mut naive_failures = 0;
        for position in [1, 2, 3, 100, 12_345, 100_000_007, 1 << 60] {
            let exact = reference::rope_backward(&dy, position, &Rope::default());
            let terms = terms(&dy, false);
            each_level(|level| {
                let what = format!("{a:e}, {b:e} at {position}, {level}");
                checker.check_terms(&what, &dy, &row(&dy, position, &Rope::default()), &exact, &|i| terms[i]);
            });
            let naive = naive::rope_backward(&dy, position, 10_000.0);
            let outcome = within_terms("", &dy, &naive, &exact, |i| terms[i], checker.bound());
            naive_failures += usize::from(outcome.is_err());
        }
        // If the naive formula fails, the pair is hard enough to reveal errors. In f64, and for the pair of smallest
        // subnormal numbers, the naive formula may be accurate.
        let has_power = E::DTYPE == DType::F64 || naive_failures > 0 || a == limits.min_subnormal;
        assert!(
            has_power,
            "rope_backward of [{a:e}, {b:e}]: expected the naive formula to exceed the error bound at some position"
        );
    }
}

fn outcomes<E: Bits>() {
    each_level(|level| {
        let dy: Vec<E> = [1.0, f64::NAN, f64::INFINITY, 4.0, 5.0, 6.0].map(E::from_wide).to_vec();
        let dx = row(&dy, 3, &Rope::default());
        assert!(
            dx[1].widen().is_nan() && dx[4].widen().is_nan(),
            "rope_backward of {dy:?}: expected NaN at indexes 1 and 4, got {dx:?} ({level})"
        );
        assert!(
            !dx[2].widen().is_finite() && !dx[5].widen().is_finite(),
            "rope_backward of {dy:?}: expected inf or NaN at indexes 2 and 5, got {dx:?} ({level})"
        );
        let lone = [1.0, 4.0].map(E::from_wide);
        assert_same_bits("the other pair", &[dx[0], dx[3]], &row(&lone, 3, &Rope::default()));
        // Row r uses the table's position at index r modulo the table's length.
        let table = RopeTable::new(&[5, 0, -3], 2, &Rope::default()).unwrap();
        let dy: Vec<E> = (0..12).map(|i| E::from_wide(f64::from(i) - 5.5)).collect();
        let expected: Vec<E> = dy
            .chunks(2)
            .zip([5, 0, -3, 5, 0, -3])
            .flat_map(|(dy, position)| row(dy, position, &Rope::default()))
            .collect();
        assert_same_bits("rows", &rope_backward(Rows::new(&dy, 6, 2).unwrap(), &table).unwrap(), &expected);
        let refused = rope_backward(Rows::new(&dy, 4, 3).unwrap(), &table);
        assert!(matches!(refused, Err(Error::ShapeMismatch { op: "rope_backward", .. })));
        let refused = rope_backward(Rows::new(&dy[..8], 4, 2).unwrap(), &table);
        assert!(matches!(refused, Err(Error::ShapeMismatch { op: "rope_backward", .. })));
    });
}

struct Forms(RopeTable);

impl<E: Element> RowOp<E> for Forms {
    fn allocating(&self, dy: Rows<'_, E>) -> Vec<E> {
        rope_backward(dy, &self.0).unwrap()
    }
    fn into<'a>(&self, dy: Rows<'_, E>, dx: RowsMut<'a, E>) -> &'a mut [E] {
        rope_backward_into(dy, dx, &self.0).unwrap()
    }
    fn in_place(&self, dy: RowsMut<'_, E>) {
        rope_backward_in_place(dy, &self.0).unwrap();
    }
}

fn forms<E: Bits>() {
    let mut rng = generate::rng("rope_backward, forms");
    for (rows, cols) in [(1, 2), (5, 6), (3, 34), (600, 128)] {
        let dy = generate::bell::<E>(&mut rng, rows * cols, 0.0, 15.0);
        for interleaved in [false, true] {
            // The table has a single position, so that a row gives the same result alone and in a batch.
            let table = RopeTable::new(&[77], cols, &Rope::default().interleaved(interleaved)).unwrap();
            assert_forms_agree(&Forms(table), &dy, cols);
        }
    }
}
