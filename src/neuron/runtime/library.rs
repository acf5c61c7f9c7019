//! libnrt, loaded when a device is first opened. It is never unloaded, because it has threads of its own.

use super::abi::{InstanceInfo, Model, Numbering, Status, Tensor, TensorInfoArray, TensorSet, Version};
use crate::error::fault::{Fault, Result};
use crate::neuron::settings;
use std::ffi::{OsString, c_char, c_int, c_void};
use std::mem::ManuallyDrop;

/// Names under which libnrt is searched for. The last name is the path to which Neuron's packages install the library.
const USUAL: [&str; 3] = ["libnrt.so.1", "libnrt.so", "/opt/aws/neuron/lib/libnrt.so.1"];

/// Declares the functions that every usable library exports.
macro_rules! functions {
    ($($field:ident $symbol:literal: $type:ty,)*) => {
        /// Functions of libnrt. Each may be called between `init` and the end of the process, from one thread at a
        /// time. Handles must come from the library and must not be freed yet.
        pub struct Functions {
            $(pub $field: $type,)*
            /// `nrt_get_visible_vnc_count`, or its older name; callable before `init`.
            pub visible_cores: CountCores,
            /// `nrt_get_version`, if the library exports it.
            pub version: Option<unsafe extern "C" fn(*mut Version, usize) -> Status>,
            /// `nrt_get_instance_info`, if the library exports it.
            pub instance: Option<unsafe extern "C" fn(*mut InstanceInfo, usize) -> Status>,
            /// Numbering of the element types.
            pub numbering: Numbering,
        }

        /// Returns the library's functions, or the names of the missing ones.
        fn find_all(library: &libloading::Library) -> std::result::Result<Functions, Vec<&'static str>> {
            let mut missing = Vec::new();
            // SAFETY: the types match the public headers, and no signature has changed since their first version.
            unsafe {
                $(
                    let $field = find::<$type>(library, $symbol);
                    if $field.is_none() {
                        missing.push($symbol);
                    }
                )*
                let new = find::<CountCores>(library, "nrt_get_visible_vnc_count");
                let numbering = if new.is_some() { Numbering::New } else { Numbering::Old };
                let visible_cores = new.or_else(|| find(library, "nrt_get_visible_nc_count"));
                if visible_cores.is_none() {
                    missing.push("nrt_get_visible_nc_count");
                }
                let (version, instance) = (find(library, "nrt_get_version"), find(library, "nrt_get_instance_info"));
                match ($($field,)* visible_cores) {
                    ($(Some($field),)* Some(visible_cores)) => {
                        Ok(Functions { $($field,)* visible_cores, version, instance, numbering })
                    }
                    _ => Err(missing),
                }
            }
        }
    };
}

type CountCores = unsafe extern "C" fn(*mut u32) -> Status;

functions! {
    init "nrt_init": unsafe extern "C" fn(c_int, *const c_char, *const c_char) -> Status,
    load "nrt_load": unsafe extern "C" fn(*const c_void, usize, i32, i32, *mut *mut Model) -> Status,
    unload "nrt_unload": unsafe extern "C" fn(*mut Model) -> Status,
    tensor_infos "nrt_get_model_tensor_info":
        unsafe extern "C" fn(*mut Model, *mut *mut TensorInfoArray) -> Status,
    free_tensor_infos "nrt_free_model_tensor_info": unsafe extern "C" fn(*mut TensorInfoArray) -> Status,
    allocate_tensor "nrt_tensor_allocate":
        unsafe extern "C" fn(c_int, c_int, usize, *const c_char, *mut *mut Tensor) -> Status,
    free_tensor "nrt_tensor_free": unsafe extern "C" fn(*mut *mut Tensor),
    read_tensor "nrt_tensor_read": unsafe extern "C" fn(*const Tensor, *mut c_void, usize, usize) -> Status,
    write_tensor "nrt_tensor_write": unsafe extern "C" fn(*mut Tensor, *const c_void, usize, usize) -> Status,
    allocate_set "nrt_allocate_tensor_set": unsafe extern "C" fn(*mut *mut TensorSet) -> Status,
    destroy_set "nrt_destroy_tensor_set": unsafe extern "C" fn(*mut *mut TensorSet),
    add_to_set "nrt_add_tensor_to_tensor_set":
        unsafe extern "C" fn(*mut TensorSet, *const c_char, *mut Tensor) -> Status,
    execute "nrt_execute": unsafe extern "C" fn(*mut Model, *const TensorSet, *mut TensorSet) -> Status,
}

/// Returns a symbol of the library.
///
/// # Safety
/// `T` must be the function type of the symbol.
unsafe fn find<T: Copy>(library: &libloading::Library, symbol: &str) -> Option<T> {
    // SAFETY: the caller guarantees that `T` is the symbol's function type.
    unsafe { library.get::<T>(symbol) }.ok().map(|found| *found)
}

/// Loads the library and resolves its functions.
///
/// # Errors
/// [`Fault::Unavailable`] if no library can be loaded, or if it lacks a function.
pub fn functions() -> Result<Functions> {
    let forced = settings::path(settings::LIBRARY);
    let names: Vec<OsString> = match &forced {
        Some(name) => vec![name.clone()],
        None => USUAL.iter().map(OsString::from).collect(),
    };
    let mut reasons = Vec::new();
    for name in &names {
        match open(name) {
            Ok(library) => {
                // The library is never unloaded, because its threads may run until the process ends.
                let library = ManuallyDrop::new(library);
                return find_all(&library).map_err(|missing| {
                    let (name, missing) = (name.to_string_lossy(), missing.join(", "));
                    Fault::unavailable(format!("{name} is not a usable Neuron runtime: it lacks {missing}"))
                });
            }
            Err(error) => {
                // The operating system's message names the missing file: this library or one that it depends on.
                let cause = std::error::Error::source(&error).map(|cause| cause.to_string());
                let cause = cause.unwrap_or_else(|| error.to_string());
                let is_absent = cause.starts_with(&format!("{}: cannot open", name.display()));
                if forced.is_some() || !(is_absent && cause.ends_with("No such file or directory")) {
                    reasons.push(cause);
                }
            }
        }
    }
    let reason = match forced {
        Some(_) => format!("{} can't be loaded: {}", settings::LIBRARY, reasons.join("; ")),
        None if reasons.is_empty() => format!("there is no Neuron runtime on this machine: no {}", USUAL.join(", no ")),
        None => format!("the Neuron runtime can't be loaded: {}", reasons.join("; ")),
    };
    Err(Fault::unavailable(reason))
}

#[cfg(unix)]
fn open(name: &OsString) -> std::result::Result<libloading::Library, libloading::Error> {
    use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
    // RTLD_NOW reports missing dependencies here, not in the middle of a later call.
    // SAFETY: loading runs the library's initialisers, as any use of the library does.
    unsafe { Library::open(Some(name), RTLD_NOW | RTLD_LOCAL) }.map(Into::into)
}

#[cfg(not(unix))]
fn open(name: &OsString) -> std::result::Result<libloading::Library, libloading::Error> {
    // SAFETY: loading runs the library's initialisers, as any use of the library does.
    unsafe { libloading::Library::new(name) }
}
