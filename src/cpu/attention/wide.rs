//! Computes one row for one block of keys in f64. This module is used for f64 rows, and for results that f32 cannot
//! represent.

use super::merge::{BlockResult, End, State};
use super::{Attention, CHAIN, KEYS};
use crate::cpu::exp_sum::ExpSum;
use crate::cpu::scores::{Exps, Logits, Row};
use crate::cpu::scratch::{Scratch, scratch_slice};
use crate::element::Element;
use crate::math::sum::tiled_sum;
use crate::simd::{Isa, Kernel, allocated};
use std::ops::Range;

#[derive(Default)]
pub struct Buffers {
    query: Vec<f64>,
    scores: Vec<f64>,
    values: Vec<f64>,
    /// For each feature, the sum of the weighted values in the current chain.
    chain: Vec<f64>,
}

allocated! {
    Buffers { query, scores, values, chain }
}

/// Factor that scales the sums of a row if the unscaled sums overflow. With this factor, a sum over the maximum number
/// of keys is finite even for the largest values.
pub const SMALL: f64 = 1.0 / (1u64 << 22) as f64;

/// Computes a row of f64 again, with scaled sums, because its weighted sums overflowed.
#[inline(always)]
pub fn again<I: Isa, E: Element>(
    isa: I,
    call: &Attention<'_, E>,
    row: usize,
    state: &mut State,
    out: &mut [f64],
    buffers: &mut Buffers,
    scratch: &mut Scratch,
) {
    let call = &Attention { factor: SMALL, ..*call };
    *state = State::new(call.sink(row)).scaled(call.factor);
    out.fill(0.0);
    for block in call.blocks(row..row + 1) {
        let block = Block { call, row, first: block * KEYS, buffers, scratch };
        isa.outline(block).merge_into(isa, state, out);
    }
}

/// Computes a row for the block of keys that begins at `first`. All sums are multiplied by `call.factor`.
pub struct Block<'c, 'b, E> {
    pub call: &'c Attention<'c, E>,
    pub row: usize,
    pub first: usize,
    pub buffers: &'b mut Buffers,
    pub scratch: &'b mut Scratch,
}

impl<'b, E: Element> Kernel for Block<'_, 'b, E> {
    type Out = BlockResult<'b>;
    // Types narrower than f64 rarely need this kernel, and gain at most 10 % from AVX-512.
    const GAINS_FROM_AVX512: bool = E::IS_F64;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> BlockResult<'b> {
        let Block { call, row, first, buffers, scratch } = self;
        let [batch, head, _] = call.place(row);
        let head = head / call.group();
        let Buffers { query, scores, values, chain } = buffers;
        let bounds = call.bounds(row);
        let (low, high) = (bounds.start.max(first), bounds.end.min(first + KEYS));
        if low >= high {
            return BlockResult::Empty;
        }
        query.clear();
        query.extend(call.query(row).iter().map(|x| x.widen()));
        let scores = scratch_slice(scores, high - low);
        self::scores(call, row, low..high, query, &mut scratch.beside.flags, scores);
        let live = match call.scores.read_part(isa, row, low, &*scores, &mut scratch.logits) {
            Row::Nan(_) => return BlockResult::Spoilt(f64::NAN),
            Row::Infinite(_) => return BlockResult::Spoilt(f64::INFINITY),
            Row::Masked => return BlockResult::Empty,
            Row::Live(live) => live,
        };
        let columns = live.columns.clone();
        let Exps::F64 { values: weights } = live.exps(isa, &scores[columns.clone()], KEYS, false, &mut scratch.made)
        else {
            unreachable!("the exponentials of f64 logits must be stored as f64")
        };
        let (sum, rest) = ExpSum::wide(isa, weights).value::<f64>(KEYS);
        for sums in [&mut *values, &mut *chain] {
            sums.clear();
            sums.resize(call.v.shape()[3], 0.0);
        }
        // The first chain starts at the block's first key, even if this key is masked for the row.
        let before = low - first + columns.start;
        let positions = call.v.positions(batch, head, low - call.first + columns.start);
        for (i, weight) in weights.iter().enumerate() {
            if (before + i).is_multiple_of(CHAIN) {
                end_chain(values, chain);
            }
            let logit = match live.logits {
                Logits::F64(logits) => logits[i],
                Logits::Direct | Logits::F32(_) => scores[columns.start + i],
            };
            if logit == f64::NEG_INFINITY {
                continue;
            }
            let weight = weight * call.factor;
            let value = positions.row(i);
            for (to, value) in chain.iter_mut().zip(value) {
                *to = weight.mul_add(value.widen(), *to);
            }
        }
        end_chain(values, chain);
        BlockResult::Wide(End { max: live.max, sum: (sum + rest) * call.factor }, values)
    }
}

/// Computes the scores of `keys`. Masked keys are not read, and their scores are -inf.
#[inline(always)]
pub fn scores<E: Element>(
    call: &Attention<'_, E>,
    row: usize,
    keys: Range<usize>,
    query: &[f64],
    flags: &mut Vec<u8>,
    to: &mut [f64],
) {
    let [batch, head, _] = call.place(row);
    let head = head / call.group();
    let mask = call.scores.mask.as_ref();
    let keep = mask.and_then(|mask| mask.keep(row, keys.start, keys.end, flags));
    let positions = call.k.positions(batch, head, keys.start - call.first);
    for (i, to) in to.iter_mut().enumerate() {
        let key = keys.start + i;
        let masked = keep.is_some_and(|keep| keep[i] == 0)
            || mask.is_some_and(|mask| mask.has_bias() && mask.bias_at(row, key) == f64::NEG_INFINITY);
        *to = if masked { f64::NEG_INFINITY } else { dot(query, positions.row(i)) };
    }
}

/// Adds the sum of a chain to the sum of the earlier chains, and starts the next chain.
#[inline(always)]
fn end_chain(values: &mut [f64], chain: &mut [f64]) {
    for (to, sum) in values.iter_mut().zip(chain) {
        *to += *sum;
        *sum = 0.0;
    }
}

/// Returns the dot product of a query and a key, added in chains. If the product overflows although all factors are
/// finite, returns the nearest finite number.
#[inline(always)]
fn dot<E: Element>(query: &[f64], key: &[E]) -> f64 {
    const SMALL: f64 = f64::from_bits((1023 - 520) << 52);
    let mut sum = 0.0;
    for scale in [1.0, SMALL] {
        sum = product(query, key, scale);
        if sum.is_finite() {
            return (sum / scale / scale).clamp(f64::MIN, f64::MAX);
        }
    }
    sum
}

/// Adds products in chains, with all factors multiplied by `scale`, a power of two.
#[inline(always)]
fn product<E: Element>(query: &[f64], key: &[E], scale: f64) -> f64 {
    let mut sum = 0.0;
    for (query, key) in query.chunks(CHAIN).zip(key.chunks(CHAIN)) {
        let mut chain = 0.0f64;
        for (q, k) in query.iter().zip(key) {
            chain = (q * scale).mul_add(k.widen() * scale, chain);
        }
        sum += chain;
    }
    sum
}

/// Returns the mean of each feature over all keys, masked or not. Each value is multiplied by the reciprocal of the
/// number of keys. The products are added by the tiled sum ([`crate::math::sum`]).
pub fn means<E: Element>(call: &Attention<'_, E>, row: usize) -> Vec<E> {
    let [batch, head, _] = call.place(row);
    let (head, share) = (head / call.group(), 1.0 / call.keys().len() as f64);
    let value = |key: usize, feature: usize| call.v.row(batch, head, key - call.first)[feature].widen();
    let products = |feature| call.keys().map(|key| value(key, feature) * share).collect::<Vec<_>>();
    (0..call.v.shape()[3]).map(|feature| E::from_wide(tiled_sum(&products(feature)))).collect()
}
