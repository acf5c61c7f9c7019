//! Tests of masks. Each combination of flags, bias, lengths, causality and window is compared with its expansion to one
//! keep flag and one bias per position. Equivalent masks give equal bits.

use crate::support::compare::{Checker, assert_same_bits};
use crate::support::expand::Parts;
use crate::support::forms::transposed;
use crate::support::generate::{self, Bits};
use crate::support::implementations::{each_level, on_threads};
use evenkeel::reference::Real;
use evenkeel::{DType, Error, FullyMasked, Lanes, Mask, Rows, Softmax, log_softmax, logsumexp, reference, softmax};
use half::{bf16, f16};

for_each_dtype!(
    combinations,
    parts_that_mean_the_same,
    padding_changes_no_bit,
    any_axis,
    finite_fills_are_data,
    a_bias_of_any_type,
    what_is_masked_changes_no_bit,
    terms_that_cancel,
    infinities_in_a_bias,
);

fn combinations<E: Bits>() {
    let mut rng = generate::rng("mask, combinations");
    let checkers = ["softmax", "log_softmax", "logsumexp"].map(|op| Checker::of_usual_rows::<E>(op));
    let shapes: [&[usize]; 7] =
        [&[9], &[4, 7], &[3, 5, 18], &[2, 3, 6, 6], &[2, 2, 1, 40], &[3, 1, 8, 3], &[2, 2, 2, 3, 5]];
    for case in 0..120 {
        let dims = shapes[case % shapes.len()];
        let keys = dims[dims.len() - 1];
        let x = generate::bell::<E>(&mut rng, dims.iter().product(), 0.0, 4.0);
        let parts = Parts::any(&mut rng, dims);
        let (keep, biases) = parts.expand();
        let scale = [1.0, 0.5, -1.25][case % 3];
        let logits = |r: usize| {
            let row = r * keys..(r + 1) * keys;
            let mut z = reference::logits(&x[row.clone()], scale, None, None, Some(&keep[row.clone()]));
            for bias in &biases {
                let rounded: Vec<f64> = z.iter().map(|z| z.to_f64()).collect();
                let sum = reference::logits(&rounded, 1.0, None, Some(&bias[row.clone()]), None);
                z = sum.into_iter().map(E::Exact::from_double_double).collect();
            }
            z
        };
        let exact: Vec<Vec<E::Exact>> = (0..x.len() / keys).map(logits).collect();
        let mask = parts.mask();
        let options = Softmax::default().scale(scale).mask(&mask);
        each_level(|level| {
            let view = Rows::shaped(&x, dims).unwrap();
            let [y, log_y] = [softmax(view, &options).unwrap(), log_softmax(view, &options).unwrap()];
            let lse = logsumexp(view, &options).unwrap();
            for (r, z) in exact.iter().enumerate() {
                let what = format!("row {r} of {parts:?}, {level}");
                let row = |values: &[E]| values[r * keys..][..keys].to_vec();
                let Some(exact) = reference::softmax_of(z) else {
                    assert_same_bits(&what, &row(&y), &vec![E::ZERO; keys]);
                    assert_same_bits(&what, &row(&log_y), &vec![E::NEG_INFINITY; keys]);
                    assert_same_bits(&what, &lse[r..=r], &[E::NEG_INFINITY]);
                    continue;
                };
                checkers[0].check(&what, &row(&x), &row(&y), &exact);
                checkers[1].check(&what, &row(&x), &row(&log_y), &reference::log_softmax_of(z).unwrap());
                let exact = reference::logsumexp_of(z);
                let max = z.iter().copied().fold(E::Exact::from(f64::NEG_INFINITY), |a, b| if b > a { b } else { a });
                let largest = max.to_f64().abs().max((exact - max).to_f64());
                checkers[2].check_terms(&what, &[], &lse[r..=r], &[exact], &|_| largest);
                // Masked positions give exactly 0, or -inf for log_softmax.
                for (i, keep) in keep[r * keys..][..keys].iter().enumerate() {
                    assert!(
                        *keep || (row(&y)[i] == E::ZERO && row(&log_y)[i] == E::NEG_INFINITY),
                        "{what}: expected softmax 0 and log_softmax -inf at the masked position {i}, got {:?} and {:?}",
                        row(&y)[i],
                        row(&log_y)[i]
                    );
                }
            }
            let threaded = on_threads(2, level, || softmax(view, &options).unwrap());
            assert_same_bits("on two threads", &threaded, &y);
            let owned = mask.clone().into_owned();
            let by_owned = softmax(view, &Softmax::default().scale(scale).mask(&owned)).unwrap();
            assert_same_bits("owned", &by_owned, &y);
        });
        // The error names the lowest fully masked row.
        let first = exact.iter().position(|z| reference::softmax_of(z).is_none());
        let refused = softmax(Rows::shaped(&x, dims).unwrap(), &options.fully_masked(FullyMasked::Error)).err();
        assert_eq!(refused, first.map(|row| Error::fully_masked("softmax", row)));
    }
}

/// Checks five kinds of masks: `keep` flags, a bias of -inf, lengths, causality and windows. Masks that keep the same
/// positions must give the same bits.
fn parts_that_mean_the_same<E: Bits>() {
    let mut rng = generate::rng("mask, the same");
    let (batch, queries, keys) = (3, 40, 75);
    let dims = [batch, queries, keys];
    let x = generate::bell::<E>(&mut rng, batch * queries * keys, 0.0, 4.0);
    let view = Rows::shaped(&x, &dims).unwrap();
    let lengths = [75, 20, 0];
    let parts = [
        Parts { lengths: Some(lengths.to_vec()), ..Parts::default() },
        Parts { causal: true, ..Parts::default() },
        Parts { causal: true, lengths: Some(lengths.to_vec()), ..Parts::default() },
        Parts { causal: true, window: Some(20), ..Parts::default() },
        Parts { causal: true, offset: Some(7), ..Parts::default() },
    ];
    for parts in parts.map(|parts| Parts { dims: dims.to_vec(), ..parts }) {
        let (keep, _) = parts.expand();
        let bytes: Vec<u8> = keep.iter().map(|&k| if k { 255 } else { 0 }).collect();
        let bias: Vec<f32> = keep.iter().map(|&k| if k { 0.0 } else { f32::NEG_INFINITY }).collect();
        let narrow: Vec<bf16> = bias.iter().map(|&b| bf16::from_f32(b)).collect();
        let filled: Vec<E> = x.iter().zip(&keep).map(|(&x, &k)| if k { x } else { E::NEG_INFINITY }).collect();
        each_level(|level| {
            let of = |mask: &Mask<'_>| {
                let options = Softmax::default().mask(mask);
                let lse = logsumexp(view, &options).unwrap();
                [softmax(view, &options).unwrap(), log_softmax(view, &options).unwrap(), lse].concat()
            };
            let expected = of(&Mask::keep(&keep, &dims));
            let check = |what: &str, got: Vec<E>| assert_same_bits(&format!("{what}, {level}"), &got, &expected);
            check("bytes", of(&Mask::keep(&bytes, &dims)));
            check("a bias of 0 and -inf", of(&Mask::bias(&bias, &dims)));
            check("a bias of bf16", of(&Mask::bias(&narrow, &dims)));
            check("the parts", of(&parts.mask()));
            check("the parts with their keep flags", of(&parts.mask().and_keep(&keep, &dims)));
            let options = Softmax::default();
            let filled = Rows::shaped(&filled, &dims).unwrap();
            let lse = logsumexp(filled, &options).unwrap();
            check("-inf", [softmax(filled, &options).unwrap(), log_softmax(filled, &options).unwrap(), lse].concat());
        });
    }
}

/// Checks that a row keeps the bits of its results if masked padding makes it longer.
fn padding_changes_no_bit<E: Bits>() {
    let mut rng = generate::rng("mask, padding");
    for (len, padded) in [(1, 16), (5, 6), (33, 64), (250, 300), (256, 257), (1000, 4097)] {
        let row = generate::bell::<E>(&mut rng, len, 0.0, 6.0);
        let behind: Vec<E> = row.iter().copied().chain(std::iter::repeat_n(E::NAN, padded - len)).collect();
        let keep: Vec<bool> = (0..padded).map(|i| i < len).collect();
        each_level(|level| {
            let check = |what: &str, x: &[E], mask: &Mask<'_>, live: std::ops::Range<usize>| {
                let what = format!("{what}, {len} in {padded}, {level}");
                let (alone, options) = (Rows::new(&row, 1, len).unwrap(), Softmax::default());
                let (view, masked) = (Rows::new(x, 1, padded).unwrap(), options.mask(mask));
                assert_same_bits(
                    &what,
                    &softmax(view, &masked).unwrap()[live.clone()],
                    &softmax(alone, &options).unwrap(),
                );
                let got = log_softmax(view, &masked).unwrap();
                assert_same_bits(&what, &got[live], &log_softmax(alone, &options).unwrap());
                assert_same_bits(&what, &logsumexp(view, &masked).unwrap(), &logsumexp(alone, &options).unwrap());
            };
            check("after, by flags", &behind, &Mask::keep(&keep, &[padded]), 0..len);
            check("after, by its length", &behind, &Mask::lengths(&[len]), 0..len);
            // In f64, padding in front of a row would move the row's terms to other lanes of the tiled sum, which may
            // change the bits.
            if E::DTYPE != DType::F64 {
                let front: Vec<E> = std::iter::repeat_n(E::NAN, padded - len).chain(row.iter().copied()).collect();
                let flags: Vec<bool> = keep.iter().rev().copied().collect();
                check("in front", &front, &Mask::keep(&flags, &[padded]), padded - len..padded);
            }
        });
    }
}

/// Checks that flags and biases broadcast to the tensor along any axis.
fn any_axis<E: Bits>() {
    let mut rng = generate::rng("mask, axes");
    let [outer, len, inner] = [3, 11, 18];
    let x = generate::bell::<E>(&mut rng, outer * len * inner, 0.0, 4.0);
    let parts = loop {
        let parts = Parts::any(&mut rng, &[outer, len, inner]);
        if !parts.keeps.is_empty() && !parts.biases.is_empty() {
            break Parts { lengths: None, causal: false, window: None, offset: None, ..parts };
        }
    };
    let (keep, biases) = parts.expand();
    let rows = transposed(&x, [outer, len, inner]);
    let keep = transposed(&keep, [outer, len, inner]);
    let biases: Vec<Vec<f64>> = biases.iter().map(|bias| transposed(bias, [outer, len, inner])).collect();
    let dims = [outer, inner, len];
    let written_out = biases.iter().fold(Mask::keep(&keep, &dims), |mask, bias| mask.and_bias(bias, &dims));
    let mask = parts.mask();
    each_level(|level| {
        let expected = softmax(Rows::shaped(&rows, &dims).unwrap(), &Softmax::default().mask(&written_out)).unwrap();
        let lanes = Lanes::shaped(&x, &[outer, len, inner], 1).unwrap();
        let got = softmax(lanes, &Softmax::default().mask(&mask)).unwrap();
        assert_same_bits(&format!("{parts:?}, {level}"), &got, &transposed(&expected, dims));
        let lse = logsumexp(lanes, &Softmax::default().mask(&mask)).unwrap();
        let expected = logsumexp(Rows::shaped(&rows, &dims).unwrap(), &Softmax::default().mask(&written_out)).unwrap();
        assert_same_bits(&format!("logsumexp, {parts:?}, {level}"), &lse, &expected);
    });
}

/// Checks that a finite fill value is treated like any other number, however low it is.
fn finite_fills_are_data<E: Bits>() {
    let checker = Checker::of_usual_rows::<E>("softmax");
    let x = [1.0, 2.0, 3.0, -1.0].map(E::from_wide);
    for fill in [-1e4, -65504.0, -1e9, f64::from(f32::MIN), f64::MIN] {
        for bias in [[fill; 4], [0.0, fill, fill, 0.0], [fill, fill, 0.0, fill]] {
            let exact = reference::softmax_of(&reference::logits(&x, 1.0, None, Some(&bias), None)).unwrap();
            let mask = Mask::bias(&bias, &[4]);
            each_level(|level| {
                let options = Softmax::default().mask(&mask).fully_masked(FullyMasked::Error);
                let got = softmax(Rows::new(&x, 1, 4).unwrap(), &options).unwrap();
                checker.check(&format!("{bias:?}, {level}"), &x, &got, &exact);
            });
        }
    }
    // Checks a bias of f16::MIN. This value counts as a number, not as a mask.
    let row = [E::ZERO; 3];
    each_level(|level| {
        let half = [f16::MIN, f16::MIN, f16::ZERO];
        let got = softmax(Rows::new(&row, 1, 3).unwrap(), &Softmax::default().mask(&Mask::bias(&half, &[3]))).unwrap();
        assert_same_bits(&format!("f16, {level}"), &got, &[0.0, 0.0, 1.0].map(E::from_wide));
        let got =
            softmax(Rows::new(&row, 1, 3).unwrap(), &Softmax::default().mask(&Mask::bias(&[f16::MIN], &[1]))).unwrap();
        assert_same_bits(&format!("f16 everywhere, {level}"), &got, &[E::from_wide(1.0 / 3.0); 3]);
    });
}

/// Checks that a bias gives the same bits in every type that represents it exactly, whether it is expanded or
/// broadcast.
fn a_bias_of_any_type<E: Bits>() {
    let mut rng = generate::rng("mask, types of a bias");
    for (rows, cols) in [(3, 7), (2, 100), (1, 5000)] {
        let x = generate::bell::<E>(&mut rng, rows * cols, 0.0, 4.0);
        let narrow = generate::bell::<bf16>(&mut rng, cols, 0.0, 4.0);
        let f32s: Vec<f32> = narrow.iter().map(|b| b.to_f32()).collect();
        let f64s: Vec<f64> = narrow.iter().map(|b| b.to_f64()).collect();
        let written_out = f32s.repeat(rows);
        let all_kept = vec![true; cols];
        each_level(|level| {
            let of = |mask: &Mask<'_>| {
                softmax(Rows::new(&x, rows, cols).unwrap(), &Softmax::default().scale(0.3).mask(mask)).unwrap()
            };
            let expected = of(&Mask::bias(&f32s, &[cols]));
            let check = |what: &str, got: Vec<E>| {
                assert_same_bits(&format!("{what}, {rows} x {cols}, {level}"), &got, &expected);
            };
            check("bf16", of(&Mask::bias(&narrow, &[cols])));
            check("f64", of(&Mask::bias(&f64s, &[cols])));
            check("written out", of(&Mask::bias(&written_out, &[rows, cols])));
            check("with flags", of(&Mask::bias(&f32s, &[cols]).and_keep(&all_kept, &[cols])));
        });
    }
}

/// Checks that masked scores do not change a bit of the results. If a bias of -inf masks a score, the score may be any
/// finite number or -inf. If a keep flag masks it, the score may be any value.
fn what_is_masked_changes_no_bit<E: Bits>() {
    let mut rng = generate::rng("mask, what is masked");
    let cols = 300;
    let x = generate::bell::<E>(&mut rng, cols, 0.0, 4.0);
    let keep: Vec<bool> = (0..cols).map(|i| i % 7 != 3).collect();
    for low in [0.0f32, -0.75] {
        let even = [low];
        let bias: Vec<f32> = keep.iter().map(|&keep| if keep { low } else { f32::NEG_INFINITY }).collect();
        for scale in [1.0, 0.3, 3.0] {
            let put = |value: E| -> Vec<E> { x.iter().zip(&keep).map(|(&x, &k)| if k { x } else { value }).collect() };
            let of = |x: &[E], mask: &Mask<'_>| {
                softmax(Rows::new(x, 1, cols).unwrap(), &Softmax::default().scale(scale).mask(mask)).unwrap()
            };
            each_level(|level| {
                let what = format!("bias {low}, scale {scale}, {level}");
                let (flags, filled) = (Mask::keep(&keep, &[cols]), Mask::bias(&bias, &[cols]));
                let both = Mask::keep(&keep, &[cols]).and_bias(&even, &[1]);
                let [max, min] = [E::LIMITS.max, -E::LIMITS.max].map(E::from_wide);
                for value in [E::NEG_INFINITY, max, min] {
                    assert_same_bits(&what, &of(&put(value), &filled), &of(&x, &filled));
                }
                for value in [E::NAN, E::INFINITY, E::NEG_INFINITY, max, min] {
                    assert_same_bits(&what, &of(&put(value), &flags), &of(&x, &flags));
                    assert_same_bits(&what, &of(&put(value), &both), &of(&x, &filled));
                }
            });
        }
    }
}

/// Checks a bias that cancels most of a large product of scale and score.
fn terms_that_cancel<E: Bits>() {
    let mut rng = generate::rng("mask, terms that cancel");
    let checker = Checker::of_usual_rows::<E>("softmax");
    for size in [1e2, 1e4, 3e4] {
        let x = generate::bell::<E>(&mut rng, 200, size, 1.0);
        let scale = 1.0 / 3.0;
        let bias: Vec<f32> = x.iter().map(|x| -(x.widen() * scale) as f32).collect();
        let widened: Vec<f64> = bias.iter().map(|&b| f64::from(b)).collect();
        let exact = reference::softmax_of(&reference::logits(&x, scale, None, Some(&widened), None)).unwrap();
        let mask = Mask::bias(&bias, &[200]);
        each_level(|level| {
            let options = Softmax::default().scale(scale).mask(&mask);
            let got = softmax(Rows::new(&x, 1, 200).unwrap(), &options).unwrap();
            checker.check(&format!("{size:e}, {level}"), &x, &got, &exact);
        });
    }
}

fn infinities_in_a_bias<E: Bits>() {
    let x = [E::ZERO; 6];
    for (special, expected) in [(f32::INFINITY, [E::NAN; 3]), (f32::NAN, [E::NAN; 3])] {
        let bias = [0.0, special, f32::NEG_INFINITY, 0.0, 0.0, f32::NEG_INFINITY];
        let mask = Mask::bias(&bias, &[2, 3]);
        each_level(|level| {
            let got = softmax(Rows::new(&x, 2, 3).unwrap(), &Softmax::default().mask(&mask)).unwrap();
            assert_same_bits(&format!("{special}, {level}"), &got[..3], &expected);
            assert_same_bits(&format!("the other row, {level}"), &got[3..], &[0.5, 0.5, 0.0].map(E::from_wide));
        });
    }
    // A score of -inf is masked before scale, softcap and bias apply.
    let scores = [E::NEG_INFINITY, E::ZERO];
    each_level(|level| {
        for scale in [0.0, -2.0, 1.0] {
            let options = Softmax::default().scale(scale).softcap(30.0);
            let got = softmax(Rows::new(&scores, 1, 2).unwrap(), &options).unwrap();
            assert_same_bits(&format!("scale {scale}, {level}"), &got, &[0.0, 1.0].map(E::from_wide));
        }
    });
}

/// Checks softcap against the reference. Softcap applies after the scale, and before the bias and the keep flags.
#[test]
fn softcap_comes_after_scale_and_before_the_mask() {
    let mut rng = generate::rng("mask, softcap");
    let checker = Checker::of_usual_rows::<f32>("softmax");
    for (scale, cap) in [(1.0, 50.0), (0.125, 30.0), (3.0, 1.0), (1e10, 5.0), (1.0, 1e300), (1e-30, 1e-30)] {
        let x = generate::bell::<f32>(&mut rng, 200, 0.0, 60.0);
        let keep: Vec<bool> = (0..200).map(|i| i % 7 != 0).collect();
        let bias: Vec<f64> = (0..200).map(|i| f64::from(i % 5) - 2.0).collect();
        let exact = reference::softmax_of(&reference::logits(&x, scale, Some(cap), Some(&bias), Some(&keep))).unwrap();
        let mask = Mask::keep(&keep, &[200]).and_bias(&bias, &[200]);
        each_level(|level| {
            let options = Softmax::default().scale(scale).softcap(cap).mask(&mask);
            let got = softmax(Rows::new(&x, 1, 200).unwrap(), &options).unwrap();
            checker.check(&format!("scale {scale}, cap {cap}, {level}"), &x, &got, &exact);
        });
    }
}

#[test]
fn masks_that_do_not_fit_are_refused() {
    let x = [0.0f32; 24];
    let refusal = |mask: Mask<'_>, dims: &[usize], axis: isize| {
        let options = Softmax::default().mask(&mask);
        softmax(Lanes::shaped(&x, dims, axis).unwrap(), &options).unwrap_err().to_string()
    };
    let dims = [2, 3, 4];
    for (shape, len) in [(&[4, 3][..], 12), (&[2, 3], 6), (&[2, 1, 2], 4), (&[1, 2, 3, 4], 24), (&[5], 5), (&[0], 0)] {
        let flags = vec![true; len];
        let expected = format!("softmax: mask has shape {shape:?}; expected one that broadcasts to [2, 3, 4]");
        assert_eq!(refusal(Mask::keep(&flags, shape), &dims, -1), expected);
        assert_eq!(refusal(Mask::bias(&vec![0.0f32; len], shape), &dims, -1), expected);
    }
    let flags = [true; 5];
    assert_eq!(refusal(Mask::keep(&flags, &[4]), &dims, -1), "softmax: mask has 5 elements; expected shape [4]");
    assert_eq!(refusal(Mask::lengths(&[4, 4, 4]), &dims, -1), "softmax: lengths has 3 entries; expected 1 or 2");
    assert_eq!(
        refusal(Mask::lengths(&[4, 5]), &dims, -1),
        "softmax: lengths is 5; it must be at most 4, the number of keys"
    );
    assert_eq!(
        refusal(Mask::lengths(&[1]), &dims, 1),
        "softmax: axis is 1; it must be the last axis for a mask with lengths"
    );
    let causal = "it must be the last axis of a tensor with at least two axes, because the mask is causal or windowed";
    assert_eq!(refusal(Mask::causal(), &dims, 0), format!("softmax: axis is 0; {causal}"));
    assert_eq!(refusal(Mask::window(2), &dims, 1), format!("softmax: axis is 1; {causal}"));
    assert_eq!(refusal(Mask::causal(), &[24], 0), format!("softmax: axis is 0; {causal}"));
    assert_eq!(refusal(Mask::window(0), &dims, -1), "softmax: window is 0; it must be at least 1");
    // An empty mask fits any shape.
    assert!(softmax(Rows::new(&x, 6, 4).unwrap(), &Softmax::default().mask(&Mask::none())).is_ok());
}

#[test]
fn a_nan_stays_where_a_neighbour_saturates() {
    let (x, bias) = ([f64::NAN, 1.7e308, 0.0], [0.0, 1.7e308, 0.0]);
    let mask = Mask::bias(&bias, &[3]);
    let probs = softmax(Rows::new(&x, 1, 3).unwrap(), &Softmax::default().mask(&mask)).unwrap();
    assert!(probs.iter().all(|p| p.is_nan()), "softmax of a row with NaN: expected only NaN, got {probs:?}");
}
