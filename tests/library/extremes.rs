//! Arguments at the limits of their types: counts of 0 and `usize::MAX`, products that overflow, strides that share
//! memory, and parameters that are NaN. Each call gives the right result, or a typed error with the value and the
//! limit.
//!
//! `any_arguments.rs` makes random calls.

use crate::support::generate::Bits;
use evenkeel::train::init::{Fan, Init, Stream, fill};
use evenkeel::train::{AdamW, AdaptiveClip, LossScale, LossScaler, Optimizer, Rule, Sgd};
use evenkeel::*;
use half::{bf16, f16};
use std::fmt::Debug;

const MAX: usize = usize::MAX;

#[track_caller]
fn refused<T: Debug>(result: Result<T>, message: &str) {
    assert_eq!(result.unwrap_err().to_string(), message);
}

#[test]
fn memory_that_is_not_there_is_an_error() {
    let error = logsumexp(Rows::<f32>::new(&[], MAX, 0).unwrap(), &Softmax::default()).unwrap_err();
    let expected = Error::out_of_memory("logsumexp", "the result", 4 * MAX as u128);
    assert_eq!((&error, error.name(), error.row()), (&expected, "OutOfMemory", None));
    let message = "logsumexp: could not allocate 73786976294838206460 bytes for the result";
    assert_eq!(error.to_string(), message);
}

fn no_columns<E: Element>() -> Rows<'static, E> {
    Rows::new(&[], MAX, 0).unwrap()
}

/// Checks huge numbers of rows without columns. Such rows need no memory.
#[test]
fn rows_of_no_columns() {
    let (x, softmax_of) = (no_columns::<f64>(), Softmax::default());
    let message = |op: &str, what: &str, size: u128| {
        let bytes = size * MAX as u128;
        format!("{op}: could not allocate {bytes} bytes for {what}")
    };
    refused(logsumexp(no_columns::<bf16>(), &softmax_of), &message("logsumexp", "the result", 2));
    refused(kl_div(x, &[] as &[f64], &KlDiv::default()), &message("kl_div", "the losses", 8));
    let backward = kl_div_backward(x, &[] as &[f64], &[1.0], &KlDiv::default());
    refused(backward, &message("kl_div_backward", "the losses", 8));
    refused(bce_with_logits(x, &[] as &[f64], &BceWithLogits::default()), &message("bce_with_logits", "the losses", 8));
    let backward = bce_with_logits_backward(x, &[] as &[f64], &[1.0], &BceWithLogits::default());
    refused(backward, &message("bce_with_logits_backward", "the losses", 8));
    let partial = SoftmaxPartial::new(x, (0, 0), &softmax_of).unwrap_err();
    assert!(
        matches!(partial, Error::OutOfMemory { op: "softmax", .. }),
        "SoftmaxPartial::new must return an OutOfMemory error of softmax, got {partial}"
    );
    let partial = NormPartial::layer_norm(x, (0, 0), &LayerNorm::default()).unwrap_err();
    assert!(
        matches!(partial, Error::OutOfMemory { op: "layer_norm", .. }),
        "NormPartial::layer_norm must return an OutOfMemory error of layer_norm, got {partial}"
    );
    let rows = Rows::<f32>::new(&[], 1 << 33, 0).unwrap();
    refused(
        NormPartial::rms_norm(rows, (1, 0), &RmsNorm::default()),
        "rms_norm: first column is 1; it must be a multiple of 256",
    );
    let sampler = SamplerConfig::default().validate().unwrap();
    let request = |_: usize| Request { sampler: &sampler, step: Draw::default().into() };
    let mut drawn = vec![Err(Error::empty_input("before"))];
    refused(
        sample_rows_into(x, None, request, &mut drawn),
        "sample: the input is empty; at least one element is required",
    );
    assert!(drawn.is_empty());
    // These calls have nothing to read or write.
    assert_eq!(softmax(x, &softmax_of), Ok(vec![]));
    assert_eq!(rms_norm_residual(x, x, &RmsNorm::default()), Ok((vec![], vec![])));
    let weighted = RmsNorm::default().weight(&[] as &[f64]);
    assert_eq!(rms_norm_backward(x, x, &weighted).unwrap().dweight, Some(vec![]));
}

/// Checks huge numbers of columns without rows. Such shapes need no memory.
#[test]
fn columns_of_no_rows() {
    for cols in [1 << 47, 1 << 61, MAX - 1] {
        let x = Rows::<f32>::new(&[], 0, cols).unwrap();
        assert_eq!(kl_div(x, &[] as &[f32], &KlDiv::default()), Ok(Loss::Value(0.0)));
        assert_eq!(bce_with_logits(x, &[] as &[f32], &BceWithLogits::default()), Ok(Loss::Value(0.0)));
        assert_eq!(kl_div_backward(x, &[] as &[f32], &[1.0], &KlDiv::default()), Ok((Loss::Value(0.0), vec![])));
        assert_eq!(rms_norm(x, &RmsNorm::default()), Ok(vec![]));
        assert_eq!(rms_norm_backward(x, x, &RmsNorm::default()).map(|gradients| gradients.dx), Ok(vec![]));
        assert_eq!(layer_norm_backward(x, x, &LayerNorm::default()).map(|gradients| gradients.dx), Ok(vec![]));
        assert_eq!(l2_normalize(x, &L2Normalize::default()), Ok(vec![]));
        let message = format!("softmax: columns is {cols}; it must be at most 2097152");
        refused(softmax(x, &Softmax::default()), &message);
        let weighted = RmsNorm::default().weight(&[1.0f32]);
        let message = format!("rms_norm_backward: weight has 1 elements; expected one for each of {cols} columns");
        refused(rms_norm_backward(x, x, &weighted), &message);
        let weighted = LayerNorm::default().weight(&[1.0f32]);
        let message = format!("layer_norm_backward: weight has 1 elements; expected one for each of {cols} columns");
        refused(layer_norm_backward(x, x, &weighted), &message);
    }
}

#[test]
fn means_over_more_tokens_than_memory_has() {
    let options = MeanPool::default();
    for tokens in [1 << 59, 1 << 61, 1 << 63, MAX] {
        let message = format!("mean_pool_backward: could not allocate {} bytes for the result", 4 * tokens as u128);
        refused(mean_pool_backward(&[1.0f32], [1, tokens, 1], &options), &message);
        // The wrong size of dy is reported before the allocation.
        let message = "mean_pool_backward: dy has 2 elements; expected batch * width = 1";
        refused(mean_pool_backward(&[1.0f32; 2], [1, tokens, 1], &options), message);
        assert_eq!(mean_pool_backward::<f32>(&[], [tokens, 0, 0], &options), Ok(vec![]));
        assert_eq!(mean_pool_backward::<f32>(&[], [0, 1, tokens], &options), Ok(vec![]));
        assert_eq!(mean_pool_backward::<f32>(&[], [1, tokens, 0], &options), Ok(vec![]));
        assert_eq!(mean_pool(Lanes::<f32>::new(&[], 1, tokens, 0).unwrap(), &options), Ok(vec![]));
        let lanes = Lanes::<f32>::new(&[], tokens, 0, 1).unwrap();
        assert!(matches!(mean_pool(lanes, &options), Err(Error::OutOfMemory { op: "mean_pool", .. })));
    }
}

#[test]
fn products_over_no_columns() {
    let options = RmsNormLinear::default();
    let of = |rows, results| {
        let view = |rows| Rows::<f64>::new(&[], rows, 0).unwrap();
        rms_norm_linear(view(rows), view(results), &options)
    };
    assert_eq!(of(0, MAX), Ok(vec![]));
    assert_eq!(of(MAX, 0), Ok(vec![]));
    assert_eq!(of(3, 2), Ok(vec![0.0; 6]));
    let message = format!("rms_norm_linear: could not allocate {} bytes for the result", 8 * MAX as u128);
    refused(of(1, MAX), &message);
    refused(
        of(2, MAX),
        "rms_norm_linear: result has 2 x 18446744073709551615 elements; expected a count of elements below 2^64",
    );
    let none = |cols| Rows::<f64>::new(&[], 0, cols).unwrap();
    assert_eq!(rms_norm_linear(none(1 << 61), none(1 << 61), &options), Ok(vec![]));
}

#[test]
fn tables_of_more_columns_than_memory_has() {
    let none = RopeTable::new(&[], MAX - 1, &Rope::default()).unwrap();
    assert_eq!(rope(Rows::<f32>::new(&[], 0, MAX - 1).unwrap(), &none), Ok(vec![]));
    let bytes = 8 * (MAX / 2) as u128;
    let message = format!("rope: could not allocate {bytes} bytes for the frequencies");
    refused(RopeTable::new(&[0], MAX - 1, &Rope::default()), &message);
    refused(
        RopeTable::new(&[0], MAX, &Rope::default()),
        "rope: x has 18446744073709551615 columns; expected an even number",
    );
}

/// Checks attention over views with huge shapes that need little memory: no features, no positions, or strides of 0.
#[test]
fn heads_at_the_ends() {
    fn uniform<E: Bits>() {
        // Without features every product is 0, so the result of a query is the mean of the values.
        let v: Vec<E> = [1.0, 2.0, 3.0, 6.0].map(E::from_wide).to_vec();
        let (q, k) = ([1, 1, 2, 0], Heads::<E>::strided(&[], [1, 1, 2, 0], [0, 0, 5]).unwrap());
        let (y, lse) = attention_with_lse(
            Heads::strided(&[], q, [7, MAX, MAX]).unwrap(),
            k,
            Heads::new(&v, [1, 1, 2, 2]).unwrap(),
            &Attention::default(),
        )
        .unwrap();
        assert_eq!(y, [2.0, 4.0, 2.0, 4.0].map(E::from_wide));
        assert_eq!(lse, [2f64.ln(); 2]);
        let gradients = attention_backward(
            k,
            k,
            Heads::new(&v, [1, 1, 2, 2]).unwrap(),
            Heads::new(&v, [1, 1, 2, 2]).unwrap(),
            &Attention::default(),
        );
        let dv = gradients.unwrap().dv;
        assert_eq!(dv, [2.0, 4.0, 2.0, 4.0].map(E::from_wide));
    }
    uniform::<f64>();
    uniform::<f32>();
    uniform::<f16>();
    uniform::<bf16>();

    let most = |shape: [usize; 4], what: &str| {
        let positions: usize = shape[..3].iter().product();
        format!("view: number of positions is {positions} in shape {shape:?}; it must be {what}")
    };
    for positions in [(1 << 21) + 1, 1 << 47, MAX] {
        let shape = [1, 1, positions, 0];
        refused(Heads::<f32>::new(&[], shape), &most(shape, "at most 2097152, because the positions have no features"));
        refused(
            Heads::<f32>::strided(&[], shape, [0; 3]),
            &most(shape, "at most 2097152, because the positions have no features"),
        );
    }
    for positions in [(1 << 32) + 1, 1 << 62, MAX] {
        let shape = [1, 1, positions, 1];
        let shared = Heads::strided(&[1.0f32], shape, [0; 3]);
        refused(shared, &most(shape, "at most 4294967296, because the positions share memory"));
    }
    for shape in [[MAX, 2, 0, 5], [1 << 33, 1 << 33, 1, 0], [2, MAX, 0, 1], [0, 2, MAX, 2]] {
        let message = format!("view: heads has shape {shape:?}; expected a count of elements below 2^64");
        refused(Heads::<f32>::new(&[], shape), &message);
        refused(Heads::<f32>::strided(&[], shape, [1; 3]), &message);
    }
    // A result of this shape exceeds any memory. The ops check this before they allocate.
    let q = Heads::<f32>::new(&[], [1 << 20, 1, 2, 0]).unwrap();
    let (k, v) = (Heads::new(&[], [1 << 20, 1, 0, 0]).unwrap(), Heads::new(&[], [1 << 20, 1, 0, 1 << 42]).unwrap());
    let message = "attention: could not allocate 36893488147419103232 bytes for the result";
    refused(attention(q, k, v, &Attention::default()), message);
    refused(attention_with_lse(q, k, v, &Attention::default()), message);
    refused(
        attention(q, k, v, &Attention::default().softcap(0.0)),
        "attention: softcap is 0; it must be finite and above 0",
    );
    // Without queries and keys, no memory is needed, so the number of batch entries and heads is not limited.
    let (q, k) = (Heads::<f32>::new(&[], [1 << 47, 0, 1, 2]).unwrap(), Heads::new(&[], [1 << 47, 3, 0, 2]).unwrap());
    assert_eq!(attention_backward(q, k, k, q, &Attention::default()).map(|gradients| gradients.dq), Ok(vec![]));
    let none = Heads::<f32>::new(&[], [1 << 33, 1, 0, 2]).unwrap();
    assert_eq!(attention_backward(none, none, none, none, &Attention::default()).map(|grads| grads.dq), Ok(vec![]));
    // Queries and keys that have no features need no memory, so the op itself limits the number of query-key pairs.
    let many = Heads::<f32>::new(&[], [1, 1, 1 << 21, 0]).unwrap();
    refused(
        attention(many, many, many, &Attention::default()),
        "attention: q and k is [1, 1, 2097152, 0] and [1, 1, 2097152, 0]; it must be at most 4294967296 pairs of a \
         query and a key, as there are no features",
    );
    refused(
        Heads::new(&[0f32; 3], [1 << 33, 1, 1, 1]),
        "view: heads has 3 elements; expected the number of elements of shape [8589934592, 1, 1, 1]",
    );
    // Without queries, the words of a partial result from another rank may describe 2^46 blocks. Merging must not
    // allocate memory for each block.
    let none = Heads::<f32>::new(&[], [1, 1, 0, 1]).unwrap();
    let mut partial = AttentionPartial::new(none, none, none, (0, 1 << 62), &Attention::default()).unwrap();
    let words = [partial.to_words(), vec![0, 1 << 54]].concat();
    assert!(partial.merge_words(&words).is_ok_and(|()| partial.to_words().len() == words.len()));
    // Keys that share memory act like separate copies.
    let (q, one, many) = ([0.5f32, -2.0], [3.0f32, 1.0], [3.0f32, 1.0].repeat(5));
    let q = Heads::new(&q, [1, 1, 1, 2]).unwrap();
    let shared = Heads::strided(&one, [1, 1, 5, 2], [0; 3]).unwrap();
    let copies = Heads::new(&many, [1, 1, 5, 2]).unwrap();
    let of = |kv| attention_backward(q, kv, kv, q, &Attention::default()).unwrap();
    assert_eq!(of(shared), of(copies));
    for (first, all) in [(MAX - 255, MAX), (MAX, MAX), (0, MAX), (1 << 62, MAX)] {
        let partial = AttentionPartial::new(q, shared, shared, (first, all), &Attention::default());
        assert!(
            matches!(partial, Err(Error::InvalidArgument { op: "attention", .. })),
            "AttentionPartial from key {first} of {all} keys: expected the error InvalidArgument, got {partial:?}"
        );
    }
}

/// Checks mask positions at the limits of `isize`.
#[test]
fn masks_at_the_ends() {
    let causal = Mask::causal();
    let options = Softmax::default().mask(&causal);
    assert_eq!(softmax(Rows::<f32>::shaped(&[], &[1 << 63, 0]).unwrap(), &options), Ok(vec![]));
    assert_eq!(softmax(Rows::<f32>::shaped(&[], &[MAX, 0]).unwrap(), &options), Ok(vec![]));
    let keys = Rows::<f32>::shaped(&[], &[0, 1, 1 << 63]).unwrap();
    refused(softmax(keys, &options), "softmax: columns is 9223372036854775808; it must be at most 2097152");
    let x = [0.0f32; 4];
    let x = || Rows::shaped(&x, &[2, 2]).unwrap();
    for (mask, expected) in [
        (Mask::causal().offset(isize::MIN), [0.0; 4]),
        (Mask::causal().offset(isize::MAX), [0.5; 4]),
        (Mask::window(MAX), [0.5; 4]),
        (Mask::window(1).offset(isize::MAX), [0.0; 4]),
        (Mask::causal().and_window(MAX).offset(isize::MAX), [0.5; 4]),
        // The narrower window applies.
        (Mask::window(1).and_window(2), [0.5, 0.5, 0.0, 1.0]),
        (Mask::window(2).and_window(1), [0.5, 0.5, 0.0, 1.0]),
    ] {
        assert_eq!(
            softmax(x(), &Softmax::default().mask(&mask)).unwrap(),
            expected,
            "softmax with the mask {mask:?}: expected the probabilities {expected:?}"
        );
    }
    let mask = Mask::window(isize::MAX as usize).offset(isize::MAX);
    let one_query = Rows::shaped(&[0.0f32; 2], &[1, 2]).unwrap();
    assert_eq!(softmax(one_query, &Softmax::default().mask(&mask)), Ok(vec![0.0, 1.0]));
    let mask = Mask::lengths(&[MAX]);
    refused(
        softmax(x(), &Softmax::default().mask(&mask)),
        "softmax: lengths is 18446744073709551615; it must be at most 2, the number of keys",
    );
}

#[test]
fn terms_outside_the_range_of_the_fixed_point_sum() {
    assert_eq!(math::sum::fixed_point_sum(&[f32::MAX; 2]), u128::MAX);
    assert_eq!(math::sum::fixed_point_sum(&[f32::INFINITY, 1.0]), u128::MAX);
    assert_eq!(math::sum::fixed_point_sum(&[f32::NAN, -1.0, 0.5]), 1 << 44);
}

/// Checks step counters at their maximum. A further step leaves the counter at its maximum, and changes the weights
/// like any other late step.
#[test]
fn optimisers_after_the_last_step() {
    fn weights<R: Rule>(rule: R, steps: u64) -> (Vec<f32>, u64) {
        let mut weights = [1.0f32, -2.0];
        let mut optimizer = Optimizer::new(rule, &[(&weights).into()]).unwrap();
        let grads = [0.5f32, -0.25];
        optimizer.step(&mut [(&mut weights).into()], &[Some((&grads).into())]).unwrap();
        let mut states = optimizer.state().to_vec();
        states[0].steps = steps;
        optimizer.restore(states).unwrap();
        for _ in 0..3 {
            optimizer.step(&mut [(&mut weights).into()], &[Some((&grads).into())]).unwrap();
        }
        (weights.to_vec(), optimizer.state()[0].steps)
    }
    let (expected, _) = weights(AdamW::default(), 1 << 62);
    assert_eq!(weights(AdamW::default(), u64::MAX), (expected.clone(), u64::MAX));
    assert_eq!(weights(AdamW::default(), u64::MAX - 1), (expected, u64::MAX));
    let sgd = Sgd::default().momentum(0.9).dampening(0.5);
    let (expected, _) = weights(sgd, 1 << 62);
    assert_eq!(weights(sgd, u64::MAX), (expected, u64::MAX));
}

#[test]
fn loss_scalers_after_the_last_step() {
    let mut state = LossScale::dynamic().validate().unwrap().state();
    (state.taken, state.skipped) = (u64::MAX, u64::MAX);
    for finite in [true, false] {
        let mut scaler = LossScaler::restore(state).unwrap();
        scaler.record(finite).unwrap();
        assert_eq!(scaler.step(), Ok(finite));
        scaler.update().unwrap();
        assert_eq!((scaler.taken(), scaler.skipped()), (u64::MAX, u64::MAX));
    }
    state.tracker = u32::MAX;
    refused(LossScaler::restore(state), "loss_scaler: tracker is 4294967295; it must be below interval = 2000");
}

#[test]
fn gradients_of_more_elements_than_memory_has() {
    let sums = train::Accumulator::new(&[2, MAX]);
    refused(sums, "accumulator: could not allocate 73786976294838206460 bytes for the sums");
    let mut grad = [1.0f32; 4];
    for shape in [&[MAX][..], &[4, MAX, MAX], &[MAX, 0], &[0, MAX], &[]] {
        assert!(
            AdaptiveClip::default().clip(&mut grad, &[1.0f32; 4], shape).is_err(),
            "AdaptiveClip must reject the shape {shape:?}"
        );
        let init = Init::xavier_normal(1.0);
        assert!(
            fill(&mut grad, shape, &init, Stream::named(1, "w")).is_err(),
            "`fill` must reject the shape {shape:?}"
        );
    }
    assert!(Fan::Average.of(&[MAX, MAX, MAX, MAX]).unwrap().is_finite());
}
