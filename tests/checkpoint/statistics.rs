//! Compares statistics with a plain computation in f64.

use crate::write::{Tensor, inspect, normals, safetensors};
use evenkeel::checkpoint::{Narrow, QUANTILES, Stats};
use half::{bf16, f16};

/// Returns the statistics of a file's only tensor.
fn stats(tensor: Tensor) -> Stats {
    let inspected = inspect(&safetensors(&[tensor])).expect("the test's safetensors file must be valid");
    inspected[0].stats.clone().expect("the test tensor must have statistics")
}

/// Compares `stats` with plain statistics of the values. `min_normal` is the smallest normal value of the type.
#[track_caller]
fn check(stats: &Stats, values: &[f64], min_normal: f64) {
    let count = |is: &dyn Fn(f64) -> bool| values.iter().filter(|&&x| is(x)).count() as u64;
    assert_eq!(stats.nan, count(&|x| x.is_nan()));
    assert_eq!(stats.infinite, count(&|x| x.is_infinite()));
    assert_eq!(stats.finite, count(&|x| x.is_finite()));
    assert_eq!(stats.zero, count(&|x| x == 0.0));
    assert_eq!(stats.subnormal, count(&|x| x != 0.0 && x.abs() < min_normal));

    let mut sorted: Vec<f64> = values.iter().copied().filter(|x| x.is_finite()).map(|x| x + 0.0).collect();
    sorted.sort_by(f64::total_cmp);
    let mut magnitudes: Vec<f64> = sorted.iter().map(|x| x.abs()).collect();
    magnitudes.sort_by(f64::total_cmp);
    let (min, max, max_abs) = (sorted[0], sorted[sorted.len() - 1], magnitudes[sorted.len() - 1]);
    assert_eq!((stats.min, stats.max, stats.max_abs), (min, max, max_abs));
    // The values are scaled, so that squares of f64 do not overflow.
    let scale = if max_abs == 0.0 { 1.0 } else { max_abs };
    let n = sorted.len() as f64;
    let mean = sorted.iter().map(|x| x / scale).sum::<f64>() / n;
    let std = (sorted.iter().map(|x| (x / scale - mean).powi(2)).sum::<f64>() / n).sqrt();
    assert!((stats.mean / scale - mean).abs() <= 1e-12, "mean: expected {}, got {}", mean * scale, stats.mean);
    assert!(
        (stats.std / scale - std).abs() <= 1e-12 * std.max(1e-3),
        "standard deviation: expected {}, got {}",
        std * scale,
        stats.std
    );

    for (i, share) in QUANTILES.iter().enumerate() {
        let place = ((share * n).ceil() as usize).max(1) - 1;
        for (got, wanted, all) in
            [(stats.quantiles[i], sorted[place], &sorted), (stats.abs_quantiles[i], magnitudes[place], &magnitudes)]
        {
            assert!(
                (all[0]..=all[all.len() - 1]).contains(&got),
                "quantile {share}: expected a value from {} to {}, got {got}",
                all[0],
                all[all.len() - 1]
            );
            // The histogram's bins for subnormal values are as wide as its first bin for normal values.
            let width = stats.bin_width * wanted.abs().max(min_normal);
            assert!(
                (got - wanted).abs() <= width / 2.0 * (1.0 + 1e-9),
                "quantile {share}: expected {wanted}, got {got}"
            );
        }
    }
    for binade in &stats.binades {
        let (from, to) = (2f64.powi(binade.exponent), 2f64.powi(binade.exponent + 1));
        if stats.bin_width == 0.0 && from >= f64::MIN_POSITIVE {
            assert_eq!(
                binade.negative,
                count(&|x| -x >= from && -x < to),
                "binade 2^{}: the reported count of negative values must equal a direct count",
                binade.exponent
            );
            assert_eq!(
                binade.positive,
                count(&|x| x >= from && x < to),
                "binade 2^{}: the reported count of positive values must equal a direct count",
                binade.exponent
            );
        }
    }
    let counted: u64 = stats.binades.iter().map(|binade| binade.negative + binade.positive).sum();
    assert_eq!(counted + stats.zero, stats.finite);

    for (fit, narrow) in stats.fits.iter().zip(Narrow::ALL) {
        assert_eq!(fit.dtype, narrow.name);
        let finite = || sorted.iter().map(|&x| (x, rounded(x, fit.dtype)));
        assert_eq!(
            fit.overflow,
            finite().filter(|(_, y)| !y.is_finite()).count() as u64,
            "the reported count of values that overflow in {} must equal a direct count",
            fit.dtype
        );
        assert_eq!(
            fit.underflow,
            finite().filter(|&(x, y)| x != 0.0 && y == 0.0).count() as u64,
            "the reported count of values that underflow in {} must equal a direct count",
            fit.dtype
        );
    }
}

/// Rounds to the nearest value of a narrow type, ties to even. A result beyond the largest value of the type is
/// replaced by an infinity. For 8-bit types, the result is a magnitude, because the test does not need its sign.
fn rounded(x: f64, dtype: &str) -> f64 {
    let to = |fraction_bits: i32, min_exponent: i32, max: f64| {
        let exponent = (x.abs().log2().floor() as i32).max(min_exponent);
        let unit = 2f64.powi(exponent - fraction_bits);
        let y = (x.abs() / unit).round_ties_even() * unit;
        if y > max { f64::INFINITY } else { y }
    };
    match dtype {
        "f16" => f16::from_f64(x).to_f64(),
        "bf16" => bf16::from_f64(x).to_f64(),
        _ if x == 0.0 => 0.0,
        "e4m3" => to(3, -6, 448.0),
        _ => to(2, -14, 57344.0),
    }
}

/// Returns the limits where conversions overflow or underflow, the f32 values next to each limit, and the negation of
/// all these values.
fn edges() -> Vec<f64> {
    let mut edges = vec![0.0, -0.0, 1.0, 448.0, 464.0, 57344.0, 61440.0, 65504.0, 65520.0, f32::MAX.into()];
    edges.extend([-10, -17, -25, -126, -133, -134, -149].map(|e| 2f64.powi(e)));
    edges.push(f32::from_bits(0x7f7f_8000).into());
    let near = |x: &f64| [(*x as f32).next_down().max(0.0), *x as f32, (*x as f32).next_up().min(f32::MAX)];
    let all = edges.iter().flat_map(near).map(f64::from);
    all.flat_map(|x| [x, -x]).collect()
}

#[test]
fn every_pattern_of_16_bits() {
    let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let values: Vec<f64> = (0..=u16::MAX).map(|bits| f16::from_bits(bits).to_f64()).collect();
    check(&stats(Tensor::new("x", "F16", &[256, 256], bytes.clone())), &values, 2f64.powi(-14));
    let values: Vec<f64> = (0..=u16::MAX).map(|bits| bf16::from_bits(bits).to_f64()).collect();
    check(&stats(Tensor::new("x", "BF16", &[65536], bytes)), &values, f32::MIN_POSITIVE.into());
}

#[test]
fn every_pattern_of_8_bits() {
    let bytes: Vec<u8> = (0..=u8::MAX).collect();
    let e5m2 = |bits: u8| {
        let (exponent, fraction) = (i32::from(bits >> 2 & 31), f64::from(bits & 3));
        let magnitude = match (exponent, bits & 3) {
            (31, 0) => f64::INFINITY,
            (31, _) => f64::NAN,
            (0, _) => fraction * 2f64.powi(-16),
            _ => (1.0 + fraction / 4.0) * 2f64.powi(exponent - 15),
        };
        if bits > 127 { -magnitude } else { magnitude }
    };
    let e4m3 = |bits: u8| {
        let (exponent, fraction) = (i32::from(bits >> 3 & 15), f64::from(bits & 7));
        let magnitude = match (exponent, bits & 127) {
            (_, 127) => f64::NAN,
            (0, _) => fraction * 2f64.powi(-9),
            _ => (1.0 + fraction / 8.0) * 2f64.powi(exponent - 7),
        };
        if bits > 127 { -magnitude } else { magnitude }
    };
    let values: Vec<f64> = bytes.iter().map(|&bits| e4m3(bits)).collect();
    let got = stats(Tensor::new("x", "F8_E4M3", &[256], bytes.clone()));
    assert_eq!((got.nan, got.infinite, got.max), (2, 0, 448.0));
    check(&got, &values, 2f64.powi(-6));
    let values: Vec<f64> = bytes.iter().map(|&bits| e5m2(bits)).collect();
    let got = stats(Tensor::new("x", "F8_E5M2", &[256], bytes));
    assert_eq!((got.nan, got.infinite, got.max), (6, 2, 57344.0));
    check(&got, &values, 2f64.powi(-14));
}

#[test]
fn wide_types() {
    for deviation in [1e-30, 0.02, 300.0, 1e5, 1e30] {
        let mut values = normals(1, 5001, deviation);
        values.extend(edges());
        values.extend([f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY]);
        let n = values.len() as u64;
        let narrowed: Vec<f64> = values.iter().map(|&x| (x as f32).into()).collect();
        check(&stats(Tensor::floats("x", "F32", &[n], &values)), &narrowed, f32::MIN_POSITIVE.into());
        check(&stats(Tensor::floats("x", "F64", &[n], &values)), &values, f64::MIN_POSITIVE);
    }
}

#[test]
fn f64_beyond_f32() {
    for scale in [1e300, 1e-300, 1e-310] {
        let values: Vec<f64> = normals(2, 3000, 1.0).iter().map(|x| x * scale).collect();
        check(&stats(Tensor::floats("x", "F64", &[3000], &values)), &values, f64::MIN_POSITIVE);
    }
    let ends = [f64::MAX, f64::MIN];
    let got = stats(Tensor::floats("x", "F64", &[2], &ends));
    assert_eq!((got.mean, got.std, got.max_abs), (0.0, f64::MAX, f64::MAX));
}

#[test]
fn small_beside_the_mean() {
    let values: Vec<f64> = normals(3, 9000, 1.0).iter().map(|x| f64::from((4e6 + x) as f32)).collect();
    check(&stats(Tensor::floats("x", "F32", &[9000], &values)), &values, f32::MIN_POSITIVE.into());
}

#[test]
fn constants_have_no_deviation() {
    for dtype in ["F64", "F32", "F16", "BF16"] {
        for value in [0.0, -0.0, 1.0, -3.5] {
            let got = stats(Tensor::floats("x", dtype, &[5000], &[value; 5000]));
            assert!(got.is_constant());
            assert_eq!(
                (got.min, got.mean, got.std),
                (value, value, 0.0),
                "values equal to {value} in {dtype}: min and mean must be {value}, and std must be 0"
            );
            assert_eq!(
                (got.quantiles, got.abs_quantiles),
                ([value; 5], [value.abs(); 5]),
                "values equal to {value} in {dtype}: quantiles of x must be {value}, and quantiles of |x| must be \
                 |{value}|"
            );
            let signs = [[value; 50], [-value; 50]].concat();
            let mixed = stats(Tensor::floats("x", dtype, &[100], &signs));
            assert_eq!(
                mixed.abs_quantiles,
                [value.abs(); 5],
                "values of {value} and -({value}) in {dtype}: every quantile of |x| must be |{value}|"
            );
            assert!(got.min.is_sign_positive() || value < 0.0);
        }
    }
}

#[test]
fn nothing_finite_and_nothing_at_all() {
    for dtype in ["F64", "F32", "F16", "BF16"] {
        let got = stats(Tensor::floats("x", dtype, &[2], &[f64::NAN, f64::INFINITY]));
        assert_eq!((got.nan, got.infinite, got.finite), (1, 1, 0));
        let none = stats(Tensor::floats("x", dtype, &[3, 0], &[]));
        assert_eq!((none.nan, none.infinite, none.finite, none.zero), (0, 0, 0, 0));
        for got in [got, none] {
            let all =
                [got.min, got.max, got.mean, got.std, got.max_abs, got.rms, got.quantiles[2], got.abs_quantiles[4]];
            assert!(
                all.iter().all(|x| x.is_nan()),
                "{dtype} without finite elements: expected NaN statistics, got {all:?}"
            );
            assert!(got.binades.is_empty() && !got.is_constant());
        }
    }
}

/// Checks a tensor so large that its bytes are read in several spans. The statistics must be the same on one thread and
/// on three.
#[test]
fn large_tensors_on_any_number_of_threads() {
    let some = normals(4, 1 << 12, 0.02);
    let count = (9 << 20) / 4 + 77;
    let values: Vec<f64> = (0..count).map(|i| some[i % some.len()] * (1.0 + (i / some.len()) as f64)).collect();
    let of = |dtype, n: usize| Tensor::floats(dtype, dtype, &[n as u64], &values[..n]);
    let file = safetensors(&[of("F32", count), of("BF16", 3000), of("F64", 100), of("F16", 99)]);
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("the thread pool must start");
        pool.install(|| inspect(&file)).expect("the test's safetensors file must be valid")
    };
    let (one, three) = (on(1), on(3));
    assert_eq!(one, three);
    let mean = values.iter().map(|&x| f64::from(x as f32)).sum::<f64>() / count as f64;
    let got = one[0].stats.as_ref().expect("an F32 tensor must have statistics");
    assert!((got.mean - mean).abs() < 1e-12 && got.finite == count as u64);
}

#[test]
fn what_is_not_analysed() {
    let tensors = [
        Tensor::new("ids", "I64", &[2, 1], vec![1; 16]),
        Tensor::new("mask", "BOOL", &[3], vec![0; 3]),
        Tensor::new("fp4", "F4", &[4], vec![0; 2]),
        Tensor::new("fp6", "F6_E2M3", &[2, 4], vec![0; 6]),
    ];
    let inspected = inspect(&safetensors(&tensors)).expect("the test's safetensors file must be valid");
    assert!(inspected.iter().all(|one| one.stats.is_none()));
    let elements: Vec<u64> = inspected.iter().map(|one| one.elements).collect();
    assert_eq!(elements, [2, 3, 4, 8]);
    let empty = inspect(&safetensors(&[])).expect("a safetensors file without tensors must be valid");
    assert!(empty.is_empty());
}

/// Checks that the largest numbers count in the last range of their type.
#[test]
fn ranges_of_the_largest_numbers() {
    let exponents = |stats: Stats| stats.binades.iter().map(|binade| binade.exponent).collect::<Vec<_>>();
    assert_eq!(exponents(stats(Tensor::floats("x", "F32", &[2], &[f32::MAX.into(), -1.5]))), [0, 127]);
    assert_eq!(exponents(stats(Tensor::floats("x", "F64", &[2], &[f64::MAX, -1.5]))), [0, 1023]);
}
