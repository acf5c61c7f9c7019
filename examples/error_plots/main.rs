//! Draws how far each op's results are off, in ULP, beside the formula in the type: `docs/error/OP.svg`.
//!
//! `cargo run --release --features testing --example error_plots [OP ...]`

#![forbid(unsafe_code)]

mod measure;
#[allow(dead_code)] // not every formula has a picture
#[path = "../../tests/support/naive.rs"]
mod naive;
mod picture;

use evenkeel::registry::OPS;
use half::bf16;
use std::path::Path;

fn main() -> anyhow::Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/error");
    std::fs::create_dir_all(&folder)?;
    for op in OPS.iter().filter(|op| wanted.is_empty() || wanted.iter().any(|name| name == op.name)) {
        let (Some(f32), Some(bf16)) = (measure::curves::<f32>(op.name), measure::curves::<bf16>(op.name)) else {
            println!("{}: no picture", op.name);
            continue;
        };
        let path = folder.join(format!("{}.svg", op.name));
        picture::draw(&path, op.name, &[("f32", f32), ("bf16", bf16)])?;
        println!("{}", path.display());
    }
    Ok(())
}
