//! The runtime of a process, its devices, and what is loaded on them.

use super::abi;
use super::library::{Functions, functions};
use super::model::{Interface, Model};
use super::status::NrtStatus;
use super::worker::Worker;
use crate::neuron::cache::Cache;
use crate::neuron::compiler::{Compiler, Target};
use crate::neuron::fault::{Fault, Result};
use crate::neuron::program::{Program, TensorSpec};
use crate::neuron::settings;
use std::fmt;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The runtime that was found, with cores, before it is initialised: nothing is taken from other processes yet.
struct Found {
    functions: &'static Functions,
    worker: Worker,
    cores: u32,
}

/// What a process has of the runtime: initialised once, and never closed, since nothing says whether it could be
/// initialised again. The process has the cores to itself from then on.
struct Runtime {
    functions: &'static Functions,
    worker: Worker,
    about: About,
    compiler: OnceLock<Result<Compiler>>,
    /// The status that broke the device, or success.
    broken: AtomicI32,
}

/// The process's, or why it could not be initialised.
static RUNTIME: Mutex<Option<Result<&'static Runtime>>> = Mutex::new(None);

/// What the runtime says of itself and of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct About {
    /// The library's version, if it says.
    pub version: Option<String>,
    /// The number of the instance's family, if it says.
    pub family: Option<u32>,
    /// Cores that this process sees.
    pub cores: u32,
    /// Whether casts to shorter types are rounded at random: results are then not the same from run to run.
    pub stochastic_rounding: bool,
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "runtime {}, ", self.version.as_deref().unwrap_or("of no known version"))?;
        match self.family {
            Some(family) => write!(f, "instance family {family}, ")?,
            None => write!(f, "instance family unknown, ")?,
        }
        write!(f, "{} cores", self.cores)?;
        if self.stochastic_rounding {
            write!(f, ", casts rounded at random ({} is 1)", settings::STOCHASTIC)?;
        }
        Ok(())
    }
}

impl Found {
    fn find() -> Result<Self> {
        settings::refuse_asynchronous()?;
        let worker = Worker::start()?;
        // As long as the library, which is for good.
        let functions: &'static Functions = Box::leak(Box::new(worker.call(functions)??));
        let mut cores = 0;
        // SAFETY: it may be called before `init`, and writes a number.
        let status = NrtStatus(worker.call(|| unsafe { (functions.visible_cores)(&mut cores) })?);
        if status != NrtStatus::SUCCESS || cores == 0 {
            let told = if status == NrtStatus::SUCCESS { "it sees no core".to_string() } else { status.to_string() };
            return Err(Fault::unavailable(format!("the Neuron runtime is here, but no device: {told}")));
        }
        Ok(Found { functions, worker, cores })
    }

    /// Initialises it, and asks it what it is.
    fn begin(self) -> Result<Runtime> {
        let Found { functions, worker, cores } = self;
        let about = worker.call(|| {
            // SAFETY: it is called once in a process, with two texts that are empty.
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
            // SAFETY: a structure of numbers, of which all zeros is one.
            let (mut told, size) = (unsafe { std::mem::zeroed::<abi::Version>() }, size_of::<abi::Version>());
            // SAFETY: the structure is as long as said.
            let known = NrtStatus(unsafe { version(&mut told, size) }) == NrtStatus::SUCCESS;
            known.then(|| format!("{}.{}.{}.{}", told.major, told.minor, told.patch, told.maintenance))
        });
        let family = functions.instance.and_then(|instance| {
            // SAFETY: a structure of numbers, of which all zeros is one.
            let (mut told, size) = (unsafe { std::mem::zeroed::<abi::InstanceInfo>() }, size_of::<abi::InstanceInfo>());
            // SAFETY: the structure is as long as said.
            let known = NrtStatus(unsafe { instance(&mut told, size) }) == NrtStatus::SUCCESS;
            known.then_some(told.family)
        });
        About { version, family, cores, stochastic_rounding: settings::stochastic_rounding() }
    }
}

impl Runtime {
    /// Has the thread do `work`, unless the device is broken, and remembers whether it broke.
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

    /// The process's. What is missing before the library is initialised is looked for again the next time.
    fn of_process() -> Result<&'static Self> {
        let mut known = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*known {
            return known.clone();
        }
        let begun = Found::find()?.begin().map(|runtime| &*Box::leak(Box::new(runtime)));
        *known = Some(begun.clone());
        begun
    }
}

/// A core of a Neuron device.
///
/// The library is looked for when the first is opened, in that process alone; all calls of it are made by one thread,
/// one after the other. A process has all cores that it sees to itself until it ends.
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
    /// The first core.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] where there is no runtime, an unusable one, or no core; [`Fault::Status`] where it can't
    /// be initialised, which is the same for the rest of the process; [`Fault::Broken`] where the device broke before.
    pub fn open() -> Result<Self> {
        Self::open_core(0)
    }

    /// The core with this number, of those that the process sees.
    ///
    /// # Errors
    /// Those of [`Device::open`].
    pub fn open_core(core: u32) -> Result<Self> {
        let runtime = Runtime::of_process()?;
        runtime.usable()?;
        if core >= runtime.about.cores {
            return Err(Fault::unavailable(format!(
                "there is no core {core}; this process sees {}",
                runtime.about.cores
            )));
        }
        Ok(Device { runtime, core })
    }

    /// What the runtime says of itself and of the machine.
    pub fn about(&self) -> &About {
        &self.runtime.about
    }

    /// The compiler, which is looked for the first time.
    ///
    /// # Errors
    /// Those of [`Compiler::find`].
    pub fn compiler(&self) -> Result<&Compiler> {
        self.runtime.compiler.get_or_init(Compiler::find).as_ref().map_err(Fault::clone)
    }

    /// What programs are compiled for.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] for an instance that the compiler has no target for.
    pub fn target(&self) -> Result<Target> {
        Target::of_instance(self.about().family)
    }

    /// Compiles a program, unless that was done before, and loads it.
    ///
    /// # Errors
    /// Where the compiler is missing or fails, those of [`Compiler::find`] and [`Compiler::compile`]; then those of
    /// [`Device::load_neff`]. A NEFF that the runtime says is of another version is forgotten.
    pub fn load(&self, program: &Program) -> Result<Loaded> {
        let (compiler, target, cache) = (self.compiler()?, self.target()?, Cache::from_env());
        let neff = cache.neff(compiler, program, target)?;
        let loaded = self.load_neff(program.name(), neff, program.inputs(), program.outputs());
        if let Err(Fault::Status { status: NrtStatus::UNSUPPORTED_NEFF, .. }) = &loaded {
            cache.forget(compiler, program, target);
        }
        loaded
    }

    /// Loads a NEFF that was made elsewhere, of an NKI kernel for example, with these inputs and outputs: in the order
    /// of its tensors' names where all end in numbers from 0 on, else as it lists them.
    ///
    /// # Errors
    /// [`Fault::Mismatch`] where its tensors are others; [`Fault::Status`] where it can't be loaded.
    pub fn load_neff(
        &self,
        name: &str,
        neff: Vec<u8>,
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
    ) -> Result<Loaded> {
        let runtime = self.runtime;
        let core = i32::try_from(self.core).map_err(|_| Fault::unavailable("cores are numbered in 31 bits"))?;
        let interface = Interface { name, inputs, outputs };
        let model = runtime.call(|| Model::load(runtime.functions, core, neff, &interface))?;
        let read = outputs.iter().map(|spec| vec![0; spec.bytes()]).collect();
        let (name, inputs, outputs) = (name.to_string(), inputs.to_vec(), outputs.to_vec());
        Ok(Loaded { runtime, name, inputs, outputs, read, model })
    }
}

/// A program on a device, with memory there for its inputs and outputs. It can be moved to another thread; to run it
/// from several at once, load it several times.
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
    /// The program's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it takes, in order.
    pub fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    /// What it gives, in order.
    pub fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    /// Runs it on inputs, each the bytes of a row-major tensor, and gives the outputs' bytes, which are kept until the
    /// next run. They are given whole or not at all.
    ///
    /// # Errors
    /// [`Fault::Mismatch`] where inputs are not the program's in number or length; [`Fault::Numerical`] where a NaN
    /// arose; [`Fault::Status`] where a call fails; [`Fault::Broken`] where the device broke before. None of them is a
    /// reason to go on elsewhere without saying so.
    pub fn run(&mut self, inputs: &[&[u8]]) -> Result<&[Vec<u8>]> {
        if inputs.len() != self.inputs.len() {
            let got = format!("{} inputs", inputs.len());
            return Err(Fault::mismatch(&self.name, "what is given", got, self.inputs.len().to_string()));
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
        // By the runtime's thread. Freeing does not panic, which is all that could be told of it.
        let _ = self.runtime.worker.call(|| self.model.free());
    }
}

/// Whether there is a runtime, a core, and a compiler, and then whether the runtime can be initialised: in this order,
/// so that a process takes no cores which it can't use.
///
/// # Errors
/// Those of [`Device::open`] and [`Compiler::find`].
pub fn available() -> Result<()> {
    if RUNTIME.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
        drop(Found::find()?);
        Compiler::find()?;
    }
    Device::open()?.compiler()?;
    Ok(())
}
