//! Tests of monitored training runs: their files, their reproducibility, and their divergence without guards.

use std::path::Path;
use std::process::{Command, Output};

fn train(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
    command
        .arg("--run")
        .arg(folder)
        .args(["--batch", "2"])
        .args(arguments)
        .output()
        .expect("the program `train` must start")
}

fn text(output: &Output, code: i32) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "`train`: expected exit status {code}; stderr: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Returns the records of the log.
fn log(folder: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(folder.join("run.jsonl")).expect("`train --run` must write `run.jsonl`");
    text.lines().map(|line| serde_json::from_str(line).expect("each line of `run.jsonl` must be JSON")).collect()
}

#[test]
fn a_run_leaves_what_it_says_and_goes_on_with_the_same_bits() {
    let folder = tempfile::tempdir().expect("a temporary folder must be created");
    for dtype in ["f32", "bf16", "f16"] {
        let (whole, halves) = (folder.path().join(format!("{dtype}-whole")), folder.path().join(dtype));
        let said = text(&train(&whole, &["--dtype", dtype, "--steps", "22"]), 0);
        assert!(
            said.contains("22 steps, 0 skipped") && said.contains("mean loss of the last 22 steps"),
            "`train` in {dtype}: expected a summary of 22 steps, got: {said}"
        );
        text(&train(&halves, &["--dtype", dtype, "--steps", "11"]), 0);
        text(&train(&halves, &["--dtype", dtype, "--steps", "22", "--resume"]), 0);
        let (logs, state) = ([&whole, &halves].map(|run| log(run)), "state.safetensors");
        assert_eq!(logs[0], logs[1]);
        assert_eq!(logs[0].iter().map(|line| line["step"].as_u64()).collect::<Vec<_>>(), [Some(0), Some(20)]);
        assert!(
            logs[0][0]["layers"].as_array().is_some_and(|layers| layers.len() == 20),
            "`train` in {dtype}: expected 20 layers in the first record, got {}",
            logs[0][0]
        );
        let saved = [&whole, &halves].map(|run| {
            let tensors = candle_core::safetensors::load(run.join(state), &candle_core::Device::Cpu);
            let mut tensors: Vec<_> = tensors.expect("`state.safetensors` must be readable").into_iter().collect();
            tensors.sort_by(|a, b| a.0.cmp(&b.0));
            let bytes = |tensor: &candle_core::Tensor| format!("{tensor} {:?}", tensor.dtype());
            tensors.iter().map(|(name, tensor)| (name.clone(), bytes(tensor))).collect::<Vec<_>>()
        });
        assert_eq!(saved[0], saved[1]);
        let names: Vec<String> = std::fs::read_dir(&halves)
            .unwrap()
            .map(|f| f.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        let ends = |end: &str| names.iter().filter(|name| name.contains(end)).count();
        assert_eq!(
            (ends(".jsonl"), ends(".svg"), ends("tfevents"), ends(".safetensors")),
            (1, 1, 2, 1),
            "expected 1 log, 1 picture, 2 event files and 1 state file in the output folder, got {names:?}"
        );
    }
}

#[test]
fn without_guards_f16_breaks() {
    let folder = tempfile::tempdir().expect("a temporary folder must be created");
    let said = text(&train(folder.path(), &["--dtype", "f16", "--steps", "50", "--no-guards"]), 1);
    assert!(
        said.contains("train: the loss of step ") && said.contains("is NaN"),
        "expected `train` to report a step whose loss is NaN, got: {said}"
    );
}

#[test]
fn runs_refuse() {
    let folder = tempfile::tempdir().expect("a temporary folder must be created");
    let refused = |arguments: &[&str], why: &str| {
        let output = train(folder.path(), arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(2),
            "`train` with {arguments:?}: expected exit status 2; stderr: {stderr}"
        );
        assert!(stderr.contains(why), "`train` with {arguments:?}: expected {why:?} in stderr, got: {stderr}");
    };
    refused(&["--dtype", "f8"], "f32, bf16, f16");
    refused(&["--resume", "--no-guards"], "cannot be used with");
    refused(&["--save-every", "0"], "0 is not in 1..");
    refused(&["--resume", "--steps", "3"], "can't resume from");
    text(&train(folder.path(), &["--steps", "2"]), 0);
    refused(&["--steps", "2"], "exists already; use `--resume` to continue its run");
    refused(&["--steps", "3", "--resume", "--dtype", "f16"], "belongs to a run in F32");
    std::fs::write(folder.path().join("state.safetensors"), b"short").unwrap();
    refused(&["--steps", "3", "--resume"], "can't resume from");
}
