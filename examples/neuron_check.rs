//! Smoke test of a Neuron device: compares softmax and sampling with the CPU, on rows that break naive programs.
//!
//! `scripts/neuron-check` runs it and saves the output. Exit status: 0 if device and CPU agree, 1 if they differ, 2 if
//! there is no device.

#![forbid(unsafe_code)]

use evenkeel::neuron::{self, Device, Session};
use evenkeel::{Draw, Element, Mask, Request, Result, Rows, SamplerConfig, Softmax, accuracy};
use half::{bf16, f16};
use std::process::ExitCode;
use std::time::Instant;

const COLS: usize = 64;

/// Rows that break naive programs. Shorter rows are filled up with masked columns.
const ROWS: &[&[f32]] = &[
    &[1.0, 2.0, 3.0, f32::NEG_INFINITY],
    &[],
    &[f32::NEG_INFINITY; COLS],
    &[f32::INFINITY, 1.0, f32::INFINITY, 0.0],
    &[f32::MAX, f32::MIN, 0.0, 1.0],
    &[1e38, -3e38, 3.4e38, f32::NEG_INFINITY],
    &[f32::MIN; 4],
    &[-4000.0, -4001.0, -4002.0, -4003.0],
    &[f32::NAN, 1.0, 2.0, 3.0],
    &[65504.0, -65504.0, 1.0],
];

/// Number of additional random rows, each with its own scale.
const RANDOM: usize = 22;

/// Rows of logits. In some rows, all logits are below -3000. A sampler that excludes tokens by setting their logits to
/// -3000 draws excluded tokens from such rows.
const LOGITS: [[f32; 4]; 6] = [
    [5.0, 4.0, 3.0, 2.0],
    [-4000.0, -4001.0, -4002.0, -4003.0],
    [f32::MIN; 4],
    [-3500.0, -3501.0, -3502.0, -3503.0],
    [3e38, 1.0, 0.0, -1.0],
    [f32::NEG_INFINITY; 4],
];

fn main() -> ExitCode {
    let session = match Device::open()
        .and_then(|device| Ok((device, device.compiler()?.version().to_string(), device.target()?)))
    {
        Ok((device, compiler, target)) => {
            println!("{}\n{compiler}\ntarget {}", device.about(), target.name());
            Session::new(device)
        }
        Err(fault) => {
            println!("there is no device to check, {:?}: {fault}", fault.action());
            return ExitCode::from(2);
        }
    };
    ExitCode::from(u8::from(!agrees(&session)))
}

/// Compares the device with the CPU, prints the results, and returns whether they agree.
pub fn agrees(session: &Session) -> bool {
    let mut all_agree = true;
    let mut report = |what: &str, check: &dyn Fn() -> Result<Vec<String>>| {
        let start = Instant::now();
        let wrong = check().unwrap_or_else(|error| vec![error.to_string()]);
        let seconds = start.elapsed().as_secs_f64();
        all_agree &= wrong.is_empty();
        println!("{what}: {} ({seconds:.1} s)", if wrong.is_empty() { "agrees" } else { "differs" });
        wrong.iter().for_each(|wrong| println!("    {wrong}"));
    };
    report("softmax f32", &|| softmax(session, |x| x, f64::from));
    report("softmax f16", &|| softmax(session, f16::from_f32, f64::from));
    report("softmax bf16", &|| softmax(session, bf16::from_f32, f64::from));
    report("sample f32", &|| sample(session, |x| x));
    report("sample bf16", &|| sample(session, bf16::from_f32));
    all_agree
}

/// Returns a line for each element at which the device's softmax differs too much from the CPU's, up to 10 lines. The
/// allowed difference is the sum of both error bounds, plus 2^-24 because the device flushes f16 subnormals to zero.
fn softmax<E: Element>(session: &Session, make: fn(f32) -> E, value: fn(E) -> f64) -> Result<Vec<String>> {
    let ulps: f64 = [accuracy::neuron_bound("softmax", E::DTYPE), accuracy::bound("softmax", E::DTYPE)]
        .iter()
        .flatten()
        .map(|bound| bound.ulps)
        .sum();
    let part = ulps * E::DTYPE.limits().epsilon;
    let rows = ROWS.len() + RANDOM;
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let (mut x, mut keep) = (Vec::new(), Vec::new());
    for row in 0..rows {
        for col in 0..COLS {
            let given =
                ROWS.get(row).map_or_else(|| Some(random() * 1.5f32.powi(row as i32 - 10)), |r| r.get(col).copied());
            // Columns beyond the end of a row of `ROWS` are masked, and so is a third of each random row. Every masked
            // element is a NaN, which would spoil the row's result if the device read it.
            let kept = given.filter(|_| row < ROWS.len() || (row + col) % 3 != 0);
            x.push(make(kept.unwrap_or(f32::NAN)));
            keep.push(u8::from(kept.is_some()));
        }
    }
    let mask = Mask::none().and_keep(&keep, &[rows, COLS]);
    let (view, options) = (Rows::new(&x, rows, COLS)?, Softmax::default().mask(&mask));
    let ours = neuron::run::softmax(session, view, &options)?;
    let expected = evenkeel::softmax(view, &options)?;
    let pairs = ours.into_iter().map(value).zip(expected.into_iter().map(value)).enumerate();
    let wrong = pairs.filter(|(_, (a, b))| {
        let near = (a - b).abs() <= part * b.abs() + f64::powi(2.0, -24);
        !(near || a.is_nan() && b.is_nan())
    });
    let lines = wrong.map(|(at, (a, b))| format!("row {} column {}: {a:e}; the CPU has {b:e}", at / COLS, at % COLS));
    Ok(lines.take(10).collect())
}

/// Draws each token twice: from the candidates that the device finds, and on the CPU alone. Returns a line for each
/// draw whose tokens differ, up to 10 lines.
fn sample<E: Element>(session: &Session, make: fn(f32) -> E) -> Result<Vec<String>> {
    let x: Vec<E> = LOGITS.as_flattened().iter().map(|x| make(*x)).collect();
    let rows = Rows::new(&x, LOGITS.len(), 4)?;
    let mut wrong = Vec::new();
    for config in [
        SamplerConfig::default().temperature(1000.0).top_k(2),
        SamplerConfig::default().temperature(0.7).top_k(2).top_p(0.5),
        SamplerConfig::default().temperature(0.01).top_k(2),
        SamplerConfig::default().temperature(0.0),
    ] {
        let sampler = config.validate()?;
        for draw in 0..20 {
            let request =
                |row: usize| Request { sampler: &sampler, step: Draw { seed: 1, row: row as u64, draw }.into() };
            let requests: Vec<Request<'_>> = (0..LOGITS.len()).map(request).collect();
            let ours = neuron::run::sample_rows(session, rows, None, 2, &requests)?;
            let expected = evenkeel::sample_rows(rows, None, &requests)?;
            let pairs = ours.iter().zip(&expected).enumerate();
            let differ = pairs.filter(|(_, (a, b))| a.as_ref().map(|a| a.token) != b.as_ref().map(|b| b.token));
            wrong.extend(differ.map(|(row, (a, b))| format!("row {row}: {a:?}; the CPU has {b:?}")));
        }
    }
    wrong.truncate(10);
    Ok(wrong)
}
