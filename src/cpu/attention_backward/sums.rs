//! Sums of gradients, and the scaling that keeps them within the range of f64.

use crate::simd::{BLOCK, allocated};

/// Exponents of the powers of two by which operands are divided.
#[derive(Clone, Copy)]
pub struct Powers {
    /// Exponent for dy and v.
    pub grads: i32,
    /// Exponent for q and k. The scores are computed from q and k before this division.
    pub keys: i32,
}

pub const PLAIN: Powers = Powers { grads: 0, keys: 0 };
/// Exponents for retries. For f64 tensors, an intermediate product of three factors, or a long sum, may overflow even
/// if the result does not. The sums are then computed again with smaller operands: first with dy and v divided, then
/// also with keys and queries divided.
pub const SMALLER: [Powers; 2] = [Powers { grads: 700, keys: 0 }, Powers { grads: 700, keys: 700 }];

/// Gradients in f64, not rounded yet.
#[derive(Default)]
pub struct Sums {
    /// Gradients of q, k and v. Each row starts at a new block.
    pub all: [Vec<[f64; BLOCK]>; 3],
    /// Gradients of the sinks of the query heads, for one batch entry.
    pub dsinks: Vec<f64>,
}

allocated! {
    Sums { all, dsinks }
}

impl Sums {
    /// Resets the sums to zeros, for these shapes and this number of sinks.
    pub fn start(&mut self, shapes: [(usize, usize); 3], sinks: usize) {
        for (sums, (rows, features)) in self.all.iter_mut().zip(shapes) {
            sums.clear();
            sums.resize(rows * features.div_ceil(BLOCK), [0.0; BLOCK]);
        }
        self.dsinks.clear();
        self.dsinks.resize(sinks, 0.0);
    }

    /// Returns the gradients of q, k, v and the sinks.
    pub fn parts(&mut self) -> [&mut [f64]; 4] {
        let [dq, dk, dv] = self.all.each_mut().map(|sums| sums.as_flattened_mut());
        [dq, dk, dv, &mut self.dsinks]
    }

    /// Multiplies the sums by the scale, and by the powers of two by which operands were divided. A non-finite sum
    /// becomes NaN, because a NaN makes the caller try again with smaller operands. The last attempt keeps infinite
    /// sums. A finite sum that overflows in this multiplication becomes infinite, not NaN, because it would also
    /// overflow with smaller operands.
    pub fn scale(&mut self, scale: f64, powers: Powers, is_last: bool) {
        let Powers { grads, keys } = powers;
        let scales = [(scale, 2 * grads + keys), (scale, 2 * grads + keys), (1.0, grads), (1.0, 2 * grads)];
        for (sums, (scale, power)) in self.parts().into_iter().zip(scales) {
            for sum in sums {
                let scaled = if power == 0 { *sum * scale } else { times(*sum, scale, power) };
                // Zeros become +0, and all NaN become the same NaN.
                let is_nan = scaled.is_nan() || !(is_last || sum.is_finite());
                *sum = if is_nan { f64::NAN } else { scaled + 0.0 };
            }
        }
    }
}

/// Returns `x * y * 2^power`. An intermediate result overflows only if the returned result does.
fn times(x: f64, y: f64, power: i32) -> f64 {
    let ((x, of_x), (y, of_y)) = (parts(x), parts(y));
    let (mut product, mut power) = (x * y, of_x + of_y + power);
    while power != 0 {
        let step = power.clamp(-1000, 1000);
        product *= power_of_two(step);
        power -= step;
    }
    product
}

/// Returns 2^power, for powers that give a normal number.
pub fn power_of_two(power: i32) -> f64 {
    f64::from_bits(((1023 + power) as u64) << 52)
}

/// Splits a number into a fraction in [1, 2) and the exponent of a power of two.
fn parts(x: f64) -> (f64, i32) {
    if x == 0.0 || !x.is_finite() {
        return (x, 0);
    }
    let (x, below) = if x.abs() < f64::MIN_POSITIVE { (x * (1u64 << 54) as f64, 54) } else { (x, 0) };
    let exponent = (x.to_bits() >> 52 & 0x7ff) as i32 - 1023;
    (f64::from_bits(x.to_bits() & !(0x7ff << 52) | 1023 << 52), exponent - below)
}
