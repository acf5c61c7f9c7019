//! Checks that the sampler's kernels draw the same tokens as the CPU, keep as many tokens as the CPU, and reject the
//! requests that the CPU rejects.

use crate::support::sample::{Asked, LOGITS, case, config, logits, with_penalties};
use crate::support::{How, Shapes};
use evenkeel::Draw;
use evenkeel::cuda::DeviceElement;
use evenkeel_cuda_emulator::{Emulator, Order};
use half::{bf16, f16};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

fn asked(rng: &mut StdRng, cols: usize) -> Asked {
    let config = config(rng, cols);
    let tokens = |rng: &mut StdRng| (0..rng.random_range(0..40)).map(|_| rng.random_range(0..cols as u32)).collect();
    let (config, prompt, output) = if rng.random_bool(0.3) {
        (with_penalties(rng, config), tokens(rng), tokens(rng))
    } else {
        (config, Vec::new(), Vec::new())
    };
    let words = |rng: &mut StdRng| (0..cols.div_ceil(32)).map(|_| rng.random::<u32>() | rng.random::<u32>()).collect();
    let allowed = if rng.random_bool(0.3) { Some(words(rng)) } else { None };
    Asked { config, draw: Draw { seed: rng.random(), row: rng.random(), draw: rng.random() }, allowed, prompt, output }
}

fn rows_of_every_shape<E: DeviceElement>(seed: u64) {
    let (mut rng, emulator, mut shapes) = (StdRng::seed_from_u64(seed), Emulator::linked(), Shapes::default());
    let edges =
        [1, 2, 3, 7, 8, 31, 32, 33, 63, 64, 65, 255, 256, 257, 1000, 1024, 2048, 4096, 5000, 8192, 8193, 12_000];
    for case_number in 0..220 {
        // Rows of more than 2048 logits are not sorted as a whole. Rows of more than 8192 logits are read by other
        // kernels.
        let range = [1..3000, 1..3000, 2049..8193, 8193..20_000][case_number % 4].clone();
        let cols = if case_number < edges.len() { edges[case_number] } else { rng.random_range(range) };
        let kind = LOGITS[case_number % LOGITS.len()];
        let asked: Vec<Asked> = (0..1 + case_number % 3).map(|_| asked(&mut rng, cols)).collect();
        let x: Vec<E> = asked.iter().flat_map(|_| logits(&mut rng, kind, cols)).collect();
        let order = Order::ALL[case_number % 3];
        let how = How { shift: case_number % 9, one_block: case_number % 2 == 0, order };
        case((&emulator, Some(&emulator)), &x, cols, &asked, how)
            .unwrap_or_else(|found| panic!("seed {seed}, {kind:?}: {found}"));
        shapes.add(&[asked.len(), cols]);
    }
    shapes.are_enough(format!("seed {seed}, {}", E::DTYPE));
}

#[test]
fn f32s() {
    rows_of_every_shape::<f32>(11);
}

#[test]
fn f16s() {
    rows_of_every_shape::<f16>(12);
}

#[test]
fn bf16s() {
    rows_of_every_shape::<bf16>(13);
}

#[test]
fn a_model_s_vocabulary() {
    let (mut rng, emulator) = (StdRng::seed_from_u64(14), Emulator::linked());
    for (i, kind) in LOGITS.into_iter().cycle().take(18).enumerate() {
        let cols = [128_256, 50_257, 300_000][i % 3];
        let asked = [asked(&mut rng, cols)];
        let x: Vec<bf16> = logits(&mut rng, kind, cols);
        let how = How { shift: 0, one_block: true, order: Order::Forward };
        case((&emulator, Some(&emulator)), &x, cols, &asked, how).unwrap_or_else(|found| panic!("{kind:?}: {found}"));
    }
}

#[test]
fn unknown_tokens_and_penalties_without_room_are_refused() {
    use evenkeel::SamplerConfig;
    use evenkeel::cuda::sample::{Outcome, Request, launches};
    let sampler = SamplerConfig::default().repetition_penalty(1.5).validate().unwrap();
    let (logits, tokens) = ([1.0f32, 2.0, 3.0], [1u32, 3]);
    for (list, is_adjusted, expected) in [
        (
            2,
            true,
            "sample: history is a list with a token outside of the vocabulary in row 0; it must be a list of tokens below 3",
        ),
        (1, false, "sample: adjusted is not given in row 0; it must be given if a request has penalties"),
    ] {
        // SAFETY: the tokens outlive the kernel run.
        let request =
            unsafe { Request::new(&sampler, Draw::default()).unwrap().history((tokens.as_ptr() as u64, list), (0, 0)) };
        let (requests, mut outcomes) = ([request], [Outcome::default()]);
        let addresses = [logits.as_ptr() as u64, requests.as_ptr() as u64, outcomes.as_mut_ptr() as u64, 0, 0];
        for (launch, arguments) in launches(addresses, evenkeel::DType::F32, (1, 3), is_adjusted).unwrap() {
            // SAFETY: all buffers outlive the kernel run, and have the sizes for one row of three logits.
            unsafe { Emulator::linked().run(&launch, &arguments, Order::Forward) }.unwrap();
        }
        assert_eq!(outcomes[0].result(0, 3).unwrap_err().to_string(), expected);
    }
}

#[test]
fn counters_advance_by_one() {
    let mut counter = u64::from(u32::MAX);
    let (launch, arguments) = evenkeel::cuda::sample::launch_advance(&raw mut counter as u64);
    // SAFETY: the counter outlives the kernel run.
    unsafe { Emulator::linked().run(&launch, &arguments, Order::Backward) }.unwrap();
    assert_eq!(counter, 1 << 32);
}
