//! Any bits into any op: the contract holds. Driven by the registry, so an op that it does not know fails here.

#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use evenkeel::registry::OPS;
use evenkeel::simd::{Level, with_level};
use evenkeel::{
    ClampedExp, ClampedLog, ClipGradNorm, ClipMode, CrossEntropy, Draw, Element, Error, FullyMasked, GroupNorm,
    L2Normalize, Lanes, LayerNorm, Mask, MeanPool, NormType, Reduction, RmsNorm, Rope, RopeTable, Rounding, Rows,
    SafeDiv, SamplerConfig, Softmax,
};
use half::{bf16, f16};
use libfuzzer_sys::fuzz_target;

/// A call: which op, on what shape, with which options. Options take any value, in their range or not.
#[derive(Arbitrary, Debug)]
struct Call {
    op: u8,
    dtype: u8,
    rows: u8,
    cols: u8,
    level: u8,
    scale: f64,
    softcap: Option<f64>,
    causal: bool,
    keep: Option<u64>,
    policy: u8,
    eps: f64,
    before_weight: bool,
    offset: f64,
    theta: f64,
    interleaved: bool,
    positions: [i64; 3],
    temperature: f64,
    top_k: Option<u16>,
    top_p: Option<f64>,
    min_p: Option<f64>,
    seed: u64,
}

fuzz_target!(|data: &[u8]| {
    let mut bytes = Unstructured::new(data);
    let Ok(call) = Call::arbitrary(&mut bytes) else { return };
    let bits = bytes.take_rest();
    match call.dtype % 4 {
        0 => check(&call, &elements(bits, f64::from_le_bytes)),
        1 => check(&call, &elements(bits, f32::from_le_bytes)),
        2 => check(&call, &elements(bits, f16::from_le_bytes)),
        _ => check(&call, &elements(bits, bf16::from_le_bytes)),
    }
});

fn elements<T, const N: usize>(bytes: &[u8], from: fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| from(*chunk)).collect()
}

fn check<E: Element>(call: &Call, data: &[E]) {
    let (rows, cols) = (usize::from(call.rows % 5), usize::from(call.cols));
    if data.is_empty() {
        return;
    }
    // As many elements as the shape has, over and over again.
    let x: Vec<E> = data.iter().copied().cycle().take(rows * cols).collect();
    let level = Level::ALL[usize::from(call.level) % 3];
    let first = run(call, &x, rows, cols);
    if level.is_available() {
        let Ok(second) = with_level(level, || run(call, &x, rows, cols)) else { return };
        assert_eq!(first, second, "{level} differs");
    }
}

/// The output's bits, or the error.
fn run<E: Element>(call: &Call, x: &[E], rows: usize, cols: usize) -> Result<Vec<u64>, String> {
    let name = OPS[usize::from(call.op) % OPS.len()].name;
    let view = Rows::new(x, rows, cols).map_err(|e| e.to_string())?;
    let flags: Vec<bool> = (0..cols).map(|i| call.keep.is_none_or(|bits| bits >> (i % 64) & 1 == 1)).collect();
    let mut mask = Mask::keep(&flags, &[cols]);
    if call.causal {
        mask = mask.and_causal();
    }
    let policy = [FullyMasked::Zeros, FullyMasked::Uniform, FullyMasked::Error][usize::from(call.policy) % 3];
    let mut softmax = Softmax::default().scale(call.scale).mask(&mask).fully_masked(policy);
    if let Some(cap) = call.softcap {
        softmax = softmax.softcap(cap);
    }
    // The gradient of a result: the input backwards, and at least one for each row.
    let dy: Vec<E> = x.iter().rev().copied().chain(vec![E::ZERO; rows]).collect();
    let gradients = Rows::new(&dy[..x.len()], rows, cols).map_err(|e| e.to_string())?;
    let backwards = &dy[..x.len()];
    let clamped_exp = ClampedExp::default().min(call.scale).max(call.offset);
    let lengths = [usize::from(call.policy % 8)];
    let tokens = Mask::lengths(&lengths);
    let pool = MeanPool::default().mask(&tokens);
    let finite = |row: &[E]| row.iter().all(|v| v.widen().is_finite());
    let y = match name {
        "exp" => evenkeel::exp(x),
        "log" => evenkeel::log(x),
        "sigmoid" => evenkeel::sigmoid(x),
        "silu" => evenkeel::silu(x),
        "expm1" => evenkeel::expm1(x),
        "log1p" => evenkeel::log1p(x),
        "tanh" => evenkeel::tanh(x),
        "log_sigmoid" => evenkeel::log_sigmoid(x),
        "softplus" => evenkeel::softplus(x),
        "sqrt" => evenkeel::sqrt(x),
        "rsqrt" => evenkeel::rsqrt(x),
        "erf" => evenkeel::erf(x),
        "gelu" => evenkeel::gelu(x),
        "gelu_tanh" => evenkeel::gelu_tanh(x),
        "erf_backward" => evenkeel::erf_backward(x, backwards),
        "exp_backward" => evenkeel::exp_backward(x, backwards),
        "expm1_backward" => evenkeel::expm1_backward(x, backwards),
        "gelu_backward" => evenkeel::gelu_backward(x, backwards),
        "gelu_tanh_backward" => evenkeel::gelu_tanh_backward(x, backwards),
        "log_backward" => evenkeel::log_backward(x, backwards),
        "log1p_backward" => evenkeel::log1p_backward(x, backwards),
        "log_sigmoid_backward" => evenkeel::log_sigmoid_backward(x, backwards),
        "rsqrt_backward" => evenkeel::rsqrt_backward(x, backwards),
        "sigmoid_backward" => evenkeel::sigmoid_backward(x, backwards),
        "silu_backward" => evenkeel::silu_backward(x, backwards),
        "softplus_backward" => evenkeel::softplus_backward(x, backwards),
        "sqrt_backward" => evenkeel::sqrt_backward(x, backwards),
        "tanh_backward" => evenkeel::tanh_backward(x, backwards),
        "clamped_exp" => evenkeel::clamped_exp(x, &clamped_exp),
        "clamped_exp_backward" => evenkeel::clamped_exp_backward(x, backwards, &clamped_exp),
        "clamped_log" => evenkeel::clamped_log(x, &ClampedLog::default().floor(call.eps)),
        "clamped_log_backward" => evenkeel::clamped_log_backward(x, backwards, &ClampedLog::default().floor(call.eps)),
        "log_add_exp" => evenkeel::log_add_exp(x, backwards),
        "safe_div" => evenkeel::safe_div(x, backwards, &SafeDiv::default().eps(call.eps)),
        "softmax" => evenkeel::softmax(view, &softmax),
        "softmax_backward" => evenkeel::softmax_backward(view, gradients, &softmax),
        "log_softmax" => evenkeel::log_softmax(view, &softmax),
        "log_softmax_backward" => evenkeel::log_softmax_backward(view, gradients, &softmax),
        "logsumexp" => evenkeel::logsumexp(view, &softmax),
        "logsumexp_backward" => evenkeel::logsumexp_backward(view, &dy[..rows], &softmax),
        "rms_norm" => {
            let rounding = if call.before_weight { Rounding::BeforeWeight } else { Rounding::Once };
            let options = RmsNorm::default().eps(call.eps).weight_offset(call.offset).rounding(rounding);
            evenkeel::rms_norm(view, &options)
        }
        "layer_norm" => evenkeel::layer_norm(view, &LayerNorm::default().eps(call.eps)),
        "rope" => {
            let positions = &call.positions[..rows.clamp(1, 3)];
            RopeTable::new(positions, cols, &Rope::default().theta(call.theta).interleaved(call.interleaved))
                .and_then(|table| evenkeel::rope(view, &table))
        }
        "rms_norm_backward" => return rms_norm_backward(call, x, rows, cols).map_err(|e| e.to_string()),
        "layer_norm_backward" => return layer_norm_backward(call, x, rows, cols).map_err(|e| e.to_string()),
        "rope_backward" => {
            let positions = &call.positions[..rows.clamp(1, 3)];
            RopeTable::new(positions, cols, &Rope::default().theta(call.theta).interleaved(call.interleaved))
                .and_then(|table| evenkeel::rope_backward(view, &table))
        }
        "group_norm" => evenkeel::group_norm(view, &GroupNorm::new(usize::from(call.policy)).eps(call.eps)),
        "mean_pool" => Lanes::shaped(x, &[1, rows, cols], 1).and_then(|x| evenkeel::mean_pool(x, &pool)),
        "mean_pool_backward" => evenkeel::mean_pool_backward(&x[..cols.min(x.len())], [1, rows, cols], &pool),
        "l2_normalize" => evenkeel::l2_normalize(view, &L2Normalize::default().eps(call.eps)),
        "clip_grad_norm" => return clip_grad_norm(call, x).map_err(|e| e.to_string()),
        "clip_grad_value" => {
            let mut y = x.to_vec();
            evenkeel::clip_grad_value(&mut [(&mut y).into()], call.scale).map(|()| y)
        }
        "cross_entropy" => return cross_entropy(call, x, cols).map(|(loss, _)| loss).map_err(|e| e.to_string()),
        "cross_entropy_backward" => return cross_entropy(call, x, cols).map(|(_, dx)| dx).map_err(|e| e.to_string()),
        "inspect" => return inspect(x).map_err(|e| e.to_string()),
        "sample" => return sample(call, x, cols).map_err(|e| e.to_string()),
        other => panic!("the fuzz target does not know the op {other}"),
    };
    let y = y.map_err(|e| e.to_string())?;
    if cols > 0 && matches!(name, "softmax" | "layer_norm" | "l2_normalize") {
        for (row, y) in x.chunks(cols).zip(y.chunks(cols)) {
            let total: f64 = y.iter().map(|v| v.widen()).sum();
            if finite(row) {
                assert!(finite(y), "{name}: finite in, not finite out: {row:?} gave {y:?}");
                assert!(name != "softmax" || total < 1.1, "softmax sums to {total}");
            }
        }
    }
    if cols > 0 && name == "softmax_backward" && call.scale.abs() <= 1.0 {
        for ((row, dy), dx) in x.chunks(cols).zip(dy.chunks(cols)).zip(y.chunks(cols)) {
            assert!(
                !(finite(row) && finite(dy)) || finite(dx),
                "finite in, not finite out: {row:?}, {dy:?} gave {dx:?}"
            );
        }
    }
    Ok(y.iter().map(|v| v.bits()).collect())
}

/// The gradients of rows whose results have those of the rows from the last on.
fn rms_norm_backward<E: Element>(call: &Call, x: &[E], rows: usize, cols: usize) -> Result<Vec<u64>, Error> {
    let dy: Vec<E> = x.iter().rev().copied().collect();
    let weight: Vec<f64> = (0..cols).map(|i| call.scale * (i as f64 - 1.5)).collect();
    let rounding = if call.before_weight { Rounding::BeforeWeight } else { Rounding::Once };
    let options = RmsNorm::default().weight(&weight).eps(call.eps).weight_offset(call.offset).rounding(rounding);
    let gradients = evenkeel::rms_norm_backward(Rows::new(x, rows, cols)?, Rows::new(&dy, rows, cols)?, &options)?;
    Ok([Some(gradients.dx), gradients.dweight].into_iter().flatten().flatten().map(|v| v.bits()).collect())
}

fn layer_norm_backward<E: Element>(call: &Call, x: &[E], rows: usize, cols: usize) -> Result<Vec<u64>, Error> {
    let dy: Vec<E> = x.iter().rev().copied().collect();
    let weight: Vec<f64> = (0..cols).map(|i| call.scale * (i as f64 - 1.5)).collect();
    let options = LayerNorm::default().weight(&weight).bias(&weight).eps(call.eps);
    let gradients = evenkeel::layer_norm_backward(Rows::new(x, rows, cols)?, Rows::new(&dy, rows, cols)?, &options)?;
    let all = [Some(gradients.dx), gradients.dweight, gradients.dbias];
    Ok(all.into_iter().flatten().flatten().map(|v| v.bits()).collect())
}

fn clip_grad_norm<E: Element>(call: &Call, x: &[E]) -> Result<Vec<u64>, Error> {
    let norm_type = [NormType::Two, NormType::One, NormType::Infinity][usize::from(call.policy) % 3];
    let mode = if call.interleaved { ClipMode::Torch } else { ClipMode::Exact };
    let options = ClipGradNorm::new(call.scale).norm_type(norm_type).mode(mode).error_if_nonfinite(call.causal);
    let (mut y, mut rest) = (x.to_vec(), [call.eps]);
    let norm = evenkeel::clip_grad_norm(&mut [(&mut y).into(), (&mut rest).into()], &options)?;
    let finite = |values: &[E]| values.iter().all(|v| v.widen().is_finite());
    assert!(!finite(x) || !call.eps.is_finite() || finite(&y), "finite in, not finite out: {x:?} gave {y:?}");
    Ok([norm.to_bits(), rest[0].to_bits()].into_iter().chain(y.iter().map(|v| v.bits())).collect())
}

/// The bits of a loss and of its gradient.
fn cross_entropy<E: Element>(call: &Call, x: &[E], cols: usize) -> Result<(Vec<u64>, Vec<u64>), Error> {
    let mut options = CrossEntropy::default().label_smoothing(call.offset).z_loss(call.eps);
    options.softcap = call.softcap;
    options.reduction = [Reduction::None, Reduction::Mean, Reduction::Sum][usize::from(call.policy) % 3];
    let weight: Vec<f64> = (0..cols).map(|i| call.keep.map_or(1.0, |bits| (bits >> (i % 64) & 3) as f64)).collect();
    if call.causal {
        options = options.weight(&weight);
    }
    let rows = x.len().checked_div(cols).unwrap_or(0);
    let in_range = |i: usize| if call.interleaved { (i * 7 % cols) as i64 } else { call.positions[i % 3] };
    let targets: Vec<i64> = (0..rows).map(|i| if i % 4 == 3 { -100 } else { in_range(i) }).collect();
    let dloss = vec![call.scale; if options.reduction == Reduction::None { rows } else { 1 }];
    let view = Rows::new(x, rows, cols)?;
    let loss = evenkeel::cross_entropy(view, &targets, &options)?;
    let (with, dx) = evenkeel::cross_entropy_backward(view, &targets, &dloss, &options)?;
    let bits = |loss: &evenkeel::Loss| loss.as_slice().iter().map(|v| v.to_bits()).collect::<Vec<u64>>();
    assert_eq!(bits(&loss), bits(&with));
    assert!(!loss.as_slice().iter().any(|v| *v < -1e-9), "{loss:?} is below 0");
    for ((row, dx), target) in x.chunks(cols.max(1)).zip(dx.chunks(cols.max(1))).zip(&targets) {
        let finite = row.iter().all(|v| v.widen().is_finite());
        assert!(!finite || !call.scale.is_finite() || dx.iter().all(|v| !v.widen().is_nan()), "{row:?} gave {dx:?}");
        assert!(*target != -100 || dx.iter().all(|v| v.bits() == 0), "an ignored row has a gradient");
    }
    Ok((bits(&loss), dx.iter().map(|v| v.bits()).collect()))
}

fn inspect<E: Element>(x: &[E]) -> Result<Vec<u64>, Error> {
    let (stats, met) = (evenkeel::inspect(x)?, evenkeel::finite(x)?);
    assert_eq!((stats.nan, stats.infinite), (met.nan, met.infinite));
    assert_eq!(met.first, x.iter().position(|v| !v.widen().is_finite()));
    let found = [stats.min, stats.max, stats.mean, stats.std, stats.max_abs];
    assert_eq!(found.iter().all(|v| v.is_finite()), stats.nan + stats.infinite < x.len());
    assert!(!(stats.mean < stats.min || stats.mean > stats.max || stats.std > stats.max_abs));
    Ok(found.iter().map(|v| v.to_bits()).collect())
}

fn sample<E: Element>(call: &Call, x: &[E], cols: usize) -> Result<Vec<u64>, Error> {
    let mut config = SamplerConfig::default().temperature(call.temperature);
    config.top_k = call.top_k.map(usize::from);
    config.top_p = call.top_p;
    config.min_p = call.min_p;
    let sampler = config.validate()?;
    let mut tokens = Vec::new();
    for (row, logits) in x.chunks(cols.max(1)).enumerate() {
        match sampler.sample(logits, Draw { seed: call.seed, row: row as u64, draw: 0 }) {
            Ok(sampled) => {
                assert!(logits[sampled.token as usize].widen() > f64::NEG_INFINITY, "a masked token was drawn");
                assert!(sampled.kept > 0 && sampled.logprob <= 1e-9);
                tokens.extend([u64::from(sampled.token), sampled.kept as u64, sampled.logprob.to_bits()]);
            }
            Err(Error::NonFiniteInput { index, .. }) => assert!(logits[index].widen().is_nan()),
            Err(Error::EmptySupport { .. }) => assert!(logits.iter().all(|v| v.widen() == f64::NEG_INFINITY)),
            Err(other) => return Err(other),
        }
    }
    Ok(tokens)
}
