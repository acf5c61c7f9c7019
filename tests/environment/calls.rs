//! Calls that compute with floats outside their kernels: sums over threads, checks of options, merged partial results,
//! and training steps.

use crate::options::{options, samplers};
use crate::training::training;
use evenkeel::math::sum::{binned_sum, fixed_point_sum, tiled_sum};
use evenkeel::sharded::{GradShard, Sharded, Threads};
use evenkeel::{
    Attention, AttentionPartial, BceWithLogits, ClipGradNorm, ClipMode, CrossEntropy, CrossEntropyPartial, Draw,
    Element, Heads, KlDiv, LayerNorm, NormPartial, NormType, Reduction, Result, RmsNorm, RmsNormLinear, Rows,
    SamplerConfig, Softmax, SoftmaxPartial,
};
use half::bf16;
use std::time::Duration;

/// Name of a call, and a closure that makes the call and returns the bits of its results.
pub type Call = (String, Box<dyn Fn() -> Vec<u64> + Sync>);

pub const ROWS: usize = 4;
pub const COLS: usize = 512;

/// Generates pseudo-random multiples of `unit` / 37. Their sums, quotients and products are inexact.
pub fn numbers<E: Element>(count: usize, unit: f64) -> Vec<E> {
    (0..count as u64).map(|i| E::from_wide(((i * 2_654_435_761 % 2003) as f64 - 1001.0) / 37.0 * unit)).collect()
}

pub fn bits<E: Element>(values: &[E]) -> Vec<u64> {
    values.iter().map(|value| value.bits()).collect()
}

/// Returns the bits of the result, or the name of the error.
fn words<T>(result: Result<T>, bits: impl FnOnce(T) -> Vec<u64>) -> Vec<u64> {
    match result {
        Ok(value) => bits(value),
        Err(error) => error.name().bytes().map(u64::from).collect(),
    }
}

/// Returns every call, on ordinary numbers and on numbers so small that their products are subnormal.
pub fn calls() -> Vec<Call> {
    let mut calls = Vec::new();
    for (size, unit) in [("", 1.0), (" of small numbers", 1e-38), (" of subnormal numbers", 1e-42)] {
        let mut add = |name: &str, run: Box<dyn Fn() -> Vec<u64> + Sync>| calls.push((format!("{name}{size}"), run));
        norms_and_losses(&mut add, unit);
        partials(&mut add, unit);
        ranks(&mut add, unit);
        training(&mut add, unit);
    }
    let mut add = |name: &str, run: Box<dyn Fn() -> Vec<u64> + Sync>| calls.push((name.to_string(), run));
    options(&mut add);
    samplers(&mut add);
    crate::features::checkpoint(&mut add);
    crate::features::candle(&mut add);
    calls
}

pub type Add<'a> = dyn FnMut(&str, Box<dyn Fn() -> Vec<u64> + Sync>) + 'a;

fn norms_and_losses(add: &mut Add<'_>, unit: f64) {
    let x = numbers::<f32>(ROWS * COLS, unit);
    let wide = numbers::<f64>(ROWS * COLS, unit);
    let (a, b) = (x.clone(), wide.clone());
    add(
        "inspect",
        Box::new(move || {
            let stats = [evenkeel::inspect(&a), evenkeel::inspect(&b)].map(|stats| stats.unwrap());
            stats.iter().flat_map(|s| [s.min, s.max, s.mean, s.std, s.max_abs].map(f64::to_bits)).collect()
        }),
    );
    for norm_type in [NormType::Two, NormType::One, NormType::Infinity] {
        for mode in [ClipMode::Exact, ClipMode::Torch] {
            let x = x.clone();
            add(
                &format!("clip_grad_norm {norm_type:?} {mode:?}"),
                Box::new(move || {
                    let (mut first, mut second) = (x[..1000].to_vec(), x[1000..].to_vec());
                    let options = ClipGradNorm::new(0.3 * 1e-37).norm_type(norm_type).mode(mode);
                    let norm = evenkeel::clip_grad_norm(&mut [(&mut first).into(), (&mut second).into()], &options);
                    [vec![norm.unwrap().to_bits()], bits(&first), bits(&second)].concat()
                }),
            );
        }
    }
    let (a, limit) = (x.clone(), 3.3 * unit);
    add(
        "clip_grad_value",
        Box::new(move || {
            let mut x = a.clone();
            evenkeel::clip_grad_value(&mut [(&mut x).into()], limit).unwrap();
            bits(&x)
        }),
    );
    let (a, weight) = (x.clone(), numbers::<f32>(COLS, 1e-3));
    add(
        "rms_norm_linear",
        Box::new(move || {
            let options = RmsNormLinear::default().norm(RmsNorm::default().weight(&weight).eps(1e-300));
            let rows = Rows::new(&a, ROWS, COLS).unwrap();
            bits(&evenkeel::rms_norm_linear(rows, rows, &options).unwrap())
        }),
    );
    let (a, targets) = (x.clone(), vec![3i64, 500, -100, 7]);
    let weight: Vec<f32> = numbers::<f32>(COLS, unit).into_iter().map(f32::abs).collect();
    for reduction in [Reduction::None, Reduction::Mean, Reduction::Sum] {
        let (a, targets, weight) = (a.clone(), targets.clone(), weight.clone());
        add(
            &format!("losses {reduction:?}"),
            Box::new(move || {
                let rows = Rows::new(&a, ROWS, COLS).unwrap();
                let options = CrossEntropy::default().weight(&weight).label_smoothing(0.1).z_loss(1e-3);
                let entropy = evenkeel::cross_entropy(rows, &targets, &options.reduction(reduction)).unwrap();
                let shares = vec![0.3f32; ROWS * COLS];
                let bce = BceWithLogits::default().reduction(reduction);
                let bce = evenkeel::bce_with_logits(rows, &shares, &bce).unwrap();
                let kl = evenkeel::kl_div(rows, &shares, &KlDiv::default().reduction(reduction)).unwrap();
                let each = [entropy, bce, kl];
                each.iter().flat_map(|loss| [bits(loss.as_slice()), vec![loss.value().to_bits()]].concat()).collect()
            }),
        );
    }
    let dloss = [0.7];
    let (a, targets) = (x.clone(), targets.clone());
    add(
        "cross_entropy_backward",
        Box::new(move || {
            let rows = Rows::new(&a, ROWS, COLS).unwrap();
            let options = CrossEntropy::default().weight(&weight);
            let (loss, dx) = evenkeel::cross_entropy_backward(rows, &targets, &dloss, &options).unwrap();
            [vec![loss.value().to_bits()], bits(&dx)].concat()
        }),
    );
    let a = x.clone();
    add(
        "attention",
        Box::new(move || {
            let heads = Heads::new(&a, [2, 2, 32, 16]).unwrap();
            let options = Attention::default().sinks(&[0.3f32, -0.1]);
            let (y, lse) = evenkeel::attention_with_lse(heads, heads, heads, &options).unwrap();
            let of = evenkeel::attention_backward(heads, heads, heads, heads, &options).unwrap();
            [bits(&y), bits(&lse), bits(&of.dq), bits(&of.dk), bits(&of.dv), bits(&of.dsinks.unwrap())].concat()
        }),
    );
    let (a, weight) = (x.clone(), numbers::<bf16>(COLS, 1e-2));
    add(
        "norm gradients",
        Box::new(move || {
            let rows = Rows::new(&a, ROWS, COLS).unwrap();
            let of_rms = evenkeel::rms_norm_backward(rows, rows, &RmsNorm::default().weight(&weight)).unwrap();
            let options = LayerNorm::default().weight(&weight).bias(&weight);
            let of_layer = evenkeel::layer_norm_backward(rows, rows, &options).unwrap();
            let dweights = [of_rms.dweight, of_layer.dweight, of_layer.dbias].map(Option::unwrap);
            [bits(&of_rms.dx), bits(&of_layer.dx), bits(&dweights.concat())].concat()
        }),
    );
    let (narrow, terms) = (x.iter().map(|v| v.abs() / 100.0).collect::<Vec<f32>>(), wide.clone());
    add(
        "sums by their rules",
        Box::new(move || {
            vec![tiled_sum(&terms).to_bits(), binned_sum(&terms).to_bits(), fixed_point_sum(&narrow) as u64]
        }),
    );
}

/// Adds calls that merge the partial results of the left and the right half of the columns.
fn partials(add: &mut Add<'_>, unit: f64) {
    fn halves<E: Element>(unit: f64) -> [Vec<E>; 2] {
        let x = numbers::<E>(ROWS * COLS, unit);
        let half = |first: usize| x.chunks(COLS).flat_map(|row| row[first..][..COLS / 2].to_vec()).collect();
        [half(0), half(COLS / 2)]
    }
    fn of<E: Element>(add: &mut Add<'_>, unit: f64) {
        const HALF: usize = COLS / 2;
        fn rows<E: Element>(halves: &[Vec<E>; 2]) -> [Rows<'_, E>; 2] {
            [0, 1].map(|i| Rows::new(&halves[i], ROWS, HALF).unwrap())
        }
        let x = halves::<E>(unit);
        let parts = x.clone();
        add(
            &format!("SoftmaxPartial of {}", E::DTYPE),
            Box::new(move || {
                let (x, options) = (rows(&parts), Softmax::default().scale(0.3));
                let mut partial = SoftmaxPartial::new(x[0], (0, COLS), &options).unwrap();
                partial.merge(SoftmaxPartial::new(x[1], (HALF, COLS), &options).unwrap()).unwrap();
                let mut sums = partial.sums(x[0], 0, &options).unwrap();
                sums.merge(partial.sums(x[1], HALF, &options).unwrap()).unwrap();
                let mut logs = partial.log_sums(x[0], 0, &options).unwrap();
                logs.merge(partial.log_sums(x[1], HALF, &options).unwrap()).unwrap();
                let y = sums.softmax(x[0], 0, &options).unwrap();
                let (log_y, lse) =
                    (logs.log_softmax(x[0], 0, &options).unwrap(), logs.logsumexp::<E>(&options).unwrap());
                [bits(&y), bits(&log_y), bits(&lse)].concat()
            }),
        );
        let parts = x.clone();
        add(
            &format!("NormPartial of {}", E::DTYPE),
            Box::new(move || {
                let (x, options) = (rows(&parts), LayerNorm::default());
                let mut partial = NormPartial::layer_norm(x[0], (0, COLS), &options).unwrap();
                partial.merge(NormPartial::layer_norm(x[1], (HALF, COLS), &options).unwrap()).unwrap();
                while let Some(mut next) = partial.next(x[0], 0).unwrap() {
                    next.merge(partial.next(x[1], HALF).unwrap().unwrap()).unwrap();
                    partial = next;
                }
                bits(&partial.finish_layer_norm(x[0], 0, &options).unwrap())
            }),
        );
        add(
            &format!("CrossEntropyPartial of {}", E::DTYPE),
            Box::new(move || {
                let (x, targets) = (rows(&x), [3i64, 500, -100, 7]);
                let options = CrossEntropy::default().label_smoothing(0.1);
                let mut partial = CrossEntropyPartial::new(x[0], (0, COLS), &targets, &options).unwrap();
                partial.merge(CrossEntropyPartial::new(x[1], (HALF, COLS), &targets, &options).unwrap()).unwrap();
                let mut sums = partial.sums(x[0], 0, &targets, &options).unwrap();
                sums.merge(partial.sums(x[1], HALF, &targets, &options).unwrap()).unwrap();
                let dx = sums.backward(x[1], HALF, &targets, &[0.7], &options).unwrap();
                [vec![sums.loss(&targets, &options).unwrap().value().to_bits()], bits(&dx)].concat()
            }),
        );
        let x = numbers::<E>(512 * 16, unit.max(1e-30));
        add(
            &format!("AttentionPartial of {}", E::DTYPE),
            Box::new(move || {
                let heads = Heads::new(&x, [1, 1, 512, 16]).unwrap();
                let part = |first: usize| Heads::new(&x[first * 16..][..256 * 16], [1, 1, 256, 16]).unwrap();
                let options = Attention::default();
                let new = |first| AttentionPartial::new(heads, part(first), part(first), (first, 512), &options);
                let mut partial = new(0).unwrap();
                partial.merge(new(256).unwrap()).unwrap();
                let (y, lse) = partial.finish::<E>(&options).unwrap();
                [bits(&y), bits(&lse)].concat()
            }),
        );
    }
    of::<f32>(add, unit);
    of::<f64>(add, unit);
}

/// Adds calls on two ranks, which are threads that inherit the environment.
fn ranks(add: &mut Add<'_>, unit: f64) {
    type Op<E> = fn(&Sharded<'_, Threads>, Rows<'_, E>) -> Result<Vec<E>>;
    fn of<E: Element>(add: &mut Add<'_>, unit: f64, ops: Vec<(&'static str, Op<E>)>) {
        for (name, op) in ops {
            let x = numbers::<E>(ROWS * COLS, unit);
            let run = move || {
                let columns = [0..COLS / 2, COLS / 2..COLS];
                let of_rank = |(comm, own): (Threads, std::ops::Range<usize>)| {
                    let x: Vec<E> = x.chunks(COLS).flat_map(|row| row[own.clone()].to_vec()).collect();
                    let rows = Rows::new(&x, ROWS, own.len()).unwrap();
                    words(op(&Sharded::new(&comm, own, COLS), rows), |y| bits(&y))
                };
                std::thread::scope(|scope| {
                    let each = Threads::new(2, Duration::from_secs(60)).unwrap().into_iter().zip(columns);
                    let ranks: Vec<_> = each.map(|rank| scope.spawn(move || of_rank(rank))).collect();
                    ranks.into_iter().flat_map(|rank| rank.join().unwrap()).collect()
                })
            };
            add(&format!("Sharded::{name} of {}", E::DTYPE), Box::new(run));
        }
    }
    fn ops<E: Element>() -> Vec<(&'static str, Op<E>)> {
        vec![
            ("softmax", |sharded, x| sharded.softmax(x, &Softmax::default())),
            ("log_softmax", |sharded, x| sharded.log_softmax(x, &Softmax::default())),
            ("logsumexp", |sharded, x| sharded.logsumexp(x, &Softmax::default())),
            ("softmax_backward", |sharded, x| sharded.softmax_backward(x, x, &Softmax::default())),
            ("log_softmax_backward", |sharded, x| sharded.log_softmax_backward(x, x, &Softmax::default())),
            ("rms_norm", |sharded, x| sharded.rms_norm(x, &RmsNorm::default())),
            ("layer_norm", |sharded, x| sharded.layer_norm(x, &LayerNorm::default())),
            ("rms_norm_backward", |sharded, x| Ok(sharded.rms_norm_backward(x, x, &RmsNorm::default())?.dx)),
            ("layer_norm_backward", |sharded, x| Ok(sharded.layer_norm_backward(x, x, &LayerNorm::default())?.dx)),
            ("logsumexp_backward", |sharded, x| {
                let dy = vec![E::from_wide(0.75); x.rows()];
                sharded.logsumexp_backward(x, &dy, &Softmax::default())
            }),
            ("cross_entropy_backward", |sharded, x| {
                let options = CrossEntropy::default().label_smoothing(0.1);
                Ok(sharded.cross_entropy_backward(x, &[3, 500, -100, 7], &[0.7], &options)?.1)
            }),
            ("sample", |sharded, x| {
                let config = SamplerConfig::default().temperature(0.7).top_k(50).top_p(0.9).min_p(0.01);
                let sampler = config.validate()?;
                let step = |row: usize| Draw { seed: 11, row: row as u64, draw: 3 }.into();
                let requests: Vec<_> =
                    (0..x.rows()).map(|row| evenkeel::Request { sampler: &sampler, step: step(row) }).collect();
                let sampled = sharded.sample(x, None, &requests)?;
                let bits = sampled.into_iter().flat_map(|sampled| {
                    let sampled = sampled.unwrap();
                    [u64::from(sampled.token), sampled.logprob.to_bits()]
                });
                // Splits the bits into words of 16 bits, which every type can hold.
                Ok(bits.flat_map(|word| (0..4).map(move |i| E::from_bits(word >> (16 * i) & 0xffff))).collect())
            }),
        ]
    }
    of::<f32>(add, unit, ops());
    of::<f64>(add, unit, ops());
    let x = numbers::<f32>(1000, unit);
    add(
        "sharded::clip_grad_norm",
        Box::new(move || {
            let of_rank = |(rank, comm): (usize, Threads)| {
                let own = if rank == 0 { 0..512 } else { 512..1000 };
                let mut grad = x[own.clone()].to_vec();
                let mut grads = [GradShard::cut(0, &mut grad, &[1000], 0, own)];
                let norm = evenkeel::sharded::clip_grad_norm(&comm, &mut grads, &ClipGradNorm::new(1e-38)).unwrap();
                [vec![norm.to_bits()], bits(&grad)].concat()
            };
            std::thread::scope(|scope| {
                let each = Threads::new(2, Duration::from_secs(60)).unwrap().into_iter().enumerate();
                let ranks: Vec<_> = each.map(|rank| scope.spawn(move || of_rank(rank))).collect();
                ranks.into_iter().flat_map(|rank| rank.join().unwrap()).collect()
            })
        }),
    );
}
