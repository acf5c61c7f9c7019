//! Prints the time of a sampling step of rten, from logits to a token: the shortest of 200, in µs.

use rten_generate::Logits;
use rten_generate::filter::{Chain, LogitsFilter};
use rten_generate::sampler::{ArgMax, Multinomial, Sampler};
use std::hint::black_box;
use std::time::{Duration, Instant};

const VOCABULARY: usize = 49_152;

fn time(name: &str, chain: Option<Chain>, sampler: &dyn Sampler) {
    // A permutation of evenly spaced logits from -12 to 12.
    let logits: Vec<f32> = (0..VOCABULARY).map(|i| (i * 7919 % VOCABULARY) as f32 / 2048.0 - 12.0).collect();
    let mut shortest = Duration::MAX;
    for _ in 0..200 {
        let mut logits = Logits::dense(logits.clone());
        let start = Instant::now();
        if let Some(chain) = &chain {
            logits = chain.filter(logits, &[]);
        }
        let _ = black_box(sampler.sample(&logits));
        shortest = shortest.min(start.elapsed());
    }
    println!("{name}: {:.0} µs", shortest.as_secs_f64() * 1e6);
}

#[test]
fn times() {
    time("greedy", None, &ArgMax::new());
    time("probability", None, &Multinomial::with_seed(1));
    time("temperature 0.7, top-k 50", Some(Chain::new().temperature(0.7).top_k(50)), &Multinomial::with_seed(1));
}
