//! Tests that faults planted in the kernels are detected. Each fault changes one place in a copy of the sources. The
//! copy is compiled and run like the original. By default, only the first fault of each list is planted. With
//! EVENKEEL_ALL_FAULTS=1 all faults are planted, which takes many minutes.

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

use evenkeel_cuda_emulator::Emulator;
use std::path::{Path, PathBuf};
use std::process::Command;

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
    compiler.args(["-std=c++17", "-O1", "-shared", "-fPIC", "-fno-gnu-unique", "-ffp-contract=off", "-w"]);
    if cfg!(target_arch = "x86_64") {
        compiler.args(["-mfma", "-mf16c"]);
    }
    compiler.arg("-I").arg(package.join("emulator")).arg("-o").arg(&library);
    compiler.arg(package.join("emulator/emulator.cpp")).args(["-x", "c++"]).arg(folder.join(kernels));
    let done = compiler.output().expect("the C++ compiler must start");
    assert!(done.status.success(), "{}: {}", fault.what, String::from_utf8_lossy(&done.stderr));
    library
}

/// Plants faults in the file of an op's kernels and in its includes. `look` must find a difference for each fault, and
/// none for the original kernels.
fn every_fault_is_found(kernels: &str, faults: &[Fault], look: impl Fn(&Emulator) -> Outcome) {
    // Each text to replace must exist, even if its fault is not planted.
    for Fault { what, file, from, .. } in faults {
        let places = std::fs::read_to_string(sources().join(file)).unwrap().matches(from).count();
        assert_eq!(places, 1, "{what}: {file} must contain this text once, found {places} times:\n{from}");
    }
    look(&Emulator::linked()).expect("the unchanged kernels must give the same bits as the CPU");
    let all = std::env::var_os("EVENKEEL_ALL_FAULTS").is_some();
    let planted = &faults[..if all { faults.len() } else { 1 }];
    let mut missed = Vec::new();
    for fault in planted {
        let folder = tempfile::tempdir().unwrap();
        let emulator = Emulator::load(&compile(kernels, fault, folder.path())).unwrap();
        match look(&emulator) {
            Err(found) => println!("{}: {found}", fault.what),
            Ok(()) => missed.push(fault.what),
        }
    }
    assert!(
        missed.is_empty(),
        "{kernels}: the test must detect all {} planted faults, but missed {missed:?}",
        planted.len()
    );
}

#[test]
fn of_attention_over_pages() {
    every_fault_is_found("attention_decode.cu", attention_decode::FAULTS, attention_decode::look);
}

#[test]
fn of_clipping_by_the_norm() {
    every_fault_is_found("clip_grad_norm.cu", clip_grad_norm::FAULTS, clip_grad_norm::look);
}

fn every_fault_of_elements_is_found(module: &str, faults: &[Fault]) {
    every_fault_is_found(&format!("{module}.cu"), faults, |emulator| elementwise::look(emulator, module));
}

#[test]
fn of_exponentials() {
    every_fault_of_elements_is_found("elementwise_exp", elementwise::EXP);
}

#[test]
fn of_logarithms() {
    every_fault_of_elements_is_found("elementwise_log", elementwise::LOG);
}

#[test]
fn of_logistic_functions() {
    every_fault_of_elements_is_found("elementwise_logistic", elementwise::LOGISTIC);
}

#[test]
fn of_normal_functions() {
    every_fault_of_elements_is_found("elementwise_normal", elementwise::NORMAL);
}

#[test]
fn of_roots() {
    every_fault_of_elements_is_found("elementwise_root", elementwise::ROOT);
}

#[test]
fn of_softplus() {
    every_fault_of_elements_is_found("elementwise_softplus", elementwise::SOFTPLUS);
}

#[test]
fn of_gradients_of_logistic_functions() {
    every_fault_of_elements_is_found("elementwise_backward_logistic", elementwise_backward::LOGISTIC);
}

#[test]
fn of_gradients_of_exponentials() {
    every_fault_of_elements_is_found("elementwise_backward_exp", elementwise_backward::EXP);
}

#[test]
fn of_gradients_of_roots() {
    every_fault_of_elements_is_found("elementwise_backward_root", elementwise_backward::ROOT);
}

#[test]
fn of_swiglu() {
    every_fault_of_elements_is_found("elementwise_swiglu", elementwise_backward::SWIGLU);
}

#[test]
fn of_rope() {
    every_fault_is_found("rope.cu", rope::FAULTS, rope::look);
}

#[test]
fn of_log_softmax() {
    every_fault_is_found("log_softmax.cu", log_softmax::FAULTS, log_softmax::look);
}

#[test]
fn of_logsumexp() {
    every_fault_is_found("logsumexp.cu", log_softmax::FAULTS_OF_SUMS, log_softmax::look_at_sums);
}

#[test]
fn of_softmax_masked() {
    every_fault_is_found("softmax_masked.cu", masked::FAULTS, masked::look);
}

#[test]
fn of_log_sum_masked() {
    every_fault_is_found("log_sum_masked.cu", masked::FAULTS_OF_SUMS, masked::look_at_sums);
}

#[test]
fn of_softmax_backward() {
    every_fault_is_found("softmax_backward.cu", backward::FAULTS, backward::look);
}

#[test]
fn of_log_softmax_backward() {
    every_fault_is_found("log_softmax_backward.cu", backward::FAULTS_OF_LOG, backward::look_at_log);
}

#[test]
fn of_logsumexp_backward() {
    every_fault_is_found("logsumexp_backward.cu", backward::FAULTS_OF_LOGSUMEXP, backward::look_at_logsumexp);
}

#[test]
fn of_masked_backward() {
    every_fault_is_found("masked_backward.cu", masked_backward::FAULTS, masked_backward::look);
}

#[test]
fn of_softmax() {
    every_fault_is_found("softmax.cu", softmax::FAULTS, softmax::look);
}

#[test]
fn of_the_sampler() {
    every_fault_is_found("sample.cu", sample::FAULTS, sample::look);
}

#[test]
fn of_cross_entropy() {
    every_fault_is_found("cross_entropy.cu", cross_entropy::FAULTS, cross_entropy::look);
}

#[test]
fn of_cross_entropy_with_a_softcap() {
    every_fault_is_found(
        "cross_entropy_softcap.cu",
        cross_entropy::FAULTS_OF_SOFTCAPS,
        cross_entropy::look_at_softcaps,
    );
}

#[test]
fn of_qk_norm_and_rope() {
    every_fault_is_found("qk_norm_rope.cu", qk_norm_rope::FAULTS, qk_norm_rope::look);
}

#[test]
fn of_rms_norm() {
    every_fault_is_found("rms_norm.cu", rms_norm::FAULTS, rms_norm::look);
}

#[test]
fn of_layer_norm() {
    every_fault_is_found("layer_norm.cu", layer_norm::FAULTS, layer_norm::look);
}

#[test]
fn of_norm_backward() {
    every_fault_is_found("norm_backward.cu", norm_backward::FAULTS, norm_backward::look);
}
