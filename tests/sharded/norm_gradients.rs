//! Tests of the sharded gradients of RMSNorm and LayerNorm, cut at multiples of 256.

use crate::sharded_rows::{RANKS, assert_same, columns, cuts, dealt};
use crate::support::generate::{self, Bits};
use evenkeel::{Element, Floats, LayerNorm, Result, RmsNorm, Rounding, Rows, layer_norm_backward, rms_norm_backward};
use rand::RngExt;
use rand::rngs::SmallRng;
use std::ops::Range;

for_each_dtype!(plain_rows, hostile_rows, hostile_gradients, weights);

/// Gradient dx, with the gradients of weight and bias if the op has them.
type Gradients<E> = [Option<Vec<E>>; 3];

fn of_rms<E: Element>(x: Rows<'_, E>, dy: Rows<'_, E>, options: &RmsNorm<'_>) -> Result<Gradients<E>> {
    rms_norm_backward(x, dy, options).map(|of| [Some(of.dx), of.dweight, None])
}

fn of_layer<E: Element>(x: Rows<'_, E>, dy: Rows<'_, E>, options: &LayerNorm<'_>) -> Result<Gradients<E>> {
    layer_norm_backward(x, dy, options).map(|of| [Some(of.dx), of.dweight, of.dbias])
}

/// Fails unless, on every rank, the gradients of both ops have the same bits as for whole rows.
#[track_caller]
fn same_in<E: Bits>(
    what: &str,
    ([x, dy], all): ([&[E]; 2], usize),
    cuts: &[Range<usize>],
    (rms, layer): (RmsNorm<'_>, LayerNorm<'_>),
) {
    let dims = [x.len().checked_div(all).unwrap_or(2), all];
    let [whole, whole_dy] = [x, dy].map(|data| Rows::shaped(data, &dims).unwrap());
    let both = [of_rms(whole, whole_dy, &rms).unwrap(), of_layer(whole, whole_dy, &layer).unwrap()];
    let ranks = dealt((x, &dims), cuts, |rank, shard, x| {
        let dy = columns(dy, all, &cuts[rank]);
        let dy = Rows::shaped(&dy, &[dims[0], cuts[rank].len()])?;
        let of_rms = shard.rms_norm_backward(x, dy, &rms).map(|of| [Some(of.dx), of.dweight, None])?;
        let of_layer = shard.layer_norm_backward(x, dy, &layer).map(|of| [Some(of.dx), of.dweight, of.dbias])?;
        Ok([of_rms, of_layer])
    });
    for (rank, (ours, _)) in ranks.into_iter().enumerate() {
        for ((ours, whole), op) in ours.unwrap().iter().zip(&both).zip(["rms_norm", "layer_norm"]) {
            for ((ours, whole), of) in ours.iter().zip(whole).zip(["dx", "dweight", "dbias"]) {
                let what = format!("{what}, {of} of {op}, rank {rank} of {cuts:?}");
                let whole = whole.as_ref().map(|whole| columns(whole, all, &cuts[rank]));
                assert_eq!(
                    ours.is_some(),
                    whole.is_some(),
                    "{what}: a rank must return the same set of gradients as one process"
                );
                assert_same(&what, ours.as_deref().unwrap_or(&[]), &whole.unwrap_or_default());
            }
        }
    }
}

#[track_caller]
fn same<E: Bits>(
    what: &str,
    x: ([&[E]; 2], usize),
    ranks: &[usize],
    rng: &mut SmallRng,
    options: (RmsNorm<'_>, LayerNorm<'_>),
) {
    for ranks in ranks {
        same_in(what, x, &cuts(rng, *ranks, x.1, 256), options);
    }
}

fn plain_rows<E: Bits>() {
    let mut rng = generate::rng("plain gradients of norms in shards");
    for all in [0, 5, 256, 257, 1100] {
        // In the second case, all rows except the first have a mean far from 0, so layer_norm needs an additional
        // exchange.
        for (mean, spread) in [(0.0, 1.0), (1000.0, 0.1)] {
            let mut x = generate::bell::<E>(&mut rng, all, 0.0, 1.0);
            x.extend(generate::bell::<E>(&mut rng, 2 * all, mean, spread));
            let dy = generate::bell::<E>(&mut rng, 3 * all, 0.0, 1.0);
            same("plain", ([&x, &dy], all), &RANKS, &mut rng, Default::default());
        }
    }
    let none: [E; 0] = [];
    same("no rows", ([&none, &none], 700), &RANKS, &mut rng, Default::default());
    // The row has more tiles than the tiled sum has lanes, and one rank has no columns.
    let all = 70 * 256 + 3;
    let [x, dy] = [(); 2].map(|()| generate::bell::<E>(&mut rng, all, 0.1, 1.0));
    same_in("long", ([&x, &dy], all), &[256..all, 0..0, 0..256], Default::default());
    let weight = vec![0.5f32; 512];
    let options = (RmsNorm::default().weight(&weight), LayerNorm::default().weight(&weight));
    let cuts = [0..512, Range { start: 512, end: 256 }];
    same_in("a range that ends before it starts", ([&x[..512], &dy[..512]], 512), &cuts, options);
}

fn hostile_rows<E: Bits>() {
    let mut rng = generate::rng("hostile rows of gradients of norms");
    let all = 600;
    let dy = generate::bell::<E>(&mut rng, 3 * all, 0.0, 1.0);
    for hostile in generate::hostile_vectors::<E>(all) {
        let ranks = [RANKS[rng.random_range(0..RANKS.len())]];
        same(hostile.name, ([&hostile.row, &dy[..all]], all), &ranks, &mut rng, Default::default());
    }
    for broken in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0] {
        let mut x = generate::bell::<E>(&mut rng, 3 * all, 0.0, 1.0);
        x[all + rng.random_range(0..all)] = E::from_wide(broken);
        same("a broken row", ([&x, &dy], all), &RANKS, &mut rng, Default::default());
    }
    for equal in [0.0, 3.0] {
        let x = vec![E::from_wide(equal); 3 * all];
        for eps in [0.0, 1e-5] {
            let options = (RmsNorm::default().eps(eps), LayerNorm::default().eps(eps));
            same("all equal", ([&x, &dy], all), &[1, 4], &mut rng, options);
        }
    }
    // The squares of these magnitudes overflow or underflow in f32. The squares of 1e300, 1e-300 and 1e-320 also
    // overflow or underflow in f64. Types narrower than f64 round some magnitudes to infinity or 0.
    for magnitude in [1e300, 1e38, 1e-38, 1e-300, 1e-320] {
        let x = generate::bell::<E>(&mut rng, 3 * all, 0.0, magnitude);
        let options = (RmsNorm::default().eps(0.0), LayerNorm::default().eps(0.0));
        same("far magnitudes", ([&x, &dy], all), &[2, 4], &mut rng, options);
    }
}

fn hostile_gradients<E: Bits>() {
    let mut rng = generate::rng("hostile gradients of norms in shards");
    let all = 600;
    let x = generate::bell::<E>(&mut rng, 3 * all, 0.2, 1.0);
    let weight = generate::bell::<f64>(&mut rng, all, 1.0, 0.2);
    for hostile in generate::hostile_vectors::<E>(all) {
        let mut dy = hostile.row.clone();
        dy.extend(generate::bell::<E>(&mut rng, 2 * all, 0.0, 1.0));
        let ranks = [RANKS[rng.random_range(0..RANKS.len())]];
        same(hostile.name, ([&x, &dy], all), &ranks, &mut rng, Default::default());
    }
    for broken in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut dy = generate::bell::<E>(&mut rng, 3 * all, 0.0, 1.0);
        dy[all + rng.random_range(0..all)] = E::from_wide(broken);
        same("a broken gradient", ([&x, &dy], all), &RANKS, &mut rng, Default::default());
    }
    // One element, on one rank, decides how the products of all ranks are scaled. Unscaled, some products would
    // overflow or underflow f64.
    for (far, others) in [(1e300, 1e-5), (1e200, 1.0), (1e38, 1e-38), (1.0, 1e-300), (1e-290, 1e-310), (1e-310, 0.0)] {
        for weights in [1e-160, 1e-5, 1e10, 1e150] {
            let mut dy = generate::bell::<E>(&mut rng, 3 * all, 0.0, others);
            dy[all + rng.random_range(0..all)] = E::from_wide(far);
            let weight: Vec<f64> = weight.iter().map(|weight| weight * weights).collect();
            let options = (RmsNorm::default().weight(&weight), LayerNorm::default().weight(&weight));
            same("far magnitudes", ([&x, &dy], all), &[1, 3], &mut rng, options);
        }
    }
}

fn weights<E: Bits>() {
    let mut rng = generate::rng("weights of gradients of norms in shards");
    let all = 600;
    let [x, dy] = [0.3, 0.0].map(|mean| generate::bell::<E>(&mut rng, 2 * all, mean, 1.0));
    let narrow = generate::bell::<half::bf16>(&mut rng, all, 1.0, 0.2);
    let own = generate::bell::<E>(&mut rng, all, 1.0, 0.2);
    let (single, wide) =
        (generate::bell::<f32>(&mut rng, all, 0.5, 1.0), generate::bell::<f64>(&mut rng, all, 0.0, 1.0));
    for weight in [Floats::from(&narrow), Floats::from(&own), Floats::from(&single), Floats::from(&wide)] {
        let rms = RmsNorm::default().weight(weight).weight_offset(1.0);
        let layer = LayerNorm::default().weight(weight).bias(&single);
        same("weights", ([&x, &dy], all), &RANKS, &mut rng, (rms, layer));
        let rms = rms.weight_offset(0.0).rounding(Rounding::BeforeWeight);
        same(
            "before the weight",
            ([&x, &dy], all),
            &[2, 3],
            &mut rng,
            (rms, LayerNorm::default().bias(&wide).eps(0.1)),
        );
    }
}
