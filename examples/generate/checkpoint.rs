//! GGUF files: metadata and weights, with readable errors for invalid files.

use crate::chat;
use crate::model::{Config, Weights};
use crate::pretrained::{Pretrained, encode};
use crate::tokenizer;
use anyhow::{Context, Result, anyhow, bail, ensure};
use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{Device, Tensor};
use evenkeel::Rope;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::RangeInclusive;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

pub struct Checkpoint {
    path: PathBuf,
    file: BufReader<File>,
    content: Content,
    device: Device,
}

impl Checkpoint {
    /// Opens a file and reads its metadata.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let mut file = BufReader::new(File::open(path).with_context(|| format!("can't open {shown}"))?);
        let mut magic = [0; 4];
        let read = file.read_exact(&mut magic);
        ensure!(read.is_ok() && &magic == b"GGUF", "{shown} is not a GGUF file: it does not begin with GGUF");
        file.seek(SeekFrom::Start(0))?;
        let content = without_panic(|| Content::read(&mut file));
        let content = content.with_context(|| format!("{shown} is truncated or damaged"))?;
        Ok(Checkpoint { path: path.to_path_buf(), file, content, device: Device::Cpu })
    }

    /// Returns the metadata and the list of weights.
    pub fn content(&self) -> &Content {
        &self.content
    }

    fn sizes(&self) -> Result<Config> {
        let architecture = self.text("general.architecture")?;
        if architecture != "llama" {
            bail!("the architecture of {} is `{architecture}`; only `llama` is supported", self.path.display());
        }
        for unsupported in ["llama.expert_count", "llama.rope.scaling.factor"] {
            let key = self.content.metadata.contains_key(unsupported);
            ensure!(!key, "the metadata of {} has {unsupported}, which is not supported", self.path.display());
        }
        ensure!(
            !self.has("rope_freqs.weight"),
            "{} has the tensor rope_freqs.weight, which is not supported",
            self.path.display()
        );
        let hidden = self.count("llama.embedding_length", 1..=1 << 16)?;
        let heads = self.count("llama.attention.head_count", 1..=1 << 10)?;
        let kv_heads = self.count("llama.attention.head_count_kv", 1..=heads)?;
        ensure!(
            heads % kv_heads == 0,
            "the number of query heads is {heads}; it must be a multiple of {kv_heads}, the number of key heads"
        );
        let head_dim = match self.optional("llama.attention.key_length", 1..=1 << 10)? {
            Some(columns) => columns,
            None if hidden % heads == 0 => hidden / heads,
            None => bail!("the number of columns is {hidden}; it must be a multiple of {heads}, the number of heads"),
        };
        ensure!(head_dim % 2 == 0, "the number of columns of a head is {head_dim}; it must be even");
        for key in ["llama.attention.value_length", "llama.rope.dimension_count"] {
            let columns = self.optional(key, 1..=1 << 10)?.unwrap_or(head_dim);
            ensure!(columns == head_dim, "{key} is {columns}; it must be {head_dim}, the number of columns of a head");
        }
        let theta = self.optional_number("llama.rope.freq_base")?.unwrap_or(10_000.0);
        Ok(Config {
            layers: self.count("llama.block_count", 1..=1 << 10)?,
            hidden,
            heads,
            kv_heads,
            head_dim,
            feed_forward: self.count("llama.feed_forward_length", 1..=1 << 20)?,
            vocabulary: self.list("tokenizer.ggml.tokens")?.len(),
            context: self.count("llama.context_length", 1..=1 << 24)?,
            window: None,
            eps: self.optional_number("llama.attention.layer_norm_rms_epsilon")?.unwrap_or(1e-5),
            rope: Rope::default().theta(theta).interleaved(true),
        })
    }

    /// Returns a required string of the metadata.
    pub fn text(&self, key: &str) -> Result<&str> {
        self.optional_text(key)?.with_context(|| format!("{} has no {key}", self.path.display()))
    }

    /// Returns an optional string of the metadata.
    pub fn optional_text(&self, key: &str) -> Result<Option<&str>> {
        let value = self.content.metadata.get(key);
        let text = value.map(|value| value.to_string().map(String::as_str)).transpose();
        text.with_context(|| format!("{key} is not a string"))
    }

    /// Returns the token id under an optional key.
    pub fn token(&self, key: &str) -> Result<Option<u32>> {
        let last = self.list("tokenizer.ggml.tokens")?.len().saturating_sub(1);
        Ok(self.optional(key, 0..=last)?.map(|id| id as u32))
    }

    /// Returns the text of a token.
    pub fn piece(&self, id: u32) -> Result<&str> {
        let piece = self.list("tokenizer.ggml.tokens")?.get(id as usize).and_then(|piece| piece.to_string().ok());
        piece.map(String::as_str).with_context(|| format!("tokenizer.ggml.tokens has no text for token {id}"))
    }

    fn list(&self, key: &str) -> Result<&[Value]> {
        let value = self.content.metadata.get(key);
        let value = value.with_context(|| format!("{} has no {key}", self.path.display()))?;
        Ok(value.to_vec().map_err(|_| anyhow!("{key} is not a list"))?)
    }

    fn count(&self, key: &str, range: RangeInclusive<usize>) -> Result<usize> {
        self.optional(key, range)?.with_context(|| format!("{} has no {key}", self.path.display()))
    }

    fn optional(&self, key: &str, range: RangeInclusive<usize>) -> Result<Option<usize>> {
        let Some(value) = self.content.metadata.get(key) else { return Ok(None) };
        let count = value.to_u64().ok().and_then(|count| usize::try_from(count).ok());
        match count.filter(|count| range.contains(count)) {
            Some(count) => Ok(Some(count)),
            None => bail!("{key} is {value:?}; it must be in {} ..= {}", range.start(), range.end()),
        }
    }

    fn optional_number(&self, key: &str) -> Result<Option<f64>> {
        match self.content.metadata.get(key) {
            None => Ok(None),
            Some(Value::F32(number)) => Ok(Some((*number).into())),
            Some(Value::F64(number)) => Ok(Some(*number)),
            Some(other) => bail!("{key} is {other:?}; it must be a number"),
        }
    }

    fn tensor(&mut self, name: &str, dims: &[usize]) -> Result<QTensor> {
        let shown = self.path.display();
        let info = self.content.tensor_infos.get(name).with_context(|| format!("{shown} has no tensor `{name}`"))?;
        let shape = info.shape.dims();
        ensure!(shape == dims, "{name} has shape {shape:?}; {dims:?} is needed");
        let tensor = self.content.tensor(&mut self.file, name, &self.device);
        tensor.with_context(|| format!("can't read {name}: {} is truncated or damaged", self.path.display()))
    }
}

impl Weights for Checkpoint {
    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<QMatMul> {
        let tensor = self.tensor(name, &[rows, cols])?;
        // Candle has no vectorised products for weights of these types. After conversion to f32, products are several
        // times faster.
        if let GgmlDType::Q4_1 | GgmlDType::Q5_0 | GgmlDType::Q5_1 = tensor.dtype() {
            return Ok(QMatMul::Tensor(tensor.dequantize(&self.device)?));
        }
        Ok(QMatMul::from_qtensor(tensor)?)
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Tensor> {
        Ok(self.tensor(name, &[len])?.dequantize(&self.device)?)
    }

    fn has(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }
}

impl Pretrained for Checkpoint {
    const TEMPERATURE: f64 = 1.0;

    fn config(&self) -> Result<Config> {
        self.sizes()
    }

    fn place(&mut self, device: &Device) {
        self.device = device.clone();
    }

    fn tokenizer(&self) -> Result<Tokenizer> {
        tokenizer::read(self)
    }

    fn prompt(&self, tokenizer: &Tokenizer, text: &str, chat: bool) -> Result<Vec<u32>> {
        ensure!(!text.is_empty(), "the prompt is empty; the model needs at least one token to start from");
        let tokens =
            if chat { encode(tokenizer, &chat::prompt(self, text)?, false) } else { encode(tokenizer, text, true) }?;
        ensure!(!tokens.is_empty(), "the tokenizer turns the prompt into no tokens; the model needs at least one");
        Ok(tokens)
    }

    /// Returns the end-of-message token of chat models, the end-of-turn token and the end-of-text token.
    fn ends(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        let of_message = self.token("tokenizer.ggml.eos_token_id")?;
        let of_turn = self.token("tokenizer.ggml.eot_token_id")?;
        let of_text = tokenizer.token_to_id("<|endoftext|>");
        Ok([of_message, of_turn, of_text].into_iter().flatten().collect())
    }
}

/// Runs candle's reader, and returns an error if the reader panics, as it does on some invalid files.
fn without_panic<T>(read: impl FnOnce() -> candle_core::Result<T>) -> Result<T> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let read = std::panic::catch_unwind(AssertUnwindSafe(read));
    std::panic::set_hook(hook);
    Ok(read.map_err(|_| anyhow!("candle's GGUF reader cannot parse the metadata"))??)
}
