//! Tests that fail in the unchanged text-embeddings-inference, and pass once it uses Evenkeel. The responses of the
//! unchanged engine to these requests contain a NaN.

mod tiny;

use std::path::PathBuf;
use std::str::FromStr;
use text_embeddings_backend::{Backend, DType, ModelType, Pool};
use text_embeddings_core::infer::Infer;
use text_embeddings_core::queue::Queue;
use text_embeddings_core::tokenization::Tokenization;
use tiny::Tiny;
use tokenizers::{Tokenizer, TruncationDirection};

const TOKENIZER: &str = r#"{
    "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
    "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
    "model": {"type": "WordLevel", "vocab": {"unknown": 0, "a": 1, "word": 2}, "unk_token": "unknown"}
}"#;

async fn start(folder: PathBuf, model_type: ModelType) -> Infer {
    let tokenizer = Tokenizer::from_str(TOKENIZER).unwrap();
    let tokenization = Tokenization::new(1, tokenizer, 16, 0, None, None);
    let queue = Queue::new(true, 64, None, 4);
    let backend = Backend::new(folder, None, DType::Float32, model_type, None, String::new(), None, String::new());
    Infer::new(tokenization, queue, 4, backend.await.unwrap())
}

#[tokio::test]
async fn an_embedding_of_zeros_stays_zeros() {
    // If the weights of the last norm are 0, the embedding is 0.
    let model = Tiny::bert().weight("bert.encoder.layer.1.output.LayerNorm.weight", &[0.0; 16]);
    let infer = start(model.save("zeros"), ModelType::Embedding(Pool::Mean)).await;
    let permit = infer.acquire_permit().await;
    let answer = infer.embed_pooled("a word".to_string(), false, TruncationDirection::Right, None, true, None, permit);
    assert_eq!(answer.await.unwrap().results, [0.0; 16]);
}

#[tokio::test]
async fn a_score_of_minus_100_has_a_probability() {
    let model = Tiny::bert().weight("classifier.bias", &[-100.0, 1.0]);
    let infer = start(model.save("scores"), ModelType::Classifier).await;
    let permit = infer.acquire_permit().await;
    let answer = infer.predict("a word".to_string(), false, TruncationDirection::Right, false, permit);
    let probabilities = answer.await.unwrap().results;
    assert_eq!(probabilities[1], 1.0);
    assert!(probabilities[0] < 1e-40, "{probabilities:?}");
}
