//! What a token is drawn with beside the logits, and what comes of it.

use crate::math::philox::philox4x32;

/// Which random number a draw takes: the same three numbers give the same token from the same row, alone or in a
/// batch, on any machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Draw {
    /// The request's seed.
    pub seed: u64,
    /// The row, or whatever tells sequences of one seed apart.
    pub row: u64,
    /// The step.
    pub draw: u64,
}

impl Draw {
    /// 64 random bits: Philox4x32-10 of (draw, row) under the seed.
    pub(crate) fn bits(self) -> u64 {
        pair(self.words(), 0)
    }

    /// A number below this: the random bits times it, over 2^64.
    pub(crate) fn below(self, count: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(count)) >> 64) as u64
    }

    /// Whether a toss, which has nothing to do with [`Draw::bits`], comes out as it does with this probability.
    pub(crate) fn tosses(self, probability: f64) -> bool {
        is_below(pair(self.words(), 2), probability)
    }

    /// 64 random bits and 128 for the verification of a token that this very draw may have made: of the generator's next
    /// words, so that they have nothing to do with [`Draw::bits`] and [`Draw::tosses`].
    pub(crate) fn verification_bits(self) -> (u64, u128) {
        let words = philox4x32(self.words(), halves(self.seed));
        let more = philox4x32(words, halves(self.seed));
        (pair(words, 2), u128::from(pair(words, 0)) << 64 | u128::from(pair(more, 0)))
    }

    fn words(self) -> [u32; 4] {
        let ([d0, d1], [r0, r1]) = (halves(self.draw), halves(self.row));
        philox4x32([d0, d1, r0, r1], halves(self.seed))
    }
}

fn halves(v: u64) -> [u32; 2] {
    [v as u32, (v >> 32) as u32]
}

fn pair(words: [u32; 4], from: usize) -> u64 {
    u64::from(words[from]) | u64::from(words[from + 1]) << 32
}

/// Of 53 bits, so that 1 is never reached.
fn is_below(bits: u64, probability: f64) -> bool {
    ((bits >> 11) as f64) < probability * (1u64 << 53) as f64
}

/// One step of one sequence: its draw, the tokens so far, and what this step allows. A [`Draw`] alone is one too.
///
/// ```
/// use evenkeel::{Draw, SamplerConfig, Step};
/// let sampler = SamplerConfig::default().temperature(0.0).repetition_penalty(2.0).validate()?;
/// let step = Step::from(Draw::default()).prompt(&[2]).bias(&[(0, -1.0)]);
/// // Token 2 is in the prompt: 3 becomes 1.5; token 0 has 1.
/// assert_eq!(sampler.sample(&[2.0f32, 1.75, 3.0], step)?.token, 1);
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Step<'a> {
    pub(crate) draw: Draw,
    pub(crate) prompt: &'a [u32],
    pub(crate) output: &'a [u32],
    pub(crate) allowed: Option<&'a [u32]>,
    pub(crate) bias: &'a [(u32, f32)],
    pub(crate) bad_words: &'a [Vec<u32>],
    pub(crate) breakers: &'a [u32],
}

impl From<Draw> for Step<'_> {
    fn from(draw: Draw) -> Self {
        Step { draw, ..Step::default() }
    }
}

impl<'a> Step<'a> {
    pub(crate) fn draw(self) -> Draw {
        self.draw
    }

    /// The tokens that were given.
    pub fn prompt(self, prompt: &'a [u32]) -> Self {
        Self { prompt, ..self }
    }

    /// The tokens that were drawn since.
    pub fn output(self, output: &'a [u32]) -> Self {
        Self { output, ..self }
    }

    /// Which tokens may be drawn, a bit each: bit t % 32 of word t / 32, as grammar engines make them.
    pub fn allowed(self, words: &'a [u32]) -> Self {
        Self { allowed: Some(words), ..self }
    }

    /// What is added to logits, before any penalty.
    pub fn bias(self, bias: &'a [(u32, f32)]) -> Self {
        Self { bias, ..self }
    }

    /// Tokens, and sequences of them, that are not to come: the last token of each is not drawn where those before it
    /// are the last ones of prompt and output.
    pub fn bad_words(self, words: &'a [Vec<u32>]) -> Self {
        Self { bad_words: words, ..self }
    }

    /// Tokens that no repetition reaches over, for DRY: ends of lines, quotation marks.
    pub fn breakers(self, tokens: &'a [u32]) -> Self {
        Self { breakers: tokens, ..self }
    }
}

/// A token that was drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sampled {
    /// The token's index.
    pub token: u32,
    /// The logarithm of its probability among what the filters kept.
    pub logprob: f64,
    /// How many tokens the filters kept.
    pub kept: usize,
}

impl Sampled {
    /// What stands where nothing was drawn yet.
    pub(crate) const NONE: Sampled = Sampled { token: 0, logprob: 0.0, kept: 0 };
}
