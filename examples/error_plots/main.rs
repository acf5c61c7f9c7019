//! Draws the error of each op in ULP, and the error of the naive formula in the storage type, to `docs/error/OP.svg`.
//!
//! `cargo run --release -p error-plots [-- OP ...]`

#![forbid(unsafe_code)]

mod measure;
#[path = "../../tests/support/naive/mod.rs"]
mod naive;
mod picture;

use anyhow::Context;
use evenkeel::registry::OPS;
use half::bf16;
use std::path::Path;

fn main() -> anyhow::Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/error"));
    std::fs::create_dir_all(folder)?;
    for op in OPS.iter().filter(|op| wanted.is_empty() || wanted.iter().any(|name| name == op.name)) {
        let unknown = || format!("the op {} has no case in examples/error_plots/measure", op.name);
        let f32 = measure::curves::<f32>(op.name).with_context(unknown)?;
        let bf16 = measure::curves::<bf16>(op.name).with_context(unknown)?;
        let path = folder.join(format!("{}.svg", op.name));
        picture::draw(&path, op.name, &[("f32", f32), ("bf16", bf16)])?;
        println!("{}", path.display());
    }
    Ok(())
}
