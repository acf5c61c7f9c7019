//! Ops on slices.

/// Returns the probabilities of each row of logits.
pub fn probabilities(logits: &[f32], vocabulary: usize) -> evenkeel::Result<Vec<f32>> {
    let rows = evenkeel::Rows::new(logits, logits.len() / vocabulary, vocabulary)?;
    evenkeel::softmax(rows, &evenkeel::Softmax::default())
}

#[test]
fn rows_sum_to_one() {
    assert_eq!(probabilities(&[0.0, 0.0, 700.0, 0.0], 2).unwrap(), [0.5, 0.5, 1.0, 0.0]);
}
