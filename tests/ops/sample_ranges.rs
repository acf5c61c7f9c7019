//! Tests of parameter ranges: for each profile of the sampler, the values that it accepts, rejects, ignores or
//! replaces.

use evenkeel::{Draw, Error, Profile, SamplerConfig, Step};

/// Effect of a parameter value on the distribution.
#[derive(Clone, Copy, Debug)]
enum Meaning {
    /// The configuration is rejected.
    Refused,
    /// The value has no effect.
    Off,
    /// The tested value has the same effect as the value given here.
    As(f64),
    /// The value changes the distribution.
    Acts,
}
use Meaning::{Acts, As, Off, Refused};

/// Name and setter of a parameter. A setter also turns on the filter or penalty that the parameter belongs to.
type Parameter = (&'static str, fn(SamplerConfig, f64) -> SamplerConfig);

const PARAMETERS: &[Parameter] = &[
    ("temperature", |c, v| c.temperature(v)),
    ("dynamic_temperature", |c, v| c.dynamic_temperature(v, 1.0)),
    ("dynamic_exponent", |c, v| c.dynamic_temperature(0.5, v)),
    ("top_k", |c, v| c.top_k(v as usize)),
    ("top_p", |c, v| c.top_p(v)),
    ("min_p", |c, v| c.min_p(v)),
    ("typical_p", |c, v| c.typical_p(v)),
    ("top_n_sigma", |c, v| c.top_n_sigma(v)),
    ("epsilon_cutoff", |c, v| c.epsilon_cutoff(v)),
    ("eta_cutoff", |c, v| c.eta_cutoff(v)),
    ("xtc_probability", |c, v| c.xtc(v, 0.1)),
    ("xtc_threshold", |c, v| c.xtc(1.0, v)),
    ("min_keep", |c, v| c.min_keep(v as usize)),
    ("repetition_penalty", |c, v| c.repetition_penalty(v)),
    ("presence_penalty", |c, v| c.presence_penalty(v)),
    ("frequency_penalty", |c, v| c.frequency_penalty(v)),
    ("dry_multiplier", |c, v| c.dry(v, 1.75, 1)),
    ("dry_base", |c, v| c.dry(1.0, v, 1)),
    ("mirostat", |c, v| c.mirostat(v as u32, 1.0, 0.1)),
    ("mirostat_tau", |c, v| c.mirostat(2, v, 0.1)),
    ("mirostat_eta", |c, v| c.mirostat(2, 1.0, v)),
    ("adaptive_target", |c, v| c.adaptive_p(v, 0.9)),
    ("adaptive_decay", |c, v| c.adaptive_p(0.5, v)),
];

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;

/// Parameters, each with its name, its test values and the effects of these values. The parameters are in the order of
/// the profile's documentation. A parameter that the engine lacks accepts only its neutral value.
type Ranges = &'static [(&'static str, &'static [(f64, Meaning)])];

const EVENKEEL: Ranges = &[
    ("temperature", &[(-1.0, Refused), (1.0, Off), (0.5, Acts), (0.0, Acts), (INF, Refused), (NAN, Refused)]),
    ("dynamic_temperature", &[(-0.5, Refused), (0.0, Off), (0.5, Acts), (INF, Refused), (NAN, Refused)]),
    ("dynamic_exponent", &[(-1.0, Refused), (0.0, Acts), (2.0, Acts), (INF, Refused), (NAN, Refused)]),
    ("top_k", &[(0.0, Refused), (1.0, Acts), (5.0, Off), (1e18, Off)]),
    ("top_p", &[(-0.5, Refused), (0.0, Refused), (0.5, Acts), (1.0, Off), (1.5, Refused), (NAN, Refused)]),
    ("min_p", &[(-0.5, Refused), (0.0, Off), (0.5, Acts), (1.0, Acts), (1.5, Refused), (NAN, Refused)]),
    ("typical_p", &[(0.0, Refused), (0.5, Acts), (1.0, Off), (1.5, Refused), (NAN, Refused)]),
    ("top_n_sigma", &[(-1.0, Refused), (0.0, Refused), (1.0, Acts), (INF, Refused), (NAN, Refused)]),
    ("epsilon_cutoff", &[(-0.5, Refused), (0.0, Off), (0.1, Acts), (1.0, Refused), (NAN, Refused)]),
    ("eta_cutoff", &[(-0.5, Refused), (0.0, Off), (0.3, Acts), (1.0, Refused), (NAN, Refused)]),
    ("xtc_probability", &[(-0.5, Refused), (0.0, Off), (1.0, Acts), (1.5, Refused), (NAN, Refused)]),
    ("xtc_threshold", &[(-0.5, Refused), (0.0, Acts), (0.2, Acts), (0.5, Off), (0.6, Refused), (NAN, Refused)]),
    ("min_keep", &[(0.0, Refused), (1.0, Off), (3.0, Off)]),
    ("repetition_penalty", &[(0.0, Refused), (-1.0, Refused), (1.0, Off), (2.0, Acts), (INF, Refused), (NAN, Refused)]),
    ("presence_penalty", &[(-3.0, Acts), (0.0, Off), (3.0, Acts), (INF, Refused), (NAN, Refused)]),
    ("frequency_penalty", &[(-3.0, Acts), (0.0, Off), (3.0, Acts), (INF, Refused), (NAN, Refused)]),
    ("dry_multiplier", &[(-1.0, Refused), (0.0, Off), (1.0, Acts), (INF, Refused), (NAN, Refused)]),
    ("dry_base", &[(0.5, Refused), (1.0, Acts), (2.0, Acts), (INF, Refused), (NAN, Refused)]),
    ("mirostat", &[(0.0, Off), (1.0, Acts), (2.0, Acts), (3.0, Refused)]),
    ("mirostat_tau", &[(-1.0, Refused), (0.0, Acts), (1.0, Acts), (1e300, Off), (INF, Refused), (NAN, Refused)]),
    ("mirostat_eta", &[(-1.0, Refused), (0.0, Acts), (INF, Refused), (NAN, Refused)]),
    ("adaptive_target", &[(-1.0, Refused), (0.0, Acts), (0.5, Acts), (1.0, Acts), (1.5, Refused), (NAN, Refused)]),
    ("adaptive_decay", &[(-1.0, Refused), (0.0, Acts), (0.99, Acts), (1.0, Refused), (NAN, Refused)]),
];

/// Ranges in Hugging Face's library transformers. The constructors in `generation/logits_process.py` reject invalid
/// values. `generate` in `generation/utils.py` omits a filter if its value has no effect.
const HUGGING_FACE: Ranges = &[
    ("temperature", &[(-1.0, Refused), (0.0, Refused), (1.0, Off), (0.5, Acts), (NAN, Refused)]),
    ("dynamic_temperature", &[(0.0, Off), (0.5, Refused)]),
    ("top_k", &[(0.0, Off), (1.0, Acts), (1e18, Off)]),
    ("top_p", &[(-0.5, Refused), (0.0, Acts), (0.5, Acts), (1.0, Off), (1.5, Refused), (NAN, Refused)]),
    ("min_p", &[(-0.5, Refused), (0.0, Off), (0.5, Acts), (1.0, Acts), (1.5, Refused), (NAN, Refused)]),
    ("typical_p", &[(0.0, Refused), (0.5, Acts), (1.0, Off), (1.5, Refused), (NAN, Refused)]),
    ("top_n_sigma", &[(1.0, Refused)]),
    ("epsilon_cutoff", &[(-0.5, Refused), (0.0, Off), (0.1, Acts), (1.0, Refused), (NAN, Refused)]),
    ("eta_cutoff", &[(-0.5, Refused), (0.0, Off), (0.3, Acts), (1.0, Refused), (NAN, Refused)]),
    ("xtc_probability", &[(0.0, Off), (0.5, Refused)]),
    ("min_keep", &[(0.0, Refused), (1.0, Off), (3.0, Off)]),
    ("repetition_penalty", &[(0.0, Refused), (-1.0, Refused), (1.0, Off), (2.0, Acts), (NAN, Refused)]),
    ("presence_penalty", &[(0.0, Off), (1.0, Refused)]),
    ("frequency_penalty", &[(0.0, Off), (1.0, Refused)]),
    ("dry_multiplier", &[(0.0, Off), (1.0, Refused)]),
    ("mirostat", &[(0.0, Off), (1.0, Refused), (2.0, Refused)]),
    ("adaptive_target", &[(0.5, Refused)]),
];

/// Ranges in vLLM V1, from `SamplingParams._verify_args` and `__post_init__` in `vllm/sampling_params.py`.
const VLLM: Ranges = &[
    ("temperature", &[(-1.0, Refused), (1e-6, As(0.01)), (0.0, Acts), (1.0, Off), (2.5, Acts), (NAN, Refused)]),
    ("dynamic_temperature", &[(0.0, Off), (0.5, Refused)]),
    ("top_k", &[(0.0, Off), (1.0, Acts), (1e18, Off)]),
    ("top_p", &[(-0.5, Refused), (0.0, Refused), (0.5, Acts), (1.0, Off), (1.5, Refused), (NAN, Refused)]),
    ("min_p", &[(-0.5, Refused), (0.0, Off), (0.5, Acts), (1.0, Acts), (1.5, Refused), (NAN, Refused)]),
    ("typical_p", &[(0.5, Refused)]),
    ("top_n_sigma", &[(1.0, Refused)]),
    ("epsilon_cutoff", &[(0.1, Refused)]),
    ("eta_cutoff", &[(0.1, Refused)]),
    ("xtc_probability", &[(0.0, Off), (0.5, Refused)]),
    ("min_keep", &[(0.0, Refused), (1.0, Off), (3.0, Refused)]),
    ("repetition_penalty", &[(0.0, Refused), (-1.0, Refused), (1.0, Off), (2.0, Acts), (INF, Refused), (NAN, Refused)]),
    ("presence_penalty", &[(-2.5, Refused), (-2.0, Acts), (0.0, Off), (2.0, Acts), (2.5, Refused), (NAN, Refused)]),
    ("frequency_penalty", &[(-2.5, Refused), (-2.0, Acts), (0.0, Off), (2.0, Acts), (2.5, Refused), (NAN, Refused)]),
    ("dry_multiplier", &[(0.0, Off), (1.0, Refused)]),
    ("mirostat", &[(0.0, Off), (1.0, Refused), (2.0, Refused)]),
    ("adaptive_target", &[(0.5, Refused)]),
];

/// Ranges in llama.cpp, from the samplers in `src/llama-sampler.cpp`, and from `common/sampling.cpp`.
const LLAMA_CPP: Ranges = &[
    ("temperature", &[(-1.0, As(0.0)), (0.0, Acts), (1.0, Off), (0.5, Acts), (NAN, Refused)]),
    ("dynamic_temperature", &[(-0.5, Off), (0.0, Off), (0.5, Acts), (NAN, Refused)]),
    ("dynamic_exponent", &[(-1.0, Refused), (0.0, Acts), (2.0, Acts), (NAN, Refused)]),
    ("top_k", &[(0.0, Off), (1.0, Acts), (1e18, Off)]),
    ("top_p", &[(-0.5, As(1e-9)), (0.0, As(1e-9)), (0.5, Acts), (1.0, Off), (1.5, Off), (NAN, Refused)]),
    ("min_p", &[(-0.5, Off), (0.0, Off), (0.5, Acts), (1.0, Acts), (1.5, As(1.0)), (NAN, Refused)]),
    ("typical_p", &[(-0.5, As(0.0)), (0.0, Acts), (0.5, Acts), (1.0, Off), (1.5, Off), (NAN, Refused)]),
    ("top_n_sigma", &[(-1.0, Off), (0.0, Off), (1.0, Acts), (NAN, Refused)]),
    ("epsilon_cutoff", &[(0.1, Refused)]),
    ("eta_cutoff", &[(0.1, Refused)]),
    ("xtc_probability", &[(-0.5, Off), (0.0, Off), (1.0, Acts), (1.5, As(1.0)), (NAN, Refused)]),
    ("xtc_threshold", &[(-0.5, As(0.0)), (0.0, Acts), (0.2, Acts), (0.6, Off), (INF, Off), (NAN, Refused)]),
    ("min_keep", &[(0.0, Off), (1.0, Off), (3.0, Off)]),
    ("repetition_penalty", &[(0.0, Refused), (1.0, Off), (2.0, Acts), (INF, Refused), (NAN, Refused)]),
    ("presence_penalty", &[(-3.0, Acts), (0.0, Off), (3.0, Acts), (INF, Refused), (NAN, Refused)]),
    ("frequency_penalty", &[(-3.0, Acts), (0.0, Off), (3.0, Acts), (INF, Refused), (NAN, Refused)]),
    ("dry_multiplier", &[(-1.0, Refused), (0.0, Off), (1.0, Acts), (INF, Refused), (NAN, Refused)]),
    ("dry_base", &[(-1.0, Off), (0.5, Off), (1.0, Acts), (2.0, Acts), (INF, Refused), (NAN, Refused)]),
    ("mirostat", &[(0.0, Off), (1.0, Acts), (2.0, Acts), (3.0, Refused)]),
    ("mirostat_tau", &[(-1.0, Acts), (0.0, Acts), (1.0, Acts), (1e300, Off), (INF, Refused), (NAN, Refused)]),
    ("mirostat_eta", &[(-1.0, Acts), (0.0, Acts), (INF, Refused), (NAN, Refused)]),
    ("adaptive_target", &[(-1.0, Off), (0.0, Acts), (1.0, Acts), (1.5, As(0.5)), (INF, Refused), (NAN, Refused)]),
    ("adaptive_decay", &[(-1.0, Acts), (0.99, Acts), (1.5, Acts), (NAN, Refused)]),
];

/// Ranges in candle, from `LogitsProcessor` in `candle-transformers/src/generation/mod.rs`.
const CANDLE: Ranges = &[
    ("temperature", &[(-1.0, As(0.0)), (1e-8, As(0.0)), (0.0, Acts), (1.0, Off), (0.5, Acts), (NAN, Refused)]),
    ("dynamic_temperature", &[(0.0, Off), (0.5, Refused)]),
    ("top_k", &[(0.0, Refused), (1.0, Acts), (1e18, Off)]),
    ("top_p", &[(-0.5, Off), (0.0, Off), (0.5, Acts), (1.0, Off), (1.5, Off), (NAN, Refused)]),
    ("min_p", &[(0.5, Refused)]),
    ("typical_p", &[(0.5, Refused)]),
    ("top_n_sigma", &[(1.0, Refused)]),
    ("epsilon_cutoff", &[(0.1, Refused)]),
    ("eta_cutoff", &[(0.1, Refused)]),
    ("xtc_probability", &[(0.0, Off), (0.5, Refused)]),
    ("min_keep", &[(0.0, Refused), (1.0, Off), (3.0, Refused)]),
    ("repetition_penalty", &[(0.0, Refused), (1.0, Off), (2.0, Acts), (INF, Refused), (NAN, Refused)]),
    ("presence_penalty", &[(0.0, Off), (1.0, Refused)]),
    ("frequency_penalty", &[(0.0, Off), (1.0, Refused)]),
    ("dry_multiplier", &[(0.0, Off), (1.0, Refused)]),
    ("mirostat", &[(0.0, Off), (1.0, Refused), (2.0, Refused)]),
    ("adaptive_target", &[(0.5, Refused)]),
];

fn ranges(profile: Profile) -> Ranges {
    match profile {
        Profile::Evenkeel => EVENKEEL,
        Profile::HuggingFace => HUGGING_FACE,
        Profile::Vllm => VLLM,
        Profile::LlamaCpp => LLAMA_CPP,
        Profile::Candle => CANDLE,
        other => panic!("the test must have a table of parameter ranges for the profile {other:?}"),
    }
}

/// Returns the tokens and log-probabilities of a step after the tokens 0, 1, 0, so that DRY penalises token 1.
fn distribution(config: SamplerConfig) -> Result<(Vec<u32>, Vec<f64>), Error> {
    let logits = [2.0f32, 1.5, 1.0, 0.0, -1.0];
    let step = Step::from(Draw { seed: 0, row: 0, draw: 0 }).output(&[0, 1, 0]);
    let distribution = config.validate()?.distribution(&logits, None, step)?;
    Ok((distribution.tokens().to_vec(), distribution.logprobs().collect()))
}

#[test]
fn every_profile_has_the_ranges_of_its_engine() {
    for &profile in Profile::ALL {
        let unset = SamplerConfig::default().profile(profile);
        let off = distribution(unset).unwrap();
        assert_eq!(off.0, [0, 1, 2, 3, 4], "{profile:?} without other options: all 5 tokens must be candidates");
        for (name, values) in ranges(profile) {
            let (_, set) = PARAMETERS.iter().find(|(parameter, _)| parameter == name).unwrap();
            for &(value, meaning) in *values {
                let got = distribution(set(unset, value));
                let is_right = match (meaning, &got) {
                    (Refused, Err(Error::InvalidArgument { .. })) => true,
                    (Off, Ok(got)) => *got == off,
                    (As(other), Ok(got)) => *got == distribution(set(unset, other)).unwrap() && *got != off,
                    (Acts, Ok(got)) => *got != off,
                    _ => false,
                };
                assert!(
                    is_right,
                    "{profile:?} with {name} = {value}: the value must be treated as {meaning:?}, got {got:?}"
                );
            }
        }
        for (name, _) in PARAMETERS {
            let details =
                ["dynamic_exponent", "xtc_threshold", "dry_base", "mirostat_tau", "mirostat_eta", "adaptive_decay"];
            let is_there = ranges(profile).iter().any(|(parameter, _)| parameter == name);
            assert!(
                is_there || details.contains(name),
                "the test's table for {profile:?} must have a range for {name}"
            );
        }
    }
}

/// Checks windows of 0 tokens. In the profile of llama.cpp, such a window disables a penalty. All other profiles reject
/// such a window.
#[test]
fn windows_of_no_tokens() {
    for &profile in Profile::ALL {
        let unset = SamplerConfig::default().profile(profile);
        let penalised = unset.repetition_penalty(2.0).penalty_window(0);
        let dry = unset.dry(1.0, 1.75, 1).dry_window(0);
        for config in [penalised, dry] {
            match profile {
                Profile::LlamaCpp => assert_eq!(distribution(config).unwrap(), distribution(unset).unwrap()),
                _ => assert!(
                    matches!(distribution(config), Err(Error::InvalidArgument { .. })),
                    "{profile:?} must reject a window of 0 tokens"
                ),
            }
        }
    }
}
