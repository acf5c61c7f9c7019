//! Tests of DRY, the penalty for tokens that extend a repetition.

use evenkeel::{Profile, SamplerConfig, Step};

/// Checks the repetitions that DRY counts after the tokens `3 5 1 2 3 7 1 2 3`. The token 7 would extend the repetition
/// of the three tokens `1 2 3`. The token 5 would extend the repetition of a single 3, which is too short.
#[test]
fn dry_counts_repetitions() {
    let near =
        |got: f64, expected: f64| assert!((got - expected).abs() < 1e-6, "expected the penalty {expected}, got {got}");
    let config = SamplerConfig::default().dry(0.5, 2.0, 2);
    let off = |config: SamplerConfig, step: Step<'_>, token: usize| {
        let distribution = config.validate().unwrap().distribution(&[0.0f32; 9], None, step).unwrap();
        let logprobs: Vec<f64> = distribution.logprobs().collect();
        logprobs[8] - logprobs[token]
    };
    let tokens = [3, 5, 1, 2, 3, 7, 1, 2, 3];
    let step = Step::default().prompt(&tokens[..4]).output(&tokens[4..]);
    near(off(config, step, 7), 0.5 * 2.0);
    near(off(config, step, 5), 0.0);
    near(off(config.dry(0.5, 2.0, 1), step, 5), 0.5);
    // With token 1 as a breaker, or with a window of six tokens, the repetition is only `2 3`. A window of four tokens
    // has no repetition.
    near(off(config, step.breakers(&[1]), 7), 0.5);
    near(off(config.dry_window(4), step, 7), 0.0);
    near(off(config.dry_window(6), step, 7), 0.5);
    // A breaker itself gets no penalty.
    near(off(config, step.breakers(&[7]), 7), 0.0);
    // The token 4 follows both `1 2` and `1 2 1 2`. The longer repetition counts.
    let twice = [1, 2, 1, 2, 4, 3, 1, 2, 4, 3, 1, 2, 1, 2];
    near(off(config, Step::default().output(&twice), 4), 0.5 * 4.0);
    // The exponent is capped where the power of the base would overflow f32.
    let same = vec![6u32; 400];
    let held = off(config.dry(1e-30, 10.0, 2), Step::default().output(&same), 6);
    assert!((1e7..1e9).contains(&held), "DRY after 400 equal tokens: expected a penalty of 1e7 to 1e9, got {held}");
    let profile = config.profile(Profile::LlamaCpp);
    near(off(profile, step, 7), 0.5 * 2.0);
}

/// Checks penalties of a token that repeats many times. At this low temperature, the token's log-probability shows all
/// bits of the penalty.
#[test]
fn dry_penalties_are_rounded_once() {
    const COLD: f64 = 1.0 / (1u64 << 40) as f64;
    let mut count = 0;
    for line in include_str!("../vectors/dry.tsv").lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let bits = |i: usize| f64::from_bits(u64::from_str_radix(fields[i], 16).unwrap());
        let (multiplier, base, exponent, expected) = (bits(0), bits(1), fields[2].parse::<usize>().unwrap(), bits(3));
        let history = vec![1u32; exponent + 2];
        let config = SamplerConfig::default().temperature(COLD).dry(multiplier, base, 1);
        let step = Step::default().output(&history);
        let distribution = config.validate().unwrap().distribution(&[0.0f64; 2], None, step).unwrap();
        let got = -distribution.logprobs().nth(1).unwrap() * COLD;
        assert_eq!(
            got.to_bits(),
            expected.to_bits(),
            "DRY penalty {multiplier} * {base}^{exponent}: expected {expected:e}, got {got:e}"
        );
        count += 1;
    }
    assert_eq!(count, 71);
}
