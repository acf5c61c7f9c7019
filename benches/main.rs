//! All benchmarks. `cargo bench -- OP` runs the benchmarks of one op. An argument that is not the
//! name of an op selects the benchmarks whose names contain it.

#[macro_use]
mod support;

mod attention;
mod attention_backward;
mod bce_with_logits;
mod clamped_exp;
mod clamped_log;
mod clip_grad_norm;
mod clip_grad_value;
mod cross_entropy;
mod cross_entropy_backward;
mod elementwise;
mod group_norm;
mod inspect;
mod kl_div;
mod l2_normalize;
mod layer_norm;
mod layer_norm_backward;
mod log_add_exp;
mod log_softmax;
mod log_softmax_backward;
mod log_softmax_backward_from_output;
mod logsumexp;
mod logsumexp_backward;
mod mean_pool;
mod mean_pool_backward;
mod qk_norm_rope;
mod rms_norm;
mod rms_norm_backward;
mod rms_norm_linear;
mod rope;
mod rope_backward;
mod safe_div;
mod sample;
mod softmax;
mod softmax_backward;
mod softmax_backward_from_output;
mod swiglu;
mod swiglu_backward;

use criterion::Criterion;

/// Name of an op, and the function that checks and times it.
type Op = (&'static str, fn(&mut Criterion));

/// All ops except those of `elementwise::OPS`.
const OPS: &[Op] = &[
    ("attention", attention::run),
    ("attention_backward", attention_backward::run),
    ("bce_with_logits", bce_with_logits::run),
    ("clamped_exp", clamped_exp::run),
    ("clamped_log", clamped_log::run),
    ("clip_grad_norm", clip_grad_norm::run),
    ("clip_grad_value", clip_grad_value::run),
    ("cross_entropy", cross_entropy::run),
    ("cross_entropy_backward", cross_entropy_backward::run),
    ("group_norm", group_norm::run),
    ("inspect", inspect::run),
    ("kl_div", kl_div::run),
    ("l2_normalize", l2_normalize::run),
    ("layer_norm", layer_norm::run),
    ("layer_norm_backward", layer_norm_backward::run),
    ("log_add_exp", log_add_exp::run),
    ("log_softmax", log_softmax::run),
    ("log_softmax_backward", log_softmax_backward::run),
    ("log_softmax_backward_from_output", log_softmax_backward_from_output::run),
    ("logsumexp", logsumexp::run),
    ("logsumexp_backward", logsumexp_backward::run),
    ("mean_pool", mean_pool::run),
    ("mean_pool_backward", mean_pool_backward::run),
    ("qk_norm_rope", qk_norm_rope::run),
    ("rms_norm", rms_norm::run),
    ("rms_norm_backward", rms_norm_backward::run),
    ("rms_norm_linear", rms_norm_linear::run),
    ("rope", rope::run),
    ("rope_backward", rope_backward::run),
    ("safe_div", safe_div::run),
    ("sample", sample::run),
    ("softmax", softmax::run),
    ("softmax_backward", softmax_backward::run),
    ("softmax_backward_from_output", softmax_backward_from_output::run),
    ("swiglu", swiglu::run),
    ("swiglu_backward", swiglu_backward::run),
];

fn main() {
    // If an argument names an op, the other ops are skipped here. Criterion's own filter would still run the checks of
    // the other ops.
    let ops = || elementwise::OPS.iter().chain(OPS);
    let named = |argument: String| ops().find(|(op, _)| argument.split('/').next() == Some(op));
    let only = std::env::args().skip(1).find_map(named);
    let c = &mut support::criterion();
    for (op, run) in ops() {
        if only.is_none_or(|(name, _)| name == op) {
            run(c);
        }
    }
    c.final_summary();
}
