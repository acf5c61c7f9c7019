//! The result of a draw, and the inputs of a draw except the logits and the sampler's parameters.

use crate::math::philox::philox4x32;

/// Key of the random number that a draw uses.
///
/// Equal keys and equal logits give equal tokens on every machine, whether a row is sampled alone or in a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs, reason = "a draw depends on these three numbers by definition")]
pub struct Draw {
    /// Seed of the request.
    pub seed: u64,
    /// Row, or another number that distinguishes sequences with the same seed.
    pub row: u64,
    /// Index of the step. Each token of a sequence needs a different index.
    pub draw: u64,
}

impl Draw {
    /// Returns 64 random bits: Philox4x32-10 of the counter (draw, row) with the seed as key.
    pub(crate) fn bits(self) -> u64 {
        pair(self.words(), 0)
    }

    /// Returns a random number below `count`: the 64 random bits times `count`, divided by 2^64 and rounded down.
    pub(crate) fn below(self, count: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(count)) >> 64) as u64
    }

    /// Returns true with this probability. The random bits are independent of [`Draw::bits`].
    pub(crate) fn tosses(self, probability: f64) -> bool {
        is_below(pair(self.words(), 2), probability)
    }

    /// Returns random numbers of 64 and of 128 bits, for the verification of a draft token.
    ///
    /// The draft token may have been drawn with an equal [`Draw`]. These numbers are therefore independent of
    /// [`Draw::bits`] and [`Draw::tosses`].
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

/// Returns whether the upper 53 bits, divided by 2^53, are below the probability.
fn is_below(bits: u64, probability: f64) -> bool {
    ((bits >> 11) as f64) < probability * (1u64 << 53) as f64
}

/// One step of a sequence: its draw, the tokens so far, and the constraints of this step.
///
/// A [`Draw`] converts to a step without tokens or constraints.
///
/// ```
/// use evenkeel::{Draw, SamplerConfig, Step};
/// let sampler = SamplerConfig::default().temperature(0.0).repetition_penalty(2.0).validate()?;
/// let step = Step::from(Draw::default()).prompt(&[2]).bias(&[(0, -1.0)]);
/// // Token 2 is in the prompt, so its logit 3 becomes 1.5. The bias lowers token 0 to 1. Token 1 wins with 1.75.
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
    pub(crate) feedback: Option<f64>,
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

    /// Sets the tokens of the prompt.
    pub fn prompt(self, prompt: &'a [u32]) -> Self {
        Self { prompt, ..self }
    }

    /// Sets the tokens that were sampled after the prompt.
    pub fn output(self, output: &'a [u32]) -> Self {
        Self { output, ..self }
    }

    /// Sets the tokens that may be drawn, as a bit mask: token t has bit t % 32 of word t / 32. Grammar engines use
    /// this format.
    pub fn allowed(self, words: &'a [u32]) -> Self {
        Self { allowed: Some(words), ..self }
    }

    /// Sets biases, which are added to the logits of their tokens before any penalty. A bias is finite, or -inf to
    /// forbid the token.
    pub fn bias(self, bias: &'a [(u32, f32)]) -> Self {
        Self { bias, ..self }
    }

    /// Sets token sequences that must not occur. The last token of a sequence is forbidden if the tokens so far end
    /// with all other tokens of the sequence. A sequence of one token is always forbidden.
    pub fn bad_words(self, words: &'a [Vec<u32>]) -> Self {
        Self { bad_words: words, ..self }
    }

    /// Sets tokens that end repetitions for DRY, such as line ends and quotation marks.
    pub fn breakers(self, tokens: &'a [u32]) -> Self {
        Self { breakers: tokens, ..self }
    }

    /// Sets the state of mirostat or adaptive-p: [`Sampled::feedback`] of the sequence's previous step. If the state is
    /// not set, the step counts as the first step of its sequence. Mirostat and adaptive-p reject a value that is not
    /// finite; other samplers ignore the value.
    pub fn feedback(self, value: f64) -> Self {
        Self { feedback: Some(value), ..self }
    }
}

/// Token that was drawn. `==` treats two log-probabilities of NaN as equal.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Sampled {
    /// Index of the token in the vocabulary.
    pub token: u32,
    /// Log-probability of the drawn token among the tokens that the filters kept, after any change by adaptive-p. NaN
    /// if [`SamplerConfig::logprob`](crate::SamplerConfig::logprob) is false and the token was not drawn from a
    /// [`Distribution`](crate::Distribution).
    pub logprob: f64,
    /// Number of tokens that the filters kept.
    pub kept: usize,
    /// Value for [`Step::feedback`] of the next step. For mirostat, the value is mu in bits. For adaptive-p, it is the
    /// running mean. If the sampler uses neither, it is 0.
    pub feedback: f64,
}

impl Sampled {
    /// Placeholder for a row that has not been sampled.
    pub(crate) const NONE: Sampled = Sampled { token: 0, logprob: 0.0, kept: 0, feedback: 0.0 };
}

impl PartialEq for Sampled {
    fn eq(&self, other: &Self) -> bool {
        let is_same = |a: f64, b: f64| a == b || a.is_nan() && b.is_nan();
        (self.token, self.kept, self.feedback) == (other.token, other.kept, other.feedback)
            && is_same(self.logprob, other.logprob)
    }
}
