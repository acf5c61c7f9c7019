//! Tests of in-place forms. In-place forms must give the same bits as allocating forms, and must reject tensors that
//! may not be overwritten.

use crate::support::{DTYPES, assert_same, tensor};
use candle_core::{DType, Result, Tensor, Var};
use evenkeel::candle::guarded;
use evenkeel::{ClampedExp, ClampedLog, GroupNorm, L2Normalize, LayerNorm, Mask, RmsNorm, Rope, RopeTable, Softmax};

type Form = Box<dyn Fn(&Tensor) -> evenkeel::Result<Tensor>>;
type InPlace = Box<dyn Fn(&Tensor) -> evenkeel::Result<()>>;

macro_rules! elementwise {
    ($($name:ident $Op:ident $formula:literal [$into:ident $in_place:ident] $derivative:ident $gradient:tt;)*) => {
        fn elementwise() -> Vec<(&'static str, Form, InPlace)> {
            vec![$((stringify!($name), Box::new(guarded::$name), Box::new(guarded::$in_place)),)*]
        }
    };
}
evenkeel::for_each_elementwise!(elementwise);

/// Returns every op with an in-place form, for tensors of shape `[2, 3, 8]`.
fn forms(dtype: DType) -> Result<Vec<(&'static str, Form, InPlace)>> {
    let table = || RopeTable::new(&[1, 2, 3], 8, &Rope::default()).unwrap();
    let scaled = || Softmax::default().scale(0.7);
    let (weight, bias) = (tensor(&[8], dtype, 1.0, 2)?, tensor(&[8], dtype, 1.0, 3)?);
    let [w1, w2, w3, w4] = [0; 4].map(|_| weight.clone());
    let [b1, b2, b3, b4] = [0; 4].map(|_| bias.clone());
    let [c1, c2] = [0; 2].map(|_| weight.narrow(0, 0, 3).unwrap());
    let [rms, gemma] = [RmsNorm::default(), RmsNorm::default().weight_offset(1.0)];
    let mut forms = elementwise();
    forms.extend::<Vec<(&str, Form, InPlace)>>(vec![
        (
            "softmax",
            Box::new(move |x| guarded::softmax(x, 2, &scaled().mask(&Mask::causal()))),
            Box::new(move |x| guarded::softmax_in_place(x, 2, &scaled().mask(&Mask::causal()))),
        ),
        (
            "softmax along the middle",
            Box::new(move |x| guarded::softmax(x, 1, &scaled())),
            Box::new(move |x| guarded::softmax_in_place(x, 1, &scaled())),
        ),
        (
            "log_softmax",
            Box::new(move |x| guarded::log_softmax(x, 0, &scaled())),
            Box::new(move |x| guarded::log_softmax_in_place(x, 0, &scaled())),
        ),
        (
            "rms_norm",
            Box::new(move |x| guarded::rms_norm(x, Some(&w1), &rms)),
            Box::new(move |x| guarded::rms_norm_in_place(x, Some(&w2), &rms)),
        ),
        (
            "plain rms_norm",
            Box::new(move |x| guarded::rms_norm(x, None, &gemma)),
            Box::new(move |x| guarded::rms_norm_in_place(x, None, &gemma)),
        ),
        (
            "layer_norm",
            Box::new(move |x| guarded::layer_norm(x, Some(&w3), Some(&b1), &LayerNorm::default())),
            Box::new(move |x| guarded::layer_norm_in_place(x, Some(&w4), Some(&b2), &LayerNorm::default())),
        ),
        (
            "layer_norm with a bias only",
            Box::new(move |x| guarded::layer_norm(x, None, Some(&b3), &LayerNorm::default())),
            Box::new(move |x| guarded::layer_norm_in_place(x, None, Some(&b4), &LayerNorm::default())),
        ),
        (
            "group_norm",
            Box::new(move |x| guarded::group_norm(x, None, Some(&c1), &GroupNorm::new(3))),
            Box::new(move |x| guarded::group_norm_in_place(x, None, Some(&c2), &GroupNorm::new(3))),
        ),
        (
            "l2_normalize along the middle",
            Box::new(|x| guarded::l2_normalize(x, 1, &L2Normalize::default())),
            Box::new(|x| guarded::l2_normalize_in_place(x, 1, &L2Normalize::default())),
        ),
        (
            "clamped_exp",
            Box::new(|x| guarded::clamped_exp(x, &ClampedExp::default().max(1.0))),
            Box::new(|x| guarded::clamped_exp_in_place(x, &ClampedExp::default().max(1.0))),
        ),
        (
            "clamped_log",
            Box::new(|x| guarded::clamped_log(x, &ClampedLog::default())),
            Box::new(|x| guarded::clamped_log_in_place(x, &ClampedLog::default())),
        ),
        ("rope", Box::new(move |x| guarded::rope(x, &table())), Box::new(move |x| guarded::rope_in_place(x, &table()))),
    ]);
    Ok(forms)
}

#[test]
fn the_bits_are_those_of_the_allocating_forms() -> Result<()> {
    for (dtype, _) in DTYPES {
        for (op, form, in_place) in forms(dtype)? {
            let x = tensor(&[2, 3, 8], dtype, 2.0, 1)?;
            let want = form(&x)?;
            in_place(&x)?;
            assert_same(op, &x, &want);
        }
    }
    Ok(())
}

#[test]
fn a_view_is_overwritten_and_nothing_around_it() -> Result<()> {
    for (op, form, in_place) in forms(DType::F32)? {
        let whole = tensor(&[4, 3, 8], DType::F32, 2.0, 1)?;
        let before = whole.copy()?;
        let view = whole.narrow(0, 1, 2)?;
        let want = form(&view)?;
        in_place(&view)?;
        assert_same(op, &whole.narrow(0, 1, 2)?, &want);
        assert_same(op, &whole.narrow(0, 0, 1)?, &before.narrow(0, 0, 1)?);
        assert_same(op, &whole.narrow(0, 3, 1)?, &before.narrow(0, 3, 1)?);
    }
    Ok(())
}

#[test]
fn what_can_not_be_overwritten() -> Result<()> {
    for (op, _, in_place) in forms(DType::F32)? {
        let x = tensor(&[2, 3, 8], DType::F32, 2.0, 1)?;
        let before = x.copy()?;
        for refused in [x.transpose(0, 1)?, x.narrow(2, 0, 4)?, x.narrow(0, 0, 1)?.broadcast_as((2, 3, 8))?] {
            assert_eq!(
                in_place(&refused).unwrap_err().name(),
                "InvalidArgument",
                "in-place {op} must reject a view that is not contiguous"
            );
        }
        let variable = Var::from_tensor(&x)?;
        assert_eq!(
            in_place(&variable).unwrap_err().name(),
            "InvalidArgument",
            "in-place {op} must reject a candle variable"
        );
        assert_eq!(
            in_place(&variable.sqr()?).unwrap_err().name(),
            "InvalidArgument",
            "in-place {op} must reject a tensor computed from a candle variable"
        );
        // The error advises a copy before `detach`, because `detach` alone still shares the variable's memory.
        let error = in_place(&variable).unwrap_err().to_string();
        assert!(
            error.contains("x.copy()?.detach()"),
            "in-place {op}: the error must contain `x.copy()?.detach()`, got {error}"
        );
        in_place(&variable.copy()?.detach())?;
        assert_same(op, &variable, &before);
        let ints = Tensor::ones((2, 3, 8), DType::U32, x.device())?;
        assert_eq!(
            in_place(&ints).unwrap_err().name(),
            "UnsupportedDType",
            "in-place {op} must reject a tensor of integers"
        );
        assert_same(op, &x, &before);
    }
    // The weight shares memory with the tensor that would be overwritten.
    let x = tensor(&[2, 8], DType::F32, 2.0, 1)?;
    let refused = guarded::rms_norm_in_place(&x, Some(&x.get(0)?), &RmsNorm::default());
    assert_eq!(refused.unwrap_err().name(), "InvalidArgument");
    Ok(())
}
