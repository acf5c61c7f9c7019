//! Tests of the command line: rejected arguments, and a sampled walk.

#![forbid(unsafe_code)]

use std::fs;
use std::process::{Command, Output};
use tempfile::TempDir;

/// Runs the program with a temporary folder for all its output.
fn run(folder: &TempDir, simd: &str, arguments: &[&str]) -> (Output, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exhaustive"));
    command.env("EVENKEEL_SIMD", simd).args(arguments);
    for name in ["out", "progress"] {
        command.arg(format!("--{name}")).arg(folder.path().join(name));
    }
    let output = command.output().expect("the program `exhaustive` must start");
    let text = |bytes: &[u8]| {
        String::from_utf8(bytes.to_vec()).expect("the output of the program `exhaustive` must be valid UTF-8")
    };
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    (output, stdout, stderr)
}

#[test]
fn refusals_say_what_there_is() {
    let folder = TempDir::new().expect("creating a temporary folder must succeed");
    for (simd, arguments, message) in [
        ("portable", &["sinh"][..], "[possible values: exp, expm1, "),
        ("portable", &["--sample", "0"], "invalid value '0' for '--sample <SAMPLE>'"),
        ("portable", &["--threads", "0"], "invalid value '0' for '--threads <THREADS>'"),
        ("sse9", &["exp"], "it must be auto, portable, avx2 or avx512"),
    ] {
        let (output, _, stderr) = run(&folder, simd, arguments);
        assert_eq!(output.status.code(), Some(2), "arguments {arguments:?}: expected exit status 2; stderr: {stderr}");
        assert!(stderr.contains(message), "arguments {arguments:?}: stderr must contain {message:?}, got {stderr}");
    }
}

#[test]
fn a_sampled_walk_says_what_it_found_and_leaves_the_tables() {
    let folder = TempDir::new().expect("creating a temporary folder must succeed");
    let (output, stdout, stderr) = run(&folder, "portable", &["exp", "sqrt", "--sample", "4096", "--threads", "1"]);
    assert!(output.status.success(), "the sampled walk must succeed; stdout: {stdout}; stderr: {stderr}");
    assert!(
        stdout.contains("| `exp` | portable | CORE-MATH | 1048576 | 0 | at most 0.5 | 0 |"),
        "stdout must have the row of exp, got {stdout}"
    );
    assert!(
        stdout.contains("| `sqrt` | portable | IEEE 754 | 1048576 | 0 | at most 0.5 | 0 |"),
        "stdout must have the row of sqrt, got {stdout}"
    );
    assert!(!folder.path().join("out").exists());
    let left = fs::read_dir(folder.path().join("progress")).expect("the progress folder must be readable").count();
    assert_eq!(left, 0, "a finished run must delete the progress file, but the folder has {left} files");
}

#[test]
fn a_damaged_progress_stops_the_program_unless_it_begins_anew() {
    let folder = TempDir::new().expect("creating a temporary folder must succeed");
    let path = folder.path().join("progress/exp-portable-1-in-4096.toml");
    fs::create_dir(folder.path().join("progress")).expect("creating the progress folder must succeed");
    fs::write(&path, "chunks = many").expect("the progress file must be writable");
    let arguments = ["exp", "--sample", "4096"];
    let (output, _, stderr) = run(&folder, "portable", &arguments);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr.contains("exp-portable-1-in-4096.toml is damaged: "),
        "stderr must name the damaged file, got {stderr}"
    );
    assert_eq!(fs::read_to_string(&path).expect("the progress file must be readable"), "chunks = many");
    let (output, stdout, stderr) = run(&folder, "portable", &[&arguments[..], &["--restart"]].concat());
    assert!(
        output.status.success(),
        "`--restart` must replace a damaged progress file; stdout: {stdout}; stderr: {stderr}"
    );
}
