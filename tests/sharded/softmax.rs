//! Tests of sharded softmax, log-softmax and log-sum-exp.

use crate::sharded_rows::{RANKS, assert_dealt, assert_same, cuts, dealt};
use crate::support::generate::{self, Bits};
use evenkeel::sharded::{Process, Sharded};
use evenkeel::{FullyMasked, Mask, Rows, Softmax, log_softmax, logsumexp, softmax};
use rand::RngExt;
use rand::rngs::SmallRng;
use std::ops::Range;

for_each_dtype!(plain_rows, hostile_rows, masked_rows, peaked_rows, random_cases, products_that_cancel, long_rows);

/// Fails unless, on every rank, all three ops give the same bits as for whole rows.
#[track_caller]
fn same<E: Bits>(what: &str, (x, dims): (&[E], &[usize]), cuts: &[Range<usize>], options: &Softmax<'_>) {
    let Softmax { scale, softcap, fully_masked, .. } = options;
    let what = format!("{what}, {scale}, {softcap:?}, {fully_masked:?}");
    let whole = Rows::shaped(x, dims).unwrap();
    assert_dealt(&what, (x, dims), cuts, softmax(whole, options), |_, shard, x| shard.softmax(x, options));
    assert_dealt(&what, (x, dims), cuts, log_softmax(whole, options), |_, shard, x| shard.log_softmax(x, options));
    for (ours, _) in dealt((x, dims), cuts, |_, shard, x| shard.logsumexp(x, options)) {
        match logsumexp(whole, options) {
            Ok(theirs) => assert_same(&what, &ours.unwrap(), &theirs),
            Err(error) => assert_eq!(ours.unwrap_err(), error, "{what}: expected the same error as on one rank"),
        }
    }
}

#[track_caller]
fn same_for_all<E: Bits>(what: &str, x: (&[E], &[usize]), options: &Softmax<'_>, rng: &mut SmallRng) {
    for ranks in RANKS {
        let all = x.1[x.1.len() - 1];
        let unit = if rng.random_bool(0.5) { 1 } else { 256 };
        same(what, x, &cuts(rng, ranks, all, unit), options);
    }
}

fn plain_rows<E: Bits>() {
    let mut rng = generate::rng("plain shards");
    for all in [0, 1, 7, 257, 1000] {
        let x = generate::bell::<E>(&mut rng, 3 * all, 0.0, 3.0);
        same_for_all("plain", (&x, &[3, all]), &Softmax::default(), &mut rng);
        let (whole, options) = (Rows::new(&x, 3, all).unwrap(), Softmax::default());
        let alone = Sharded::new(&Process, 0..all, all).softmax(whole, &options).unwrap();
        assert_same("alone", &alone, &softmax(whole, &options).unwrap());
    }
}

fn hostile_rows<E: Bits>() {
    let mut rng = generate::rng("hostile shards");
    let all = 300;
    for hostile in generate::hostile_scores::<E>(all) {
        let ranks = RANKS[rng.random_range(0..RANKS.len())];
        for options in [Softmax::default(), Softmax::default().scale(0.3), Softmax::default().softcap(30.0)] {
            same(hostile.name, (&hostile.row, &[1, all]), &cuts(&mut rng, ranks, all, 1), &options);
        }
    }
    // Only one rank has the NaN or infinity.
    for broken in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut x = generate::bell::<E>(&mut rng, 3 * all, 0.0, 2.0);
        x[all + rng.random_range(0..all)] = E::from_wide(broken);
        same_for_all("a broken row", (&x, &[3, all]), &Softmax::default(), &mut rng);
    }
    let x: Vec<E> = (0..all).map(|i| E::from_wide(if i % 3 == 0 { 3e38 } else { -3e38 })).collect();
    same_for_all("at the limits", (&x, &[1, all]), &Softmax::default(), &mut rng);
}

fn masked_rows<E: Bits>() {
    let mut rng = generate::rng("masked shards");
    let (queries, all) = (3, 280);
    let dims = [2, queries, all];
    let x = generate::bell::<E>(&mut rng, 2 * queries * all, 0.0, 20.0);
    let keep: Vec<bool> = (0..2 * all).map(|_| rng.random_bool(0.5)).collect();
    // The first of two ranks has only masked columns. In the second batch entry, all columns are masked.
    let late: Vec<bool> = (0..2 * all).map(|i| (140..all).contains(&i)).collect();
    let flat: Vec<f32> = (0..all).map(|_| if rng.random_bool(0.3) { f32::NEG_INFINITY } else { 0.0 }).collect();
    let slope: Vec<f32> = (0..queries * all).map(|i| -0.37 * (i % all) as f32).collect();
    let wide: Vec<f64> = (0..all).map(|i| if i == 200 { 0.1 } else { 1.0 }).collect();
    let lengths = [all - 5, 0];
    let masks = [
        Mask::none(),
        Mask::causal(),
        Mask::causal().and_window(100),
        Mask::keep(&keep, &[2, 1, all]),
        Mask::keep(&late, &[2, 1, all]),
        Mask::bias(&flat, &[all]),
        Mask::bias(&slope, &[queries, all]),
        Mask::bias(&wide, &[all]),
        Mask::bias(&slope, &[queries, all]).and_keep(&keep, &[2, 1, all]).and_window(200),
        Mask::lengths(&lengths),
    ];
    for mask in &masks {
        for policy in [FullyMasked::Zeros, FullyMasked::Uniform, FullyMasked::Error] {
            for scale in [1.0, 0.1118033988749895] {
                let options = Softmax::default().scale(scale).mask(mask).fully_masked(policy);
                let ranks = RANKS[rng.random_range(0..RANKS.len())];
                same("masked", (&x, &dims), &cuts(&mut rng, ranks, all, 1), &options);
                same("masked", (&x, &dims), &[140..all, 0..140], &options);
            }
        }
    }
}

/// Checks rows in which one exponential is nearly the whole sum, so that the logarithm of the sum is near 0.
fn peaked_rows<E: Bits>() {
    let mut rng = generate::rng("peaked shards");
    let all = 600;
    for gap in [8.0, 14.0, 30.0] {
        let mut x = generate::bell::<E>(&mut rng, 3 * all, -gap, 1.0);
        x[rng.random_range(0..all)] = E::from_wide(4.0);
        // The first two rows each have a dominating logit. The third row has none.
        x[all + rng.random_range(0..all)] = E::from_wide(4.0);
        same_for_all("peaked", (&x, &[3, all]), &Softmax::default(), &mut rng);
        let window = Mask::causal().and_window(333);
        same_for_all("peaked", (&x, &[3, all]), &Softmax::default().mask(&window).softcap(90.0), &mut rng);
    }
}

fn random_cases<E: Bits>() {
    let mut rng = generate::rng("random shards");
    for _ in 0..12 {
        let (rows, all) = (rng.random_range(0..4), rng.random_range(1..900));
        let spread = 10f64.powf(rng.random_range(-2.0..4.0));
        let x = generate::bell::<E>(&mut rng, rows * all, 0.0, spread);
        let keep: Vec<bool> = (0..all).map(|_| rng.random_bool(0.7)).collect();
        let bias: Vec<f32> = (0..all).map(|_| rng.random_range(-20.0..5.0)).collect();
        let mut mask = Mask::none();
        if rng.random_bool(0.5) {
            mask = mask.and_keep(&keep, &[all]);
        }
        if rng.random_bool(0.5) {
            mask = mask.and_bias(&bias, &[all]);
        }
        let scale = if rng.random_bool(0.5) { 1.0 } else { rng.random_range(-2.0..2.0) };
        let options = Softmax::default().mask(&mask).scale(scale);
        let options = if rng.random_bool(0.2) { options.softcap(rng.random_range(1.0..60.0)) } else { options };
        let ranks = RANKS[rng.random_range(0..RANKS.len())];
        same("random", (&x, &[rows, all]), &cuts(&mut rng, ranks, all, 1), &options);
    }
}

/// Checks logits that are small because a bias cancels most of the scaled score. The scaled score may be large.
fn products_that_cancel<E: Bits>() {
    let mut rng = generate::rng("products that cancel");
    for _ in 0..40 {
        let (all, scale) = (rng.random_range(2..60), rng.random_range(0.05..0.2));
        let mut x: Vec<E> = Vec::new();
        let mut bias: Vec<f32> = Vec::new();
        for _ in 0..all {
            let (logit, product) = (rng.random_range(-0.01..0.01), 2f64.powf(rng.random_range(-10.0..14.0)));
            let score = E::from_wide(product / scale);
            bias.push((logit - score.widen() * scale) as f32);
            x.push(score);
        }
        let keep: Vec<bool> = (0..all).map(|i| i == 0 || rng.random_bool(0.8)).collect();
        let dims = [all];
        for mask in [Mask::bias(&bias, &dims), Mask::bias(&bias, &dims).and_keep(&keep, &dims)] {
            let ranks = RANKS[rng.random_range(0..RANKS.len())];
            let options = Softmax::default().scale(scale).mask(&mask);
            same("cancelling", (&x, &[1, all]), &cuts(&mut rng, ranks, all, 1), &options);
        }
    }
}

/// Checks long rows whose fixed-point sum needs more than 64 bits. The sum is near 1 or far above 1.
fn long_rows<E: Bits>() {
    let mut rng = generate::rng("long shards");
    for (all, common) in [(262_145, -0.3), (400_000, -13.1), (400_000, -30.4), (1 << 21, -0.1)] {
        let mut x = vec![E::from_wide(common); all];
        x[rng.random_range(0..all)] = E::ZERO;
        let ranks = [2, 8][rng.random_range(0..2)];
        same("long", (&x, &[1, all]), &cuts(&mut rng, ranks, all, 1), &Softmax::default());
    }
}
