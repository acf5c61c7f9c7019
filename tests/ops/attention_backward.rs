//! Tests of the gradients of attention. Gradients must agree with the reference and with finite differences, even with
//! overflow and masked or missing keys. Gradients must have the same bits on any number of threads.

use super::attention::{Case, Logits, Shape, each_mask};
use crate::support::compare;
use crate::support::generate::{self, Bits, bell};
use crate::support::implementations::{each_level, on_threads};
use evenkeel::accuracy;
use evenkeel::reference::{Real, attention_backward_of};
use evenkeel::simd::{Level, with_level};
use evenkeel::testing::ulp;
use evenkeel::{
    Attention, AttentionGradients, DType, Error, FullyMasked, Heads, Mask, attention, attention_backward,
    attention_backward_into, report,
};
use rand::rngs::SmallRng;

for_each_dtype!(
    accuracy,
    sinks,
    masked_is_not_there,
    nothing_to_attend_to,
    the_largest_numbers,
    products_beyond_the_range,
    nan_and_infinities,
    one_key_and_keys_alike,
    levels_and_threads,
    strides,
);

/// Shapes to test; [`Shape`] names the seven numbers. The kernels process queries in tiles of 64, and keys in blocks of
/// 256.
const SHAPES: [Shape; 9] = [
    Shape([1, 1, 1, 1, 1, 1, 1]),
    Shape([1, 2, 1, 3, 5, 4, 2]),
    Shape([2, 2, 2, 7, 16, 16, 16]),
    Shape([1, 6, 2, 23, 17, 5, 18]),
    Shape([1, 1, 1, 130, 33, 7, 19]),
    Shape([1, 2, 2, 3, 257, 8, 5]),
    Shape([2, 2, 1, 2, 600, 3, 2]),
    Shape([1, 1, 1, 4, 256, 33, 16]),
    Shape([1, 1, 1, 300, 300, 2, 1]),
];

/// Attention case with the gradient of its result.
#[derive(Clone)]
struct Graded<E> {
    case: Case<E>,
    dy: Vec<E>,
}

impl<E: Bits> Graded<E> {
    fn new(rng: &mut SmallRng, shape: Shape, spread: f64) -> Self {
        let Shape([batch, heads, _, queries, _, _, of_values]) = shape;
        let case = Case::new(rng, shape, spread);
        Graded { case, dy: bell(rng, batch * heads * queries * of_values, 0.2, 1.0) }
    }

    fn dy(&self) -> Heads<'_, E> {
        let Shape([batch, heads, _, queries, _, _, of_values]) = self.case.shape;
        Heads::new(&self.dy, [batch, heads, queries, of_values]).unwrap()
    }

    fn run(&self, options: &Attention<'_>) -> AttentionGradients<E> {
        let [q, k, v] = self.case.views();
        attention_backward(q, k, v, self.dy(), options).unwrap()
    }

    /// Returns the index of the first key of the head that a row's query attends to. The other keys of this head
    /// follow.
    fn keys_of(&self, row: usize) -> usize {
        let Shape([_, heads, of_keys, queries, keys, ..]) = self.case.shape;
        let head = row / queries;
        (head / heads * of_keys + head % heads / (heads / of_keys)) * keys
    }

    /// Compares gradients with the reference. `bias` has one element per row and key, and -inf masks a key.
    #[track_caller]
    fn check(&self, options: &Attention<'_>, bias: impl Fn(usize, usize) -> f64) {
        let Case { shape, q, k, v } = &self.case;
        let Shape([_, heads, _, queries, _, features, of_values]) = *shape;
        let got = self.run(options);
        let exact = |x: &E| E::Exact::from(x.widen());
        let scale = options.scale.unwrap_or(1.0 / (features as f64).sqrt());
        let mut expected = [q, k, v].map(|of| Sums::<E::Exact>::new(of.len()));
        let mut of_sinks = Sums::<E::Exact>::new(heads);
        let mut largest = 0.0f64;
        for row in 0..self.case.rows() {
            let (query, keys, values) = self.case.operands(row);
            let dy: Vec<E::Exact> = self.dy[row * of_values..][..of_values].iter().map(exact).collect();
            let Logits { logits, derivatives, largest: of_row } = self.case.logits(options, row, &bias);
            largest = largest.max(of_row);
            let values: Vec<Vec<E::Exact>> = values.iter().map(|value| value.iter().map(exact).collect()).collect();
            let values: Vec<&[E::Exact]> = values.iter().map(Vec::as_slice).collect();
            let head = row / queries % heads;
            let sink = options.sinks.and_then(|sinks| sinks.get(head)).map(E::Exact::from);
            let Some(of) = attention_backward_of(&logits, &values, sink, &dy) else { continue };
            let magnitudes: Vec<f64> = values
                .iter()
                .map(|value| value.iter().zip(&dy).map(|(v, dy)| (*v * *dy).abs().to_f64()).sum())
                .collect();
            let seen = || (0..keys.len()).filter(|&s| logits[s] != E::Exact::from(f64::NEG_INFINITY));
            let mean: f64 = seen().map(|s| of.weights[s].to_f64() * magnitudes[s]).sum();
            let first = self.keys_of(row);
            for s in seen() {
                let (derivative, weight) = (derivatives[s] * E::Exact::from(scale), of.weights[s]);
                let grad = of.dlogits[s] * derivative;
                let magnitude = (weight * derivative).abs().to_f64() * (magnitudes[s] + mean);
                for i in 0..features {
                    let (q, k) = (exact(&query[i]), exact(&keys[s][i]));
                    expected[0].add(row * features + i, grad * k, magnitude * k.abs().to_f64());
                    expected[1].add((first + s) * features + i, grad * q, magnitude * q.abs().to_f64());
                }
                for (i, &dy) in dy.iter().enumerate() {
                    let term = weight * dy;
                    expected[2].add((first + s) * of_values + i, term, term.abs().to_f64());
                }
            }
            if let (Some(dsink), Some(sink)) = (of.dsink, sink) {
                // The weight of the sink is 1 minus the sum of the keys' weights.
                let share = 1.0 - seen().map(|s| of.weights[s].to_f64()).sum::<f64>();
                let share = if sink == E::Exact::from(f64::NEG_INFINITY) { 0.0 } else { share.abs() };
                of_sinks.add(head, dsink, share * mean + dsink.abs().to_f64());
            }
        }
        let what = |of: &str| format!("{} {of} of {shape:?} under {options:?}", E::DTYPE);
        for ((name, got), expected) in [("dq", &got.dq), ("dk", &got.dk), ("dv", &got.dv)].into_iter().zip(&expected) {
            expected.check(&what(name), got, 1.0 + largest);
        }
        assert_eq!(got.dsinks.is_some(), options.sinks.is_some());
        if let Some(dsinks) = got.dsinks {
            of_sinks.check(&what("dsinks"), &dsinks, 1.0 + largest);
        }
    }
}

/// Exact sums, each with the sum of its terms' magnitudes.
struct Sums<R> {
    sums: Vec<R>,
    magnitudes: Vec<f64>,
}

impl<R: Real> Sums<R> {
    fn new(len: usize) -> Self {
        Sums { sums: vec![R::from(0.0); len], magnitudes: vec![0.0; len] }
    }

    fn add(&mut self, at: usize, term: R, magnitude: f64) {
        self.sums[at] = self.sums[at] + term;
        self.magnitudes[at] += magnitude;
    }

    #[track_caller]
    fn check<E: Bits<Exact = R>>(&self, what: &str, got: &[E], factor: f64) {
        let bound = accuracy::bound("attention_backward", E::DTYPE).unwrap().ulps;
        assert_eq!(got.len(), self.sums.len(), "{what}: expected {} elements, got {}", self.sums.len(), got.len());
        for (i, (got, expected)) in got.iter().zip(&self.sums).enumerate() {
            let at = if E::DTYPE == DType::F64 { self.magnitudes[i] * factor } else { self.magnitudes[i] };
            // A gradient without any nonzero term must be exactly zero.
            let right = self.magnitudes[i] == 0.0 && got.bits() == 0;
            let ulps = if right { 0.0 } else { ulp::error_at(*got, *expected, at.max(E::LIMITS.min_normal)) };
            assert!(
                ulps <= bound,
                "{what} at index {i}: expected {expected:?} within {bound} ULP, got {got:?} with an error of {ulps} \
                 ULP. The ULP is taken at magnitude {at:e}"
            );
        }
    }
}

fn accuracy<E: Bits>() {
    let mut rng = generate::rng("accuracy");
    for shape in SHAPES {
        let graded = Graded::<E>::new(&mut rng, shape, 1.5);
        each_mask(&mut rng, shape, |options, bias| graded.check(options, bias));
    }
}

/// With so many keys, the second pass over a tile computes the scores again.
#[test]
fn many_keys() {
    let shape = Shape([1, 1, 1, 66, 16_500, 2, 1]);
    Graded::<f32>::new(&mut generate::rng("many_keys"), shape, 1.5).check(&Attention::default(), |_, _| 0.0);
}

/// The second pass finds the scores of the first pass or, under Uniform, computes them again. No query is fully masked
/// here, so the policy has no other effect.
#[test]
fn kept_scores_are_those_of_the_second_pass() {
    let mut rng = generate::rng("kept_scores");
    let (window, all) = (Mask::causal().and_window(300), Mask::none());
    for (shape, mask) in [
        (Shape([2, 4, 2, 200, 900, 5, 18]), &window),
        (Shape([1, 1, 1, 130, 17_000, 1, 1]), &window),
        (Shape([1, 1, 1, 65, 16_384, 1, 1]), &all),
        (Shape([1, 1, 1, 65, 16_385, 1, 1]), &all),
    ] {
        let graded = Graded::<f32>::new(&mut rng, shape, 1.5);
        let options = Attention::default().mask(mask);
        let [kept, again] =
            [FullyMasked::Zeros, FullyMasked::Uniform].map(|policy| graded.run(&options.fully_masked(policy)));
        assert_same(&format!("{shape:?}"), &kept, &again);
    }
}

fn sinks<E: Bits>() {
    let mut rng = generate::rng("sinks");
    for shape in SHAPES {
        let graded = Graded::<E>::new(&mut rng, shape, 1.0);
        let sinks: Vec<f32> = (0..shape.0[1]).map(|head| [0.5, -3.0, f32::NEG_INFINITY][head % 3]).collect();
        graded.check(&Attention::default().sinks(&sinks[..]), |_, _| 0.0);
        // If the queries attend only to the sink, all gradients are zero, including the sink's gradient.
        let mask = Mask::lengths(&[0]);
        if shape.0[0] == 1 && shape.0[1] < 3 {
            let options = Attention::default().sinks(&sinks[..]).mask(&mask).fully_masked(FullyMasked::Error);
            let AttentionGradients { dq, dk, dv, dsinks, .. } = graded.run(&options);
            assert!(
                [dq, dk, dv, dsinks.unwrap()].concat().iter().all(|x| x.bits() == 0),
                "attention_backward of {shape:?}: expected zero gradients for queries that attend to the sink only"
            );
        }
    }
}

/// Compares all gradients with central differences of the forward pass.
#[test]
fn differences_of_the_forward_pass() {
    const STEP: f64 = 1e-5;
    let mut rng = generate::rng("differences");
    for shape in [Shape([2, 4, 2, 3, 5, 3, 2]), Shape([1, 2, 1, 2, 258, 2, 1])] {
        let graded = Graded::<f64>::new(&mut rng, shape, 1.0);
        let sinks: Vec<f64> = (0..shape.0[1]).map(|head| 0.3 * head as f64).collect();
        let mask = Mask::causal();
        let plain = Attention::default();
        for options in [plain, plain.mask(&mask).softcap(2.0), plain.sinks(&sinks).scale(-0.8).mask(&mask)] {
            let got = graded.run(&options);
            let loss = |case: &Case<f64>, options: &Attention<'_>| -> f64 {
                let [q, k, v] = case.views();
                let y = attention(q, k, v, options).unwrap();
                y.iter().zip(&graded.dy).map(|(y, dy)| y * dy).sum()
            };
            type Field = fn(&mut Case<f64>) -> &mut Vec<f64>;
            let parts: [(&str, &[f64], Field); 3] = [
                ("dq", &got.dq, |case| &mut case.q),
                ("dk", &got.dk, |case| &mut case.k),
                ("dv", &got.dv, |case| &mut case.v),
            ];
            for (name, gradient, part) in parts {
                for (i, got) in gradient.iter().enumerate() {
                    let mut case = graded.case.clone();
                    part(&mut case)[i] += STEP;
                    let above = loss(&case, &options);
                    part(&mut case)[i] -= 2.0 * STEP;
                    let derivative = (above - loss(&case, &options)) / (2.0 * STEP);
                    // The loss is below 100 and has a rounding error of about 1e-14. Most of the tolerance covers the
                    // third derivative, which the central difference neglects.
                    assert!(
                        (derivative - got).abs() < 1e-7,
                        "attention_backward of {shape:?}, {name} at index {i}: expected the finite difference \
                         {derivative}, got {got}"
                    );
                }
            }
            for (i, got) in got.dsinks.iter().flatten().enumerate() {
                let [mut above, mut below] = [sinks.clone(), sinks.clone()];
                above[i] += STEP;
                below[i] -= STEP;
                let [above, below] = [above, below].map(|sinks| loss(&graded.case, &options.sinks(&sinks)));
                let derivative = (above - below) / (2.0 * STEP);
                assert!(
                    (derivative - got).abs() < 1e-7,
                    "attention_backward, dsinks at index {i}: expected the finite difference {derivative}, got {got}"
                );
            }
        }
    }
}

#[track_caller]
fn assert_same_bits<E: Bits>(what: &str, got: &[E], expected: &[E]) {
    if !(got.is_empty() && expected.is_empty()) {
        compare::assert_same_bits(what, got, expected);
    }
}

#[track_caller]
fn assert_same<E: Bits>(what: &str, got: &AttentionGradients<E>, expected: &AttentionGradients<E>) {
    assert_same_bits(&format!("{what}: dq"), &got.dq, &expected.dq);
    assert_same_bits(&format!("{what}: dk"), &got.dk, &expected.dk);
    assert_same_bits(&format!("{what}: dv"), &got.dv, &expected.dv);
    assert_eq!(got.dsinks.is_some(), expected.dsinks.is_some());
}

/// Checks that masked keys and values, whatever they contain, do not affect any other gradient. The gradients of masked
/// keys and values must be zero.
fn masked_is_not_there<E: Bits>() {
    let mut rng = generate::rng("masked");
    for shape in SHAPES {
        let Shape([.., keys, features, of_values]) = shape;
        let mut graded = Graded::<E>::new(&mut rng, shape, 1.0);
        let keep: Vec<bool> = (0..keys).map(|key| key % 3 != 1).collect();
        let bias: Vec<f32> = keep.iter().map(|keep| if *keep { 0.0 } else { f32::NEG_INFINITY }).collect();
        let lengths = vec![keys / 2; shape.0[0]];
        let masks = [Mask::keep(&keep, &[keys]), Mask::bias(&bias, &[keys]), Mask::lengths(&lengths)];
        let is_masked = |mask: usize, key: usize| if mask == 2 { key >= keys / 2 } else { !keep[key] };
        // The scale of 0 is included because -inf times 0 is NaN.
        for (number, scale) in (0..masks.len()).flat_map(|number| [(number, 0.5), (number, 0.0)]) {
            let clean = graded.case.clone();
            let options = Attention::default().mask(&masks[number]).softcap(5.0).scale(scale);
            let expected = graded.run(&options);
            let of_mask = |i: usize, width: usize| is_masked(number, i / width % keys);
            for (i, k) in graded.case.k.iter_mut().enumerate().filter(|(i, _)| of_mask(*i, features)) {
                *k = [E::NAN, E::INFINITY, E::NEG_INFINITY, E::from_wide(E::LIMITS.max)][i % 4];
            }
            for (i, v) in graded.case.v.iter_mut().enumerate().filter(|(i, _)| of_mask(*i, of_values)) {
                *v = [E::NAN, E::INFINITY][i % 2];
            }
            let got = graded.run(&options);
            assert_same(&format!("{shape:?} mask {number}, scale {scale}"), &got, &expected);
            for (gradient, width) in [(&got.dk, features), (&got.dv, of_values)] {
                let nothing = gradient.iter().enumerate().filter(|(i, _)| of_mask(*i, width));
                assert!(
                    nothing.into_iter().all(|(_, x)| x.bits() == 0),
                    "attention_backward of {shape:?}, mask {number}, scale {scale}: dk and dv of masked keys must be 0"
                );
            }
            graded.case = clean;
        }
    }
}

fn nothing_to_attend_to<E: Bits>() {
    for shape in SHAPES {
        let Shape([batch, heads, _, queries, keys, features, of_values]) = shape;
        let mut graded = Graded::<E>::new(&mut generate::rng("nothing"), shape, 1.0);
        // The first query of each head is fully masked.
        let keep: Vec<bool> = (0..queries * keys).map(|i| i >= keys).collect();
        let mask = Mask::keep(&keep, &[queries, keys]);
        let options = Attention::default().mask(&mask);
        let (zeros, report) = report::scope(|| graded.run(&options));
        assert_eq!(
            report.op("attention_backward").fully_masked,
            (batch * heads) as u64,
            "attention_backward of {shape:?}: the report must count one fully masked row for each batch and head"
        );
        assert!(
            zeros.dq[..features].iter().all(|x| x.bits() == 0),
            "attention_backward of {shape:?}: expected a zero dq for the fully masked query"
        );
        let uniform = graded.run(&options.fully_masked(FullyMasked::Uniform));
        assert_same_bits("dq", &uniform.dq, &zeros.dq);
        assert_same_bits("dk", &uniform.dk, &zeros.dk);
        for (i, (got, rest)) in uniform.dv.iter().zip(&zeros.dv).enumerate() {
            let mut expected = rest.widen();
            for row in (0..graded.case.rows()).filter(|row| row % queries == 0) {
                let first = graded.keys_of(row);
                if (first..first + keys).contains(&(i / of_values)) {
                    expected += graded.dy[row * of_values + i % of_values].widen() / keys as f64;
                }
            }
            // `rest` is the rounded sum that the other queries contribute to dv.
            let allowed = 2.0 * E::LIMITS.epsilon * (1.0 + expected.abs() + rest.widen().abs());
            assert!(
                (got.widen() - expected).abs() <= allowed,
                "attention_backward of {shape:?}, FullyMasked::Uniform: expected a dv of {expected} at index {i}, got \
                 {got:?}"
            );
        }
        let [q, k, v] = graded.case.views();
        let refused = attention_backward(q, k, v, graded.dy(), &options.fully_masked(FullyMasked::Error));
        assert_eq!(
            refused,
            Err(Error::fully_masked("attention_backward", 0)),
            "attention_backward of {shape:?} must give the error FullyMasked"
        );
        // NaN in a fully masked query or in its gradient has no effect.
        graded.case.q[..features].fill(E::NAN);
        graded.dy[..of_values].fill(E::NAN);
        assert_same("NaN in it", &graded.run(&options), &zeros);
    }
    // One count is 0 in each of these calls: the number of keys, of queries, or of features.
    let none: [E; 0] = [];
    let six = [E::from_wide(1.0); 6];
    let (empty, two) = (Heads::new(&none, [1, 1, 0, 3]).unwrap(), Heads::new(&six, [1, 1, 2, 3]).unwrap());
    let got = attention_backward(two, empty, empty, two, &Attention::default().fully_masked(FullyMasked::Uniform));
    let got = got.unwrap();
    assert_eq!((got.dq, got.dk, got.dv), (vec![E::ZERO; 6], vec![], vec![]));
    let got = attention_backward(empty, two, two, empty, &Attention::default().sinks(&[1.0f32])).unwrap();
    assert_eq!((got.dq, got.dk, got.dv), (vec![], vec![E::ZERO; 6], vec![E::ZERO; 6]));
    assert_eq!(got.dsinks, Some(vec![E::ZERO]));
    let bare = Heads::new(&none, [1, 1, 2, 0]).unwrap();
    let got = attention_backward(bare, bare, two, two, &Attention::default()).unwrap();
    assert_eq!((got.dq, got.dk, got.dv), (vec![], vec![], six.to_vec()));
    let got = attention_backward(two, two, bare, bare, &Attention::default()).unwrap();
    assert_eq!((got.dq, got.dk, got.dv), (vec![E::ZERO; 6], vec![E::ZERO; 6], vec![]));
}

/// Checks that no gradient is NaN for extreme finite values of q, k, v and dy.
fn the_largest_numbers<E: Bits>() {
    let (max, small) = (E::LIMITS.max, E::LIMITS.min_subnormal);
    for shape in SHAPES {
        let Shape([.., keys, _, _]) = shape;
        for [q, k, v, dy] in
            [[max, max, max, max], [max, -max, max, 1.0], [small, max, -max, max], [1.0, 1.0, max, -max]]
        {
            let mut graded = Graded::<E>::new(&mut generate::rng("largest"), shape, 1.0);
            let mut sign = 1.0;
            for (part, size) in
                [(&mut graded.case.q, q), (&mut graded.case.k, k), (&mut graded.case.v, v), (&mut graded.dy, dy)]
            {
                for (i, x) in part.iter_mut().enumerate() {
                    *x = E::from_wide(if i % 3 == 0 { -size } else { size } * sign);
                }
                sign = -sign;
            }
            let mask = Mask::causal();
            for options in [Attention::default(), Attention::default().mask(&mask).softcap(30.0)] {
                let got = graded.run(&options);
                for (name, part) in [("dq", &got.dq), ("dk", &got.dk), ("dv", &got.dv)] {
                    let broken = part.iter().position(|x| x.widen().is_nan());
                    assert_eq!(
                        broken,
                        None,
                        "attention_backward in {} of {shape:?} with {keys} keys, q {q}, k {k}, v {v}, dy {dy}: {name} \
                         must not be NaN",
                        E::DTYPE
                    );
                }
                // The weight of a value is at most 1 for each query, so |dv| is at most |dy| times the number of
                // queries.
                let queries = (shape.0[1] / shape.0[2] * shape.0[3]) as f64;
                let most = dy.abs() * queries * (1.0 + 1e-2);
                assert!(got.dv.iter().all(|x| x.widen().is_infinite() || x.widen().abs() <= most));
            }
        }
    }
}

/// Checks products that exceed the range of the type although the gradients do not.
fn products_beyond_the_range<E: Bits>() {
    // The exponent of `large` is 0.9 times the largest exponent of the type: `large` is about 2^920 in f64.
    let large = 2f64.powi((E::LIMITS.max.log2() * 0.9).floor() as i32);
    let of = |values: &[f64]| values.iter().map(|&x| E::from_wide(x)).collect::<Vec<E>>();
    let (q, k, v, dy) = (of(&[1.0]), of(&[1.0 / large, -1.0 / large]), of(&[large, -large]), of(&[large]));
    let heads = |data, keys| Heads::new(data, [1, 1, keys, 1]).unwrap();
    let options = Attention::default();
    let got = attention_backward(heads(&q, 1), heads(&k, 2), heads(&v, 2), heads(&dy, 1), &options).unwrap();
    // Both probabilities are 1/2. Each key adds 1/2 * large^2 / large to dq, so dq is large. dv is large / 2.
    let near = |got: E, expected: f64| (got.widen() / expected - 1.0).abs() < 1e-3;
    assert!(
        near(got.dq[0], large),
        "attention_backward, products beyond the range of the type: expected a dq of {large}, got {:?}",
        got.dq
    );
    assert!(
        got.dv.iter().all(|dv| near(*dv, large / 2.0)),
        "attention_backward, products beyond the range of the type: expected a dv of {}, got {:?}",
        large / 2.0,
        got.dv
    );
    let [a, b] = [got.dk[0], got.dk[1]].map(|dk| dk.widen());
    assert_eq!(
        (a, b),
        (f64::INFINITY, f64::NEG_INFINITY),
        "attention_backward of 2 keys: expected a dk of inf for the first and -inf for the second, because the exact \
         dk exceeds the range of the type, got {a} and {b}"
    );
    // In the first of the next two calls, the scale brings the product back into range. In the second call, only an
    // intermediate sum exceeds the range.
    let (q, k, ones) = (of(&[large]), of(&[0.0, 0.0]), of(&[1.0, -1.0]));
    let options = Attention::default().scale(1.0 / large);
    let got = attention_backward(heads(&q, 1), heads(&k, 2), heads(&ones, 2), heads(&dy, 1), &options).unwrap();
    assert_eq!(got.dk.iter().map(|dk| dk.widen()).collect::<Vec<_>>(), [large / 2.0, -large / 2.0]);
    let max = E::LIMITS.max;
    let (q, dy) = (of(&[0.0; 4]), of(&[max, max, -max, -max]));
    let got = attention_backward(heads(&q, 4), heads(&k[..1], 1), heads(&ones[..1], 1), heads(&dy, 4), &options);
    assert_eq!(got.unwrap().dv, [E::ZERO]);
    // The exact dq is just beyond the range of f64. Scaling the operands down must not hide this overflow.
    if E::DTYPE == DType::F64 {
        let half = 2f64.powi(512);
        let (q, k, v, dy) = (of(&[0.0]), of(&[1.0, -1.0]), of(&[half, -half]), of(&[1.5 * half]));
        let got = attention_backward(heads(&q, 1), heads(&k, 2), heads(&v, 2), heads(&dy, 1), &Attention::default());
        assert_eq!(
            got.unwrap().dq[0].widen(),
            f64::INFINITY,
            "attention_backward: expected an infinite dq, because the exact dq is 1.5 * 2^1024"
        );
    }
}

fn nan_and_infinities<E: Bits>() {
    let mut rng = generate::rng("not finite");
    let nan = |part: &[E]| part.iter().all(|x| x.bits() == E::NAN.bits());
    for shape in SHAPES {
        let Shape([batch, heads, of_keys, queries, keys, features, of_values]) = shape;
        let clean = Graded::<E>::new(&mut rng, shape, 1.0);
        let mask = Mask::causal();
        let options = Attention::default().mask(&mask);
        let expected = clean.run(&options);
        // The last query of the first head attends to all keys of that head.
        let (row, group) = (queries - 1, heads / of_keys);
        for broken in [E::NAN, E::INFINITY] {
            let mut graded = clean.clone();
            graded.case.q[row * features] = E::NAN;
            graded.dy[row * of_values] = broken;
            let got = graded.run(&options);
            let (seen, kept) = got.dk.split_at(keys * features);
            assert!(
                nan(&got.dq[row * features..][..features]) && nan(seen),
                "{shape:?}, query {row} with a NaN in q and {broken:?} in dy: dq must be NaN for this query. dk must \
                 be NaN for every key of its head"
            );
            assert!(
                nan(&got.dv[..keys * of_values]),
                "{shape:?}, query {row} with a NaN in q and {broken:?} in dy: dv must be NaN for every key of its head"
            );
            assert_same_bits("dq before", &got.dq[..row * features], &expected.dq[..row * features]);
            let behind = (row + 1) * features;
            assert_same_bits("dq after", &got.dq[behind..], &expected.dq[behind..]);
            assert_same_bits("dk", kept, &expected.dk[keys * features..]);
            assert_same_bits("dv", &got.dv[keys * of_values..], &expected.dv[keys * of_values..]);
            // In this run, only the gradient `dy` is not finite.
            graded.case.q = clean.case.q.clone();
            let got = graded.run(&options);
            assert!(
                nan(&got.dq[row * features..][..features]) && nan(&got.dv[..keys * of_values]),
                "{shape:?}, query {row} with {broken:?} in dy: dq must be NaN for this query. dv must be NaN for every \
                 key of its head"
            );
            assert_same_bits("dq before", &got.dq[..row * features], &expected.dq[..row * features]);
        }
        // A NaN in the first query affects dk and dv only for the keys to which this query attends.
        if queries > 1 && queries == keys.min(queries) && group == 1 && batch == 1 {
            let mut graded = clean.clone();
            graded.case.q[0] = E::NAN;
            let got = graded.run(&options);
            let seen = keys - queries + 1;
            assert!(
                nan(&got.dk[..seen * features]) && nan(&got.dv[..seen * of_values]),
                "{shape:?}, a NaN in the first query: dk and dv must be NaN for every key that this query attends to"
            );
            assert_same_bits("dk", &got.dk[seen * features..], &expected.dk[seen * features..]);
            assert_same_bits("dv", &got.dv[seen * of_values..], &expected.dv[seen * of_values..]);
            assert_same_bits("dq", &got.dq[features..], &expected.dq[features..]);
        }
        // A NaN in the last key makes dq NaN for the queries that attend to this key. An infinity in the last value
        // makes dq NaN for the queries that attend to this value, and dk NaN for all keys of these queries. The
        // infinity does not change dv.
        let last = keys - 1;
        let mut graded = clean.clone();
        graded.case.k[last * features] = E::NAN;
        let got = graded.run(&options);
        assert!(
            nan(&got.dq[row * features..][..features]) && nan(&got.dv[..keys * of_values]),
            "{shape:?}, a NaN in the last key: dq of the last query must be NaN, and dv of every key in the last key's \
             head"
        );
        if queries <= keys {
            assert_same_bits("dq before", &got.dq[..row * features], &expected.dq[..row * features]);
        }
        let mut graded = clean.clone();
        graded.case.v[last * of_values] = E::INFINITY;
        let (got, report) = report::scope(|| graded.run(&options));
        assert!(
            nan(&got.dq[row * features..][..features]) && nan(&got.dk[..keys * features]),
            "{shape:?}, an inf in the value of the last key: dq of the last query must be NaN, and dk of every key in \
             the last key's head"
        );
        assert_same_bits("dv", &got.dv, &expected.dv);
        let report = report.op("attention_backward");
        assert_eq!(
            (report.rows, report.nan + report.infinite > 0),
            (clean.case.rows() as u64, true),
            "attention_backward of {shape:?}: the report must count all rows. At least one of them must be counted as \
             NaN or infinite"
        );
    }
}

fn one_key_and_keys_alike<E: Bits>() {
    let mut rng = generate::rng("alike");
    for shape in SHAPES {
        let Shape([batch, heads, of_keys, queries, keys, features, of_values]) = shape;
        let one = Shape([batch, heads, of_keys, queries, 1, features, of_values]);
        let got = Graded::<E>::new(&mut rng, one, 1.0).run(&Attention::default());
        assert!(
            got.dq.iter().chain(&got.dk).all(|x| x.bits() == 0),
            "attention_backward of {one:?} with a single key: expected dq and dk of 0"
        );
        // Queries of zeros give equal weights, even with a scale beyond the range of f32.
        let mut graded = Graded::<E>::new(&mut rng, shape, 1.0);
        graded.case.q.fill(E::ZERO);
        let got = graded.run(&Attention::default().scale(1e200));
        assert!(
            got.dk.iter().all(|x| x.bits() == 0),
            "attention_backward of {shape:?} with queries of zeros: expected a dk of 0"
        );
        for (i, got) in got.dv.iter().enumerate() {
            let of_head = |row: &usize| (graded.keys_of(*row)..graded.keys_of(*row) + keys).contains(&(i / of_values));
            let rows = (0..graded.case.rows()).filter(of_head);
            let (sum, terms) = rows.fold((0.0, 0.0), |(sum, terms), row| {
                let dy = graded.dy[row * of_values + i % of_values].widen();
                (sum + dy, terms + dy.abs())
            });
            let allowed = (E::LIMITS.epsilon + 256.0 * f64::EPSILON) * terms / keys as f64;
            assert!(
                (got.widen() - sum / keys as f64).abs() <= allowed,
                "attention_backward of {shape:?}, queries of zeros: expected a dv of {sum} / {keys} at index {i}, got \
                 {got:?}"
            );
        }
    }
}

fn levels_and_threads<E: Bits>() {
    let mut rng = generate::rng("threads");
    for shape in [Shape([3, 4, 2, 70, 300, 24, 17]), Shape([1, 2, 1, 3, 40, 4, 4])] {
        let graded = Graded::<E>::new(&mut rng, shape, 1.0);
        let mask = Mask::causal();
        let options = Attention::default().mask(&mask).softcap(20.0).sinks(&[0.5f32, 1.0, -1.0, 0.0][..shape.0[1]]);
        let expected = with_level(Level::Portable, || graded.run(&options)).unwrap();
        each_level(|level| {
            for threads in [1, 2, 5] {
                let got = on_threads(threads, level, || graded.run(&options));
                assert_same(&format!("{shape:?} {level} on {threads}"), &got, &expected);
                let [got, expected] = [&got, &expected].map(|of| of.dsinks.clone().unwrap());
                assert_same_bits("dsinks", &got, &expected);
            }
        });
    }
}

/// Checks strided heads, where the heads of one position are adjacent. Also checks results that are written to the
/// caller's memory.
fn strides<E: Bits>() {
    let shape = Shape([2, 4, 2, 5, 30, 8, 24]);
    let Shape([batch, heads, of_keys, queries, keys, features, of_values]) = shape;
    let graded = Graded::<E>::new(&mut generate::rng("strides"), shape, 1.0);
    let turned = |data: &[E], heads: usize, positions: usize, width: usize| {
        let mut out = data.to_vec();
        for (i, x) in data.chunks(width).enumerate() {
            let (batch, head, position) = (i / (heads * positions), i / positions % heads, i % positions);
            out[((batch * positions + position) * heads + head) * width..][..width].copy_from_slice(x);
        }
        out
    };
    let case = &graded.case;
    let parts = [
        (&case.q, heads, queries, features),
        (&case.k, of_keys, keys, features),
        (&case.v, of_keys, keys, of_values),
        (&graded.dy, heads, queries, of_values),
    ];
    let memory = parts.map(|(data, heads, positions, width)| turned(data, heads, positions, width));
    let mut views = memory.iter().zip(parts).map(|(data, (_, heads, positions, width))| {
        Heads::strided(data, [batch, heads, positions, width], [positions * heads * width, width, heads * width])
    });
    let [q, k, v, dy] = std::array::from_fn(|_| views.next().unwrap().unwrap());
    let sinks = [0.5f64, 1.0, -1.0, 0.0];
    let options = Attention::default().sinks(&sinks);
    let expected = graded.run(&options);
    let [mut dq, mut dk, mut dv] = [&case.q, &case.k, &case.v].map(|of| vec![E::NAN; of.len()]);
    let mut dsinks = [E::NAN; 4];
    let out = [(&mut dq).into(), (&mut dk).into(), (&mut dv).into()];
    attention_backward_into([q, k, v], dy, out, Some((&mut dsinks).into()), &options).unwrap();
    assert_same_bits("dq", &dq, &expected.dq);
    assert_same_bits("dk", &dk, &expected.dk);
    assert_same_bits("dv", &dv, &expected.dv);
    assert_same_bits("dsinks", &dsinks, &expected.dsinks.unwrap());
}

#[test]
fn what_does_not_fit_is_refused() {
    let data = [0.0f32; 24];
    let heads = |shape| Heads::new(&data[..], shape).unwrap();
    let good = [1, 2, 3, 4];
    let none = Attention::default();
    let refused = |k, dy, options: &Attention<'_>| {
        attention_backward(heads(good), heads(k), heads(good), heads(dy), options).unwrap_err().to_string()
    };
    assert_eq!(
        refused([1, 2, 4, 3], good, &none),
        "attention_backward: k has shape [1, 2, 4, 3]; expected shape [1, heads, keys, 4] to match q"
    );
    assert_eq!(
        refused(good, [1, 2, 4, 3], &none),
        "attention_backward: dy has shape [1, 2, 4, 3]; expected the result's shape, [1, 2, 3, 4]"
    );
    assert_eq!(refused(good, good, &none.scale(f64::NAN)), "attention_backward: scale is NaN; it must be finite");
    let [mut dq, mut dk, mut dv, mut dsinks] = [[7.0f32; 24]; 4];
    let all = [heads(good); 3];
    let out = [(&mut dq).into(), (&mut dk[..23]).into(), (&mut dv).into()];
    let error = attention_backward_into(all, heads(good), out, None, &none).unwrap_err().to_string();
    assert_eq!(error, "attention_backward: dk has 23 elements; expected 24 elements");
    let out = [(&mut dq).into(), (&mut dk).into(), (&mut dv).into()];
    let room = Some((&mut dsinks).into());
    let error = attention_backward_into(all, heads(good), out, room, &none).unwrap_err().to_string();
    assert_eq!(error, "attention_backward: dsinks has 24 elements; expected 2 elements");
    assert_eq!(
        (dq, dk, dv),
        ([7.0; 24], [7.0; 24], [7.0; 24]),
        "a rejected call of attention_backward_into must not write to its outputs"
    );
}
