//! Tables of how inference engines interpret sampler parameters.

/// Engine whose rules a [`SamplerConfig`](crate::SamplerConfig) follows: order of filters, ties, boundaries and special
/// values.
///
/// In exact arithmetic, a row keeps the same candidates as in that engine. If the engine does not define which of
/// several equally likely tokens it removes, the tokens with the highest indices are removed. Rejected rows and the
/// results of rows with infinities are the same under every profile. A parameter that is not set is off under every
/// profile: the defaults of an engine, such as llama.cpp's top-k of 40, are not applied. Every profile rejects a NaN,
/// an infinite temperature, and a repetition penalty of 0 or below, although some engines accept them.
///
/// | | Evenkeel | HuggingFace | Vllm | LlamaCpp | Candle |
/// |---|---|---|---|---|---|
/// | order | temperature, top-n-sigma, top-k, typical, top-p, min-p, epsilon, eta, XTC, adaptive-p | temperature, top-k, top-p, min-p, typical, epsilon, eta | temperature, min-p, top-k, top-p | top-n-sigma, top-k, typical, top-p, min-p, XTC, temperature, adaptive-p | temperature, top-k, top-p |
/// | kept ties with the k-th token | lowest indices | all kept | all kept | lowest indices | lowest indices |
/// | kept ties at top-p's end | lowest indices | highest indices | highest indices | lowest indices | lowest indices |
/// | top-p is a fraction of | remaining mass | remaining mass | remaining mass | remaining mass | mass of all tokens |
/// | p that sums are compared with | p | 1 - f32(1 - p) | 1 - (1 - f32(p)) in f32 | p | p |
/// | temperature 0 | greedy | rejected | greedy | greedy, also below 0 | greedy, also below 1e-7 |
/// | temperature below 0.01 | unchanged | unchanged | 0.01 | unchanged | unchanged |
/// | top-k 0 | rejected | off | off | off | rejected |
/// | top-p 0 | rejected | as few tokens as possible | rejected | as few tokens as possible | off |
/// | top-p above 1 | rejected | rejected | rejected | off | off |
/// | typical p above 1 | rejected | rejected | – | off | – |
/// | top-n-sigma 0 or below | rejected | – | – | off | – |
/// | min-p below 0; above 1 | rejected | rejected | rejected | off; as few tokens as possible | – |
/// | XTC with a threshold above 0.5 | rejected | – | – | off | – |
/// | XTC with a probability below 0; above 1 | rejected | – | – | off; as 1 | – |
/// | dynamic temperature below 0 | rejected | – | – | off | – |
/// | `min_keep` 0 | rejected | rejected | – | as 1 | – |
/// | penalty window 0; DRY window 0; DRY base below 1 | rejected | – | – | off | – |
/// | other filters with mirostat | rejected | – | – | off, and penalties and DRY too | – |
/// | mirostat's tau or eta below 0 | rejected | – | – | unchanged | – |
/// | adaptive-p's target below 0; above 1 | rejected | – | – | off; as 1, but the first mean is the given value | – |
/// | adaptive-p's decay below 0; above 0.99 | rejected | – | – | 0; 0.99 | – |
/// | presence and frequency penalty | finite | – | in [-2, 2] | finite | – |
/// | typical, kept ties with the last token | all | all | – | lowest indices | – |
/// | typical ends where the mass is | at least p | at least p | – | above p | – |
///
/// # Source
/// transformers' `logits_process.py`, vLLM's V1 sampler (its PyTorch path), llama.cpp's `llama-sampler.cpp`, candle's
/// `generation` module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Profile {
    /// Rules of this crate.
    #[default]
    Evenkeel,
    /// Rules of `generate` in transformers.
    #[cfg_attr(feature = "serde", serde(rename = "hf"))]
    HuggingFace,
    /// Rules of the PyTorch path of vLLM V1; other paths of vLLM treat ties differently.
    Vllm,
    /// Rules of llama.cpp on the CPU.
    LlamaCpp,
    /// Rules of `LogitsProcessor` in candle-transformers.
    Candle,
}

impl Profile {
    /// All profiles.
    pub const ALL: &[Profile] =
        &[Profile::Evenkeel, Profile::HuggingFace, Profile::Vllm, Profile::LlamaCpp, Profile::Candle];

    /// Returns the profile's name in lower case, for arguments and files.
    ///
    /// ```
    /// assert_eq!(evenkeel::Profile::LlamaCpp.name(), "llama_cpp");
    /// ```
    pub fn name(self) -> &'static str {
        self.rules().name
    }

    /// Returns the profile with this name, or `None` if there is none.
    pub fn from_name(name: &str) -> Option<Profile> {
        Self::ALL.iter().copied().find(|profile| profile.name() == name)
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

/// Filter stage of a sampler.
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

/// Meaning of a parameter value at the end of its range or outside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beyond {
    Refused,
    /// The parameter is treated as not set.
    Off,
    /// The filter keeps as few tokens as it can.
    Least,
}

/// Meaning of a temperature that is 0 or too small.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Coldest {
    Refused,
    /// Sampling is greedy at 0. Temperatures between 0 and `least` are replaced by `least`.
    Greedy {
        least: f64,
    },
    /// Sampling is greedy at 0 and at all temperatures below this number.
    GreedyBelow(f64),
}

/// How top-p compares p with sums of probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Threshold {
    Plain,
    /// The engine sums probabilities in ascending order, and compares the sums with f32(1 - p).
    OneLess,
    /// The engine sums probabilities in ascending order, and compares the sums with 1 - f32(p), computed in f32.
    OneLessInF32,
}

/// Penalties that the engine has, and the tokens that they count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Penalties {
    /// Repetition penalty only, over prompt and output.
    Repetition,
    /// All penalties: repetition over prompt and output, presence and frequency over the output.
    OfOutput,
    /// All penalties over prompt and output.
    OfAll,
}

/// Rules of an engine.
#[derive(Debug)]
pub(crate) struct Rules {
    pub name: &'static str,
    pub order: &'static [Stage],
    pub coldest: Coldest,
    /// Whether the engine has the dynamic temperature.
    pub has_dynamic_temperature: bool,
    /// Meaning of a top-n-sigma of 0 or below.
    pub top_n_sigma_zero: Beyond,
    pub top_k_zero: Beyond,
    /// Whether top-k keeps all tokens whose logit equals the logit of the k-th token.
    pub top_k_keeps_equals: bool,
    pub top_p_zero: Beyond,
    pub top_p_negative: Beyond,
    pub top_p_above_one: Beyond,
    pub top_p_threshold: Threshold,
    /// Whether top-p orders equal logits by decreasing index.
    pub top_p_highest_first: bool,
    /// Whether the p of top-p is a fraction of the mass of all tokens. If false, p is a fraction of the mass of the
    /// remaining tokens.
    pub top_p_of_all: bool,
    /// Meaning of a negative min-p. If the engine rejects a negative min-p, it also rejects a min-p above 1. Otherwise,
    /// a min-p above 1 keeps as few tokens as possible.
    pub min_p_negative: Beyond,
    /// Whether typical sampling keeps all ties, which are tokens as far from the entropy as the last kept token. If
    /// true, the filter ends where the mass reaches p. If false, it ends where the mass exceeds p, and keeps only the
    /// ties with the lowest indices.
    pub typical_keeps_equals: bool,
    pub typical_zero: Beyond,
    pub has_min_keep: bool,
    pub penalties: Penalties,
    /// Whether penalties can be limited to a window of the last tokens.
    pub has_window: bool,
    /// Whether bad words are matched in the output only. If true, a bad word that begins in the prompt can be
    /// completed.
    pub bad_words_of_output: bool,
    pub has_dry: bool,
    /// Whether the engine has mirostat and adaptive-p.
    pub has_feedback: bool,
    /// Largest magnitude of the presence and frequency penalties.
    pub most_penalty: f64,
    /// Whether the engine accepts out-of-range parameters of XTC, DRY, `min_keep`, windows, the dynamic temperature,
    /// mirostat and adaptive-p. The table of [`Profile`] gives the meanings of such values. In a lenient engine,
    /// mirostat turns all other filters and the penalties off. An engine that is not lenient rejects mirostat together
    /// with another filter.
    pub is_lenient: bool,
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
    has_feedback: true,
    most_penalty: f64::MAX,
    is_lenient: false,
};

const HUGGING_FACE: Rules = Rules {
    name: "hf",
    order: &[Stage::Temperature, Stage::TopK, Stage::TopP, Stage::MinP, Stage::Typical, Stage::Epsilon, Stage::Eta],
    coldest: Coldest::Refused,
    has_dynamic_temperature: false,
    top_k_zero: Beyond::Off,
    top_k_keeps_equals: true,
    top_p_zero: Beyond::Least,
    top_p_threshold: Threshold::OneLess,
    top_p_highest_first: true,
    penalties: Penalties::Repetition,
    has_window: false,
    has_dry: false,
    has_feedback: false,
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
    has_feedback: false,
    most_penalty: 2.0,
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
    is_lenient: true,
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
    has_feedback: false,
    ..EVENKEEL
};
