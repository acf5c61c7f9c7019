//! Failures that were met in the field, played on generated data: the arithmetic that fails, then Evenkeel's.

#[path = "../../support/generated.rs"]
mod generated;
mod key_norm;
mod masked_row;
mod memorised;
mod naive;
mod sampler;
mod stage;

use anyhow::Result;
use stage::Stage;

/// Plays every scene, closes with what the guards met, and introduces the text that begins with this prompt.
pub fn play(prompt: &str) -> Result<()> {
    let mut stage = Stage::new();
    sampler::play(&mut stage)?;
    key_norm::play(&mut stage)?;
    masked_row::play(&mut stage)?;
    stage.close()?;
    stage.heading("A tiny model, and what it says")?;
    stage.say(
        "It is built in: the example train has taught it this repository's documentation, and nothing else.
`--prompt TEXT` has it go on from another text, `--temperature 1` has it guess more.",
    )?;
    stage.begin(prompt)
}
