//! Tests that GroupNorm is accurate for every layout of channels, and has the same bits in every form.

use crate::support::compare::{Checker, assert_same_bits};
use crate::support::forms::{RowOp, assert_forms_agree};
use crate::support::generate::{self, Bits, Hostile};
use crate::support::implementations::{each_level, on_threads};
use crate::support::norms::mean_term_of;
use crate::support::{naive, rows};
use evenkeel::reference::Real;
use evenkeel::{
    Element, Error, Floats, GroupNorm, Lanes, LanesMut, LayerNorm, Rows, RowsMut, group_norm, group_norm_in_place,
    group_norm_into, layer_norm, reference,
};
use half::{bf16, f16};
use std::mem::MaybeUninit;

/// GroupNorm with one group and eps = 0, because an eps would hide errors of small variances.
struct Function;

impl rows::Function for Function {
    const NAME: &'static str = "group_norm";
    fn run<E: Element>(row: &[E]) -> Vec<E> {
        group_norm(Lanes::new(row, 1, 1, row.len()).unwrap(), &GroupNorm::new(1).eps(0.0)).unwrap()
    }
    fn exact<E: Element>(row: &[E]) -> Vec<E::Exact> {
        reference::group_norm(row, 1, 1, None, None, 0.0)
    }
    fn naive<E: Element>(row: &[E]) -> Vec<E> {
        naive::layer_norm(row, 0.0)
    }
    fn hostile<E: Bits>(len: usize) -> Vec<Hostile<E>> {
        let far = (1.0 / E::LIMITS.epsilon) * 0.75;
        let row = (0..len).map(|i| E::from_wide(far + (2.0 * generate::scattered(i)).floor())).collect();
        let mut rows = generate::hostile_vectors(len);
        rows.push(Hostile { name: "far from zero", row });
        rows
    }
    fn terms<E: Element>(row: &[E], _: &[E::Exact]) -> Vec<f64> {
        vec![mean_term_of(row); row.len()]
    }
}

row_tests!(Function; layouts, outcomes, forms);

/// Shapes `[batch, channels, inner]`, each with a number of groups. The channels have a single element, fewer elements
/// than a block of 16, or many blocks.
const LAYOUTS: [([usize; 3], usize); 10] = [
    ([1, 1, 1], 1),
    ([2, 6, 1], 3),
    ([3, 4, 5], 2),
    ([2, 4, 16], 4),
    ([1, 8, 33], 1),
    ([2, 3, 300], 3),
    ([1, 64, 7], 16),
    ([2, 600, 1], 2),
    ([1, 2, 5000], 1),
    ([5, 32, 49], 8),
];

/// Checks weights and biases of every type, for every layout.
fn layouts<E: Bits>() {
    let mut rng = generate::rng("group_norm, layouts");
    let checker = Checker::of_usual_rows::<E>("group_norm");
    for ([batch, channels, inner], groups) in LAYOUTS {
        let x = generate::bell::<E>(&mut rng, batch * channels * inner, 0.3, 2.0);
        let w64 = generate::bell::<f64>(&mut rng, channels, 1.0, 20.0);
        let w32 = generate::bell::<f32>(&mut rng, channels, 1.0, 20.0);
        let w16 = generate::bell::<f16>(&mut rng, channels, 1.0, 20.0);
        let wb16 = generate::bell::<bf16>(&mut rng, channels, 1.0, 20.0);
        let operands: [Floats<'_>; 4] = [(&w64).into(), (&w32).into(), (&w16).into(), (&wb16).into()];
        for (i, weight) in operands.into_iter().enumerate() {
            let bias = operands[(i + 1) % 4];
            let [w, b] = [weight, bias].map(|v| (0..channels).map(|i| v.get(i).unwrap()).collect::<Vec<f64>>());
            let entry = channels * inner;
            let of_entry = |x: &[E]| reference::group_norm(x, channels, groups, Some(&w), Some(&b), 1e-5);
            let exact: Vec<E::Exact> = x.chunks(entry).flat_map(of_entry).collect();
            let mean_terms: Vec<f64> = x.chunks(entry / groups).map(mean_term_of).collect();
            let options = GroupNorm::new(groups).weight(weight).bias(bias);
            each_level(|level| {
                let got = group_norm(Lanes::new(&x, batch, channels, inner).unwrap(), &options).unwrap();
                let what = format!("[{batch}, {channels}, {inner}] in {groups}, {}, {level}", weight.dtype());
                checker.check_terms(&what, &x, &got, &exact, &|i| {
                    let channel = i / inner % channels;
                    let weighted = (exact[i] - E::Exact::from(b[channel])).to_f64();
                    let mean_term = w[channel].abs() * mean_terms[i / (entry / groups)];
                    weighted.abs().max(b[channel].abs()).max(mean_term)
                });
            });
        }
        // In every form, a batch entry must have the same bits alone and in the batch. Each group must have the same
        // bits as a row of layer_norm.
        let view = || Lanes::new(&x, batch, channels, inner).unwrap();
        let entry = channels * inner;
        let grouped = Rows::new(&x, batch * groups, entry / groups).unwrap();
        let expected = layer_norm(grouped, &LayerNorm::default()).unwrap();
        let options = GroupNorm::new(groups);
        each_level(|level| {
            let what = |form: &str| format!("{form}, [{batch}, {channels}, {inner}] in {groups}, {level}");
            assert_same_bits(&what("allocating"), &group_norm(view(), &options).unwrap(), &expected);
            let shaped = Lanes::shaped(&x, &[batch, channels, inner], 1).unwrap();
            assert_same_bits(&what("by its axis"), &group_norm(shaped, &options).unwrap(), &expected);
            let mut room = vec![MaybeUninit::<E>::uninit(); x.len()];
            let out = LanesMut::new(&mut room[..], batch, channels, inner).unwrap();
            assert_same_bits(&what("into"), group_norm_into(view(), out, &options).unwrap(), &expected);
            let mut data = x.clone();
            group_norm_in_place(LanesMut::new(&mut data, batch, channels, inner).unwrap(), &options).unwrap();
            assert_same_bits(&what("in place"), &data, &expected);
            for threads in [1, 2] {
                let got = on_threads(threads, level, || group_norm(view(), &options).unwrap());
                assert_same_bits(&what("on threads"), &got, &expected);
            }
        });
    }
}

fn outcomes<E: Bits>() {
    let [zero, one, inf, nan] = [0.0, 1.0, f64::INFINITY, f64::NAN].map(E::from_wide);
    let live = [E::from_wide(-1.0), one];
    let (weight, bias) = ([1.0f32; 6], [7.0f32, -3.0, 0.5, 0.25, 0.0, 1.0]);
    each_level(|level| {
        let of = |middle: [E; 2], options: &GroupNorm<'_>| {
            group_norm(Lanes::new(&[live, middle, live].concat(), 1, 6, 1).unwrap(), options).unwrap()
        };
        let plain = GroupNorm::new(3).eps(0.0);
        for (what, middle, expected) in [
            ("a NaN", [one, nan], [E::NAN; 2]),
            ("an infinity", [inf, one], [E::NAN; 2]),
            ("zeros", [zero; 2], [zero; 2]),
            ("all at the largest value", [E::from_wide(E::LIMITS.max); 2], [zero; 2]),
        ] {
            assert_same_bits(&format!("{what}, {level}"), &of(middle, &plain), &[live, expected, live].concat());
        }
        let biased = of([one; 2], &plain.weight(&weight).bias(&bias));
        assert_same_bits("all equal with a bias", &biased[2..4], &[E::from_wide(0.5), E::from_wide(0.25)]);
        for shape in [[0, 4, 3], [2, 0, 3], [2, 4, 0]] {
            let none = Lanes::<E>::new(&[], shape[0], shape[1], shape[2]).unwrap();
            assert_eq!(group_norm(none, &GroupNorm::new(2)), Ok(vec![]));
        }
        let no_channels = Lanes::<E>::new(&[], 2, 0, 3).unwrap();
        assert_eq!(group_norm(no_channels, &GroupNorm::new(usize::MAX)), Ok(vec![]));
    });
    let x = || Rows::new(&live, 1, 2).unwrap();
    let refused = group_norm(x(), &GroupNorm::new(0));
    assert!(matches!(refused, Err(Error::InvalidArgument { op: "group_norm", argument: "groups", .. })));
    let refused = group_norm(x(), &GroupNorm::new(3));
    assert!(matches!(refused, Err(Error::ShapeMismatch { op: "group_norm", argument: "x", .. })));
    let refused = group_norm(x(), &GroupNorm::new(2).bias(&[0.0f32]));
    assert!(matches!(refused, Err(Error::ShapeMismatch { op: "group_norm", argument: "bias", .. })));
    let refused = group_norm(x(), &GroupNorm::new(2).eps(f64::INFINITY));
    assert!(matches!(refused, Err(Error::InvalidArgument { op: "group_norm", argument: "eps", .. })));
}

struct Forms<'a>(GroupNorm<'a>);

impl<E: Element> RowOp<E> for Forms<'_> {
    fn allocating(&self, x: Rows<'_, E>) -> Vec<E> {
        group_norm(x, &self.0).unwrap()
    }
    fn into<'a>(&self, x: Rows<'_, E>, out: RowsMut<'a, E>) -> &'a mut [E] {
        group_norm_into(x, out, &self.0).unwrap()
    }
    fn in_place(&self, x: RowsMut<'_, E>) {
        group_norm_in_place(x, &self.0).unwrap();
    }
}

/// Checks all forms on `[N, C]`, with and without gaps between entries.
fn forms<E: Bits>() {
    let mut rng = generate::rng("group_norm, forms");
    for (rows, cols, groups) in [(1, 1, 1), (3, 2, 2), (5, 6, 3), (4, 16, 4), (3, 257, 1), (70, 1000, 8)] {
        let mut x = generate::bell::<E>(&mut rng, rows * cols, 1.0, 15.0);
        x[..cols].fill(E::ZERO);
        x[rows * cols - 1] = E::NAN;
        let weight = generate::bell::<f32>(&mut rng, cols, 1.0, 0.5);
        let bias = generate::bell::<f16>(&mut rng, cols, 0.0, 0.5);
        assert_forms_agree(&Forms(GroupNorm::new(groups).weight(&weight).bias(&bias)), &x, cols);
    }
}
