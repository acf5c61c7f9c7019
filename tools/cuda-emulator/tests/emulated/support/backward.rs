//! Cases for the gradients of softmax, log_softmax and logsumexp.

use super::masked::{Beside, Op};
use super::{Guarded, How, same_guards};
use evenkeel::cuda::{DeviceElement, Launch, backward};
use evenkeel::{Error, FullyMasked, Result as Planned, Rows, Softmax, report};
use evenkeel_cuda_emulator::Emulator;

/// Runs one case. Fails if its results differ from the CPU's. For logsumexp, only the first elements of `dy` are used,
/// one for each row.
pub fn case<E: DeviceElement>(
    emulator: &Emulator,
    op: Op,
    rows: [&[E]; 2],
    shape: (usize, usize),
    how: How,
) -> Result<(), String> {
    let launch = match op {
        Op::Softmax => backward::launch_softmax,
        Op::LogSoftmax => backward::launch_log_softmax,
        Op::LogSumExp => backward::launch_logsumexp,
    };
    let beside = Beside::nothing(&[shape.0, shape.1]);
    compare(emulator, op, rows, &beside, how, |addresses, options| launch(E::DTYPE, addresses, shape, options))
}

/// Runs one case of rows with masks, scale and softcap.
pub fn masked_case<E: DeviceElement>(
    emulator: &Emulator,
    op: Op,
    rows: [&[E]; 2],
    beside: &Beside,
    how: How,
) -> Result<(), String> {
    let launch = match op {
        Op::Softmax => backward::launch_softmax_masked,
        Op::LogSoftmax => backward::launch_log_softmax_masked,
        Op::LogSumExp => backward::launch_logsumexp_masked,
    };
    compare(emulator, op, rows, beside, how, |addresses, options| {
        launch(E::DTYPE, addresses, &beside.dims, &beside.parts(), options)
    })
}

fn compare<E: DeviceElement, A: Copy>(
    emulator: &Emulator,
    op: Op,
    [x, dy]: [&[E]; 2],
    beside: &Beside,
    how: How,
    launch: impl Fn([u64; 4], &Softmax) -> Planned<Option<(Launch, A)>>,
) -> Result<(), String> {
    let describe =
        |found: String| format!("gradients of {op:?} of {}, {}, {how:?}: {found}", E::DTYPE, beside.describe());
    let (mask, options) = (beside.mask(), beside.options());
    let count = beside.dims[..beside.dims.len() - 1].iter().product();
    let dy = if op == Op::LogSumExp { &dy[..count] } else { dy };
    let rows = |values| Rows::shaped(values, &beside.dims).unwrap();
    let on_cpu = |options: &Softmax| match op {
        Op::Softmax => evenkeel::softmax_backward(rows(x), rows(dy), options),
        Op::LogSoftmax => evenkeel::log_softmax_backward(rows(x), rows(dy), options),
        Op::LogSumExp => evenkeel::logsumexp_backward(rows(x), dy, options),
    };
    let name = match op {
        Op::Softmax => "softmax_backward",
        Op::LogSoftmax => "log_softmax_backward",
        Op::LogSumExp => "logsumexp_backward",
    };
    let (expected, report) = report::scope(|| on_cpu(&options.mask(&mask)));
    let (expected, counts) = (expected.map_err(|error| describe(error.to_string()))?, report.op(name));
    let first = match on_cpu(&options.mask(&mask).fully_masked(FullyMasked::Error)) {
        Err(Error::FullyMasked { row, .. }) => row as u64,
        _ => u64::MAX,
    };
    // In the first run, the output is a separate buffer. In the second run, the output overwrites the scores or the
    // gradients of the results.
    let over = if op == Op::LogSumExp || how.shift % 2 == 1 { 0 } else { 1 };
    // For odd shifts, the three buffers differ in alignment. For even shifts, at least two have the same alignment.
    let shifts = [1, 5, 3].map(|factor| how.shift * factor % 8);
    for over in [2, over] {
        let mut placed =
            [Guarded::of(x, shifts[0]), Guarded::of(dy, shifts[1]), Guarded::unwritten(x.len(), shifts[2])];
        let mut guards = [0u64, 0, 0, u64::MAX];
        let [x_at, dy_at, _] = placed.each_mut().map(|values| values.address());
        let addresses = [x_at, dy_at, placed[over].address(), guards.as_mut_ptr() as u64];
        let planned = launch(addresses, &options).map_err(|error| describe(error.to_string()))?;
        // SAFETY: the addresses point to slices of these shapes. The slices outlive the kernel run.
        unsafe {
            how.run(emulator, planned.expect("a softmax backward op on a non-empty tensor must launch a kernel"))
        }
        .map_err(describe)?;
        placed[over].compare(&expected).map_err(describe)?;
        same_guards(guards, counts, first).map_err(describe)?;
    }
    Ok(())
}

/// Returns three rows. The sum of a row is 1 or 0, depending on the order of additions. The terms of the first row are
/// in one tile, and the terms of the other rows in several tiles. A block of 512 threads processes the third row in two
/// steps if its type is f32.
pub fn sums_that_cancel<E: DeviceElement>() -> [Vec<E>; 3] {
    [[0, 1, 32], [0, 256, 8 * 256], [0, 256, 32 * 256]].map(|[first, next, other]| {
        let mut x = vec![E::ZERO; other + 7];
        (x[first], x[next], x[other]) = (E::from_wide(1e30), E::from_wide(-1e30), E::from_wide(1.0));
        x
    })
}

/// Returns scores at which the softcap's derivative becomes subnormal or underflows in f64. The product of scale and
/// derivative is in the normal range.
pub fn steep(dims: &[usize]) -> (Vec<f32>, Beside) {
    let len: usize = dims.iter().product();
    let x = (0..len).map(|i| 3.4e-8 + 4e-9 * (i as f32 / len as f32)).collect();
    (x, Beside { scale: 1e300, softcap: Some(1e290), ..Beside::nothing(dims) })
}

/// Returns gradients for a long row, and options whose window masks its first columns. The sum of the gradients depends
/// on the order of additions. In the order for the whole row, the sum is 32. In the order for a row that starts at the
/// window, the sum is 0.
pub fn window_of_a_long_row() -> (Vec<f32>, Beside) {
    // `start` is the first column of tile number 128, whose sum is added to lane 0. `tile` is the number of columns in
    // a tile.
    let (start, tile) = (2 * 64 * 256, 256);
    let dims = [1, 50_000];
    let mut dy = vec![0.0; dims[1]];
    (dy[start], dy[start + 31 * tile]) = (1e30, -1e30);
    (32..64).for_each(|i| dy[start + i * tile] = 1.0);
    (dy, Beside { window: Some(20_000), ..Beside::nothing(&dims) })
}
