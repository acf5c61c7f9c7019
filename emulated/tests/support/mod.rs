//! Softmax's cases, which run by an emulator have the CPU's bits.

use evenkeel::cuda::{DeviceElement, softmax};
use evenkeel::{Element, Rows, Softmax};
use evenkeel_emulated::{Emulator, Order};
use rand::RngExt;
use rand::rngs::StdRng;

const GUARD: usize = 16;

/// What the numbers of a row look like.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Normal,
    /// Some are far below the largest: the exponential's long form.
    Wide,
    /// Beyond 256, where the largest is taken off first.
    Far,
    /// Some, or all, are -inf.
    Masked,
    /// Whatever bits there are.
    Any,
}

pub const KINDS: [Kind; 5] = [Kind::Normal, Kind::Wide, Kind::Far, Kind::Masked, Kind::Any];

pub fn row<E: Element>(rng: &mut StdRng, kind: Kind, cols: usize) -> Vec<E> {
    let all_masked = rng.random_bool(0.3);
    let mut normal = || (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
    let numbers: Vec<f64> = (0..cols).map(|_| normal()).collect();
    let mut draw = |share: f64| rng.random_bool(share);
    let numbers = numbers.into_iter().map(|z| match kind {
        Kind::Normal => z * 3.0,
        Kind::Wide => z * 60.0,
        Kind::Far => z * 2.0 + 3000.0,
        Kind::Masked if all_masked || draw(0.3) => f64::NEG_INFINITY,
        Kind::Masked => z,
        Kind::Any if draw(0.002) => [f64::NAN, f64::INFINITY, f64::MAX, f64::MIN][(z.abs() * 3.0) as usize % 4],
        Kind::Any => z * 10f64.powf(z * 3.0),
    });
    numbers.map(E::from_wide).collect()
}

fn bits<E: Element>(values: &[E]) -> Vec<u64> {
    values.iter().map(|v| v.bits()).collect()
}

/// How a case is run.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Rows begin so many elements behind sixteen bytes' alignment.
    pub shift: usize,
    /// One block takes all rows.
    pub one_block: bool,
    pub order: Order,
}

/// What of one case is not as it is on the CPU.
pub fn case<E: DeviceElement>(
    emulator: &Emulator,
    x: &[E],
    (rows, cols): (usize, usize),
    options: &Softmax,
    how: How,
) -> Result<(), String> {
    let How { shift, one_block, order } = how;
    let what = format!("{} {rows}x{cols}, {how:?}", E::DTYPE);
    let poison = E::from_wide(-7.0);
    // Sixteen bytes are eight elements at most.
    let buffer = |from: &[E]| {
        let mut all = vec![poison; from.len() + 2 * GUARD + 8];
        let start = all.as_ptr().align_offset(16) + GUARD + shift;
        all[start..][..from.len()].copy_from_slice(from);
        (all, start)
    };
    let (from, at) = buffer(x);
    let (mut to, out) = buffer(&vec![poison; x.len()]);
    let mut met = [0u64, 0, 0, u64::MAX];
    let addresses = [from[at..].as_ptr() as u64, to[out..].as_mut_ptr() as u64, met.as_mut_ptr() as u64];
    let planned = softmax::launch(E::DTYPE, addresses, (rows, cols), options).unwrap();
    let (mut launch, arguments) = planned.expect("there are elements");
    if one_block {
        launch.blocks = 1;
    }
    // SAFETY: the addresses are of slices with as many elements, which live until the kernel has run.
    unsafe { emulator.run(&launch, &arguments, order) }.map_err(|error| format!("{what}: {error}"))?;
    let (expected, report) =
        evenkeel::report::scope(|| evenkeel::softmax(Rows::new(x, rows, cols).unwrap(), options).unwrap());
    let got = &to[out..][..x.len()];
    if bits(got) != bits(&expected) {
        let i = (0..x.len()).find(|&i| got[i].bits() != expected[i].bits()).expect("they differ");
        let (got, expected) = (got[i], expected[i]);
        return Err(format!(
            "{what}, {}: element {i} is {got:?} instead of {expected:?}, of {:?}",
            launch.kernel, x[i]
        ));
    }
    if to[..out].iter().chain(&to[out + x.len()..]).any(|v| v.bits() != poison.bits()) {
        return Err(format!("{what}: written outside of the rows"));
    }
    let counts = report.op("softmax");
    let first = x.chunks(cols).position(|row| row.iter().all(|z| z.widen() == f64::NEG_INFINITY));
    let first = first.map_or(u64::MAX, |row| row as u64);
    let expected = [counts.nan, counts.infinite, counts.wholly_masked, first];
    if met != expected {
        return Err(format!("{what}: rows met are {met:?} instead of {expected:?}"));
    }
    Ok(())
}
