//! Tests of [`Lasting`] on a stand-in for the CUDA driver, which counts how often a thread waits for a device.

use super::*;
use crate::cuda;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicUsize;

/// Compiles the stand-in, and runs the calling test again in a new process that loads the stand-in. Returns true in the
/// new process.
fn has_standin(test: &str) -> bool {
    if std::env::var_os("EVENKEEL_STANDIN").is_some() {
        return true;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda/standin.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-std=gnu11", "-O1", "-shared", "-fPIC", "-o"]).arg(folder.path().join("libcuda.so")).arg(source);
    assert!(compiler.status().unwrap().success(), "`cc` must compile the stand-in for the CUDA driver");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("cuda::lasting::tests::{test}"), "--nocapture"])
        .envs([("EVENKEEL_STANDIN", Path::new("1")), ("LD_LIBRARY_PATH", folder.path())])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{test} must pass with the stand-in, got:\n{text}");
    false
}

/// Calls a function of the stand-in that takes and returns an integer.
fn standin(name: &str, argument: i32) -> i32 {
    // SAFETY: the stand-in is loaded already, and each of its functions `evenkeel_standin_*` can be called with one
    // integer.
    unsafe {
        let standin = libloading::Library::new("libcuda.so").unwrap();
        let function: libloading::Symbol<'_, unsafe extern "C" fn(i32) -> i32> = standin.get(name).unwrap();
        function(argument)
    }
}

/// Returns how often a thread has waited for a device.
fn waits() -> i32 {
    standin("evenkeel_standin_waited", 0)
}

/// Value that counts how often it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn lasting(stream: &Arc<CudaStream>) -> (Lasting<Counted>, Arc<AtomicUsize>) {
    let drops = Arc::new(AtomicUsize::new(0));
    (Lasting::new(("softmax", "mask"), stream, |_| Ok(Counted(drops.clone()))).unwrap(), drops)
}

#[test]
fn another_thread_waits_once_and_then_drop_waits() {
    if !has_standin("another_thread_waits_once_and_then_drop_waits") {
        return;
    }
    let context = cuda::device(0).unwrap();
    let (value, drops) = lasting(&context.per_thread_stream());
    value.get().unwrap();
    assert_eq!(waits(), 0, "the thread that made the value must not wait");
    thread::scope(|scope| {
        scope.spawn(|| value.get().map(|_| ()).unwrap());
    });
    assert_eq!(waits(), 1, "another thread must wait for the copy");
    thread::scope(|scope| {
        scope.spawn(|| value.get().map(|_| ()).unwrap());
    });
    assert_eq!(waits(), 1, "the copy is complete, so no thread must wait for it again");
    drop(value);
    assert_eq!((waits(), drops.load(Ordering::SeqCst)), (2, 1), "drop must wait for kernels of the other threads");

    let (value, drops) = lasting(&context.per_thread_stream());
    thread::spawn(|| drop(value)).join().unwrap();
    assert_eq!(
        (waits(), drops.load(Ordering::SeqCst)),
        (3, 1),
        "drop on another thread must wait for the maker's kernels"
    );
}

#[test]
fn nothing_waits_on_other_streams() {
    if !has_standin("nothing_waits_on_other_streams") {
        return;
    }
    let (value, drops) = lasting(&cuda::device(0).unwrap().default_stream());
    thread::scope(|scope| {
        scope.spawn(|| value.get().map(|_| ()).unwrap());
    });
    thread::spawn(|| drop(value)).join().unwrap();
    assert_eq!((waits(), drops.load(Ordering::SeqCst)), (0, 1));
}

#[test]
fn memory_in_use_is_not_freed_if_the_device_fails() {
    if !has_standin("memory_in_use_is_not_freed_if_the_device_fails") {
        return;
    }
    let (value, drops) = lasting(&cuda::device(0).unwrap().per_thread_stream());
    standin("evenkeel_standin_fail_waits", 1);
    thread::scope(|scope| {
        let refused = scope.spawn(|| value.get().map(|_| ())).join().unwrap();
        assert!(matches!(refused, Err(Error::Failed { .. })), "expected the error Failed, got {refused:?}");
    });
    thread::spawn(|| drop(value)).join().unwrap();
    assert_eq!(drops.load(Ordering::SeqCst), 0, "kernels may still use the memory");
}

#[test]
fn captures_are_refused_and_the_callers_context_returns() {
    use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
    if !has_standin("captures_are_refused_and_the_callers_context_returns") {
        return;
    }
    let [first, second] = [0, 1].map(|ordinal| cuda::device(ordinal).unwrap());
    let stream = second.default_stream();
    first.bind_to_thread().unwrap();
    let is_first = || cudarc::driver::result::ctx::get_current().unwrap() == Some(first.cu_ctx());
    let (value, drops) = lasting(&stream);
    assert!(is_first());
    assert!(value.is_of(&stream) && !value.is_of(&first.default_stream()) && !value.is_of(&second.per_thread_stream()));
    drop(value);
    assert!(is_first() && drops.load(Ordering::SeqCst) == 1);

    second.bind_to_thread().unwrap();
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    let refused = Lasting::new(("softmax", "mask"), &stream, |_| Ok(())).map(|_| ()).unwrap_err();
    let text =
        "softmax: stream is captured; it must be not captured; call the op once with this mask before the capture";
    assert_eq!(refused.to_string(), text);
    stream.end_capture(CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH).unwrap();
}
