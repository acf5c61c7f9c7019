//! Tests that faults planted in the kernels are detected. Each fault changes one place in a copy of the sources. The
//! copy is compiled without optimisation. It runs in a separate process, because a faulty kernel may crash. By default,
//! only the first fault of each list is planted. With EVENKEEL_ALL_FAULTS=1 all faults are planted, which takes many
//! minutes.

mod adamw;
mod attention_decode;
mod backward;
mod clip_grad_norm;
mod cross_entropy;
mod elementwise;
mod elementwise_backward;
mod layer_norm;
mod log_softmax;
mod masked;
mod masked_backward;
mod norm_backward;
mod qk_norm_rope;
mod rms_norm;
mod rope;
mod sample;
mod softmax;
mod swiglu_backward;

use evenkeel_cuda_emulator::Emulator;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Planted fault: a text that occurs once in a file, and its replacement.
pub struct Fault {
    what: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
}

pub const fn fault(what: &'static str, file: &'static str, from: &'static str, to: &'static str) -> Fault {
    Fault { what, file, from, to }
}

/// First difference from the CPU, if there is one.
pub type Outcome = Result<(), String>;

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src/cuda/kernels")
}

/// Compiles a copy of the kernels with one place changed.
fn compile(kernels: &str, fault: &Fault, folder: &Path) -> PathBuf {
    for entry in sources().read_dir().unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if !name.ends_with(".cu") && !name.ends_with(".cuh") {
            continue;
        }
        let mut text = std::fs::read_to_string(entry.path()).unwrap();
        if name == fault.file {
            text = text.replace(fault.from, fault.to);
        }
        std::fs::write(folder.join(&name), text).unwrap();
    }
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let library = folder.join("kernels.so");
    let mut compiler = Command::new(std::env::var("CXX").unwrap_or("c++".to_string()));
    // Most comparisons end early, at the first difference. Optimisation would add more compile time than it would save
    // run time.
    compiler.args(["-std=c++17", "-O0", "-shared", "-fPIC", "-fno-gnu-unique", "-ffp-contract=off", "-w"]);
    if cfg!(target_arch = "x86_64") {
        compiler.args(["-mfma", "-mf16c"]);
    }
    compiler.arg("-I").arg(package.join("emulator")).arg("-o").arg(&library);
    compiler.arg(package.join("emulator/emulator.cpp")).args(["-x", "c++"]).arg(folder.join(kernels));
    let done = compiler.output().expect("the C++ compiler must start");
    assert!(done.status.success(), "{}: {}", fault.what, String::from_utf8_lossy(&done.stderr));
    library
}

/// Environment variable with the path of the compiled faulty kernels. If it is set, a test only runs these kernels, and
/// prints the first difference from the CPU.
const PLANTED: &str = "EVENKEEL_PLANTED_FAULT";
/// Start of the printed line that describes the first difference.
const FOUND: &str = "found: ";

/// Runs a test in another process, on faulty kernels.
fn look_apart(test: &str, library: &Path) -> Output {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["--exact", &format!("faults::{test}"), "--nocapture"]).env(PLANTED, library);
    program.output().expect("the test program must start")
}

/// Compares unchanged kernels in a library. A crash counts as a found fault, so these kernels must not crash.
fn unchanged_kernels_differ_nowhere(test: &str, kernels: &str) {
    let folder = tempfile::tempdir().unwrap();
    let output = look_apart(test, &compile(kernels, &fault("no fault", "", "", ""), folder.path()));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && !text.contains(FOUND), "{kernels}: {:?}: {text}", output.status);
    assert!(text.contains("1 passed"), "{kernels}: the test {test} must have run: {text}");
}

/// Plants faults in the file of an op's kernels and in its includes. `look` must find a difference for each fault, and
/// none for the original kernels. A crash counts as a difference.
fn every_fault_is_found(test: &str, kernels: &str, faults: &[Fault], look: impl Fn(&Emulator) -> Outcome) {
    if let Some(library) = std::env::var_os(PLANTED) {
        if let Err(found) = look(&Emulator::load(Path::new(&library)).unwrap()) {
            // An op whose kernels are in another file would hide that no fault is found.
            assert!(!found.contains("unknown kernel"), "the test must run only the kernels of {kernels}: {found}");
            println!("{FOUND}{found}");
        }
        return;
    }
    // Each text to replace must occur exactly once in its file, even if its fault is not planted.
    for Fault { what, file, from, .. } in faults {
        let places = std::fs::read_to_string(sources().join(file)).unwrap().matches(from).count();
        assert_eq!(places, 1, "{what}: {file} must contain this text once, found {places} times:\n{from}");
    }
    look(&Emulator::linked()).expect("the unchanged kernels must give the same bits as the CPU");
    let all = std::env::var_os("EVENKEEL_ALL_FAULTS").is_some();
    if all {
        unchanged_kernels_differ_nowhere(test, kernels);
    }
    let planted = &faults[..if all { faults.len() } else { 1 }];
    let mut missed = Vec::new();
    for fault in planted {
        let what = fault.what;
        let folder = tempfile::tempdir().unwrap();
        let output = look_apart(test, &compile(kernels, fault, folder.path()));
        let text = String::from_utf8_lossy(&output.stdout);
        let found = text.lines().find_map(|line| line.split_once(FOUND));
        match (found, output.status.signal()) {
            (Some((_, found)), _) => println!("{what}: {found}"),
            (None, Some(signal)) => {
                println!("{what}: the kernel was ended by signal {signal}");
                // A signal can also come from a defect of the test. So the unchanged kernels must pass.
                if !all {
                    unchanged_kernels_differ_nowhere(test, kernels);
                }
            }
            (None, None) => {
                let errors = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{what}: the test on faulty kernels must not panic: {text}{errors}");
                missed.push(what);
            }
        }
    }
    assert!(
        missed.is_empty(),
        "{kernels}: the test must detect all {} planted faults, but missed {missed:?}",
        planted.len()
    );
}

#[test]
fn unchanged_kernels_in_a_library_differ_nowhere() {
    unchanged_kernels_differ_nowhere("of_softmax", "softmax.cu");
}

/// Defines a test for each list of faults: its name, the file with the kernels, the faults, and the function that
/// compares the kernels with the CPU.
macro_rules! lists {
    ($($test:ident: $kernels:literal, $faults:expr, $look:expr;)*) => {$(
        #[test]
        fn $test() {
            every_fault_is_found(stringify!($test), $kernels, $faults, $look);
        }
    )*};
}

lists! {
    of_adamw: "adamw.cu", adamw::FAULTS, adamw::look;
    of_attention_over_pages: "attention_decode.cu", attention_decode::FAULTS, attention_decode::look;
    of_clipping_by_the_norm: "clip_grad_norm.cu", clip_grad_norm::FAULTS, clip_grad_norm::look;
    of_exponentials: "elementwise_exp.cu", elementwise::EXP, elementwise::look_at("elementwise_exp");
    of_logarithms: "elementwise_log.cu", elementwise::LOG, elementwise::look_at("elementwise_log");
    of_logistic_functions: "elementwise_logistic.cu", elementwise::LOGISTIC, elementwise::look_at("elementwise_logistic");
    of_normal_functions: "elementwise_normal.cu", elementwise::NORMAL, elementwise::look_at("elementwise_normal");
    of_roots: "elementwise_root.cu", elementwise::ROOT, elementwise::look_at("elementwise_root");
    of_softplus: "elementwise_softplus.cu", elementwise::SOFTPLUS, elementwise::look_at("elementwise_softplus");
    of_gradients_of_logistic_functions: "elementwise_backward_logistic.cu", elementwise_backward::LOGISTIC,
        elementwise::look_at("elementwise_backward_logistic");
    of_gradients_of_exponentials: "elementwise_backward_exp.cu", elementwise_backward::EXP,
        elementwise::look_at("elementwise_backward_exp");
    of_gradients_of_roots: "elementwise_backward_root.cu", elementwise_backward::ROOT,
        elementwise::look_at("elementwise_backward_root");
    of_swiglu: "elementwise_swiglu.cu", elementwise_backward::SWIGLU, elementwise::look_at("elementwise_swiglu");
    of_gradients_of_swiglu: "elementwise_backward_swiglu.cu", swiglu_backward::FAULTS, swiglu_backward::look;
    of_rope: "rope.cu", rope::FAULTS, rope::look;
    of_log_softmax: "log_softmax.cu", log_softmax::FAULTS, log_softmax::look;
    of_logsumexp: "logsumexp.cu", log_softmax::FAULTS_OF_SUMS, log_softmax::look_at_sums;
    of_softmax_masked: "softmax_masked.cu", masked::FAULTS, masked::look;
    of_log_sum_masked: "log_sum_masked.cu", masked::FAULTS_OF_SUMS, masked::look_at_sums;
    of_softmax_backward: "softmax_backward.cu", backward::FAULTS, backward::look;
    of_log_softmax_backward: "log_softmax_backward.cu", backward::FAULTS_OF_LOG, backward::look_at_log;
    of_logsumexp_backward: "logsumexp_backward.cu", backward::FAULTS_OF_LOGSUMEXP, backward::look_at_logsumexp;
    of_masked_backward: "masked_backward.cu", masked_backward::FAULTS, masked_backward::look;
    of_softmax: "softmax.cu", softmax::FAULTS, softmax::look;
    of_the_sampler: "sample.cu", sample::FAULTS, sample::look;
    of_log_probabilities: "sample_logprobs.cu", sample::FAULTS_OF_LOGPROBS, sample::look_at_logprobs;
    of_cross_entropy: "cross_entropy.cu", cross_entropy::FAULTS, cross_entropy::look;
    of_cross_entropy_with_a_softcap: "cross_entropy_softcap.cu", cross_entropy::FAULTS_OF_SOFTCAPS,
        cross_entropy::look_at_softcaps;
    of_qk_norm_and_rope: "qk_norm_rope.cu", qk_norm_rope::FAULTS, qk_norm_rope::look;
    of_rms_norm: "rms_norm.cu", rms_norm::FAULTS, rms_norm::look;
    of_layer_norm: "layer_norm.cu", layer_norm::FAULTS, layer_norm::look;
    of_norm_backward: "norm_backward.cu", norm_backward::FAULTS, norm_backward::look;
}
