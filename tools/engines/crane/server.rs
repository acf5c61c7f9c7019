//! Crane's server for the tests. Its model returns fixed logits, and a response contains the numbers of the drawn
//! tokens.

// Each test program uses only some items of this module.
#![allow(dead_code)]

use std::sync::{Arc, OnceLock};

use anyhow::Result;
use axum::Json;
use axum::extract::State;
use candle_core::{DType, Device, Tensor};
use crane_serve::AppState;
use crane_serve::chat_template::ChatTemplateProcessor;
use crane_serve::engine::backend::ModelBackend;
use crane_serve::engine::{InferenceEngine, MemoryConfig};
use crane_serve::handlers::openai;
use crane_serve::openai_api::ChatMessage;
use serde_json::{Value, json};
use tokenizers::Tokenizer;

/// Number of tokens in the vocabulary. The text of a token is its number.
pub const VOCABULARY: usize = 500;

/// Prompts. A prompt selects the logits that the model returns at every step.
pub const FALLING: &str = "0";
pub const RARE: &str = "1";
pub const NAN: &str = "2";

/// Returns the logits of a prompt.
pub fn logits(prompt: u32) -> Vec<f32> {
    (0..VOCABULARY)
        .map(|token| match (prompt, token) {
            (0, _) => -0.01 * token as f32,
            // Among 1000 draws, about 8 are tokens other than token 0.
            (1, 0) => 0.0,
            (1, _) => -11.0,
            (_, 5) => f32::NAN,
            _ => 0.0,
        })
        .collect()
}

/// Requests a text, and returns its tokens or the server's error.
pub fn complete(prompt: &str, max_tokens: usize, parameters: Value) -> Result<Vec<usize>, String> {
    let mut request = json!({ "model": "test", "prompt": prompt, "max_tokens": max_tokens, "repetition_penalty": 1.0 });
    request.as_object_mut().unwrap().extend(parameters.as_object().unwrap().clone());
    let request = serde_json::from_value(request).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match openai::completions(State(state()), Json(request)).await {
            Ok(response) => {
                let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
                let body: Value = serde_json::from_slice(&body).unwrap();
                let text = body["choices"][0]["text"].as_str().unwrap();
                Ok(text.split_whitespace().map(|token| token.parse().unwrap()).collect())
            }
            Err((status, _)) => Err(status.to_string()),
        }
    })
}

/// Returns the tokens of a text in ascending order, each of them once.
pub fn distinct(tokens: &[usize]) -> Vec<usize> {
    let mut tokens = tokens.to_vec();
    tokens.sort_unstable();
    tokens.dedup();
    tokens
}

/// Returns the server of this process. There is only one server, because an engine occupies a thread of candle's pool.
fn state() -> Arc<AppState> {
    static STATE: OnceLock<Arc<AppState>> = OnceLock::new();
    STATE.get_or_init(start).clone()
}

fn start() -> Arc<AppState> {
    let memory = MemoryConfig { max_seq_len: 0, gpu_memory_limit_bytes: 0, baseline_gpu_bytes: 0 };
    let (engine, handle) = InferenceEngine::new(Box::new(Fixed::new()), 1, 16, memory);
    std::thread::spawn(move || engine.run());
    Arc::new(AppState {
        engine: Some(handle),
        model_name: "test".into(),
        tokenizer: tokenizer(),
        chat_template: Box::new(NoTemplate),
        eos_token_id: vec![],
        server_start_time: 0,
        vlm_tx: None,
        gemma4_vlm_tx: None,
        qwen3_5_vlm_tx: None,
        minicpm_v_vlm_tx: None,
        tts_tx: None,
        asr_tx: None,
        duplex_tx: None,
        duplex_lock: Arc::default(),
        model_path: String::new(),
        model_type_name: String::new(),
        dtype_name: String::new(),
        device_name: String::new(),
        host: String::new(),
        port: 0,
        max_concurrent: 1,
        decode_tokens_per_seq: 16,
        max_seq_len: 0,
        gpu_memory_limit: String::new(),
    })
}

fn tokenizer() -> Tokenizer {
    let vocabulary: serde_json::Map<String, Value> =
        (0..VOCABULARY).map(|token| (token.to_string(), json!(token))).collect();
    let description = json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": { "type": "Whitespace" },
        "post_processor": null, "decoder": null, "truncation": null, "padding": null,
        "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": "0" },
    });
    Tokenizer::from_bytes(description.to_string()).unwrap()
}

/// Model whose logits depend only on the first token of the prompt.
struct Fixed {
    tokenizer: Tokenizer,
    prompt: u32,
}

impl Fixed {
    fn new() -> Self {
        Fixed { tokenizer: tokenizer(), prompt: 0 }
    }
}

impl ModelBackend for Fixed {
    fn forward_step(&mut self, tokens: &[u32], position: usize) -> Result<Tensor> {
        if position == 0 {
            self.prompt = tokens[0];
        }
        Ok(Tensor::from_vec(logits(self.prompt), (1, 1, VOCABULARY), &Device::Cpu)?)
    }

    fn clear_kv_cache(&mut self) {}

    fn num_layers(&self) -> usize {
        0
    }

    fn device(&self) -> &Device {
        &Device::Cpu
    }

    fn dtype(&self) -> DType {
        DType::F32
    }

    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    fn eos_token_id(&self) -> Vec<u32> {
        vec![]
    }

    fn warmup(&mut self) {}
}

struct NoTemplate;

impl ChatTemplateProcessor for NoTemplate {
    fn apply(&self, _: &[ChatMessage]) -> Result<String, String> {
        Err("the tests must not use chat templates".into())
    }
}
