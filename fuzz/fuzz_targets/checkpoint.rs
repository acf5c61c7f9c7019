//! Any bytes for a checkpoint of the example `generate`: its sizes, tokenizer and weights, or a reason.

#![no_main]
// The example uses more of them.
#![allow(dead_code)]

#[path = "../../examples/generate/checkpoint.rs"]
mod checkpoint;
#[path = "../../examples/generate/model.rs"]
mod model;
#[path = "../../examples/generate/ops.rs"]
mod ops;
#[path = "../../examples/generate/tokenizer.rs"]
mod tokenizer;

use checkpoint::Checkpoint;
use libfuzzer_sys::fuzz_target;
use model::Model;
use std::sync::LazyLock;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("there is room for temporary files"));

fuzz_target!(|data: &[u8]| {
    let path = FOLDER.path().join("model.gguf");
    std::fs::write(&path, data).expect("a checkpoint can be written");
    let _ = read(&path);
});

fn read(path: &std::path::Path) -> anyhow::Result<()> {
    let mut checkpoint = Checkpoint::open(path)?;
    let config = checkpoint.config()?;
    let tokenizer = tokenizer::read(&checkpoint)?;
    let _ = tokenizer.encode("1 and 2", false);
    checkpoint.token("tokenizer.ggml.eos_token_id")?;
    let _: Model<ops::Evenkeel> = Model::new(config, &mut checkpoint, || ())?;
    Ok(())
}
