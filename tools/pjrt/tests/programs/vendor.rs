//! Comparison with the sampler of NxD Inference, which can fail or draw excluded tokens. The sampler is reimplemented
//! here step by step in f32. Both samplers get the same logits, in bf16.

use crate::support::{Device, on_each_device, rng};
use evenkeel::neuron::run;
use evenkeel::{Draw, Element, Request, Rows, SamplerConfig, Step, reference, sample_rows};
use half::bf16;
use rand::RngExt;
use rand::rngs::StdRng;

/// Number of candidates. All steps work only on these tokens.
const GLOBAL_TOP_K: usize = 256;
/// Logit of excluded candidates.
const SENTINEL: f32 = -3000.0;

/// Sampling parameters of a batch, the same for each row.
#[derive(Clone, Copy, Debug)]
struct Parameters {
    top_k: usize,
    top_p: f32,
    temperature: f32,
}

fn softmax(row: &[f32]) -> Vec<f32> {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exps: Vec<f32> = row.iter().map(|x| (x - max).exp()).collect();
    let sum: f32 = exps.iter().sum();
    exps.iter().map(|e| e / sum).collect()
}

fn cumulative(row: &[f32]) -> Vec<f32> {
    let mut sum = 0.0;
    row.iter().map(|p| (sum += p, sum).1).collect()
}

/// Runs the vendor's sampler up to the draw. Returns the candidates of each row with their probabilities.
fn vendor(rows: &[&[f32]], of: Parameters) -> Vec<Vec<(usize, f32)>> {
    let first = |row: &[f32]| {
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
        order.truncate(GLOBAL_TOP_K);
        order
    };
    let orders: Vec<Vec<usize>> = rows.iter().map(|row| first(row)).collect();
    let scaled: Vec<Vec<f32>> = (rows.iter().zip(&orders))
        .map(|(row, order)| {
            let kept = order.iter().enumerate().map(|(i, token)| if i < of.top_k { row[*token] } else { SENTINEL });
            kept.map(|logit| logit / of.temperature).collect()
        })
        .collect();
    let sums: Vec<Vec<f32>> = scaled.iter().map(|row| cumulative(&softmax(row))).collect();
    // The vendor computes the smallest cumulative sum over the whole batch, not for each row.
    let least = sums.iter().flatten().copied().fold(f32::INFINITY, f32::min);
    let threshold = least.max(of.top_p);
    (scaled.iter().zip(&sums).zip(orders))
        .map(|((row, sums), order)| {
            let excluded = |i: usize| i > 0 && sums[i] > threshold;
            let kept: Vec<f32> = (0..row.len()).map(|i| if excluded(i) { SENTINEL } else { row[i] }).collect();
            order.into_iter().zip(softmax(&kept)).collect()
        })
        .collect()
}

/// Returns whether the vendor's sampler fails on a row. It fails if a probability is NaN, if the total probability of
/// excluded tokens exceeds 0.01, or if the row has no valid token.
fn fails(row: &[f32], found: &[(usize, f32)], config: &SamplerConfig) -> bool {
    if found.iter().any(|(_, p)| p.is_nan()) {
        return true;
    }
    let Ok(allowed) = reference::sample(row, config) else { return true };
    let is_excluded = |token: usize| allowed.tokens.binary_search(&(token as u32)).is_err();
    found.iter().filter(|(token, _)| is_excluded(*token)).map(|(_, p)| p).sum::<f32>() > 0.01
}

/// Kind of logits, with the parameters to sample them.
struct Kind {
    name: &'static str,
    of: Parameters,
    logit: fn(&mut StdRng, usize) -> f64,
    /// Whether the vendor's sampler must fail on each row.
    breaks: bool,
}

const REPORTED: Parameters = Parameters { top_k: 50, top_p: 0.9, temperature: 0.7 };

const KINDS: [Kind; 8] = [
    Kind { name: "plain", of: REPORTED, logit: |rng, _| bell(rng), breaks: false },
    Kind {
        name: "high temperature",
        of: Parameters { top_k: 2, top_p: 1.0, temperature: 1000.0 },
        logit: |rng, _| bell(rng),
        breaks: true,
    },
    Kind {
        name: "below the sentinel",
        of: Parameters { top_k: 2, top_p: 1.0, temperature: 1.0 },
        logit: |rng, _| -4000.0 - 16.0 * f64::from(rng.random_range(0..40u8)),
        breaks: true,
    },
    Kind {
        name: "all lowest",
        of: Parameters { top_k: 2, top_p: 1.0, temperature: 1.0 },
        logit: |_, _| -bf16::LIMITS.max,
        breaks: true,
    },
    Kind {
        name: "below the sentinel, by top-p",
        of: Parameters { top_k: 50, top_p: 0.5, temperature: 1.0 },
        logit: |rng, i| if i == 7 { -3488.0 } else { -3520.0 - 16.0 * f64::from(rng.random_range(0..40u8)) },
        breaks: true,
    },
    Kind {
        name: "temperature 0",
        of: Parameters { top_k: 1, top_p: 1.0, temperature: 0.0 },
        logit: |rng, _| bell(rng),
        breaks: true,
    },
    Kind {
        name: "beyond f32",
        of: Parameters { top_k: 50, top_p: 0.9, temperature: 0.01 },
        logit: |rng, i| if i % 40 == 3 { 3e38 } else { bell(rng) },
        breaks: true,
    },
    Kind { name: "all masked", of: REPORTED, logit: |_, _| f64::NEG_INFINITY, breaks: true },
];

fn bell(rng: &mut StdRng) -> f64 {
    (0..4).map(|_| rng.random_range(-4.0..4.0)).sum()
}

/// Checks 10,000 rows, or 40 rows with the interpreter. Each row yields a valid token, or an error if no token is
/// valid.
#[test]
fn field_failure_of_the_sampler() {
    on_each_device("field_failure_of_the_sampler", |device| {
        let (rows, cols) = if matches!(device, Device::Interpreter) { (5, 300) } else { (1250, 300) };
        let mut rng = rng();
        let (mut failed, mut drawn) = (0, 0);
        for Kind { name, of, logit, breaks } in KINDS {
            let logits: Vec<bf16> = (0..rows * cols).map(|i| bf16::from_wide(logit(&mut rng, i % cols))).collect();
            let wide: Vec<f32> = logits.iter().map(|x| x.to_f32()).collect();
            let config =
                SamplerConfig::default().temperature(of.temperature.into()).top_k(of.top_k).top_p(of.top_p.into());
            let sampler = config.validate().unwrap();
            let step = |row: usize| Step::from(Draw { seed: 1, row: row as u64, draw: 0 });
            let requests: Vec<Request<'_>> =
                (0..rows).map(|row| Request { sampler: &sampler, step: step(row) }).collect();
            let view = Rows::new(&logits, rows, cols).unwrap();
            let ours = run::sample_rows(device, view, None, 64, &requests).unwrap();
            assert_eq!(
                ours,
                sample_rows(view, None, &requests).unwrap(),
                "{name}: the device must return the same results as sample_rows on the host"
            );
            let batches: Vec<&[f32]> = wide.chunks(cols).collect();
            let theirs = batches.chunks(5).flat_map(|batch| vendor(batch, of));
            for (row, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                let case = format!("{name}, row {row}");
                let fails = fails(batches[row], &theirs, &config);
                assert!(
                    fails || !breaks,
                    "{case}: expected the vendor's sampler to return NaN or an excluded token, got {:?}",
                    &theirs[..4]
                );
                failed += usize::from(fails);
                match reference::sample(batches[row], &config) {
                    Ok(allowed) => {
                        let token = ours.as_ref().unwrap_or_else(|error| panic!("{case}: {error}")).token;
                        assert!(
                            allowed.tokens.contains(&token),
                            "{case}: the reference sampler must allow token {token}"
                        );
                        drawn += 1;
                    }
                    Err(_) => {
                        let error = ours.as_ref().unwrap_err();
                        assert_eq!(
                            (error.name(), error.row()),
                            ("EmptySupport", Some(row)),
                            "{case}: expected an EmptySupport error, got {error}"
                        );
                    }
                }
            }
        }
        println!(
            "the vendor's sampler fails on {failed} of {} rows; Evenkeel has a valid token for {drawn}, else an error",
            rows * KINDS.len()
        );
    });
}

/// Checks documented results of the vendor's sampler, to show that the reimplementation is right.
#[test]
fn the_vendors_sampler_is_as_documented() {
    let of = |top_k, top_p, temperature| Parameters { top_k, top_p, temperature };
    let given = |logits: [f32; 4], of: Parameters| {
        let found = vendor(&[&logits], of).remove(0);
        [0, 1, 2, 3].map(|token| found.iter().find(|(t, _)| *t == token).map_or(0.0, |(_, p)| *p))
    };
    let leaks = given([5.0, 4.0, 3.0, 2.0], of(2, 1.0, 1000.0));
    assert!(
        (leaks[2] - 0.0236).abs() < 1e-4 && (leaks[3] - 0.0236).abs() < 1e-4,
        "tokens 2 and 3 must each have a probability of 0.0236, got {leaks:?}"
    );
    let inverted = given([-4000.0, -4001.0, -4002.0, -4003.0], of(2, 1.0, 1.0));
    assert_eq!(inverted, [0.0, 0.0, 0.5, 0.5]);
    let tail = given([-3500.0, -3501.0, -3502.0, -3503.0], of(4, 0.5, 1.0));
    assert_eq!(tail[0], 0.0);
    assert!((tail[3] - 1.0 / 3.0).abs() < 1e-6);
    for (logits, of) in [
        ([1.0, 2.0, 3.0, 4.0], of(1, 1.0, 0.0)),
        ([3e38, 1.0, 1.0, 1.0], of(2, 1.0, 0.01)),
        ([f32::NEG_INFINITY; 4], of(4, 1.0, 1.0)),
    ] {
        assert!(
            given(logits, of).iter().any(|p| p.is_nan()),
            "the vendor's sampler must return NaN for the logits {logits:?}"
        );
    }
}
