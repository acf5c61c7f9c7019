//! Something is wrong with the last rank, and what the others hear of it.

use crate::cases::{columns, differing, numbers};
use crate::{Arguments, Failure, Rank};
use evenkeel::sharded::Sharded;
use evenkeel::{Error, Result, Rows, Softmax, softmax};
use std::process::ExitCode;
use std::time::Instant;

/// Something that does not keep the rank from coming: each rank says what it got.
pub fn run(rank: &Rank, failure: Failure, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let last = rank.rank + 1 == rank.size;
    let (rows, all) = (arguments.rows, arguments.columns);
    let mut x = numbers::<f32>(rows * all);
    let nan = matches!(failure, Failure::Nan);
    if let (true, Some(last)) = (nan, x.last_mut()) {
        *last = f32::NAN;
    }
    let own = rank.columns(all);
    let part = columns(&x, all, &own);
    let rows_here = rows - usize::from(last && matches!(failure, Failure::Shape)).min(rows);
    let scale = if last && matches!(failure, Failure::Parameters) { 0.5 } else { 1.0 };
    let start = Instant::now();
    let shard = Sharded::new(&rank.comm, own.clone(), all);
    let given = Rows::new(&part[..rows_here * own.len()], rows_here, own.len())?;
    let y = shard.softmax(given, &Softmax::default().scale(scale));
    let in_time = start.elapsed() < rank.timeout;
    let right = match &y {
        Ok(y) if nan => {
            let whole = softmax(Rows::new(&x, rows, all)?, &Softmax::default())?;
            differing(y, &columns(&whole, all, &own)) == 0
                && y[..rows.saturating_sub(1) * own.len()].iter().all(|y| y.is_finite())
        }
        // Alone it is nobody's deviation.
        Ok(_) => rank.size == 1,
        Err(Error::Collective { rank: Some(named), .. }) => !nan && named + 1 == rank.size,
        Err(_) => false,
    };
    say(rank, start, &y);
    Ok(ExitCode::from(u8::from(!(right && in_time))))
}

/// The last rank does not come: the others say so in time. The status is 0 where they do.
pub fn gone(rank: &Rank, arguments: &Arguments) -> anyhow::Result<u8> {
    let start = Instant::now();
    if rank.rank + 1 == rank.size {
        std::thread::sleep(2 * rank.timeout);
        return Ok(0);
    }
    let (rows, all) = (arguments.rows, arguments.columns);
    let own = rank.columns(all);
    let x = columns(&numbers::<f32>(rows * all), all, &own);
    let y = Sharded::new(&rank.comm, own.clone(), all).softmax(Rows::new(&x, rows, own.len())?, &Softmax::default());
    let in_time = start.elapsed() < rank.timeout.mul_f64(1.5);
    say(rank, start, &y);
    // Not before all have said so: the first process that ends takes the others with it.
    std::thread::sleep((2 * rank.timeout).saturating_sub(start.elapsed()));
    Ok(u8::from(!(matches!(y, Err(Error::Collective { .. })) && in_time)))
}

fn say(rank: &Rank, start: Instant, y: &Result<Vec<f32>>) {
    let after = start.elapsed().as_secs_f64();
    match y {
        Ok(y) => {
            let nan = y.iter().filter(|y| y.is_nan()).count();
            println!("rank {} after {after:.3} s: {} elements, {nan} of them NaN", rank.rank, y.len());
        }
        Err(error) => println!("rank {} after {after:.3} s: {error}", rank.rank),
    }
}
