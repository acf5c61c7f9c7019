//! What it takes to write text with a model, wherever it comes from.

use crate::model::{Config, Weights};
use anyhow::{Result, anyhow};
use candle_core::Device;
use tokenizers::Tokenizer;

/// A trained model: weights, and what they were trained with.
pub trait Pretrained: Weights {
    /// How its tokens are drawn unless something else is asked for.
    const TEMPERATURE: f64;

    /// The model's sizes and constants.
    fn config(&self) -> Result<Config>;

    /// Has the weights loaded to this device; to the CPU before.
    fn place(&mut self, device: &Device);

    /// Its tokenizer.
    fn tokenizer(&self) -> Result<Tokenizer>;

    /// The tokens of a text to go on from, at least one; of a question, where this is a chat.
    fn prompt(&self, tokenizer: &Tokenizer, text: &str, chat: bool) -> Result<Vec<u32>>;

    /// The tokens after which there is nothing more to say.
    fn ends(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>>;
}

/// The tokens of a text, with those that the tokenizer itself puts around it or without.
pub fn encode(tokenizer: &Tokenizer, text: &str, around: bool) -> Result<Vec<u32>> {
    let encoding = tokenizer.encode(text, around).map_err(|e| anyhow!("the tokenizer: {e}"))?;
    Ok(encoding.get_ids().to_vec())
}
