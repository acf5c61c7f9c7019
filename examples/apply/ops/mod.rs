//! Table of ops, with the inputs, attributes, outputs and function of each.

mod attention;
mod clip;
mod cross_entropy;
mod elementwise;
mod grad_scaler;
mod inspect;
mod losses;
mod mean_pool;
mod norms;
mod rope;
mod sample;
mod softmax;

use crate::call::{Call, Result, Results};

/// Entry of an op in the table.
pub struct Op {
    pub name: &'static str,
    /// All inputs of the op.
    pub inputs: &'static [&'static str],
    /// Inputs that must be given.
    pub required: &'static [&'static str],
    /// Inputs and outputs that are lists of tensors.
    pub lists: &'static [&'static str],
    pub attrs: &'static [&'static str],
    pub outputs: &'static [&'static str],
    /// Pairs of names: an output, and the input that must be given for this output.
    pub needs: &'static [(&'static str, &'static str)],
    pub run: fn(&Call<'_>) -> Result<Results>,
}

const fn elementwise(name: &'static str, run: fn(&Call<'_>) -> Result<Results>) -> Op {
    Op {
        name,
        inputs: &["x", "dy"],
        required: &["x"],
        lists: &[],
        attrs: &[],
        outputs: &["y", "dx"],
        needs: &[("dx", "dy")],
        run,
    }
}

const SOFTMAX: Op = Op {
    name: "softmax",
    inputs: &["x", "mask", "dy"],
    required: &["x"],
    lists: &[],
    attrs: &["axis", "scale", "softcap", "causal", "fully_masked"],
    outputs: &["y", "dx"],
    needs: &[("dx", "dy")],
    run: softmax::softmax,
};

const OUTPUT_BACKWARD: Op = Op {
    name: "softmax_backward_from_output",
    inputs: &["y", "dy"],
    required: &["y", "dy"],
    attrs: &["axis", "scale"],
    outputs: &["dx"],
    needs: &[],
    run: softmax::softmax_backward_from_output,
    ..SOFTMAX
};

const CLIP: Op = Op {
    name: "clip_grad_value",
    inputs: &["grads"],
    required: &["grads"],
    lists: &["grads"],
    attrs: &["clip_value"],
    outputs: &["grads"],
    needs: &[],
    run: clip::clip_grad_value,
};

const KL_DIV: Op = Op {
    inputs: &["x", "target"],
    required: &["x", "target"],
    attrs: &["reduction", "log_target"],
    outputs: &["loss", "dx"],
    needs: &[],
    ..elementwise("kl_div", losses::kl_div)
};

pub fn all() -> impl Iterator<Item = &'static Op> {
    elementwise::OPS.iter().chain(OPS)
}

/// Ops that are not in `elementwise::OPS`.
const OPS: &[Op] = &[
    Op { attrs: &["min", "max"], ..elementwise("clamped_exp", elementwise::clamped_exp) },
    Op { attrs: &["floor"], ..elementwise("clamped_log", elementwise::clamped_log) },
    Op {
        inputs: &["x", "d"],
        required: &["x", "d"],
        attrs: &["eps"],
        outputs: &["y"],
        needs: &[],
        ..elementwise("safe_div", elementwise::safe_div)
    },
    Op {
        inputs: &["a", "b"],
        required: &["a", "b"],
        outputs: &["y"],
        needs: &[],
        ..elementwise("log_add_exp", elementwise::log_add_exp)
    },
    Op {
        inputs: &["gate", "up", "dy"],
        required: &["gate", "up"],
        outputs: &["y", "dgate", "dup"],
        needs: &[("dgate", "dy"), ("dup", "dy")],
        ..elementwise("swiglu", elementwise::swiglu)
    },
    SOFTMAX,
    Op { name: "log_softmax", run: softmax::log_softmax, ..SOFTMAX },
    OUTPUT_BACKWARD,
    Op { name: "log_softmax_backward_from_output", run: softmax::log_softmax_backward_from_output, ..OUTPUT_BACKWARD },
    Op {
        name: "logsumexp",
        inputs: &["x", "mask"],
        attrs: &["axis", "keepdim"],
        outputs: &["y"],
        needs: &[],
        run: softmax::logsumexp,
        ..SOFTMAX
    },
    Op {
        name: "clip_grad_norm",
        attrs: &["max_norm", "norm_type", "mode", "error_if_nonfinite"],
        outputs: &["grads", "norm"],
        run: clip::clip_grad_norm,
        ..CLIP
    },
    CLIP,
    Op {
        name: "adaptive_clip",
        inputs: &["grads", "params"],
        required: &["grads", "params"],
        lists: &["grads", "params"],
        attrs: &["clipping", "eps"],
        run: clip::adaptive_clip,
        ..CLIP
    },
    Op {
        inputs: &["found_inf"],
        required: &["found_inf"],
        attrs: &["init_scale", "growth_factor", "backoff_factor", "growth_interval"],
        outputs: &["scale"],
        needs: &[],
        ..elementwise("grad_scaler", grad_scaler::grad_scaler)
    },
    Op {
        inputs: &["x", "target", "weight", "pos_weight"],
        required: &["x", "target"],
        attrs: &["reduction", "focal_gamma", "alpha"],
        outputs: &["loss", "dx"],
        needs: &[],
        ..elementwise("bce_with_logits", losses::bce_with_logits)
    },
    KL_DIV,
    Op {
        name: "kl_div_with_logits",
        attrs: &["reduction", "log_target", "scale"],
        run: losses::kl_div_with_logits,
        ..KL_DIV
    },
    Op {
        name: "cross_entropy",
        inputs: &["logits", "target", "weight"],
        required: &["logits", "target"],
        attrs: &["reduction", "ignore_index", "label_smoothing", "z_loss", "softcap"],
        outputs: &["loss", "dlogits"],
        ..elementwise("cross_entropy", cross_entropy::cross_entropy)
    },
    Op {
        name: "rms_norm",
        inputs: &["x", "weight", "residual", "dy"],
        required: &["x"],
        lists: &[],
        attrs: &["eps", "weight_offset", "rounding"],
        outputs: &["y", "residual", "dx", "dweight"],
        needs: &[("residual", "residual"), ("dx", "dy"), ("dweight", "dy"), ("dweight", "weight")],
        run: norms::rms_norm,
    },
    Op {
        name: "layer_norm",
        inputs: &["x", "weight", "bias", "dy"],
        required: &["x"],
        lists: &[],
        attrs: &["eps"],
        outputs: &["y", "dx", "dweight", "dbias"],
        needs: &[("dx", "dy"), ("dweight", "dy"), ("dweight", "weight"), ("dbias", "dy"), ("dbias", "bias")],
        run: norms::layer_norm,
    },
    Op {
        name: "attention",
        inputs: &["q", "k", "v", "mask", "sinks", "dy"],
        required: &["q", "k", "v"],
        lists: &[],
        attrs: &["scale", "causal", "softcap", "window", "fully_masked"],
        outputs: &["y", "lse", "dq", "dk", "dv", "dsinks"],
        needs: &[("dq", "dy"), ("dk", "dy"), ("dv", "dy"), ("dsinks", "dy"), ("dsinks", "sinks")],
        run: attention::attention,
    },
    Op {
        name: "group_norm",
        inputs: &["x", "weight", "bias"],
        required: &["x"],
        lists: &[],
        attrs: &["groups", "eps"],
        outputs: &["y"],
        needs: &[],
        run: norms::group_norm,
    },
    Op {
        inputs: &["x"],
        attrs: &["axis", "eps"],
        outputs: &["y"],
        needs: &[],
        ..elementwise("l2_normalize", norms::l2_normalize)
    },
    Op { name: "inspect", inputs: &["x"], outputs: &["stats"], needs: &[], ..elementwise("inspect", inspect::inspect) },
    Op {
        name: "mean_pool",
        inputs: &["x", "mask", "dy"],
        required: &["x"],
        attrs: &["fully_masked"],
        run: mean_pool::mean_pool,
        ..SOFTMAX
    },
    Op {
        name: "qk_norm_rope",
        inputs: &["x", "positions", "weight"],
        required: &["x", "positions"],
        lists: &[],
        attrs: rope::NORM_ATTRS,
        outputs: &["y"],
        needs: &[],
        run: rope::qk_norm_rope,
    },
    Op {
        name: "rms_norm_linear",
        inputs: &["x", "matrix", "weight", "bias"],
        required: &["x", "matrix"],
        lists: &[],
        attrs: &["eps", "weight_offset", "rounding", "rounded"],
        outputs: &["y"],
        needs: &[],
        run: norms::rms_norm_linear,
    },
    Op {
        name: "rope",
        inputs: &["x", "positions"],
        required: &["x", "positions"],
        lists: &[],
        attrs: rope::ATTRS,
        outputs: &["y"],
        needs: &[],
        run: rope::rope,
    },
    Op {
        name: "sample",
        inputs: &["logits", "mask", "history"],
        required: &["logits"],
        lists: &[],
        attrs: &[
            "profile",
            "temperature",
            "top_k",
            "top_p",
            "min_p",
            "typical_p",
            "epsilon_cutoff",
            "eta_cutoff",
            "top_n_sigma",
            "xtc_probability",
            "xtc_threshold",
            "repetition_penalty",
            "presence_penalty",
            "frequency_penalty",
            "seed",
            "draws",
        ],
        outputs: &["probs", "tokens", "logprobs"],
        needs: &[],
        run: sample::sample,
    },
];

/// Returns the text that `--help` prints after the options.
pub fn help() -> String {
    let mut help = String::from(
        "Example:
  JOBS.json  [{\"id\":\"a1\", \"op\":\"softmax\", \"inputs\":{\"x\":\"logits\",\"mask\":\"keep\"},
               \"attrs\":{\"axis\":-1}, \"outputs\":{\"y\":\"probs\"}}]
  run        cargo run --release --example apply -- JOBS.json --tensors IN.safetensors --out OUT.safetensors
  stdout     {\"id\":\"a1\",\"ok\":true}

Floats are F64, F32, F16 or BF16. A mask is BOOL or U8 (nonzero elements are attended to), or floats, which are added.
Positions are I64. Write infinities and NaN as the strings \"inf\", \"-inf\" and \"nan\". A job that fails reports the
reason in its answer, and the other jobs still run. Exit status: 0 if every job was answered, 2 if a file could not be
read or written.

Ops:
",
    );
    for op in all() {
        let inputs: Vec<_> = op
            .inputs
            .iter()
            .map(|input| match op.required.contains(input) {
                true if op.lists.contains(input) => format!("{input} [list]"),
                true => input.to_string(),
                false => format!("{input}?"),
            })
            .collect();
        let attrs = if op.attrs.is_empty() { String::new() } else { format!("; {}", op.attrs.join(", ")) };
        help += &format!("  {}({}{attrs}) -> {}\n", op.name, inputs.join(", "), op.outputs.join(", "));
    }
    help
}
