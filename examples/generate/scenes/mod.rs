//! Replays numerical failures reported in the field on generated data, with the failing arithmetic and with Evenkeel's.

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

/// Plays every scene, prints the guards' counts, and introduces the text that begins with this prompt.
pub fn play(prompt: &str) -> Result<()> {
    let mut stage = Stage::new();
    sampler::play(&mut stage)?;
    key_norm::play(&mut stage)?;
    masked_row::play(&mut stage)?;
    stage.close()?;
    stage.heading("A tiny model and its text")?;
    stage.say(
        "The model is built in. The example train has trained it on this repository's documentation only.
`--prompt TEXT` continues another text, `--temperature 1` makes the text more random.",
    )?;
    stage.begin(prompt)
}
