//! Cases of the gradients of softmax and log_softmax.

use super::{Guarded, How};
use evenkeel::cuda::{DeviceElement, backward};
use evenkeel::{Error, FullyMasked, Rows, Softmax, report};
use evenkeel_emulated::Emulator;

/// What of one case is not as it is on the CPU; of log_softmax, or of softmax.
pub fn case<E: DeviceElement>(
    emulator: &Emulator,
    is_log: bool,
    [x, dy]: [&[E]; 2],
    (rows, cols): (usize, usize),
    how: How,
) -> Result<(), String> {
    let name = if is_log { "log_softmax_backward" } else { "softmax_backward" };
    let told = |found: String| format!("{name} {} {rows}x{cols}, {how:?}: {found}", E::DTYPE);
    let options = Softmax::default();
    let views = || [x, dy].map(|values| Rows::new(values, rows, cols).unwrap());
    let on_cpu = |options: &Softmax| {
        let [x, dy] = views();
        if is_log { evenkeel::log_softmax_backward(x, dy, options) } else { evenkeel::softmax_backward(x, dy, options) }
    };
    let (expected, report) = report::scope(|| on_cpu(&options).unwrap());
    let counts = report.op(name);
    let first = match on_cpu(&options.fully_masked(FullyMasked::Error)) {
        Err(Error::FullyMasked { row, .. }) => row as u64,
        _ => u64::MAX,
    };
    let wanted = [counts.nan, counts.infinite, counts.wholly_masked, first];
    for in_place in [false, true] {
        let (mut from, mut given) = (Guarded::of(x, how.shift), Guarded::of(dy, how.shift));
        let mut to = Guarded::<E>::unwritten(x.len(), how.shift);
        let mut met = [0u64, 0, 0, u64::MAX];
        let made = if in_place { &mut given } else { &mut to };
        let dx = made.address();
        let addresses = [from.address(), if in_place { dx } else { given.address() }, dx, met.as_mut_ptr() as u64];
        let launch = if is_log { backward::launch_log_softmax } else { backward::launch_softmax };
        let planned = launch(E::DTYPE, addresses, (rows, cols), &options).unwrap().expect("there are elements");
        // SAFETY: the addresses are of slices with as many elements, which live until the kernel has run.
        unsafe { how.run(emulator, planned) }.map_err(told)?;
        let made = if in_place { &given } else { &to };
        made.compare(&expected).map_err(told)?;
        if met != wanted {
            return Err(told(format!("rows met are {met:?} instead of {wanted:?}")));
        }
    }
    Ok(())
}

/// Rows whose sum is 1 or 0, by the order in which they are added: columns of one tile, and of several.
pub fn sums_that_cancel<E: DeviceElement>() -> [Vec<E>; 2] {
    [[0, 1, 32], [0, 256, 8 * 256]].map(|[first, next, other]| {
        let mut x = vec![E::ZERO; other + 7];
        (x[first], x[next], x[other]) = (E::from_wide(1e30), E::from_wide(-1e30), E::from_wide(1.0));
        x
    })
}
