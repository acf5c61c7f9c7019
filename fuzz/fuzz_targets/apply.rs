//! Fuzz target for the example `apply`. For any bytes, the program must answer every job or return an error. The target
//! covers the whole program except for its command line.
//!
//! An input of the target has the length of the program's file JOBS in two bytes, then the contents of JOBS, then those
//! of its file IN. `seeds/apply` contains initial inputs.

#![no_main]

#[path = "../../examples/apply/answer.rs"]
mod answer;
#[path = "../../examples/apply/arguments.rs"]
mod arguments;
#[path = "../../examples/apply/call.rs"]
mod call;
#[path = "../../examples/apply/jobs.rs"]
mod jobs;
#[path = "../../examples/apply/ops/mod.rs"]
mod ops;
#[path = "../../examples/support/out.rs"]
mod out;
#[path = "../../examples/support/progress.rs"]
mod progress;
#[path = "../../examples/apply/run.rs"]
mod run;
#[path = "../../examples/apply/tensors.rs"]
mod tensors;

use arguments::Arguments;
use evenkeel::registry::Backend;
use libfuzzer_sys::fuzz_target;
use std::fs;
use std::sync::LazyLock;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a temporary folder can be created"));

fuzz_target!(|data: &[u8]| {
    let Some((&len, rest)) = data.split_first_chunk() else { return };
    let (text, bytes) = rest.split_at(rest.len().min(u16::from_le_bytes(len).into()));
    let [jobs, tensors, out] = ["jobs", "in", "out"].map(|name| FOLDER.path().join(name));
    fs::write(&jobs, text).expect("jobs can be written");
    fs::write(&tensors, bytes).expect("tensors can be written");
    let _ = fs::remove_file(&out);
    let simd = "auto".parse().expect("auto is a valid instruction set");
    let arguments = Arguments { jobs, tensors, out, backend: Backend::Cpu, simd, threads: None };
    match run::run(&arguments) {
        Ok(()) => {
            let written = fs::read(&arguments.out).expect("outputs were written");
            safetensors::SafeTensors::deserialize(&written).expect("outputs can be read");
        }
        Err(_) => assert!(!arguments.out.exists(), "outputs were written despite a failure"),
    }
});
