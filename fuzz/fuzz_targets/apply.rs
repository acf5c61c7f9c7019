//! Fuzz target for the example `apply`. For any bytes, the program must answer every job or return an error. The target
//! covers the whole program except for its command line.
//!
//! An input of the target starts with two bytes for the length of the program's file JOBS. The contents of JOBS follow,
//! and then the contents of the program's file IN. `seeds/apply` contains initial inputs.

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

static FOLDER: LazyLock<TempDir> =
    LazyLock::new(|| tempfile::tempdir().expect("creating a temporary folder must succeed"));

fuzz_target!(|data: &[u8]| {
    let Some((&len, rest)) = data.split_first_chunk() else { return };
    let (text, bytes) = rest.split_at(rest.len().min(u16::from_le_bytes(len).into()));
    let [jobs, tensors, out] = ["jobs", "in", "out"].map(|name| FOLDER.path().join(name));
    fs::write(&jobs, text).expect("writing the jobs file must succeed");
    fs::write(&tensors, bytes).expect("writing the tensors file must succeed");
    let _ = fs::remove_file(&out);
    let simd = "auto".parse().expect("the instruction set name `auto` must be valid");
    let arguments = Arguments { jobs, tensors, out, backend: Backend::Cpu, simd, threads: None };
    match run::run(&arguments) {
        Ok(()) => {
            let written =
                fs::read(&arguments.out).expect("if the program `apply` succeeds, it must write its output file");
            safetensors::SafeTensors::deserialize(&written)
                .expect("the output file of the program `apply` must be valid safetensors");
        }
        Err(_) => {
            assert!(!arguments.out.exists(), "if the program `apply` fails, it must not write its output file")
        }
    }
});
