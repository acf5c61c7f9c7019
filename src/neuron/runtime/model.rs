//! A program on a device: its handles, the calls that use them, and the order in which they are freed.

use super::abi;
use super::infos;
use super::library::Functions;
use crate::error::NrtStatus;
use crate::error::fault::{Action, Fault, NanAt, Result};
use crate::neuron::program::{ElementType, TensorSpec};
use std::ffi::CString;
use std::ptr::{NonNull, null_mut};
use std::thread::sleep;
use std::time::Duration;

/// Maximum number of attempts for a call, if its status allows a retry.
const ATTEMPTS: u32 = 8;

/// Name and tensors of a program.
pub struct Interface<'a> {
    pub name: &'a str,
    pub inputs: &'a [TensorSpec],
    pub outputs: &'a [TensorSpec],
}

/// A loaded program with its tensors. Only the thread that calls the runtime may use or drop it.
pub struct Model {
    functions: &'static Functions,
    /// Bytes of the NEFF, which the library may read as long as the program is loaded.
    _neff: Vec<u8>,
    handle: *mut abi::Model,
    infos: *mut abi::TensorInfoArray,
    input_set: *mut abi::TensorSet,
    output_set: *mut abi::TensorSet,
    inputs: Vec<*mut abi::Tensor>,
    outputs: Vec<*mut abi::Tensor>,
}

// SAFETY: the handles are not bound to a thread, and this struct is their only owner.
unsafe impl Send for Model {}

fn checked(call: &'static str, status: abi::Status, at_work: bool) -> Result<()> {
    match NrtStatus(status) {
        NrtStatus::SUCCESS => Ok(()),
        status => Err(Fault::Status { call, status, at_work }),
    }
}

/// Returns the pointer from a successful call, or an error if it is null.
fn given<T>(call: &'static str, pointer: *mut T) -> Result<*mut T> {
    match NonNull::new(pointer) {
        Some(pointer) => Ok(pointer.as_ptr()),
        None => Err(Fault::unavailable(format!("{call} succeeded but returned a null pointer"))),
    }
}

impl Model {
    /// Loads a NEFF on a core, checks its tensors, and allocates them. If a step fails, everything allocated before is
    /// freed.
    pub fn load(functions: &'static Functions, core: i32, neff: Vec<u8>, interface: &Interface) -> Result<Self> {
        let mut handle = null_mut();
        // SAFETY: the length is the number of bytes, and the handle is written before it is read.
        let status = unsafe { (functions.load)(neff.as_ptr().cast(), neff.len(), core, -1, &mut handle) };
        checked("nrt_load", status, false)?;
        let handle = given("nrt_load", handle)?;
        let (inputs, outputs) = (Vec::new(), Vec::new());
        let (infos, input_set, output_set) = (null_mut(), null_mut(), null_mut());
        let mut model = Model { functions, _neff: neff, handle, infos, input_set, output_set, inputs, outputs };
        let mut array = null_mut();
        // SAFETY: the handle belongs to a loaded program.
        let status = unsafe { (functions.tensor_infos)(model.handle, &mut array) };
        checked("nrt_get_model_tensor_info", status, false)?;
        model.infos = given("nrt_get_model_tensor_info", array)?;
        let Interface { name, inputs, outputs } = *interface;
        // SAFETY: the array comes from the call above.
        let names = unsafe { infos::names(model.infos, functions.numbering, name, inputs, outputs) }?;
        model.input_set = allocate_set(functions)?;
        model.output_set = allocate_set(functions)?;
        for (at, (name, spec)) in names.iter().zip(inputs.iter().chain(outputs)).enumerate() {
            let tensor = allocate_tensor(functions, core, spec.bytes(), name)?;
            // Store the tensor before the next call can fail, so that dropping the model frees it.
            let set = if at < inputs.len() {
                model.inputs.push(tensor);
                model.input_set
            } else {
                model.outputs.push(tensor);
                model.output_set
            };
            // SAFETY: the handles are valid and not freed; a set is destroyed before its tensors.
            let status = unsafe { (functions.add_to_set)(set, name.as_ptr(), tensor) };
            checked("nrt_add_tensor_to_tensor_set", status, false)?;
        }
        Ok(model)
    }

    /// Writes the inputs, runs the program, and reads the outputs into `read`. All buffers must have the lengths of the
    /// program's tensors.
    pub fn run(&mut self, interface: &Interface, inputs: &[&[u8]], read: &mut [Vec<u8>]) -> Result<()> {
        for (&tensor, bytes) in self.inputs.iter().zip(inputs) {
            // SAFETY: the tensor is allocated with `bytes.len()` bytes.
            let status = unsafe { (self.functions.write_tensor)(tensor, bytes.as_ptr().cast(), 0, bytes.len()) };
            checked("nrt_tensor_write", status, true)?;
        }
        let status = self.execute();
        if status != NrtStatus::NUMERICAL {
            checked("nrt_execute", status.0, true)?;
        }
        for (&tensor, bytes) in self.outputs.iter().zip(read.iter_mut()) {
            // SAFETY: the tensor is allocated with `bytes.len()` bytes.
            let status = unsafe { (self.functions.read_tensor)(tensor, bytes.as_mut_ptr().cast(), 0, bytes.len()) };
            checked("nrt_tensor_read", status, true)?;
        }
        if status == NrtStatus::NUMERICAL {
            let nan = find_nan(interface.outputs, read);
            return Err(Fault::Numerical { program: interface.name.into(), nan });
        }
        Ok(())
    }

    /// Runs the program; retries with increasing pauses if the status allows it.
    fn execute(&mut self) -> NrtStatus {
        let mut attempt = 0;
        loop {
            // SAFETY: the program is loaded, and its sets hold its allocated tensors.
            let status = NrtStatus(unsafe { (self.functions.execute)(self.handle, self.input_set, self.output_set) });
            attempt += 1;
            if status.action() != Action::Retry || attempt == ATTEMPTS {
                return status;
            }
            sleep(Duration::from_millis(1 << attempt));
        }
    }

    /// Frees each handle once: first the program, then the tensor sets, the tensors, and their descriptions. Each
    /// handle is thus freed before the handles that it uses. No run is in progress, because runs are synchronous. A
    /// failing call is tried up to `ATTEMPTS` times; then its handle is leaked.
    pub fn free(&mut self) {
        let functions = self.functions;
        let again = |free: &dyn Fn() -> abi::Status| (0..ATTEMPTS).any(|_| NrtStatus(free()) == NrtStatus::SUCCESS);
        // SAFETY: each handle is valid, and is cleared when it is freed.
        unsafe {
            if !self.handle.is_null() {
                again(&|| (functions.unload)(self.handle));
                self.handle = null_mut();
            }
            for set in [&mut self.input_set, &mut self.output_set] {
                if !set.is_null() {
                    (functions.destroy_set)(set);
                    *set = null_mut();
                }
            }
            for mut tensor in self.inputs.drain(..).chain(self.outputs.drain(..)) {
                (functions.free_tensor)(&mut tensor);
            }
            if !self.infos.is_null() {
                again(&|| (functions.free_tensor_infos)(self.infos));
                self.infos = null_mut();
            }
        }
    }
}

fn allocate_set(functions: &Functions) -> Result<*mut abi::TensorSet> {
    let mut set = null_mut();
    // SAFETY: the handle is written before it is read.
    checked("nrt_allocate_tensor_set", unsafe { (functions.allocate_set)(&mut set) }, false)?;
    given("nrt_allocate_tensor_set", set)
}

fn allocate_tensor(functions: &Functions, core: i32, size: usize, name: &CString) -> Result<*mut abi::Tensor> {
    let mut tensor = null_mut();
    // SAFETY: the name is NUL-terminated, and the handle is written before it is read.
    let status = unsafe { (functions.allocate_tensor)(abi::ON_DEVICE, core, size, name.as_ptr(), &mut tensor) };
    checked("nrt_tensor_allocate", status, false)?;
    given("nrt_tensor_allocate", tensor)
}

impl Drop for Model {
    fn drop(&mut self) {
        self.free();
    }
}

fn find_nan(specs: &[TensorSpec], outputs: &[Vec<u8>]) -> NanAt {
    for (output, (spec, bytes)) in specs.iter().zip(outputs).enumerate() {
        let (size, is_nan): (usize, fn(&[u8]) -> bool) = match spec.dtype {
            ElementType::F32 => (4, |b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).is_nan()),
            ElementType::F16 => (2, |b| half::f16::from_le_bytes([b[0], b[1]]).is_nan()),
            ElementType::BF16 => (2, |b| half::bf16::from_le_bytes([b[0], b[1]]).is_nan()),
            ElementType::U8 | ElementType::S32 => continue,
        };
        if let Some(index) = bytes.chunks_exact(size).position(is_nan) {
            return NanAt::Output { output, index };
        }
    }
    NanAt::InsideOnly
}
