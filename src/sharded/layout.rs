//! Assignment of the shards of tensors to ranks.

use super::grad_shard::Place;
use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// A tensor distributed over ranks.
#[derive(Debug)]
pub(super) struct Tensor {
    /// Number of elements.
    pub all: usize,
    /// Non-empty shards, in the order of their ranges.
    pub parts: Vec<TensorShard>,
}

/// A shard of a tensor. Several ranks may hold a replica of it.
#[derive(Debug)]
pub(super) struct TensorShard {
    pub place: Place,
    /// Ranks that hold the shard, in order. The first of these ranks contributes the shard's sums to the norm.
    pub holders: Vec<usize>,
}

impl Tensor {
    /// Returns whether the tensor has more than one shard.
    pub fn is_cut(&self) -> bool {
        self.parts.len() > 1
    }

    /// Returns the shard that a rank holds.
    pub fn part_of(&self, rank: usize) -> Option<&TensorShard> {
        self.parts.iter().find(|part| part.holders.contains(&rank))
    }
}

/// Combines the shard locations of all ranks into tensors, in the order of tensor numbers.
pub(super) fn layout(op: &'static str, each: &[Vec<Place>]) -> Result<Vec<Tensor>> {
    let mut tensors: BTreeMap<usize, Vec<(usize, &Place)>> = BTreeMap::new();
    for (rank, places) in each.iter().enumerate() {
        places.iter().for_each(|place| tensors.entry(place.tensor).or_default().push((rank, place)));
    }
    let last = tensors.keys().next_back().copied();
    tensors
        .into_iter()
        .enumerate()
        .map(|(number, (tensor, places))| {
            if number != tensor {
                let reason = format!("no rank has tensor {number}, but numbers go up to {}", last.unwrap_or(0));
                return Err(Error::Collective { op, rank: None, reason });
            }
            of_places(op, &places)
        })
        .collect()
}

/// Combines all shards of one tensor. `places` has the rank and the location of each shard, in the order of ranks.
fn of_places(op: &'static str, places: &[(usize, &Place)]) -> Result<Tensor> {
    let (first_rank, first) = places[0];
    let mut parts: Vec<TensorShard> = Vec::new();
    for (rank, place) in places {
        let differs = (place.dtype, &place.dims) != (first.dtype, &first.dims);
        let crosses = place.axis != first.axis && !place.is_whole() && !first.is_whole();
        if differs || crosses {
            return Err(at(op, *rank, format!("{}, but {}", has(*rank, place), has(first_rank, first))));
        }
        match parts.iter_mut().find(|part| same(&part.place, place)) {
            _ if place.len() == 0 => {}
            Some(part) => part.holders.push(*rank),
            None => parts.push(TensorShard { place: Place::clone(place), holders: vec![*rank] }),
        }
    }
    parts.sort_by_key(|part| part.place.own.start);
    covers(op, (first_rank, first), &parts)?;
    Ok(Tensor { all: first.all(), parts })
}

/// Checks that each element belongs to exactly one shard. If no shard has elements, the error names `rank`, whose shard
/// is at `place`.
fn covers(op: &'static str, (rank, place): (usize, &Place), parts: &[TensorShard]) -> Result<()> {
    let holes = |part: &TensorShard, from: usize, to: usize| {
        let shard = has(part.holders[0], &part.place);
        Err(at(op, part.holders[0], format!("{shard}, but no rank has {from}..{to} of that axis")))
    };
    let mut before: Option<&TensorShard> = None;
    for part in parts {
        let (start, end) = (part.place.own.start, before.map_or(0, |before| before.place.own.end));
        match before {
            Some(before) if start < end || before.place.is_whole() || part.place.is_whole() => {
                let [shard, other] = [part, before].map(|part| has(part.holders[0], &part.place));
                return Err(at(op, part.holders[0], format!("{shard}, which overlaps another shard: {other}")));
            }
            _ if start > end => return holes(part, end, start),
            _ => before = Some(part),
        }
    }
    match before {
        None if place.all() > 0 => {
            let shard = has(rank, place);
            Err(at(op, rank, format!("{shard}, but no rank has an element of this tensor")))
        }
        Some(part) if part.place.own.end != part.place.dims[part.place.axis] => {
            holes(part, part.place.own.end, part.place.dims[part.place.axis])
        }
        _ => Ok(()),
    }
}

/// Returns whether two shards of a tensor cover the same elements.
fn same(a: &Place, b: &Place) -> bool {
    a.is_whole() && b.is_whole() || (a.axis, &a.own) == (b.axis, &b.own)
}

fn has(rank: usize, place: &Place) -> String {
    let Place { tensor, dtype, dims, axis, own } = place;
    let which = if place.is_whole() { String::new() } else { format!("{own:?} of axis {axis} of ") };
    format!("rank {rank} has {which}tensor {tensor} with shape {dims:?} and type {dtype}")
}

fn at(op: &'static str, rank: usize, reason: String) -> Error {
    Error::Collective { op, rank: Some(rank), reason }
}
