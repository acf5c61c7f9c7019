//! Tests that fail in the unchanged moshi, and pass once it uses Evenkeel. With these inputs, streams of the unchanged
//! moshi fail, influence each other, or get impossible results.
//!
//! The models are small, and their weights are set so that the results are known.

mod processor;

use candle::{DType, Device, IndexOp, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use moshi::nn::MaybeQuantizedVarBuilder::Real;
use moshi::streaming::StreamingModule;
use moshi::transformer::{Config, PositionalEmbedding};
use moshi::{NormType, StreamMask, asr, batched_transformer, lm, lm_generate, mimi, transformer};
use processor::{LogitsProcessor, Sampling};
use std::cell::RefCell;
use std::collections::HashMap;

const CPU: Device = Device::Cpu;

/// Calls `build` with weights, and returns its result. The function `value` computes a tensor's weights from the
/// tensor's name and number of elements.
fn with_weights<T>(
    dtype: DType,
    value: impl Fn(&str, usize) -> Vec<f32>,
    build: impl Fn(VarBuilder) -> Result<T>,
) -> Result<T> {
    // A first model is built only to list the names and shapes of its tensors.
    let names = VarMap::new();
    build(VarBuilder::from_varmap(&names, dtype, &CPU))?;
    let mut tensors = HashMap::new();
    for (name, zeros) in names.data().lock().unwrap().iter() {
        let values = value(name, zeros.elem_count());
        tensors.insert(name.clone(), Tensor::from_vec(values, zeros.shape(), &CPU)?);
    }
    build(VarBuilder::from_tensors(tensors, dtype, &CPU))
}

/// Returns different values for different names and positions.
fn varied(name: &str, len: usize) -> Vec<f32> {
    // These weights are divisors, which must be positive.
    if name.ends_with("cluster_usage") {
        return vec![1.0; len];
    }
    let first = name.bytes().fold(0.0, |sum, byte| sum * 0.7 + byte as f32);
    (0..len).map(|i| (first + 1.3 * i as f32).sin()).collect()
}

fn small_transformer(context: usize, num_layers: usize) -> Config {
    Config {
        d_model: 2,
        num_heads: 1,
        num_layers,
        causal: true,
        norm_first: true,
        bias_ff: false,
        bias_attn: false,
        layer_scale: None,
        positional_embedding: PositionalEmbedding::None,
        use_conv_block: false,
        cross_attention: None,
        conv_kernel_size: 3,
        use_conv_bias: true,
        gating: None,
        norm: NormType::RmsNorm,
        context,
        max_period: 10_000,
        max_seq_len: 4096,
        kv_repeat: 1,
        dim_feedforward: 2,
        conv_layout: false,
        shared_cross_attn: false,
    }
}

/// Audio token whose embedding is NaN.
const BROKEN: u32 = 7;
/// Audio token for "no audio".
const NO_AUDIO: u32 = 8;

/// Returns the weights of a language model without layers. The logits of the model are `logits`, or NaN after the audio
/// token `broken`.
fn constant(logits: Vec<f32>, broken: u32) -> impl Fn(&str, usize) -> Vec<f32> {
    move |name, len| match name {
        // A hidden state has two equal features, which the norm scales to 1. So a logit is the sum of two weights.
        "text_linear.weight" => logits.iter().flat_map(|logit| [0.5 * logit; 2]).collect(),
        "text_emb.weight" | "out_norm.alpha" => vec![1.0; len],
        _ => (0..len).map(|i| if i / 2 == broken as usize { f32::NAN } else { 0.0 }).collect(),
    }
}

fn language_model(batch: Option<usize>, logits: Vec<f32>, broken: u32) -> Result<lm::LmModel> {
    let config = lm::Config {
        transformer: small_transformer(8, 0),
        depformer: None,
        text_in_vocab_size: logits.len() + 1,
        text_out_vocab_size: logits.len(),
        audio_vocab_size: NO_AUDIO as usize + 1,
        audio_codebooks: 1,
        conditioners: None,
        extra_heads: None,
    };
    with_weights(DType::F32, constant(logits, broken), |vb| match batch {
        Some(batch) => lm::LmModel::batched(batch, &config, Real(vb)),
        // An unbatched model needs a layer, because it reads the length of the sequence from its first layer.
        None => lm::LmModel::new(&lm::Config { transformer: small_transformer(8, 1), ..config.clone() }, Real(vb)),
    })
}

fn audio_model(batch: usize) -> Result<mimi::Mimi> {
    let mut config = mimi::Config::v0_1(Some(2));
    config.seanet.dimension = 4;
    config.seanet.n_filters = 2;
    config.transformer.d_model = 4;
    config.transformer.num_heads = 2;
    config.transformer.num_layers = 1;
    config.transformer.dim_feedforward = 4;
    config.quantizer_bins = 64;
    config.quantizer_dim = 4;
    with_weights(DType::F32, varied, |vb| mimi::Mimi::batched(batch, config.clone(), vb))
}

/// Transcribes one stream for each token in `audio`. A stream repeats its token for `steps` steps. Returns the text
/// tokens of each step, and the messages.
fn transcribe(
    logits: &[f32],
    temperature: f64,
    audio: &[u32],
    steps: usize,
) -> Result<(Vec<Vec<u32>>, Vec<asr::AsrMsg>)> {
    let batch = audio.len();
    let model = language_model(Some(batch), logits.to_vec(), BROKEN)?;
    // No step yields a word here, so all messages are errors.
    let mut state = asr::State::new(batch, 1000, temperature, audio_model(batch)?, model)?;
    let mask = StreamMask::new(vec![true; batch], &CPU)?;
    let (texts, mut messages) = (RefCell::new(vec![]), vec![]);
    for _ in 0..steps {
        let audio = Tensor::new(audio, &CPU)?.reshape((batch, 1, 1))?;
        let keep = |streams: &[asr::ItemState], _: &Tensor, _: &[Tensor]| {
            texts.borrow_mut().push(streams.iter().map(|stream| stream.text_token()).collect())
        };
        messages.extend(state.step_tokens(&audio, None, &mask, keep)?);
    }
    Ok((texts.into_inner(), messages))
}

#[test]
fn improbable_tokens_are_drawn() -> Result<()> {
    // All tokens except token 5 are improbable. Together, the improbable tokens have half of the probability.
    let mut logits = vec![-10.0; 22_000];
    logits[5] = 0.0;
    let (texts, _) = transcribe(&logits, 1.0, &[0, 0], 32)?;
    let improbable = texts[1..].iter().flatten().filter(|token| **token != 5).count();
    assert!((16..48).contains(&improbable), "expected 16 to 47 improbable tokens among 62 tokens, got {improbable}");
    Ok(())
}

#[test]
fn a_transcript_is_repeatable() -> Result<()> {
    let first = transcribe(&[0.0; 1000], 0.8, &[0], 8)?.0;
    let second = transcribe(&[0.0; 1000], 0.8, &[1, 0], 8)?.0;
    assert_eq!(first.concat(), second.iter().map(|texts| texts[1]).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn a_nan_is_an_error_of_its_stream() -> Result<()> {
    for temperature in [0.0, 0.8] {
        let (texts, messages) = transcribe(&[0.0, 0.0, 9.0], temperature, &[0, BROKEN], 4)?;
        // The model reads an audio token one step late, so only 3 of the 4 steps have an error.
        let errors: Vec<_> = messages.iter().map(|message| format!("{message:?}")).collect();
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(errors.iter().all(|error| error.starts_with("Error { batch_idx: 1,") && error.contains("NaN")));
        assert!(texts[1..].iter().all(|texts| texts[0] == 2));
    }
    Ok(())
}

#[test]
fn a_nan_in_the_audio_ends_with_its_stream() -> Result<()> {
    let mask = StreamMask::new(vec![true; 2], &CPU)?;
    let frame = |first: f32, step: usize| {
        let samples = |i| if i == 0 { first } else { ((i + 1920 * step) as f32 * 0.01).sin() };
        Tensor::from_vec((0..2 * 1920).map(samples).collect(), (2, 1, 1920), &CPU)
    };
    let codes = |first: f32| {
        let mut model = audio_model(2)?;
        for first in [0.5, first] {
            model.encode_step(&frame(first, 0)?.into(), &mask)?;
        }
        // The reset assigns the stream to another client. That client's first frame overwrites only the keys of the
        // first old frame. The keys of the second old frame, which may be NaN, remain.
        model.reset_batch_idx(0, 2)?;
        let codes = model.encode_step(&frame(0.5, 1)?.into(), &mask)?;
        codes.as_option().unwrap().i(0)?.to_vec2::<u32>()
    };
    assert_eq!(codes(f32::NAN)?, codes(0.5)?);
    Ok(())
}

#[test]
fn a_reset_stream_forgets_a_nan() -> Result<()> {
    let mut model = with_weights(DType::F32, varied, |vb| {
        transformer::StreamingTransformer::new(&small_transformer(8, 1), Real(vb))
    })?;
    model.forward(&Tensor::new(&[[[f32::NAN, 1.0]], [[1.0, 2.0]]], &CPU)?)?;
    model.reset_batch_idx(0, 2)?;
    let y = model.forward(&Tensor::new(&[[[3f32, 1.0]], [[1.0, 2.0]]], &CPU)?)?;
    assert!(y.flatten_all()?.to_vec1::<f32>()?.iter().all(|y| y.is_finite()), "{y}");
    Ok(())
}

#[test]
fn a_16_bit_model_reads_more_steps_than_its_context() -> Result<()> {
    let mut model = with_weights(DType::F16, varied, |vb| {
        batched_transformer::StreamingTransformer::new(1, &small_transformer(4, 1), Real(vb))
    })?;
    let x = Tensor::ones((1, 6, 2), DType::F16, &CPU)?;
    let y = model.step(&x.into(), &StreamMask::new(vec![true], &CPU)?)?;
    assert_eq!(y.as_option().unwrap().dims(), [1, 6, 2]);
    Ok(())
}

#[test]
fn weights_of_attention_sum_to_1_in_16_bits() -> Result<()> {
    // Queries and keys are 0, so attention returns the mean of the values. All values are 1. The layer adds this mean
    // to x, which is 1, so its results are 2.
    let value = |name: &str, len: usize| match name.rsplit_once('.').unwrap() {
        (_, "in_proj_weight") => [[0.0; 8].as_slice(), &[1.0, 0.0, 0.0, 1.0]].concat(),
        ("layers.0.self_attn.out_proj", _) => vec![1.0, 0.0, 0.0, 1.0],
        (_, "alpha") => vec![1.0; len],
        _ => vec![0.0; len],
    };
    let mut model = with_weights(DType::F16, value, |vb| {
        transformer::StreamingTransformer::new(&small_transformer(3000, 1), Real(vb))
    })?;
    let y = model.forward(&Tensor::ones((1, 2500, 2), DType::F16, &CPU)?)?;
    let last = y.i((0, 2499))?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
    assert!(last.iter().all(|y| (y - 2.0).abs() < 0.01), "{last:?}");
    Ok(())
}

/// Generates one text token. Its logits are constant, or NaN if `broken` is [`NO_AUDIO`].
fn generate(sampling: Sampling, broken: u32) -> Result<Option<u32>> {
    let model = language_model(None, vec![0.0, 2.0, 1.0], broken)?;
    let config = lm_generate::Config {
        audio_delays: vec![0],
        audio_vocab_size: NO_AUDIO as usize + 1,
        text_pad_token: 0,
        text_eop_token: 0,
        text_start_token: 3,
    };
    let processor = || LogitsProcessor::from_sampling(1, sampling.clone());
    let mut state = lm_generate::State::new(model, 4, processor(), processor(), config);
    state.step(None)?;
    state.last_text_token()
}

#[test]
fn a_nan_is_an_error_of_greedy_generation() {
    let refused = generate(Sampling::ArgMax, NO_AUDIO);
    assert!(refused.as_ref().is_err_and(|error| error.to_string().contains("NaN")), "{refused:?}");
}

#[test]
fn a_temperature_of_zero_is_greedy() {
    assert_eq!(generate(Sampling::TopK { k: 2, temperature: 0.0 }, BROKEN).ok(), Some(Some(1)));
}
