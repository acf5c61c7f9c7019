//! Built-in tiny model, and other files written by `train`.

use crate::model::{Config, Weights};
use crate::pretrained::{Pretrained, encode};
use crate::tiny::{Description, KEY};
use anyhow::{Context, Result, bail, ensure};
use candle_core::quantized::QMatMul;
use candle_core::{Device, Tensor};
use half::bf16;
use safetensors::tensor::{Dtype, Metadata, SafeTensors};
use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use tokenizers::Tokenizer;

/// Committed weights. `train` documents how they are made.
const BUILT_IN: &[u8] = include_bytes!("tiny.safetensors");

/// Largest accepted file size in bytes. The file of a tiny model has about two million bytes.
const MOST: u64 = 64 << 20;

/// Token that begins a text: the newline that ends the line before the text.
const BEGIN: u32 = b'\n' as u32;

/// Content of a weights file.
pub struct Trained {
    /// Name of the file, for error messages.
    name: String,
    content: Cow<'static, [u8]>,
    /// Offset of the weights in `content`.
    start: usize,
    metadata: Metadata,
    description: Description,
    device: Device,
}

impl Trained {
    /// Returns the built-in model.
    pub fn built_in() -> Result<Self> {
        Trained::new("the built-in model".to_string(), BUILT_IN.into())
    }

    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let file = File::open(path).with_context(|| format!("can't open {shown}"))?;
        let mut content = Vec::new();
        file.take(MOST + 1).read_to_end(&mut content).with_context(|| format!("can't read {shown}"))?;
        ensure!(
            content.len() as u64 <= MOST,
            "{shown} has more than {MOST} bytes, too many for a model of the example `train`"
        );
        Trained::new(shown.to_string(), content.into())
    }

    fn new(name: String, content: Cow<'static, [u8]>) -> Result<Self> {
        let read = SafeTensors::read_metadata(&content);
        let (header, metadata) = read.with_context(|| format!("{name} is not a safetensors file, or is truncated"))?;
        let text = metadata.metadata().as_ref().and_then(|entries| entries.get(KEY));
        let text = text.with_context(|| {
            format!("{name} was not written by the example `train`: its metadata has no entry `{KEY}`")
        })?;
        let description = serde_json::from_str(text)
            .with_context(|| format!("{name}: cannot read the entry `{KEY}` of its metadata"))?;
        // The header is preceded by its length in 8 bytes.
        Ok(Trained { name, start: 8 + header, content, metadata, description, device: Device::Cpu })
    }

    fn tensor(&self, name: &str, dims: &[usize]) -> Result<Tensor> {
        let info = self.metadata.info(name).with_context(|| format!("{} has no tensor `{name}`", self.name))?;
        ensure!(info.shape == dims, "{name} has shape {:?}; {dims:?} is needed", info.shape);
        ensure!(info.dtype == Dtype::BF16, "{name} is in {:?}; BF16 is needed", info.dtype);
        let (from, to) = info.data_offsets;
        let bytes = self.content.get(self.start + from..self.start + to);
        let bytes = bytes.with_context(|| format!("{} is truncated: the data of {name} is missing", self.name))?;
        let values = bytes.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32());
        Ok(Tensor::from_vec(values.collect::<Vec<_>>(), dims, &self.device)?)
    }
}

impl Weights for Trained {
    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<QMatMul> {
        Ok(QMatMul::Tensor(self.tensor(name, &[rows, cols])?))
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Tensor> {
        self.tensor(name, &[len])
    }

    fn has(&self, name: &str) -> bool {
        self.metadata.info(name).is_some()
    }
}

impl Pretrained for Trained {
    /// Temperature below 1, because a model this small gives too much probability to unlikely tokens.
    const TEMPERATURE: f64 = 0.5;

    fn config(&self) -> Result<Config> {
        let Description { layers, hidden, heads, feed_forward, window, eps, .. } = self.description;
        let counts = [
            ("layers", layers, 1 << 10),
            ("hidden", hidden, 1 << 16),
            ("heads", heads, 1 << 10),
            ("feed_forward", feed_forward, 1 << 20),
            ("window", window, 1 << 24),
        ];
        for (name, count, most) in counts {
            ensure!((1..=most).contains(&count), "{name} is {count}; it must be in 1 ..= {most}");
        }
        ensure!(
            hidden.is_multiple_of(heads),
            "the number of columns is {hidden}; it must be a multiple of {heads}, the number of heads"
        );
        let head_dim = self.description.head_dim();
        ensure!(head_dim.is_multiple_of(2), "the number of columns of a head is {head_dim}; it must be even");
        Ok(Config {
            layers,
            hidden,
            heads,
            kv_heads: heads,
            head_dim,
            feed_forward,
            vocabulary: self.description.vocabulary(),
            // The window limits attention, so a text may be much longer than the training texts.
            context: 1 << 20,
            window: Some(window),
            eps,
            rope: self.description.rope(),
        })
    }

    fn place(&mut self, device: &Device) {
        self.device = device.clone();
    }

    fn tokenizer(&self) -> Result<Tokenizer> {
        self.description.tokenizer().with_context(|| self.name.clone())
    }

    fn prompt(&self, tokenizer: &Tokenizer, text: &str, chat: bool) -> Result<Vec<u32>> {
        if chat {
            bail!("{} has no chat template; leave `--chat` out", self.name);
        }
        Ok([vec![BEGIN], encode(tokenizer, text, false)?].concat())
    }

    fn ends(&self, _: &Tokenizer) -> Result<Vec<u32>> {
        Ok(Vec::new())
    }
}
