//! Tests of the sums against test vectors that a script computed in exact arithmetic.

use evenkeel::math::sum::{binned_sum, fixed_point_sum, tiled_sum};

/// Returns the lines of tests/vectors/sums.tsv for one kind of sum. Each line is split into its fields. `rule` is the
/// first field, which names the kind.
fn vectors(rule: &str) -> Vec<Vec<&'static str>> {
    let lines = include_str!("../vectors/sums.tsv").lines().filter(|line| !line.starts_with('#'));
    let fields: Vec<Vec<&str>> =
        lines.map(|line| line.split('\t').collect()).filter(|f: &Vec<_>| f[0] == rule).collect();
    assert!(
        fields.len() >= 10,
        "`sums.tsv` must have at least 10 lines that start with {rule:?}, got {}",
        fields.len()
    );
    fields
}

/// Returns a pseudo-random number for an index.
fn unit(i: usize) -> u32 {
    (i as u32).wrapping_mul(2_654_435_761)
}

#[test]
fn tiled_sum_gives_the_bits_of_the_vectors() {
    for fields in vectors("o") {
        let [n, k, step] = [1, 2, 3].map(|i| fields[i].parse::<i32>().unwrap());
        let term = |i: usize| {
            let u = f64::from(unit(i)) - 2f64.powi(31);
            f64::from((u * 2f64.powi(k + step * (i % 5) as i32 - 32)) as f32)
        };
        let terms: Vec<f64> = (0..n as usize).map(term).collect();
        let sum = tiled_sum(&terms);
        assert_eq!(
            format!("{:016x}", sum.to_bits()),
            fields[4],
            "tiled_sum of {n} terms generated with k = {k} and step = {step}: expected the bits in `sums.tsv`"
        );
        // The result must depend on the order of the terms. Otherwise, the vectors could not detect a wrong order.
        if n >= 1000 {
            assert_ne!(
                sum.to_bits(),
                terms.iter().sum::<f64>().to_bits(),
                "tiled_sum of {n} terms generated with k = {k} and step = {step} must not equal the sequential sum"
            );
        }
    }
}

#[test]
fn fixed_point_sum_gives_the_integers_of_the_vectors() {
    for fields in vectors("q") {
        let [n, d] = [1, 2].map(|i| fields[i].parse::<i32>().unwrap());
        let term = |i: usize| {
            let shift = if i % 2 == 1 { d } else { 0 };
            (f64::from(unit(i)) * 2f64.powi(-32) * 2f64.powi(-shift)) as f32
        };
        let mut terms: Vec<f32> = (0..n as usize).map(term).collect();
        assert_eq!(
            fixed_point_sum(&terms).to_string(),
            fields[3],
            "fixed_point_sum of {n} terms generated with d = {d}: expected the sum in `sums.tsv`"
        );
        terms.reverse();
        assert_eq!(
            fixed_point_sum(&terms).to_string(),
            fields[3],
            "fixed_point_sum of {n} terms generated with d = {d}, in reverse order: expected the sum in `sums.tsv`"
        );
    }
}

#[test]
fn binned_sum_gives_the_bits_of_the_vectors_in_any_order() {
    for fields in vectors("b") {
        let [n, k, step] = [1, 2, 3].map(|i| fields[i].parse::<i32>().unwrap());
        let term = |i: usize| (f64::from(unit(i)) + 1.0) * 2f64.powi(k - step * (i % 5) as i32 - 32);
        let mut terms: Vec<f64> = (0..n as usize).map(term).collect();
        for order in ["the original order", "reverse order"] {
            let sum = binned_sum(&terms);
            assert_eq!(
                format!("{:016x}", sum.to_bits()),
                fields[4],
                "binned_sum of {n} terms generated with k = {k} and step = {step}, in {order}: expected the bits in \
                 `sums.tsv`"
            );
            terms.reverse();
        }
    }
}

#[test]
fn binned_sum_has_no_more_room_than_f64() {
    assert_eq!(binned_sum(&[2f64.powi(960)]), 2f64.powi(960));
    assert_eq!(binned_sum(&[1.0, f64::MAX]), f64::INFINITY);
    assert_eq!(binned_sum(&[1.0, -1e300]), f64::NEG_INFINITY);
    assert!(binned_sum(&[f64::INFINITY, -1e300]).is_nan() && binned_sum(&[1.0, f64::NAN]).is_nan());
    assert_eq!(binned_sum(&[5e-324, 5e-324]), 1e-323);
    assert_eq!(binned_sum(&[1.0, 2f64.powi(-93), 2f64.powi(-95)]), 1.0);
    assert_eq!(binned_sum(&[-0.0]).to_bits(), 0);
}

#[test]
fn a_zero_sum_is_positive() {
    for n in [0, 1, 2, 63, 64, 65, 256, 257, 20_000] {
        assert_eq!(tiled_sum(&vec![-0.0; n]).to_bits(), 0, "tiled_sum of {n} terms of -0: expected the bits of +0");
        let cancelling: Vec<f64> = (0..n).map(|i| if i / 64 % 2 == 0 { 1.5 } else { -1.5 }).collect();
        if n % 128 == 0 {
            assert_eq!(
                tiled_sum(&cancelling).to_bits(),
                0,
                "tiled_sum of {n} terms that cancel: expected the bits of +0"
            );
        }
    }
}

/// Checks that zeros of either sign change no sum.
#[test]
fn zeros_change_nothing() {
    let terms: Vec<f64> = (0..700).map(|i| f64::from(unit(i) as f32) - 2e9).collect();
    let of = |zero: f64| {
        tiled_sum(&terms.iter().enumerate().map(|(i, t)| if i % 3 == 0 { zero } else { *t }).collect::<Vec<_>>())
    };
    assert_eq!(of(0.0).to_bits(), of(-0.0).to_bits());
    let mut longer = terms.clone();
    longer.resize(3000, 0.0);
    assert_eq!(tiled_sum(&longer).to_bits(), tiled_sum(&terms).to_bits());
}

#[test]
fn infinities_and_nan_follow_ieee() {
    for n in [3, 65, 1000] {
        let mut terms = vec![1.0; n];
        terms[n / 2] = f64::INFINITY;
        assert_eq!(tiled_sum(&terms), f64::INFINITY);
        terms[n - 1] = f64::NEG_INFINITY;
        assert!(tiled_sum(&terms).is_nan());
        terms[n - 1] = f64::NAN;
        assert!(tiled_sum(&terms).is_nan());
    }
}

#[test]
fn fixed_point_sum_rounds_ties_to_even_and_changes_its_unit_with_the_length() {
    let unit = 2f32.powi(-45);
    assert_eq!(fixed_point_sum(&[0.5 * unit]), 0);
    assert_eq!(fixed_point_sum(&[1.5 * unit]), 2);
    assert_eq!(fixed_point_sum(&[2.5 * unit, 2.5 * unit]), 4);
    assert_eq!(fixed_point_sum(&[f32::from_bits(1), 0.0, 1.0]), 1 << 45);
    assert_eq!(fixed_point_sum(&vec![1.0; 1 << 18]), 1 << 63);
    // Above 2^18 terms, the fixed-point sum has a finer unit and may exceed 64 bits.
    let mut terms = vec![0.0; (1 << 18) + 1];
    (terms[0], terms[1]) = (2.5 * 2f32.powi(-48), 0.5 * 2f32.powi(-48));
    assert_eq!(fixed_point_sum(&terms), 2);
    assert_eq!(fixed_point_sum(&vec![1.0; (1 << 18) + 1]), (1 << 66) + (1 << 48));
    assert_eq!(fixed_point_sum(&vec![1.0; 1 << 21]), 1 << 69);
}
