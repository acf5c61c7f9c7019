//! Checks that top-p keeps the shortest possible prefix of the sorted tokens. The integer masses of the prefix must
//! reach p. Most of the tested logits lie where the exponential switches to another entry of its table, because the
//! masses of neighbouring logits are closest there. Every form of the sampler is checked.

use crate::support::generate::{self, Bits};
use crate::support::implementations::each_level;
use evenkeel::sharded::{Sharded, Threads};
use evenkeel::{Draw, Profile, Request, Rows, Sampled, Sampler, SamplerConfig, sample_rows};
use half::bf16;
use rand::RngExt;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use std::time::Duration;

/// Width of the range of arguments in which the exponential uses one table entry.
const STEP: f64 = std::f64::consts::LN_2 / 8.0;
/// Number of ranges of width [`STEP`] between 0 and -32. Lower arguments give masses of zero.
const STEPS: i32 = 368;
const TOKENS: usize = 6;

fn kept<E: Bits>(logits: &[E], config: SamplerConfig) -> Vec<u32> {
    config.validate().unwrap().distribution(logits, None, Draw::default()).unwrap().tokens().to_vec()
}

/// Checks that the smaller of two adjacent f32 logits does not get the larger mass. Otherwise, top-p would keep all
/// three tokens of this row instead of two.
#[test]
fn a_larger_logit_is_not_passed_over() {
    let logits = [8.451358f32, 0.0036263466, 0.0036263464];
    let config = SamplerConfig::default().top_p(0.9997);
    each_level(|level| {
        assert_eq!(kept(&logits, config), [0, 1], "top-p of f32 logits, {level}: expected to keep tokens 0 and 1");
        assert_eq!(
            kept(&logits.map(f64::from), config),
            [0, 1],
            "top-p of f64 logits, {level}: expected to keep tokens 0 and 1"
        );
    });
}

/// Logits with a configuration that uses top-p. `expected` lists the tokens that top-p keeps if the same logits are
/// f64.
struct Cut<E> {
    logits: Vec<E>,
    config: SamplerConfig,
    expected: Vec<u32>,
}

/// Returns the largest p that keeps at most `count` tokens.
fn largest_share(logits: &[f64], config: SamplerConfig, count: usize) -> f64 {
    // The bit patterns of positive floats are in the same order as the floats.
    let (mut low, mut high) = (f64::MIN_POSITIVE.to_bits(), 1f64.to_bits());
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if kept(logits, config.top_p(f64::from_bits(middle))).len() <= count { low = middle } else { high = middle }
    }
    f64::from_bits(low)
}

/// Adds two rows for each count. The p of the first row is the largest that keeps `count` tokens. The p of the second
/// row is the next larger f64, and keeps one token more.
fn add_cuts<E: Bits>(logits: &[E], config: SamplerConfig, cuts: &mut Vec<Cut<E>>) {
    let wide: Vec<f64> = logits.iter().map(|z| z.widen()).collect();
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    order.sort_by(|a, b| wide[*b as usize].total_cmp(&wide[*a as usize]).then(a.cmp(b)));
    for count in 1..logits.len() - 1 {
        let p = largest_share(&wide, config, count);
        for (p, count) in [(p, count), (p.next_up(), count + 1)] {
            let mut expected = order[..count].to_vec();
            expected.sort_unstable();
            cuts.push(Cut { logits: logits.to_vec(), config: config.top_p(p), expected });
        }
    }
}

/// Returns four negative arguments at which the exponential may switch its table entry. Each is the midpoint of two
/// adjacent f32 values.
fn ends_of_step(step: i32) -> [f64; 4] {
    let near = (-(f64::from(step) - 0.5) * STEP) as f32;
    let [far, below, above, close] =
        [near.next_down().next_down(), near.next_down(), near.next_up(), near.next_up().next_up()];
    [[far, below], [below, near], [near, above], [above, close]].map(|[a, b]| (f64::from(a) + f64::from(b)) / 2.0)
}

/// Generates rows of six tokens. One token has the largest logit. The logits of the other five are adjacent numbers.
/// The exponentials of two adjacent numbers may use different entries of the exponential's table.
fn cuts_of_neighbours<E: Bits>(rng: &mut SmallRng, neighbour: impl Fn(E, bool) -> E) -> Vec<Cut<E>> {
    let mut cuts = Vec::new();
    for (i, temperature) in [1.0, 0.7, 1.0 / 3.0].into_iter().enumerate() {
        for step in (1 + i as i32..STEPS).step_by(if i == 0 { 1 } else { 7 }) {
            for end in ends_of_step(step) {
                // The five adjacent logits are near 0, where floats are closest. The largest logit is chosen so that
                // the exponential switches its table entry at these five logits.
                let small = 2f64.powf(rng.random_range(-14.0..-4.0)) * [1.0, -1.0][usize::from(rng.random_bool(0.5))];
                let max = E::from_wide(small - end * temperature);
                let mut near = E::from_wide(max.widen() + end * temperature);
                near = neighbour(neighbour(near, true), true);
                let mut logits = vec![max];
                for _ in 1..TOKENS {
                    logits.push(near);
                    near = neighbour(near, false);
                }
                logits[1..].shuffle(rng);
                add_cuts(&logits, SamplerConfig::default().temperature(temperature), &mut cuts);
            }
        }
    }
    cuts
}

/// Checks the kept tokens of single rows, of a batch with parameters per row, and of columns sharded over ranks.
fn assert_cuts<E: Bits>(name: &str, cuts: &[Cut<E>]) {
    for Cut { logits, config, expected } in cuts {
        assert_eq!(
            kept(logits, *config),
            *expected,
            "{name}, {config:?}, logits {logits:?}: the filters must keep the tokens {expected:?}"
        );
    }
    let samplers: Vec<Sampler> = cuts.iter().map(|cut| cut.config.validate().unwrap()).collect();
    let step = |row: usize| Draw { seed: 1, row: row as u64, draw: 2 }.into();
    let requests: Vec<Request<'_>> =
        samplers.iter().enumerate().map(|(row, sampler)| Request { sampler, step: step(row) }).collect();
    let logits: Vec<E> = cuts.iter().flat_map(|cut| cut.logits.iter().copied()).collect();
    let whole = sample_rows(Rows::new(&logits, cuts.len(), TOKENS).unwrap(), None, &requests).unwrap();
    let same = |how: &str, sampled: &[evenkeel::Result<Sampled>]| {
        for (cut, sampled) in cuts.iter().zip(sampled) {
            let count = sampled.as_ref().unwrap().kept;
            assert_eq!(
                count,
                cut.expected.len(),
                "{name}, {how}: the filters must keep {} tokens of the logits {:?} with {:?}",
                cut.expected.len(),
                cut.logits,
                cut.config
            );
        }
    };
    same("in a batch", &whole);
    let halves = [0..2, 2..TOKENS];
    std::thread::scope(|scope| {
        for (comm, columns) in Threads::new(2, Duration::from_secs(60)).unwrap().into_iter().zip(&halves) {
            let (logits, requests, same) = (&logits, &requests, &same);
            scope.spawn(move || {
                let own: Vec<E> = logits.chunks(TOKENS).flat_map(|row| row[columns.clone()].to_vec()).collect();
                let rows = Rows::new(&own, requests.len(), columns.len()).unwrap();
                same("sharded", &Sharded::new(&comm, columns.clone(), TOKENS).sample(rows, None, requests).unwrap());
            });
        }
    });
    println!("{name}: {} cuts", cuts.len());
}

#[test]
fn neighbours_at_the_ends_of_steps_are_cut_by_their_logits() {
    let mut rng = generate::rng("sample, ends of steps");
    assert_cuts("f32", &cuts_of_neighbours(&mut rng, |z: f32, up| if up { z.next_up() } else { z.next_down() }));
    assert_cuts("f64", &cuts_of_neighbours(&mut rng, |z: f64, up| if up { z.next_up() } else { z.next_down() }));
    let of_bf16 = |z: bf16, up| {
        let step = z.to_f64().abs() / 128.0;
        bf16::from_f64(z.to_f64() + if up { step } else { -step })
    };
    assert_cuts("bf16", &cuts_of_neighbours(&mut rng, of_bf16));
}

/// Checks rows of a thousand tokens whose logits differ only in their last bits. In rows this long, the sampler uses a
/// sample of the weights to find the limit of top-p.
#[test]
fn long_rows_of_neighbours_are_cut_by_their_logits() {
    const TOKENS: usize = 1000;
    let mut rng = generate::rng("sample, long rows of neighbours");
    for (step, end) in (1..STEPS).flat_map(|step| ends_of_step(step).map(|end| (step, end))) {
        let max = (2f64.powf(rng.random_range(-14.0..-6.0)) - end) as f32;
        let bits = ((f64::from(max) + end) as f32).to_bits();
        let mut logits: Vec<f32> = (0..TOKENS).map(|_| f32::from_bits(bits - 2 + rng.random_range(0..5))).collect();
        logits[TOKENS / 3] = max;
        let wide: Vec<f64> = logits.iter().copied().map(f64::from).collect();
        let share_of_first = 1.0 / (1.0 + TOKENS as f64 * end.exp());
        for profile in [Profile::Evenkeel, Profile::Candle] {
            for _ in 0..4 {
                let p = share_of_first + (1.0 - share_of_first) * rng.random_range(0.0..1.0);
                let config = SamplerConfig::default().profile(profile).top_p(p);
                let (got, expected) = (kept(&logits, config), kept(&wide, config));
                assert!(
                    got == expected,
                    "step {step}, largest logit {max:?}, other logits near {:?}, {config:?}: the filters must keep the \
                     same tokens for f32 logits as for f64 logits, but kept {} tokens for f32 and {} for f64",
                    f32::from_bits(bits),
                    got.len(),
                    expected.len()
                );
            }
        }
    }
}

/// Checks prefixes whose mass is exactly the needed one, and whose tokens are not in the sample. The sample has every
/// second weight, from the second on. The sampled weights are all equal, near 0.5.
#[test]
fn a_prefix_of_exactly_the_needed_mass() {
    const TOKENS: usize = 1024;
    const LARGEST: usize = 100;
    let mut low = -(std::f32::consts::LN_2.next_up().next_up());
    for _ in 0..6 {
        low = low.next_up();
        let logits: Vec<f32> = (0..TOKENS).map(|i| if i % 2 == 0 && i / 2 < LARGEST { 0.0 } else { low }).collect();
        let wide: Vec<f64> = logits.iter().copied().map(f64::from).collect();
        let p = largest_share(&wide, SamplerConfig::default(), LARGEST);
        for (p, expected) in [(p, LARGEST), (p.next_up(), LARGEST + 1)] {
            let got = kept(&logits, SamplerConfig::default().top_p(p)).len();
            assert_eq!(got, expected, "{LARGEST} logits of 0, the other logits {low}, p {p}: number of kept tokens");
        }
    }
}
