//! Tests that log-softmax is accurate, handles NaN, infinities and masks, and has the same bits in every form.

use crate::support::compare::{Checker, assert_same_bits};
use crate::support::forms::{LaneOp, RowOp, assert_axes_agree, assert_forms_agree};
use crate::support::generate::{self, Bits, Hostile};
use crate::support::implementations::{each_level, on_threads};
use crate::support::{naive, rows};
use evenkeel::reference::Real;
use evenkeel::{
    Element, Error, FullyMasked, Lanes, LanesMut, Mask, Rows, RowsMut, Softmax, log_softmax, log_softmax_in_place,
    log_softmax_into, reference, report,
};

struct Function;

impl rows::Function for Function {
    const NAME: &'static str = "log_softmax";
    fn run<E: Element>(row: &[E]) -> Vec<E> {
        log_softmax(Rows::new(row, 1, row.len()).unwrap(), &Softmax::default()).unwrap()
    }
    fn exact<E: Element>(row: &[E]) -> Vec<E::Exact> {
        reference::log_softmax(row).unwrap()
    }
    fn naive<E: Element>(row: &[E]) -> Vec<E> {
        naive::log_softmax(row)
    }
    fn hostile<E: Bits>(len: usize) -> Vec<Hostile<E>> {
        generate::hostile_scores(len)
    }
    /// Returns 0 for each result, because no terms cancel. A result is the sum of two terms that are at most 0. So
    /// neither term exceeds the result in magnitude.
    fn terms<E: Element>(row: &[E], _: &[E::Exact]) -> Vec<f64> {
        vec![0.0; row.len()]
    }
    /// The result for the largest score is minus the logarithm of the sum.
    fn log_sum<E: Element>(_: &[E], exact: &[E::Exact]) -> Option<f64> {
        exact.iter().map(|y| -y.to_f64()).reduce(f64::min)
    }
}

row_tests!(Function; peaked_rows, outcomes, forms, axes);

fn row<E: Element>(x: &[E]) -> Vec<E> {
    <Function as rows::Function>::run(x)
}

/// Checks rows with one large logit. The result for this logit is about minus the sum of the other exponentials. The
/// large logit's own exponential is 1. In a sum that includes this 1, the other exponentials would be lost.
fn peaked_rows<E: Bits>() {
    let checker = Checker::of_usual_rows::<E>("log_softmax");
    for len in [2, 3, 16, 100, 1000] {
        for gap in [1.0, 5.0, 10.0, 16.0, 17.0, 20.0, 30.0, 36.0, 37.0, 40.0, 60.0, 80.0, 86.0] {
            for peak in [0.0, 3.5, -200.0, 250.0, 1000.0] {
                let mut x = vec![E::from_wide(peak - gap); len];
                x[len / 2] = E::from_wide(peak);
                let exact = reference::log_softmax(&x).unwrap();
                each_level(|level| {
                    checker.check(&format!("{len} with a gap of {gap} at {peak}, {level}"), &x, &row(&x), &exact);
                });
            }
        }
    }
}

/// Checks rows in which the largest logit exceeds the others by more than 87. The exponentials of the others are then
/// subnormal. Each exponential has an error of up to half the smallest subnormal number.
#[test]
fn results_below_the_normal_numbers_add_up_what_the_others_are_off_by() {
    for (len, gap) in [(2, 88.0), (16, 100.0), (1000, 95.0), (1000, 103.0), (100, 110.0)] {
        let mut x = vec![-gap as f32; len];
        x[0] = 0.0;
        let exact = reference::log_softmax(&x).unwrap();
        each_level(|level| {
            let off = (f64::from(row(&x)[0]) - exact[0]).abs() / f32::LIMITS.min_subnormal;
            assert!(
                off <= 0.5 * len as f64,
                "log_softmax of one logit 0 and {} logits -{gap}: expected an error of at most {} times the smallest \
                 subnormal number, got {off} times ({level})",
                len - 1,
                0.5 * len as f64
            );
        });
    }
}

/// Checks fully masked rows, and rows with a NaN or an infinity.
fn outcomes<E: Bits>() {
    let [zero, one, inf, masked, nan] = [0.0, 1.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN].map(E::from_wide);
    let minus_ln_3 = E::from_wide(-(3f64.ln()));
    let minus_ln_2 = E::from_wide(-(2f64.ln()));
    let live = [one, one, one];
    each_level(|level| {
        let run = |x: &[E], options: &Softmax<'_>| log_softmax(Rows::new(x, x.len() / 3, 3).unwrap(), options);
        let outcome =
            |middle: [E; 3], policy| run(&[live, middle, live].concat(), &Softmax::default().fully_masked(policy));
        let around = |middle: [E; 3]| [[minus_ln_3; 3], middle, [minus_ln_3; 3]].concat();
        let expect = |what: &str, middle: [E; 3], policy, expected: [E; 3]| {
            assert_same_bits(&format!("{what}, {level}"), &outcome(middle, policy).unwrap(), &around(expected));
        };
        for policy in [FullyMasked::Zeros, FullyMasked::Uniform, FullyMasked::Error] {
            expect("a NaN", [one, nan, zero], policy, [E::NAN; 3]);
            expect("log_softmax of a row with NaN and -inf must be NaN", [masked, nan, masked], policy, [E::NAN; 3]);
            expect("+inf", [inf, one, masked], policy, [E::NAN; 3]);
            expect("two live", [one, masked, one], policy, [minus_ln_2, masked, minus_ln_2]);
            let lone = outcome([masked, one, masked], policy).unwrap()[3..6].to_vec();
            assert!(
                lone[0] == masked && lone[1].widen() == 0.0 && lone[2] == masked,
                "log_softmax of [-inf, 1, -inf]: expected [-inf, 0, -inf], got {lone:?} ({level})"
            );
        }
        expect(
            "log_softmax of a row of -inf with FullyMasked::Zeros must be -inf",
            [masked; 3],
            FullyMasked::Zeros,
            [masked; 3],
        );
        expect(
            "log_softmax of a row of -inf with FullyMasked::Uniform must be -ln 3",
            [masked; 3],
            FullyMasked::Uniform,
            [minus_ln_3; 3],
        );
        let refused = Err(Error::fully_masked("log_softmax", 1));
        assert_eq!(
            outcome([masked; 3], FullyMasked::Error),
            refused,
            "log_softmax of a row of -inf with FullyMasked::Error must give an error for row 1 ({level})"
        );

        let last_masked = [live; 21].concat().into_iter().chain([masked; 3]).collect::<Vec<E>>();
        assert_eq!(
            run(&last_masked, &Softmax::default().fully_masked(FullyMasked::Error)),
            Err(Error::fully_masked("log_softmax", 21)),
            "log_softmax of 22 rows, the last of them fully masked, must give an error for row 21 ({level})"
        );

        let keep = [1u8, 1, 1, 0, 0, 0, 1, 1, 1];
        let mask = Mask::keep(&keep, &[3, 3]);
        for hidden in [zero, nan, inf] {
            let x = [live, [hidden; 3], live].concat();
            let masked_by = |policy| run(&x, &Softmax::default().mask(&mask).fully_masked(policy));
            assert_same_bits("masked, zeros", &masked_by(FullyMasked::Zeros).unwrap(), &around([masked; 3]));
            assert_same_bits("masked, uniform", &masked_by(FullyMasked::Uniform).unwrap(), &[minus_ln_3; 9]);
            assert_eq!(masked_by(FullyMasked::Error), refused);
        }
        for (rows, cols) in [(0, 0), (0, 5), (4, 0)] {
            let policy = Softmax::default().fully_masked(FullyMasked::Error);
            assert_eq!(log_softmax(Rows::<E>::new(&[], rows, cols).unwrap(), &policy), Ok(vec![]));
        }
    });
}

/// Checks that an error has the index of the row in the tensor, although rows are computed in blocks and in parts.
#[test]
fn errors_name_the_row_of_the_tensor() {
    let refuse = Softmax::default().fully_masked(FullyMasked::Error);
    let (rows, cols, row) = (40_000, 3, 39_000);
    let mut x = vec![1.0f32; rows * cols];
    x[row * cols..][..cols].fill(f32::NEG_INFINITY);
    each_level(|level| {
        let got = on_threads(2, level, || log_softmax(Rows::new(&x, rows, cols).unwrap(), &refuse));
        assert_eq!(got, Err(Error::fully_masked("log_softmax", row)), "row {row} of {rows} is fully masked ({level})");
    });
    // Lanes along the middle axis: lane 20 of the second group of 37.
    let lane = 37 + 20;
    let mut x = vec![1.0f32; 2 * 3 * 37];
    (0..3).for_each(|i| x[(3 + i) * 37 + 20] = f32::NEG_INFINITY);
    each_level(|level| {
        let got = log_softmax(Lanes::new(&x, 2, 3, 37).unwrap(), &refuse);
        assert_eq!(
            got,
            Err(Error::fully_masked("log_softmax", lane)),
            "{level}: lane {lane} is fully masked, so the call must return an error"
        );
    });
}

/// Checks the report of rows that are computed in blocks.
#[test]
fn rows_of_a_block_are_counted_once() {
    let mut x = vec![1.0f32; 40 * 3];
    x[17 * 3..18 * 3].fill(f32::NEG_INFINITY);
    (x[18 * 3], x[39 * 3]) = (f32::NAN, f32::INFINITY);
    each_level(|level| {
        let (_, report) = report::scope(|| log_softmax(Rows::new(&x, 40, 3).unwrap(), &Softmax::default()));
        let counts = report.op("log_softmax");
        assert_eq!(
            (counts.rows, counts.fully_masked, counts.nan, counts.infinite),
            (40, 1, 1, 1),
            "40 rows, one of each kind ({level})"
        );
    });
}

struct Forms<'a>(Softmax<'a>);

impl<E: Element> RowOp<E> for Forms<'_> {
    fn allocating(&self, x: Rows<'_, E>) -> Vec<E> {
        log_softmax(x, &self.0).unwrap()
    }
    fn into<'a>(&self, x: Rows<'_, E>, out: RowsMut<'a, E>) -> &'a mut [E] {
        log_softmax_into(x, out, &self.0).unwrap()
    }
    fn in_place(&self, x: RowsMut<'_, E>) {
        log_softmax_in_place(x, &self.0).unwrap();
    }
}

impl<E: Element> LaneOp<E> for Forms<'_> {
    fn lanes(&self, x: Lanes<'_, E>) -> Vec<E> {
        log_softmax(x, &self.0).unwrap()
    }
    fn lanes_in_place(&self, x: LanesMut<'_, E>) {
        log_softmax_in_place(x, &self.0).unwrap();
    }
}

fn forms<E: Bits>() {
    let mut rng = generate::rng("log_softmax, forms");
    for (rows, cols) in
        [(1, 1), (3, 1), (5, 7), (4, 16), (16, 7), (3, 257), (17, 512), (37, 513), (70, 1000), (20_000, 3)]
    {
        let mut x = generate::bell::<E>(&mut rng, rows * cols, 0.0, 15.0);
        x[..cols].fill(E::NEG_INFINITY);
        x[rows * cols - 1] = E::NAN;
        if rows > 30 {
            x[17 * cols] = E::INFINITY;
            x[18 * cols..19 * cols].fill(E::NEG_INFINITY);
            x[20 * cols + 1] = E::NAN;
        }
        assert_forms_agree(&Forms(Softmax::default()), &x, cols);
        assert_forms_agree(&Forms(Softmax::default().scale(0.3).softcap(20.0)), &x, cols);
    }
}

fn axes<E: Bits>() {
    let mut rng = generate::rng("log_softmax, axes");
    for shape in [[1, 3, 2], [2, 5, 1], [3, 17, 16], [2, 4, 37], [5, 130, 33]] {
        let mut x = generate::bell::<E>(&mut rng, shape.iter().product(), 0.0, 15.0);
        x[0] = E::NAN;
        assert_axes_agree(&Forms(Softmax::default()), &x, shape);
    }
}
