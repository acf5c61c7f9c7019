//! Tests of instruction sets from the user's view: every op on every set, the environment variable, and rejected
//! values.

use crate::support::generate::{self, Bits};
use crate::support::implementations::each_level;
use evenkeel::simd::{Level, level, with_level};
use evenkeel::{
    Attention, ClipGradNorm, CrossEntropy, Draw, Element, Error, GroupNorm, Heads, L2Normalize, Lanes, LayerNorm,
    MeanPool, RmsNorm, RmsNormLinear, Rope, RopeTable, Rows, SamplerConfig, Softmax, clip_grad_norm, clip_grad_value,
    cross_entropy_backward, exp, inspect, layer_norm, log_softmax, logsumexp, rms_norm, rope, softmax,
};
use std::process::Command;

for_each_dtype!(every_op_gives_the_same_bits_on_every_level);

/// Computes attention with the rows as queries, keys and values of one head.
fn attended<E: Element>(x: &[E], rows: usize, cols: usize) -> Vec<E> {
    let heads = Heads::new(x, [1, 1, rows, cols]).unwrap();
    evenkeel::attention(heads, heads, heads, &Attention::default().scale(0.3).softcap(15.0)).unwrap()
}

/// Computes the gradients of [`attended`] with respect to queries, keys and values.
fn attended_backward<E: Element>(x: &[E], dy: &[E], rows: usize, cols: usize) -> Vec<E> {
    let [heads, dy] = [x, dy].map(|data| Heads::new(data, [1, 1, rows, cols]).unwrap());
    let options = Attention::default().scale(0.3).softcap(15.0);
    let gradients = evenkeel::attention_backward(heads, heads, heads, dy, &options).unwrap();
    [gradients.dq, gradients.dk, gradients.dv].concat()
}

/// Returns the bits of every op's results on one batch.
fn results<E: Element>(x: &[E], rows: usize, cols: usize) -> Vec<(&'static str, Vec<u64>)> {
    let view = Rows::new(x, rows, cols).unwrap();
    let bits = |values: Vec<E>| values.into_iter().map(E::bits).collect::<Vec<u64>>();
    let options = Softmax::default().scale(0.3).softcap(15.0);
    let dy: Vec<E> = x.iter().rev().copied().collect();
    let grads = Rows::new(&dy, rows, cols).unwrap();
    let table = RopeTable::new(&[123_456], cols, &Rope::default()).unwrap();
    let sampler = SamplerConfig::default().temperature(0.9).top_k(20).top_p(0.8).min_p(0.01).validate().unwrap();
    let draws: Vec<Draw> = (0..rows as u64).map(|row| Draw { seed: 5, row, draw: 1 }).collect();
    let sampled = sampler.sample_rows(view, None, &draws).unwrap();
    let sampled = sampled.into_iter().map(Result::unwrap).flat_map(|s| [u64::from(s.token), s.logprob.to_bits()]);
    let stats = inspect(x).unwrap();
    let [mut by_norm, mut by_value] = [x.to_vec(), x.to_vec()];
    let norm = clip_grad_norm(&mut [(&mut by_norm).into()], &ClipGradNorm::new(0.7)).unwrap();
    clip_grad_value(&mut [(&mut by_value).into()], 0.7).unwrap();
    let weight = &x[..cols];
    let pool = MeanPool::default();
    let gated = evenkeel::swiglu_backward(x, &dy, x).unwrap();
    let rms = evenkeel::rms_norm_backward(view, grads, &RmsNorm::default().weight(weight)).unwrap();
    let layer = evenkeel::layer_norm_backward(view, grads, &LayerNorm::default().weight(weight).bias(weight)).unwrap();
    let targets: Vec<i64> = (0..rows).map(|row| (row * 3 % cols) as i64).collect();
    let smoothed = CrossEntropy::default().label_smoothing(0.1).z_loss(1e-3).softcap(15.0);
    let (loss, dlogits) = cross_entropy_backward(view, &targets, &[0.7], &smoothed).unwrap();
    let shares: Vec<f64> = x.iter().map(|x| (x.bits() % 5) as f64 / 4.0).collect();
    let bce = evenkeel::bce_with_logits_backward(view, &shares, &[0.7], &Default::default()).unwrap();
    let divergence = evenkeel::kl_div_backward(view, &shares, &[0.7], &Default::default()).unwrap();
    let mut all = elementwise(x);
    all.extend([
        ("attention", bits(attended(x, rows, cols))),
        ("attention_backward", bits(attended_backward(x, &dy, rows, cols))),
        ("bce_with_logits", [bits(bce.1), vec![bce.0.value().to_bits()]].concat()),
        ("clamped_exp", bits(evenkeel::clamped_exp(x, &Default::default()).unwrap())),
        ("clamped_exp_backward", bits(evenkeel::clamped_exp_backward(x, x, &Default::default()).unwrap())),
        ("clamped_log", bits(evenkeel::clamped_log(x, &Default::default()).unwrap())),
        ("clamped_log_backward", bits(evenkeel::clamped_log_backward(x, x, &Default::default()).unwrap())),
        ("clip_grad_norm", [bits(by_norm), vec![norm.to_bits()]].concat()),
        ("clip_grad_value", bits(by_value)),
        ("cross_entropy", loss.as_slice().iter().map(|v| v.to_bits()).collect()),
        ("cross_entropy_backward", bits(dlogits)),
        ("group_norm", bits(evenkeel::group_norm(view, &GroupNorm::new(2)).unwrap())),
        ("inspect", vec![stats.mean.to_bits(), stats.std.to_bits(), stats.min.to_bits(), stats.max.to_bits()]),
        ("kl_div", [bits(divergence.1), vec![divergence.0.value().to_bits()]].concat()),
        ("l2_normalize", bits(evenkeel::l2_normalize(view, &L2Normalize::default()).unwrap())),
        ("layer_norm", bits(layer_norm(view, &LayerNorm::default()).unwrap())),
        ("layer_norm_backward", [bits(layer.dx), bits(layer.dweight.unwrap()), bits(layer.dbias.unwrap())].concat()),
        ("log_add_exp", bits(evenkeel::log_add_exp(x, &dy).unwrap())),
        ("log_softmax", bits(log_softmax(view, &options).unwrap())),
        ("log_softmax_backward", bits(evenkeel::log_softmax_backward(view, grads, &options).unwrap())),
        ("log_softmax_backward_from_output", {
            let y = log_softmax(view, &options).unwrap();
            let y = Rows::new(&y, rows, cols).unwrap();
            bits(evenkeel::log_softmax_backward_from_output(y, grads, &Default::default()).unwrap())
        }),
        ("logsumexp", bits(logsumexp(view, &options).unwrap())),
        ("logsumexp_backward", bits(evenkeel::logsumexp_backward(view, &dy[..rows], &options).unwrap())),
        ("mean_pool", bits(evenkeel::mean_pool(Lanes::shaped(x, &[1, rows, cols], 1).unwrap(), &pool).unwrap())),
        ("mean_pool_backward", bits(evenkeel::mean_pool_backward(&x[..cols], [1, rows, cols], &pool).unwrap())),
        ("qk_norm_rope", bits(evenkeel::qk_norm_rope(view, &table, &RmsNorm::default().weight(weight)).unwrap())),
        ("rms_norm", bits(rms_norm(view, &RmsNorm::default()).unwrap())),
        ("rms_norm_backward", [bits(rms.dx), bits(rms.dweight.unwrap())].concat()),
        ("rms_norm_linear", bits(evenkeel::rms_norm_linear(view, view, &RmsNormLinear::default()).unwrap())),
        ("rope", bits(rope(view, &table).unwrap())),
        ("rope_backward", bits(evenkeel::rope_backward(view, &table).unwrap())),
        ("safe_div", bits(evenkeel::safe_div(x, &dy, &Default::default()).unwrap())),
        ("sample", sampled.collect()),
        ("softmax", bits(softmax(view, &options).unwrap())),
        ("softmax_backward", bits(evenkeel::softmax_backward(view, grads, &options).unwrap())),
        ("softmax_backward_from_output", {
            let y = softmax(view, &options).unwrap();
            let y = Rows::new(&y, rows, cols).unwrap();
            bits(evenkeel::softmax_backward_from_output(y, grads, &Default::default()).unwrap())
        }),
        ("swiglu", bits(evenkeel::swiglu(x, &dy).unwrap())),
        ("swiglu_backward", [bits(gated.0), bits(gated.1)].concat()),
    ]);
    all.sort_by_key(|(op, _)| *op);
    all
}

macro_rules! elementwise {
    ($($name:ident $Op:ident $formula:literal $forms:tt $derivative:ident [$backward:ident $($form:ident)*];)*) => {
        /// Returns the bits of the elementwise functions and of their gradients.
        fn elementwise<E: Element>(x: &[E]) -> Vec<(&'static str, Vec<u64>)> {
            let bits = |values: evenkeel::Result<Vec<E>>| values.unwrap().into_iter().map(E::bits).collect::<Vec<u64>>();
            vec![$(
                (stringify!($name), bits(evenkeel::$name(x))),
                (stringify!($backward), bits(evenkeel::$backward(x, x))),
            )*]
        }
    };
}
evenkeel::for_each_elementwise!(elementwise);

fn every_op_gives_the_same_bits_on_every_level<E: Bits>() {
    let mut rng = generate::rng("simd");
    for (rows, cols) in [(3, 2), (7, 46), (5, 1002)] {
        let x = generate::bell::<E>(&mut rng, rows * cols, 0.0, 8.0);
        let expected = with_level(Level::Portable, || results(&x, rows, cols)).unwrap();
        each_level(|level| {
            for ((op, got), (_, expected)) in results(&x, rows, cols).iter().zip(&expected) {
                assert!(
                    got == expected,
                    "{op} of {} on {level}, {rows} rows of {cols}: expected the same bits as on the portable level",
                    E::DTYPE
                );
            }
        });
    }
    let ops: Vec<&str> = results(&[E::from_wide(1.0); 4], 2, 2).into_iter().map(|(op, _)| op).collect();
    let mut registered: Vec<&str> = evenkeel::registry::OPS.iter().map(|op| op.name).collect();
    registered.sort_unstable();
    assert_eq!(ops, registered, "the test function `results` must run every op of the registry");
}

#[test]
fn levels_have_names() {
    for &level in Level::ALL {
        assert_eq!(level.name().parse(), Ok(level));
        assert_eq!(level.to_string(), level.name());
    }
    assert!(Level::Portable.is_available());
    let best = Level::ALL.iter().copied().rfind(|l| l.is_available()).unwrap();
    assert_eq!("auto".parse(), Ok(best));
}

#[test]
fn a_level_that_is_not_there_is_not_replaced_by_another() {
    for level in Level::ALL.iter().copied().filter(|l| !l.is_available()) {
        let refused = with_level(level, || panic!("with_level must not run code on an unavailable level"));
        let Err(Error::Unavailable { backend, reason, .. }) = refused else {
            panic!("with_level({level}) must return the error Unavailable, got {refused:?}")
        };
        assert_eq!(backend, level.name());
        assert!(
            reason.starts_with("this machine does not support this instruction set; the best available one is "),
            "with_level({level}): the error's reason must name the best available level, got {reason:?}"
        );
    }
}

/// Runs in a process of its own, started by [`the_environment_decides`].
#[test]
#[ignore = "run by another test"]
fn say_which_level_runs() {
    match level() {
        Ok(level) => println!("level: {level}"),
        Err(error) => println!("level: {error}"),
    }
    println!("op: {:?}", exp(&[0.0f32]).map_err(|e| e.name()));
    println!("forced: {:?}", with_level(Level::Portable, || exp(&[0.0f32])));
}

#[test]
fn the_environment_decides() {
    let run = |value: &str| {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "simd::say_which_level_runs", "--nocapture"])
            .env("EVENKEEL_SIMD", value)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for level in Level::ALL.iter().copied().filter(|l| l.is_available()) {
        let said = run(level.name());
        assert!(
            said.contains(&format!("level: {level}\nop: Ok([1.0])")),
            "`EVENKEEL_SIMD={level}`: expected the level {level} and the result [1.0], got {said}"
        );
    }
    let said = run("sse9");
    assert!(
        said.contains("level: EVENKEEL_SIMD=sse9: unknown instruction set; it must be auto, portable"),
        "`EVENKEEL_SIMD=sse9`: the error must list the allowed levels, got {said}"
    );
    // Every op reports the error about the variable. A level forced in code ignores the variable.
    assert!(
        said.contains("op: Err(\"Backend\")"),
        "`EVENKEEL_SIMD=sse9`: exp must return the error Backend, got {said}"
    );
    assert!(
        said.contains("forced: Ok(Ok([1.0]))"),
        "`EVENKEEL_SIMD=sse9`: exp inside `with_level` must ignore the variable and return [1.0], got {said}"
    );
}
