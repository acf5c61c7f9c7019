//! Tests of the logits processor, which follows candle's rules but rejects all invalid logits.

use crate::support::{CPU, tensor};
use candle_core::{D, DType, Result, Tensor};
use evenkeel::Error;
use evenkeel::candle::generation::{LogitsProcessor, Sampling};
use std::collections::BTreeSet;

/// Returns the tokens that a strategy can draw. Plain loops implement candle's rules.
fn support(sampling: &Sampling, logits: &[f64]) -> BTreeSet<u32> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    let probabilities = |temperature: f64| -> Vec<f64> {
        let max = logits[order[0]];
        let exps: Vec<f64> = logits.iter().map(|z| ((z - max) / temperature).exp()).collect();
        let sum: f64 = exps.iter().sum();
        exps.iter().map(|e| e / sum).collect()
    };
    let prefix = |order: &[usize], p: f64, temperature: f64| -> Vec<usize> {
        let probabilities = probabilities(temperature);
        let mut mass = 0.0;
        order
            .iter()
            .copied()
            .take_while(|&i| {
                let keep = mass < p;
                mass += probabilities[i];
                keep
            })
            .collect()
    };
    let kept = match *sampling {
        Sampling::ArgMax => vec![order[0]],
        Sampling::All { .. } | Sampling::GumbelSoftmax { .. } => order,
        Sampling::TopK { k, .. } => order[..k.min(order.len())].to_vec(),
        Sampling::TopP { p, temperature } if p > 0.0 && p < 1.0 => prefix(&order, p, temperature),
        Sampling::TopP { .. } => order,
        Sampling::TopKThenTopP { k, p, temperature } => {
            let first = &order[..k.min(order.len())];
            let mass: f64 = first.iter().map(|&i| probabilities(temperature)[i]).sum();
            if p <= 0.0 || p >= mass { first.to_vec() } else { prefix(first, p, temperature) }
        }
    };
    kept.into_iter().filter(|&i| logits[i] > f64::NEG_INFINITY).map(|i| i as u32).collect()
}

#[test]
fn every_strategy_draws_candles_set_of_tokens() -> Result<()> {
    let strategies = [
        Sampling::ArgMax,
        Sampling::All { temperature: 0.9 },
        Sampling::All { temperature: f64::INFINITY },
        Sampling::TopK { k: 1, temperature: 1.0 },
        Sampling::TopK { k: 4, temperature: 2.0 },
        Sampling::TopK { k: 12, temperature: 1.0 },
        Sampling::TopK { k: 500, temperature: 1.0 },
        Sampling::TopP { p: 0.6, temperature: 1.0 },
        Sampling::TopP { p: 0.9, temperature: 2.0 },
        Sampling::TopP { p: 1e-9, temperature: 1.0 },
        Sampling::TopP { p: 0.0, temperature: 1.5 },
        Sampling::TopP { p: -1.0, temperature: 1.5 },
        Sampling::TopP { p: 1.0, temperature: 1.5 },
        Sampling::TopP { p: 7.0, temperature: 1.5 },
        Sampling::TopKThenTopP { k: 5, p: 0.5, temperature: 1.5 },
        // p is above the mass of the five tokens that top-k keeps, so top-p has no effect.
        Sampling::TopKThenTopP { k: 5, p: 0.75, temperature: 1.5 },
        // p is above the mass of the three tokens that top-k keeps, so top-p has no effect.
        Sampling::TopKThenTopP { k: 3, p: 0.9, temperature: 3.0 },
        Sampling::TopKThenTopP { k: 5, p: 0.0, temperature: 1.5 },
        Sampling::TopKThenTopP { k: 100, p: 0.7, temperature: 1.5 },
        Sampling::TopKThenTopP { k: 100, p: 1.5, temperature: 1.5 },
        Sampling::GumbelSoftmax { temperature: 1.2 },
    ];
    let ties = [1.0, 3.0, 2.0, 3.0, -1.0, 2.0, f64::NEG_INFINITY, 0.5, 2.0, 1.5, 2.5, 0.0];
    let flat = [0.25; 12];
    for logits in [ties, flat] {
        for sampling in &strategies {
            let draws = |dtype, count| -> Result<Vec<u32>> {
                let tensor = Tensor::new(&logits, CPU)?.to_dtype(dtype)?;
                let mut processor = LogitsProcessor::from_sampling(7, sampling.clone());
                (0..count).map(|_| processor.sample(&tensor)).collect()
            };
            let drawn = draws(DType::F32, 1500)?;
            assert_eq!(
                drawn.iter().copied().collect::<BTreeSet<_>>(),
                support(sampling, &logits),
                "{sampling:?} of {logits:?}: expected to draw exactly the tokens that the filters keep"
            );
            // All types represent these logits exactly, so the draws are the same.
            for dtype in [DType::F64, DType::F16, DType::BF16] {
                assert_eq!(
                    draws(dtype, 100)?,
                    drawn[..100],
                    "{sampling:?} of {logits:?} in {dtype:?}, compared with f32"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn probabilities_are_those_of_the_strategy() -> Result<()> {
    // With 20,000 draws, the standard deviation of a frequency is at most 0.0036. The limit is five standard
    // deviations.
    let logits = Tensor::new(&[0f32, 1., 2., 3.], CPU)?;
    let frequencies = |sampling: Sampling| -> Result<Vec<f64>> {
        let mut processor = LogitsProcessor::from_sampling(1, sampling);
        let mut counts = [0u32; 4];
        for _ in 0..20_000 {
            counts[processor.sample(&logits)? as usize] += 1;
        }
        Ok(counts.iter().map(|&n| f64::from(n) / 20_000.0).collect())
    };
    let e = |x: f64| x.exp();
    for (sampling, weights) in [
        (Sampling::All { temperature: 2.0 }, [e(0.0), e(0.5), e(1.0), e(1.5)]),
        (Sampling::GumbelSoftmax { temperature: 2.0 }, [e(0.0), e(0.5), e(1.0), e(1.5)]),
        (Sampling::TopK { k: 2, temperature: 1.0 }, [0.0, 0.0, e(2.0), e(3.0)]),
        // The two most likely tokens have 0.88 of the mass, so p = 0.9 needs a third token.
        (Sampling::TopP { p: 0.9, temperature: 1.0 }, [0.0, e(1.0), e(2.0), e(3.0)]),
    ] {
        let sum: f64 = weights.iter().sum();
        for (frequency, weight) in frequencies(sampling.clone())?.into_iter().zip(weights) {
            assert!(
                (frequency - weight / sum).abs() < 0.018,
                "{sampling:?}: expected a token to be drawn with frequency {}, got {frequency}",
                weight / sum
            );
        }
    }
    Ok(())
}

#[test]
fn new_chooses_the_strategy_that_candle_does() -> Result<()> {
    let logits = Tensor::new(&[1f32, 5., 5., 4.9], CPU)?;
    for temperature in [None, Some(0.0), Some(1e-8), Some(-3.0)] {
        let mut processor = LogitsProcessor::new(0, temperature, Some(0.9));
        for _ in 0..20 {
            assert_eq!(
                processor.sample(&logits)?,
                1,
                "temperature {temperature:?}: expected the sampler to draw token 1"
            );
        }
    }
    let drawn = |mut processor: LogitsProcessor| -> Result<BTreeSet<u32>> {
        (0..500).map(|_| processor.sample(&logits)).collect()
    };
    assert_eq!(drawn(LogitsProcessor::new(0, Some(1.0), None))?.len(), 4);
    assert_eq!(drawn(LogitsProcessor::new(0, Some(1.0), Some(0.6)))?, [1, 2].into());
    // At temperature 0, the largest logit's token is drawn. Candle would divide by zero.
    assert_eq!(drawn(LogitsProcessor::from_sampling(0, Sampling::All { temperature: 0.0 }))?, [1].into());
    Ok(())
}

#[test]
fn what_can_not_be_sampled_is_a_typed_error() -> Result<()> {
    let inf = f32::INFINITY;
    let strategies = [
        Sampling::ArgMax,
        Sampling::All { temperature: 1.0 },
        Sampling::TopK { k: 2, temperature: 1.0 },
        Sampling::TopP { p: 0.5, temperature: 1.0 },
        Sampling::TopKThenTopP { k: 2, p: 0.5, temperature: 1.0 },
        Sampling::GumbelSoftmax { temperature: 1.0 },
    ];
    let error = |sampling: &Sampling, logits: &Tensor| {
        Error::from(LogitsProcessor::from_sampling(1, sampling.clone()).sample(logits).unwrap_err())
    };
    for sampling in &strategies {
        let nan = Tensor::new(&[1f32, 2., f32::NAN, f32::NAN], CPU)?;
        assert_eq!((error(sampling, &nan).name(), error(sampling, &nan).index()), ("NonFiniteInput", Some(2)));
        let masked = Tensor::new(&[-inf, -inf, -inf], CPU)?;
        assert_eq!(error(sampling, &masked).name(), "EmptySupport", "{sampling:?} must reject masked logits");
        let empty = Tensor::zeros(0, DType::F32, CPU)?;
        assert_eq!(error(sampling, &empty).name(), "EmptyInput", "{sampling:?} must reject empty logits");
        // As in candle, the logits must be a single row with one axis.
        assert!(
            LogitsProcessor::from_sampling(1, sampling.clone()).sample(&tensor(&[1, 4], DType::F32, 1.0, 1)?).is_err()
        );
        // Only tokens with a logit of +inf can be drawn.
        let infinite = Tensor::new(&[1f32, inf, 2., inf], CPU)?;
        let mut processor = LogitsProcessor::from_sampling(1, sampling.clone());
        assert!([1, 3].contains(&processor.sample(&infinite)?), "{sampling:?} must draw a token with logit +inf");
    }
    let logits = Tensor::new(&[1f32, 2., 3.], CPU)?;
    for refused in [
        Sampling::TopK { k: 0, temperature: 1.0 },
        Sampling::TopKThenTopP { k: 0, p: 0.5, temperature: 1.0 },
        Sampling::All { temperature: -1.0 },
        Sampling::All { temperature: f64::NAN },
        Sampling::GumbelSoftmax { temperature: f64::NAN },
        Sampling::TopP { p: f64::NAN, temperature: 1.0 },
    ] {
        assert_eq!(
            error(&refused, &logits).name(),
            "InvalidArgument",
            "the sampling {refused:?} must return the error InvalidArgument"
        );
    }
    let mut processor = LogitsProcessor::new(1, Some(f64::NAN), None);
    assert_eq!(Error::from(processor.sample(&logits).unwrap_err()).name(), "InvalidArgument");
    Ok(())
}

#[test]
fn a_closure_changes_the_probabilities_before_any_filter() -> Result<()> {
    let logits = Tensor::new(&[0f32, 1., 2., 3.], CPU)?;
    let strategy = |sampling: Sampling| LogitsProcessor::from_sampling(3, sampling);
    let drawn = |sampling: Sampling, f: fn(&mut [f32])| -> Result<BTreeSet<u32>> {
        let mut processor = strategy(sampling);
        (0..400).map(|_| processor.sample_f(&logits, f)).collect()
    };
    // The probabilities are the softmax, in f32, of the logits divided by the temperature.
    let want: Vec<f32> = evenkeel::candle::ops::softmax((&logits / 0.5)?.as_ref(), D::Minus1)?.to_vec1()?;
    strategy(Sampling::TopK { k: 2, temperature: 0.5 }).sample_f(&logits, |given| {
        assert!(given.iter().zip(&want).all(|(a, b)| (a - b).abs() <= 1e-7), "expected {want:?}, got {given:?}");
    })?;
    // A token with probability 0 is never drawn, and is not one of the k tokens that top-k keeps.
    let ban = |given: &mut [f32]| given[3] = 0.0;
    assert_eq!(drawn(Sampling::TopK { k: 2, temperature: 5.0 }, ban)?, [1, 2].into());
    assert_eq!(drawn(Sampling::All { temperature: 5.0 }, ban)?, [0, 1, 2].into());
    // Top-p is relative to 1, not to the remaining mass. Here the remaining mass is below 0.9, so all tokens stay.
    assert_eq!(drawn(Sampling::TopP { p: 0.9, temperature: 5.0 }, ban)?, [0, 1, 2].into());
    assert_eq!(drawn(Sampling::TopP { p: 0.2, temperature: 5.0 }, ban)?, [2].into());
    assert_eq!(drawn(Sampling::TopKThenTopP { k: 2, p: 0.9, temperature: 5.0 }, ban)?, [1, 2].into());
    // Weights need not sum to 1.
    let double = |given: &mut [f32]| given.iter_mut().for_each(|p| *p *= 2.0);
    assert_eq!(drawn(Sampling::TopP { p: 0.6, temperature: 5.0 }, double)?, [3].into());

    for (f, name) in [
        ((|given: &mut [f32]| given[1] = -0.5) as fn(&mut [f32]), "InvalidArgument"),
        (|given| given[1] = f32::NAN, "InvalidArgument"),
        (|given| given.fill(0.0), "EmptySupport"),
    ] {
        let refused = strategy(Sampling::All { temperature: 1.0 }).sample_f(&logits, f);
        assert_eq!(Error::from(refused.unwrap_err()).name(), name);
    }
    let never = |_: &mut [f32]| panic!("sample_f must not compute probabilities for ArgMax or GumbelSoftmax");
    assert_eq!(strategy(Sampling::ArgMax).sample_f(&logits, never)?, 3);
    strategy(Sampling::GumbelSoftmax { temperature: 1.0 }).sample_f(&logits, never)?;
    Ok(())
}

#[test]
fn the_stream_is_the_seeds_and_the_calls() -> Result<()> {
    let logits = tensor(&[1000], DType::F32, 1.0, 1)?;
    let stream = |seed: u64| -> Result<Vec<u32>> {
        let mut processor = LogitsProcessor::new(seed, Some(1.0), None);
        (0..50).map(|_| processor.sample(&logits)).collect()
    };
    assert_eq!(stream(5)?, stream(5)?);
    assert_ne!(stream(5)?, stream(6)?);
    // The expected tokens come from Evenkeel's sampler with the same seed and draw numbers.
    let sampler = evenkeel::SamplerConfig::default().validate().unwrap();
    let data: Vec<f32> = logits.to_vec1()?;
    for (draw, token) in stream(5)?.into_iter().enumerate() {
        let draw = evenkeel::Draw { seed: 5, row: 0, draw: draw as u64 };
        assert_eq!(sampler.sample(&data, draw).unwrap().token, token);
    }
    // A failed call also uses up a draw number.
    let mut processor = LogitsProcessor::new(5, Some(1.0), None);
    assert!(processor.sample(&Tensor::new(&[f32::NAN], CPU)?).is_err());
    assert_eq!(processor.sample(&logits)?, stream(5)?[1]);
    Ok(())
}

#[test]
fn logits_of_any_layout_and_type() -> Result<()> {
    let logits = tensor(&[6, 2], DType::F32, 1.0, 1)?;
    let column = logits.transpose(0, 1)?.get(1)?;
    let mut processor = LogitsProcessor::new(0, None, None);
    assert_eq!(processor.sample(&column)?, column.argmax(0)?.to_scalar::<u32>()?);
    assert_eq!(processor.sample(&Tensor::new(&[1u32, 9, 3], CPU)?)?, 1);
    Ok(())
}
