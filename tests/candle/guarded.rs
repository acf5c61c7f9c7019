//! Tests of masks, policies for fully masked rows, reports and residuals on tensors.

use crate::support::{CPU, DTYPES, assert_same, flat, layouts, tensor};
use candle_core::{DType, Result, Tensor};
use evenkeel::candle::guarded;
use evenkeel::{Draw, Error, FullyMasked, Mask, Request, RmsNorm, SamplerConfig, Softmax, Step, report};

#[test]
fn policies_for_fully_masked_rows() -> Result<()> {
    let x = tensor(&[3, 2, 4], DType::F32, 1.0, 1)?;
    let mask = Mask::lengths(&[4, 0, 2]);
    let masked = Softmax::default().mask(&mask);
    let y = guarded::softmax(&x, 2, &masked)?;
    assert_eq!(flat(&y.get(1)?), [0.0; 8]);
    assert_eq!(flat(&guarded::log_softmax(&x, 2, &masked)?.get(1)?), [f64::NEG_INFINITY; 8]);
    assert_eq!(flat(&guarded::logsumexp(&x, 2, false, &masked)?.get(1)?), [f64::NEG_INFINITY; 2]);

    let uniform = masked.fully_masked(FullyMasked::Uniform);
    assert_eq!(flat(&guarded::softmax(&x, 2, &uniform)?.get(1)?), [0.25; 8]);

    let refusing = masked.fully_masked(FullyMasked::Error);
    let refused = Error::fully_masked("softmax", 2);
    assert_eq!(guarded::softmax(&x, 2, &refusing).unwrap_err(), refused);
    // If the tensor is a variable, candle records the op. The call must return the same error as for any other tensor.
    let variable = candle_core::Var::from_tensor(&x)?;
    assert_eq!(guarded::softmax(&variable, 2, &refusing).unwrap_err(), refused);
    let refused = Error::fully_masked("logsumexp", 2);
    assert_eq!(guarded::logsumexp(&x, 2, true, &refusing).unwrap_err(), refused);
    Ok(())
}

#[test]
fn options_out_of_range() -> Result<()> {
    let x = tensor(&[2, 4], DType::F32, 1.0, 1)?;
    let error = guarded::softmax(&x, 1, &Softmax::default().softcap(0.0)).unwrap_err();
    assert_eq!(error.to_string(), "softmax: softcap is 0; it must be finite and above 0");
    assert_eq!(guarded::softmax(&x, 2, &Softmax::default()).unwrap_err().name(), "InvalidArgument");
    let mask = Mask::keep(&[1u8, 0, 1], &[3]);
    assert_eq!(guarded::softmax(&x, 1, &Softmax::default().mask(&mask)).unwrap_err().name(), "ShapeMismatch");
    Ok(())
}

#[test]
fn masks_of_tensors() -> Result<()> {
    let scores = tensor(&[2, 3, 4], DType::F32, 2.0, 1)?;
    let flags = Tensor::new(&[[[1u8, 0, 1, 1], [1, 1, 1, 1], [0, 0, 1, 0]]], CPU)?;
    let data: Vec<u8> = flags.flatten_all()?.to_vec1()?;
    let borrowed = Mask::keep(&data, &[1, 3, 4]).and_causal();
    let want = guarded::softmax(&scores, 2, &Softmax::default().mask(&borrowed))?;
    let turned = flags.transpose(1, 2)?.contiguous()?.transpose(1, 2)?;
    for flags in [&flags, &turned] {
        let mask = guarded::mask::keep(flags)?.and_causal();
        assert_same("keep", &guarded::softmax(&scores, 2, &Softmax::default().mask(&mask))?, &want);
    }
    // A bias that masks the same positions as the mask gives the same result, whatever the type of the bias.
    let hidden = Tensor::full(f64::NEG_INFINITY, flags.shape(), CPU)?;
    let bias = flags.where_cond(&hidden.zeros_like()?, &hidden)?;
    for (dtype, _) in DTYPES {
        for (layout, bias) in layouts(&bias.to_dtype(dtype)?)? {
            let mask = guarded::mask::and_bias(Mask::causal(), &bias)?;
            assert_same(&layout, &guarded::softmax(&scores, 2, &Softmax::default().mask(&mask))?, &want);
        }
    }
    let both = guarded::mask::and_keep(guarded::mask::bias(&bias)?, &flags)?.and_causal();
    assert_same("both", &guarded::softmax(&scores, 2, &Softmax::default().mask(&both))?, &want);
    assert_eq!(guarded::mask::keep(&bias).unwrap_err().name(), "UnsupportedDType");
    assert_eq!(guarded::mask::bias(&flags).unwrap_err().name(), "UnsupportedDType");
    Ok(())
}

#[test]
fn reports_count_what_candle_tensors_met() -> Result<()> {
    let inf = f32::INFINITY;
    let x = Tensor::new(&[[0f32, 1.], [-inf, -inf], [f32::NAN, 0.], [inf, 0.]], CPU)?;
    let variable = candle_core::Var::from_tensor(&x)?;
    let (result, report) = report::scope(|| -> Result<()> {
        evenkeel::candle::ops::softmax_last_dim(&x)?;
        evenkeel::candle::ops::softmax(&variable, 1)?;
        evenkeel::candle::ops::rms_norm(&x, &Tensor::ones(2, DType::F32, CPU)?, 1e-5)?;
        Ok(())
    });
    result?;
    let counts = report.op("softmax");
    assert_eq!((counts.calls, counts.rows), (2, 8));
    assert_eq!((counts.fully_masked, counts.nan, counts.infinite), (2, 2, 2));
    assert_eq!(report.op("rms_norm").calls, 1);
    Ok(())
}

#[test]
fn the_residual_is_the_sum_and_the_norm_is_of_it() -> Result<()> {
    for (dtype, _) in DTYPES {
        let (x, residual) = (tensor(&[2, 3, 16], dtype, 2.0, 1)?, tensor(&[2, 3, 16], dtype, 2.0, 2)?);
        let weight = tensor(&[16], dtype, 2.0, 3)?;
        for options in [RmsNorm::default(), RmsNorm::default().weight_offset(1.0)] {
            let (norm, sum) = guarded::rms_norm_residual(&x, &residual, Some(&weight), &options)?;
            assert_same("sum", &sum, &(&x + &residual)?);
            assert_same("norm", &norm, &guarded::rms_norm(&sum, Some(&weight), &options)?);
            for ((layout, x), (_, residual)) in layouts(&x)?.into_iter().zip(layouts(&residual)?) {
                let (other, _) = guarded::rms_norm_residual(&x, &residual, Some(&weight), &options)?;
                assert_same(&layout, &other, &norm);
            }
            let (norm, sum) = guarded::rms_norm_residual(&x, &residual, None, &options)?;
            assert_same("plain", &norm, &guarded::rms_norm(&sum, None, &options)?);
        }
    }
    Ok(())
}

#[test]
fn sampling_from_tensors() -> Result<()> {
    let logits = tensor(&[2, 3, 50], DType::F32, 4.0, 1)?;
    let sampler = SamplerConfig::default().temperature(0.8).top_k(10).top_p(0.9).validate()?;
    let draws: Vec<Draw> = (0..6).map(|row| Draw { seed: 3, row, draw: 0 }).collect();
    let data: Vec<f32> = logits.flatten_all()?.to_vec1()?;
    let rows = evenkeel::Rows::shaped(&data, &[2, 3, 50])?;
    let want = sampler.sample_rows(rows, None, &draws)?;
    for (layout, logits) in layouts(&logits)? {
        assert_eq!(
            guarded::sample_rows(&logits, &sampler, None, &draws)?,
            want,
            "layout {layout}: calls with tensors and with slices must draw the same tokens"
        );
        assert_eq!(
            guarded::distributions(&logits, &sampler, None, &draws)?,
            sampler.distributions(rows, None, &draws)?,
            "layout {layout}: calls with tensors and with slices must return the same distributions"
        );
    }
    let samplers = [sampler.clone(), SamplerConfig::default().temperature(0.0).logprob(false).validate()?];
    let request = |row: usize| Request { sampler: &samplers[row % 2], step: Step::from(draws[row]).output(&[7, 9]) };
    let requests: Vec<Request> = (0..6).map(request).collect();
    for (layout, logits) in layouts(&logits)? {
        for (got, want) in guarded::sample_requests(&logits, None, &requests)?
            .into_iter()
            .zip(evenkeel::sample_rows(rows, None, &requests)?)
        {
            let ([got, want], what) = ([got?, want?], format!("layout {layout}, each row with its own request"));
            assert_eq!((got.token, got.kept), (want.token, want.kept), "{what}");
            assert_eq!(got.logprob.to_bits(), want.logprob.to_bits(), "{what}");
        }
    }
    assert_eq!(guarded::sample_requests(&logits, None, &requests[..5]).unwrap_err().name(), "ShapeMismatch");
    let keep: Vec<u8> = (0..50).map(|i| u8::from(i % 7 == 0)).collect();
    let mask = Mask::keep(&keep, &[50]);
    for sampled in guarded::sample_rows(&logits, &sampler, Some(&mask), &draws)? {
        assert_eq!(sampled?.token % 7, 0);
    }
    assert_eq!(guarded::sample_rows(&logits, &sampler, None, &draws[..5]).unwrap_err().name(), "ShapeMismatch");
    assert_eq!(
        guarded::sample_rows(&Tensor::new(1f32, CPU)?, &sampler, None, &draws[..0]).unwrap_err().name(),
        "InvalidArgument"
    );
    Ok(())
}
