//! Tests of the suites in `testing::conformance`. The suites must find no defect in Evenkeel, and exactly the planted
//! defect in each defective implementation.

use evenkeel::testing::conformance::{self, Defect, Filter, Report};
use evenkeel::{
    Draw, Element, LayerNorm, Result, RmsNorm, Rows, SamplerConfig, Softmax, layer_norm, log_softmax, reference,
    rms_norm, softmax,
};
use half::{bf16, f16};

fn nothing_is_found_in_evenkeel<E: Element>() {
    conformance::softmax(|x: &[E], rows, cols| softmax(Rows::new(x, rows, cols)?, &Softmax::default())).assert_clean();
    let log = |x: &[E], rows, cols| log_softmax(Rows::new(x, rows, cols)?, &Softmax::default());
    conformance::log_softmax(log).assert_clean();
    conformance::rms_norm(|x: &[E], rows, cols, eps| rms_norm(Rows::new(x, rows, cols)?, &RmsNorm::default().eps(eps)))
        .assert_clean();
    conformance::layer_norm(|x: &[E], rows, cols, eps| {
        layer_norm(Rows::new(x, rows, cols)?, &LayerNorm::default().eps(eps))
    })
    .assert_clean();
    conformance::sampler(Filter::ALL, sample::<E>).assert_clean();
}

for_each_dtype!(nothing_is_found_in_evenkeel);

fn sample<E: Element>(logits: &[E], settings: &SamplerConfig, seed: u64) -> Result<u32> {
    Ok(settings.validate()?.sample(logits, Draw { seed, row: 0, draw: 0 })?.token)
}

/// Fails unless exactly these defects are found, and the report describes each.
#[track_caller]
fn assert_finds(report: &Report, defects: &[Defect]) {
    let mut found = report.defects();
    for defect in defects {
        assert!(found.contains(defect), "expected the defect {defect}, got {report}");
        assert!(
            report.to_string().contains(&format!("\n  {defect}\n    ")),
            "the report must describe the defect {defect}, got {report}"
        );
        found.retain(|found| found != defect);
    }
    assert!(
        found.is_empty(),
        "the report must contain only the defects {defects:?}, but also contains {found:?}: {report}"
    );
    assert_eq!(report.is_clean(), defects.is_empty());
    assert_eq!(std::panic::catch_unwind(|| report.assert_clean()).is_ok(), defects.is_empty());
}

/// Computes each row in f64 with `row`, and rounds the results to the type.
fn rows_of<E: Element>(x: &[E], cols: usize, mut row: impl FnMut(&[E]) -> Vec<f64>) -> Vec<E> {
    if cols == 0 {
        return Vec::new();
    }
    x.chunks(cols).flat_map(&mut row).map(E::from_wide).collect()
}

fn right<E: Element>(row: &[E]) -> Vec<f64> {
    let wide: Vec<f64> = row.iter().map(|z| z.widen()).collect();
    reference::softmax_of(&wide).unwrap_or_else(|| vec![0.0; row.len()])
}

#[test]
fn a_softmax_that_is_right_but_for_one_thing() {
    let suite = |change: fn(&[bf16], Vec<f64>) -> Vec<f64>| {
        conformance::softmax(move |x: &[bf16], _, cols| rows_of(x, cols, |row| change(row, right(row))))
    };
    assert_finds(&suite(|_, y| y), &[]);
    // An error of one ULP is allowed.
    let by =
        |ulps: f64| move |_: &[bf16], y: Vec<f64>| -> Vec<f64> { y.iter().map(|y| y * (1.0 + ulps / 256.0)).collect() };
    let off = |ulps: f64| {
        let change = by(ulps);
        conformance::softmax(move |x: &[bf16], _, cols| rows_of(x, cols, |row| change(row, right(row))))
    };
    assert!(off(0.5).is_clean(), "a softmax with an error of 0.5 ULP must have no defect, got {}", off(0.5));
    assert!(
        off(4.0).defects() == [Defect::NarrowSteps],
        "a softmax with an error of 4 ULP must have only the defect NarrowSteps, got {}",
        off(4.0)
    );
    let uniform = suite(|row, y| if y == vec![0.0; row.len()] { vec![1.0 / row.len() as f64; row.len()] } else { y });
    assert_finds(&uniform, &[]);
    let nan = suite(|_, y| if y.iter().all(|y| *y == 0.0) { vec![f64::NAN; y.len()] } else { y });
    assert_finds(&nan, &[Defect::MaskedRow]);
    let share = suite(|row, y| {
        let is_masked = |z: &bf16| *z == bf16::NEG_INFINITY && row.iter().any(|z| z.is_finite());
        row.iter().zip(y).map(|(z, y)| if is_masked(z) { 1e-30 } else { y }).collect()
    });
    // Masked positions get 1e-30 instead of 0. The suite finds this defect in rows with a mask, and again in a row of
    // extreme values, -1e30 and -inf.
    assert_finds(&share, &[Defect::MaskedPosition, Defect::ExtremeValues]);
    let hidden =
        suite(|row, y| y.iter().zip(row).map(|(y, z)| if y.is_nan() && !z.is_nan() { 0.0 } else { *y }).collect());
    assert_finds(&hidden, &[]); // the suite requires only one NaN in the results of a row with NaN
    let hidden = suite(|_, y| y.into_iter().map(|y| if y.is_nan() { 0.0 } else { y }).collect());
    assert_finds(&hidden, &[Defect::HidesNan]);
    let wide = suite(|row, y| if row.len() == 131_072 { vec![1.0 / 256.0; row.len()] } else { y });
    assert_finds(&wide, &[Defect::NarrowSum]);
}

#[test]
fn what_goes_wrong_between_rows() {
    let suite = |change: fn(&[f32], usize, Vec<f32>) -> Vec<f32>| {
        conformance::softmax(move |x: &[f32], _, cols| change(x, cols, rows_of(x, cols, right)))
    };
    assert_finds(&suite(|_, _, y| y), &[]);
    let spread = suite(|x, _, y| if x.iter().any(|x| x.is_nan()) { vec![f32::NAN; y.len()] } else { y });
    assert_finds(&spread, &[Defect::NanSpreads]);
    let next = suite(|x, cols, mut y| {
        if cols == 1000 && x.len() == 67 * cols {
            let last = y.len() - 1;
            y[last] = y[last].next_up();
        }
        y
    });
    assert_finds(&next, &[Defect::DependsOnBatch]);
    let first_masked = suite(|x, cols, mut y| {
        if cols == 4 && x.contains(&f32::NEG_INFINITY) && x.len() == 12 {
            y[..4].fill(0.0);
        }
        y
    });
    assert_finds(&first_masked, &[Defect::DependsOnBatch]);
    assert_finds(&suite(|x, _, y| if x.is_empty() { panic!("a deliberate panic") } else { y }), &[Defect::Panics]);
    assert_finds(&suite(|x, _, y| if x.is_empty() { vec![0.0] } else { y }), &[Defect::WrongLength]);
    let short = suite(|x, _, mut y| {
        y.truncate(if x.len() == 4096 { 4095 } else { x.len() });
        y
    });
    assert_finds(&short, &[Defect::WrongLength]);
    let refusing = conformance::softmax(|x: &[f32], _, cols| match x.iter().any(|x| x.abs() == 1e30) {
        true => Err("too large\n   0: a backtrace"),
        false => Ok(rows_of(x, cols, right)),
    });
    assert_finds(&refusing, &[Defect::Refuses]);
    assert!(
        !refusing.to_string().contains("backtrace"),
        "softmax that returns an error with a backtrace: the report must not contain the backtrace, got {refusing}"
    );
}

/// Checks the naive formula, where exp overflows and every step is rounded to the type.
#[test]
fn softmax_as_it_is_written_down() {
    let naive = |x: &[f16], _, cols: usize| {
        if cols == 0 { vec![] } else { x.chunks(cols).flat_map(crate::support::naive::softmax).collect() }
    };
    let report = conformance::softmax(naive);
    use Defect::{ExtremeValues, MaskedRow, NarrowSteps, NarrowSum};
    for defect in [NarrowSum, NarrowSteps, ExtremeValues, MaskedRow] {
        assert!(report.has(defect), "naive softmax in F16: expected the defect {defect}, got {report}");
    }
    // In f16, the naive log_softmax loses small probabilities before it takes their logarithm.
    let logs = conformance::log_softmax(|x: &[f16], _, cols: usize| {
        if cols == 0 { vec![] } else { x.chunks(cols).flat_map(crate::support::naive::log_softmax).collect() }
    });
    assert!(
        logs.has(NarrowSum) && logs.has(ExtremeValues),
        "naive log_softmax in F16: expected the defects NarrowSum and ExtremeValues, got {logs}"
    );
}

#[test]
fn norms_with_one_defect_each() {
    let rms = |mean_square: fn(&[f32]) -> f64| {
        conformance::rms_norm(move |x: &[f32], _, cols, eps| {
            rows_of(x, cols, |row| {
                let root = (mean_square(row) + eps).sqrt();
                row.iter().map(|x| if root == 0.0 { 0.0 } else { x.widen() / root }).collect()
            })
        })
    };
    assert_finds(&rms(|row| row.iter().map(|x| x.widen() * x.widen()).sum::<f64>() / row.len() as f64), &[]);
    // Squares are computed in f32 and added in f64.
    let narrow = rms(|row| row.iter().map(|x| f64::from(x * x)).sum::<f64>() / row.len() as f64);
    assert_finds(&narrow, &[Defect::SquaresOverflow, Defect::SquaresVanish]);
    let stalls = rms(|row| {
        let sum = row.iter().fold(0.0, |sum: f64, x| (sum + x.widen() * x.widen()).min(65_536.0));
        if row.len() == 131_072 {
            sum / row.len() as f64
        } else {
            row.iter().map(|x| x.widen() * x.widen()).sum::<f64>() / row.len() as f64
        }
    });
    assert_finds(&stalls, &[Defect::NarrowSum]);

    let layer = |variance_from: fn(&[f32]) -> (f64, f64)| {
        conformance::layer_norm(move |x: &[f32], _, cols, eps| {
            rows_of(x, cols, |row| {
                let (mean, variance) = variance_from(row);
                let root = (variance + eps).sqrt();
                row.iter().map(|x| if root == 0.0 { 0.0 } else { (x.widen() - mean) / root }).collect()
            })
        })
    };
    let two_pass = |row: &[f32]| {
        let mean = row.iter().map(|x| x.widen()).sum::<f64>() / row.len() as f64;
        (mean, row.iter().map(|x| (x.widen() - mean).powi(2)).sum::<f64>() / row.len() as f64)
    };
    assert_finds(&layer(two_pass), &[]);
    let rounded_mean = layer(|row| {
        let mean = f64::from((row.iter().map(|x| x.widen()).sum::<f64>() / row.len() as f64) as f32);
        // Simulates the error of a mean whose sum is computed in f32.
        let mean = if mean > 9e5 { mean + 0.3 } else { mean };
        (mean, row.iter().map(|x| (x.widen() - mean).powi(2)).sum::<f64>() / row.len() as f64)
    });
    assert_finds(&rounded_mean, &[Defect::RoundedMean]);
    let one_pass = layer(|row| {
        let n = row.len() as f32;
        let mean = row.iter().map(|x| x.widen()).sum::<f64>() / f64::from(n);
        let squares = row.iter().fold(0.0f32, |sum, x| sum + x * x) / n;
        (mean, f64::from(squares) - mean * mean)
    });
    assert!(
        one_pass.has(Defect::OnePassVariance) && one_pass.has(Defect::SquaresOverflow),
        "layer_norm with a one-pass variance: expected the defects OnePassVariance and SquaresOverflow, got {one_pass}"
    );
}

type Mean = std::result::Result<f64, String>;

/// Returns the mean loss in f64, where `log` computes the log-softmax of a row.
fn loss(x: &[bf16], cols: usize, targets: &[u32], log: impl Fn(&[bf16]) -> Vec<f64>) -> Mean {
    let mut sum = 0.0;
    for (row, &target) in x.chunks(cols).zip(targets) {
        sum -= *log(row).get(target as usize).ok_or("the target is not a class")?;
    }
    Ok(sum / targets.len() as f64)
}

fn log_right(row: &[bf16]) -> Vec<f64> {
    reference::log_softmax(row).unwrap_or_default()
}

#[test]
fn losses_with_one_defect_each() {
    let suite = |run: fn(&[bf16], usize, &[u32]) -> Mean| {
        conformance::cross_entropy(move |x: &[bf16], _, cols, targets| run(x, cols, targets))
    };
    assert_finds(&suite(|x, cols, targets| loss(x, cols, targets, log_right)), &[]);
    assert_finds(&suite(|x, cols, targets| Ok(bf16::from_f64(loss(x, cols, targets, log_right)?).to_f64())), &[]);
    let clamped = suite(|x, cols, targets| {
        let last = cols as u32 - 1;
        loss(x, cols, &targets.iter().map(|&t| t.min(last)).collect::<Vec<_>>(), log_right)
    });
    assert_finds(&clamped, &[Defect::TargetOutOfRange]);
    let indexed = suite(|x, cols, targets| {
        Ok(-log_right(&x[..cols])[targets[0] as usize] + 0.0 * loss(x, cols, targets, log_right).unwrap_or(0.0))
    });
    assert!(
        indexed.has(Defect::Panics),
        "the suite must report the defect Panics for a loss that panics if a target is wrong, got {indexed}"
    );
    let narrow = suite(|x, cols, targets| {
        let mean = loss(x, cols, targets, log_right)?;
        Ok(if targets.len() > 1000 { mean / 16.0 } else { mean })
    });
    assert_finds(&narrow, &[Defect::NarrowSum]);
    let hidden = suite(|x, cols, targets| Ok(loss(x, cols, targets, log_right)?.max(0.0)));
    assert_finds(&hidden, &[Defect::HidesNan]);
    let finite = suite(|x, cols, targets| Ok(loss(x, cols, targets, log_right)?.min(1e4)));
    assert!(
        finite.has(Defect::ExtremeValues),
        "a loss limited to 1e4 must have the defect ExtremeValues, got {finite}"
    );
}

/// Draws a token with a correct sampler in f64, made from the reference.
fn draw(logits: &[f32], settings: &SamplerConfig, seed: u64) -> Result<u32> {
    let support = reference::sample(logits, settings)?;
    Ok(pick(&support.tokens, &support.probs, seed))
}

/// Returns the token at a pseudo-random position in [0, 1) of the cumulative distribution. The seed determines the
/// position.
fn pick(tokens: &[u32], probs: &[f64], seed: u64) -> u32 {
    let at = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11) as f64 / (1u64 << 53) as f64;
    let mut sum = 0.0;
    let index = probs.iter().position(|p| {
        sum += p;
        sum > at
    });
    tokens[index.unwrap_or(tokens.len() - 1)]
}

fn suite(run: fn(&[f32], &SamplerConfig, u64) -> Result<u32>) -> Report {
    conformance::sampler(Filter::ALL, run)
}

#[test]
fn samplers_without_defects() {
    assert_finds(&suite(draw), &[]);
    // The list of supported filters is empty, so the suite must not use any filter.
    let plain = conformance::sampler(&[], |logits: &[f32], settings, seed| {
        assert_eq!((settings.top_k, settings.top_p, settings.min_p), (None, None, None));
        draw(logits, settings, seed)
    });
    assert_finds(&plain, &[]);
}

#[test]
fn samplers_with_one_wrong_filter_each() {
    // Applies top-p to the probabilities of all tokens. A correct sampler applies top-k first, and divides the kept
    // probabilities by their sum. It then applies top-p.
    let unrenormalised = suite(|logits, settings, seed| {
        let (Some(k), Some(p)) = (settings.top_k, settings.top_p) else { return draw(logits, settings, seed) };
        let all = reference::sample(logits, &SamplerConfig::default())?;
        let mut probs = all.probs.clone();
        probs.sort_by(|a, b| b.total_cmp(a));
        let mass: f64 = probs[..k].iter().sum();
        draw(logits, &SamplerConfig::default().top_k(k).top_p((p / mass).min(1.0)), seed)
    });
    assert_finds(&unrenormalised, &[Defect::UnrenormalisedCut]);
    let one_more = suite(|logits, settings, seed| {
        let mut settings = *settings;
        settings.top_k = settings.top_k.map(|k| k + usize::from(settings.top_p.is_none()));
        draw(logits, &settings, seed)
    });
    assert_finds(&one_more, &[Defect::WrongSupport]);
    let one_less =
        suite(|logits, settings, seed| draw(logits, &settings.min_p(settings.min_p.unwrap_or(0.0) + 0.2), seed));
    assert!(
        one_less.has(Defect::WrongSupport),
        "a sampler that adds 0.2 to min_p must have the defect WrongSupport, got {one_less}"
    );
    let hotter = suite(|logits, settings, seed| draw(logits, &settings.temperature(settings.temperature * 1.2), seed));
    assert!(
        hotter.has(Defect::WrongDistribution),
        "a sampler that multiplies the temperature by 1.2 must have the defect WrongDistribution, got {hotter}"
    );
}

#[test]
fn samplers_that_draw_masked_tokens() {
    let masked = suite(|logits, settings, seed| match logits {
        [first, ..] if *first == f32::NEG_INFINITY && logits.len() == 4 && seed == 40 => Ok(0),
        _ => draw(logits, settings, seed),
    });
    assert_finds(&masked, &[Defect::DrawsMasked]);
    let beyond = suite(|logits, settings, seed| match logits.len() {
        4 if seed == 7 && logits[0] != f32::NEG_INFINITY => Ok(9),
        _ => draw(logits, settings, seed),
    });
    assert_finds(&beyond, &[Defect::DrawsMasked]);
}

#[test]
fn samplers_with_another_defect_each() {
    let blind = suite(|logits, settings, seed| draw(logits, settings, seed).or(Ok(0)));
    assert_finds(&blind, &[Defect::AcceptsNan, Defect::AcceptsNothing]);
    let skips = suite(|logits, settings, seed| {
        let seen: Vec<f32> = logits.iter().map(|z| if z.is_nan() { f32::NEG_INFINITY } else { *z }).collect();
        draw(&seen, settings, seed)
    });
    assert_finds(&skips, &[Defect::AcceptsNan]);
    let stalls = suite(|logits, settings, seed| match logits.len() {
        131_072 => Ok((seed * 5 % 256) as u32),
        _ => draw(logits, settings, seed),
    });
    assert_finds(&stalls, &[Defect::NarrowSum]);
    let unwrapping =
        suite(|logits, settings, seed| Ok(draw(logits, settings, seed).expect("the logits must be valid")));
    assert_finds(&unwrapping, &[Defect::Panics]);

    let mut calls = 0;
    let unseeded = conformance::sampler(Filter::ALL, |logits: &[f32], settings, _| {
        calls += 1;
        draw(logits, settings, calls)
    });
    assert_finds(&unseeded, &[Defect::NotRepeatable]);
}

#[test]
fn a_report_reads_well() {
    let report = conformance::softmax(|x: &[bf16], _, cols: usize| {
        if cols == 0 { vec![] } else { x.chunks(cols).flat_map(crate::support::naive::softmax).collect() }
    });
    let text = report.to_string();
    println!("{text}");
    assert!(text.starts_with("softmax in BF16: "), "the report must start with \"softmax in BF16: \", got {text}");
    let [sum, row] =
        ["\n  narrow sum\n    ", "131072 equal logits: [0] is 3.90625e-3 (0x3b80), expected 7.62939453125e-6, "];
    assert!(
        text.contains(sum) && text.contains(row),
        "the report of the naive softmax must contain {sum:?} and {row:?}, got {text}"
    );
    assert!(
        text.lines().all(|line| line.len() <= 130),
        "the report of the naive softmax must have lines of at most 130 bytes, got {text}"
    );
    let finding =
        report.findings.iter().find(|f| f.defect == Defect::NarrowSum && f.row.starts_with("131072")).unwrap();
    assert_eq!(finding.ulps, (1.0 / 256.0 - 2f64.powi(-17)) / 2f64.powi(-24));
}
