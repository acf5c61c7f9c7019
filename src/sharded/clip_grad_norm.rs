//! Gradient clipping by the global norm of sharded gradients.

use super::Sharded;
use super::collective::Collective;
use super::digest::Digest;
use super::grad_shard::{GradShard, Place};
use super::layout::{Tensor, TensorShard, layout};
use crate::cpu::clip_grad_norm::{TensorNorm, Tiles};
use crate::cpu::moments::unit_for;
use crate::element::DType;
use crate::error::{Error, Result};
use crate::floats::Floats;
use crate::math::keys;
use crate::math::sum::TILE;
use crate::ops::clip_grad_norm::{ClipGradNorm, NormType, OP};
use crate::simd::{filled, in_default};
use std::collections::BTreeMap;

/// Computes [`clip_grad_norm`](crate::clip_grad_norm()) of sharded gradients: scales all of them so that their global
/// norm is within a limit. Returns the norm before scaling, on every rank.
///
/// The result is bit-identical to [`clip_grad_norm`](crate::clip_grad_norm()) over the whole tensors in the order of
/// their numbers. A tensor or shard that several ranks hold contributes to the norm once, and must be equal on all
/// these ranks. A shard along the first axis is a single contiguous range of the tensor. A shard along a later axis has
/// one such range for each combination of the earlier indices. Each range must begin at a multiple of 256 elements of
/// the tensor, and end at such a multiple or at the tensor's end. Tensors are numbered from 0 without gaps.
///
/// # Exchange
/// Each rank sends these numbers of bytes:
///
/// | for | bytes |
/// |---|---|
/// | the check that all ranks make the same call | 16 |
/// | each tensor of the rank | 48, and 8 for each dimension |
/// | each tile of 256 elements of a shard, on the lowest rank that holds it | 8; none under [`NormType::Infinity`] |
/// | each whole tensor, on the lowest rank that holds it | 16 |
/// | each shard or whole tensor that another rank holds too | 8 |
/// | each sharded tensor of any rank | 8 for f64 and under [`NormType::Infinity`]; otherwise none |
///
/// Ranks that send fewer bytes than another rank pad them to the same number.
///
/// # Errors
/// [`Error::InvalidArgument`] for options out of range and for shards with boundaries that are not allowed, with the
/// tensor's number as `row`; [`Error::ShapeMismatch`] for a shard whose number of elements does not match its
/// dimensions; [`Error::NonFiniteShard`] on every rank if a shard of any rank has a NaN or an infinity;
/// [`Error::Collective`] if shards do not cover a tensor, replicas differ, or another rank returns an error, has other
/// options, or does not join. After each of these errors the gradients are unchanged on every rank.
///
/// # Example
/// ```
/// use evenkeel::sharded::{GradShard, Process, clip_grad_norm};
/// use evenkeel::ClipGradNorm;
/// let (mut a, mut b) = ([3.0f32], [4.0f32]);
/// let mut grads = [GradShard::whole(0, &mut a), GradShard::whole(1, &mut b)];
/// assert_eq!(clip_grad_norm(&Process, &mut grads, &ClipGradNorm::new(1.0))?, 5.0);
/// assert_eq!((a, b), ([0.6], [0.8]));
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn clip_grad_norm<C: Collective + ?Sized>(
    comm: &C,
    grads: &mut [GradShard<'_>],
    options: &ClipGradNorm,
) -> Result<f64> {
    in_default(|| {
        let shared = Shared::new(comm, grads, options)?;
        let (parts, unlike) = shared.parts()?;
        let (norm, scale) = options.finish(&parts);
        // Report a non-finite replica as non-finite, not as different from the other replicas.
        if options.refuses(&parts).is_some() || options.error_if_nonfinite && unlike.is_some() {
            shared.refuse()?;
        }
        if let Some(error) = unlike {
            return Err(error);
        }
        if let Some(scale) = scale {
            grads.iter_mut().rev().try_for_each(|shard| shard.grad.scale(scale))?;
        }
        Ok(norm)
    })
}

/// State of one call, after the check that all ranks make the same call.
struct Shared<'a, C: ?Sized> {
    ranks: Sharded<'a, C>,
    norm_type: NormType,
    tensors: Vec<Tensor>,
    /// Shards of this rank, by tensor number.
    own: BTreeMap<usize, &'a GradShard<'a>>,
}

/// Statistics of a sharded tensor on this rank. The tile sums have not been exchanged yet.
struct Cut {
    /// Power of two by which elements are multiplied before they are summed.
    unit: f64,
    /// Tile sums and largest magnitude of this rank's shard. For [`NormType::Infinity`], the exchange replaces the
    /// shard's largest magnitude by the whole tensor's.
    tiles: Tiles,
}

impl<'a, C: Collective + ?Sized> Shared<'a, C> {
    /// Checks that all ranks make the same call, and exchanges the locations of all shards.
    fn new(comm: &'a C, grads: &'a [GradShard<'a>], options: &ClipGradNorm) -> Result<Self> {
        let ranks = Sharded::new(comm, 0..0, 0);
        let own = options.check().and_then(|()| numbered(grads));
        let mut words = Vec::new();
        own.iter().flat_map(BTreeMap::values).for_each(|shard| shard.place.to_words(&mut words));
        let ClipGradNorm { max_norm, norm_type, mode, error_if_nonfinite } = options;
        let text = format!("{OP} to {max_norm:?}, {norm_type:?}, {mode:?}, error_if_nonfinite {error_if_nonfinite}");
        let (own, lens) = ranks.agree_beside(OP, &text, own, [words.len() as u64])?;
        let lens = ranks.lens(OP, lens.iter().map(|[len]| *len))?;
        let lists = ranks.gather_lists(OP, &words, &lens)?;
        let each = lists.iter().enumerate().map(|(rank, words)| places(rank, words)).collect::<Result<Vec<_>>>()?;
        Ok(Shared { ranks, norm_type: *norm_type, tensors: layout(OP, &each)?, own })
    }

    /// Returns each tensor's contribution to the norm, and the error for the first tensor whose replicas differ, if
    /// any.
    fn parts(&self) -> Result<(Vec<TensorNorm>, Option<Error>)> {
        let cuts = self.cuts()?;
        let words = self.words(&cuts)?;
        let lens: Vec<usize> = (0..self.ranks.comm.size()).map(|rank| self.count_words(rank)).collect();
        let lists = self.ranks.gather_lists(OP, &words, &lens)?;
        let mut lists: Vec<_> = lists.into_iter().map(Vec::into_iter).collect();
        let mut unlike = None;
        let mut parts = Vec::with_capacity(self.tensors.len());
        for (number, tensor) in self.tensors.iter().enumerate() {
            let mut part = TensorNorm { value: 0.0, exponent: 0 };
            let tiles = if tensor.is_cut() { tensor.all.div_ceil(TILE) } else { 0 };
            let mut sums = filled(OP, "the sums of a tensor", tiles, 0.0)?;
            for TensorShard { place, holders } in &tensor.parts {
                let mut take = |rank: usize| lists[rank].next().unwrap_or(0);
                let first = holders[0];
                match self.count_sums(tensor, place) {
                    _ if !tensor.is_cut() => {
                        part = TensorNorm { value: f64::from_bits(take(first)), exponent: take(first) as i64 as i32 };
                    }
                    0 => {}
                    _ => {
                        let tiles = place.runs().flat_map(|run| run.start / TILE..run.end.div_ceil(TILE));
                        tiles.for_each(|tile| sums[tile] = f64::from_bits(take(first)));
                    }
                }
                if holders.len() > 1 {
                    let digests: Vec<u64> = holders.iter().map(|rank| take(*rank)).collect();
                    let other = digests.iter().position(|digest| *digest != digests[0]);
                    unlike = unlike.or(other.map(|other| differs(number, [first, holders[other]])));
                }
            }
            parts.push(match cuts.get(&number) {
                None => part,
                Some(cut) if self.norm_type == NormType::Infinity => {
                    TensorNorm { value: cut.tiles.largest, exponent: 0 }
                }
                Some(cut) => TensorNorm::of_sums(&sums, cut.unit),
            });
        }
        Ok((parts, unlike))
    }

    /// Computes the statistics of each sharded tensor.
    fn cuts(&self) -> Result<BTreeMap<usize, Cut>> {
        let mut cuts = BTreeMap::new();
        for (number, tensor) in self.tensors.iter().enumerate().filter(|(_, tensor)| tensor.is_cut()) {
            let tiles = match self.spoken_for(number, tensor) {
                Some(grad) => grad.norm_tiles(self.norm_type, 1.0)?,
                None => Tiles { sums: Vec::new(), largest: 0.0 },
            };
            cuts.insert(number, Cut { unit: 1.0, tiles });
        }
        let infinity = self.norm_type == NormType::Infinity;
        let asks = |number: &usize| infinity || self.tensors[*number].parts[0].place.dtype == DType::F64;
        let mut largest: Vec<u64> =
            cuts.iter().filter(|(number, _)| asks(number)).map(|(_, cut)| keys::of_f64(cut.tiles.largest)).collect();
        if largest.is_empty() {
            return Ok(cuts);
        }
        self.ranks.max(OP, &mut largest)?;
        for ((number, cut), largest) in cuts.iter_mut().filter(|(number, _)| asks(number)).zip(largest) {
            cut.tiles.largest = keys::to_f64(largest);
            if infinity {
                continue;
            }
            cut.unit = unit_for(cut.tiles.largest);
            if let Some(grad) = self.spoken_for(*number, &self.tensors[*number]).filter(|_| cut.unit != 1.0) {
                cut.tiles = grad.norm_tiles(self.norm_type, cut.unit)?;
            }
        }
        Ok(cuts)
    }

    /// Returns this rank's shard of a tensor if this rank contributes the shard to the norm. If several ranks hold a
    /// shard, only the lowest of these ranks contributes it.
    fn spoken_for(&self, number: usize, tensor: &Tensor) -> Option<Floats<'_>> {
        let rank = self.ranks.comm.rank();
        let here = tensor.parts.iter().any(|part| part.holders[0] == rank);
        self.own.get(&number).filter(|_| here).map(|shard| shard.grad.as_floats())
    }

    /// Returns the words that this rank sends: the sums of the shards that this rank contributes, and digests of
    /// replicas.
    fn words(&self, cuts: &BTreeMap<usize, Cut>) -> Result<Vec<u64>> {
        let rank = self.ranks.comm.rank();
        let mut words = Vec::new();
        for (number, shard) in &self.own {
            let tensor = &self.tensors[*number];
            let grad = shard.grad.as_floats();
            let Some(part) = tensor.part_of(rank) else { continue };
            match cuts.get(number) {
                _ if part.holders[0] != rank => {}
                Some(cut) => words.extend(cut.tiles.sums.iter().map(|sum| sum.to_bits())),
                None => {
                    let TensorNorm { value, exponent } = grad.norm_part(self.norm_type)?;
                    words.extend([value.to_bits(), i64::from(exponent) as u64]);
                }
            }
            if part.holders.len() > 1 {
                words.push(Digest::NEW.floats(Some(grad)).finish());
            }
        }
        Ok(words)
    }

    /// Returns the number of words that a rank sends.
    fn count_words(&self, rank: usize) -> usize {
        let of_tensor = |tensor: &Tensor| {
            let Some(TensorShard { place, holders }) = tensor.part_of(rank) else { return 0 };
            let sums = if holders[0] == rank { self.count_sums(tensor, place) } else { 0 };
            sums + usize::from(holders.len() > 1)
        };
        self.tensors.iter().map(of_tensor).fold(0, usize::saturating_add)
    }

    /// Returns the number of words that hold the sums of a shard.
    fn count_sums(&self, tensor: &Tensor, place: &Place) -> usize {
        match self.norm_type {
            _ if !tensor.is_cut() => 2,
            NormType::Infinity => 0,
            _ => place.len().div_ceil(TILE),
        }
    }

    /// Returns the error for the first non-finite element of all tensors, if there is one.
    fn refuse(&self) -> Result<()> {
        let mut own = [u64::MAX; 3];
        for (number, shard) in &self.own {
            let grad = shard.grad.as_floats();
            if let Some(first) = grad.finite()?.first {
                let value = grad.get(first).unwrap_or(f64::NAN);
                own = [*number as u64, shard.place.index(first) as u64, value.to_bits()];
                break;
            }
        }
        let all = self.ranks.gather(OP, &own)?;
        let each = all.as_chunks().0.iter().zip(0..);
        match each.min_by_key(|([number, index, _], rank)| (*number, *index, *rank)) {
            Some((&[number, index, value], rank)) if number != u64::MAX => Err(Error::NonFiniteShard {
                op: OP,
                row: number as usize,
                index: index as usize,
                value: f64::from_bits(value),
                rank,
            }),
            _ => Ok(()),
        }
    }
}

/// Returns a rank's shards by tensor number.
fn numbered<'a>(grads: &'a [GradShard<'a>]) -> Result<BTreeMap<usize, &'a GradShard<'a>>> {
    let mut numbered = BTreeMap::new();
    for shard in grads {
        let number = shard.place.tensor;
        shard.place.check(OP, shard.grad.len())?;
        if numbered.insert(number, shard).is_some() {
            let (value, expected) = (format!("{number}, given twice"), "given once on a rank".into());
            return Err(Error::InvalidArgument { op: OP, argument: "tensor", value, expected, row: Some(number) });
        }
    }
    Ok(numbered)
}

/// Decodes the locations of the shards that a rank holds.
fn places(rank: usize, mut words: &[u64]) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    while !words.is_empty() {
        let Some((place, rest)) = Place::of_words(words) else {
            let reason = format!("rank {rank} sent an invalid list of gradient shards");
            return Err(Error::Collective { op: OP, rank: Some(rank), reason });
        };
        place.check_cut(OP).map_err(|error| {
            let reason = format!("rank {rank} sent an invalid gradient shard: {error}");
            Error::Collective { op: OP, rank: Some(rank), reason }
        })?;
        words = rest;
        places.push(place);
    }
    Ok(places)
}

fn differs(number: usize, [first, other]: [usize; 2]) -> Error {
    let reason = format!("ranks {first} and {other} differ in tensor {number}, whose replicas must be equal");
    Error::Collective { op: OP, rank: Some(other), reason }
}
