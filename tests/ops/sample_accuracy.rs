//! Searches for the largest errors of a draw's distribution and of log-probabilities, and compares them with the bounds
//! of docs/accuracy/sampling.md.

use crate::support::generate;
use evenkeel::reference::{self, DoubleDouble, Real};
use evenkeel::{Draw, Element, SamplerConfig};
use rand::RngExt;

/// Returns the share of the total mass that belongs to the `count` tokens with the largest logits, exact to 2^-53. This
/// share is the largest p with which top-p keeps at most `count` tokens.
fn share_of_first<E: Element>(logits: &[E], count: usize, temperature: f64) -> f64 {
    let (mut low, mut high) = (f64::MIN_POSITIVE.to_bits(), 1f64.to_bits());
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        let config = SamplerConfig::default().temperature(temperature).top_p(f64::from_bits(middle));
        let draw = Draw::default();
        let kept = config.validate().unwrap().sample(logits, draw).unwrap().kept;
        if kept <= count { low = middle } else { high = middle }
    }
    f64::from_bits(low)
}

/// Returns the relative error of the mass of a token whose logit is z, where the largest logit is 0.
fn error_of_mass<E: Element>(z: f64) -> f64 {
    let logits = [0.0, z].map(E::from_wide);
    let share = share_of_first(&logits, 1, 1.0);
    let exact = logits[1].widen().exp();
    (1.0 / share - 1.0) / exact - 1.0
}

/// Returns the total variation distance between the sampler's distribution and the exact one. The row has one token of
/// logit 0, and `counts[i]` tokens whose logit divided by the temperature is `z[i]`. `z[0]` must be larger than `z[1]`.
fn total_variation<E: Element>(z: [f64; 2], counts: [usize; 2], temperature: f64) -> f64 {
    let mut logits = vec![E::ZERO];
    for (z, count) in z.into_iter().zip(counts) {
        logits.extend(vec![E::from_wide(z * temperature); count]);
    }
    let first = share_of_first(&logits, 1, temperature);
    let both = share_of_first(&logits, 1 + counts[0], temperature);
    let got = [first, both - first, 1.0 - both];
    let of = |z: f64| DoubleDouble::from(E::from_wide(z * temperature).widen()) / DoubleDouble::from(temperature);
    let powers = z.map(|z| of(z).exp());
    let one = DoubleDouble::from(1.0);
    let masses =
        [one, powers[0] * DoubleDouble::from(counts[0] as f64), powers[1] * DoubleDouble::from(counts[1] as f64)];
    let all = masses[0] + masses[1] + masses[2];
    got.iter().zip(masses).map(|(got, mass)| (got - (mass / all).to_f64()).abs()).sum::<f64>() / 2.0
}

/// Checks the worst case: one half of the total mass is computed too large, and the other half too small. A search
/// finds the two logits whose exponentials have the largest positive and the largest negative error. The derived bound
/// is 2^-24.6 for up to 262,144 tokens.
fn distribution_of_draws<E: Element>() {
    let bound = 2f64.powf(-24.6);
    let mut rng = generate::rng("sample, total variation");
    let (mut low, mut high) = ((0.0, 0.0), (0.0, 0.0));
    let mut consider = |z: f64| {
        let error = error_of_mass::<E>(z);
        if error < low.0 {
            low = (error, z);
        }
        if error > high.0 {
            high = (error, z);
        }
    };
    // Among arguments that use one table entry, the polynomial of the exponential is too large at the lower end and too
    // small at the upper end. The last rounding has the largest effect where an exponential is just above a power of
    // two. The search therefore tries arguments near the ends of the entries next to powers of two.
    for _ in 0..6000 {
        let end = f64::from(rng.random_range(0..40) / 8 * 8) + [0.5, 1.5, -0.5][rng.random_range(0..3)];
        consider(-(end * std::f64::consts::LN_2 / 8.0 + rng.random_range(-3e-3..3e-3)).max(1e-3));
    }
    let mut z = [low.1, high.1];
    z.sort_by(|a, b| b.total_cmp(a));
    // With these numbers of tokens, the two logits in `z` have equal total masses. The token of logit 0 has little
    // mass.
    let counts = z.map(|of| (100_000.0 * (z[1] - of).exp()).round() as usize);
    let got = total_variation::<E>(z, counts, 1.0);
    let errors = [low, high].map(|(error, z)| (error * 2f64.powi(24), z));
    println!(
        "{}: distance 2^{:.3} with {counts:?} tokens; errors in units of 2^-24, with their logits: {errors:?}",
        E::DTYPE,
        got.log2()
    );
    assert!(
        got <= bound,
        "sample: the total variation distance from the exact distribution must be at most {bound:e}, got {got:e} \
         for {counts:?} tokens with the logits {z:?}"
    );
    assert!(
        got >= bound / 2.0,
        "the test needs logits for which the total variation distance from the exact distribution is at least {:e}, \
         got {got:e}",
        bound / 2.0
    );
    for temperature in [0.7, 3.0, 1e-3] {
        let got = total_variation::<E>(z, counts, temperature);
        assert!(
            got <= bound,
            "sample: the total variation distance from the exact distribution must be at most {bound:e}, got {got:e}; \
             the numbers of tokens are {counts:?}, their logits {z:?}, and the temperature is {temperature}"
        );
    }
}

#[test]
fn distribution_of_draws_of_f32() {
    distribution_of_draws::<f32>();
}

#[test]
fn distribution_of_draws_of_f64() {
    distribution_of_draws::<f64>();
}

/// Checks the error from rounding masses to integers. All masses except the largest are just below half of the integer
/// unit, so they round to 0. For n tokens, the derived bound is n times 2^-46 up to n = 262,144, and n times 2^-43
/// above.
#[test]
fn masses_that_are_rounded_away() {
    for (count, unit, bound) in [(262_144, 45, 2f64.powf(-24.6)), (1 << 21, 42, 2f64.powf(-21.8))] {
        let z = -f64::from(unit + 1) * std::f64::consts::LN_2 - 1e-6;
        let mut logits = vec![z as f32; count];
        logits[count / 2] = 0.0;
        let others = (count - 1) as f64 * f64::from(logits[0]).exp();
        let got = (share_of_first(&logits, 1, 1.0) - 1.0 / (1.0 + others)).abs();
        println!("{count} tokens: distance 2^{:.3}", got.log2());
        assert!(
            got <= bound,
            "sample of {count} tokens: the total variation distance from the exact distribution must be at most \
             {bound:e}, got {got:e}"
        );
    }
}

/// Returns the largest error of a log-probability. Each error is relative to the larger of the log-probability and the
/// entropy, in units of 2^-53.
fn error_of_logprobs<E: Element>(logits: &[E], temperature: f64) -> f64 {
    let sampler = SamplerConfig::default().temperature(temperature).validate().unwrap();
    let got = sampler.distribution(logits, None, Draw::default()).unwrap();
    let scaled = |z: &E| DoubleDouble::from(z.widen()) / DoubleDouble::from(temperature);
    let exact = reference::log_softmax_of(&logits.iter().map(scaled).collect::<Vec<_>>()).unwrap();
    let entropy = exact.iter().fold(DoubleDouble::from(0.0), |sum, &l| sum - l.exp() * l).to_f64();
    let of = |(got, exact): (f64, &DoubleDouble)| {
        let error = (DoubleDouble::from(got) - *exact).to_f64().abs();
        error / entropy.max(exact.to_f64().abs()).max(f64::MIN_POSITIVE)
    };
    got.logprobs().zip(&exact).map(of).fold(0.0, f64::max) * 2f64.powi(53)
}

/// Searches for bad rows by hill climbing from random ones. The derived bound of [`error_of_logprobs`] is 6.
fn logprobs_of_the_worst_rows<E: Element>() {
    let mut rng = generate::rng("sample, worst log-probabilities");
    let mut worst = 0.0f64;
    for climb in 0..60 {
        let len = [2, 2, 3, 5, 40][climb % 5];
        let spread = 10f64.powf(rng.random_range(-6.0..1.5));
        let mut logits: Vec<f64> = (0..len).map(|_| spread * rng.random_range(-1.0..1.0)).collect();
        let mut temperature = [1.0, rng.random_range(0.1..3.0)][climb % 2];
        let error = |logits: &[f64], temperature: f64| {
            let logits: Vec<E> = logits.iter().map(|z| E::from_wide(*z)).collect();
            error_of_logprobs(&logits, temperature)
        };
        let mut best = error(&logits, temperature);
        for _ in 0..600 {
            let (mut other, mut heat) = (logits.clone(), temperature);
            match rng.random_range(0..3) {
                0 if climb % 2 == 1 => heat *= 1.0 + 10f64.powf(rng.random_range(-16.0..0.0)),
                1 => other.iter_mut().for_each(|z| *z += spread * rng.random_range(-0.1..0.1)),
                _ => other[rng.random_range(0..len)] += spread * 10f64.powf(rng.random_range(-9.0..0.0)),
            }
            let found = error(&other, heat);
            if found > best {
                (best, logits, temperature) = (found, other, heat);
            }
        }
        worst = worst.max(best);
        assert!(
            best <= 6.0,
            "expected an error of at most 6 * 2^-53 in a log-probability, got {best} * 2^-53 \
             for {logits:?}, temperature {temperature}, {}",
            E::DTYPE
        );
    }
    println!("{}: largest error {worst:.3} * 2^-53", E::DTYPE);
}

#[test]
fn logprobs_of_the_worst_rows_of_f32() {
    logprobs_of_the_worst_rows::<f32>();
}

#[test]
fn logprobs_of_the_worst_rows_of_f64() {
    logprobs_of_the_worst_rows::<f64>();
}
