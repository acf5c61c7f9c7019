//! The frequencies of rotary embedding.
//!
//! Far positions multiply an error in the last place of a frequency by themselves, so frequencies are to be the same
//! whoever computes them: the exact number, rounded once. Pairs of f64 leave one in 2^40 to be rounded the wrong way.

use super::power::{Pair, exp, log};
use crate::ops::rope::RopeScaling;

/// ln(2 pi), and 1 / (2 pi).
const LN_2_PI: Pair = Pair(f64::from_bits(0x3ffd_67f1_c864_beb5), f64::from_bits(0xbc96_5b5a_1b7f_f5df));
const TURN: Pair = Pair(f64::from_bits(0x3fc4_5f30_6dc9_c883), f64::from_bits(0xbc66_b01e_c541_7056));
const ONE: Pair = Pair(1.0, 0.0);

/// theta^(-i / half) for each i below `half`, scaled, with theta finite and above zero, above 1 where it is scaled; at
/// most the largest finite number.
pub fn frequencies(theta: f64, half: usize, scaling: Option<RopeScaling>) -> Vec<f64> {
    let base = log(theta);
    let plain = |i: usize| exp(share(base, i, half));
    let rounded = |of: &dyn Fn(usize) -> Pair| (0..half).map(|i| of(i).0.min(f64::MAX)).collect();
    match scaling {
        None => rounded(&plain),
        Some(RopeScaling::Linear { factor }) => rounded(&|i| plain(i).over(factor.into())),
        Some(RopeScaling::Ntk { factor }) => {
            // The base's factor^(d / (d-2)) to the power of 2i / d; the first pair turns by 1 whatever the base.
            let factor = log(factor);
            rounded(&|i| if i == 0 { ONE } else { exp(share(base, i, half).plus(share(factor, i, half - 1))) })
        }
        Some(RopeScaling::Yarn { factor, original_positions, beta_fast, beta_slow, .. }) => {
            // The pair that turns so often within the original positions.
            let turning = |turns: f64| {
                let log = log(original_positions as f64).minus(log(turns)).minus(LN_2_PI);
                log.times((half as f64).into()).over(base).0
            };
            let (low, high) =
                (turning(beta_fast).floor().max(0.0), turning(beta_slow).ceil().min((2 * half) as f64 - 1.0));
            let high = if low == high { high + 0.001 } else { high };
            rounded(&|i| {
                let ramp = Pair::from(i as f64 - low).over((high - low).into());
                blend(plain(i), factor, ONE.minus(within(ramp)))
            })
        }
        Some(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions }) => {
            let (low, high) = (Pair::from(low_freq_factor), Pair::from(high_freq_factor));
            rounded(&|i| {
                let turns = plain(i).times((original_positions as f64).into()).times(TURN);
                blend(plain(i), factor, within(turns.minus(low).over(high.minus(low))))
            })
        }
    }
}

/// What cosines and sines are multiplied with: 1, or under YaRN 0.1 ln(factor) + 1 unless it is given.
pub fn attention_factor(scaling: Option<RopeScaling>) -> Pair {
    match scaling {
        Some(RopeScaling::Yarn { attention_factor: Some(given), .. }) => given.into(),
        Some(RopeScaling::Yarn { factor, .. }) => log(factor).over(10.0.into()).plus(ONE),
        _ => ONE,
    }
}

/// -log i / n.
fn share(log: Pair, i: usize, n: usize) -> Pair {
    log.times((-(i as f64)).into()).over((n as f64).into())
}

/// Of a frequency the part that is kept, and the rest of it divided by the factor.
fn blend(frequency: Pair, factor: f64, kept: Pair) -> Pair {
    frequency.times(kept).plus(frequency.over(factor.into()).times(ONE.minus(kept)))
}

/// Brought to within 0 and 1.
fn within(ramp: Pair) -> Pair {
    if ramp.0 <= 0.0 {
        Pair(0.0, 0.0)
    } else if ramp.0 < 1.0 {
        ramp
    } else {
        // What is beyond f64 is NaN, too.
        ONE
    }
}

#[cfg(test)]
mod tests {
    use super::{RopeScaling, attention_factor, frequencies};

    #[test]
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
    fn scalings_of_1_change_nothing() {
        let plain = frequencies(500_000.0, 64, None);
        let (factor, original_positions) = (1.0, 8192);
        for scaling in [
            RopeScaling::Linear { factor },
            RopeScaling::Ntk { factor },
            RopeScaling::Yarn { factor, original_positions, beta_fast: 32.0, beta_slow: 1.0, attention_factor: None },
            RopeScaling::Llama3 { factor, original_positions, low_freq_factor: 1.0, high_freq_factor: 4.0 },
        ] {
            assert_eq!(frequencies(500_000.0, 64, Some(scaling)), plain, "{scaling:?}");
            assert_eq!(attention_factor(Some(scaling)).0, 1.0);
        }
    }

    /// A ramp that is narrower than any number is a step.
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

    /// Bases and factors at the end of f64 give numbers.
    #[test]
    fn frequencies_are_finite() {
        let factor = f64::MAX;
        for scaling in [RopeScaling::Linear { factor }, RopeScaling::Ntk { factor }] {
            for theta in [1.0 + f64::EPSILON, f64::MAX] {
                let all = frequencies(theta, 3, Some(scaling));
                assert!(all.iter().all(|f| (0.0..=1.0).contains(f)), "{scaling:?}, {theta}: {all:?}");
            }
        }
    }
}
