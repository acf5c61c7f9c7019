//! Runs programs on plugins of XLA's PJRT interface: the CPU plugin that `scripts/pjrt-plugin` downloads, or the plugin
//! of a device.
//!
//! A plugin has one entry point, which returns a table of functions. Each function takes one struct of arguments, which
//! starts with its size. A plugin accepts structs that are larger than it expects. So all structs have the same size
//! here, with zeros in the unused fields.

use evenkeel::neuron::{ElementType, Execute, Program, TensorSpec};
use evenkeel::{Error, Result};
use libloading::Library;
use std::collections::HashMap;
use std::ffi::c_void;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::{Mutex, PoisonError};

/// Type of most functions in the table. They return an error or null.
type Function = unsafe extern "C" fn(*mut c_void) -> u64;

/// Offsets of the functions in the table, in bytes.
mod function {
    pub const ERROR_DESTROY: usize = 40;
    pub const ERROR_MESSAGE: usize = 48;
    pub const PLUGIN_INITIALIZE: usize = 64;
    pub const EVENT_DESTROY: usize = 80;
    pub const EVENT_AWAIT: usize = 104;
    pub const CLIENT_CREATE: usize = 120;
    pub const CLIENT_ADDRESSABLE_DEVICES: usize = 168;
    pub const CLIENT_COMPILE: usize = 200;
    pub const BUFFER_FROM_HOST: usize = 216;
    pub const EXECUTE: usize = 480;
    pub const BUFFER_DESTROY: usize = 504;
    pub const BUFFER_TO_HOST: usize = 600;
    /// End of the last entry.
    pub const END: usize = 608;
}

/// A struct of arguments: its size, then fields addressed by their offsets in bytes.
struct Arguments([u64; 64]);

impl Arguments {
    fn new(fields: &[(usize, u64)]) -> Self {
        let mut arguments = Arguments([0; 64]);
        arguments.0[0] = size_of_val(&arguments.0) as u64;
        fields.iter().for_each(|(at, value)| arguments.0[at / 8] = *value);
        arguments
    }

    fn get(&self, at: usize) -> u64 {
        self.0[at / 8]
    }
}

fn address<T>(of: &[T]) -> u64 {
    of.as_ptr() as u64
}

fn failed(reason: impl ToString) -> Error {
    Error::failed("pjrt", reason.to_string())
}

/// Form in which the plugin receives a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// The program as [`Program::hlo`] returns it.
    Hlo,
    /// The program as [`Program::stablehlo`] returns it.
    StableHlo,
}

/// A loaded plugin and its first device.
pub struct Plugin {
    api: *const u8,
    client: u64,
    device: u64,
    /// Compiled programs by form and source.
    executables: Mutex<HashMap<(Form, Vec<u8>), u64>>,
    /// The library. It is never unloaded, because its threads keep running.
    _library: &'static Library,
}

// SAFETY: the table is constant, and PJRT allows several threads to call one client at the same time.
unsafe impl Send for Plugin {}
// SAFETY: as for `Send`.
unsafe impl Sync for Plugin {}

/// Returns the path of the plugin: EVENKEEL_PJRT if it is set, else the file that `scripts/pjrt-plugin` downloaded.
pub fn plugin_path() -> Option<PathBuf> {
    let fetched = "../../target/pjrt/xla_plugins/xla_cpu_pjrt/xla_cpu_pjrt.so";
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join(fetched);
    let path = std::env::var_os("EVENKEEL_PJRT").filter(|path| !path.is_empty()).map_or(fetched, PathBuf::from);
    path.exists().then_some(path)
}

impl Plugin {
    /// Loads the plugin at a path. Call this once per process: plugins are never unloaded.
    ///
    /// # Errors
    /// [`Error::Failed`] if the file is not a plugin, or the plugin has no device.
    pub fn load(path: &Path) -> Result<Self> {
        // SAFETY: loading runs only the plugin's own initialisation.
        let library = unsafe { Library::new(path) }.map_err(failed)?;
        let library: &'static Library = Box::leak(Box::new(library));
        // SAFETY: every plugin has this function with this type.
        let api = unsafe { library.get::<unsafe extern "C" fn() -> *const u8>(b"GetPjrtApi\0").map_err(failed)?() };
        // SAFETY: the table starts with its size.
        let size = unsafe { api.cast::<usize>().read() };
        if size < function::END {
            return Err(failed(format!(
                "function table of the PJRT plugin: expected at least {} bytes, got {size}",
                function::END
            )));
        }
        let executables = Mutex::default();
        let mut plugin = Plugin { api, client: 0, device: 0, executables, _library: library };
        plugin.call(function::PLUGIN_INITIALIZE, &[])?;
        plugin.client = plugin.call(function::CLIENT_CREATE, &[])?.get(64);
        let devices = plugin.call(function::CLIENT_ADDRESSABLE_DEVICES, &[(16, plugin.client)])?;
        if devices.get(32) == 0 {
            return Err(failed("the PJRT plugin must have a device, found none"));
        }
        // SAFETY: there is at least one device in the array.
        plugin.device = unsafe { (devices.get(24) as *const u64).read() };
        Ok(plugin)
    }

    /// Calls a function. Returns the struct of arguments, in which the function has set its outputs.
    fn call(&self, function: usize, fields: &[(usize, u64)]) -> Result<Arguments> {
        let mut arguments = Arguments::new(fields);
        // SAFETY: these functions take their arguments and return an error or null.
        let error = unsafe {
            let at: *const Function = self.api.add(function).cast();
            at.read()(ptr::from_mut(&mut arguments).cast())
        };
        if error == 0 {
            return Ok(arguments);
        }
        let message = self.call_for_error(function::ERROR_MESSAGE, error);
        let (text, len) = (message.get(24) as *const u8, message.get(32) as usize);
        // SAFETY: the message lives as long as the error.
        let text = unsafe { std::slice::from_raw_parts(text, len) };
        let reason = String::from_utf8_lossy(text).into_owned();
        self.call_for_error(function::ERROR_DESTROY, error);
        Err(failed(reason))
    }

    /// Calls the function that reads an error's message, or the function that frees an error. Both functions return
    /// nothing.
    fn call_for_error(&self, function: usize, error: u64) -> Arguments {
        let mut arguments = Arguments::new(&[(16, error)]);
        // SAFETY: these functions take their arguments and return nothing.
        unsafe {
            let at: *const unsafe extern "C" fn(*mut c_void) = self.api.add(function).cast();
            at.read()(ptr::from_mut(&mut arguments).cast());
        }
        arguments
    }

    fn wait(&self, event: u64) -> Result<()> {
        if event == 0 {
            return Ok(());
        }
        let done = self.call(function::EVENT_AWAIT, &[(16, event)]);
        self.call(function::EVENT_DESTROY, &[(16, event)])?;
        done.map(|_| ())
    }

    fn compile(&self, program: &Program, form: Form) -> Result<u64> {
        let (code, format) = match form {
            Form::StableHlo => (program.stablehlo().as_bytes(), "mlir"),
            _ => (program.hlo(), "hlo"),
        };
        let mut executables = self.executables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(executable) = executables.get(&(form, code.to_vec())) {
            return Ok(*executable);
        }
        // Requests one replica and one partition. Without these options the CPU's plugin ends the process.
        const OPTIONS: [u8; 6] = [0x1a, 4, 0x20, 1, 0x28, 1];
        let source = Arguments::new(&[
            (16, address(code)),
            (24, code.len() as u64),
            (32, address(format.as_bytes())),
            (40, format.len() as u64),
        ]);
        let options = (address(&OPTIONS), OPTIONS.len() as u64);
        let fields = [(16, self.client), (24, address(&source.0)), (32, options.0), (40, options.1)];
        let executable = self.call(function::CLIENT_COMPILE, &fields)?.get(48);
        executables.insert((form, code.to_vec()), executable);
        Ok(executable)
    }

    fn to_device(&self, spec: &TensorSpec, bytes: &[u8]) -> Result<Buffer<'_>> {
        if bytes.len() != spec.bytes() {
            return Err(failed(format!("input {spec:?}: expected {} bytes, got {}", spec.bytes(), bytes.len())));
        }
        let dtype = match spec.dtype {
            ElementType::S32 => 4,
            ElementType::U8 => 6,
            ElementType::F16 => 10,
            ElementType::F32 => 11,
            ElementType::BF16 => 13,
            other => return Err(failed(format!("an input must be S32, U8, F16, F32 or BF16, got {other:?}"))),
        };
        let dims: Vec<i64> = spec.shape.iter().map(|dim| *dim as i64).collect();
        let made = self.call(
            function::BUFFER_FROM_HOST,
            &[
                (16, self.client),
                (24, address(bytes)),
                (32, dtype),
                (40, address(&dims)),
                (48, dims.len() as u64),
                (80, self.device),
            ],
        )?;
        let buffer = Buffer { plugin: self, buffer: made.get(112) };
        self.wait(made.get(104))?;
        Ok(buffer)
    }

    /// Runs a program in the given form.
    ///
    /// # Errors
    /// [`Error::Failed`] if the inputs do not match the program, or the plugin fails.
    pub fn run(&self, program: &Program, form: Form, inputs: &[&[u8]]) -> Result<Vec<Vec<u8>>> {
        let executable = self.compile(program, form)?;
        if inputs.len() != program.inputs().len() {
            return Err(failed(format!(
                "{}: expected {} inputs, got {}",
                program.name(),
                program.inputs().len(),
                inputs.len()
            )));
        }
        let inputs: Vec<Buffer<'_>> = (program.inputs().iter().zip(inputs))
            .map(|(spec, bytes)| self.to_device(spec, bytes))
            .collect::<Result<_>>()?;
        let arguments: Vec<u64> = inputs.iter().map(|input| input.buffer).collect();
        let mut results = vec![0u64; program.outputs().len()];
        let (of_device, mut to) = ([address(&arguments)], [results.as_mut_ptr() as u64]);
        let mut done = [0u64];
        let options = Arguments::new(&[]);
        self.call(
            function::EXECUTE,
            &[
                (16, executable),
                (24, address(&options.0)),
                (32, address(&of_device)),
                (40, 1),
                (48, arguments.len() as u64),
                (56, to.as_mut_ptr() as u64),
                (64, done.as_mut_ptr() as u64),
            ],
        )?;
        let results: Vec<Buffer<'_>> = results.iter().map(|buffer| Buffer { plugin: self, buffer: *buffer }).collect();
        self.wait(done[0])?;
        results.iter().zip(program.outputs()).map(|(result, spec)| result.to_host(spec.bytes())).collect()
    }
}

/// Runs programs as HLO.
impl Execute for Plugin {
    fn execute(&self, program: &Program, inputs: &[&[u8]]) -> Result<Vec<Vec<u8>>> {
        self.run(program, Form::Hlo, inputs)
    }
}

/// A tensor on the device.
struct Buffer<'a> {
    plugin: &'a Plugin,
    buffer: u64,
}

impl Buffer<'_> {
    fn to_host(&self, len: usize) -> Result<Vec<u8>> {
        let needed = self.plugin.call(function::BUFFER_TO_HOST, &[(16, self.buffer)])?.get(40);
        if needed != len as u64 {
            return Err(failed(format!(
                "output of the program: expected the declared size of {len} bytes, got {needed} bytes"
            )));
        }
        let mut bytes = vec![0u8; len];
        let fields = [(16, self.buffer), (32, bytes.as_mut_ptr() as u64), (40, len as u64)];
        let event = self.plugin.call(function::BUFFER_TO_HOST, &fields)?.get(48);
        self.plugin.wait(event)?;
        Ok(bytes)
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        // A failure to free the buffer has no consequence.
        let _ = self.plugin.call(function::BUFFER_DESTROY, &[(16, self.buffer)]);
    }
}
