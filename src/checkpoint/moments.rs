//! Mean and standard deviation of a part of a tensor. The moments of two parts can be merged.

/// Number of elements, mean and population standard deviation. Sums are not stored, because they could overflow in f64.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moments {
    pub count: u64,
    pub mean: f64,
    pub std: f64,
}

impl Moments {
    /// Merges the moments of two parts, by the formula of Chan, Golub and LeVeque, "Algorithms for computing the sample
    /// variance", 1983.
    pub fn and(self, other: Moments) -> Moments {
        if self.count == 0 {
            return other;
        }
        let count = self.count + other.count;
        let [a, b] = [self.count, other.count].map(|part| part as f64 / count as f64);
        // Two equal means are merged without rounding, so that the deviation of a constant tensor stays 0.
        let mean = if self.mean == other.mean { self.mean } else { self.mean * a + other.mean * b };
        let between = (other.mean / 2.0 - self.mean / 2.0) * (2.0 * (a * b).sqrt());
        Moments { count, mean, std: hypot(hypot(self.std * a.sqrt(), other.std * b.sqrt()), between) }
    }
}

/// Returns sqrt(a^2 + b^2). It replaces std's `hypot`, whose last bits depend on the system.
pub fn hypot(a: f64, b: f64) -> f64 {
    let (a, b) = (a.abs(), b.abs());
    let (large, small) = if a < b { (b, a) } else { (a, b) };
    if large == 0.0 || large == f64::INFINITY {
        return large + small;
    }
    let ratio = small / large;
    large * (1.0 + ratio * ratio).sqrt()
}
