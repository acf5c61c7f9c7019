//! Checks that samplers allocate nothing once their buffers have grown, because an allocation could delay a step of an
//! inference engine.

#![forbid(unsafe_code)]

#[macro_use]
mod support;

use allocation_counter::measure;
use evenkeel::{Draw, Mask, Request, Rows, SamplerConfig, Sequence, sample_rows_into};
use support::generate::{self, Bits};
use support::implementations::{each_level, on_threads};

const ROWS: usize = 3;
const VOCABULARY: usize = 5000;

for_each_dtype!(later_steps_allocate_nothing);

fn configs() -> Vec<SamplerConfig> {
    let c = SamplerConfig::default();
    let penalised = c.repetition_penalty(1.2).frequency_penalty(0.1).presence_penalty(0.1);
    vec![
        c,
        c.temperature(0.0),
        c.temperature(0.7).top_k(40).top_p(0.9).min_p(0.05),
        c.top_p(0.95),
        c.min_p(0.02),
        c.typical_p(0.9),
        c.typical_p(0.9).min_keep(7),
        c.top_n_sigma(1.5),
        c.eta_cutoff(1e-3),
        c.dynamic_temperature(0.5, 1.0),
        c.xtc(1.0, 0.01),
        c.min_keep(5).top_p(0.5).min_p(0.1),
        penalised.top_k(50),
        penalised.dry(0.8, 1.75, 2),
        c.mirostat(1, 5.0, 0.1),
        c.mirostat(2, 5.0, 0.1),
        c.min_p(0.02).adaptive_p(0.3, 0.9),
    ]
}

fn later_steps_allocate_nothing<E: Bits>() {
    let mut rng = generate::rng("allocations");
    let logits = generate::bell::<E>(&mut rng, ROWS * VOCABULARY, 0.0, 3.0);
    let keep: Vec<bool> = (0..VOCABULARY).map(|i| i % 7 != 0).collect();
    let mask = Mask::keep(&keep, &[VOCABULARY]);
    let words = vec![0xfdff_ffff; VOCABULARY.div_ceil(32)];
    let prompt: Vec<u32> = (0..200).map(|i| i % 50).collect();
    each_level(|level| {
        for config in configs() {
            let sampler =
                config.validate().unwrap_or_else(|e| panic!("expected the options {config:?} to be valid, got: {e}"));
            let sequences: Vec<Sequence> = (0..ROWS as u64).map(|row| sampler.sequence(1, &prompt).row(row)).collect();
            for (mask, allowed) in [(None, None), (Some(&mask), None), (None, Some(&words[..]))] {
                let mut drawn = Vec::new();
                let mut step = || {
                    let request = |row: usize| Request { sampler: &sampler, step: sequences[row].step(allowed) };
                    let rows = Rows::new(&logits, ROWS, VOCABULARY).unwrap();
                    sample_rows_into(rows, mask, request, &mut drawn).unwrap();
                    assert!(drawn.iter().all(Result::is_ok), "{config:?}: expected one token a row, got {drawn:?}");
                    sampler.sample(&logits[..VOCABULARY], Draw::default()).unwrap();
                };
                on_threads(1, level, || {
                    step();
                    let allocations = measure(&mut step).count_total;
                    let (mask, allowed) = (mask.is_some(), allowed.is_some());
                    assert_eq!(
                        allocations, 0,
                        "{config:?}, mask {mask}, allowed tokens {allowed}, {level}: sampling must not allocate memory"
                    );
                });
            }
        }
    });
}
