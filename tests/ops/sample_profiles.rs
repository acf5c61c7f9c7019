//! Compares each profile of the sampler with its engine's definition, which the reference computes by sorting the
//! vocabulary. Tests random rows and parameters, and cases that engines define differently.

use crate::support::generate::{self, Bits};
use crate::support::implementations::each_level;
use evenkeel::reference::{self, Support};
use evenkeel::{Draw, Element, Error, Profile, SamplerConfig, Step};
use proptest::prelude::*;
use rand::RngExt;

for_each_dtype!(support_is_that_of_the_engine, long_rows);

/// Number of rows per type; more than 100,000 for the four types together.
const CASES: u32 = 26_000;

#[derive(Clone, Debug)]
struct Parameters {
    temperature: f64,
    dynamic: Option<(f64, f64)>,
    top_k: Option<usize>,
    shares: [Option<f64>; 5],
    sigma: Option<f64>,
    xtc: Option<f64>,
    min_keep: usize,
}

impl Parameters {
    /// Returns a configuration with the parameters that the profile supports.
    fn of(&self, profile: Profile) -> SamplerConfig {
        use Profile::{Evenkeel, HuggingFace, LlamaCpp, Vllm};
        let has = |profiles: &[Profile]| profiles.contains(&profile);
        let mut c = SamplerConfig::default().profile(profile).temperature(self.temperature);
        let [top_p, min_p, typical_p, epsilon, eta] = self.shares;
        c.top_k = self.top_k;
        c.top_p = top_p;
        c.min_p = min_p.filter(|_| has(&[Evenkeel, HuggingFace, LlamaCpp, Vllm]));
        c.typical_p = typical_p.filter(|_| has(&[Evenkeel, HuggingFace, LlamaCpp]));
        c.epsilon_cutoff = epsilon.filter(|_| has(&[Evenkeel, HuggingFace]));
        c.eta_cutoff = eta.filter(|_| has(&[Evenkeel, HuggingFace]));
        c.top_n_sigma = self.sigma.filter(|_| has(&[Evenkeel, LlamaCpp]));
        if has(&[Evenkeel, LlamaCpp]) {
            if let Some((range, exponent)) = self.dynamic {
                c = c.dynamic_temperature(range, exponent);
            }
            if let Some(threshold) = self.xtc {
                c = c.xtc(1.0, threshold);
            }
        }
        c.min_keep = if has(&[Evenkeel, HuggingFace, LlamaCpp]) { self.min_keep } else { 1 };
        c
    }
}

fn sometimes<T: Clone + std::fmt::Debug + 'static>(
    value: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<Option<T>> {
    prop_oneof![2 => Just(None), 1 => value.prop_map(Some)].boxed()
}

fn parameters() -> impl Strategy<Value = Parameters> {
    let share = || sometimes(prop_oneof![0.001..0.999f64, 1e-6..1e-3f64]);
    (
        prop_oneof![Just(1.0), 0.05..3.0f64, Just(1e-3), Just(50.0)],
        sometimes((0.01..2.0f64, 0.0..3.0f64)),
        sometimes(1..40usize),
        [share(), share(), share(), share(), share()],
        sometimes(0.05..4.0f64),
        sometimes(0.01..0.5f64),
        prop_oneof![4 => Just(1usize), 1 => 2..6usize],
    )
        .prop_map(|(temperature, dynamic, top_k, shares, sigma, xtc, min_keep)| Parameters {
            temperature,
            dynamic,
            top_k,
            shares,
            sigma,
            xtc,
            min_keep,
        })
}

/// Generates rows of four kinds: arbitrary values, values on a coarse grid, few values with many ties, or rows with
/// masked tokens.
fn row() -> impl Strategy<Value = Vec<f64>> {
    let plain = prop::collection::vec(-12.0..12.0f64, 1..48);
    let grid = prop::collection::vec((-64..64i32).prop_map(|i| f64::from(i) / 8.0), 1..48);
    let ties = prop::collection::vec((0..4i32).prop_map(f64::from), 1..48);
    let masked = prop::collection::vec(prop_oneof![Just(f64::NEG_INFINITY), -4.0..4.0f64], 1..48);
    prop_oneof![plain, grid, ties, masked].prop_filter("a token", |row| row.iter().any(|z| z.is_finite()))
}

/// Returns the tokens that the engine's filters keep, or `None` if rounding may change the kept tokens. The sampler's
/// masses are multiples of 2^-45, computed from exponentials with errors of up to 0.69 ULP of f32.
fn expected<E: Element>(logits: &[E], config: &SamplerConfig) -> Option<Support> {
    let at = |sign: f64| {
        let moved = |p: Option<f64>| p.map(|p| (p * (1.0 + sign * 1e-7) + sign * 1e-13).clamp(0.0, 1.0));
        let mut c = *config;
        c.top_p = moved(c.top_p);
        c.min_p = moved(c.min_p);
        c.typical_p = moved(c.typical_p);
        c.epsilon_cutoff = moved(c.epsilon_cutoff);
        c.eta_cutoff = moved(c.eta_cutoff);
        c.top_n_sigma = c.top_n_sigma.map(|n| n * (1.0 + sign * 1e-9));
        c.xtc_threshold *= 1.0 + sign * 1e-7;
        reference::sample(logits, &c).unwrap()
    };
    let support = at(0.0);
    [-1.0, 1.0].into_iter().all(|sign| at(sign).tokens == support.tokens).then_some(support)
}

fn assert_agrees<E: Element>(logits: &[E], config: SamplerConfig, expected: &Support) {
    let got = config.validate().unwrap().distribution(logits, None, Draw::default()).unwrap();
    assert_eq!(got.tokens(), expected.tokens, "{config:?}: the filters must keep the same tokens as the reference");
    let probs = got.probs().unwrap();
    for (token, p) in expected.tokens.iter().zip(&expected.probs) {
        let got = probs[*token as usize];
        assert!(
            (got - p).abs() <= 1e-6 * p + 1e-290,
            "sample with {config:?}: expected probability {p:e} for token {token}, got {got:e}"
        );
    }
}

fn support_is_that_of_the_engine<E: Bits>() {
    let profile = (0..Profile::ALL.len()).prop_map(|i| Profile::ALL[i]);
    let strategy = (row(), parameters(), profile);
    let mut runner = proptest::test_runner::TestRunner::new(generate::cases(CASES));
    let (close, compared) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let result = runner.run(&strategy, |(row, parameters, profile)| {
        let logits: Vec<E> = row.iter().map(|&z| E::from_wide(z)).collect();
        let config = parameters.of(profile);
        match expected(&logits, &config) {
            None => close.set(close.get() + 1),
            Some(expected) => {
                compared.set(compared.get() + 1);
                assert_agrees(&logits, config, &expected);
            }
        }
        Ok(())
    });
    let (close, compared) = (close.get(), compared.get());
    println!("{}: {compared} rows compared, {close} too close to call", E::DTYPE);
    result.unwrap();
    assert!(
        close * 20 < compared,
        "sample: at most 1 in 20 rows may be too close to the cut of a filter, got {close} of {}",
        compared + close
    );
}

/// Checks vocabularies as large as in models, on every instruction set.
fn long_rows<E: Bits>() {
    let mut rng = generate::rng("sample, long rows");
    for &profile in Profile::ALL {
        for (len, spread) in [(4099, 3.0), (131_072, 1.0), (131_072, 4.0)] {
            let logits = generate::bell::<E>(&mut rng, len, 0.0, spread);
            let parameters = Parameters {
                temperature: rng.random_range(0.5..2.0),
                dynamic: None,
                top_k: rng.random_bool(0.3).then_some(200),
                shares: [
                    Some(rng.random_range(0.2..0.99)),
                    rng.random_bool(0.5).then_some(0.01),
                    rng.random_bool(0.5).then(|| rng.random_range(0.2..0.99)),
                    None,
                    rng.random_bool(0.5).then_some(1e-4),
                ],
                sigma: rng.random_bool(0.5).then_some(3.0),
                xtc: None,
                min_keep: 1,
            };
            let config = parameters.of(profile);
            if let Some(expected) = expected(&logits, &config) {
                each_level(|_| assert_agrees(&logits, config, &expected));
            }
        }
    }
}

/// Test case: name, logits, parameters, and the kept tokens for each profile that accepts the parameters.
type Case<'a> = (&'a str, &'a [f64], SamplerConfig, &'a [(&'a [Profile], &'a [u32])]);

/// Checks which tokens each engine's filters keep, in cases where engines differ.
#[test]
fn where_engines_differ() {
    use Profile::{Candle, Evenkeel, HuggingFace, LlamaCpp, Vllm};
    let c = SamplerConfig::default();
    let steps: Vec<f64> = (0..10).map(|i| f64::from(9 - i) / 10.0).collect();
    let four = [2.0, 1.0, 0.0, -1.0];
    let half = [0.0, -std::f64::consts::LN_2];
    let cases: &[Case<'_>] = &[
        (
            "equal logits at the end of top-p",
            &[0.0; 4],
            c.top_p(0.5),
            &[(&[Evenkeel, LlamaCpp, Candle], &[0, 1]), (&[HuggingFace, Vllm], &[2, 3])],
        ),
        (
            "logits equal to the k-th",
            &[3.0, 1.0, 1.0, 0.0],
            c.top_k(2),
            &[(&[Evenkeel, LlamaCpp, Candle], &[0, 1]), (&[HuggingFace, Vllm], &[0, 1, 2])],
        ),
        (
            "top-p after top-k, 0.4",
            &steps,
            c.top_k(4).top_p(0.4),
            &[(&[Evenkeel, HuggingFace, Vllm, LlamaCpp], &[0, 1]), (&[Candle], &[0, 1, 2])],
        ),
        (
            "top-p after top-k, 0.5",
            &steps,
            c.top_k(4).top_p(0.5),
            &[(&[Evenkeel, HuggingFace, Vllm, LlamaCpp], &[0, 1]), (&[Candle], &[0, 1, 2, 3])],
        ),
        (
            "top-p after top-k, 0.6",
            &steps,
            c.top_k(4).top_p(0.6),
            &[(&[Evenkeel, HuggingFace, Vllm, LlamaCpp], &[0, 1, 2]), (&[Candle], &[0, 1, 2, 3])],
        ),
        ("min-p keeps its bound", &half, c.min_p(0.5), &[(&[Evenkeel, HuggingFace, Vllm, LlamaCpp], &[0, 1])]),
        (
            "temperature first or last",
            &four,
            c.temperature(2.0).top_p(0.8),
            &[(&[Evenkeel, HuggingFace, Vllm, Candle], &[0, 1, 2]), (&[LlamaCpp], &[0, 1])],
        ),
        (
            "min-p before or after top-p",
            &[3.0, 2.0, 1.0, 0.5, 0.0],
            c.min_p(0.1).top_p(0.9),
            &[(&[Evenkeel, HuggingFace, LlamaCpp], &[0, 1, 2]), (&[Vllm], &[0, 1])],
        ),
        ("typical 0.2", &four, c.typical_p(0.2), &[(&[Evenkeel, HuggingFace, LlamaCpp], &[1])]),
        ("typical 0.5", &four, c.typical_p(0.5), &[(&[Evenkeel, HuggingFace, LlamaCpp], &[0, 1])]),
        ("typical 0.9", &four, c.typical_p(0.9), &[(&[Evenkeel, HuggingFace, LlamaCpp], &[0, 1, 2])]),
        ("epsilon 0.3", &four, c.epsilon_cutoff(0.3), &[(&[Evenkeel, HuggingFace], &[0])]),
        ("eta 0.3", &four, c.eta_cutoff(0.3), &[(&[Evenkeel, HuggingFace], &[0, 1])]),
        ("top-n-sigma 1", &four, c.top_n_sigma(1.0), &[(&[Evenkeel, LlamaCpp], &[0, 1])]),
        ("XTC 0.2", &four, c.xtc(1.0, 0.2), &[(&[Evenkeel, LlamaCpp], &[1, 2, 3])]),
        ("temperature 0", &[1.0, 3.0, 3.0], c.temperature(0.0), &[(&[Evenkeel, Vllm, LlamaCpp, Candle], &[1])]),
        ("top-k 0", &four, c.top_k(0), &[(&[HuggingFace, Vllm, LlamaCpp], &[0, 1, 2, 3])]),
        ("top-p 0", &four, c.top_p(0.0), &[(&[HuggingFace, LlamaCpp], &[0]), (&[Candle], &[0, 1, 2, 3])]),
        ("top-p 1.5", &four, c.top_p(1.5), &[(&[LlamaCpp, Candle], &[0, 1, 2, 3])]),
        ("XTC 0.6", &four, c.xtc(1.0, 0.6), &[(&[LlamaCpp], &[0, 1, 2, 3])]),
        ("min-p 1.5", &four, c.min_p(1.5), &[(&[LlamaCpp], &[0])]),
        ("temperature -1", &four, c.temperature(-1.0), &[(&[LlamaCpp, Candle], &[0])]),
        // vLLM raises the temperature to 0.01, so the second token still counts. llama.cpp applies all filters before
        // the temperature.
        (
            "temperature 0.001",
            &[0.0, -0.01],
            c.temperature(0.001).top_p(0.75),
            &[(&[Evenkeel, HuggingFace, Candle], &[0]), (&[Vllm, LlamaCpp], &[0, 1])],
        ),
        ("at least 3", &four, c.top_p(0.1).min_keep(3), &[(&[Evenkeel, HuggingFace, LlamaCpp], &[0, 1, 2])]),
    ];
    for (name, logits, config, outcomes) in cases {
        let mut refused: Vec<Profile> = Profile::ALL.to_vec();
        for (profiles, kept) in *outcomes {
            for &profile in *profiles {
                refused.retain(|p| *p != profile);
                let config = config.profile(profile);
                let expected = reference::sample(logits, &config).unwrap();
                assert_eq!(
                    expected.tokens, *kept,
                    "{name}, {profile:?}: the filters of the reference must keep the tokens {kept:?}"
                );
                each_level(|level| {
                    let sampler = config.validate().unwrap();
                    let got = sampler.distribution(logits, None, Draw::default()).unwrap();
                    assert_eq!(
                        got.tokens(),
                        *kept,
                        "{name}, {profile:?}, {level}: the filters must keep the tokens {kept:?}"
                    );
                });
            }
        }
        for profile in refused {
            let refused = config.profile(profile).validate();
            assert!(
                matches!(refused, Err(Error::InvalidArgument { .. })),
                "{name}, {profile:?}: expected an InvalidArgument error, got {refused:?}"
            );
        }
    }
}

#[test]
fn refusals_name_what_a_profile_has_not() {
    let refused = |config: SamplerConfig| config.validate().unwrap_err().to_string();
    let hf = SamplerConfig::default().profile(Profile::HuggingFace);
    let expected = "sample: xtc_probability is 0.5; it must be left unset: the hf profile does not support it";
    assert_eq!(refused(hf.xtc(0.5, 0.1)), expected);
    assert_eq!(refused(hf.temperature(0.0)), "sample: temperature is 0; it must be finite and above 0");
    assert_eq!(refused(hf.top_p(-0.5)), "sample: top_p is -0.5; it must be not negative");
    let own = SamplerConfig::default();
    for (config, expected) in [
        (own.typical_p(0.0), "typical_p is 0; it must be in (0, 1]"),
        (own.top_n_sigma(0.0), "top_n_sigma is 0; it must be finite and above 0"),
        (own.epsilon_cutoff(1.0), "epsilon_cutoff is 1; it must be in [0, 1)"),
        (own.eta_cutoff(f64::NAN), "eta_cutoff is NaN; it must be in [0, 1)"),
        (own.xtc(1.5, 0.1), "xtc_probability is 1.5; it must be in [0, 1]"),
        (own.xtc(0.5, 0.6), "xtc_threshold is 0.6; it must be in [0, 0.5]"),
        (own.dynamic_temperature(-1.0, 1.0), "dynamic_temperature is -1; it must be finite and not negative"),
        (own.dynamic_temperature(1.0, f64::NAN), "dynamic_exponent is NaN; it must be finite and not negative"),
        (own.min_keep(0), "min_keep is 0; it must be at least 1"),
        (own.repetition_penalty(0.0), "repetition_penalty is 0; it must be finite and above 0"),
        (own.presence_penalty(f64::INFINITY), "presence_penalty is inf; it must be finite"),
        (own.frequency_penalty(f64::NAN), "frequency_penalty is NaN; it must be finite"),
        (own.penalty_window(0), "penalty_window is 0; it must be at least 1"),
        (own.dry(-1.0, 2.0, 2), "dry_multiplier is -1; it must be finite and not negative"),
        (own.dry(1.0, 0.5, 2), "dry_base is 0.5; it must be finite and at least 1"),
        (own.dry_window(0), "dry_window is 0; it must be at least 1"),
    ] {
        assert_eq!(refused(config), format!("sample: {expected}"));
    }
    for &profile in Profile::ALL {
        assert_eq!(Profile::from_name(profile.name()), Some(profile));
        assert!(SamplerConfig::default().profile(profile).validate().is_ok(), "{profile:?} must have valid defaults");
    }
    assert_eq!(Profile::from_name("other"), None);
}

/// Returns the tokens of a step's distribution in decreasing order of probability.
fn order_of(logits: &[f32], config: SamplerConfig, step: Step<'_>) -> Vec<u32> {
    let sampler = config.validate().unwrap();
    let distribution = sampler.distribution(logits, None, step).unwrap();
    let mut order: Vec<(u32, f64)> = distribution.tokens().iter().copied().zip(distribution.logprobs()).collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    order.into_iter().map(|(token, _)| token).collect()
}

/// Returns the adjusted logit of token 0. The logit of token 1 is 0 and is not adjusted, so the adjusted logit is the
/// difference between the log-probabilities of tokens 0 and 1.
fn logit_of_first(logit: f32, config: SamplerConfig, step: Step<'_>) -> f64 {
    let distribution = config.validate().unwrap().distribution(&[logit, 0.0], None, step).unwrap();
    let logprobs: Vec<f64> = distribution.logprobs().collect();
    logprobs[0] - logprobs[1]
}

#[test]
fn penalties() {
    let all = SamplerConfig::default().repetition_penalty(2.0).frequency_penalty(0.5).presence_penalty(0.25);
    let near = |got: f64, expected: f64| {
        assert!((got - expected).abs() < 1e-12, "expected the adjusted logit {expected}, got {got}")
    };
    let twice = Step::default().output(&[0, 0]);
    // The repetition penalty divides the logit of 2 by 2. The frequency penalty subtracts 2 * 0.5, and the presence
    // penalty subtracts 0.25.
    for profile in [Profile::Evenkeel, Profile::Vllm, Profile::LlamaCpp] {
        near(logit_of_first(2.0, all.profile(profile), twice), -0.25);
        near(logit_of_first(-2.0, all.profile(profile), twice), -4.0 - 1.25);
    }
    let repetition = SamplerConfig::default().repetition_penalty(2.0);
    for &profile in Profile::ALL {
        let config = repetition.profile(profile);
        near(logit_of_first(2.0, config, twice), 1.0);
        near(logit_of_first(2.0, config, Step::default().prompt(&[0])), 1.0);
        near(logit_of_first(2.0, config, Step::default()), 2.0);
    }
    // Only llama.cpp applies the frequency and presence penalties to tokens of the prompt.
    let prompt = Step::default().prompt(&[0]);
    near(logit_of_first(2.0, all, prompt), 1.0);
    near(logit_of_first(2.0, all.profile(Profile::LlamaCpp), prompt), 0.25);
    // Tokens before the window do not count.
    let old = Step::default().prompt(&[0]).output(&[1, 1]);
    near(logit_of_first(2.0, repetition.penalty_window(2), old), 2.0);
    near(logit_of_first(2.0, repetition.penalty_window(3), old), 1.0);
    // Each operation is rounded to f32, as in the engines.
    near(logit_of_first(1.0, SamplerConfig::default().repetition_penalty(1.1), twice), f64::from(1.0f32 / 1.1f32));
    // Penalties keep finite logits finite, and masked tokens masked.
    let huge = SamplerConfig::default().repetition_penalty(1e-300).frequency_penalty(f64::MAX);
    assert_eq!(order_of(&[1.0, f32::MAX, f32::NEG_INFINITY], huge, Step::default().output(&[0, 1, 2])).len(), 2);
}

#[test]
fn what_a_step_allows() {
    let config = SamplerConfig::default();
    let logits: Vec<f32> = (0..70).map(|i| i as f32 / 70.0).collect();
    let words = [1 << 3, 1 << 31, 1 << 5];
    assert_eq!(order_of(&logits, config, Step::default().allowed(&words)), [69, 63, 3]);
    let few = config.validate().unwrap().sample(&logits, Step::default().allowed(&words[..2])).unwrap_err();
    assert_eq!(few.to_string(), "sample: allowed has 2 words; expected 3 words for 70 tokens");
    let none = config.validate().unwrap().sample(&logits, Step::default().allowed(&[0; 3])).unwrap_err();
    assert_eq!(none, Error::empty_support("sample", 0, 70));

    let bias = [(1, 0.75), (2, f32::NEG_INFINITY)];
    assert_eq!(order_of(&[1.0, 0.5, 3.0], config, Step::default().bias(&bias)), [1, 0]);
    for (bias, expected) in [
        (
            (9, 1.0),
            "sample: bias is a list with token 9 in row 0; it must be a list of tokens below 3, the vocabulary size",
        ),
        ((1, f32::NAN), "sample: bias is NaN for token 1 in row 0; it must be finite or -inf"),
    ] {
        let refused = config.validate().unwrap().sample(&[0.0f32; 3], Step::default().bias(&[bias])).unwrap_err();
        assert_eq!(refused.to_string(), expected);
        assert_eq!(refused.row(), Some(0));
    }

    let words = [vec![0], vec![4, 5, 1], vec![3, 2]];
    let step = Step::default().prompt(&[3, 4]).output(&[5]).bad_words(&words);
    assert_eq!(order_of(&[4.0, 3.0, 2.0, 1.0, 0.5, 0.25], config, step), [2, 3, 4, 5]);
    // vLLM checks bad words only against the tokens that it drew itself.
    assert_eq!(order_of(&[4.0, 3.0, 2.0, 1.0, 0.5, 0.25], config.profile(Profile::Vllm), step), [1, 2, 3, 4, 5]);

    for (step, name) in [(Step::default().prompt(&[7]), "prompt"), (Step::default().output(&[7]), "output")] {
        let refused = config.repetition_penalty(2.0).validate().unwrap().sample(&[0.0f32; 7], step).unwrap_err();
        let expected = format!(
            "sample: {name} is a list with token 7 in row 0; it must be a list of tokens below 7, the vocabulary size"
        );
        assert_eq!(refused.to_string(), expected);
    }
}

/// Checks that llama.cpp's typical sampling ends at the first token at which the mass exceeds p, also if p times the
/// mass is not an integer.
#[test]
fn typical_mass_exceeds_p() {
    // The f64 nearest to 0.3 is below 0.3, so three of ten equal tokens exceed it. Two of four equal 0.5 and do not.
    for (count, p, kept) in [(10, 0.3, 3), (3, 1.0 / 3.0, 1), (4, 0.5, 3)] {
        let sampler = SamplerConfig::default().profile(Profile::LlamaCpp).typical_p(p).validate().unwrap();
        let got = sampler.sample(&vec![0.0f32; count], Draw::default()).unwrap().kept;
        assert_eq!(got, kept, "typical_p {p} of {count} equal logits: expected {kept} kept tokens, got {got}");
    }
}

/// Checks that an XTC threshold of -0 excludes the same tokens as 0.
#[test]
fn a_threshold_of_negative_zero() {
    for threshold in [0.0, -0.0] {
        let sampler = SamplerConfig::default().xtc(1.0, threshold).validate().unwrap();
        let token = sampler.sample(&[0.0f32, -100.0], Draw::default()).unwrap().token;
        assert_eq!(token, 1, "XTC with threshold {threshold:?} must exclude token 0");
    }
}

/// Checks that XTC excludes tokens in the requested share of the draws, within 6 standard deviations. Whether a draw
/// excludes tokens depends on the number of the draw.
#[test]
fn top_choices_are_excluded_as_often_as_asked() {
    const DRAWS: u64 = 20_000;
    for probability in [0.1, 0.5, 0.9] {
        let sampler = SamplerConfig::default().xtc(probability, 0.2).validate().unwrap();
        let excluded = (0..DRAWS).filter(|&draw| {
            let draw = Draw { seed: 3, row: 1, draw };
            !sampler.distribution(&[2.0f32, 1.0, 0.0, -1.0], None, draw).unwrap().tokens().contains(&0)
        });
        let (excluded, expected) = (excluded.count() as f64, probability * DRAWS as f64);
        let off = (excluded - expected).abs() / (expected * (1.0 - probability)).sqrt();
        assert!(
            off < 6.0,
            "XTC with probability {probability}: expected about {expected} of {DRAWS} draws to exclude token 0, \
             got {excluded}"
        );
    }
}

#[test]
fn parameters_are_read_and_written() {
    let config = SamplerConfig::default().profile(Profile::HuggingFace).top_k(40).top_p(0.9).temperature(0.7);
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<SamplerConfig>(&text).unwrap(), config);
    let short = r#"{"profile":"llama_cpp","min_p":0.05}"#;
    let expected = SamplerConfig::default().profile(Profile::LlamaCpp).min_p(0.05);
    assert_eq!(serde_json::from_str::<SamplerConfig>(short).unwrap(), expected);
    let unknown = serde_json::from_str::<SamplerConfig>(r#"{"topp":0.9}"#).unwrap_err();
    assert!(
        unknown.to_string().contains("unknown field `topp`"),
        "the unknown field topp: the error must contain `unknown field`, got {unknown}"
    );
    for &profile in Profile::ALL {
        assert_eq!(serde_json::to_value(profile).unwrap(), profile.name());
    }
}
