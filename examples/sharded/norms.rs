//! RMSNorm, LayerNorm and their gradients.

use crate::Comm;
use crate::hostile::{self, Cut, ROWS, cuts, numbers};
use crate::table::{Bits, Line, Table, bits, columns, rows};
use evenkeel::sharded::Sharded;
use evenkeel::{
    Element, LayerNorm, Result, RmsNorm, Rounding, Rows, layer_norm, layer_norm_backward, rms_norm, rms_norm_backward,
};
use std::ops::Range;

/// Gradient dx, and the gradients of weight and bias.
type Gradients<E> = (Vec<E>, [Option<Vec<E>>; 2]);

/// Returns the bits of this rank's columns, `own`: one entry for each row of dx, then one for each gradient of weight
/// or bias.
fn cases<E: Element>((dx, others): &Gradients<E>, count: usize, all: usize, own: &Range<usize>) -> Result<Vec<Bits>> {
    let others = others.iter().flatten().map(|gradient| bits(&columns(gradient, all, own)));
    Ok(rows(Ok(columns(dx, all, own)), count)?.into_iter().chain(others).collect())
}

pub fn run<E: Element>(table: &mut Table<'_>, all: usize) -> anyhow::Result<()> {
    let x = hostile::vectors::<E>(all);
    let whole = Rows::new(&x, ROWS, all)?;
    let (weight, bias) = (numbers::<f32>(all), numbers::<f64>(all));
    let plain = RmsNorm::default().weight(&weight);
    let rms = [plain, plain.rounding(Rounding::BeforeWeight).eps(0.0), plain.weight_offset(1.0).weight(&bias)];
    let plain = LayerNorm::default().weight(&weight);
    let layer = [plain.bias(&bias), plain.eps(0.0), LayerNorm::default().weight(&bias)];
    let cuts = cuts(table.rank.size, all, 256);
    let part = |y: &Result<Vec<E>>, own: &_| rows(y.clone().map(|y| columns(&y, all, own)), ROWS);
    table.line::<E>("rms_norm", |line| {
        rms.iter().try_for_each(|options| {
            let y = rms_norm(whole, options);
            line.dealt((&x, all), &cuts, |own| part(&y, own), |shard, x, _| rows(shard.rms_norm(x, options), ROWS))
        })
    })?;
    table.line::<E>("layer_norm", |line| {
        layer.iter().try_for_each(|options| {
            let y = layer_norm(whole, options);
            line.dealt((&x, all), &cuts, |own| part(&y, own), |shard, x, _| rows(shard.layer_norm(x, options), ROWS))
        })
    })?;
    // dy holds the rows of x in another order: the second half of the rows first. So no row equals its gradient. The
    // second pair of x and dy has only finite rows, because a non-finite row would turn sums over rows into NaN.
    let dy: Vec<E> = x[x.len() / 2..].iter().chain(&x[..x.len() / 2]).copied().collect();
    let finite = 2 * all..(ROWS - 1) * all;
    let sets = [(&x[..], &dy[..]), (&x[finite.clone()], &x[finite.start + all..finite.end + all])];
    table.line::<E>("rms_norm_backward", |line| {
        let split = |of: evenkeel::RmsNormGradients<E>| (of.dx, [of.dweight, None]);
        let mut each = sets.iter().flat_map(|set| rms.iter().map(move |options| (*set, options)));
        each.try_for_each(|(set, options)| {
            gradients(
                line,
                (set, all),
                &cuts,
                |x, dy| rms_norm_backward(x, dy, options).map(split),
                |shard, x, dy| shard.rms_norm_backward(x, dy, options).map(split),
            )
        })
    })?;
    table.line::<E>("layer_norm_backward", |line| {
        let split = |of: evenkeel::LayerNormGradients<E>| (of.dx, [of.dweight, of.dbias]);
        let mut each = sets.iter().flat_map(|set| layer.iter().map(move |options| (*set, options)));
        each.try_for_each(|(set, options)| {
            gradients(
                line,
                (set, all),
                &cuts,
                |x, dy| layer_norm_backward(x, dy, options).map(split),
                |shard, x, dy| shard.layer_norm_backward(x, dy, options).map(split),
            )
        })
    })
}

/// Compares the gradients of sharded rows with the gradients of an op on unsharded rows.
fn gradients<E: Element>(
    line: &mut Line<'_, '_>,
    ((x, dy), all): ((&[E], &[E]), usize),
    cuts: &[Cut],
    whole: impl Fn(Rows<'_, E>, Rows<'_, E>) -> Result<Gradients<E>>,
    dealt: impl Fn(Sharded<'_, Comm>, Rows<'_, E>, Rows<'_, E>) -> Result<Gradients<E>>,
) -> anyhow::Result<()> {
    let count = x.len().checked_div(all).unwrap_or(0);
    let whole = whole(Rows::new(x, count, all)?, Rows::new(dy, count, all)?)?;
    line.dealt(
        (x, all),
        cuts,
        |own| cases(&whole, count, all, own),
        |shard, x, own| {
            let dy = columns(dy, all, own);
            let ours = dealt(shard, x, Rows::new(&dy, count, own.len())?)?;
            cases(&ours, count, own.len(), &(0..own.len()))
        },
    )
}
