//! Tests of the fused norm and rotary embedding of heads. Results must have the same bits as the two separate ops, and
//! the same bits in every form. Results must be accurate with weights like those of real models.

use crate::support::compare::{Checker, assert_same_bits};
use crate::support::forms::{RowOp, assert_forms_agree};
use crate::support::generate::{self, Bits};
use crate::support::implementations::each_level;
use evenkeel::reference::{self, Real};
use evenkeel::{
    Element, Error, Floats, RmsNorm, Rope, RopeScaling, RopeTable, Rounding, Rows, RowsMut, qk_norm_rope,
    qk_norm_rope_in_place, qk_norm_rope_into, rms_norm, rope,
};
use half::bf16;
use rand::rngs::SmallRng;

for_each_dtype!(weights_of_checkpoints, adversarial_weights, options, outcomes, forms);

const HEAD: usize = 128;

/// Applies the two ops one after the other.
fn unfused<E: Element>(x: &[E], cols: usize, table: &RopeTable, options: &RmsNorm<'_>) -> Vec<E> {
    let normalised = rms_norm(Rows::new(x, x.len() / cols, cols).unwrap(), options).unwrap();
    rope(Rows::new(&normalised, x.len() / cols, cols).unwrap(), table).unwrap()
}

/// Checks the results for rows at these positions. The results must have the same bits as the results of the unfused
/// ops, and the documented accuracy.
fn check<E: Element>(what: &str, x: &[E], weight: Floats<'_>, positions: &[i64], rope: &Rope<'_>) {
    let cols = weight.len();
    let checker = Checker::of_usual_rows::<E>("qk_norm_rope");
    let table = RopeTable::new(positions, cols, rope).unwrap();
    let options = RmsNorm::default().weight(weight);
    let wide: Vec<f64> = (0..cols).map(|i| weight.get(i).unwrap()).collect();
    let (mut exact, mut terms) = (Vec::new(), Vec::new());
    for (row, x) in x.chunks(cols).enumerate() {
        let position = positions[row % positions.len()];
        exact.extend(reference::qk_norm_rope(x, Some(&wide), 0.0, options.eps, (position, rope)));
        let n: Vec<f64> =
            reference::rms_norm(x, Some(&wide), 0.0, options.eps).iter().map(|n| n.to_f64().abs()).collect();
        let partner = |i: usize| if rope.interleaved { i ^ 1 } else { (i + cols / 2) % cols };
        terms.extend((0..cols).map(|i| n[i].max(n[partner(i)])));
    }
    each_level(|level| {
        let what = format!("{what}, interleaved {}, {level}", rope.interleaved);
        let y = qk_norm_rope(Rows::new(x, x.len() / cols, cols).unwrap(), &table, &options).unwrap();
        assert!(y.iter().all(|y| y.widen().is_finite()), "qk_norm_rope, {what}: expected finite results, got {y:?}");
        assert_same_bits(&what, &y, &unfused(x, cols, &table, &options));
        checker.check_terms(&what, x, &y, &exact, &|i| terms[i]);
    });
}

const POSITIONS: [i64; 4] = [0, 1, 1000, 40_959];

/// Returns options for both layouts of pairs, with the theta of Qwen3.
fn layouts() -> [Rope<'static>; 2] {
    [false, true].map(|interleaved| Rope::default().theta(1e6).interleaved(interleaved))
}

/// Checks weights with the statistics of Qwen3-0.6B's first key norms. These norms enlarge keys of magnitude about 0.2
/// by a factor of 10 to 100. An earlier kernel gave non-finite results with such weights.
fn weights_of_checkpoints<E: Bits>() {
    let mut rng = generate::rng("qk_norm_rope, weights of checkpoints");
    for (mean, deviation, most) in [(3.56, 9.13, 96.5), (2.34, 3.98, 44.5), (2.47, 3.94, 44.0)] {
        let what = format!("weights of mean {mean}, at most {most}");
        let weight = with_statistics(&mut rng, mean, deviation, most);
        let x = generate::bell::<E>(&mut rng, 8 * HEAD, 0.0, 0.17);
        for rope in layouts() {
            check(&what, &x, (&weight).into(), &POSITIONS, &rope);
        }
        let table = RopeTable::new(&POSITIONS, HEAD, &layouts()[0]).unwrap();
        let options = RmsNorm::default().weight(&weight);
        let keys = qk_norm_rope(Rows::new(&x, 8, HEAD).unwrap(), &table, &options).unwrap();
        let squares = |values: &[E]| values.iter().map(|v| v.widen().powi(2)).sum::<f64>();
        let gain = (squares(&keys) / squares(&x)).sqrt();
        assert!(
            (10.0..100.0).contains(&gain),
            "{what}: expected the norm of the keys to grow by a factor of 10 to 100, got {gain}"
        );
    }
}

/// Generates the weights of one head with this mean, standard deviation and largest value.
fn with_statistics(rng: &mut SmallRng, mean: f64, deviation: f64, most: f64) -> Vec<bf16> {
    let (n, others) = (HEAD as f64, HEAD - 1);
    // The largest weight is `largest` standard deviations above the mean. The other weights are chosen to give the
    // requested mean and deviation.
    let largest = (most - mean) / deviation;
    let middle = -largest / others as f64;
    let variance = (n - largest * largest) / others as f64 - middle * middle;
    let noise = generate::bell::<f64>(rng, others, 0.0, 1.0);
    let average = noise.iter().sum::<f64>() / others as f64;
    let spread = (noise.iter().map(|v| (v - average).powi(2)).sum::<f64>() / others as f64).sqrt();
    let scattered = noise.iter().map(|v| middle + variance.sqrt() * (v - average) / spread);
    let mut weight: Vec<bf16> = scattered.chain([largest]).map(|v| bf16::from_f64(mean + deviation * v)).collect();
    weight.swap(77, others);
    weight
}

/// Checks weights with mixed signs, one huge weight, subnormal ones, zeros, and combinations of these.
fn adversarial_weights<E: Bits>() {
    let mut rng = generate::rng("qk_norm_rope, adversarial weights");
    let limits = E::LIMITS;
    // The magnitude of a normalised element is at most the square root of the number of columns. The rotation may
    // multiply this magnitude by up to sqrt(2). Results therefore stay finite, even with the weight `huge`.
    let huge = limits.max / 32.0;
    type Weight = fn(usize) -> f64;
    let weights: [(&str, Weight); 4] = [
        ("signs mixed", |i| if i.is_multiple_of(3) { -9.0 } else { 4.0 + i as f64 / 64.0 }),
        ("zeros", |i| if i.is_multiple_of(2) { 0.0 } else { -0.0 }),
        ("zeros in half of a pair", |i| if i < HEAD / 2 { 0.0 } else { 3.0 }),
        ("ones", |_| 1.0),
    ];
    let x = generate::bell::<E>(&mut rng, 4 * HEAD, 0.0, 0.17);
    for rope in layouts() {
        for (what, weight) in weights {
            let mut weight: Vec<E> = (0..HEAD).map(|i| E::from_wide(weight(i))).collect();
            check(what, &x, E::floats(&weight), &POSITIONS, &rope);
            weight[5] = E::from_wide(huge);
            check(&format!("{what}, one huge"), &x, E::floats(&weight), &POSITIONS, &rope);
            for (i, weight) in weight.iter_mut().enumerate().skip(10).take(20) {
                *weight = E::from_wide(i as f64 * limits.min_subnormal);
            }
            check(&format!("{what}, one huge and subnormal ones"), &x, E::floats(&weight), &POSITIONS, &rope);
        }
        let tiny: Vec<E> = (0..HEAD).map(|i| E::from_wide((i as f64 - 60.0) * limits.min_subnormal)).collect();
        check("all subnormal", &x, E::floats(&tiny), &POSITIONS, &rope);
    }
}

/// Checks that every rounding, offset, eps and scaling gives the same bits as the unfused ops. Some heads are longer
/// than a block of weights.
fn options<E: Bits>() {
    let mut rng = generate::rng("qk_norm_rope, options");
    for cols in [2, 6, 64, 100, 514, 1026] {
        let x = generate::bell::<E>(&mut rng, 6 * cols, 0.3, 2.0);
        let weight = generate::bell::<f32>(&mut rng, cols, 1.0, 0.5);
        for rounding in [Rounding::Once, Rounding::BeforeWeight] {
            for (offset, eps) in [(0.0, 1e-6), (1.0, 0.0)] {
                let options = RmsNorm::default().weight(&weight).weight_offset(offset).eps(eps).rounding(rounding);
                for rope in layouts() {
                    let scaled = rope.scaling(RopeScaling::Linear { factor: 4.0 });
                    let table = RopeTable::new(&[5, -7, 131_071], cols, &scaled).unwrap();
                    let expected = unfused(&x, cols, &table, &options);
                    each_level(|level| {
                        let y = qk_norm_rope(Rows::new(&x, 6, cols).unwrap(), &table, &options).unwrap();
                        assert_same_bits(&format!("{cols}, {options:?}, {level}"), &y, &expected);
                    });
                }
            }
        }
    }
}

fn outcomes<E: Bits>() {
    let [zero, one, inf, nan] = [0.0, 1.0, f64::INFINITY, f64::NAN].map(E::from_wide);
    let table = RopeTable::new(&[3], 4, &Rope::default()).unwrap();
    let options = RmsNorm::default().eps(0.0);
    each_level(|level| {
        let outcome = |row: [E; 4]| qk_norm_rope(Rows::new(&row, 1, 4).unwrap(), &table, &options).unwrap();
        assert!(
            outcome([one, nan, one, one]).iter().all(|y| y.widen().is_nan()),
            "qk_norm_rope of [1, NaN, 1, 1]: expected NaN in the whole row ({level})"
        );
        let y = outcome([one, inf, one, one]);
        assert!(
            y[1].widen().is_nan() && y[3].widen().is_nan(),
            "qk_norm_rope of [1, inf, 1, 1]: expected NaN at indexes 1 and 3, got {y:?} ({level})"
        );
        assert_eq!(
            [y[0].widen(), y[2].widen()],
            [0.0; 2],
            "qk_norm_rope of [1, inf, 1, 1]: expected zeros at indexes 0 and 2, got {y:?} ({level})"
        );
        assert!(
            outcome([zero; 4]).iter().all(|y| y.widen() == 0.0),
            "qk_norm_rope of a row of zeros: expected zeros ({level})"
        );
        assert_eq!(qk_norm_rope(Rows::<E>::new(&[], 0, 4).unwrap(), &table, &options), Ok(vec![]));
    });
    let refused = |rows, cols, options: &RmsNorm<'_>| {
        let x = vec![one; rows * cols];
        qk_norm_rope(Rows::new(&x, rows, cols).unwrap(), &table, options).unwrap_err()
    };
    assert!(matches!(refused(1, 6, &options), Error::ShapeMismatch { op: "qk_norm_rope", argument: "x", .. }));
    let weighted = options.weight(&[1.0f32; 3]);
    assert!(matches!(refused(1, 4, &weighted), Error::ShapeMismatch { op: "qk_norm_rope", argument: "weight", .. }));
    assert!(matches!(refused(1, 4, &options.eps(-1.0)), Error::InvalidArgument { op: "qk_norm_rope", .. }));
}

struct Forms<'a>(RopeTable, RmsNorm<'a>);

impl<E: Element> RowOp<E> for Forms<'_> {
    fn allocating(&self, x: Rows<'_, E>) -> Vec<E> {
        qk_norm_rope(x, &self.0, &self.1).unwrap()
    }
    fn into<'a>(&self, x: Rows<'_, E>, out: RowsMut<'a, E>) -> &'a mut [E] {
        qk_norm_rope_into(x, out, &self.0, &self.1).unwrap()
    }
    fn in_place(&self, x: RowsMut<'_, E>) {
        qk_norm_rope_in_place(x, &self.0, &self.1).unwrap();
    }
}

fn forms<E: Bits>() {
    let mut rng = generate::rng("qk_norm_rope, forms");
    for (rows, cols) in [(1, 2), (5, 6), (4, 32), (3, 34), (600, 128)] {
        let x = generate::bell::<E>(&mut rng, rows * cols, 0.0, 15.0);
        let weight = generate::bell::<bf16>(&mut rng, cols, 1.0, 0.5);
        for rope in layouts() {
            // The table has a single position, so that a row gives the same result alone and in a batch.
            let table = RopeTable::new(&[77], cols, &rope).unwrap();
            assert_forms_agree(&Forms(table, RmsNorm::default().weight(&weight)), &x, cols);
        }
    }
}
