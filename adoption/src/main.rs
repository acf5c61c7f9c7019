//! Decodes tokens greedily with candle-transformers' quantised Llama, as it is and with Evenkeel's imports, and
//! compares them.

use anyhow::{Context, Result, ensure};
use candle_core::quantized::gguf_file;
use candle_core::{D, Device, Tensor};
use std::fs::File;

const TOKENS: usize = 32;

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
    // "<|im_start|>user\nWhat is gravity?<|im_end|>\n<|im_start|>assistant\n" is not needed: any ids will do.
    for prompt in [vec![1], vec![504, 3575, 282, 4649, 314], (100..140).collect::<Vec<u32>>()] {
        let expected = as_it_is(&path, &prompt)?;
        let got = adopted(&path, &prompt)?;
        ensure!(got == expected, "after {prompt:?}: adopted {got:?}, as it is {expected:?}");
        println!("{} tokens after {} tokens of prompt: the same", got.len(), prompt.len());
    }
    Ok(())
}
