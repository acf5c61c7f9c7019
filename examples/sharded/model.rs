//! Training of an output layer over a vocabulary, with its loss. The layer is either unsharded or sharded by classes.
//!
//! The embedding of the model in `examples/generate` provides the initial weights of the layer, and rows of the
//! embedding are the layer's inputs. The inputs are not trained. Their gradient would be a sum over ranks, and MPI
//! would choose the order of the additions.
//!
//! Matrix products are plain loops with a documented order of additions. The products of a class do not depend on other
//! ranks, so they have the same bits as in the unsharded layer.

use evenkeel::sharded::{Collective, GradShard, Sharded};
use evenkeel::train::{AdamW, Optimizer};
use evenkeel::{ClipGradNorm, CrossEntropy, Result, Rows, clip_grad_norm, cross_entropy_backward, sharded};
use half::bf16;
use std::ops::Range;

/// Text whose next tokens are predicted.
const TEXT: &[u8] = include_bytes!("../train/corpus.txt");

/// Name of the tensor with the embedding, from which the layer is initialized.
const EMBEDDING: &str = "token_embd.weight";

/// Number of tokens that a step predicts.
const ROWS: usize = 8;

/// Data of the training that is the same on every rank.
pub struct Task {
    /// Embedding, one row per class.
    embedding: Vec<f32>,
    pub classes: usize,
    width: usize,
}

/// Results of a step, as bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    pub loss: u64,
    pub norm: u64,
}

/// Classes of the output layer that one rank trains.
pub struct Layer {
    own: Range<usize>,
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
    optimizer: Optimizer<AdamW>,
}

/// Loss and clipping, either unsharded or sharded.
pub trait Ops {
    /// Returns the loss, and its gradient with respect to this rank's logits.
    fn loss(&self, logits: Rows<'_, f32>, targets: &[i64], options: &CrossEntropy<'_>) -> Result<(f64, Vec<f32>)>;

    /// Clips the gradients of weight and bias by their joint norm, and returns this norm.
    fn clip(&self, weight: &mut [f32], bias: &mut [f32], options: &ClipGradNorm) -> Result<f64>;
}

/// All classes on one rank.
pub struct Unsharded;

impl Ops for Unsharded {
    fn loss(&self, logits: Rows<'_, f32>, targets: &[i64], options: &CrossEntropy<'_>) -> Result<(f64, Vec<f32>)> {
        let (loss, gradient) = cross_entropy_backward(logits, targets, &[1.0], options)?;
        Ok((loss.value(), gradient))
    }

    fn clip(&self, weight: &mut [f32], bias: &mut [f32], options: &ClipGradNorm) -> Result<f64> {
        clip_grad_norm(&mut [weight.into(), bias.into()], options)
    }
}

/// Classes sharded across ranks.
pub struct ShardedClasses<'c, C> {
    pub comm: &'c C,
    pub own: Range<usize>,
    pub task: &'c Task,
}

impl<C: Collective> Ops for ShardedClasses<'_, C> {
    fn loss(&self, logits: Rows<'_, f32>, targets: &[i64], options: &CrossEntropy<'_>) -> Result<(f64, Vec<f32>)> {
        let shard = Sharded::new(self.comm, self.own.clone(), self.task.classes);
        let (loss, gradient) = shard.cross_entropy_backward(logits, targets, &[1.0], options)?;
        Ok((loss.value(), gradient))
    }

    fn clip(&self, weight: &mut [f32], bias: &mut [f32], options: &ClipGradNorm) -> Result<f64> {
        let Task { classes, width, .. } = *self.task;
        let mut grads = [
            GradShard::cut(0, weight, &[classes, width], 0, self.own.clone()),
            GradShard::cut(1, bias, &[classes], 0, self.own.clone()),
        ];
        sharded::clip_grad_norm(self.comm, &mut grads, options)
    }
}

impl Task {
    /// Creates the task with the first `width` numbers of each class's embedding.
    pub fn new(width: usize) -> anyhow::Result<Self> {
        let file = safetensors::SafeTensors::deserialize(include_bytes!("../generate/tiny.safetensors"))?;
        let tensor = file.tensor(EMBEDDING)?;
        let &[classes, columns] = tensor.shape() else {
            anyhow::bail!("the tensor {EMBEDDING} must be a matrix, got shape {:?}", tensor.shape())
        };
        anyhow::ensure!(
            (1..=columns).contains(&width),
            "`--width` is {width}; it must be from 1 to {columns}, the row length of {EMBEDDING}"
        );
        let numbers = tensor.data().as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32());
        let numbers: Vec<f32> = numbers.collect();
        let embedding = numbers.chunks(columns).flat_map(|row| &row[..width]).copied().collect();
        Ok(Task { embedding, classes, width })
    }

    /// Trains this rank's part of the output layer, the classes `own`, for `steps` steps.
    pub fn train(&self, own: Range<usize>, steps: usize, ops: &impl Ops) -> Result<(Layer, Vec<Step>)> {
        let mut layer = Layer::new(self, own)?;
        let clip = ClipGradNorm::new(0.5);
        let options = CrossEntropy::default().z_loss(1e-4).label_smoothing(0.02);
        let mut done = Vec::with_capacity(steps);
        for step in 0..steps {
            let (hidden, targets) = self.batch(step);
            let logits = layer.logits(&hidden, self.width);
            let (loss, gradient) = ops.loss(Rows::new(&logits, ROWS, layer.own.len())?, &targets, &options)?;
            let (mut weight, mut bias) = layer.gradients(&hidden, &gradient, self.width);
            let norm = ops.clip(&mut weight, &mut bias, &clip)?;
            layer.step(&weight, &bias)?;
            done.push(Step { loss: loss.to_bits(), norm: norm.to_bits() });
        }
        Ok((layer, done))
    }

    /// Returns the input of a step: rows of the embedding, and the classes to predict. Two consecutive bytes of the
    /// text make one token.
    fn batch(&self, step: usize) -> (Vec<f32>, Vec<i64>) {
        let pairs = TEXT.as_chunks::<2>().0;
        let token = |at: usize| usize::from(u16::from_le_bytes(pairs[at % pairs.len()])) % self.classes;
        let places = step * ROWS..(step + 1) * ROWS;
        let hidden = places.clone().flat_map(|at| &self.embedding[token(at) * self.width..][..self.width]);
        (hidden.copied().collect(), places.map(|at| token(at + 1) as i64).collect())
    }
}

impl Layer {
    fn new(task: &Task, own: Range<usize>) -> Result<Self> {
        let weight = task.embedding[own.start * task.width..own.end * task.width].to_vec();
        let bias = vec![0.0; own.len()];
        let optimizer = Optimizer::new(AdamW::default().lr(1e-2), &[(&weight).into(), (&bias).into()])?;
        Ok(Layer { own, weight, bias, optimizer })
    }

    /// Computes the logits of each row. A logit is the class's bias plus one product per column, added in column order.
    fn logits(&self, hidden: &[f32], width: usize) -> Vec<f32> {
        let classes = || self.weight.chunks_exact(width).zip(&self.bias);
        let logit =
            |row: &[f32], (weight, bias): (&[f32], &f32)| row.iter().zip(weight).fold(*bias, |sum, (h, w)| sum + h * w);
        hidden.chunks_exact(width).flat_map(|row| classes().map(move |class| logit(row, class))).collect()
    }

    /// Computes the gradients of weight and bias: sums over rows, in row order.
    fn gradients(&self, hidden: &[f32], logits: &[f32], width: usize) -> (Vec<f32>, Vec<f32>) {
        let (mut weight, mut bias) = (vec![0.0; self.weight.len()], vec![0.0; self.bias.len()]);
        let rows = hidden.chunks_exact(width).enumerate();
        for (i, row) in rows {
            let logits = &logits[i * self.bias.len()..][..self.bias.len()];
            for ((logit, weight), bias) in logits.iter().zip(weight.chunks_exact_mut(width)).zip(&mut bias) {
                weight.iter_mut().zip(row).for_each(|(weight, h)| *weight += logit * h);
                *bias += logit;
            }
        }
        (weight, bias)
    }

    fn step(&mut self, weight: &[f32], bias: &[f32]) -> Result<()> {
        let params = &mut [(&mut self.weight).into(), (&mut self.bias).into()];
        self.optimizer.step(params, &[Some(weight.into()), Some(bias.into())])
    }
}

/// Returns a hash of all steps.
pub fn digest(steps: &[Step]) -> u64 {
    let words = steps.iter().flat_map(|step| [step.loss, step.norm]);
    words.fold(0, |all: u64, word| (all.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
