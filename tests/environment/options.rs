//! Calls that check and prepare options, and calls of samplers.

use crate::calls::{Add, COLS, ROWS, bits, numbers};
use evenkeel::train::init::{Fan, Gain, Init, Stream, fill};
use evenkeel::train::{AdamW, LossScale, Optimizer};
use evenkeel::{
    BceWithLogits, ClampedExp, ClampedLog, ClipGradNorm, CrossEntropy, Draw, Mask, Profile, RmsNorm, Rope, RopeScaling,
    RopeTable, Rows, SamplerConfig, Softmax,
};
use half::bf16;

/// Adds calls that check or convert options. Some options differ from a limit only by a subnormal number. Converting
/// the others needs operations whose results are rounded.
pub fn options(add: &mut Add<'_>) {
    let x = numbers::<f32>(ROWS * COLS, 1.0);
    let (tiny, below) = (1e-310, -1e-310);
    let a = x.clone();
    add(
        "options at subnormal values",
        Box::new(move || {
            let rows = Rows::new(&a, ROWS, COLS).unwrap();
            let targets = [3i64, 500, -100, 7];
            let clip =
                |max| evenkeel::clip_grad_norm(&mut [(&mut a.clone()).into()], &ClipGradNorm::new(max)).map(drop);
            let clip_value = |limit| evenkeel::clip_grad_value(&mut [(&mut a.clone()).into()], limit);
            let smoothed = |share| CrossEntropy::default().label_smoothing(share);
            let results = [
                evenkeel::softmax(rows, &Softmax::default().softcap(tiny)).map(drop),
                evenkeel::rms_norm(rows, &RmsNorm::default().eps(below)).map(drop),
                evenkeel::cross_entropy(rows, &targets, &smoothed(below)).map(drop),
                evenkeel::cross_entropy(rows, &targets, &CrossEntropy::default().z_loss(below)).map(drop),
                evenkeel::clamped_log(&a, &ClampedLog::default().floor(tiny)).map(drop),
                evenkeel::clamped_exp(&a, &ClampedExp::default().min(tiny).max(0.0)).map(drop),
                evenkeel::bce_with_logits(rows, &vec![below; ROWS * COLS], &BceWithLogits::default()).map(drop),
                clip(below),
                clip_value(below),
                SamplerConfig::default().top_p(tiny).validate().map(drop),
                SamplerConfig::default().repetition_penalty(tiny).validate().map(drop),
                RopeTable::new(&[1], 4, &Rope::default().theta(tiny)).map(drop),
                Optimizer::new(AdamW::default().weight_decay(below), &[(&a).into()]).map(drop),
                LossScale::dynamic().backoff(tiny).validate().map(drop),
            ];
            results.map(|result| u64::from(result.is_ok())).into()
        }),
    );
    let scaled = |scaling| Rope::default().scaling(scaling);
    let (factor, original_positions) = (7.3, 8192);
    for (name, rope) in [
        ("plain", Rope::default().theta(12_345.6)),
        ("linear", scaled(RopeScaling::Linear { factor })),
        ("ntk", scaled(RopeScaling::Ntk { factor })),
        (
            "llama3",
            scaled(RopeScaling::Llama3 { factor, low_freq_factor: 1.1, high_freq_factor: 4.3, original_positions }),
        ),
    ] {
        let x = numbers::<f64>(3 * 128, 1.0);
        add(
            &format!("RopeTable {name}"),
            Box::new(move || {
                let table = RopeTable::new(&[0, 977, 123_456], 128, &rope).unwrap();
                bits(&evenkeel::rope(Rows::new(&x, 3, 128).unwrap(), &table).unwrap())
            }),
        );
    }
    for init in [
        Init::xavier_uniform(Gain::LeakyRelu(0.3)),
        Init::kaiming_normal(Gain::Tanh, Fan::Average),
        Init::lecun_normal(),
        Init::Uniform { low: -1e-38, high: 1e-39 },
        Init::TruncatedNormal { mean: 0.1, std: 0.3, low: -0.7, high: 0.9 },
        Init::Constant(1e-40),
    ] {
        add(
            &format!("{init:?}"),
            Box::new(move || {
                let (mut wide, mut narrow) = (vec![0.0f32; 900], vec![bf16::ZERO; 900]);
                fill(&mut wide, &[30, 10, 3], &init, Stream::named(7, "weight")).unwrap();
                fill(&mut narrow, &[30, 10, 3], &init, Stream::named(7, "weight")).unwrap();
                [bits(&wide), bits(&narrow)].concat()
            }),
        );
    }
    add(
        "Gain and Fan",
        Box::new(|| {
            let gains = [Gain::LeakyRelu(0.3), Gain::Relu, Gain::Tanh].map(|gain| gain.value().unwrap());
            let fan = Fan::Average.of(&[(1 << 53) + 1, 3, 7]).unwrap();
            bits(&[&gains[..], &[fan]].concat())
        }),
    );
}

pub fn samplers(add: &mut Add<'_>) {
    let logits = numbers::<f32>(COLS, 0.1);
    let others = numbers::<f32>(COLS + 5, 0.1)[5..].to_vec();
    let base = SamplerConfig::default().temperature(0.7);
    for (name, config) in [
        ("plain", base),
        ("filtered", base.top_k(100).top_p(0.93).min_p(0.001)),
        ("typical", base.typical_p(0.9).eta_cutoff(1e-3)),
        ("dynamic", base.dynamic_temperature(0.3, 1.3)),
        ("penalised", base.repetition_penalty(1.3).presence_penalty(0.1).frequency_penalty(0.7)),
        ("hf", base.profile(Profile::HuggingFace).top_p(0.9)),
        ("vllm", base.profile(Profile::Vllm).top_p(0.9)),
    ] {
        let (logits, others) = (logits.clone(), others.clone());
        add(
            &format!("sampler, {name}"),
            Box::new(move || {
                let sampler = config.validate().unwrap();
                let (draw, history) = (Draw { seed: 5, row: 1, draw: 2 }, [3u32, 4, 3, 7, 3]);
                let step = evenkeel::Step::from(draw).output(&history);
                let target = sampler.distribution(&logits, None, step).unwrap();
                let draft = sampler.distribution(&others, None, step).unwrap();
                let mut words = vec![];
                let drawn = (0..20).flat_map(|i| {
                    let (draw, token) = (Draw { draw: i, ..draw }, draft.tokens()[i as usize % draft.tokens().len()]);
                    let (verified, alone) = (target.verify(&draft, token, draw), target.verify_token(token, draw));
                    [target.draw(draw), verified.sampled, alone.sampled]
                });
                words.extend(drawn.flat_map(|s| [u64::from(s.token), s.logprob.to_bits(), s.kept as u64]));
                words.extend(target.logprobs().map(f64::to_bits));
                words.extend(target.top_logprobs(5).into_iter().map(|(_, p)| p.to_bits()));
                words.extend(bits(&target.probs().unwrap()));
                words
            }),
        );
    }
    add(
        "masked sampler",
        Box::new(move || {
            let sampler = SamplerConfig::default().validate().unwrap();
            let bias = vec![0.1f32; COLS];
            let mask = Mask::bias(&bias, &[COLS]);
            let sampled = sampler.distribution(&logits, Some(&mask), Draw { seed: 5, row: 1, draw: 2 });
            sampled.unwrap().logprobs().map(f64::to_bits).collect()
        }),
    );
}
