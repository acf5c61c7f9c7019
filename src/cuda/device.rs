//! Devices, the modules that are loaded there, and the one place where kernels are launched.

use crate::error::{Error, Result};
#[cfg(feature = "candle-cuda")]
use cudarc::driver::CudaSlice;
use cudarc::driver::{
    CudaContext, CudaFunction, CudaModule, CudaStream, DeviceRepr, DriverError, LaunchConfig, PushKernelArg,
};
use cudarc::nvrtc::Ptx;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A kernel that is to run in one dimension, and with how many blocks of how many threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Launch {
    /// The source that it is in.
    pub source: &'static str,
    /// Its name.
    pub kernel: &'static str,
    /// Blocks of the grid.
    pub blocks: u32,
    /// Threads of a block.
    pub threads: u32,
}

/// The device with this number.
///
/// # Errors
/// [`Error::Backend`] where there is no driver, no such device, or one below compute capability 8.0.
pub fn device(ordinal: usize) -> Result<Arc<CudaContext>> {
    if !has_driver() {
        return Err(refused("there is no CUDA driver on this machine (libcuda was not found)"));
    }
    let context = CudaContext::new(ordinal).map_err(|e| refused(format!("device {ordinal}: {}", told(e))))?;
    let (major, minor) = context.compute_capability().map_err(|e| refused(told(e)))?;
    if major < 8 {
        let reason = format!("device {ordinal} has compute capability {major}.{minor}; kernels need 8.0");
        return Err(refused(reason));
    }
    Ok(context)
}

/// Whether the driver's library can be loaded: `cudarc` panics where it is asked to, and only answers in programs that do
/// not link it, which candle's `cuda` feature makes them do.
fn has_driver() -> bool {
    let names: &[&str] = if cfg!(windows) { &["nvcuda.dll"] } else { &["libcuda.so", "libcuda.so.1"] };
    // SAFETY: the library's initialisers run, as they do at every use of it.
    names.iter().any(|name| unsafe { libloading::Library::new(*name) }.is_ok())
}

pub(super) fn refused(reason: impl Into<String>) -> Error {
    Error::Backend { backend: "cuda".to_string(), reason: reason.into() }
}

fn told(error: DriverError) -> String {
    match (error.error_name(), error.error_string()) {
        (Ok(name), Ok(text)) => format!("{}: {}", name.to_string_lossy(), text.to_string_lossy()),
        _ => format!("{error:?}"),
    }
}

pub(super) fn check<T>(result: std::result::Result<T, DriverError>) -> Result<T> {
    result.map_err(|error| refused(told(error)))
}

/// Memory for so many elements, one at least, which a kernel writes before they are read.
#[cfg(feature = "candle-cuda")]
pub(crate) fn memory<E: super::DeviceElement>(stream: &Arc<CudaStream>, len: usize) -> Result<CudaSlice<E>> {
    // SAFETY: numbers, of which all bits are some; what is read before it was written is one of them.
    check(unsafe { stream.alloc(len) })
}

/// What is loaded on a context, which the entries keep alive.
#[derive(Default)]
struct Loaded {
    /// By context, source and storage type.
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

/// Runs a kernel with these arguments, which are its one parameter.
///
/// # Safety
/// The arguments are those of the kernel, and their pointers and lengths are of memory that it may use so on this stream.
pub(super) unsafe fn run<A: DeviceRepr>(stream: &Arc<CudaStream>, launch: &Launch, arguments: &A) -> Result<()> {
    let function = function(stream.context(), launch)?;
    let config =
        LaunchConfig { grid_dim: (launch.blocks, 1, 1), block_dim: (launch.threads, 1, 1), shared_mem_bytes: 0 };
    // SAFETY: as the caller promises.
    check(unsafe { stream.launch_builder(&function).arg(arguments).launch(config) })?;
    Ok(())
}
