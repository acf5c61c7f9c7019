//! Tests of sharded RMSNorm and LayerNorm, cut at multiples of 256.

use crate::sharded_rows::{RANKS, assert_dealt, cuts};
use crate::support::generate::{self, Bits};
use evenkeel::{LayerNorm, RmsNorm, Rounding, Rows, layer_norm, rms_norm};
use rand::RngExt;
use rand::rngs::SmallRng;

for_each_dtype!(plain_rows, hostile_rows, weights);

#[track_caller]
fn same<E: Bits>(what: &str, x: &[E], all: usize, rng: &mut SmallRng, (rms, layer): (RmsNorm<'_>, LayerNorm<'_>)) {
    let dims = [x.len().checked_div(all).unwrap_or(2), all];
    let whole = Rows::shaped(x, &dims).unwrap();
    for ranks in RANKS {
        let cuts = cuts(rng, ranks, all, 256);
        assert_dealt(what, (x, &dims), &cuts, rms_norm(whole, &rms), |_, shard, x| shard.rms_norm(x, &rms));
        assert_dealt(what, (x, &dims), &cuts, layer_norm(whole, &layer), |_, shard, x| shard.layer_norm(x, &layer));
    }
}

fn plain_rows<E: Bits>() {
    let mut rng = generate::rng("plain norms in shards");
    for all in [0, 5, 256, 257, 1100] {
        // In the second case, all rows except the first have a mean far from 0, so layer_norm needs an additional
        // exchange.
        for (mean, spread) in [(0.0, 1.0), (1000.0, 0.1)] {
            let mut x = generate::bell::<E>(&mut rng, all, 0.0, 1.0);
            x.extend(generate::bell::<E>(&mut rng, 2 * all, mean, spread));
            same("plain", &x, all, &mut rng, Default::default());
        }
    }
}

fn hostile_rows<E: Bits>() {
    let mut rng = generate::rng("hostile norms in shards");
    let all = 700;
    for hostile in generate::hostile_vectors::<E>(all) {
        same(hostile.name, &hostile.row, all, &mut rng, Default::default());
    }
    for broken in [f64::NAN, f64::INFINITY, 0.0] {
        let mut x = generate::bell::<E>(&mut rng, 3 * all, 0.0, 1.0);
        x[all + rng.random_range(0..all)] = E::from_wide(broken);
        same("a broken row", &x, all, &mut rng, Default::default());
    }
    let x = vec![E::ZERO; 2 * all];
    same("zeros", &x, all, &mut rng, (RmsNorm::default().eps(0.0), LayerNorm::default().eps(0.0)));
}

fn weights<E: Bits>() {
    let mut rng = generate::rng("weights of shards");
    let all = 600;
    let x = generate::bell::<E>(&mut rng, 2 * all, 0.3, 1.0);
    let (weight, bias) = (generate::bell::<E>(&mut rng, all, 1.0, 0.2), generate::bell::<f32>(&mut rng, all, 0.0, 1.0));
    let mut far = weight.clone();
    // Because of one tiny weight on one rank, all ranks compute the products of every row in another way.
    far[rng.random_range(0..all)] = E::from_wide(1e-30);
    for weight in [&weight, &far] {
        let rms = RmsNorm::default().weight(weight).weight_offset(1.0);
        let layer = LayerNorm::default().weight(weight).bias(&bias);
        same("weights", &x, all, &mut rng, (rms, layer));
        same("before the weight", &x, all, &mut rng, (rms.rounding(Rounding::BeforeWeight), layer.eps(0.1)));
    }
}

/// The smallest magnitude over the root mean square is exactly 2^-90. With a zero in the row, whole rows are then
/// computed in f64, which keeps the sign of the zero. Another rank than that of the zero holds the smallest magnitude.
#[test]
fn the_smallest_magnitude_at_the_limit_of_f32() {
    let mut x = [1.0f32; 512];
    x[0] = -0.0;
    x[300] = 2f32.powi(-90);
    // The sum of squares is 510, so the mean square plus eps is 1.
    let options = RmsNorm::default().eps(2.0 / 512.0);
    let whole = rms_norm(Rows::shaped(&x, &[512]).unwrap(), &options).unwrap();
    assert!(whole[0].is_sign_negative(), "the result for -0 is {:?}, expected -0", whole[0]);
    for cuts in [[0..256, 256..512], [0..512, 512..512]] {
        assert_dealt("-0 and 2^-90", (&x, &[512]), &cuts, Ok(whole.clone()), |_, shard, x| shard.rms_norm(x, &options));
    }
}
