//! Tests that fail in the unchanged text-embeddings-inference, and pass once it uses Evenkeel. In these batches,
//! embeddings of the unchanged engine are NaN, or differ from the embedding of the same sequence in a batch of its own.

mod tiny;

use std::path::Path;
use text_embeddings_backend_candle::CandleBackend;
use text_embeddings_backend_core::{Backend, Batch, Embedding, ModelType, Pool};
use tiny::Tiny;

fn load(folder: &Path, dtype: &str, pool: Pool) -> CandleBackend {
    CandleBackend::new(folder, dtype.into(), ModelType::Embedding(pool), None).unwrap()
}

/// Returns a batch that requests one pooled embedding for each of these sequences.
fn batch(sequences: &[Vec<u32>]) -> Batch {
    let mut cumulative_seq_lengths = vec![0];
    for sequence in sequences {
        cumulative_seq_lengths.push(cumulative_seq_lengths.last().unwrap() + sequence.len() as u32);
    }
    let input_ids = sequences.concat();
    Batch {
        token_type_ids: vec![0; input_ids.len()],
        position_ids: sequences.iter().flat_map(|sequence| 0..sequence.len() as u32).collect(),
        max_length: sequences.iter().map(Vec::len).max().unwrap() as u32,
        pooled_indices: (0..sequences.len() as u32).collect(),
        raw_indices: vec![],
        cumulative_seq_lengths,
        input_ids,
    }
}

/// Returns the embedding of sequence `i` of the batch.
fn pooled(backend: &CandleBackend, batch: Batch, i: usize) -> Vec<f32> {
    match backend.embed(batch).unwrap().remove(&i) {
        Some(Embedding::Pooled(embedding)) => embedding,
        _ => panic!("the result must have an embedding of sequence {i}"),
    }
}

/// Fails if two elements differ by more than `tolerance`, or if an element is NaN.
fn assert_close(got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len());
    let differ = got.iter().zip(expected).position(|(x, y)| !((x - y).abs() <= tolerance));
    assert_eq!(differ, None, "{got:?} instead of {expected:?}");
}

/// Checks that each sequence has the same embedding in the batch of all sequences as in a batch of its own.
fn assert_equal_alone(backend: &CandleBackend, sequences: &[Vec<u32>]) {
    for (i, sequence) in sequences.iter().enumerate() {
        let alone = pooled(backend, batch(std::slice::from_ref(sequence)), 0);
        assert_close(&pooled(backend, batch(sequences), i), &alone, 1e-3);
    }
}

/// Returns 11 sequences of one token each, and two longer sequences.
fn different_lengths() -> Vec<Vec<u32>> {
    let long = [vec![5, 2, 9], vec![7, 1, 4, 11, 6, 8, 2]];
    (1..12).map(|token| vec![token]).chain(long).collect()
}

#[test]
fn padded_f16_sequences_of_a_causal_model_equal_each_alone() {
    let folder = Tiny::qwen3().save("padded_causal");
    for pool in [Pool::LastToken, Pool::Mean] {
        assert_equal_alone(&load(&folder, "float16", pool), &different_lengths());
    }
}

#[test]
fn raw_tokens_of_a_padded_causal_batch_equal_each_alone() {
    let backend = load(&Tiny::qwen3().save("raw_causal"), "float32", Pool::Mean);
    let raw = |sequences: &[Vec<u32>]| {
        let batch = batch(sequences);
        let batch = Batch { raw_indices: batch.pooled_indices, pooled_indices: vec![], ..batch };
        match backend.embed(batch).unwrap().remove(&0) {
            Some(Embedding::All(tokens)) => tokens.concat(),
            _ => panic!("the result must have the embeddings of all tokens of sequence 0"),
        }
    };
    let (short, long) = (vec![5, 2, 9], vec![7, 1, 4, 11, 6, 8, 2]);
    assert_close(&raw(&[short.clone(), long]), &raw(&[short]), 1e-5);
}

#[test]
fn padded_f16_sequences_of_an_encoder_equal_each_alone() {
    for (model, name) in [(Tiny::nomic(), "padded_nomic"), (Tiny::bert(), "padded_bert")] {
        let folder = model.save(name);
        for pool in [Pool::Cls, Pool::Mean] {
            assert_equal_alone(&load(&folder, "float16", pool), &different_lengths());
        }
    }
}

#[test]
fn causal_sequences_of_equal_lengths_equal_each_alone() {
    let folder = Tiny::qwen3().save("equal_lengths");
    assert_equal_alone(&load(&folder, "float32", Pool::Mean), &[vec![3, 1, 4, 1], vec![5, 9, 2, 6]]);
}

/// Checks that 4,096 equal tokens have the same embedding as one such token. The model gives the same output for each
/// token, so the mean equals the output for one token.
fn assert_mean_of_equal_tokens(model: Tiny, name: &str) {
    let backend = load(&model.save(name), "float16", Pool::Mean);
    let one = pooled(&backend, batch(&[vec![5]]), 0);
    assert_close(&pooled(&backend, batch(&[vec![5; 4096]]), 0), &one, 1e-3);
}

#[test]
fn the_mean_of_4096_f16_tokens_of_qwen3() {
    assert_mean_of_equal_tokens(Tiny::qwen3(), "mean_qwen3");
}

#[test]
fn the_mean_of_4096_f16_tokens_of_nomic() {
    assert_mean_of_equal_tokens(Tiny::nomic(), "mean_nomic");
}

#[test]
fn the_mean_of_4096_f16_tokens_of_bert() {
    assert_mean_of_equal_tokens(Tiny::bert(), "mean_bert");
}

#[test]
fn a_mean_next_to_raw_tokens_is_divided_by_its_own_length() {
    for (model, name) in [(Tiny::nomic(), "raw_nomic"), (Tiny::bert(), "raw_bert")] {
        let backend = load(&model.save(name), "float32", Pool::Mean);
        let alone = pooled(&backend, batch(&[vec![5, 2]]), 0);
        let mixed =
            Batch { pooled_indices: vec![1], raw_indices: vec![0], ..batch(&[vec![3, 1, 4, 1, 5], vec![5, 2]]) };
        assert_close(&pooled(&backend, mixed, 1), &alone, 1e-5);
    }
}

#[test]
fn the_base_of_scaled_rotary_positions() {
    // The rotary base is multiplied by 3^2. The number 3 is `2 * (64 / 32 - 1) + 1`, because the scaling factor is 2,
    // and the model has 64 positions but was trained on 32. The exponent is `4 / (4 - 2)`, because heads have 4
    // features.
    let scaled = Tiny::nomic().set("rotary_scaling_factor", 2.0).set("max_position_embeddings", 32);
    let exact = Tiny::nomic().set("rotary_emb_base", 9000.0);
    let sequence = [3, 1, 4, 1, 5, 9, 2, 6].repeat(5);
    let [scaled, exact] = [(scaled, "scaled"), (exact, "exact")].map(|(model, name)| {
        let folder = model.set("n_positions", 64).save(name);
        pooled(&load(&folder, "float32", Pool::Mean), batch(std::slice::from_ref(&sequence)), 0)
    });
    assert_close(&scaled, &exact, 1e-5);
}
