//! Tests of sharded cross-entropy and its gradient.

use crate::sharded_rows::{LONG, RANKS, assert_same, columns, cuts, dealt, on_ranks};
use crate::support::generate::{self, Bits, scattered};
use evenkeel::sharded::Sharded;
use evenkeel::{CrossEntropy, Error, Loss, Reduction, Rows, cross_entropy, cross_entropy_backward, report};
use rand::RngExt;
use rand::rngs::SmallRng;
use std::ops::Range;

for_each_dtype!(plain_rows, hostile_rows, masked_parts, every_option, peaked_rows, rows_that_do_not_count);

/// Fails unless, on every rank, loss and gradient have the same bits as for whole rows.
#[track_caller]
fn same<E: Bits>(
    what: &str,
    (x, all): (&[E], usize),
    targets: &[i64],
    cuts: &[Range<usize>],
    options: &CrossEntropy<'_>,
) {
    let what = format!("{what}, {targets:?}, {options:?} in {cuts:?}");
    let dims = [targets.len(), all];
    let losses = if options.reduction == Reduction::None { targets.len() } else { 1 };
    let dloss: Vec<f64> = (0..losses).map(|i| 0.75 + scattered(i)).collect();
    let whole = Rows::shaped(x, &dims).unwrap();
    let (loss, dx) = cross_entropy_backward(whole, targets, &dloss, options).unwrap();
    assert_same_loss(&what, &cross_entropy(whole, targets, options).unwrap(), &loss);
    for (ours, _) in dealt((x, &dims), cuts, |_, shard, x| shard.cross_entropy(x, targets, options)) {
        assert_same_loss(&what, &ours.unwrap(), &loss);
    }
    let each = dealt((x, &dims), cuts, |_, shard, x| shard.cross_entropy_backward(x, targets, &dloss, options));
    for ((ours, _), cut) in each.into_iter().zip(cuts) {
        let (ours, own) = ours.unwrap();
        assert_same_loss(&what, &ours, &loss);
        assert_same(&what, &own, &columns(&dx, all, cut));
    }
}

#[track_caller]
fn assert_same_loss(what: &str, ours: &Loss, theirs: &Loss) {
    assert_eq!(ours.as_slice().len(), theirs.as_slice().len(), "{what}: expected as many losses as on one rank");
    for (ours, theirs) in ours.as_slice().iter().zip(theirs.as_slice()) {
        assert!(
            ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(),
            "{what}: expected a loss of {theirs}, got {ours}"
        );
    }
}

/// Runs [`same`] on a number of ranks, with random cuts.
#[track_caller]
fn same_on<E: Bits>(
    what: &str,
    x: (&[E], usize),
    targets: &[i64],
    options: &CrossEntropy<'_>,
    (ranks, rng): (usize, &mut SmallRng),
) {
    let unit = if rng.random_bool(0.5) { 1 } else { 256 };
    same(what, x, targets, &cuts(rng, ranks, x.1, unit), options);
}

fn some_ranks(rng: &mut SmallRng) -> usize {
    RANKS[rng.random_range(0..RANKS.len())]
}

fn each() -> CrossEntropy<'static> {
    CrossEntropy::default().reduction(Reduction::None)
}

fn classes(rng: &mut SmallRng, rows: usize, all: usize) -> Vec<i64> {
    (0..rows).map(|_| rng.random_range(0..all) as i64).collect()
}

fn plain_rows<E: Bits>() {
    let mut rng = generate::rng("plain losses in shards");
    for all in [1, 7, 257, 1000] {
        for ranks in RANKS {
            let x = generate::bell::<E>(&mut rng, 3 * all, 0.0, 3.0);
            let targets = classes(&mut rng, 3, all);
            same_on("plain", (&x, all), &targets, &CrossEntropy::default(), (ranks, &mut rng));
        }
    }
    let none: [E; 0] = [];
    same("no rows", (&none, 5), &[], &[0..2, 2..5], &CrossEntropy::default());
    same("no columns", (&none, 0), &[-100, -100], &[0..0, 0..0], &each());
}

fn hostile_rows<E: Bits>() {
    let mut rng = generate::rng("hostile losses in shards");
    let all = 300;
    let weight: Vec<f32> = (0..all).map(|i| scattered(i) as f32).collect();
    let smoothed = each().label_smoothing(0.2).weight(&weight).z_loss(1e-3);
    for hostile in generate::hostile_scores::<E>(all) {
        for options in [each(), smoothed, smoothed.softcap(30.0)] {
            let (ranks, targets) = (some_ranks(&mut rng), classes(&mut rng, 1, all));
            same_on(hostile.name, (&hostile.row, all), &targets, &options, (ranks, &mut rng));
        }
    }
    // Only one rank has a NaN or an infinity.
    for broken in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut x = generate::bell::<E>(&mut rng, 3 * all, 0.0, 2.0);
        x[all + rng.random_range(0..all)] = E::from_wide(broken);
        for options in [CrossEntropy::default(), each(), smoothed] {
            let (ranks, targets) = (some_ranks(&mut rng), classes(&mut rng, 3, all));
            same_on("a broken row", (&x, all), &targets, &options, (ranks, &mut rng));
        }
    }
    let x: Vec<E> = (0..all).map(|i| E::from_wide(if i % 3 == 0 { E::LIMITS.max } else { -E::LIMITS.max })).collect();
    for options in [each(), smoothed, each().softcap(3.0)] {
        let (ranks, targets) = (some_ranks(&mut rng), classes(&mut rng, 1, all));
        same_on("at the limits", (&x, all), &targets, &options, (ranks, &mut rng));
    }
}

/// Checks ranks on which all columns of a row are masked, and a fully masked row.
fn masked_parts<E: Bits>() {
    let mut rng = generate::rng("masked losses in shards");
    let all = 700;
    let weight: Vec<f32> =
        (0..all).map(|i| if (50..460).contains(&i) { 0.0 } else { 0.5 + scattered(i) as f32 }).collect();
    let mut x = generate::bell::<E>(&mut rng, 2 * all, -12.0, 1.0);
    x[10] = E::from_wide(4.0);
    x[50..460].fill(E::NEG_INFINITY);
    x[all..].fill(E::NEG_INFINITY);
    for options in [each(), each().softcap(5.0), each().weight(&weight).label_smoothing(0.1).z_loss(0.1)] {
        for target in [10, 300, 600] {
            same("masked in the middle", (&x, all), &[target; 2], &[0..50, 460..700, 50..460], &options);
            same("masked about a tile", (&x, all), &[target; 2], &[300..500, 0..100, 100..300, 500..700], &options);
        }
    }
}

fn every_option<E: Bits>() {
    let mut rng = generate::rng("options of losses in shards");
    let (rows, all) = (4, 530);
    let weight: Vec<f64> = (0..all).map(|i| if i % 7 == 3 { 0.0 } else { 0.25 + scattered(i) }).collect();
    let signed: Vec<f64> = (0..all).map(|i| scattered(i) - 0.5).collect();
    for round in 0..20 {
        let x = generate::bell::<E>(&mut rng, rows * all, 0.0, [0.5, 4.0, 30.0][round % 3]);
        let mut options = CrossEntropy::default()
            .reduction([Reduction::Mean, Reduction::Sum, Reduction::None][rng.random_range(0..3)]);
        if rng.random_bool(0.5) {
            options = options.weight(if rng.random_bool(0.7) { &weight } else { &signed });
        }
        if rng.random_bool(0.5) {
            options = options.label_smoothing([0.1, 1.0, rng.random_range(0.0..=1.0)][rng.random_range(0..3)]);
        }
        if rng.random_bool(0.5) {
            options = options.z_loss(rng.random_range(0.0..0.1));
        }
        if rng.random_bool(0.5) {
            options = options.softcap(rng.random_range(1.0..60.0));
        }
        let targets = classes(&mut rng, rows, all);
        options = options.ignore_index(if rng.random_bool(0.5) { targets[2] } else { -100 });
        let ranks = some_ranks(&mut rng);
        same_on("options", (&x, all), &targets, &options, (ranks, &mut rng));
    }
}

/// Checks rows in which one exponential is nearly the whole sum. This exponential belongs to the target class or to
/// another class.
fn peaked_rows<E: Bits>() {
    let mut rng = generate::rng("peaked losses in shards");
    let all = 600;
    for gap in [8.0, 14.0, 30.0] {
        let mut x = generate::bell::<E>(&mut rng, 3 * all, -gap, 1.0);
        let mut targets = classes(&mut rng, 3, all);
        for (row, target) in targets.iter_mut().enumerate() {
            x[row * all + *target as usize] = E::from_wide(4.0);
            if row == 1 {
                *target = rng.random_range(0..all) as i64;
            }
        }
        // The last row may have two equal largest logits.
        x[2 * all + rng.random_range(0..all)] = E::from_wide(4.0);
        for options in [each(), each().softcap(100.0), each().z_loss(0.01).label_smoothing(0.1)] {
            let ranks = some_ranks(&mut rng);
            same_on("peaked", (&x, all), &targets, &options, (ranks, &mut rng));
        }
    }
}

fn rows_that_do_not_count<E: Bits>() {
    let mut rng = generate::rng("ignored rows in shards");
    let all = 40;
    let mut x = generate::bell::<E>(&mut rng, 4 * all, 0.0, 3.0);
    x[all..2 * all].fill(E::NAN);
    for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
        let options = CrossEntropy::default().reduction(reduction).label_smoothing(0.1);
        let cuts = [13..40, 0..13, 40..40];
        same("two of four", (&x, all), &[3, -100, 39, -100], &cuts, &options);
        same("none of four", (&x, all), &[-100; 4], &cuts, &options);
        same("a class", (&x, all), &[0, 7, 7, 39], &cuts, &options.ignore_index(7));
    }
}

/// Checks that a difference in one rank's call is an error on all ranks. A rank whose arguments are invalid gets its
/// own error.
#[test]
fn one_rank_does_another_thing() {
    type Call<'a> = (&'a [i64], CrossEntropy<'a>, &'a [f64]);
    let x = [0.5f32; 8];
    let plain = CrossEntropy::default();
    let weight = [1.0f32; 12];
    let mut other = weight;
    other[11] = 1.5;
    let usual: Call<'_> = (&[3, 11], plain.weight(&weight), &[1.0]);
    let cases: [(Call<'_>, &str, bool); 8] = [
        ((&[3, 10], usual.1, &[1.0]), "targets of digest", false),
        ((usual.0, plain.weight(&other), &[1.0]), "weights of digest", false),
        ((usual.0, usual.1.z_loss(1e-4), &[1.0]), "z_loss 0.0001", false),
        ((usual.0, usual.1.reduction(Reduction::Sum), &[1.0]), "Sum", false),
        ((usual.0, usual.1, &[2.0]), "gradients of digest", false),
        ((&[3, 12], usual.1, &[1.0]), "target is 12 in row 1", true),
        ((&[3], usual.1, &[1.0]), "target has 1 elements", true),
        ((usual.0, usual.1, &[1.0, 1.0]), "dloss has 2 elements", true),
    ];
    for ((targets, options, dloss), expected, refused) in cases {
        let errors = on_ranks(3, LONG, |rank, comm| {
            let shard = Sharded::new(&comm, 4 * rank..4 * rank + 4, 12);
            let (targets, options, dloss) = if rank == 2 { (targets, options, dloss) } else { usual };
            shard.cross_entropy_backward(Rows::new(&x, 2, 4).unwrap(), targets, dloss, &options).unwrap_err()
        });
        for (rank, error) in errors.iter().enumerate() {
            let text = error.to_string();
            assert!(
                text.starts_with("cross_entropy_backward: ") && text.contains(expected),
                "cross_entropy_backward on rank {rank}: the error must contain {expected:?}, got {text}"
            );
            let own = refused && rank == 2;
            assert!(
                own || matches!(error, Error::Collective { rank: Some(2), .. }),
                "cross_entropy_backward on rank {rank}: expected a Collective error about rank 2, got {text}"
            );
        }
    }
}

/// Checks that `report` counts sharded rows like whole rows, for the loss and for its gradient.
#[test]
fn what_was_met_is_reported_once() {
    let x = [f32::NEG_INFINITY, f32::NEG_INFINITY, 0.0, f32::NAN, 1.0, 2.0];
    let (options, targets) = (CrossEntropy::default(), [0, 1, -100]);
    let whole = Rows::new(&x, 3, 2).unwrap();
    let (_, of_loss) = report::scope(|| cross_entropy(whole, &targets, &options).unwrap());
    let (_, of_gradient) = report::scope(|| cross_entropy_backward(whole, &targets, &[1.0], &options).unwrap());
    let reports = dealt((&x, &[3, 2]), &[0..1, 1..2], |_, shard, x| {
        let (_, of_loss) = report::scope(|| shard.cross_entropy(x, &targets, &options).unwrap());
        let (_, of_gradient) = report::scope(|| shard.cross_entropy_backward(x, &targets, &[1.0], &options).unwrap());
        Ok((of_loss.to_string(), of_gradient.to_string()))
    });
    for (report, _) in reports {
        assert_eq!(report.unwrap(), (of_loss.to_string(), of_gradient.to_string()));
    }
}
