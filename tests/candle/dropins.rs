//! Compares the drop-in functions with candle's own ops in f64, within the bounds of the accuracy table.

use crate::support::{DTYPES, allowed, assert_close, assert_same, flat, tensor};
use candle_core::{D, DType, Module, Result, Tensor};
use evenkeel::candle as ours;

/// Shapes with 1 to 5 axes and rows of many lengths.
const SHAPES: [&[usize]; 7] = [&[1], &[17], &[3, 64], &[2, 3, 129], &[2, 1, 3, 32], &[1, 2, 2, 3, 5], &[2, 2000]];

/// Returns a bound for the error of candle's f64 results, for sums of `n` terms and exponents up to `magnitude`.
fn reference_error(n: usize, magnitude: f64) -> f64 {
    (n as f64 + 2.0 * magnitude + 16.0) * f64::EPSILON
}

#[test]
fn softmax_along_every_axis() -> Result<()> {
    for (seed, dims) in SHAPES.iter().enumerate() {
        for (dtype, ours_dtype) in DTYPES {
            let x = tensor(dims, dtype, 9.0, seed as u64)?;
            let wide = x.to_dtype(DType::F64)?;
            for axis in 0..dims.len() {
                let error = reference_error(dims[axis], 18.0);
                let what = format!("{dims:?} along {axis} in {dtype:?}");

                let want = flat(&candle_nn::ops::softmax(&wide, axis)?);
                let y = ours::ops::softmax(&x, axis)?;
                assert_eq!((y.dims(), y.dtype()), (x.dims(), dtype));
                assert_close(&what, &flat(&y), &want, |i| allowed("softmax", ours_dtype, want[i]) + error * want[i]);

                let want = flat(&candle_nn::ops::log_softmax(&wide, axis)?);
                let y = flat(&ours::ops::log_softmax(&x, axis)?);
                assert_close(&what, &y, &want, |_| allowed("log_softmax", ours_dtype, 18.0) + error * 20.0);
            }
            assert_same("last", &ours::ops::softmax_last_dim(&x)?, &ours::ops::softmax(&x, D::Minus1)?);
        }
    }
    Ok(())
}

#[test]
fn norms() -> Result<()> {
    for (seed, dims) in SHAPES.iter().enumerate() {
        let cols = dims[dims.len() - 1];
        for (dtype, ours_dtype) in DTYPES {
            let x = tensor(dims, dtype, 3.0, seed as u64)?;
            let (alpha, beta) = (tensor(&[cols], dtype, 2.0, 101)?, tensor(&[cols], dtype, 2.0, 102)?);
            let [x64, alpha64, beta64] = [&x, &alpha, &beta].map(|t| t.to_dtype(DType::F64).unwrap());
            let (what, error) = (format!("{dims:?} in {dtype:?}"), reference_error(cols, 1.0));

            let want = flat(&candle_nn::ops::rms_norm_slow(&x64, &alpha64, 1e-5)?);
            let y = flat(&ours::ops::rms_norm(&x, &alpha, 1e-5)?);
            assert_close(&what, &y, &want, |i| allowed("rms_norm", ours_dtype, want[i]) + error * want[i].abs());

            let want = flat(&candle_nn::ops::layer_norm_slow(&x64, &alpha64, &beta64, 1e-5)?);
            let bias = flat(&beta64.broadcast_as(*dims)?);
            let y = flat(&ours::ops::layer_norm(&x, &alpha, &beta, 1e-5)?);
            assert_close(&what, &y, &want, |i| {
                let largest = want[i].abs().max(bias[i].abs()).max((want[i] - bias[i]).abs());
                // Candle's mean is rounded. Dividing by a much smaller deviation magnifies the mean's error.
                allowed("layer_norm", ours_dtype, largest) + 100.0 * error
            });
        }
    }
    Ok(())
}

#[test]
fn single_elements() -> Result<()> {
    for (dtype, ours_dtype) in DTYPES {
        let x = tensor(&[3, 700], dtype, 30.0, 7)?;
        let wide = x.to_dtype(DType::F64)?;
        let error = reference_error(0, 30.0);
        for (op, want, y) in [
            ("sigmoid", candle_nn::ops::sigmoid(&wide)?, ours::ops::sigmoid(&x)?),
            ("silu", candle_nn::ops::silu(&wide)?, ours::ops::silu(&x)?),
        ] {
            let want = flat(&want);
            assert_close(op, &flat(&y), &want, |i| allowed(op, ours_dtype, want[i]) + error * want[i].abs());
        }
        // swiglu multiplies silu by a factor, which adds one rounding.
        let want = flat(&candle_nn::ops::swiglu(&wide)?);
        let (left, right) = (wide.narrow(1, 0, 350)?, flat(&wide.narrow(1, 350, 350)?));
        let left = flat(&candle_nn::ops::silu(&left)?);
        assert_close("swiglu", &flat(&ours::ops::swiglu(&x)?), &want, |i| {
            let first = allowed("silu", ours_dtype, left[i]) + error * left[i].abs();
            first * right[i].abs() + allowed("silu", ours_dtype, 1.01 * want[i])
        });
    }
    Ok(())
}

#[test]
fn rotary_embedding() -> Result<()> {
    for (dtype, ours_dtype) in DTYPES {
        for (batch, heads, positions, cols) in [(1, 1, 1, 2), (2, 3, 5, 8), (1, 4, 1, 64), (3, 1, 7, 6)] {
            let x = tensor(&[batch, heads, positions, cols], dtype, 3.0, 5)?;
            let thd = x.transpose(1, 2)?.contiguous()?;
            for table in [vec![positions, cols / 2], vec![batch, positions, cols / 2]] {
                let (cos, sin) = (tensor(&table, dtype, 1.0, 6)?, tensor(&table, dtype, 1.0, 7)?);
                let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
                let (c, s) = (&wide(&cos), &wide(&sin));
                for (name, want, y) in [
                    ("rope", candle_nn::rotary_emb::rope(&wide(&x), c, s)?, ours::rotary_emb::rope(&x, &cos, &sin)?),
                    (
                        "rope_i",
                        candle_nn::rotary_emb::rope_i(&wide(&x), c, s)?,
                        ours::rotary_emb::rope_i(&x, &cos, &sin)?,
                    ),
                    (
                        "rope_thd",
                        candle_nn::rotary_emb::rope_thd(&wide(&thd), c, s)?,
                        ours::rotary_emb::rope_thd(&thd, &cos, &sin)?,
                    ),
                ] {
                    let what = format!("{name} with tables {table:?} in {dtype:?}");
                    assert_eq!(y.dims(), want.dims(), "{what}: expected the same shape as candle's result");
                    // Each result of a rotation is a sum of two products below 3.
                    assert_close(&what, &flat(&y), &flat(&want), |_| allowed("rope", ours_dtype, 6.0));
                }
            }
        }
    }
    Ok(())
}

#[test]
fn losses() -> Result<()> {
    let targets = Tensor::new(&[0u32, 3, 1, 4, 4, 2], ours_device())?;
    for (dtype, ours_dtype) in DTYPES {
        let x = tensor(&[6, 5], dtype, 4.0, 1)?;
        let wide = x.to_dtype(DType::F64)?;
        let want = flat(&candle_nn::loss::cross_entropy(&wide, &targets)?);
        let y = ours::loss::cross_entropy(&x, &targets)?;
        assert_eq!((y.dims(), y.dtype()), (&[][..], dtype));
        // The sum has six terms of up to 8, added in f32 or f64, and is rounded once.
        let sum = |dtype: evenkeel::DType| 8.0 * 8.0 * dtype.limits().epsilon.min(2f64.powi(-23));
        assert_close("cross_entropy", &flat(&y), &want, |i| allowed("exp", ours_dtype, want[i]) + sum(ours_dtype));

        let likely = tensor(&[6, 5], dtype, 0.5, 2)?.affine(1.0, 0.5)?;
        let want = candle_nn::loss::binary_cross_entropy_with_logit(&wide, &likely.to_dtype(DType::F64)?)?;
        let want = flat(&want);
        let y = flat(&ours::loss::binary_cross_entropy_with_logit(&x, &likely)?);
        assert_close("bce", &y, &want, |i| allowed("exp", ours_dtype, want[i]) + 5.0 * sum(ours_dtype));
    }
    Ok(())
}

fn ours_device() -> &'static candle_core::Device {
    crate::support::CPU
}

#[test]
fn modules_compute_what_candles_do() -> Result<()> {
    let f64s = |dims: &[usize], seed| tensor(dims, DType::F64, 2.0, seed);
    let x = f64s(&[3, 4, 16], 1)?;
    let (weight, bias) = (f64s(&[16], 2)?, f64s(&[16], 3)?);
    let pairs: [(Box<dyn Module>, Box<dyn Module>); 5] = [
        (
            Box::new(ours::LayerNorm::new_no_bias(weight.clone(), 1e-5)),
            Box::new(candle_nn::LayerNorm::new_no_bias(weight.clone(), 1e-5)),
        ),
        (
            Box::new(ours::LayerNorm::rms_norm(weight.clone(), 1e-5)),
            Box::new(candle_nn::LayerNorm::rms_norm(weight.clone(), 1e-5)),
        ),
        // These weights broadcast to the rows, but do not have one value per column.
        (
            Box::new(ours::LayerNorm::new_no_bias(f64s(&[4, 1], 4)?, 1e-5)),
            Box::new(candle_nn::LayerNorm::new_no_bias(f64s(&[4, 1], 4)?, 1e-5)),
        ),
        (
            Box::new(ours::LayerNorm::new(f64s(&[1], 5)?, bias.clone(), 1e-5)),
            Box::new(Composed(candle_nn::LayerNorm::new(f64s(&[1], 5)?, bias.clone(), 1e-5))),
        ),
        (
            Box::new(ours::LayerNorm::new(weight.clone(), bias.clone(), 1e-5)),
            Box::new(Composed(candle_nn::LayerNorm::new(weight.clone(), bias.clone(), 1e-5))),
        ),
    ];
    for (i, (ours, theirs)) in pairs.iter().enumerate() {
        let (y, want) = (ours.forward(&x)?, theirs.forward(&x)?);
        assert_close(&format!("module {i}"), &flat(&y), &flat(&want), |_| 1e-13);
    }
    let rms = ours::RmsNorm::new(weight.clone(), 1e-5);
    let want = flat(&candle_nn::RmsNorm::new(weight, 1e-5).forward_diff(&x)?);
    assert_close("RmsNorm", &flat(&rms.forward(&x)?), &want, |_| 1e-13);
    assert_same("forward_diff", &rms.forward_diff(&x)?, &rms.forward(&x)?);
    Ok(())
}

/// Wrapper that calls candle's module with a non-contiguous input. Candle then runs a composition of its ops, which
/// supports f64. Candle's kernel does not support f64.
struct Composed(candle_nn::LayerNorm);

impl Module for Composed {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.0.forward(&xs.transpose(0, 1)?.contiguous()?.transpose(0, 1)?)
    }
}

#[test]
fn constructors_find_what_candles_do() -> Result<()> {
    let (gamma, beta) = (tensor(&[4], DType::F32, 1.0, 1)?, tensor(&[4], DType::F32, 1.0, 2)?);
    let named = [("old.gamma".to_string(), gamma.clone()), ("old.beta".to_string(), beta.clone())];
    let vb = candle_nn::VarBuilder::from_tensors(named.into(), DType::F32, crate::support::CPU);
    let norm = ours::layer_norm(4, 1e-3, vb.pp("old"))?;
    assert_same("gamma", norm.weight(), &gamma);
    assert_same("beta", norm.bias().unwrap(), &beta);
    assert_eq!((norm.eps(), norm.remove_mean()), (1e-3, true));
    let norm = ours::layer_norm_no_bias(4, 1e-4, vb.pp("old"))?;
    assert!(norm.bias().is_none() && norm.remove_mean());
    let norm = ours::rms_norm(4, 1e-6, vb.pp("old"))?;
    assert_eq!((norm.eps(), norm.clone().into_inner().remove_mean()), (1e-6, false));
    assert!(ours::rms_norm(5, 1e-6, vb.pp("old")).is_err());

    let config = ours::LayerNormConfig { eps: 1e-5, remove_mean: false, affine: true };
    let norm = ours::layer_norm(4, config, vb.pp("old"))?;
    let x = tensor(&[2, 4], DType::F32, 1.0, 3)?;
    let want = ours::ops::rms_norm(&x, &gamma, 1e-5)?.broadcast_add(&beta)?;
    assert_same("rms with bias", &norm.forward(&x)?, &want);
    Ok(())
}
