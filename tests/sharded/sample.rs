//! Tests of sharded sampling: every rank gets the token, probability and count that the whole rows give.

use crate::sharded_rows::{Comm, LONG, RANKS, counts, cuts, dealt, on_ranks};
use crate::support::generate::{self, Bits};
use evenkeel::sharded::Sharded;
use evenkeel::{Draw, Error, Mask, Profile, Request, Result, Rows, Sampled, Sampler, SamplerConfig, Step, sample_rows};
use rand::RngExt;
use rand::rngs::SmallRng;
use std::ops::Range;

for_each_dtype!(filters, ties_across_cuts, broken_rows, steps, masked_rows, many_left, random_configurations);

/// Formats a draw with the bits of its log-probability, where -0 counts as 0.
fn bits(sampled: &Result<Sampled>) -> String {
    match sampled {
        Ok(s) => format!("token {}, {:016x}, {} kept", s.token, (s.logprob + 0.0).to_bits(), s.kept),
        Err(error) => format!("{error:?}"),
    }
}

#[track_caller]
fn same<E: Bits>(what: &str, x: (&[E], usize), cuts: &[Range<usize>], requests: &[Request<'_>]) {
    same_masked(what, x, None, cuts, requests);
}

#[track_caller]
fn same_masked<E: Bits>(
    what: &str,
    (x, all): (&[E], usize),
    mask: Option<&Mask<'_>>,
    cuts: &[Range<usize>],
    requests: &[Request<'_>],
) {
    let rows = requests.len();
    let whole = sample_rows(Rows::new(x, rows, all).unwrap(), mask, requests).unwrap();
    let ranks = dealt((x, &[rows, all]), cuts, |_, shard, x| shard.sample(x, mask, requests));
    for (rank, (ours, _)) in ranks.iter().enumerate() {
        let ours = ours.as_ref().unwrap();
        assert_eq!(ours.len(), rows, "{what}, rank {rank} of {cuts:?}: each rank must sample every row");
        for (row, (ours, whole)) in ours.iter().zip(&whole).enumerate() {
            let config = requests[row].sampler.config();
            assert_eq!(
                bits(ours),
                bits(whole),
                "{what}, row {row}, rank {rank} of {cuts:?}, {config:?}: the sharded sample must equal the \
                 result of sample_rows"
            );
        }
    }
}

fn request<'a>(sampler: &'a Sampler, row: usize) -> Request<'a> {
    Request { sampler, step: Draw { seed: 7, row: row as u64, draw: 3 }.into() }
}

#[track_caller]
fn same_for_all<E: Bits>(
    what: &str,
    (x, all): (&[E], usize),
    configs: &[SamplerConfig],
    ranks: &[usize],
    rng: &mut SmallRng,
) {
    let samplers: Vec<Sampler> = configs.iter().map(|config| config.validate().unwrap()).collect();
    let requests: Vec<Request<'_>> = samplers.iter().enumerate().map(|(i, sampler)| request(sampler, i)).collect();
    for ranks in ranks {
        same(what, (x, all), &cuts(rng, *ranks, all, 1), &requests);
    }
}

fn filters<E: Bits>() {
    let mut rng = generate::rng("filters of shards");
    let plain = SamplerConfig::default();
    let mut configs = vec![plain, plain.temperature(0.0)];
    configs.extend([1e-6, 0.7, 3.0, 1e6].map(|t| plain.temperature(t)));
    configs.extend([1, 2, 50, 1024, 1025, 1499, 1500, 4000].map(|k| plain.top_k(k)));
    configs.extend([1e-6, 0.1, 0.9, 0.999999, 1.0].map(|p| plain.top_p(p)));
    configs.extend([1e-9, 0.05, 0.999, 1.0].map(|p| plain.min_p(p)));
    configs.extend([
        plain.top_k(1200).top_p(0.9),
        plain.top_k(40).top_p(0.8).min_p(0.1),
        plain.top_p(0.95).min_p(0.02).min_keep(7),
        plain.temperature(5.0).epsilon_cutoff(0.0008),
        plain.epsilon_cutoff(0.01).min_keep(3),
        plain.top_k(300).typical_p(0.5).xtc(1.0, 0.01),
        plain.top_k(1300).eta_cutoff(0.002),
    ]);
    let all = 1500;
    let x = generate::bell::<E>(&mut rng, configs.len() * all, 0.0, 2.0);
    same_for_all("filters", (&x, all), &configs, &RANKS, &mut rng);
    for profile in [Profile::HuggingFace, Profile::Vllm, Profile::LlamaCpp, Profile::Candle] {
        let plain = plain.profile(profile);
        let mut configs =
            vec![plain.top_k(1100).top_p(0.9), plain.top_k(30).top_p(0.7).temperature(0.8), plain.top_p(0.5)];
        match profile {
            Profile::Candle => {}
            Profile::LlamaCpp => configs.push(plain.top_k(1200).min_p(0.01).temperature(3.0)),
            _ => configs.push(plain.top_k(1200).min_p(0.01)),
        }
        same_for_all("profiles", (&x[..configs.len() * all], all), &configs, &[3, 8], &mut rng);
    }
}

/// Checks filters whose limit falls among equal logits on several ranks. Of these equal logits, a filter keeps those
/// with the lowest indices, those with the highest indices, or all.
fn ties_across_cuts<E: Bits>() {
    let mut rng = generate::rng("ties of shards");
    let all = 1300;
    for values in [1, 3, 12] {
        let x: Vec<E> = (0..6 * all).map(|_| E::from_wide(f64::from(rng.random_range(0..values)) * 0.25)).collect();
        for profile in [Profile::Evenkeel, Profile::HuggingFace] {
            let plain = SamplerConfig::default().profile(profile);
            let configs = [
                plain.top_k(1100),
                plain.top_k(17),
                plain.top_p(0.37),
                plain.top_p(0.93).min_p(0.5),
                plain.top_p(0.01),
                plain.top_k(1250).top_p(0.2),
            ];
            same_for_all("ties", (&x, all), &configs, &[2, 3, 8], &mut rng);
        }
    }
}

/// Checks rows that cannot be sampled: they give the same error on every rank, and do not affect other rows.
fn broken_rows<E: Bits>() {
    let mut rng = generate::rng("broken rows of shards");
    let all = 600;
    let broken = [
        vec![(5, f64::NAN)],
        vec![(590, f64::NAN), (300, f64::NAN), (2, f64::INFINITY)],
        vec![(17, f64::INFINITY), (401, f64::INFINITY), (402, f64::NEG_INFINITY)],
        vec![(100, f64::NEG_INFINITY)],
    ];
    let mut x = Vec::new();
    for broken in &broken {
        let mut row = generate::bell::<E>(&mut rng, all, 0.0, 2.0);
        broken.iter().for_each(|(at, value)| row[*at] = E::from_wide(*value));
        x.extend(row);
    }
    // The rows are fully masked, have one or a few unmasked tokens, or have extreme values.
    x.extend(vec![E::from_wide(f64::NEG_INFINITY); all]);
    x.extend((0..all).map(|i| E::from_wide(if i == 333 { -2.5 } else { f64::NEG_INFINITY })));
    x.extend((0..all).map(|i| E::from_wide(if i % 97 == 3 { (i % 5) as f64 } else { f64::NEG_INFINITY })));
    x.extend((0..all).map(|i| E::from_wide(if i % 3 == 0 { 3e38 } else { -3e38 })));
    x.extend((0..all).map(|i| E::from_wide(if i % 2 == 0 { 0.0 } else { -0.0 })));
    let rows = x.len() / all;
    let plain = SamplerConfig::default();
    for config in [plain, plain.temperature(0.0), plain.top_k(5), plain.top_p(0.7), plain.min_p(0.3)] {
        same_for_all("broken", (&x, all), &vec![config; rows], &RANKS, &mut rng);
    }
    for hostile in generate::hostile_scores::<E>(all) {
        let x = hostile.row.repeat(3);
        let configs = [plain, plain.top_p(0.9), plain.top_k(20).min_p(0.1)];
        same_for_all(hostile.name, (&x, all), &configs, &[3], &mut rng);
    }
}

/// Arguments of a sampling step, with token ids of the whole vocabulary.
struct Parts {
    prompt: Vec<u32>,
    output: Vec<u32>,
    allowed: Vec<u32>,
    bias: Vec<(u32, f32)>,
    bad_words: Vec<Vec<u32>>,
}

impl Parts {
    fn new(rng: &mut SmallRng, all: usize) -> Self {
        let mut ids = |count: usize| -> Vec<u32> { (0..count).map(|_| rng.random_range(0..all as u32)).collect() };
        let (prompt, output, biased, bad) = (ids(30), ids(60), ids(10), ids(3));
        let bias = |(i, id): (usize, &u32)| (*id, if i == 0 { f32::NEG_INFINITY } else { i as f32 - 4.0 });
        let bias = biased.iter().enumerate().map(bias).collect();
        let bad_words = vec![vec![bad[0]], vec![output[59], bad[1]], vec![bad[2], bad[1]]];
        let allowed = (0..all.div_ceil(32)).map(|_| rng.random::<u32>() | rng.random::<u32>()).collect();
        Parts { prompt, output, allowed, bias, bad_words }
    }

    fn step(&self, row: usize) -> Step<'_> {
        let step = Step::from(Draw { seed: 11, row: row as u64, draw: 60 }).prompt(&self.prompt).output(&self.output);
        let step = if row.is_multiple_of(2) { step.allowed(&self.allowed) } else { step };
        if row.is_multiple_of(3) { step } else { step.bias(&self.bias).bad_words(&self.bad_words) }
    }
}

fn steps<E: Bits>() {
    let mut rng = generate::rng("steps of shards");
    let all = 1333;
    let plain = SamplerConfig::default().repetition_penalty(1.3).presence_penalty(0.2).frequency_penalty(0.4);
    let samplers = [
        plain.temperature(0.0),
        plain.top_p(0.9),
        plain.top_k(20).dry(0.8, 1.75, 1),
        plain.profile(Profile::LlamaCpp).top_k(1200).penalty_window(20),
        plain.min_p(0.02),
        SamplerConfig::default(),
    ]
    .map(|config| config.validate().unwrap());
    let parts: Vec<Parts> = samplers.iter().map(|_| Parts::new(&mut rng, all)).collect();
    let requests: Vec<Request<'_>> = (samplers.iter().zip(&parts).enumerate())
        .map(|(row, (sampler, parts))| Request { sampler, step: parts.step(row) })
        .collect();
    let x = generate::bell::<E>(&mut rng, samplers.len() * all, 0.0, 2.0);
    for ranks in RANKS {
        same("steps", (&x, all), &cuts(&mut rng, ranks, all, 1), &requests);
    }
    // An invalid step gives an error on every rank, whichever rank has the token.
    let (far, few) = ([(all as u32, 1.0)], [u32::MAX; 3]);
    let wrong = [Step::default().bias(&far), Step::default().allowed(&few), Step::default().bias(&[(1, f32::NAN)])];
    let requests = wrong.map(|step| Request { sampler: &samplers[5], step });
    same("wrong steps", (&x[..3 * all], all), &cuts(&mut rng, 3, all, 1), &requests);
}

fn masked_rows<E: Bits>() {
    let mut rng = generate::rng("masked rows of shards");
    let all = 1300;
    let plain = SamplerConfig::default();
    let samplers = [
        plain,
        plain.temperature(0.0),
        plain.temperature(0.3).top_k(20),
        plain.top_k(1100).top_p(0.9),
        plain.top_p(0.8),
        plain.min_p(0.05),
        plain.temperature(3.0).epsilon_cutoff(0.0005),
        plain.repetition_penalty(1.3).frequency_penalty(0.3).top_p(0.9),
    ]
    .map(|config| config.validate().unwrap());
    let rows = samplers.len();
    let parts: Vec<Parts> = samplers.iter().map(|_| Parts::new(&mut rng, all)).collect();
    let plain_steps: Vec<Request<'_>> =
        samplers.iter().enumerate().map(|(row, sampler)| request(sampler, row)).collect();
    let steps: Vec<Request<'_>> = (samplers.iter().zip(&parts).enumerate())
        .map(|(row, (sampler, parts))| Request { sampler, step: parts.step(row) })
        .collect();
    let mut x = generate::bell::<E>(&mut rng, rows * all, 0.0, 2.0);
    // Masked logits are not read. A NaN or infinity elsewhere is reported at its position in the row.
    (x[7], x[all + 8]) = (E::from_wide(f64::NAN), E::from_wide(f64::INFINITY));
    x[2 * all + 1299] = E::from_wide(f64::NAN);
    // Half of the fourth row is masked, and all of the fifth.
    let keep: Vec<bool> = (0..rows * all)
        .map(|at| match (at / all, at % all) {
            (3, i) => i >= all / 2,
            (row, i) => row != 4 && i != 7 && i != 8 && rng.random_bool(0.7),
        })
        .collect();
    let flat: Vec<f32> = (0..all).map(|_| if rng.random_bool(0.3) { f32::NEG_INFINITY } else { 0.0 }).collect();
    let slope: Vec<f32> = (0..rows * all).map(|i| -0.0037 * (i % all) as f32).collect();
    let wide: Vec<f64> = (0..all).map(|i| if i == 800 { 0.1 } else { 1.0 }).collect();
    let lengths: Vec<usize> = (0..rows).map(|row| all - 200 * row.min(6)).collect();
    let masks = [
        Mask::keep(&keep, &[rows, all]),
        Mask::bias(&flat, &[all]),
        Mask::bias(&slope, &[rows, all]),
        Mask::bias(&wide, &[all]).and_keep(&keep, &[rows, all]),
        Mask::causal().and_window(1200),
        Mask::lengths(&lengths),
        Mask::none(),
    ];
    for mask in &masks {
        for requests in [&plain_steps, &steps] {
            let ranks = RANKS[rng.random_range(0..RANKS.len())];
            same_masked("masked", (&x, all), Some(mask), &cuts(&mut rng, ranks, all, 1), requests);
            same_masked("masked", (&x, all), Some(mask), &[650..all, 0..0, 0..650], requests);
        }
    }
}

/// Checks that a difference in one element of a mask is detected, and that a mask of the wrong size is rejected.
#[test]
fn ranks_with_other_masks_are_named() {
    let sampler = SamplerConfig::default().validate().unwrap();
    let (plain, mut other) = ([true; 30], [true; 30]);
    other[29] = false;
    for (other, expected) in [(&other[..], "a mask of digest"), (&other[1..], "rank 1 reported an error: sample: mask")]
    {
        let errors = on_ranks(3, LONG, |rank, comm: Comm| {
            let keep = if rank == 1 { other } else { &plain };
            let mask = Mask::keep(keep, &[keep.len()]);
            let shard = Sharded::new(&comm, 10 * rank..10 * (rank + 1), 30);
            let x = [0.5f32; 10];
            shard.sample(Rows::new(&x, 1, 10).unwrap(), Some(&mask), &[request(&sampler, 0)]).unwrap_err()
        });
        for error in [&errors[0], &errors[2]] {
            assert!(
                matches!(error, Error::Collective { rank: Some(1), .. }),
                "expected a Collective error about rank 1, got {error}"
            );
            assert!(
                error.to_string().contains(expected),
                "sharded sample: the error must contain {expected:?}, got {error}"
            );
        }
    }
}

/// Checks filters that keep more tokens than the ranks send each other. In this case, all ranks together compute the
/// draw and its probability.
fn many_left<E: Bits>() {
    let mut rng = generate::rng("many left on shards");
    let all = 5000;
    let x = generate::bell::<E>(&mut rng, 4 * all, 0.0, 0.5);
    let plain = SamplerConfig::default();
    let configs = [plain, plain.top_p(0.9).min_p(1e-6), plain.top_k(4000), plain.top_k(4900).top_p(0.7)];
    same_for_all("many left", (&x, all), &configs, &[1, 3, 8], &mut rng);
    // All logits are equal, and one rank holds most of them, so its mass is close to the largest sum of masses.
    let all = 1 << 18;
    let sampler = plain.validate().unwrap();
    for cuts in [[0..all, all..all], [0..200_000, 200_000..all]] {
        same("equal logits", (&vec![E::ZERO; all], all), &cuts, &[request(&sampler, 0)]);
    }
}

/// Generates a random configuration that is valid for its profile.
fn configuration(rng: &mut SmallRng, all: usize) -> SamplerConfig {
    loop {
        let profile = Profile::ALL[rng.random_range(0..Profile::ALL.len())];
        let mut config = SamplerConfig::default().profile(profile);
        if rng.random_bool(0.7) {
            config = config.temperature(10f64.powf(rng.random_range(-6.0..6.0)));
        }
        if rng.random_bool(0.5) {
            config = config.top_k(rng.random_range(1..=all));
        }
        if rng.random_bool(0.5) {
            config = config.top_p(1.0 - 10f64.powf(rng.random_range(-6.0..0.0)));
        }
        if rng.random_bool(0.3) {
            config = config.min_p(10f64.powf(rng.random_range(-8.0..0.0)));
        }
        if rng.random_bool(0.2) {
            config = config.min_keep(rng.random_range(1..20));
        }
        if rng.random_bool(0.2) {
            config = config.epsilon_cutoff(10f64.powf(rng.random_range(-6.0..0.0)) * 0.9);
        }
        if rng.random_bool(0.1) {
            config = config.typical_p(rng.random_range(0.1..0.99));
        }
        config = config.logprob(rng.random_bool(0.8));
        if config.validate().is_ok() {
            return config;
        }
    }
}

fn random_configurations<E: Bits>() {
    let mut rng = generate::rng("random configurations of shards");
    for _ in 0..12 {
        let all = rng.random_range(1..2500);
        let spread = 10f64.powf(rng.random_range(-1.5..2.0));
        let mut x = generate::bell::<E>(&mut rng, 8 * all, 0.0, spread);
        if rng.random_bool(0.3) {
            x.iter_mut().for_each(|z| *z = E::from_wide(z.widen().round() + 0.0));
        }
        if rng.random_bool(0.3) {
            x.iter_mut().for_each(|z| *z = if rng.random_bool(0.4) { E::from_wide(f64::NEG_INFINITY) } else { *z });
        }
        let configs: Vec<SamplerConfig> = (0..8)
            .map(|_| {
                loop {
                    let config = configuration(&mut rng, all);
                    // The test `what_needs_a_top_k_first` covers typical_p without a top-k before it.
                    if config.typical_p.is_none() || config.top_k.is_some() && config.profile != Profile::LlamaCpp {
                        return config;
                    }
                }
            })
            .collect();
        let ranks = RANKS[rng.random_range(0..RANKS.len())];
        same_for_all("random", (&x, all), &configs, &[ranks], &mut rng);
    }
}

/// Checks filters that would need the whole vocabulary. The error must say what such a filter requires. Other rows must
/// be sampled.
#[test]
fn what_needs_a_top_k_first() {
    let plain = SamplerConfig::default();
    let samplers = [plain.typical_p(0.5), plain.top_n_sigma(1.0).top_k(5), plain.dynamic_temperature(0.5, 1.0), plain]
        .map(|config| config.validate().unwrap());
    let requests: Vec<Request<'_>> = samplers.iter().enumerate().map(|(i, sampler)| request(sampler, i)).collect();
    let x = [0.5f32; 4 * 100];
    for (sampled, _) in dealt((&x, &[4, 100]), &[0..30, 30..100], |_, shard, x| shard.sample(x, None, &requests)) {
        let sampled = sampled.unwrap();
        for (row, argument) in ["typical_p", "top_n_sigma", "dynamic_temperature"].into_iter().enumerate() {
            let error = sampled[row].as_ref().unwrap_err();
            assert!(
                matches!(error, Error::InvalidArgument { argument: named, row: Some(at), .. }
                    if *named == argument && *at == row),
                "expected an InvalidArgument error about {argument} in row {row}, got {error}"
            );
            assert!(
                error.to_string().contains("a top-k before it"),
                "sample with {argument}: the error must contain `a top-k before it`, got {error}"
            );
        }
        assert_eq!(sampled[3].as_ref().unwrap().kept, 100);
    }
}

/// Checks that a difference in seed, parameter or history between ranks is detected.
#[test]
fn ranks_with_other_requests_are_named() {
    let [plain, other] =
        [0.9, 0.91].map(|p| SamplerConfig::default().top_p(p).repetition_penalty(1.5).validate().unwrap());
    let draw = |seed| Step::from(Draw { seed, row: 0, draw: 0 });
    let requests = [
        Request { sampler: &other, step: draw(1).output(&[4]) },
        Request { sampler: &plain, step: draw(2).output(&[4]) },
        Request { sampler: &plain, step: draw(1).output(&[5]) },
        Request { sampler: &plain, step: draw(1).prompt(&[4]) },
        Request { sampler: &plain, step: draw(1).output(&[4]).bias(&[(1, 0.5)]) },
    ];
    let usual = Request { sampler: &plain, step: draw(1).output(&[4]) };
    for request in requests {
        for error in on_ranks(3, LONG, |rank, comm: Comm| {
            let x = [0.5f32; 10];
            let request = if rank == 1 { request } else { usual };
            let shard = Sharded::new(&comm, 10 * rank..10 * (rank + 1), 30);
            shard.sample(Rows::new(&x, 1, 10)?, None, &[request]).map(drop)
        }) {
            let error = error.unwrap_err();
            assert!(
                matches!(error, Error::Collective { rank: Some(1), .. }),
                "expected a Collective error about rank 1, got {error}"
            );
            assert!(
                error.to_string().contains("requests of digest"),
                "ranks with different requests: the error must contain `requests of digest`, got {error}"
            );
        }
    }
}

/// Checks the numbers of calls and bytes per rank, which do not depend on the vocabulary.
#[test]
fn bytes_do_not_depend_on_the_vocabulary() {
    let rows = 3;
    let plain = SamplerConfig::default();
    // Each case has a configuration, the number of calls, the bytes sent by a rank, and the part of these bytes that is
    // gathered.
    let cases = [
        (plain.temperature(0.0), 3, 24 + 16 * rows + 8 * rows, 24 + 8 * rows),
        (plain.top_k(50).top_p(0.9), 3, 24 + 16 * rows + 8 * 50 * rows, 24 + 8 * 50 * rows),
        // For each row, the calls exchange two counts of remaining tokens, four histograms, the number of ties, and 18
        // candidates. All candidates are on one rank.
        (plain.top_p(0.875), 10, 24 + (16 + 2 * 16 + 4 * 2048 + 8 + 8 * 18) * rows, 24 + (2 * 16 + 8 + 8 * 18) * rows),
        (plain.min_p(0.5), 4, 24 + (16 + 16 + 8 * 20) * rows, 24 + (16 + 8 * 20) * rows),
    ];
    for all in [1000, 100_000] {
        let x: Vec<f32> = (0..rows * all).map(|i| if i % all < 20 { 3.0 } else { -100.0 }).collect();
        for (config, calls, given, gathered) in &cases {
            let sampler = config.validate().unwrap();
            let requests: Vec<Request<'_>> = (0..rows).map(|row| request(&sampler, row)).collect();
            for ranks in [2usize, 4] {
                let cuts: Vec<Range<usize>> = (0..ranks).map(|i| all / ranks * i..all / ranks * (i + 1)).collect();
                for (sampled, exchanged) in
                    dealt((&x, &[rows, all]), &cuts, |_, shard, x| shard.sample(x, None, &requests))
                {
                    sampled.unwrap().into_iter().for_each(|sampled| assert!(sampled.unwrap().token < 20));
                    let got = given + (ranks - 1) * gathered;
                    let expected = [*calls, *given as u64, got as u64];
                    assert_eq!(
                        counts(exchanged),
                        expected,
                        "{ranks} ranks, {all} tokens, {config:?}: [calls, bytes sent, bytes received] must be {expected:?}"
                    );
                }
            }
        }
    }
}

/// Checks filters that keep more tokens than the ranks send each other. In this case, each rank sends 80 bytes per row,
/// whatever the size of the vocabulary. A mask that adds a bias changes nothing.
#[test]
fn many_left_take_80_bytes_of_each_rank() {
    let (rows, ranks) = (2, 4);
    let sampler = SamplerConfig::default().validate().unwrap();
    let requests: Vec<Request<'_>> = (0..rows).map(|row| request(&sampler, row)).collect();
    for all in [4096, 40_000] {
        let (x, bias) = (vec![0.5f32; rows * all], vec![0.25f32; all]);
        let mask = Mask::bias(&bias, &[all]);
        let cuts: Vec<Range<usize>> = (0..ranks).map(|i| all / ranks * i..all / ranks * (i + 1)).collect();
        for mask in [None, Some(&mask)] {
            for (_, exchanged) in dealt((&x, &[rows, all]), &cuts, |_, shard, x| shard.sample(x, mask, &requests)) {
                let gathered = 24 + 16 * rows + 80 * rows;
                let (given, got) = (16 * rows + gathered, 16 * rows + ranks * gathered);
                assert_eq!(counts(exchanged), [4, given as u64, got as u64]);
            }
        }
    }
}
