//! Tests of norms over column ranges. Results must have the same bits as for whole rows, wherever the columns are split
//! and in whatever order the parts are merged. Other tests count the merges that a norm needs, and check that
//! incompatible parts are rejected.

use crate::support::compare::assert_same_bits;
use crate::support::generate::{self, Bits};
use crate::support::implementations::each_level;
use evenkeel::{DType, Error, LayerNorm, NormPartial, RmsNorm, Rounding, Rows, layer_norm, rms_norm};
use rand::RngExt;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use std::ops::Range;

for_each_dtype!(plain_rows, hostile_rows, weights_that_decide, rounds);

/// Rows sharded by columns.
struct Dealt<E> {
    parts: Vec<Vec<E>>,
    cuts: Vec<Range<usize>>,
    rows: usize,
    all: usize,
}

impl<E: Bits> Dealt<E> {
    /// Shards the rows at multiples of 256 columns. The parts are in random order, and some have no columns.
    fn new(x: &[E], all: usize, rng: &mut SmallRng) -> Self {
        let mut ends: Vec<usize> = (0..rng.random_range(0..4)).map(|_| rng.random_range(0..=all / 256) * 256).collect();
        ends.push(all);
        ends.sort_unstable();
        let starts = [0].into_iter().chain(ends.clone());
        let mut cuts: Vec<Range<usize>> = starts.zip(ends.clone()).map(|(start, end)| start..end).collect();
        cuts.shuffle(rng);
        let part = |cut: &Range<usize>| x.chunks(all).flat_map(|row| row[cut.clone()].to_vec()).collect();
        Dealt { parts: cuts.iter().map(part).collect(), cuts, rows: x.len() / all, all }
    }

    fn views(&self) -> impl Iterator<Item = (Rows<'_, E>, usize)> {
        self.parts.iter().zip(&self.cuts).map(|(part, cut)| (Rows::new(part, self.rows, cut.len()).unwrap(), cut.start))
    }

    /// Merges all parts until the statistics are final. Returns the statistics, and how many times all parts were
    /// merged.
    fn merged(&self, new: impl Fn(Rows<'_, E>, (usize, usize)) -> NormPartial) -> (NormPartial, usize) {
        let merge = |parts: Vec<NormPartial>| {
            let mut parts = parts.into_iter();
            let mut all = parts.next().unwrap();
            parts.for_each(|part| all.merge(part).unwrap());
            all
        };
        let mut all = merge(self.views().map(|(x, first)| new(x, (first, self.all))).collect());
        for rounds in 1.. {
            let next: Option<Vec<NormPartial>> = self.views().map(|(x, first)| all.next(x, first).unwrap()).collect();
            match next {
                Some(parts) => all = merge(parts),
                None => return (all, rounds),
            }
        }
        unreachable!()
    }

    #[track_caller]
    fn assert_same(&self, what: &str, whole: &[E], part: impl Fn(Rows<'_, E>, usize) -> Vec<E>) {
        for ((x, first), cut) in self.views().zip(&self.cuts) {
            let of_whole: Vec<E> = whole.chunks(self.all).flat_map(|row| row[cut.clone()].to_vec()).collect();
            let of_part = part(x, first);
            if !cut.is_empty() {
                assert_same_bits(&format!("{what} in {:?}", self.cuts), &of_part, &of_whole);
            }
        }
    }
}

/// Checks rms_norm and layer_norm. Returns, for each norm, in how many cases all parts were merged.
#[track_caller]
fn same<E: Bits>(
    what: &str,
    x: &[E],
    all: usize,
    rms: &RmsNorm<'_>,
    layer: &LayerNorm<'_>,
    rng: &mut SmallRng,
) -> [usize; 2] {
    let whole = Rows::new(x, x.len() / all, all).unwrap();
    let dealt = Dealt::new(x, all, rng);
    let (partial, rms_rounds) = dealt.merged(|x, columns| NormPartial::rms_norm(x, columns, rms).unwrap());
    let y = rms_norm(whole, rms).unwrap();
    dealt.assert_same(what, &y, |x, first| partial.finish_rms_norm(x, first, rms).unwrap());
    let (partial, layer_rounds) = dealt.merged(|x, columns| NormPartial::layer_norm(x, columns, layer).unwrap());
    let y = layer_norm(whole, layer).unwrap();
    dealt.assert_same(what, &y, |x, first| partial.finish_layer_norm(x, first, layer).unwrap());
    [rms_rounds, layer_rounds]
}

fn plain_rows<E: Bits>() {
    let mut rng = generate::rng("plain norm partials");
    for all in [1, 63, 64, 256, 300, 512, 1000, 5000] {
        let weight = generate::bell::<f32>(&mut rng, all, 1.0, 0.3);
        let bias = generate::bell::<E>(&mut rng, all, 0.0, 0.3);
        let layer = LayerNorm::default().weight(&weight).bias(&bias);
        for rms in [
            RmsNorm::default(),
            RmsNorm::default().weight(&weight).weight_offset(1.0),
            RmsNorm::default().weight(&bias).rounding(Rounding::BeforeWeight),
        ] {
            let x = generate::bell::<E>(&mut rng, 5 * all, 0.1, 1.0);
            each_level(|level| {
                same(&level.to_string(), &x, all, &rms, &layer, &mut rng);
            });
        }
    }
}

fn hostile_rows<E: Bits>() {
    let mut rng = generate::rng("hostile norm partials");
    for all in [5, 600] {
        for hostile in generate::hostile_vectors::<E>(all) {
            for eps in [1e-5, 0.0] {
                let (rms, layer) = (RmsNorm::default().eps(eps), LayerNorm::default().eps(eps));
                same(hostile.name, &hostile.row, all, &rms, &layer, &mut rng);
            }
        }
        // The second of three rows has an infinity or a NaN.
        let mut x = generate::bell::<E>(&mut rng, 3 * all, 0.0, 2.0);
        for broken in [f64::INFINITY, f64::NAN] {
            x[all + rng.random_range(0..all)] = E::from_wide(broken);
            same("a broken row", &x, all, &RmsNorm::default(), &LayerNorm::default(), &mut rng);
        }
    }
}

/// Checks rows near the limits within which the kernel computes products in f32. The smallest nonzero element of the
/// row and the weights of all columns decide whether the row exceeds the limits. A part of the row does not know the
/// elements and weights of the other parts.
fn weights_that_decide<E: Bits>() {
    let mut rng = generate::rng("weights that decide");
    let all = 768;
    let mut weight = vec![1.0f32; all];
    for (place, value) in [(700, 2f32.powi(-25)), (10, 1e30), (300, 0.0), (299, 2f32.powi(-26))] {
        weight[place] = value;
        let (rms, layer) = (RmsNorm::default().weight(&weight), LayerNorm::default().weight(&weight));
        for smallest in [2f64.powi(-100), 2f64.powi(-89), 0.0, 1e-40] {
            let mut x = generate::bell::<E>(&mut rng, all, 3.0, 1.0);
            x[rng.random_range(0..all)] = E::from_wide(smallest);
            same(&format!("{smallest:e}"), &x, all, &RmsNorm::default(), &layer, &mut rng);
            same(&format!("{smallest:e}, weights"), &x, all, &rms, &layer, &mut rng);
        }
    }
}

fn rounds<E: Bits>() {
    let mut rng = generate::rng("rounds");
    let (rms, layer) = (RmsNorm::default(), LayerNorm::default());
    let near = generate::bell::<E>(&mut rng, 1024, 0.0, 1.0);
    let far = generate::bell::<E>(&mut rng, 1024, 250.0, 1.0);
    let of_near = same("near", &near, 512, &rms, &layer, &mut rng);
    let of_far = same("far", &far, 512, &rms, &layer, &mut rng);
    let expected = if E::DTYPE == DType::F64 { [[2, 4], [2, 4]] } else { [[1, 1], [1, 2]] };
    assert_eq!([of_near, of_far], expected);
}

#[test]
fn what_cannot_be_put_together() {
    let x = vec![0.5f32; 600];
    let view = |columns: Range<usize>| Rows::new(&x[columns.clone()], 1, columns.len()).unwrap();
    let options = RmsNorm::default();
    let part = |columns: Range<usize>| NormPartial::rms_norm(view(columns.clone()), (columns.start, 600), &options);
    let message = |error: Error| error.to_string();
    let start = message(part(100..600).unwrap_err());
    assert!(
        start.contains("100") && start.contains("256"),
        "a part that starts at column 100: the error must contain 100 and 256, got {start}"
    );
    let end = message(part(0..300).unwrap_err());
    assert!(
        end.contains("300") && end.contains("600"),
        "a part of columns 0..300 of 600: the error must contain 300 and 600, got {end}"
    );
    let mut all = part(0..256).unwrap();
    assert!(message(all.merge(part(0..512).unwrap()).unwrap_err()).contains("column 0"));
    let missing = message(all.next(view(0..256), 0).unwrap_err());
    assert!(
        missing.contains("the shard with column 256"),
        "finishing with columns 0..256 of 600: the error must contain `the shard with column 256`, got {missing}"
    );
    let other = NormPartial::layer_norm(view(256..600), (256, 600), &LayerNorm::default()).unwrap();
    let unlike = message(all.merge(other).unwrap_err());
    assert!(
        unlike.contains("layer_norm of F32") && unlike.contains("rms_norm of F32"),
        "merging rms_norm with layer_norm: the error must name both ops, got {unlike}"
    );
    all.merge(part(256..600).unwrap()).unwrap();
    let eps = message(all.finish_rms_norm(view(0..256), 0, &options.eps(0.5)).unwrap_err());
    assert!(eps.contains("eps 0.5"), "finishing with a different eps: the error must contain `eps 0.5`, got {eps}");
    let weight = [1.0f32; 256];
    let short = message(all.finish_rms_norm(view(0..256), 0, &options.weight(&weight)).unwrap_err());
    assert!(
        short.contains("600 columns"),
        "a weight of 256 elements: the error must contain `600 columns`, got {short}"
    );

    let x = vec![0.5f64; 600];
    let rows = Rows::new(&x, 1, 600).unwrap();
    let mut first = NormPartial::rms_norm(rows, (0, 600), &options).unwrap();
    let early = message(first.finish_rms_norm(rows, 0, &options).unwrap_err());
    assert!(
        early.contains("an intermediate result"),
        "finishing after round 1: the error must contain `an intermediate result`, got {early}"
    );
    let second = first.next(rows, 0).unwrap().unwrap();
    let rounds = message(first.merge(second.clone()).unwrap_err());
    assert!(
        rounds.contains("a different round"),
        "merging rounds 1 and 2: the error must contain `a different round`, got {rounds}"
    );
    assert_eq!(second.finish_rms_norm(rows, 0, &options).unwrap(), rms_norm(rows, &options).unwrap());
}
