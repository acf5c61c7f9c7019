//! Inputs that are the same on every machine: integers from the generator defined here, with exact scaling.

use evenkeel::Element;

/// Kind of values in a row.
#[derive(Clone, Copy, Debug)]
pub enum Fill {
    /// Moderate values around zero.
    Plain,
    /// Values far from zero with small differences.
    Far,
    /// Values of every magnitude of the type.
    Wide,
    /// Plain values with some infinities, NaN, zeros and extremes of the type.
    Special,
}

impl Fill {
    pub const ALL: [Fill; 4] = [Fill::Plain, Fill::Far, Fill::Wide, Fill::Special];
}

/// Knuth's 64-bit linear congruential generator. Only its high bits are used.
pub struct Numbers(u64);

impl Numbers {
    /// Creates the generator for a name. Different names give different streams.
    pub fn of(name: &str) -> Self {
        Numbers(super::fnv([name]))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// Returns a multiple of 2^-20 in [-1, 1).
    fn unit(&mut self) -> f64 {
        ((self.next() & 0x1f_ffff) as f64 - 1_048_576.0) / 1_048_576.0
    }

    pub fn flag(&mut self) -> bool {
        !self.next().is_multiple_of(3)
    }

    fn value<E: Element>(&mut self, fill: Fill) -> E {
        let limits = E::LIMITS;
        match fill {
            Fill::Plain => E::from_wide(8.0 * self.unit()),
            Fill::Far => E::from_wide(3e4 + 100.0 * self.unit()),
            Fill::Wide => {
                // Powers of two are computed by multiplication, which is exact and the same everywhere.
                let span = if limits.max > 1e300 {
                    1000
                } else if limits.max > 1e30 {
                    120
                } else {
                    14
                };
                let steps = (self.next() % span) as usize;
                let base = if self.flag() { 2.0 } else { 0.5 };
                E::from_wide(self.unit() * (0..steps).fold(1.0, |power, _| power * base))
            }
            Fill::Special => match self.next() % 16 {
                0 => E::INFINITY,
                1 => E::NEG_INFINITY,
                2 => E::NAN,
                3 => E::ZERO,
                4 => E::from_wide(-0.0),
                5 => E::from_wide(limits.max),
                6 => E::from_wide(-limits.max),
                7 => E::from_wide(limits.min_subnormal),
                8 => E::from_wide(limits.min_normal),
                _ => E::from_wide(30.0 * self.unit()),
            },
        }
    }

    /// Generates `rows` rows of `cols` values. With special values, every other row is plain, so that not all results
    /// are NaN.
    pub fn rows<E: Element>(&mut self, fill: Fill, rows: usize, cols: usize) -> Vec<E> {
        let fill_of = |r: usize| if matches!(fill, Fill::Special) && r % 2 == 1 { Fill::Plain } else { fill };
        (0..rows * cols).map(|i| self.value(fill_of(i / cols))).collect()
    }
}
