//! Tests of means over tokens. Means must be accurate under every mask and handle NaN and infinities. A sequence must
//! have the same bits alone and in a padded batch.

use crate::support::compare::{Checker, assert_same_bits, within_terms};
use crate::support::generate::{self, Bits};
use crate::support::implementations::{each_level, on_threads};
use crate::support::naive;
use evenkeel::simd::Level;
use evenkeel::{Element, Error, FullyMasked, Lanes, Mask, MeanPool, mean_pool, mean_pool_into, reference, report};

for_each_dtype!(accuracy, hostile, masked, outcomes, threads);

fn pool<E: Element>(x: &[E], shape: [usize; 3], options: &MeanPool<'_>) -> Vec<E> {
    mean_pool(Lanes::shaped(x, &shape, 1).unwrap(), options).unwrap()
}

/// Returns the largest magnitude among the unmasked tokens of one sequence, for each column.
fn largest<E: Element>(x: &[E], width: usize, counts: impl Fn(usize) -> bool) -> Vec<f64> {
    let mut largest = vec![0.0f64; width];
    for (_, token) in x.chunks(width).enumerate().filter(|(t, _)| counts(*t)) {
        for (largest, x) in largest.iter_mut().zip(token) {
            *largest = largest.max(x.widen().abs());
        }
    }
    largest
}

#[track_caller]
fn check<E: Element>(checker: &Checker, what: &str, x: &[E], width: usize) {
    let exact = reference::mean_pool(x, width, |_| true);
    let largest = largest(x, width, |_| true);
    let got = pool(x, [1, x.len() / width, width], &MeanPool::default());
    checker.check_terms(what, x, &got, &exact, &|i| largest[i]);
}

fn accuracy<E: Bits>() {
    let mut rng = generate::rng("mean_pool");
    let checker = Checker::new::<E>("mean_pool");
    for (tokens, width) in
        [(1, 1), (2, 3), (63, 16), (64, 17), (65, 64), (255, 65), (256, 5), (257, 130), (1000, 7), (20_000, 2)]
    {
        let x = generate::bell::<E>(&mut rng, tokens * width, 0.3, 5.0);
        each_level(|level| check(&checker, &format!("{tokens} of {width}, {level}"), &x, width));
    }
}

/// Checks sums that overflow the type or f64, and a number of tokens that exceeds 16 bits.
fn hostile<E: Bits>() {
    let checker = Checker::new::<E>("mean_pool");
    let limits = E::LIMITS;
    for tokens in [3usize, 300, 70_000] {
        let sets: [(&str, &dyn Fn(usize) -> f64); 4] = [
            ("the largest", &|_| limits.max),
            ("both ends", &|t| if t % 3 == 0 { -limits.max } else { limits.max }),
            ("ones", &|_| 1.0),
            ("the smallest", &|t| (1 + t % 7) as f64 * limits.min_subnormal),
        ];
        for (name, value) in sets {
            let x: Vec<E> = (0..tokens).map(|t| E::from_wide(value(t))).collect();
            each_level(|level| check(&checker, &format!("{name}, {tokens}, {level}"), &x, 1));
        }
    }
    // In the naive formula, a sum in the storage type stalls or overflows.
    let x = vec![E::from_wide(limits.max); 70_000];
    let exact = reference::mean_pool(&x, 1, |_| true);
    assert!(within_terms("naive", &x, &naive::mean_pool(&x, 1), &exact, |_| limits.max, checker.bound()).is_err());
}

fn masked<E: Bits>() {
    let mut rng = generate::rng("mean_pool, masked");
    let checker = Checker::new::<E>("mean_pool");
    let (batch, tokens, width) = (4, 300, 33);
    let clean = generate::bell::<E>(&mut rng, batch * tokens * width, 0.3, 5.0);
    let keep: Vec<bool> = (0..batch * tokens).map(|i| generate::scattered(i) < 0.6).collect();
    let lengths = [300, 0, 1, 257];
    let mask = Mask::keep(&keep, &[batch, tokens]).and_lengths(&lengths);
    let counts = |b: usize, t: usize| t < lengths[b] && keep[b * tokens + t];
    let mut x = clean.clone();
    for (i, token) in x.chunks_mut(width).enumerate() {
        if !counts(i / tokens, i % tokens) {
            token.fill(E::NAN);
        }
    }
    each_level(|level| {
        let got = pool(&x, [batch, tokens, width], &MeanPool::default().mask(&mask));
        for (b, got) in got.chunks(width).enumerate() {
            let sequence = &clean[b * tokens * width..][..tokens * width];
            let exact = reference::mean_pool(sequence, width, |t| counts(b, t));
            let largest = largest(sequence, width, |t| counts(b, t));
            checker.check_terms(&format!("sequence {b}, {level}"), &[] as &[E], got, &exact, &|i| largest[i]);
            // Pooling the sequence alone, without its padding, gives the same bits.
            let options = Mask::keep(&keep[b * tokens..][..lengths[b]], &[1, lengths[b]]);
            let alone = pool(
                &x[b * tokens * width..][..lengths[b] * width],
                [1, lengths[b], width],
                &MeanPool::default().mask(&options),
            );
            assert_same_bits(&format!("sequence {b} alone, {level}"), got, &alone);
        }
    });
}

fn outcomes<E: Bits>() {
    let [one, nan, inf] = [1.0, f64::NAN, f64::INFINITY].map(E::from_wide);
    each_level(|level| {
        let what = format!("{level}");
        let x = [one, nan, one, one, inf, one, one, one];
        assert_same_bits(&what, &pool(&x, [2, 2, 2], &MeanPool::default()), &[one, E::NAN, inf, one]);
        let none = Mask::lengths(&[0]);
        let zeros = MeanPool::default().mask(&none);
        assert_same_bits(&what, &pool(&[nan; 8], [2, 2, 2], &zeros), &[E::ZERO; 4]);
        assert_same_bits(&what, &pool(&[] as &[E], [1, 0, 3], &MeanPool::default()), &[E::ZERO; 3]);
        assert_eq!(pool(&[] as &[E], [0, 4, 3], &MeanPool::default()), []);
        assert_eq!(pool(&[] as &[E], [3, 4, 0], &MeanPool::default()), []);
        let lengths = [2, 0];
        let mask = Mask::lengths(&lengths);
        let strict = MeanPool::default().mask(&mask).fully_masked(FullyMasked::Error);
        let refused = mean_pool(Lanes::shaped(&x, &[2, 2, 2], 1).unwrap(), &strict);
        assert_eq!(refused, Err(Error::fully_masked("mean_pool", 1)));
    });
    let mask = Mask::lengths(&[1, 0]);
    let (_, report) = report::scope(|| pool(&[one, nan, one, one], [2, 1, 2], &MeanPool::default().mask(&mask)));
    assert_eq!(report.to_string(), "mean_pool: 2 of 4 rows fully masked, 1 of 4 rows with NaN");
}

fn threads<E: Bits>() {
    let mut rng = generate::rng("mean_pool, threads");
    for (batch, tokens, width) in [(1, 700, 300), (5, 300, 100), (300, 9, 70)] {
        let mut x = generate::bell::<E>(&mut rng, batch * tokens * width, 0.3, 5.0);
        x[tokens * width / 2] = E::NAN;
        let run = || pool(&x, [batch, tokens, width], &MeanPool::default());
        let alone = on_threads(1, Level::Portable, run);
        each_level(|level| {
            for threads in [1, 2, 3] {
                let got = on_threads(threads, level, run);
                assert_same_bits(&format!("{batch}x{tokens}x{width}, {level}, {threads} threads"), &got, &alone);
            }
        });
    }
}

#[test]
fn refusals() {
    let x = [0.0f32; 12];
    let lanes = Lanes::shaped(&x, &[2, 3, 2], 1).unwrap();
    let refused = |options: &MeanPool<'_>| mean_pool(lanes, options).unwrap_err().to_string();
    let causal = Mask::causal();
    let said = refused(&MeanPool::default().mask(&causal));
    assert_eq!(
        said,
        "mean_pool: mask is a mask with a bias, causality or a window; it must be a mask of flags and lengths only"
    );
    let bias = Mask::bias(&[0.0f32; 3], &[3]);
    assert_eq!(refused(&MeanPool::default().mask(&bias)), said);
    let uniform = refused(&MeanPool::default().fully_masked(FullyMasked::Uniform));
    assert_eq!(uniform, "mean_pool: fully_masked is Uniform; it must be Zeros or Error");
    let other = Mask::keep(&[true; 4], &[2, 2]);
    assert!(refused(&MeanPool::default().mask(&other)).contains("[2, 2]"));
    let mut out = [7.0f32; 5];
    assert!(matches!(mean_pool_into(lanes, &mut out, &MeanPool::default()), Err(Error::ShapeMismatch { .. })));
    assert_eq!(out, [7.0; 5]);
}
