//! Ops on tensors of a version of candle that Evenkeel does not depend on.

mod numerics {
    evenkeel::candle_adapter!(fork_core);
}

pub fn probabilities(logits: &fork_core::Tensor) -> fork_core::Result<fork_core::Tensor> {
    numerics::ops::softmax_last_dim(logits)
}

#[test]
fn rows_sum_to_one() {
    let logits = fork_core::Tensor::new(&[[0.0f32, 0.0], [700.0, 0.0]], &fork_core::Device::Cpu).unwrap();
    assert_eq!(probabilities(&logits).unwrap().to_vec2::<f32>().unwrap(), [[0.5, 0.5], [1.0, 0.0]]);
}
