//! New module of text-embeddings-inference: Evenkeel's ops on the numbers in a response.

use crate::TextEmbeddingsError;
use evenkeel::{Error, L2Normalize, RowsMut, Softmax};
use text_embeddings_backend::BackendError;

/// Divides the embedding by its length. An embedding of zeros stays zeros.
pub fn normalize(embedding: &mut [f32]) -> Result<(), TextEmbeddingsError> {
    row(embedding).and_then(|row| evenkeel::l2_normalize_in_place(row, &L2Normalize::default())).map_err(failed)
}

/// Replaces the scores of the classes by their probabilities.
pub fn probabilities(scores: &mut [f32]) -> Result<(), TextEmbeddingsError> {
    row(scores).and_then(|row| evenkeel::softmax_in_place(row, &Softmax::default())).map_err(failed)
}

fn row(values: &mut [f32]) -> Result<RowsMut<'_, f32>, Error> {
    let cols = values.len();
    RowsMut::new(values, 1, cols)
}

fn failed(error: Error) -> TextEmbeddingsError {
    BackendError::Inference(error.to_string()).into()
}
