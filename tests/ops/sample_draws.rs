//! Tests of draws from a distribution: which token a draw selects, and that tokens follow their probabilities.

use crate::sample::{any_row, sampler};
use crate::support::generate::{self, Bits};
use crate::support::implementations::{each_level, on_threads};
use evenkeel::simd::{Level, with_level};
use evenkeel::{Draw, Mask, Profile, Rows, SamplerConfig};
use rand::RngExt;

for_each_dtype!(
    draws_do_not_depend_on_company,
    draws_without_logprob_or_filters,
    masked_draws_without_logprob,
    windows_keep_the_tokens_of_flags
);

/// Checks draws from all tokens without log-probabilities. These do not store the tokens. `Distribution::draw` reads the
/// stored masses of all tokens instead.
fn draws_without_logprob_or_filters<E: Bits>() {
    let mut rng = generate::rng("sample, draws without logprob or filters");
    for len in [1, 2, 17, 1023, 1024, 1025, 2049, 9000] {
        let keep: Vec<bool> = (0..len).map(|i| i == len / 2 || rng.random_bool(0.7)).collect();
        let mask = Mask::keep(&keep, &[len]);
        for (temperature, mask) in [(1.0, None), (0.7, Some(&mask)), (1e30, None), (1e-30, Some(&mask))] {
            let logits = any_row::<E>(&mut rng, len);
            let config = SamplerConfig::default().temperature(temperature);
            each_level(|level| {
                let what = format!("{len} tokens at temperature {temperature}, {level}");
                let distribution = sampler(config).distribution(&logits, mask, Draw::default()).unwrap();
                let draws: Vec<Draw> = (0..20).map(|draw| Draw { seed: 3, row: 1, draw }).collect();
                let copies = logits.repeat(draws.len());
                let rows = Rows::new(&copies, draws.len(), len).unwrap();
                let got = sampler(config.logprob(false)).sample_rows(rows, mask, &draws).unwrap();
                for (draw, got) in draws.into_iter().zip(got) {
                    let (expected, got) = (distribution.draw(draw), got.unwrap());
                    assert_eq!((got.token, got.kept), (expected.token, expected.kept), "{what}: {draw:?}");
                    assert!(got.logprob.is_nan(), "{what}: expected no log-probability, got {}", got.logprob);
                }
            });
        }
    }
}

/// Checks that draws from all tokens without log-probabilities give the same tokens as draws that compute them, with
/// masks that differ between rows, and in rows longer than 262,144 tokens, whose masses have another unit.
fn masked_draws_without_logprob<E: Bits>() {
    let mut rng = generate::rng("sample, masked draws without logprob");
    for (rows, len) in [(3, 5), (20, 1500), (7, 4099), (2, 300_000)] {
        let logits: Vec<E> = (0..rows).flat_map(|_| any_row::<E>(&mut rng, len)).collect();
        let bias: Vec<f32> = (0..len).map(|_| rng.random_range(-2.0..2.0)).collect();
        let lengths: Vec<usize> = (0..rows).map(|_| rng.random_range(1..=len)).collect();
        let masks = [
            Mask::window(len / 2),
            Mask::causal().and_window(len / 3),
            Mask::lengths(&lengths),
            Mask::bias(&bias, &[len]),
        ];
        let draws: Vec<Draw> = (0..rows as u64).map(|row| Draw { seed: 9, row, draw: rng.random() }).collect();
        let view = Rows::new(&logits, rows, len).unwrap();
        let config = SamplerConfig::default().temperature(0.9);
        for (mask, name) in masks.iter().zip(["window", "causal window", "lengths", "bias"]) {
            let expected = sampler(config).sample_rows(view, Some(mask), &draws).unwrap();
            each_level(|level| {
                for threads in [1, 2] {
                    let drawn = || sampler(config.logprob(false)).sample_rows(view, Some(mask), &draws).unwrap();
                    for (row, (got, expected)) in on_threads(threads, level, drawn).iter().zip(&expected).enumerate() {
                        let [got, expected] =
                            [got, expected].map(|drawn| drawn.as_ref().map(|sampled| (sampled.token, sampled.kept)));
                        assert_eq!(got, expected, "row {row} of {rows}x{len}, {name}, {threads} threads, {level}");
                    }
                }
            });
        }
    }
}

/// Checks that filters keep the same tokens under a window as under keep flags of the same positions. Rounded logits
/// have many ties, whose order depends on the position of the token.
fn windows_keep_the_tokens_of_flags<E: Bits>() {
    let mut rng = generate::rng("sample, windows");
    let c = SamplerConfig::default();
    for len in [40, 700, 3000] {
        let row: Vec<E> = generate::bell::<E>(&mut rng, len, 0.0, 2.0);
        let row: Vec<E> = row.iter().map(|x| E::from_wide(x.widen().round())).collect();
        let first = rng.random_range(1..len / 2);
        let keep: Vec<bool> = (0..len).map(|i| i >= first).collect();
        let (window, flags) = (Mask::window(len - first), Mask::keep(&keep, &[len]));
        for config in [c, c.temperature(0.0), c.top_p(0.3), c.top_p(0.8), c.top_k(7), c.min_p(0.2)] {
            for profile in [Profile::Evenkeel, Profile::Candle, Profile::HuggingFace] {
                let Ok(sampler) = config.profile(profile).validate() else { continue };
                let [got, expected] = [&window, &flags].map(|mask| {
                    let rows = Rows::new(&row, 1, len).unwrap();
                    let distribution = sampler.distributions(rows, Some(mask), &[Draw::default()]).unwrap().remove(0);
                    let distribution = distribution.unwrap();
                    (distribution.tokens().to_vec(), distribution.draw(Draw { seed: 5, row: 0, draw: 1 }).token)
                });
                assert_eq!(got, expected, "{len} tokens, window from token {first}, {profile:?}, {config:?}");
            }
        }
    }
}

/// Checks that a row gives the same token alone and in a batch, on every instruction set and with any number of
/// threads.
fn draws_do_not_depend_on_company<E: Bits>() {
    let mut rng = generate::rng("sample, draws");
    for (rows, cols) in [(1, 1), (5, 7), (9, 300), (40, 5000)] {
        let logits: Vec<E> = (0..rows).flat_map(|_| any_row::<E>(&mut rng, cols)).collect();
        let config = SamplerConfig::default().temperature(0.8).top_k(40).top_p(0.95);
        let draws: Vec<Draw> =
            (0..rows as u64).map(|row| Draw { seed: rng.random(), row, draw: rng.random() }).collect();
        let one = |(row, draw): (&[E], &Draw)| sampler(config).sample(row, *draw).unwrap();
        let alone: Vec<_> = with_level(Level::Portable, || logits.chunks(cols).zip(&draws).map(one).collect()).unwrap();
        each_level(|level| {
            for threads in [1, 2] {
                let view = Rows::new(&logits, rows, cols).unwrap();
                let got = on_threads(threads, level, || sampler(config).sample_rows(view, None, &draws).unwrap());
                let got: Vec<_> = got.into_iter().map(Result::unwrap).collect();
                assert!(
                    got == alone,
                    "{rows} rows of {cols}, {threads} threads, {level}: expected the same draws as for each row alone"
                );
                for (got, alone) in got.iter().zip(&alone) {
                    assert_eq!(got.logprob.to_bits(), alone.logprob.to_bits());
                }
            }
        });
    }
}

/// Checks that the upper halves of seed, row and draw number affect a draw. A draw is the product of 64 random bits and
/// the total mass, so the top bit decides between two equal tokens.
#[test]
fn draws_are_of_all_bits() {
    let distribution =
        sampler(SamplerConfig::default()).distribution(&[f32::INFINITY; 2], None, Draw::default()).unwrap();
    let token = |draw| distribution.draw(draw).token;
    let assert_flips = |name: &str, change: fn(u64) -> Draw| {
        let is_other = |&i: &u64| token(change(i)) != token(Draw { seed: 5, row: 5, draw: i });
        let flips = (0..64).map(|i| 1 << 32 | i).filter(is_other).count();
        // Each of the 64 decisions is like a coin toss. The limits 8 and 56 are 6 standard deviations from the mean of
        // 32.
        assert!((8..=56).contains(&flips), "changing the {name} must change 8 to 56 of 64 draws, got {flips}");
    };
    assert_flips("seed", |i| Draw { seed: 5 | 1 << 40, row: 5, draw: i });
    assert_flips("row", |i| Draw { seed: 5, row: 5 | 1 << 40, draw: i });
    assert_flips("step", |i| Draw { seed: 5, row: 5, draw: i & 0xff });
}

/// Returns the quantile of the chi-square distribution at 6 standard deviations. A correct sampler with random seeds
/// exceeds this quantile once in 10^9 runs (Wilson and Hilferty, 1931).
fn chi_square_limit(cells: usize) -> f64 {
    let k = (cells - 1) as f64;
    k * (1.0 - 2.0 / (9.0 * k) + 6.0 * (2.0 / (9.0 * k)).sqrt()).powi(3)
}

/// Checks that the drawn tokens follow the probabilities. In one series of draws only the seed varies, in another only
/// the row, and in a third only the draw number.
#[test]
fn draws_follow_the_probabilities() {
    const DRAWS: u64 = 200_000;
    let logits: Vec<f32> = (0..24).map(|i| ((i * 7) % 11) as f32 * 0.4 - (i as f32) * 0.05).collect();
    let distribution =
        sampler(SamplerConfig::default().top_k(20)).distribution(&logits, None, Draw::default()).unwrap();
    let probs = distribution.probs().unwrap();
    let limit = chi_square_limit(distribution.tokens().len());
    let logprobs: Vec<f64> = distribution.logprobs().collect();
    let assert_follows = |name: &str, counter: fn(u64) -> Draw| {
        let mut counts = vec![0u64; logits.len()];
        for i in 0..DRAWS {
            let sampled = distribution.draw(counter(i));
            let index =
                distribution.tokens().binary_search(&sampled.token).expect("the drawn token must be a candidate");
            assert_eq!(
                (sampled.logprob, sampled.kept),
                (logprobs[index], logprobs.len()),
                "{name}: the draw must have the same log-probability and candidate count as the distribution"
            );
            counts[sampled.token as usize] += 1;
        }
        let mut statistic = 0.0;
        for (count, p) in counts.iter().zip(&probs) {
            if *p == 0.0 {
                assert_eq!(*count, 0, "{name}: a token of probability 0 must not be drawn, got {count} draws");
            } else {
                let expected = p * DRAWS as f64;
                statistic += (*count as f64 - expected).powi(2) / expected;
            }
        }
        assert!(
            statistic <= limit,
            "samples with varying {name}: the chi-square statistic must be at most {limit}, got {statistic}"
        );
    };
    assert_follows("draw", |i| Draw { seed: 42, row: 3, draw: i });
    assert_follows("row", |i| Draw { seed: 42, row: i, draw: 5 });
    assert_follows("seed", |i| Draw { seed: i, row: 0, draw: 0 });
}

/// Checks that successive draws and neighbouring rows are independent.
#[test]
fn neighbouring_draws_are_independent() {
    const DRAWS: u64 = 100_000;
    let distribution = sampler(SamplerConfig::default()).distribution(&[0.0f32; 4], None, Draw::default()).unwrap();
    let assert_independent = |name: &str, pair: fn(u64) -> [Draw; 2]| {
        let mut counts = [0u64; 16];
        for i in 0..DRAWS {
            let [a, b] = pair(i).map(|draw| distribution.draw(draw).token as usize);
            counts[4 * a + b] += 1;
        }
        let expected = DRAWS as f64 / 16.0;
        let statistic: f64 = counts.iter().map(|&c| (c as f64 - expected).powi(2) / expected).sum();
        let limit = chi_square_limit(16);
        assert!(
            statistic <= limit,
            "independence of {name}: expected a chi-square statistic of at most {limit}, got {statistic}"
        );
    };
    assert_independent("draws", |i| [2 * i, 2 * i + 1].map(|draw| Draw { seed: 7, row: 1, draw }));
    assert_independent("rows", |i| [1, 2].map(|row| Draw { seed: 7, row, draw: i }));
}
