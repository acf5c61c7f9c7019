//! Complete list of the cases in which finite operands and allowed options may give non-finite results. The list gives
//! the reason for each case.

use crate::call::{Call, lanes};
use crate::cases::Case;
use crate::support::generate::Bits;
use evenkeel::{FullyMasked, Limits, Reduction};

/// Element of a result, with its operands.
pub struct At<'a> {
    pub call: &'a Call,
    /// Operand x: the row of the checked element, or all rows if the result depends on the whole tensor.
    pub x: &'a [f64],
    /// Operand dy, for the same rows.
    pub dy: &'a [f64],
    pub rows: usize,
    pub cols: usize,
    /// Row of the element, or `None` if the result depends on the whole tensor.
    pub row: Option<usize>,
    pub column: usize,
    pub limits: Limits,
}

impl At<'_> {
    /// Returns whether a result of this magnitude may exceed the range of the type after a few roundings.
    fn beyond(&self, magnitude: f64) -> bool {
        magnitude.is_nan() || magnitude > 0.99 * self.limits.max
    }

    fn masks(&self, column: usize) -> bool {
        self.call.masks(self.row.unwrap_or(0), column, self.rows, self.cols)
    }

    /// Returns the largest possible magnitude of a weight.
    fn weight(&self) -> f64 {
        let weight = self.call.scale.abs() * self.cols as f64;
        if matches!(self.call.name(), "qk_norm_rope" | "rms_norm" | "rms_norm_backward" | "rms_norm_linear") {
            weight + self.call.offset.abs()
        } else {
            weight
        }
    }
}

/// Returns the largest magnitude.
fn most(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, value| most.max(value.abs()))
}

/// Documented exception. The result may be infinite. If `gives_nan` is set, it may also be NaN.
struct Exception {
    ops: &'static [&'static str],
    #[allow(dead_code, reason = "it is for readers")]
    reason: &'static str,
    gives_nan: bool,
    applies: fn(&At<'_>) -> bool,
}

const EXCEPTIONS: &[Exception] = &[
    Exception {
        ops: &["log", "log2", "log_backward", "log2_backward", "rsqrt", "rsqrt_backward", "sqrt_backward"],
        reason: "NaN below 0, and a pole at 0",
        gives_nan: true,
        applies: |at| at.x[0] <= 0.0,
    },
    Exception { ops: &["sqrt"], reason: "NaN below 0", gives_nan: true, applies: |at| at.x[0] < 0.0 },
    Exception {
        ops: &["reciprocal", "reciprocal_backward"],
        reason: "a pole at 0",
        gives_nan: false,
        applies: |at| at.x[0] == 0.0,
    },
    Exception {
        ops: &["reciprocal"],
        reason: "1 / x exceeds the type",
        gives_nan: false,
        applies: |at| at.beyond(1.0 / at.x[0].abs()),
    },
    Exception {
        ops: &["exp2"],
        reason: "2^x exceeds the type",
        gives_nan: false,
        applies: |at| at.beyond(at.x[0].exp2()),
    },
    Exception {
        ops: &["log1p", "log1p_backward"],
        reason: "NaN below -1, and a pole at -1",
        gives_nan: true,
        applies: |at| at.x[0] <= -1.0,
    },
    Exception {
        ops: &["exp", "expm1"],
        reason: "e^x exceeds the type",
        gives_nan: false,
        applies: |at| at.x[0] > at.limits.exp_max,
    },
    Exception {
        ops: &["clamped_exp"],
        reason: "e^x exceeds the type if max is above the default",
        gives_nan: false,
        applies: |at| at.x[0].clamp(at.call.scale, at.call.offset) > at.limits.exp_max,
    },
    Exception {
        ops: &[
            "clamped_exp_backward",
            "clamped_log_backward",
            "erf_backward",
            "exp_backward",
            "exp2_backward",
            "expm1_backward",
            "gelu_backward",
            "gelu_tanh_backward",
            "log_backward",
            "log1p_backward",
            "log2_backward",
            "reciprocal_backward",
            "rsqrt_backward",
            "silu_backward",
            "sqrt_backward",
        ],
        reason: "the gradient times a derivative above 1 exceeds the type",
        gives_nan: false,
        applies: |at| at.beyond(times_derivative(at.call, at.x[0], at.dy[0].abs())),
    },
    Exception {
        ops: &["log_softmax"],
        reason: "the logarithm is -inf at masked positions",
        gives_nan: false,
        applies: |at| at.masks(at.column),
    },
    Exception {
        ops: &["logsumexp"],
        reason: "the result of a fully masked row is -inf",
        gives_nan: false,
        applies: |at| (0..at.cols).all(|column| at.masks(column)),
    },
    Exception {
        ops: &["log_softmax", "logsumexp"],
        reason: "the difference of two logits, or a logit, exceeds the type",
        gives_nan: false,
        applies: |at| at.beyond(2.0 * at.call.scale.abs() * most(at.x)),
    },
    Exception {
        ops: &["softmax_backward", "log_softmax_backward", "logsumexp_backward"],
        reason: "the gradients of the scores, times the scale, exceed the type",
        gives_nan: false,
        applies: |at| at.beyond(at.call.scale.abs() * most(at.dy) * gathered(at)),
    },
    Exception {
        ops: &["softmax_backward_from_output", "log_softmax_backward_from_output"],
        reason: "the gradients of the scores, times the scale, exceed the type; the given probabilities may sum to more \
                 than 1",
        gives_nan: false,
        applies: |at| at.beyond(at.call.scale.abs() * most(at.dy) * (1.0 + at.cols as f64)),
    },
    Exception {
        ops: &["attention_backward"],
        reason: "products of gradients, values, keys and the scale exceed the type",
        gives_nan: false,
        applies: |at| {
            let (_, width) = lanes(at.cols);
            let grad = 2.0 * width as f64 * most(at.dy) * most(at.dy);
            at.beyond(grad * most(at.x) * at.call.scale.abs())
        },
    },
    Exception {
        ops: &["bce_with_logits"],
        reason: "the loss, with weights of up to 3, exceeds f64, the type of losses",
        gives_nan: false,
        applies: |at| 3.0 * most(at.x) > 0.99 * f64::MAX,
    },
    Exception {
        ops: &["kl_div"],
        reason: "the loss exceeds f64, the type of losses, or the gradient times the scale exceeds the type",
        gives_nan: false,
        applies: |at| {
            let distance = at.cols as f64 * (2.0 * at.call.scale.abs() * most(at.x) + 40.0);
            distance > 0.99 * f64::MAX || at.beyond(at.cols as f64 * at.call.scale.abs())
        },
    },
    Exception {
        ops: &["cross_entropy"],
        reason: "the loss exceeds f64, the type of losses",
        gives_nan: false,
        applies: |at| {
            let log_sum = most(at.x) + (at.cols as f64).ln();
            at.rows as f64 * (6.0 * log_sum + at.call.eps * log_sum * log_sum) > 0.99 * f64::MAX
        },
    },
    Exception {
        ops: &["cross_entropy_backward"],
        reason: "the gradient of the loss, times weights of up to 3 or the derivative of z_loss, exceeds the type",
        gives_nan: false,
        applies: |at| {
            let log_sum = most(at.x) + (at.cols as f64).ln();
            at.beyond(at.call.scale.abs() * (12.0 + 2.0 * at.call.eps * log_sum))
        },
    },
    Exception {
        ops: &["rms_norm", "layer_norm", "group_norm"],
        reason: "weights or biases are large; a normalised element is at most sqrt(columns)",
        gives_nan: false,
        applies: |at| at.beyond(at.weight() * (1.0 + (at.cols as f64).sqrt())),
    },
    Exception {
        ops: &["rms_norm_backward", "layer_norm_backward"],
        reason: "the gradient is divided by the deviation, which may be small, and multiplied by weights",
        gives_nan: false,
        applies: |at| match at.row {
            Some(_) => at.beyond(over_deviation(at, at.weight() * most(at.dy) * (2.0 + at.cols as f64))),
            None => at.beyond(at.rows as f64 * most(at.dy) * (1.0 + (at.cols as f64).sqrt())),
        },
    },
    Exception {
        ops: &["rope", "rope_backward"],
        reason: "rotating a pair onto an axis makes an element larger by up to sqrt(2)",
        gives_nan: false,
        applies: |at| at.beyond(1.415 * most(at.x)),
    },
    Exception {
        ops: &["qk_norm_rope"],
        reason: "weights are large, and rotating a pair onto an axis makes an element larger by up to sqrt(2)",
        gives_nan: true,
        applies: |at| at.beyond(1.415 * at.weight() * (1.0 + (at.cols as f64).sqrt())),
    },
    Exception {
        ops: &["rms_norm_linear"],
        reason: "weights are large, so the sum or the rounded normalised row may exceed the type",
        gives_nan: true,
        applies: |at| at.beyond(4.0 * (1.0 + at.weight()) * (1.0 + at.cols as f64)),
    },
    Exception {
        ops: &["swiglu"],
        reason: "the product exceeds the type",
        gives_nan: false,
        applies: |at| at.beyond(at.x[0].abs() * at.dy[0].abs()),
    },
    Exception {
        ops: &["swiglu_backward"],
        reason: "a gradient times the other factor, the gate or a derivative above 1 exceeds the type",
        gives_nan: false,
        applies: |at| at.beyond(1.13 * at.x[0].abs() * at.dy[0].abs()),
    },
    Exception {
        ops: &["clip_grad_norm"],
        reason: "the returned norm exceeds f64",
        gives_nan: false,
        applies: |at| at.column == 0 && at.x.len() as f64 * most(at.x) + at.call.eps > 0.99 * f64::MAX,
    },
    Exception {
        ops: &["inspect"],
        reason: "an empty tensor has no statistics",
        gives_nan: true,
        applies: |at| at.x.is_empty(),
    },
];

/// Returns the magnitude of dy times the derivative at x, or an upper bound of this magnitude.
fn times_derivative(call: &Call, x: f64, dy: f64) -> f64 {
    match call.name() {
        "clamped_exp_backward" if !(call.scale..=call.offset).contains(&x) => 0.0,
        "clamped_log_backward" if x < call.eps => 0.0,
        // Multiplies by exp(x / 2) twice, because exp(x) may overflow even if dy * exp(x) does not.
        "exp_backward" | "expm1_backward" | "clamped_exp_backward" => dy * (x / 2.0).exp() * (x / 2.0).exp(),
        "exp2_backward" => dy * (x / 2.0).exp2() * (x / 2.0).exp2(),
        "log_backward" | "clamped_log_backward" => dy / x.abs(),
        "log2_backward" => 1.45 * dy / x.abs(),
        "reciprocal_backward" => dy / x.abs() / x.abs(),
        "log1p_backward" => dy / (1.0 + x).abs(),
        "sqrt_backward" => dy / (2.0 * x.abs().sqrt()),
        "rsqrt_backward" => dy / x.abs().sqrt() / (2.0 * x.abs()),
        _ => 1.13 * dy,
    }
}

/// Returns the number of terms that are added for the gradient of one score.
fn gathered(at: &At<'_>) -> f64 {
    if at.call.name() == "log_softmax_backward" { 1.0 + at.cols as f64 } else { 1.0 }
}

/// Returns an upper bound of `gradient` / d, where d is the divisor in the row's norm. If d is 0, the op gives zeros,
/// and the bound is `gradient`.
fn over_deviation(at: &At<'_>, gradient: f64) -> f64 {
    let n = at.cols as f64;
    let fold = |start, of: fn(f64, f64) -> f64| at.x.iter().copied().fold(start, of);
    // In a centred norm, the deviations of the largest and the smallest value have squares that sum to at least
    // `range^2 / 2`. So d is at least `range / sqrt(2 * n)`. In other norms, d is at least the largest magnitude
    // divided by `sqrt(n)`.
    let (range, part) = match at.call.name() {
        "layer_norm_backward" => (fold(f64::NEG_INFINITY, f64::max) - fold(f64::INFINITY, f64::min), (2.0 * n).sqrt()),
        _ => (most(at.x), n.sqrt()),
    };
    if range == 0.0 && at.call.eps == 0.0 {
        return gradient;
    }
    (gradient * part / range).min(gradient / at.call.eps.sqrt())
}

/// Returns whether a result is finite, or the documentation allows it to be non-finite.
pub fn is_right(value: f64, at: &At<'_>) -> bool {
    let named = |exception: &Exception| {
        let kind = exception.gives_nan || value.is_infinite();
        kind && exception.ops.contains(&at.call.name()) && (exception.applies)(at)
    };
    value.is_finite() || EXCEPTIONS.iter().any(named)
}

/// Returns the reason why rows of a call depend on each other, if they do.
pub fn joint(call: &Call) -> Option<&'static str> {
    match call.name() {
        "clip_grad_norm" | "inspect" => Some("the result depends on all elements"),
        "cross_entropy" if call.reduction() != Reduction::None => Some("the loss depends on all rows"),
        "cross_entropy_backward" if call.reduction() == Reduction::Mean => Some("a mean divides by all rows' weights"),
        _ => None,
    }
}

/// Returns whether the op reads an element of x, or of dy if `of_dy` is true. Masked and ignored elements are not read,
/// nor are gradients where the derivative is 0.
pub fn is_read<E: Bits>(case: &Case<E>, row: usize, column: usize, of_dy: bool) -> bool {
    let Case { call, rows, cols, .. } = case;
    let masks = |column| call.masks(row, column, *rows, *cols);
    let (_, width) = lanes(*cols);
    let x = case.x[row * cols + column].widen();
    match case.op {
        "logsumexp_backward" if of_dy => column == 0 && !(0..*cols).all(masks),
        "softmax"
        | "softmax_backward"
        | "log_softmax"
        | "log_softmax_backward"
        | "logsumexp"
        | "logsumexp_backward" => !masks(column),
        "softmax_backward_from_output" if of_dy => x != 0.0,
        "log_softmax_backward_from_output" if of_dy => x != f64::NEG_INFINITY,
        "attention" | "attention_backward" => {
            let (len, is_query) = (cols / width, column < width);
            let any = (0..len).any(|key| call.keeps(key));
            // The mean of all values includes the masked values.
            let all = !any && call.policy() == FullyMasked::Uniform;
            let forward = case.op == "attention";
            let as_query = is_query && if of_dy { !forward && (any || all) } else { any };
            as_query || call.keeps(column / width) || of_dy && forward && all
        }
        "cross_entropy" | "cross_entropy_backward" => call.target(row, *cols) != -100,
        "mean_pool" => column / width < call.length(row),
        "mean_pool_backward" => column < width && call.length(row) > 0,
        "clamped_exp_backward" if of_dy => (call.scale..=call.offset).contains(&x),
        "clamped_log_backward" if of_dy => x >= call.eps,
        _ => true,
    }
}
