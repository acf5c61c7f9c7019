//! Operations that involve several lanes of a warp: shuffles, votes and reductions.

use crate::access::OfLane;
use crate::op::{Inst, NONE, Redux, Shuffle, Vote};
use crate::problem::Problem;
use crate::warp::{Warp, Words, lanes_of};

/// Whether the lanes of a mask have all arrived at an operation.
#[derive(PartialEq, Eq)]
pub enum Met {
    All,
    /// Some lanes of the mask have not arrived.
    Waiting,
}

/// Returns whether all lanes in the masks of the running lanes have arrived. Fails if a lane's mask lacks the lane
/// itself, or contains a lane that cannot arrive any more.
pub fn meet(w: &Warp, masks: &Words, lanes: u32) -> OfLane<Met> {
    for lane in lanes_of(lanes) {
        let mask = masks[lane];
        if mask >> lane & 1 == 0 {
            return Err((lane, Problem::NotMember { mask }));
        }
        let arrived = lanes_of(mask & lanes).filter(|&other| masks[other] == mask);
        let missing = arrived.fold(mask, |missing, other| missing & !(1 << other));
        if missing & !w.live != 0 {
            return Err((lane, Problem::NeverArrives { missing: missing & !w.live }));
        }
        if missing != 0 {
            return Ok(Met::Waiting);
        }
        // In this usual case, all running lanes have the same mask, so no other mask needs a check.
        if mask == lanes {
            return Ok(Met::All);
        }
    }
    Ok(Met::All)
}

pub fn shuffle(w: &mut Warp, i: &Inst, mode: Shuffle, lanes: u32) -> OfLane<()> {
    let of = |k: usize| &w.words[i.r[k] as usize];
    let (a, b, c, masks) = (of(2), of(3), of(4), of(5));
    let (mut values, mut received) = (*a, 0);
    for lane in lanes_of(lanes) {
        let own = lane as u32;
        let (segment, clamp) = (c[lane] >> 8 & 31, c[lane] & 31);
        let most = own & segment | clamp & !segment;
        let least = own & segment;
        let (from, within) = match mode {
            Shuffle::Up => {
                let from = own.wrapping_sub(b[lane] & 31) as i32;
                (from as u32, from >= most as i32)
            }
            Shuffle::Down => (own + (b[lane] & 31), own + (b[lane] & 31) <= most),
            Shuffle::Bfly => (own ^ b[lane] & 31, own ^ b[lane] & 31 <= most),
            Shuffle::Idx => (least | b[lane] & !segment & 31, (least | b[lane] & !segment & 31) <= most),
        };
        let from = if within { from } else { own };
        if lanes & masks[lane] >> from & 1 == 0 {
            return Err((lane, Problem::NoSource { lane: from }));
        }
        values[lane] = a[from as usize];
        received |= u32::from(within) << lane;
    }
    w.put_words(i.r[0], &values, lanes);
    if i.r[1] != NONE {
        w.put_predicate(i.r[1], received, lanes);
    }
    Ok(())
}

pub fn redux(w: &mut Warp, i: &Inst, redux: Redux, lanes: u32) {
    let (values, masks) = (w.words[i.r[1] as usize], w.words[i.r[2] as usize]);
    let mut results = values;
    let mut left = lanes;
    while left != 0 {
        let mask = masks[left.trailing_zeros() as usize];
        let all = lanes_of(mask).map(|lane| values[lane]);
        let result = match redux {
            Redux::Add => all.fold(0, u32::wrapping_add),
            Redux::Min => all.fold(u32::MAX, u32::min),
            Redux::Max => all.fold(0, u32::max),
            Redux::MinSigned => all.fold(i32::MAX, |low, value| low.min(value as i32)) as u32,
            Redux::MaxSigned => all.fold(i32::MIN, |high, value| high.max(value as i32)) as u32,
            Redux::And => all.fold(u32::MAX, |bits, value| bits & value),
            Redux::Or => all.fold(0, |bits, value| bits | value),
            Redux::Xor => all.fold(0, |bits, value| bits ^ value),
        };
        lanes_of(mask).for_each(|lane| results[lane] = result);
        left &= !mask;
    }
    w.put_words(i.r[0], &results, lanes);
}

pub fn vote(w: &mut Warp, i: &Inst, vote: Vote, lanes: u32) {
    let (held, masks) = (w.guard(i.r[1], false), w.words[i.r[2] as usize]);
    let (mut results, mut holds) = ([0; 32], 0);
    for lane in lanes_of(lanes) {
        let mask = masks[lane];
        let all = held & mask == mask;
        let result = match vote {
            Vote::All => all,
            Vote::Any => held & mask != 0,
            Vote::Uni => all || held & mask == 0,
            Vote::Ballot => false,
        };
        holds |= u32::from(result) << lane;
        results[lane] = held & mask;
    }
    match vote {
        Vote::Ballot => w.put_words(i.r[0], &results, lanes),
        _ => w.put_predicate(i.r[0], holds, lanes),
    }
}
