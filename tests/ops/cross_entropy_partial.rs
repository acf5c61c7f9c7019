//! Tests of cross-entropy over column ranges. Loss and gradient must have the same bits as for whole rows, wherever the
//! columns are split and in whatever order the parts are merged. Incompatible parts must be rejected.

use crate::support::compare::assert_same_bits;
use crate::support::generate::{self, Bits, scattered};
use crate::support::implementations::each_level;
use evenkeel::{
    CrossEntropy, CrossEntropyPartial, CrossEntropySums, Error, Loss, Reduction, Result, Rows, RowsMut,
    cross_entropy_backward, report,
};
use rand::RngExt;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use std::ops::Range;

for_each_dtype!(
    plain_rows,
    hostile_rows,
    masked_parts,
    every_option,
    peaked_rows,
    rows_that_do_not_count,
    many_columns
);

/// Rows to shard by columns, with their targets and options.
struct Dealt<'a, E> {
    x: &'a [E],
    all: usize,
    targets: &'a [i64],
    options: CrossEntropy<'a>,
}

impl<E: Bits> Dealt<'_, E> {
    /// Copies a range of columns of each row, without gaps.
    fn columns(&self, of: &[E], columns: &Range<usize>) -> Vec<E> {
        of.chunks(self.all).flat_map(|row| row[columns.clone()].to_vec()).collect()
    }

    fn dloss(&self) -> Vec<f64> {
        let losses = if self.options.reduction == Reduction::None { self.targets.len() } else { 1 };
        (0..losses).map(|i| 0.75 + scattered(i)).collect()
    }

    /// Fails unless parts with these column ranges, merged in this order, give the same bits as whole rows.
    #[track_caller]
    fn same(&self, what: &str, cuts: &[Range<usize>]) {
        let Dealt { x, all, targets, options } = self;
        let (rows, dloss) = (targets.len(), self.dloss());
        let what = format!("{what}, {targets:?}, {options:?} in {cuts:?}");
        let parts: Vec<Vec<E>> = cuts.iter().map(|cut| self.columns(x, cut)).collect();
        let view = |i: usize| Rows::new(&parts[i], rows, cuts[i].len()).unwrap();
        let mut each = (0..cuts.len())
            .map(|i| CrossEntropyPartial::new(view(i), (cuts[i].start, *all), targets, options).unwrap());
        let mut partial = each.next().unwrap();
        each.for_each(|other| partial.merge(other).unwrap());
        let mut each = (0..cuts.len()).map(|i| partial.sums(view(i), cuts[i].start, targets, options).unwrap());
        let mut sums = each.next().unwrap();
        each.for_each(|other| sums.merge(other).unwrap());
        let whole = Rows::new(x, rows, *all).unwrap();
        let (loss, dx) = cross_entropy_backward(whole, targets, &dloss, options).unwrap();
        assert_same_loss(&what, &sums.loss(targets, options).unwrap(), &loss);
        for (i, cut) in cuts.iter().enumerate().filter(|(_, cut)| !cut.is_empty()) {
            let theirs = self.columns(&dx, cut);
            assert_same_bits(&what, &sums.backward(view(i), cut.start, targets, &dloss, options).unwrap(), &theirs);
            let mut ours = parts[i].clone();
            let in_place = RowsMut::new(&mut ours, rows, cut.len()).unwrap();
            sums.backward_in_place(in_place, cut.start, targets, &dloss, options).unwrap();
            assert_same_bits(&format!("{what}, in place"), &ours, &theirs);
        }
    }

    /// Runs [`Dealt::same`] with random cuts.
    #[track_caller]
    fn same_somehow(&self, what: &str, rng: &mut SmallRng) {
        let cuts = cuts(rng, self.all);
        self.same(what, &cuts);
    }
}

#[track_caller]
fn assert_same_loss(what: &str, ours: &Loss, theirs: &Loss) {
    assert_eq!(
        ours.as_slice().len(),
        theirs.as_slice().len(),
        "{what}: the merged parts must give as many losses as the whole rows"
    );
    for (ours, theirs) in ours.as_slice().iter().zip(theirs.as_slice()) {
        assert!(
            ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(),
            "{what}: expected a loss of {theirs}, got {ours}"
        );
    }
}

fn each() -> CrossEntropy<'static> {
    CrossEntropy::default().reduction(Reduction::None)
}

/// Splits the columns into up to five ranges in random order. Some ranges are empty, and some have one column.
fn cuts(rng: &mut SmallRng, all: usize) -> Vec<Range<usize>> {
    let mut ends: Vec<usize> = (0..rng.random_range(0..4)).map(|_| rng.random_range(0..=all)).collect();
    if let Some(end) = ends.first().filter(|end| **end < all) {
        ends.push(end + 1);
    }
    ends.push(all);
    ends.sort_unstable();
    let starts = [0].into_iter().chain(ends.clone());
    let mut cuts: Vec<Range<usize>> = starts.zip(ends.clone()).map(|(start, end)| start..end).collect();
    cuts.shuffle(rng);
    cuts
}

fn classes(rng: &mut SmallRng, rows: usize, all: usize) -> Vec<i64> {
    (0..rows).map(|_| rng.random_range(0..all) as i64).collect()
}

fn plain_rows<E: Bits>() {
    let mut rng = generate::rng("plain cross-entropies in parts");
    for all in [1, 2, 16, 70, 256, 257, 600, 1000] {
        for (mean, spread) in [(0.0, 1.0), (100.0, 10.0), (-3000.0, 40.0), (0.0, 1e4)] {
            let x = generate::bell::<E>(&mut rng, 3 * all, mean, spread);
            let targets = classes(&mut rng, 3, all);
            let dealt = Dealt { x: &x, all, targets: &targets, options: each() };
            each_level(|level| dealt.same_somehow(&level.to_string(), &mut rng));
        }
    }
}

fn hostile_rows<E: Bits>() {
    let mut rng = generate::rng("hostile cross-entropies in parts");
    for all in [5, 300] {
        let weight: Vec<f32> = (0..all).map(|i| scattered(i) as f32).collect();
        let smoothed = each().label_smoothing(0.2).weight(&weight).z_loss(1e-3);
        for hostile in generate::hostile_scores::<E>(all) {
            for options in [each(), smoothed, smoothed.softcap(30.0)] {
                let targets = classes(&mut rng, 1, all);
                let dealt = Dealt { x: &hostile.row, all, targets: &targets, options };
                dealt.same_somehow(hostile.name, &mut rng);
                dealt.same_somehow(hostile.name, &mut rng);
            }
        }
        let far = 1e30f64.min(E::LIMITS.max / 4.0);
        for ends in [far, E::LIMITS.max] {
            let x: Vec<E> = (0..all).map(|i| E::from_wide(if i % 3 == 0 { ends } else { -ends })).collect();
            for options in [each(), smoothed, each().softcap(3.0)] {
                let targets = classes(&mut rng, 1, all);
                Dealt { x: &x, all, targets: &targets, options }.same_somehow("far apart", &mut rng);
            }
        }
        // The second of three rows has a NaN or an infinity.
        for broken in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut x = generate::bell::<E>(&mut rng, 3 * all, 0.0, 2.0);
            x[all + rng.random_range(0..all)] = E::from_wide(broken);
            for options in [CrossEntropy::default(), each(), smoothed] {
                let targets = classes(&mut rng, 3, all);
                Dealt { x: &x, all, targets: &targets, options }.same_somehow("a broken row", &mut rng);
            }
        }
    }
}

/// Checks fully masked parts of rows that have unmasked columns in other parts, and fully masked rows.
fn masked_parts<E: Bits>() {
    let mut rng = generate::rng("masked parts");
    let all = 700;
    let weight: Vec<f32> = (0..all).map(|i| if i % 3 == 0 { 0.0 } else { scattered(i) as f32 }).collect();
    let of_some: Vec<f32> =
        (0..all).map(|i| if (50..460).contains(&i) { 0.0 } else { 0.5 + scattered(i) as f32 }).collect();
    for (mean, spread) in [(0.0, 0.1), (0.0, 40.0), (-12.0, 1.0), (-30.0, 1.0)] {
        let mut x = generate::bell::<E>(&mut rng, 2 * all, mean, spread);
        x[10] = E::from_wide(4.0);
        x[50..460].fill(E::NEG_INFINITY);
        x[all..].fill(E::NEG_INFINITY);
        for options in [
            each(),
            each().softcap(5.0),
            each().weight(&weight).label_smoothing(0.1),
            each().weight(&of_some).label_smoothing(0.1).z_loss(0.1),
            each().weight(&of_some).label_smoothing(0.1).softcap(5.0),
        ] {
            for target in [10, 50, 300, 600] {
                let dealt = Dealt { x: &x, all, targets: &[target, target], options };
                dealt.same("masked in the middle", &[0..50, 460..700, 50..460]);
                dealt.same("masked about a tile", &[300..500, 0..100, 100..300, 500..700]);
                dealt.same_somehow("masked somewhere", &mut rng);
            }
        }
    }
}

fn every_option<E: Bits>() {
    let mut rng = generate::rng("options of cross-entropies in parts");
    let (rows, all) = (5, 530);
    let weight: Vec<f64> = (0..all).map(|i| if i % 7 == 3 { 0.0 } else { 0.25 + scattered(i) }).collect();
    let signed: Vec<f64> = (0..all).map(|i| scattered(i) - 0.5).collect();
    for round in 0..40 {
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
        Dealt { x: &x, all, targets: &targets, options }.same_somehow("options", &mut rng);
    }
}

/// Checks rows whose largest logit dominates the sum. The exponentials of all other logits are then added as floats,
/// and not as integers. The largest logit belongs to the target or to another class.
fn peaked_rows<E: Bits>() {
    let mut rng = generate::rng("peaked cross-entropies in parts");
    for all in [300, 1500] {
        for gap in [8.0, 12.0, 16.0, 20.0, 30.0, 60.0] {
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
                let dealt = Dealt { x: &x, all, targets: &targets, options };
                dealt.same_somehow("peaked", &mut rng);
                dealt.same_somehow("peaked", &mut rng);
            }
        }
    }
}

fn rows_that_do_not_count<E: Bits>() {
    let mut rng = generate::rng("ignored rows in parts");
    let all = 40;
    let mut x = generate::bell::<E>(&mut rng, 4 * all, 0.0, 3.0);
    x[all..2 * all].fill(E::NAN);
    for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
        let options = CrossEntropy::default().reduction(reduction).label_smoothing(0.1);
        let dealt = Dealt { x: &x, all, targets: &[3, -100, 39, -100], options };
        dealt.same_somehow("two of four", &mut rng);
        Dealt { targets: &[-100; 4], ..dealt }.same_somehow("none of four", &mut rng);
        Dealt { targets: &[0, 7, 7, 39], options: options.ignore_index(7), ..dealt }.same_somehow("a class", &mut rng);
    }
}

/// Checks a row of more than 2^18 columns. The fixed-point sum of such a row has a finer unit than the sum of a shorter
/// row. Each part must use the finer unit, although the part itself is shorter.
fn many_columns<E: Bits>() {
    let mut rng = generate::rng("many columns");
    let all = generate::LONG_LENGTHS[1];
    let x = generate::bell::<E>(&mut rng, all, 0.0, 3.0);
    let options = each().label_smoothing(0.1);
    Dealt { x: &x, all, targets: &[131_500], options }.same("long", &[131_000..all, 0..131_000]);
}

const X: [f32; 8] = [0.5; 8];

fn part(columns: Range<usize>, targets: &[i64], options: &CrossEntropy<'_>) -> Result<CrossEntropyPartial> {
    let rows = Rows::new(&X[columns.clone()], 1, columns.len())?;
    CrossEntropyPartial::new(rows, (columns.start, 8), targets, options)
}

fn view(columns: Range<usize>) -> Rows<'static, f32> {
    Rows::new(&X[columns.clone()], 1, columns.len()).unwrap()
}

#[track_caller]
fn refused<T>(result: Result<T>, parts: &[&str]) {
    let message = result.err().map(|error: Error| error.to_string()).unwrap_or_default();
    assert!(
        !message.is_empty() && parts.iter().all(|part| message.contains(part)),
        "the error must contain each of {parts:?}, got {message:?}"
    );
}

#[test]
fn what_cannot_be_put_together() {
    let options = CrossEntropy::default();
    refused(CrossEntropyPartial::new(view(0..5), (4, 8), &[1], &options), &["first column is 4"]);
    refused(part(0..5, &[8], &options), &["target is 8 in row 0", "in 0 .. 8"]);
    refused(part(0..5, &[1, 2], &options), &["target has 2 elements"]);
    refused(part(0..5, &[1], &options.weight(&[1.0f32; 5])), &["weight has 5"]);
    let mut all = part(0..5, &[6], &options).unwrap();
    refused(all.merge(part(3..8, &[6], &options).unwrap()), &["column 3", "not merged yet"]);
    refused(all.sums(view(0..5), 0, &[6], &options), &["the shard with column 5"]);
    let capped = part(5..8, &[6], &options.softcap(3.0)).unwrap();
    refused(all.merge(capped), &["softcap 3", "softcap none"]);
    let smoothed = part(5..8, &[6], &options.label_smoothing(0.25)).unwrap();
    refused(all.merge(smoothed), &["label_smoothing 0.25", "label_smoothing 0"]);
    all.merge(part(5..8, &[6], &options).unwrap()).unwrap();
    refused(all.sums(Rows::new(&[0.5f64; 5], 1, 5).unwrap(), 0, &[6], &options), &["F64", "F32"]);
    refused(all.sums(view(0..5), 4, &[6], &options), &["first column is 4"]);

    let mut sums: CrossEntropySums = all.sums(view(0..5), 0, &[6], &options).unwrap();
    refused(sums.loss(&[6], &options), &["the shard with column 5"]);
    refused(sums.backward(view(0..5), 0, &[6], &[1.0], &options), &["the shard with column 5"]);
    refused(sums.merge(sums.clone()), &["column 0"]);
    let elsewhere = CrossEntropyPartial::new(Rows::new(&[7.0f32; 8], 1, 8).unwrap(), (0, 8), &[6], &options).unwrap();
    refused(
        sums.merge(elsewhere.sums(view(5..8), 5, &[6], &options).unwrap()),
        &["differ from the maxima of the merged sums"],
    );
    sums.merge(all.sums(view(5..8), 5, &[6], &options).unwrap()).unwrap();
    refused(sums.loss(&[6], &options.label_smoothing(0.5)), &["label_smoothing 0.5"]);
    refused(sums.backward(view(5..8), 5, &[6], &[1.0, 2.0], &options), &["dloss has 2 elements"]);
    assert_eq!(sums.loss(&[6], &options).unwrap().value() as f32, 8f32.ln());
    let mut x = X;
    let in_place = RowsMut::new(&mut x[5..], 1, 3).unwrap();
    refused(sums.backward_in_place(in_place, 6, &[6], &[1.0], &options), &["first column is 6"]);
    assert_eq!(x, X);
    let in_place = RowsMut::new(&mut x[5..], 1, 3).unwrap();
    sums.backward_in_place(in_place, 5, &[6], &[1.0], &options).unwrap();
    assert_eq!(x[5..], [0.125, -0.875, 0.125]);

    // The options in `ignored` ignore the target 6. Sums that were computed with these options do not include the loss
    // of target 6. So they must be rejected with options that count this target.
    let ignored = options.ignore_index(6);
    let all = part(0..8, &[6], &options).unwrap();
    let sums = all.sums(view(0..8), 0, &[6], &ignored).unwrap();
    refused(sums.loss(&[6], &options), &["target is 6 in row 0", "for which the sums were computed"]);
}

#[test]
fn what_was_met_is_reported_once_a_loss() {
    let x = [f32::NEG_INFINITY, f32::NEG_INFINITY, 0.0, f32::NAN, 1.0, 2.0];
    let (options, targets) = (CrossEntropy::default(), [0, 1, -100]);
    let rows = Rows::new(&x, 3, 2).unwrap();
    let (sums, silent) = report::scope(|| {
        CrossEntropyPartial::new(rows, (0, 2), &targets, &options).unwrap().sums(rows, 0, &targets, &options).unwrap()
    });
    assert_eq!(silent.to_string(), "no op was called");
    let (_, report) = report::scope(|| sums.loss(&targets, &options).unwrap());
    assert_eq!(report.to_string(), "cross_entropy: 1 of 3 rows fully masked, 1 of 3 rows with NaN");
    let (_, report) = report::scope(|| sums.backward(rows, 0, &targets, &[1.0], &options).unwrap());
    assert_eq!(report.to_string(), "cross_entropy_backward: 1 of 3 rows fully masked, 1 of 3 rows with NaN");
}

#[test]
fn no_columns_and_no_rows() {
    let options = CrossEntropy::default();
    for (rows, all) in [(2, 0), (0, 3), (0, 0)] {
        let (x, targets) = (Rows::<f32>::new(&[], rows, all).unwrap(), vec![-100; rows]);
        let partial = CrossEntropyPartial::new(x, (0, all), &targets, &options).unwrap();
        let sums = partial.sums(x, 0, &targets, &options).unwrap();
        assert_eq!(sums.loss(&targets, &options).unwrap(), Loss::Value(0.0));
        assert!(sums.backward(x, 0, &targets, &[1.0], &options).unwrap().is_empty());
    }
}
