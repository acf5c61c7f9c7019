//! Tests that division by the Euclidean norm is accurate, and has the same bits in every form and along any axis.

use crate::support::compare::{Checker, assert_same_bits};
use crate::support::forms::{LaneOp, RowOp, assert_axes_agree, assert_forms_agree};
use crate::support::generate::{self, Bits, Hostile};
use crate::support::implementations::each_level;
use crate::support::{naive, rows};
use evenkeel::{
    Element, Error, L2Normalize, Lanes, LanesMut, Rows, RowsMut, l2_normalize, l2_normalize_in_place,
    l2_normalize_into, reference,
};

/// l2_normalize with eps = 0, because an eps would hide errors of small squares.
struct Function;

impl rows::Function for Function {
    const NAME: &'static str = "l2_normalize";
    fn run<E: Element>(row: &[E]) -> Vec<E> {
        l2_normalize(Rows::new(row, 1, row.len()).unwrap(), &L2Normalize::default().eps(0.0)).unwrap()
    }
    fn exact<E: Element>(row: &[E]) -> Vec<E::Exact> {
        reference::l2_normalize(row, 0.0)
    }
    fn naive<E: Element>(row: &[E]) -> Vec<E> {
        naive::l2_normalize(row, 0.0)
    }
    fn hostile<E: Bits>(len: usize) -> Vec<Hostile<E>> {
        generate::hostile_vectors(len)
    }
    fn terms<E: Element>(row: &[E], _: &[E::Exact]) -> Vec<f64> {
        vec![0.0; row.len()]
    }
}

row_tests!(Function; least_norms, outcomes, forms, axes);

/// Checks norms below and above eps. eps is an f64 for every element type, so it may be far outside the range of the
/// type.
fn least_norms<E: Bits>() {
    let mut rng = generate::rng("l2_normalize, eps");
    let checker = Checker::of_usual_rows::<E>("l2_normalize");
    for eps in [1e-12, 1e-7, 1.0, 1e5, 1e-300, 1e300] {
        for of in [1e-13, 1e-9, 1.0, 1e6, E::LIMITS.min_normal, E::LIMITS.max / 8.0] {
            for len in [1, 7, 100] {
                let unit = generate::bell::<f64>(&mut rng, len, 0.0, 0.5);
                let x: Vec<E> = unit.iter().map(|u| E::from_wide(u * of)).collect();
                let exact = reference::l2_normalize(&x, eps);
                each_level(|level| {
                    let got = l2_normalize(Rows::new(&x, 1, len).unwrap(), &L2Normalize::default().eps(eps)).unwrap();
                    checker.check(&format!("{len} of {of:e}, eps {eps:e}, {level}"), &x, &got, &exact);
                });
            }
        }
    }
}

fn outcomes<E: Bits>() {
    let [zero, one, inf, nan] = [0.0, 1.0, f64::INFINITY, f64::NAN].map(E::from_wide);
    let live = [zero, one, zero];
    each_level(|level| {
        for eps in [1e-12, 0.0, 5e-324] {
            let options = L2Normalize::default().eps(eps);
            let expect = |what: &str, middle: [E; 3], expected: [E; 3]| {
                let got = l2_normalize(Rows::new(&[live, middle, live].concat(), 3, 3).unwrap(), &options).unwrap();
                assert_same_bits(&format!("{what}, {level}"), &got, &[live, expected, live].concat());
            };
            expect("a NaN", [one, nan, zero], [E::NAN; 3]);
            expect("l2_normalize of a row with a NaN and an infinity must be NaN", [inf, nan, zero], [E::NAN; 3]);
            expect("an infinity", [one, inf, zero], [zero, E::NAN, zero]);
            expect("zeros", [zero; 3], [zero; 3]);
        }
        for (rows, cols) in [(0, 0), (0, 5), (4, 0)] {
            let none = Rows::<E>::new(&[], rows, cols).unwrap();
            assert_eq!(l2_normalize(none, &L2Normalize::default()), Ok(vec![]));
        }
    });
    let (_, report) = evenkeel::report::scope(|| {
        l2_normalize(Rows::new(&[one, nan, inf], 3, 1).unwrap(), &L2Normalize::default()).unwrap()
    });
    assert_eq!((report.op("l2_normalize").nan, report.op("l2_normalize").infinite), (1, 1));
    for eps in [-1e-9, f64::NAN, f64::INFINITY] {
        let refused = l2_normalize(Rows::new(&live, 1, 3).unwrap(), &L2Normalize::default().eps(eps));
        assert!(matches!(refused, Err(Error::InvalidArgument { op: "l2_normalize", argument: "eps", .. })));
    }
}

struct Forms(L2Normalize);

impl<E: Element> RowOp<E> for Forms {
    fn allocating(&self, x: Rows<'_, E>) -> Vec<E> {
        l2_normalize(x, &self.0).unwrap()
    }
    fn into<'a>(&self, x: Rows<'_, E>, out: RowsMut<'a, E>) -> &'a mut [E] {
        l2_normalize_into(x, out, &self.0).unwrap()
    }
    fn in_place(&self, x: RowsMut<'_, E>) {
        l2_normalize_in_place(x, &self.0).unwrap();
    }
}

impl<E: Element> LaneOp<E> for Forms {
    fn lanes(&self, x: Lanes<'_, E>) -> Vec<E> {
        l2_normalize(x, &self.0).unwrap()
    }
    fn lanes_in_place(&self, x: LanesMut<'_, E>) {
        l2_normalize_in_place(x, &self.0).unwrap();
    }
}

fn forms<E: Bits>() {
    let mut rng = generate::rng("l2_normalize, forms");
    for (rows, cols) in [(1, 1), (3, 1), (5, 7), (4, 16), (3, 257), (70, 1000)] {
        let mut x = generate::bell::<E>(&mut rng, rows * cols, 1.0, 15.0);
        x[..cols].fill(E::ZERO);
        x[rows * cols - 1] = E::NAN;
        assert_forms_agree(&Forms(L2Normalize::default()), &x, cols);
    }
}

fn axes<E: Bits>() {
    let mut rng = generate::rng("l2_normalize, axes");
    for shape in [[1, 1, 1], [2, 3, 4], [3, 70, 17], [1, 300, 40]] {
        let x = generate::bell::<E>(&mut rng, shape.iter().product(), 0.0, 5.0);
        assert_axes_agree(&Forms(L2Normalize::default()), &x, shape);
    }
}
