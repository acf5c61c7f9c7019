//! Tests on a CUDA device. Results must have the same bits as on the CPU. Without a device, calls return a typed error,
//! and each test prints that it was skipped.

mod engine;
mod rows;
mod standin;
#[path = "../support/mod.rs"]
mod support;

use evenkeel::cuda::cross_entropy::Targets;
use evenkeel::cuda::cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use evenkeel::cuda::cudarc::driver::{CudaSlice, DevicePtr};
use evenkeel::cuda::sample::{Logprob, Outcome, Request};
use evenkeel::cuda::{self, DeviceElement, Guards, Rows, RowsMut};
use evenkeel::{CrossEntropy, Draw, Error, FullyMasked, Mask, RmsNorm, Rope, RopeTable, SamplerConfig, Softmax, Step};
use half::{bf16, f16};
use std::sync::Arc;
use support::generate::{self, Bits};

/// Returns the first device. Without one, prints which test is skipped.
fn device() -> Option<Arc<cuda::cudarc::driver::CudaContext>> {
    cuda::device(0)
        .inspect_err(|error| {
            let thread = std::thread::current();
            println!("{} skipped: no device ({error})", thread.name().unwrap_or("a test"));
        })
        .ok()
}

fn stream() -> Option<Arc<cuda::cudarc::driver::CudaStream>> {
    device().map(|context| context.default_stream())
}

#[test]
fn without_a_device_there_is_a_typed_error() {
    for ordinal in [0, 1000] {
        if let Err(error) = cuda::device(ordinal) {
            assert!(
                matches!(&error, Error::Unavailable { backend, .. } if backend == "cuda"),
                "`cuda::device` must return the error Unavailable with the backend `cuda`, got {error:?}"
            );
            let text = error.to_string();
            assert!(
                text.starts_with("cuda: there is no CUDA driver") || text.contains("CUDA_ERROR"),
                "the error of `cuda::device({ordinal})` must name a missing driver or a CUDA error, got: {text}"
            );
        } else {
            assert_eq!(ordinal, 0, "`cuda::device({ordinal})` must return an error, got a device");
        }
    }
}

#[test]
fn what_kernels_of_plain_rows_have_not_is_refused() {
    let launch = |options: &Softmax| cuda::softmax::launch(evenkeel::DType::F32, [0; 3], (1, 1), options).map(|_| ());
    let mask = Mask::causal();
    let options = [
        (
            Softmax::default().mask(&mask),
            "softmax: mask is in the host's memory; it must be a device mask, passed to the function for masked rows",
        ),
        (
            Softmax::default().scale(0.5),
            "softmax: scale is 0.5; it must be unset; the functions for masked rows accept it",
        ),
        (
            Softmax::default().softcap(30.0),
            "softmax: softcap is 30; it must be unset; the functions for masked rows accept it",
        ),
    ];
    for (options, text) in options {
        assert_eq!(launch(&options).map_err(|error| error.to_string()), Err(text.to_string()));
    }
    assert_eq!(launch(&Softmax::default()), Ok(()));
    let wide = cuda::softmax::launch(evenkeel::DType::F64, [0; 3], (1, 1), &Softmax::default());
    assert_eq!(wide.map(|_| ()).map_err(|e| e.to_string()), Err("softmax: F64 is not supported on cuda".to_string()));
    let empty = cuda::softmax::launch(evenkeel::DType::F32, [0; 3], (0, 7), &Softmax::default());
    assert!(empty.unwrap().is_none(), "softmax of 0 rows must not launch a kernel");
}

fn softmax_has_the_cpus_bits<E: DeviceElement + Bits>() {
    let Some(stream) = stream() else { return };
    let mut rng = generate::rng("cuda, softmax");
    for (rows, cols) in [(1, 1), (3, 7), (5, 128), (64, 1000), (7, 4096), (33, 4100), (4, 20_000), (2, 128_256)] {
        let x: Vec<E> = generate::bell(&mut rng, rows * cols, 0.0, 3.0);
        let from = stream.clone_htod(&x).unwrap();
        let mut to = stream.clone_htod(&x).unwrap();
        let (x_rows, y_rows) = (Rows::new(from.as_view(), rows, cols), RowsMut::new(to.as_view_mut(), rows, cols));
        cuda::softmax_into(&stream, x_rows.unwrap(), y_rows.unwrap(), &Softmax::default()).unwrap();
        let got: Vec<u64> = stream.clone_dtoh(&to).unwrap().iter().map(|y| y.bits()).collect();
        let expected = evenkeel::softmax(evenkeel::Rows::new(&x, rows, cols).unwrap(), &Softmax::default()).unwrap();
        assert!(
            got.iter().eq(expected.iter().map(|y| y.bits()).collect::<Vec<_>>().iter()),
            "softmax of {rows}x{cols}: expected the same bits on CUDA as on the CPU"
        );
    }
}

#[test]
fn softmax_f32() {
    softmax_has_the_cpus_bits::<f32>();
}

#[test]
fn softmax_f16() {
    softmax_has_the_cpus_bits::<f16>();
}

#[test]
fn softmax_bf16() {
    softmax_has_the_cpus_bits::<bf16>();
}

#[test]
fn masked_rows_are_refused_under_that_policy() {
    let Some(stream) = stream() else { return };
    let x = stream.clone_htod(&[1.0, 2.0, f32::NEG_INFINITY, f32::NEG_INFINITY]).unwrap();
    let mut y = stream.alloc_zeros::<f32>(4).unwrap();
    let (from, to) = (Rows::new(x.as_view(), 2, 2).unwrap(), RowsMut::new(y.as_view_mut(), 2, 2).unwrap());
    let refused = cuda::softmax_into(&stream, from, to, &Softmax::default().fully_masked(FullyMasked::Error));
    assert_eq!(refused, Err(Error::fully_masked("softmax", 1)));
}

fn functions_of_elements_have_the_cpus_bits<E: DeviceElement + Bits>() {
    let Some(stream) = stream() else { return };
    let mut rng = generate::rng("cuda, functions of elements");
    for len in [1, 1000, 1 << 20] {
        let x: Vec<E> = generate::bell(&mut rng, len, 0.0, 30.0);
        let from = stream.clone_htod(&x).unwrap();
        let mut to = stream.clone_htod(&x).unwrap();
        let check = |what: &str, to: &CudaSlice<E>, expected: Vec<E>| {
            let got = stream.clone_dtoh(to).unwrap();
            assert!(
                got.iter().map(|y| y.bits()).eq(expected.iter().map(|y| y.bits())),
                "{what} of {len} elements: expected the same bits on CUDA as on the CPU"
            );
        };
        cuda::exp_into(&stream, from.as_view(), to.as_view_mut()).unwrap();
        check("exp", &to, evenkeel::exp(&x).unwrap());
        cuda::gelu_into(&stream, from.as_view(), to.as_view_mut()).unwrap();
        check("gelu", &to, evenkeel::gelu(&x).unwrap());
    }
}

#[test]
fn functions_of_elements_f32() {
    functions_of_elements_have_the_cpus_bits::<f32>();
}

#[test]
fn functions_of_elements_bf16() {
    functions_of_elements_have_the_cpus_bits::<bf16>();
}

fn cross_entropy_has_the_cpus_bits<E: DeviceElement + Bits>() {
    let Some(stream) = stream() else { return };
    let mut rng = generate::rng("cuda, cross_entropy");
    for (rows, cols) in [(1, 1), (5, 7), (64, 1000), (33, 8192), (9, 20_000), (3, 128_256)] {
        let x: Vec<E> = generate::bell(&mut rng, rows * cols, 0.0, 3.0);
        let classes: Vec<i64> =
            (0..rows).map(|row| if row % 7 == 6 { -100 } else { (row * 31 % cols) as i64 }).collect();
        for options in
            [CrossEntropy::default().z_loss(1e-4), CrossEntropy::default().softcap(30.0).label_smoothing(0.1)]
        {
            let (mut logits, on_device) = (stream.clone_htod(&x).unwrap(), stream.clone_htod(&classes).unwrap());
            let (dloss, mut loss) = (stream.clone_htod(&[1.0]).unwrap(), stream.alloc_zeros::<f64>(1).unwrap());
            let targets = Targets::new(on_device.as_view());
            targets.check(&stream, cols, &options).unwrap();
            let rows_of = RowsMut::new(logits.as_view_mut(), rows, cols).unwrap();
            let (dloss, to) = (dloss.as_view(), loss.as_view_mut());
            cuda::cross_entropy_backward_in_place(&stream, rows_of, &targets, dloss, to, &options).unwrap();
            let view = evenkeel::Rows::new(&x, rows, cols).unwrap();
            let (expected, gradient) = evenkeel::cross_entropy_backward(view, &classes, &[1.0], &options).unwrap();
            assert_eq!(
                stream.clone_dtoh(&loss).unwrap()[0].to_bits(),
                expected.value().to_bits(),
                "cross_entropy of {rows}x{cols}: expected the same bits on CUDA as on the CPU"
            );
            let got = stream.clone_dtoh(&logits).unwrap();
            assert!(
                got.iter().map(|y| y.bits()).eq(gradient.iter().map(|y| y.bits())),
                "cross_entropy_backward of {rows}x{cols}: expected the same bits on CUDA as on the CPU"
            );
        }
    }
}

#[test]
fn cross_entropy_f32() {
    cross_entropy_has_the_cpus_bits::<f32>();
}

#[test]
fn cross_entropy_bf16() {
    cross_entropy_has_the_cpus_bits::<bf16>();
}

#[test]
fn targets_that_are_no_classes_are_refused() {
    let Some(stream) = stream() else { return };
    let classes = stream.clone_htod(&[1i64, -100, 7, 9]).unwrap();
    let refused = Targets::new(classes.as_view()).check(&stream, 7, &CrossEntropy::default()).unwrap_err();
    assert_eq!(refused.row(), Some(2));
    assert!(
        refused.to_string().contains("in 0 .. 7, or -100 to be ignored"),
        "the target 7 with 7 classes: the error must state the allowed targets, got: {refused}"
    );
}

#[test]
fn norms_of_heads_that_are_turned() {
    let Some(stream) = stream() else { return };
    let mut rng = generate::rng("cuda, qk_norm_rope");
    let positions: Vec<i64> = (0..100).collect();
    for (cols, interleaved) in [(64, false), (128, true), (100, false), (256, false), (512, true)] {
        let table = RopeTable::new(&positions, cols, &Rope::default().interleaved(interleaved)).unwrap();
        let x: Vec<bf16> = generate::bell(&mut rng, 8 * 100 * cols, 0.0, 3.0);
        let weight: Vec<bf16> = generate::bell(&mut rng, cols, 1.0, 0.2);
        let (mut rows, weights) = (stream.clone_htod(&x).unwrap(), stream.clone_htod(&weight).unwrap());
        let on_device = cuda::RopeTable::new(&stream, &table).unwrap();
        let to = RowsMut::new(rows.as_view_mut(), 800, cols).unwrap();
        let options = RmsNorm::default();
        cuda::qk_norm_rope_in_place(&stream, to, Some(weights.as_view().into()), &on_device, &options).unwrap();
        let view = evenkeel::Rows::new(&x, 800, cols).unwrap();
        let expected = evenkeel::qk_norm_rope(view, &table, &options.weight(&weight)).unwrap();
        let got = stream.clone_dtoh(&rows).unwrap();
        assert!(
            got.iter().map(|y| y.to_bits()).eq(expected.iter().map(|y| y.to_bits())),
            "qk_norm_rope of {cols} columns: expected the same bits on CUDA as on the CPU"
        );
    }
}

#[test]
fn sampled_tokens() {
    let Some(stream) = stream() else { return };
    let mut rng = generate::rng("cuda, sample");
    let (rows, cols, top) = (16, 128_256, 20);
    let logits: Vec<f32> = generate::bell(&mut rng, rows * cols, 0.0, 3.0);
    let config = SamplerConfig::default().temperature(0.7).top_k(500).top_p(0.9).min_p(0.01);
    let sampler = config.validate().unwrap();
    let draws: Vec<Draw> = (0..rows as u64).map(|row| Draw { seed: 1, row, draw: 0 }).collect();
    let requests: Vec<Request> = draws.iter().map(|&draw| Request::new(&sampler, draw).unwrap()).collect();
    let (on_device, asked) = (stream.clone_htod(&logits).unwrap(), stream.clone_htod(&requests).unwrap());
    let mut outcomes = stream.alloc_zeros::<Outcome>(rows).unwrap();
    let mut logprobs = stream.alloc_zeros::<Logprob>(rows * (1 + top)).unwrap();
    let input = || Rows::new(on_device.as_view(), rows, cols).unwrap();
    let (out, to) = (outcomes.as_view_mut(), logprobs.as_view_mut());
    cuda::sample_logprobs_into(&stream, input(), asked.as_view(), None, out, to).unwrap();
    let view = || evenkeel::Rows::new(&logits, rows, cols).unwrap();
    let expected = sampler.sample_rows(view(), None, &draws).unwrap();
    for (row, (got, expected)) in stream.clone_dtoh(&outcomes).unwrap().iter().zip(&expected).enumerate() {
        assert_eq!(
            got.result(row, cols),
            expected.clone().map(|sampled| (sampled.token, sampled.kept)),
            "sample of row {row} must return the same token and number of candidates on CUDA as on the CPU"
        );
    }
    let distributions = sampler.distributions(view(), None, &draws).unwrap();
    let got: Vec<_> = stream.clone_dtoh(&logprobs).unwrap().into_iter().map(Logprob::get).collect();
    for (row, (got, (of, sampled))) in got.chunks(1 + top).zip(distributions.iter().zip(&expected)).enumerate() {
        let (of, sampled) = (of.as_ref().unwrap(), sampled.as_ref().unwrap());
        assert_eq!(
            got[0],
            Some((sampled.token, sampled.logprob)),
            "the token of row {row} must have the same log-probability on CUDA as on the CPU"
        );
        let all: Vec<_> = got[1..].iter().copied().flatten().collect();
        assert_eq!(
            all,
            of.top_logprobs(top),
            "the most probable tokens of row {row} must have the same log-probabilities on CUDA as on the CPU"
        );
    }
    let steps: Vec<Step> = draws.iter().map(|&draw| draw.into()).collect();
    assert_eq!(cuda::sample_rows(&stream, input(), &sampler, &steps).unwrap(), expected);
    let without = sampler.config().logprob(false).validate().unwrap();
    let expected = without.sample_rows(view(), None, &draws).unwrap();
    assert_eq!(cuda::sample_rows(&stream, input(), &without, &steps).unwrap(), expected);
    // Rows alternate between two samplers. Only one of them returns log-probabilities.
    let greedy = SamplerConfig::default().temperature(0.0).repetition_penalty(1.3).logprob(false).validate().unwrap();
    let output: Vec<u32> = expected.iter().map(|sampled| sampled.as_ref().unwrap().token).collect();
    let request = |row: usize| evenkeel::Request {
        sampler: if row.is_multiple_of(2) { &sampler } else { &greedy },
        step: Step::from(draws[row]).output(&output),
    };
    let requests: Vec<_> = (0..rows).map(request).collect();
    let expected = evenkeel::sample_rows(view(), None, &requests).unwrap();
    let got = cuda::sample_requests(&stream, input(), &requests).unwrap();
    for (row, (got, expected)) in got.into_iter().zip(expected).enumerate() {
        let (got, expected) = (got.unwrap(), expected.unwrap());
        assert_eq!((got.token, got.kept), (expected.token, expected.kept), "row {row} with its own request");
        assert_eq!(got.logprob.to_bits(), expected.logprob.to_bits(), "log-probability of row {row}");
    }
}

/// Checks that loaded kernels neither allocate nor synchronise, so a CUDA graph can capture the launches. The graph is
/// then replayed on other logits.
#[test]
fn a_captured_graph_draws_the_same_tokens() {
    let Some(context) = device() else { return };
    // SAFETY: there is only one stream, and all memory is used on it.
    unsafe { context.disable_event_tracking() };
    let stream = context.new_stream().unwrap();
    let mut rng = generate::rng("cuda, graph");
    let (rows, cols) = (4, 32_000);
    let mut logits = || -> Vec<f32> { generate::bell(&mut rng, rows * cols, 0.0, 3.0) };
    let sampler = SamplerConfig::default().temperature(0.7).top_k(50).top_p(0.9).validate().unwrap();
    let mut counter = stream.alloc_zeros::<u64>(1).unwrap();
    let address = counter.device_ptr(&stream).0;
    let request = |row| {
        // SAFETY: the counter lives until the last replay has ended.
        unsafe { Request::new(&sampler, Draw { seed: 1, row, draw: 0 }).unwrap().counter(address) }
    };
    let asked = stream.clone_htod(&(0..rows as u64).map(request).collect::<Vec<_>>()).unwrap();
    let mut on_device = stream.clone_htod(&logits()).unwrap();
    let mut outcomes = stream.alloc_zeros::<Outcome>(rows).unwrap();
    let mut weights = stream.alloc_zeros::<f32>(rows * cols).unwrap();
    let mut step = |on_device: &CudaSlice<f32>, outcomes: &mut CudaSlice<Outcome>| {
        let input = || Rows::new(on_device.as_view(), rows, cols).unwrap();
        let to = RowsMut::new(weights.as_view_mut(), rows, cols).unwrap();
        cuda::softmax_into(&stream, input(), to, &Softmax::default()).unwrap();
        cuda::sample_into(&stream, input(), asked.as_view(), None, outcomes.as_view_mut()).unwrap();
        cuda::sample::advance(&stream, counter.as_view_mut()).unwrap();
    };
    // The first call loads the kernels, and advances the counter to 1.
    step(&on_device, &mut outcomes);
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    step(&on_device, &mut outcomes);
    let graph = stream.end_capture(CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH);
    let graph = graph.unwrap().expect("the captured CUDA graph must contain kernel launches");
    for draw in 1..4 {
        let x = logits();
        stream.memcpy_htod(&x, &mut on_device).unwrap();
        graph.launch().unwrap();
        let draws: Vec<Draw> = (0..rows as u64).map(|row| Draw { seed: 1, row, draw }).collect();
        let expected = sampler.sample_rows(evenkeel::Rows::new(&x, rows, cols).unwrap(), None, &draws).unwrap();
        for (row, (got, expected)) in stream.clone_dtoh(&outcomes).unwrap().iter().zip(expected).enumerate() {
            assert_eq!(
                got.result(row, cols),
                expected.map(|sampled| (sampled.token, sampled.kept)),
                "sample of row {row} must return the same token and number of candidates on CUDA as on the CPU"
            );
        }
    }
}

#[test]
fn what_samplers_have_not_on_devices_is_refused() {
    let refused = |config: SamplerConfig| Request::new(&config.validate().unwrap(), Draw::default()).unwrap_err();
    let typical = refused(SamplerConfig::default().typical_p(0.9)).to_string();
    assert_eq!(typical, "sample: typical_p is 0.9; it must be unset on CUDA devices");
    let kept = refused(SamplerConfig::default().min_keep(2)).to_string();
    assert_eq!(kept, "sample: min_keep is 2; it must be unset on CUDA devices");
}

/// Checks that softmax with guards neither waits nor allocates, and that each replay of a graph adds to the counters.
#[test]
fn a_captured_graph_counts_masked_rows() {
    let Some(context) = device() else { return };
    // SAFETY: there is only one stream, and all memory is used on it.
    unsafe { context.disable_event_tracking() };
    let stream = context.new_stream().unwrap();
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let x = stream.clone_htod(&[1.0, 2.0, -inf, -inf, nan, 1.0, inf, 1.0]).unwrap();
    let mut y = stream.alloc_zeros::<f32>(8).unwrap();
    let mut guards = Guards::new(&stream).unwrap();
    let options = Softmax::default().fully_masked(FullyMasked::Error);
    let mut step = || {
        let (from, to) = (Rows::new(x.as_view(), 4, 2).unwrap(), RowsMut::new(y.as_view_mut(), 4, 2).unwrap());
        cuda::softmax_masked_into(&stream, from, to, &cuda::Mask::none(), &options, Some(&mut guards)).unwrap();
    };
    step();
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    step();
    let graph = stream.end_capture(CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH);
    let graph = graph.unwrap().expect("the captured CUDA graph must contain a kernel launch");
    for _ in 0..3 {
        graph.launch().unwrap();
    }
    let counts = guards.take().unwrap();
    assert_eq!((counts.nan, counts.infinite, counts.fully_masked, counts.first_fully_masked), (4, 4, 4, Some(1)));
}
