//! 64-bit digests, used to check that operands are equal on every rank.

use crate::floats::Floats;
use crate::mask::Mask;

/// Digest of a sequence of words. Different sequences have the same digest only by chance.
#[derive(Clone, Copy)]
pub(super) struct Digest {
    /// Accumulators. Each word is added to the next accumulator in turn, which hides the latency of the multiplication.
    lanes: [u64; 4],
    count: usize,
}

/// 2^64 divided by the golden ratio, rounded down. This integer is odd, so multiplication by it is invertible.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl Digest {
    pub const NEW: Self = Digest { lanes: [1, 2, 3, 4], count: 0 };

    fn word(&mut self, word: u64) {
        let lane = &mut self.lanes[self.count % 4];
        *lane = (lane.rotate_left(23) ^ word).wrapping_mul(FACTOR);
        self.count += 1;
    }

    fn words(&mut self, words: impl ExactSizeIterator<Item = u64>) {
        self.word(words.len() as u64);
        words.for_each(|word| self.word(word));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        self.words(words.iter().map(|bytes| u64::from_le_bytes(*bytes)));
        self.words(rest.iter().map(|byte| u64::from(*byte)));
    }

    fn shape(&mut self, dims: &[usize]) {
        self.words(dims.iter().map(|dim| *dim as u64));
    }

    pub fn integers(mut self, values: &[i64]) -> Self {
        self.words(values.iter().map(|value| *value as u64));
        self
    }

    /// Adds an optional list of floats, such as a weight for each column.
    pub fn floats(mut self, values: Option<Floats<'_>>) -> Self {
        match values {
            None => self.word(0),
            Some(values) => {
                self.word(1 + values.dtype() as u64);
                match values {
                    Floats::F64(values) => self.words(values.iter().map(|value| value.to_bits())),
                    Floats::F32(values) => self.words(values.iter().map(|value| value.to_bits().into())),
                    Floats::F16(values) => self.words(values.iter().map(|value| value.to_bits().into())),
                    Floats::BF16(values) => self.words(values.iter().map(|value| value.to_bits().into())),
                }
            }
        }
        self
    }

    /// Adds a list of integers.
    pub fn ids(mut self, ids: impl ExactSizeIterator<Item = u64>) -> Self {
        self.words(ids);
        self
    }

    /// Adds the flags, the biases and all settings of a mask.
    pub fn mask(mut self, mask: &Mask<'_>) -> Self {
        for (flags, shape) in &mask.keep {
            self.bytes(flags);
            self.shape(shape);
        }
        for (bias, shape) in &mask.bias {
            self = self.floats(Some(bias.floats()));
            self.shape(shape);
        }
        mask.lengths.iter().for_each(|lengths| self.shape(lengths));
        self.words([mask.keep.len(), mask.bias.len(), mask.lengths.len()].into_iter().map(|len| len as u64));
        self.word(mask.causal.into());
        self.words(mask.window.iter().map(|window| *window as u64));
        self.words(mask.offset.iter().map(|offset| *offset as u64));
        self
    }

    /// Returns the digest of all words, which is never 0.
    pub fn finish(mut self) -> u64 {
        self.word(self.count as u64);
        let all = self.lanes.iter().fold(0, |all: u64, lane| (all.rotate_left(23) ^ lane).wrapping_mul(FACTOR));
        ((all ^ all >> 32).wrapping_mul(FACTOR) ^ all >> 29).max(1)
    }

    pub fn of_text(text: &str) -> u64 {
        let mut digest = Self::NEW;
        digest.bytes(text.as_bytes());
        digest.finish()
    }
}
