//! Searched ops, by family.

mod attention;
mod attention_backward;
mod cross_entropy;
mod elementwise;
mod losses;
mod norms;
mod norms_backward;
mod rope;
mod softmax;
mod softmax_output;

use crate::judge::Op;

pub fn ops() -> Vec<Op> {
    let families = [
        softmax::ops(),
        softmax_output::ops(),
        cross_entropy::ops(),
        norms::ops(),
        norms_backward::ops(),
        attention::ops(),
        attention_backward::ops(),
        rope::ops(),
        losses::ops(),
        elementwise::ops(),
    ];
    families.into_iter().flatten().collect()
}
