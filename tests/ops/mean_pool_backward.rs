//! Tests of the gradient of means over tokens. The gradient must be correctly rounded, and zero for masked tokens. It
//! must have the same bits on any number of threads.

use crate::support::compare::{Checker, assert_same_bits};
use crate::support::generate::{self, Bits};
use crate::support::implementations::{each_level, on_threads};
use evenkeel::simd::Level;
use evenkeel::{Error, FullyMasked, LanesMut, Mask, MeanPool, mean_pool_backward, mean_pool_backward_into, reference};

for_each_dtype!(accuracy, outcomes, threads);

fn accuracy<E: Bits>() {
    let mut rng = generate::rng("mean_pool_backward");
    let checker = Checker::new::<E>("mean_pool_backward");
    for (tokens, width) in [(1, 1), (3, 5), (7, 64), (49, 17), (300, 33)] {
        let mut dy = generate::bell::<E>(&mut rng, width, 0.0, 5.0);
        dy[0] = E::from_wide(E::LIMITS.max);
        dy[width / 2] = E::from_wide(E::LIMITS.min_subnormal * 5.0);
        let keep: Vec<bool> = (0..tokens).map(|t| t % 7 != 3).collect();
        let mask = Mask::keep(&keep, &[tokens]);
        for (options, counts) in [
            (MeanPool::default(), &(|_| true) as &dyn Fn(usize) -> bool),
            (MeanPool::default().mask(&mask), &|t| keep[t]),
        ] {
            let exact = reference::mean_pool_backward(&dy, tokens, counts);
            each_level(|level| {
                let got = mean_pool_backward(&dy, [1, tokens, width], &options).unwrap();
                checker.check(&format!("{tokens} of {width}, {level}"), &[] as &[E], &got, &exact);
            });
        }
    }
}

fn outcomes<E: Bits>() {
    let [zero, one, half, nan, inf] = [0.0, 1.0, 0.5, f64::NAN, f64::INFINITY].map(E::from_wide);
    let lengths = [2, 0];
    let mask = Mask::lengths(&lengths);
    let options = MeanPool::default().mask(&mask);
    each_level(|level| {
        let what = format!("{level}");
        let got = mean_pool_backward(&[one, nan, nan, one], [2, 3, 2], &options).unwrap();
        let expected = [[half, E::NAN, half, E::NAN, zero, zero], [zero; 6]].concat();
        assert_same_bits(&what, &got, &expected);
        let got = mean_pool_backward(&[inf], [1, 2, 1], &MeanPool::default()).unwrap();
        assert_same_bits(&what, &got, &[inf; 2]);
        assert_eq!(mean_pool_backward(&[one; 2], [1, 0, 2], &MeanPool::default()), Ok(vec![]));
        assert_eq!(mean_pool_backward(&[] as &[E], [0, 4, 2], &MeanPool::default()), Ok(vec![]));
        let strict = options.fully_masked(FullyMasked::Error);
        let refused = mean_pool_backward(&[one; 4], [2, 3, 2], &strict);
        assert_eq!(refused, Err(Error::fully_masked("mean_pool_backward", 1)));
    });
}

fn threads<E: Bits>() {
    let mut rng = generate::rng("mean_pool_backward, threads");
    let (batch, tokens, width) = (9, 70, 200);
    let dy = generate::bell::<E>(&mut rng, batch * width, 0.0, 5.0);
    let lengths: Vec<usize> = (0..batch).map(|b| b * 8).collect();
    let mask = Mask::lengths(&lengths);
    let options = MeanPool::default().mask(&mask);
    let alone = on_threads(1, Level::Portable, || mean_pool_backward(&dy, [batch, tokens, width], &options).unwrap());
    each_level(|level| {
        let mut out = vec![E::NAN; batch * tokens * width];
        on_threads(2, level, || {
            let dx = LanesMut::shaped(&mut out[..], &[batch, tokens, width], 1).unwrap();
            mean_pool_backward_into(&dy, dx, &options).map(drop).unwrap();
        });
        assert_same_bits(&format!("{level}"), &out, &alone);
    });
}

#[test]
fn refusals() {
    let refused = |dy: &[f32], shape| mean_pool_backward(dy, shape, &MeanPool::default()).unwrap_err();
    assert!(matches!(refused(&[0.0; 3], [1, 2, 2]), Error::ShapeMismatch { .. }));
    assert!(matches!(refused(&[], [usize::MAX, 2, 2]), Error::ShapeMismatch { .. }));
    let causal = Mask::causal();
    let options = MeanPool::default().mask(&causal);
    let refused = mean_pool_backward(&[0.0f32; 2], [1, 2, 2], &options);
    assert!(matches!(refused, Err(Error::InvalidArgument { argument: "mask", .. })));
}
