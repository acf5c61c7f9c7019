//! Functions that `tools/gpu-check/driver.cpp`, a replacement for CUDA's driver, calls to run kernels.
//!
//! If the variable `EVENKEEL_PTX_FAULT` is set, a fault is planted in one kernel. The variable holds three lines: the
//! kernel's name, the number of a line (0 is the kernel's first line), and the text that replaces that line.
//!
//! If the variable `EVENKEEL_PTX_COUNTS` is set, each launch appends a line to the file with this path. The line holds
//! the kernel's name, the numbers of blocks and threads, and `line:count` for each line of the module's PTX that was
//! executed. `scripts/cuda-model` reads these lines.
//!
//! If the variable `EVENKEEL_PTX_LAUNCHED` is set, the first successful launch of each kernel appends the kernel's name
//! to the file with this path. `scripts/ptx-launched` reads these names.

use crate::{Grid, Kernel, Memory, Module, Order};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

struct State {
    memory: Memory,
    /// Number of launches so far, which selects the order of the threads.
    launches: u32,
    /// Names that were appended to the file of `EVENKEEL_PTX_LAUNCHED`.
    launched: BTreeSet<String>,
    /// Last fault or error. The driver returns it as the text of a status.
    fault: Option<CString>,
}

static STATE: Mutex<State> =
    Mutex::new(State { memory: Memory::new(), launches: 0, launched: BTreeSet::new(), fault: None });

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn report(error: &dyn std::error::Error) {
    state().fault = CString::new(error.to_string()).ok();
}

/// Parses a module. Returns null if the module has an error.
///
/// # Safety
/// The text ends with a NUL byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_module(ptx: *const c_char) -> *mut c_void {
    // SAFETY: the caller guarantees that the text ends with a NUL byte.
    let text = unsafe { CStr::from_ptr(ptx) }.to_string_lossy();
    match Module::parse(&planted(&text)) {
        Ok(module) => Box::into_raw(Box::new(module)).cast(),
        Err(error) => {
            report(&error);
            std::ptr::null_mut()
        }
    }
}

/// Plants the fault that the environment variable describes, if the module contains its kernel.
fn planted(text: &str) -> Cow<'_, str> {
    let fault = std::env::var("EVENKEEL_PTX_FAULT").unwrap_or_default();
    let mut parts = fault.splitn(3, '\n');
    if let (Some(kernel), Some(line), Some(to)) = (parts.next(), parts.next(), parts.next())
        && let Some(start) = text.find(&format!(".entry {kernel}("))
        && let Ok(line) = line.parse::<usize>()
        && let Some(from) = text[start..].lines().nth(line)
    {
        // `from` is a slice of `text`, so its address gives its position in `text`.
        let at = from.as_ptr() as usize - text.as_ptr() as usize;
        return format!("{}{to}{}", &text[..at], &text[at + from.len()..]).into();
    }
    text.into()
}

/// Frees a module. Its kernels remain valid.
///
/// # Safety
/// The module is a result of [`engine_module`], and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_unload(module: *mut c_void) {
    // SAFETY: `engine_module` made the pointer from a box.
    drop(unsafe { Box::from_raw(module.cast::<Module>()) });
}

/// Returns a kernel, which is never freed, or null if the module has no such kernel.
///
/// # Safety
/// The module is a result of [`engine_module`], and the name ends with a NUL byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_kernel(module: *const c_void, name: *const c_char) -> *const c_void {
    // SAFETY: the caller guarantees that the module and the name are valid.
    let (module, name) = unsafe { (&*module.cast::<Module>(), CStr::from_ptr(name).to_string_lossy()) };
    match module.kernel(&name) {
        Ok(kernel) => Box::into_raw(Box::new(kernel)).cast_const().cast(),
        Err(error) => {
            report(&error);
            std::ptr::null()
        }
    }
}

/// Runs a kernel. Returns 0 if it ran to its end without a fault.
///
/// # Safety
/// The kernel is a result of [`engine_kernel`], the arguments have its parameter's type, and all memory that was passed
/// to [`engine_allocated`], but not to [`engine_freed`], is still allocated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_launch(
    kernel: *const c_void,
    blocks: u32,
    threads: u32,
    shared: u32,
    arguments: *const c_void,
) -> c_int {
    let (memory, launches) = {
        let mut state = state();
        state.launches += 1;
        (state.memory.clone(), state.launches)
    };
    let order = [Order::Forward, Order::Backward, Order::Random(launches)][launches as usize % 3];
    // SAFETY: the caller guarantees that the kernel and its arguments are valid.
    let (kernel, arguments) = unsafe {
        let kernel = &*kernel.cast::<Kernel>();
        (kernel, std::slice::from_raw_parts(arguments.cast(), kernel.argument_bytes()))
    };
    let grid = Grid { blocks, threads, shared, order };
    // SAFETY: the memory is allocated, and the driver runs one kernel at a time.
    let done = unsafe { kernel.run(grid, arguments, &memory) };
    match done.map(|counts| record_name(&kernel.name).and_then(|()| record(kernel, grid, &counts))) {
        Ok(Ok(())) => return 0,
        Ok(Err(error)) => report(&error),
        Err(error) => report(&error),
    }
    1
}

/// Appends the kernel's name to the file that `EVENKEEL_PTX_LAUNCHED` names, once per process.
fn record_name(kernel: &str) -> io::Result<()> {
    let Some(path) = std::env::var_os("EVENKEEL_PTX_LAUNCHED") else { return Ok(()) };
    if state().launched.insert(kernel.into()) {
        append(&path, &format!("{kernel}\n"))?;
    }
    Ok(())
}

fn append(path: &OsStr, text: &str) -> io::Result<()> {
    OpenOptions::new().append(true).create(true).open(path)?.write_all(text.as_bytes())
}

/// Appends the counts of a launch to the file that `EVENKEEL_PTX_COUNTS` names, if it is set.
fn record(kernel: &Kernel, grid: Grid, counts: &[u64]) -> io::Result<()> {
    let Some(path) = std::env::var_os("EVENKEEL_PTX_COUNTS") else { return Ok(()) };
    let mut text = format!("launch\t{}\t{}\t{}\t", kernel.name, grid.blocks, grid.threads);
    for ((line, _), count) in kernel.origins.iter().zip(counts).filter(|(_, count)| **count > 0) {
        write!(text, "{line}:{count} ").expect("writing to a string must succeed");
    }
    text.push('\n');
    append(&path, &text)
}

/// Returns the number of bytes of a kernel's arguments.
///
/// # Safety
/// The kernel is a result of [`engine_kernel`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_argument_bytes(kernel: *const c_void) -> usize {
    // SAFETY: the caller guarantees that the kernel is valid.
    unsafe { &*kernel.cast::<Kernel>() }.argument_bytes()
}

/// Allows kernels to access this memory.
#[unsafe(no_mangle)]
pub extern "C" fn engine_allocated(address: u64, bytes: usize) {
    state().memory.add(address, bytes, true);
}

/// Forbids kernels to access the memory that starts at this address.
#[unsafe(no_mangle)]
pub extern "C" fn engine_freed(address: u64) {
    state().memory.remove(address);
}

/// Returns the text of the last fault, which is valid until the next fault.
#[unsafe(no_mangle)]
pub extern "C" fn engine_fault() -> *const c_char {
    state().fault.as_ref().map_or(c"no fault".as_ptr(), |fault| fault.as_ptr())
}
