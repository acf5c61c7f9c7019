//! Compares gradients with finite differences in f64, and with the gradients that candle computes for the compositions.

use crate::support::{CPU, assert_close, flat, tensor};
use candle_core::{DType, Module, Result, Tensor, Var};
use evenkeel::candle as ours;
use evenkeel::candle::{composition, guarded};
use evenkeel::{
    ClampedExp, ClampedLog, CrossEntropy, FullyMasked, GroupNorm, L2Normalize, LayerNorm, Mask, MeanPool, Reduction,
    RmsNorm, RmsNormLinear, Rope, RopeScaling, RopeTable, SafeDiv, Softmax, Yarn,
};

pub type Op = Box<dyn Fn(&[Tensor]) -> Result<Tensor>>;

/// Op with the shapes of its arguments, and the composition that it is compared with.
pub struct Case {
    pub name: &'static str,
    pub dims: Vec<Vec<usize>>,
    pub op: Op,
    composed: Option<Op>,
}

fn case(name: &'static str, dims: &[&[usize]], op: Op, composed: Option<Op>) -> Case {
    Case { name, dims: dims.iter().map(|dims| dims.to_vec()).collect(), op, composed }
}

const ROWS: &[usize] = &[3, 2, 6];
const COLS: &[usize] = &[6];
const MATRIX: &[usize] = &[4, 6];
const RESULTS: &[usize] = &[4];
const HEADS: &[usize] = &[2, 3, 4, 6];
const TABLE: &[usize] = &[4, 3];
const CHANNELS: &[usize] = &[2, 6, 2, 3];
const BATCHED: &[usize] = &[2, 4, 3];

fn capped() -> Softmax<'static> {
    Softmax::default().scale(0.7).softcap(1.5)
}

const WEIGHT: [f32; 5] = [0.5, 0.0, 2.0, 1.0, 0.25];

fn smoothed() -> CrossEntropy<'static> {
    CrossEntropy::default().label_smoothing(0.2).z_loss(0.05).softcap(2.0)
}

/// Returns targets for six rows, one of which is ignored.
fn targets() -> Tensor {
    Tensor::new(&[[4i64, -100, 2], [1, 0, 3]], CPU).unwrap()
}

/// Inserts an axis for the heads into a table. The argument `heads` is 1 for rows of `[.., heads, positions, cols]`,
/// and 2 for rows of `[.., positions, heads, cols]`.
fn per_row(table: &Tensor, heads: usize) -> Result<Tensor> {
    table.unsqueeze(table.rank() + heads - 3)
}

pub fn cases() -> Vec<Case> {
    let table = || RopeTable::new(&[1, 2], 6, &Rope::default()).unwrap();
    let neighbours = || RopeTable::new(&[1, 2], 6, &Rope::default().interleaved(true)).unwrap();
    let stretched = || {
        let yarn = Yarn::new(4.0, 64).beta_fast(8.0);
        RopeTable::new(&[1, 2], 6, &Rope::default().scaling(RopeScaling::Yarn(yarn))).unwrap()
    };
    let offset = || RmsNorm::default().weight_offset(1.0).eps(1e-3);
    let linear = || RmsNormLinear::default().norm(RmsNorm::default().weight_offset(1.0).eps(1e-3));
    let layer = || LayerNorm::default().eps(1e-3);
    let groups = || GroupNorm::new(3).eps(1e-3);
    let within = || ClampedExp::default().min(-1.0).max(0.8);
    let above = || ClampedLog::default().floor(0.3);
    let away = || SafeDiv::default().eps(0.6);
    vec![
        case(
            "softmax",
            &[ROWS],
            Box::new(|x| ours::ops::softmax_last_dim(&x[0])),
            Some(Box::new(|x| composition::softmax(&x[0], 2, &Softmax::default()))),
        ),
        case(
            "softmax along the first axis",
            &[ROWS],
            Box::new(|x| ours::ops::softmax(&x[0], 0)),
            Some(Box::new(|x| composition::softmax(&x[0], 0, &Softmax::default()))),
        ),
        case(
            "capped softmax",
            &[ROWS],
            Box::new(|x| Ok(guarded::softmax(&x[0], 1, &capped())?)),
            Some(Box::new(|x| composition::softmax(&x[0], 1, &capped()))),
        ),
        case(
            "masked softmax",
            &[ROWS],
            Box::new(|x| Ok(guarded::softmax(&x[0], 2, &capped().mask(&Mask::causal().and_lengths(&[6, 0, 4])))?)),
            None,
        ),
        case(
            "masked softmax with a policy",
            &[ROWS],
            Box::new(|x| {
                let mask = Mask::lengths(&[6, 0, 4]);
                Ok(guarded::softmax(&x[0], 2, &capped().mask(&mask).fully_masked(FullyMasked::Uniform))?)
            }),
            None,
        ),
        case(
            "log_softmax",
            &[ROWS],
            Box::new(|x| ours::ops::log_softmax(&x[0], 1)),
            Some(Box::new(|x| composition::log_softmax(&x[0], 1, &Softmax::default()))),
        ),
        case(
            "capped log_softmax",
            &[ROWS],
            Box::new(|x| Ok(guarded::log_softmax(&x[0], 2, &capped())?)),
            Some(Box::new(|x| composition::log_softmax(&x[0], 2, &capped()))),
        ),
        case(
            "log_softmax with a policy",
            &[ROWS],
            Box::new(|x| {
                let mask = Mask::lengths(&[6, 0, 6]);
                Ok(guarded::log_softmax(&x[0], 2, &Softmax::default().mask(&mask).fully_masked(FullyMasked::Uniform))?)
            }),
            None,
        ),
        case(
            "logsumexp",
            &[ROWS],
            Box::new(|x| Ok(guarded::logsumexp(&x[0], 1, true, &capped())?)),
            Some(Box::new(|x| composition::logsumexp(&x[0], 1, &capped()))),
        ),
        case(
            "logsumexp, squeezed",
            &[ROWS],
            Box::new(|x| Ok(guarded::logsumexp(&x[0], 2, false, &Softmax::default())?)),
            Some(Box::new(|x| composition::logsumexp(&x[0], 2, &Softmax::default())?.squeeze(2))),
        ),
        case(
            "rms_norm",
            &[ROWS, COLS],
            Box::new(|x| ours::ops::rms_norm(&x[0], &x[1], 1e-3)),
            Some(Box::new(|x| composition::rms_norm(&x[0], Some(&x[1]), &RmsNorm::default().eps(1e-3f32.into())))),
        ),
        case(
            "rms_norm with an offset",
            &[ROWS, COLS],
            Box::new(move |x| Ok(guarded::rms_norm(&x[0], Some(&x[1]), &offset())?)),
            Some(Box::new(move |x| composition::rms_norm(&x[0], Some(&x[1]), &offset()))),
        ),
        case(
            "plain rms_norm",
            &[ROWS],
            Box::new(move |x| Ok(guarded::rms_norm(&x[0], None, &offset())?)),
            Some(Box::new(move |x| composition::rms_norm(&x[0], None, &offset()))),
        ),
        case(
            "rms_norm with a residual",
            &[ROWS, ROWS, COLS],
            Box::new(|x| {
                let (norm, sum) = guarded::rms_norm_residual(&x[0], &x[1], Some(&x[2]), &RmsNorm::default())?;
                norm + sum * 0.3
            }),
            Some(Box::new(|x| {
                let (norm, sum) = composition::rms_norm_residual(&x[0], &x[1], Some(&x[2]), &RmsNorm::default())?;
                norm + sum * 0.3
            })),
        ),
        case(
            "only the sum of rms_norm with a residual",
            &[ROWS, ROWS],
            Box::new(|x| {
                let weight = tensor(COLS, DType::F64, 1.0, 9)?;
                Ok(guarded::rms_norm_residual(&x[0], &x[1], Some(&weight), &RmsNorm::default())?.1)
            }),
            None,
        ),
        case(
            "layer_norm",
            &[ROWS, COLS, COLS],
            Box::new(|x| ours::ops::layer_norm(&x[0], &x[1], &x[2], 1e-3)),
            Some(Box::new(|x| {
                composition::layer_norm(&x[0], Some(&x[1]), Some(&x[2]), &LayerNorm::default().eps(1e-3f32.into()))
            })),
        ),
        case(
            "plain layer_norm",
            &[ROWS],
            Box::new(move |x| Ok(guarded::layer_norm(&x[0], None, None, &layer())?)),
            Some(Box::new(move |x| composition::layer_norm(&x[0], None, None, &layer()))),
        ),
        case(
            "layer_norm without bias",
            &[ROWS, COLS],
            Box::new(|x| ours::LayerNorm::new_no_bias(x[1].clone(), 1e-3).forward(&x[0])),
            Some(Box::new(move |x| composition::layer_norm(&x[0], Some(&x[1]), None, &layer()))),
        ),
        case(
            "layer_norm with a bias only",
            &[ROWS, COLS],
            Box::new(move |x| Ok(guarded::layer_norm(&x[0], None, Some(&x[1]), &layer())?)),
            Some(Box::new(move |x| composition::layer_norm(&x[0], None, Some(&x[1]), &layer()))),
        ),
        case(
            "RmsNorm",
            &[ROWS, COLS],
            Box::new(|x| ours::RmsNorm::new(x[1].clone(), 1e-3).forward_diff(&x[0])),
            Some(Box::new(|x| composition::rms_norm(&x[0], Some(&x[1]), &RmsNorm::default().eps(1e-3)))),
        ),
        case(
            "group_norm",
            &[CHANNELS, COLS, COLS],
            Box::new(move |x| Ok(guarded::group_norm(&x[0], Some(&x[1]), Some(&x[2]), &groups())?)),
            Some(Box::new(move |x| composition::group_norm(&x[0], Some(&x[1]), Some(&x[2]), &groups()))),
        ),
        case(
            "plain group_norm",
            &[ROWS],
            Box::new(move |x| Ok(guarded::group_norm(&x[0], None, None, &GroupNorm::new(2).eps(1e-3))?)),
            Some(Box::new(move |x| composition::group_norm(&x[0], None, None, &GroupNorm::new(2).eps(1e-3)))),
        ),
        case(
            "group_norm with a bias only",
            &[CHANNELS, COLS],
            Box::new(move |x| Ok(guarded::group_norm(&x[0], None, Some(&x[1]), &groups())?)),
            Some(Box::new(move |x| composition::group_norm(&x[0], None, Some(&x[1]), &groups()))),
        ),
        case(
            "GroupNorm",
            &[CHANNELS, COLS, COLS],
            Box::new(|x| ours::GroupNorm::new(x[1].clone(), x[2].clone(), 6, 2, 1e-3)?.forward(&x[0])),
            Some(Box::new(|x| candle_nn::GroupNorm::new(x[1].clone(), x[2].clone(), 6, 2, 1e-3)?.forward(&x[0]))),
        ),
        case(
            "l2_normalize",
            &[ROWS],
            Box::new(|x| Ok(guarded::l2_normalize(&x[0], 2, &L2Normalize::default())?)),
            Some(Box::new(|x| composition::l2_normalize(&x[0], 2, &L2Normalize::default()))),
        ),
        case(
            "l2_normalize along the first axis, some below eps",
            &[ROWS],
            Box::new(|x| Ok(guarded::l2_normalize(&x[0], 0, &L2Normalize::default().eps(1.6))?)),
            Some(Box::new(|x| composition::l2_normalize(&x[0], 0, &L2Normalize::default().eps(1.6)))),
        ),
        case(
            "mean_pool",
            &[ROWS],
            Box::new(|x| Ok(guarded::mean_pool(&x[0], 1, &MeanPool::default())?)),
            Some(Box::new(|x| x[0].mean(1))),
        ),
        case(
            "masked mean_pool",
            &[CHANNELS],
            Box::new(|x| {
                let mask = Mask::lengths(&[4, 0]);
                Ok(guarded::mean_pool(&x[0], 1, &MeanPool::default().mask(&mask))?)
            }),
            Some(Box::new(|x| composition::mean_pool(&x[0], 1, &MeanPool::default().mask(&Mask::lengths(&[4, 0]))))),
        ),
        case(
            "safe_div",
            &[ROWS, ROWS],
            Box::new(move |x| Ok(guarded::safe_div(&x[0], &x[1], &away())?)),
            Some(Box::new(move |x| composition::safe_div(&x[0], &x[1], &away()))),
        ),
        case(
            "log_add_exp",
            &[ROWS, ROWS],
            Box::new(|x| Ok(guarded::log_add_exp(&x[0], &x[1])?)),
            Some(Box::new(|x| (x[0].exp()? + x[1].exp()?)?.log())),
        ),
        case(
            "swiglu",
            &[ROWS, ROWS],
            Box::new(|x| Ok(guarded::swiglu(&x[0], &x[1])?)),
            Some(Box::new(|x| composition::swiglu(&x[0], &x[1]))),
        ),
        case(
            "clamped_exp",
            &[ROWS],
            Box::new(move |x| Ok(guarded::clamped_exp(&x[0], &within())?)),
            Some(Box::new(move |x| composition::clamped_exp(&x[0], &within()))),
        ),
        case(
            "clamped_log",
            &[ROWS],
            Box::new(move |x| Ok(guarded::clamped_log(&x[0], &above())?)),
            Some(Box::new(move |x| composition::clamped_log(&x[0], &above()))),
        ),
        case("exp", &[ROWS], Box::new(|x| Ok(guarded::exp(&x[0])?)), Some(Box::new(|x| composition::exp(&x[0])))),
        case(
            "log",
            &[ROWS],
            Box::new(|x| Ok(guarded::log(&x[0].sqr()?.affine(1.0, 0.1)?)?)),
            Some(Box::new(|x| composition::log(&x[0].sqr()?.affine(1.0, 0.1)?))),
        ),
        case("exp2", &[ROWS], Box::new(|x| Ok(guarded::exp2(&x[0])?)), Some(Box::new(|x| composition::exp2(&x[0])))),
        case(
            "log2",
            &[ROWS],
            Box::new(|x| Ok(guarded::log2(&x[0].sqr()?.affine(1.0, 0.1)?)?)),
            Some(Box::new(|x| composition::log2(&x[0].sqr()?.affine(1.0, 0.1)?))),
        ),
        case(
            "reciprocal",
            &[ROWS],
            Box::new(|x| Ok(guarded::reciprocal(&x[0].sqr()?.affine(-1.0, -0.3)?)?)),
            Some(Box::new(|x| composition::reciprocal(&x[0].sqr()?.affine(-1.0, -0.3)?))),
        ),
        case(
            "sigmoid",
            &[ROWS],
            Box::new(|x| ours::ops::sigmoid(&x[0])),
            Some(Box::new(|x| composition::sigmoid(&x[0]))),
        ),
        case("silu", &[ROWS], Box::new(|x| ours::ops::silu(&x[0])), Some(Box::new(|x| composition::silu(&x[0])))),
        case("erf", &[ROWS], Box::new(|x| Ok(guarded::erf(&x[0])?)), Some(Box::new(|x| composition::erf(&x[0])))),
        case("expm1", &[ROWS], Box::new(|x| Ok(guarded::expm1(&x[0])?)), Some(Box::new(|x| composition::expm1(&x[0])))),
        case("gelu", &[ROWS], Box::new(|x| Ok(guarded::gelu(&x[0])?)), Some(Box::new(|x| composition::gelu(&x[0])))),
        case(
            "gelu_tanh",
            &[ROWS],
            Box::new(|x| Ok(guarded::gelu_tanh(&x[0])?)),
            Some(Box::new(|x| composition::gelu_tanh(&x[0]))),
        ),
        case(
            "log1p",
            &[ROWS],
            Box::new(|x| Ok(guarded::log1p(&x[0].affine(0.5, 0.0)?)?)),
            Some(Box::new(|x| composition::log1p(&x[0].affine(0.5, 0.0)?))),
        ),
        case(
            "log_sigmoid",
            &[ROWS],
            Box::new(|x| Ok(guarded::log_sigmoid(&x[0])?)),
            Some(Box::new(|x| composition::log_sigmoid(&x[0]))),
        ),
        case(
            "rsqrt",
            &[ROWS],
            Box::new(|x| Ok(guarded::rsqrt(&x[0].sqr()?.affine(1.0, 0.3)?)?)),
            Some(Box::new(|x| composition::rsqrt(&x[0].sqr()?.affine(1.0, 0.3)?))),
        ),
        case(
            "softplus",
            &[ROWS],
            Box::new(|x| Ok(guarded::softplus(&x[0])?)),
            Some(Box::new(|x| composition::softplus(&x[0]))),
        ),
        case(
            "sqrt",
            &[ROWS],
            Box::new(|x| Ok(guarded::sqrt(&x[0].sqr()?.affine(1.0, 0.3)?)?)),
            Some(Box::new(|x| composition::sqrt(&x[0].sqr()?.affine(1.0, 0.3)?))),
        ),
        case("tanh", &[ROWS], Box::new(|x| Ok(guarded::tanh(&x[0])?)), Some(Box::new(|x| composition::tanh(&x[0])))),
        case("swiglu", &[ROWS], Box::new(|x| ours::ops::swiglu(&x[0])), None),
        case(
            "rope by a table",
            &[ROWS],
            Box::new(move |x| Ok(guarded::rope(&x[0], &table())?)),
            Some(Box::new(move |x| composition::rope(&x[0], &table()))),
        ),
        case(
            "stretched rope by a table",
            &[ROWS],
            Box::new(move |x| Ok(guarded::rope(&x[0], &stretched())?)),
            Some(Box::new(move |x| composition::rope(&x[0], &stretched()))),
        ),
        case(
            "qk_norm_rope",
            &[ROWS, COLS],
            Box::new(move |x| Ok(guarded::qk_norm_rope(&x[0], Some(&x[1]), &stretched(), &offset())?)),
            Some(Box::new(move |x| composition::qk_norm_rope(&x[0], Some(&x[1]), &stretched(), &offset()))),
        ),
        case(
            "qk_norm_rope without a weight",
            &[ROWS],
            Box::new(move |x| Ok(guarded::qk_norm_rope(&x[0], None, &neighbours(), &offset())?)),
            Some(Box::new(move |x| composition::qk_norm_rope(&x[0], None, &neighbours(), &offset()))),
        ),
        case(
            "rms_norm_linear",
            &[ROWS, MATRIX, COLS, RESULTS],
            Box::new(move |x| Ok(guarded::rms_norm_linear(&x[0], &x[1], Some(&x[2]), Some(&x[3]), &linear())?)),
            Some(Box::new(move |x| composition::rms_norm_linear(&x[0], &x[1], Some(&x[2]), Some(&x[3]), &linear()))),
        ),
        case(
            "rms_norm_linear of a matrix and a bias",
            &[ROWS, MATRIX, RESULTS],
            Box::new(move |x| Ok(guarded::rms_norm_linear(&x[0], &x[1], None, Some(&x[2]), &linear())?)),
            None,
        ),
        case(
            "rms_norm_linear of a matrix",
            &[ROWS, MATRIX],
            Box::new(move |x| Ok(guarded::rms_norm_linear(&x[0], &x[1], None, None, &linear())?)),
            Some(Box::new(move |x| composition::rms_norm_linear(&x[0], &x[1], None, None, &linear()))),
        ),
        case(
            "interleaved rope by a table",
            &[ROWS],
            Box::new(move |x| Ok(guarded::rope(&x[0], &neighbours())?)),
            Some(Box::new(move |x| composition::rope(&x[0], &neighbours()))),
        ),
        case(
            "rope",
            &[HEADS, TABLE, TABLE],
            Box::new(|x| ours::rotary_emb::rope(&x[0], &x[1], &x[2])),
            Some(Box::new(|x| composition::rotated(&x[0], &per_row(&x[1], 1)?, &per_row(&x[2], 1)?, false))),
        ),
        case(
            "rope_i in batches",
            &[HEADS, BATCHED, BATCHED],
            Box::new(|x| ours::rotary_emb::rope_i(&x[0], &x[1], &x[2])),
            Some(Box::new(|x| composition::rotated(&x[0], &per_row(&x[1], 1)?, &per_row(&x[2], 1)?, true))),
        ),
        case(
            "rope_thd",
            &[&[2, 4, 3, 6], TABLE, BATCHED],
            Box::new(|x| ours::rotary_emb::rope_thd(&x[0], &x[1], &x[2])),
            Some(Box::new(|x| composition::rotated(&x[0], &per_row(&x[1], 2)?, &per_row(&x[2], 2)?, false))),
        ),
        case(
            "cross_entropy",
            &[&[3, 5]],
            Box::new(|x| ours::loss::cross_entropy(&x[0], &Tensor::new(&[4u32, 0, 2], CPU)?)),
            None,
        ),
        case(
            "cross-entropy of rows",
            &[&[2, 3, 5]],
            Box::new(|x| Ok(guarded::cross_entropy(&x[0], &targets(), &smoothed().reduction(Reduction::None))?)),
            Some(Box::new(|x| composition::cross_entropy(&x[0], &targets(), &smoothed().reduction(Reduction::None)))),
        ),
        case(
            "weighted cross-entropy",
            &[&[2, 3, 5]],
            Box::new(|x| Ok(guarded::cross_entropy(&x[0], &targets(), &smoothed().weight(&WEIGHT))?)),
            Some(Box::new(|x| composition::cross_entropy(&x[0], &targets(), &smoothed().weight(&WEIGHT)))),
        ),
        case(
            "cross-entropy of a linear layer by chunks",
            &[&[2, 3, 6], &[5, 6], &[5]],
            Box::new(|x| {
                let options = smoothed().weight(&WEIGHT).reduction(Reduction::None);
                Ok(guarded::linear_cross_entropy(&x[0], &x[1], Some(&x[2]), &targets(), &options, Some(2))?)
            }),
            Some(Box::new(|x| {
                let options = smoothed().weight(&WEIGHT).reduction(Reduction::None);
                let logits = x[0].broadcast_matmul(&x[1].t()?)?.broadcast_add(&x[2])?;
                composition::cross_entropy(&logits, &targets(), &options)
            })),
        ),
        case(
            "binary cross-entropy",
            &[&[3, 5], &[3, 5]],
            Box::new(|x| ours::loss::binary_cross_entropy_with_logit(&x[0], &ours::ops::sigmoid(&x[1])?)),
            None,
        ),
    ]
}

/// Computes the sum of all elements, each multiplied by its own pseudo-random weight. Masked elements (-inf) are left
/// out.
pub fn objective(y: &Tensor) -> Result<Tensor> {
    let weights = tensor(y.dims(), y.dtype(), 1.0, 77)?;
    let live = y.eq(f64::NEG_INFINITY)?.where_cond(&y.zeros_like()?, y)?;
    (live * weights)?.sum_all()
}

pub fn variables(case: &Case, dtype: DType) -> Result<Vec<Var>> {
    let of = |(i, dims): (usize, &Vec<usize>)| Var::from_tensor(&tensor(dims, dtype, 1.5, 10 + i as u64)?);
    case.dims.iter().enumerate().map(of).collect()
}

fn gradients(op: &Op, variables: &[Var], of: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Vec<Vec<f64>>> {
    let args: Vec<Tensor> = variables.iter().map(|v| v.as_tensor().clone()).collect();
    let grads = of(&op(&args)?)?.backward()?;
    variables.iter().map(|v| Ok(flat(grads.get(v).expect("every argument of the op must have a gradient")))).collect()
}

#[test]
fn finite_differences() -> Result<()> {
    const STEP: f64 = 1e-5;
    for case in cases() {
        let variables = variables(&case, DType::F64)?;
        let grads = gradients(&case.op, &variables, objective)?;
        for (i, grad) in grads.iter().enumerate() {
            let at = flat(&variables[i]);
            let mut differences = Vec::new();
            for j in 0..at.len() {
                let moved = |by: f64| -> Result<f64> {
                    let mut values = at.clone();
                    values[j] += by;
                    let mut args: Vec<Tensor> = variables.iter().map(|v| v.as_detached_tensor()).collect();
                    args[i] = Tensor::from_vec(values, variables[i].dims(), CPU)?;
                    objective(&(case.op)(&args)?)?.to_scalar()
                };
                differences.push((moved(STEP)? - moved(-STEP)?) / (2.0 * STEP));
            }
            // The finite difference has two errors: one is proportional to the third derivative times step^2, the other
            // is the rounding error divided by the step.
            assert_close(&format!("{}, argument {i}", case.name), grad, &differences, |_| 1e-8);
        }
    }
    Ok(())
}

#[test]
fn candles_gradients_of_the_compositions() -> Result<()> {
    for case in cases() {
        let Some(composed) = &case.composed else { continue };
        let variables = variables(&case, DType::F64)?;
        let (grads, want) = (gradients(&case.op, &variables, objective)?, gradients(composed, &variables, objective)?);
        for (i, (grad, want)) in grads.iter().zip(&want).enumerate() {
            assert_close(&format!("{}, argument {i}", case.name), grad, want, |_| 1e-12);
        }
    }
    Ok(())
}

#[test]
fn narrow_types() -> Result<()> {
    for case in cases() {
        for (dtype, unit) in [(DType::F32, 2f64.powi(-23)), (DType::BF16, 2f64.powi(-8)), (DType::F16, 2f64.powi(-11))]
        {
            let variables = variables(&case, dtype)?;
            let grads = gradients(&case.op, &variables, objective)?;
            let of = |v: &Var| Var::from_tensor(&v.to_dtype(DType::F64)?);
            let wide = variables.iter().map(of).collect::<Result<Vec<_>>>()?;
            // The reference uses the same weights, rounded to the narrow type.
            let want = gradients(&case.op, &wide, |y| {
                let weights = tensor(y.dims(), dtype, 1.0, 77)?.to_dtype(DType::F64)?;
                let live = y.eq(f64::NEG_INFINITY)?.where_cond(&y.zeros_like()?, y)?;
                (live * weights)?.sum_all()
            })?;
            for (i, (grad, want)) in grads.iter().zip(&want).enumerate() {
                // A gradient is a sum of about a dozen terms, computed from results that were rounded once.
                let largest = want.iter().fold(1.0, |a: f64, b| a.max(b.abs()));
                assert_close(&format!("{} in {dtype:?}, argument {i}", case.name), grad, want, |_| {
                    24.0 * unit * largest
                });
            }
        }
    }
    Ok(())
}

#[test]
fn results_used_twice_gradients_of_any_layout() -> Result<()> {
    for case in cases() {
        let variables = variables(&case, DType::F64)?;
        // The loss uses y twice: once through a transpose, which makes the gradient non-contiguous, and once directly.
        let twice = |y: &Tensor| {
            let turned = if y.rank() > 1 { y.transpose(0, y.rank() - 1)? } else { y.clone() };
            objective(&turned)? + (objective(y)? * 0.5)?
        };
        let grads = gradients(&case.op, &variables, twice)?;
        let once = gradients(&case.op, &variables, |y| objective(&turned(y)?))?;
        let again = gradients(&case.op, &variables, objective)?;
        for (i, grad) in grads.iter().enumerate() {
            let want: Vec<f64> = once[i].iter().zip(&again[i]).map(|(a, b)| a + 0.5 * b).collect();
            assert_close(&format!("{}, argument {i}", case.name), grad, &want, |_| 1e-12);
        }
    }
    Ok(())
}

fn turned(y: &Tensor) -> Result<Tensor> {
    if y.rank() > 1 { y.transpose(0, y.rank() - 1) } else { Ok(y.clone()) }
}

#[test]
fn arguments_that_are_no_variables() -> Result<()> {
    // Candle panics if an op returns no gradient for a tracked tensor that is not a variable.
    for case in cases() {
        let sources = variables(&case, DType::F64)?;
        let args = sources.iter().map(|v| v.affine(1.0, 0.0)).collect::<Result<Vec<_>>>()?;
        let grads = objective(&(case.op)(&args)?)?.backward()?;
        let want = gradients(&case.op, &sources, objective)?;
        for (source, want) in sources.iter().zip(&want) {
            assert_close(case.name, &flat(grads.get(source).unwrap()), want, |_| 1e-14);
        }
        // Only one argument is tracked.
        for (i, source) in sources.iter().enumerate() {
            let mut args: Vec<Tensor> = sources.iter().map(|v| v.as_detached_tensor()).collect();
            args[i] = source.as_tensor().clone();
            let grads = objective(&(case.op)(&args)?)?.backward()?;
            assert_close(case.name, &flat(grads.get(source).unwrap()), &want[i], |_| 1e-14);
        }
    }
    Ok(())
}

#[test]
fn broadcast_and_transposed_arguments() -> Result<()> {
    let row = Var::from_tensor(&tensor(&[1, 6], DType::F64, 1.0, 1)?)?;
    let grads = objective(&ours::ops::softmax(&row.broadcast_as((4, 6))?, 1)?)?.backward()?;
    let whole = Var::from_tensor(&row.broadcast_as((4, 6))?.contiguous()?)?;
    let want = objective(&ours::ops::softmax(whole.as_tensor(), 1)?)?.backward()?;
    let want = want.get(&whole).unwrap().sum_keepdim(0)?;
    assert_close("broadcast", &flat(grads.get(&row).unwrap()), &flat(&want), |_| 1e-14);

    let x = Var::from_tensor(&tensor(&[6, 4], DType::F64, 1.0, 1)?)?;
    let weight = tensor(&[6], DType::F64, 1.0, 2)?;
    let grads = objective(&ours::ops::rms_norm(&x.t()?, &weight, 1e-5)?)?.backward()?;
    let turned = Var::from_tensor(&x.t()?.contiguous()?)?;
    let want = objective(&ours::ops::rms_norm(&turned, &weight, 1e-5)?)?.backward()?;
    let want = want.get(&turned).unwrap().t()?;
    assert_close("transposed", &flat(grads.get(&x).unwrap()), &flat(&want), |_| 1e-14);
    Ok(())
}

#[test]
fn nothing_flows_where_nothing_is_attended_to() -> Result<()> {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let x = Var::from_tensor(&Tensor::new(&[[-inf, -inf, -inf], [1., nan, -inf]], CPU)?)?;
    let keep = Mask::keep(&[1u8, 0, 1], &[3]);
    for options in [Softmax::default().mask(&keep), capped().mask(&keep)] {
        for y in [
            guarded::softmax(&x, 1, &options)?,
            guarded::log_softmax(&x, 1, &options)?,
            guarded::logsumexp(&x, 1, true, &options)?,
        ] {
            let live = y.eq(f64::NEG_INFINITY)?.where_cond(&y.zeros_like()?, &y)?;
            let grad = flat(live.sum_all()?.backward()?.get(&x).unwrap());
            assert_eq!(
                [&grad[..3], &grad[4..]].concat(),
                [0.0; 5],
                "{options:?}: masked logits must have gradients of 0"
            );
            assert!(grad[3].is_finite());
        }
    }
    // The gradients of the composition are finite, too.
    let x = Var::from_tensor(&Tensor::new(&[[-inf, -inf], [1., -inf]], CPU)?)?;
    let y = composition::softmax(&x, 1, &capped())?;
    assert!(flat(y.sqr()?.sum_all()?.backward()?.get(&x).unwrap()).iter().all(|g| g.is_finite()));
    let y = composition::logsumexp(&x, 1, &capped())?;
    assert!(flat(y.sqr()?.sum_all()?.backward()?.get(&x).unwrap())[2].is_finite());
    Ok(())
}

#[test]
fn binary_cross_entropy_at_zero_and_far_from_it() -> Result<()> {
    let x = Var::from_tensor(&Tensor::new(&[0f32, 0., 300., -300.], CPU)?)?;
    let targets = Tensor::new(&[0f32, 1., 0., 1.], CPU)?;
    let loss = ours::loss::binary_cross_entropy_with_logit(&x, &targets)?;
    // The gradient is (sigmoid(x) - y) / 4.
    assert_eq!(flat(loss.backward()?.get(&x).unwrap()), [0.125, -0.125, 0.25, -0.25]);
    Ok(())
}

#[test]
fn masked_elements_stay_without_gradient() -> Result<()> {
    // A selection after the op drops one element. Candle's own gradient of this element is NaN, because it multiplies 0
    // by infinity.
    let x = Var::from_tensor(&Tensor::new(&[0f32, 4.], CPU)?)?;
    let keep = Tensor::new(&[0u8, 1], CPU)?;
    let ops = [
        (guarded::log as fn(&Tensor) -> _, 0.25),
        (guarded::log2, f64::from(0.36067376f32)),
        (guarded::reciprocal, -0.0625),
        (guarded::sqrt, 0.25),
        (guarded::rsqrt, -0.0625),
    ];
    for (op, want) in ops {
        let y = op(&x)?;
        let grads = keep.where_cond(&y, &y.zeros_like()?)?.sum_all()?.backward()?;
        assert_eq!(flat(grads.get(&x).unwrap()), [0.0, want]);
    }
    Ok(())
}
