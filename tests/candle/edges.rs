//! Tests of rejected arguments. Drop-in functions return candle's error, or a typed error where candle has none.

use crate::support::{CPU, tensor};
use candle_core::{D, DType, Result, Tensor};
use evenkeel::backend::BackendChoice;
use evenkeel::candle as ours;
use evenkeel::registry::Backend;
use evenkeel::{Error, RmsNorm, Softmax, Source};

#[test]
fn integer_types_are_candles_error() -> Result<()> {
    for dtype in [DType::U8, DType::U32, DType::I64] {
        let x = Tensor::ones((2, 4), dtype, CPU)?;
        let four = Tensor::ones((1, 1, 2, 4), dtype, CPU)?;
        let weight = Tensor::ones(4, DType::F32, CPU)?;
        let table = Tensor::ones((2, 2), DType::F32, CPU)?;
        for refused in [
            ours::ops::softmax(&x, 1),
            ours::ops::softmax_last_dim(&x),
            ours::ops::log_softmax(&x, D::Minus1),
            ours::ops::rms_norm(&x, &weight, 1e-5),
            ours::ops::layer_norm(&x, &weight, &weight, 1e-5),
            ours::ops::sigmoid(&x),
            ours::ops::silu(&x),
            ours::ops::swiglu(&x),
            ours::rotary_emb::rope(&four, &table, &table),
        ] {
            let error = refused.unwrap_err();
            assert!(
                matches!(peeled(&error), candle_core::Error::UnsupportedDTypeForOp(found, _) if *found == dtype),
                "expected the error UnsupportedDTypeForOp for the type {dtype:?}, got {error}"
            );
        }
        let error = ours::guarded::softmax(&x, 1, &Softmax::default()).unwrap_err();
        assert_eq!(error, Error::unsupported_dtype("softmax", format!("{dtype:?}"), "candle"));
        let error = ours::ops::rms_norm(&weight, &Tensor::ones(4, dtype, CPU)?, 1e-5).unwrap_err();
        assert_eq!(Error::from(error).name(), "UnsupportedDType");
    }
    Ok(())
}

/// Returns the error without the backtrace that candle may have added.
fn peeled(error: &candle_core::Error) -> &candle_core::Error {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => peeled(inner),
        other => other,
    }
}

#[test]
fn a_type_that_only_candle_has_gets_candles_op() -> Result<()> {
    let x = tensor(&[2, 4], DType::F32, 1.0, 1)?.to_dtype(DType::F8E4M3)?;
    let (want, y) = (candle_nn::ops::softmax(&x, 1)?, ours::ops::softmax(&x, 1)?);
    assert_eq!(y.dtype(), DType::F8E4M3);
    let f32s = |t: &Tensor| t.to_dtype(DType::F32)?.to_vec2::<f32>();
    assert_eq!(f32s(&y)?, f32s(&want)?);
    assert_eq!(f32s(&ours::ops::silu(&x)?)?, f32s(&candle_nn::ops::silu(&x)?)?);
    assert!(ours::ops::softmax_last_dim(&x).is_err()); // as in candle
    assert_eq!(ours::guarded::exp(&x).unwrap_err().name(), "UnsupportedDType");
    Ok(())
}

#[test]
fn shapes_that_do_not_fit() -> Result<()> {
    let f32s = |dims: &[usize]| Tensor::ones(dims, DType::F32, CPU);
    let x = f32s(&[2, 4])?;
    for refused in [
        ours::ops::softmax(&x, 2),
        ours::ops::log_softmax(&x, D::Minus(3)),
        ours::ops::softmax_last_dim(&Tensor::new(1f32, CPU)?),
        ours::ops::rms_norm(&x, &f32s(&[3])?, 1e-5),
        ours::ops::rms_norm(&x, &f32s(&[1, 4])?, 1e-5),
        ours::ops::layer_norm(&x, &f32s(&[4])?, &f32s(&[3])?, 1e-5),
        ours::ops::swiglu(&f32s(&[2, 3])?),
        ours::ops::swiglu(&Tensor::new(1f32, CPU)?),
        ours::loss::cross_entropy(&f32s(&[2, 2, 2])?, &Tensor::zeros(2, DType::U32, CPU)?),
        ours::loss::binary_cross_entropy_with_logit(&x, &f32s(&[4])?),
    ] {
        assert!(refused.is_err());
    }
    let x = f32s(&[2, 3, 4, 6])?;
    for (cos, sin) in [
        (&[3, 3][..], &[4, 3][..]),     // too few positions
        (&[4, 3], &[4, 2]),             // too few columns
        (&[3, 4, 3], &[3, 4, 3]),       // another batch
        (&[4, 3], &[12]),               // too few axes
        (&[1, 1, 4, 3], &[1, 1, 4, 3]), // too many axes
    ] {
        let (cos, sin) = (f32s(cos)?, f32s(sin)?);
        for rope in [ours::rotary_emb::rope, ours::rotary_emb::rope_i] {
            assert_eq!(Error::from(rope(&x, &cos, &sin).unwrap_err()).name(), "ShapeMismatch");
        }
        assert!(ours::rotary_emb::rope_thd(&x.transpose(1, 2)?, &cos, &sin).is_err());
    }
    assert!(ours::rotary_emb::rope(&f32s(&[4, 6])?, &f32s(&[4, 3])?, &f32s(&[4, 3])?).is_err());
    assert!(ours::rotary_emb::rope(&f32s(&[1, 1, 4, 5])?, &f32s(&[4, 2])?, &f32s(&[4, 2])?).is_err());
    Ok(())
}

#[test]
fn typed_errors_come_through_candle() -> Result<()> {
    let x = tensor(&[2, 4], DType::F32, 1.0, 1)?;
    let weight = Tensor::ones(4, DType::F32, CPU)?;
    let error = ours::ops::rms_norm(&x, &weight, -1.0).unwrap_err();
    assert!(
        error.to_string().contains("eps is -1"),
        "rms_norm with eps -1: expected \"eps is -1\" in the error, got {error}"
    );
    assert_eq!(Error::from(error).name(), "InvalidArgument");

    let typed = Error::fully_masked("softmax", 7);
    let wrapped = candle_core::Error::from(typed.clone()).context("in a layer").with_path("model").bt();
    assert_eq!(Error::from(wrapped), typed);
    // Calling `context` on a failed result wraps the error, from candle or another library, in a new candle error.
    let failed = Err::<(), _>(candle_core::Error::from(typed.clone()));
    let inner = candle_core::Context::context(failed, "in a layer");
    let outer = candle_core::Context::context(inner, "in a model").unwrap_err();
    assert_eq!(Error::from(outer), typed);
    let by_another = Err::<(), _>(std::io::Error::other(typed.clone()));
    assert_eq!(Error::from(candle_core::Context::context(by_another, "loading").unwrap_err()), typed);

    let framework = |error| Error::framework("candle", Source::new(candle_core::Error::Msg(error)));
    let plain = Error::from(candle_core::Error::Msg("no such thing".into()));
    assert_eq!(plain, framework("no such thing".to_string()));
    assert_eq!(plain.to_string(), "candle: no such thing");
    assert!(std::error::Error::source(&plain).is_some_and(|source| source.is::<candle_core::Error>()));
    let foreign = candle_core::Context::context(Err::<(), _>(std::fmt::Error), "writing").unwrap_err();
    assert!(matches!(Error::from(foreign), Error::Framework { .. }));
    // A backend whose device has no free memory counts as available. Backend selection therefore fails instead of
    // skipping the backend.
    let full = || Error::from(candle_core::Error::Cuda("CUDA_ERROR_OUT_OF_MEMORY".into()));
    let chosen = BackendChoice::AUTO.set_up(|backend| if backend == Backend::Cpu { Ok(()) } else { Err(full()) });
    assert_eq!(chosen, Err(full()));

    // `?` converts errors in both directions.
    fn layer(x: &Tensor) -> Result<Tensor> {
        Ok(ours::guarded::rms_norm(x, None, &RmsNorm::default())?)
    }
    fn model(x: &Tensor) -> evenkeel::Result<Tensor> {
        Ok(layer(x)?.sqr()?)
    }
    assert!(model(&x).is_ok());
    Ok(())
}

#[test]
fn operands_of_guarded_norms() -> Result<()> {
    let x = tensor(&[2, 4], DType::F32, 1.0, 1)?;
    let (weight, slice) = (Tensor::new(&[1f32, 2., 3., 4.], CPU)?, [1f32, 2., 3., 4.]);
    let options = RmsNorm::default().weight(&slice);
    let by_slice = ours::guarded::rms_norm(&x, None, &options)?;
    crate::support::assert_same("slice", &by_slice, &ours::guarded::rms_norm(&x, Some(&weight), &RmsNorm::default())?);
    assert_eq!(ours::guarded::rms_norm(&x, Some(&weight), &options).unwrap_err().name(), "InvalidArgument");
    let square = weight.reshape((2, 2))?;
    assert_eq!(ours::guarded::rms_norm(&x, Some(&square), &RmsNorm::default()).unwrap_err().name(), "ShapeMismatch");
    let short = weight.narrow(0, 0, 3)?;
    assert_eq!(ours::guarded::rms_norm(&x, Some(&short), &RmsNorm::default()).unwrap_err().name(), "ShapeMismatch");
    let other = ours::guarded::rms_norm_residual(&x, &weight, None, &RmsNorm::default());
    assert_eq!(other.unwrap_err().name(), "ShapeMismatch");
    let wider = ours::guarded::rms_norm_residual(&x, &x.to_dtype(DType::F64)?, None, &RmsNorm::default());
    assert!(wider.is_err());
    Ok(())
}

#[test]
fn rows_longer_than_a_kernel_takes() -> Result<()> {
    let n = (1 << 21) + 1;
    let x = Tensor::zeros(n, DType::F32, CPU)?;
    let y = ours::ops::softmax_last_dim(&x)?.max_all()?.to_scalar::<f32>()?;
    assert!((y * n as f32 - 1.0).abs() < 1e-3);
    let y = ours::ops::log_softmax(&x, 0)?.max_all()?.to_scalar::<f32>()?;
    assert!((y + (n as f32).ln()).abs() < 1e-3);
    assert_eq!(ours::guarded::softmax(&x, 0, &Softmax::default()).unwrap_err().name(), "InvalidArgument");
    Ok(())
}
