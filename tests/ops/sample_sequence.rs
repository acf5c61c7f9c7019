//! Tests of the features built on the sampler: sequences, batches with parameters per row, and the verification of
//! draft tokens. Also checks that a draw matches its distribution.

use crate::support::generate::{self, Bits};
use crate::support::implementations::{each_level, on_threads};
use evenkeel::{
    Distribution, Draw, Error, Profile, Request, Rows, Sampler, SamplerConfig, Sequence, Step, Verified, sample_rows,
};
use rand::RngExt;

for_each_dtype!(a_draw_is_of_the_distribution, hostile_rows_give_a_token_or_a_reason);

fn sampler(config: SamplerConfig) -> Sampler {
    config.validate().unwrap()
}

/// Checks that sampling a row gives the same token as drawing from the row's distribution. For long rows, sampling and
/// drawing run different code.
fn a_draw_is_of_the_distribution<E: Bits>() {
    let mut rng = generate::rng("sample, draws of distributions");
    let c = SamplerConfig::default();
    for len in [1, 15, 16, 17, 1023, 1025, 5000, 40_000] {
        let spread = [0.01, 1.0, 4.0][rng.random_range(0..3)];
        let mut logits = generate::bell::<E>(&mut rng, len, 3.0, spread);
        if rng.random_bool(0.5) {
            logits.iter_mut().for_each(|z| *z = E::from_wide((z.widen() * 4.0).round() / 4.0));
        }
        if rng.random_bool(0.5) {
            (0..len).skip(1).step_by(3).for_each(|i| logits[i] = E::NEG_INFINITY);
        }
        let heat = c.temperature(0.7);
        for config in [c, heat, heat.top_k(3), heat.top_p(0.6), c.top_p(0.999), c.min_p(0.1), c.temperature(0.0)] {
            for &profile in Profile::ALL {
                let Ok(sampler) = config.profile(profile).validate() else { continue };
                let draw = Draw { seed: rng.random(), row: rng.random(), draw: rng.random() };
                each_level(|level| {
                    let sampled = sampler.sample(&logits, draw).unwrap();
                    let distribution = sampler.distribution(&logits, None, draw).unwrap();
                    assert_eq!(
                        sampled,
                        distribution.draw(draw),
                        "{config:?}, {profile:?}, {len} tokens, {level}: expected the token drawn by `distribution`"
                    );
                });
            }
        }
    }
}

/// Checks that arbitrary logits with valid parameters give an unmasked token or the right error.
fn hostile_rows_give_a_token_or_a_reason<E: Bits>() {
    let mut rng = generate::rng("sample, hostile rows");
    for _ in 0..400 {
        let count = rng.random_range(1..300);
        let mut logits: Vec<E> = generate::any_bits(&mut rng, count);
        if rng.random_bool(0.8) {
            logits.iter_mut().filter(|z| z.widen().is_nan()).for_each(|z| *z = E::NEG_INFINITY);
        }
        let exponent = rng.random_range(-6.0..6.0);
        let mut config = SamplerConfig::default().temperature(10f64.powf(exponent));
        if rng.random_bool(0.6) {
            config = config.top_p(10f64.powf(rng.random_range(-6.0..0.0)));
        }
        if rng.random_bool(0.6) {
            config = config.top_k(rng.random_range(1..=logits.len()));
        }
        if rng.random_bool(0.4) {
            config = config.min_p(rng.random_range(0.0..=1.0));
        }
        for &profile in Profile::ALL {
            let Ok(sampler) = config.profile(profile).validate() else { continue };
            let wide: Vec<f64> = logits.iter().map(|z| z.widen()).collect();
            match sampler.sample(&logits, Draw { seed: rng.random(), row: 0, draw: 0 }) {
                Ok(sampled) => {
                    assert!(
                        wide[sampled.token as usize] > f64::NEG_INFINITY,
                        "sample with {config:?}: expected a token with a logit above -inf, got {sampled:?}"
                    );
                    assert!(sampled.logprob <= 0.0 && sampled.logprob.is_finite() && sampled.kept > 0);
                }
                Err(Error::NonFiniteInput { index, .. }) => {
                    assert_eq!(
                        Some(index),
                        wide.iter().position(|z| z.is_nan()),
                        "sample with {config:?}: the error must name the index of the first NaN in the logits"
                    );
                }
                Err(Error::EmptySupport { .. }) => assert!(wide.iter().all(|z| *z == f64::NEG_INFINITY)),
                Err(other) => {
                    panic!("sample with {config:?}: expected a NonFiniteInput or EmptySupport error, got {other}")
                }
            }
        }
    }
}

#[test]
fn a_sequence_is_its_seed_and_its_tokens() {
    fn shared<T: Send + Sync + Clone>() {}
    shared::<Sampler>();
    shared::<Sequence>();

    let logits = |step: usize| -> Vec<f32> { (0..50).map(|i| ((i * 7 + step * 13) % 17) as f32 / 4.0).collect() };
    let sampler = sampler(SamplerConfig::default().repetition_penalty(1.3).frequency_penalty(0.2).top_p(0.95));
    let draw_all = |mut sequence: Sequence, count: usize| {
        for step in sequence.output().len()..count {
            sequence.sample(&logits(step), None).unwrap();
        }
        sequence
    };
    let first = draw_all(sampler.sequence(7, &[1, 2]).row(3), 20);
    assert_eq!(first.prompt(), [1, 2]);
    assert_eq!(first.output().len(), 20);
    assert_eq!(draw_all(sampler.sequence(7, &[1, 2]).row(3), 20), first);
    let mut again = first.clone();
    again.truncate(5);
    assert_eq!(again.output(), &first.output()[..5]);
    assert_eq!(draw_all(again, 20), first);
    assert_ne!(draw_all(sampler.sequence(8, &[1, 2]).row(3), 20).output(), first.output());
    assert_ne!(draw_all(sampler.sequence(7, &[1, 2]).row(4), 20).output(), first.output());

    // A rejected step appends nothing.
    let mut sequence = sampler.sequence(1, &[]).bias(vec![(3, f32::NEG_INFINITY)]).bad_words(vec![vec![2]]);
    assert!(sequence.sample(&[f32::NAN], None).is_err());
    assert!(sequence.output().is_empty());
    // The bias, the bad words and the allowed bits each ban one of the four tokens.
    assert_eq!(sequence.sample(&[0.0f32; 4], Some(&[0b1101])).unwrap().token, 0);
}

/// Checks that the rows of a batch with parameters per row give the same tokens as each row alone, with any number of
/// threads.
#[test]
fn rows_with_parameters_of_their_own() {
    let mut rng = generate::rng("sample, requests");
    let (rows, cols) = (64, 2000);
    let logits = generate::bell::<f32>(&mut rng, rows * cols, 0.0, 3.0);
    let c = SamplerConfig::default();
    let samplers: Vec<Sampler> =
        [c, c.temperature(0.0), c.top_k(40).top_p(0.9), c.repetition_penalty(1.2), c.min_p(0.05)]
            .into_iter()
            .chain(Profile::ALL.iter().map(|&profile| c.profile(profile).temperature(0.8).top_p(0.9)))
            .map(sampler)
            .collect();
    let outputs: Vec<Vec<u32>> = (0..rows).map(|row| (0..row as u32).collect()).collect();
    let words: Vec<u32> = (0..cols.div_ceil(32)).map(|_| rng.random()).collect();
    let request = |row: usize| {
        let step = Step::from(Draw { seed: 5, row: row as u64, draw: 9 }).output(&outputs[row]);
        let step = if row.is_multiple_of(3) { step.allowed(&words) } else { step };
        Request { sampler: &samplers[row % samplers.len()], step }
    };
    let requests: Vec<Request<'_>> = (0..rows).map(request).collect();
    let alone: Vec<_> =
        requests.iter().zip(logits.chunks(cols)).map(|(r, row)| r.sampler.sample(row, r.step).unwrap()).collect();
    each_level(|level| {
        for threads in [1, 2] {
            let view = Rows::new(&logits, rows, cols).unwrap();
            let got = on_threads(threads, level, || sample_rows(view, None, &requests).unwrap());
            let got: Vec<_> = got.into_iter().map(Result::unwrap).collect();
            assert_eq!(got, alone, "{threads} threads, {level}: expected the same tokens as for each row alone");
        }
    });
    let few = sample_rows(Rows::new(&logits, rows, cols).unwrap(), None, &requests[1..]).unwrap_err();
    assert_eq!(few.to_string(), "sample: steps has 63 entries; expected one for each of 64 rows");
}

/// Returns the quantile of the chi-square distribution at 6 standard deviations. A correct sampler with random seeds
/// exceeds this quantile once in 10^9 runs (Wilson and Hilferty, 1931).
fn chi_square_limit(cells: usize) -> f64 {
    let k = (cells - 1) as f64;
    k * (1.0 - 2.0 / (9.0 * k) + 6.0 * (2.0 / (9.0 * k)).sqrt()).powi(3)
}

const DRAWS: u64 = 200_000;

/// Checks that verified tokens follow the target's probabilities. `accepts` is the expected share of accepted draft
/// tokens.
fn assert_follows(name: &str, target: &Distribution, accepts: f64, verified: impl Fn(u64) -> Verified) {
    let probs = target.probs().unwrap();
    let mut counts = vec![0u64; probs.len()];
    let mut accepted = 0u64;
    for i in 0..DRAWS {
        let Verified { sampled, accepted: is_draft, .. } = verified(i);
        counts[sampled.token as usize] += 1;
        accepted += u64::from(is_draft);
        assert!(
            (sampled.logprob - probs[sampled.token as usize].ln()).abs() < 1e-6,
            "{name}: expected a log-probability of {}, got {sampled:?}",
            probs[sampled.token as usize].ln()
        );
    }
    let mut statistic = 0.0;
    for (token, (count, p)) in counts.iter().zip(&probs).enumerate() {
        let expected = p * DRAWS as f64;
        if *p == 0.0 {
            assert_eq!(
                *count, 0,
                "{name}: token {token} has probability 0 and must not be drawn, but was drawn {count} times"
            );
        } else {
            statistic += (*count as f64 - expected).powi(2) / expected;
        }
    }
    let limit = chi_square_limit(target.tokens().len().max(2));
    assert!(
        statistic <= limit,
        "{name}: the chi-square statistic of the tokens must be at most {limit}, got {statistic}"
    );
    let off = (accepted as f64 - accepts * DRAWS as f64).abs();
    let deviation = (DRAWS as f64 * accepts * (1.0 - accepts)).sqrt();
    assert!(
        off <= 6.0 * deviation + 1e-6 * DRAWS as f64,
        "{name}: the sampler must accept about {} of {DRAWS} draft tokens, got {accepted}",
        accepts * DRAWS as f64
    );
}

#[test]
fn what_verification_leaves_follows_the_target() {
    let of =
        |config: SamplerConfig, logits: &[f32]| sampler(config).distribution(logits, None, Draw::default()).unwrap();
    let c = SamplerConfig::default();
    let a: Vec<f32> = (0..16).map(|i| ((i * 7) % 11) as f32 * 0.4).collect();
    let b: Vec<f32> = (0..16).map(|i| ((i * 5) % 13) as f32 * 0.3).collect();
    let pairs = [
        ("different logits", of(c, &a), of(c, &b)),
        ("the same", of(c, &a), of(c, &a)),
        ("filtered apart", of(c.top_k(6), &a), of(c.top_p(0.7), &b)),
        ("a narrower target", of(c.top_k(2), &a), of(c, &b)),
        ("nothing in common", of(c.top_k(1), &a), of(c.top_k(1), &b)),
        ("greedy", of(c.temperature(0.0), &a), of(c, &b)),
    ];
    for (name, target, draft) in &pairs {
        let (p, q) = (target.probs().unwrap(), draft.probs().unwrap());
        let accepts = p.iter().zip(&q).map(|(p, q)| p.min(*q)).sum::<f64>().min(1.0);
        assert_follows(name, target, accepts, |i| {
            let token = draft.draw(Draw { seed: 1, row: 0, draw: i }).token;
            target.verify(draft, token, Draw { seed: 2, row: 0, draw: i })
        });
        // Draft and verification may use the same draw, because they use different random bits.
        assert_follows(&format!("{name}, one draw"), target, accepts, |i| {
            let draw = Draw { seed: 1, row: 0, draw: i };
            target.verify(draft, draft.draw(draw).token, draw)
        });
        // This draft always proposes the same token.
        assert_follows(name, target, p[4], |i| target.verify_token(4, Draw { seed: 3, row: 0, draw: i }));
    }
}

#[test]
fn top_logprobs_are_in_order() {
    let distribution = sampler(SamplerConfig::default())
        .distribution(&[1.0f32, 3.0, f32::NEG_INFINITY, 2.0, 3.0], None, Draw::default())
        .unwrap();
    let top = distribution.top_logprobs(3);
    assert_eq!(top.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [1, 4, 3]);
    let all = distribution.top_logprobs(10);
    assert_eq!(all.len(), 4);
    assert_eq!(all[..3], top[..]);
    let sum: f64 = all.iter().map(|(_, logprob)| logprob.exp()).sum();
    assert!((sum - 1.0).abs() < 1e-12);
}
