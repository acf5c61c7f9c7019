//! The file of a tiny model: `train` writes it, `generate` reads it.
//!
//! It is a safetensors file with weights in bf16 under the names that GGUF files have for them. One entry of its
//! metadata, in JSON, is all that there is to know beside them.

use anyhow::{Context, Result, anyhow, ensure};
use evenkeel::Rope;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use tokenizers::Tokenizer;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

/// The entry of the metadata.
pub const KEY: &str = "evenkeel";

/// Sizes, constants, tokenizer, and where the weights come from.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    pub layers: usize,
    pub hidden: usize,
    pub heads: usize,
    pub feed_forward: usize,
    /// How many keys a query sees, its own among them: the length of the texts that it learnt from.
    pub window: usize,
    pub eps: f64,
    pub theta: f64,
    /// The command that makes this file.
    pub command: String,
    pub seed: u64,
    pub steps: u32,
    /// Of byte-level BPE, in order: two pieces in GPT-2's letters, and a space between them.
    pub merges: Vec<String>,
}

impl Description {
    /// The columns of a head.
    pub fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }

    /// How positions are told apart.
    pub fn rope(&self) -> Rope<'static> {
        Rope::default().theta(self.theta)
    }

    /// How many tokens there are.
    pub fn vocabulary(&self) -> usize {
        256 + self.merges.len()
    }

    /// The tokenizer of these merges: token n < 256 is a byte, then each merge makes one.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let mut pieces = letters();
        let mut seen: HashSet<String> = pieces.iter().cloned().collect();
        let mut merges = Merges::new();
        for (i, merge) in self.merges.iter().enumerate() {
            let pair = merge.split_once(' ').filter(|(a, b)| seen.contains(*a) && seen.contains(*b));
            let (a, b) = pair.with_context(|| format!("merge {i}, {merge:?}, is not of two pieces that are there"))?;
            let piece = format!("{a}{b}");
            ensure!(seen.insert(piece.clone()), "merge {i}, {merge:?}, makes a piece that is there already");
            merges.push((a.to_string(), b.to_string()));
            pieces.push(piece);
        }
        let vocabulary: Vocab = pieces.into_iter().zip(0..).collect();
        let model = BPE::builder().vocab_and_merges(vocabulary, merges).build();
        let mut tokenizer = Tokenizer::new(model.map_err(|e| anyhow!("the tokenizer: {e}"))?);
        tokenizer.with_pre_tokenizer(Some(splitting())).with_decoder(Some(ByteLevel::default()));
        Ok(tokenizer)
    }
}

/// How a text is split before pairs are merged: as for GPT-2.
pub fn splitting() -> ByteLevel {
    ByteLevel::new(false, true, true)
}

/// The bytes in GPT-2's letters: those that can be seen are themselves, the others follow Latin letters.
pub fn letters() -> Vec<String> {
    let mut hidden = (0x100..).filter_map(char::from_u32);
    let letter = |byte: u8| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => Some(char::from(byte)),
        _ => hidden.next(),
    };
    (0..=255).filter_map(letter).map(String::from).collect()
}
