//! Tests of clamped_exp and clamped_log on all values of the 16-bit types, and on many of f32.

use crate::support::{Device, Worst, flushed, rng};
use evenkeel::neuron::run;
use evenkeel::reference::Real;
use evenkeel::testing::values::{Bits, special, walk};
use evenkeel::{ClampedExp, ClampedLog, Rows, reference};
use rand::RngExt;

mod tests {
    crate::support::for_each_dtype!(clamped_exp, clamped_log);
}

const COLS: usize = 64;

/// Returns special values, values near the ends of ranges, and either all values of a 16-bit type or random f32 values.
/// Zeros fill up the last row.
fn values<E: Bits>() -> Vec<E> {
    let mut values = special::<E>();
    let powers = [-126, -64, -63, 0, 63, 64].map(|exponent| 2f64.powi(exponent));
    let ends = [E::LIMITS.exp_max, E::LIMITS.exp_min_normal, -1.0, 1e-3, 7.5];
    values.extend(walk::<E>(&powers, 8));
    values.extend(walk::<E>(&ends, 8));
    if E::WIDTH == 16 {
        values.extend((0..1 << 16).map(E::from_bits));
    } else {
        let mut rng = rng();
        values.extend((0..40_000).map(|_| E::from_bits(rng.random())));
        values.extend((0..20_000).map(|_| E::from_wide(rng.random_range(-100.0..100.0))));
    }
    values.resize(values.len().next_multiple_of(COLS), E::ZERO);
    values
}

fn clamped_exp<E: Bits>(device: &Device) {
    let x = values::<E>();
    let view = Rows::new(&x, x.len() / COLS, COLS).unwrap();
    for options in [ClampedExp::default(), ClampedExp::default().min(-4.0).max(2.0)] {
        let limits = E::LIMITS;
        let (min, max) = (options.min.unwrap_or(limits.exp_min_normal), options.max.unwrap_or(limits.exp_max));
        let y = run::clamped_exp(device, view, &options).unwrap();
        let mut worst = Worst::new::<E>("clamped_exp", device);
        for (x, y) in x.iter().zip(y) {
            worst.check(&format!("exp {:e}", x.widen()), y, reference::clamped_exp(*x, min, max).to_f64(), 0.0);
        }
    }
}

fn clamped_log<E: Bits>(device: &Device) {
    let x = values::<E>();
    let view = Rows::new(&x, x.len() / COLS, COLS).unwrap();
    for options in [ClampedLog::default(), ClampedLog::default().floor(0.5), ClampedLog::default().floor(1e-30)] {
        let floor = options.floor.map_or(E::LIMITS.min_normal, |floor| f64::from(floor as f32));
        let y = run::clamped_log(device, view, &options).unwrap();
        let mut worst = Worst::new::<E>("clamped_log", device);
        for (x, y) in x.iter().zip(y) {
            let wide = if x.widen().is_finite() { flushed(x.widen()) } else { x.widen() };
            let exact = reference::clamped_log(wide as f32, floor);
            worst.check(&format!("log {:e}", x.widen()), y, exact, 0.0);
        }
    }
}
