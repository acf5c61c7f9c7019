//! Decodes tokens greedily with candle-transformers' quantised Llama, unmodified and with Evenkeel's imports, and
//! compares the tokens.
//!
//! Quantised products round their activations to 8 bits. A difference in the last bit of an activation can thus grow to
//! 1/127 of its range, and change logits by some tenths. A change of eps by a thousandth in candle's own norms already
//! changes the tokens after four of the six prompts. The comparison therefore runs in two ways. Dequantised weights
//! (`CANDLE_DEQUANTIZE_ALL=1`) avoid this effect, so the tokens after every prompt must be equal. With quantised
//! products, the tokens must be equal only after prompts for which the model has one clear best token at each step.

use anyhow::{Context, Result, ensure};
use candle_core::quantized::gguf_file;
use candle_core::quantized::tokenizer::TokenizerFromGguf;
use candle_core::{D, Device, Tensor};
use std::fs::File;
use tokenizers::Tokenizer;

const TOKENS: usize = 32;

/// Prompts, each with a flag: whether every decoded token is the best by a clear margin.
const PROMPTS: [(&str, bool); 6] = [
    ("<|im_start|>user\nName the capital of France.<|im_end|>\n<|im_start|>assistant\n", true),
    ("Once upon a time, there was a", true),
    ("Water boils at", true),
    ("The capital of France is", false),
    ("<|im_start|>user\nWhat is gravity?<|im_end|>\n<|im_start|>assistant\n", false),
    ("<|im_start|>user\nWrite a poem about the sea.<|im_end|>\n<|im_start|>assistant\n", false),
];

/// Defines a function that decodes with one of the two versions of candle-transformers.
macro_rules! decoder {
    ($name:ident, $krate:ident) => {
        fn $name(path: &str, prompt: &[u32]) -> Result<Vec<u32>> {
            let mut file = File::open(path).with_context(|| format!("can't open {path}"))?;
            let content = gguf_file::Content::read(&mut file)?;
            let mut model = $krate::models::quantized_llama::ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?;
            let mut tokens = prompt.to_vec();
            let mut fed = 0;
            for _ in 0..TOKENS {
                let input = Tensor::new(&tokens[fed..], &Device::Cpu)?.unsqueeze(0)?;
                let logits = model.forward(&input, fed)?;
                fed = tokens.len();
                tokens.push(logits.squeeze(0)?.argmax(D::Minus1)?.to_scalar::<u32>()?);
            }
            Ok(tokens[prompt.len()..].to_vec())
        }
    };
}

decoder!(as_it_is, candle_transformers);
decoder!(adopted, adopted);

fn main() -> Result<()> {
    let path = std::env::args().nth(1).context("usage: evenkeel-candle-compat MODEL.gguf")?;
    let content = gguf_file::Content::read(&mut File::open(&path).with_context(|| format!("can't open {path}"))?)?;
    let tokenizer = Tokenizer::from_gguf(&content)?;
    let exact = std::env::var_os("CANDLE_DEQUANTIZE_ALL").is_some();
    println!("{} products", if exact { "f32" } else { "quantised" });
    for (prompt, firm) in PROMPTS {
        let tokens = tokenizer.encode(prompt, false).map_err(anyhow::Error::msg)?.get_ids().to_vec();
        let expected = as_it_is(&path, &tokens)?;
        let got = adopted(&path, &tokens)?;
        match got.iter().zip(&expected).position(|(a, b)| a != b) {
            None => println!("{TOKENS} of {TOKENS} tokens agree after {prompt:?}"),
            Some(at) => {
                ensure!(
                    !exact && !firm,
                    "tokens after {prompt:?}: expected {expected:?} as from unmodified candle, got {got:?}"
                );
                println!(
                    "{at} of {TOKENS} tokens agree after {prompt:?}; the two best logits of the next token are close"
                );
            }
        }
    }
    Ok(())
}
