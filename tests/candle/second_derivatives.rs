//! Checks that second derivatives are an error instead of silently incomplete.

use crate::gradients::{cases, objective, variables};
use candle_core::{DType, Result, Tensor};
use std::collections::BTreeSet;
use std::process::Command;

/// Cases in which ops of candle are applied to an argument before the kernel. By default candle detaches the gradients
/// of such ops, and so drops their dependence on the argument.
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

/// Differentiates each gradient again, and returns the cases in which this is no error for an argument.
fn silent() -> Result<Vec<&'static str>> {
    let mut silent = BTreeSet::new();
    for case in cases() {
        let variables = variables(&case, DType::F64)?;
        let args: Vec<Tensor> = variables.iter().map(|variable| variable.as_tensor().clone()).collect();
        let gradients = objective(&(case.op)(&args)?)?.backward()?;
        for variable in &variables {
            let gradient = gradients.get(variable).expect("each variable must have a gradient");
            if let Err(error) = gradient.sqr()?.sum_all()?.backward() {
                let text = error.to_string();
                assert!(text.contains("second derivatives are not supported"), "{}: {text}", case.name);
            } else {
                silent.insert(case.name);
            }
        }
    }
    Ok(silent.into_iter().collect())
}

#[test]
fn a_gradient_of_a_kernel_can_not_be_differentiated() -> Result<()> {
    assert_eq!(silent()?, AFTER_CANDLE);
    Ok(())
}

#[test]
#[ignore = "run by the next test in a process of its own"]
fn no_case_is_silent() -> Result<()> {
    assert!(silent()?.is_empty());
    Ok(())
}

/// If candle does not detach gradients, every case is an error.
#[test]
fn candles_own_ops_do_not_hide_the_error_if_they_keep_gradients() {
    let program = std::env::current_exe().expect("the test must know its program");
    let mut child = Command::new(program);
    child.args(["--ignored", "--exact", "second_derivatives::no_case_is_silent"]).env("CANDLE_GRAD_DO_NOT_DETACH", "1");
    let output = child.output().expect("the test program must start");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
