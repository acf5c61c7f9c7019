//! Fakes that replace a device in tests: a library, which is compiled here, and a compiler. Also builds programs that
//! the fake library and the fake compiler accept.

use evenkeel::neuron::{Device, ElementType, Execute, Interpreter, Program, TensorSpec};
use sha2::{Digest, Sha256};
use std::ffi::{CStr, CString, OsStr, c_char, c_int};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Now,
    /// Library with the interface of 2022.
    Old,
    /// Library without a required function.
    Lacking,
}

/// Returns the path of the fake library, after compiling it if necessary.
pub fn library(kind: Kind) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("neuron/standin/libnrt.c");
    let text = std::fs::read(&source).expect("libnrt.c must be readable");
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("libnrt-{kind:?}.so.1"));
    let copy = made.with_extension("c");
    if made.exists() && std::fs::read(&copy).is_ok_and(|compiled| compiled == text) {
        return made;
    }
    let new = made.with_extension(format!("{}", std::process::id()));
    let flag = match kind {
        Kind::Now => "-DNOW",
        Kind::Old => "-DOLD",
        Kind::Lacking => "-DLACKING",
    };
    let mut compiler = Command::new("cc");
    compiler.args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", flag, "-o"]);
    assert!(
        compiler.arg(&new).arg(&source).status().expect("cc must run").success(),
        "`cc` must compile the fake Neuron runtime"
    );
    std::fs::rename(&new, &made).expect("renaming the compiled fake library must succeed");
    std::fs::write(copy, text).expect("a copy of `libnrt.c` must be written next to the fake library");
    made
}

pub fn compiler() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("neuron/standin/neuronx-cc")
}

/// Returns environment variables that select the fake library and compiler, and a cache and logs in `folder`.
pub fn machine(folder: &Path) -> Vec<(&'static str, PathBuf)> {
    vec![
        ("EVENKEEL_LIBNRT", library(Kind::Now)),
        ("EVENKEEL_NEURONX_CC", compiler()),
        ("EVENKEEL_NEURON_CACHE", folder.join("cache")),
        ("STANDIN_CALLS", folder.join("calls")),
        ("STANDIN_NEFFS", folder.join("neffs")),
    ]
}

/// Reruns the calling test in a new process, with these variables added to the environment of [`machine`]. A process
/// initialises the library only once, so the variables must be set when it starts. Returns false in this process and
/// true in the new one.
pub fn alone(test: &str, variables: &[(&str, &str)]) -> bool {
    if std::env::var_os("STANDIN_ALONE").is_some_and(|alone| alone == OsStr::new(test)) {
        return true;
    }
    let folder = tempfile::tempdir().expect("a temporary folder must be created");
    child(test, folder.path(), variables);
    false
}

/// Runs a test in a process of its own, with the environment of [`machine`] for `folder`. Returns the text that it
/// printed between `<<` and `>>`.
pub fn child(test: &str, folder: &Path, variables: &[(&str, &str)]) -> String {
    let program = std::env::current_exe().expect("the path of the test program must be known");
    let mut command = Command::new(program);
    command.args(["--exact", test, "--nocapture", "--include-ignored"]).env("STANDIN_ALONE", test);
    let output = command
        .envs(machine(folder))
        .envs(variables.iter().copied())
        .output()
        .expect("the test program must start again as a child process");
    let [said, errors] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{test} with {variables:?}: expected success and `1 passed`, got:\n{said}\n{errors}"
    );
    let output = said.split_once("<<").and_then(|(_, rest)| rest.split_once(">>"));
    output.map(|(output, _)| output.to_string()).unwrap_or_default()
}

/// Prints a text that [`child`] returns in the parent process.
pub fn tell(what: impl std::fmt::Display) {
    println!("<<{what}>>");
}

/// Function that a test runs in place of a program. It reads the fake NEFF's text and the inputs, writes the outputs,
/// and returns a status.
pub type Compute = fn(program: &str, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> c_int;

static COMPUTE: Mutex<Option<Compute>> = Mutex::new(None);

unsafe extern "C" fn compute(
    neff: *const u8,
    size: usize,
    inputs: usize,
    input: *const *const u8,
    input_size: *const usize,
    outputs: usize,
    output: *const *mut u8,
    output_size: *const usize,
) -> c_int {
    // SAFETY: the library passes as many pointers and sizes as it states, and the NEFF that it received.
    let (neff, input, output) = unsafe {
        // A fake NEFF lists its tensors from the last to the first, so the order is reversed here.
        let input = (0..inputs).rev().map(|at| std::slice::from_raw_parts(*input.add(at), *input_size.add(at)));
        let output = (0..outputs).rev().map(|at| std::slice::from_raw_parts_mut(*output.add(at), *output_size.add(at)));
        (std::slice::from_raw_parts(neff, size), input.collect::<Vec<_>>(), output)
    };
    let (program, compute) = (
        String::from_utf8_lossy(&neff[1024..]),
        COMPUTE.lock().unwrap().expect("`Standin::new` must set the function that computes programs"),
    );
    compute(&program, &input, &mut output.collect::<Vec<_>>())
}

/// Handle to control the fake library.
pub struct Standin {
    library: libloading::Library,
}

/// Numbers of objects that the library allocated and has not freed.
#[derive(Debug, PartialEq, Eq)]
pub struct Live {
    pub models: c_int,
    pub tensors: c_int,
    pub sets: c_int,
    pub infos: c_int,
}

impl Standin {
    /// Opens the fake library that `EVENKEEL_LIBNRT` names, and sets the function that computes the programs.
    pub fn new(arithmetic: Compute) -> Self {
        *COMPUTE.lock().unwrap() = Some(arithmetic);
        let path = std::env::var_os("EVENKEEL_LIBNRT").expect("the parent process must set `EVENKEEL_LIBNRT`");
        // SAFETY: the functions of the fake library have these types.
        unsafe {
            let library = libloading::Library::new(path).expect("the fake Neuron runtime must load");
            let set = library
                .get::<unsafe extern "C" fn(*const ())>("standin_compute")
                .expect("the fake library must export `standin_compute`");
            set(compute as *const ());
            Standin { library }
        }
    }

    /// Makes calls of a function fail with this status. First, `after` calls still pass; then, `times` calls fail. The
    /// name "" stands for every function.
    pub fn fail(&self, function: &str, after: c_int, times: c_int, status: c_int) {
        let function = CString::new(function).expect("the name of a runtime function must have no NUL");
        // SAFETY: the function of the fake library has this type.
        unsafe {
            type Fail = unsafe extern "C" fn(*const c_char, c_int, c_int, c_int);
            let fail = self.library.get::<Fail>("standin_fail").expect("the fake library must export `standin_fail`");
            fail(function.as_ptr(), after, times, status);
        }
    }

    fn number(&self, function: &str) -> c_int {
        // SAFETY: the function of the fake library has this type.
        unsafe {
            self.library
                .get::<unsafe extern "C" fn() -> c_int>(function)
                .expect("the fake Neuron runtime must export the requested function")()
        }
    }

    pub fn calls(&self) -> c_int {
        self.number("standin_calls")
    }

    /// Returns the number of requested failures that did not happen, and cancels them.
    pub fn failures_left(&self) -> c_int {
        let left = self.number("standin_failures_left");
        self.fail("", 0, 0, 0);
        left
    }

    pub fn live(&self) -> Live {
        // SAFETY: the function of the fake library has this type.
        let live = |kind| unsafe {
            self.library
                .get::<unsafe extern "C" fn(c_int) -> c_int>("standin_live")
                .expect("the fake library must export `standin_live`")(kind)
        };
        Live { models: live(0), tensors: live(1), sets: live(2), infos: live(3) }
    }

    /// Asserts that no object is left, and that no call was invalid.
    pub fn is_left_clean(&self) {
        assert_eq!(self.live(), Live { models: 0, tensors: 0, sets: 0, infos: 0 });
        self.was_called_well();
    }

    pub fn was_called_well(&self) {
        // SAFETY: the function of the fake library has this type, and returns a terminated text that stays valid.
        let wrong = unsafe {
            let wrong = self
                .library
                .get::<unsafe extern "C" fn() -> *const c_char>("standin_wrong")
                .expect("the fake library must export `standin_wrong`");
            CStr::from_ptr(wrong())
        };
        assert_eq!(wrong.to_str(), Ok(""));
    }
}

/// Builds a fake NEFF. Its text is the line `first`, followed by one line per tensor.
pub fn neff(first: &str, inputs: &[TensorSpec], outputs: &[TensorSpec]) -> Vec<u8> {
    let mut text = format!("{first}\n");
    for (usage, name, specs) in [("in", "input", inputs), ("out", "output", outputs)] {
        // A library may list the tensors in any order. They are listed in descending order here, so that code which
        // expects ascending order fails.
        for (number, spec) in specs.iter().enumerate().rev() {
            let dtype = match spec.dtype {
                ElementType::F32 => "f32",
                ElementType::F16 => "f16",
                ElementType::BF16 => "bf16",
                ElementType::U8 => "u8",
                ElementType::S32 => "s32",
                other => panic!("a fake NEFF must have only F32, F16, BF16, U8 and S32, got {other:?}"),
            };
            let shape: Vec<String> = spec.shape.iter().map(usize::to_string).collect();
            text += &format!("{usage} {name}{number} {dtype} {}", shape.join(" "));
            text = text.trim_end().to_string() + "\n";
        }
    }
    whole(&text, 1)
}

/// Builds a NEFF with a header and this text.
pub fn whole(text: &str, logical_cores: u32) -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    bytes[8..16].copy_from_slice(&1024u64.to_le_bytes());
    bytes[16..24].copy_from_slice(&(text.len() as u64).to_le_bytes());
    bytes[552..556].copy_from_slice(&logical_cores.to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

/// Builds a program that the fake compiler and library accept.
pub fn program(first: &str, inputs: &[TensorSpec], outputs: &[TensorSpec]) -> Program {
    Program::from_parts(first, inputs, outputs, neff(first, inputs, outputs), "")
}

static KNOWN: Mutex<Vec<Program>> = Mutex::new(Vec::new());

/// Makes the fakes accept a program of the crate.
pub fn know(program: &Program) {
    let mut known = KNOWN.lock().unwrap();
    let folder = PathBuf::from(std::env::var_os("STANDIN_NEFFS").expect("the parent process must set `STANDIN_NEFFS`"));
    std::fs::create_dir_all(&folder).expect("the folder `STANDIN_NEFFS` must be created");
    let name: String = Sha256::digest(program.hlo()).iter().map(|byte| format!("{byte:02x}")).collect();
    let neff = neff(&format!("known {}", known.len()), program.inputs(), program.outputs());
    std::fs::write(folder.join(name), neff).expect("the fake NEFF must be written");
    known.push(program.clone());
}

/// Computes a program registered by [`know`].
pub fn interpret(program: &str, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> c_int {
    let number = program.lines().next().and_then(|line| line.strip_prefix("known ")?.parse::<usize>().ok());
    let program = KNOWN.lock().unwrap()[number.expect("the test must register the program before it runs")].clone();
    let made = Interpreter.execute(&program, inputs).expect("the interpreter must run the registered program");
    for (output, made) in outputs.iter_mut().zip(made) {
        output.copy_from_slice(&made);
    }
    0
}

pub fn spec(dtype: ElementType, shape: &[usize]) -> TensorSpec {
    TensorSpec::new(dtype, shape)
}

pub fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

pub fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]])).collect()
}

pub fn device() -> Device {
    Device::open().expect("the fake Neuron device must open")
}
