//! Harness that runs `apply JOBS --tensors IN --out OUT` on temporary files, and reads OUT and the answers on stdout.

use crate::example::example;
use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// Returns a command that runs the program, with `EVENKEEL_SIMD` unset.
pub fn program() -> Command {
    let mut command = Command::new(example("apply"));
    command.env_remove("EVENKEEL_SIMD");
    command
}

/// Float types, each with the allowed relative error of a result. The error is slightly more than half an ULP for
/// 16-bit types, about 1 ULP for f32, and about 4.5 ULP for f64.
pub const FLOATS: [(Dtype, f64); 4] =
    [(Dtype::F64, 1e-15), (Dtype::F32, 1.2e-7), (Dtype::F16, 4.95e-4), (Dtype::BF16, 3.95e-3)];

/// Input tensors, arguments and environment of one run of the program.
#[derive(Default)]
pub struct Apply {
    tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Apply {
    pub fn new() -> Self {
        Apply::default()
    }

    /// Adds a tensor of floats, rounded to the type.
    pub fn floats(mut self, name: &str, dtype: Dtype, shape: &[usize], values: &[f64]) -> Self {
        let bytes = values.iter().flat_map(|&v| match dtype {
            Dtype::F64 => v.to_le_bytes().to_vec(),
            Dtype::F32 => (v as f32).to_le_bytes().to_vec(),
            Dtype::F16 => f16::from_f64(v).to_le_bytes().to_vec(),
            Dtype::BF16 => bf16::from_f64(v).to_le_bytes().to_vec(),
            other => panic!("input tensor {name}: expected a float type, got {other}"),
        });
        self.tensors.push((name.into(), dtype, shape.to_vec(), bytes.collect()));
        self
    }

    pub fn f32(self, name: &str, shape: &[usize], values: &[f64]) -> Self {
        self.floats(name, Dtype::F32, shape, values)
    }

    /// Adds a tensor of bytes with the type U8 or BOOL.
    pub fn bytes(mut self, name: &str, dtype: Dtype, shape: &[usize], values: &[u8]) -> Self {
        self.tensors.push((name.into(), dtype, shape.to_vec(), values.to_vec()));
        self
    }

    pub fn integers(mut self, name: &str, shape: &[usize], values: &[i64]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensors.push((name.into(), Dtype::I64, shape.to_vec(), bytes));
        self
    }

    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.into());
        self
    }

    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Returns the contents of the file IN.
    pub fn file(&self) -> Vec<u8> {
        let views = self.tensors.iter().map(|(name, dtype, shape, bytes)| {
            (
                name.as_str(),
                TensorView::new(*dtype, shape.clone(), bytes).expect("the bytes of an input tensor must fit its shape"),
            )
        });
        safetensors::serialize(views, None).expect("the input tensors must be serialisable as safetensors")
    }

    /// Runs the jobs, each given as `[op, inputs, attrs, outputs]`. The id of a job is its index. The output `y` of the
    /// job with index 3 is named `3.y`.
    pub fn run(&self, jobs: &[Value]) -> Outcome {
        let jobs = jobs.iter().enumerate().map(|(i, job)| {
            let outputs = job[3].as_array().expect("the fourth entry of a job must be an array of result names");
            let outputs = outputs.iter().filter_map(Value::as_str).map(|o| (o.to_string(), json!(format!("{i}.{o}"))));
            let outputs = Value::Object(outputs.collect());
            json!({"id": i.to_string(), "op": job[0], "inputs": job[1], "attrs": job[2], "outputs": outputs})
        });
        self.run_text(Value::Array(jobs.collect()).to_string().as_bytes())
    }

    /// Runs the program with this text as JOBS.
    pub fn run_text(&self, jobs: &[u8]) -> Outcome {
        self.run_files(jobs, &self.file())
    }

    /// Runs the program on a file of jobs and a file of tensors with these contents.
    pub fn run_files(&self, jobs: &[u8], tensors: &[u8]) -> Outcome {
        let folder = tempfile::tempdir().expect("a temporary folder must be created");
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("jobs.json"), jobs).expect("the jobs file must be writable");
        std::fs::write(path("in.safetensors"), tensors).expect("the tensor file must be writable");
        let output = program()
            .arg(path("jobs.json"))
            .arg("--tensors")
            .arg(path("in.safetensors"))
            .arg("--out")
            .arg(path("out.safetensors"))
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .output()
            .expect("the program `apply` must start");
        Outcome::new(output, folder)
    }
}

pub struct Outcome {
    pub status: Option<i32>,
    pub stderr: String,
    pub answers: Vec<Value>,
    /// Bytes of OUT, if it was written.
    pub out: Option<Vec<u8>>,
    folder: TempDir,
}

impl Outcome {
    fn new(output: Output, folder: TempDir) -> Self {
        let stdout = String::from_utf8(output.stdout).expect("the answers of `apply` on stdout must be valid UTF-8");
        let answers = stdout
            .lines()
            .map(|line| serde_json::from_str(line).expect("each line of `apply` on stdout must be an answer in JSON"))
            .collect();
        let out = std::fs::read(folder.path().join("out.safetensors")).ok();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Outcome { status: output.status.code(), stderr, answers, out, folder }
    }

    /// Asserts that every job was answered with a success.
    pub fn all_ok(self) -> Self {
        self.answered();
        assert!(
            self.answers.iter().all(|answer| answer["ok"] == true),
            "expected every job to succeed, got {:?}",
            self.answers
        );
        self
    }

    /// Asserts that every job was answered, with a success or an error.
    pub fn answered(&self) {
        assert_eq!(
            self.status,
            Some(0),
            "`apply` must exit with status 0 after it answers its jobs; stderr: {:?}",
            self.stderr
        );
        assert!(self.out.is_some(), "`apply` must write `out.safetensors`");
        assert!(
            self.stderr.is_empty(),
            "`apply` must print nothing on stderr if it answers its jobs, got {:?}",
            self.stderr
        );
    }

    /// Asserts that the program ran no job and wrote no file, and that stderr contains the reason.
    pub fn refused(&self, why: &str) {
        assert_eq!(
            self.status,
            Some(2),
            "`apply` must exit with status 2 if it rejects a run; stderr: {:?}, answers: {:?}",
            self.stderr,
            self.answers
        );
        assert!(
            self.stderr.contains(why),
            "rejected run of `apply`: expected {:?} in stderr, got {:?}",
            why,
            self.stderr
        );
        assert!(self.answers.is_empty(), "rejected run of `apply`: expected no answers, got {:?}", self.answers);
        assert!(self.out.is_none(), "a rejected run of `apply` must not write `out.safetensors`");
        let left: Vec<PathBuf> = files(self.folder.path());
        assert_eq!(
            left.len(),
            2,
            "rejected run of `apply`: expected only the two input files in the folder, got {left:?}"
        );
    }

    /// Returns the type, shape and values of a tensor in OUT.
    pub fn tensor(&self, name: &str) -> (Dtype, Vec<usize>, Vec<f64>) {
        let out = self.out.as_ref().expect("`apply` must write `out.safetensors`");
        let tensors = SafeTensors::deserialize(out).expect("`out.safetensors` must be a safetensors file");
        let tensor =
            tensors.tensor(name).unwrap_or_else(|_| panic!("`out.safetensors` must contain the tensor {name}"));
        let data = tensor.data();
        let values = match tensor.dtype() {
            Dtype::F64 => widen(data, f64::from_le_bytes),
            Dtype::F32 => widen(data, |b| f32::from_le_bytes(b).into()),
            Dtype::F16 => widen(data, |b| f16::from_le_bytes(b).into()),
            Dtype::BF16 => widen(data, |b| bf16::from_le_bytes(b).into()),
            Dtype::I64 => widen(data, |b| i64::from_le_bytes(b) as f64),
            other => panic!("output tensor {name}: expected a float type or I64, got {other}"),
        };
        (tensor.dtype(), tensor.shape().to_vec(), values)
    }

    pub fn values(&self, name: &str) -> Vec<f64> {
        self.tensor(name).2
    }

    /// Returns the sorted names in OUT.
    pub fn names(&self) -> Vec<String> {
        let out = self.out.as_ref().expect("`apply` must write `out.safetensors`");
        let tensors = SafeTensors::deserialize(out).expect("`out.safetensors` must be a safetensors file");
        let mut names: Vec<String> = tensors.names().into_iter().map(Into::into).collect();
        names.sort();
        names
    }
}

fn widen<const N: usize>(data: &[u8], element: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    data.as_chunks::<N>().0.iter().map(|&bytes| element(bytes)).collect()
}

pub fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder must be readable");
    entries.map(|entry| entry.expect("the entries of the folder must be readable").path()).collect()
}

/// Fails unless each value has a relative error of at most `tolerance`. Infinities, NaN and 0 must match exactly.
#[track_caller]
pub fn assert_close(got: &[f64], wanted: &[f64], tolerance: f64) {
    assert_eq!(got.len(), wanted.len(), "expected {} values, got {}: {got:?}", wanted.len(), got.len());
    for (i, (&g, &w)) in got.iter().zip(wanted).enumerate() {
        let same = g == w || (g.is_nan() && w.is_nan());
        assert!(
            same || (g - w).abs() <= tolerance * w.abs(),
            "element {i} of {got:?}: expected {w} with a relative error of at most {tolerance:e}, got {g}"
        );
    }
}
