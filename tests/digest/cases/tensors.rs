//! Cases along an axis, on whole tensors, and of exact sums.

use super::Case;
use crate::numbers::{Fill, Numbers};
use evenkeel::math::sum::{fixed_point_sum, tiled_sum};
use evenkeel::{
    ClipGradNorm, ClipMode, Element, GroupNorm, L2Normalize, Lanes, MeanPool, NormType, Result, Softmax,
    SoftmaxFromOutput, Stats, clip_grad_norm, clip_grad_value, group_norm, inspect, l2_normalize, log_softmax,
    log_softmax_backward, log_softmax_backward_from_output, logsumexp, mean_pool, softmax, softmax_backward,
    softmax_backward_from_output,
};

pub fn axes<E: Element>(cases: &mut Vec<Case>, [outer, len, inner]: [usize; 3]) {
    let elements = outer * len * inner;
    let x = Numbers::of("axes").rows::<E>(Fill::Plain, 1, elements);
    let mut add = |op: &str, f: fn(Lanes<'_, E>) -> Result<Vec<E>>| {
        let x = x.clone();
        let run = move |_| f(Lanes::new(&x, outer, len, inner).unwrap()).unwrap().into_iter().map(E::bits).collect();
        let name = format!("{op}/axis {} plain {outer}x{len}x{inner}", E::DTYPE);
        cases.push(Case { name, rows: 1, elements, run: Box::new(run) });
    };
    add("group_norm", |x| group_norm(x, &GroupNorm::new(1).weight(&[0.75f32, -3.0].repeat(x.len())[..x.len()])));
    add("mean_pool", |x| mean_pool(x, &MeanPool::default()));
    add("l2_normalize", |x| l2_normalize(x, &L2Normalize::default()));
    add("softmax", |x| softmax(x, &Softmax::default()));
    add("log_softmax", |x| log_softmax(x, &Softmax::default()));
    add("logsumexp", |x| logsumexp(x, &Softmax::default()));
    add("softmax_backward", |x| softmax_backward(x, x, &Softmax::default()));
    add("log_softmax_backward", |x| log_softmax_backward(x, x, &Softmax::default()));
    add("softmax_backward_from_output", |x| softmax_backward_from_output(x, x, &SoftmaxFromOutput::default()));
    add("log_softmax_backward_from_output", |x| log_softmax_backward_from_output(x, x, &SoftmaxFromOutput::default()));
}

/// Returns the bits of all statistics of `inspect`.
pub fn statistics<E: Element>(x: &[E]) -> Vec<u64> {
    let Stats { count, nan, infinite, min, max, mean, std, max_abs, .. } = inspect(x).unwrap();
    let counts = [count, nan, infinite].map(|n| n as u64);
    [&counts[..], &[min, max, mean, std, max_abs].map(f64::to_bits)].concat()
}

/// Clips the elements together with a second tensor of three numbers. Returns the bits of the norm and of all clipped
/// elements.
fn clipped<E: Element>(x: &[E], options: &ClipGradNorm) -> Vec<u64> {
    let (mut grads, mut others) = (x.to_vec(), [0.5f32, -0.25, 1e-3]);
    let options = options.error_if_nonfinite(false);
    let norm = clip_grad_norm(&mut [(&mut grads).into(), (&mut others).into()], &options).unwrap();
    let others = others.map(|v| u64::from(v.to_bits()));
    [norm.to_bits()].into_iter().chain(grads.into_iter().map(E::bits)).chain(others).collect()
}

/// Adds cases on whole tensors. The tensors are so long that the work on each is distributed over threads.
pub fn tensors<E: Element>(cases: &mut Vec<Case>, len: usize) {
    for fill in Fill::ALL {
        let label = format!("{fill:?}").to_lowercase();
        let x = Numbers::of(&format!("tensor {label}")).rows::<E>(fill, 1, len);
        let mut add = |op: &str, run: fn(&[E]) -> Vec<u64>| {
            let x = x.clone();
            let name = format!("{op} {} {label} tensor {len}", E::DTYPE);
            cases.push(Case { name, rows: 1, elements: len, run: Box::new(move |_| run(&x)) });
        };
        add("inspect", |x| statistics(x));
        add("clip_grad_norm", |x| clipped(x, &ClipGradNorm::new(0.75)));
        add("clip_grad_norm/one", |x| clipped(x, &ClipGradNorm::new(3.0).norm_type(NormType::One)));
        add("clip_grad_norm/largest", |x| clipped(x, &ClipGradNorm::new(0.1).norm_type(NormType::Infinity)));
        add("clip_grad_norm/torch", |x| clipped(x, &ClipGradNorm::new(1e-3).mode(ClipMode::Torch)));
        add("clip_grad_value", |x| {
            let mut grads = x.to_vec();
            clip_grad_value(&mut [(&mut grads).into()], 0.3).unwrap();
            grads.into_iter().map(E::bits).collect()
        });
    }
}

pub fn sums(cases: &mut Vec<Case>) {
    for len in [1, 16, 100, 5000] {
        let mut numbers = Numbers::of("sums");
        let (wide, mut terms) = (numbers.rows::<f64>(Fill::Wide, 1, len), numbers.rows::<f32>(Fill::Plain, 1, len));
        terms.iter_mut().for_each(|t| *t = t.abs() / 8.0);
        let mut add = |rule: &str, words: Vec<u64>| {
            let run = Box::new(move |_| words.clone());
            cases.push(Case { name: format!("{rule} {len}"), rows: 1, elements: len, run });
        };
        add("rule_o", vec![tiled_sum(&wide).to_bits()]);
        add("rule_q", vec![fixed_point_sum(&terms) as u64]);
    }
}
