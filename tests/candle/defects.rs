//! Checks that Evenkeel does not have the defects measured in candle 0.11.

use crate::support::{CPU, DTYPES, assert_same, flat};
use candle_core::{D, DType, Device, Module, Result, Tensor};
use evenkeel::candle as ours;

#[test]
fn rows_of_equal_logits_add_up_to_one() -> Result<()> {
    for len in [256, 1024, 4096, 32768, 131072] {
        for (dtype, _) in DTYPES {
            let x = Tensor::ones(len, dtype, CPU)?;
            let y = flat(&ours::ops::softmax_last_dim(&x)?);
            assert_eq!(y.iter().sum::<f64>(), 1.0, "the softmax of {len} equal logits in {dtype:?} must sum to 1");
            let y = flat(&ours::ops::log_softmax(&x, 0)?);
            let expected = -(len as f64).ln();
            assert!(
                y.iter().all(|y| (y - expected).abs() < 0.05),
                "log_softmax of {len} equal logits in {dtype:?}: expected {expected}, got {}",
                y[0]
            );
        }
    }
    Ok(())
}

#[test]
fn layer_norm_of_a_small_spread_far_from_zero() -> Result<()> {
    let x = Tensor::new(&[[40000f32, 40001., 40002., 40003.]], CPU)?;
    let (ones, zeros) = (Tensor::ones(4, DType::F32, CPU)?, Tensor::zeros(4, DType::F32, CPU)?);
    let y = ours::ops::layer_norm(&x, &ones, &zeros, 1e-5)?;
    assert_eq!(y.to_vec2::<f32>()?, [[-1.3416355, -0.4472118, 0.4472118, 1.3416355]]);

    let x = Tensor::new(&[[1500f32, 1501., 1502., 1503.]], CPU)?.to_dtype(DType::F16)?;
    let norm = ours::LayerNorm::new(ones.to_dtype(DType::F16)?, zeros.to_dtype(DType::F16)?, 1e-5);
    assert_eq!(flat(&norm.forward(&x)?), [-1.341796875, -0.447265625, 0.447265625, 1.341796875]);
    Ok(())
}

#[test]
fn rms_norm_of_squares_beyond_f32() -> Result<()> {
    let ones = Tensor::ones(4, DType::F32, CPU)?;
    for magnitude in [1e20f32, 3e38, 1e-25] {
        let x = Tensor::new(&[[magnitude, -magnitude, magnitude, magnitude]], CPU)?;
        let y = ours::RmsNorm::new(ones.clone(), 0.0).forward(&x)?;
        assert_eq!(
            y.to_vec2::<f32>()?,
            [[1.0, -1.0, 1.0, 1.0]],
            "rms_norm of [x, -x, x, x] with x = {magnitude}: expected [1, -1, 1, 1]"
        );
    }
    // The squares of this row overflow bf16.
    let x = Tensor::new(&[[1e20f32, -1e20]], CPU)?.to_dtype(DType::BF16)?;
    let y = ours::ops::rms_norm(&x, &Tensor::ones(2, DType::BF16, CPU)?, 1e-6)?;
    assert_eq!(flat(&y), [1.0, -1.0]);
    Ok(())
}

#[test]
fn the_norm_does_not_depend_on_the_layout() -> Result<()> {
    let x = crate::support::tensor(&[4, 6, 8], DType::BF16, 3.0, 1)?;
    let weight = crate::support::tensor(&[8], DType::BF16, 1.0, 2)?;
    let norm = ours::RmsNorm::new(weight, 1e-6);
    let turned = x.transpose(0, 1)?;
    assert_same("RmsNorm", &norm.forward(&turned)?, &norm.forward(&turned.contiguous()?)?);
    Ok(())
}

#[test]
fn rows_of_nothing_but_minus_infinity() -> Result<()> {
    let inf = f32::INFINITY;
    for (dtype, _) in DTYPES {
        let x = Tensor::new(&[[0f32, 0.], [-inf, -inf]], CPU)?.to_dtype(dtype)?;
        assert_eq!(flat(&ours::ops::softmax(&x, 1)?), [0.5, 0.5, 0.0, 0.0]);
        assert_eq!(flat(&ours::ops::softmax_last_dim(&x)?), [0.5, 0.5, 0.0, 0.0]);
        let log = flat(&ours::ops::log_softmax(&x, 1)?);
        assert_eq!(log[2..], [f64::NEG_INFINITY; 2]);
        assert!((log[0] + 2f64.ln()).abs() < 2e-3);
    }
    Ok(())
}

#[test]
fn silu_at_minus_infinity() -> Result<()> {
    let x = Tensor::new(&[f32::NEG_INFINITY, -1e30, f32::INFINITY], CPU)?;
    let y: Vec<f32> = ours::ops::silu(&x)?.to_vec1()?;
    assert_eq!(y, [0.0, 0.0, f32::INFINITY]);
    assert!(y[0].is_sign_negative());
    let gated = Tensor::new(&[f32::NEG_INFINITY, 3.0], CPU)?;
    assert_eq!(ours::ops::swiglu(&gated)?.to_vec1::<f32>()?, [0.0]);
    Ok(())
}

#[test]
fn losses_of_confident_logits() -> Result<()> {
    let (logits, targets) = (Tensor::new(&[200f32, -200., 0.], CPU)?, Tensor::new(&[0f32, 1., 0.5], CPU)?);
    let loss = ours::loss::binary_cross_entropy_with_logit(&logits, &targets)?.to_scalar::<f32>()?;
    assert!(
        (loss - (400.0 + 2f32.ln()) / 3.0).abs() < 1e-4,
        "binary_cross_entropy_with_logit: expected (400 + ln 2) / 3, got {loss}"
    );

    // The losses of this batch sum to far more than 256. Above 256, bf16 cannot represent every integer.
    let n = 4096;
    let (x, targets) = (Tensor::zeros((n, 2), DType::BF16, CPU)?, Tensor::zeros(n, DType::U32, CPU)?);
    let loss = flat(&ours::loss::cross_entropy(&x, &targets)?)[0];
    assert!(
        (loss - 2f64.ln()).abs() < 2f64.powi(-9),
        "cross_entropy of {n} rows of two equal logits: expected ln 2, got {loss}"
    );
    Ok(())
}

#[test]
fn gradients_where_candle_has_none() -> Result<()> {
    let x = candle_core::Var::from_tensor(&crate::support::tensor(&[2, 4], DType::F32, 1.0, 1)?)?;
    let ones = Tensor::ones(4, DType::F32, CPU)?;
    for y in [
        ours::ops::softmax_last_dim(&x)?,
        ours::ops::rms_norm(&x, &ones, 1e-5)?,
        ours::ops::layer_norm(&x, &ones, &ones, 1e-5)?,
        ours::RmsNorm::new(ones.clone(), 1e-5).forward(&x)?,
    ] {
        assert!(y.sqr()?.sum_all()?.backward()?.get(&x).is_some());
    }
    Ok(())
}

#[test]
fn empty_tensors_do_not_panic() -> Result<()> {
    let empty = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu);
    for dims in [&[0][..], &[3, 0], &[0, 3], &[2, 0, 4]] {
        let x = empty(dims)?;
        let cols = dims[dims.len() - 1];
        let weight = empty(&[cols])?;
        for axis in 0..dims.len() {
            assert_eq!(ours::ops::softmax(&x, axis)?.dims(), dims);
            assert_eq!(ours::ops::log_softmax(&x, axis)?.dims(), dims);
        }
        assert_eq!(ours::ops::softmax_last_dim(&x)?.dims(), dims);
        assert_eq!(ours::ops::rms_norm(&x, &weight, 1e-5)?.dims(), dims);
        assert_eq!(ours::ops::layer_norm(&x, &weight, &weight, 1e-5)?.dims(), dims);
        assert_eq!(ours::ops::silu(&x)?.dims(), dims);
        assert_eq!(ours::ops::sigmoid(&x)?.dims(), dims);
    }
    for dims in [[0, 2, 3, 4], [2, 0, 3, 4], [2, 3, 0, 4], [2, 3, 5, 0]] {
        let (x, [_, _, positions, cols]) = (empty(&dims)?, dims);
        let (cos, sin) = (empty(&[positions, cols / 2])?, empty(&[positions, cols / 2])?);
        assert_eq!(ours::rotary_emb::rope(&x, &cos, &sin)?.dims(), dims);
        assert_eq!(ours::rotary_emb::rope_i(&x, &cos, &sin)?.dims(), dims);
        let thd = x.transpose(1, 2)?;
        assert_eq!(ours::rotary_emb::rope_thd(&thd, &cos, &sin)?.dims(), thd.dims());
    }
    assert!(ours::ops::softmax_last_dim(&Tensor::new(1f32, CPU)?).is_err());
    assert!(ours::ops::softmax(&empty(&[2])?, D::Minus2).is_err());
    Ok(())
}
