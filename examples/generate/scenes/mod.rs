//! Replays numerical failures reported in the field. Each failure is shown on generated data, with the failing
//! arithmetic and with Evenkeel.

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

/// Plays every scene, and prints the guards' counts. Then prints the prompt, with which the generated text begins.
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
