//! Walk over all inputs, in the order of their bits. Inputs are grouped into blocks, and blocks into chunks.

use crate::error::Result;
use crate::function::Function;
use crate::progress::Progress;
use crate::tally::{Example, Tally};
use rayon::prelude::*;
use std::num::NonZeroU32;
use std::ops::{ControlFlow, Range};
use std::time::Instant;

/// Number of inputs per call, small enough to stay in cache.
const BLOCK: u32 = 1 << 12;
/// Number of blocks after which the progress is stored.
const BLOCKS_A_CHUNK: u32 = 1 << 12;
/// Number of chunks of a walk.
pub const CHUNKS: u32 = ((1u64 << 32) / (BLOCK as u64 * BLOCKS_A_CHUNK as u64)) as u32;

/// Continues a walk at its first unfinished chunk. At the end of each chunk, calls the function `after`, which may stop
/// the walk.
pub fn walk(
    function: &Function,
    progress: &mut Progress,
    mut after: impl FnMut(&Progress) -> Result<ControlFlow<()>>,
) -> Result<()> {
    while progress.chunks < CHUNKS {
        let start = Instant::now();
        let first = progress.chunks * BLOCKS_A_CHUNK;
        let tally = blocks(function, first..first + BLOCKS_A_CHUNK, progress.sample)?;
        progress.tally = std::mem::take(&mut progress.tally).followed_by(tally);
        progress.chunks += 1;
        progress.seconds += start.elapsed().as_secs_f64();
        if after(progress)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// Tests every `sample`-th of the blocks, on rayon's threads.
fn blocks(function: &Function, blocks: Range<u32>, sample: NonZeroU32) -> Result<Tally> {
    let first = blocks.start.next_multiple_of(sample.get());
    let chosen: Vec<u32> = (first..blocks.end).step_by(sample.get() as usize).collect();
    let tallies: Vec<Tally> = chosen.into_par_iter().map(|at| block(function, at)).collect::<Result<_>>()?;
    Ok(tallies.into_iter().fold(Tally::default(), Tally::followed_by))
}

fn block(function: &Function, at: u32) -> Result<Tally> {
    let x: Vec<f32> = (0..BLOCK).map(|i| f32::from_bits(at * BLOCK + i)).collect();
    let mut got = vec![0.0; x.len()];
    (function.run)(&x, &mut got)?;
    let mut tally = Tally { inputs: x.len() as u64, ..Tally::default() };
    for (&x, got) in x.iter().zip(got) {
        let expected = function.expected(x)?;
        tally.by_mpfr += u64::from(expected.by_mpfr);
        let expected = expected.value;
        if got.to_bits() != expected.to_bits() {
            let error = function.confirmed_error(x, got, expected)?;
            let example = Example { x: x.to_bits(), got: got.to_bits(), expected: expected.to_bits() };
            tally.add_misrounded(example, error);
        }
    }
    Ok(tally)
}
