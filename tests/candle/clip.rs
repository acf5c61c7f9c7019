//! Tests of clipping the gradients in a `GradStore` of candle. Results must have the same bits as the results of the
//! slice function.

use crate::support::{CPU, DTYPES, assert_same, flat, tensor};
use candle_core::{DType, Result, Tensor, Var};
use evenkeel::candle::guarded;
use evenkeel::train::AdaptiveClip;
use evenkeel::{ClipGradNorm, ClipMode, Error, NormType, report};

fn all_vars() -> Result<Vec<Var>> {
    DTYPES
        .iter()
        .enumerate()
        .map(|(i, (dtype, _))| Var::from_tensor(&tensor(&[3, 5], *dtype, 2.0, i as u64)?))
        .collect()
}

/// Computes the gradients of a loss that sums the squares of all variables. The gradient of a variable is twice its
/// value.
fn backward(vars: &[Var]) -> Result<candle_core::backprop::GradStore> {
    let losses = vars.iter().map(|var| var.sqr()?.sum_all()?.to_dtype(DType::F64)).collect::<Result<Vec<_>>>()?;
    Tensor::stack(&losses, 0)?.sum_all()?.backward()
}

#[test]
fn by_norm() -> Result<()> {
    let vars = all_vars()?;
    for norm_type in [NormType::Two, NormType::One, NormType::Infinity] {
        for mode in [ClipMode::Exact, ClipMode::Torch] {
            let options = ClipGradNorm::new(1.25).norm_type(norm_type).mode(mode);
            let mut grads = backward(&vars)?;
            let before: Vec<Tensor> = vars.iter().map(|var| grads.get(var).unwrap().clone()).collect();
            let kept: Vec<Vec<f64>> = before.iter().map(flat).collect();
            // The expected gradients come from the slice function on the same values.
            let (mut a, mut b) =
                (before[0].flatten_all()?.to_vec1::<f64>()?, before[1].flatten_all()?.to_vec1::<f32>()?);
            let mut c = before[2].flatten_all()?.to_vec1::<half::f16>()?;
            let mut d = before[3].flatten_all()?.to_vec1::<half::bf16>()?;
            let mut list = [(&mut a).into(), (&mut b).into(), (&mut c).into(), (&mut d).into()];
            let want = evenkeel::clip_grad_norm(&mut list, &options).unwrap();
            // One variable is listed twice, and one has no gradient.
            let mut named = vars.clone();
            named.insert(2, vars[0].clone());
            named.push(Var::zeros(3, DType::F32, CPU)?);
            assert_eq!(guarded::clip_grad_norm(&mut grads, &named, &options), Ok(want));
            assert_same("f64", grads.get(&vars[0]).unwrap(), &Tensor::from_vec(a, (3, 5), CPU)?);
            assert_same("f32", grads.get(&vars[1]).unwrap(), &Tensor::from_vec(b, (3, 5), CPU)?);
            assert_same("f16", grads.get(&vars[2]).unwrap(), &Tensor::from_vec(c, (3, 5), CPU)?);
            assert_same("bf16", grads.get(&vars[3]).unwrap(), &Tensor::from_vec(d, (3, 5), CPU)?);
            assert_eq!(
                before.iter().map(flat).collect::<Vec<_>>(),
                kept,
                "gradients cloned before clip_grad_norm must not change"
            );
        }
    }
    Ok(())
}

#[test]
fn what_is_not_finite() -> Result<()> {
    let vars = [Var::zeros(2, DType::BF16, CPU)?, Var::zeros((2, 3), DType::F32, CPU)?];
    let mut grads = backward(&vars)?;
    let broken = Tensor::new(&[[1f32, 2.], [3., f32::INFINITY], [f32::NAN, 0.]], CPU)?.t()?;
    grads.insert(&vars[1], broken.clone());
    let refused = guarded::clip_grad_norm(&mut grads, &vars, &ClipGradNorm::new(1.0)).unwrap_err();
    let Error::NonFiniteInput { row: 1, index: 2, value, .. } = refused else {
        panic!("expected NonFiniteInput for row 1, index 2, got {refused}")
    };
    assert!(value.is_nan());
    assert_same("refused", grads.get(&vars[1]).unwrap(), &broken);
    let lax = ClipGradNorm::new(1.0).error_if_nonfinite(false);
    assert!(guarded::clip_grad_norm(&mut grads, &vars, &lax)?.is_nan());
    assert_same("unchanged", grads.get(&vars[1]).unwrap(), &broken);
    let (done, report) = report::scope(|| guarded::clip_grad_value(&mut grads, &vars, 1.5));
    done?;
    assert_eq!(report.to_string(), "clip_grad_value: 1 of 2 rows with NaN, 1 of 2 rows with infinity");
    let got = flat(grads.get(&vars[1]).unwrap());
    assert!(
        got[..2] == [1.0, 1.5] && got[2].is_nan() && got[3..] == [1.5, 1.5, 0.0],
        "clip_grad_value at 1.5: expected [1, 1.5, NaN, 1.5, 1.5, 0], got {got:?}"
    );
    for limit in [-1.0, f64::NAN] {
        assert_eq!(guarded::clip_grad_value(&mut grads, &vars, limit).unwrap_err().name(), "InvalidArgument");
        let options = ClipGradNorm::new(limit);
        assert_eq!(guarded::clip_grad_norm(&mut grads, &vars, &options).unwrap_err().name(), "InvalidArgument");
    }
    assert_eq!(guarded::clip_grad_norm(&mut grads, &[], &ClipGradNorm::new(1.0)), Ok(0.0));
    Ok(())
}

/// Checks that clipping by value changes no gradient if a later gradient has an unsupported type.
#[test]
fn a_refused_gradient_leaves_the_others() -> Result<()> {
    let vars = [Var::ones(2, DType::F32, CPU)?, Var::zeros(2, DType::U32, CPU)?];
    let mut grads = backward(&vars[..1])?;
    grads.insert(&vars[1], Tensor::zeros(2, DType::U32, CPU)?);
    let error = guarded::clip_grad_value(&mut grads, &vars, 0.5).unwrap_err();
    assert_eq!(error.name(), "UnsupportedDType");
    assert_eq!(flat(grads.get(&vars[0]).unwrap()), [2.0, 2.0]);
    Ok(())
}

#[test]
fn a_look_at_any_layout() -> Result<()> {
    for (dtype, _) in DTYPES {
        let x = Tensor::new(&[[1f64, -3.], [f64::NAN, 4.], [0., 8.]], CPU)?.to_dtype(dtype)?;
        for view in [x.clone(), x.t()?.contiguous()?.t()?] {
            let found = guarded::finite(&view)?;
            assert_eq!((found.count, found.nan, found.infinite, found.first), (6, 1, 0, Some(2)));
            let stats = guarded::inspect(&view)?;
            assert_eq!((stats.min, stats.max, stats.mean, stats.max_abs), (-3.0, 8.0, 2.0, 8.0));
        }
        assert!(guarded::finite(&x.narrow(0, 2, 1)?)?.is_finite());
    }
    let ints = Tensor::ones(3, DType::U32, CPU)?;
    assert_eq!(guarded::finite(&ints).unwrap_err().name(), "UnsupportedDType");
    assert_eq!(guarded::inspect(&ints).unwrap_err().name(), "UnsupportedDType");
    Ok(())
}

/// Checks that adaptive clipping gives the same bits as the slice function. If one gradient is rejected, no gradient
/// may change.
#[test]
fn by_the_weights() -> Result<()> {
    let vars = all_vars()?;
    let options = AdaptiveClip::default().clipping(0.25);
    let mut grads = backward(&vars)?;
    let mut weight = vars[1].flatten_all()?.to_vec1::<f32>()?;
    let mut want = grads.get(&vars[1]).unwrap().flatten_all()?.to_vec1::<f32>()?;
    assert_eq!(options.clip(&mut want, &weight, &[3, 5]), Ok(3));
    // The gradient of each unit has twice the norm of the unit's weights. The limit is a quarter of the norm of the
    // weights, so the gradients of all 12 units are clipped.
    assert_eq!(guarded::adaptive_clip(&mut grads, &vars, &options), Ok(12));
    assert_same("f32", grads.get(&vars[1]).unwrap(), &Tensor::from_vec(want, (3, 5), CPU)?);

    let mut grads = backward(&vars)?;
    let before: Vec<Vec<f64>> = vars.iter().map(|var| flat(grads.get(var).unwrap())).collect();
    weight[7] = f32::INFINITY;
    vars[1].set(&Tensor::from_vec(weight, (3, 5), CPU)?)?;
    let error = guarded::adaptive_clip(&mut grads, &vars, &options).unwrap_err();
    assert_eq!((error.name(), error.row(), error.index()), ("NonFiniteInput", Some(1), Some(2)));
    assert_eq!(before, vars.iter().map(|var| flat(grads.get(var).unwrap())).collect::<Vec<_>>());
    Ok(())
}
