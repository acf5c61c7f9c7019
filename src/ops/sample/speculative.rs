//! Speculative decoding: a draft's tokens, accepted or replaced so that what comes out is distributed as the target's.

use super::{Distribution, Draw, Sampled};

/// What became of a draft's token.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Verified {
    /// The draft's token, or what is there instead; the log-probability is the target's.
    pub sampled: Sampled,
    /// Whether it is the draft's. If not, what the draft has behind it is void.
    pub accepted: bool,
}

impl Distribution {
    /// Accepts a token that was drawn from `draft`, or draws another, so that the result is distributed as this one, the
    /// target's, is.
    ///
    /// With p and q the target's and the draft's probabilities, the token is accepted with probability min(1, p / q),
    /// and one replaces it else that is drawn in proportion to max(p - q, 0). The probabilities are those of the masses;
    /// the distribution of the result is within 2^-50 of theirs in total variation. A greedy target accepts its own
    /// token and nothing else. `draw` may be that which the token was drawn with.
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
    /// // The target holds more of token 0 than the draft.
    /// assert!(target.verify(&draft, 0, step).accepted);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    pub fn verify(&self, draft: &Distribution, token: u32, draw: Draw) -> Verified {
        let (p, q) = (self.share(token), draft.share(token));
        let mut others = draft.tokens().iter().zip(draft.shares()).peekable();
        let residual = |token: u32, p: f64| {
            while others.next_if(|(other, _)| **other < token).is_some() {}
            let q = others.next_if(|(other, _)| **other == token).map_or(0.0, |(_, q)| q);
            (p - q).max(0.0)
        };
        self.settle(token, if q > 0.0 { p / q } else { 0.0 }, draw, residual)
    }

    /// [`Distribution::verify`] for a draft without probabilities, such as one of n-grams: the token is accepted as
    /// often as the target would draw it, and else any other is drawn.
    pub fn verify_token(&self, token: u32, draw: Draw) -> Verified {
        let p = self.share(token);
        self.settle(token, p, draw, |other, p| if other == token { 0.0 } else { p })
    }

    /// Accepts with this probability, of 1 and more always.
    fn settle(&self, token: u32, accepts: f64, draw: Draw, mut residual: impl FnMut(u32, f64) -> f64) -> Verified {
        let (accepted, bits) = draw.verifies(accepts);
        if accepted {
            return Verified { sampled: self.sampled(token, draw), accepted };
        }
        let weights: Vec<f64> = self.tokens().iter().zip(self.shares()).map(|(&t, p)| residual(t, p)).collect();
        let total: f64 = weights.iter().sum();
        // 53 bits, below the total.
        let at = (bits >> 11) as f64 * 2f64.powi(-53) * total;
        let mut sum = 0.0;
        let reached = weights.iter().position(|weight| {
            sum += weight;
            sum > at
        });
        // The last one that can be drawn stands for what rounding leaves at the end.
        let index = reached.or_else(|| weights.iter().rposition(|weight| *weight > 0.0));
        let sampled = match index {
            Some(index) => self.sampled(self.tokens()[index], draw),
            None => self.draw(draw),
        };
        Verified { sampled, accepted }
    }
}
