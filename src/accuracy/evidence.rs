//! Evidence for the bounds of the accuracy table.

use crate::element::DType;

/// How a bound was obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The bound follows from the arithmetic, step by step. The section has the derivation.
    Derived,
    /// Every input of the type was compared with the correctly rounded result.
    Exhaustive,
    /// The bound is above the largest error that tests and searches found. The section describes them.
    Measured,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Derived => "derived",
            Kind::Exhaustive => "exhaustive",
            Kind::Measured => "measured",
        })
    }
}

/// Evidence for a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Evidence {
    /// How the bound was obtained.
    pub kind: Kind,
    /// File name of the page in the repository's `docs/accuracy`.
    pub page: &'static str,
    /// Heading of the section in that page.
    pub section: &'static str,
}

/// An op's name and its evidence for each storage type, in the order of [`DType::ALL`].
type Row = (&'static str, [Evidence; 4]);

macro_rules! evidence {
    ($($page:literal { $($section:literal: $($op:literal)* => $f64:ident $f32:ident $f16:ident $bf16:ident;)* })*) => {
        const EVIDENCE: &[Row] = &[$($($((
            $op,
            [
                Evidence { kind: Kind::$f64, page: $page, section: $section },
                Evidence { kind: Kind::$f32, page: $page, section: $section },
                Evidence { kind: Kind::$f16, page: $page, section: $section },
                Evidence { kind: Kind::$bf16, page: $page, section: $section },
            ],
        ),)*)*)*];
    };
}

evidence! {
    "attention.md" {
        "Attention": "attention" => Derived Derived Derived Derived;
        "The gradients": "attention_backward" => Derived Derived Derived Derived;
    }
    "elementwise.md" {
        "Functions of one element": "sqrt" "reciprocal" "safe_div" => Derived Derived Derived Derived;
        "Functions of one element": "erf" "exp" "exp2" "expm1" "gelu" "gelu_tanh" "log" "log1p" "log2" "log_sigmoid" "rsqrt"
            "sigmoid" "silu" "softplus" "tanh" => Measured Exhaustive Exhaustive Exhaustive;
        "Functions of one element": "clamped_exp" "clamped_log" => Measured Derived Exhaustive Exhaustive;
        "Gradients of functions": "clamped_exp_backward" "clamped_log_backward" "erf_backward" "exp_backward"
            "exp2_backward" "expm1_backward" "gelu_backward" "gelu_tanh_backward" "log_backward" "log1p_backward"
            "log2_backward" "log_sigmoid_backward" "reciprocal_backward" "rsqrt_backward" "sigmoid_backward"
            "silu_backward" "softplus_backward" "sqrt_backward" "tanh_backward" => Measured Derived Derived Derived;
        "Pairs": "log_add_exp" "swiglu_backward" => Measured Derived Derived Derived;
        "Pairs": "swiglu" => Measured Measured Measured Measured;
        "Rotary embedding": "rope" "rope_backward" => Measured Derived Derived Derived;
        "Means of tokens": "mean_pool" "mean_pool_backward" => Derived Derived Derived Derived;
        "Whole tensors": "clip_grad_value" => Derived Derived Derived Derived;
        "Whole tensors": "clip_grad_norm" => Measured Derived Derived Derived;
        "Whole tensors": "inspect" => Measured Measured Measured Measured;
    }
    "losses.md" {
        "Cross-entropy": "cross_entropy" => Derived Derived Derived Derived;
        "Gradients of cross-entropy": "cross_entropy_backward" => Measured Derived Derived Derived;
        "Other losses": "bce_with_logits" "bce_with_logits_backward" "kl_div" "kl_div_backward"
            => Measured Derived Derived Derived;
    }
    "norms.md" {
        "layer_norm, group_norm": "group_norm" "layer_norm" => Derived Derived Derived Derived;
        "rms_norm": "l2_normalize" "qk_norm_rope" "rms_norm" "rms_norm_linear" => Derived Derived Derived Derived;
        "The gradients": "layer_norm_backward" "rms_norm_backward" => Derived Derived Derived Derived;
    }
    "sampling.md" {
        "Log-probabilities": "sample" => Derived Derived Derived Derived;
    }
    "softmax.md" {
        "Softmax": "softmax" => Derived Derived Derived Derived;
        "Logarithms": "log_softmax" "logsumexp" => Derived Derived Derived Derived;
        "Gradients": "log_softmax_backward" "logsumexp_backward" "softmax_backward"
            => Derived Derived Derived Derived;
    }
}

/// Returns the evidence for the bound of an op in a storage type, or `None` for an unknown op.
///
/// ```
/// use evenkeel::{DType, accuracy};
/// let of = accuracy::evidence("exp", DType::F32).unwrap();
/// assert_eq!((of.kind, of.page), (accuracy::Kind::Exhaustive, "elementwise.md"));
/// ```
pub fn evidence(op: &str, dtype: DType) -> Option<&'static Evidence> {
    let (_, of_types) = EVIDENCE.iter().find(|(name, _)| *name == op)?;
    DType::ALL.iter().position(|other| *other == dtype).map(|at| &of_types[at])
}
