//! Model used in training: the model of `generate`, with gradients and without a key-value cache.

use crate::generated::Generator;
use crate::ops::Ops;
use crate::tiny::Description;
use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor, Var};
use evenkeel::RopeTable;
use evenkeel::candle::guarded;
use std::collections::BTreeMap;

/// Weights by name, with the model's sizes.
pub struct Decoder<'a> {
    description: &'a Description,
    weights: BTreeMap<String, Var>,
    ops: &'static Ops,
}

impl<'a> Decoder<'a> {
    /// Creates an untrained model of this type. Norm weights are 1, and matrices have a normal distribution.
    pub fn new(
        description: &'a Description,
        generator: &mut Generator,
        (dtype, ops): (DType, &'static Ops),
    ) -> Result<Self> {
        let Description { layers, hidden, feed_forward, .. } = *description;
        let mut shapes = vec![("token_embd".to_string(), vec![description.vocabulary(), hidden])];
        for layer in 0..layers {
            let of_layer: [(&str, &[usize]); 9] = [
                ("attn_norm", &[hidden]),
                ("attn_q", &[hidden, hidden]),
                ("attn_k", &[hidden, hidden]),
                ("attn_v", &[hidden, hidden]),
                ("attn_output", &[hidden, hidden]),
                ("ffn_norm", &[hidden]),
                ("ffn_gate", &[feed_forward, hidden]),
                ("ffn_up", &[feed_forward, hidden]),
                ("ffn_down", &[hidden, feed_forward]),
            ];
            shapes.extend(of_layer.map(|(name, shape)| (format!("blk.{layer}.{name}"), shape.to_vec())));
        }
        shapes.push(("output_norm".to_string(), vec![hidden]));
        let mut weights = BTreeMap::new();
        for (name, shape) in shapes {
            let values = match shape[..] {
                [rows, cols] => generator.normals(rows * cols, deviation(&name, cols, layers)),
                _ => vec![1.0; hidden],
            };
            let values = Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)?;
            weights.insert(format!("{name}.weight"), Var::from_tensor(&values)?);
        }
        Ok(Decoder { description, weights, ops })
    }

    /// Returns all weights by name.
    pub fn weights(&self) -> &BTreeMap<String, Var> {
        &self.weights
    }

    /// Takes tokens `[batch, positions]`. For each of them, returns the logits of the next token: `[batch * positions,
    /// vocabulary]`.
    pub fn forward(&self, tokens: &Tensor) -> Result<Tensor> {
        let Description { layers, hidden, .. } = *self.description;
        let (batch, positions) = tokens.dims2()?;
        let embeddings = self.weight("token_embd")?;
        let mut x = embeddings.index_select(&tokens.flatten_all()?, 0)?.reshape((batch, positions, hidden))?;
        let places: Vec<i64> = (0..positions as i64).collect();
        let table = RopeTable::new(&places, self.description.head_dim(), &self.description.rope())?;
        for layer in 0..layers {
            x = (&x + self.attend(layer, &x, &table)?)?;
            x = (&x + self.feed_forward(layer, &x)?)?;
        }
        linear(&self.norm("output_norm", &x)?, embeddings)?.flatten(0, 1).context("the logits")
    }

    fn attend(&self, layer: usize, x: &Tensor, table: &RopeTable) -> Result<Tensor> {
        let (heads, head_dim) = (self.description.heads, self.description.head_dim());
        let (batch, positions, hidden) = x.dims3()?;
        let x = self.norm(&format!("blk.{layer}.attn_norm"), x)?;
        let split = |name: &str| -> Result<Tensor> {
            let x = linear(&x, self.weight(&format!("blk.{layer}.{name}"))?)?;
            Ok(x.reshape((batch, positions, heads, head_dim))?.transpose(1, 2)?.contiguous()?)
        };
        let (query, key) = (guarded::rope(&split("attn_q")?, table)?, guarded::rope(&split("attn_k")?, table)?);
        let scores = query.matmul(&key.t()?)?;
        let weights = (self.ops.weigh)(&scores, 1.0 / (head_dim as f64).sqrt())?;
        let attended = weights.matmul(&split("attn_v")?)?;
        let joined = attended.transpose(1, 2)?.reshape((batch, positions, hidden))?;
        linear(&joined, self.weight(&format!("blk.{layer}.attn_output"))?)
    }

    fn feed_forward(&self, layer: usize, x: &Tensor) -> Result<Tensor> {
        let x = self.norm(&format!("blk.{layer}.ffn_norm"), x)?;
        let [gate, up] = ["ffn_gate", "ffn_up"].map(|name| linear(&x, self.weight(&format!("blk.{layer}.{name}"))?));
        linear(&(guarded::silu(&gate?)? * up?)?, self.weight(&format!("blk.{layer}.ffn_down"))?)
    }

    fn norm(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        (self.ops.norm)(x, self.weight(name)?, self.description.eps)
    }

    fn weight(&self, name: &str) -> Result<&Tensor> {
        let weight = self.weights.get(&format!("{name}.weight"));
        Ok(weight.with_context(|| format!("the model has no tensor `{name}.weight`"))?.as_tensor())
    }
}

/// Returns the standard deviation of a matrix's initial values. For matrices that add to the residual stream, it
/// decreases with the number of layers.
fn deviation(name: &str, cols: usize, layers: usize) -> f64 {
    let added = name.ends_with("attn_output") || name.ends_with("ffn_down");
    let deviation = if name == "token_embd" { 0.05 } else { 1.0 / (cols as f64).sqrt() };
    if added { deviation / (2.0 * layers as f64).sqrt() } else { deviation }
}

/// Multiplies `x` by a weight matrix, for all positions of all texts in one product. For a batched product, candle
/// would copy the matrix for each text.
fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (batch, positions, hidden) = x.dims3()?;
    let y = x.reshape((batch * positions, hidden))?.matmul(&weight.t()?)?;
    Ok(y.reshape((batch, positions, weight.dim(0)?))?)
}
