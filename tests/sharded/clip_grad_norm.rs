//! Tests of clipping gradients sharded across ranks. The bits are the same as on one rank that has all gradients.

use crate::sharded_rows::{Comm, LONG, RANKS, assert_same, cuts, on_ranks};
use crate::support::generate::{self, Bits};
use evenkeel::sharded::{Collective, GradShard, clip_grad_norm};
use evenkeel::{ClipGradNorm, ClipMode, Error, FloatsMut, NormType, Result};
use rand::RngExt;
use rand::rngs::SmallRng;
use std::ops::Range;

for_each_dtype!(layouts, hostile_elements, every_option);

/// Gradient, and its distribution over ranks.
struct Tensor<E> {
    x: Vec<E>,
    dims: Vec<usize>,
    who: Who,
}

enum Who {
    Everyone,
    Only(usize),
    /// Each rank has a range of an axis.
    Cut(usize, Vec<Range<usize>>),
    /// Ranks 2k and 2k + 1 have the same range of an axis.
    CutInPairs(usize, Vec<Range<usize>>),
}

impl<E: Bits> Tensor<E> {
    /// Returns the axis and the range of a rank. Returns `Some(None)` if the rank has the whole tensor, and `None` if
    /// it has no part.
    fn own(&self, rank: usize) -> Option<Option<(usize, Range<usize>)>> {
        match &self.who {
            Who::Everyone => Some(None),
            Who::Only(one) => (*one == rank).then_some(None),
            Who::Cut(axis, cuts) => Some(Some((*axis, cuts[rank].clone()))),
            Who::CutInPairs(axis, cuts) => Some(Some((*axis, cuts[rank / 2].clone()))),
        }
    }

    /// Returns the elements of `x` that a rank has, or `None` if it has none.
    fn of(&self, x: &[E], rank: usize) -> Option<Vec<E>> {
        let Some((axis, own)) = self.own(rank)? else { return Some(x.to_vec()) };
        let inner: usize = self.dims[axis + 1..].iter().product();
        let rows = x.chunks(self.dims[axis] * inner);
        Some(rows.flat_map(|row| row[own.start * inner..own.end * inner].to_vec()).collect())
    }
}

/// Result of a rank, and the rank's gradients after the call, indexed by tensor number.
type Outcome<E> = (Result<f64>, Vec<Option<Vec<E>>>);

fn clipped<E: Bits>(tensors: &[Tensor<E>], ranks: usize, options: &ClipGradNorm) -> Vec<Outcome<E>> {
    on_ranks(ranks, LONG, |rank, comm| {
        let mut own: Vec<Option<Vec<E>>> = tensors.iter().map(|tensor| tensor.of(&tensor.x, rank)).collect();
        let each = own.iter_mut().zip(tensors).enumerate();
        let shards = each.filter_map(|(number, (x, tensor))| {
            let (x, who) = (x.as_mut()?, tensor.own(rank)?);
            Some(match who {
                None => GradShard::whole(number, x),
                Some((axis, own)) => GradShard::cut(number, x, &tensor.dims, axis, own),
            })
        });
        let mut shards: Vec<GradShard<'_>> = shards.collect();
        // A rank may list its tensors in any order.
        if rank % 2 == 1 {
            shards.reverse();
        }
        let norm = clip_grad_norm(&comm, &mut shards, options);
        drop(shards);
        (norm, own)
    })
}

/// Clips on several ranks, and on one rank that has all gradients. Fails unless each of the several ranks gets the
/// single rank's norm, and its part of the single rank's clipped gradients.
#[track_caller]
fn same<E: Bits>(what: &str, tensors: &[Tensor<E>], ranks: usize, options: &ClipGradNorm) {
    let mut whole: Vec<Vec<E>> = tensors.iter().map(|tensor| tensor.x.clone()).collect();
    let mut grads: Vec<FloatsMut<'_>> = whole.iter_mut().map(Into::into).collect();
    let norm = evenkeel::clip_grad_norm(&mut grads, options);
    for (rank, (ours, own)) in clipped(tensors, ranks, options).into_iter().enumerate() {
        let what = format!("{what}, rank {rank} of {ranks}, {options:?}");
        match (&norm, &ours) {
            (Ok(norm), Ok(ours)) => {
                assert!(
                    norm.to_bits() == ours.to_bits() || norm.is_nan() && ours.is_nan(),
                    "{what}: expected the norm {norm}, as in one process with all gradients, got {ours}"
                );
            }
            (Err(theirs), Err(ours)) => {
                assert_eq!(
                    (theirs.row(), theirs.index()),
                    (ours.row(), ours.index()),
                    "{what}: the error must name the same tensor and index as in one process, got {ours}"
                );
                assert!(
                    matches!(ours, Error::NonFiniteShard { .. }),
                    "{what}: expected a NonFiniteShard error, got {ours}"
                );
            }
            (theirs, ours) => panic!("{what}: expected {theirs:?}, got {ours:?}"),
        }
        for (tensor, (whole, own)) in tensors.iter().zip(whole.iter().zip(own)) {
            if let Some(own) = own {
                assert_same(&what, &own, &tensor.of(whole, rank).unwrap());
            }
        }
    }
}

/// Generates gradients that are distributed as in data, tensor or expert parallelism, or as in a combination of two of
/// these. The cuts are uneven.
fn dealt<E: Bits>(
    rng: &mut SmallRng,
    ranks: usize,
    mut x: impl FnMut(&mut SmallRng, usize) -> Vec<E>,
) -> Vec<Tensor<E>> {
    let who = [
        (vec![33], Who::Everyone),
        (vec![9, 256], Who::Cut(0, cuts(rng, ranks, 9, 1))),
        (vec![2, 5, 300], Who::Only(ranks - 1)),
        (vec![1100], Who::Cut(0, cuts(rng, ranks, 1100, 256))),
        (vec![3, 1024], Who::Cut(1, cuts(rng, ranks, 1024, 256))),
        (vec![700], Who::Everyone),
        (vec![2, 6, 128], Who::Cut(1, cuts(rng, ranks, 6, 2))),
        (vec![0, 4], Who::Everyone),
        (vec![40, 32], Who::CutInPairs(0, cuts(rng, ranks.div_ceil(2), 40, 8))),
        (vec![257], Who::Only(0)),
    ];
    who.into_iter().map(|(dims, who)| Tensor { x: x(rng, dims.iter().product()), dims, who }).collect()
}

fn layouts<E: Bits>() {
    let mut rng = generate::rng("layouts of gradients");
    for ranks in RANKS {
        for _ in 0..3 {
            let tensors = dealt(&mut rng, ranks, |rng, len| generate::bell::<E>(rng, len, 0.0, 3.0));
            same("clipped", &tensors, ranks, &ClipGradNorm::new(1.0));
            same("within the limit", &tensors, ranks, &ClipGradNorm::new(1e6));
        }
        let nothing: [Tensor<E>; 0] = [];
        same("nothing", &nothing, ranks, &ClipGradNorm::new(1.0));
    }
}

/// Checks sums that overflow or underflow, and non-finite elements at any position.
fn hostile_elements<E: Bits>() {
    let mut rng = generate::rng("hostile gradients of ranks");
    let limits = E::LIMITS;
    for size in [limits.max, limits.max / 3.0, 1e-300, 1e200, 0.0] {
        let ranks = RANKS[rng.random_range(0..RANKS.len())];
        let tensors = dealt(&mut rng, ranks, |rng, len| {
            // In some tensors, one element has the magnitude `size`, which decides how the whole tensor is summed.
            let mut x = generate::bell::<E>(rng, len, 0.0, 1.0);
            if let (Some(at), true) = (len.checked_sub(1), rng.random_bool(0.7)) {
                x[rng.random_range(0..=at)] = E::from_wide(size.min(limits.max));
            }
            x
        });
        for norm_type in [NormType::Two, NormType::One, NormType::Infinity] {
            same("hostile", &tensors, ranks, &ClipGradNorm::new(0.5).norm_type(norm_type));
        }
    }
    for broken in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for tensor in [1, 2, 3, 4, 5, 6, 8] {
            let ranks = RANKS[rng.random_range(0..RANKS.len())];
            let mut tensors = dealt(&mut rng, ranks, |rng, len| generate::bell::<E>(rng, len, 0.0, 3.0));
            let len = tensors[tensor].x.len();
            tensors[tensor].x[rng.random_range(0..len)] = E::from_wide(broken);
            let options = ClipGradNorm::new(0.5);
            let kind = [NormType::Two, NormType::One, NormType::Infinity][rng.random_range(0..3)];
            same("broken", &tensors, ranks, &options.norm_type(kind));
            for mode in [ClipMode::Exact, ClipMode::Torch] {
                same("broken", &tensors, ranks, &options.norm_type(kind).mode(mode).error_if_nonfinite(false));
            }
        }
    }
}

fn every_option<E: Bits>() {
    let mut rng = generate::rng("options of clipping ranks");
    for norm_type in [NormType::Two, NormType::One, NormType::Infinity] {
        for mode in [ClipMode::Exact, ClipMode::Torch] {
            let ranks = RANKS[rng.random_range(0..RANKS.len())];
            let tensors = dealt(&mut rng, ranks, |rng, len| generate::bell::<E>(rng, len, 0.0, 0.01));
            for max_norm in [0.0, 1e-3, 0.5, f64::INFINITY] {
                same("options", &tensors, ranks, &ClipGradNorm::new(max_norm).norm_type(norm_type).mode(mode));
            }
        }
    }
}

/// Runs `make` on three ranks with two gradients of 512 elements each. Returns each rank's error.
fn errors(make: impl Fn(usize, &Comm, [&mut Vec<f32>; 2]) -> Result<f64> + Sync) -> [Error; 3] {
    let errors: Vec<Error> = on_ranks(3, LONG, |rank, comm| {
        let mut own = [vec![0.5f32; 512], vec![0.5; 512]];
        let [a, b] = &mut own;
        let error = make(rank, &comm, [a, b]).unwrap_err();
        // An error leaves the gradients unchanged.
        assert!(
            own.iter().flatten().all(|x| *x == 0.5 || !x.is_finite() || *x == 2.0),
            "an error must leave the gradients unchanged, got {own:?}"
        );
        // The ranks are still synchronised.
        assert_eq!(comm.gather(&[rank as u64]).unwrap(), [0, 1, 2]);
        error
    });
    errors.try_into().unwrap()
}

fn limit() -> ClipGradNorm {
    ClipGradNorm::new(0.1)
}

/// Fails unless every rank gets the same error, with this text and rank.
#[track_caller]
fn assert_alike(errors: &[Error; 3], expected: &str, rank: Option<usize>) {
    for error in errors {
        assert_eq!(error, &errors[0]);
        assert!(
            error.to_string().contains(expected),
            "clip_grad_norm: the error must contain {expected:?}, got {error}"
        );
        assert!(
            matches!(error, Error::Collective { rank: named, .. } if *named == rank),
            "clip_grad_norm: expected a Collective error with the rank {rank:?}, got {error:?}"
        );
    }
}

#[test]
fn what_is_not_finite_is_named_on_every_rank() {
    // Only the last rank has an infinity: in its shard, in its unsharded tensor, or in its replica.
    for which in 0..3 {
        let errors = errors(|rank, comm, [a, b]| {
            let b_is = if which == 1 { 1 + rank } else { 1 };
            if rank == 2 {
                let broken = if which == 0 { &mut *a } else { &mut *b };
                broken[300] = f32::NEG_INFINITY;
            }
            let cut = GradShard::cut(0, a, &[3, 512], 0, rank..rank + 1);
            clip_grad_norm(comm, &mut [GradShard::whole(b_is, b), cut], &limit())
        });
        let (row, index) = [(0, 1324), (3, 300), (1, 300)][which];
        for error in errors {
            let value = f64::NEG_INFINITY;
            assert_eq!(error, Error::non_finite_shard("clip_grad_norm", 2, row, index, value));
            assert_eq!((error.name(), error.row(), error.index()), ("NonFiniteInput", Some(row), Some(index)));
        }
    }
}

#[test]
fn parts_that_do_not_make_a_tensor() {
    let cut = |own: [Range<usize>; 3]| {
        errors(move |rank, comm, [a, _]| {
            let own = own[rank].clone();
            let shard = GradShard::cut(0, &mut a[..256 * own.len()], &[6, 256], 0, own);
            clip_grad_norm(comm, &mut [shard], &limit())
        })
    };
    assert_alike(&cut([0..2, 3..5, 5..6]), "rank 1 has 3..5 of axis 0 of tensor 0", Some(1));
    assert_alike(&cut([0..2, 3..5, 5..6]), "but no rank has 2..3 of that axis", Some(1));
    assert_alike(&cut([0..2, 4..5, 2..4]), "but no rank has 5..6 of that axis", Some(1));
    assert_alike(&cut([1..3, 5..6, 3..5]), "but no rank has 0..1 of that axis", Some(0));
    assert_alike(&cut([0..2, 1..3, 3..5]), "which overlaps another shard: rank 0 has 0..2", Some(1));
    assert_alike(&cut([0..0, 0..0, 0..0]), "but no rank has an element of this tensor", Some(0));
    // One rank has a shard of the tensor. The other ranks have the whole tensor.
    let errors = errors(|rank, comm, [a, _]| {
        let shard = match rank {
            1 => GradShard::cut(0, &mut a[..256], &[512], 0, 256..512),
            _ => GradShard::whole(0, a),
        };
        clip_grad_norm(comm, &mut [shard], &limit())
    });
    assert_alike(&errors, "rank 1 has 256..512 of axis 0 of tensor 0", Some(1));
}

#[test]
fn tensors_that_are_not_the_same() {
    let replicas = errors(|rank, comm, [a, _]| {
        let len = 512 - usize::from(rank == 1);
        clip_grad_norm(comm, &mut [GradShard::whole(0, &mut a[..len])], &limit())
    });
    assert_alike(
        &replicas,
        "rank 1 has tensor 0 with shape [511] and type F32, but rank 0 has tensor 0 with shape [512]",
        Some(1),
    );
    let types = errors(|rank, comm, [a, _]| {
        let mut wide = vec![0.5f64; 512];
        let shard = if rank == 2 { GradShard::whole(0, &mut wide) } else { GradShard::whole(0, a) };
        clip_grad_norm(comm, &mut [shard], &limit())
    });
    assert_alike(&types, "rank 2 has tensor 0 with shape [512] and type F64", Some(2));
    let bits = errors(|rank, comm, [a, b]| {
        if rank == 1 {
            b[7] = 2.0;
        }
        clip_grad_norm(comm, &mut [GradShard::whole(0, a), GradShard::whole(1, b)], &limit())
    });
    assert_alike(&bits, "ranks 0 and 1 differ in tensor 1", Some(1));
    let axes = errors(|rank, comm, [a, _]| {
        let (axis, own) = if rank == 2 { (1, 256..512) } else { (0, rank..rank + 1) };
        clip_grad_norm(comm, &mut [GradShard::cut(0, a, &[2, 512], axis, own)], &limit())
    });
    assert_alike(&axes, "rank 2 has 256..512 of axis 1 of tensor 0", Some(2));
    let numbers =
        errors(|_, comm, [a, b]| clip_grad_norm(comm, &mut [GradShard::whole(0, a), GradShard::whole(2, b)], &limit()));
    assert_alike(&numbers, "no rank has tensor 1, but numbers go up to 2", None);
}

#[test]
fn what_one_rank_refuses_or_has_otherwise() {
    let options = errors(|rank, comm, [a, _]| {
        let options = if rank == 1 { limit().mode(ClipMode::Torch) } else { limit() };
        clip_grad_norm(comm, &mut [GradShard::whole(0, a)], &options)
    });
    assert_alike(&options, "rank 1 calls clip_grad_norm to 0.1, Two, Torch", Some(1));
    type Make = fn([&mut Vec<f32>; 2], &Comm) -> Result<f64>;
    let cases: [(Make, &str, Option<usize>); 6] = [
        (
            |[a, _], comm| clip_grad_norm(comm, &mut [GradShard::whole(0, a)], &ClipGradNorm::new(f64::NAN)),
            "max_norm is NaN",
            None,
        ),
        (
            |[a, _], comm| clip_grad_norm(comm, &mut [GradShard::cut(3, &mut a[..200], &[512], 0, 0..200)], &limit()),
            "0..200 of axis 0 of [512] in tensor 3, cut at element 200; it must be at multiples of 256 elements",
            Some(3),
        ),
        (
            |[a, _], comm| {
                clip_grad_norm(comm, &mut [GradShard::cut(4, &mut a[..256], &[2, 200], 1, 0..128)], &limit())
            },
            "cut at element 128",
            Some(4),
        ),
        (
            |[a, _], comm| clip_grad_norm(comm, &mut [GradShard::cut(0, a, &[512], 1, 0..512)], &limit()),
            "it must be within an axis",
            Some(0),
        ),
        (
            |[a, _], comm| clip_grad_norm(comm, &mut [GradShard::cut(0, a, &[1024], 0, 0..256)], &limit()),
            "grads has 512 elements; expected 256 for 0..256 of axis 0 of [1024] in tensor 0",
            None,
        ),
        (
            |[a, b], comm| clip_grad_norm(comm, &mut [GradShard::whole(1, a), GradShard::whole(1, b)], &limit()),
            "tensor is 1, given twice; it must be given once on a rank",
            Some(1),
        ),
    ];
    for (make, expected, row) in cases {
        let errors = errors(|rank, comm, [a, b]| match rank {
            2 => make([a, b], comm),
            _ => clip_grad_norm(comm, &mut [GradShard::whole(0, a)], &limit()),
        });
        for (rank, error) in errors.iter().enumerate() {
            assert!(
                error.to_string().contains(expected),
                "clip_grad_norm: the error must contain {expected:?}, got {error}"
            );
            match rank {
                2 => assert_eq!(error.row(), row, "rank {rank}: the row of the error must be {row:?}, got {error:?}"),
                _ => assert!(
                    matches!(error, Error::Collective { rank: Some(2), .. }),
                    "clip_grad_norm on rank {rank}: expected a Collective error about rank 2, got {error:?}"
                ),
            }
        }
    }
}
