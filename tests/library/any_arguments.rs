//! Random calls with counts, strides and parameters at the limits of their types. No call panics, even with overflow
//! checks. Calls report a failed allocation only for sizes that exceed the memory of any machine.
//!
//! Each count is either below 4, or so large that no machine has the memory: 2^47 bytes exceed the address space of a
//! process.

use crate::support::generate::{self, Bits};
use evenkeel::*;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt};
use std::panic::{AssertUnwindSafe, catch_unwind};

const MAX: usize = usize::MAX;

/// Returns 0, a count below 4, or a count from 2^47 to `usize::MAX`.
fn count(rng: &mut SmallRng) -> usize {
    const LARGE: [usize; 14] = [
        1 << 47,
        (1 << 47) + 1,
        1 << 56,
        1 << 58,
        1 << 59,
        1 << 60,
        1 << 61,
        1 << 62,
        (1 << 62) + 1,
        (1 << 63) - 1,
        1 << 63,
        (1 << 63) + 1,
        MAX - 1,
        MAX,
    ];
    match rng.random_range(0..10) {
        0..=2 => 0,
        3..=6 => rng.random_range(1..4),
        _ => LARGE[rng.random_range(0..LARGE.len())],
    }
}

fn number(rng: &mut SmallRng) -> f64 {
    const ENDS: [f64; 14] = [
        0.0,
        -0.0,
        1.0,
        0.5,
        -1.0,
        1e-5,
        5e-324,
        1e300,
        f64::MAX,
        f64::MIN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        2.0,
    ];
    ENDS[rng.random_range(0..ENDS.len())]
}

fn whole(rng: &mut SmallRng) -> i64 {
    [0, 1, -1, 2, -100, i64::MAX, i64::MIN, i64::MIN + 1, 1 << 53][rng.random_range(0..9)]
}

/// Generates the data for a view with these counts, or a few elements if the data would not fit in memory.
fn data<E: Element>(counts: &[usize], rng: &mut SmallRng) -> Vec<E> {
    let elements = counts.iter().try_fold(1usize, |all, &count| all.checked_mul(count)).unwrap_or(0);
    let len = if elements <= 64 { elements } else { rng.random_range(0..8) };
    (0..len).map(|_| E::from_wide(number(rng))).collect()
}

/// Random calls of the crate's functions. Only panics and errors are examined, not results.
struct Calls<'r, E> {
    rng: &'r mut SmallRng,
    /// Descriptions of the calls that panicked.
    calls: Vec<String>,
    element: std::marker::PhantomData<E>,
}

impl<E: Bits> Calls<'_, E> {
    fn call<T>(&mut self, what: impl FnOnce() -> String, run: impl FnOnce() -> Result<T>) {
        let result = catch_unwind(AssertUnwindSafe(run));
        match result {
            Ok(Ok(_)) => (),
            Ok(Err(error)) => {
                assert!(!error.to_string().is_empty() && !error.name().is_empty());
                if let Error::OutOfMemory { bytes, .. } = error {
                    assert!(
                        bytes >= 1 << 47,
                        "{}: an allocation of fewer than 2^47 bytes must not fail, got: {error}",
                        what()
                    );
                }
            }
            Err(_) => self.calls.push(what()),
        }
    }

    fn softmax<'a>(&mut self, mask: &'a Mask<'a>) -> Softmax<'a> {
        let rng = &mut *self.rng;
        let mut options = Softmax::default();
        options.mask = rng.random_bool(0.3).then_some(mask);
        if rng.random_bool(0.2) {
            options.scale = number(rng);
        }
        if rng.random_bool(0.2) {
            options.softcap = Some(number(rng));
        }
        let policies = [FullyMasked::Zeros, FullyMasked::Uniform, FullyMasked::Error];
        options.fully_masked(policies[rng.random_range(0..3)])
    }

    fn rows(&mut self) {
        let rng = &mut *self.rng;
        let dims: Vec<usize> = (0..rng.random_range(1..4)).map(|_| count(rng)).collect();
        let mut counts = dims.clone();
        let (values, cols) = (data::<E>(&dims, rng), *dims.last().unwrap());
        let (stride, window, length) = (count(rng), count(rng), [count(rng)]);
        let offset = whole(rng) as isize;
        let strided = rng.random_bool(0.2);
        counts.extend([stride, window, length[0]]);
        let flags = vec![1u8; values.len()];
        let mask = match rng.random_range(0..5) {
            0 => Mask::causal().offset(offset),
            1 => Mask::window(window).offset(offset),
            2 => Mask::lengths(&length),
            3 => Mask::keep(&flags, &dims),
            _ => Mask::bias(&values, &dims).and_causal(),
        };
        let options = self.softmax(&mask);
        let rows = dims[..dims.len() - 1].iter().fold(1, |all: usize, &dim| all.wrapping_mul(dim));
        let view = if strided { Rows::strided(&values, rows, cols, stride) } else { Rows::shaped(&values, &dims) };
        let Ok(x) = view else { return };
        let what = |op: &str| format!("{op} of {} {dims:?}, stride {stride}, {counts:?}, {options:?}", E::DTYPE);
        let (eps, offset) = (number(self.rng), number(self.rng));
        let groups = count(self.rng);
        let weight: &[E] = &[];
        let rms = RmsNorm::default().eps(eps).weight_offset(offset);
        let layer = LayerNorm::default().eps(eps);
        let weighted = RmsNorm::default().weight(weight);
        let dloss = vec![number(self.rng); self.rng.random_range(0..3)];
        let targets: Vec<i64> = (0..self.rng.random_range(0..3)).map(|_| whole(self.rng)).collect();
        let positions: Vec<i64> = (0..self.rng.random_range(0..3)).map(|_| whole(self.rng)).collect();
        let (first, all) = (count(self.rng), count(self.rng));
        let smoothed = CrossEntropy::default().label_smoothing(number(self.rng)).z_loss(number(self.rng));
        self.call(|| what("softmax"), || softmax(x, &options));
        self.call(|| what("log_softmax"), || log_softmax(x, &options));
        self.call(|| what("logsumexp"), || logsumexp(x, &options));
        self.call(|| what("softmax_backward"), || softmax_backward(x, x, &options));
        self.call(|| what("log_softmax_backward"), || log_softmax_backward(x, x, &options));
        let from = SoftmaxFromOutput::default().scale(options.scale);
        self.call(|| what("softmax_backward_from_output"), || softmax_backward_from_output(x, x, &from));
        self.call(|| what("log_softmax_backward_from_output"), || log_softmax_backward_from_output(x, x, &from));
        self.call(|| what("logsumexp_backward"), || logsumexp_backward(x, &values, &options));
        self.call(|| what("rms_norm"), || rms_norm(x, &rms));
        self.call(|| what("rms_norm, weighted"), || rms_norm(x, &weighted));
        self.call(|| what("rms_norm_residual"), || rms_norm_residual(x, x, &rms));
        self.call(|| what("rms_norm_backward"), || rms_norm_backward(x, x, &rms));
        self.call(|| what("rms_norm_backward, weighted"), || rms_norm_backward(x, x, &weighted));
        self.call(|| what("layer_norm"), || layer_norm(x, &layer));
        self.call(|| what("layer_norm_backward"), || layer_norm_backward(x, x, &layer.weight(weight).bias(weight)));
        self.call(|| what("group_norm"), || group_norm(x, &GroupNorm::new(groups).eps(eps)));
        self.call(|| what("l2_normalize"), || l2_normalize(x, &L2Normalize::default().eps(eps)));
        self.call(|| what("rms_norm_linear"), || rms_norm_linear(x, x, &RmsNormLinear::default().norm(rms)));
        let results = Rows::<E>::new(&[], groups, 0);
        if let Ok(matrix) = results {
            self.call(|| what("rms_norm_linear of none"), || rms_norm_linear(x, matrix, &RmsNormLinear::default()));
        }
        let kl = KlDiv::default().scale(if eps.is_nan() { 1.0 } else { eps });
        self.call(|| what("kl_div"), || kl_div(x, &values, &kl));
        let of_logs = kl.log_probs(true);
        self.call(|| what("kl_div, log_probs"), || kl_div(x, &values, &of_logs));
        self.call(|| what("kl_div_backward"), || kl_div_backward(x, &values, &dloss, &kl));
        let bce = BceWithLogits::default();
        self.call(|| what("bce_with_logits"), || bce_with_logits(x, &values, &bce));
        let focal = bce.focal_gamma(2.0).alpha(0.25);
        self.call(|| what("focal loss"), || bce_with_logits_backward(x, &values, &dloss, &focal));
        self.call(|| what("bce, none"), || bce_with_logits(x, &values, &bce.reduction(Reduction::None)));
        self.call(|| what("bce_with_logits_backward"), || bce_with_logits_backward(x, &values, &dloss, &bce));
        self.call(|| what("cross_entropy"), || cross_entropy(x, &targets, &smoothed));
        self.call(|| what("cross_entropy_backward"), || cross_entropy_backward(x, &targets, &dloss, &smoothed));
        let tables = || RopeTable::new(&positions, if x.cols() == 0 { groups } else { x.cols() }, &Rope::default());
        self.call(|| what("rope"), || rope(x, &tables()?));
        self.call(|| what("rope_backward"), || rope_backward(x, &tables()?));
        self.call(|| what("qk_norm_rope"), || qk_norm_rope(x, &tables()?, &rms));
        let place = format!("columns {first} of {all}");
        self.call(
            || what(&place),
            || {
                let partial = SoftmaxPartial::new(x, (first, all), &options)?;
                partial.sums(x, first, &options)?.softmax(x, first, &options)
            },
        );
        self.call(
            || what(&place),
            || {
                let partial = SoftmaxPartial::new(x, (first, all), &options)?;
                partial.log_sums(x, first, &options)?.logsumexp::<E>(&options)
            },
        );
        self.call(
            || what(&place),
            || {
                let partial = NormPartial::rms_norm(x, (first, all), &rms)?;
                partial.next(x, first)?;
                partial.finish_rms_norm(x, first, &rms)
            },
        );
        self.call(
            || what(&place),
            || {
                let partial = NormPartial::layer_norm(x, (first, all), &layer)?;
                partial.next(x, first)?;
                partial.finish_layer_norm(x, first, &layer)
            },
        );
        self.call(
            || what(&place),
            || {
                let partial = CrossEntropyPartial::new(x, (first, all), &targets, &smoothed)?;
                partial.sums(x, first, &targets, &smoothed)?.loss(&targets, &smoothed)
            },
        );
        let sampler = SamplerConfig::default().validate().unwrap();
        let request = |_: usize| Request { sampler: &sampler, step: Draw::default().into() };
        self.call(|| what("sample_rows_into"), || sample_rows_into(x, options.mask, request, &mut Vec::new()));
        self.call(
            || what("trace"),
            || {
                let (point, _) = trace::scope(|| trace::point("here", &values, cols));
                point
            },
        );
    }

    fn lanes(&mut self) {
        let rng = &mut *self.rng;
        let dims: Vec<usize> = (0..rng.random_range(1..5)).map(|_| count(rng)).collect();
        let (values, axis) = (data::<E>(&dims, rng), whole(rng) as isize);
        let axis = if rng.random_bool(0.8) { rng.random_range(0..dims.len()) as isize } else { axis };
        let (shape, length) = ([count(rng), count(rng), count(rng)], [count(rng)]);
        let mask = Mask::lengths(&length);
        let pool = if rng.random_bool(0.5) { MeanPool::default() } else { MeanPool::default().mask(&mask) };
        let groups = count(rng);
        let none = Mask::none();
        let options = self.softmax(&none);
        let what = |op: &str| format!("{op} of {} {dims:?} along {axis}, {shape:?}, {length:?}, {options:?}", E::DTYPE);
        self.call(|| what("mean_pool_backward"), || mean_pool_backward(&values, shape, &pool));
        let Ok(x) = Lanes::shaped(&values, &dims, axis) else { return };
        self.call(|| what("softmax"), || softmax(x, &options));
        self.call(|| what("logsumexp"), || logsumexp(x, &options));
        self.call(|| what("log_softmax"), || log_softmax(x, &options));
        self.call(|| what("softmax_backward"), || softmax_backward(x, x, &options));
        self.call(|| what("logsumexp_backward"), || logsumexp_backward(x, &values, &options));
        self.call(|| what("l2_normalize"), || l2_normalize(x, &L2Normalize::default()));
        self.call(|| what("group_norm"), || group_norm(x, &GroupNorm::new(groups)));
        self.call(|| what("mean_pool"), || mean_pool(x, &pool));
        let mut out = values.clone();
        self.call(
            || what("mean_pool_backward_into"),
            || mean_pool_backward_into(&values, LanesMut::shaped(&mut out, &dims, axis)?, &pool).map(|_| ()),
        );
    }

    fn heads(&mut self) {
        let rng = &mut *self.rng;
        // The shapes fit each other in nine of ten cases. In the other cases, one count does not fit.
        let [batch, of_keys, queries, keys, features, of_values, group] = std::array::from_fn(|_| count(rng));
        let heads = of_keys.wrapping_mul(group);
        let mut shapes = [
            [batch, heads, queries, features],
            [batch, of_keys, keys, features],
            [batch, of_keys, keys, of_values],
            [batch, heads, queries, of_values],
        ];
        if rng.random_bool(0.1) {
            shapes[rng.random_range(0..4)][rng.random_range(0..4)] = count(rng);
        }
        let strides: [usize; 3] = std::array::from_fn(|_| if rng.random_bool(0.6) { 0 } else { count(rng) });
        let is_strided = rng.random_bool(0.5);
        let values = shapes.map(|shape| data::<E>(&shape, rng));
        let (first, all) = (count(rng), count(rng));
        let sinks: Vec<f64> = vec![0.5; rng.random_range(0..3)];
        let none = Mask::none();
        let Softmax { fully_masked, softcap, .. } = self.softmax(&none);
        let mut options = Attention::default().fully_masked(fully_masked);
        options.softcap = softcap;
        options.sinks = (sinks.len() > 1).then(|| (&sinks).into());
        let what = |op: &str| {
            format!("{op} of {} {shapes:?}, strides {strides:?} {is_strided}, {first} of {all}, {options:?}", E::DTYPE)
        };
        let view = |i: usize| {
            let (data, shape): (&[E], _) = (&values[i], shapes[i]);
            if is_strided { Heads::strided(data, shape, strides) } else { Heads::new(data, shape) }
        };
        let views = catch_unwind(AssertUnwindSafe(|| [view(0), view(1), view(2), view(3)]));
        let Ok(views) = views else { return self.calls.push(what("views")) };
        let [Ok(q), Ok(k), Ok(v), Ok(dy)] = views else { return };
        self.call(|| what("attention"), || attention(q, k, v, &options));
        self.call(|| what("attention_with_lse"), || attention_with_lse(q, k, v, &options));
        self.call(|| what("attention_backward"), || attention_backward(q, k, v, dy, &options));
        self.call(
            || what("attention, in parts"),
            || AttentionPartial::new(q, k, v, (first, all), &options)?.finish::<E>(&options),
        );
        let mut out = values[3].clone();
        self.call(|| what("attention_into"), || attention_into(q, k, v, &mut out, &options).map(|_| ()));
    }
}

/// Checks that no op panics on views with random counts.
fn any_counts<E: Bits>() {
    let mut rng = generate::rng(&format!("extremes, {}", E::DTYPE));
    let mut calls = Calls::<E> { rng: &mut rng, calls: Vec::new(), element: std::marker::PhantomData };
    for _ in 0..20_000 {
        calls.rows();
        calls.lanes();
        calls.heads();
    }
    let panics = calls.calls;
    assert!(panics.is_empty(), "{} calls panicked:\n{}", panics.len(), panics[..panics.len().min(50)].join("\n"));
}

for_each_dtype!(any_counts);

#[test]
fn any_views() {
    let mut rng = generate::rng("extremes, views");
    for _ in 0..200_000 {
        let mut counts: [usize; 5] = std::array::from_fn(|_| count(&mut rng));
        let [a, b, c, d, e] = counts;
        let mut values = data::<f32>(&[a, b], &mut rng);
        let axis = whole(&mut rng) as isize;
        let made = catch_unwind(AssertUnwindSafe(|| {
            let rows = Rows::new(&values, a, b).map(|x| (x.rows(), x.cols()));
            assert!(rows.is_err() || rows == Ok((a, b)));
            let _ = Rows::strided(&values, a, b, c).map(|x| x.rows());
            let _ = Rows::shaped(&values, &counts).map(|x| x.rows());
            let _ = Lanes::new(&values, a, b, c).map(|x| (x.lanes(), x.len()));
            let _ = Lanes::shaped(&values, &counts, axis).map(|x| (x.lanes(), x.len()));
            let _ = Heads::new(&values, [a, b, c, d]).map(|x| x.shape());
            let _ = Heads::strided(&values, [a, b, c, d], [e, a, b]).map(|x| x.shape());
            let _ = RowsMut::strided(&mut values[..], a, b, d).map(|x| x.rows());
            let _ = LanesMut::shaped(&mut values[..], &counts, axis).map(|x| x.lanes());
        }));
        assert!(
            made.is_ok(),
            "making a view with the shape {counts:?}, the axis {axis} and {} elements must not panic",
            values.len()
        );
        counts.reverse();
    }
}

/// Checks that a sampler with random parameters is rejected or draws a token of the vocabulary.
#[test]
fn any_sampler() {
    let mut rng = generate::rng("extremes, samplers");
    let rng = &mut rng;
    let mut drawn = 0;
    for _ in 0..200_000 {
        fn some<T>(rng: &mut SmallRng, of: fn(&mut SmallRng) -> T) -> Option<T> {
            rng.random_bool(0.15).then(|| of(rng))
        }
        let mut config = SamplerConfig::default().profile(Profile::ALL[rng.random_range(0..5)]);
        config.temperature = some(rng, number).unwrap_or(1.0);
        config.dynamic_temperature = some(rng, number).unwrap_or(0.0);
        config.dynamic_exponent = some(rng, number).unwrap_or(1.0);
        (config.top_k, config.top_p) = (some(rng, count), some(rng, number));
        (config.min_p, config.typical_p) = (some(rng, number), some(rng, number));
        (config.top_n_sigma, config.epsilon_cutoff) = (some(rng, number), some(rng, number));
        (config.eta_cutoff, config.penalty_window) = (some(rng, number), some(rng, count));
        config.xtc_probability = some(rng, number).unwrap_or(0.0);
        config.xtc_threshold = some(rng, number).unwrap_or(0.1);
        config.min_keep = some(rng, count).unwrap_or(1);
        config.repetition_penalty = some(rng, number).unwrap_or(1.0);
        config.presence_penalty = some(rng, number).unwrap_or(0.0);
        config.frequency_penalty = some(rng, number).unwrap_or(0.0);
        config.dry_multiplier = some(rng, number).unwrap_or(0.0);
        config.dry_base = some(rng, number).unwrap_or(1.75);
        config.dry_allowed_length = some(rng, count).unwrap_or(2);
        config.dry_window = some(rng, count);
        config.logprob = rng.random_bool(0.8);
        let logits: Vec<f32> = (0..rng.random_range(0..7)).map(|_| number(rng) as f32).collect();
        let known = if rng.random_bool(0.1) { 5 } else { 3 };
        let token = |rng: &mut SmallRng| [0, 1, 2, 5, u32::MAX][rng.random_range(0..known)];
        let tokens: Vec<u32> = (0..rng.random_range(0..6)).map(|_| token(rng)).collect();
        let bias = [(token(rng), number(rng) as f32)];
        let words = [vec![token(rng)], vec![], vec![token(rng), token(rng)]];
        let allowed = [rng.next_u32()];
        let draw = Draw { seed: rng.next_u64(), row: u64::MAX, draw: u64::MAX };
        let mut step =
            Step::from(draw).prompt(&tokens).output(&tokens[tokens.len() / 2..]).breakers(&tokens[..tokens.len() / 3]);
        if rng.random_bool(0.2) {
            step = step.bias(&bias).bad_words(&words);
        }
        if rng.random_bool(0.2) {
            step = step.allowed(&allowed);
        }
        let (n, vocabulary) = (count(rng), logits.len());
        let sampled = catch_unwind(AssertUnwindSafe(|| {
            let sampler = config.validate()?;
            let distribution = sampler.distribution(&logits, None, step)?;
            assert!(distribution.top_logprobs(n).len() <= vocabulary);
            distribution.probs()?;
            distribution.verify(&distribution, u32::MAX, draw);
            sampler.sample(&logits, step)
        }));
        match sampled {
            Ok(Ok(sampled)) => {
                assert!(
                    (sampled.token as usize) < vocabulary,
                    "sampler {config:?}, logits {logits:?}: the token must be below {vocabulary}, got {sampled:?}"
                );
                drawn += 1;
            }
            Ok(Err(error)) => assert!(!error.to_string().is_empty()),
            Err(_) => panic!("the sampler {config:?} must not panic with the logits {logits:?} and {step:?}"),
        }
    }
    // Most configurations and logits are rejected, so check that enough were accepted.
    assert!(drawn > 1000, "more than 1000 random sampler calls must draw a token, got {drawn}");
}
