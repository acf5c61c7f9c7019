//! Neuron's compiler, `neuronx-cc`, which runs as a separate process. The compiler needs no device.

#![forbid(unsafe_code)]

use super::program::Program;
use super::settings;
use crate::error::fault::{Fault, Result};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Number of bytes kept from the end of the compiler's output after a failure.
const TAIL: u64 = 4096;

/// Flags that affect numerics: no automatic casts, f32 accumulation, and no optimisations for a particular kind of
/// model.
const NUMERICS: [&str; 5] = ["--auto-cast", "none", "--enable-mixed-precision-accumulation", "--model-type", "generic"];

/// Form in which a program is passed to the compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Form {
    /// A serialised `HloModuleProto`, the documented input of the compiler.
    Hlo,
    /// StableHLO text, which newer compilers reportedly accept.
    StableHlo,
}

impl Form {
    /// Returns the program in this form.
    pub(super) fn of(self, program: &Program) -> &[u8] {
        match self {
            Form::Hlo => program.hlo(),
            Form::StableHlo => program.stablehlo().as_bytes(),
        }
    }

    fn file(self) -> &'static str {
        match self {
            Form::Hlo => "program.hlo.pb",
            Form::StableHlo => "program.mlir",
        }
    }

    fn from_env() -> Result<Self> {
        match settings::text(settings::FORM).as_deref() {
            None | Some("hlo") => Ok(Form::Hlo),
            Some("stablehlo") => Ok(Form::StableHlo),
            Some(other) => Err(Fault::setting(settings::FORM, other, "hlo or stablehlo")),
        }
    }
}

/// Hardware that programs are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// First-generation Trainium.
    Trn1,
    /// First-generation Trainium with more network bandwidth.
    Trn1n,
    /// Second-generation Inferentia.
    Inf2,
    /// Second-generation Trainium.
    Trn2 {
        /// Number of physical cores in a logical core: 1 or 2.
        logical_cores: u8,
    },
}

impl Target {
    /// Returns the target that `EVENKEEL_NEURON_TARGET` names, or else the target of the instance family with this
    /// number.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] for an unknown family, or a family for which the compiler has no target;
    /// [`Fault::Setting`] if a variable has an invalid value.
    pub fn of_instance(family: Option<u32>) -> Result<Self> {
        let trn2 = || Ok(Target::Trn2 { logical_cores: settings::logical_cores()? });
        match settings::text(settings::TARGET).as_deref() {
            Some("trn1") => return Ok(Target::Trn1),
            Some("trn1n") => return Ok(Target::Trn1n),
            Some("inf2") => return Ok(Target::Inf2),
            Some("trn2") => return trn2(),
            Some(other) => return Err(Fault::setting(settings::TARGET, other, "trn1, trn1n, inf2 or trn2")),
            None => (),
        }
        match family {
            Some(2) => Ok(Target::Trn1),
            Some(3) => Ok(Target::Trn1n),
            Some(4 | 7) => Ok(Target::Inf2),
            Some(5 | 6 | 8..=13) => trn2(),
            Some(other) => Err(Fault::unavailable(format!("neuronx-cc has no target for instance family {other}"))),
            None => Err(Fault::unavailable(format!(
                "the runtime does not report the instance family; set {}",
                settings::TARGET
            ))),
        }
    }

    /// Returns the compiler's name for this target.
    pub fn name(self) -> &'static str {
        match self {
            Target::Trn1 => "trn1",
            Target::Trn1n => "trn1n",
            Target::Inf2 => "inf2",
            Target::Trn2 { .. } => "trn2",
        }
    }

    /// Returns the number of physical cores in a logical core.
    pub fn logical_cores(self) -> u8 {
        match self {
            Target::Trn2 { logical_cores } => logical_cores,
            _ => 1,
        }
    }
}

/// The compiler: its path, version and settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiler {
    program: PathBuf,
    version: String,
    form: Form,
    limit: Duration,
}

impl Compiler {
    /// Finds the program that `EVENKEEL_NEURONX_CC` names, or else `neuronx-cc` on the PATH, and queries its version.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] if the program does not exist or does not report its version; [`Fault::Setting`] if a
    /// variable has an invalid value.
    pub fn find() -> Result<Self> {
        let program = settings::path(settings::COMPILER).map_or_else(|| PathBuf::from("neuronx-cc"), PathBuf::from);
        let (form, limit) = (Form::from_env()?, settings::limit()?);
        let folder = private_folder()?;
        let mut command = Command::new(&program);
        command.arg("--version");
        let (ended, said) = run(command, folder.path(), limit.min(Duration::from_secs(120)))
            .map_err(|reason| Fault::unavailable(format!("{} can't be used: {reason}", program.display())))?;
        let version = said.trim().to_string();
        if !ended.success() || version.is_empty() {
            let reason = format!("{} does not report its version: {ended}; {version}", program.display());
            return Err(Fault::unavailable(reason));
        }
        Ok(Compiler { program, version, form, limit })
    }

    /// Returns the version that the compiler reports.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns the form in which programs are passed to the compiler: `EVENKEEL_NEURON_FORM`, or HLO by default.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Returns all flags except the file names.
    pub(super) fn flags(&self, target: Target) -> Vec<String> {
        let mut flags: Vec<String> = ["--framework", "XLA", "--target", target.name()].map(String::from).into();
        flags.extend(NUMERICS.map(String::from));
        if let Target::Trn2 { logical_cores } = target {
            flags.extend(["--logical-nc-config".to_string(), logical_cores.to_string()]);
        }
        flags
    }

    /// Compiles a program to a NEFF in a temporary folder, which is deleted afterwards.
    ///
    /// # Errors
    /// [`Fault::Compile`], with the end of the compiler's log, if the compiler fails, takes longer than
    /// `EVENKEEL_NEURON_COMPILE_SECONDS`, or writes no NEFF.
    pub fn compile(&self, program: &Program, target: Target) -> Result<Vec<u8>> {
        let folder = private_folder()?;
        let [source, neff, log] =
            [self.form.file(), "program.neff", "compiler.log"].map(|name| folder.path().join(name));
        let failed = |reason: String, said: &str| {
            let log = [said, &tail(&log)].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n");
            Fault::Compile { program: program.name().into(), reason, log }
        };
        std::fs::write(&source, self.form.of(program))
            .map_err(|error| failed(format!("cannot write the program: {error}"), ""))?;
        let mut command = Command::new(&self.program);
        command.arg("compile").arg(&source).args(self.flags(target));
        command.args([OsStr::new("--output"), neff.as_os_str(), OsStr::new("--logfile"), log.as_os_str()]);
        let (ended, said) = run(command, folder.path(), self.limit).map_err(|reason| failed(reason, ""))?;
        if !ended.success() {
            return Err(failed(ended.to_string(), &said));
        }
        let bytes = std::fs::read(&neff).map_err(|error| failed(format!("no NEFF was written: {error}"), &said))?;
        super::neff::looks_like_one(&bytes)
            .map_err(|reason| failed(format!("the output is not a NEFF: {reason}"), &said))?;
        Ok(bytes)
    }
}

fn private_folder() -> Result<tempfile::TempDir> {
    let made = tempfile::Builder::new().prefix("evenkeel-neuron-").tempdir();
    made.map_err(|error| Fault::unavailable(format!("cannot create a temporary folder for the compiler: {error}")))
}

/// Runs a program in a folder with a time limit; returns its exit status and the end of its output. The output goes to
/// a file, because processes that the program starts could hold a pipe open after the program has ended.
fn run(mut command: Command, folder: &Path, limit: Duration) -> std::result::Result<(ExitStatus, String), String> {
    let path = folder.join("output.txt");
    let output = File::create(&path).and_then(|file| Ok((file.try_clone()?, file)));
    let (stdout, stderr) = output.map_err(|error| error.to_string())?;
    command.current_dir(folder).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let (start, mut pause) = (Instant::now(), Duration::from_millis(1));
    loop {
        match child.try_wait() {
            Ok(Some(ended)) => return Ok((ended, tail(&path))),
            Ok(None) if start.elapsed() < limit => sleep(pause),
            outcome => {
                end(&mut child);
                return Err(match outcome {
                    Err(error) => error.to_string(),
                    Ok(_) => format!("timed out after {} s", limit.as_secs()),
                });
            }
        }
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// Kills a program and the processes that it started, which are in its process group.
fn end(child: &mut Child) {
    #[cfg(unix)]
    let _ = rustix::process::kill_process_group(rustix::process::Pid::from_child(child), rustix::process::Signal::KILL);
    // Errors are ignored, because the program may have ended already.
    let _ = child.kill();
    let _ = child.wait();
}

/// Returns the end of a file, or an empty string if it cannot be read.
fn tail(path: &Path) -> String {
    let read = || {
        let mut file = File::open(path)?;
        let from = file.metadata()?.len().saturating_sub(TAIL);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    read().map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).trim().to_string())
}
