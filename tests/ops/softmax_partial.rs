//! Tests of softmax over column ranges. Results must have the same bits as for whole rows, wherever the columns are
//! split and in whatever order the parts are merged. Incompatible parts must be rejected.

use crate::support::compare::assert_same_bits;
use crate::support::generate::{self, Bits};
use crate::support::implementations::each_level;
use evenkeel::{Error, FullyMasked, Mask, Rows, Softmax, SoftmaxPartial, log_softmax, logsumexp, softmax};
use rand::RngExt;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use std::ops::Range;

for_each_dtype!(plain_rows, hostile_rows, masked_rows, masked_parts, peaked_rows, many_columns);

/// Rows to shard by columns, with their options.
struct Dealt<'a, E> {
    x: &'a [E],
    dims: &'a [usize],
    options: Softmax<'a>,
}

impl<E: Bits> Dealt<'_, E> {
    fn all(&self) -> usize {
        self.dims[self.dims.len() - 1]
    }

    /// Copies a range of columns of each row, without gaps.
    fn columns(&self, columns: &Range<usize>) -> Vec<E> {
        self.x.chunks(self.all()).flat_map(|row| row[columns.clone()].to_vec()).collect()
    }

    /// Fails unless parts with these column ranges, merged in this order, give the same bits as whole rows.
    #[track_caller]
    fn same(&self, what: &str, cuts: &[Range<usize>]) {
        let options = &self.options;
        let Softmax { scale, softcap, fully_masked, .. } = options;
        let what = format!("{what}, {scale}, {softcap:?}, {fully_masked:?} in {cuts:?}");
        let whole = Rows::shaped(self.x, self.dims).unwrap();
        let parts: Vec<Vec<E>> = cuts.iter().map(|cut| self.columns(cut)).collect();
        let views: Vec<(Rows<'_, E>, usize)> = parts
            .iter()
            .zip(cuts)
            .map(|(part, cut)| {
                let mut dims = self.dims.to_vec();
                *dims.last_mut().unwrap() = cut.len();
                (Rows::shaped(part, &dims).unwrap(), cut.start)
            })
            .collect();
        let mut partials =
            views.iter().map(|(x, first)| SoftmaxPartial::new(*x, (*first, self.all()), options).unwrap());
        let mut all = partials.next().unwrap();
        partials.for_each(|partial| all.merge(partial).unwrap());
        let mut each = views
            .iter()
            .map(|(x, first)| (all.sums(*x, *first, options).unwrap(), all.log_sums(*x, *first, options).unwrap()));
        let (mut sums, mut log_sums) = each.next().unwrap();
        each.for_each(|(more, log_more)| {
            sums.merge(more).unwrap();
            log_sums.merge(log_more).unwrap();
        });
        let (y, logs) = (softmax(whole, options).unwrap(), log_softmax(whole, options).unwrap());
        for ((x, first), cut) in views.iter().zip(cuts) {
            let same = |ours: Vec<E>, y: &[E]| {
                let theirs: Vec<E> = y.chunks(self.all()).flat_map(|row| row[cut.clone()].to_vec()).collect();
                if ours.is_empty() { assert!(theirs.is_empty()) } else { assert_same_bits(&what, &ours, &theirs) }
            };
            same(sums.softmax(*x, *first, options).unwrap(), &y);
            same(log_sums.log_softmax(*x, *first, options).unwrap(), &logs);
        }
        assert_same_bits(&what, &log_sums.logsumexp::<E>(options).unwrap(), &logsumexp(whole, options).unwrap());
    }

    /// Runs [`Dealt::same`] with random cuts.
    #[track_caller]
    fn same_somehow(&self, what: &str, rng: &mut SmallRng) {
        let cuts = cuts(rng, self.all());
        self.same(what, &cuts);
    }
}

/// Splits the columns into up to five ranges in random order. Some ranges may be empty.
fn cuts(rng: &mut SmallRng, all: usize) -> Vec<Range<usize>> {
    let mut ends: Vec<usize> = (0..rng.random_range(0..5)).map(|_| rng.random_range(0..=all)).collect();
    ends.push(all);
    ends.sort_unstable();
    let starts = [0].into_iter().chain(ends.clone());
    let mut cuts: Vec<Range<usize>> = starts.zip(ends.clone()).map(|(start, end)| start..end).collect();
    cuts.shuffle(rng);
    cuts
}

fn plain_rows<E: Bits>() {
    let mut rng = generate::rng("plain partials");
    for all in [1, 2, 16, 70, 256, 257, 600, 1000] {
        for (mean, spread) in [(0.0, 1.0), (100.0, 10.0), (-3000.0, 40.0), (0.0, 1e4)] {
            let x = generate::bell::<E>(&mut rng, 3 * all, mean, spread);
            let dealt = Dealt { x: &x, dims: &[3, all], options: Softmax::default() };
            each_level(|level| dealt.same_somehow(&level.to_string(), &mut rng));
        }
    }
}

fn hostile_rows<E: Bits>() {
    let mut rng = generate::rng("hostile partials");
    for all in [5, 300] {
        for hostile in generate::hostile_scores::<E>(all) {
            for options in [Softmax::default(), Softmax::default().scale(0.3), Softmax::default().softcap(30.0)] {
                let dealt = Dealt { x: &hostile.row, dims: &[1, all], options };
                dealt.same_somehow(hostile.name, &mut rng);
                dealt.same_somehow(hostile.name, &mut rng);
            }
        }
        let x: Vec<E> = (0..all).map(|i| E::from_wide(if i % 3 == 0 { 3e38 } else { -3e38 })).collect();
        Dealt { x: &x, dims: &[1, all], options: Softmax::default() }.same_somehow("at the limits", &mut rng);
        // The second of three rows has a NaN or an infinity.
        let mut x = generate::bell::<E>(&mut rng, 3 * all, 0.0, 2.0);
        for broken in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            x[all + rng.random_range(0..all)] = E::from_wide(broken);
            Dealt { x: &x, dims: &[3, all], options: Softmax::default() }.same_somehow("a broken row", &mut rng);
        }
    }
}

fn masked_rows<E: Bits>() {
    let mut rng = generate::rng("masked partials");
    let (queries, all) = (4, 700);
    let dims = [2, queries, all];
    for round in 0..3 {
        let spread = [1.0, 30.0, 3e4][round];
        let x = generate::bell::<E>(&mut rng, 2 * queries * all, 0.0, spread);
        let keep: Vec<bool> = (0..2 * all).map(|_| rng.random_bool(0.5)).collect();
        let flat: Vec<f32> = (0..all).map(|_| if rng.random_bool(0.3) { f32::NEG_INFINITY } else { 0.0 }).collect();
        let slope: Vec<f32> = (0..queries * all).map(|i| -0.37 * (i % all) as f32).collect();
        // The bias is 0 except in the last column, so only one part has a nonzero bias.
        let mut late = vec![0.0f32; all];
        late[all - 1] = 0.1;
        let mut huge = slope.clone();
        huge[rng.random_range(0..all)] = 1e6;
        let wide: Vec<f64> = (0..all).map(|i| if i == 600 { 0.1 } else { 1.0 }).collect();
        let lengths = [all - 5, 0];
        let masks = [
            Mask::none(),
            Mask::causal(),
            Mask::causal().and_window(300),
            Mask::keep(&keep, &[2, 1, all]),
            Mask::bias(&flat, &[all]),
            Mask::bias(&slope, &[queries, all]),
            Mask::bias(&late, &[all]),
            Mask::bias(&huge, &[queries, all]),
            Mask::bias(&wide, &[all]),
            Mask::bias(&slope, &[queries, all]).and_keep(&keep, &[2, 1, all]).and_window(500),
            Mask::lengths(&lengths),
        ];
        for mask in &masks {
            for scale in [1.0, 0.125, 0.1118033988749895, 1e30] {
                for softcap in [None, Some(20.0)] {
                    let options = softcap.map_or(Softmax::default(), |cap| Softmax::default().softcap(cap));
                    let policy = if rng.random_bool(0.5) { FullyMasked::Zeros } else { FullyMasked::Uniform };
                    let options = options.scale(scale).mask(mask).fully_masked(policy);
                    Dealt { x: &x, dims: &dims, options }.same_somehow("masked", &mut rng);
                }
            }
        }
    }
}

/// Checks rows whose largest logit dominates the sum. The logarithm of such a sum needs the sum of all other terms,
/// which is computed in floating point.
fn peaked_rows<E: Bits>() {
    let mut rng = generate::rng("peaked partials");
    let window = Mask::causal().and_window(777);
    for all in [300, 1500] {
        for gap in [8.0, 12.0, 16.0, 20.0, 30.0, 60.0] {
            let mut x = generate::bell::<E>(&mut rng, 2 * all, -gap, 1.0);
            x[rng.random_range(0..all)] = E::from_wide(4.0);
            x[all + rng.random_range(0..all)] = E::from_wide(4.0);
            for options in [
                Softmax::default(),
                Softmax::default().scale(0.9),
                Softmax::default().mask(&window),
                Softmax::default().mask(&window).softcap(100.0),
            ] {
                Dealt { x: &x, dims: &[2, all], options }.same_somehow("peaked", &mut rng);
            }
        }
    }
}

/// Checks rows that have both fully masked parts and parts without a mask.
fn masked_parts<E: Bits>() {
    let mut rng = generate::rng("masked parts");
    let all = 700;
    for gap in [0.0, 12.0, 30.0] {
        let mut x = generate::bell::<E>(&mut rng, 3 * all, -gap, 1.0);
        for row in x.chunks_mut(all) {
            row[50..460].fill(E::NEG_INFINITY);
            row[rng.random_range(0..50)] = E::from_wide(4.0);
        }
        for options in [Softmax::default(), Softmax::default().scale(0.9)] {
            let dealt = Dealt { x: &x, dims: &[3, all], options };
            dealt.same("masked in the middle", &[0..50, 460..700, 50..460]);
            dealt.same("masked about a tile", &[300..500, 0..100, 100..300, 500..700]);
        }
    }
}

/// Checks a row of more than 2^18 columns. The fixed-point sum of such a row has a finer unit than the sum of a shorter
/// row. Each part must use the finer unit, although the part itself is shorter.
fn many_columns<E: Bits>() {
    let mut rng = generate::rng("many columns");
    let all = generate::LONG_LENGTHS[1];
    let x = generate::bell::<E>(&mut rng, all, 0.0, 3.0);
    Dealt { x: &x, dims: &[1, all], options: Softmax::default() }.same("long", &[131_000..all, 0..131_000]);
}

#[test]
fn what_cannot_be_put_together() {
    let x = [0.5f32; 8];
    let options = Softmax::default();
    let part = |columns: Range<usize>, options: &Softmax<'_>| {
        SoftmaxPartial::new(Rows::new(&x[columns.clone()], 1, columns.len()).unwrap(), (columns.start, 8), options)
    };
    let view = |columns: Range<usize>| Rows::new(&x[columns.clone()], 1, columns.len()).unwrap();
    let message = |error: Error| error.to_string();
    let mut all = part(0..5, &options).unwrap();
    let beyond = message(SoftmaxPartial::new(view(0..5), (4, 8), &options).unwrap_err());
    assert!(
        beyond.contains("first column is 4"),
        "columns 4..9 of 8: the error must contain `first column is 4`, got {beyond}"
    );
    let twice = message(all.merge(part(3..8, &options).unwrap()).unwrap_err());
    assert!(
        twice.contains("column 3") && twice.contains("not merged yet"),
        "merging column 3 twice: the error must contain `column 3`, got {twice}"
    );
    let missing = message(all.sums(view(0..5), 0, &options).unwrap_err());
    assert!(
        missing.contains("the shard with column 5"),
        "columns 0..5 of 8: the error must contain `the shard with column 5`, got {missing}"
    );
    let unlike = message(all.merge(part(5..8, &options.scale(0.5)).unwrap()).unwrap_err());
    assert!(
        unlike.contains("scale 0.5") && unlike.contains("scale 1"),
        "merging parts with scale 0.5 and 1: the error must name both scales, got {unlike}"
    );
    all.merge(part(5..8, &options).unwrap()).unwrap();
    let other = message(all.sums(Rows::new(&[0.5f64; 5], 1, 5).unwrap(), 0, &options).unwrap_err());
    assert!(
        other.contains("F64") && other.contains("F32"),
        "f64 rows after f32 rows: the error must name both types, got {other}"
    );
    let mut sums = all.sums(view(0..5), 0, &options).unwrap();
    let missing = message(sums.softmax(view(0..5), 0, &options).unwrap_err());
    assert!(
        missing.contains("the shard with column 5"),
        "columns 0..5 of 8: the error must contain `the shard with column 5`, got {missing}"
    );
    assert!(message(sums.merge(sums.clone()).unwrap_err()).contains("column 0"));
    let y = [7.0f32; 8];
    let elsewhere = SoftmaxPartial::new(Rows::new(&y, 1, 8).unwrap(), (0, 8), &options).unwrap();
    let unlike = message(sums.merge(elsewhere.sums(view(5..8), 5, &options).unwrap()).unwrap_err());
    assert!(
        unlike.contains("differ from the maxima of the merged sums"),
        "merging sums of different rows: the error must be about the maxima, got {unlike}"
    );
    sums.merge(all.sums(view(5..8), 5, &options).unwrap()).unwrap();
    assert_eq!(sums.softmax(view(5..8), 5, &options).unwrap(), [0.125f32; 3]);
    let log_sums = all.log_sums(view(0..8), 0, &options).unwrap();
    assert!(message(log_sums.logsumexp::<f64>(&options).unwrap_err()).contains("F64"));

    let nothing = [f32::NEG_INFINITY; 8];
    let refuse = options.fully_masked(FullyMasked::Error);
    let rows = Rows::new(&nothing, 2, 4).unwrap();
    let all = SoftmaxPartial::new(rows, (0, 4), &refuse).unwrap();
    let error = all.sums(rows, 0, &refuse).unwrap().softmax(rows, 0, &refuse).unwrap_err();
    assert_eq!(error, Error::fully_masked("softmax", 0));
    let log_sums = all.log_sums(rows, 0, &refuse).unwrap();
    assert_eq!(log_sums.logsumexp::<f32>(&refuse).unwrap_err(), Error::fully_masked("logsumexp", 0));
    assert_eq!(log_sums.logsumexp::<f32>(&options).unwrap(), [f32::NEG_INFINITY; 2]);
}

#[test]
fn no_columns_and_no_rows() {
    let options = Softmax::default().fully_masked(FullyMasked::Error);
    for (rows, all) in [(2, 0), (0, 3), (0, 0)] {
        let x = Rows::<f32>::new(&[], rows, all).unwrap();
        let partial = SoftmaxPartial::new(x, (0, all), &options).unwrap();
        assert!(partial.sums(x, 0, &options).unwrap().softmax(x, 0, &options).unwrap().is_empty());
        let log_sums = partial.log_sums(x, 0, &options).unwrap();
        assert!(log_sums.log_softmax(x, 0, &options).unwrap().is_empty());
        assert_eq!(log_sums.logsumexp::<f32>(&options).unwrap(), logsumexp(x, &options).unwrap());
    }
}
