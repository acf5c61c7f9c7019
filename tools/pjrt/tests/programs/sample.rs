//! Tests of sample: candidates are in exact order, and tokens equal the tokens drawn from the whole row.

use crate::support::{Device, Matrix, rng};
use evenkeel::neuron::{self, Candidates, Execute, run};
use evenkeel::testing::values::Bits;
use evenkeel::{Draw, Mask, Profile, Request, SamplerConfig, Step, sample_rows};
use rand::RngExt;

mod tests {
    crate::support::for_each_dtype!(candidates, tokens, masked);
}

/// Returns rows of logits, many of which have equal values.
fn rows<E: Bits>(cols: usize) -> Matrix<E> {
    let mut rng = rng();
    let mut x = Matrix::new(cols);
    x.push_random(&mut rng, &[0.1, 2.0, 2.0, 100.0]);
    let steps: Vec<E> = (0..cols).map(|_| E::from_wide(f64::from(rng.random_range(-3..4)))).collect();
    x.push("few values", &steps);
    x.push("equal", &vec![E::from_wide(-1.5); cols]);
    let lowest: Vec<E> = (0..cols).map(|i| E::from_wide(if i % 9 == 4 { 1.0 } else { -E::LIMITS.max })).collect();
    x.push("lowest fills", &lowest);
    let masked: Vec<E> = (0..cols).map(|i| if i % 9 == 4 { steps[i] } else { E::NEG_INFINITY }).collect();
    x.push("masked but a few", &masked);
    x.push("all masked", &vec![E::NEG_INFINITY; cols]);
    x.push("all lowest", &vec![E::from_wide(-E::LIMITS.max); cols]);
    for (name, value) in [("NaN", E::NAN), ("+inf", E::INFINITY)] {
        x.push_random(&mut rng, &[2.0]);
        x.push_with(name, value);
    }
    x
}

fn candidates<E: Bits>(device: &Device) {
    let (cols, count) = (90, 12);
    let x = rows::<E>(cols);
    let program = neuron::sample(E::DTYPE, x.rows(), cols, count, None).unwrap();
    let outputs = device.execute(&program, &[&x.bytes()]).unwrap();
    let words = |output: &[u8]| output.as_chunks::<4>().0.to_vec();
    let [logits, tokens, ties, status] = [0, 1, 2, 3].map(|i| words(&outputs[i]));
    for (row, name) in x.names.iter().enumerate() {
        let of_row = x.row(row).iter().map(|x| x.widen() as f32).enumerate();
        let mut live: Vec<(usize, f32)> = of_row.filter(|(_, x)| x.is_finite()).collect();
        live.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        for i in 0..count {
            let token = i32::from_le_bytes(tokens[row * count + i]) as usize;
            let expected = live.get(i).map_or(cols, |(token, _)| *token);
            assert_eq!(token, expected, "{name}: candidate {i} must have the token at index {i} of the sorted row");
            if let Some((_, logit)) = live.get(i) {
                assert_eq!(
                    f32::from_le_bytes(logits[row * count + i]),
                    *logit,
                    "{name}: candidate {i} must have the logit at index {i} of the sorted row"
                );
            }
        }
        let last = live.get(count - 1).map(|(_, logit)| *logit);
        let expected = live.iter().skip(count).filter(|(_, logit)| Some(*logit) == last).count();
        assert_eq!(
            i32::from_le_bytes(ties[row]) as usize,
            expected,
            "{name}: the number of ties must equal the number of ties in the sorted row"
        );
        let expected = match &name[..] {
            "NaN" => 3,
            "+inf" => 2,
            "all masked" => 1,
            _ => 0,
        };
        assert_eq!(i32::from_le_bytes(status[row]), expected, "{name}: status");
    }
}

/// Configurations for which 20 candidates suffice, and some for which they may not.
fn configs() -> Vec<SamplerConfig> {
    let all = SamplerConfig::default();
    let hugging_face = all.profile(Profile::HuggingFace);
    vec![
        all.temperature(0.0),
        all.top_k(1),
        all.top_k(20).temperature(0.7).top_p(0.9),
        all.top_k(7).temperature(1e-4),
        all.top_k(20).temperature(1e4).min_p(0.5),
        all.top_k(5).typical_p(0.5),
        hugging_face.top_k(20).temperature(0.7).top_p(0.9),
        hugging_face.top_k(3),
        all.profile(Profile::LlamaCpp).top_k(20).temperature(0.7),
        all.profile(Profile::Candle).top_k(20).top_p(0.9),
        all.profile(Profile::Vllm).top_k(20).top_p(0.9),
        all.top_p(0.9),
        all.top_k(50),
        all.top_k(20).repetition_penalty(1.3),
        all.min_p(0.05),
    ]
}

fn tokens<E: Bits>(device: &Device) {
    let x = rows::<E>(90);
    for (i, config) in configs().into_iter().enumerate() {
        let sampler = config.validate().unwrap();
        let step = |row: usize| Step::from(Draw { seed: 3, row: row as u64, draw: i as u64 }).output(&[4, 5]);
        let requests: Vec<Request<'_>> =
            (0..x.rows()).map(|row| Request { sampler: &sampler, step: step(row) }).collect();
        let ours = run::sample_rows(device, x.view(), None, 20, &requests).unwrap();
        let host = sample_rows(x.view(), None, &requests).unwrap();
        for (row, name) in x.names.iter().enumerate() {
            assert_eq!(ours[row], host[row], "{name}, {config:?}: the device must return the same result as the host");
        }
    }
}

fn masked<E: Bits>(device: &Device) {
    let (x, mut rng) = (rows::<E>(90), rng());
    let keep: Vec<bool> = (0..x.data.len()).map(|i| i / 90 != 1 && rng.random_bool(0.3)).collect();
    let mask = Mask::keep(&keep, &[x.rows(), 90]);
    let sampler = SamplerConfig::default().top_k(20).temperature(0.7).top_p(0.9).validate().unwrap();
    let step = |row: usize| Step::from(Draw { seed: 3, row: row as u64, draw: 0 });
    let requests: Vec<Request<'_>> = (0..x.rows()).map(|row| Request { sampler: &sampler, step: step(row) }).collect();
    let ours = run::sample_rows(device, x.view(), Some(&mask), 20, &requests).unwrap();
    let host = sample_rows(x.view(), Some(&mask), &requests).unwrap();
    assert_eq!(format!("{ours:?}"), format!("{host:?}"));
    assert_eq!(ours[1].as_ref().map_err(|error| (error.name(), error.row())), Err(("EmptySupport", Some(1))));
}

/// Tests the largest number of candidates, on a larger vocabulary.
#[test]
fn most_candidates() {
    crate::support::on_each_device("most_candidates", |device| {
        let mut x = Matrix::<half::bf16>::new(600);
        x.push_random(&mut rng(), &[2.0, 2.0]);
        let sampler = SamplerConfig::default().top_k(neuron::MAX_CANDIDATES).temperature(2.0).validate().unwrap();
        let requests: Vec<Request<'_>> =
            (0..2).map(|row| Request { sampler: &sampler, step: Step::from(Draw { seed: 5, row, draw: 0 }) }).collect();
        let ours = run::sample_rows(device, x.view(), None, neuron::MAX_CANDIDATES, &requests).unwrap();
        assert_eq!(ours, sample_rows(x.view(), None, &requests).unwrap());
        assert!(ours.iter().all(|sampled| sampled.as_ref().is_ok_and(|sampled| sampled.kept == 256)));
    });
}

#[test]
fn candidates_that_do_not_suffice() {
    let sampler = |config: SamplerConfig| config.validate().unwrap();
    let step = Step::from(Draw::default());
    let draw = |ties: i32, config: SamplerConfig| {
        let found = Candidates::new(&[3.0, 2.0, 2.0], &[7, 1, 4], ties, 9).unwrap();
        found.draw(Request { sampler: &sampler(config), step }).unwrap()
    };
    let (ours, others) = (SamplerConfig::default(), SamplerConfig::default().profile(Profile::HuggingFace));
    assert_eq!(draw(5, ours.temperature(0.0)).map(|sampled| sampled.token), Some(7));
    assert!(draw(5, ours.top_k(3)).is_some());
    assert!(draw(5, ours.top_k(4)).is_none());
    assert!(draw(0, others.top_k(3)).is_some());
    assert!(draw(1, others.top_k(3)).is_none());
    assert!(draw(1, others.top_k(2)).is_none());
    assert!(draw(1, others.top_k(1)).is_some());
    assert!(draw(0, ours).is_none());
    // All three tokens are candidates, so the fourth place is empty.
    let found = Candidates::new(&[3.0, 2.0, 2.0, f32::MIN], &[7, 1, 4, 9], 0, 9).unwrap();
    assert!(found.draw(Request { sampler: &sampler(ours), step }).unwrap().is_some());
    for (tokens, ties) in [([7, 10, 4], 0), ([7, -1, 4], 0), ([7, 9, 4], 0), ([7, 1, 4], -1)] {
        assert!(
            Candidates::new(&[3.0, 2.0, 2.0], &tokens, ties, 9).is_err(),
            "the candidates {tokens:?} with {ties} ties must be rejected"
        );
    }
}
