//! Tests that need a driver, but no kernel: several devices, captures, and old versions of the driver. Each test runs
//! in a process that loads a stand-in for the driver. [`has_standin`] compiles the stand-in.

use evenkeel::cuda::adamw::{self, Parameter, Progress, Rounding};
use evenkeel::cuda::cross_entropy::Targets;
use evenkeel::cuda::cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use evenkeel::cuda::cudarc::driver::{CudaSlice, CudaStream, DeviceRepr};
use evenkeel::cuda::{self, Mask, Operand, OperandMut, RopeTable, Rows, RowsMut};
use evenkeel::{CrossEntropy, DType, Error, FullyMasked, LayerNorm, RmsNorm, Rope, Softmax};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Compiles the stand-in, and runs the calling test again in a new process that loads the stand-in. Returns true in the
/// new process. `version` is the driver version that the stand-in reports.
pub fn has_standin(test: &str, version: u32) -> bool {
    if std::env::var_os("EVENKEEL_STANDIN").is_some() {
        return true;
    }
    let folder = tempfile::tempdir().expect("a temporary folder must be created");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("cuda/standin.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-o"]);
    compiler.arg(folder.path().join("libcuda.so")).arg(source);
    assert!(compiler.status().expect("cc must run").success(), "`cc` must compile the stand-in for the CUDA driver");
    let output = Command::new(std::env::current_exe().expect("the path of the test program must be known"))
        .args(["--exact", test, "--nocapture"])
        .envs([("EVENKEEL_STANDIN", Path::new("1")), ("LD_LIBRARY_PATH", folder.path())])
        .env("EVENKEEL_STANDIN_VERSION", version.to_string())
        .output()
        .expect("the test program must start");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "the test {test} must pass with the stand-in for the CUDA driver, got:\n{text}"
    );
    false
}

/// Arguments for one call of an op on the first device, and the streams of both devices. The argument with the number
/// `away` is in the memory of the second device. All others are in the memory of the first.
struct Call {
    streams: [Arc<CudaStream>; 2],
    away: usize,
}

impl Call {
    fn slice<T: DeviceRepr + Default + Clone>(&self, argument: usize, len: usize) -> CudaSlice<T> {
        let stream = &self.streams[usize::from(argument == self.away)];
        stream.clone_htod(&vec![T::default(); len]).expect("the allocation on the device must succeed")
    }
}

type Refused = evenkeel::Result<()>;

fn softmax(call: &Call) -> Refused {
    let (x, mut out, keep) = (call.slice::<f32>(0, 6), call.slice::<f32>(1, 6), call.slice::<u8>(2, 6));
    let (x, out) = (Rows::new(x.as_view(), 2, 3)?, RowsMut::new(out.as_view_mut(), 2, 3)?);
    let options = Softmax::default().fully_masked(FullyMasked::Zeros);
    cuda::softmax_masked_into(&call.streams[0], x, out, &Mask::keep(keep.as_view(), &[2, 3]), &options, None)
}

fn softmax_backward(call: &Call) -> Refused {
    let (x, dy, mut dx) = (call.slice::<f32>(0, 6), call.slice::<f32>(1, 6), call.slice::<f32>(2, 6));
    let (x, dy) = (Rows::new(x.as_view(), 2, 3)?, Rows::new(dy.as_view(), 2, 3)?);
    cuda::softmax_backward_into(&call.streams[0], x, dy, RowsMut::new(dx.as_view_mut(), 2, 3)?, &Softmax::default())
}

fn layer_norm(call: &Call) -> Refused {
    let (x, mut out) = (call.slice::<f32>(0, 6), call.slice::<f32>(1, 6));
    let (weight, bias) = (call.slice::<f32>(2, 3), call.slice::<f32>(3, 3));
    let operands = [Some(Operand::from(weight.as_view())), Some(bias.as_view().into())];
    let (x, out) = (Rows::new(x.as_view(), 2, 3)?, RowsMut::new(out.as_view_mut(), 2, 3)?);
    cuda::layer_norm_into(&call.streams[0], x, operands, out, &LayerNorm::default())
}

fn rms_norm_residual(call: &Call) -> Refused {
    let (x, residual) = (call.slice::<f32>(0, 6), call.slice::<f32>(1, 6));
    let (mut out, mut sum) = (call.slice::<f32>(2, 6), call.slice::<f32>(3, 6));
    let x = [Rows::new(x.as_view(), 2, 3)?, Rows::new(residual.as_view(), 2, 3)?];
    let out = [RowsMut::new(out.as_view_mut(), 2, 3)?, RowsMut::new(sum.as_view_mut(), 2, 3)?];
    cuda::rms_norm_residual_into(&call.streams[0], x, None, out, &RmsNorm::default())
}

fn rms_norm_backward(call: &Call) -> Refused {
    let (x, dy, weight) = (call.slice::<f32>(0, 6), call.slice::<f32>(1, 6), call.slice::<f32>(2, 3));
    let (mut dx, mut dweight) = (call.slice::<f32>(3, 6), call.slice::<f32>(4, 3));
    let x = [Rows::new(x.as_view(), 2, 3)?, Rows::new(dy.as_view(), 2, 3)?];
    let (dx, dweight) = (RowsMut::new(dx.as_view_mut(), 2, 3)?, OperandMut::from(dweight.as_view_mut()));
    let weight = Some(weight.as_view().into());
    cuda::rms_norm_backward::rms_norm_backward_into(&call.streams[0], x, weight, dx, Some(dweight), &RmsNorm::default())
}

fn rope(call: &Call) -> Refused {
    let (x, mut out) = (call.slice::<f32>(0, 8), call.slice::<f32>(1, 8));
    let table = evenkeel::RopeTable::new(&[0, 1], 4, &Rope::default())?;
    let table = RopeTable::new(&call.streams[usize::from(call.away == 2)], &table)?;
    let (x, out) = (Rows::new(x.as_view(), 2, 4)?, RowsMut::new(out.as_view_mut(), 2, 4)?);
    cuda::rope_into(&call.streams[0], x, out, &table)
}

fn log_add_exp(call: &Call) -> Refused {
    let (a, b, mut out) = (call.slice::<f32>(0, 6), call.slice::<f32>(1, 6), call.slice::<f32>(2, 6));
    cuda::log_add_exp_into(&call.streams[0], a.as_view(), b.as_view(), out.as_view_mut())
}

fn swiglu_backward(call: &Call) -> Refused {
    let [gate, up, dy, mut dgate, mut dup] = [0, 1, 2, 3, 4].map(|argument| call.slice::<f32>(argument, 6));
    let (dgate, dup) = (dgate.as_view_mut(), dup.as_view_mut());
    cuda::swiglu_backward_into(&call.streams[0], gate.as_view(), up.as_view(), dy.as_view(), dgate, dup)
}

fn adamw(call: &Call) -> Refused {
    let progress = Progress::new(&call.streams[usize::from(call.away == 0)], 0)?;
    let [mut weights, mut mean, mut root, gradient] = [1, 2, 3, 4].map(|argument| call.slice::<f32>(argument, 6));
    let parameter = Parameter {
        weights: weights.as_view_mut().into(),
        rounding: Rounding::None,
        mean: mean.as_view_mut(),
        root_mean_square: root.as_view_mut(),
        gradient: gradient.as_view().into(),
    };
    adamw::step(&call.streams[0], &progress, parameter)
}

fn cross_entropy(call: &Call) -> Refused {
    let (logits, targets) = (call.slice::<f32>(0, 6), call.slice::<i64>(1, 2));
    let (weight, mut loss) = (call.slice::<f32>(2, 3), call.slice::<f64>(3, 1));
    let targets = Targets::new(targets.as_view()).weight(weight.as_view());
    let (logits, loss) = (Rows::new(logits.as_view(), 2, 3)?, loss.as_view_mut());
    cuda::cross_entropy_into(&call.streams[0], logits, &targets, loss, &CrossEntropy::default())
}

fn clip_grad_norm(call: &Call) -> Refused {
    let (mut gradient, mut norm) = (call.slice::<f32>(0, 6), call.slice::<f64>(1, 1));
    let mut gradients = [gradient.as_view_mut().into()];
    cuda::clip_grad_norm(&call.streams[0], &mut gradients, norm.as_view_mut(), &evenkeel::ClipGradNorm::new(1.0))
}

/// Function that calls an op, the name of the op, and the names of its arguments. `Call::away` is an index into the
/// names.
type Op = (fn(&Call) -> Refused, &'static str, &'static [&'static str]);

const OPS: [Op; 11] = [
    (softmax, "softmax", &["x", "out", "mask"]),
    (softmax_backward, "softmax_backward", &["x", "dy", "dx"]),
    (layer_norm, "layer_norm", &["x", "out", "weight", "bias"]),
    (rms_norm_residual, "rms_norm", &["x", "residual", "out", "residual_out"]),
    (rms_norm_backward, "rms_norm_backward", &["x", "dy", "weight", "dx", "dweight"]),
    (rope, "rope", &["x", "out", "table"]),
    (log_add_exp, "log_add_exp", &["a", "b", "out"]),
    (swiglu_backward, "swiglu_backward", &["gate", "up", "dy", "dgate", "dup"]),
    (adamw, "adamw", &["progress", "weights", "mean", "root_mean_square", "gradient"]),
    (cross_entropy, "cross_entropy", &["logits", "target", "weight", "loss"]),
    (clip_grad_norm, "clip_grad_norm", &["gradients", "norm"]),
];

#[test]
fn memory_of_another_device_is_refused() {
    if !has_standin("standin::memory_of_another_device_is_refused", 13000) {
        return;
    }
    let streams = [0, 1].map(|ordinal| {
        cuda::device(ordinal).expect("the stand-in for the CUDA driver must have two devices").default_stream()
    });
    for (run, op, arguments) in OPS {
        for (away, argument) in arguments.iter().enumerate() {
            let refused = run(&Call { streams: streams.clone(), away });
            let text = format!(
                "{op}: {argument} is in the memory of device 1; it must be in the memory of device 0, where the \
                 stream runs"
            );
            assert!(
                matches!(refused, Err(Error::InvalidArgument { .. })),
                "{op}: expected an InvalidArgument error about {argument}, got {refused:?}"
            );
            assert_eq!(refused.map_err(|error| error.to_string()), Err(text));
        }
        let away = arguments.len();
        assert_eq!(
            run(&Call { streams: streams.clone(), away }),
            Ok(()),
            "{op} must accept arguments that are all on the same device"
        );
    }
}

#[test]
fn old_drivers_are_refused() {
    for (version, is_enough) in [(11_010, false), (11_020, true)] {
        let test = ["standin::drivers_before_11_2_are_refused", "standin::drivers_from_11_2_on_are_used"];
        assert!(
            !has_standin(test[usize::from(is_enough)], version),
            "this test must run without the stand-in for the CUDA driver"
        );
    }
}

#[test]
fn drivers_before_11_2_are_refused() {
    if std::env::var_os("EVENKEEL_STANDIN").is_some() {
        let refused = cuda::device(0).expect_err("the driver must be refused");
        assert!(matches!(refused, Error::Unavailable { .. }), "expected the error Unavailable, got {refused:?}");
        let text = "cuda: the driver supports CUDA 11.1; the kernels need a driver that supports CUDA 11.2 or above";
        assert_eq!(refused.to_string(), text);
    }
}

#[test]
fn drivers_from_11_2_on_are_used() {
    if std::env::var_os("EVENKEEL_STANDIN").is_some() {
        cuda::device(0).expect("evenkeel must accept a CUDA driver of version 11.2");
    }
}

/// Checks that a capture never compiles a module, and that `preload` compiles each module once. The stand-in returns an
/// error if a module is loaded during a capture, or loaded twice.
#[test]
fn kernels_are_compiled_before_a_capture() {
    if !has_standin("standin::kernels_are_compiled_before_a_capture", 13000) {
        return;
    }
    let context = cuda::device(0).expect("the stand-in for the CUDA driver must have a device");
    let stream = context.default_stream();
    let (x, mut y) = (stream.clone_htod(&[1.0f32; 6]).unwrap(), stream.alloc_zeros::<f32>(6).unwrap());
    let mut softmax = || {
        let (x, y) = (Rows::new(x.as_view(), 2, 3)?, RowsMut::new(y.as_view_mut(), 2, 3)?);
        cuda::softmax_into(&stream, x, y, &Softmax::default())
    };
    let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
    let end = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    stream.begin_capture(mode).unwrap();
    let refused = softmax();
    assert!(
        matches!(refused, Err(Error::InvalidArgument { .. })),
        "expected an InvalidArgument error, got {refused:?}"
    );
    let text = "softmax: stream is captured; it must be not captured before kernel softmax_f32_any is compiled, by an \
        earlier call or by `cuda::preload` of softmax";
    assert_eq!(refused.map_err(|error| error.to_string()), Err(text.to_string()));
    stream.end_capture(end).unwrap();

    let (calls, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let progress = |done, all| {
        calls.fetch_add(1, Ordering::Relaxed);
        most.fetch_max(done, Ordering::Relaxed);
        assert_eq!(
            all, 5,
            "preload of softmax and sample for 2 types: expected 5 modules (1 per op and type, and 1 of sample that \
             serves every type), got {all}"
        );
    };
    cuda::preload(&context, &["softmax", "sample"], &[DType::F32, DType::BF16], progress).unwrap();
    assert_eq!((calls.into_inner(), most.into_inner()), (5, 5));
    cuda::preload(&context, &["softmax"], DType::ALL, |_, _| ())
        .expect("preload must compile the module of softmax for f16");
    stream.begin_capture(mode).unwrap();
    softmax().expect("softmax must run during a capture after preload has compiled the module of softmax");
    stream.end_capture(end).unwrap();

    let unknown = cuda::preload(&context, &["softmin"], &[DType::F32], |_, _| ()).unwrap_err().to_string();
    assert!(
        unknown.starts_with("preload: sources is softmin; it must be one of "),
        "the error must state that `softmin` is not a kernel source, got: {unknown}"
    );
    assert!(
        unknown.contains(", softmax_masked"),
        "the error must list the kernel sources, such as softmax_masked, got: {unknown}"
    );
}

/// Checks that nothing keeps a stream alive after `release`.
#[test]
fn a_released_stream_has_no_other_owner() {
    if !has_standin("standin::a_released_stream_has_no_other_owner", 13000) {
        return;
    }
    let stream = cuda::device(0).expect("the stand-in for the CUDA driver must have a device").default_stream();
    let call = Call { streams: [stream.clone(), stream.clone()], away: usize::MAX };
    let owners = Arc::strong_count(&stream);
    for _ in 0..2 {
        rms_norm_backward(&call).expect("rms_norm_backward must run on the stand-in for the CUDA driver");
        assert!(
            Arc::strong_count(&stream) > owners,
            "rms_norm_backward must allocate a workspace that holds a reference to the stream"
        );
        cuda::release(&stream);
        assert_eq!(
            Arc::strong_count(&stream),
            owners,
            "`cuda::release` must free the workspace that holds a reference to the stream"
        );
    }
}
