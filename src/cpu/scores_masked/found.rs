//! Statistics of a shard of a row with a scale, keep flags or a bias. Merged over all shards, they give the maximum of
//! the complete row.

#[cfg(feature = "sharded")]
use crate::math::keys;

/// Distance from the maximum beyond which the exponential of a logit is 0.
const IRRELEVANT: f32 = 128.0;

/// Statistics of a shard or, once all shards are merged, of a complete row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaskedStats {
    /// Whether f32 represents the bias exactly.
    pub(super) fits: bool,
    /// Whether the bias is 0 or -inf throughout.
    pub(super) exact: bool,
    /// Largest unmasked score, computed only if the bias is 0 or -inf throughout. `None` means that there is a NaN.
    pub(super) score: Option<f32>,
    /// Largest logit, computed only if there is a bias. `None` means that there is a NaN.
    pub(super) sums: Option<Sums>,
}

impl MaskedStats {
    /// Statistics of an empty shard.
    pub const NOTHING: Self =
        MaskedStats { fits: true, exact: true, score: Some(f32::NEG_INFINITY), sums: Some(Sums::NOTHING) };

    /// Returns the merged statistics of two shards.
    pub fn merge(self, other: Self) -> Self {
        MaskedStats {
            fits: self.fits && other.fits,
            exact: self.exact && other.exact,
            score: self.score.zip(other.score).map(|(a, b)| a.max(b)),
            sums: self.sums.zip(other.sums).map(|(a, b)| a.merge(b)),
        }
    }
}

#[cfg(feature = "sharded")]
impl MaskedStats {
    /// Returns integers for a max-reduction. Their maxima over all shards encode the merged statistics.
    pub fn keys(&self) -> [u64; 4] {
        const NAN: u64 = u64::MAX;
        let score = self.score.map_or(NAN, |score| keys::of_f32(score).into());
        let [sums, large] = self.sums.map_or([NAN; 2], |sums| sums.keys());
        // Both flags share one integer. If a shard has a false `fits`, the maximum may lose a false `exact` of another
        // shard. This does no harm, because `exact` does not matter if `fits` is false.
        [u64::from(!self.fits) << 1 | u64::from(!self.exact), score, sums, large]
    }

    pub fn of_keys([bias, score, sums, large]: [u64; 4]) -> Self {
        let score = (score != u64::MAX).then(|| keys::to_f32(score as u32));
        let sums = (sums != u64::MAX).then(|| Sums::of_keys([sums, large]));
        MaskedStats { fits: bias & 2 == 0, exact: bias & 1 == 0, score, sums }
    }
}

/// Bounds on the logits of a row, or of a shard of a row, if the mask has a bias.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sums {
    /// High part of the largest logit: the logit rounded to f32. `low` is the rest of the logit.
    pub(super) high: f32,
    pub(super) low: f32,
    /// Upper bound of those logits whose product `score * scale` is `LARGEST_PRODUCT` or larger in magnitude.
    pub(super) large: f32,
}

impl Sums {
    pub(super) const NOTHING: Self = Sums { high: f32::NEG_INFINITY, low: f32::NEG_INFINITY, large: f32::NEG_INFINITY };

    fn merge(self, other: Self) -> Self {
        let (of, than) = if other.high > self.high { (other, self) } else { (self, other) };
        let low = if of.high == than.high { of.low.max(than.low) } else { of.low };
        Sums { low, large: self.large.max(other.large), ..of }
    }

    /// Returns two integers for a max-reduction. In the first, the upper bits encode `high` and the lower bits encode
    /// `low`. The second encodes `large`.
    #[cfg(feature = "sharded")]
    fn keys(&self) -> [u64; 2] {
        // Adding 0 turns -0 into 0, because both zeros must have the same key.
        let high = keys::of_f32(self.high + 0.0);
        [u64::from(high) << 32 | u64::from(keys::of_f32(self.low)), keys::of_f32(self.large).into()]
    }

    #[cfg(feature = "sharded")]
    fn of_keys([sums, large]: [u64; 2]) -> Self {
        let [high, low, large] = [sums >> 32, sums, large].map(|key| keys::to_f32(key as u32));
        Sums { high, low, large }
    }

    /// Returns the maximum as a high and a low part. Returns `None` if a logit close to the maximum has a large product
    /// of score and scale.
    #[inline(always)]
    pub(super) fn max(sums: Option<Self>) -> Option<(f32, f32)> {
        let Sums { high, low, large } = sums?;
        let counts = large > high - IRRELEVANT;
        (!counts).then_some((high, low))
    }
}
