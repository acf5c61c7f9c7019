//! Errors of row functions and their gradients by row length, and of rotations by position.

use super::{Case, Curves};
use crate::naive;
use evenkeel::reference::{self, Real};
use evenkeel::testing::workloads;
use evenkeel::{
    Attention, BceWithLogits, CrossEntropy, Draw, Element, GroupNorm, Heads, KlDiv, L2Normalize, Lanes, LayerNorm,
    MeanPool, Reduction, RmsNorm, RmsNormLinear, Rope, RopeTable, Rows, SamplerConfig, Softmax, SoftmaxFromOutput,
};

const EPS: f64 = 1e-5;
/// Width of a token in `mean_pool`, and of a head in attention.
const WIDTH: usize = 8;
/// Number of columns that are rotated.
const HEAD: usize = 64;
const THETA: f64 = 10_000.0;

pub fn curves<E: Element>(op: &str) -> Option<Curves> {
    let scores = Softmax::default();
    let (rms, layer) = (RmsNorm::default().eps(EPS), LayerNorm::default().eps(EPS));
    Some(match op {
        "softmax" => lengths(|x: &[E]| {
            let exact = reference::softmax(x).unwrap_or_default();
            Case::new(exact, evenkeel::softmax(row(x), &scores), naive::softmax(x))
        }),
        "attention" => by_length("keys", attention_over::<E>),
        "attention_backward" => by_length("keys", attention_backward_over::<E>),
        "log_softmax" => lengths(|x: &[E]| {
            let exact = reference::log_softmax(x).unwrap_or_default();
            Case::new(exact, evenkeel::log_softmax(row(x), &scores), naive::log_softmax(x))
        }),
        "logsumexp" => lengths(|x: &[E]| {
            let exact = vec![reference::logsumexp(x)];
            Case::new(exact, evenkeel::logsumexp(row(x), &scores), vec![naive::logsumexp(x)])
        }),
        "softmax_backward" => lengths(|x: &[E]| {
            let dy = reversed(x);
            let exact = reference::softmax_backward(x, &dy).unwrap_or_default();
            let ours = evenkeel::softmax_backward(row(x), row(&dy), &scores);
            let largest = dy.iter().fold(0.0f64, |largest, dy| largest.max(dy.widen().abs()));
            let y = reference::softmax(x).unwrap_or_default();
            Case::new(exact, ours, naive::softmax_backward(x, &dy)).beside(|i| y[i].to_f64() * largest)
        }),
        "log_softmax_backward" => lengths(|x: &[E]| {
            let dy = reversed(x);
            let exact = reference::log_softmax_backward(x, &dy).unwrap_or_default();
            let ours = evenkeel::log_softmax_backward(row(x), row(&dy), &scores);
            let sum: f64 = dy.iter().map(|dy| dy.widen().abs()).sum();
            let y = reference::softmax(x).unwrap_or_default();
            let term = |i: usize| dy[i].widen().abs().max(y[i].to_f64() * sum);
            Case::new(exact, ours, naive::log_softmax_backward(x, &dy)).beside(term)
        }),
        "softmax_backward_from_output" => lengths(|x: &[E]| {
            let (y, dy) = (evenkeel::softmax(row(x), &scores).unwrap_or_default(), reversed(x));
            let exact = reference::softmax_backward_from_output(&y, &dy);
            let ours = evenkeel::softmax_backward_from_output(row(&y), row(&dy), &SoftmaxFromOutput::default());
            let largest = dy.iter().fold(0.0f64, |largest, dy| largest.max(dy.widen().abs()));
            let naive = naive::softmax_backward_from_output(&y, &dy);
            Case::new(exact, ours, naive).beside(|i| y[i].widen() * largest)
        }),
        "log_softmax_backward_from_output" => lengths(|x: &[E]| {
            let (y, dy) = (evenkeel::log_softmax(row(x), &scores).unwrap_or_default(), reversed(x));
            let exact = reference::log_softmax_backward_from_output(&y, &dy);
            let ours = evenkeel::log_softmax_backward_from_output(row(&y), row(&dy), &SoftmaxFromOutput::default());
            let sum: f64 = dy.iter().map(|dy| dy.widen().abs()).sum();
            let term = |i: usize| dy[i].widen().abs().max(y[i].widen().exp() * sum);
            Case::new(exact, ours, naive::log_softmax_backward_from_output(&y, &dy)).beside(term)
        }),
        "logsumexp_backward" => lengths(|x: &[E]| {
            let dy = E::from_wide(0.7);
            let exact = reference::logsumexp_backward(x, dy).unwrap_or_default();
            let ours = evenkeel::logsumexp_backward(row(x), &[dy], &scores);
            Case::new(exact, ours, naive::logsumexp_backward(x, dy))
        }),
        "cross_entropy" => lengths(|x: &[E]| {
            let (target, options) = (x.len() / 2, CrossEntropy::default());
            let exact = vec![reference::cross_entropy(x, target, &options)[0]];
            let ours = evenkeel::cross_entropy(row(x), &[target as i64], &options);
            let naive = vec![naive::cross_entropy(x, target)];
            Case::new(exact, ours.map(|loss| vec![E::from_wide(loss.value())]), naive)
        }),
        "cross_entropy_backward" => lengths(|x: &[E]| {
            let (target, options) = (x.len() / 2, CrossEntropy::default());
            let (exact, terms) = reference::cross_entropy_backward(x, target, &options, [1.0; 2]);
            let ours = evenkeel::cross_entropy_backward(row(x), &[target as i64], &[1.0], &options);
            let naive = naive::cross_entropy_backward(x, target);
            Case::new(exact, ours.map(|(_, dx)| dx), naive).beside(|i| terms[i])
        }),
        "bce_with_logits" => lengths(|x: &[E]| {
            let term = |x: &E| reference::bce_with_logits(*x, 0.25, 1.0);
            let exact = x.iter().map(term).fold(E::Exact::from(0.0), |sum, term| sum + term);
            let options = BceWithLogits::default().reduction(Reduction::Sum);
            let ours = evenkeel::bce_with_logits(row(x), &vec![0.25f32; x.len()], &options);
            let ours = ours.map(|loss| vec![E::from_wide(loss.value())]);
            Case::new(vec![exact], ours, vec![naive::bce_with_logits(x, 0.25)])
        }),
        "kl_div" => lengths(|x: &[E]| {
            let p = vec![1.0 / x.len() as f64; x.len()];
            let (exact, magnitudes) = reference::kl_div(x, &p, false, 1.0);
            let ours = evenkeel::kl_div(row(x), &p, &KlDiv::default());
            let ours = ours.map(|loss| vec![E::from_wide(loss.value())]);
            Case::new(vec![exact], ours, vec![naive::kl_div(x, &p)]).beside(|_| magnitudes)
        }),
        "sample" => lengths(|x: &[E]| {
            let sampler =
                SamplerConfig::default().validate().expect("the default options of the sampler must be valid");
            let ours = sampler.distribution(x, None, Draw::default());
            let ours = ours.map(|kept| kept.logprobs().map(E::from_wide).collect());
            Case::new(reference::log_softmax(x).unwrap_or_default(), ours, naive::log_softmax(x))
        }),
        "l2_normalize" => lengths(|x: &[E]| {
            let ours = evenkeel::l2_normalize(row(x), &L2Normalize::default());
            Case::new(reference::l2_normalize(x, 1e-12), ours, naive::l2_normalize(x, 1e-12))
        }),
        "rms_norm" => lengths(|x: &[E]| {
            let exact = reference::rms_norm(x, None, 0.0, EPS);
            Case::new(exact, evenkeel::rms_norm(row(x), &rms), naive::rms_norm(x, EPS))
        }),
        "layer_norm" => lengths(|x: &[E]| {
            let exact = reference::layer_norm(x, None, None, EPS);
            Case::new(exact, evenkeel::layer_norm(row(x), &layer), naive::layer_norm(x, EPS)).beside(|_| 1.0)
        }),
        "group_norm" => lengths(|x: &[E]| {
            let exact = reference::group_norm(x, 1, 1, None, None, EPS);
            let ours = evenkeel::group_norm(lanes(x, 1), &GroupNorm::new(1).eps(EPS));
            Case::new(exact, ours, naive::layer_norm(x, EPS)).beside(|_| 1.0)
        }),
        "rms_norm_backward" => lengths(|x: &[E]| {
            let dy = reversed(x);
            let exact = reference::rms_norm_backward(x, &dy, None, 0.0, EPS);
            let ours = evenkeel::rms_norm_backward(row(x), row(&dy), &rms).map(|gradients| gradients.dx);
            Case::new(exact, ours, naive::rms_norm_backward(x, &dy, EPS)).beside(|_| 1.0)
        }),
        "layer_norm_backward" => lengths(|x: &[E]| {
            let dy = reversed(x);
            let exact = reference::layer_norm_backward(x, &dy, None, EPS);
            let ours = evenkeel::layer_norm_backward(row(x), row(&dy), &layer).map(|gradients| gradients.dx);
            Case::new(exact, ours, naive::layer_norm_backward(x, &dy, EPS)).beside(|_| 1.0)
        }),
        "mean_pool" => by_length("tokens", |tokens| {
            // All numbers have the same sign. If the terms cancelled, even a small rounding error would be many ULP of
            // the sum.
            let x = workloads::numbers::<E>(tokens * WIDTH);
            let x: Vec<E> = x.iter().map(|x| E::from_wide(x.widen().abs())).collect();
            let ours = evenkeel::mean_pool(lanes(&x, WIDTH), &MeanPool::default());
            Case::new(reference::mean_pool(&x, WIDTH, |_| true), ours, naive::mean_pool(&x, WIDTH))
        }),
        "mean_pool_backward" => by_length("tokens", |tokens| {
            let dy = workloads::numbers::<E>(WIDTH);
            let exact = reference::mean_pool_backward(&dy, tokens, |_| true);
            let ours = evenkeel::mean_pool_backward(&dy, [1, tokens, WIDTH], &MeanPool::default());
            Case::new(exact, ours, naive::mean_pool_backward(&dy, tokens))
        }),
        "qk_norm_rope" => by_length("position", |position| {
            let (x, table) = head::<E>(position);
            let rope = Rope::default().theta(THETA);
            let exact = reference::qk_norm_rope(&x, None, 0.0, EPS, (position as i64, &rope));
            let ours = evenkeel::qk_norm_rope(row(&x), &table, &RmsNorm::default().eps(EPS));
            let normalised: Vec<E> =
                reference::rms_norm(&x, None, 0.0, EPS).into_iter().map(|n| E::from_wide(n.to_f64())).collect();
            Case::new(exact, ours, naive::rope(&naive::rms_norm(&x, EPS), position as i64, THETA))
                .beside(move |i| of_pair(&normalised, i))
        }),
        "rms_norm_linear" => lengths(|x: &[E]| {
            let (matrix, eps) = (reversed(x), rms.eps);
            let (exact, terms) = reference::rms_norm_linear(x, &matrix, None, 0.0, eps, &[0.0]);
            let ours = evenkeel::rms_norm_linear(row(x), row(&matrix), &RmsNormLinear::default().norm(rms));
            Case::new(exact, ours, naive::rms_norm_linear(x, &matrix, eps)).beside(move |i| terms[i])
        }),
        "rope" => by_length("position", |position| {
            let (x, table) = head::<E>(position);
            let exact = reference::rope(&x, position as i64, &Rope::default().theta(THETA));
            Case::new(exact, evenkeel::rope(row(&x), &table), naive::rope(&x, position as i64, THETA))
                .beside(|i| of_pair(&x, i))
        }),
        "rope_backward" => by_length("position", |position| {
            let (dy, table) = head::<E>(position);
            let exact = reference::rope_backward(&dy, position as i64, &Rope::default().theta(THETA));
            let naive = naive::rope_backward(&dy, position as i64, THETA);
            Case::new(exact, evenkeel::rope_backward(row(&dy), &table), naive).beside(|i| of_pair(&dy, i))
        }),
        _ => return None,
    })
}

/// One query with its keys, its values, and the exact logits.
struct Attended<E: Element> {
    q: Vec<E>,
    k: Vec<E>,
    v: Vec<E>,
    logits: Vec<E::Exact>,
    values: Vec<Vec<E::Exact>>,
}

impl<E: Element> Attended<E> {
    fn new(keys: usize) -> Self {
        let q = workloads::numbers::<E>(WIDTH);
        let [k, v] = [0, 1]
            .map(|part| workloads::numbers::<E>(2 * keys * WIDTH)[part * keys * WIDTH..][..keys * WIDTH].to_vec());
        let product =
            |key: &[E]| q.iter().zip(key).fold(E::Exact::from(0.0), |sum, (q, k)| sum + exact::<E>(q) * exact::<E>(k));
        let scale = E::Exact::from((WIDTH as f64).sqrt());
        let logits = k.chunks(WIDTH).map(|key| product(key) / scale).collect();
        let values = v.chunks(WIDTH).map(|value| value.iter().map(exact::<E>).collect()).collect();
        Attended { q, k, v, logits, values }
    }

    fn values(&self) -> Vec<&[E::Exact]> {
        self.values.iter().map(Vec::as_slice).collect()
    }

    fn views(&self) -> [Heads<'_, E>; 3] {
        let view = |data| {
            Heads::new(data, [1, 1, data.len() / WIDTH, WIDTH])
                .expect("the lengths of q, k and v must be multiples of the head width")
        };
        [view(&self.q), view(&self.k), view(&self.v)]
    }
}

fn exact<E: Element>(x: &E) -> E::Exact {
    E::Exact::from(x.widen())
}

fn attention_over<E: Element>(keys: usize) -> Case<E> {
    let attended = Attended::<E>::new(keys);
    let exact = reference::attention_of(&attended.logits, &attended.values(), None);
    let [q, k, v] = attended.views();
    let ours = evenkeel::attention(q, k, v, &Attention::default());
    let largest = attended.v.iter().fold(0.0f64, |largest, v| largest.max(v.widen().abs()));
    let naive = naive::attention(&attended.q, &attended.k, &attended.v);
    Case::new(exact.map_or_else(Vec::new, |(y, _)| y), ours, naive).beside(move |_| largest)
}

/// Measures the errors of the query's gradient, for one query and `keys` keys.
fn attention_backward_over<E: Element>(keys: usize) -> Case<E> {
    let attended = Attended::<E>::new(keys);
    let dy = reversed(&attended.q);
    let grads: Vec<E::Exact> = dy.iter().map(exact::<E>).collect();
    let of = reference::attention_backward_of(&attended.logits, &attended.values(), None, &grads);
    let of = of.expect("attention without a mask must have gradients");
    let scale = E::Exact::from((WIDTH as f64).sqrt());
    let sum = |i: usize| {
        let terms = attended.k.chunks(WIDTH).zip(&of.dlogits);
        terms.fold(E::Exact::from(0.0), |sum, (key, &dlogit)| sum + dlogit * exact::<E>(&key[i])) / scale
    };
    let [q, k, v] = attended.views();
    let view = Heads::new(&dy, [1, 1, 1, WIDTH]).expect("the length of dy must equal the head width");
    let ours = evenkeel::attention_backward(q, k, v, view, &Attention::default()).map(|gradients| gradients.dq);
    let naive = naive::attention_backward(&attended.q, &attended.k, &attended.v, &dy);
    // The gradient of a logit is a difference of two terms, which may cancel. The unit of error is therefore the ULP of
    // a bound on these terms. The magnitudes of the two terms, summed over all keys, add up to at most 2 * `mean`.
    let of_value =
        |value: &Vec<E::Exact>| value.iter().zip(&grads).map(|(&v, &dy)| (v * dy).to_f64().abs()).sum::<f64>();
    let weights: Vec<f64> = of.weights.iter().map(|weight| weight.to_f64()).collect();
    let mean: f64 = attended.values.iter().zip(&weights).map(|(value, weight)| weight * of_value(value)).sum();
    let largest = attended.k.iter().fold(0.0f64, |largest, k| largest.max(k.widen().abs()));
    Case::new((0..WIDTH).map(sum).collect(), ours, naive).beside(move |_| 2.0 * mean * largest / scale.to_f64())
}

/// Returns the elements of one head, and the rotation table for a position.
fn head<E: Element>(position: usize) -> (Vec<E>, RopeTable) {
    let table = RopeTable::new(&[position as i64], HEAD, &Rope::default().theta(THETA));
    (workloads::numbers(HEAD), table.expect("RopeTable must accept any position"))
}

/// Returns the larger of two magnitudes: of element `i`, and of its partner in the rotation.
fn of_pair<E: Element>(x: &[E], i: usize) -> f64 {
    x[i].widen().abs().max(x[(i + HEAD / 2) % HEAD].widen().abs())
}

/// Returns the row in reverse order. The plots use it as a gradient.
fn reversed<E: Element>(x: &[E]) -> Vec<E> {
    x.iter().rev().copied().collect()
}

fn row<E: Element>(x: &[E]) -> Rows<'_, E> {
    Rows::new(x, 1, x.len()).expect("one row of all elements must be a valid view")
}

fn lanes<E: Element>(x: &[E], width: usize) -> Lanes<'_, E> {
    Lanes::new(x, 1, x.len() / width, width).expect("lanes of this width must be a valid view of the elements")
}

/// Measures rows of increasing length, whose numbers have mean 0 and standard deviation 3.
fn lengths<E: Element>(case: impl Fn(&[E]) -> Case<E>) -> Curves {
    by_length("row length (elements)", |len| case(&workloads::numbers(len)))
}

/// Measures the errors of an op at lengths (or positions) from 2 to 131,072.
fn by_length<E: Element>(axis: &'static str, case: impl Fn(usize) -> Case<E>) -> Curves {
    let lengths = (4..=68).map(|step| 2f64.powf(f64::from(step) / 4.0).round() as usize);
    Curves::new(axis, true, lengths.map(|len| (len as f64, case(len))))
}
