//! File format of the tiny model. `train` writes the file and `generate` reads it.
//!
//! The file is a safetensors file with bf16 weights, which have the same names as in GGUF files. A single metadata
//! entry holds everything else about the model, as JSON.

use anyhow::{Context, Result, anyhow, ensure};
use evenkeel::Rope;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use tokenizers::Tokenizer;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

/// Key of the metadata entry.
pub const KEY: &str = "evenkeel";

/// Contents of the metadata entry: sizes, constants, tokenizer, and how the weights were made.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    pub layers: usize,
    pub hidden: usize,
    pub heads: usize,
    pub feed_forward: usize,
    /// Number of keys that a query attends to, including the key at its own position. This number is also the length of
    /// the training texts.
    pub window: usize,
    pub eps: f64,
    pub theta: f64,
    /// Command that writes this file.
    pub command: String,
    pub seed: u64,
    pub steps: u32,
    /// Merges of the byte-level BPE in order. Each entry is two pieces, separated by a space. Pieces consist of
    /// [`letters`].
    pub merges: Vec<String>,
}

impl Description {
    /// Returns the number of columns of a head.
    pub fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }

    /// Returns the position encoding.
    pub fn rope(&self) -> Rope<'static> {
        Rope::default().theta(self.theta)
    }

    /// Returns the vocabulary size.
    pub fn vocabulary(&self) -> usize {
        256 + self.merges.len()
    }

    /// Builds the tokenizer. Tokens 0 to 255 are the bytes, and each merge adds one token.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let mut pieces = letters();
        let mut seen: HashSet<String> = pieces.iter().cloned().collect();
        let mut merges = Merges::new();
        for (i, merge) in self.merges.iter().enumerate() {
            let pair = merge.split_once(' ').filter(|(a, b)| seen.contains(*a) && seen.contains(*b));
            let (a, b) = pair.with_context(|| {
                format!("merge {i} of the tokenizer is {merge:?}; it must join two existing tokens")
            })?;
            let piece = format!("{a}{b}");
            ensure!(
                seen.insert(piece.clone()),
                "merge {i} of the tokenizer is {merge:?}; it must not make a token that already exists"
            );
            merges.push((a.to_string(), b.to_string()));
            pieces.push(piece);
        }
        let vocabulary: Vocab = pieces.into_iter().zip(0..).collect();
        let model = BPE::builder().vocab_and_merges(vocabulary, merges).build();
        let mut tokenizer = Tokenizer::new(model.map_err(|e| anyhow!("can't build the tokenizer: {e}"))?);
        tokenizer.with_pre_tokenizer(Some(splitting())).with_decoder(Some(ByteLevel::default()));
        Ok(tokenizer)
    }
}

/// Returns GPT-2's pre-tokenizer, which splits a text before pairs are merged.
pub fn splitting() -> ByteLevel {
    ByteLevel::new(false, true, true)
}

/// Returns GPT-2's letter for each byte. Printable bytes map to themselves, the others to characters from U+0100 on.
pub fn letters() -> Vec<String> {
    let mut hidden = (0x100..).filter_map(char::from_u32);
    let letter = |byte: u8| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => Some(char::from(byte)),
        _ => hidden.next(),
    };
    (0..=255).filter_map(letter).map(String::from).collect()
}
