//! Compares attention with the f64 results of ONNX and PyTorch, stored in tests/vectors/attention.tsv.

use crate::support::generate::Bits;
use evenkeel::testing::ulp;
use evenkeel::{Attention, DType, Heads, Mask, accuracy, attention};

for_each_dtype!(as_others_define_it);

/// Generates multiples of 1/8 between -4 and 4, with the formula of scripts/attention-vectors.py.
fn numbers<E: Bits>(count: usize, seed: u64) -> Vec<E> {
    let number = |i: u64| ((i * 2_654_435_761 + seed * 40503) % 65) as f64 / 8.0 - 4.0;
    (0..count as u64).map(|i| E::from_wide(number(i))).collect()
}

fn as_others_define_it<E: Bits>() {
    let lines = include_str!("../vectors/attention.tsv").lines().filter(|line| !line.starts_with('#'));
    let mut seen = 0;
    for line in lines {
        let fields: Vec<&str> = line.split('\t').collect();
        let number = |i: usize| -> usize { fields[i].parse().unwrap() };
        let [batch, heads, of_keys, queries, keys, features, of_values] = std::array::from_fn(|i| number(i + 1));
        let (scale, softcap): (f64, f64) = (fields[8].parse().unwrap(), fields[9].parse().unwrap());
        let lengths: Vec<usize> = fields[12].split(',').filter_map(|length| length.parse().ok()).collect();
        let keep: Vec<u8> = fields[13].bytes().filter(|flag| *flag != b'-').map(|flag| flag - b'0').collect();
        let all = [batch, heads, queries, keys];
        let bias = numbers::<f64>(all.iter().product(), 4);

        let mut mask = Mask::default();
        if number(10) == 1 {
            mask = Mask::causal();
        }
        if number(11) > 0 {
            mask = mask.and_window(number(11));
        }
        if !lengths.is_empty() {
            mask = mask.and_lengths(&lengths);
        }
        if !keep.is_empty() {
            mask = mask.and_keep(&keep[..], &all);
        }
        if number(14) == 1 {
            mask = mask.and_bias(&bias, &all);
        }
        let mut options = Attention::default().scale(scale).mask(&mask);
        if softcap > 0.0 {
            options = options.softcap(softcap);
        }
        let q = numbers::<E>(batch * heads * queries * features, 1);
        let k = numbers::<E>(batch * of_keys * keys * features, 2);
        let v = numbers::<E>(batch * of_keys * keys * of_values, 3);
        let y = attention(
            Heads::new(&q, [batch, heads, queries, features]).unwrap(),
            Heads::new(&k, [batch, of_keys, keys, features]).unwrap(),
            Heads::new(&v, [batch, of_keys, keys, of_values]).unwrap(),
            &options,
        )
        .unwrap();
        let expected = fields[15].split(' ').map(|bits| f64::from_bits(u64::from_str_radix(bits, 16).unwrap()));
        // No number exceeds 4 in magnitude, so each feature adds at most 16 to a dot product.
        let terms = 4.0 * (1.0 + 16.0 * features as f64 * scale);
        let bound = accuracy::bound("attention", E::DTYPE).unwrap().ulps;
        // The tolerance also covers the f64 rounding errors of the expected results.
        let theirs = 64.0 * 2f64.powi(-53) * terms;
        assert_eq!(
            y.len(),
            expected.clone().count(),
            "attention must give one result for each expected value in this line of `attention.tsv`:\n{line}"
        );
        for (i, (y, expected)) in y.iter().zip(expected).enumerate() {
            let off = (y.widen() - expected).abs();
            let allowed = theirs + bound * ulp::size::<E>(terms);
            let allowed = if E::DTYPE == DType::F64 { theirs } else { allowed };
            assert!(
                off <= allowed,
                "attention in {}, element {i}: expected {expected}, got {y:?}, for this test case:\n{line}",
                E::DTYPE
            );
        }
        seen += 1;
    }
    assert!(seen >= 17, "expected at least 17 lines in `attention.tsv`, got {seen}");
}
