//! Tests for engines that call the CUDA driver themselves: calls keep the current context, counters can be read later,
//! and a thread that ends frees its memory. A stand-in replaces the driver.

use crate::standin::has_standin;
use evenkeel::cuda::clip_grad_norm::Gradient;
use evenkeel::cuda::cross_entropy::Targets;
use evenkeel::cuda::cudarc::driver::result::ctx;
use evenkeel::cuda::cudarc::driver::sys::{CUcontext, CUgraphInstantiate_flags, CUstreamCaptureMode};
use evenkeel::cuda::cudarc::driver::{CudaStream, CudaViewMut};
use evenkeel::cuda::sample::{self, Logprob, Outcome, Request};
use evenkeel::cuda::{self, Guards, HeadsMut, Mask, Operand, OperandMut, PagedCache, Pages, RopeTable, Rows, RowsMut};
use evenkeel::{
    Attention, ClipGradNorm, CrossEntropy, DType, Draw, Error, FullyMasked, LayerNorm, RmsNorm, Rope, SamplerConfig,
    Step,
};
use evenkeel::{Result, Softmax};
use std::sync::Arc;
use std::{ptr, thread};

/// Address that represents the context of an engine. The stand-in refuses to use a device while this context is
/// current.
const ENGINE: usize = 0x100;

/// Runs a call twice: without a current context, and while an engine's context is current. The call must leave the
/// current context as it was.
pub fn keeps_context<T>(what: &str, mut call: impl FnMut() -> T) -> T {
    for context in [0, ENGINE] {
        // SAFETY: the stand-in never reads the context.
        unsafe { ctx::set_current(context as CUcontext) }.expect("setting the current context must succeed");
        let result = call();
        let current = ctx::get_current().expect("reading the current context must succeed");
        assert_eq!(
            current.unwrap_or(ptr::null_mut()) as usize,
            context,
            "{what} must leave the current context of the calling thread as it was"
        );
        if context == ENGINE {
            return result;
        }
    }
    unreachable!("the loop ended without a return; its last context must be ENGINE")
}

fn stream() -> Arc<CudaStream> {
    cuda::device(0).expect("the stand-in for the CUDA driver must have a device").default_stream()
}

/// Calls every function of `evenkeel::cuda` that uses the driver. The tests in standin.rs call some of these functions
/// with invalid arguments.
#[test]
fn calls_keep_the_callers_context() {
    if !has_standin("engine::calls_keep_the_callers_context", 13000) {
        return;
    }
    let context =
        keeps_context("device", || cuda::device(0)).expect("the stand-in for the CUDA driver must have a device");
    keeps_context("device", || cuda::device(7)).expect_err("the stand-in for the CUDA driver must not have a device 7");
    let stream = context.default_stream();
    let zeros = || stream.alloc_zeros::<f32>(8).expect("the allocation of device memory must succeed");
    let (a, b, mut c, mut d) = (zeros(), zeros(), zeros(), zeros());
    let columns = || stream.alloc_zeros::<f32>(4).expect("the allocation of device memory must succeed");
    let (weight, mut dweight) = (columns(), columns());
    let table =
        evenkeel::RopeTable::new(&[0, 1], 4, &Rope::default()).expect("the options of the rope table must be valid");
    let table =
        keeps_context("RopeTable::new", || RopeTable::new(&stream, &table)).expect("the rope table must be copied");
    let mask = evenkeel::Mask::lengths(&[3]);
    let mask = keeps_context("Mask::copy", || Mask::copy(&stream, &mask)).expect("the mask must be copied");
    let mut guards =
        keeps_context("Guards::new", || Guards::new(&stream)).expect("the counters of the guards must be allocated");

    let rows = || Rows::new(a.as_view(), 2, 4);
    let others = || Rows::new(b.as_view(), 2, 4);
    let norm = RmsNorm::default();
    let scale = || Operand::from(weight.as_view());
    let (softmax, errors) = (Softmax::default(), Softmax::default().fully_masked(FullyMasked::Error));
    let refused = Err(Error::fully_masked("softmax", 1));
    let mut keeps = |what: &str, call: &mut dyn FnMut(RowsMut<'_, f32>) -> Result<()>| {
        let result = keeps_context(what, || call(RowsMut::new(c.as_view_mut(), 2, 4)?));
        let expected = if what == "softmax under FullyMasked::Error" { refused.clone() } else { Ok(()) };
        assert_eq!(result, expected, "{what} on the stand-in for the CUDA driver: expected {expected:?}");
    };
    keeps("softmax", &mut |y| cuda::softmax_into(&stream, rows()?, y, &softmax));
    keeps("softmax under FullyMasked::Error", &mut |y| cuda::softmax_into(&stream, rows()?, y, &errors));
    keeps("softmax with guards", &mut |y| {
        cuda::softmax_masked_into(&stream, rows()?, y, &mask, &errors, Some(&mut guards))
    });
    keeps("softmax_backward", &mut |dx| cuda::softmax_backward_into(&stream, rows()?, others()?, dx, &softmax));
    keeps("layer_norm", &mut |y| {
        cuda::layer_norm_into(&stream, rows()?, [Some(scale()), None], y, &LayerNorm::default())
    });
    keeps("rms_norm", &mut |y| cuda::rms_norm_into(&stream, rows()?, Some(scale()), y, &norm));
    keeps("rms_norm with a residual", &mut |y| {
        let sum = RowsMut::new(d.as_view_mut(), 2, 4)?;
        cuda::rms_norm_residual_into(&stream, [rows()?, others()?], Some(scale()), [y, sum], &norm)
    });
    keeps("rms_norm_backward", &mut |dx| {
        let dweight = Some(OperandMut::from(dweight.as_view_mut()));
        cuda::rms_norm_backward_into(&stream, [rows()?, others()?], Some(scale()), dx, dweight, &norm)
    });
    keeps("rope", &mut |y| cuda::rope_into(&stream, rows()?, y, &table));
    keeps("qk_norm_rope", &mut |y| cuda::qk_norm_rope_into(&stream, rows()?, Some(scale()), y, &table, &norm));
    keeps("qk_norm_rope in place", &mut |y| cuda::qk_norm_rope_in_place(&stream, y, Some(scale()), &table, &norm));

    let (classes, options) =
        (stream.alloc_zeros::<i64>(2).expect("the allocation of device memory must succeed"), CrossEntropy::default());
    let targets = Targets::new(classes.as_view());
    let (dloss, mut loss) = (
        stream.alloc_zeros::<f64>(1).expect("the allocation of device memory must succeed"),
        stream.alloc_zeros::<f64>(1).expect("the allocation of device memory must succeed"),
    );
    type WithLoss<'a> = &'a mut dyn FnMut(RowsMut<'_, f32>, CudaViewMut<'_, f64>) -> Result<()>;
    let mut keeps_loss = |what: &str, call: WithLoss<'_>| {
        keeps(what, &mut |rows| call(rows, loss.as_view_mut()));
    };
    keeps_loss("cross_entropy", &mut |_, loss| cuda::cross_entropy_into(&stream, rows()?, &targets, loss, &options));
    keeps_loss("cross_entropy_backward", &mut |dx, loss| {
        cuda::cross_entropy_backward_into(&stream, rows()?, &targets, dloss.as_view(), loss, dx, &options)
    });
    keeps_loss("cross_entropy_backward in place", &mut |dx, loss| {
        cuda::cross_entropy_backward_in_place(&stream, dx, &targets, dloss.as_view(), loss, &options)
    });
    keeps_loss("clip_grad_norm", &mut |_, norm| {
        let mut gradients = [Gradient::from(d.as_view_mut()), Gradient::from(dweight.as_view_mut())];
        cuda::clip_grad_norm(&stream, &mut gradients, norm, &ClipGradNorm::new(1.0))
    });
    // The stand-in runs no kernel, so the workspace contains zeros. `check` reads these zeros as an error in row 0.
    keeps_context("Targets::check", || targets.check(&stream, 4, &options)).expect_err("row 0 must be refused");
    keeps("exp", &mut |_| cuda::exp_into(&stream, a.as_view(), d.as_view_mut()));

    let (table, lengths) =
        (stream.alloc_zeros::<u32>(2).expect("memory"), stream.alloc_zeros::<u32>(2).expect("memory"));
    let pages = || Pages::new(b.as_view(), [2, 1, 1, 4]);
    let cache = || PagedCache::new(pages()?, pages()?, table.as_view(), lengths.as_view());
    let attention = Attention::default();
    keeps("attention_decode", &mut |_| {
        let (q, y) = (cuda::Heads::new(a.as_view(), [2, 1, 4])?, HeadsMut::new(d.as_view_mut(), [2, 1, 4])?);
        cuda::attention_decode_into(&stream, q, &cache()?, None, y, &attention, None)
    });
    keeps("PagedCache::check", &mut |_| cache()?.check(&stream, &attention));

    let sampler = SamplerConfig::default().validate().expect("the default sampler must be valid");
    let request = Request::new(&sampler, Draw::default()).expect("CUDA devices must support the default sampler");
    let requests = stream.clone_htod(&[request; 2]).expect("the allocation of device memory must succeed");
    let mut outcomes = stream.alloc_zeros::<Outcome>(2).expect("the allocation of device memory must succeed");
    let mut counter = stream.alloc_zeros::<u64>(1).expect("the allocation of device memory must succeed");
    keeps("sample", &mut |_| cuda::sample_into(&stream, rows()?, requests.as_view(), None, outcomes.as_view_mut()));
    let mut logprobs = stream.alloc_zeros::<Logprob>(6).expect("the allocation of device memory must succeed");
    keeps("sample_logprobs", &mut |_| {
        let (out, to) = (outcomes.as_view_mut(), logprobs.as_view_mut());
        cuda::sample_logprobs_into(&stream, rows()?, requests.as_view(), None, out, to)
    });
    keeps("logprobs", &mut |_| cuda::logprobs_into(&stream, rows()?, outcomes.as_view(), logprobs.as_view_mut()));
    keeps("sample_rows", &mut |_| {
        cuda::sample_rows(&stream, rows()?, &sampler, &[Draw::default().into(); 2]).map(drop)
    });
    keeps("sample::advance", &mut |_| sample::advance(&stream, counter.as_view_mut()));
    keeps("preload", &mut |_| cuda::preload(&context, &["sample"], &[DType::F16], |_, _| ()));
    keeps("Guards::take", &mut |_| guards.take().map(drop));
    keeps_context("release", || cuda::release(&stream));
}

#[test]
fn lists_of_log_probabilities_of_wrong_lengths_are_refused() {
    if !has_standin("engine::lists_of_log_probabilities_of_wrong_lengths_are_refused", 13000) {
        return;
    }
    let stream = stream();
    let logits = stream.alloc_zeros::<f32>(8).expect("the allocation on the device must succeed");
    let outcomes = stream.alloc_zeros::<Outcome>(2).expect("the allocation on the device must succeed");
    let refused = |len: usize| {
        let mut to = stream.alloc_zeros::<Logprob>(len).expect("the allocation on the device must succeed");
        let rows = Rows::new(logits.as_view(), 2, 4)?;
        cuda::logprobs_into(&stream, rows, outcomes.as_view(), to.as_view_mut())
    };
    let text = |len| refused(len).expect_err("the length must be refused").to_string();
    let expected = "expected the same number for each of 2 rows, at least one";
    assert_eq!(text(1), format!("sample: logprobs has 1 entries; {expected}"));
    assert_eq!(text(5), format!("sample: logprobs has 5 entries; {expected}"));
    assert_eq!(text(2 * 258), "sample: logprobs is 257 most probable tokens; it must be at most 256");
    assert_eq!(refused(2 * 257), Ok(()));
}

#[test]
fn steps_that_devices_do_not_support_are_refused() {
    if !has_standin("engine::steps_that_devices_do_not_support_are_refused", 13000) {
        return;
    }
    let stream = stream();
    let logits = stream.alloc_zeros::<f32>(4).expect("the allocation on the device must succeed");
    let sampler = SamplerConfig::default().repetition_penalty(2.0).validate().expect("the sampler must be valid");
    let refused = |step: Step<'_>| {
        let rows = Rows::new(logits.as_view(), 1, 4).expect("4 logits must form one row of 4");
        cuda::sample_rows(&stream, rows, &sampler, &[step]).expect_err("the step must be refused").to_string()
    };
    let step = Step::from(Draw::default());
    assert_eq!(
        refused(step.bias(&[(1, 0.5)])),
        "sample: bias is a list of length 1 in row 0; it must be unset on CUDA devices"
    );
    assert_eq!(refused(step.output(&[1, 4])), "sample: output is 4 in row 0; it must be below 4, the vocabulary size");
    assert!(refused(step.allowed(&[])).contains("expected 1 words for 4 tokens"));
}

#[test]
fn pages_and_lengths_out_of_range_are_refused() {
    if !has_standin("engine::pages_and_lengths_out_of_range_are_refused", 13000) {
        return;
    }
    let stream = stream();
    let keys = stream.alloc_zeros::<f32>(8).expect("the allocation on the device must succeed");
    let check = |table: [i32; 4], lengths: [i32; 2], options: &Attention<'_>| {
        let (table, lengths) = (stream.clone_htod(&table).unwrap(), stream.clone_htod(&lengths).unwrap());
        let pages = || Pages::new(keys.as_view(), [2, 1, 1, 4]).unwrap();
        let cache = PagedCache::new(pages(), pages(), table.as_view(), lengths.as_view()).unwrap();
        cache.check(&stream, options)
    };
    let refusal = |table, lengths| check(table, lengths, &Attention::default()).unwrap_err().to_string();
    let unknown = [0, 1, 2, -1];
    assert_eq!(
        refusal(unknown, [2, 1]),
        "attention_decode: table is a list with the page index 2 in row 1; it must be a list of page indices below 2"
    );
    let capacity = "it must be 0 to 2, the positions of a sequence's pages";
    assert_eq!(refusal(unknown, [3, 0]), format!("attention_decode: lengths is 3 in row 0; {capacity}"));
    assert_eq!(refusal(unknown, [2, -1]), format!("attention_decode: lengths is -1 in row 1; {capacity}"));
    // A page index may be out of range if no query reads that page.
    check(unknown, [2, 0], &Attention::default()).unwrap();
    let window = evenkeel::Mask::window(1);
    check([7, 1, -3, 0], [2, 2], &Attention::default().mask(&window)).unwrap();
}

/// Returns how many times the stand-in synchronised a stream.
fn synchronized() -> i32 {
    // SAFETY: the stand-in is loaded already, and its function takes no arguments and returns an integer.
    unsafe {
        let standin = libloading::Library::new("libcuda.so").expect("the stand-in for the CUDA driver must be loaded");
        let count: libloading::Symbol<'_, unsafe extern "C" fn() -> i32> = standin
            .get(b"evenkeel_standin_synchronized")
            .expect("the stand-in for the CUDA driver must count synchronisations");
        count()
    }
}

#[test]
fn counts_are_read_when_requested() {
    if !has_standin("engine::counts_are_read_when_requested", 13000) {
        return;
    }
    let stream = stream();
    let (x, mut y) = (stream.alloc_zeros::<f32>(6).unwrap(), stream.alloc_zeros::<f32>(6).unwrap());
    let options = Softmax::default().fully_masked(FullyMasked::Error);
    let mut softmax = |guards: Option<&mut Guards>| {
        let (x, y) = (Rows::new(x.as_view(), 2, 3)?, RowsMut::new(y.as_view_mut(), 2, 3)?);
        cuda::softmax_masked_into(&stream, x, y, &Mask::none(), &options, guards)
    };
    let refused = Err(Error::fully_masked("softmax", 1));
    let before = synchronized();
    assert_eq!(softmax(None), refused);
    assert!(synchronized() > before, "softmax with FullyMasked::Error and without guards must synchronise the stream");

    let mut guards = Guards::new(&stream).unwrap();
    let before = synchronized();
    softmax(Some(&mut guards)).unwrap();
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    softmax(Some(&mut guards)).expect("softmax with guards must succeed during a capture");
    let captured = [softmax(None), guards.take().map(drop), Guards::new(&stream).map(drop)];
    stream.end_capture(CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH).unwrap();
    assert_eq!(
        synchronized(),
        before,
        "neither softmax with guards nor a call refused during a capture may synchronise the stream"
    );
    let texts = [
        "softmax: stream is captured; it must be not captured under the policy FullyMasked::Error, unless the call \
         gets guards",
        "guards: stream is captured; it must be not captured while guards are created or read",
        "guards: stream is captured; it must be not captured while guards are created or read",
    ];
    assert_eq!(captured.map(|result| result.unwrap_err().to_string()), texts);

    let counts = guards.take().unwrap();
    assert!(synchronized() > before, "`Guards::take` must synchronise the stream");
    assert_eq!((counts.fully_masked, counts.first_fully_masked, counts.is_clean()), (2, Some(1), false));
    assert_eq!(counts.check("softmax"), refused);
    let again = guards.take().unwrap();
    assert!(again.is_clean(), "`Guards::take` must reset the counters, got {again:?}");
    assert_eq!(again.check("softmax"), Ok(()));

    let other = cuda::device(1).expect("the stand-in for the CUDA driver must have two devices").default_stream();
    let away = softmax(Some(&mut Guards::new(&other).unwrap())).unwrap_err().to_string();
    let text = "softmax: guards is in the memory of device 1; it must be in the memory of device 0, where the stream \
                runs";
    assert_eq!(away, text);
}

/// Checks that the end of a thread frees the workspace of its per-thread default stream.
#[test]
fn a_thread_that_ends_frees_its_workspace() {
    if !has_standin("engine::a_thread_that_ends_frees_its_workspace", 13000) {
        return;
    }
    let stream = cuda::device(0).expect("the stand-in for the CUDA driver must have a device").per_thread_stream();
    let owners = Arc::strong_count(&stream);
    thread::scope(|scope| {
        let softmax = || {
            let (x, mut y) = (stream.alloc_zeros::<f32>(6)?, stream.alloc_zeros::<f32>(6)?);
            let (x_rows, y_rows) = (Rows::new(x.as_view(), 2, 3)?, RowsMut::new(y.as_view_mut(), 2, 3)?);
            let options = Softmax::default().fully_masked(FullyMasked::Error);
            let refused = cuda::softmax_into(&stream, x_rows, y_rows, &options);
            assert_eq!(refused, Err(Error::fully_masked("softmax", 1)));
            drop((x, y));
            assert!(
                Arc::strong_count(&stream) > owners,
                "softmax must allocate a workspace that holds a reference to the stream"
            );
            Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
        };
        scope
            .spawn(softmax)
            .join()
            .expect("the thread that calls softmax must not panic")
            .expect("the allocation of device memory must succeed");
    });
    assert_eq!(Arc::strong_count(&stream), owners, "the end of the thread must free the workspace");
}
