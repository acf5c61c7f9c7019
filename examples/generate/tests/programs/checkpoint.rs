//! Small checkpoint with random weights and a byte-level tokenizer.

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use std::collections::BTreeMap;
use std::io::Cursor;
use std::process::{Command, Output};

const LAYERS: u32 = 2;
const HIDDEN: usize = 64;
const HEADS: u32 = 4;
const KV_HEADS: u32 = 2;
const FEED_FORWARD: usize = 96;

/// Metadata and weights by name. Tests change them before writing the file.
pub struct Checkpoint {
    pub metadata: BTreeMap<String, Value>,
    pub tensors: BTreeMap<String, QTensor>,
}

impl Checkpoint {
    pub fn new() -> Self {
        let tokens = tokens();
        let vocabulary = tokens.len();
        let strings = |texts: &[&str]| Value::Array(texts.iter().map(|text| Value::String(text.to_string())).collect());
        let types = (0..vocabulary).map(|i| Value::I32(if i < 2 { 3 } else { 1 })).collect();
        let metadata = [
            ("general.architecture", Value::String("llama".into())),
            ("llama.block_count", Value::U32(LAYERS)),
            ("llama.context_length", Value::U32(600)),
            ("llama.embedding_length", Value::U32(HIDDEN as u32)),
            ("llama.feed_forward_length", Value::U32(FEED_FORWARD as u32)),
            ("llama.attention.head_count", Value::U32(HEADS)),
            ("llama.attention.head_count_kv", Value::U32(KV_HEADS)),
            ("llama.rope.freq_base", Value::F32(10_000.0)),
            ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
            ("tokenizer.ggml.model", Value::String("gpt2".into())),
            ("tokenizer.ggml.pre", Value::String("smollm".into())),
            ("tokenizer.ggml.tokens", Value::Array(tokens.into_iter().map(Value::String).collect())),
            ("tokenizer.ggml.token_type", Value::Array(types)),
            ("tokenizer.ggml.merges", strings(&["1 2", "a b", "\u{120} a"])),
            ("tokenizer.ggml.eos_token_id", Value::U32(1)),
            (
                "tokenizer.chat_template",
                Value::String("{% for m in messages %}<|begin|>{{ m['content'] }}{% endfor %}".into()),
            ),
        ];
        let metadata = metadata.into_iter().map(|(key, value)| (key.to_string(), value)).collect();
        let mut checkpoint = Checkpoint { metadata, tensors: BTreeMap::new() };
        checkpoint.set("token_embd.weight", &[vocabulary, HIDDEN], GgmlDType::Q8_0);
        checkpoint.set("output_norm.weight", &[HIDDEN], GgmlDType::F32);
        let keys = KV_HEADS as usize * HIDDEN / HEADS as usize;
        for layer in 0..LAYERS {
            let weights: [(&str, &[usize]); 9] = [
                ("attn_norm", &[HIDDEN]),
                ("attn_q", &[HIDDEN, HIDDEN]),
                ("attn_k", &[keys, HIDDEN]),
                ("attn_v", &[keys, HIDDEN]),
                ("attn_output", &[HIDDEN, HIDDEN]),
                ("ffn_norm", &[HIDDEN]),
                ("ffn_gate", &[FEED_FORWARD, HIDDEN]),
                ("ffn_up", &[FEED_FORWARD, HIDDEN]),
                ("ffn_down", &[HIDDEN, FEED_FORWARD]),
            ];
            for (name, shape) in weights {
                let dtype = if shape.len() == 1 { GgmlDType::F32 } else { GgmlDType::Q4_1 };
                checkpoint.set(&format!("blk.{layer}.{name}.weight"), shape, dtype);
            }
        }
        checkpoint
    }

    /// Sets random weights of this shape.
    pub fn set(&mut self, name: &str, shape: &[usize], dtype: GgmlDType) {
        let seed = self.tensors.len() as u64 + 1;
        let mut state = seed;
        let values = (0..shape.iter().product()).map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        });
        self.set_values(name, shape, values.collect(), dtype);
    }

    pub fn set_values(&mut self, name: &str, shape: &[usize], values: Vec<f32>, dtype: GgmlDType) {
        let tensor =
            Tensor::from_vec(values, shape, &Device::Cpu).expect("the values of a test tensor must fit its shape");
        let tensor = QTensor::quantize(&tensor, dtype).expect("candle must quantise a test tensor to its storage type");
        self.tensors.insert(name.into(), tensor);
    }

    pub fn text(mut self, key: &str, value: &str) -> Self {
        self.metadata.insert(key.into(), Value::String(value.into()));
        self
    }

    pub fn number(mut self, key: &str, value: u32) -> Self {
        self.metadata.insert(key.into(), Value::U32(value));
        self
    }

    pub fn without(mut self, key: &str) -> Self {
        assert!(
            self.metadata.remove(key).is_some() || self.tensors.remove(key).is_some(),
            "expected `{key}` in the metadata or tensors of the test checkpoint"
        );
        self
    }

    /// Returns the bytes of the GGUF file.
    pub fn file(&self) -> Vec<u8> {
        let metadata: Vec<_> = self.metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let tensors: Vec<_> = self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let mut file = Cursor::new(Vec::new());
        gguf_file::write(&mut file, &metadata, &tensors).expect("writing the GGUF file to memory must succeed");
        file.into_inner()
    }

    /// Runs the program on this checkpoint.
    pub fn run(&self, arguments: &[&str]) -> Output {
        run(&self.file(), arguments)
    }
}

/// Runs the program on a file with these bytes.
pub fn run(file: &[u8], arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder must be created");
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, file).expect("`model.gguf` must be written");
    Command::new(env!("CARGO_BIN_EXE_generate"))
        .arg("--model")
        .arg(path)
        .args(arguments)
        .output()
        .expect("the program `generate` must start")
}

/// Returns the vocabulary: two special tokens, one character per byte (by GPT-2's mapping), and the results of the
/// merges.
fn tokens() -> Vec<String> {
    let mut letters = (0x100..).filter_map(char::from_u32);
    let bytes = (0..=255u8).map(|byte| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte).to_string(),
        _ => letters.next().map(String::from).unwrap_or_default(),
    });
    let special = ["<|begin|>", "<|end|>"].map(String::from);
    special.into_iter().chain(bytes).chain(["12", "ab", "\u{120}a"].map(String::from)).collect()
}
