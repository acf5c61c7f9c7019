//! Checks that samplers allocate nothing once their buffers have grown, because an allocation could delay a step of an
//! inference engine. Also checks how much memory ops keep for later calls.

#![forbid(unsafe_code)]

#[macro_use]
mod support;

use allocation_counter::measure;
use evenkeel::simd::level;
use evenkeel::{
    Attention, Draw, Heads, Mask, Request, RmsNorm, Rope, RopeTable, Rows, SamplerConfig, Sequence, attention,
    attention_backward, release_scratch, rms_norm_backward, sample_rows_into,
};
use half::bf16;
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
        c.logprob(false),
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
                    assert!(
                        drawn.iter().all(Result::is_ok),
                        "{config:?}: expected one token for each row, got {drawn:?}"
                    );
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

/// Calls one op for each kind of buffer. Returns how many bytes each call leaves allocated. `features` holds the number
/// of features per head: first for attention, then for its gradient.
fn bytes_left(row: &[bf16], logits: &[f64], features: [usize; 2]) -> [i64; 4] {
    let rows = Rows::new(row, 1, row.len()).unwrap();
    let sampler = SamplerConfig::default().top_p(0.9).validate().unwrap();
    let [forward, backward] = features.map(|features| vec![0.5f32; features]);
    let heads = |x| Heads::new(x, [1, 1, 1, x.len()]).unwrap();
    let ([x, y], options) = ([&forward, &backward].map(|x| heads(x)), Attention::default());
    [
        measure(|| drop(rms_norm_backward(rows, rows, &RmsNorm::default()).unwrap())),
        measure(|| _ = sampler.sample(logits, Draw::default()).unwrap()),
        measure(|| drop(attention(x, x, x, &options).unwrap())),
        measure(|| drop(attention_backward(y, y, y, y, &options).unwrap())),
    ]
    .map(|allocations| allocations.bytes_current)
}

#[test]
fn threads_keep_small_buffers_until_they_are_released() {
    on_threads(1, level().unwrap(), || {
        let (row, logits) = (vec![bf16::ONE; 131_072], vec![1.0; 131_072]);
        let kept = bytes_left(&row, &logits, [128, 128]);
        assert!(
            kept.iter().all(|bytes| (1..=32 << 20).contains(bytes)),
            "expected each call to keep buffers between 1 byte and 32 MiB, but the calls kept {kept:?} bytes"
        );
        let again = bytes_left(&row, &logits, [128, 128]);
        assert_eq!(again, [0; 4], "the second call of an op must use the buffers that the first call left");
        let released = measure(release_scratch).bytes_current;
        assert_eq!(released, -kept.iter().sum::<i64>(), "`release_scratch` must free the buffers of all ops");

        // Here, the buffers of a single row, or of a single query and key, exceed 32 MiB. Ops free such buffers at the
        // end of the call.
        let (row, logits) = (vec![bf16::ONE; 8 << 20], vec![1.0; 2 << 20]);
        let left = bytes_left(&row, &logits, [1 << 15, 1 << 18]);
        assert!(
            left.iter().all(|bytes| *bytes < 1 << 20),
            "a call must free buffers above 32 MiB at its end, but the calls left {left:?} bytes"
        );
    });
}

/// candle keeps a clone of the table with each tensor whose gradient it tracks.
#[test]
fn clones_of_a_rope_table_share_its_memory() {
    let positions: Vec<i64> = (0..1000).collect();
    let table = RopeTable::new(&positions, 64, &Rope::default()).unwrap();
    let bytes = measure(|| assert_eq!(table.clone(), table)).bytes_total;
    assert!(bytes < 1000, "a clone must not copy the table of 512,000 bytes, but it allocated {bytes} bytes");
}
