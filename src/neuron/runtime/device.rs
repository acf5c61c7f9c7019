//! The runtime of a process, its devices, and the programs loaded on them.

use super::abi;
use super::library::{Functions, functions};
use super::model::{Interface, Model};
use super::worker::Worker;
use crate::error::NrtStatus;
use crate::error::fault::{Fault, Result};
use crate::neuron::cache::Cache;
use crate::neuron::compiler::{Compiler, Target};
use crate::neuron::program::{Program, TensorSpec};
use crate::neuron::settings;
use std::fmt;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// A runtime that was found but is not initialised, so it does not reserve its cores yet.
struct DetectedRuntime {
    functions: &'static Functions,
    worker: Worker,
    cores: u32,
}

/// The runtime of a process. It is initialised once, and never closed, because initialising it again is undocumented.
/// From initialisation on, the process owns its cores exclusively.
struct Runtime {
    functions: &'static Functions,
    worker: Worker,
    about: About,
    compiler: OnceLock<Result<Compiler>>,
    /// Code of the status that broke the device, or the code of success while the device is usable.
    broken: AtomicI32,
}

/// The process's runtime, or the error of its initialisation.
static RUNTIME: Mutex<Option<Result<&'static Runtime>>> = Mutex::new(None);

/// Description of the runtime and the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct About {
    /// Version of the library, if it reports one.
    pub version: Option<String>,
    /// Number of the instance family, if the library reports it.
    pub family: Option<u32>,
    /// Number of cores visible to this process.
    pub cores: u32,
    /// Whether casts to shorter types are rounded stochastically, so that results differ from run to run.
    pub stochastic_rounding: bool,
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "runtime {}, ", self.version.as_deref().unwrap_or("of unknown version"))?;
        match self.family {
            Some(family) => write!(f, "instance family {family}, ")?,
            None => write!(f, "instance family unknown, ")?,
        }
        write!(f, "{} cores", self.cores)?;
        if self.stochastic_rounding {
            write!(f, ", casts rounded stochastically ({} is 1)", settings::STOCHASTIC)?;
        }
        Ok(())
    }
}

impl DetectedRuntime {
    fn find() -> Result<Self> {
        settings::refuse_asynchronous()?;
        let worker = Worker::start()?;
        // Leaked, because the library is never unloaded.
        let functions: &'static Functions = Box::leak(Box::new(worker.call(functions)??));
        let mut cores = 0;
        // SAFETY: this function may be called before `init`, and writes one number.
        let status = NrtStatus(worker.call(|| unsafe { (functions.visible_cores)(&mut cores) })?);
        if status != NrtStatus::SUCCESS || cores == 0 {
            let answer =
                if status == NrtStatus::SUCCESS { "it reports no core".to_string() } else { status.to_string() };
            return Err(Fault::unavailable(format!("the Neuron runtime is installed, but found no device: {answer}")));
        }
        Ok(DetectedRuntime { functions, worker, cores })
    }

    /// Initialises the runtime, and queries its version and the instance family.
    fn begin(self) -> Result<Runtime> {
        let DetectedRuntime { functions, worker, cores } = self;
        let about = worker.call(|| {
            // SAFETY: `init` is called once in a process, with two empty strings.
            let status = NrtStatus(unsafe { (functions.init)(abi::NO_FRAMEWORK, c"".as_ptr(), c"".as_ptr()) });
            match status {
                NrtStatus::SUCCESS => Ok(About::ask(functions, cores)),
                status => Err(Fault::Status { call: "nrt_init", status, at_work: false }),
            }
        })??;
        Ok(Runtime { functions, worker, about, compiler: OnceLock::new(), broken: AtomicI32::new(0) })
    }
}

impl About {
    fn ask(functions: &Functions, cores: u32) -> Self {
        let version = functions.version.and_then(|version| {
            // SAFETY: the structure holds plain numbers, for which all zeros is valid.
            let (mut answer, size) = (unsafe { std::mem::zeroed::<abi::Version>() }, size_of::<abi::Version>());
            // SAFETY: `size` is the size of the structure.
            let known = NrtStatus(unsafe { version(&mut answer, size) }) == NrtStatus::SUCCESS;
            known.then(|| format!("{}.{}.{}.{}", answer.major, answer.minor, answer.patch, answer.maintenance))
        });
        let family = functions.instance.and_then(|instance| {
            // SAFETY: the structure holds plain numbers, for which all zeros is valid.
            let (mut answer, size) =
                (unsafe { std::mem::zeroed::<abi::InstanceInfo>() }, size_of::<abi::InstanceInfo>());
            // SAFETY: `size` is the size of the structure.
            let known = NrtStatus(unsafe { instance(&mut answer, size) }) == NrtStatus::SUCCESS;
            known.then_some(answer.family)
        });
        About { version, family, cores, stochastic_rounding: settings::stochastic_rounding() }
    }
}

impl Runtime {
    /// Runs `work` on the runtime's thread, unless the device is broken. If `work` fails with a status that breaks the
    /// device, records the status.
    fn call<R: Send>(&self, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
        self.usable()?;
        let outcome = self.worker.call(work)?;
        if let Err(Fault::Status { status, .. }) = &outcome
            && status.breaks_device()
        {
            self.broken.store(status.0, Ordering::Release);
        }
        outcome
    }

    fn usable(&self) -> Result<()> {
        match NrtStatus(self.broken.load(Ordering::Acquire)) {
            NrtStatus::SUCCESS => Ok(()),
            status => Err(Fault::Broken { status }),
        }
    }

    /// Returns the process's runtime, and initialises it at the first call. Errors before initialisation, such as a
    /// missing library, are not cached, so that the next call searches again.
    fn of_process() -> Result<&'static Self> {
        let mut known = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*known {
            return known.clone();
        }
        let begun = DetectedRuntime::find()?.begin().map(|runtime| &*Box::leak(Box::new(runtime)));
        *known = Some(begun.clone());
        begun
    }
}

/// A core of a Neuron device.
///
/// The library is loaded when the process first opens a device. One thread makes all calls to the library, one after
/// the other. The process owns all its visible cores exclusively until it ends.
#[derive(Clone, Copy)]
pub struct Device {
    runtime: &'static Runtime,
    core: u32,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").field("core", &self.core).field("about", self.about()).finish()
    }
}

impl Device {
    /// Opens the first core.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] if there is no usable runtime or no core; [`Fault::Status`] if initialisation fails,
    /// which is not tried again in this process; [`Fault::Broken`] if the device broke before.
    pub fn open() -> Result<Self> {
        Self::open_core(0)
    }

    /// Opens the core with this number, counted among the cores visible to the process.
    ///
    /// # Errors
    /// The errors of [`Device::open`].
    pub fn open_core(core: u32) -> Result<Self> {
        let runtime = Runtime::of_process()?;
        runtime.usable()?;
        if core >= runtime.about.cores {
            return Err(Fault::unavailable(format!(
                "there is no core {core}; this process sees {} cores",
                runtime.about.cores
            )));
        }
        Ok(Device { runtime, core })
    }

    /// Returns the description of the runtime and the machine.
    pub fn about(&self) -> &About {
        &self.runtime.about
    }

    /// Returns the compiler, which is searched for at the first call.
    ///
    /// # Errors
    /// The errors of [`Compiler::find`].
    pub fn compiler(&self) -> Result<&Compiler> {
        self.runtime.compiler.get_or_init(Compiler::find).as_ref().map_err(Fault::clone)
    }

    /// Returns the hardware that programs are compiled for.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] for an instance that the compiler has no target for.
    pub fn target(&self) -> Result<Target> {
        Target::of_instance(self.about().family)
    }

    /// Compiles a program, unless the cache has it, and loads it.
    ///
    /// # Errors
    /// The errors of [`Compiler::find`], [`Compiler::compile`] and [`Device::load_neff`]. A NEFF that the runtime
    /// rejects because of its version is removed from the cache.
    pub fn load(&self, program: &Program) -> Result<Loaded> {
        let (compiler, target, cache) = (self.compiler()?, self.target()?, Cache::from_env());
        let neff = cache.neff(compiler, program, target)?;
        let loaded = self.load_neff(program.name(), neff, program.inputs(), program.outputs());
        if let Err(Fault::Status { status: NrtStatus::UNSUPPORTED_NEFF, .. }) = &loaded {
            cache.forget(compiler, program, target);
        }
        loaded
    }

    /// Loads an existing NEFF, for example of an NKI kernel. `inputs` and `outputs` are the specifications of its
    /// tensors. If the tensor names end in the numbers from 0 to n - 1, the specifications must be in the order of
    /// these numbers. Otherwise they must be in the order of the NEFF.
    ///
    /// # Errors
    /// [`Fault::Mismatch`] if the NEFF's tensors differ from the specifications; [`Fault::Status`] if the NEFF cannot
    /// be loaded.
    pub fn load_neff(
        &self,
        name: &str,
        neff: Vec<u8>,
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
    ) -> Result<Loaded> {
        let runtime = self.runtime;
        let core =
            i32::try_from(self.core).map_err(|_| Fault::unavailable("the number of a core must be below 2^31"))?;
        let interface = Interface { name, inputs, outputs };
        let model = runtime.call(|| Model::load(runtime.functions, core, neff, &interface))?;
        let read = outputs.iter().map(|spec| vec![0; spec.bytes()]).collect();
        let (name, inputs, outputs) = (name.to_string(), inputs.to_vec(), outputs.to_vec());
        Ok(Loaded { runtime, name, inputs, outputs, read, model })
    }
}

/// A program on a device, with device memory for its inputs and outputs. It can be sent to another thread. To run it
/// from several threads at once, load it several times.
pub struct Loaded {
    runtime: &'static Runtime,
    name: String,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    read: Vec<Vec<u8>>,
    model: Model,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Loaded {
    /// Returns the program's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the specifications of the inputs, in order.
    pub fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    /// Returns the specifications of the outputs, in order.
    pub fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    /// Runs the program. Each input has the bytes of a row-major tensor. Returns the bytes of the outputs, which remain
    /// valid until the next run.
    ///
    /// # Errors
    /// [`Fault::Mismatch`] if the number or the lengths of the inputs differ from the program's; [`Fault::Numerical`]
    /// if a NaN arose; [`Fault::Status`] if a call fails; [`Fault::Broken`] if the device broke before. None of these
    /// permits a silent fallback to another backend.
    pub fn run(&mut self, inputs: &[&[u8]]) -> Result<&[Vec<u8>]> {
        if inputs.len() != self.inputs.len() {
            let got = format!("{}", inputs.len());
            return Err(Fault::mismatch(&self.name, "the number of inputs", got, self.inputs.len().to_string()));
        }
        for (number, (bytes, spec)) in inputs.iter().zip(&self.inputs).enumerate() {
            if bytes.len() != spec.bytes() {
                let (got, expected) = (format!("{} bytes", bytes.len()), spec.bytes().to_string());
                return Err(Fault::mismatch(&self.name, format!("input {number}"), got, expected));
            }
        }
        let Loaded { runtime, name, inputs: specs, outputs, read, model } = self;
        let interface = Interface { name, inputs: specs, outputs };
        runtime.call(|| model.run(&interface, inputs, read))?;
        Ok(&self.read)
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // The handles must be freed on the runtime's thread. The result is ignored: the only possible error is a panic,
        // and freeing does not panic.
        let _ = self.runtime.worker.call(|| self.model.free());
    }
}

/// Checks for a runtime, a core and a compiler, and only then initialises the runtime. In this order, a process does
/// not reserve cores that it cannot use.
///
/// # Errors
/// The errors of [`Device::open`] and [`Compiler::find`].
pub fn available() -> Result<()> {
    if RUNTIME.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
        drop(DetectedRuntime::find()?);
        Compiler::find()?;
    }
    Device::open()?.compiler()?;
    Ok(())
}
