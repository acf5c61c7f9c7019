//! Small model with generated weights that has memorised a sentence.

use super::generated::Generator;
use crate::model::{Config, Model, Weights};
use crate::ops::Ops;
use anyhow::Result;
use candle_core::quantized::QMatMul;
use candle_core::{Device, Tensor};
use evenkeel::Rope;
use std::collections::HashMap;

/// Pieces of the sentence that the model repeats. Token 0 is `!`, as in Qwen's vocabulary, and token 1 begins a text.
const PIECES: [&str; 18] = [
    "!", "\n", "An", " even", " keel", " holds", " a", " ship", " upright", " in", " any", " wind", ",", " and", " no",
    " one", " looks", " down",
];

/// Token that begins a text.
pub const BEGIN: u32 = 1;

/// Number of columns of a head.
pub const HEAD: usize = 128;

/// Returns tokens as text on one line.
pub fn text(tokens: &[u32]) -> String {
    let text: String = tokens.iter().filter_map(|&token| PIECES.get(token as usize).copied()).collect();
    text.replace('\n', " ").trim().to_string()
}

/// Weights of a model whose output layer maps each piece of the sentence to the next piece. All other layers have
/// random weights.
pub struct Memorised {
    config: Config,
    generator: Generator,
    /// Weights that were generated or set so far. All models created from this `Memorised` share them.
    values: HashMap<String, Vec<f32>>,
}

impl Memorised {
    /// Creates weights for a model of this size.
    pub fn new(hidden: usize, layers: usize) -> Self {
        let config = Config {
            layers,
            hidden,
            heads: 4,
            kv_heads: 2,
            head_dim: HEAD,
            feed_forward: hidden,
            vocabulary: PIECES.len(),
            context: 1024,
            window: None,
            eps: 1e-6,
            rope: Rope::default(),
        };
        let mut generator = Generator::new(1);
        let embeddings = generator.normals(PIECES.len() * hidden, 1.0);
        let mut next = embeddings.clone();
        next.rotate_right(hidden);
        let values = [("token_embd.weight", embeddings), ("output.weight", next)];
        Memorised { config, generator, values: values.map(|(name, values)| (name.to_string(), values)).into() }
    }

    /// Returns the weights with this name, so that the caller can change them. The vector is empty if no weights have
    /// this name yet.
    pub fn values(&mut self, name: &str) -> &mut Vec<f32> {
        self.values.entry(name.to_string()).or_default()
    }

    pub fn model<O: Ops>(&mut self) -> Result<Model<O>> {
        Model::new(self.config, self, || ())
    }
}

impl Weights for Memorised {
    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<QMatMul> {
        // With this standard deviation, layers change the residual stream without dominating it.
        let made = || self.generator.normals(rows * cols, 0.5 / (cols as f64).sqrt());
        let values = self.values.entry(name.to_string()).or_insert_with(made).clone();
        Ok(QMatMul::Tensor(Tensor::from_vec(values, (rows, cols), &Device::Cpu)?))
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Tensor> {
        let values = self.values.get(name).cloned().unwrap_or_else(|| vec![1.0; len]);
        Ok(Tensor::from_vec(values, len, &Device::Cpu)?)
    }

    fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }
}
