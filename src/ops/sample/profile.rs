//! What engines mean by the same parameters: their rules as data.

/// Whose order of filters, ties, boundaries and special values a [`SamplerConfig`](crate::SamplerConfig) has.
///
/// A row gives the same candidates as in that engine, in exact arithmetic; where the engine leaves it open which of
/// several equal tokens is cut off, the one with the highest index is. What is refused, and what rows with infinities
/// give, is the same under every profile.
///
/// | | Evenkeel | HuggingFace | Vllm | LlamaCpp | Candle |
/// |---|---|---|---|---|---|
/// | order | temperature, top-n-sigma, top-k, typical, top-p, min-p, epsilon, eta, XTC | temperature, top-k, top-p, min-p, typical, epsilon, eta | temperature, min-p, top-k, top-p | top-n-sigma, top-k, typical, top-p, min-p, XTC, temperature | temperature, top-k, top-p |
/// | equals of the k-th | lowest indices | all kept | all kept | lowest indices | lowest indices |
/// | equals at top-p's end | lowest indices | highest indices | highest indices | lowest indices | lowest indices |
/// | top-p is of | what is left | what is left | what is left | what is left | all tokens |
/// | p as compared | p | 1 - f32(1 - p) | 1 - (1 - f32(p)) in f32 | p | p |
/// | temperature 0 | greedy | refused | greedy | greedy, as below 0 | greedy, as below 1e-7 |
/// | temperature below 0.01 | as it is | as it is | 0.01 | as it is | as it is |
/// | top-k 0 | refused | off | off | off | refused |
/// | top-p 0 | refused | the first tokens | refused | the first tokens | off |
/// | top-p above 1 | refused | off | refused | off | off |
/// | typical, equals of the last | all kept | all kept | – | lowest indices | – |
/// | typical ends where the mass is | at least p | at least p | – | above p | – |
///
/// # Source
/// transformers' `logits_process.py`, vLLM's V1 sampler (its PyTorch path), llama.cpp's `llama-sampler.cpp`, candle's
/// `generation` module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Profile {
    /// This crate's own.
    #[default]
    Evenkeel,
    /// transformers' `generate`.
    #[cfg_attr(feature = "serde", serde(rename = "hf"))]
    HuggingFace,
    /// vLLM V1 in PyTorch; its other paths differ from it at ties.
    Vllm,
    /// llama.cpp on the CPU.
    LlamaCpp,
    /// candle-transformers' `LogitsProcessor`.
    Candle,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Profile; 5] =
        [Profile::Evenkeel, Profile::HuggingFace, Profile::Vllm, Profile::LlamaCpp, Profile::Candle];

    /// Its name in arguments and protocols.
    ///
    /// ```
    /// assert_eq!(evenkeel::Profile::LlamaCpp.name(), "llama_cpp");
    /// ```
    pub fn name(self) -> &'static str {
        self.rules().name
    }

    /// The profile of this name.
    pub fn from_name(name: &str) -> Option<Profile> {
        Self::ALL.into_iter().find(|profile| profile.name() == name)
    }

    pub(crate) fn rules(self) -> &'static Rules {
        match self {
            Profile::Evenkeel => &EVENKEEL,
            Profile::HuggingFace => &HUGGING_FACE,
            Profile::Vllm => &VLLM,
            Profile::LlamaCpp => &LLAMA_CPP,
            Profile::Candle => &CANDLE,
        }
    }
}

/// A parameter that is a step of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Temperature,
    TopK,
    TopP,
    MinP,
    Typical,
    TopNSigma,
    Epsilon,
    Eta,
    Xtc,
}

/// What a value at the end of a parameter's range, or beyond it, means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beyond {
    Refused,
    /// As if it were not set.
    Off,
    /// As little as the filter can leave.
    Least,
}

/// What a temperature of 0, or one that is too small, means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Coldest {
    Refused,
    /// Greedy at 0; what is above it is raised to this.
    Greedy {
        least: f64,
    },
    /// Greedy below this, 0 and negative ones too; at it, if it is 0.
    GreedyBelow(f64),
}

/// How p of top-p is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Threshold {
    Plain,
    /// Ascending sums are compared with f32(1 - p).
    OneLess,
    /// Ascending sums are compared with 1 - f32(p) in f32.
    OneLessInF32,
}

/// Which penalties there are, and what they see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Penalties {
    /// Repetition alone.
    Repetition,
    /// Repetition of prompt and output, the others of the output.
    OfOutput,
    /// All of prompt and output.
    OfAll,
}

/// An engine's rules.
#[derive(Debug)]
pub(crate) struct Rules {
    pub name: &'static str,
    pub order: &'static [Stage],
    pub coldest: Coldest,
    /// The temperature's range about itself.
    pub has_dynamic_temperature: bool,
    /// What is not above 0.
    pub top_n_sigma_zero: Beyond,
    pub top_k_zero: Beyond,
    /// Whether all equals of the k-th token are kept.
    pub top_k_keeps_equals: bool,
    pub top_p_zero: Beyond,
    pub top_p_negative: Beyond,
    pub top_p_above_one: Beyond,
    pub top_p_threshold: Threshold,
    /// Whether the first of equals are those with the highest indices.
    pub top_p_highest_first: bool,
    /// Whether p is of all tokens, not of those that are left.
    pub top_p_of_all: bool,
    /// What is below 0; above 1 it leaves as little as it can then.
    pub min_p_negative: Beyond,
    /// Whether all that are as near to the entropy as the last are kept, and it is the last whose mass reaches p; else
    /// the mass has to go beyond it.
    pub typical_keeps_equals: bool,
    pub typical_zero: Beyond,
    pub has_min_keep: bool,
    pub penalties: Penalties,
    /// Whether penalties can be of the last tokens only.
    pub has_window: bool,
    /// Whether bad words that began in the prompt may end.
    pub bad_words_of_output: bool,
    pub has_dry: bool,
}

const EVENKEEL: Rules = Rules {
    name: "evenkeel",
    order: &[
        Stage::Temperature,
        Stage::TopNSigma,
        Stage::TopK,
        Stage::Typical,
        Stage::TopP,
        Stage::MinP,
        Stage::Epsilon,
        Stage::Eta,
        Stage::Xtc,
    ],
    coldest: Coldest::Greedy { least: 0.0 },
    has_dynamic_temperature: true,
    top_n_sigma_zero: Beyond::Refused,
    top_k_zero: Beyond::Refused,
    top_k_keeps_equals: false,
    top_p_zero: Beyond::Refused,
    top_p_negative: Beyond::Refused,
    top_p_above_one: Beyond::Refused,
    top_p_threshold: Threshold::Plain,
    top_p_highest_first: false,
    top_p_of_all: false,
    min_p_negative: Beyond::Refused,
    typical_keeps_equals: true,
    typical_zero: Beyond::Refused,
    has_min_keep: true,
    penalties: Penalties::OfOutput,
    has_window: true,
    bad_words_of_output: false,
    has_dry: true,
};

const HUGGING_FACE: Rules = Rules {
    name: "hf",
    order: &[Stage::Temperature, Stage::TopK, Stage::TopP, Stage::MinP, Stage::Typical, Stage::Epsilon, Stage::Eta],
    coldest: Coldest::Refused,
    has_dynamic_temperature: false,
    top_k_zero: Beyond::Off,
    top_k_keeps_equals: true,
    top_p_zero: Beyond::Least,
    top_p_above_one: Beyond::Off,
    top_p_threshold: Threshold::OneLess,
    top_p_highest_first: true,
    penalties: Penalties::Repetition,
    has_window: false,
    has_dry: false,
    ..EVENKEEL
};

const VLLM: Rules = Rules {
    name: "vllm",
    order: &[Stage::Temperature, Stage::MinP, Stage::TopK, Stage::TopP],
    coldest: Coldest::Greedy { least: 0.01 },
    has_dynamic_temperature: false,
    top_k_zero: Beyond::Off,
    top_k_keeps_equals: true,
    top_p_threshold: Threshold::OneLessInF32,
    top_p_highest_first: true,
    has_min_keep: false,
    has_window: false,
    bad_words_of_output: true,
    has_dry: false,
    ..EVENKEEL
};

const LLAMA_CPP: Rules = Rules {
    name: "llama_cpp",
    order: &[Stage::TopNSigma, Stage::TopK, Stage::Typical, Stage::TopP, Stage::MinP, Stage::Xtc, Stage::Temperature],
    coldest: Coldest::GreedyBelow(0.0),
    top_n_sigma_zero: Beyond::Off,
    top_k_zero: Beyond::Off,
    top_p_zero: Beyond::Least,
    top_p_negative: Beyond::Least,
    top_p_above_one: Beyond::Off,
    min_p_negative: Beyond::Off,
    typical_keeps_equals: false,
    typical_zero: Beyond::Least,
    penalties: Penalties::OfAll,
    ..EVENKEEL
};

const CANDLE: Rules = Rules {
    name: "candle",
    order: &[Stage::Temperature, Stage::TopK, Stage::TopP],
    coldest: Coldest::GreedyBelow(1e-7),
    has_dynamic_temperature: false,
    top_p_zero: Beyond::Off,
    top_p_negative: Beyond::Off,
    top_p_above_one: Beyond::Off,
    top_p_of_all: true,
    has_min_keep: false,
    penalties: Penalties::Repetition,
    has_dry: false,
    ..EVENKEEL
};
