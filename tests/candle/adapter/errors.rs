//! Errors of the adapter: Evenkeel's typed errors, which are wrapped in candle's error, and candle's own errors.

use super::candle::{DType, Device, Error as Candle, Result, Tensor};
use super::numerics::{guarded, ops, rotary_emb, sample_rows, typed};
use evenkeel::{Attention, Error, FullyMasked, Softmax};

fn zeros(dims: &[usize]) -> Result<Tensor> {
    Tensor::zeros(dims, DType::F32, &Device::Cpu)
}

#[test]
fn a_typed_error_is_found_again() -> Result<()> {
    let x = Tensor::new(&[[0f32, 1.0], [f32::NEG_INFINITY, f32::NEG_INFINITY]], &Device::Cpu)?;
    let options = Softmax::default().fully_masked(FullyMasked::Error);
    let error = guarded::softmax(&x, 1, &options).unwrap_err();
    let expected = Error::fully_masked("softmax", 1);
    assert_eq!(typed(&error), Some(&expected));
    assert!(error.to_string().starts_with(&expected.to_string()));
    assert_eq!(typed(&error.context("layer 3").with_path("model").bt()), Some(&expected));
    Ok(())
}

#[test]
fn arguments_that_do_not_fit_are_typed() -> Result<()> {
    let (x, four) = (zeros(&[2, 4])?, zeros(&[4])?);
    let heads = zeros(&[1, 2, 3, 4])?;
    let halves = heads.to_dtype(DType::F16)?;
    let options = Attention::default();
    for refused in [
        ops::rms_norm(&x, &four, -1.0),
        ops::rms_norm(&x, &four, f32::NAN),
        ops::rms_norm(&x, &zeros(&[3])?, 1e-5),
        ops::rms_norm(&x, &x, 1e-5),
        ops::layer_norm(&x, &four, &zeros(&[5])?, 1e-5),
        guarded::softmax(&x, 1, &Softmax::default().scale(f64::NAN)),
        guarded::attention(&heads, &halves, &heads, &options),
        guarded::attention(&heads, &zeros(&[1, 2, 3, 5])?, &heads, &options),
        guarded::attention(&x, &heads, &heads, &options),
        rotary_emb::rope(&x, &four, &four),
        rotary_emb::rope(&heads, &zeros(&[2, 2])?, &zeros(&[2, 2])?),
        rotary_emb::rope(&heads, &zeros(&[3, 2])?, &zeros(&[4, 2])?),
        rotary_emb::rope_i(&heads, &zeros(&[3, 3])?, &zeros(&[3, 3])?),
        rotary_emb::rope_thd(&heads, &zeros(&[2, 2, 2])?, &zeros(&[2, 2, 2])?),
    ] {
        let error = refused.unwrap_err();
        let name = typed(&error).map(Error::name);
        assert!(
            matches!(name, Some("InvalidArgument" | "ShapeMismatch")),
            "candle's error must contain Evenkeel's error InvalidArgument or ShapeMismatch, got {error}"
        );
    }
    let error = sample_rows(&x, None, &[]).unwrap_err();
    assert_eq!(typed(&error).map(Error::name), Some("ShapeMismatch"));
    Ok(())
}

#[test]
fn errors_of_tensors_are_candles() -> Result<()> {
    let integers = Tensor::new(&[[1u32, 2], [3, 4]], &Device::Cpu)?;
    for refused in [
        ops::softmax(&integers, 1),
        ops::silu(&integers),
        ops::rms_norm(&integers, &zeros(&[2])?, 1e-5),
        ops::layer_norm(&zeros(&[2, 2])?, &integers.get(0)?, &zeros(&[2])?, 1e-5),
        sample_rows(&integers, None, &[]).map(|_| integers.clone()),
    ] {
        let error = refused.unwrap_err();
        assert!(typed(&error).is_none());
        let plain = match &error {
            Candle::WithBacktrace { inner, .. } => inner,
            other => other,
        };
        assert!(matches!(plain, Candle::UnsupportedDTypeForOp(DType::U32, _)), "the error must name u32, got {error}");
    }
    assert!(typed(&ops::softmax(&integers, 2).unwrap_err()).is_none());
    Ok(())
}
