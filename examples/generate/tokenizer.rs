//! The tokenizer inside a checkpoint.

use crate::checkpoint::Checkpoint;
use anyhow::{Result, anyhow, bail};
use candle_core::quantized::tokenizer::TokenizerFromGguf;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{SplitDelimiterBehavior, Tokenizer};

/// What Llama 3 and Qwen 2 split texts by; they differ in how many digits stay together.
const SPLIT: [&str; 2] =
    [r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|", r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"];

/// The checkpoint's tokenizer.
pub fn read(checkpoint: &Checkpoint) -> Result<Tokenizer> {
    let model = checkpoint.text("tokenizer.ggml.model")?;
    if model != "gpt2" {
        bail!("the tokenizer model is `{model}`; `gpt2`, byte-level BPE, can be run");
    }
    let mut tokenizer = Tokenizer::from_gguf(checkpoint.content()).map_err(|e| anyhow!("the tokenizer: {e}"))?;
    let pre = checkpoint.optional_text("tokenizer.ggml.pre")?.unwrap_or("default");
    tokenizer.with_pre_tokenizer(Some(splitting(pre)?)).with_decoder(Some(ByteLevel::default()));
    Ok(tokenizer)
}

/// How a text is split before pairs are merged. Candle takes kinds that it does not know for GPT-2's, with a space put
/// in front: other tokens than the model was trained on.
fn splitting(pre: &str) -> Result<PreTokenizerWrapper> {
    // The last says whether GPT-2's own expression splits.
    let bytes = |split: bool| ByteLevel::new(false, true, split);
    Ok(match pre {
        "smollm" => Sequence::new(vec![Digits::new(true).into(), bytes(true).into()]).into(),
        "default" | "gpt-2" => bytes(true).into(),
        "llama-bpe" | "llama3" => Sequence::new(vec![by_expression(r"\p{N}{1,3}")?, bytes(false).into()]).into(),
        "qwen2" => Sequence::new(vec![by_expression(r"\p{N}")?, bytes(false).into()]).into(),
        other => {
            bail!(
                "the tokenizer splits texts by `{other}`; default, gpt-2, llama-bpe, llama3, qwen2 and smollm are known"
            )
        }
    })
}

fn by_expression(digits: &str) -> Result<PreTokenizerWrapper> {
    let [before, after] = SPLIT;
    let expression = SplitPattern::Regex(format!("{before}{digits}{after}"));
    let split = Split::new(expression, SplitDelimiterBehavior::Isolated, false);
    Ok(split.map_err(|e| anyhow!("the tokenizer: {e}"))?.into())
}
