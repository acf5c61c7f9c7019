//! Tokenizer inside a checkpoint.

use crate::checkpoint::Checkpoint;
use anyhow::{Result, anyhow, bail};
use candle_core::quantized::tokenizer::TokenizerFromGguf;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{SplitDelimiterBehavior, Tokenizer};

/// Beginning and end of the regular expression that splits texts for Llama 3 and Qwen 2. The two models differ only in
/// the middle part, which says how many digits stay together.
const SPLIT: [&str; 2] =
    [r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|", r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"];

/// Reads the checkpoint's tokenizer.
pub fn read(checkpoint: &Checkpoint) -> Result<Tokenizer> {
    let model = checkpoint.text("tokenizer.ggml.model")?;
    if model != "gpt2" {
        bail!("the tokenizer model is `{model}`; only `gpt2`, byte-level BPE, is supported");
    }
    let mut tokenizer =
        Tokenizer::from_gguf(checkpoint.content()).map_err(|e| anyhow!("can't read the tokenizer: {e}"))?;
    let pre = checkpoint.optional_text("tokenizer.ggml.pre")?.unwrap_or("default");
    tokenizer.with_pre_tokenizer(Some(splitting(pre)?)).with_decoder(Some(ByteLevel::default()));
    Ok(tokenizer)
}

/// Returns the pre-tokenizer, which splits a text before pairs are merged. Fails if `pre` is unknown. For an unknown
/// `pre`, candle would use GPT-2's pre-tokenizer and add a space in front of the text. The tokens would then differ
/// from those in training.
fn splitting(pre: &str) -> Result<PreTokenizerWrapper> {
    // The last argument enables GPT-2's own expression for splitting.
    let bytes = |split: bool| ByteLevel::new(false, true, split);
    Ok(match pre {
        "smollm" => Sequence::new(vec![Digits::new(true).into(), bytes(true).into()]).into(),
        "default" | "gpt-2" => bytes(true).into(),
        "llama-bpe" | "llama3" => Sequence::new(vec![by_expression(r"\p{N}{1,3}")?, bytes(false).into()]).into(),
        "qwen2" => Sequence::new(vec![by_expression(r"\p{N}")?, bytes(false).into()]).into(),
        other => {
            bail!(
                "the pre-tokenizer is `{other}`; it must be one of default, gpt-2, llama-bpe, llama3, qwen2 and smollm"
            )
        }
    })
}

fn by_expression(digits: &str) -> Result<PreTokenizerWrapper> {
    let [before, after] = SPLIT;
    let expression = SplitPattern::Regex(format!("{before}{digits}{after}"));
    let split = Split::new(expression, SplitDelimiterBehavior::Isolated, false);
    Ok(split.map_err(|e| anyhow!("can't compile the regular expression of the pre-tokenizer: {e}"))?.into())
}
