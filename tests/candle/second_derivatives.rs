//! Checks that a second derivative gives an error instead of an incomplete result.

use crate::gradients::{cases, objective, variables};
use candle_core::{DType, Result, Tensor};
use std::collections::BTreeSet;

/// Ops for which candle returns an incomplete second derivative instead of an error. Each of these ops applies candle's
/// own ops to an argument, and then runs a kernel on the result. By default, candle detaches the gradients of its own
/// ops. A second backward pass therefore ends before it reaches the kernel, which would return the error.
const AFTER_CANDLE: &[&str] = &[
    "binary cross-entropy",
    "cross-entropy of a linear layer by chunks",
    "log",
    "log1p",
    "log2",
    "reciprocal",
    "rms_norm_linear",
    "rope_thd",
    "rsqrt",
    "sqrt",
    "swiglu",
];

#[test]
fn a_gradient_of_a_kernel_can_not_be_differentiated() -> Result<()> {
    let mut silent = BTreeSet::new();
    for case in cases() {
        let variables = variables(&case, DType::F64)?;
        let args: Vec<Tensor> = variables.iter().map(|variable| variable.as_tensor().clone()).collect();
        let gradients = objective(&(case.op)(&args)?)?.backward()?;
        for variable in &variables {
            let gradient = gradients.get(variable).expect("each variable must have a gradient");
            if let Err(error) = gradient.sqr()?.sum_all()?.backward() {
                let text = error.to_string();
                assert!(
                    text.contains("second derivatives are not supported"),
                    "{}: expected an error about second derivatives, got {text}",
                    case.name
                );
            } else {
                silent.insert(case.name);
            }
        }
    }
    assert_eq!(
        silent.into_iter().collect::<Vec<_>>(),
        AFTER_CANDLE,
        "`AFTER_CANDLE` must name the cases of `gradients.rs` that give no error"
    );
    Ok(())
}
