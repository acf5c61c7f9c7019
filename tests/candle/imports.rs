//! Checks that replacing one import suffices: Evenkeel exports every item of candle-nn with the same signature.

#![allow(clippy::type_complexity)]

use candle_core::shape::Dim;
use candle_core::{D, DType, Device, Result, Tensor};

/// Engine code in which `evenkeel::candle` replaces both `candle_nn` and `candle_transformers`.
mod engine {
    use candle_core::{D, IndexOp, Result, Tensor};
    use candle_nn::{Activation, Embedding, LayerNorm, Linear, Module, RmsNorm, VarBuilder, linear_no_bias, rms_norm};
    use candle_transformers::generation::{LogitsProcessor, Sampling};
    use evenkeel::candle as candle_nn;
    use evenkeel::candle as candle_transformers;

    pub struct Model {
        embedding: Embedding,
        norm: RmsNorm,
        last: LayerNorm,
        up: Linear,
        down: Linear,
        act: Activation,
    }

    impl Model {
        pub fn load(vb: VarBuilder) -> Result<Self> {
            Ok(Model {
                embedding: candle_nn::embedding(10, 8, vb.pp("embedding"))?,
                norm: rms_norm(8, 1e-6, vb.pp("norm"))?,
                last: candle_nn::layer_norm(8, candle_nn::LayerNormConfig::default(), vb.pp("last"))?,
                up: linear_no_bias(8, 16, vb.pp("up"))?,
                down: candle_nn::linear(8, 10, vb.pp("down"))?,
                act: Activation::Silu,
            })
        }

        pub fn logits(&self, ids: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
            let x = self.norm.forward(&self.embedding.forward(ids)?)?;
            let heads = x.reshape((1, ids.dim(0)?, 2, 4))?.transpose(1, 2)?;
            let q = candle_nn::rotary_emb::rope(&heads.contiguous()?, cos, sin)?;
            let scores = q.matmul(&q.transpose(D::Minus1, D::Minus2)?)?;
            let weights = candle_nn::ops::softmax_last_dim(&scores)?;
            let x = weights.matmul(&q)?.transpose(1, 2)?.reshape(((), 8))?;
            let x = candle_nn::ops::dropout(&x, 0.0)?;
            let x = candle_nn::ops::swiglu(&self.up.forward(&x)?)?;
            let x = candle_nn::ops::leaky_relu(&x.apply(&self.act)?, 0.1)?;
            self.down.forward(&self.last.forward(&x)?)?.i(0)
        }

        pub fn sample(&self, logits: &Tensor) -> Result<u32> {
            let mut processor = LogitsProcessor::new(1, Some(0.8), Some(0.9));
            let token = processor.sample_f(logits, |_| {})?;
            let mut processor =
                LogitsProcessor::from_sampling(1, Sampling::TopKThenTopP { k: 3, p: 0.9, temperature: 1.0 });
            Ok(token.max(processor.sample(logits)?))
        }
    }
}

#[test]
fn an_engine_by_one_changed_import() -> Result<()> {
    let vars = candle_nn::VarMap::new();
    let vb = candle_nn::VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
    let model = engine::Model::load(vb)?;
    let table = Tensor::ones((3, 2), DType::F32, &Device::Cpu)?;
    let logits = model.logits(&Tensor::new(&[1u32, 2, 3], &Device::Cpu)?, &table, &table)?;
    assert_eq!(logits.dims(), [10]);
    assert!(model.sample(&logits)? < 10);
    let loss = evenkeel::candle::loss::cross_entropy(&logits.unsqueeze(0)?, &Tensor::new(&[3u32], &Device::Cpu)?)?;
    let grads = loss.backward()?;
    // Every trained variable gets a gradient, even if norms and a softmax separate it from the loss.
    assert!(vars.all_vars().iter().all(|var| grads.get(var).is_some()));
    Ok(())
}

/// Compiles only if both arguments have the same type.
fn alike<T>(_: T, _: T) {}

#[test]
fn functions_have_candles_types() {
    use candle_nn as theirs;
    use evenkeel::candle as ours;

    type One = fn(&Tensor) -> Result<Tensor>;
    type Three = fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>;
    alike::<[One; 4]>(
        [theirs::ops::softmax_last_dim, theirs::ops::sigmoid, theirs::ops::silu, theirs::ops::swiglu],
        [ours::ops::softmax_last_dim, ours::ops::sigmoid, ours::ops::silu, ours::ops::swiglu],
    );
    alike::<[Three; 3]>(
        [theirs::rotary_emb::rope, theirs::rotary_emb::rope_i, theirs::rotary_emb::rope_thd],
        [ours::rotary_emb::rope, ours::rotary_emb::rope_i, ours::rotary_emb::rope_thd],
    );
    alike::<fn(&Tensor, &Tensor, f32) -> Result<Tensor>>(theirs::ops::rms_norm, ours::ops::rms_norm);
    alike::<fn(&Tensor, &Tensor, &Tensor, f32) -> Result<Tensor>>(theirs::ops::layer_norm, ours::ops::layer_norm);
    type Loss = fn(&Tensor, &Tensor) -> Result<Tensor>;
    alike::<[Loss; 2]>(
        [theirs::loss::cross_entropy, theirs::loss::binary_cross_entropy_with_logit],
        [ours::loss::cross_entropy, ours::loss::binary_cross_entropy_with_logit],
    );
    alike::<[Loss; 2]>([theirs::loss::nll, theirs::loss::mse], [ours::loss::nll, ours::loss::mse]);
    fn generic<X: Dim>() {
        alike::<[fn(&Tensor, X) -> Result<Tensor>; 2]>(
            [theirs::ops::softmax::<X>, theirs::ops::log_softmax::<X>],
            [ours::ops::softmax::<X>, ours::ops::log_softmax::<X>],
        );
    }
    generic::<usize>();
    generic::<D>();
}

/// Generates code that mentions every exported item of a module together with its expected type. `eps`, `remove_mean`
/// and `RmsNorm::weight` are missing here, because only candle 0.11 has them.
macro_rules! surface {
    ($name:ident, $root:path) => {
        mod $name {
            use candle_core::{Module, Result, Tensor};
            use candle_nn::VarBuilder;
            use $root as root;

            fn _layer_norm(norm: root::LayerNorm) -> impl Module + Clone + std::fmt::Debug + Send + Sync {
                let _: fn(Tensor, Tensor, f64) -> root::LayerNorm = root::LayerNorm::new;
                let _: fn(Tensor, f64) -> root::LayerNorm = root::LayerNorm::new_no_bias;
                let _: fn(Tensor, f64) -> root::LayerNorm = root::LayerNorm::rms_norm;
                let _: for<'a> fn(&'a root::LayerNorm) -> &'a Tensor = root::LayerNorm::weight;
                let _: for<'a> fn(&'a root::LayerNorm) -> Option<&'a Tensor> = root::LayerNorm::bias;
                norm
            }

            fn _rms_norm(norm: root::RmsNorm) -> impl Module + Clone + std::fmt::Debug + Send + Sync {
                let _: fn(Tensor, f64) -> root::RmsNorm = root::RmsNorm::new;
                let _: fn(root::RmsNorm) -> root::LayerNorm = root::RmsNorm::into_inner;
                let _: fn(&root::RmsNorm, &Tensor) -> Result<Tensor> = root::RmsNorm::forward_diff;
                norm
            }

            fn _constructors<C: Into<root::LayerNormConfig>>() {
                let _: fn(usize, C, VarBuilder) -> Result<root::LayerNorm> = root::layer_norm::<C>;
                let _: fn(usize, f64, VarBuilder) -> Result<root::LayerNorm> = root::layer_norm_no_bias;
                let _: fn(usize, f64, VarBuilder) -> Result<root::RmsNorm> = root::rms_norm;
                let _: fn(usize, C, VarBuilder) -> Result<root::layer_norm::LayerNorm> =
                    root::layer_norm::layer_norm::<C>;
                let _: fn(usize, f64, VarBuilder) -> Result<root::layer_norm::RmsNorm> = root::layer_norm::rms_norm;
            }

            fn _group_norm(norm: root::GroupNorm) -> impl Module + Clone + std::fmt::Debug + Send + Sync {
                let _: fn(Tensor, Tensor, usize, usize, f64) -> Result<root::group_norm::GroupNorm> =
                    root::GroupNorm::new;
                let _: fn(usize, usize, f64, VarBuilder) -> Result<root::GroupNorm> = root::group_norm;
                let _: fn(usize, usize, f64, VarBuilder) -> Result<root::GroupNorm> = root::group_norm::group_norm;
                norm
            }

            fn _others() {
                let _ = root::ops::hard_sigmoid;
                let _ = root::ops::sdpa;
                let _ = root::ops::rms_norm_slow;
                let _ = root::ops::pixel_shuffle;
                let _ = root::ops::Dropout::new;
                let _ = root::ops::Identity::new;
                let _ = root::rotary_emb::rope_slow;
                let _ = root::rotary_emb::rope_i_slow;
                let _ = root::loss::huber;
                let _ = root::kv_cache::KvCache::new;
                let _ = root::VarMap::new;
                let _ = root::conv2d;
                let _ = root::encoding::one_hot::<u32>;
                let _: Option<root::AdamW> = None;
                let _: Option<root::Dropout> = None;
            }
        }
    };
}

surface!(theirs, candle_nn);
surface!(ours, evenkeel::candle);
