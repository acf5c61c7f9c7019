//! Merges of a byte-level BPE tokenizer, learned from a text: the most frequent pair of pieces becomes a new piece,
//! repeatedly.

use crate::tiny::{letters, splitting};
use anyhow::{Result, anyhow};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

/// Learns `count` merges, or fewer if the text runs out of pairs.
pub fn learn(text: &str, count: usize) -> Result<Vec<String>> {
    let mut pieces = letters();
    let mut known: HashSet<String> = pieces.iter().cloned().collect();
    let tokens: HashMap<char, usize> =
        pieces.iter().enumerate().filter_map(|(token, piece)| Some((piece.chars().next()?, token))).collect();
    let words = words(text)?.into_iter();
    let mut words: Vec<(Vec<usize>, usize)> =
        words.map(|(word, times)| (word.chars().filter_map(|c| tokens.get(&c).copied()).collect(), times)).collect();
    let mut merges = Vec::new();
    while merges.len() < count {
        let mut pairs: HashMap<[usize; 2], usize> = HashMap::new();
        for (word, times) in &words {
            for (&a, &b) in word.iter().zip(word.iter().skip(1)) {
                *pairs.entry([a, b]).or_default() += times;
            }
        }
        // Among equally frequent pairs, the pair of the oldest pieces is merged, so that the result does not depend on
        // the order of a hash map. If two pairs spell the same piece, only one of them becomes a merge.
        let new = |[a, b]: [usize; 2]| !known.contains(&format!("{}{}", pieces[a], pieces[b]));
        let best =
            pairs.into_iter().filter(|(pair, _)| new(*pair)).max_by_key(|(pair, times)| (*times, Reverse(*pair)));
        let Some(([a, b], _)) = best else { break };
        merges.push(format!("{} {}", pieces[a], pieces[b]));
        let piece = format!("{}{}", pieces[a], pieces[b]);
        known.insert(piece.clone());
        pieces.push(piece);
        words.iter_mut().for_each(|(word, _)| merge(word, [a, b], pieces.len() - 1));
    }
    Ok(merges)
}

/// Counts how often each word occurs in a text. The returned words consist of [`letters`], one for each byte.
fn words(text: &str) -> Result<BTreeMap<String, usize>> {
    let mut split = PreTokenizedString::from(text);
    splitting().pre_tokenize(&mut split).map_err(|e| anyhow!("can't split the text into words: {e}"))?;
    let mut words = BTreeMap::new();
    for (word, _, _) in split.get_splits(OffsetReferential::Original, OffsetType::Byte) {
        *words.entry(word.to_string()).or_default() += 1;
    }
    Ok(words)
}

/// Replaces each occurrence of the pair by one token.
fn merge(word: &mut Vec<usize>, pair: [usize; 2], token: usize) {
    let mut i = 0;
    while i + 1 < word.len() {
        if word[i..i + 2] == pair {
            word.splice(i..i + 2, [token]);
        }
        i += 1;
    }
}
