//! Decoder-only transformer of the Llama family: grouped-query attention, gated feed-forward, key-value cache.

use crate::ops::{Ops, Visible};
use anyhow::{Result, bail};
use candle_core::quantized::QMatMul;
use candle_core::{Module, Tensor};
use candle_nn::kv_cache::KvCache;
use evenkeel::candle::guarded::{rope, silu, trace_point};
use evenkeel::{Rope, RopeTable};
use std::marker::PhantomData;

/// Sizes of a model and constants of its ops.
#[derive(Clone, Copy)]
pub struct Config {
    pub layers: usize,
    pub hidden: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub feed_forward: usize,
    pub vocabulary: usize,
    /// Largest number of positions.
    pub context: usize,
    /// Number of keys that a query attends to, if limited.
    pub window: Option<usize>,
    pub eps: f64,
    pub rope: Rope<'static>,
}

/// Source of a model's weights, by their names in GGUF files.
pub trait Weights {
    /// Returns a matrix with `rows` rows and `cols` columns, which multiplies column vectors.
    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<QMatMul>;
    /// Returns a vector of this length.
    fn vector(&mut self, name: &str, len: usize) -> Result<Tensor>;
    /// Returns whether there are weights with this name.
    fn has(&self, name: &str) -> bool;
}

/// Model with its weights, and the cached keys and values of the tokens read so far.
pub struct Model<O> {
    config: Config,
    embeddings: QMatMul,
    layers: Vec<Layer>,
    norm: Tensor,
    output: QMatMul,
    ops: PhantomData<O>,
}

struct Layer {
    attention_norm: Tensor,
    query: QMatMul,
    key: QMatMul,
    value: QMatMul,
    /// Norms of each head's queries and keys, in models that have such norms.
    query_key_norms: Option<(Tensor, Tensor)>,
    attention_output: QMatMul,
    feed_forward_norm: Tensor,
    gate: QMatMul,
    up: QMatMul,
    down: QMatMul,
    cache: KvCache,
}

impl<O: Ops> Model<O> {
    /// Creates a model with these weights and an empty cache. Calls `step` after the creation of each layer.
    pub fn new(config: Config, weights: &mut impl Weights, step: impl Fn()) -> Result<Self> {
        let embeddings = weights.matrix("token_embd.weight", config.vocabulary, config.hidden)?;
        let layers = (0..config.layers).map(|i| {
            let layer = Layer::new(i, config, weights);
            step();
            layer
        });
        let layers = layers.collect::<Result<_>>()?;
        let norm = weights.vector("output_norm.weight", config.hidden)?;
        let output = if weights.has("output.weight") {
            weights.matrix("output.weight", config.vocabulary, config.hidden)?
        } else {
            embeddings.clone()
        };
        Ok(Model { config, embeddings, layers, norm, output, ops: PhantomData })
    }

    /// Reads tokens `[batch, positions]`, and returns the logits `[batch, vocabulary]` of the next token.
    ///
    /// `keep`, `[batch, keys]`, holds a flag for each token read so far, including the tokens of this call. The flag is
    /// 0 for padding.
    pub fn forward(&mut self, tokens: &Tensor, keep: Option<&[u8]>) -> Result<Tensor> {
        let mut x = self.embed(tokens)?;
        for layer in 0..self.layers.len() {
            x = self.layer(layer, &x, keep)?;
        }
        self.logits(&x)
    }

    /// Returns the tokens' embeddings.
    pub fn embed(&self, tokens: &Tensor) -> Result<Tensor> {
        let x = self.embeddings.embedding(tokens)?;
        trace_point("embeddings", &x)?;
        Ok(x)
    }

    /// Applies a layer to `[batch, positions, hidden]`.
    pub fn layer(&mut self, index: usize, x: &Tensor, keep: Option<&[u8]>) -> Result<Tensor> {
        let Config { eps, .. } = self.config;
        let layer = &mut self.layers[index];
        let attended = layer.attend::<O>(&O::rms_norm(x, &layer.attention_norm, eps)?, self.config, keep)?;
        trace_point(format_args!("blk.{index}, attention"), &attended)?.from("hidden states", x)?;
        let x = (x + attended)?;
        let fed = layer.feed_forward(&O::rms_norm(&x, &layer.feed_forward_norm, eps)?)?;
        trace_point(format_args!("blk.{index}, feed-forward"), &fed)?.from("hidden states", &x)?;
        Ok((x + fed)?)
    }

    /// Returns the logits of the token after the last position.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        let (_, positions, _) = x.dims3()?;
        let last = x.narrow(1, positions - 1, 1)?.squeeze(1)?;
        let normed = O::rms_norm(&last, &self.norm, self.config.eps)?;
        let logits = self.output.forward(&normed)?;
        trace_point("logits", &logits)?.from("hidden states", &last)?.from("normed", &normed)?;
        Ok(logits)
    }
}

impl Layer {
    fn new(index: usize, config: Config, weights: &mut impl Weights) -> Result<Self> {
        let Config { hidden, heads, kv_heads, head_dim, feed_forward, .. } = config;
        let name = |weight: &str| format!("blk.{index}.{weight}.weight");
        let query_key_norms = if weights.has(&name("attn_q_norm")) {
            let query = weights.vector(&name("attn_q_norm"), head_dim)?;
            Some((query, weights.vector(&name("attn_k_norm"), head_dim)?))
        } else {
            None
        };
        Ok(Layer {
            attention_norm: weights.vector(&name("attn_norm"), hidden)?,
            query: weights.matrix(&name("attn_q"), heads * head_dim, hidden)?,
            key: weights.matrix(&name("attn_k"), kv_heads * head_dim, hidden)?,
            value: weights.matrix(&name("attn_v"), kv_heads * head_dim, hidden)?,
            query_key_norms,
            attention_output: weights.matrix(&name("attn_output"), hidden, heads * head_dim)?,
            feed_forward_norm: weights.vector(&name("ffn_norm"), hidden)?,
            gate: weights.matrix(&name("ffn_gate"), feed_forward, hidden)?,
            up: weights.matrix(&name("ffn_up"), feed_forward, hidden)?,
            down: weights.matrix(&name("ffn_down"), hidden, feed_forward)?,
            cache: KvCache::new(2, 256),
        })
    }

    fn attend<O: Ops>(&mut self, x: &Tensor, config: Config, keep: Option<&[u8]>) -> Result<Tensor> {
        let Config { heads, kv_heads, head_dim, window, eps, .. } = config;
        let (batch, positions, _) = x.dims3()?;
        let split = |x: Tensor, heads: usize| -> Result<Tensor> {
            Ok(x.reshape((batch, positions, heads, head_dim))?.transpose(1, 2)?.contiguous()?)
        };
        let query = split(self.query.forward(x)?, heads)?;
        let key = split(self.key.forward(x)?, kv_heads)?;
        let value = split(self.value.forward(x)?, kv_heads)?;
        let first = self.cache.current_seq_len();
        if first + positions > config.context {
            bail!("position {} is beyond the model's context of {} tokens", first + positions - 1, config.context);
        }
        let places: Vec<i64> = (first..first + positions).map(|position| position as i64).collect();
        let table = RopeTable::new(&places, head_dim, &config.rope)?;
        let (query, key) = match &self.query_key_norms {
            Some((query_norm, key_norm)) => {
                (O::norm_rope(&query, query_norm, &table, eps)?, O::norm_rope(&key, key_norm, &table, eps)?)
            }
            None => (rope(&query, &table)?, rope(&key, &table)?),
        };
        let (keys, values) = self.cache.append(&key, &value)?;
        let attended = O::attention(&query, &keys, &values, Visible { keep, window })?;
        let joined = attended.transpose(1, 2)?.reshape((batch, positions, heads * head_dim))?;
        Ok(self.attention_output.forward(&joined)?)
    }

    fn feed_forward(&self, x: &Tensor) -> Result<Tensor> {
        let gated = (silu(&self.gate.forward(x)?)? * self.up.forward(x)?)?;
        Ok(self.down.forward(&gated)?)
    }
}
