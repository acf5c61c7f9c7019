//! Failures that were met in the field, played on generated data: the arithmetic that fails, then Evenkeel's.

mod generated;
mod key_norm;
mod masked_row;
mod naive;
mod sampler;
mod stage;
mod tiny;

use anyhow::Result;
use stage::Stage;

/// Plays every scene, and closes with what the guards met.
pub fn play() -> Result<()> {
    let mut stage = Stage::new();
    sampler::play(&mut stage)?;
    key_norm::play(&mut stage)?;
    masked_row::play(&mut stage)?;
    stage.close()
}
