//! Tests that every rank reports the error of a failed rank with that rank's number, and does not wait for that rank.

use crate::sharded_rows::{Comm, LONG, on_ranks};
use evenkeel::sharded::Sharded;
use evenkeel::{Error, LayerNorm, Mask, Result, RmsNorm, Rows, Softmax};
use std::ops::Range;
use std::time::{Duration, Instant};

const RANKS: usize = 4;
const ALL: usize = 1024;

fn own(rank: usize) -> Range<usize> {
    256 * rank..256 * (rank + 1)
}

/// Runs `other` on one rank and softmax on all others. Returns each rank's error.
fn with(deviant: usize, other: impl Fn(&Comm, Range<usize>, &[f32]) -> Result<()> + Sync) -> Vec<Error> {
    let x = [0.5f32; 2 * 256];
    let errors = on_ranks(RANKS, LONG, |rank, comm| {
        let own = own(rank);
        if rank == deviant {
            return other(&comm, own, &x);
        }
        let shard = Sharded::new(&comm, own, ALL);
        shard.softmax(Rows::new(&x, 2, 256)?, &Softmax::default()).map(drop)
    });
    errors.into_iter().map(Result::unwrap_err).collect()
}

/// Fails unless every error names the deviant rank and contains the expected texts.
#[track_caller]
fn assert_named(errors: &[Error], deviant: usize, expected: &[&str]) {
    for error in errors {
        let text = error.to_string();
        assert!(
            matches!(error, Error::Collective { rank: Some(rank), .. } if *rank == deviant),
            "expected a Collective error about rank {deviant}, got {text}"
        );
        assert!(text.contains(&format!("rank {deviant}")), "the error must contain `rank {deviant}`, got {text}");
        expected
            .iter()
            .for_each(|expected| assert!(text.contains(expected), "the error must contain {expected:?}, got {text}"));
    }
}

fn rows(x: &[f32]) -> Result<Rows<'_, f32>> {
    Rows::new(x, 2, 256)
}

#[test]
fn another_shape_op_type_or_option() {
    let errors = with(2, |comm, own, x| {
        Sharded::new(comm, own, ALL).softmax(Rows::new(&x[..256], 1, 256)?, &Softmax::default()).map(drop)
    });
    assert_named(&errors, 2, &["softmax of F32, [1] rows", "3 of 4 ranks call softmax of F32, [2] rows"]);
    let errors =
        with(1, |comm, own, x| Sharded::new(comm, own, ALL + 1).softmax(rows(x)?, &Softmax::default()).map(drop));
    assert_named(&errors, 1, &["of 1025 columns", "of 1024 columns"]);
    let errors =
        with(0, |comm, own, x| Sharded::new(comm, own, ALL).logsumexp(rows(x)?, &Softmax::default()).map(drop));
    assert!(errors[1..].iter().all(|error| error.to_string().starts_with("softmax: rank 0 calls logsumexp")));
    assert!(
        errors[0].to_string().starts_with("logsumexp: rank 0 calls"),
        "rank 0: the error must start with `logsumexp: rank 0 calls`, got {}",
        errors[0]
    );
    let errors = with(3, |comm, own, _| {
        let x = [0.5f64; 512];
        Sharded::new(comm, own, ALL).softmax(Rows::new(&x, 2, 256)?, &Softmax::default()).map(drop)
    });
    assert_named(&errors, 3, &["softmax of F64", "softmax of F32"]);
    let errors = with(3, |comm, own, x| {
        Sharded::new(comm, own, ALL).softmax(rows(x)?, &Softmax::default().scale(0.5)).map(drop)
    });
    assert_named(&errors, 3, &["scale 0.5", "scale 1.0"]);
    let errors = with(1, |comm, own, x| {
        let mask = Mask::causal();
        Sharded::new(comm, own, ALL).softmax(rows(x)?, &Softmax::default().mask(&mask)).map(drop)
    });
    assert_named(&errors, 1, &["a mask of digest", "no mask"]);
}

/// Checks that a difference in one element of a mask or a weight is detected.
#[test]
fn another_mask_or_weight() {
    let x = [0.5f32; 512];
    let plain: Vec<bool> = vec![true; ALL];
    let mut other = plain.clone();
    other[700] = false;
    let errors = on_ranks(RANKS, LONG, |rank, comm| {
        let mask = Mask::keep(if rank == 2 { &other } else { &plain }, &[ALL]);
        let shard = Sharded::new(&comm, own(rank), ALL);
        shard.log_softmax(Rows::new(&x, 2, 256).unwrap(), &Softmax::default().mask(&mask)).unwrap_err()
    });
    assert_named(&errors, 2, &["log_softmax", "a mask of digest"]);
    let plain = vec![1.0f32; ALL];
    let mut other = plain.clone();
    other[3] = 1.0 + f32::EPSILON;
    let errors = on_ranks(RANKS, LONG, |rank, comm| {
        let weight = if rank == 0 { &other } else { &plain };
        let (shard, x) = (Sharded::new(&comm, own(rank), ALL), rows(&x).unwrap());
        shard.layer_norm(x, &LayerNorm::default().weight(weight)).unwrap_err()
    });
    assert_named(&errors, 0, &["layer_norm", "digest"]);
    let errors = on_ranks(RANKS, LONG, |rank, comm| {
        let weight = if rank == 0 { &other } else { &plain };
        let (shard, x) = (Sharded::new(&comm, own(rank), ALL), rows(&x).unwrap());
        shard.rms_norm_backward(x, x, &RmsNorm::default().weight(weight)).unwrap_err()
    });
    assert_named(&errors, 0, &["rms_norm_backward", "digest"]);
}

#[test]
fn arguments_that_one_rank_refuses() {
    let errors = with(1, |comm, own, x| {
        Sharded::new(comm, own, ALL).softmax(Rows::new(x, 2, 256)?, &Softmax::default().softcap(-1.0)).map(drop)
    });
    let [zero, one, rest @ ..] = &errors[..] else { panic!("expected an error on every rank, got {errors:?}") };
    // Rank 1 gets the error that the same call gives on a single rank.
    assert!(
        matches!(one, Error::InvalidArgument { argument: "softcap", .. }),
        "rank 1: expected an InvalidArgument error about softcap, got {one}"
    );
    for error in [zero].into_iter().chain(rest) {
        assert_named(std::slice::from_ref(error), 1, &["rank 1 reported an error: softmax: softcap is -1"]);
    }
    // The width of the rows differs from the number of the rank's columns.
    let errors = with(3, |comm, own, x| {
        Sharded::new(comm, own, ALL).softmax(Rows::new(x, 4, 128)?, &Softmax::default()).map(drop)
    });
    assert!(
        matches!(errors[3], Error::ShapeMismatch { .. }),
        "rank 3: expected a ShapeMismatch error, got {}",
        errors[3]
    );
    assert_named(&errors[..3], 3, &["rank 3 reported an error", "128 columns"]);
    // A norm over ranks must be split at multiples of 256 columns.
    let x = [1.0f32; 512];
    let errors = on_ranks(2, LONG, |rank, comm| {
        let own = [0..200, 200..512][rank].clone();
        let rows = Rows::new(&x[own.clone()], 1, own.len()).unwrap();
        Sharded::new(&comm, own, 512).rms_norm(rows, &RmsNorm::default()).unwrap_err()
    });
    assert!(
        errors.iter().all(|error| error.to_string().contains("a multiple of 256")),
        "rms_norm with a cut at column 200: expected errors about a multiple of 256, got {errors:?}"
    );
    // On rank 1, the gradient has another shape than the rows.
    let errors = on_ranks(2, LONG, |rank, comm| {
        let x = Rows::new(&x[..256], 1, 256).unwrap();
        let dy = if rank == 1 { Rows::new(&[1.0f32; 512], 2, 256).unwrap() } else { x };
        let shard = Sharded::new(&comm, [0..256, 256..512][rank].clone(), 512);
        shard.layer_norm_backward(x, dy, &LayerNorm::default()).unwrap_err()
    });
    assert!(
        matches!(errors[1], Error::ShapeMismatch { op: "layer_norm_backward", .. }),
        "layer_norm_backward on rank 1: expected a ShapeMismatch error, got {}",
        errors[1]
    );
    assert_named(&errors[..1], 1, &["rank 1 reported an error: layer_norm_backward: dy"]);
}

#[test]
fn columns_that_overlap_or_leave_a_hole() {
    let cases: [([Range<usize>; 3], usize, &str); 4] = [
        ([0..4, 3..6, 6..10], 1, "rank 1 has columns 3..6, but rank 0 already has the columns up to 4"),
        ([0..4, 6..10, 5..6], 2, "no rank has columns 4..5, which come before the columns of rank 2"),
        ([0..4, 4..6, 6..9], 2, "no rank has columns 9..10, which come after the columns of rank 2"),
        ([1..4, 4..6, 6..10], 0, "no rank has columns 0..1, which come before the columns of rank 0"),
    ];
    for (columns, deviant, expected) in cases {
        let errors = on_ranks(3, LONG, |rank, comm| {
            let x = vec![1.0f32; columns[rank].len()];
            let shard = Sharded::new(&comm, columns[rank].clone(), 10);
            shard.softmax(Rows::new(&x, 1, x.len()).unwrap(), &Softmax::default()).unwrap_err()
        });
        assert_named(&errors, deviant, &[expected]);
    }
}

#[test]
fn a_rank_that_does_not_come() {
    let timeout = Duration::from_millis(300);
    let x = [0.5f32; 256];
    // Rank 2 stops taking part before the op's first exchange, or after it.
    for given in [0, 1] {
        let errors = on_ranks(RANKS, timeout, |rank, comm| {
            let start = Instant::now();
            if rank == 2 {
                use evenkeel::sharded::Collective;
                (0..given).for_each(|_| _ = comm.gather(&[1, 512, 768]));
                std::thread::sleep(3 * timeout);
                return None;
            }
            let shard = Sharded::new(&comm, own(rank), ALL);
            let error = shard.softmax(Rows::new(&x, 1, 256).unwrap(), &Softmax::default()).unwrap_err();
            assert!(
                start.elapsed() < 3 * timeout,
                "softmax without rank 2: expected an error within {:?}, got the error after {:?}",
                3 * timeout,
                start.elapsed()
            );
            Some(error)
        });
        let errors: Vec<Error> = errors.into_iter().flatten().collect();
        assert_eq!(errors.len(), RANKS - 1);
        assert_named(&errors, 2, &["softmax: timed out after 300ms waiting for rank 2"]);
    }
}

/// Checks that the ranks can continue after an error that all of them agree on.
#[test]
fn the_next_op_is_as_if_nothing_had_been() {
    let x = [0.5f32; 256];
    let each = on_ranks(RANKS, LONG, |rank, comm| {
        let shard = Sharded::new(&comm, own(rank), ALL);
        let scale = if rank == 1 { f64::NAN } else { 1.0 };
        let rows = Rows::new(&x, 1, 256).unwrap();
        shard.softmax(rows, &Softmax::default().scale(scale)).unwrap_err();
        shard.softmax(rows, &Softmax::default()).unwrap()
    });
    assert!(each.iter().flatten().all(|y| *y == 1.0 / 1024.0));
}
