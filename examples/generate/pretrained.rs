//! Common interface of models that can generate text.

use crate::model::{Config, Weights};
use anyhow::{Result, anyhow};
use candle_core::Device;
use tokenizers::Tokenizer;

/// Trained model: its weights, its tokenizer, and the format of its prompts.
pub trait Pretrained: Weights {
    const TEMPERATURE: f64;

    /// Returns the model's sizes and constants.
    fn config(&self) -> Result<Config>;

    /// Sets the device that weights are loaded to. The default is the CPU.
    fn place(&mut self, device: &Device);

    fn tokenizer(&self) -> Result<Tokenizer>;

    /// Returns the tokens of the prompt, at least one. With `chat`, `text` is a user's message.
    fn prompt(&self, tokenizer: &Tokenizer, text: &str, chat: bool) -> Result<Vec<u32>>;

    /// Returns the tokens that end a text.
    fn ends(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>>;
}

/// Returns the tokens of a text. If `around` is true, the tokenizer adds its special tokens before and after the text.
pub fn encode(tokenizer: &Tokenizer, text: &str, around: bool) -> Result<Vec<u32>> {
    let encoding = tokenizer.encode(text, around).map_err(|e| anyhow!("the tokenizer can't encode the text: {e}"))?;
    Ok(encoding.get_ids().to_vec())
}
