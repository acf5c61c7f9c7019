//! Tiny models for the tests of text-embeddings-inference. They have generated weights, and are saved in the file
//! format of the Hugging Face hub.

use candle::{Device, Tensor};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::PathBuf;

const VOCABULARY: usize = 12;
const HIDDEN: usize = 16;
const HEADS: usize = 4;

/// Weight of the last norm. It keeps embeddings below 0.5, where neighbouring f16 numbers differ by at most 2.5e-4.
const SMALL: f32 = 0.125;

pub struct Tiny {
    config: Value,
    weights: HashMap<String, Tensor>,
}

impl Tiny {
    /// Returns a causal model with rotary positions, four query heads and two key heads. Its padding token is 0.
    #[allow(dead_code, reason = "the tests of requests use BERT only")]
    pub fn qwen3() -> Self {
        let config = json!({
            "model_type": "qwen3", "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "head_dim": 8,
            "num_attention_heads": HEADS, "num_key_value_heads": 2, "num_hidden_layers": 2, "intermediate_size": 32,
            "hidden_act": "silu", "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
            "attention_bias": false, "use_sliding_window": false, "eos_token_id": 0,
        });
        let mut tiny = Tiny { config, weights: HashMap::new() };
        tiny.random("embed_tokens.weight", &[VOCABULARY, HIDDEN]);
        for layer in ["layers.0", "layers.1"] {
            for (name, shape) in [
                ("self_attn.q_proj", [32, HIDDEN]),
                ("self_attn.k_proj", [16, HIDDEN]),
                ("self_attn.v_proj", [16, HIDDEN]),
                ("self_attn.o_proj", [HIDDEN, 32]),
                ("mlp.gate_proj", [32, HIDDEN]),
                ("mlp.up_proj", [32, HIDDEN]),
                ("mlp.down_proj", [HIDDEN, 32]),
            ] {
                tiny.random(&format!("{layer}.{name}.weight"), &shape);
            }
            // With these weights, attention scores reach 45, as in many trained models.
            tiny.fill(&format!("{layer}.self_attn.q_norm.weight"), &[8], 4.0);
            tiny.fill(&format!("{layer}.self_attn.k_norm.weight"), &[8], 4.0);
            tiny.fill(&format!("{layer}.input_layernorm.weight"), &[HIDDEN], 1.0);
            tiny.fill(&format!("{layer}.post_attention_layernorm.weight"), &[HIDDEN], 1.0);
        }
        tiny.fill("norm.weight", &[HIDDEN], SMALL);
        tiny
    }

    /// Returns an encoder with rotary positions.
    #[allow(dead_code, reason = "the tests of requests use BERT only")]
    pub fn nomic() -> Self {
        let config = json!({
            "model_type": "nomic_bert", "vocab_size": VOCABULARY, "type_vocab_size": 1, "n_embd": HIDDEN,
            "n_head": HEADS, "n_inner": 32, "n_layer": 2, "n_positions": 4096, "max_position_embeddings": 4096,
            "activation_function": "swiglu", "layer_norm_epsilon": 1e-12, "prenorm": false,
            "qkv_proj_bias": false, "mlp_fc1_bias": false, "mlp_fc2_bias": false, "rotary_emb_base": 1000.0,
            "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": false,
        });
        let mut tiny = Tiny { config, weights: HashMap::new() };
        tiny.random("embeddings.word_embeddings.weight", &[VOCABULARY, HIDDEN]);
        tiny.random("embeddings.token_type_embeddings.weight", &[1, HIDDEN]);
        tiny.layer_norm("emb_ln", 1.0);
        for layer in ["encoder.layers.0", "encoder.layers.1"] {
            for (name, shape) in [
                ("attn.Wqkv", [3 * HIDDEN, HIDDEN]),
                ("attn.out_proj", [HIDDEN, HIDDEN]),
                ("mlp.fc11", [32, HIDDEN]),
                ("mlp.fc12", [32, HIDDEN]),
                ("mlp.fc2", [HIDDEN, 32]),
            ] {
                tiny.random(&format!("{layer}.{name}.weight"), &shape);
            }
            tiny.layer_norm(&format!("{layer}.norm1"), 1.0);
            tiny.layer_norm(&format!("{layer}.norm2"), 1.0);
        }
        tiny.layer_norm("encoder.layers.1.norm2", SMALL);
        tiny
    }

    /// Returns an encoder whose position embeddings are 0. It can also classify into two classes.
    pub fn bert() -> Self {
        let config = json!({
            "model_type": "bert", "vocab_size": VOCABULARY, "type_vocab_size": 1, "hidden_size": HIDDEN,
            "num_attention_heads": HEADS, "num_hidden_layers": 2, "intermediate_size": 32, "hidden_act": "relu",
            "max_position_embeddings": 4096, "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.0,
            "initializer_range": 0.02, "pad_token_id": 0, "id2label": {"0": "no", "1": "yes"},
        });
        let mut tiny = Tiny { config, weights: HashMap::new() };
        tiny.random("bert.embeddings.word_embeddings.weight", &[VOCABULARY, HIDDEN]);
        tiny.random("bert.embeddings.token_type_embeddings.weight", &[1, HIDDEN]);
        tiny.fill("bert.embeddings.position_embeddings.weight", &[4096, HIDDEN], 0.0);
        tiny.layer_norm("bert.embeddings.LayerNorm", 1.0);
        for layer in ["bert.encoder.layer.0", "bert.encoder.layer.1"] {
            for (name, shape) in [
                ("attention.self.query", [HIDDEN, HIDDEN]),
                ("attention.self.key", [HIDDEN, HIDDEN]),
                ("attention.self.value", [HIDDEN, HIDDEN]),
                ("attention.output.dense", [HIDDEN, HIDDEN]),
                ("intermediate.dense", [32, HIDDEN]),
                ("output.dense", [HIDDEN, 32]),
            ] {
                tiny.random(&format!("{layer}.{name}.weight"), &shape);
                tiny.fill(&format!("{layer}.{name}.bias"), &shape[..1], 0.0);
            }
            tiny.layer_norm(&format!("{layer}.attention.output.LayerNorm"), 1.0);
            tiny.layer_norm(&format!("{layer}.output.LayerNorm"), 1.0);
        }
        tiny.layer_norm("bert.encoder.layer.1.output.LayerNorm", SMALL);
        tiny.fill("classifier.weight", &[2, HIDDEN], 0.0);
        tiny.fill("classifier.bias", &[2], 0.0);
        tiny
    }

    /// Sets an entry of the configuration.
    #[allow(dead_code, reason = "the tests of requests do not use it")]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.config[key] = value.into();
        self
    }

    /// Replaces the values of a weight.
    #[allow(dead_code, reason = "only the tests of requests use it")]
    pub fn weight(mut self, name: &str, values: &[f32]) -> Self {
        self.weights.insert(name.into(), Tensor::new(values, &Device::Cpu).unwrap());
        self
    }

    /// Saves the model in a new folder and returns the folder.
    pub fn save(&self, name: &str) -> PathBuf {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("config.json"), self.config.to_string()).unwrap();
        candle::safetensors::save(&self.weights, folder.join("model.safetensors")).unwrap();
        folder
    }

    fn layer_norm(&mut self, name: &str, weight: f32) {
        self.fill(&format!("{name}.weight"), &[HIDDEN], weight);
        self.fill(&format!("{name}.bias"), &[HIDDEN], 0.0);
    }

    fn fill(&mut self, name: &str, shape: &[usize], value: f32) {
        self.weights.insert(name.into(), Tensor::full(value, shape, &Device::Cpu).unwrap());
    }

    /// Adds a matrix of uniformly distributed values. Products with this matrix have about the magnitude of their
    /// inputs.
    fn random(&mut self, name: &str, shape: &[usize; 2]) {
        let mut state = name.bytes().fold(1u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        let width = (12.0 / shape[1] as f32).sqrt();
        let values: Vec<f32> = (0..shape[0] * shape[1])
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((state >> 8) as f32 / (1 << 24) as f32 - 0.5) * width
            })
            .collect();
        self.weights.insert(name.into(), Tensor::from_vec(values, shape.as_slice(), &Device::Cpu).unwrap());
    }
}
