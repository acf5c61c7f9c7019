//! Each op in each type, and whether its bits are those of whole rows.

use crate::{Arguments, Rank};
use evenkeel::sharded::{Collective, Sharded};
use evenkeel::{
    Attention, CrossEntropy, Draw, Element, Heads, LayerNorm, Mask, Request, Result, RmsNorm, Rows, Sampled,
    SamplerConfig, Softmax, attention_with_lse, cross_entropy_backward, layer_norm, log_softmax, logsumexp, rms_norm,
    sample_rows, softmax,
};
use half::{bf16, f16};
use mpi::topology::SimpleCommunicator;
use std::ops::Range;
use std::process::ExitCode;

type Comm = evenkeel::sharded::Counted<evenkeel::sharded::Mpi<SimpleCommunicator>>;

/// Every case; the first rank prints what came of all ranks.
pub fn run(rank: &Rank, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if rank.rank == 0 {
        let Arguments { rows, columns, .. } = arguments;
        println!("{rows} rows of {columns} columns, dealt out to {} ranks", rank.size);
        println!("{:<13} {:<5} {:>9} {:>12} {:>12}  bits", "op", "type", "exchanges", "bytes given", "bytes got");
    }
    let mut differing = 0;
    differing += of_type::<f64>(rank, arguments)?;
    differing += of_type::<f32>(rank, arguments)?;
    differing += of_type::<f16>(rank, arguments)?;
    differing += of_type::<bf16>(rank, arguments)?;
    Ok(ExitCode::from(u8::from(differing > 0)))
}

/// Numbers like logits, the same on every rank.
pub fn numbers<E: Element>(count: usize) -> Vec<E> {
    let number = |i: usize| {
        let mixed = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        E::from_wide((mixed >> 40) as f64 / (1u64 << 21) as f64 - 4.0)
    };
    (0..count).map(number).collect()
}

/// Some columns of each row, side by side.
pub fn columns<E: Element>(x: &[E], all: usize, own: &Range<usize>) -> Vec<E> {
    x.chunks(all.max(1)).flat_map(|row| &row[own.clone()]).copied().collect()
}

/// How many elements differ, where a NaN is like any other.
pub fn differing<E: Element>(a: &[E], b: &[E]) -> u64 {
    let bits = |x: &E| if x.widen().is_nan() { f64::NAN.to_bits() } else { x.widen().to_bits() };
    let differ = a.iter().zip(b).filter(|(a, b)| bits(a) != bits(b)).count();
    (differ + a.len().abs_diff(b.len())) as u64
}

fn of_type<E: Element>(rank: &Rank, arguments: &Arguments) -> anyhow::Result<u64> {
    let (rows, all) = (arguments.rows, arguments.columns);
    let x = numbers::<E>(rows * all);
    let keep: Vec<bool> = (0..all).map(|i| i % 3 != 1).collect();
    let mask = Mask::keep(&keep, &[all]);
    let masked = Softmax::default().mask(&mask).scale(0.7);
    let plain = Softmax::default();
    let weight = numbers::<f32>(all);
    let (rms, layer) = (RmsNorm::default().weight(&weight), LayerNorm::default().weight(&weight).bias(&weight));
    let case = Case { rank, x: &x, rows, all };
    let whole = Rows::new(&x, rows, all)?;
    let mut differing = 0;
    differing += case.check("softmax", softmax(whole, &plain)?, |shard, x| shard.softmax(x, &plain))?;
    differing += case.check("with a mask", softmax(whole, &masked)?, |shard, x| shard.softmax(x, &masked))?;
    differing += case.check("log_softmax", log_softmax(whole, &plain)?, |shard, x| shard.log_softmax(x, &plain))?;
    differing += case.check("logsumexp", logsumexp(whole, &plain)?, |shard, x| shard.logsumexp(x, &plain))?;
    differing += case.check("rms_norm", rms_norm(whole, &rms)?, |shard, x| shard.rms_norm(x, &rms))?;
    differing += case.check("layer_norm", layer_norm(whole, &layer)?, |shard, x| shard.layer_norm(x, &layer))?;
    let sampler = SamplerConfig::default().top_p(0.9).validate()?;
    let requests: Vec<Request<'_>> = (0..rows as u64)
        .map(|row| Request { sampler: &sampler, step: Draw { seed: 7, row, draw: 0 }.into() })
        .collect();
    let tokens = drawn(sample_rows(whole, None, &requests)?)?;
    differing += case.check("sample", tokens, |shard, x| drawn(shard.sample(x, &requests)?))?;
    let targets: Vec<i64> = (0..rows).map(|row| (row * 997 % all.max(1)) as i64).collect();
    let options = CrossEntropy::default().z_loss(1e-4);
    let (loss, gradient) = cross_entropy_backward(whole, &targets, &[1.0], &options)?;
    differing += case.check("cross_entropy", gradient, |shard, x| {
        let (own, gradient) = shard.cross_entropy_backward(x, &targets, &[1.0], &options)?;
        // Of another loss no gradient is right.
        Ok(if own == loss { gradient } else { Vec::new() })
    })?;
    let (queries, keys) = (numbers::<E>(4 * rows * 8), numbers::<E>(2 * all * 8));
    let (queries, causal) = (Heads::new(&queries, [1, 4, rows, 8])?, Mask::causal());
    let options = Attention::default().mask(&causal);
    let whole = Heads::new(&keys, [1, 2, all, 8])?;
    let attended = beside(attention_with_lse(queries, whole, whole, &options)?);
    differing += case.check("attention", attended, |shard, _| {
        let own = rank.columns(all);
        let keys = columns(&keys, all * 8, &(own.start * 8..own.end * 8));
        let keys = Heads::new(&keys, [1, 2, own.len(), 8])?;
        Ok(beside(shard.attention(queries, keys, keys, &options)?))
    })?;
    Ok(differing)
}

/// A result, and behind it the log-sum-exp of each query.
fn beside<E: Element>((mut y, lse): (Vec<E>, Vec<f64>)) -> Vec<E> {
    y.extend(lse.into_iter().map(E::from_wide));
    y
}

/// What was drawn as numbers: the end of each token's index, and its probability.
fn drawn<E: Element>(rows: Vec<Result<Sampled>>) -> Result<Vec<E>> {
    let mut numbers = Vec::new();
    for sampled in rows {
        let Sampled { token, logprob, .. } = sampled?;
        numbers.extend([f64::from(token % 256), logprob].map(E::from_wide));
    }
    Ok(numbers)
}

struct Case<'a, E> {
    rank: &'a Rank,
    x: &'a [E],
    rows: usize,
    all: usize,
}

impl<E: Element> Case<'_, E> {
    /// How many elements differ on all ranks together.
    fn check(
        &self,
        what: &str,
        whole: Vec<E>,
        op: impl FnOnce(Sharded<'_, Comm>, Rows<'_, E>) -> Result<Vec<E>>,
    ) -> anyhow::Result<u64> {
        let Case { rank, x, rows, all } = *self;
        let own = rank.columns(all);
        let x = columns(x, all, &own);
        rank.comm.take();
        let y = op(Sharded::new(&rank.comm, own.clone(), all), Rows::new(&x, rows, own.len())?)?;
        let exchanged = rank.comm.take();
        // Of log-sum-exp and what is drawn each rank has every row's.
        let whole = if whole.len() == rows * all { columns(&whole, all, &own) } else { whole };
        let mut differ = [differing(&y, &whole)];
        rank.comm.sum(&mut differ)?;
        if rank.rank == 0 {
            let bits = if differ == [0] { "the same".to_string() } else { format!("{} differ", differ[0]) };
            let [calls, given, got] = [exchanged.calls, exchanged.given, exchanged.got];
            println!("{what:<13} {:<5} {calls:>9} {given:>12} {got:>12}  {bits}", E::DTYPE.to_string());
        }
        Ok(differ[0])
    }
}
