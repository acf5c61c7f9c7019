//! Failure reported in the field: a fused kernel whose results explode on key norms with extreme weights.

use super::generated::Generator;
use super::memorised::{BEGIN, HEAD, Memorised, text};
use super::naive;
use super::stage::Stage;
use crate::model::Model;
use crate::ops::{Evenkeel, Ops, Visible};
use anyhow::Result;
use candle_core::{Device, Tensor};
use evenkeel::{Mask, RmsNorm, Rows, Softmax};
use half::{bf16, f16};

/// Mean, standard deviation and maximum of the key-norm weights in the first three layers of Qwen3-0.6B.
const REPORTED: [[f64; 3]; 3] = [[3.56, 9.13, 96.5], [2.34, 3.98, 44.5], [2.47, 3.94, 44.0]];

/// Hidden size of Qwen3-0.6B.
const HIDDEN: usize = 1024;

const LAYERS: usize = 6;

/// Channel whose value is large in every token, as in some trained models.
const MASSIVE: usize = 7;
const MASSIVE_VALUE: f32 = 3000.0;

pub fn play(stage: &mut Stage) -> Result<()> {
    stage.title("4. The fused kernel that explodes on Qwen3-0.6B")?;
    stage.say(
        "Reported for a kernel that fuses norm, projection and key norm: layer 1 reaches 1e29, and every token is 0: \"!!!!!\".
The key norms' weights were blamed. They are large but correct: they amplify the error of a sum in 16 bits.
Keys with standard deviation 0.2, normalized with such weights, and the largest error against the definition in f64:",
    )?;
    let mut generator = Generator::new(4);
    let weights: Vec<Vec<f32>> = REPORTED.iter().map(|reported| weights_like(*reported, &mut generator)).collect();
    let rows = weights.iter().enumerate().map(|(layer, weight)| key_norm(stage, layer, weight, &mut generator));
    let rows = rows.collect::<Result<Vec<_>>>()?;
    stage
        .table(&["layer", "weights: mean, deviation, largest", "keys after", "f16", "bf16", "Evenkeel, f32"], &rows)?;
    layers(stage, &weights)?;
    huge_scores(stage)
}

/// Normalises random keys with a layer's key-norm weights. Returns a table row with the errors.
fn key_norm(stage: &mut Stage, layer: usize, weight: &[f32], generator: &mut Generator) -> Result<Vec<String>> {
    let keys = generator.normals(256 * HEAD, 0.2);
    let exact: Vec<f64> = keys.chunks(HEAD).flat_map(|row| definition(row, weight)).collect();
    let rows = Rows::new(&keys, 256, HEAD)?;
    let normed = stage.guarded(|| evenkeel::rms_norm(rows, &RmsNorm::default().weight(weight)))?;
    let naively = |norm: fn(&[f32], &[f32], f64) -> Vec<f32>| -> Vec<f32> {
        keys.chunks(HEAD).flat_map(|row| norm(row, weight, 1e-6)).collect()
    };
    let error = |y: &[f32]| y.iter().zip(&exact).map(|(y, e)| (f64::from(*y) - e).abs()).fold(0.0, f64::max);
    let (mean, deviation) = moments(weight);
    let largest = weight.iter().copied().fold(0.0, f32::max);
    Ok(vec![
        layer.to_string(),
        format!("{mean:.2}, {deviation:.2}, {largest:.1}"),
        format!("deviation {:.1}", moments(&normed).1),
        format!("{:.2}", error(&naively(naive::rms_norm::<f16>))),
        format!("{:.2}", error(&naively(naive::rms_norm::<bf16>))),
        format!("{:.6}", error(&normed)),
    ])
}

/// Runs a six-layer model once with each of four sets of ops. The layers cycle through the weights in `key_norms`. One
/// channel of the model has very large values.
fn layers(stage: &mut Stage, key_norms: &[Vec<f32>]) -> Result<()> {
    stage.say(&format!(
        "A model of {LAYERS} such layers has memorised a sentence. One channel is {MASSIVE_VALUE:.0}, as in some trained models; \
         its square\nexceeds f16. The standard deviation of what each layer adds, and the text:"
    ))?;
    let mut weights = Memorised::new(HIDDEN, LAYERS);
    weights.values("token_embd.weight").chunks_mut(HIDDEN).for_each(|token| token[MASSIVE] = MASSIVE_VALUE);
    weights.values("output.weight").chunks_mut(HIDDEN).for_each(|token| token[MASSIVE] = 0.0);
    // The huge channel makes the norm shrink all other channels. The norm's weight scales them up again, as in trained
    // models.
    let mut norm = vec![MASSIVE_VALUE / (HIDDEN as f32).sqrt(); HIDDEN];
    norm[MASSIVE] = 0.0;
    weights.values("output_norm.weight").clone_from(&norm);
    for layer in 0..LAYERS {
        for name in ["attn_norm", "ffn_norm"] {
            weights.values(&format!("blk.{layer}.{name}.weight")).clone_from(&norm);
        }
        weights.values(&format!("blk.{layer}.attn_q_norm.weight")).resize(HEAD, 1.0);
        let key_norm = &key_norms[layer % key_norms.len()];
        weights.values(&format!("blk.{layer}.attn_k_norm.weight")).clone_from(key_norm);
    }
    let runs = [
        ("f16 sum, infinite beyond 65504", run::<Overflowing>(&mut weights)?),
        ("f16 sum, saturating at 65504", run::<Saturating>(&mut weights)?),
        ("Evenkeel, unfused", stage.guarded(|| run::<Apart>(&mut weights))?),
        ("Evenkeel, fused", stage.guarded(|| run::<Evenkeel>(&mut weights))?),
    ];
    let rows = runs.map(|(name, (added, tokens))| {
        let added = added.iter().map(|deviation| shown(*deviation));
        [name.to_string()].into_iter().chain(added).chain([text(&tokens)]).collect()
    });
    stage.table(&["sum of squares", "layer 0", "1", "2", "3", "4", "5", "text"], &rows)
}

/// Returns the standard deviation of each layer's addition to the residual stream, over the first three tokens. Also
/// returns the generated tokens.
fn run<O: Ops>(weights: &mut Memorised) -> Result<(Vec<f64>, Vec<u32>)> {
    let mut model: Model<O> = weights.model()?;
    let mut x = model.embed(&Tensor::new(&[[BEGIN, BEGIN + 1, BEGIN + 2]], &Device::Cpu)?)?;
    let mut added = Vec::new();
    for layer in 0..LAYERS {
        let y = model.layer(layer, &x, None)?;
        added.push(moments(&(&y - &x)?.flatten_all()?.to_vec1()?).1);
        x = y;
    }
    let mut logits = model.logits(&x)?;
    let mut tokens = Vec::new();
    for _ in 0..14 {
        let token = naive::largest(&logits.squeeze(0)?.to_vec1()?);
        tokens.push(token);
        logits = model.forward(&Tensor::new(&[[token]], &Device::Cpu)?, None)?;
    }
    Ok((added, tokens))
}

/// Ops of Evenkeel, with the norm of queries and keys separate from the rotary embedding.
struct Apart;

/// Norms whose sums of squares are in f16 and overflow to infinity.
struct Overflowing;

/// Norms whose sums of squares are in f16 and saturate at the largest f16 number.
struct Saturating;

impl Ops for Apart {
    fn attention(query: &Tensor, keys: &Tensor, values: &Tensor, visible: Visible<'_>) -> Result<Tensor> {
        Evenkeel::attention(query, keys, values, visible)
    }

    fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
        Evenkeel::rms_norm(x, weight, eps)
    }
}

impl Ops for Overflowing {
    fn attention(query: &Tensor, keys: &Tensor, values: &Tensor, visible: Visible<'_>) -> Result<Tensor> {
        Evenkeel::attention(query, keys, values, visible)
    }

    fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
        rms_norm_by_f16_sum(x, weight, eps, |sum| sum)
    }
}

impl Ops for Saturating {
    fn attention(query: &Tensor, keys: &Tensor, values: &Tensor, visible: Visible<'_>) -> Result<Tensor> {
        Evenkeel::attention(query, keys, values, visible)
    }

    fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
        rms_norm_by_f16_sum(x, weight, eps, |sum| if sum > f16::MAX { f16::MAX } else { sum })
    }
}

fn rms_norm_by_f16_sum(x: &Tensor, weight: &Tensor, eps: f64, limit: fn(f16) -> f16) -> Result<Tensor> {
    let (rows, weight) = (x.flatten_all()?.to_vec1::<f32>()?, weight.to_vec1::<f32>()?);
    let rows = rows.chunks(weight.len()).flat_map(|row| naive::rms_norm_by_f16_sum(row, &weight, eps, limit));
    Ok(Tensor::from_vec(rows.collect::<Vec<_>>(), x.dims(), x.device())?)
}

/// Shows the softmax of huge logits, like those of the failing model, under two masks. Each mask adds f32's lowest
/// number to every logit. In naive arithmetic, the second addition overflows, so all logits become -inf.
fn huge_scores(stage: &mut Stage) -> Result<()> {
    let scores = [1e29f32, -1e29, 2e29, 5e28];
    let bias = [f32::MIN; 4];
    let naively = naive::softmax(&scores.map(|score| score + f32::MIN + f32::MIN));
    let mask = Mask::bias(&bias, &[4]).and_bias(&bias, &[4]);
    let row = Rows::new(&scores, 1, 4)?;
    let guarded = stage.guarded(|| evenkeel::softmax(row, &Softmax::default().mask(&mask)))?;
    let case = format!("Attention over scores of {scores:?}, masked by f32's lowest number twice.");
    stage.compare(&case, &format!("{naively:?}"), &format!("{guarded:?}"))
}

/// Computes the RMSNorm of a row in f64.
fn definition(row: &[f32], weight: &[f32]) -> Vec<f64> {
    let mean = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / row.len() as f64;
    row.iter().zip(weight).map(|(x, w)| f64::from(*x) / (mean + 1e-6).sqrt() * f64::from(*w)).collect()
}

/// Returns weights with this mean, standard deviation and maximum. One weight is the maximum; the others are
/// approximately normal.
fn weights_like([mean, deviation, largest]: [f64; 3], generator: &mut Generator) -> Vec<f32> {
    let (all, others) = (HEAD as f64, HEAD as f64 - 1.0);
    let other_mean = (all * mean - largest) / others;
    let other_square = (all * (deviation.powi(2) + mean.powi(2)) - largest.powi(2)) / others;
    let other_deviation = (other_square - other_mean.powi(2)).max(0.0).sqrt();
    let drawn = generator.normals(HEAD - 1, 1.0);
    let (drawn_mean, drawn_deviation) = moments(&drawn);
    let standard = drawn.iter().map(|v| (f64::from(*v) - drawn_mean) / drawn_deviation);
    standard.map(|v| (other_mean + other_deviation * v) as f32).chain([largest as f32]).collect()
}

/// Returns the mean and the standard deviation.
fn moments(values: &[f32]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    let variance = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
    (mean, variance.sqrt())
}

/// Formats a number: small ones with two decimals, large ones by their power of ten.
fn shown(value: f64) -> String {
    if value.is_nan() || value < 1e4 { format!("{value:.2}") } else { format!("{value:.0e}") }
}
