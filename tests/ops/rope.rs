//! Tests that rotary embedding is accurate at every position, and has the same bits in every form.

use crate::support::compare::{Checker, assert_same_bits, within_terms};
use crate::support::forms::{RowOp, assert_forms_agree};
use crate::support::generate::{self, Bits};
use crate::support::implementations::each_level;
use crate::support::naive;
use evenkeel::reference::Real;
use evenkeel::{
    Element, Error, LongRope, Rope, RopeScaling, RopeTable, Rows, RowsMut, Yarn, reference, rope, rope_in_place,
    rope_into,
};

for_each_dtype!(positions, scalings, hostile_pairs, layouts, outcomes, forms);

/// Returns, for each element, the larger of the two magnitudes in its pair. A result is a sum of two products, one per
/// element of the pair.
fn terms<E: Element>(x: &[E], interleaved: bool) -> Vec<f64> {
    let half = x.len() / 2;
    let partner = |i: usize| if interleaved { i ^ 1 } else { (i + half) % x.len() };
    (0..x.len()).map(|i| x[i].widen().abs().max(x[partner(i)].widen().abs())).collect()
}

fn row<E: Element>(x: &[E], position: i64, options: &Rope<'_>) -> Vec<E> {
    let table = RopeTable::new(&[position], x.len(), options).unwrap();
    rope(Rows::new(x, 1, x.len()).unwrap(), &table).unwrap()
}

fn positions<E: Bits>() {
    let mut rng = generate::rng("rope, positions");
    let checker = Checker::new::<E>("rope");
    for position in [0, 1, -1, 2, 17, 1000, 4095, 131_072, 1_000_000_007, -(1 << 40), i64::MAX, i64::MIN] {
        for theta in [10_000.0, 500_000.0, 1e6, 10.0, 1.0, 0.5] {
            for cols in [2, 4, 6, 64, 128, 130] {
                for interleaved in [false, true] {
                    let x = generate::bell::<E>(&mut rng, cols, 0.0, 2.0);
                    let options = Rope::default().theta(theta).interleaved(interleaved);
                    let exact = reference::rope(&x, position, &options);
                    let terms = terms(&x, interleaved);
                    each_level(|level| {
                        let what = format!("position {position}, theta {theta}, {cols}, {interleaved}, {level}");
                        checker.check_terms(&what, &x, &row(&x, position, &options), &exact, &|i| terms[i]);
                    });
                }
            }
        }
    }
}

/// Returns every kind of scaling for rows of `cols` columns. Most parameters come from real checkpoints. In some
/// scalings, the ramp of YaRN is empty.
fn scalings_of(cols: usize) -> [RopeScaling<'static>; 18] {
    let yarn = |yarn: Yarn| RopeScaling::Yarn(yarn);
    let long = |sequence| LongRope::new(&SHORT[..cols / 2], &LONG[..cols / 2], 4096, sequence).factor(32.0);
    let dynamic =
        |factor, original_positions, sequence| RopeScaling::DynamicNtk { factor, original_positions, sequence };
    [
        RopeScaling::Linear { factor: 4.0 },
        RopeScaling::Ntk { factor: 2.5 },
        dynamic(2.0, 2048, 8192),
        dynamic(1.3, 4096, 4097),
        dynamic(8.0, 4096, 4096),
        yarn(Yarn::new(16.0, 4096)),
        yarn(Yarn::new(4.0, 32_768)),
        yarn(Yarn::new(40.0, 100).beta_fast(2.5).beta_slow(1.75).attention_factor(0.4)),
        yarn(Yarn::new(8.0, 3).beta_fast(4.0).beta_slow(2.0).attention_factor(3.0)),
        yarn(Yarn::new(32.0, 4096).truncate(false)),
        yarn(Yarn::new(8.0, 4096).truncate(false).beta_fast(3.0).beta_slow(3.0)),
        yarn(Yarn::new(40.0, 4096).mscale(1.0, 0.707)),
        RopeScaling::LongRope(long(4096)),
        RopeScaling::LongRope(long(4097)),
        RopeScaling::LongRope(long(1).attention_factor(1.19)),
        RopeScaling::LongRope(long(usize::MAX).factor(1.0)),
        RopeScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_positions: 8192 },
        RopeScaling::Llama3 { factor: 32.0, low_freq_factor: 1.5, high_freq_factor: 60.5, original_positions: 300 },
    ]
}

/// LongRoPE factors in f64: [`SHORT`] has 1 + i / 50 for pair i, and [`LONG`] has 1 + i^2 / 60.
static SHORT: [f64; 64] = factors(0.02, 0.0);
static LONG: [f64; 64] = factors(0.0, 1.0 / 60.0);

const fn factors(each: f64, square: f64) -> [f64; 64] {
    let (mut factors, mut i) = ([1.0; 64], 0);
    while i < 64 {
        factors[i] = 1.0 + i as f64 * each + (i * i) as f64 * square;
        i += 1;
    }
    factors
}

/// Checks every scaling. At far positions, an error in the last bit of a frequency changes the angle visibly.
fn scalings<E: Bits>() {
    let mut rng = generate::rng("rope, scalings");
    let checker = Checker::new::<E>("rope");
    for cols in [2, 64, 128] {
        for scaling in scalings_of(cols) {
            for theta in [10_000.0, 1e6] {
                for (position, interleaved) in [(1, false), (131_071, true), (1 << 50, false)] {
                    let x = generate::bell::<E>(&mut rng, cols, 0.0, 2.0);
                    let options = Rope::default().theta(theta).interleaved(interleaved).scaling(scaling);
                    let exact = reference::rope(&x, position, &options);
                    let (terms, factor) = (terms(&x, interleaved), reference::rope_factor(&options).to_f64());
                    each_level(|level| {
                        let what = format!("{scaling:?}, theta {theta}, {cols} at {position}, {level}");
                        checker.check_terms(&what, &x, &row(&x, position, &options), &exact, &|i| factor * terms[i]);
                    });
                }
            }
        }
    }
}

/// Returns the frequency of a pair, which is the pair's angle at position 1.
fn frequency(pair: usize, cols: usize, options: &Rope<'_>) -> f64 {
    let mut x = vec![0.0f64; cols];
    x[pair] = 1.0;
    let y = row(&x, 1, options);
    y[pair + cols / 2].atan2(y[pair])
}

/// Compares the frequencies of real checkpoints with results of mpmath. The test computes an angle from its sine and
/// cosine, with a relative error of at most 2^-51.
#[test]
fn frequencies_of_checkpoints() {
    let yarn = |yarn: Yarn| Rope::default().theta(150_000.0).scaling(RopeScaling::Yarn(yarn));
    // The ramp of gpt-oss begins at pair 8.09 and ends at pair 17.40. If both ends are rounded outwards to integers,
    // the ramp begins at 8 and ends at 18.
    let gpt_oss = Yarn::new(32.0, 4096);
    let dynamic = |sequence| RopeScaling::DynamicNtk { factor: 2.0, original_positions: 2048, sequence };
    let long = |sequence| LongRope::new(&SHORT[..32], &LONG[..32], 4096, sequence);
    let long = |sequence| Rope::default().scaling(RopeScaling::LongRope(long(sequence)));
    for (what, pair, options, expected) in [
        ("gpt-oss", 13, yarn(gpt_oss.truncate(false)), GPT_OSS),
        ("truncated", 13, yarn(gpt_oss), TRUNCATED),
        ("dynamic NTK", 20, Rope::default().scaling(dynamic(8192)), DYNAMIC),
        ("short", 20, long(4096), 10_000f64.powf(-40.0 / 64.0) / SHORT[20]),
        ("long", 20, long(4097), 10_000f64.powf(-40.0 / 64.0) / LONG[20]),
    ] {
        let got = frequency(pair, 64, &options);
        assert!((got / expected - 1.0).abs() < 2f64.powi(-50), "{what}: expected {expected}, got {got}");
    }
    let off: f64 = TRUNCATED / GPT_OSS - 1.0;
    assert!(
        (0.053..0.055).contains(&off),
        "YaRN: truncation must raise the frequency by 5.3 % to 5.5 %, got an increase of {} %",
        100.0 * off
    );
    for (options, expected) in [
        (yarn(Yarn::new(40.0, 4096).mscale(1.0, 0.707)), 1.0857263992561357),
        (yarn(Yarn::new(40.0, 4096).mscale(1.0, 1.0)), 1.0),
        (yarn(Yarn::new(40.0, 4096).mscale(1.0, 0.0)), 0.1 * 40f64.ln() + 1.0),
        (
            Rope::default()
                .scaling(RopeScaling::LongRope(LongRope::new(&SHORT[..32], &LONG[..32], 4096, 1).factor(32.0))),
            1.1902380714238083,
        ),
    ] {
        let mut x = [0.0f64; 64];
        x[0] = 1.0;
        let got = row(&x, 0, &options)[0];
        assert!((got / expected - 1.0).abs() < 2f64.powi(-51), "{:?}: expected {expected}, got {got}", options.scaling);
    }
}

const GPT_OSS: f64 = 0.0038603593171920663;
const TRUNCATED: f64 = 0.004069554714758243;
const DYNAMIC: f64 = 0.0009011051215261918;

#[test]
fn scalings_out_of_range_are_refused() {
    let llama3 = |factor, low_freq_factor, high_freq_factor, original_positions| RopeScaling::Llama3 {
        factor,
        low_freq_factor,
        high_freq_factor,
        original_positions,
    };
    let yarn = |yarn: Yarn| RopeScaling::Yarn(yarn);
    let long = |short: &'static [f64], long: &'static [f64]| LongRope::new(short, long, 4096, 1);
    let long_of_two = long(&[1.0, 1.0], &[1.0, 2.0]);
    let dynamic = |factor, original_positions| RopeScaling::DynamicNtk { factor, original_positions, sequence: 9 };
    for (scaling, name) in [
        (RopeScaling::Linear { factor: 0.5 }, "factor"),
        (RopeScaling::Ntk { factor: f64::INFINITY }, "factor"),
        (dynamic(f64::NAN, 4096), "factor"),
        (dynamic(0.99, 4096), "factor"),
        (dynamic(2.0, 0), "original_positions"),
        (yarn(Yarn::new(f64::NAN, 4096)), "factor"),
        (yarn(Yarn::new(4.0, 0)), "original_positions"),
        (yarn(Yarn::new(4.0, 4096).beta_slow(0.0)), "beta_slow"),
        (yarn(Yarn::new(4.0, 4096).beta_fast(0.5)), "beta_fast"),
        (yarn(Yarn::new(4.0, 4096).beta_fast(f64::INFINITY)), "beta_fast"),
        (yarn(Yarn::new(4.0, 4096).attention_factor(0.0)), "attention_factor"),
        (yarn(Yarn::new(4.0, 4096).attention_factor(f64::NAN)), "attention_factor"),
        (yarn(Yarn::new(4.0, 4096).mscale(-0.1, 1.0)), "mscale"),
        (yarn(Yarn::new(4.0, 4096).mscale(f64::MAX, 1.0)), "mscale"),
        (yarn(Yarn::new(4.0, 4096).mscale(1.0, f64::NAN)), "mscale_all_dim"),
        (RopeScaling::LongRope(long_of_two.factor(0.5)), "factor"),
        (RopeScaling::LongRope(LongRope::new(&[1.0, 1.0], &[1.0, 2.0], 1, 1)), "original_positions"),
        (RopeScaling::LongRope(long_of_two.attention_factor(-1.0)), "attention_factor"),
        (RopeScaling::LongRope(long(&[1.0, 0.0], &[1.0, 2.0])), "short"),
        (RopeScaling::LongRope(long(&[1.0, 1.0], &[f64::INFINITY, 2.0])), "long"),
        (llama3(0.0, 1.0, 4.0, 8192), "factor"),
        (llama3(8.0, 0.0, 4.0, 8192), "low_freq_factor"),
        (llama3(8.0, 4.0, 4.0, 8192), "high_freq_factor"),
        (llama3(8.0, 1.0, f64::INFINITY, 8192), "high_freq_factor"),
        (llama3(8.0, 1.0, 4.0, 0), "original_positions"),
    ] {
        let refused = RopeTable::new(&[1], 4, &Rope::default().scaling(scaling));
        assert!(
            matches!(refused, Err(Error::InvalidArgument { op: "rope", argument, .. }) if argument == name),
            "RopeTable with {scaling:?}: expected an InvalidArgument error about {name}, got {refused:?}"
        );
    }
    for (lists, message) in [
        (long(&[1.0], &[1.0, 2.0]), "rope: short has 1 factors; expected one for each of 2 pairs"),
        (long(&[1.0, 1.0], &[]), "rope: long has 0 factors; expected one for each of 2 pairs"),
    ] {
        let refused = RopeTable::new(&[1], 4, &Rope::default().scaling(RopeScaling::LongRope(lists)));
        assert_eq!(refused.unwrap_err().to_string(), message);
    }
    let mut short_list = long_of_two;
    short_list.short = &[1.0, -3.0];
    let refused = RopeTable::new(&[1], 4, &Rope::default().scaling(RopeScaling::LongRope(short_list)));
    assert_eq!(refused.unwrap_err().to_string(), "rope: short is -3 at pair 1; it must be finite and above 0");
    for scaling in scalings_of(4) {
        let refused = RopeTable::new(&[1], 4, &Rope::default().theta(1.0).scaling(scaling));
        assert!(
            matches!(refused, Err(Error::InvalidArgument { argument: "theta", .. })),
            "theta 1 with {scaling:?}: expected an InvalidArgument error about theta, got {refused:?}"
        );
    }
}

/// Checks pairs whose rotation overflows, underflows or cancels. Some angles are so large that their ULP exceeds a full
/// turn.
fn hostile_pairs<E: Bits>() {
    let checker = Checker::new::<E>("rope");
    let limits = E::LIMITS;
    for (a, b) in [
        (limits.max / 2.0, limits.max / 2.0),
        (limits.max / 2.0, limits.min_subnormal),
        (limits.min_subnormal, limits.min_subnormal),
        (3.0 * limits.min_normal, -limits.min_normal),
        (1.0, 1.0),
        (1.0, -1.0),
        (1.0, 0.0),
    ] {
        let x = [E::from_wide(a), E::from_wide(b)];
        let mut naive_failures = 0;
        for position in [1, 2, 3, 100, 12_345, 100_000_007, 1 << 60] {
            let exact = reference::rope(&x, position, &Rope::default());
            let terms = terms(&x, false);
            each_level(|level| {
                let what = format!("{a:e}, {b:e} at {position}, {level}");
                checker.check_terms(&what, &x, &row(&x, position, &Rope::default()), &exact, &|i| terms[i]);
            });
            let naive = naive::rope(&x, position, 10_000.0);
            let outcome = within_terms("", &x, &naive, &exact, |i| terms[i], checker.bound());
            naive_failures += usize::from(outcome.is_err());
        }
        // These rows must make the naive formula fail, except in f64 and for the smallest subnormal numbers.
        let has_power = E::DTYPE == evenkeel::DType::F64 || naive_failures > 0 || a == limits.min_subnormal;
        assert!(
            has_power,
            "rope of [{a:e}, {b:e}]: expected the naive formula to exceed the error bound at some position"
        );
    }
}

/// Checks that row r uses the table's position at index r modulo the table's length, in both layouts of pairs.
fn layouts<E: Bits>() {
    let mut rng = generate::rng("rope, layouts");
    let (positions, cols) = ([5i64, 0, 77, 3], 10);
    let x = generate::bell::<E>(&mut rng, 12 * cols, 0.0, 2.0);
    for interleaved in [false, true] {
        let options = Rope::default().interleaved(interleaved);
        let table = RopeTable::new(&positions, cols, &options).unwrap();
        assert_eq!(table.positions(), 4);
        each_level(|level| {
            let got = rope(Rows::new(&x, 12, cols).unwrap(), &table).unwrap();
            let one = |(r, x): (usize, &[E])| row(x, positions[r % 4], &options);
            let expected: Vec<E> = x.chunks(cols).enumerate().flat_map(one).collect();
            assert_same_bits(&format!("interleaved {interleaved}, {level}"), &got, &expected);
        });
    }
    // A permutation of the columns converts one layout to the other.
    let halves = &x[..cols];
    let pairs: Vec<E> = (0..cols).map(|i| halves[i / 2 + i % 2 * (cols / 2)]).collect();
    let of_halves = row(halves, 77, &Rope::default());
    let of_pairs = row(&pairs, 77, &Rope::default().interleaved(true));
    let expected: Vec<E> = (0..cols).map(|i| of_halves[i / 2 + i % 2 * (cols / 2)]).collect();
    assert_same_bits("permuted", &of_pairs, &expected);
}

fn outcomes<E: Bits>() {
    each_level(|level| {
        let x: Vec<E> = [1.0, f64::NAN, f64::INFINITY, 4.0, 5.0, 6.0].map(E::from_wide).to_vec();
        let y = row(&x, 3, &Rope::default());
        assert!(
            y[1].widen().is_nan() && y[4].widen().is_nan(),
            "rope of {x:?}: expected NaN at indexes 1 and 4, got {y:?} ({level})"
        );
        assert!(
            !y[2].widen().is_finite() && !y[5].widen().is_finite(),
            "rope of {x:?}: expected inf or NaN at indexes 2 and 5, got {y:?} ({level})"
        );
        let lone = [1.0, 4.0].map(E::from_wide);
        assert_same_bits("the other pair", &[y[0], y[3]], &row(&lone, 3, &Rope::default()));
        // Position 0 changes nothing.
        let x: Vec<E> = [1.5, -2.0, 3e4, 0.25].map(E::from_wide).to_vec();
        assert_same_bits("position 0", &row(&x, 0, &Rope::default()), &x);
        let none = RopeTable::new(&[], 4, &Rope::default()).unwrap();
        assert_eq!(rope(Rows::<E>::new(&[], 0, 4).unwrap(), &none), Ok(vec![]));
        let empty = RopeTable::new(&[1], 0, &Rope::default()).unwrap();
        assert_eq!(rope(Rows::<E>::new(&[], 3, 0).unwrap(), &empty), Ok(vec![]));
    });
    let refused = RopeTable::new(&[1, 2], 3, &Rope::default());
    assert!(matches!(refused, Err(Error::ShapeMismatch { op: "rope", .. })));
}

struct Forms(RopeTable);

impl<E: Element> RowOp<E> for Forms {
    fn allocating(&self, x: Rows<'_, E>) -> Vec<E> {
        rope(x, &self.0).unwrap()
    }
    fn into<'a>(&self, x: Rows<'_, E>, out: RowsMut<'a, E>) -> &'a mut [E] {
        rope_into(x, out, &self.0).unwrap()
    }
    fn in_place(&self, x: RowsMut<'_, E>) {
        rope_in_place(x, &self.0).unwrap();
    }
}

fn forms<E: Bits>() {
    let mut rng = generate::rng("rope, forms");
    for (rows, cols) in [(1, 2), (5, 6), (4, 32), (3, 34), (600, 128)] {
        let x = generate::bell::<E>(&mut rng, rows * cols, 0.0, 15.0);
        for interleaved in [false, true] {
            // The table has a single position, so that a row gives the same result alone and in a batch.
            let table = RopeTable::new(&[77], cols, &Rope::default().interleaved(interleaved)).unwrap();
            assert_forms_agree(&Forms(table), &x, cols);
        }
    }
}

/// Checks that the frequencies are `theta^(-2 * i / d)`, rounded to f64. An error of one ULP would change the angles at
/// far positions.
#[test]
fn frequencies_are_rounded_to_nearest() {
    let checker = Checker::new::<f64>("rope");
    for cols in [64, 96, 128, 256, 514] {
        for theta in [10_000.0, 500_000.0, 1_000_000.0, 3.7e5, 25.0] {
            let x: Vec<f64> = (0..cols).map(|i| if i < cols / 2 { 1.0 } else { 0.0 }).collect();
            let exact = reference::rope(&x, 1 << 50, &Rope::default().theta(theta));
            each_level(|level| {
                let got = row(&x, 1 << 50, &Rope::default().theta(theta));
                checker.check_terms(&format!("theta {theta}, {cols}, {level}"), &x, &got, &exact, &|_| 1.0);
            });
        }
    }
}
