//! Speculative decoding: draft tokens are accepted or replaced so that the result has the target's distribution.

use super::{Distribution, Draw, Sampled};
use crate::simd::in_default;

/// Result of the verification of a draft token.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Verified {
    /// The draft token or its replacement, with its log-probability in the target.
    pub sampled: Sampled,
    /// Whether the draft token was accepted. If not, the later tokens of the draft are invalid.
    pub accepted: bool,
}

impl Distribution {
    /// Accepts a token that was drawn from `draft`, or replaces it, so that the result has the distribution `self`, the
    /// target.
    ///
    /// Let p and q be the token's probabilities in the target and in the draft. The token is accepted with probability
    /// min(1, p / q). Otherwise it is replaced by a token drawn in proportion to max(p - q, 0). A greedy target accepts
    /// only the one token that it selects. `draw` may be the draw that produced the token.
    ///
    /// Probabilities are stored as integers. Their quotients and differences are computed exactly, and 64 random bits
    /// decide on acceptance. If the token has exactly the draft's distribution, the result's distribution is within
    /// 2^-63 of the target's in total variation. If the token comes from [`Distribution::draw`], which uses 64 random
    /// bits, this distance grows by n 2^-65 for rows of n tokens.
    ///
    /// # Source
    /// Leviathan et al., "Fast inference from transformers via speculative decoding", 2023; Chen et al., "Accelerating
    /// large language model decoding with speculative sampling", 2023.
    ///
    /// ```
    /// use evenkeel::{Draw, SamplerConfig};
    /// let sampler = SamplerConfig::default().validate()?;
    /// let step = Draw { seed: 1, row: 0, draw: 0 };
    /// let draft = sampler.distribution(&[1.0f32, 0.0], None, step)?;
    /// let target = sampler.distribution(&[2.0f32, 0.0], None, step)?;
    /// // The target gives token 0 a higher probability than the draft, so it is always accepted.
    /// assert!(target.verify(&draft, 0, step).accepted);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    pub fn verify(&self, draft: &Distribution, token: u32, draw: Draw) -> Verified {
        in_default(|| {
            let (of_all, of_draft) = (self.total(), draft.total());
            let chance = Chance { of: product(self.mass(token), of_draft), out_of: product(draft.mass(token), of_all) };
            let residual = || {
                let mut others = draft.tokens().iter().zip(draft.masses()).peekable();
                let excess = move |(&token, &mass): (&u32, &u64)| {
                    while others.next_if(|(other, _)| **other < token).is_some() {}
                    let of_other = others.next_if(|(other, _)| **other == token).map_or(0, |(_, mass)| *mass);
                    product(mass, of_draft).saturating_sub(product(of_other, of_all))
                };
                self.tokens().iter().zip(self.masses()).map(excess)
            };
            self.finish(token, chance, draw, residual)
        })
    }

    /// Verifies a token of a draft without probabilities, such as an n-gram draft; see [`Distribution::verify`].
    ///
    /// The token is accepted with its probability in the target. Otherwise another token is drawn from the target.
    pub fn verify_token(&self, token: u32, draw: Draw) -> Verified {
        in_default(|| {
            let chance = Chance { of: self.mass(token).into(), out_of: self.total().into() };
            let others = || {
                let without = |(&other, &mass): (&u32, &u64)| if other == token { 0 } else { u128::from(mass) };
                self.tokens().iter().zip(self.masses()).map(without)
            };
            self.finish(token, chance, draw, others)
        })
    }

    /// Accepts the token with probability `chance`. Otherwise draws a token, with probabilities proportional to the
    /// integers of `residual`.
    fn finish<R: Iterator<Item = u128>>(
        &self,
        token: u32,
        chance: Chance,
        draw: Draw,
        residual: impl Fn() -> R,
    ) -> Verified {
        let (toss, bits) = draw.verification_bits();
        if chance.comes_out(toss) {
            return Verified { sampled: self.sampled(token, draw), accepted: true };
        }
        let sampled = match reached(residual, bits) {
            Some(index) => self.sampled(self.tokens()[index], draw),
            // `residual` has only zeros, because both distributions are equal. The token was rejected because its mass
            // is 0 in both.
            None => self.draw(draw),
        };
        Verified { sampled, accepted: false }
    }
}

/// Probability, stored as the fraction `of / out_of`. A fraction above 1 counts as 1. With a denominator of 0, the
/// probability is 0.
struct Chance {
    of: u128,
    out_of: u128,
}

impl Chance {
    /// Returns whether the 64 random bits `toss`, read as an integer, are below `2^64 * of / out_of`.
    fn comes_out(&self, toss: u64) -> bool {
        let low = u128::from(toss) * u128::from(self.out_of as u64);
        // `bound` is floor(toss * out_of / 2^64).
        let bound = u128::from(toss) * (self.out_of >> 64) + (low >> 64);
        self.out_of > 0 && bound < self.of
    }
}

/// Returns the first index at which the running sum of the weights exceeds the sum of all weights times `bits / 2^128`,
/// or `None` if all weights are 0.
fn reached<R: Iterator<Item = u128>>(weights: impl Fn() -> R, bits: u128) -> Option<usize> {
    let at = high_product(bits, weights().sum());
    let mut sum = 0;
    weights().position(|weight| {
        sum += weight;
        sum > at
    })
}

/// Returns the exact product. The product of two masses is below 2^126.
fn product(a: u64, b: u64) -> u128 {
    u128::from(a) * u128::from(b)
}

/// Returns `floor(a * b / 2^128)`.
fn high_product(a: u128, b: u128) -> u128 {
    let [a_low, b_low] = [a, b].map(|v| v as u64);
    let [a_high, b_high] = [a, b].map(|v| (v >> 64) as u64);
    let low = product(a_low, b_low) >> 64;
    let first = product(a_high, b_low) + low;
    let second = product(a_low, b_high) + u128::from(first as u64);
    product(a_high, b_high) + (first >> 64) + (second >> 64)
}

#[cfg(test)]
mod tests {
    use super::{Chance, high_product, reached};

    /// Returns a generator of random words, and prints its seed.
    fn random() -> impl FnMut() -> u64 {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        println!("seed {state:#x}");
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        }
    }

    #[test]
    fn high_products_are_exact() {
        assert_eq!(high_product(u128::MAX, u128::MAX), u128::MAX - 1);
        assert_eq!(high_product(1 << 127, 1 << 127), 1 << 126);
        assert_eq!(high_product(u128::MAX, 1), 0);
        assert_eq!(high_product(u128::MAX, 1 << 100), (1 << 100) - 1);
        assert_eq!(high_product((1 << 64) | 1, (1 << 64) | 1), 1);
        assert_eq!(high_product(u128::MAX << 64, u128::MAX << 64), u128::MAX - (1 << 65) + 1 + 1);
    }

    /// A probability of a / b accepts exactly the ceil(2^64 a / b) smallest of the 2^64 random numbers. Multiplying a
    /// and b by the same factor does not change this count.
    #[test]
    #[cfg_attr(miri, ignore = "takes an hour under Miri")]
    fn a_token_is_accepted_as_often_as_the_quotient_says() {
        let mut random = random();
        for _ in 0..100_000 {
            let b = (random() >> (1 + random() % 60)).max(2);
            let a = random() % b;
            let first_rejected = ((u128::from(a) << 64).div_ceil(u128::from(b))) as u64;
            for factor in [1, (1 << 63) - 25, 1 + (random() >> 1) % (1 << 62)] {
                let [of, out_of] = [a, b].map(|v| u128::from(v) * u128::from(factor));
                let chance = Chance { of, out_of };
                let comes_out = [first_rejected.checked_sub(1), Some(first_rejected), Some(u64::MAX)]
                    .map(|toss| toss.is_some_and(|toss| chance.comes_out(toss)));
                assert_eq!(
                    comes_out,
                    [a > 0, false, false],
                    "probability {of} / {out_of}: random numbers below {first_rejected} must be accepted, and all \
                     others rejected"
                );
            }
        }
        for (of, out_of, expected) in [(5, 5, true), (7, 5, true), (0, 5, false), (0, 0, false), (5, 0, false)] {
            assert_eq!(
                Chance { of, out_of }.comes_out(u64::MAX),
                expected,
                "probability {of} / {out_of}: the number u64::MAX must be {}",
                if expected { "accepted" } else { "rejected" }
            );
        }
    }

    /// Returns the first 64 bits of a / b after the binary point, by long division. a must be below b.
    fn quotient(mut a: u128, b: u128) -> u64 {
        (0..64).fold(0, |quotient, _| {
            a *= 2;
            let bit = a >= b;
            a -= if bit { b } else { 0 };
            quotient << 1 | u64::from(bit)
        })
    }

    /// Each replacement token has an interval of random numbers that select it. The test checks that the interval
    /// begins at the cumulative probability of the earlier tokens, exact to 64 bits. If the probabilities were added in
    /// f64, only 44 of the 131,072 tokens could be drawn.
    #[test]
    #[cfg_attr(miri, ignore = "takes an hour under Miri")]
    fn residuals_are_shared_out_exactly() {
        const TOKENS: usize = 131_072;
        let mut random = random();
        // Each case has three numbers: how many bits the target's masses have, how many the draft's masses have, and a
        // number that is added to the middle mass of both distributions.
        for (of_target, of_draft, largest) in [(45, 12, 1), (20, 20, 1 << 45), (3, 45, 1 << 45)] {
            let mut masses = |bits: u32| -> Vec<u128> {
                let mut masses: Vec<u128> = (0..TOKENS).map(|_| u128::from(random() >> (64 - bits))).collect();
                masses[TOKENS / 2] += largest;
                masses
            };
            let (p, q) = (masses(of_target), masses(of_draft));
            let [p_all, q_all] = [&p, &q].map(|masses| masses.iter().sum::<u128>());
            let residual: Vec<u128> = p.iter().zip(&q).map(|(p, q)| (p * q_all).saturating_sub(q * p_all)).collect();
            let all: u128 = residual.iter().sum();
            let first_of = |token: usize| {
                let (mut before, mut from) = (0, u128::MAX);
                while from - before > 1 {
                    let bits = before + (from - before) / 2;
                    let is_before = reached(|| residual.iter().copied(), bits).unwrap() < token;
                    if is_before { before = bits } else { from = bits }
                }
                from
            };
            for token in [1000, TOKENS / 3, TOKENS / 2 + 1, TOKENS - 1] {
                let exact = quotient(residual[..token].iter().sum(), all);
                let got = (first_of(token) >> 64) as u64;
                assert!(
                    got.abs_diff(exact) <= 1,
                    "the interval of token {token} must begin within 1 of {exact:#x}, but begins at {got:#x}"
                );
            }
        }
    }
}
