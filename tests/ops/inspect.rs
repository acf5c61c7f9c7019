//! Tests of `inspect` and `finite`. Both functions must be accurate and handle NaN and infinities. Their results must
//! have the same bits on every instruction set and with any number of threads.

use crate::support::generate::{self, Bits};
use crate::support::implementations::{each_level, on_threads};
use crate::support::ulp;
use evenkeel::math::sum::tiled_sum;
use evenkeel::reference::{self, DoubleDouble, Real};
use evenkeel::simd::Level;
use evenkeel::{Element, Finite, Stats, accuracy, finite, inspect, report};

for_each_dtype!(moments, hostile, not_finite, threads, where_the_first_is);

/// Fails unless the statistics of the elements are correct within the bound in the accuracy table. Returns the largest
/// error.
#[track_caller]
fn check<E: Element>(what: &str, x: &[E]) -> f64 {
    let stats = inspect(x).unwrap();
    let all: Vec<f64> = x.iter().map(|x| x.widen()).collect();
    let kept: Vec<f64> = all.iter().copied().filter(|x| x.is_finite()).collect();
    let infinite = all.iter().filter(|x| x.is_infinite()).count();
    let counts = (all.len(), all.len() - kept.len() - infinite, infinite);
    assert_eq!(
        (stats.count, stats.nan, stats.infinite),
        counts,
        "inspect of {what}: the counts (elements, NaN, infinities) must be {counts:?}"
    );
    let Some([mean, std]) = reference::inspect(x) else {
        let of_none = [stats.min, stats.max, stats.mean, stats.std, stats.max_abs];
        assert!(
            of_none.iter().all(|v| v.is_nan()),
            "inspect of {what}: expected NaN statistics, because no element is finite, got {stats:?}"
        );
        return 0.0;
    };
    let extreme = |f: fn(f64, f64) -> f64, of: fn(f64) -> f64| kept.iter().map(|&x| of(x)).reduce(f).unwrap();
    assert_eq!(stats.min, extreme(f64::min, |x| x), "inspect of {what}: min must be the smallest finite element");
    assert_eq!(stats.max, extreme(f64::max, |x| x), "inspect of {what}: max must be the largest finite element");
    assert_eq!(
        stats.max_abs,
        extreme(f64::max, f64::abs),
        "inspect of {what}: max_abs must be the largest finite magnitude"
    );
    let worst = ulp::error_at(stats.mean, mean, stats.max_abs).max(ulp::error(stats.std, std));
    let bound = accuracy::bound("inspect", E::DTYPE).unwrap().ulps + x.len() as f64 / 16_384.0;
    assert!(
        worst <= bound,
        "{what} in {}: expected mean {mean:?} and std {std:?} within {bound} ULP, got {stats:?} with an error of \
         {worst} ULP",
        E::DTYPE
    );
    worst
}

fn moments<E: Bits>() {
    let mut rng = generate::rng("inspect");
    let mut worst = 0.0f64;
    for len in generate::lengths().chain([65_536, 262_145, 1_000_003]) {
        for (mean, spread) in [(0.0, 1.0), (0.0, 20.0), (100.0, 10.0), (1000.0, 0.5)] {
            let x = generate::bell::<E>(&mut rng, len, mean, spread);
            if len > 5000 {
                worst = worst.max(check(&format!("{len} about {mean}"), &x));
                continue;
            }
            each_level(|level| worst = worst.max(check(&format!("{len} about {mean}, {level}"), &x)));
        }
    }
    println!("inspect {}: worst {worst:.4} ULP", E::DTYPE);
}

/// Checks sums that overflow the type or f64, squares that underflow, elements that differ only in their last digits,
/// and rows of one element.
fn hostile<E: Bits>() {
    let limits = E::LIMITS;
    for len in [1, 2, 17, 300, 5000] {
        let row = |f: &dyn Fn(usize) -> f64| (0..len).map(|i| E::from_wide(f(i))).collect::<Vec<E>>();
        each_level(|level| {
            check(&format!("one value, {level}"), &row(&|_| 0.1));
            check(&format!("the largest, {level}"), &row(&|_| limits.max));
            check(&format!("both ends, {level}"), &row(&|i| if i % 3 == 0 { -limits.max } else { limits.max }));
            check(&format!("the smallest, {level}"), &row(&|i| (1 + i % 7) as f64 * limits.min_subnormal));
            check(&format!("near the smallest normal, {level}"), &row(&|i| (1 + i % 7) as f64 * limits.min_normal));
            check(&format!("the last digits, {level}"), &row(&|i| 1.0 + (i % 5) as f64 * limits.epsilon));
            check(&format!("one far away, {level}"), &row(&|i| if i == len / 2 { limits.max } else { 1.0 }));
            check(&format!("zeros, {level}"), &row(&|i| if i % 2 == 0 { 0.0 } else { -0.0 }));
        });
        let same = inspect(&row(&|_| 0.1)).unwrap();
        assert_eq!((same.mean, same.std), (same.min, 0.0));
        assert!([same.min, same.max].iter().all(|v| *v == E::from_wide(0.1).widen()));
    }
    let stats = inspect(&[-0.0, 0.0, -0.0].map(E::from_wide)).unwrap();
    let zeros = [stats.min, stats.max, stats.mean, stats.std, stats.max_abs];
    assert!(zeros.iter().all(|v| v.to_bits() == 0), "inspect of [-0, 0, -0]: expected statistics of +0, got {stats:?}");
}

fn not_finite<E: Bits>() {
    let mut rng = generate::rng("inspect, not finite");
    let [one, nan] = [1.0, f64::NAN].map(E::from_wide);
    each_level(|level| {
        for len in [1, 15, 16, 17, 63, 255, 4096, 4097, 9000] {
            let mut x = generate::bell::<E>(&mut rng, len, 3.0, 2.0);
            for (step, value) in [(5, nan), (7, E::INFINITY), (11, E::NEG_INFINITY)] {
                x.iter_mut().skip(step - 1).step_by(step).for_each(|x| *x = value);
            }
            check(&format!("{len}, {level}"), &x);
            for value in [nan, E::INFINITY, E::NEG_INFINITY] {
                check(&format!("{len} of one kind, {level}"), &vec![value; len]);
            }
        }
        assert_eq!(check("nothing", &[] as &[E]), 0.0);
    });
    for _ in 0..50 {
        check("any bits", &generate::any_bits::<E>(&mut rng, 300));
    }
    let (_, report) = report::scope(|| [inspect(&[one, nan]), inspect(&[one]), inspect(&[E::INFINITY])]);
    assert_eq!(report.to_string(), "inspect: 1 of 3 rows with NaN, 1 of 3 rows with infinity");
}

fn words(stats: &Stats) -> Vec<u64> {
    let Stats { count, nan, infinite, min, max, mean, std, max_abs, .. } = *stats;
    let floats = [min, max, mean, std, max_abs].map(f64::to_bits);
    [count, nan, infinite].map(|n| n as u64).into_iter().chain(floats).collect()
}

fn threads<E: Bits>() {
    let mut rng = generate::rng("inspect, threads");
    for len in [70_000, 300_001] {
        let mut x = generate::bell::<E>(&mut rng, len, 0.3, 5.0);
        for broken in [false, true] {
            if broken {
                x[len / 2] = E::NAN;
                x[len / 3] = E::NEG_INFINITY;
            }
            let alone = on_threads(1, Level::Portable, || (inspect(&x).unwrap(), finite(&x).unwrap()));
            each_level(|level| {
                for threads in [1, 2, 3] {
                    let (stats, found) = on_threads(threads, level, || (inspect(&x).unwrap(), finite(&x).unwrap()));
                    assert_eq!(
                        words(&stats),
                        words(&alone.0),
                        "{len} elements, {level}, {threads} threads: expected the same statistics as with one thread"
                    );
                    assert_eq!(
                        found, alone.1,
                        "{len} elements, {level}, {threads} threads: expected the same counts as with one thread"
                    );
                }
            });
        }
    }
}

fn where_the_first_is<E: Bits>() {
    each_level(|level| {
        for len in [1, 16, 17, 4096, 4100, 100_000] {
            let clean = vec![E::from_wide(-2.5); len];
            let found = finite(&clean).unwrap();
            assert!(
                found.is_finite() && found.count == len,
                "`finite` must count {len} finite elements and no NaN or inf, got {found:?} ({level})"
            );
            for at in [0, len / 2, len - 1] {
                for (value, nan) in [(E::NAN, 1), (E::INFINITY, 0), (E::NEG_INFINITY, 0)] {
                    let mut x = clean.clone();
                    x[at] = value;
                    x[len - 1] = value;
                    let found = finite(&x).unwrap();
                    assert!(
                        !found.is_finite(),
                        "`inspect` of finite values: expected to find {value:?} at index {at} of {len} elements, got {found:?} ({level})"
                    );
                    let Finite { count, nan: nans, infinite, first, .. } = found;
                    let bad = if at == len - 1 { 1 } else { 2 };
                    assert_eq!(
                        (count, nans, infinite),
                        (len, bad * nan, bad * (1 - nan)),
                        "{len} elements, {level}: expected {bad} NaN or infinite elements"
                    );
                    assert_eq!(
                        first,
                        Some(at),
                        "{len} elements, {level}: expected {at} as the index of the first NaN or infinity"
                    );
                }
            }
        }
        let largest: Vec<E> = [E::LIMITS.max, -E::LIMITS.max, E::LIMITS.min_subnormal].map(E::from_wide).into();
        assert!(finite(&largest).unwrap().is_finite());
        assert_eq!(finite::<E>(&[]), Ok(Finite::default()));
    });
}

/// Checks that the mean of f32 elements is their tiled sum ([`tiled_sum`]) divided by their count. A non-finite element
/// adds nothing and is not counted.
#[test]
fn the_mean_is_a_tiled_sum() {
    let mut rng = generate::rng("inspect, the tiled sum");
    for len in [1, 64, 257, 5000, 70_000] {
        let mut x = generate::bell::<f32>(&mut rng, len, 0.0, 1e10);
        x[len / 2] = f32::NAN;
        let terms: Vec<f64> = x.iter().map(|x| x.widen()).map(|x| if x.is_nan() { 0.0 } else { x }).collect();
        let mean = tiled_sum(&terms) / (len - 1) as f64;
        assert!(
            inspect(&x).unwrap().mean == mean || len == 1,
            "inspect of {len} elements with one NaN: expected a mean of {mean}, got {}",
            inspect(&x).unwrap().mean
        );
    }
}

/// Checks that the reference keeps digits that f64 would lose.
#[test]
fn the_reference_in_numbers_that_can_be_checked_by_eye() {
    let value = |x: &[f64]| reference::inspect(x).map(|moments| moments.map(DoubleDouble::to_f64));
    assert_eq!(value(&[1e308, 1e308, -1e308, -1e308]), Some([0.0, 1e308]));
    assert_eq!(value(&[1e16, 1e16 + 2.0]), Some([1e16 + 1.0, 1.0]));
    assert_eq!(value(&[f64::NAN]), None);
    assert_eq!(inspect(&[1e308f64, 1e308, -1e308, -1e308]).unwrap().std, 1e308);
    assert_eq!(inspect(&[3e-320f64, 1e-320]).unwrap().mean, 2e-320);
}
