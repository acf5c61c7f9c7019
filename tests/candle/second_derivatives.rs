//! Checks that second derivatives are an error instead of silently incomplete.

use crate::gradients::{cases, objective, variables};
use candle_core::{DType, Result, Tensor};

/// Cases that apply ops of candle to the argument first. Candle then drops the dependence on the argument itself.
const AFTER_CANDLE: &[&str] = &["log", "log2", "reciprocal", "log1p", "sqrt", "rsqrt"];

#[test]
fn a_gradient_of_a_kernel_can_not_be_differentiated() -> Result<()> {
    for case in cases().into_iter().filter(|case| !AFTER_CANDLE.contains(&case.name)) {
        let variables = variables(&case, DType::F64)?;
        let args: Vec<Tensor> = variables.iter().map(|variable| variable.as_tensor().clone()).collect();
        let gradients = objective(&(case.op)(&args)?)?.backward()?;
        for (at, variable) in variables.iter().enumerate() {
            let gradient = gradients.get(variable).expect("each variable must have a gradient");
            match gradient.sqr()?.sum_all()?.backward() {
                Ok(_) => panic!("{}: the second derivative of argument {at} must be an error", case.name),
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.contains("second derivatives are not supported"), "{}: {text}", case.name);
                }
            }
        }
    }
    Ok(())
}
