//! Error bounds of the ops, as a table that tests assert.
//!
//! A bound limits the error of a result: its distance from the exact result for the given inputs. Bounds are in ULP of
//! the storage type. Most bounds are in ULP of the exact result ([`Unit::Result`]). If terms of a result can cancel,
//! the bound is in ULP of the largest term instead ([`Unit::LargestTerm`]), and the op's page names the terms.
//!
//! `inspect` returns f64 for every type, so its bounds are in ULP of f64. They grow by 1 ULP for every 16,384 elements.
//! Losses are f64 too. For f64 logits, the bound of a row's or element's loss is in ULP of f64. For other logits, the
//! bound is in ULP of f32, and includes the error of rounding the loss to f32. The gradients of `bce_with_logits` and
//! `kl_div` have separate entries in the table.
//!
//! The evidence for a bound is a derivation, an exhaustive test or a measurement. [`evidence()`] returns its kind and
//! the section of `docs/accuracy` that describes it. `tools/error-search` searches for inputs that exceed a bound.
//!
//! The f32 bounds of softmax, its logarithm, the cross-entropy and their gradients hold for every row. They are derived
//! in `docs/accuracy/softmax.md`. Errors come close to these bounds only if the errors of a row's exponentials have the
//! same sign. On other rows, such as random ones, tests assert 2 ULP.
//!
//! The bounds of the norms and their gradients are derived in `docs/accuracy/norms.md`. The f64 bounds hold for rows of
//! up to 16,384 columns, even if all roundings go in the same direction. The ops' pages state the increase for longer
//! rows, and the largest errors measured on rows that were not constructed to maximise the error.
//!
//! In f32, f16 and bf16, the bounds of `layer_norm_backward` hold for rows of up to 65,536 columns. The bounds of
//! `layer_norm` in these types are in ULP of the largest of four magnitudes: the weighted value, the bias, the result
//! and a minimum. The op's page gives this minimum. From 2^18 columns on, the minimum grows in proportion to the number
//! of columns.

#![forbid(unsafe_code)]

mod evidence;

pub use self::evidence::{Evidence, Kind};
use crate::element::DType;

/// Quantity whose ULP is the unit of a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unit {
    /// The exact result.
    Result,
    /// The larger of two magnitudes: the result, and its largest term. If the terms are not obvious, the op's page
    /// names them.
    LargestTerm,
}

/// Error bound of one op in one storage type.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Bound {
    /// Name of the op.
    pub op: &'static str,
    /// The storage type.
    pub dtype: DType,
    /// Maximum error in ULP; 0.5 means correct rounding.
    pub ulps: f64,
    /// Quantity whose ULP is the unit of `ulps`.
    pub unit: Unit,
}

/// An op's name and its evidence for each storage type, in the order of [`DType::ALL`].
type EvidenceRow = (&'static str, [Evidence; 4]);

macro_rules! table {
    ($($page:literal $section:literal $kind64:ident $kind32:ident $kind16:ident $kindb16:ident {
        $($op:literal $unit:ident: F64 $f64:literal, F32 $f32:literal, F16 $f16:literal, BF16 $bf16:literal;)*
    })*) => {
        /// Bounds of every op in every storage type on the CPU. CUDA kernels give the same bits.
        pub const TABLE: &[Bound] = &[$($(
            Bound { op: $op, dtype: DType::F64, ulps: $f64, unit: Unit::$unit },
            Bound { op: $op, dtype: DType::F32, ulps: $f32, unit: Unit::$unit },
            Bound { op: $op, dtype: DType::F16, ulps: $f16, unit: Unit::$unit },
            Bound { op: $op, dtype: DType::BF16, ulps: $bf16, unit: Unit::$unit },
        )*)*];

        const EVIDENCE: &[EvidenceRow] = &[$($((
            $op,
            [
                Evidence { kind: Kind::$kind64, page: $page, section: $section },
                Evidence { kind: Kind::$kind32, page: $page, section: $section },
                Evidence { kind: Kind::$kind16, page: $page, section: $section },
                Evidence { kind: Kind::$kindb16, page: $page, section: $section },
            ],
        ),)*)*];
    };
}

// In this table, each group of ops begins with the evidence for its bounds: a page in `docs/accuracy`, the heading of a
// section on that page, and the kind of evidence for f64, f32, f16 and bf16, in this order.
table! {
    "attention.md" "Attention" Derived Derived Derived Derived {
        "attention" LargestTerm: F64 98.0, F32 84.0, F16 0.51, BF16 0.51;
    }
    "attention.md" "The gradients" Derived Derived Derived Derived {
        "attention_backward" LargestTerm: F64 188.0, F32 0.501, F16 0.51, BF16 0.51;
    }
    "elementwise.md" "Functions of one element" Derived Derived Derived Derived {
        "reciprocal" Result: F64 0.5, F32 0.5, F16 0.5, BF16 0.5;
        "safe_div" Result: F64 0.5, F32 0.5, F16 0.5, BF16 0.5;
        "sqrt" Result: F64 0.5, F32 0.5, F16 0.5, BF16 0.5;
    }
    "elementwise.md" "Functions of one element" Measured Exhaustive Exhaustive Exhaustive {
        "erf" Result: F64 1.0, F32 0.5, F16 0.5, BF16 0.5;
        "exp" Result: F64 0.8, F32 0.5, F16 0.5, BF16 0.5;
        "exp2" Result: F64 0.8, F32 0.5, F16 0.5, BF16 0.5;
        "expm1" Result: F64 0.6, F32 0.5, F16 0.5, BF16 0.5;
        "gelu" Result: F64 1.0, F32 0.5, F16 0.5, BF16 0.5;
        "gelu_tanh" Result: F64 1.0, F32 0.5, F16 0.5, BF16 0.5;
        "log" Result: F64 0.6, F32 0.5, F16 0.5, BF16 0.5;
        "log1p" Result: F64 0.6, F32 0.5, F16 0.5, BF16 0.5;
        "log2" Result: F64 0.6, F32 0.5, F16 0.5, BF16 0.5;
        "log_sigmoid" Result: F64 0.8, F32 0.5, F16 0.5, BF16 0.5;
        "rsqrt" Result: F64 0.51, F32 0.5, F16 0.5, BF16 0.5;
        "sigmoid" Result: F64 0.8, F32 0.5, F16 0.5, BF16 0.5;
        "silu" Result: F64 1.0, F32 0.5, F16 0.5, BF16 0.5;
        "softplus" Result: F64 0.8, F32 0.5, F16 0.5, BF16 0.5;
        "tanh" Result: F64 0.6, F32 0.5, F16 0.5, BF16 0.5;
    }
    "elementwise.md" "Functions of one element" Measured Derived Exhaustive Exhaustive {
        "clamped_exp" Result: F64 0.8, F32 0.5, F16 0.5, BF16 0.5;
        "clamped_log" Result: F64 0.6, F32 0.5, F16 0.5, BF16 0.5;
    }
    "elementwise.md" "Gradients of functions" Measured Derived Derived Derived {
        "clamped_exp_backward" Result: F64 2.0, F32 0.501, F16 0.501, BF16 0.501;
        "clamped_log_backward" Result: F64 2.0, F32 0.501, F16 0.501, BF16 0.501;
        "erf_backward" Result: F64 2.0, F32 0.501, F16 0.501, BF16 0.501;
        "exp2_backward" Result: F64 2.0, F32 0.501, F16 0.501, BF16 0.501;
        "exp_backward" Result: F64 2.0, F32 0.501, F16 0.501, BF16 0.501;
        "expm1_backward" Result: F64 2.0, F32 0.501, F16 0.501, BF16 0.501;
        "gelu_backward" LargestTerm: F64 2.0, F32 0.501, F16 0.501, BF16 0.501;
        "gelu_tanh_backward" LargestTerm: F64 2.0, F32 0.501, F16 0.501, BF16 0.501;
        "log1p_backward" Result: F64 2.0, F32 0.501, F16 0.501, BF16 0.501;
        "log2_backward" Result: F64 2.0, F32 0.501, F16 0.501, BF16 0.501;
        "log_backward" Result: F64 2.0, F32 0.501, F16 0.501, BF16 0.501;
        "log_sigmoid_backward" Result: F64 2.0, F32 0.501, F16 0.501, BF16 0.501;
        "reciprocal_backward" Result: F64 2.0, F32 0.501, F16 0.501, BF16 0.501;
        "rsqrt_backward" Result: F64 2.0, F32 0.501, F16 0.501, BF16 0.501;
        "sigmoid_backward" Result: F64 2.0, F32 0.501, F16 0.501, BF16 0.501;
        "silu_backward" LargestTerm: F64 2.0, F32 0.501, F16 0.501, BF16 0.501;
        "softplus_backward" Result: F64 2.0, F32 0.501, F16 0.501, BF16 0.501;
        "sqrt_backward" Result: F64 2.0, F32 0.501, F16 0.501, BF16 0.501;
        "tanh_backward" Result: F64 2.0, F32 0.501, F16 0.501, BF16 0.501;
    }
    "elementwise.md" "Pairs" Measured Derived Derived Derived {
        "log_add_exp" LargestTerm: F64 1.0, F32 0.501, F16 0.501, BF16 0.501;
        "swiglu_backward" LargestTerm: F64 3.0, F32 0.501, F16 0.501, BF16 0.501;
    }
    "elementwise.md" "Pairs" Measured Measured Measured Measured {
        "swiglu" Result: F64 2.0, F32 0.502, F16 0.501, BF16 0.501;
    }
    "elementwise.md" "Rotary embedding" Measured Derived Derived Derived {
        "rope" LargestTerm: F64 2.0, F32 0.501, F16 0.51, BF16 0.51;
        "rope_backward" LargestTerm: F64 2.0, F32 0.501, F16 0.51, BF16 0.51;
    }
    "elementwise.md" "Means of tokens" Derived Derived Derived Derived {
        "mean_pool" LargestTerm: F64 16.0, F32 0.501, F16 0.51, BF16 0.51;
        "mean_pool_backward" Result: F64 0.5, F32 0.5, F16 0.5, BF16 0.5;
    }
    "elementwise.md" "Whole tensors" Derived Derived Derived Derived {
        "clip_grad_value" Result: F64 0.5, F32 0.5, F16 0.5, BF16 0.5;
    }
    "elementwise.md" "Whole tensors" Measured Derived Derived Derived {
        "clip_grad_norm" Result: F64 4.0, F32 0.501, F16 0.51, BF16 0.51;
    }
    "elementwise.md" "Whole tensors" Measured Measured Measured Measured {
        "inspect" LargestTerm: F64 16.0, F32 16.0, F16 16.0, BF16 16.0;
    }
    "losses.md" "Cross-entropy" Derived Derived Derived Derived {
        "cross_entropy" LargestTerm: F64 10.0, F32 2.5, F16 2.5, BF16 2.5;
    }
    "losses.md" "Gradients of cross-entropy" Measured Derived Derived Derived {
        "cross_entropy_backward" LargestTerm: F64 8.0, F32 3.7, F16 0.51, BF16 0.51;
    }
    "losses.md" "Other losses" Measured Derived Derived Derived {
        "bce_with_logits" Result: F64 8.0, F32 0.501, F16 0.501, BF16 0.501;
        "bce_with_logits_backward" LargestTerm: F64 12.0, F32 0.501, F16 0.501, BF16 0.501;
        "kl_div" LargestTerm: F64 24.0, F32 0.501, F16 0.501, BF16 0.501;
        "kl_div_backward" LargestTerm: F64 24.0, F32 0.501, F16 0.501, BF16 0.501;
    }
    "norms.md" "layer_norm, group_norm" Derived Derived Derived Derived {
        "group_norm" LargestTerm: F64 32.0, F32 0.501, F16 0.51, BF16 0.51;
        "layer_norm" LargestTerm: F64 32.0, F32 0.501, F16 0.51, BF16 0.51;
    }
    "norms.md" "rms_norm" Derived Derived Derived Derived {
        "l2_normalize" Result: F64 11.0, F32 0.501, F16 0.51, BF16 0.51;
        "qk_norm_rope" LargestTerm: F64 18.0, F32 1.25, F16 1.25, BF16 1.25;
        "rms_norm" Result: F64 11.0, F32 0.501, F16 0.51, BF16 0.51;
        "rms_norm_linear" LargestTerm: F64 30.0, F32 0.501, F16 0.501, BF16 0.501;
    }
    "norms.md" "The gradients" Derived Derived Derived Derived {
        "layer_norm_backward" LargestTerm: F64 120.0, F32 0.501, F16 0.51, BF16 0.51;
        "rms_norm_backward" LargestTerm: F64 56.0, F32 0.501, F16 0.51, BF16 0.51;
    }
    "sampling.md" "Log-probabilities" Derived Derived Derived Derived {
        "sample" LargestTerm: F64 6.0, F32 6.0, F16 6.0, BF16 6.0;
    }
    "softmax.md" "Softmax" Derived Derived Derived Derived {
        "softmax" Result: F64 3.0, F32 3.7, F16 0.51, BF16 0.51;
    }
    "softmax.md" "Logarithms" Derived Derived Derived Derived {
        "log_softmax" LargestTerm: F64 3.0, F32 2.5, F16 0.51, BF16 0.51;
        "logsumexp" LargestTerm: F64 3.5, F32 2.5, F16 0.51, BF16 0.51;
    }
    "softmax.md" "Gradients" Derived Derived Derived Derived {
        "log_softmax_backward" LargestTerm: F64 6.0, F32 3.7, F16 0.51, BF16 0.51;
        "logsumexp_backward" LargestTerm: F64 5.0, F32 3.7, F16 0.51, BF16 0.51;
        "softmax_backward" LargestTerm: F64 8.0, F32 5.3, F16 0.51, BF16 0.51;
    }
    "softmax.md" "Gradients from results" Derived Derived Derived Derived {
        "log_softmax_backward_from_output" LargestTerm: F64 4.0, F32 2.4, F16 0.51, BF16 0.51;
        "softmax_backward_from_output" LargestTerm: F64 3.7, F32 0.54, F16 0.51, BF16 0.51;
    }
}

/// Returns the bound of an op in a storage type, or `None` for an unknown op.
///
/// ```
/// use evenkeel::{DType, accuracy};
/// assert_eq!(accuracy::bound("softmax", DType::F32).map(|b| b.ulps), Some(3.7));
/// ```
pub fn bound(op: &str, dtype: DType) -> Option<&'static Bound> {
    TABLE.iter().find(|bound| bound.op == op && bound.dtype == dtype)
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

macro_rules! neuron {
    ($($op:literal $unit:ident: F32 $f32:literal, F16 $f16:literal, BF16 $bf16:literal;)*) => {
        /// Bounds of the ops on Neuron devices. They were measured by `tools/pjrt/tests/programs`, which compiles the
        /// devices' programs with XLA and runs them on the CPU. A device may evaluate functions less accurately.
        ///
        /// - Numbers whose magnitude is below the smallest normal f32 count as zero, in intermediate results too.
        /// - Logits are computed from scores in f32, and each operation rounds. A softcap multiplies the bound by
        ///   eight. Weights and options are rounded to f32.
        /// - In f32 softmax, the exponent (a logit minus the largest one) has a rounding error of half an ULP. For
        ///   probabilities close to zero, this amounts to an error of 64 ULP in the probability.
        /// - The terms of layer_norm are the bias, and the weight times the largest normalised magnitude in the row.
        /// - Bounds of losses, and of the square root of `squared_norm`, are in ULP of f32 for every type of input.
        /// - The host computes everything that `sample` returns about a token.
        pub const NEURON: &[Bound] = &[$(
            Bound { op: $op, dtype: DType::F32, ulps: $f32, unit: Unit::$unit },
            Bound { op: $op, dtype: DType::F16, ulps: $f16, unit: Unit::$unit },
            Bound { op: $op, dtype: DType::BF16, ulps: $bf16, unit: Unit::$unit },
        )*];
    };
}

neuron! {
    "clamped_exp" Result: F32 8.0, F16 0.51, BF16 0.51;
    "clamped_log" Result: F32 2.0, F16 0.51, BF16 0.51;
    "cross_entropy" LargestTerm: F32 4.0, F16 4.0, BF16 4.0;
    "layer_norm" LargestTerm: F32 6.0, F16 0.51, BF16 0.51;
    "log_softmax" LargestTerm: F32 4.0, F16 0.51, BF16 0.51;
    "logsumexp" LargestTerm: F32 2.0, F16 0.51, BF16 0.51;
    "rms_norm" Result: F32 6.0, F16 0.51, BF16 0.51;
    "sample" LargestTerm: F32 6.0, F16 6.0, BF16 6.0;
    "softmax" Result: F32 68.0, F16 0.51, BF16 0.51;
    "squared_norm" Result: F32 6.0, F16 6.0, BF16 6.0;
}

/// Returns the bound of an op on Neuron devices, or `None` if they do not support the op in this type.
///
/// ```
/// use evenkeel::{DType, accuracy};
/// assert!(accuracy::neuron_bound("softmax", DType::BF16).is_some_and(|b| b.ulps < 1.0));
/// assert!(accuracy::neuron_bound("softmax", DType::F64).is_none());
/// ```
pub fn neuron_bound(op: &str, dtype: DType) -> Option<&'static Bound> {
    NEURON.iter().find(|bound| bound.op == op && bound.dtype == dtype)
}
