//! Fuzz target for the checkpoints of the example `generate`, in both file formats. For any bytes, reading the sizes,
//! the tokenizer, the tokens and the weights must succeed or return an error.

#![no_main]
// This target does not use all items of these modules.
#![allow(dead_code)]

#[path = "../../examples/generate/chat.rs"]
mod chat;
#[path = "../../examples/generate/checkpoint.rs"]
mod checkpoint;
#[path = "../../examples/generate/model.rs"]
mod model;
#[path = "../../examples/generate/ops.rs"]
mod ops;
#[path = "../../examples/generate/pretrained.rs"]
mod pretrained;
#[path = "../../examples/support/tiny.rs"]
mod tiny;
#[path = "../../examples/generate/tokenizer.rs"]
mod tokenizer;
#[path = "../../examples/generate/trained.rs"]
mod trained;

use checkpoint::Checkpoint;
use libfuzzer_sys::fuzz_target;
use model::Model;
use pretrained::Pretrained;
use std::path::Path;
use std::sync::LazyLock;
use tempfile::TempDir;
use trained::Trained;

static FOLDER: LazyLock<TempDir> =
    LazyLock::new(|| tempfile::tempdir().expect("creating a temporary folder must succeed"));

fuzz_target!(|data: &[u8]| {
    let path = FOLDER.path().join("model");
    std::fs::write(&path, data).expect("writing the checkpoint must succeed");
    let _ = read(&path, Checkpoint::open);
    let _ = read(&path, Trained::open);
});

fn read<P: Pretrained>(path: &Path, open: fn(&Path) -> anyhow::Result<P>) -> anyhow::Result<()> {
    let mut source = open(path)?;
    let config = source.config()?;
    let tokenizer = source.tokenizer()?;
    let _ = source.prompt(&tokenizer, "1 and 2", false);
    source.ends(&tokenizer)?;
    let _: Model<ops::Evenkeel> = Model::new(config, &mut source, || ())?;
    Ok(())
}
