//! Decodes tokens greedily with candle-transformers' quantised Llama, as it is and with Evenkeel's imports, and
//! compares them.
//!
//! Such a model rounds its activations to 8 bits before every product, so a difference in an activation's last bit is
//! now and then a step of 1/127, and logits differ by a tenth. Where the two best tokens are closer than that, any two
//! implementations may part; the prompts are ordinary English, after which a model is seldom of two minds.

use anyhow::{Context, Result, ensure};
use candle_core::quantized::gguf_file;
use candle_core::quantized::tokenizer::TokenizerFromGguf;
use candle_core::{D, Device, Tensor};
use std::fs::File;
use tokenizers::Tokenizer;

const TOKENS: usize = 32;

const PROMPTS: [&str; 6] = [
    "<|im_start|>user\nWhat is gravity?<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\nName the capital of France.<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\nWrite a poem about the sea.<|im_end|>\n<|im_start|>assistant\n",
    "The capital of France is",
    "Once upon a time, there was a",
    "Water boils at",
];

/// Defines a function that decodes with one of the two crates.
macro_rules! decoder {
    ($name:ident, $krate:ident) => {
        fn $name(path: &str, prompt: &[u32]) -> Result<Vec<u32>> {
            let mut file = File::open(path).with_context(|| format!("can't open {path}"))?;
            let content = gguf_file::Content::read(&mut file)?;
            let mut model =
                $krate::models::quantized_llama::ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?;
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
    let path = std::env::args().nth(1).context("usage: evenkeel-adoption MODEL.gguf")?;
    let content = gguf_file::Content::read(&mut File::open(&path).with_context(|| format!("can't open {path}"))?)?;
    let tokenizer = Tokenizer::from_gguf(&content)?;
    for prompt in PROMPTS {
        let tokens = tokenizer.encode(prompt, false).map_err(anyhow::Error::msg)?.get_ids().to_vec();
        let expected = as_it_is(&path, &tokens)?;
        let got = adopted(&path, &tokens)?;
        println!("{} {prompt:?} {:?} {:?}", got == expected, tokenizer.decode(&got, false), tokenizer.decode(&expected, false));
    }
    Ok(())
}
