//! Tests of the sampler. Its filters must keep the same tokens as a reference that sorts the vocabulary, and it must
//! reject invalid parameters.

use crate::support::compare::{Checker, assert_same_bits};
use crate::support::generate::{self, Bits};
use crate::support::implementations::each_level;
use evenkeel::reference::{self, DoubleDouble, Real};
use evenkeel::{Draw, Element, Error, Mask, Rows, Sampler, SamplerConfig, report};
use rand::RngExt;
use rand::rngs::SmallRng;

for_each_dtype!(support_is_that_of_the_sorted_definition, logprobs, outcomes, masks);

pub fn sampler(config: SamplerConfig) -> Sampler {
    config.validate().unwrap()
}

/// Generates random rows that resemble a model's logits. Some are rounded to integers or to bf16, some have one
/// dominant logit, and some are half masked.
pub fn any_row<E: Bits>(rng: &mut SmallRng, len: usize) -> Vec<E> {
    let (mean, spread) = (rng.random_range(-30.0..30.0), rng.random_range(0.1..8.0));
    let mut row = generate::bell::<E>(rng, len, mean, spread);
    match rng.random_range(0..5) {
        0 => row = row.iter().map(|x| E::from_wide(x.widen().round())).collect(),
        1 => row[len / 2] = E::from_wide(60.0),
        2 => (0..len).step_by(2).skip(1).for_each(|i| row[i] = E::NEG_INFINITY),
        3 => row = row.iter().map(|x| E::from_wide(half::bf16::from_f64(x.widen()).widen())).collect(),
        _ => {}
    }
    row
}

fn any_config(rng: &mut SmallRng, len: usize) -> SamplerConfig {
    let mut config = SamplerConfig::default();
    if rng.random_bool(0.6) {
        config = config.temperature([0.0, 1e-30, 0.2, 0.7, 1.3, 5.0, 1e30][rng.random_range(0..7)]);
    }
    if rng.random_bool(0.5) {
        config = config.top_k(rng.random_range(1..=len + 5).min([1, 2, 50, 1000, usize::MAX][rng.random_range(0..5)]));
    }
    if rng.random_bool(0.6) {
        config = config.top_p([rng.random_range(1e-6..1.0), 1.0][usize::from(rng.random_bool(0.1))]);
    }
    if rng.random_bool(0.4) {
        config = config.min_p([0.0, rng.random_range(0.0..1.0), 1.0][rng.random_range(0..3)]);
    }
    config
}

/// Returns whether the sampler and the f64 reference may disagree about a token. They may disagree about a token close
/// to a filter's limit, because the sampler's exponentials have errors of up to 0.69 ULP of f32.
fn is_close<E: Element>(logits: &[E], config: &SamplerConfig) -> bool {
    const MARGIN: f64 = 1e-7;
    if config.temperature == 0.0 {
        return false;
    }
    let mut z: Vec<f64> = logits.iter().map(|z| z.widen()).filter(|z| *z > f64::NEG_INFINITY).collect();
    z.sort_by(|a, b| b.total_cmp(a));
    z.truncate(config.top_k.unwrap_or(z.len()));
    let masses: Vec<f64> = z.iter().map(|v| ((v - z[0]) / config.temperature).exp()).collect();
    let total: f64 = masses.iter().sum();
    let mut sum = 0.0;
    let close_to_p = config.top_p.filter(|p| *p < 1.0).is_some_and(|p| {
        masses.iter().any(|mass| {
            sum += mass;
            (sum - p * total).abs() < MARGIN * total
        })
    });
    // All masses are relative to the most likely token, whose mass is therefore exactly 1. Min-p always keeps this
    // token, so the token's mass is not compared with the limit.
    let close_to = |p: f64| masses.iter().any(|mass| *mass != 1.0 && (mass - p).abs() < MARGIN * p.max(1e-6));
    close_to_p || config.min_p.filter(|p| *p > 0.0).is_some_and(close_to)
}

fn support_is_that_of_the_sorted_definition<E: Bits>() {
    let mut rng = generate::rng("sample, support");
    let (mut compared, mut skipped) = (0, 0);
    let lengths = [1usize, 2, 3, 17, 64, 100, 1000, 5000];
    let cases = (0..800).map(|i| lengths[i % lengths.len()]).chain([32_000, 131_072, 262_144, 262_145]);
    for len in cases {
        let logits = any_row::<E>(&mut rng, len);
        let config = any_config(&mut rng, len);
        if is_close(&logits, &config) {
            skipped += 1;
            continue;
        }
        compared += 1;
        let expected = reference::sample(&logits, &config).unwrap();
        each_level(|level| {
            let what = format!("{config:?} on {len} tokens, {level}");
            let got = sampler(config).distribution(&logits, None, Draw::default()).unwrap();
            assert!(got.tokens() == expected.tokens, "{what}: kept {}", differing(got.tokens(), &expected.tokens));
            let probs = got.probs().unwrap();
            assert_eq!(probs.len(), len);
            let kept: Vec<f64> = expected.tokens.iter().map(|&t| probs[t as usize]).collect();
            for (i, (got, expected)) in kept.iter().zip(&expected.probs).enumerate() {
                let is_right = (got - expected).abs() <= 1e-12 * expected + 1e-290;
                assert!(is_right, "{what}: expected probability {expected:e} for kept token {i}, got {got:e}");
            }
            let removed = probs.iter().filter(|p| **p != 0.0).count();
            assert!(
                removed <= kept.len(),
                "{what}: expected at most {} nonzero probabilities, one for each candidate, got {removed}",
                kept.len()
            );
        });
    }
    println!("{}: {compared} rows compared, {skipped} too close to call", E::DTYPE);
    assert!(
        skipped * 20 < compared,
        "sample: at most 1 in 20 rows may be too close to the cut of a filter, got {skipped} of {}",
        compared + skipped
    );
}

fn differing(got: &[u32], expected: &[u32]) -> String {
    let missing: Vec<_> = expected.iter().filter(|t| got.binary_search(t).is_err()).take(5).collect();
    let extra: Vec<_> = got.iter().filter(|t| expected.binary_search(t).is_err()).take(5).collect();
    format!("{} tokens, expected {}; missing {missing:?}, extra {extra:?}", got.len(), expected.len())
}

fn logprobs<E: Bits>() {
    let mut rng = generate::rng("sample, logprobs");
    let checker = Checker::new::<E>("sample");
    for len in [1, 2, 16, 300, 3000] {
        for temperature in [1.0, 0.7, 3.3] {
            let logits = generate::bell::<E>(&mut rng, len, 5.0, 4.0);
            let config = SamplerConfig::default().temperature(temperature).top_k(len.min(200));
            each_level(|level| {
                let distribution = sampler(config).distribution(&logits, None, Draw::default()).unwrap();
                let scaled =
                    |&t: &u32| DoubleDouble::from(logits[t as usize].widen()) / DoubleDouble::from(temperature);
                let z: Vec<DoubleDouble> = distribution.tokens().iter().map(scaled).collect();
                let exact = reference::log_softmax_of(&z).unwrap();
                let entropy = exact.iter().fold(DoubleDouble::from(0.0), |sum, &l| sum - l.exp() * l).to_f64();
                let got: Vec<f64> = distribution.logprobs().collect();
                checker.check_terms(&format!("{len} at {temperature}, {level}"), &[], &got, &exact, &|_| entropy);
            });
        }
    }
}

/// Checks rows with NaN or infinities, fully masked rows, and parameters at the ends of their ranges.
fn outcomes<E: Bits>() {
    let [zero, one, inf, masked, nan] = [0.0, 1.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN].map(E::from_wide);
    let default = SamplerConfig::default();
    let rows = [[one, zero, one], [one, nan, nan], [masked; 3], [inf, zero, inf], [masked, one, masked]].concat();
    each_level(|level| {
        let tokens = |logits: &[E], config| {
            sampler(config).distribution(logits, None, Draw::default()).map(|d| d.tokens().to_vec())
        };
        let got = sampler(default).distributions(Rows::new(&rows, 5, 3).unwrap(), None, &[Draw::default(); 5]).unwrap();
        assert_eq!(got[0].as_ref().unwrap().tokens(), [0, 1, 2]);
        let Err(Error::NonFiniteInput { op: "sample", row: 1, index: 1, value, .. }) = got[1] else {
            panic!("sample: expected a NonFiniteInput error for the NaN in row 1, got {:?} ({level})", got[1]);
        };
        assert!(value.is_nan());
        assert_eq!(got[2], Err(Error::empty_support("sample", 2, 3)));
        assert_eq!(got[4].as_ref().unwrap().tokens(), [1]);

        // Tokens with a logit of +inf have equal probabilities, whatever the filters.
        for config in [default, default.top_k(1), default.top_p(0.1), default.min_p(1.0), default.temperature(0.0)] {
            assert_eq!(
                tokens(&[inf, zero, inf], config),
                Ok(vec![0, 2]),
                "{config:?}: the candidates must be the two tokens with a logit of +inf ({level})"
            );
        }
        let halves = sampler(default).distribution(&[inf, zero, inf], None, Draw::default()).unwrap().probs().unwrap();
        assert_same_bits("infinities", &halves, &[0.5, 0.0, 0.5]);

        assert_eq!(tokens(&[], default), Err(Error::empty_input("sample")));
        let none = Rows::<E>::new(&[], 0, 7).unwrap();
        assert_eq!(sampler(default).sample_rows(none, None, &[] as &[Draw]).unwrap(), vec![]);
        let empty = sampler(default).distributions(Rows::<E>::new(&[], 2, 0).unwrap(), None, &[Draw::default(); 2]);
        assert_eq!(empty, Err(Error::empty_input("sample")));

        // Greedy: the lowest index among equal logits is the only candidate.
        let ties = [zero, one, masked, one, one];
        for config in [default.temperature(0.0), default.temperature(0.0).top_k(3).top_p(0.9), default.top_k(1)] {
            assert_eq!(
                tokens(&ties, config),
                Ok(vec![1]),
                "{config:?}: of the tokens with equal largest logits, only token 1 must be a candidate ({level})"
            );
        }
        let greedy = sampler(default.temperature(0.0)).sample(&ties, Draw { seed: 9, row: 8, draw: 7 }).unwrap();
        assert_eq!((greedy.token, greedy.logprob, greedy.kept), (1, 0.0, 1));

        assert_eq!(tokens(&ties, default.top_k(100)), Ok(vec![0, 1, 3, 4]));
        assert_eq!(tokens(&ties, default.top_p(1.0)), Ok(vec![0, 1, 3, 4]));
        assert_eq!(tokens(&ties, default.min_p(0.0)), Ok(vec![0, 1, 3, 4]));
        assert_eq!(tokens(&ties, default.min_p(1.0)), Ok(vec![1, 3, 4]));
        assert_eq!(tokens(&ties, default.top_p(f64::MIN_POSITIVE)), Ok(vec![1]));
        assert_eq!(tokens(&ties, default.top_p(5e-324)), Ok(vec![1]));
        assert_eq!(tokens(&[one], default.top_k(1).top_p(0.01).min_p(1.0)), Ok(vec![0]));

        // At these temperatures, scaled logits overflow or underflow.
        for (temperature, probs) in
            [(1e-30, [0.0, 1.0]), (1e30, [0.5, 0.5]), (5e-324, [0.0, 1.0]), (f64::MAX, [0.5; 2])]
        {
            let distribution =
                sampler(default.temperature(temperature)).distribution(&[zero, one], None, Draw::default()).unwrap();
            assert_eq!(distribution.tokens(), [0, 1], "temperature {temperature}: both tokens must be candidates");
            let got = distribution.probs().unwrap();
            let is_near = got.iter().zip(probs).all(|(got, p)| (got - p).abs() < 1e-15);
            assert!(is_near, "temperature {temperature}: expected the probabilities {probs:?}, got {got:?} ({level})");
            let drawn = sampler(default.temperature(temperature)).sample(&[zero, one], Draw::default()).unwrap();
            assert!(
                drawn.logprob.is_finite(),
                "temperature {temperature}: expected a finite log-probability, got {drawn:?} ({level})"
            );
        }
        let extreme = [E::from_wide(E::LIMITS.max), E::from_wide(-E::LIMITS.max), zero];
        assert_eq!(tokens(&extreme, default.top_p(0.9)), Ok(vec![0]));
        assert_eq!(tokens(&extreme, default.temperature(1e-300).top_k(2)), Ok(vec![0, 2]));
    });
}

#[test]
fn parameters_beyond_their_range_are_refused() {
    let default = SamplerConfig::default();
    let refused = |config: SamplerConfig| config.validate().unwrap_err().to_string();
    for (value, shown) in [(-1.0, "-1"), (f64::NAN, "NaN"), (f64::INFINITY, "inf"), (f64::NEG_INFINITY, "-inf")] {
        let expected = format!("sample: temperature is {shown}; it must be finite and not negative");
        assert_eq!(refused(default.temperature(value)), expected);
    }
    for (value, shown) in [(0.0, "0"), (-0.5, "-0.5"), (1.5, "1.5"), (f64::NAN, "NaN")] {
        let expected = format!("sample: top_p is {shown}; it must be in (0, 1]");
        assert_eq!(refused(default.top_p(value)), expected);
    }
    for (value, shown) in [(-0.5, "-0.5"), (1.5, "1.5"), (f64::NAN, "NaN")] {
        let expected = format!("sample: min_p is {shown}; it must be in [0, 1]");
        assert_eq!(refused(default.min_p(value)), expected);
    }
    assert_eq!(refused(default.top_k(0)), "sample: top_k is 0; it must be at least 1");
    let config = default.temperature(0.0).top_k(1).top_p(1.0).min_p(0.0);
    assert_eq!(sampler(config).config(), &config);
}

#[test]
fn vocabularies_end_where_masses_would_overflow() {
    let logits = vec![half::bf16::ZERO; (1 << 21) + 1];
    let sampler = sampler(SamplerConfig::default().top_k(3));
    assert_eq!(sampler.distribution(&logits[1..], None, Draw::default()).unwrap().tokens(), [0, 1, 2]);
    let refused = sampler.distribution(&logits, None, Draw::default()).unwrap_err();
    assert_eq!(refused.to_string(), "sample: vocabulary is 2097153; it must be at most 2097152");
}

#[test]
fn what_rows_were_met_is_reported() {
    let [inf, nan] = [f32::INFINITY, f32::NAN];
    let rows =
        [[nan, 0.0], [0.0, nan], [-inf; 2], [-inf; 2], [-inf; 2], [inf, 0.0], [0.0, inf], [inf; 2], [inf; 2], [0.0; 2]];
    let logits = rows.concat();
    let run = || {
        sampler(SamplerConfig::default()).distributions(
            Rows::new(&logits, rows.len(), 2).unwrap(),
            None,
            &[Draw::default(); 10],
        )
    };
    let (distributions, report) = report::scope(run);
    assert_eq!(distributions.unwrap().iter().filter(|row| row.is_ok()).count(), 5);
    let expected = "sample: 3 of 10 rows fully masked, 2 of 10 rows with NaN, 4 of 10 rows with infinity";
    assert_eq!(report.to_string(), expected);
}

/// Checks cases for which inference engines have different definitions. The expected results follow the definitions of
/// this crate.
#[test]
fn cuts_follow_the_order_of_logits_and_then_of_indices() {
    let default = SamplerConfig::default();
    let steps: Vec<f64> = (0..10).map(|i| (9 - i) as f64 / 10.0).collect();
    for (logits, config, expected) in [
        (&[0.0; 4][..], default.top_p(0.5), &[0, 1][..]),
        (&[3.0, 1.0, 1.0, 0.0], default.top_k(2), &[0, 1]),
        (&[1.0, 1.0, 3.0, 0.0], default.top_k(2), &[0, 2]),
        // Top-p is relative to the tokens that top-k kept.
        (&steps, default.top_k(4).top_p(0.4), &[0, 1]),
        (&steps, default.top_k(4).top_p(0.5), &[0, 1]),
        (&steps, default.top_k(4).top_p(0.6), &[0, 1, 2]),
        (&[0.0, -std::f64::consts::LN_2], default.min_p(0.5), &[0, 1]),
        // Temperature is applied first, min-p last.
        (&[2.0, 1.0, 0.0, -1.0], default.temperature(2.0).top_p(0.8), &[0, 1, 2]),
        (&[3.0, 2.0, 1.0, 0.5, 0.0], default.min_p(0.1).top_p(0.9), &[0, 1, 2]),
    ] {
        each_level(|level| {
            let got = sampler(config).distribution(logits, None, Draw::default()).unwrap();
            assert_eq!(
                got.tokens(),
                expected,
                "{config:?}, logits {logits:?}: the filters must keep the tokens {expected:?} ({level})"
            );
        });
        assert_eq!(
            reference::sample(logits, &config).unwrap().tokens,
            expected,
            "{config:?}, logits {logits:?}: the filters of the reference must keep the tokens {expected:?}"
        );
    }
}

/// Checks top-p on tokens with equal logits. All tokens have the same share of the total mass, so the expected number
/// of kept tokens is exact.
#[test]
fn ties_are_cut_exactly() {
    for n in [2usize, 3, 4, 7, 10, 64, 100, 1000] {
        let logits = vec![1.25f32; n];
        for kept in 1..n.min(40) {
            let near = kept as f64 / n as f64;
            for p in [near, near.next_up(), near.next_down()] {
                // `expected` is the smallest integer that is at least p times n. The fused multiply-add does not round
                // this product.
                let expected = if p.mul_add(n as f64, -(kept as f64)) > 0.0 { kept + 1 } else { kept };
                let tokens: Vec<u32> = (0..expected as u32).collect();
                each_level(|level| {
                    let got = sampler(SamplerConfig::default().top_p(p))
                        .distribution(&logits, None, Draw::default())
                        .unwrap();
                    assert_eq!(
                        got.tokens(),
                        tokens,
                        "top-p {p:e} must keep {expected} of {n} tokens with equal logits ({level})"
                    );
                });
            }
        }
    }
}

/// Checks logits so close that their weights are equal or adjacent. Some logits lie where the exponential switches to
/// another entry of its table.
#[test]
fn neighbours_are_cut_in_order() {
    const TOKENS: usize = 3000;
    let step = std::f64::consts::LN_2 / 8.0;
    let mut rng = generate::rng("sample, neighbours");
    for case in 0..400 {
        let temperature = [1.0, 0.7, 2.0][case % 3];
        let max = [0.0, 5.0, -3.0][case / 3 % 3];
        // All logits except the largest are close to the value `about`. In half of the cases, the exponential switches
        // to another entry of its table at this value.
        let below = rng.random_range(0..60) as f64 + [0.5, rng.random_range(0.0..1.0)][case % 2];
        let about = max - below * step * temperature;
        let spread = 10f64.powf(rng.random_range(-12.0..-5.0));
        let mut logits: Vec<f32> = (0..TOKENS).map(|_| (about + spread * rng.random_range(-1.0..1.0)) as f32).collect();
        logits[TOKENS / 3] = max as f32;
        let mut order: Vec<usize> = (0..TOKENS).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        let mass = |i: usize| ((f64::from(logits[i]) - max) / temperature).exp();
        let total: f64 = (0..TOKENS).map(mass).sum();
        let kept = rng.random_range(2..TOKENS - 1);
        let reached: f64 = order[..kept].iter().map(|&i| mass(i)).sum();
        // p lies in the middle of the last token's mass, so rounding of the masses cannot change the result.
        let p = (reached - mass(order[kept - 1]) / 2.0) / total;
        let mut expected: Vec<u32> = order[..kept].iter().map(|&i| i as u32).collect();
        expected.sort_unstable();
        each_level(|level| {
            let config = SamplerConfig::default().temperature(temperature).top_p(p);
            let got = sampler(config).distribution(&logits, None, Draw::default()).unwrap();
            let what =
                format!("{kept} of {TOKENS} about {about}, {spread:e} apart, temperature {temperature}, {level}");
            assert!(got.tokens() == expected, "{what}: kept {}", differing(got.tokens(), &expected));
        });
    }
}

/// Checks that a masked token is never drawn, for every kind of mask. A bias is added before the division by the
/// temperature.
fn masks<E: Bits>() {
    let mut rng = generate::rng("sample, masks");
    let (rows, cols) = (4, 37);
    let logits: Vec<E> = (0..rows).flat_map(|_| generate::bell::<E>(&mut rng, cols, 0.0, 2.0)).collect();
    let keep: Vec<bool> = (0..rows * cols).map(|_| rng.random_bool(0.4)).collect();
    let bias: Vec<f64> = keep.iter().map(|&k| if k { 0.0 } else { f64::NEG_INFINITY }).collect();
    let spoilt: Vec<E> = logits.iter().zip(&keep).map(|(&x, &k)| if k { x } else { E::NAN }).collect();
    let shape = [rows, cols];
    let config = SamplerConfig::default().temperature(3.0);
    each_level(|level| {
        let by_keep = Mask::keep(&keep, &shape);
        let by_bias = Mask::bias(&bias, &shape);
        let of = |logits: &[E], mask: &Mask<'_>| {
            sampler(config)
                .distributions(Rows::new(logits, rows, cols).unwrap(), Some(mask), &[Draw::default(); 4])
                .unwrap()
        };
        // Logits that a keep flag masks are not read.
        let kept = of(&spoilt, &by_keep);
        assert_eq!(kept, of(&logits, &by_keep), "{level}: the distribution must not depend on masked logits");
        assert_eq!(
            kept,
            of(&logits, &by_bias),
            "{level}: a mask of flags and an equal mask of biases must give the same distribution"
        );
        for (r, row) in kept.iter().enumerate() {
            let row = row.as_ref().unwrap();
            let expected: Vec<u32> = (0..cols as u32).filter(|&t| keep[r * cols + t as usize]).collect();
            assert_eq!(row.tokens(), expected, "row {r}, {level}: sample must keep the unmasked tokens {expected:?}");
            for draw in 0..2000 {
                let token = row.draw(Draw { seed: 1, row: r as u64, draw }).token;
                assert!(
                    keep[r * cols + token as usize],
                    "sample: expected an unmasked token in row {r}, got token {token} ({level})"
                );
            }
        }
        let none = vec![false; cols];
        let refused = sampler(config).distribution(&logits[..cols], Some(&Mask::keep(&none, &[cols])), Draw::default());
        assert_eq!(refused, Err(Error::empty_support("sample", 0, cols)));

        let shifts: Vec<f64> = (0..cols).map(|i| f64::from(i as u8) / 8.0).collect();
        let shifted: Vec<f64> = logits[..cols].iter().zip(&shifts).map(|(x, s)| x.widen() + s).collect();
        let got = sampler(config)
            .distribution(&logits[..cols], Some(&Mask::bias(&shifts, &[cols])), Draw::default())
            .unwrap();
        let expected = sampler(config).distribution(&shifted, None, Draw::default()).unwrap();
        let is_near = |(a, b): (f64, f64)| (a - b).abs() < 1e-12;
        assert!(
            got.logprobs().zip(expected.logprobs()).all(is_near),
            "sample with a bias mask: expected the same log-probabilities as for logits + bias ({level})"
        );
    });
}
