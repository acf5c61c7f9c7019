//! Devices, the modules loaded on them, and the only function that launches kernels.

use super::ptx;
use crate::element::DType;
use crate::error::{Error, Result, Source};
#[cfg(feature = "candle-cuda")]
use cudarc::driver::CudaSlice;
use cudarc::driver::sys::{self, CUdevice_attribute, CUfunction_attribute, CUstreamCaptureStatus};
use cudarc::driver::{
    CudaContext, CudaFunction, CudaModule, CudaStream, DevicePtr, DevicePtrMut, DeviceRepr, DriverError, LaunchConfig,
    PushKernelArg, SyncOnDrop, result,
};
use cudarc::nvrtc::Ptx;
use std::collections::HashMap;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Name of this backend in errors.
const BACKEND: &str = "cuda";

/// A kernel and its one-dimensional launch configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Launch {
    /// Name of the CUDA source that defines the kernel.
    pub source: &'static str,
    /// Name of the kernel.
    pub kernel: &'static str,
    /// Number of blocks in the grid.
    pub blocks: u32,
    /// Number of threads in a block.
    pub threads: u32,
    /// Number of bytes of dynamic shared memory that a block can use. With fewer bytes, or none, the kernel computes
    /// the same bits, but may read rows from global memory again. If the kernel's static shared memory leaves fewer
    /// bytes than this number, a launch must request at most what is left.
    pub shared: u32,
}

/// The context that was current on this thread before a call. Dropping the value makes this context current again.
///
/// `cudarc` makes a stream's context current and does not restore the previous context. An application may need its
/// context on the same thread. Each function that uses the driver therefore saves the current context before anything
/// else. The value is then dropped last, after the guards of the arguments: dropping a guard also uses the driver.
#[must_use]
pub(crate) struct CallerContext(sys::CUcontext);

impl CallerContext {
    pub(crate) fn save() -> Self {
        CallerContext(current())
    }
}

impl Drop for CallerContext {
    fn drop(&mut self) {
        if current() != self.0 {
            // SAFETY: the context was current before the call, or the pointer is null, which means no context. The call
            // fails only if another thread destroyed the context since then, and then there is nothing to restore.
            let _ = unsafe { sys::cuCtxSetCurrent(self.0) };
        }
    }
}

/// Returns this thread's current context, or null if there is none, for example before the driver is initialised.
fn current() -> sys::CUcontext {
    result::ctx::get_current().ok().flatten().unwrap_or(ptr::null_mut())
}

/// Returns the context of the device with this ordinal. The calling thread's current context does not change.
///
/// # Errors
/// [`Error::Unavailable`] if there is no driver or no such device, if the driver is older than CUDA 11.2, or if the
/// device's compute capability is below 8.0. [`Error::Failed`] if the driver fails to open the device.
pub fn device(ordinal: usize) -> Result<Arc<CudaContext>> {
    if !has_driver() {
        return Err(Error::unavailable(BACKEND, "there is no CUDA driver on this machine (libcuda was not found)"));
    }
    let _caller = CallerContext::save();
    let version = driver_version().map_err(|error| not_opened(ordinal, error))?;
    if version < LEAST_VERSION {
        let [version, least] = [version, LEAST_VERSION].map(|v| format!("{}.{}", v / 1000, v % 1000 / 10));
        let reason = format!(
            "the driver supports CUDA {version}; the kernels need a driver that supports CUDA {least} or above"
        );
        return Err(Error::unavailable(BACKEND, reason));
    }
    let context = CudaContext::new(ordinal).map_err(|error| not_opened(ordinal, error))?;
    let (major, minor) = check(context.compute_capability())?;
    if major < 8 {
        let reason = format!("device {ordinal} has compute capability {major}.{minor}; the kernels need 8.0 or above");
        return Err(Error::unavailable(BACKEND, reason));
    }
    Ok(context)
}

/// Returns whether the driver's library can be loaded. Without the library, any use of `cudarc` panics. `cudarc`'s own
/// check does not work in programs that link the driver, as programs with candle's `cuda` feature do.
fn has_driver() -> bool {
    let names: &[&str] = if cfg!(windows) { &["nvcuda.dll"] } else { &["libcuda.so", "libcuda.so.1"] };
    // SAFETY: loading runs the library's initialisers, as any use of the driver does.
    names.iter().any(|name| unsafe { libloading::Library::new(*name) }.is_ok())
}

/// Oldest supported CUDA version, in the driver's notation: 1000 * major + 10 * minor. `cudarc` queries memory pools,
/// which CUDA 11.2 introduced.
const LEAST_VERSION: i32 = 11_020;

/// Returns the newest CUDA version that the driver supports, in the driver's notation.
fn driver_version() -> std::result::Result<i32, DriverError> {
    let mut version = 0;
    // SAFETY: the driver writes one integer.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result()?;
    Ok(version)
}

/// Creates the error for a device that could not be opened.
fn not_opened(ordinal: usize, error: DriverError) -> Error {
    let reason = format!("device {ordinal}: {}", describe(error));
    match is_absent(error.0 as u32) {
        true => Error::unavailable(BACKEND, reason),
        false => Error::failed_with(BACKEND, reason, Source::new(error)),
    }
}

/// Returns whether the driver's status means that the device does not exist, or that the driver cannot use the device
/// in this process. Any other status, such as 2 for too little memory, is a failure of the device. The code compares
/// numbers, because older versions of CUDA do not name all statuses.
fn is_absent(status: u32) -> bool {
    matches!(
        status,
        3 // not initialised
        | 34 // only the stub of the driver's library is installed
        | 46 // another process has exclusive use of the device
        | 100 // no device
        | 101 // no such device
        | 802 | 803 // the system is not ready; driver and library differ
        | 804 // the device does not support the compatibility library
    )
}

pub(super) fn failed(reason: impl Into<String>) -> Error {
    Error::failed(BACKEND, reason)
}

fn describe(error: DriverError) -> String {
    match (error.error_name(), error.error_string()) {
        (Ok(name), Ok(text)) => format!("{}: {}", name.to_string_lossy(), text.to_string_lossy()),
        _ => format!("{error:?}"),
    }
}

pub(super) fn check<T>(result: std::result::Result<T, DriverError>) -> Result<T> {
    result.map_err(|error| Error::failed_with(BACKEND, describe(error), Source::new(error)))
}

/// Returns the address of values that a kernel on this stream reads, and a guard that marks the end of the read when
/// dropped. Errors call the values `argument`.
///
/// # Errors
/// [`Error::InvalidArgument`] if the values are in the memory of another device.
pub(super) fn read<'v, T>(
    (op, argument): (&'static str, &'static str),
    values: &'v impl DevicePtr<T>,
    stream: &'v CudaStream,
) -> Result<(u64, SyncOnDrop<'v>)> {
    check_device(op, argument, values.stream(), stream)?;
    Ok(values.device_ptr(stream))
}

/// Returns the address and the guard as [`read`] does, for values that a kernel writes.
pub(super) fn write<'v, T>(
    (op, argument): (&'static str, &'static str),
    values: &'v mut impl DevicePtrMut<T>,
    stream: &'v CudaStream,
) -> Result<(u64, SyncOnDrop<'v>)> {
    check_device(op, argument, values.stream(), stream)?;
    Ok(values.device_ptr_mut(stream))
}

/// Checks that memory allocated on one stream may be used on another: both streams must belong to the same context.
fn check_device(op: &'static str, argument: &'static str, of: &CudaStream, stream: &CudaStream) -> Result<()> {
    let (of, runs_on) = (of.context(), stream.context());
    if of.cu_ctx() == runs_on.cu_ctx() {
        return Ok(());
    }
    let expected = format!("in the memory of device {}, where the stream runs", runs_on.ordinal());
    Err(Error::invalid(op, argument, format!("in the memory of device {}", of.ordinal()), expected))
}

/// Allocates memory for `len` elements; `len` must be at least 1. A kernel must write the elements before they are
/// read.
#[cfg(feature = "candle-cuda")]
pub(crate) fn memory<E: super::DeviceElement>(stream: &Arc<CudaStream>, len: usize) -> Result<CudaSlice<E>> {
    // SAFETY: every bit pattern is a valid number, so reading an element that was never written is defined.
    check(unsafe { stream.alloc(len) })
}

/// Copies values to the host, and waits. Without the wait, a copy to pageable memory may return before it ends.
pub(super) fn to_host<T: DeviceRepr>(stream: &Arc<CudaStream>, from: &impl DevicePtr<T>) -> Result<Vec<T>> {
    let values = check(stream.clone_dtoh(from))?;
    check(stream.synchronize())?;
    Ok(values)
}

/// Modules and functions loaded so far. Each entry keeps its context alive.
#[derive(Default)]
struct Loaded {
    /// Modules by context, source and storage type.
    modules: HashMap<(usize, &'static str, &'static str), Arc<CudaModule>>,
    functions: HashMap<(usize, &'static str), CudaFunction>,
    /// Largest number of bytes of dynamic shared memory, by context, kernel and number of threads.
    most_shared: HashMap<(usize, &'static str, u32), u32>,
}

/// Calls `f` with the modules and functions loaded so far, under a lock. Modules are compiled outside of this lock.
fn with_loaded<T>(f: impl FnOnce(&mut Loaded) -> T) -> T {
    static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);
    f(LOADED.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

fn function(stream: &CudaStream, launch: &Launch) -> Result<CudaFunction> {
    let context = stream.context();
    let key = context.cu_ctx() as usize;
    if let Some(function) = with_loaded(|loaded| loaded.functions.get(&(key, launch.kernel)).cloned()) {
        return Ok(function);
    }
    let of_module = (key, launch.source, launch.storage());
    let module = match with_loaded(|loaded| loaded.modules.get(&of_module).cloned()) {
        Some(module) => module,
        None if is_captured(stream)? => {
            let Launch { source, kernel, .. } = launch;
            let expected = format!(
                "not captured before kernel {kernel} is compiled, by an earlier call or by `cuda::preload` of {source}"
            );
            return Err(Error::invalid(source, "stream", "captured", expected));
        }
        None => load(context, of_module, launch.ptx()?)?,
    };
    let function = check(module.load_function(launch.kernel))?;
    with_loaded(|loaded| loaded.functions.insert((key, launch.kernel), function.clone()));
    Ok(function)
}

/// Returns the number of bytes of dynamic shared memory for a launch: the requested number, limited so that a
/// multiprocessor runs as many blocks at a time as it does without dynamic shared memory. The result may be 0.
fn shared(stream: &CudaStream, launch: &Launch, function: &CudaFunction) -> Result<u32> {
    if launch.shared == 0 {
        return Ok(0);
    }
    let key = (stream.context().cu_ctx() as usize, launch.kernel, launch.threads);
    if let Some(most) = with_loaded(|loaded| loaded.most_shared.get(&key).copied()) {
        return Ok(launch.shared.min(most));
    }
    // This call also makes the function's context current.
    let of_variables = check(function.shared_size_bytes())?;
    let attribute = |of| check(stream.context().attribute(of));
    let of_block = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
    let of_processor = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR)?;
    let blocks = check(function.occupancy_max_active_blocks_per_multiprocessor(launch.threads, 0, None))?.max(1);
    let set = |attribute, value: i32| check(function.set_attribute(attribute, value));
    set(CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, of_block - of_variables)?;
    // Makes a multiprocessor use its memory as shared memory rather than as a cache, so that all blocks fit.
    set(CUfunction_attribute::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, 100)?;
    // The driver reserves 1 KiB for each block. Shared memory is allocated in units of at most 256 bytes.
    let most = ((of_processor / blocks as i32 - 1024).min(of_block) - of_variables).max(0) as u32 & !255;
    with_loaded(|loaded| loaded.most_shared.insert(key, most));
    Ok(launch.shared.min(most))
}

/// Compiles a module. If two threads compile the same module, both use the first result.
fn load(
    context: &Arc<CudaContext>,
    of_module: (usize, &'static str, &'static str),
    ptx: String,
) -> Result<Arc<CudaModule>> {
    let module = check(context.load_module(Ptx::from_src(ptx)))?;
    Ok(with_loaded(|loaded| loaded.modules.entry(of_module).or_insert(module).clone()))
}

/// Returns whether the stream is captured into a graph.
pub(super) fn is_captured(stream: &CudaStream) -> Result<bool> {
    Ok(check(stream.capture_status())? != CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE)
}

/// Compiles kernels before their first call, on all of the machine's cores. Later calls on the context use the compiled
/// kernels, even while a graph is captured.
///
/// The driver compiles each source for each type, which can take seconds, and keeps the results in its cache
/// (`CUDA_CACHE_PATH`). [`sources`](super::sources) lists the sources; most have the name of an op. Several threads
/// call `progress`, with the number of compiled modules and the total number.
///
/// # Errors
/// [`Error::InvalidArgument`] for an unknown source; [`Error::Failed`] if the driver cannot compile a module.
///
/// ```no_run
/// use evenkeel::{DType, cuda};
/// let context = cuda::device(0)?;
/// cuda::preload(&context, &["softmax", "sample"], &[DType::BF16], |done, all| eprintln!("{done} of {all}"))?;
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn preload(
    context: &Arc<CudaContext>,
    sources: &[&str],
    dtypes: &[DType],
    progress: impl Fn(usize, usize) + Sync,
) -> Result<()> {
    let _caller = CallerContext::save();
    let mut modules = Vec::new();
    for source in sources {
        let Some(source) = super::sources().find(|known| known == source) else {
            let known: Vec<_> = super::sources().collect();
            return Err(Error::invalid("preload", "sources", *source, format!("one of {}", known.join(", "))));
        };
        let text = ptx::unpacked(source)?;
        for storage in ptx::storages(&text) {
            if storage.is_empty() || dtypes.iter().any(|dtype| dtype.to_string().eq_ignore_ascii_case(storage)) {
                modules.extend(ptx::module(&text, storage).map(|ptx| (source, storage, ptx)));
            }
        }
    }
    let key = context.cu_ctx() as usize;
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        while let Some((source, storage, ptx)) = modules.get(next.fetch_add(1, Ordering::Relaxed)) {
            let of_module = (key, *source, *storage);
            if !with_loaded(|loaded| loaded.modules.contains_key(&of_module)) {
                load(context, of_module, ptx.clone())?;
            }
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, modules.len());
        }
        Ok(())
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(modules.len());
    thread::scope(|scope| {
        // If the system refuses to start a thread, fewer threads do the work.
        let others: Vec<_> = (1..threads).flat_map(|_| thread::Builder::new().spawn_scoped(scope, work)).collect();
        let own = work();
        let join = |other: thread::ScopedJoinHandle<'_, Result<()>>| {
            other.join().unwrap_or_else(|_| Err(failed("a thread that compiled kernels panicked")))
        };
        others.into_iter().map(join).fold(own, Result::and)
    })
}

/// Launches a kernel with its single parameter, `arguments`.
///
/// # Safety
/// `arguments` must be of the kernel's parameter type. Its pointers and lengths must describe memory that the kernel
/// may access on this stream.
pub(super) unsafe fn run<A: DeviceRepr>(stream: &Arc<CudaStream>, launch: &Launch, arguments: &A) -> Result<()> {
    let function = function(stream, launch)?;
    let shared_mem_bytes = shared(stream, launch, &function)?;
    let config = LaunchConfig { grid_dim: (launch.blocks, 1, 1), block_dim: (launch.threads, 1, 1), shared_mem_bytes };
    // SAFETY: the caller guarantees that the arguments are valid.
    check(unsafe { stream.launch_builder(&function).arg(arguments).launch(config) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_absent;

    #[test]
    fn only_a_missing_device_may_be_replaced_by_the_cpu() {
        // These statuses are failures of a device that exists: out of memory, an illegal address, a failed launch and
        // an unknown error.
        for status in [2, 700, 719, 999] {
            assert!(!is_absent(status), "status {status} must count as a device failure, not as a missing device");
        }
        assert!(is_absent(100) && is_absent(101) && is_absent(803));
    }
}
