//! Tests of attention. Results must be accurate even with overflow and masked or missing keys. A query must give the
//! same bits alone and in a batch.

use crate::support::compare::assert_same_bits;
use crate::support::generate::{self, Bits, bell};
use crate::support::implementations::{each_level, on_threads};
use evenkeel::accuracy;
use evenkeel::reference::{Real, attention_of};
use evenkeel::simd::{Level, with_level};
use evenkeel::{Attention, DType, Error, FullyMasked, Heads, Mask, attention, attention_into, attention_with_lse};
use rand::RngExt;
use rand::rngs::SmallRng;

for_each_dtype!(
    accuracy,
    masked_is_not_there,
    masked_leaves_no_bit,
    the_largest_numbers,
    nan_and_infinities,
    company_and_threads,
    strides,
    sinks,
    nothing_to_attend_to,
);

/// Seven numbers: of batch entries, query heads, key/value heads, queries, keys, features per query or key, and
/// features per value.
#[derive(Clone, Copy, Debug)]
pub struct Shape(pub [usize; 7]);

pub const SHAPES: [Shape; 10] = [
    Shape([1, 1, 1, 1, 1, 1, 1]),
    Shape([1, 2, 1, 3, 5, 4, 2]),
    Shape([2, 2, 2, 7, 16, 16, 16]),
    Shape([1, 3, 1, 40, 17, 33, 47]),
    Shape([2, 4, 2, 5, 255, 8, 24]),
    Shape([1, 1, 1, 100, 256, 64, 64]),
    Shape([1, 2, 2, 3, 257, 80, 80]),
    Shape([1, 8, 2, 1, 1000, 16, 128]),
    Shape([1, 6, 1, 2, 700, 20, 40]),
    Shape([1, 2, 1, 97, 600, 5, 3]),
];

/// Query, key and value tensors of a shape.
#[derive(Clone)]
pub struct Case<E> {
    pub shape: Shape,
    pub q: Vec<E>,
    pub k: Vec<E>,
    pub v: Vec<E>,
}

impl<E: Bits> Case<E> {
    pub fn new(rng: &mut SmallRng, shape: Shape, spread: f64) -> Self {
        let Shape([batch, heads, of_keys, queries, keys, features, of_values]) = shape;
        Case {
            shape,
            q: bell(rng, batch * heads * queries * features, 0.0, spread),
            k: bell(rng, batch * of_keys * keys * features, 0.1, spread),
            v: bell(rng, batch * of_keys * keys * of_values, 0.3, 1.0),
        }
    }

    pub fn views(&self) -> [Heads<'_, E>; 3] {
        let Shape([batch, heads, of_keys, queries, keys, features, of_values]) = self.shape;
        [
            Heads::new(&self.q, [batch, heads, queries, features]).unwrap(),
            Heads::new(&self.k, [batch, of_keys, keys, features]).unwrap(),
            Heads::new(&self.v, [batch, of_keys, keys, of_values]).unwrap(),
        ]
    }

    fn run(&self, options: &Attention<'_>) -> Vec<E> {
        let [q, k, v] = self.views();
        attention(q, k, v, options).unwrap()
    }

    pub fn rows(&self) -> usize {
        let Shape([batch, heads, _, queries, ..]) = self.shape;
        batch * heads * queries
    }

    /// Returns the query, the keys and the values of a row.
    pub fn operands(&self, row: usize) -> (&[E], Vec<&[E]>, Vec<&[E]>) {
        let Shape([_, heads, of_keys, queries, keys, features, of_values]) = self.shape;
        let head = row / queries;
        let first = (head / heads * of_keys + head % heads / (heads / of_keys)) * keys;
        let of = |data, width, at| -> &[E] {
            let data: &Vec<E> = data;
            &data[at * width..][..width]
        };
        let all = |data, width| (first..first + keys).map(|key| of(data, width, key)).collect();
        (of(&self.q, features, row), all(&self.k, features), all(&self.v, of_values))
    }

    /// Computes the exact logits of a row. `bias` has one element per row and key, and -inf masks a key.
    pub fn logits(&self, options: &Attention<'_>, row: usize, bias: impl Fn(usize, usize) -> f64) -> Logits<E::Exact> {
        let (query, keys, _) = self.operands(row);
        let scale = options.scale.unwrap_or(1.0 / (query.len() as f64).sqrt());
        let (zero, one) = (E::Exact::from(0.0), E::Exact::from(1.0));
        let (mut logits, mut derivatives) =
            (vec![E::Exact::from(f64::NEG_INFINITY); keys.len()], vec![zero; keys.len()]);
        let mut largest = 0.0f64;
        for (at, key) in keys.into_iter().enumerate() {
            let bias = bias(row, at);
            if bias == f64::NEG_INFINITY {
                continue;
            }
            let mut sum = zero;
            let mut magnitude = 0.0;
            for (q, k) in query.iter().zip(key) {
                sum = sum + E::Exact::from(q.widen()) * E::Exact::from(k.widen());
                magnitude += (q.widen() * k.widen()).abs();
            }
            let (mut z, mut derivative) = (sum * E::Exact::from(scale), one);
            if let Some(cap) = options.softcap {
                let cap = E::Exact::from(cap);
                let tanh = (z / cap).tanh();
                (z, derivative) = (cap * tanh, one - tanh * tanh);
            }
            (logits[at], derivatives[at]) = (z + E::Exact::from(bias), derivative);
            largest = largest.max(magnitude * scale.abs() + bias.abs());
        }
        Logits { logits, derivatives, largest }
    }

    /// Compares results with the reference. `bias` has one element per row and key, and -inf masks a key. Checks both
    /// the bound derived in `docs/accuracy/attention.md` and the bound of the accuracy table.
    #[track_caller]
    pub fn check(&self, options: &Attention<'_>, bias: impl Fn(usize, usize) -> f64) {
        let Shape([_, heads, _, queries, keys, features, of_values]) = self.shape;
        let [q, k, v] = self.views();
        let (y, lse) = attention_with_lse(q, k, v, options).unwrap();
        let (unit, wide) = match E::DTYPE {
            DType::F64 => (2f64.powi(-53), true),
            _ => (2f64.powi(-24), false),
        };
        for row in 0..self.rows() {
            let (_, _, values) = self.operands(row);
            let Logits { logits, largest, .. } = self.logits(options, row, &bias);
            let values: Vec<Vec<E::Exact>> =
                values.iter().map(|value| value.iter().map(|v| E::Exact::from(v.widen())).collect()).collect();
            let values: Vec<&[E::Exact]> = values.iter().map(Vec::as_slice).collect();
            let sink = options.sinks.and_then(|sinks| sinks.get(row / queries % heads)).map(E::Exact::from);
            let what = format!("{} row {row} of {:?}", E::DTYPE, self.shape);
            let Some((expected, expected_lse)) = attention_of(&logits, &values, sink) else {
                assert!(
                    y[row * of_values..][..of_values].iter().all(|y| y.bits() == 0),
                    "{what}: a fully masked row must have results of 0"
                );
                assert_eq!(lse[row], f64::NEG_INFINITY, "{what}: a fully masked row must have a log-sum-exp of -inf");
                continue;
            };
            let magnitudes: Vec<Vec<f64>> =
                values.iter().map(|value| value.iter().map(|v| v.abs().to_f64()).collect()).collect();
            let magnitudes: Vec<&[f64]> = magnitudes.iter().map(Vec::as_slice).collect();
            let near: Vec<f64> = logits.iter().map(|z| z.to_f64()).collect();
            let near_sink = sink.map(|sink| sink.to_f64());
            let (terms, _) = attention_of(&near, &magnitudes, near_sink).unwrap();
            // The error terms and their constants are derived in docs/accuracy/attention.md.
            let blocks = keys.div_ceil(256) as f64;
            let of_logits = (roundings(features) + if wide { 5.0 } else { 2.0 }) * largest;
            let of_merges = if wide { 6.0 * blocks + 4.0 * largest } else { 0.0 };
            let beside = if wide { 4.6 } else { 2.6 } + roundings(keys.min(256)) + of_merges;
            let relative = (unit * (2.0 * of_logits + beside)).exp_m1();
            for (i, (got, expected)) in y[row * of_values..].iter().zip(&expected).enumerate() {
                let error = (E::Exact::from(got.widen()) - *expected).abs().to_f64();
                let half = 0.51 * evenkeel::testing::ulp::size::<E>(expected.to_f64().abs());
                let allowed = relative * terms[i] + half;
                let ulps = evenkeel::testing::ulp::error_at(*got, *expected, terms[i] * (1.0 + largest));
                let bound = accuracy::bound("attention", E::DTYPE).unwrap().ulps;
                assert!(ulps <= bound, "{what} at index {i}: expected an error of at most {bound} ULP, got {ulps} ULP");
                assert!(
                    error <= allowed,
                    "{what} at index {i}: expected {expected:?} within {allowed:e}, got {got:?} with an error of \
                     {error:e}"
                );
            }
            let error = (E::Exact::from(lse[row]) - expected_lse).abs().to_f64();
            let of_sums = if wide { 5.0 + 3.0 * blocks } else { 2.6 };
            let allowed = unit * (of_logits + of_sums) + 2f64.powi(-53) * lse[row].abs();
            assert!(
                error <= allowed,
                "{what}: expected the log-sum-exp {expected_lse:?} within {allowed:e}, got {} with an error \
                 of {error:e}",
                lse[row]
            );
        }
    }
}

/// Returns the maximum number of roundings that affect one term of a sum with `terms` terms. Chains of 32 terms are
/// added first, then the sums of the chains.
fn roundings(terms: usize) -> f64 {
    (terms.min(32) + terms.div_ceil(32)).saturating_sub(1) as f64
}

pub struct Logits<R> {
    pub logits: Vec<R>,
    /// Derivative of each logit with respect to its scaled dot product.
    pub derivatives: Vec<R>,
    /// Maximum of `|scale| * sum(|q * k|) + |bias|` over the keys. The errors of the logits are relative to this
    /// maximum.
    pub largest: f64,
}

const NONE: fn(usize, usize) -> f64 = |_, _| 0.0;

fn accuracy<E: Bits>() {
    let mut rng = generate::rng("accuracy");
    for shape in SHAPES {
        for spread in [0.3, 2.0] {
            let case = Case::<E>::new(&mut rng, shape, spread);
            each_mask(&mut rng, shape, |options, bias| case.check(options, bias));
        }
    }
}

/// Calls `check` with several sets of options. For each set, `check` also gets a function that returns a bias for a row
/// and a key. These biases have the same effect as the mask in the options.
pub fn each_mask(
    rng: &mut SmallRng,
    shape: Shape,
    mut check: impl FnMut(&Attention<'_>, &dyn Fn(usize, usize) -> f64),
) {
    let Shape([batch, heads, _, queries, keys, ..]) = shape;
    let masked = |allowed: bool| if allowed { 0.0 } else { f64::NEG_INFINITY };
    check(&Attention::default(), &NONE);
    check(&Attention::default().scale(0.37).softcap(3.0), &NONE);
    let position = |row: usize| {
        (keys - queries.min(keys)) as isize + (row % queries) as isize - queries.saturating_sub(keys) as isize
    };
    let mask = Mask::causal();
    check(&Attention::default().mask(&mask), &|row, key| masked(key as isize <= position(row)));
    let mask = Mask::causal().and_window(3);
    check(&Attention::default().mask(&mask), &|row, key| {
        let position = position(row);
        masked(key as isize <= position && key as isize > position - 3)
    });
    let keep: Vec<bool> = (0..queries * keys).map(|_| rng.random_bool(0.6)).collect();
    let mask = Mask::keep(&keep, &[queries, keys]);
    check(&Attention::default().mask(&mask), &|row, key| masked(keep[row % queries * keys + key]));
    let bias: Vec<f32> = bell(rng, heads * queries * keys, 0.0, 2.0);
    let lengths: Vec<usize> = (0..batch).map(|_| rng.random_range(0..=keys)).collect();
    let mask = Mask::bias(&bias, &[heads, queries, keys]).and_lengths(&lengths);
    check(&Attention::default().mask(&mask), &|row, key| {
        let (head, batch) = (row / queries % heads, row / queries / heads);
        let bias = f64::from(bias[(head * queries + row % queries) * keys + key]);
        if key < lengths[batch] { bias } else { f64::NEG_INFINITY }
    });
}

/// Checks that masked keys and values have no effect, even if they are NaN or infinite.
fn masked_is_not_there<E: Bits>() {
    let mut rng = generate::rng("masked");
    for shape in SHAPES {
        let Shape([.., queries, keys, features, of_values]) = shape;
        let mut case = Case::<E>::new(&mut rng, shape, 1.0);
        let keep: Vec<bool> = (0..keys).map(|key| key % 3 != 1).collect();
        let bias: Vec<f32> = keep.iter().map(|keep| if *keep { 0.0 } else { f32::NEG_INFINITY }).collect();
        let masks = [Mask::keep(&keep, &[keys]), Mask::bias(&bias, &[keys])];
        let expected: Vec<Vec<E>> = masks.iter().map(|mask| case.run(&Attention::default().mask(mask))).collect();
        for (i, k) in case.k.iter_mut().enumerate().filter(|(i, _)| i / features % keys % 3 == 1) {
            *k = [E::NAN, E::INFINITY, E::NEG_INFINITY, E::from_wide(E::LIMITS.max)][i % 4];
        }
        for (i, v) in case.v.iter_mut().enumerate().filter(|(i, _)| i / of_values % keys % 3 == 1) {
            *v = [E::NAN, E::INFINITY][i % 2];
        }
        for (mask, expected) in masks.iter().zip(&expected) {
            assert_near_bits(&format!("{shape:?}"), &case.run(&Attention::default().mask(mask)), expected);
        }
        // A value that only later queries attend to does not affect the earlier queries.
        if queries > 1 && keys > queries {
            let mask = Mask::causal();
            let options = Attention::default().mask(&mask);
            let mut case = Case::<E>::new(&mut rng, shape, 1.0);
            let before = case.run(&options);
            for (i, v) in case.v.iter_mut().enumerate() {
                if i / of_values % keys == keys - 1 {
                    *v = E::NAN;
                }
            }
            let after = case.run(&options);
            for row in 0..case.rows() {
                let at = row * of_values..(row + 1) * of_values;
                if row % queries == queries - 1 {
                    assert!(
                        after[at].iter().all(|y| y.widen().is_nan()),
                        "attention of {shape:?}: expected NaN in row {row}, whose query attends to a NaN value"
                    );
                } else {
                    assert_near_bits(&format!("{shape:?} row {row}"), &after[at.clone()], &before[at]);
                }
            }
        }
    }
}

/// Compares the results of two runs. The results may differ slightly, because one run may compute a block in f32 that
/// the other run computes in f64.
#[track_caller]
fn assert_near_bits<E: Bits>(what: &str, got: &[E], expected: &[E]) {
    for (got, expected) in got.iter().zip(expected) {
        let error = (got.widen() - expected.widen()).abs();
        assert!(error <= 1e-4 + E::LIMITS.epsilon, "{what}: expected {expected:?}, got {got:?}");
    }
}

/// Checks that results are finite and accurate for extreme finite values of q, k and v.
fn the_largest_numbers<E: Bits>() {
    let (max, small) = (E::LIMITS.max, E::LIMITS.min_subnormal);
    for shape in SHAPES {
        for [q, k, v] in [[max, max, max], [max, -max, max], [1.0, max, -max], [small, max, small], [max, 0.0, max]] {
            let mut case = Case::<E>::new(&mut generate::rng("largest"), shape, 1.0);
            for (i, x) in case.q.iter_mut().enumerate() {
                *x = E::from_wide(if i % 3 == 0 { q } else { -q });
            }
            for (i, x) in case.k.iter_mut().enumerate() {
                *x = E::from_wide(if i % 5 == 0 { -k } else { k });
            }
            case.v.iter_mut().for_each(|x| *x = E::from_wide(v));
            let mask = Mask::causal();
            for options in [Attention::default(), Attention::default().mask(&mask).softcap(30.0)] {
                for y in case.run(&options) {
                    let y = y.widen();
                    // The mean of equal values is that value.
                    let near = (y - v).abs() <= v.abs() * 1e-4 * (1.0 + E::LIMITS.epsilon * 1e4) + small;
                    assert!(
                        near || (y == 0.0 && options.mask.is_some()),
                        "attention in {} of {shape:?} with q {q}, k {k} and v {v}: expected {v}, got {y}",
                        E::DTYPE
                    );
                }
            }
        }
    }
    // The scores exceed the range of the type. In f32 and the 16-bit types, the key with the largest score gets the
    // whole weight.
    let (q, k) = ([E::from_wide(max)], [max, max / 2.0, -max].map(E::from_wide));
    let v = [1.0, 2.0, 3.0].map(E::from_wide);
    let heads = |data, keys| Heads::new(data, [1, 1, keys, 1]).unwrap();
    let y = attention(heads(&q, 1), heads(&k, 3), heads(&v, 3), &Attention::default()).unwrap()[0].widen();
    // In f64, the two largest scores saturate at the largest finite value and get equal weights.
    assert_eq!(y, if E::DTYPE == DType::F64 { 1.5 } else { 1.0 });
}

fn nan_and_infinities<E: Bits>() {
    let mut rng = generate::rng("not finite");
    for shape in SHAPES {
        let Shape([_, heads, of_keys, queries, keys, features, of_values]) = shape;
        let clean = Case::<E>::new(&mut rng, shape, 1.0);
        let expected = clean.run(&Attention::default());
        // A NaN in a query makes its row NaN.
        let mut case = Case { q: clean.q.clone(), k: clean.k.clone(), v: clean.v.clone(), shape };
        let row = rng.random_range(0..case.rows());
        case.q[row * features] = E::NAN;
        let y = case.run(&Attention::default());
        for i in 0..case.rows() {
            let at = i * of_values..(i + 1) * of_values;
            if i == row {
                assert!(
                    y[at].iter().all(|y| y.bits() == E::NAN.bits()),
                    "attention of {shape:?} with a NaN in query {row}: expected NaN in row {row}"
                );
            } else {
                assert_same_bits(&format!("{shape:?} row {i}"), &y[at.clone()], &expected[at]);
            }
        }
        // If a key contains NaN, all results of the query heads that use this key are NaN. If a value contains an
        // infinity, the results of these heads are infinite in the same feature only.
        let key = rng.random_range(0..keys);
        let mut case = Case { q: clean.q.clone(), k: clean.k.clone(), v: clean.v.clone(), shape };
        case.k[key * features] = E::NAN;
        let of_head = heads / of_keys * queries * of_values;
        let (y, lse) = {
            let [q, k, v] = case.views();
            attention_with_lse(q, k, v, &Attention::default()).unwrap()
        };
        assert!(
            y[..of_head].iter().all(|y| y.bits() == E::NAN.bits()) && lse[0].is_nan(),
            "attention of {shape:?} with a NaN key: expected NaN in all results of the heads that use this key"
        );
        if y.len() > of_head {
            assert_same_bits("others", &y[of_head..], &expected[of_head..]);
        }
        let mut case = Case { q: clean.q.clone(), k: clean.k.clone(), v: clean.v.clone(), shape };
        case.v[key * of_values + of_values - 1] = E::INFINITY;
        let y = case.run(&Attention::default());
        for (i, y) in y[..of_head].iter().enumerate() {
            assert_eq!(
                y.widen() == f64::INFINITY,
                i % of_values == of_values - 1,
                "attention of {shape:?}, inf in the last column of v: expected inf only in the last column of y, \
                 got {y:?} in element {i}"
            );
        }
    }
    // The first logit is +inf or -inf, and the second is 1.
    let one = [E::from_wide(1.0)];
    let v = [1.0, 2.0].map(E::from_wide);
    for (infinity, y, lse) in [(E::INFINITY, f64::NAN, f64::INFINITY), (E::NEG_INFINITY, 2.0, 1.0)] {
        let k = [infinity, E::from_wide(1.0)];
        let heads = |data, keys| Heads::new(data, [1, 1, keys, 1]).unwrap();
        let got = attention_with_lse(heads(&one, 1), heads(&k, 2), heads(&v, 2), &Attention::default()).unwrap();
        assert_eq!(
            (got.0[0].bits(), got.1[0]),
            (E::from_wide(y).bits(), lse),
            "attention with the key {infinity:?}: expected the result {y} and the log-sum-exp {lse}"
        );
    }
}

/// Checks that a query has the same result bits alone and in a batch, on every instruction set and with any number of
/// threads.
fn company_and_threads<E: Bits>() {
    let mut rng = generate::rng("company");
    for shape in SHAPES {
        let Shape([.., queries, keys, features, of_values]) = shape;
        let case = Case::<E>::new(&mut rng, shape, 1.0);
        let mask = Mask::causal();
        for (causal, options) in [(false, Attention::default()), (true, Attention::default().mask(&mask))] {
            let expected = with_level(Level::Portable, || case.run(&options)).unwrap();
            each_level(|level| {
                for threads in [1, 3] {
                    let y = on_threads(threads, level, || case.run(&options));
                    assert_same_bits(&format!("{shape:?} {level} on {threads}"), &y, &expected);
                }
            });
            for row in 0..case.rows() {
                let (query, keys_of, values) = case.operands(row);
                // With a causal mask, a query attends to the keys up to its own position, as in decoding.
                let seen = if causal { (keys + row % queries + 1).saturating_sub(queries) } else { keys };
                let (k, v) = (keys_of[..seen].concat(), values[..seen].concat());
                let y = attention(
                    Heads::new(query, [1, 1, 1, features]).unwrap(),
                    Heads::new(&k, [1, 1, seen, features]).unwrap(),
                    Heads::new(&v, [1, 1, seen, of_values]).unwrap(),
                    &options,
                );
                assert_same_bits(
                    &format!("{shape:?} row {row}"),
                    &y.unwrap(),
                    &expected[row * of_values..][..of_values],
                );
            }
        }
    }
}

/// Checks that masked keys and values do not change a bit of a result. Causal attention to a whole prompt therefore
/// gives the same bits as decoding, where later keys do not exist yet.
fn masked_leaves_no_bit<E: Bits>() {
    let mut rng = generate::rng("no bit");
    for shape in [Shape([1, 2, 1, 40, 300, 16, 20]), Shape([1, 2, 1, 2, 300, 16, 20]), Shape([1, 1, 1, 2, 530, 5, 3])] {
        let Shape([_, heads, _, queries, keys, features, of_values]) = shape;
        let case = Case::<E>::new(&mut rng, shape, 1.0);
        let flags: Vec<u8> = (0..keys).map(|key| u8::from(key % 7 != 3 && key != keys - 2)).collect();
        let bias: Vec<f32> = flags.iter().map(|&flag| if flag == 0 { f32::NEG_INFINITY } else { 0.0 }).collect();
        let (of_flags, of_bias) = (Mask::keep(&flags[..], &[keys]), Mask::causal().and_bias(&bias, &[keys]));
        for mask in [&of_flags, &of_bias] {
            let options = Attention::default().mask(mask);
            let expected = case.run(&options);
            for value in [f64::NAN, f64::INFINITY, E::LIMITS.max, -1e30] {
                let mut broken = Case { shape, q: case.q.clone(), k: case.k.clone(), v: case.v.clone() };
                for key in (0..keys).filter(|&key| flags[key] == 0) {
                    broken.k[key * features..][..features].fill(E::from_wide(value));
                    broken.v[key * of_values..][..of_values].fill(E::from_wide(value));
                }
                assert_same_bits(&format!("{shape:?} with {value}"), &broken.run(&options), &expected);
            }
        }
        // Only the last query attends to the last key.
        let mask = Mask::causal();
        let options = Attention::default().mask(&mask);
        let mut broken = Case { shape, q: case.q.clone(), k: case.k.clone(), v: case.v.clone() };
        broken.k[(keys - 1) * features] = E::from_wide(f64::NAN);
        broken.v[(keys - 1) * of_values] = E::from_wide(f64::NAN);
        let (y, expected) = (broken.run(&options), case.run(&options));
        for head in 0..heads {
            let rows = head * queries * of_values..(head * queries + queries - 1) * of_values;
            assert_same_bits(&format!("{shape:?} before the last"), &y[rows.clone()], &expected[rows]);
            let last = &y[(head * queries + queries - 1) * of_values..][..of_values];
            assert!(
                last.iter().all(|y| y.widen().is_nan()),
                "causal attention with a NaN in the last key: expected NaN for the last query, got {last:?}"
            );
        }
    }
}

/// Checks strided heads. The heads of one position are adjacent, so a head is not contiguous.
fn strides<E: Bits>() {
    let shape = Shape([2, 4, 2, 5, 30, 8, 24]);
    let Shape([batch, heads, of_keys, queries, keys, features, of_values]) = shape;
    let case = Case::<E>::new(&mut generate::rng("strides"), shape, 1.0);
    let turned = |data: &[E], heads: usize, positions: usize, width: usize| {
        let mut out = data.to_vec();
        for (i, x) in data.chunks(width).enumerate() {
            let (batch, head, position) = (i / (heads * positions), i / positions % heads, i % positions);
            out[((batch * positions + position) * heads + head) * width..][..width].copy_from_slice(x);
        }
        out
    };
    let q = turned(&case.q, heads, queries, features);
    let k = turned(&case.k, of_keys, keys, features);
    let v = turned(&case.v, of_keys, keys, of_values);
    let view = |data, heads: usize, positions: usize, width: usize| {
        Heads::strided(data, [batch, heads, positions, width], [positions * heads * width, width, heads * width])
            .unwrap()
    };
    let mut out = vec![E::ZERO; batch * heads * queries * of_values];
    attention_into(
        view(&q, heads, queries, features),
        view(&k, of_keys, keys, features),
        view(&v, of_keys, keys, of_values),
        &mut out,
        &Attention::default(),
    )
    .unwrap();
    assert_same_bits("turned", &out, &case.run(&Attention::default()));
}

fn sinks<E: Bits>() {
    let mut rng = generate::rng("sinks");
    for shape in SHAPES {
        let case = Case::<E>::new(&mut rng, shape, 1.0);
        let sinks: Vec<f32> = (0..shape.0[1]).map(|head| [0.5, -3.0, 40.0, f32::NEG_INFINITY][head % 4]).collect();
        case.check(&Attention::default().sinks(&sinks[..]), NONE);
        // Fully masked queries attend only to the sink, which has no value.
        let mask = Mask::lengths(&[0]);
        let options = Attention::default().sinks(&sinks[..]).mask(&mask).fully_masked(FullyMasked::Error);
        let [q, k, v] = case.views();
        if shape.0[1] < 4 {
            let (y, lse) = attention_with_lse(q, k, v, &options).unwrap();
            assert!(
                y.iter().all(|y| y.bits() == 0),
                "attention of {shape:?}: expected zeros for queries that attend to the sink only"
            );
            assert_eq!(lse[0], 0.5);
        }
    }
}

fn nothing_to_attend_to<E: Bits>() {
    for shape in SHAPES {
        let Shape([.., queries, keys, _, of_values]) = shape;
        let case = Case::<E>::new(&mut generate::rng("nothing"), shape, 1.0);
        let [q, k, v] = case.views();
        // Only the first query is fully masked.
        let keep: Vec<bool> = (0..queries * keys).map(|i| i >= keys).collect();
        let mask = Mask::keep(&keep, &[queries, keys]);
        let options = Attention::default().mask(&mask);
        assert!(
            case.run(&options)[..of_values].iter().all(|y| y.bits() == 0),
            "attention of {shape:?}: expected zeros for the fully masked query"
        );
        let y = case.run(&options.fully_masked(FullyMasked::Uniform));
        let (_, _, values) = case.operands(0);
        for (i, y) in y[..of_values].iter().enumerate() {
            let mean = values.iter().map(|v| v[i].widen()).sum::<f64>() / keys as f64;
            // Both the result and the expected mean come from f64 sums of values below 5.
            let allowed = E::LIMITS.epsilon * 2.0 + 10.0 * keys as f64 * f64::EPSILON;
            assert!(
                (y.widen() - mean).abs() <= allowed,
                "attention of {shape:?}, FullyMasked::Uniform: expected the mean {mean} of the values, got {y:?}"
            );
        }
        let refused = attention(q, k, v, &options.fully_masked(FullyMasked::Error));
        assert_eq!(
            refused,
            Err(Error::fully_masked("attention", 0)),
            "attention of {shape:?} must give the error FullyMasked"
        );
    }
    // One count is 0 in each of these calls: the number of keys, of queries, or of features.
    let none: [E; 0] = [];
    let q = [E::from_wide(1.0); 6];
    let empty = Heads::new(&none, [1, 1, 0, 3]).unwrap();
    let two = Heads::new(&q, [1, 1, 2, 3]).unwrap();
    assert_eq!(attention(two, empty, empty, &Attention::default()).unwrap(), [E::ZERO; 6]);
    assert_eq!(attention(empty, two, two, &Attention::default()).unwrap(), []);
    let bare = Heads::new(&none, [1, 1, 2, 0]).unwrap();
    assert_eq!(attention(bare, bare, two, &Attention::default()).unwrap(), [E::from_wide(1.0); 6]);
}

#[test]
fn long_rows_of_keys() {
    let keys = 131_072;
    let mut rng = generate::rng("long");
    let case = Case::<f32>::new(&mut rng, Shape([1, 1, 1, 2, keys, 4, 3]), 1.0);
    case.check(&Attention::default(), NONE);
    // With equal logits, the result is the mean of the values.
    let mut case = case;
    case.q.fill(0.0);
    let y = case.run(&Attention::default());
    for (i, y) in y.iter().take(3).enumerate() {
        let mean = case.v.iter().skip(i).step_by(3).map(|&v| f64::from(v)).sum::<f64>() / keys as f64;
        assert!(
            (f64::from(*y) - mean).abs() < 1e-6,
            "attention with equal logits: expected the mean {mean} of the values, got {y}"
        );
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let data = [0.0f32; 24];
    let heads = |shape| Heads::new(&data[..], shape).unwrap();
    let run =
        |q, k, v, options: &Attention<'_>| attention(heads(q), heads(k), heads(v), options).unwrap_err().to_string();
    let good = [1, 2, 3, 4];
    let none = Attention::default();
    assert_eq!(
        run(good, [1, 2, 4, 3], good, &none),
        "attention: k has shape [1, 2, 4, 3]; expected shape [1, heads, keys, 4] to match q"
    );
    assert_eq!(
        run(good, good, [1, 2, 4, 3], &none),
        "attention: v has shape [1, 2, 4, 3]; expected shape [1, 2, 3, features] to match k"
    );
    assert_eq!(
        run(good, [1, 3, 2, 4], [1, 3, 2, 4], &none),
        "attention: k has shape [1, 3, 2, 4]; expected a number of heads that divides the 2 heads of q"
    );
    assert_eq!(
        run(good, good, good, &none.sinks(&data[..3])),
        "attention: sinks has 3 elements; expected one for each of 2 heads"
    );
    assert_eq!(run(good, good, good, &none.scale(f64::NAN)), "attention: scale is NaN; it must be finite");
    assert_eq!(run(good, good, good, &none.softcap(0.0)), "attention: softcap is 0; it must be finite and above 0");
    let mask = Mask::keep(&[1u8, 1], &[2]);
    assert!(run(good, good, good, &none.mask(&mask)).starts_with("attention: mask has"));
    assert!(Heads::new(&data[..], [1, 1, 5, 5]).is_err() && Heads::strided(&data[..], good, [24, 12, 5]).is_err());
    assert!(Heads::strided(&data[..], [usize::MAX; 4], [usize::MAX; 3]).is_err());
    let mut out = [0.0f32; 3];
    let refused = attention_into(heads(good), heads(good), heads(good), &mut out, &none).unwrap_err();
    assert_eq!(refused.to_string(), "attention: out has 3 elements; expected 24 elements");
}
