//! Attention with keys sharded across ranks.

use crate::hostile::{cuts, huge, numbers};
use crate::table::{Bits, Table, bits, columns};
use evenkeel::{Attention, Element, FullyMasked, Heads, Mask, Result, attention_with_lse};

const HEADS: usize = 4;
const OF_KEYS: usize = 2;
const QUERIES: usize = 6;
const FEATURES: usize = 8;

/// Returns the bits of each query's result and log-sum-exp, for each head.
fn cases<E: Element>(attended: Result<(Vec<E>, Vec<f64>)>) -> Result<Vec<Bits>> {
    let (y, lse) = attended?;
    Ok(y.chunks(FEATURES).zip(&lse).map(|(y, lse)| [bits(y), bits(&[*lse])].concat()).collect())
}

/// Returns keys or values. In each head, the vector at index `place` begins with `number`.
fn with<E: Element>(all: usize, place: usize, number: f64) -> Vec<E> {
    let mut of = numbers::<E>(OF_KEYS * all * FEATURES);
    of.chunks_mut(all * FEATURES)
        .filter_map(|head| head.get_mut(place * FEATURES))
        .for_each(|at| *at = E::from_wide(number));
    of
}

pub fn run<E: Element>(table: &mut Table<'_>, all: usize) -> anyhow::Result<()> {
    let q = numbers::<E>(HEADS * QUERIES * FEATURES);
    let q = Heads::new(&q, [1, HEADS, QUERIES, FEATURES])?;
    let shape = |keys| [1, OF_KEYS, keys, FEATURES];
    // Two pairs of keys and values. First pair: a key with a huge number, whose products exceed the range of logits,
    // and a value with a huge negative number. Second pair: a key with a NaN, which only the last queries attend to
    // under a causal mask, and a value with an infinity.
    let operands = [
        (with::<E>(all, all / 3, huge::<E>()), with::<E>(all, 0, -huge::<E>())),
        (with::<E>(all, all.saturating_sub(3), f64::NAN), with::<E>(all, all / 2, f64::INFINITY)),
    ];
    let (sinks, none) = ([0.5, f64::NEG_INFINITY, -1.0, 2.0], [0]);
    let bias: Vec<f32> = (0..all).map(|key| if key % 7 == 3 { f32::NEG_INFINITY } else { key as f32 * 1e-3 }).collect();
    // The window of 100 keys excludes all keys of the first ranks. The last mask has length 0, so it masks every key.
    let masks = [Mask::causal(), Mask::causal().and_window(100), Mask::bias(&bias, &[all]), Mask::lengths(&none)];
    let plain = Attention::default();
    let options = [
        plain,
        plain.mask(&masks[0]).softcap(5.0),
        plain.mask(&masks[1]),
        plain.mask(&masks[2]).sinks(&sinks),
        plain.mask(&masks[3]),
        plain.mask(&masks[3]).fully_masked(FullyMasked::Error),
    ];
    let cuts = cuts(table.rank.size, all, 256);
    table.line::<E>("attention", |line| {
        for ((k, v), options) in operands.iter().flat_map(|set| options.iter().map(move |options| (set, options))) {
            let whole = attention_with_lse(q, Heads::new(k, shape(all))?, Heads::new(v, shape(all))?, options);
            line.dealt::<E>(
                (&[], all),
                &cuts,
                |_| cases(whole.clone()),
                |shard, _, own| {
                    let part = |of: &[E]| columns(of, all * FEATURES, &(own.start * FEATURES..own.end * FEATURES));
                    let (k, v) = (part(k), part(v));
                    let shape = shape(own.len());
                    cases(shard.attention(q, Heads::new(&k, shape)?, Heads::new(&v, shape)?, options))
                },
            )?;
        }
        Ok(())
    })
}
