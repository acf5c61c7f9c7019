//! Compares the times of moshi's own functions with those of Evenkeel's functions that replace them. Each function and
//! its replacement run in turns, and the shortest times are printed:
//!
//! ```sh
//! tools/engines/run moshi --keep
//! cd target/engines/moshi/rust
//! cargo test --release -p moshi --test times -- --ignored --nocapture
//! ```

use candle::{Device, Result, Tensor};
use candle_nn::{ops::softmax_last_dim, sampling::gumbel_softmax};
use moshi::guarded;
use std::hint::black_box;
use std::time::Instant;

const CPU: Device = Device::Cpu;
const REPETITIONS: usize = 400;

fn compare(name: &str, mut before: impl FnMut() -> Result<()>, mut after: impl FnMut() -> Result<()>) -> Result<()> {
    let time = |f: &mut dyn FnMut() -> Result<()>| {
        let start = Instant::now();
        f()?;
        Ok::<_, candle::Error>(start.elapsed().as_secs_f64() * 1e6)
    };
    let mut least = [f64::INFINITY; 2];
    for _ in 0..REPETITIONS {
        least[0] = least[0].min(time(&mut before)?);
        least[1] = least[1].min(time(&mut after)?);
    }
    let [before, after] = least;
    println!("{name}: before {before:.1} us, after {after:.1} us, {:.2} times as fast", before / after);
    Ok(())
}

#[test]
#[ignore = "measures times"]
fn draws_of_a_step() -> Result<()> {
    for (streams, tokens) in [(1, 8_000), (8, 8_000), (1, 49_152)] {
        let logits = Tensor::randn(0f32, 3.0, (streams, tokens), &CPU)?;
        let before = || {
            black_box(gumbel_softmax(&logits, 0.8, 1)?.to_vec1::<u32>()?);
            Ok(())
        };
        let steps = vec![7; streams];
        let after = || {
            black_box(guarded::sample(&logits, 0.8, &steps)?);
            Ok(())
        };
        compare(&format!("draw of {streams} x {tokens} tokens"), before, after)?;
    }
    Ok(())
}

#[test]
#[ignore = "measures times"]
fn attention_of_a_step() -> Result<()> {
    // The sizes are those of speech recognition with 1 and with 8 streams, and of the language model.
    for (batch, heads, keys, features) in [(1, 16, 750, 128), (8, 16, 750, 128), (1, 32, 3000, 128)] {
        let random = |steps| Tensor::randn(0f32, 1.0, (batch, heads, steps, features), &CPU);
        let (q, k, v) = (random(1)?, random(keys)?, random(keys)?);
        // The last 10 keys are masked.
        let bias: Vec<_> =
            (0..batch * keys).map(|i| if i % keys + 10 < keys { 0.0 } else { f32::NEG_INFINITY }).collect();
        let bias = Tensor::from_vec(bias, (batch, 1, 1, keys), &CPU)?;
        let mask = guarded::mask(&bias)?;
        let before = || {
            let scores = (q.matmul(&k.t()?)? * (features as f64).powf(-0.5))?.broadcast_add(&bias)?;
            black_box(softmax_last_dim(&scores)?.matmul(&v)?);
            Ok(())
        };
        let after = || {
            black_box(guarded::attention(&q, &k, &v, Some(&mask))?);
            Ok(())
        };
        compare(&format!("attention of {batch} x {heads} heads over {keys} x {features}"), before, after)?;
    }
    Ok(())
}
