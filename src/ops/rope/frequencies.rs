//! Frequencies of rotary embedding.
//!
//! Far positions amplify an error in the last place of a frequency. All implementations should therefore use the same
//! frequency: the exact number, rounded once. The computation in pairs of f64 rounds about one frequency in 2^40 to the
//! wrong neighbour.

use super::{LongRope, RopeScaling, Yarn};
use crate::error::Result;
use crate::math::power::{Pair, exp, log, log_of};
use crate::simd::reserve;

/// ln(2 pi).
const LN_2_PI: Pair = Pair(f64::from_bits(0x3ffd_67f1_c864_beb5), f64::from_bits(0xbc96_5b5a_1b7f_f5df));
/// 1 / (2 pi).
const TURN: Pair = Pair(f64::from_bits(0x3fc4_5f30_6dc9_c883), f64::from_bits(0xbc66_b01e_c541_7056));
const ZERO: Pair = Pair(0.0, 0.0);
const ONE: Pair = Pair(1.0, 0.0);

/// Computes theta^(-i / half) for each i below `half`, with the scaling applied. theta must be finite and positive, and
/// above 1 with a scaling. Results above the range of f64 become `f64::MAX`.
pub fn frequencies(op: &'static str, theta: f64, half: usize, scaling: Option<RopeScaling<'_>>) -> Result<Vec<f64>> {
    let mut rounded = reserve(op, "the frequencies", half)?;
    let base = log(theta);
    let plain = |i: usize| exp(share(base, i, half));
    let mut each = |of: &dyn Fn(usize) -> Pair| rounded.extend((0..half).map(|i| of(i).0.min(f64::MAX)));
    // NTK scalings give pair i the frequency (theta * s^(d / (d-2)))^(-2i / d), where s is the scaling's factor. The
    // first pair has the frequency 1. It is a separate case, because d - 2 may be 0. The code divides by half - 1,
    // which is (d - 2) / 2.
    let stretched = |log_stretch: Pair, i: usize| {
        if i == 0 { ONE } else { exp(share(base, i, half).plus(share(log_stretch, i, half - 1))) }
    };
    match scaling {
        None => each(&plain),
        Some(RopeScaling::Linear { factor }) => each(&|i| plain(i).over(factor.into())),
        Some(RopeScaling::Ntk { factor }) => {
            let factor = log(factor);
            each(&|i| stretched(factor, i));
        }
        Some(RopeScaling::DynamicNtk { factor, original_positions, sequence }) => {
            match sequence.checked_sub(original_positions).filter(|beyond| *beyond > 0) {
                Some(beyond) => {
                    let log_stretch = log_stretch(factor, count(beyond).over(count(original_positions)));
                    each(&|i| stretched(log_stretch, i));
                }
                None => each(&plain),
            }
        }
        Some(RopeScaling::Yarn(Yarn { factor, original_positions, beta_fast, beta_slow, truncate, .. })) => {
            // Returns the index of the pair that makes `turns` turns within the original positions. The index may be
            // fractional.
            let turning = |turns: f64| {
                let log = log_of(count(original_positions)).minus(log(turns)).minus(LN_2_PI);
                log.times((half as f64).into()).over(base)
            };
            let (low, high) = (turning(beta_fast), turning(beta_slow));
            let (low, high) = if truncate { (low.0.floor().into(), high.0.ceil().into()) } else { (low, high) };
            let low = if low.0 < 0.0 { ZERO } else { low };
            let last = Pair::from((2 * half) as f64 - 1.0);
            let high = if high.minus(last).0 > 0.0 { last } else { high };
            let high = if low == high { high.plus(0.001.into()) } else { high };
            each(&|i| {
                let ramp = Pair::from(i as f64).minus(low).over(high.minus(low));
                blend(plain(i), factor, ONE.minus(within(ramp)))
            });
        }
        Some(RopeScaling::LongRope(long)) => {
            let factors = long.factors();
            each(&|i| plain(i).over(factors[i].into()));
        }
        Some(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions }) => {
            let (low, high) = (Pair::from(low_freq_factor), Pair::from(high_freq_factor));
            each(&|i| {
                let turns = plain(i).times(count(original_positions)).times(TURN);
                blend(plain(i), factor, within(turns.minus(low).over(high.minus(low))))
            });
        }
    }
    Ok(rounded)
}

/// Returns the factor for cosines and sines: 1, except under YaRN and LongRoPE.
pub fn attention_factor(scaling: Option<RopeScaling<'_>>) -> Pair {
    match scaling {
        Some(RopeScaling::Yarn(Yarn { attention_factor: Some(given), .. })) => given.into(),
        Some(RopeScaling::Yarn(Yarn { factor, mscale, mscale_all_dim, .. })) => {
            let of = |mscale: f64| log(factor).times(mscale.into()).over(10.0.into()).plus(ONE);
            if mscale > 0.0 && mscale_all_dim > 0.0 { of(mscale).over(of(mscale_all_dim)) } else { of(1.0) }
        }
        Some(RopeScaling::LongRope(LongRope { attention_factor: Some(given), .. })) => given.into(),
        Some(RopeScaling::LongRope(LongRope { factor, original_positions, .. })) => {
            log(factor).over(log_of(count(original_positions))).plus(ONE).sqrt()
        }
        _ => ONE,
    }
}

/// Computes `ln(1 + factor * growth)`. With growth = sequence / L - 1, where L is the number of original positions, the
/// argument of the logarithm is `factor * sequence / L - (factor - 1)`, as in [`RopeScaling::DynamicNtk`].
fn log_stretch(factor: f64, growth: Pair) -> Pair {
    // If the product is above 1e300, it may overflow. The 1 is negligible then, so the logarithm is ln(factor) +
    // ln(growth).
    if factor * growth.0 > 1e300 {
        return log(factor).plus(log_of(growth));
    }
    log_of(ONE.plus(growth.times(factor.into())))
}

/// Converts an integer to a pair without rounding.
fn count(n: usize) -> Pair {
    let high = n as f64;
    Pair(high, (n as i128 - high as i128) as f64)
}

/// Computes `-log * i / n`.
fn share(log: Pair, i: usize, n: usize) -> Pair {
    log.times((-(i as f64)).into()).over((n as f64).into())
}

/// Interpolates between frequency / factor (for `kept` = 0) and the unchanged frequency (for `kept` = 1).
fn blend(frequency: Pair, factor: f64, kept: Pair) -> Pair {
    frequency.times(kept).plus(frequency.over(factor.into()).times(ONE.minus(kept)))
}

/// Clamps to the range from 0 to 1.
fn within(ramp: Pair) -> Pair {
    if ramp.0 <= 0.0 {
        ZERO
    } else if ramp.0 < 1.0 {
        ramp
    } else {
        // A NaN, which an overflow may have produced, also becomes 1.
        ONE
    }
}

#[cfg(test)]
mod tests {
    use super::{LongRope, Pair, RopeScaling, Yarn, attention_factor};

    fn frequencies(theta: f64, half: usize, scaling: Option<RopeScaling<'_>>) -> Vec<f64> {
        super::frequencies("rope", theta, half, scaling).unwrap()
    }

    #[test]
    #[cfg_attr(miri, ignore = "slow under Miri, and has no unsafe code")]
    fn powers_that_f64_holds_are_exact() {
        let power_of_two = |n: i64| f64::from_bits(((1023 + n) as u64) << 52);
        for (base, i, half, power) in [
            (16.0, 1, 4, 0.5),
            (1e4, 0, 32, 1.0),
            (0.25, 1, 2, 2.0),
            (1.0, 5, 7, 1.0),
            (power_of_two(1000), 1, 2, power_of_two(-500)),
        ] {
            assert_eq!(frequencies(base, half, None)[i], power);
        }
        assert_eq!(frequencies(5e-324, 1024, None)[1023], f64::MAX);
    }

    #[test]
    #[cfg_attr(miri, ignore = "slow under Miri, and has no unsafe code")]
    fn scalings_of_1_change_nothing() {
        let plain = frequencies(500_000.0, 64, None);
        let (factor, original_positions) = (1.0, 8192);
        for scaling in [
            RopeScaling::Linear { factor },
            RopeScaling::Ntk { factor },
            RopeScaling::DynamicNtk { factor, original_positions, sequence: 1 },
            RopeScaling::DynamicNtk { factor: 7.5, original_positions, sequence: 8192 },
            RopeScaling::Yarn(Yarn::new(factor, original_positions)),
            RopeScaling::Yarn(Yarn::new(factor, original_positions).truncate(false).mscale(1.0, 0.7)),
            RopeScaling::LongRope(LongRope::new(&[1.0; 64], &[2.0; 64], original_positions, 8192)),
            RopeScaling::Llama3 { factor, original_positions, low_freq_factor: 1.0, high_freq_factor: 4.0 },
        ] {
            assert_eq!(frequencies(500_000.0, 64, Some(scaling)), plain, "{scaling:?} must not change a frequency");
            assert_eq!(attention_factor(Some(scaling)).0, 1.0);
        }
    }

    #[test]
    fn ramps_at_the_end_of_f64() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 5e-324,
            high_freq_factor: 1e-323,
            original_positions: 8192,
        };
        assert_eq!(frequencies(500_000.0, 64, Some(scaling)), frequencies(500_000.0, 64, None));
    }

    #[test]
    fn frequencies_are_finite() {
        let (factor, most) = (f64::MAX, usize::MAX);
        let long = |factors| RopeScaling::LongRope(LongRope::new(factors, factors, 2, most));
        for scaling in [
            RopeScaling::Linear { factor },
            RopeScaling::Ntk { factor },
            RopeScaling::DynamicNtk { factor, original_positions: 1, sequence: most },
            RopeScaling::DynamicNtk { factor: 1.0, original_positions: most - 1, sequence: most },
            RopeScaling::Yarn(Yarn::new(factor, most).truncate(false).beta_fast(factor).beta_slow(5e-324)),
            RopeScaling::Yarn(Yarn::new(factor, 1).truncate(false).beta_fast(1.0)),
            long(&[f64::MAX; 3]),
        ] {
            for theta in [1.0 + f64::EPSILON, f64::MAX] {
                let all = frequencies(theta, 3, Some(scaling));
                assert!(
                    all.iter().all(|f| (0.0..=1.0).contains(f)),
                    "{scaling:?}, theta {theta}: the frequencies must be in 0..=1, got {all:?}"
                );
            }
        }
    }

    /// Factors of LongRoPE may be so small that frequencies exceed the range of f64.
    #[test]
    fn frequencies_beyond_f64_are_its_largest_number() {
        let scaling = RopeScaling::LongRope(LongRope::new(&[5e-324; 3], &[1.0; 3], 4096, 4096));
        assert_eq!(frequencies(10_000.0, 3, Some(scaling)), [f64::MAX; 3]);
    }

    #[test]
    fn attention_factors_at_the_end_of_f64() {
        let yarn = |a, b| attention_factor(Some(RopeScaling::Yarn(Yarn::new(f64::MAX, 4096).mscale(a, b)))).0;
        for (a, b) in [(1e300, 1e-300), (1e-300, 1e300), (1e300, 1e300), (5e-324, 1.0)] {
            assert!(
                yarn(a, b).is_finite() && yarn(a, b) > 0.0,
                "mscale {a}, {b}: the attention factor must be finite and above 0, got {}",
                yarn(a, b)
            );
        }
        let long = LongRope::new(&[], &[], 2, 1).factor(f64::MAX);
        let Pair(factor, _) = attention_factor(Some(RopeScaling::LongRope(long)));
        assert_eq!(factor, 1025f64.sqrt()); // sqrt(1 + ln(2^1024) / ln 2), as f64::MAX is almost 2^1024
    }
}
