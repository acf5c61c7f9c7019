//! Tests of the sharded gradients of softmax, log-softmax and log-sum-exp.

use crate::sharded_rows::{RANKS, assert_dealt, columns, cuts, dealt};
use crate::support::generate::{self, Bits};
use evenkeel::{FullyMasked, Mask, Rows, Softmax, log_softmax_backward, logsumexp_backward, report, softmax_backward};
use rand::RngExt;
use rand::rngs::SmallRng;
use std::ops::Range;

for_each_dtype!(plain_rows, hostile_rows, hostile_gradients, masked_rows);

/// Fails unless, on every rank, all three gradients have the same bits as for whole rows.
#[track_caller]
fn same<E: Bits>(what: &str, (x, dy, dims): (&[E], &[E], &[usize]), cuts: &[Range<usize>], options: &Softmax<'_>) {
    let Softmax { scale, softcap, fully_masked, .. } = options;
    let what = format!("{what}, {scale}, {softcap:?}, {fully_masked:?}");
    let all = dims[dims.len() - 1];
    let rows: usize = dims[..dims.len() - 1].iter().product();
    let (whole, whole_dy) = (Rows::shaped(x, dims).unwrap(), Rows::shaped(dy, dims).unwrap());
    // Selects the part of dy for each rank's columns.
    let own: Vec<Vec<E>> = cuts.iter().map(|cut| columns(dy, all, cut)).collect();
    let of = |rank: usize| {
        let mut dims = dims.to_vec();
        *dims.last_mut().unwrap() = cuts[rank].len();
        Rows::shaped(&own[rank], &dims).unwrap()
    };
    assert_dealt(&what, (x, dims), cuts, softmax_backward(whole, whole_dy, options), |rank, shard, x| {
        shard.softmax_backward(x, of(rank), options)
    });
    assert_dealt(&what, (x, dims), cuts, log_softmax_backward(whole, whole_dy, options), |rank, shard, x| {
        shard.log_softmax_backward(x, of(rank), options)
    });
    let dy = &dy[..rows];
    assert_dealt(&what, (x, dims), cuts, logsumexp_backward(whole, dy, options), |_, shard, x| {
        shard.logsumexp_backward(x, dy, options)
    });
}

#[track_caller]
fn same_for_all<E: Bits>(what: &str, x: (&[E], &[E], &[usize]), options: &Softmax<'_>, rng: &mut SmallRng) {
    for ranks in RANKS {
        let unit = if rng.random_bool(0.5) { 1 } else { 256 };
        same(what, x, &cuts(rng, ranks, x.2[x.2.len() - 1], unit), options);
    }
}

fn plain_rows<E: Bits>() {
    let mut rng = generate::rng("plain gradients of shards");
    for all in [1, 7, 257, 1000] {
        let x = generate::bell::<E>(&mut rng, 2 * all, 0.0, 3.0);
        let dy = generate::bell::<E>(&mut rng, 2 * all, 0.0, 1.0);
        same_for_all("plain", (&x, &dy, &[2, all]), &Softmax::default(), &mut rng);
    }
    let none: [E; 0] = [];
    same("no rows", (&none, &none, &[0, 5]), &[0..2, 2..5], &Softmax::default());
}

fn hostile_rows<E: Bits>() {
    let mut rng = generate::rng("hostile rows of gradients");
    let all = 300;
    let dy = generate::bell::<E>(&mut rng, all, 0.0, 1.0);
    for hostile in generate::hostile_scores::<E>(all) {
        let ranks = RANKS[rng.random_range(0..RANKS.len())];
        for options in [Softmax::default(), Softmax::default().scale(0.3), Softmax::default().softcap(30.0)] {
            same(hostile.name, (&hostile.row, &dy, &[1, all]), &cuts(&mut rng, ranks, all, 1), &options);
        }
    }
}

fn hostile_gradients<E: Bits>() {
    let mut rng = generate::rng("hostile gradients of shards");
    let all = 600;
    let x = generate::bell::<E>(&mut rng, 2 * all, 0.0, 2.0);
    for hostile in generate::hostile_vectors::<E>(all) {
        let mut dy = hostile.row.clone();
        dy.extend(generate::bell::<E>(&mut rng, all, 0.0, 1.0));
        let ranks = RANKS[rng.random_range(0..RANKS.len())];
        for options in [Softmax::default(), Softmax::default().scale(-40.0)] {
            same(hostile.name, (&x, &dy, &[2, all]), &cuts(&mut rng, ranks, all, 1), &options);
        }
    }
    for broken in [f64::NAN, f64::INFINITY, 1e300, 1e-300] {
        let mut dy = generate::bell::<E>(&mut rng, 2 * all, 0.0, broken.min(1.0));
        dy[rng.random_range(0..all)] = E::from_wide(broken);
        same_for_all("a broken gradient", (&x, &dy, &[2, all]), &Softmax::default(), &mut rng);
    }
}

fn masked_rows<E: Bits>() {
    let mut rng = generate::rng("masked gradients of shards");
    let (queries, all) = (3, 280);
    let dims = [2, queries, all];
    let x = generate::bell::<E>(&mut rng, 2 * queries * all, 0.0, 20.0);
    let mut dy = generate::bell::<E>(&mut rng, 2 * queries * all, 0.0, 1.0);
    let mut keep: Vec<bool> = (0..2 * all).map(|_| rng.random_bool(0.5)).collect();
    // Masked gradients are not read.
    keep[5] = false;
    dy[5] = E::from_wide(f64::NAN);
    // The first of two ranks has only masked columns. In the second batch entry, all columns are masked.
    let late: Vec<bool> = (0..2 * all).map(|i| (140..all).contains(&i)).collect();
    let slope: Vec<f32> = (0..queries * all).map(|i| -0.37 * (i % all) as f32).collect();
    let wide: Vec<f64> = (0..all).map(|i| if i == 200 { 0.1 } else { 1.0 }).collect();
    let masks = [
        Mask::causal().and_window(100),
        Mask::keep(&keep, &[2, 1, all]),
        Mask::keep(&late, &[2, 1, all]),
        Mask::bias(&slope, &[queries, all]),
        Mask::bias(&wide, &[all]),
    ];
    for mask in &masks {
        for policy in [FullyMasked::Zeros, FullyMasked::Error] {
            let options = Softmax::default().scale(0.1118033988749895).mask(mask).fully_masked(policy);
            for options in [options, options.softcap(20.0)] {
                let ranks = RANKS[rng.random_range(0..RANKS.len())];
                same("masked", (&x, &dy, &dims), &cuts(&mut rng, ranks, all, 1), &options);
                same("masked", (&x, &dy, &dims), &[140..all, 0..140], &options);
            }
        }
    }
}

/// Checks that `report` counts NaN and infinite gradients in sharded rows as in whole rows.
#[test]
fn broken_gradients_of_logsumexp_are_reported_as_without_shards() {
    let (x, dy, options) = ([1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], [f32::NAN, f32::INFINITY, 1.0], Softmax::default());
    let (_, whole) = report::scope(|| logsumexp_backward(Rows::new(&x, 3, 2).unwrap(), &dy, &options).unwrap());
    let reports = dealt((&x, &[3, 2]), &[0..1, 1..2], |_, shard, x| {
        Ok(report::scope(|| shard.logsumexp_backward(x, &dy, &options).unwrap()).1.to_string())
    });
    for (report, _) in reports {
        assert_eq!(report.unwrap(), whole.to_string(), "reports on sharded and whole rows must be equal");
    }
}
