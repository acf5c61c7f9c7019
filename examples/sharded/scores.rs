//! Softmax, log-softmax, log-sum-exp, and their gradients.

use crate::hostile::{self, ROWS, cuts};
use crate::table::{Bits, Table, bits, columns, rows};
use evenkeel::{
    Element, Mask, Result, Rows, Softmax, log_softmax, log_softmax_backward, logsumexp, logsumexp_backward, softmax,
    softmax_backward,
};

pub fn run<E: Element>(table: &mut Table<'_>, all: usize) -> anyhow::Result<()> {
    let (x, dy) = (hostile::scores::<E>(all), hostile::vectors::<E>(all));
    let (whole, whole_dy) = (Rows::new(&x, ROWS, all)?, Rows::new(&dy, ROWS, all)?);
    // In the fourth row, the first half of the columns is masked, so a rank may have only masked columns. The last row
    // is fully masked.
    let keep: Vec<bool> = (0..ROWS * all)
        .map(|at| match (at / all, at % all) {
            (3, i) => i >= all / 2,
            (row, i) => row + 1 < ROWS && i % 3 != 1,
        })
        .collect();
    let bias: Vec<f32> = (0..all).map(|i| if i % 7 == 3 { f32::NEG_INFINITY } else { -0.01 * i as f32 }).collect();
    let (keep, bias) = (Mask::keep(&keep, &[ROWS, all]), Mask::bias(&bias, &[all]));
    let options = [
        Softmax::default(),
        Softmax::default().mask(&keep).scale(0.7),
        Softmax::default().mask(&bias).scale(-1.25).softcap(30.0),
    ];
    let cuts = cuts(table.rank.size, all, 1);
    // Returns a rank's columns of the unsharded results.
    let part = |y: &Result<Vec<E>>, own: &_| rows(y.clone().map(|y| columns(&y, all, own)), ROWS);
    table.line::<E>("softmax", |line| {
        options.iter().try_for_each(|options| {
            let y = softmax(whole, options);
            line.dealt((&x, all), &cuts, |own| part(&y, own), |shard, x, _| rows(shard.softmax(x, options), ROWS))
        })
    })?;
    table.line::<E>("log_softmax", |line| {
        options.iter().try_for_each(|options| {
            let y = log_softmax(whole, options);
            line.dealt((&x, all), &cuts, |own| part(&y, own), |shard, x, _| rows(shard.log_softmax(x, options), ROWS))
        })
    })?;
    table.line::<E>("logsumexp", |line| {
        options.iter().try_for_each(|options| {
            let y = logsumexp(whole, options);
            let op = |y: Result<Vec<E>>| -> Result<Vec<Bits>> { Ok(y?.iter().map(|y| bits(&[*y])).collect()) };
            line.dealt((&x, all), &cuts, |_| op(y.clone()), |shard, x, _| op(shard.logsumexp(x, options)))
        })
    })?;
    table.line::<E>("softmax_backward", |line| {
        options.iter().try_for_each(|options| {
            let dx = softmax_backward(whole, whole_dy, options);
            let part = |own: &_| part(&dx, own);
            line.dealt((&x, all), &cuts, part, |shard, x, own| {
                let dy = columns(&dy, all, own);
                rows(shard.softmax_backward(x, Rows::new(&dy, ROWS, own.len())?, options), ROWS)
            })
        })
    })?;
    table.line::<E>("log_softmax_backward", |line| {
        options.iter().try_for_each(|options| {
            let dx = log_softmax_backward(whole, whole_dy, options);
            let part = |own: &_| part(&dx, own);
            line.dealt((&x, all), &cuts, part, |shard, x, own| {
                let dy = columns(&dy, all, own);
                rows(shard.log_softmax_backward(x, Rows::new(&dy, ROWS, own.len())?, options), ROWS)
            })
        })
    })?;
    table.line::<E>("logsumexp_backward", |line| {
        options.iter().try_for_each(|options| {
            let dy = &dy[..ROWS];
            let dx = logsumexp_backward(whole, dy, options);
            let part = |own: &_| part(&dx, own);
            line.dealt((&x, all), &cuts, part, |shard, x, _| rows(shard.logsumexp_backward(x, dy, options), ROWS))
        })
    })
}
