//! Tests of the stability tester. Small modules have one planted defect each, which the matching check must find. In a
//! sound module, no check may find a defect.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::{Embedding, Init, Linear, Module, VarBuilder, embedding, linear, linear_no_bias};
use evenkeel::candle::{RmsNorm, guarded, rms_norm};
use evenkeel::testing::stability::{Check, Finding, Report, StabilityTester};
use evenkeel::{ClampedExp, Mask, Softmax};

const WIDTH: usize = 16;

/// Module that applies a closure to its input.
struct Made<F>(F);

impl<F: Fn(&Tensor) -> Result<Tensor>> Module for Made<F> {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        (self.0)(x)
    }
}

/// Runs the tester on a module that applies a linear layer and then the function `then`.
fn tested(then: impl Fn(&Tensor) -> Result<Tensor> + Clone) -> Report {
    StabilityTester::new((4, WIDTH), move |vb: VarBuilder<'_>| {
        let (layer, then) = (linear(WIDTH, WIDTH, vb)?, then.clone());
        Ok(Made(move |x: &Tensor| then(&layer.forward(x)?)))
    })
    .check()
}

fn has(report: &Report, check: Check, dtype: DType, text: &str) -> bool {
    let is_it = |finding: &&Finding| finding.check == check && finding.dtype == dtype && finding.what.contains(text);
    report.findings.iter().any(|finding| is_it(&finding))
}

#[test]
fn a_plain_layer_is_clean() {
    tested(|y| Ok(y.clone())).assert_clean();
}

/// Checks an eps of 1e-8, which becomes 0 in f16: a row without variance is then divided by 0.
#[test]
fn an_eps_that_its_type_does_not_hold() {
    let report = StabilityTester::new((4, WIDTH), |vb: VarBuilder<'_>| {
        let weight = vb.get_with_hints(WIDTH, "weight", Init::Const(1.0))?;
        Ok(Made(move |x: &Tensor| {
            let variance = x.sqr()?.mean_keepdim(D::Minus1)?;
            let eps = Tensor::new(1e-8f32, &Device::Cpu)?.to_dtype(x.dtype())?;
            x.broadcast_div(&variance.broadcast_add(&eps)?.sqrt()?)?.broadcast_mul(&weight)
        }))
    })
    .check();
    assert!(
        has(&report, Check::HalfPrecision, DType::F16, "output of zeros"),
        "dividing by sqrt(variance + 1e-8) in f16: the report must mention an output of zeros, got {report}"
    );
    assert!(
        !has(&report, Check::HalfPrecision, DType::BF16, "output of zeros"),
        "dividing by sqrt(variance + 1e-8) in bf16: the report must not mention an output of zeros, got {report}"
    );
}

#[test]
fn exp_of_what_has_no_bound() {
    let report = tested(|y| y.exp());
    assert!(
        has(&report, Check::HostileInput, DType::F32, "output of large numbers"),
        "exp in f32: the report must mention outputs that are large numbers, got {report}"
    );
    assert!(
        has(&report, Check::HalfPrecision, DType::F16, "output of large numbers"),
        "exp in f16: the report must mention outputs that are large numbers, got {report}"
    );
    let report = tested(|y| Ok(guarded::clamped_exp(y, &ClampedExp::default().min(-5.0).max(5.0))?));
    assert!(!report.has(Check::HostileInput), "clamped_exp must pass the HostileInput check, got {report}");
}

/// Runs the tester on an attention layer whose inputs are tokens. Token 0 is padding.
fn attention(probabilities: impl Fn(&Tensor, &Tensor) -> Result<Tensor> + Clone) -> Report {
    StabilityTester::new((2, 6), move |vb: VarBuilder<'_>| {
        let words = embedding(11, WIDTH, vb.pp("words"))?;
        let probabilities = probabilities.clone();
        Ok(Made(move |tokens: &Tensor| {
            let x = (words.forward(tokens)? * 0.5)?;
            let scores = (x.matmul(&x.t()?)? * 0.25)?;
            let keep = tokens.ne(0u32)?.unsqueeze(1)?.broadcast_as(scores.shape())?.contiguous()?;
            probabilities(&scores, &keep)?.matmul(&x)
        }))
    })
    .tokens(11)
    .check()
}

#[test]
fn masks_of_minus_infinity() {
    let report = attention(|scores, keep| {
        let masked = Tensor::full(f32::NEG_INFINITY, scores.shape(), scores.device())?.to_dtype(scores.dtype())?;
        candle_nn::ops::softmax_last_dim(&keep.where_cond(scores, &masked)?)
    });
    assert!(
        has(&report, Check::HostileInput, DType::F32, "the first token only"),
        "softmax with a mask of -inf: the report must name the input `the first token only`, got {report}"
    );
    let report = attention(|scores, keep| {
        let (shape, keep) = (keep.dims().to_vec(), keep.flatten_all()?.to_vec1::<u8>()?);
        let mask = Mask::keep(&keep, &shape);
        Ok(guarded::softmax(scores, D::Minus1, &Softmax::default().mask(&mask))?)
    });
    assert!(!report.has(Check::HostileInput), "a masked softmax must pass the HostileInput check, got {report}");
}

#[test]
fn weights_that_begin_as_nothing_or_as_anything() {
    let deep = |init: Init| {
        StabilityTester::new((4, 256), move |vb: VarBuilder<'_>| {
            let layer = |i: usize| Ok(Linear::new(vb.pp(i).get_with_hints((256, 256), "weight", init)?, None));
            let layers = (0..3).map(layer).collect::<Result<Vec<_>>>()?;
            Ok(Made(move |x: &Tensor| layers.iter().try_fold(x.clone(), |x, layer| layer.forward(&x))))
        })
        .check()
    };
    let report = deep(Init::Const(0.0));
    assert!(
        has(&report, Check::Initialisation, DType::F32, "0.weight is initialised to 0 everywhere"),
        "layers with weights of 0: the report must say that `0.weight` is 0 everywhere, got {report}"
    );
    let report = deep(Init::Randn { mean: 0.0, stdev: 1.0 });
    assert!(
        has(&report, Check::Initialisation, DType::F32, "ordinary input gives output"),
        "weights of standard deviation 1: the report must contain `ordinary input gives output`, got {report}"
    );
    assert!(!deep(candle_nn::init::DEFAULT_KAIMING_NORMAL).has(Check::Initialisation));
}

/// Checks a loss that is a sum of 65,536 squares. In f16 and bf16, a running sum stops growing before it reaches the
/// exact sum.
#[test]
fn a_loss_in_half_precision() {
    let report = |loss: fn(&Tensor) -> Result<Tensor>| {
        StabilityTester::new((4096, WIDTH), |vb: VarBuilder<'_>| linear_no_bias(WIDTH, WIDTH, vb))
            .loss(loss)
            .norm(f64::INFINITY)
            .steps(0, 1e-3)
            .check()
    };
    let narrow = report(|y| y.sqr()?.sum_all());
    for dtype in [DType::F16, DType::BF16] {
        assert!(
            has(&narrow, Check::HalfPrecision, dtype, "the loss is"),
            "sum of squares in {dtype:?}: the HalfPrecision check must report the loss, got {narrow}"
        );
    }
    let wide = report(|y| y.to_dtype(DType::F32)?.sqr()?.mean_all());
    assert!(!wide.has(Check::HalfPrecision), "a loss summed in f32 must pass the HalfPrecision check, got {wide}");
}

#[test]
fn gradients_that_want_clipping() {
    let report = tested(|y| y * 1e3);
    assert!(
        has(&report, Check::GradientFlow, DType::F32, "the gradient norm"),
        "a layer with its output multiplied by 1000: the report must mention the gradient norm, got {report}"
    );
}

#[test]
fn gradients_that_do_not_arrive() {
    let report = StabilityTester::new((4, WIDTH), |vb: VarBuilder<'_>| {
        let (used, cut) = (linear(WIDTH, WIDTH, vb.pp("used"))?, linear(WIDTH, WIDTH, vb.pp("cut"))?);
        Ok(Made(move |x: &Tensor| used.forward(x)? + cut.forward(x)?.detach()))
    })
    .check();
    assert!(
        has(&report, Check::GradientFlow, DType::F32, "cut.weight has no gradient"),
        "a module with a detached layer: the report must say that `cut.weight` has no gradient, got {report}"
    );
    assert!(
        !has(&report, Check::GradientFlow, DType::F32, "used.weight"),
        "the report must not mention `used.weight`, which has a gradient, got {report}"
    );
}

#[test]
fn steps_that_are_too_large() {
    let report =
        StabilityTester::new((4, WIDTH), |vb: VarBuilder<'_>| linear(WIDTH, WIDTH, vb)).steps(20, 10.0).check();
    assert!(report.has(Check::Training), "the Training check must fail with a learning rate of 10, got {report}");
}

#[test]
fn what_a_module_refuses_is_found() {
    let report = tested(|_| candle_core::bail!("not today"));
    assert!(
        report.findings.iter().all(|finding| finding.what.contains("not today")),
        "each line of the report must contain the error `not today`, got {report}"
    );
    assert!(
        report.has(Check::Initialisation) && report.has(Check::Training),
        "the checks Initialisation and Training must fail, got {report}"
    );
}

struct Block {
    words: Embedding,
    norm: RmsNorm,
    qkv: Linear,
    out: Linear,
}

impl Block {
    fn new(vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Block {
            words: embedding(50, WIDTH, vb.pp("words"))?,
            norm: rms_norm(WIDTH, 1e-6, vb.pp("norm"))?,
            qkv: linear_no_bias(WIDTH, 3 * WIDTH, vb.pp("qkv"))?,
            out: linear(WIDTH, 50, vb.pp("out"))?,
        })
    }
}

impl Module for Block {
    fn forward(&self, tokens: &Tensor) -> Result<Tensor> {
        let x = self.words.forward(tokens)?;
        let qkv = self.qkv.forward(&self.norm.forward(&x)?)?;
        let part = |i: usize| qkv.narrow(D::Minus1, i * WIDTH, WIDTH)?.contiguous();
        let scores = part(0)?.matmul(&part(1)?.t()?)?;
        let options = Softmax::default().scale(0.25);
        let causal = Mask::causal();
        let weights = guarded::softmax(&scores, D::Minus1, &options.mask(&causal))?;
        self.out.forward(&(x + weights.matmul(&part(2)?)?)?)
    }
}

#[test]
fn a_block_of_a_transformer_is_clean() {
    StabilityTester::new((3, 7), Block::new).tokens(50).check().assert_clean();
}
