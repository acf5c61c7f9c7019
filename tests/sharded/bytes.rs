//! Tests that ops exchange the number of bytes per row that `docs/sharding.md` states, for several numbers of ranks and
//! columns.

use crate::attention::{Case, Shape};
use crate::sharded_rows::{LONG, RANKS, counts, cuts, dealt, on_ranks};
use crate::support::generate::{self, Bits};
use evenkeel::sharded::{GradShard, Sharded, clip_grad_norm};
use evenkeel::{Attention, ClipGradNorm, CrossEntropy, Element, LayerNorm, Mask, Result, RmsNorm, Rows, Softmax};
use std::ops::Range;

type Op<E> = fn(Sharded<'_, crate::sharded_rows::Comm>, Rows<'_, E>) -> Result<Vec<E>>;

/// Checks how many collective calls each rank makes, and how many bytes it sends and receives.
#[track_caller]
fn assert_exchanged<E: Bits>(
    what: &str,
    (x, rows): (&[E], usize),
    cuts: &[Range<usize>],
    op: Op<E>,
    expected: [usize; 3],
) {
    let [calls, given, got] = expected.map(|count| count as u64);
    for (y, exchanged) in dealt((x, &[rows, x.len() / rows]), cuts, |_, shard, x| op(shard, x)) {
        y.unwrap();
        assert_eq!(
            counts(exchanged),
            [calls, given, got],
            "{what} with columns {cuts:?}: expected {calls} calls, {given} bytes sent and {got} bytes received"
        );
    }
}

/// Checks softmax. The number of bytes depends neither on the vocabulary nor on the logits. The received bytes include
/// a header of 24 bytes from each rank.
#[test]
fn softmax_takes_56_bytes_a_row_and_its_logarithm_72() {
    let mut rng = generate::rng("bytes of softmax");
    for ranks in RANKS {
        for (rows, all) in [(1, 300), (5, 300), (5, 3000)] {
            let mut x = generate::bell::<f32>(&mut rng, rows * all, 0.0, 2.0);
            x[all / 2] = 60.0;
            let cuts = cuts(&mut rng, ranks, all, 1);
            let expected = |calls: usize, of_row: usize| [calls, 24 + of_row * rows, 24 * ranks + of_row * rows];
            let softmax: Op<f32> = |shard, x| shard.softmax(x, &Softmax::default());
            assert_exchanged("softmax", (&x, rows), &cuts, softmax, expected(3, 56));
            let log: Op<f32> = |shard, x| shard.log_softmax(x, &Softmax::default());
            assert_exchanged("log_softmax", (&x, rows), &cuts, log, expected(4, 72));
            let log: Op<f32> = |shard, x| shard.logsumexp(x, &Softmax::default());
            assert_exchanged("logsumexp", (&x, rows), &cuts, log, expected(4, 72));
        }
    }
}

/// Checks that a sum of more than 64 bits takes 8 additional bytes per row.
#[test]
fn long_rows_take_8_bytes_more() {
    let (rows, all) = (2, 262_145);
    let x = vec![0.5f32; rows * all];
    let cuts = [100_000..all, 0..100_000];
    let expected = |calls: usize, of_row: usize| [calls, 24 + of_row * rows, 48 + of_row * rows];
    let softmax: Op<f32> = |shard, x| shard.softmax(x, &Softmax::default());
    assert_exchanged("softmax", (&x, rows), &cuts, softmax, expected(3, 64));
    let log: Op<f32> = |shard, x| shard.log_softmax(x, &Softmax::default());
    assert_exchanged("log_softmax", (&x, rows), &cuts, log, expected(4, 80));
    let loss: Op<f32> = |shard, x| shard.cross_entropy(x, &[1, 200_000], &CrossEntropy::default()).map(|_| Vec::new());
    assert_exchanged("cross_entropy", (&x, rows), &cuts, loss, expected(4, 56));
}

/// Checks f64. For each row, a rank merges 72 bytes. If the op returns a logarithm, a rank also sends 40 bytes for its
/// binned sum. Neither number depends on the vocabulary.
#[test]
fn f64_takes_72_bytes_a_row_and_bins() {
    let rows = 3;
    for ranks in RANKS {
        for all in [300, 3000] {
            let mut rng = generate::rng("bytes of f64");
            let x = generate::bell::<f64>(&mut rng, rows * all, 0.0, 2.0);
            let cuts = cuts(&mut rng, ranks, all, 1);
            let softmax: Op<f64> = |shard, x| shard.softmax(x, &Softmax::default());
            let merged = [3, 24 + 72 * rows, 24 * ranks + 72 * rows];
            assert_exchanged("softmax of f64", (&x, rows), &cuts, softmax, merged);
            let expected = [4, 24 + (72 + 40) * rows, 24 * ranks + 72 * rows + 40 * rows * ranks];
            let log: Op<f64> = |shard, x| shard.log_softmax(x, &Softmax::default());
            assert_exchanged("log_softmax of f64", (&x, rows), &cuts, log, expected);
            let log: Op<f64> = |shard, x| shard.logsumexp(x, &Softmax::default());
            assert_exchanged("logsumexp of f64", (&x, rows), &cuts, log, expected);
        }
    }
}

/// Checks columns that are split at multiples of 256. `softmax_backward` gathers four words per row and one number per
/// tile of 256 columns. `logsumexp_backward` gathers nothing.
#[test]
fn gradients_gather_tiles() {
    let (rows, all) = (3, 2048);
    let (x, wide) = (vec![0.5f32; rows * all], vec![0.5f64; rows * all]);
    for ranks in [1, 2, 4, 8] {
        let cuts: Vec<Range<usize>> = (0..ranks).map(|rank| all / ranks * rank..all / ranks * (rank + 1)).collect();
        let words = rows * (4 + all / ranks / 256);
        let fixed = 56 * rows;
        let expected = [5, 24 + fixed + 8 + 8 * words, 24 * ranks + fixed + 8 * ranks + 8 * ranks * words];
        let op: Op<f32> = |shard, x| shard.softmax_backward(x, x, &Softmax::default());
        assert_exchanged("softmax_backward", (&x, rows), &cuts, op, expected);
        let op: Op<f32> = |shard, x| shard.logsumexp_backward(x, &[1.0, 2.0, 3.0], &Softmax::default());
        assert_exchanged("logsumexp_backward", (&x, rows), &cuts, op, [3, 24 + fixed, 24 * ranks + fixed]);
        // For `softmax_backward` of f64, the ranks merge 80 bytes per row: 72 as for softmax, and 8 for the largest
        // gradient. The ranks gather twice as many words as for f32.
        let (words, fixed) = (2 * words, 80 * rows);
        let expected = [6, 24 + fixed + 8 + 8 * words, 24 * ranks + fixed + 8 * ranks + 8 * ranks * words];
        let op: Op<f64> = |shard, x| shard.softmax_backward(x, x, &Softmax::default());
        assert_exchanged("softmax_backward of f64", (&wide, rows), &cuts, op, expected);
        let op: Op<f64> = |shard, x| shard.logsumexp_backward(x, &[1.0, 2.0, 3.0], &Softmax::default());
        assert_exchanged(
            "logsumexp_backward of f64",
            (&wide, rows),
            &cuts,
            op,
            [3, 24 + 72 * rows, 24 * ranks + 72 * rows],
        );
    }
}

/// Expected communication of a norm. `calls` is the number of collective calls after the first. For each row, the ranks
/// exchange `merged` bytes in max-reductions. For each tile of a row, they gather `sums` numbers.
struct Norm {
    calls: usize,
    merged: usize,
    sums: usize,
}

#[track_caller]
fn assert_norm<E: Bits>(what: &str, x: &[E], op: Op<E>, Norm { calls, merged, sums }: Norm) {
    let (rows, all) = (3, 2048);
    for ranks in [1, 2, 4, 8] {
        let cuts: Vec<Range<usize>> = (0..ranks).map(|rank| all / ranks * rank..all / ranks * (rank + 1)).collect();
        let (fixed, tiles) = (merged * rows, 8 * rows * sums * all / 256);
        let expected = [1 + calls, 24 + fixed + tiles / ranks, 24 * ranks + fixed + tiles];
        assert_exchanged(what, (x, rows), &cuts, op, expected);
    }
}

#[test]
fn norms_take_a_number_for_each_tile() {
    fn rms<E: Element>(shard: Sharded<'_, crate::sharded_rows::Comm>, x: Rows<'_, E>) -> Result<Vec<E>> {
        shard.rms_norm(x, &RmsNorm::default())
    }
    fn rms_backward<E: Element>(shard: Sharded<'_, crate::sharded_rows::Comm>, x: Rows<'_, E>) -> Result<Vec<E>> {
        Ok(shard.rms_norm_backward(x, x, &RmsNorm::default())?.dx)
    }
    fn layer<E: Element>(shard: Sharded<'_, crate::sharded_rows::Comm>, x: Rows<'_, E>) -> Result<Vec<E>> {
        shard.layer_norm(x, &LayerNorm::default())
    }
    fn layer_backward<E: Element>(shard: Sharded<'_, crate::sharded_rows::Comm>, x: Rows<'_, E>) -> Result<Vec<E>> {
        Ok(shard.layer_norm_backward(x, x, &LayerNorm::default())?.dx)
    }
    let narrow: Vec<f32> = (0..3 * 2048).map(|i| (i % 7) as f32).collect();
    let wide: Vec<f64> = narrow.iter().map(|x| f64::from(*x)).collect();
    let far: Vec<f32> = narrow.iter().map(|x| x + 1000.0).collect();
    assert_norm("rms_norm", &narrow, rms, Norm { calls: 2, merged: 24, sums: 1 });
    assert_norm("rms_norm of f64", &wide, rms, Norm { calls: 3, merged: 48, sums: 1 });
    assert_norm("layer_norm", &narrow, layer, Norm { calls: 1, merged: 0, sums: 2 });
    assert_norm("layer_norm far from 0", &far, layer, Norm { calls: 2, merged: 0, sums: 4 });
    assert_norm("layer_norm of f64", &wide, layer, Norm { calls: 4, merged: 24, sums: 3 });
    assert_norm("rms_norm_backward", &narrow, rms_backward, Norm { calls: 3, merged: 24, sums: 2 });
    assert_norm("rms_norm_backward of f64", &wide, rms_backward, Norm { calls: 5, merged: 64, sums: 2 });
    assert_norm("layer_norm_backward", &narrow, layer_backward, Norm { calls: 2, merged: 0, sums: 4 });
    assert_norm("layer_norm_backward far from 0", &far, layer_backward, Norm { calls: 3, merged: 0, sums: 6 });
    assert_norm("layer_norm_backward of f64", &wide, layer_backward, Norm { calls: 6, merged: 40, sums: 5 });
}

/// Checks cross-entropy. Its gradient exchanges no more bytes than the loss alone.
#[test]
fn cross_entropy_takes_48_bytes_a_row() {
    fn loss<E: Element>(
        shard: Sharded<'_, crate::sharded_rows::Comm>,
        x: Rows<'_, E>,
        options: &CrossEntropy<'_>,
    ) -> Result<Vec<E>> {
        shard.cross_entropy(x, &[1, 700, -100], options).map(|_| Vec::new())
    }
    fn both<E: Element>(
        shard: Sharded<'_, crate::sharded_rows::Comm>,
        x: Rows<'_, E>,
        options: &CrossEntropy<'_>,
    ) -> Result<Vec<E>> {
        Ok(shard.cross_entropy_backward(x, &[1, 700, -100], &[1.0], options)?.1)
    }
    let rows = 3;
    for (ranks, all) in [(1, 800), (2, 2048), (4, 800), (8, 2048)] {
        let mut rng = generate::rng("bytes of losses");
        let plain = vec![0.5f32; rows * all];
        let wide = vec![0.5f64; rows * all];
        let mut peaked = plain.clone();
        peaked[500] = 60.0;
        let cuts = cuts(&mut rng, ranks, all, 1);
        // The arguments are the number of calls, the merged bytes per row, and the bytes per row that each rank sends
        // to a gather.
        let expected = |calls: usize, merged: usize, own: usize| {
            [calls, 24 + (merged + own) * rows, 24 * ranks + merged * rows + own * rows * ranks]
        };
        let narrow: [Op<f32>; 2] = [
            |shard, x| loss(shard, x, &CrossEntropy::default().z_loss(0.1)),
            |shard, x| both(shard, x, &CrossEntropy::default().z_loss(0.1)),
        ];
        let smoothed: [Op<f32>; 2] = [
            |shard, x| loss(shard, x, &CrossEntropy::default().label_smoothing(0.1)),
            |shard, x| both(shard, x, &CrossEntropy::default().label_smoothing(0.1)),
        ];
        let of_f64: [Op<f64>; 2] =
            [|shard, x| loss(shard, x, &CrossEntropy::default()), |shard, x| both(shard, x, &CrossEntropy::default())];
        for op in narrow {
            assert_exchanged("cross_entropy", (&plain, rows), &cuts, op, expected(4, 48, 0));
            assert_exchanged("of a peaked row", (&peaked, rows), &cuts, op, expected(4, 48, 0));
        }
        for op in smoothed {
            assert_exchanged("with label smoothing", (&plain, rows), &cuts, op, expected(5, 48, 40));
        }
        for op in of_f64 {
            assert_exchanged("of f64", (&wide, rows), &cuts, op, expected(4, 48, 40));
        }
    }
}

/// Checks clipping. For a shard, a rank sends one number per tile. For a replica, each rank sends one number. For each
/// tensor that is not sharded, one of the ranks that hold it sends two further numbers.
#[test]
fn clipping_takes_a_number_for_each_tile_that_is_cut() {
    fn of_type<E: Element>(ranks: usize) -> Vec<[u64; 3]> {
        on_ranks(ranks, LONG, |rank, comm| {
            let own = 8 / ranks * rank..8 / ranks * (rank + 1);
            let (mut replica, mut expert) = (vec![E::ZERO; 300], vec![E::ZERO; 700]);
            let mut part = vec![E::ZERO; own.len() * 256];
            let mut grads = [
                GradShard::whole(0, &mut replica),
                GradShard::cut(1, &mut part, &[8, 256], 0, own),
                GradShard::whole(2 + rank, &mut expert),
            ];
            clip_grad_norm(&comm, &mut grads, &ClipGradNorm::new(1.0)).unwrap();
            counts(comm.take())
        })
    }
    // Total size of the descriptions of three tensors. A description has six numbers and the length of each dimension.
    let places = 7 + 8 + 7;
    for ranks in [2, 4, 8] {
        // Rank 0 sends 2 + 1 numbers for the replica, 8 / `ranks` numbers for its shard, and 2 numbers for the
        // unsharded tensor `expert`.
        let sums = 2 + 1 + 8 / ranks + 2;
        let given = 16 + 8 * (places + sums) as u64;
        let got = given * ranks as u64;
        for exchanged in of_type::<f32>(ranks) {
            assert_eq!(
                exchanged,
                [3, given, got],
                "{ranks} ranks: expected 3 calls, {given} bytes sent and {got} bytes received, got {exchanged:?}"
            );
        }
        for exchanged in of_type::<f64>(ranks) {
            assert_eq!(
                exchanged,
                [4, given + 8, got + 8],
                "{ranks} ranks, f64: expected 4 calls, and 8 more bytes in each direction than for f32"
            );
        }
    }
    let given = 16 + 8 * (places + 6) as u64;
    assert_eq!(of_type::<f64>(1), [[3, given, given]]);
}

/// Checks attention. For each query and each block of 256 keys, a rank sends one number per feature of the values, plus
/// two numbers. If the query attends to no key of the block, it sends one number.
#[test]
fn attention_takes_what_256_keys_come_to() {
    fn of_type<E: Bits>(ranks: usize, queries: usize, mask: &Mask<'_>) -> Vec<[u64; 3]> {
        let case = Case::<E>::new(&mut generate::rng("bytes of attention"), Shape([2, 4, 2, queries, 2048, 3, 5]));
        let cuts: Vec<Range<usize>> = (0..ranks).map(|rank| 2048 / ranks * rank..2048 / ranks * (rank + 1)).collect();
        let dealt = case.dealt(&cuts, &Attention::default().mask(mask));
        dealt.into_iter().map(|(both, exchanged)| both.map(|_| counts(exchanged)).unwrap()).collect()
    }
    let (none, window, keys) = (Mask::none(), Mask::causal().and_window(100), 2048);
    for ranks in [1, 2, 4, 8] {
        for queries in [1, 3] {
            let (rows, blocks) = (8 * queries, keys / 256 / ranks);
            let expected = |words: usize| {
                let given = 24 + 8 + 80 + 8 * words as u64;
                vec![[3, given, given * ranks as u64]; ranks]
            };
            let all = expected(rows * blocks * (2 + 5));
            assert_eq!(
                of_type::<f32>(ranks, queries, &none),
                all,
                "attention of {queries} f32 queries on {ranks} ranks must exchange the expected number of bytes"
            );
            assert_eq!(
                of_type::<f64>(ranks, queries, &none),
                all,
                "attention of {queries} f64 queries on {ranks} ranks must exchange the expected number of bytes"
            );
            // The queries attend to the last keys only.
            let last = expected(rows * (blocks - 1 + 2 + 5));
            assert_eq!(
                of_type::<f32>(ranks, queries, &window),
                last,
                "attention of {queries} queries on {ranks} ranks, with a window of 100 keys, must exchange the \
                 expected number of bytes"
            );
        }
    }
}
