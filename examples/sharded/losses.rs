//! Cross-entropy, and its gradient.

use crate::hostile::{self, ROWS, cuts, numbers};
use crate::table::{Bits, Table, bits, columns, rows};
use evenkeel::{CrossEntropy, Element, Loss, Reduction, Result, Rows, cross_entropy, cross_entropy_backward};

/// Returns the bits of the loss of each row, or of the reduced loss.
fn of_loss(loss: &Loss) -> Vec<Bits> {
    loss.as_slice().iter().map(|loss| bits(&[*loss])).collect()
}

pub fn run<E: Element>(table: &mut Table<'_>, all: usize) -> anyhow::Result<()> {
    let x = hostile::scores::<E>(all);
    let whole = Rows::new(&x, ROWS, all)?;
    // The target of one row is -100, which is ignored.
    let targets: Vec<i64> =
        (0..ROWS).map(|row| if row == 3 { -100 } else { (row * 997 % all.max(1)) as i64 }).collect();
    let weight: Vec<f32> = numbers::<f32>(all).iter().map(|weight| weight.abs()).collect();
    let each = CrossEntropy::default().reduction(Reduction::None);
    let options = [each, each.z_loss(1e-4), each.label_smoothing(0.1).z_loss(1e-4).weight(&weight)];
    let dloss = numbers::<f64>(ROWS);
    let cuts = cuts(table.rank.size, all, 1);
    table.line::<E>("cross_entropy", |line| {
        options.iter().try_for_each(|options| {
            let loss = cross_entropy(whole, &targets, options);
            line.dealt(
                (&x, all),
                &cuts,
                |_| Ok(of_loss(loss.as_ref().map_err(Clone::clone)?)),
                |shard, x, _| Ok(of_loss(&shard.cross_entropy(x, &targets, options)?)),
            )
        })
    })?;
    table.line::<E>("cross_entropy_backward", |line| {
        options.iter().try_for_each(|options| {
            let both = cross_entropy_backward(whole, &targets, &dloss, options);
            let cases = |loss: &Loss, dx: Vec<E>| -> Result<Vec<Bits>> {
                // The loss and the gradient of a row form one case, so the case agrees only if both agree.
                let of_rows = rows(Ok(dx), ROWS)?.into_iter().zip(of_loss(loss));
                Ok(of_rows.map(|(dx, loss)| [loss, dx].concat()).collect())
            };
            let part = |own: &_| {
                let (loss, dx) = both.as_ref().map_err(Clone::clone)?;
                cases(loss, columns(dx, all, own))
            };
            line.dealt((&x, all), &cuts, part, |shard, x, _| {
                let (loss, dx) = shard.cross_entropy_backward(x, &targets, &dloss, options)?;
                cases(&loss, dx)
            })
        })
    })
}
