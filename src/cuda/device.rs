//! Devices, the modules loaded on them, and the only function that launches kernels.

use crate::error::{Error, Result, Source};
#[cfg(feature = "candle-cuda")]
use cudarc::driver::CudaSlice;
use cudarc::driver::{
    CudaContext, CudaFunction, CudaModule, CudaStream, DevicePtr, DevicePtrMut, DeviceRepr, DriverError, LaunchConfig,
    PushKernelArg, SyncOnDrop,
};
use cudarc::nvrtc::Ptx;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

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
}

/// Returns the context of the device with this ordinal.
///
/// # Errors
/// [`Error::Unavailable`] if there is no driver, no such device, or its compute capability is below 8.0.
/// [`Error::Failed`] if the driver fails to open the device.
pub fn device(ordinal: usize) -> Result<Arc<CudaContext>> {
    if !has_driver() {
        return Err(Error::unavailable(BACKEND, "there is no CUDA driver on this machine (libcuda was not found)"));
    }
    let context = CudaContext::new(ordinal).map_err(|error| not_opened(ordinal, error))?;
    let (major, minor) = check(context.compute_capability())?;
    if major < 8 {
        let reason = format!("device {ordinal} has compute capability {major}.{minor}; the kernels need 8.0 or above");
        return Err(Error::unavailable(BACKEND, reason));
    }
    Ok(context)
}

/// Returns whether the driver's library can be loaded; otherwise `cudarc` would panic. The check in `cudarc` only works
/// in programs that do not link the driver, and candle's `cuda` feature links it.
fn has_driver() -> bool {
    let names: &[&str] = if cfg!(windows) { &["nvcuda.dll"] } else { &["libcuda.so", "libcuda.so.1"] };
    // SAFETY: loading runs the library's initialisers, as any use of the driver does.
    names.iter().any(|name| unsafe { libloading::Library::new(*name) }.is_ok())
}

/// Creates the error for a device that could not be opened.
fn not_opened(ordinal: usize, error: DriverError) -> Error {
    let reason = format!("device {ordinal}: {}", describe(error));
    match is_absent(error.0 as u32) {
        true => Error::unavailable(BACKEND, reason),
        false => Error::failed_with(BACKEND, reason, Source::new(error)),
    }
}

/// Returns whether the driver's status means that the device is not there, or that the driver cannot use it in this
/// process. Any other status, such as 2 for too little memory, is a failure of the device. The statuses are numbers,
/// because the older versions of CUDA do not name all of them.
fn is_absent(status: u32) -> bool {
    matches!(
        status,
        3 // not initialised
        | 34 // only the stub of the driver's library is installed
        | 46 // the device is used by another process alone
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
/// dropped. The values are named in errors as `argument`.
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

/// Checks that memory allocated on one stream may be used on another: both must belong to the same context.
fn check_device(op: &'static str, argument: &'static str, of: &CudaStream, stream: &CudaStream) -> Result<()> {
    let (of, runs_on) = (of.context(), stream.context());
    if of.cu_ctx() == runs_on.cu_ctx() {
        return Ok(());
    }
    let expected = format!("in the memory of device {}, where the stream runs", runs_on.ordinal());
    Err(Error::invalid(op, argument, format!("in the memory of device {}", of.ordinal()), expected))
}

/// Allocates memory for `len` elements, which must be at least one. A kernel must write them before they are read.
#[cfg(feature = "candle-cuda")]
pub(crate) fn memory<E: super::DeviceElement>(stream: &Arc<CudaStream>, len: usize) -> Result<CudaSlice<E>> {
    // SAFETY: every bit pattern is a valid number, so reading an element that was never written is defined.
    check(unsafe { stream.alloc(len) })
}

/// Modules and functions loaded so far. Each entry keeps its context alive.
#[derive(Default)]
struct Loaded {
    /// Modules by context, source and storage type.
    modules: HashMap<(usize, &'static str, &'static str), Arc<CudaModule>>,
    functions: HashMap<(usize, &'static str), CudaFunction>,
}

fn function(context: &Arc<CudaContext>, launch: &Launch) -> Result<CudaFunction> {
    static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let loaded = loaded.get_or_insert_default();
    let key = context.cu_ctx() as usize;
    if let Some(function) = loaded.functions.get(&(key, launch.kernel)) {
        return Ok(function.clone());
    }
    let of_module = (key, launch.source, launch.storage());
    let module = match loaded.modules.get(&of_module) {
        Some(module) => module.clone(),
        None => {
            let module = check(context.load_module(Ptx::from_src(launch.ptx()?)))?;
            loaded.modules.insert(of_module, module.clone());
            module
        }
    };
    let function = check(module.load_function(launch.kernel))?;
    loaded.functions.insert((key, launch.kernel), function.clone());
    Ok(function)
}

/// Launches a kernel with its single parameter, `arguments`.
///
/// # Safety
/// `arguments` must be of the kernel's parameter type. Its pointers and lengths must describe memory that the kernel
/// may access on this stream.
pub(super) unsafe fn run<A: DeviceRepr>(stream: &Arc<CudaStream>, launch: &Launch, arguments: &A) -> Result<()> {
    let function = function(stream.context(), launch)?;
    let config =
        LaunchConfig { grid_dim: (launch.blocks, 1, 1), block_dim: (launch.threads, 1, 1), shared_mem_bytes: 0 };
    // SAFETY: the caller guarantees that the arguments are valid.
    check(unsafe { stream.launch_builder(&function).arg(arguments).launch(config) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_absent;

    #[test]
    fn only_a_missing_device_may_be_replaced_by_the_cpu() {
        // Out of memory, an illegal address, a failed launch and an unknown error are failures.
        for status in [2, 700, 719, 999] {
            assert!(!is_absent(status), "status {status}");
        }
        assert!(is_absent(100) && is_absent(101) && is_absent(803));
    }
}
