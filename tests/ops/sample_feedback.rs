//! Compares mirostat and adaptive-p with llama.cpp's definition, which the reference computes by sorting the
//! vocabulary. Checks that sequences carry the feedback from step to step.

use crate::support::generate::{self, Bits};
use crate::support::implementations::each_level;
use evenkeel::reference::{self, Support};
use evenkeel::{Draw, Element, Error, Profile, Request, Rows, Sampled, SamplerConfig, Step, sample_rows};
use rand::{Rng, RngExt};

for_each_dtype!(steps_are_those_of_the_definition, draws_do_not_depend_on_logprob);

/// Returns random parameters with mirostat or adaptive-p.
fn config(rng: &mut impl Rng) -> SamplerConfig {
    let profile = [Profile::Evenkeel, Profile::LlamaCpp][rng.random_range(0..2)];
    let c = SamplerConfig::default().profile(profile).temperature(rng.random_range(0.2..3.0));
    match rng.random_range(0..3) {
        0 => {
            let c = c.adaptive_p(rng.random_range(0.0..=1.0), rng.random_range(0.0..=0.99));
            if rng.random_bool(0.5) { c.min_p(0.05).top_k(20) } else { c }
        }
        version => c.mirostat(version, rng.random_range(0.0..8.0), rng.random_range(0.0..1.0)),
    }
}

/// Returns the reference's tokens, and its feedback for the next step. Returns `None` if a change of the feedback by
/// 1e-6 changes the tokens. Such steps are not compared, because the sampler rounds masses and the reference rounds
/// mirostat's k.
fn expected<E: Element>(logits: &[E], config: &SamplerConfig, feedback: f64) -> Option<(Support, Vec<f64>)> {
    let at = |moved| reference::sample_with_feedback(logits, config, Some(feedback + moved)).unwrap();
    let found = at(0.0);
    [-1e-6, 1e-6].into_iter().all(|moved| at(moved).0.tokens == found.0.tokens).then_some(found)
}

fn steps_are_those_of_the_definition<E: Bits>() {
    let mut rng = generate::rng("sample, feedback");
    let mut compared = 0;
    for round in 0..1500 {
        let len = if round < 1400 { rng.random_range(1..300) } else { rng.random_range(1000..5000) };
        let spread = [0.0, 0.5, 3.0][rng.random_range(0..3)];
        let mut logits = generate::bell::<E>(&mut rng, len, 1.0, spread);
        if rng.random_bool(0.3) {
            logits.iter_mut().for_each(|z| *z = E::from_wide(z.widen().round()));
        }
        if rng.random_bool(0.2) {
            (1..len).step_by(2).for_each(|i| logits[i] = E::NEG_INFINITY);
        }
        let config = config(&mut rng);
        let feedback = if config.mirostat == 0 { rng.random_range(0.0..1.0) } else { rng.random_range(-1.0..12.0) };
        let Some((support, next)) = expected(&logits, &config, feedback) else { continue };
        compared += 1;
        let sampler = config.validate().unwrap();
        let draw = Draw { seed: rng.random(), row: 0, draw: 0 };
        let step = Step::from(draw).feedback(feedback);
        each_level(|level| {
            let at = format!("{config:?}, feedback {feedback}, {len} tokens, {level}");
            let got = sampler.distribution(&logits, None, step).unwrap();
            assert_eq!(
                got.tokens(),
                support.tokens,
                "sample with {at}: the filters must keep the same tokens as the reference"
            );
            for (logprob, p) in got.logprobs().zip(&support.probs) {
                assert!(
                    (logprob.exp() - p).abs() <= 1e-13,
                    "sample with {at}: expected probability {p}, got {}",
                    logprob.exp()
                );
            }
            let sampled = sampler.sample(&logits, step).unwrap();
            assert_eq!(sampled, got.draw(draw), "sample with {at}: expected the token drawn by `distribution`");
            let place = support.tokens.binary_search(&sampled.token).unwrap();
            assert!(
                (sampled.feedback - next[place]).abs() <= 1e-11,
                "sample with {at}: expected a feedback of {} for the next step, got {}",
                next[place],
                sampled.feedback
            );
        });
    }
    assert!(compared > 1300, "expected to compare more than 1300 of 1500 rows, got {compared}");
}

#[test]
fn a_sequence_carries_the_feedback() {
    let logits = [2.0f32, 1.5, 1.0, 0.5, 0.0, -0.5, -1.0, -2.0];
    for config in [
        SamplerConfig::default().mirostat(1, 1.5, 0.3),
        SamplerConfig::default().mirostat(2, 1.5, 0.3),
        SamplerConfig::default().adaptive_p(0.3, 0.5),
    ] {
        let sampler = config.validate().unwrap();
        let mut sequence = sampler.sequence(7, &[1]);
        let mut values = Vec::new();
        for draw in 0..20 {
            let step = Step::from(Draw { seed: 7, row: 0, draw });
            let by_hand = sampler.sample(&logits, values.last().map_or(step, |value| step.feedback(*value))).unwrap();
            assert_eq!(
                sequence.sample(&logits, None).unwrap(),
                by_hand,
                "{config:?}: the sequence and the sampler must draw the same token from the same feedback"
            );
            values.push(by_hand.feedback);
        }
        assert!(
            values.windows(2).any(|pair| pair[0] != pair[1]),
            "{config:?}: the feedback must change during the sequence, got {values:?}"
        );

        let whole = sequence.output().to_vec();
        sequence.truncate(5);
        while sequence.output().len() < 20 {
            let request = Request { sampler: &sampler, step: sequence.step(None) };
            let sampled = sample_rows(Rows::new(&logits, 1, 8).unwrap(), None, &[request]).unwrap();
            sequence.accept_sampled(sampled[0].as_ref().unwrap());
        }
        assert_eq!(
            sequence.output(),
            whole,
            "{config:?}: a sequence that is truncated and sampled again must give the same output"
        );

        let before = sampler.distribution(&logits, None, sequence.step(None)).unwrap();
        sequence.accept(0);
        let after = sampler.distribution(&logits, None, sequence.step(None)).unwrap();
        assert_eq!(
            before, after,
            "{config:?}: accepting a token that was not sampled must not change the distribution"
        );
    }
}

/// Checks that the mean surprise of a long sequence is near tau. The logits follow a power law, which version 1 of
/// mirostat assumes.
#[test]
fn mirostat_reaches_its_surprise() {
    let logits: Vec<f32> = (1..=2000).map(|i| -1.1 * (i as f32).ln()).collect();
    for (version, tau) in [(1, 3.0), (1, 5.0), (2, 3.0), (2, 5.0)] {
        let sampler = SamplerConfig::default().mirostat(version, tau, 0.1).validate().unwrap();
        let mut sequence = sampler.sequence(3, &[]);
        let steps = 4000;
        let surprises = (0..steps).map(|_| -sequence.sample(&logits, None).unwrap().logprob / std::f64::consts::LN_2);
        let mean = surprises.sum::<f64>() / f64::from(steps);
        // Each step changes `mu` by `eta * (tau - surprise)`. From the first to the last step, `mu` changes by at most
        // about 20, so the differences `tau - surprise` sum to at most `20 / eta`.
        assert!(
            (mean - tau).abs() < 20.0 / 0.1 / f64::from(steps),
            "mirostat {version}: expected a mean surprise of about {tau} bits, got {mean} bits"
        );
    }
}

#[test]
fn mirostat_of_llama_cpp_replaces_filters_and_penalties() {
    let logits = [2.0f32, 1.5, 1.0, 0.0, -1.0];
    let step = Step::from(Draw::default()).output(&[0, 1, 0]);
    let alone = SamplerConfig::default().profile(Profile::LlamaCpp).temperature(0.8).mirostat(2, 3.0, 0.1);
    let filtered = alone.top_k(1).top_p(0.1).min_keep(4).repetition_penalty(3.0).dry(1.0, 1.75, 1);
    let distribution = |c: SamplerConfig| c.validate()?.distribution(&logits, None, step);
    assert_eq!(distribution(filtered), distribution(alone));
    assert!(matches!(distribution(filtered.top_p(f64::NAN)), Err(Error::InvalidArgument { .. })));

    let strict = alone.profile(Profile::Evenkeel);
    for (config, named) in [
        (strict.top_k(2), "top_k is 2"),
        (strict.dynamic_temperature(0.5, 1.0), "dynamic_temperature is 0.5"),
        (strict.min_keep(2), "min_keep is 2"),
        (strict.adaptive_p(0.5, 0.9), "adaptive_target is 0.5"),
    ] {
        let message = config.validate().unwrap_err().to_string();
        assert!(
            message.contains(named) && message.contains("left unset with mirostat"),
            "mirostat with an excluded option: the error must contain {named:?}, got {message}"
        );
    }
    assert_ne!(distribution(strict.repetition_penalty(3.0)), distribution(strict));
}

/// Checks that tokens with a surprise of exactly `mu` are kept. Also checks logits so far apart that mirostat's k is 1.
#[test]
fn edges_of_mirostat() {
    for bits in 1..14 {
        let mu = f64::from(bits);
        let sampler = SamplerConfig::default().mirostat(2, mu / 2.0, 0.1).validate().unwrap();
        let kept = sampler.sample(&vec![1.5f32; 1 << bits], Draw::default()).unwrap().kept;
        assert_eq!(kept, 1 << bits, "version 2 of mirostat with mu = {mu} bits must keep all 2^{bits} equal logits");
    }
    for (temperature, logits) in [(1e-307, [20.0, 0.0]), (1.0, [1e308, -1e308])] {
        let sampler = SamplerConfig::default().temperature(temperature).mirostat(1, 5.0, 0.1).validate().unwrap();
        let kept = sampler.sample(&logits, Draw::default()).unwrap().kept;
        assert_eq!(kept, 1, "{logits:?}, temperature {temperature}: version 1 of mirostat must keep one token");
    }
    // The fixed-point probability of the second token is 0. It is removed even if 2^-mu underflows.
    let sampler = SamplerConfig::default().mirostat(2, 5.0, 0.1).validate().unwrap();
    for mu in [1000.0, 1100.0, f64::MAX] {
        let kept = sampler.sample(&[0.0f32, -100.0], Step::from(Draw::default()).feedback(mu)).unwrap().kept;
        assert_eq!(kept, 1, "mirostat 2 with mu = {mu} must remove a token whose fixed-point probability is 0");
    }
}

#[test]
fn feedback_is_finite() {
    let sampler = SamplerConfig::default().mirostat(2, f64::MAX, f64::MAX).validate().unwrap();
    let mut sequence = sampler.sequence(0, &[]);
    for _ in 0..5 {
        assert!(sequence.sample(&[1.0f32, 0.0], None).unwrap().feedback.is_finite());
    }
    let step = Step::from(Draw::default()).feedback(f64::NAN);
    let message = sampler.sample(&[1.0f32, 0.0], step).unwrap_err().to_string();
    assert!(
        message.contains("feedback is NaN in row 0; it must be finite"),
        "sample with a NaN feedback: the error must name row 0, got {message}"
    );
    let without = SamplerConfig::default().validate().unwrap();
    assert!(without.sample(&[1.0f32, 0.0], step).is_ok(), "a sampler without mirostat must ignore the feedback");
}

/// Checks that a sampler without log-probabilities draws the same tokens, and returns the same feedback and the same
/// distribution.
fn draws_do_not_depend_on_logprob<E: Bits>() {
    let mut rng = generate::rng("sample, without log-probabilities");
    for _ in 0..400 {
        let len = rng.random_range(1..3000);
        let logits = generate::bell::<E>(&mut rng, len, 1.0, 3.0);
        let plain = SamplerConfig::default().temperature(rng.random_range(0.0..2.0));
        let config = match rng.random_range(0..5) {
            0 => plain,
            1 => plain.top_k(rng.random_range(1..50)),
            2 => plain.top_p(0.9).repetition_penalty(1.5),
            _ => config(&mut rng),
        };
        let draw = Draw { seed: rng.random(), row: 0, draw: 0 };
        let step = Step::from(draw).output(&[0]).feedback(rng.random_range(0.0..8.0));
        let [with, without] = [true, false].map(|logprob| config.logprob(logprob).validate().unwrap());
        let [expected, got] = [&with, &without].map(|sampler| sampler.sample(&logits, step).unwrap());
        let numbers = |sampled: Sampled| (sampled.token, sampled.kept, sampled.feedback.to_bits());
        assert_eq!(numbers(got), numbers(expected), "sample with {config:?}, {len} tokens, without log-probabilities");
        assert!(expected.logprob <= 0.0 && got.logprob.is_nan(), "{config:?}: {expected:?}, {got:?}");
        assert_eq!(without.sample(&logits, step), Ok(got), "equal draws without log-probabilities must be equal");
        let [expected, got] = [with, without].map(|sampler| sampler.distribution(&logits, None, step).unwrap());
        assert_eq!(got, expected, "distribution with {config:?}, {len} tokens, without log-probabilities");
    }
}
