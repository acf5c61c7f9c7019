//! Tests of files with tiny models, both files written by `train` and invalid files.

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::{Command, Output};

const BUILT_IN: &[u8] = include_bytes!("../../tiny.safetensors");

/// Weights and description of a model. Tests change them before writing the file.
struct Tiny {
    description: Value,
    tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
}

impl Tiny {
    fn read(file: &[u8]) -> Self {
        let (_, metadata) =
            SafeTensors::read_metadata(file).expect("the weights file must be in the safetensors format");
        let entries = metadata.metadata().as_ref().expect("the weights file must have metadata");
        let description =
            serde_json::from_str(&entries["evenkeel"]).expect("the metadata entry `evenkeel` must be JSON");
        let tensors = SafeTensors::deserialize(file)
            .expect("the weights file must be in the safetensors format")
            .tensors()
            .into_iter();
        let owned = |view: TensorView<'_>| (view.dtype(), view.shape().to_vec(), view.data().to_vec());
        Tiny { description, tensors: tensors.map(|(name, view)| (name, owned(view))).collect() }
    }

    fn built_in() -> Self {
        Tiny::read(BUILT_IN)
    }

    fn with(mut self, key: &str, value: Value) -> Self {
        self.description[key] = value;
        self
    }

    fn tensor(mut self, name: &str, dtype: Dtype, shape: &[usize]) -> Self {
        let bytes = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        self.tensors.insert(name.to_string(), (dtype, shape.to_vec(), vec![0; bytes]));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.tensors.remove(name).unwrap_or_else(|| panic!("the built-in weights file must have the tensor `{name}`"));
        self
    }

    fn file(&self, key: &str) -> Vec<u8> {
        let views = self.tensors.iter().map(|(name, (dtype, shape, bytes))| {
            (
                name,
                TensorView::new(*dtype, shape.clone(), bytes).expect("the bytes of a test tensor must fit its shape"),
            )
        });
        let metadata = HashMap::from([(key.to_string(), self.description.to_string())]);
        serialize(views, Some(metadata)).expect("writing the safetensors file to memory must succeed")
    }
}

fn generate(path: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_generate"))
        .arg("--model")
        .arg(path)
        .args(arguments)
        .output()
        .expect("the program `generate` must start")
}

fn run(file: &[u8]) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder must be created");
    let path = folder.path().join("model.safetensors");
    std::fs::write(&path, file).expect("`model.safetensors` must be written");
    generate(&path, &["--prompt", "a keel", "--tokens", "4", "--verify"])
}

#[track_caller]
fn refused(output: Output, why: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "`generate`: expected exit status 2; stderr: {stderr}");
    assert!(stderr.contains(why), "expected {why:?} in the stderr of `generate`, got {stderr:?}");
    assert!(!stderr.contains("panicked"), "`generate` must not panic; stderr: {stderr}");
    assert!(output.stdout.is_empty());
}

#[test]
fn the_file_that_is_built_in_is_read() {
    assert!(
        BUILT_IN.len() < 2_000_000,
        "the built-in weights file: expected fewer than 2000000 bytes, got {}",
        BUILT_IN.len()
    );
    let output = run(BUILT_IN);
    assert_eq!(
        output.status.code(),
        Some(0),
        "`generate`: expected exit status 0; stderr: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn descriptions() {
    let refuse = |key: &str, value: Value, why: &str| {
        refused(run(&Tiny::built_in().with(key, value).file("evenkeel")), why);
    };
    refuse("layers", json!(0), "layers is 0; it must be in 1 ..= 1024");
    refuse("layers", json!(5), "has no tensor `blk.4.attn_norm.weight`");
    refuse("layers", json!(-1), "metadata: invalid value: integer `-1`");
    refuse("hidden", json!(0), "hidden is 0");
    refuse("hidden", json!(u64::MAX), "hidden is 18446744073709551615; it must be in 1 ..= 65536");
    refuse("hidden", json!(64), "token_embd.weight has shape");
    refuse("heads", json!(3), "the number of columns is 128; it must be a multiple of 3, the number of heads");
    refuse("heads", json!(128), "the number of columns of a head is 1; it must be even");
    refuse("feed_forward", json!(7), "blk.0.ffn_gate.weight has shape");
    refuse("window", json!(0), "window is 0");
    refuse("eps", json!(-1.0), "eps is -1");
    refuse("theta", json!(0.0), "theta is 0");
    refuse(
        "merges",
        json!(["a b", "ab c d"]),
        "merge 1 of the tokenizer is \"ab c d\"; it must join two existing tokens",
    );
    refuse("merges", json!(["ab"]), "merge 0 of the tokenizer is \"ab\"");
    refuse("merges", json!(["a b", "a b"]), "it must not make a token that already exists");
    refuse("merges", json!([]), "token_embd.weight has shape");
    refuse("merges", json!("a b"), "metadata: invalid type");
    refuse("colour", json!("blue"), "unknown field `colour`");
}

#[test]
fn weights() {
    let refuse = |tiny: Tiny, why: &str| refused(run(&tiny.file("evenkeel")), why);
    let new = Tiny::built_in;
    refused(run(&new().file("other")), "was not written by the example `train`: its metadata has no entry `evenkeel`");
    refuse(new().without("output_norm.weight"), "has no tensor `output_norm.weight`");
    refuse(new().without("blk.3.ffn_down.weight"), "has no tensor `blk.3.ffn_down.weight`");
    refuse(new().tensor("output_norm.weight", Dtype::BF16, &[127]), "has shape [127]; [128] is needed");
    refuse(new().tensor("output_norm.weight", Dtype::F32, &[128]), "output_norm.weight is in F32; BF16 is needed");
    refuse(new().tensor("blk.0.attn_q.weight", Dtype::BF16, &[128]), "has shape [128]; [128, 128] is needed");
    let mut broken = new();
    broken
        .tensors
        .get_mut("output_norm.weight")
        .expect("the built-in weights file must have the tensor `output_norm.weight`")
        .2[..2]
        .copy_from_slice(&[0xff; 2]);
    let output = run(&broken.file("evenkeel"));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the token's logit is NaN"));
}

#[test]
fn files() {
    for len in [0, 7, 8, 100, 10_000, BUILT_IN.len() / 2, BUILT_IN.len() - 1] {
        refused(run(&BUILT_IN[..len]), "is not a safetensors file, or is truncated");
    }
    refused(run(b"GGUF and more than eight bytes"), "is not a safetensors file");
    refused(run(&[BUILT_IN, &[0]].concat()), "is not a safetensors file");
    refused(run(&[0xff; 64]), "is not a safetensors file");
    let folder = tempfile::tempdir().expect("a temporary folder must be created");
    let path = folder.path().join("model.safetensors");
    refused(generate(&path, &["--prompt", "a"]), "can't open");
    let file = std::fs::File::create(&path).expect("`model.safetensors` must be created");
    file.set_len((64 << 20) + 1).expect("`model.safetensors` must be extended beyond 64 MiB");
    refused(generate(&path, &["--prompt", "a"]), "has more than 67108864 bytes");
    std::fs::write(&path, BUILT_IN).expect("`model.safetensors` must be written");
    refused(generate(&path, &["--prompt", "a", "--chat"]), "has no chat template; leave `--chat` out");
}

/// Tests that damage anywhere in the header either gives an error or has no effect, and never causes a panic.
#[test]
fn damage() {
    let (header, _) = SafeTensors::read_metadata(BUILT_IN).expect("the weights file must be in the safetensors format");
    let mut state = 1u64;
    for _ in 0..48 {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let mut damaged = BUILT_IN.to_vec();
        damaged[(state >> 33) as usize % (8 + header)] ^= 1 << (state >> 61);
        let output = run(&damaged);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            matches!(output.status.code(), Some(0 | 2)),
            "`generate`: expected exit status 0 or 2; stderr: {stderr}"
        );
        assert!(!stderr.contains("panicked"), "`generate` must not panic; stderr: {stderr}");
    }
}

fn train(arguments: &[&str], threads: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
    command.env("RAYON_NUM_THREADS", threads).args(arguments).output().expect("the program `train` must start")
}

#[test]
fn a_seed_makes_the_weights() {
    let folder = tempfile::tempdir().expect("a temporary folder must be created");
    let path = folder.path().join("model.safetensors");
    let shown = path.to_str().expect("the path of the temporary folder must be valid UTF-8");
    let make = |seed: &str, threads: &str| {
        let output = train(&["--out", shown, "--steps", "2", "--seed", seed], threads);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "`train`: expected exit status 0; stderr: {stderr}");
        assert!(
            stderr.contains("step 2: loss "),
            "expected the loss of step 2 in the stderr of `train`, got: {stderr}"
        );
        std::fs::read(&path).expect("`train` must write the weights")
    };
    let weights = make("1", "1");
    assert!(weights == make("1", "2"), "`train` with seed 1: two threads and one thread must give the same weights");
    assert!(weights != make("2", "2"), "`train` must give different weights for seeds 1 and 2");
    assert_eq!(generate(&path, &["--prompt", "a", "--tokens", "9", "--verify"]).status.code(), Some(0));
    // The committed weights must be those of a run with the default options. So their description must have the default
    // sizes, seed and steps.
    let (new, mut committed) = (Tiny::read(&weights), Tiny::built_in());
    let help = String::from_utf8(train(&["--help"], "1").stdout).expect("the help text of `train` must be valid UTF-8");
    for key in ["seed", "steps"] {
        assert!(
            help.contains(&format!("[default: {}]", committed.description[key])),
            "expected the default {} of `--{key}` in the help text of `train`, got: {help}",
            committed.description[key]
        );
    }
    for key in ["steps", "command"] {
        committed.description[key] = new.description[key].clone();
    }
    assert_eq!(
        new.description, committed.description,
        "the committed weights file must contain the description that `train` writes; train the weights again"
    );
}

#[test]
fn training_refuses() {
    let folder = tempfile::tempdir().expect("a temporary folder must be created");
    let shown = folder.path().to_str().expect("the path of the temporary folder must be valid UTF-8");
    let nowhere = format!("{shown}/nowhere/model.safetensors");
    let cases: &[(&[&str], &str)] = &[
        (&[], "--out"),
        (&["--out", shown], "can't write"),
        (&["--out", &nowhere], "is not a folder"),
        (&["--out", "x", "--check"], "cannot be used with"),
        (&["--check", "--steps", "5"], "cannot be used with"),
        (&["--collect", "--seed", "5"], "cannot be used with"),
        (&["--out", "x", "--steps", "0"], "0 is not in 1..=100000"),
        (&["--out", "x", "--steps", "100001"], "100001 is not in 1..=100000"),
        (&["--out", "x", "--seed", "-1"], "--seed"),
        (&["--nonsense"], "--nonsense"),
    ];
    for (arguments, why) in cases {
        refused(train(arguments, "1"), why);
    }
}

#[test]
fn the_text_is_collected() {
    let output = train(&["--collect"], "1");
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).expect("the text that `train --collect` prints must be valid UTF-8");
    assert!(
        text.len() > 50_000,
        "the text that `train --collect` prints: expected more than 50000 bytes, got {}",
        text.len()
    );
    assert!(text.lines().all(|line| !line.contains(['`', '[']) && line.split(' ').count() >= 5));
}

/// Tests that `--trace` reports the origin of the first non-finite number, even if the sampler then refuses the logits.
#[test]
fn a_broken_weight_is_traced() {
    let mut model = Tiny::built_in();
    let (_, _, bytes) = model
        .tensors
        .get_mut("blk.2.ffn_up.weight")
        .expect("the built-in weights file must have the tensor `blk.2.ffn_up.weight`");
    bytes[..2].copy_from_slice(&half::bf16::INFINITY.to_le_bytes());
    let folder = tempfile::tempdir().expect("a temporary folder must be created");
    let path = folder.path().join("model.safetensors");
    std::fs::write(&path, model.file("evenkeel")).expect("`model.safetensors` must be written");
    let output = generate(&path, &["--prompt", "a keel", "--tokens", "4", "--trace"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "`generate` must exit with status 2; stderr: {stderr}");
    assert!(
        stderr.contains("the first: blk.2, feed-forward, row 0: "),
        "expected the trace to name the feed-forward layer of `blk.2`, got: {stderr}"
    );
    assert!(
        stderr.contains("; hidden states: -"),
        "expected the trace to give the range of the hidden states, got: {stderr}"
    );

    let whole = env!("CARGO_BIN_EXE_generate");
    let output = Command::new(whole)
        .args(["--prompt", "a keel", "--tokens", "2", "--trace"])
        .output()
        .expect("the program `generate` must start");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`generate --trace`: expected exit status 0; stderr: {stderr}");
    // The trace has 10 points for the prompt, and 10 for one more token. Each time, these are the embeddings, two
    // points in each of four layers, and the logits.
    assert!(
        stderr.contains("trace: 20 points, all finite"),
        "expected `trace: 20 points, all finite` in stderr, got: {stderr}"
    );
}
