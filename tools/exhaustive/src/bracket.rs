//! Enclosure of a number that is computed in f64.

/// Two f64 that enclose a number.
///
/// Rounding to f32 is monotonic. So if both ends round to the same f32, the number does too.
#[derive(Clone, Copy, Debug)]
pub struct Bracket {
    /// Lower bound of the number.
    pub low: f64,
    /// Upper bound of the number.
    pub high: f64,
}

impl Bracket {
    /// Returns a bracket of a number from its approximation `value`. The approximation has a relative error of at most
    /// `relative`, which must be from 2^-52 to 2^-20.
    ///
    /// The margin is twice the error, so that rounding the ends does not matter. If `value` is subnormal, no margin is
    /// needed, because the number rounds to the zero of its sign.
    pub fn around(value: f64, relative: f64) -> Self {
        if !value.is_normal() {
            return Bracket { low: value, high: value };
        }
        let margin = value.abs() * (2.0 * relative);
        Bracket { low: value - margin, high: value + margin }
    }

    /// Returns a bracket that rounds like a number between `value` and the next f64.
    ///
    /// Both ends are the next f64. `value` must have at most 25 significant bits, like a midpoint of two f32. The next
    /// f64 is therefore not a midpoint, and rounds to the same f32 as the number.
    pub fn just_above(value: f64) -> Self {
        let next = value.next_up();
        Bracket { low: next, high: next }
    }

    /// Returns the nearest f32, ties to even, if both ends agree on it.
    pub fn rounded(self) -> Option<f32> {
        let (low, high) = (self.low as f32, self.high as f32);
        (low.to_bits() == high.to_bits()).then_some(low)
    }
}
